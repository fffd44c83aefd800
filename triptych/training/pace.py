"""Checkpoints by the clock, at steps on which all processes agree."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from accelerate import PartialState
from accelerate.utils import broadcast

FIRST = 30.0  # seconds before the first checkpoint: a run that is killed in its second minute has lost little
_LOOKS = 2.0  # seconds between two looks at the clock


class Pace:
    """When a checkpoint is due: after half a minute, then after twice as long, and so on up to every `most` seconds.

    The first process's clock counts. Since a look costs several processes a message, the clock is looked at every other
    second, at a step that is foreseen from the speed so far.

    Args:
        most: seconds between checkpoints; 0: none is ever due.
        clock: the time in seconds.

    >>> times = iter(range(0, 200, 10))
    >>> pace = Pace(most=60, clock=lambda: next(times))
    >>> [step for step in range(1, 20) if pace.due(step)]
    [3, 9, 15]
    """

    def __init__(self, most: float, clock: Callable[[], float] = time.monotonic, step: int = 0):
        self.most, self.clock = most or math.inf, clock
        self._gap = min(FIRST, self.most) if most else math.inf
        self._seen, self._step, self._look = clock(), step, step + 1
        self._at = self._seen + self._gap

    def due(self, step: int, edge: int | None = None) -> bool:
        """Whether a checkpoint is due after this step, to be asked after each.

        Args:
            edge: the next step at which the speed may change.
        """
        if step < self._look or math.isinf(self._gap):
            return False
        now = self.clock()
        left, took = of_first(self._at - now, now - self._seen)
        rounds = step - self._step
        foreseen = int(rounds * min(_LOOKS, max(left, 0.0)) / max(took, 1e-6))
        ahead = max(1, min(foreseen, 2 * rounds, step if edge is None else edge - step))
        self._seen, self._step, self._look = now, step, step + ahead
        if left > 0:
            return False
        self.written()
        return True

    def written(self) -> None:
        """A checkpoint was written, for whatever reason: the next is due later."""
        self._gap = min(2 * self._gap, self.most)
        self._at = self._seen + self._gap


def of_first(*numbers: float) -> list[float]:
    """The first process's numbers, on every process."""
    state = PartialState()
    if state.num_processes == 1:
        return list(numbers)
    return broadcast(torch.tensor(numbers, dtype=torch.float64, device=state.device), from_process=0).tolist()
