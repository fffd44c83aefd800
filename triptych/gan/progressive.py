"""The progressively grown GAN (Karras et al. 2018, arXiv 1710.10196): from 4 × 4 upwards, each new layer faded in.

Shapes: B batch, L latent_dim, K context_dim, C channels of the picture; at level l pictures are s × s, s = 2^l.
    z (B, L) ~ N(0, I) · h (B, nf(l), s, s) · x (B, C, s, s) in [−1, 1] inside, in [0, 1] outside · context (B, K) or None
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.codecs import BinCentres
from triptych.errors import TriptychError, check_size
from triptych.gan.augment import Augmentation
from triptych.gan.layers import GAIN, Equalised, MinibatchStddev, PixelNorm, Projection, exact
from triptych.gan.model import Adversarial
from triptych.gan.networks import SLOPE
from triptych.nets import Modulation

FIRST = 2  # the level of 4 × 4
_MOST = 10**9
_CONV = (3, 3)  # the kernel of all convolutions but those to and from colours


class Stage(NamedTuple):
    """How far a network has grown: the level, and how much of its newest layer counts (1: all of it)."""

    level: int
    alpha: float


def stage_at(shown: int, last: int, images: int) -> Stage:
    """The stage after `shown` real pictures: `images` at 4 × 4, then for each level as many fading in and as many whole.

    With 0 images all is whole from the beginning.

    >>> [tuple(stage_at(shown, 4, 100)) for shown in (0, 100, 150, 200, 320, 10_000)]
    [(2, 1.0), (3, 0.0), (3, 0.5), (3, 1.0), (4, 0.2), (4, 1.0)]
    """
    phase, within = divmod(shown, images) if images else (2 * last, 0)
    level = FIRST + (phase + 1) // 2
    return Stage(last, 1.0) if level > last else Stage(level, within / images if phase % 2 else 1.0)


class GrowingGenerator(nn.Module):
    """z -> x at a stage: normalised, dense to 4 × 4, then for each level nearest doubling and two 3×3 convolutions.

    Leaky ReLU and pixel normalisation follow every convolution but the linear 1×1 to colours. The context modulates
    the dense layer's outputs and each level's channels.
    """

    normalises = True

    def __init__(self, latent_dim: int, channels: int, widths: Sequence[int], context_dim: int = 0):
        super().__init__()
        self.norm = PixelNorm()
        # the dense layer's fan-in is its z, its gain what the released code has: √2 / 4
        self.stem = Equalised(latent_dim, 16 * widths[0], gain=math.sqrt(2) / 4)
        blocks = [nn.ModuleList([Equalised(widths[0], widths[0], _CONV)])]
        blocks += [nn.ModuleList([Equalised(a, b, _CONV), Equalised(b, b, _CONV)]) for a, b in itertools.pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)
        self.to_colours = nn.ModuleList(Equalised(width, channels, (1, 1), gain=1.0) for width in widths)
        self.modulations = nn.ModuleList(Modulation(context_dim, width, GAIN) for width in (16 * widths[0], *widths))

    def forward(self, z: Tensor, stage: Stage, context: Tensor | None = None) -> Tensor:
        """z (B, L), context (B, K) -> x (B, C, s, s), about [−1, 1]."""
        return self.render(self.features(z, context), stage, context)

    def features(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z (B, L), context (B, K) -> w (B, nf(2), 4, 4), of the dense layer."""
        h = self.modulations[0](self.stem(self.norm(z)), context)
        h = h.view(len(z), -1, 4, 4).to(memory_format=torch.channels_last)
        return self.norm(F.leaky_relu(h, SLOPE))

    def render(self, w: Tensor, stage: Stage, context: Tensor | None = None) -> Tensor:
        """w (B, nf(2), 4, 4), context (B, K) -> x (B, C, s, s), about [−1, 1]."""
        before = h = self._block(0, w, context)
        top = stage.level - FIRST
        for i in range(1, top + 1):
            before, h = h, self._block(i, F.interpolate(h, scale_factor=2.0), context)
        x = self.to_colours[top](h)
        if stage.alpha < 1:
            x = torch.lerp(F.interpolate(self.to_colours[top - 1](before), scale_factor=2.0), x, stage.alpha)
        return exact(x)

    def _block(self, index: int, h: Tensor, context: Tensor | None) -> Tensor:
        for conv in self.blocks[index]:  # type: ignore[attr-defined]
            h = self.norm(F.leaky_relu(conv(h), SLOPE))
        return self.modulations[index + 1](h, context)


