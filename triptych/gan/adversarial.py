"""What every generative adversarial network has: a generator, and a discriminator that only training needs.

Shapes: B batch, L latent_dim, K context_dim, E event_shape.
    z (B, L) ~ N(0, I) · x (B, *E) · context (B, K) or None · logits (B,), D(x) = σ(logit)
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from triptych.core import GenerativeModel
from triptych.gan.augment import Augmentation


class Adversarial(GenerativeModel):
    """The pair. The discriminator is saved with the model, so that training can go on from it.

    Attributes:
        generator, discriminator: the two networks; train with one's parameters at a time.
        augmentation: the changes through which a training game shows pictures, none until `become`; `logits` applies none.
    """

    generator: nn.Module
    discriminator: nn.Module
    augmentation: Augmentation

    def mapping(self) -> nn.Module:
        """The generator: the discriminator is its opponent, not part of the map."""
        return self.generator

    @abstractmethod
    def logits(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log D(x) − log(1 − D(x)), (B,): above 0 where D takes x for real. Nothing is augmented here."""

    def draw(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """G(z) as the discriminator is shown it in training: with its graph, and at the size that has been reached."""
        return self.decode(z, context)

    def reals(self, x: Tensor) -> Tensor:
        """Real examples as the discriminator is shown them beside `draw`."""
        return x

    def grow(self, shown: int) -> None:
        """Becomes what it should be after so many real pictures of this training: for subclasses that grow."""

    def stage(self, shown: int) -> int:
        """A number that changes when other weights are trained than before: optimisers then begin anew."""
        return 0
