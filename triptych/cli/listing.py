"""`triptych list`: the runs below a folder. Nothing here imports torch: a run is known by its recipe and its records."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.cli import parse
from triptych.cli.options import List
from triptych.cli.results import STDOUT, json_words, newest_step, write_result
from triptych.errors import TriptychError
from triptych.opening import exists, regular
from triptych.runs import DEPTH, runs_below
from triptych.version import FORMAT

_LARGEST = 2**20  # bytes of a recipe or an evaluation, as `storage.read_json` has it
_TAIL = 65_536  # bytes at the end of metrics.jsonl, in which the last numbers are looked for
_SHOWN = (
    "bits_per_dim", "nll", "elbo",
    "fid", "frechet_efficientnet", "c2st_1nn", "c2st_logistic",  # a distance alone prefers ghosts
    "d_accuracy", "loss", "loss_discriminator", "loss_generator",
)  # fmt: skip
_MOST_SHOWN = 4


@dataclass(frozen=True)
class Entry:
    """A run as it is on the disk.

    Attributes:
        run: its folder.
        family, data, size: what was trained on what, and the shape of an example; None where it is not said.
        step, steps: how far its newest checkpoint is, of how many; None where there is none.
        figures: main figures by name; source: "evaluation" or "metrics", where they come from.
        features: by which samples were compared, if they were.
        bytes: what its files take up.
        problem: what is wrong with it; None for a run that is whole.
    """

    run: str
    family: str | None = None
    data: str | None = None
    size: Sequence[int] | None = None
    step: int | None = None
    steps: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    source: str | None = None
    features: str | None = None
    bytes: int = 0
    problem: str | None = None


def list(words: Sequence[str]) -> None:
    """Prints the runs below a folder, or writes them as JSON."""
    options = parse(List, json_words(words), "triptych list")
    if not options.folder.is_dir():
        raise TriptychError(f"{options.folder} is not a folder: name one that runs lie in, such as runs")
    entries = [_entry(folder) for folder in runs_below(options.folder)]
    if options.json:
        write_result(options.json, [dataclasses.asdict(entry) for entry in entries])
    if options.json != STDOUT:
        _print(entries, options.folder)


def _entry(folder: Path) -> Entry:
    known: dict[str, Any] = {"bytes": _disk(folder), "step": newest_step(folder)}
    try:
        known |= _described(_json(folder / "recipe.json"))
        if not (folder / "model.safetensors").is_file():
            known["problem"] = "model.safetensors is missing"
    except (TriptychError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        missing = not exists(folder / "recipe.json")
        known["problem"] = "recipe.json is missing" if missing else "recipe.json is damaged or foreign"
    return Entry(str(folder), **known, **_figures(folder, known["step"]))


def _described(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Family, data, size and steps of a recipe.json."""
    if stored["format"] not in range(1, FORMAT + 1):
        raise ValueError(stored["format"])
    recipe, model = stored.get("recipe") or {}, stored["model"]
    event = stored.get("event_shape") or model.get("event_shape") or []
    kind = model.get("type") or model.get("class") or model.get("own")
    return {
        "family": recipe.get("family") or kind,
        "data": recipe.get("data"),
        "size": [int(side) for side in event] or None,
        "steps": recipe.get("steps"),
    }


def _json(path: Path) -> Any:
    if regular(path).stat().st_size > _LARGEST:
        raise ValueError(f"{path} is too large")
    return json.loads(path.read_text(encoding="utf-8"))


def _disk(folder: Path) -> int:
    """Bytes of all files below a folder; those that vanish meanwhile do not count."""
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += Path(at, name).lstat().st_size
    return total


def _figures(folder: Path, step: int | None) -> dict[str, Any]:
    """The main figures: of an evaluation at this step, else of the last records of training."""
    with contextlib.suppress(TriptychError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        stored = _json(folder / "evaluation.json")
        if stored["step"] == step:
            measures = {name: m["value"] for name, m in stored["measures"].items()}
            by = next((m["features"] for m in stored["measures"].values() if "features" in m), None)
            return {"figures": _main(measures), "source": "evaluation", "features": by}
    with contextlib.suppress(TriptychError, OSError, ValueError):
        last = _last_records(folder / "metrics.jsonl")
        return {"figures": _main(last), "source": "metrics"} if last else {}
    return {}


def _main(numbers: Mapping[str, Any]) -> dict[str, float]:
    known = [name for name in _SHOWN if isinstance(numbers.get(name), int | float)]
    return {name: numbers[name] for name in known[:_MOST_SHOWN]}


def _last_records(path: Path) -> dict[str, Any]:
    """The newest number of each name in the last lines of metrics.jsonl: each stage of a training writes its own."""
    with regular(path).open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    found: dict[str, Any] = {}
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            found |= record if isinstance(record, dict) else {}
    return found


def _print(entries: Sequence[Entry], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not entries:
        print(f"no runs in {folder}, nor {DEPTH} folders deep: triptych train … --out {folder}/NAME makes one")
        return
    table = Table("run", "family", "data", "size", "step", "figures", "disk")
    table.columns[0].overflow = "fold"  # a name that is cut off names nothing
    for entry in entries:
        data = Path(entry.data).name if entry.data else ""
        name = os.path.relpath(entry.run, folder) if entry.run != str(folder) else entry.run
        size = "×".join(map(str, entry.size or ()))
        cells = (name, entry.family or "", data, size, _step(entry), _said(entry), _bytes(entry.bytes))
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)


def _step(entry: Entry) -> str:
    if entry.step is None:
        return "" if entry.steps is None else f"? of {entry.steps:,}"
    return f"{entry.step:,}" if entry.steps in (None, entry.step) else f"{entry.step:,} of {entry.steps:,}"


def _said(entry: Entry) -> str:
    if entry.problem:
        return f"broken: {entry.problem}"
    said = ", ".join(f"{name} {value:.4g}" for name, value in entry.figures.items())
    by = f" by {entry.features}" if entry.features and {"fid", "frechet_efficientnet"} & set(entry.figures) else ""
    return said + by + (" (training)" if entry.source == "metrics" and said else "")


def _bytes(count: int) -> str:
    """1.2 MB and the like, in powers of 1,000.

    >>> _bytes(950), _bytes(1_234_567)
    ('950 B', '1.2 MB')
    """
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
