"""Measured numbers as a person reads them: as many digits as the standard error leaves, and what they were measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from triptych.core import Estimate
from triptych.errors import TriptychError

_LONG = 1e15  # from here on the digits of a float are not all its own


@dataclass(frozen=True)
class Number:
    """A figure in a table.

    >>> str(Number(3.14159, 0.0231, n=500, unit="bits/dim")), str(Number(128_000.0)), str(Number(0.00002))
    ('3.142 ± 0.023 bits/dim', '128,000', '2.0e-05')
    """

    value: float
    """What was measured."""
    stderr: float | None = None
    """Its standard error; None, or NaN, where it has none."""
    n: int | None = None
    """How many examples it was measured on."""
    unit: str = ""
    """Of the value and its error."""
    digits: int | None = None
    """Decimal places; None: as many as the standard error leaves, or four significant digits."""
    recorded: bool = False
    """Whether it was measured earlier, on another machine, and is only quoted here."""

    def __post_init__(self) -> None:
        check_number("the value of a Number", self.value)

    @classmethod
    def of(cls, estimate: Estimate, unit: str = "", *, digits: int | None = None, recorded: bool = False) -> Number:
        """An estimate of `triptych.evaluate`."""
        return cls(estimate.value, estimate.stderr, estimate.n, unit, digits, recorded)

    @property
    def has_error(self) -> bool:
        """Whether a standard error is known."""
        return self.stderr is not None and math.isfinite(self.stderr)

    def __str__(self) -> str:
        shown = self.shown + (f" ± {self._formatted(self.stderr)}" if self.has_error and self.stderr is not None else "")
        return f"{shown} {self.unit}".strip()

    @property
    def shown(self) -> str:
        """The value alone, without error and unit."""
        return self._formatted(self.value)

    @property
    def error(self) -> str:
        """The standard error alone; "" where there is none."""
        return self._formatted(self.stderr) if self.has_error and self.stderr is not None else ""

    def data(self) -> dict[str, Any]:
        """The number for JSON."""
        found: dict[str, Any] = {"value": float(self.value)}
        if self.has_error and self.stderr is not None:
            found["stderr"] = float(self.stderr)
        if self.n is not None:
            found["n"] = int(self.n)
        if self.unit:
            found["unit"] = self.unit
        return found | ({"recorded": True} if self.recorded else {})

    def _formatted(self, value: float) -> str:
        if not math.isfinite(value):
            return "∞" if value == math.inf else "−∞" if value == -math.inf else "not finite"
        places = self.digits if self.digits is not None else self._places()
        if self.digits is None and abs(value) >= _LONG:
            return f"{value:.2e}".replace("-", "−")
        if 0 < abs(value) < 0.5 * 10.0**-places or (self.digits is None and 0 < abs(self.value) < 1e-4):
            return f"{value:.1e}".replace("-", "−", 1) if value < 0 else f"{value:.1e}"
        return f"{value:,.{places}f}".replace("-", "−")

    def _places(self) -> int:
        """Decimal places: two digits of the standard error, or four significant ones of the value."""
        if self.has_error and self.stderr:
            return min(6, max(0, 1 - _exponent(self.stderr)))
        if float(self.value).is_integer():
            return 0
        return min(6, max(0, 3 - _exponent(self.value)))


def check_number(what: str, value: object) -> None:
    """Raises a `TriptychError` for what is not a real number; it may be infinite, or NaN.

    >>> check_number("a value", float("inf"))
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TriptychError(f"{what} should be a number, got {value!r:.60}: use float(value) of a tensor")


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
