"""The second stage of a model with a learned prior: p(z) is fitted to the codes of data."""

from __future__ import annotations

import torch
from torch import Tensor

from triptych.compose import VampPrior
from triptych.core import Encodes, GenerativeModel, HasPosterior, Prior, evaluating, require
from triptych.errors import TriptychError
from triptych.objectives.player import WHOLE, Look, Loss, Player, Span
from triptych.vae.estimators import draw

EXAMPLES = 20_000  # whose codes a prior is initialised from
ACTIVE = 0.01  # variance of the posterior mean over data below which a dimension of z is unused (Burda et al. 2016)
FEW = 10  # examples for each dimension of z below which their covariance is remarked upon


class PriorPlayer(Player):
    """Minimises −E log p(z) over codes z of data, in nats: draws of q(z|x), or encode(x) where there is no posterior.

    It owns the prior alone: encoder and decoder stay as they are.

    Args:
        model: with an encoder, and a learned prior.
        span: when it plays.
        draws: of q(z|x) for each example, which cost little once x is encoded.
        loop: the loop's numbers for the prior; None: the recipe's.
    """

    def __init__(self, model: GenerativeModel, span: Span = WHOLE, draws: int = 4, loop: object = None):
        super().__init__()
        if not isinstance(model.prior, Prior) or isinstance(model.prior, VampPrior):
            raise TriptychError(
                f"a {type(model.prior).__name__} cannot be fitted to codes: give the model a triptych.compose prior such as "
                "flow_prior(L); a VampPrior learns with its VAE"
            )
        require(model, Encodes)
        self.prior, self.span, self.draws, self.loop = model.prior, span, draws, loop
        self._model = [model]  # in a list, which does not register it: its other parts are not this player's

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        nll = -self.prior.log_prob(self.codes(x, context)).mean()
        return Loss(nll, {"prior_nll": nll.detach()})

    def begin(self, look: Look) -> dict[str, str]:
        """Initialises the prior from the codes of many examples."""
        (model,), (x, context) = self._model, look(EXAMPLES)
        contexts = [None] * len(x.split(_AT_ONCE)) if context is None else context.split(_AT_ONCE)
        with evaluating(model), torch.no_grad():
            parts = [*zip(x.split(_AT_ONCE), contexts, strict=True)]
            z = torch.cat([self.codes(x, c, draws=1) for x, c in parts])
            mu = torch.cat([model.encode(x, c) for x, c in parts])
        self.prior.fit(z)
        return _remarks(mu, model)

    @torch.no_grad()
    def codes(self, x: Tensor, context: Tensor | None, draws: int | None = None) -> Tensor:
        """z of x (B, *E), (draws · B, L)."""
        (model,) = self._model
        if isinstance(model, HasPosterior):
            return draw(model, x, context, draws or self.draws).z.flatten(0, 1)
        return require(model, Encodes).encode(x, context)


_AT_ONCE = 500


def _remarks(mu: Tensor, model: GenerativeModel) -> dict[str, str]:
    """What a person should know of the codes (n, L) that a prior was fitted to."""
    n, dims = mu.shape
    remarks = {}
    unused = int((mu.var(0, correction=0) < ACTIVE).sum()) if n > 1 else 0
    if unused and isinstance(model, HasPosterior):
        remarks["unused"] = f"{unused} of {dims} dimensions of z say nothing of x: the prior leaves them near N(0, 1)"
    if n < FEW * dims:
        remarks["few"] = (
            f"the prior is fitted to {n} examples in {dims} dimensions: its small variances are corrected on held-out codes"
        )
    return remarks
