"""metrics.jsonl, a line of numbers every few steps, and the trackers that are sent the same numbers."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych import storage
from triptych.errors import TriptychError
from triptych.opening import exists, regular, understood


def line(step: int, numbers: Mapping[str, float]) -> dict[str, float | None]:
    """A line of the log; numbers that are not finite become null.

    >>> line(100, {"loss": 1.5, "kl": float("nan")})
    {'step': 100, 'loss': 1.5, 'kl': None}
    """
    return {"step": step, **{name: value if math.isfinite(value) else None for name, value in numbers.items()}}


def append(path: Path, line: Mapping[str, float | None]) -> None:
    """Writes a line at the end of the file, as JSON."""
    with storage.explained(path.name), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def cut(path: Path, step: int) -> None:
    """Drops the lines after `step`, and a last line that a kill cut short."""
    if not exists(path):
        return
    kept = []
    with understood(path):
        lines = regular(path).read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            break
    text = "".join(line + "\n" for line in kept)
    storage.write_file(path, lambda p: p.write_text(text, encoding="utf-8"))


def check_trackers(trackers: tuple[str, ...]) -> None:
    """Raises a `TriptychError` for a tracker whose package is not installed."""
    for name in trackers:
        if importlib.util.find_spec(name) is None:
            raise TriptychError(f"--track {name} needs its package: pip install 'triptych[{name}]'")


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested recipe as one level of numbers and strings, which is what trackers accept.

    >>> flat({"steps": 10, "model": {"hidden": (8, 8)}})
    {'steps': 10, 'model.hidden': '(8, 8)'}
    """
    values: dict[str, Any] = {}
    for key, value in nested.items():
        plain = value if isinstance(value, int | float | str) else str(value)
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: plain}
    return values
