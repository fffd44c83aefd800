"""A claim: what the essay says, what of it a tour measures, and whether it holds, by the numbers alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from triptych.report import Block, Number, Section, Text, Verdict
from triptych.report.page import Outcome
from triptych.report.tables import Cell
from triptych.tour.place import Place

Rows: TypeAlias = list[list[Cell]]
"""Of a table."""
Numbers = Mapping[str, Number]
"""What a claim was judged by, by name."""
HOLDS: Outcome = "holds"
FAILS: Outcome = "does not hold here"
RECORDED: Outcome = "recorded"


@dataclass(frozen=True)
class Claim:
    """One of the essay's claims."""

    number: int
    """In the report."""
    title: str
    """A sentence, as the essay would say it."""
    essay: str
    """What the essay says, and why it matters, with markup."""
    how: str
    """How the number is measured, with markup."""
    numbers: Callable[[Place], Numbers]
    """What it is judged by."""
    judge: Callable[[Numbers], tuple[Outcome, str]]
    """Whether it holds by these numbers, and a sentence with them."""
    blocks: Callable[[Place, Numbers], Sequence[Block]]
    """What is shown."""
    follows: str
    """What follows for those who use a model, with markup."""

    @property
    def anchor(self) -> str:
        """In the report."""
        return f"claim-{self.number}"

    def section(self, place: Place) -> Section:
        """The claim in the report of a tour whose parts are done."""
        numbers = self.numbers(place)
        outcome, sentence = self.judge(numbers)
        so = "What would follow" if outcome == FAILS else "What follows"
        blocks = (*self.blocks(place, numbers), Text(f"**{so}.** {self.follows}"))
        verdict = Verdict(outcome, sentence, f"{self.how}.")
        return Section(self.anchor, f"{self.number}. {self.title}", (self.essay,), blocks, verdict)

    def data(self, place: Place) -> dict[str, Any]:
        """The claim for JSON."""
        numbers = self.numbers(place)
        outcome, sentence = self.judge(numbers)
        said = {"claim": self.number, "title": self.title, "holds": outcome, "sentence": sentence, "how": self.how}
        return said | {"numbers": {name: number.data() for name, number in numbers.items()}}


def number(said: Any, unit: str = "", **settings: Any) -> Number:
    """A kept estimate {value, stderr, n}, or a kept number, for a report."""
    if isinstance(said, Mapping):
        stderr = said.get("stderr")
        value = float("nan") if said["value"] is None else said["value"]
        return Number(value, stderr, said.get("n"), unit, **settings)
    return Number(float("nan") if said is None else float(said), unit=unit, **settings)


def sure(value: Number, beyond: float = 0.0) -> bool:
    """Whether a number lies above another by two of its standard errors, or at all where it has none."""
    return value.value - 2 * (value.stderr if value.has_error and value.stderr else 0.0) > beyond


def above(one: Number, other: Number) -> bool:
    """Whether one number lies above another by two standard errors of their difference, or at all where neither has any.

    >>> above(Number(2.0, 0.1), Number(1.0, 0.2)), above(Number(2.0, 0.5), Number(1.0)), above(Number(2.0), Number(1.0))
    (True, False, True)
    """
    return one.value - other.value > 2 * math.hypot(*(n.stderr or 0.0 for n in (one, other) if n.has_error))


def bare(value: Number, digits: int | None = None) -> Number:
    """The number without its unit, which a table's head says once."""
    return dataclasses.replace(value, unit="", digits=value.digits if digits is None else digits)


def signed(value: float) -> str:
    """A coordinate as a label.

    >>> [signed(v) for v in (-1.5, 0.0, 2.0)]
    ['−1.5', '0', '+2']
    """
    return f"{value:+g}".replace("-", "−") if value else "0"


def percent(value: float) -> str:
    """A share in words.

    >>> percent(0.906)
    '91 %'
    """
    return f"{round(100 * value)} %".replace("-", "−")
