"""How far a training has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """The numbers that a training goes on from; state.json holds them.

    Attributes:
        step: rounds played.
        rate_scale: factor on the recipe's learning rate, halved by each rollback.
        rollbacks: how often the last good state was restored.
        data_size: how many training examples the run began with; None before the first `fit`.
    """

    step: int = 0
    rate_scale: float = 1.0
    rollbacks: int = 0
    data_size: int | None = None
