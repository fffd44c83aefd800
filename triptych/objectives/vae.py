"""The VAE's game: one player, which maximises a bound on log p(x)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from triptych.objectives.player import Loss, Player
from triptych.vae import VAE
from triptych.vae.estimators import Bound, bound_b
from triptych.vae.schedules import kl_weight


class VAEPlayer(Player):
    """Minimises −L, the negative bound in nats per example (AEVB, algorithm 1).

    Args:
        model: whose parameters it updates, a learned prior's among them.
        bound: called as bound(model, x, context, weight=β): one of `triptych.vae.estimators`, its draws set by `partial`.
        weight: β, the KL's weight, at a step.

    >>> import torch
    >>> VAEPlayer(VAE((3,), 2))(torch.zeros(4, 3), step=0).terms.keys()
    dict_keys(['elbo', 'log_likelihood', 'kl'])
    """

    def __init__(self, model: VAE, bound: Callable[..., Bound] = bound_b, weight: Callable[[int], float] = kl_weight):
        super().__init__()
        self.model, self.bound, self.weight = model, bound, weight

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        bound = self.bound(self.model, x, context, weight=self.weight(step))
        log_likelihood, kl = bound.log_likelihood.mean().detach(), bound.kl.mean().detach()
        return Loss(-bound.value.mean(), {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl})
