"""The third stage of a VAE: its decoder plays against a discriminator, and is held to what its encoder says.

Shapes: B batch, L latent_dim, K context_dim, D = prod(E). x (B, *E) · z (B, L) · h (B, outputs, *E) · context (B, K) or None
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from triptych.compose import SharpenedVAE
from triptych.core import in_parts
from triptych.modes import evaluating
from triptych.objectives.gan import Adversary, Match, agreed
from triptych.objectives.player import WHOLE, Findings, Look, Loss, Span
from triptych.vae.estimators import draw

LOOKED_AT = 1000  # training examples by which the plain decoder's error is measured
STEP = 0.02  # by which log λ moves for each unit of drift past the bound
HARD = 2.0  # bounds of drift beyond which the run is rolled back
_MOST = 7.0  # log of the most that λ grows by: a thousandfold
_MEMORY = 0.05  # of the newest minibatch in the running drift


@torch.no_grad()
def mixed_codes(model: SharpenedVAE, x: Tensor, context: Tensor | None = None) -> Tensor:
    """z (B, L) without gradient: of the first half of x from q(z|x), of the others from p(z).

    Of those D sees reconstructions, of these samples: both should look real, wherever the two distributions differ.
    """
    n, told = known(x), None if context is None else context[: known(x)]
    with evaluating(model.encoder), evaluating(model.prior):
        z = draw(model, x[:n], told).z[0]
        return z if n == len(x) else torch.cat([z, model.sample_prior(len(x) - n)])


def known(x: Tensor) -> int:
    """How many of a minibatch x are reconstructed by `mixed_codes`: half, rounded up."""
    return (len(x) + 1) // 2


class DecoderPlayer(Adversary):
    """Makes the discriminator take reconstructions and samples for data, and stays a decoder of its encoder's codes.

        L = E the generator's loss in the game − λ E log p(x|z) / D,   z ~ q(z|x) in the second term

    Encoder and prior stay as they are, so that p(z) still fits the codes, and edit directions still hold. Drift is the
    squared error E|x − decode(z)|², z ~ q(z|x), in units of what it was before. A plain decoder gives the mean of all x
    that fit z; one that draws from them has drift 2 (the error of two draws; Blau & Michaeli 2018, arXiv 1711.06077).
    Beyond the bound it no longer shows what it is told: log λ then rises by 0.02 (drift − bound) a step, and falls back
    below it (as in GECO, Rezende & Viola 2018, arXiv 1810.00597). Beyond twice the bound the run is rolled back.

    Args:
        match: shared with the discriminator, its codes `mixed_codes`.
        weight: λ at the least.
        bound: of the drift.
        span: when it plays.
        loop: the loop's numbers for the decoder; None: the recipe's.
    """

    def __init__(self, match: Match, weight: float = 0.3, bound: float = 2.0, *, span: Span = WHOLE, loop: object = None):
        super().__init__(match, match.model.generator, span, loop)
        self.weight, self.bound = weight, bound

    @property
    def model(self) -> SharpenedVAE:
        """The model, of which this player owns the decoder alone."""
        return self.match.model  # type: ignore[return-value]

    @torch.no_grad()
    def begin(self, look: Look) -> dict[str, str]:
        """Measures the plain decoder's error, unless that was done before any sharpening."""
        model = self.model
        model.log_weight.fill_(math.log(self.weight))
        if not model.plain_error.isnan():
            return {}
        x, context = look(LOOKED_AT)
        with evaluating(model):
            errors = [self._error(part, c) for part, c in in_parts(x, context)]
        model.plain_error.copy_(torch.cat(errors).mean())
        model.drift.fill_(1.0)
        return {}

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        model, n = self.model, known(x)
        h = model.outputs(self.match.codes(model, x, context), context)
        samples = model.likelihood.mean(h)
        played = self.deceived(samples, context, x, context)
        log_px = model.likelihood.log_prob(x[:n], h[:n]).mean()
        if torch.is_grad_enabled():  # not where a bad step is replayed
            self._watch((samples[:n] - x[:n]).square().mean())
        loss = played - model.log_weight.exp() * log_px / x[0].numel()
        log_px = log_px.detach() - model.codec.log_scale(model.event_shape)  # of stored values
        terms = {"log_likelihood": log_px, "drift": model.drift.clone(), "weight": model.log_weight.exp()}
        return Loss(loss, terms)

    def inspect(self) -> Findings:
        drift, weight = self.model.drift.item(), self.model.log_weight.exp().item()
        if not drift > self.bound:
            return Findings({}, {})
        return Findings({}, {
            "drift": f"the decoder drifts from its encoder: reconstructions have {drift:.2g} times the squared error that "
            f"they had before sharpening, past {self.bound:g}: log p(x|z) now counts {weight:.2g}, not {self.weight:g}"
        })  # fmt: skip

    def problem(self) -> str | None:
        drift, most = self.model.drift.item(), HARD * self.bound
        if drift <= most:
            return None
        return (
            f"the decoder has drifted from its encoder: {drift:.3g} times its squared error before sharpening, past {most:g}"
        )

    @torch.no_grad()
    def _error(self, x: Tensor, context: Tensor | None) -> Tensor:
        """|x − decode(z)|² / D of z ~ q(z|x), (B,)."""
        return (self.model.decode(draw(self.model, x, context).z[0], context) - x).square().flatten(1).mean(1)

    @torch.no_grad()
    def _watch(self, error: Tensor) -> None:
        """Takes a minibatch's squared error into the running drift, and moves λ by it, on all processes alike."""
        model = self.model
        drift = (agreed(error) / model.plain_error.clamp(min=1e-12)).nan_to_num(self.bound)
        model.drift.lerp_(drift, _MEMORY)
        least = math.log(self.weight)
        model.log_weight.add_(STEP * (model.drift - self.bound)).clamp_(least, least + _MOST)
