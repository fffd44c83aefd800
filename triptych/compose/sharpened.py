"""A VAE whose decoder a discriminator sharpens: its samples are judged as a GAN's are, its codes stay those of its encoder.

Shapes: B batch, L latent_dim, K context_dim, E event_shape. x (B, *E) · z (B, L) · context (B, K) or None · logits (B,)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.errors import TriptychError
from triptych.gan import Adversarial
from triptych.gan.augment import Augmentation
from triptych.gan.model import default_discriminator
from triptych.parts import check_part
from triptych.vae import VAE, Likelihood, Noise
from triptych.vae.defaults import LATENT_DIM


class SharpenedVAE(VAE, Adversarial):
    """A VAE with a discriminator, which sharpens its decoder once the bound has taught it (Larsen et al. 2016, VAE/GAN).

        min over the decoder, max over D:  V(D, decoder) − λ E log p(x|z),   z ~ q(z|x) or p(z)

    It encodes, samples and edits as a VAE does, and log p(x) ≥ log_prob(x) holds as before; but the decoder, whose details
    are now plausible and no longer the mean of all that fit, has a lower log p(x|z): the bound is weaker than that of the
    VAE it was. `triptych.objectives.sharpen` plays the game.

    Args:
        discriminator: x (B, *E)[, context] -> logits (B,); None: as for a `GAN` of such data.
        event_shape, latent_dim, encoder, decoder, likelihood, prior, posterior, context_dim: as for `VAE`.

    Attributes:
        augmentation: the changes through which the game shows pictures, none until `become`.
        plain_error: E|x − decode(z)|² / D, z ~ q(z|x), of fixed training examples before sharpening began; NaN until then.
        drift: the same error of late, in units of plain_error.
        log_weight: log λ, λ being the weight of log p(x|z) / D in the game.

    Raises:
        TriptychError: as `VAE` and `GAN` do.

    >>> model = SharpenedVAE((3, 16, 16), latent_dim=8)
    >>> x = model.sample(4)
    >>> model.encode(x).shape, model.logits(x).shape, model.log_prob(x).shape
    (torch.Size([4, 8]), torch.Size([4]), torch.Size([4]))
    """

    plain_error: Tensor
    drift: Tensor
    log_weight: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = LATENT_DIM,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        likelihood: Likelihood | None = None,
        prior: nn.Module | None = None,
        posterior: Noise | None = None,
        discriminator: nn.Module | None = None,
        context_dim: int = 0,
    ):
        super().__init__(
            event_shape,
            latent_dim,
            encoder=encoder,
            decoder=decoder,
            likelihood=likelihood,
            prior=prior,
            posterior=posterior,
            context_dim=context_dim,
        )
        if discriminator is None:
            discriminator = default_discriminator(self.event_shape, self.codec, context_dim=context_dim)
        self.discriminator = check_part(discriminator, "the discriminator", "x", *(("context",) if context_dim else ()))
        self.augmentation = Augmentation(self.event_shape, pixels=self.codec.is_picture)
        self.register_buffer("plain_error", torch.tensor(torch.nan))
        self.register_buffer("drift", torch.ones(()))
        self.register_buffer("log_weight", torch.zeros(()))

    @classmethod
    def of(cls, vae: VAE, discriminator: nn.Module | None = None) -> SharpenedVAE:
        """A trained VAE's own parts with a discriminator beside them; a `SharpenedVAE` itself, which has one.

        Raises:
            TriptychError: for a subclass of VAE of one's own, whose methods would be lost.
        """
        if isinstance(vae, cls):
            return vae
        if type(vae) is not VAE:
            raise TriptychError(
                f"a decoder is sharpened in a triptych.VAE, got a {type(vae).__name__}: build a "
                "triptych.compose.SharpenedVAE of its encoder, decoder and likelihood"
            )
        parts = {"encoder": vae.encoder, "decoder": vae.decoder, "likelihood": vae.likelihood, "prior": vae.prior}
        sharpened = cls(
            vae.event_shape,
            vae.latent_dim,
            **parts,
            posterior=vae.noise,
            discriminator=discriminator,
            context_dim=vae.context_dim,
        )
        sharpened.conditions = vae.conditions
        return sharpened

    @property
    def generator(self) -> nn.Module:  # type: ignore[override]
        """What sharpening moves: the decoder, and what the likelihood learns."""
        return nn.ModuleDict({"decoder": self.decoder, "likelihood": self.likelihood})

    def mapping(self) -> nn.Module:
        """All of it but the discriminator, which is the decoder's opponent."""
        return nn.ModuleDict({name: part for name, part in self.named_children() if name not in _OPPONENT})

    @torch.no_grad()
    def plain(self) -> None:
        """Forgets what its decoder drifted by: it is taught as a plain one's again."""
        self.plain_error.fill_(torch.nan)
        self.drift.fill_(1.0)

    def remarks(self) -> list[str]:
        if self.plain_error.isnan():
            return []
        return [
            "its decoder was sharpened by a discriminator: its bound on log p(x) holds, but is weaker than that of the VAE "
            f"it was, and its reconstructions have {self.drift.item():.2f} times the squared error"
        ]

    def reals(self, x: Tensor) -> Tensor:
        """Real examples without dequantisation's noise, which no decoder could make: D would tell the two apart by it."""
        return self.codec.centre(self.codec.decode(x)) if self.codec.noisy else x


_OPPONENT = ("discriminator", "augmentation")
