"""A GAN that encodes: its generator, and an encoder that learned to invert it.

Shapes: B batch, L latent_dim, K context_dim, E event_shape.
    z (B, L) · x (B, *E) · context (B, K) or None
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from triptych.capabilities import Encodes
from triptych.core import Codec
from triptych.gan import GAN
from triptych.nets import blank_encoder
from triptych.parts import call, check_output, check_part

_WIDTH = 32  # channels at full size of an encoder that is left out


class EncodedGAN(GAN, Encodes):
    """A `GAN` with a third network, an encoder E that inverts the generator: G(E(x)) ≈ x and E(G(z)) ≈ z.

    The encoder learns beside the game, as a player of its own (`triptych.objectives.encoder.EncoderPlayer`), so that the
    model encodes, mixes and edits as others do. After the training of a GAN `triptych.edit.learn_encoder` learns one.

    Args:
        event_shape, latent_dim, generator, discriminator, codec, context_dim: as `GAN`'s.
        encoder: x (B, *E)[, context] -> z (B, L); None: convolutions for pictures, else a perceptron.
        prior: p(z) of samples; None: N(0, I). A learned one is fitted to the codes of data.

    Raises:
        TriptychError: for settings that cannot work, and for a network whose output has another shape.

    >>> import torch
    >>> model = EncodedGAN((3, 16, 16), latent_dim=8)
    >>> z = model.encode(torch.rand(4, 3, 16, 16))
    >>> z.shape, model.decode(z).shape
    (torch.Size([4, 8]), torch.Size([4, 3, 16, 16]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = 64,
        *,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        encoder: nn.Module | None = None,
        codec: Codec | None = None,
        context_dim: int = 0,
        prior: nn.Module | None = None,
    ):
        super().__init__(
            event_shape,
            latent_dim,
            generator=generator,
            discriminator=discriminator,
            codec=codec,
            context_dim=context_dim,
            prior=prior,
        )
        if encoder is None:
            encoder = blank_encoder(self.event_shape, latent_dim, _WIDTH, context_dim)
        self.encoder = check_part(encoder, "the encoder", "x", *(("context",) if context_dim else ()))

    def mapping(self) -> nn.Module:
        """All but the discriminator."""
        return nn.ModuleList([self.generator, self.encoder, self.prior])

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """E(x), (B, L)."""
        context = self.check_context(context, len(self.check_coordinates(x)))
        with self.networks():
            z = call(self.encoder, x, context)
        return check_output(self.encoder, "the encoder", z, (len(x), self.latent_dim)).to(x.dtype)
