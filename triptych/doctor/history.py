"""A run's records, by name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import TriptychError
from triptych.opening import exists, regular, understood

ENOUGH = 8
"""Lines of history below which trends show nothing."""
EARLY = 50  # steps before which nothing has had time to go well


class History:
    """The numbers of metrics.jsonl by name, over the lines that have them.

    Attributes:
        lines: the records that have a step.
        damaged: lines that could not be read and were skipped.
    """

    def __init__(self, lines: Sequence[dict[str, Any]], damaged: int = 0):
        self.lines = [line for line in lines if isinstance(line.get("step"), int | float)]
        self.damaged = damaged

    @classmethod
    def of(cls, folder: Path) -> History:
        """The history of a run. Unreadable lines are skipped, and counted except for the last, which a kill may cut."""
        path = folder / "metrics.jsonl"
        if not exists(path):
            raise TriptychError(f"{folder} has no metrics.jsonl: give the folder of a run that has trained")
        with understood(path):
            text = regular(path).read_text(encoding="utf-8", errors="replace")
        lines = [_record(line) for line in text.splitlines()]
        return cls([line for line in lines if line is not None], damaged=lines[:-1].count(None))

    def __contains__(self, name: str) -> bool:
        return any(line.get(name) is not None for line in self.lines)

    @property
    def last_step(self) -> int:
        """The step of the last record; 0 without any."""
        return int(self.lines[-1]["step"] or 0) if self.lines else 0

    @property
    def is_short(self) -> bool:
        """Whether there are too few records, or steps, to be sure of a verdict."""
        return len(self.lines) < ENOUGH or self.last_step < EARLY

    def values(self, name: str) -> np.ndarray:
        """(T,), NaN where a number was not finite; lines without it are left out."""
        found = [line[name] for line in self.lines if name in line]
        return np.asarray([v if isinstance(v, int | float) else math.nan for v in found], dtype=np.float64)

    def late(self, name: str) -> np.ndarray:
        """The last quarter of them, at least three."""
        values = self.values(name)
        return values[-max(3, len(values) // 4) :]

    def level(self, name: str) -> float:
        """The median of the last quarter; NaN where none of it was finite."""
        late = self.late(name)
        return float(np.median(late[np.isfinite(late)])) if np.isfinite(late).any() else math.nan

    def players(self) -> list[str]:
        """Names of a game's players; none where there is a single player."""
        return sorted({name.removeprefix("loss_") for line in self.lines for name in line if name.startswith("loss_")})


def _record(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