class GrowingDiscriminator(nn.Module):
    """x at a stage -> logits: the generator mirrored, average halving, minibatch deviation at 4 × 4, a projected context."""

    def __init__(self, channels: int, widths: Sequence[int], stddev_group: int = 4, context_dim: int = 0):
        super().__init__()
        self.from_colours = nn.ModuleList(Equalised(channels, width, (1, 1)) for width in widths)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Equalised(b, b, _CONV), Equalised(b, a, _CONV)]) for a, b in itertools.pairwise(widths)
        )
        self.deviation = MinibatchStddev(stddev_group) if stddev_group else nn.Identity()
        self.last = Equalised(widths[0] + bool(stddev_group), widths[0], _CONV)
        self.dense = Equalised(16 * widths[0], widths[0])
        self.head = Equalised(widths[0], 1, gain=1.0)
        self.projection = Projection(context_dim, widths[0])

    def forward(self, x: Tensor, stage: Stage, context: Tensor | None = None) -> Tensor:
        """x (B, C, s, s) in [−1, 1], context (B, K) -> logits (B,)."""
        x = x.to(memory_format=torch.channels_last)
        top = stage.level - FIRST
        h = F.leaky_relu(self.from_colours[top](x), SLOPE)
        for i in range(top, 0, -1):
            for conv in self.blocks[i - 1]:  # type: ignore[attr-defined]
                h = F.leaky_relu(conv(h), SLOPE)
            h = F.avg_pool2d(h, 2)
            if i == top and stage.alpha < 1:
                old = F.leaky_relu(self.from_colours[top - 1](F.avg_pool2d(x, 2)), SLOPE)
                h = torch.lerp(old, h, stage.alpha)
        h = F.leaky_relu(self.last(self.deviation(h)), SLOPE)
        h = F.leaky_relu(self.dense(h.flatten(1)), SLOPE)
        return self.projection(self.head(h).squeeze(1), h, context)


