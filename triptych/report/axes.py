"""The axes of a chart: from numbers to places, and the numbers that are written at them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)
_MOST = sys.float_info.max
_POWERS = (-323, 308)  # of ten that a float holds


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
            return cls(max(low - room, _POWERS[0]), min(high + room, math.log10(_MOST)), start, end, True)
        low, high = min(found), max(found)
        room = 0.06 * high - 0.06 * low or abs(high) * 0.1 or 1.0
        low = low if zero and low == 0 else max(low - room, -_MOST)
        return cls(low, high if zero and high == 0 else min(high + room, _MOST), start, end)

    def place(self, value: float) -> float:
        """Where a number stands."""
        at = math.log10(value) if self.log else value
        part = 1.0 if math.isfinite(self.high - self.low) else 0.5  # the whole width may be more than a float holds
        share = (part * at - part * self.low) / (part * self.high - part * self.low)
        return self.start + share * (self.end - self.start)

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
        powers = range(max(low - 1, _POWERS[0]), min(high + 1, _POWERS[1]) + 1)
        found = [m * 10.0**power for power in powers for m in (1, 2, 3, 5)]
        inside = [tick for tick in found if self.low <= math.log10(tick) <= self.high]
        if len(inside) > 1:
            return inside
        return [tick for tick in self._round(10**self.low, 10 ** min(self.high, 308.25)) if tick > 0]

    @staticmethod
    def _round(low: float, high: float) -> list[float]:
        rough = high / 5 - low / 5
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
