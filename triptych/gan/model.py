"""The adversarial pair: G(z), which is the model of the data, and D(x), which only training needs.

Shapes: B batch, L latent_dim, K context_dim, E event_shape.
    z (B, L) ~ N(0, I) · w (B, …) of the generator's first layer · x (B, *E) · context (B, K) or None
    logits (B,), D(x) = σ(logit)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.codecs import BinCentres, Floats
from triptych.core import Codec, GenerativeModel, StandardNormal
from triptych.errors import NotSupported
from triptych.gan.augment import Augmentation
from triptych.gan.layers import along_sphere, exact
from triptych.gan.networks import (
    ConvDiscriminator,
    ConvGenerator,
    Generator,
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    Output,
)
from triptych.parts import call, check_output, check_part

_DRAWS = 512  # of z, whose features are averaged


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

    def logits(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log D(x) − log(1 − D(x)), (B,): above 0 where D takes x for real. Nothing is augmented here."""
        context = self.check_context(context, len(self.check_coordinates(x)))
        with self.networks():
            logits = call(self.discriminator, x, context)
        return check_output(self.discriminator, "the discriminator", logits, (len(x),)).to(x.dtype)

    def draw(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """G(z) as the discriminator is shown it in training: with its graph, and at the size that has been reached."""
        return self.decode(z, context)

    def reals(self, x: Tensor) -> Tensor:
        """Real examples as the discriminator is shown them beside `draw`."""
        return x

    def features(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """w (B, …) of the generator's first layer, where the model `truncates`."""
        raise NotSupported(f"the generator of this {type(self).__name__} has no first layer of its own: use decode")

    def render(self, w: Tensor, context: Tensor | None = None) -> Tensor:
        """What the rest of the generator makes of w, (B, *E): render(features(z)) = decode(z)."""
        raise NotSupported(f"the generator of this {type(self).__name__} has no first layer of its own: use decode")

    def truncated_decode(self, z: Tensor, context: Tensor | None, temperature: float) -> Tensor:
        """render(w̄ + temperature · (w − w̄)), w̄ = E_z w: decode(z) at temperature 1.

        Features, not z: a network that normalises what it makes of z gives the same back whatever the length of z
        (the truncation of Karras et al. 2019, arXiv 1812.04948, appendix B). Where only the direction of w counts
        (`Generator.normalises`) the angle between w and w̄ is multiplied by the temperature, and |w| moved to E |w|. Where
        the generator is not a `Generator`, the temperature acts on the prior's noise, as in other families.

        Raises:
            TriptychError: for such a generator that gives the same whatever the length of z.
        """
        if temperature == 1:
            return self.decode(z, context)
        if not self.truncates:
            self._check_scaled(context)
            return self.decode(z, context)
        w, (mean, length) = self.features(z, context), self._centre(context)
        if getattr(self.generator, "normalises", False):
            w = along_sphere(mean, w, temperature) * torch.lerp(length, _length(w), temperature)
        else:
            w = torch.lerp(mean, w, temperature)
        return self.render(w, context).to(z.dtype)

    def _centre(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """w̄ and E |w| given each context, (B, …), or (1, …) without one, over always the same z."""
        z = self.sample_prior(_DRAWS, generator=torch.Generator().manual_seed(0))
        if context is None:
            told, place = [None], torch.zeros(1, dtype=torch.long, device=z.device)
        else:
            contexts, place = context.unique(dim=0, return_inverse=True)
            told = [c.expand(_DRAWS, -1) for c in contexts]
        features = [self.features(z, c) for c in told]
        mean, length = (torch.stack([of(w).mean(0) for w in features])[place] for of in (lambda w: w, _length))
        return mean, length

    def _check_scaled(self, context: Tensor | None) -> None:
        """Raises where a temperature by which z is multiplied would change nothing."""
        if not isinstance(self.prior, StandardNormal):
            return
        z = self.sample_prior(4, generator=torch.Generator().manual_seed(0))
        context = None if context is None else context[:1]
        x, scaled = self.decode(z, context), self.decode(2 * z, context)
        if torch.allclose(x, scaled, rtol=1e-4, atol=1e-5) and not torch.allclose(x, x[:1], rtol=1e-4, atol=1e-5):
            raise NotSupported(
                f"a temperature changes nothing here: this {type(self).__name__}'s generator makes the same of z whatever "
                "its length: leave the temperature at 1, or derive the generator from triptych.gan.networks.Generator, "
                "whose first layer's features are truncated"
            )

    def grow(self, shown: int) -> None:
        """Becomes what it should be after so many real pictures of this training: for subclasses that grow."""

    def stage(self, shown: int) -> int:
        """A number that changes when other weights are trained than before: optimisers then begin anew."""
        return 0


class GAN(Adversarial):
    """A generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661) of any two networks.

        min_G max_D V(D, G) = E_x log D(x) + E_z log(1 − D(G(z)))

    It has neither encoder nor density. Pictures are read at the bin's centre: dequantisation's noise, D numbers independent
    of z, is nothing that G could make, and D would learn to tell the two apart by it. The discriminator is saved with the
    model, so that training can go on from it.

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        latent_dim: L.
        generator: z (B, L)[, context] -> x (B, *E); None: `ConvGenerator` for pictures with both sides at least 8, else
            `MLPGenerator`.
        discriminator: x (B, *E)[, context] -> logits (B,); None: `ConvDiscriminator` or `MLPDiscriminator`, as for the
            generator.
        codec: how stored values are read; None: `BinCentres` for (C, H, W), else `Floats`.
        context_dim: K; with 0 networks are called without a context.
        prior: p(z), which the game draws from too; None: N(0, I). One of `triptych.compose` is N(0, I) until it is fitted.

    Attributes:
        generator, discriminator: the two networks; train with one's parameters at a time.
        augmentation: the changes through which a training game shows pictures, none until `become`; `logits` applies none.

    Raises:
        TriptychError: for settings that cannot work, and for a network whose output has another shape.

    >>> import torch
    >>> model = GAN((3, 16, 16), latent_dim=8)
    >>> x = model.decode(torch.randn(4, 8))
    >>> x.shape, model.logits(x).shape, bool(x.min() >= 0 and x.max() <= 1)
    (torch.Size([4, 3, 16, 16]), torch.Size([4]), True)
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = 64,
        *,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        codec: Codec | None = None,
        context_dim: int = 0,
        prior: nn.Module | None = None,
    ):
        super().__init__(event_shape, latent_dim, codec or _codec(event_shape), context_dim=context_dim, prior=prior)
        if generator is None:
            network = ConvGenerator if suited_to_convolutions(self.event_shape) else MLPGenerator
            generator = network(latent_dim, self.event_shape, output=_output(self.codec), context_dim=context_dim)
        if discriminator is None:
            discriminator = default_discriminator(self.event_shape, self.codec, context_dim=context_dim)
        told = ("context",) if context_dim else ()
        self.generator = check_part(generator, "the generator", "z", *told)
        self.discriminator = check_part(discriminator, "the discriminator", "x", *told)
        self.augmentation = Augmentation(self.event_shape, pixels=self.codec.is_picture)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """G(z), (B, *E); pictures in [0, 1]."""
        context = self.check_context(context, len(self.check_latent(z)))
        with self.networks():
            x = call(self.generator, z, context)
        return check_output(self.generator, "the generator", x, (len(z), *self.event_shape)).to(z.dtype)

    @property
    def truncates(self) -> bool:  # type: ignore[override]
        """Whether the generator's first layer can be told apart, so that samples are truncated by its features."""
        return isinstance(self.generator, Generator)

    def features(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if not isinstance(self.generator, Generator):
            return super().features(z, context)
        with self.networks():
            return exact(self.generator.features(z, context))

    def render(self, w: Tensor, context: Tensor | None = None) -> Tensor:
        if not isinstance(self.generator, Generator):
            return super().render(w, context)
        with self.networks():
            return self.generator.render(w, context)


class MaxoutGAN(GAN):
    """The 2014 paper's networks for MNIST: a ReLU perceptron that generates, and one of maxout units that judges.

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        latent_dim: L.
        hidden: sizes of the generator's hidden layers.
        maxout: maxout units of each of the discriminator's layers.
        pieces: linear pieces of each unit.
        drop_input, drop: dropout rates of the discriminator, at the input and after each layer.
        uniform: whether the generator is given z mapped to U(−√3, √3), as in the paper, rather than z itself.
        codec: how stored values are read; None: `BinCentres` for (C, H, W), else `Floats`.
        context_dim: K.

    Raises:
        TriptychError: for settings that cannot work; the message says what would.

    >>> import torch
    >>> MaxoutGAN((1, 28, 28)).decode(torch.randn(2, 100)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = 100,
        hidden: Sequence[int] = (1200, 1200),
        maxout: Sequence[int] = (240, 240),
        pieces: int = 5,
        drop_input: float = 0.2,
        drop: float = 0.5,
        uniform: bool = True,
        *,
        codec: Codec | None = None,
        context_dim: int = 0,
    ):
        codec = codec or _codec(event_shape)
        networks = {
            "generator": MLPGenerator(
                latent_dim, event_shape, hidden, _output(codec), 0.0, 0.05, uniform=uniform, context_dim=context_dim
            ),
            # it sees [0, 1], as in the paper
            "discriminator": MaxoutDiscriminator(event_shape, maxout, pieces, drop_input, drop, context_dim=context_dim),
        }
        super().__init__(event_shape, latent_dim, **networks, codec=codec, context_dim=context_dim)


def _length(w: Tensor) -> Tensor:
    return w.norm(dim=1, keepdim=True)


def suited_to_convolutions(event_shape: Sequence[int]) -> bool:
    """Whether the default networks are convolutional: for pictures with both sides at least 8."""
    return len(event_shape) == 3 and min(event_shape[1:]) >= 8


def default_discriminator(event_shape: Sequence[int], codec: Codec, *, width: int = 32, context_dim: int = 0) -> nn.Module:
    """`ConvDiscriminator` of so many channels at full size, or `MLPDiscriminator` where the event is not such a picture."""
    if suited_to_convolutions(event_shape):
        return ConvDiscriminator(event_shape, width, centre=codec.centred, context_dim=context_dim)
    return MLPDiscriminator(event_shape, centre=codec.centred, context_dim=context_dim)


def _codec(event_shape: Sequence[int]) -> Codec:
    return BinCentres() if len(event_shape) == 3 else Floats()


def _output(codec: Codec) -> Output:
    return "sigmoid" if codec.is_picture else "linear"
