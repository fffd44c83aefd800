"""The second stage of a model with a learned prior: p(z) is fitted to the codes of data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from triptych.capabilities import Encodes, HasPosterior, require
from triptych.core import GenerativeModel, Prior, in_parts
from triptych.errors import TriptychError
from triptych.modes import evaluating
from triptych.objectives.flow import whitening_remarks
from triptych.objectives.player import WHOLE, Look, Loss, Player, Span
from triptych.vae.estimators import draw
from triptych.vae.posteriors import ACTIVE

EXAMPLES = 20_000  # whose codes a prior is initialised from


class PriorPlayer(Player):
    """Minimises −E log p(z) over codes z of data, in nats: draws of q(z|x), or encode(x) of a model without a posterior.

    It owns the prior alone: encoder and decoder stay as they are.

    Args:
        model: with an encoder, and a learned prior.
        span: when it plays.
        draws: of q(z|x) for each example, which cost little once x is encoded.
        loop: the loop's numbers for the prior; None: the recipe's.
        anew: builds such a prior that has not been fitted, for a stage that follows others: codes of an encoder that was
            trained since are not those that an old one knows. None: an old one goes on.
    """

    validated = True

    def __init__(
        self,
        model: GenerativeModel,
        span: Span = WHOLE,
        draws: int = 4,
        loop: object = None,
        anew: Callable[[], nn.Module] | None = None,
    ):
        super().__init__()
        if not isinstance(model.prior, Prior) or not model.prior.alone:
            raise TriptychError(
                f"a {type(model.prior).__name__} cannot be fitted to codes: give the model a triptych.compose prior such as "
                "flow_prior(L); a VampPrior learns with its VAE (--objective.prior-fit jointly)"
            )
        require(model, Encodes)
        self.prior, self.span, self.draws, self.loop, self._anew = model.prior, span, draws, loop, anew
        self._model = [model]  # in a list, which does not register it: its other parts are not this player's

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        nll = -self.prior.log_prob(self.codes(x, context)).mean()
        return Loss(nll, {"prior_nll": nll.detach()})

    @torch.no_grad()
    def begin(self, look: Look) -> dict[str, str]:
        """Initialises the prior from the codes of many examples. One that was fitted before goes on from where it is, unless
        its encoder has been trained since."""
        (model,), (x, context) = self._model, look(EXAMPLES)
        with evaluating(model):
            seen = [self._seen(part, c, 1) for part, c in in_parts(x, context)]
        centres, z = (torch.cat(parts) for parts in zip(*seen, strict=True))
        if self.prior.ready and self.span.first and self._anew:
            self.prior.load_state_dict(self._anew().state_dict())
        if not self.prior.ready:
            self.prior.fit(z, x)
        return self._unused(centres) | whitening_remarks(self.prior)

    def codes(self, x: Tensor, context: Tensor | None) -> Tensor:
        """z of x (B, *E), (draws · B, L)."""
        with evaluating(self._model[0]):  # a batch norm of the encoder's learns nothing more
            return self._seen(x, context, self.draws)[1]

    @torch.no_grad()
    def _seen(self, x: Tensor, context: Tensor | None, draws: int) -> tuple[Tensor, Tensor]:
        """Where the codes of x lie (B, L), and codes (draws · B, L)."""
        (model,) = self._model
        if isinstance(model, HasPosterior):
            q = draw(model, x, context, draws)
            return q.mu, q.z.flatten(0, 1)
        z = require(model, Encodes).encode(x, context)
        return z, z

    def _unused(self, centres: Tensor) -> dict[str, str]:
        (n, dims), (model,) = centres.shape, self._model
        unused = int((centres.var(0, correction=0) < ACTIVE).sum()) if n > 1 else 0
        if not unused or not isinstance(model, HasPosterior):
            return {}
        return {"unused": f"{unused} of {dims} dimensions of z say nothing of x: the prior leaves them near N(0, 1)"}
