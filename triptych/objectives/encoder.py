"""The encoder of a GAN: what it minimises, after the game or as a third player of it.

Shapes: B batch, L latent_dim, K context_dim, E event_shape; z (B, L) · x (B, *E) · context (B, K) or None.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.compose import EncodedGAN
from triptych.core import GenerativeModel
from triptych.modes import frozen
from triptych.objectives.player import WHOLE, Loss, Player, Span

Encode = Callable[[Tensor, Tensor | None], Tensor]


class EncoderPlayer(Player):
    """Learns to invert the generator while that learns, which it does not touch.

        L = |E(G(z)) − z|² / L + |G(E(x)) − x|² / (D · Var x), over samples x = G(z) and over data

    z ~ p(z). Samples say where codes are, data what will be encoded (Zhu et al. 2020, arXiv 2004.00049, in-domain
    inversion, without its discriminator). Half of a minibatch is data, and as many samples are drawn.

    Args:
        model: whose encoder it moves.
        span: when it plays.
        loop: the loop's numbers for the encoder; None: the recipe's.
    """

    def __init__(self, model: EncodedGAN, span: Span = WHOLE, loop: object = None):
        super().__init__()
        self.encoder, self.span, self.loop = model.encoder, span, loop
        self._model = [model]  # in a list, which does not register it: its other networks are not this player's

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        (model,), half = self._model, -(-len(x) // 2)
        x, context = x[:half], None if context is None else context[:half]
        z = model.sample_prior(half)
        with frozen(model.generator):
            codes, pictures = inversion_errors(model, model.encode, z, context, x, context)
        return Loss(codes + pictures, {"code_error": codes.detach(), "reconstruction_error": pictures.detach()})


def inversion_errors(
    model: GenerativeModel,
    encode: Encode,
    z: Tensor,
    given: Tensor | None,
    real: Tensor | None = None,
    context: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """|E(G(z)) − z|² / L, and the relative error of reconstructions G(E(x)): of samples, and added to it that of data.

    Args:
        encode: x, context -> z.
        given: of the samples that z make.
        real, context: data x (B, *E), and what they are told with.
    """
    with torch.no_grad():
        x = model.decode(z, given)
    found = encode(x, given)
    error = relative_error(model.decode(found, given), x)
    if real is not None:
        error = error + relative_error(model.decode(encode(real, context), context), real)
    return F.mse_loss(found, z), error


def relative_error(found: Tensor, x: Tensor) -> Tensor:
    """|found − x|² / (D · Var x), a mean over the batch: 1 where nothing but its mean is known of x."""
    return F.mse_loss(found, x) / x.var().clamp(min=1e-4)
