"""GET runs: a training as its records and sample sheets show it, read from the run's folder alone."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response

from triptych.doctor import History, diagnose
from triptych.errors import TriptychError
from triptych.pretrained import read_recipe
from triptych.studio import schemas
from triptych.studio.limits import NAME
from triptych.studio.problems import Gone
from triptych.studio.routes_models import ERRORS
from triptych.studio.state import Studio

_POINTS = 300  # of a curve
_SHEET = re.compile(r"step-\d{1,12}\.png")
_LARGEST = 2**24  # bytes of a sample sheet
_TAIL = 2**16
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "the sheet"}}


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["training"], responses=ERRORS)

    @routes.get("/runs")
    async def runs() -> schemas.Runs:
        """Every run, whether its model loads yet or not."""
        await studio.refresh()
        return schemas.Runs(runs=[_summary(name, folder) for name, folder in sorted(studio.registry.folders.items())])

    @routes.get("/runs/{name}")
    def run(name: str) -> schemas.Run:
        """A run's curves, its sample sheets, and what the doctor says of its records."""
        folder = _folder(studio, name)
        history, summary = _history(folder), _summary(name, folder)
        verdicts = [schemas.Verdict(name=v.name, evidence=v.evidence, remedy=v.remedy) for v in _judged(folder, history)]
        named = summary.model_dump() | {"step": history.last_step}
        return schemas.Run(**named, curves=_curves(history), samples=_sheets(folder), verdicts=verdicts)

    @routes.get("/runs/{name}/samples/{sheet}", response_class=Response, responses=_PNG)
    def samples(name: str, sheet: str) -> Response:
        """A sheet of samples that the training has drawn."""
        folder = _folder(studio, name)
        if sheet not in _sheets(folder):
            raise Gone(f"the run {name[:NAME]} has no such sheet of samples")
        return Response((folder / "samples" / sheet).read_bytes(), media_type="image/png")

    return routes


def _folder(studio: Studio, name: str) -> Path:
    folders = studio.registry.folders
    if name not in folders:
        raise Gone(f"no run {name[:NAME]!r} is known here")
    return folders[name]


def _summary(name: str, folder: Path) -> schemas.RunSummary:
    recipe = None
    with contextlib.suppress(TriptychError):  # a run that is being written may not have one yet
        recipe = read_recipe(folder)
    step = _last_step(folder / "metrics.jsonl")
    if recipe is None:
        return schemas.RunSummary(id=name, family=None, data=None, step=step, steps=None)
    data = Path(recipe.data).name if Path(recipe.data).is_absolute() else recipe.data
    return schemas.RunSummary(id=name, family=recipe.family, data=data, step=step, steps=recipe.steps)


def _last_step(path: Path) -> int:
    """The step of the last whole record; 0 where there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        for line in reversed(file.read().splitlines()):
            with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
                return int(json.loads(line)["step"])
    return 0


def _history(folder: Path) -> History:
    try:
        return History.of(folder)
    except TriptychError:
        return History([])


def _judged(folder: Path, history: History) -> list[Any]:
    recipe = None
    with contextlib.suppress(TriptychError):
        recipe = read_recipe(folder)
    return list(diagnose(history, None, recipe))


def _curves(history: History) -> dict[str, list[tuple[float, float | None]]]:
    """Points (step, value) by name, thinned evenly to a few hundred."""
    found: dict[str, list[tuple[float, float | None]]] = {}
    for line in history.lines:
        for name, value in line.items():
            if name != "step" and not isinstance(value, bool | str | list | dict):
                finite = value is not None and math.isfinite(value)
                found.setdefault(name, []).append((float(line["step"] or 0), value if finite else None))
    return {name: _thinned(points) for name, points in found.items() if any(v is not None for _, v in points)}


def _thinned(points: list[Any]) -> list[Any]:
    every = -(-len(points) // _POINTS)
    return points[::-every][::-1] if every > 1 else points


def _sheets(folder: Path) -> list[str]:
    """Names of the sample sheets, in order; nothing else in the folder is shown."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        found = [path.name for path in (folder / "samples").iterdir() if _is_sheet(path)]
    return sorted(found)


def _is_sheet(path: Path) -> bool:
    plain = _SHEET.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    return bool(plain) and path.stat().st_size <= _LARGEST
