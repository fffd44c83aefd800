"""A player: one side of a training game.

A player owns the parameters that it updates. `forward(x, step, context)` is its loss on a minibatch x (B, *E) in model
coordinates, a pure function of its arguments and of torch's random state, which the loop sets from (seed, step, rank).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Loss(NamedTuple):
    """What a player minimises (a scalar), and what the log shows (scalars, without gradient)."""

    total: Tensor
    terms: dict[str, Tensor]


class Findings(NamedTuple):
    """What a player noticed about its model: numbers for the log, and remarks for a person by what they are about."""

    numbers: dict[str, float]
    remarks: dict[str, str]


class Player(nn.Module, ABC):
    """One side of the game.

    Attributes:
        plays: minibatches it takes in a round (k in Goodfellow et al. 2014).
    """

    plays: int = 1

    @abstractmethod
    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        """The loss on x (B, *E), given context (B, K) or none, at `step`."""

    def inspect(self) -> Findings:
        """A look at the model when the log is written: no gradient, and torch's random state stays as it is."""
        return Findings({}, {})

    def follow_buffers(self) -> None:
        """Makes plain attributes agree with the model's buffers, after a saved state has been put in place."""

    def stage(self, step: int) -> int:
        """A number that changes when other weights are trained than before: the optimiser then begins anew."""
        return 0
