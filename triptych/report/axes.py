"""The axes of a chart: from numbers to places, and the numbers that are written at them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Axis:
    """Numbers from low to high at places from start to end.

    >>> Axis.of([0, 7], 0, 100).ticks()
    [0.0, 2.0, 4.0, 6.0]
    >>> Axis.of([1, 2000], 0, 100, log=True).ticks()
    [1.0, 10.0, 100.0, 1000.0]
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def of(cls, values: Iterable[float], start: float, end: float, *, log: bool = False, zero: bool = False) -> Axis:
        """Of an axis that shows all finite values, with a little room, or from zero."""
        found = [v for v in values if math.isfinite(v) and not (log and v <= 0)]
        found = (found or [1.0]) + ([0.0] if zero and not log else [])
        if log:
            low, high = (math.log10(end) for end in (min(found), max(found)))
            room = 0.04 * (high - low) or 0.5
            return cls(low - room, high + room, start, end, True)
        low, high = min(found), max(found)
        room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        return cls(low if zero and low == 0 else low - room, high if zero and high == 0 else high + room, start, end)

    def place(self, value: float) -> float:
        """Where a number stands."""
        at = math.log10(value) if self.log else value
        return self.start + (at - self.low) / (self.high - self.low) * (self.end - self.start)

    def shows(self, value: float) -> bool:
        """Whether a number can stand on it."""
        return math.isfinite(value) and not (self.log and value <= 0)

    def ticks(self) -> list[float]:
        """Up to about six round numbers."""
        return self._powers() if self.log else self._round(self.low, self.high)

    def _powers(self) -> list[float]:
        low, high = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
        if high - low >= 1:
            step = 1 + (high - low) // 6
            return [10.0**power for power in range(low, high + 1, step)]
        found = [m * 10.0**power for power in range(low - 1, high + 2) for m in (1, 2, 3, 5)]
        inside = [tick for tick in found if self.low <= math.log10(tick) <= self.high]
        if len(inside) > 1:
            return inside
        return [tick for tick in self._round(10**self.low, 10**self.high) if tick > 0]

    @staticmethod
    def _round(low: float, high: float) -> list[float]:
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in _STEPS if s * power >= rough * (1 - 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def label(value: float) -> str:
    """A number at a tick.

    >>> label(0.25), label(20_000.0), label(-1e-5)
    ('0.25', '20,000', '−1e-05')
    """
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("-", "−", 1) if value < 0 else f"{value:.0e}"
    return f"{value:,.6f}".rstrip("0").rstrip(".").replace("-", "−")
