"""A player: one side of a training game.

A player owns the parameters that it updates. `forward(x, step, context)` is its loss on a minibatch x (B, *E) in model
coordinates, a pure function of its arguments and of the noise, which the loop seeds by (seed, step, rank).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

Look = Callable[[int], tuple[Tensor, Tensor | None]]  # n -> x (n, *E) and context (n, K) or None of fixed training examples


class Loss(NamedTuple):
    """What a player minimises (a scalar), and what the log shows (scalars, without gradient)."""

    total: Tensor
    terms: dict[str, Tensor]


class Findings(NamedTuple):
    """What a player noticed about its model: numbers for the log, and remarks for a person by what they are about."""

    numbers: dict[str, float]
    remarks: dict[str, str]


class Span(NamedTuple):
    """The rounds in which a player plays: from `first` up to, not including, `last`; None is the end of the run.

    >>> [Span(2, 4).holds(step) for step in range(5)], Span(2, 4).played(10)
    ([False, False, True, True, False], 2)
    """

    first: int = 0
    last: int | None = None

    def holds(self, step: int) -> bool:
        """Whether it plays in the round of `step`."""
        return self.played(step + 1) > self.played(step)

    def played(self, step: int) -> int:
        """How many of the rounds before `step` are in it."""
        return max(0, (step if self.last is None else min(step, self.last)) - self.first)


WHOLE = Span()


class Player(nn.Module, ABC):
    """One side of the game.

    Attributes:
        plays: minibatches it takes in a round (k in Goodfellow et al. 2014).
        span: the rounds in which it plays, so that a run may be a series of stages.
        loop: the loop's numbers for its parameters (a `recipes.Training`) where they are not the recipe's: rule, rates,
            momenta and clip; the rest is the run's.
        validated: whether its loss on examples that it does not learn from says how good it is.
        kinds: of steps whose gradients are not to be compared, such as those with a penalty and those without.
    """

    plays: int = 1
    kinds: int = 1
    validated: bool = False
    span: Span = WHOLE
    loop: Any = None

    @abstractmethod
    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        """The loss on x (B, *E), given context (B, K) or none, at `step` of its own span, counted from 0."""

    def begin(self, look: Look) -> dict[str, str]:
        """Sets what depends on data or on the players before it, once, before the first round of its span.

        Args:
            look: n -> x and context of n training examples, as many as there are at most, always the same.

        Returns:
            Remarks for a person, by what they are about.
        """
        return {}

    def inspect(self) -> Findings:
        """A look at the model when the log is written: no gradient, and torch's random state stays as it is."""
        return Findings({}, {})

    def problem(self) -> str | None:
        """Why the state should be rolled back to the last good one, in a line, or None: asked before a state is saved."""
        return None

    def follow_buffers(self) -> None:
        """Makes plain attributes agree with the model's buffers, after a saved state has been put in place."""

    def kind(self, step: int) -> int:
        """Which of its kinds of steps the one at `step` is."""
        return 0

    def stage(self, step: int) -> int:
        """A number that changes when other weights are trained than before: the optimiser then begins anew."""
        return 0
