"""The VAE's game: one player, which maximises a bound on log p(x)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from triptych.capabilities import HasPosterior
from triptych.compose import SharpenedVAE
from triptych.core import Prior, StandardNormal
from triptych.modes import evaluating
from triptych.objectives.player import WHOLE, Look, Loss, Player, Span
from triptych.vae import VAE
from triptych.vae.estimators import Bound, Under, bound_b, draw
from triptych.vae.schedules import kl_weight


class VAEPlayer(Player):
    """Minimises −L, the negative bound in nats per example (AEVB, algorithm 1).

    Args:
        model: whose parameters it updates.
        bound: called as bound(model, x, context, weight=β): one of `triptych.vae.estimators`, its draws set by `partial`.
        weight: β, the KL's weight, at a step.
        own_prior: whether the bound is that of the model's own prior, which then learns with the rest; False: of N(0, I),
            and the prior is left to a `PriorPlayer`.
        span: when it plays.

    >>> import torch
    >>> VAEPlayer(VAE((3,), 2))(torch.zeros(4, 3), step=0).terms.keys()
    dict_keys(['elbo', 'log_likelihood', 'kl'])
    """

    validated = True

    def __init__(
        self,
        model: VAE,
        bound: Callable[..., Bound] = bound_b,
        weight: Callable[[int], float] = kl_weight,
        own_prior: bool = True,
        span: Span = WHOLE,
    ):
        super().__init__()
        self.bound, self.weight, self.span, self.own_prior = bound, weight, span, own_prior
        # what is registered here is what it updates
        self.model = model.mapping() if own_prior else nn.ModuleDict(_without_prior(model.mapping()))
        # in a tuple, which registers nothing: the model, and what the bound is of
        self._held: tuple[VAE, HasPosterior] = (model, model if own_prior else Under(model, StandardNormal()))

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        bound = self.bound(self._held[1], x, context, weight=self.weight(step))
        log_scale = self._held[0].codec.log_scale(self._held[0].event_shape)  # nats are of stored values
        log_likelihood, kl = bound.log_likelihood.mean().detach() - log_scale, bound.kl.mean().detach()
        return Loss(
            log_scale - bound.value.mean(), {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}
        )

    def begin(self, look: Look) -> dict[str, str]:
        """Starts a prior that learns with the rest, from the first codes, unless it was fitted before."""
        model = self._held[0]
        if isinstance(model, SharpenedVAE):
            model.plain()
        if self.own_prior and isinstance(model.prior, Prior) and not model.prior.ready:
            x, context = look(_FIRST)
            with evaluating(model), torch.no_grad():
                model.prior.fit(draw(model, x, context).z[0], x)
        return {}


_FIRST = 2000  # examples that a prior which learns with the rest starts from


def _without_prior(model: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in model.named_children() if name != "prior"}