class ProgressiveGAN(Adversarial):
    """A GAN that grows while it trains (Karras et al. 2018), for square pictures with sides of a power of two from 4.

    How far it has grown follows from how many real pictures its discriminator was shown, a buffer that is saved with the
    weights; a training that starts from trained weights (`begin`) goes on at the size they have reached. `decode` always
    returns the full size, before it has grown that far by repeating pixels.

    Args:
        event_shape: (C, S, S), S = 2^n ≥ 4.
        latent_dim: L.
        width: most channels; level l has nf(l) = min(32 · width / 2^l, width): up to 32 × 32 all of them, then half as many
            at each level. The paper's is 512.
        images: real pictures shown in each phase, fading in or whole; 600,000 in the paper. 0: whole from the beginning.
        stddev_group: examples that share a minibatch deviation; 0 leaves it out.
        bits: depth at which pixels are read.
        context_dim: K.

    Raises:
        TriptychError: for other sizes, with the nearest that fits.

    >>> model = ProgressiveGAN((3, 16, 16), latent_dim=8, width=8, images=100)
    >>> model.grow(350)
    >>> model.stage_now, model.draw(torch.randn(2, 8)).shape, model.decode(torch.randn(2, 8)).shape
    (Stage(level=4, alpha=0.5), torch.Size([2, 3, 16, 16]), torch.Size([2, 3, 16, 16]))
    """

    grows = True
    truncates = True
    generator: GrowingGenerator
    shown: Tensor
    begun: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = 512,
        width: int = 512,
        images: int = 600_000,
        stddev_group: int = 4,
        bits: int = 8,
        context_dim: int = 0,
    ):
        super().__init__(event_shape, latent_dim, BinCentres(bits), context_dim=context_dim)
        side = self.event_shape[-1]
        if self.event_shape[1:] != (side, side) or side < 4 or side & (side - 1):
            near = max(4, 2 ** round(math.log2(side)))
            raise TriptychError(
                f"a progressive GAN takes (C, S, S) with S a power of two from 4, got {self.event_shape}: "
                f"give --size {near}, or train a dcgan, which takes any size"
            )
        check_size("width", width, _MOST)
        check_size("images", images, _MOST, least=0)
        check_size("stddev_group", stddev_group, _MOST, least=0)
        self.images, self.last = images, int(math.log2(self.event_shape[1]))
        widths = [max(1, min(32 * width >> level, width)) for level in range(FIRST, self.last + 1)]
        self.generator = GrowingGenerator(self.latent_dim, self.event_shape[0], widths, context_dim)
        self.discriminator = GrowingDiscriminator(self.event_shape[0], widths, stddev_group, context_dim)
        self.augmentation = Augmentation(self.event_shape)
        self.register_buffer("shown", torch.zeros((), dtype=torch.long))
        self.register_buffer("begun", torch.zeros((), dtype=torch.long))  # what was shown in trainings before this one
        self._known: dict[str, tuple[int, int]] = {}

    def _value(self, name: str) -> int:
        """A buffer's number, read from the device only when it has changed."""
        buffer = self.get_buffer(name)
        if name not in self._known or self._known[name][0] != buffer._version:
            self._known[name] = buffer._version, int(buffer)
        return self._known[name][1]

    @property
    def stage_now(self) -> Stage:
        """The stage that the weights were trained for."""
        return stage_at(self._value("shown"), self.last, self.images)

    def growth(self) -> dict[str, float]:
        """The side that pictures have reached, that of whole ones, and how much of the newest level counts."""
        level, alpha = self.stage_now
        return {"side": 2**level, "full_side": 2**self.last, "alpha": alpha}

    def begin(self) -> None:
        self.begun.copy_(self.shown)

    def grow(self, shown: int) -> None:
        total = self._value("begun") + shown
        if self._value("shown") != total:
            self.shown.fill_(total)
            self._known["shown"] = self.shown._version, total

    def stage(self, shown: int) -> int:
        return stage_at(self._value("begun") + shown, self.last, self.images).level

    def draw(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """G(z) at the size that has been reached, (B, C, s, s); about [0, 1], as the colours are linear."""
        context = self.check_context(context, len(self.check_latent(z)))
        with self.networks():
            x = self.generator(z, self.stage_now, context)
        return (x.to(z.dtype) + 1) / 2

    def features(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        with self.networks():
            return exact(self.generator.features(z, context))

    def render(self, w: Tensor, context: Tensor | None = None) -> Tensor:
        with self.networks():
            x = self.generator.render(w, self.stage_now, context)
        return self._whole((x + 1) / 2)

    def reals(self, x: Tensor) -> Tensor:
        """x (B, *E) at that size by averaging; while a level fades in, mixed with what the level before could show."""
        stage = self.stage_now
        x = F.avg_pool2d(self.check_coordinates(x), 2 ** (self.last - stage.level))
        if stage.alpha < 1:
            x = torch.lerp(F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0), x, stage.alpha)
        return x

    def logits(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Of x (B, *E), or at the size that has been reached."""
        side = 2**self.stage_now.level
        if x.shape[1:] != (self.event_shape[0], side, side):
            x = self.reals(x)
        context = self.check_context(context, len(x))
        with self.networks():
            logits = self.discriminator(x * 2 - 1, self.stage_now, context)
        return logits.to(x.dtype)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """G(z) at full size, (B, *E), clamped to [0, 1]."""
        return self._whole(self.draw(z, context))

    def _whole(self, x: Tensor) -> Tensor:
        return F.interpolate(x.clamp(0, 1), scale_factor=2.0 ** (self.last - self.stage_now.level))
