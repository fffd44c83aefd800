"""Where a command writes, looked at before any work: what would be lost, or cannot be, is refused. No torch here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from triptych import folders
from triptych.errors import TriptychError
from triptych.opening import exists, is_file, is_folder, writable

OWN = (
    *("recipe.json", "model.safetensors", "metrics.jsonl", "README.md", "evaluation.json"),
    *("directions.json", "directions.safetensors", "encoder.safetensors", "reference.safetensors"),
    "alignment.json",
)
"""Names of a run's own files, beside the folders state and samples."""


def check_places(options: Any) -> None:
    """Raises a `TriptychError` for a command whose --out or --json cannot be written, or would replace what it must not:
    a run's own file, the data that are scored, or one another. What a kill has left of writing the same is removed."""
    named = {f"--{name}": getattr(options, name, None) for name in ("out", "json")}
    outs = {flag: Path(path) for flag, path in named.items() if path is not None and str(path) != "-"}
    for flag, path in outs.items():
        _check_place(flag, path)
    data = getattr(options, "data", None)
    real = [os.path.realpath(path) for path in (*outs.values(), *([data] if data and is_file(data) else []))]
    if len(set(real)) < len(real):
        raise TriptychError(f"{' or '.join(outs)} would be written over one another, or over {data}: choose another name")
    for path in real[: len(outs)]:
        folders.sweep_beside(Path(path))


def _check_place(flag: str, path: Path) -> None:
    where = Path(os.path.realpath(path))
    if run := run_of(where):
        raise TriptychError(f"{flag} {path} is one of the run {run}'s own files: choose another name")
    writable(where)
    place = next(parent for parent in (where, *where.parents) if exists(parent))
    if place != where and not is_folder(place):
        raise TriptychError(f"{flag}: cannot write {path}: {place} is not a folder; choose another place")
    if not os.access(place, os.W_OK):
        raise TriptychError(f"{flag}: cannot write {path}: {place} may not be written; choose another place")
    if len(os.fsencode(where.name)) > 255:
        raise TriptychError(f"{flag}: cannot write {str(path)[:40]}…: the name is too long; choose a shorter one")


def run_of(path: Path) -> Path | None:
    """The run of which a path is one of its own files; None for other places, also those beside them."""
    if path.name in OWN and exists(path.parent / "recipe.json"):
        return path.parent
    inside = (path, *path.parents)
    return next((p.parent for p in inside if p.name in ("state", "samples") and exists(p.parent / "recipe.json")), None)
