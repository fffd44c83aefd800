"""Each family's training game, as one or two players.

A player owns the parameters that it updates. `forward(x, step)` is its loss on a minibatch x (B, *E) in model
coordinates, a pure function of its arguments and of torch's random state, which the loop sets from (seed, step, rank).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from triptych.core import GenerativeModel
from triptych.recipes import Recipe, VAEObjective
from triptych.vae import VAE
from triptych.vae.estimators import Bound, bound_a, bound_b, bound_k, score_function
from triptych.vae.schedules import kl_weight


class Loss(NamedTuple):
    """What a player minimises (a scalar), and what the log shows (scalars, without gradient)."""

    total: Tensor
    terms: dict[str, Tensor]


class Player(nn.Module, ABC):
    """One side of the game.

    Attributes:
        plays: minibatches it takes in a round (k in Goodfellow et al. 2014).
    """

    plays: int = 1

    @abstractmethod
    def forward(self, x: Tensor, step: int) -> Loss:
        """The loss on x (B, *E) at `step`."""


class VAEPlayer(Player):
    """Minimises −L, the negative bound in nats per datum (AEVB, algorithm 1)."""

    def __init__(self, model: VAE, objective: VAEObjective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor, step: int) -> Loss:
        bound = self._bound(x, kl_weight(step, beta=self.objective.beta, warmup=self.objective.warmup))
        log_likelihood, kl = bound.log_likelihood.mean().detach(), bound.kl.mean().detach()
        return Loss(-bound.value.mean(), {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl})

    def _bound(self, x: Tensor, weight: float) -> Bound:
        draws = self.objective.draws
        if self.objective.estimator == "B":
            return bound_b(self.model, x, draws=draws, weight=weight, floor=self.objective.free_bits)
        others: dict[str, Callable[..., Bound]] = {"A": bound_a, "k": bound_k, "score": score_function}
        return others[self.objective.estimator](self.model, x, draws=draws, weight=weight)


def players(recipe: Recipe, model: GenerativeModel) -> dict[str, Player]:
    """The players of the recipe's game, by name, in the order in which they play."""
    assert isinstance(model, VAE)
    return {"vae": VAEPlayer(model, recipe.objective)}
