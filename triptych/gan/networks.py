"""Generators and discriminators: perceptrons, the paper's maxout nets, and convolutions for pictures of any size.

Generators return values in [0, 1] through a sigmoid ("sigmoid", for pictures) or any real ("linear"); discriminators return
logits. With a context, perceptrons append it to z, convolutional generators modulate their dense layer and every level's
channels by it, and discriminators add a projection: D(x, c) = D(x) + ⟨V c, features(x)⟩ (Miyato & Koyama 2018, arXiv
1802.05637).

Shapes: B batch, L latent_dim, K context_dim, E event_shape, C channels, H × W picture.
    z (B, L) · w (B, …) · x (B, *E) · context (B, K), or None, which is as zeros · logits (B,)
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.errors import check_choice, check_layers, check_range, check_size
from triptych.gan.layers import GAIN, Halve, MinibatchStddev, PixelNorm, Projection, SafeBatchNorm2d, exact
from triptych.nets import Modulation, Residual, he_, perceptron, pyramid
from triptych.parts import Part

Output = Literal["sigmoid", "linear"]
Norm = Literal["batch", "pixel", "none"]

SLOPE = 0.2  # of leaky ReLU below 0, as in DCGAN and since
_SMALL = 0.1  # scale of a discriminator's last layer: the first rounds' logits are near 0, where both sides learn
_MOST_BLOCKS = 64  # a checkpoint from elsewhere should not make us build without end


class Generator(nn.Module, Part, ABC):
    """z -> w -> x: the first layer's features w, which may be averaged over z, and the rest.

    That is where samples are truncated (`Adversarial.truncated_decode`).

    Attributes:
        normalises: whether only the direction of w counts at each pixel, as the next layers are normalised by pixel.
    """

    normalises: bool = False

    @abstractmethod
    def features(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z (B, L), context (B, K) -> w (B, …)."""

    @abstractmethod
    def render(self, w: Tensor, context: Tensor | None = None) -> Tensor:
        """w (B, …), context (B, K) -> x (B, *E)."""

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z (B, L), context (B, K) -> x (B, *E)."""
        return self.render(self.features(z, context), context)


class MLPGenerator(Generator):
    """z -> x, linear layers with (leaky) ReLU between.

    Args:
        hidden: sizes of the hidden layers; 1200, 1200 in Goodfellow et al. 2014 for MNIST.
        slope: of leaky ReLU; 0 is the paper's ReLU.
        spread: weights start uniform on ±spread, the paper's 0.05; None: He's initialisation.
        uniform: whether the network is given `uniform_prior(z)`, as in the paper, rather than z itself.
        context_dim: K; the context is appended to z.

    >>> MLPGenerator(100, (1, 28, 28))(torch.randn(2, 100)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        event_shape: Sequence[int],
        hidden: Sequence[int] = (1200, 1200),
        output: Output = "sigmoid",
        slope: float = SLOPE,
        spread: float | None = None,
        uniform: bool = False,
        context_dim: int = 0,
    ):
        super().__init__()
        check_layers("hidden", hidden)
        check_choice("output", output, ("sigmoid", "linear"))
        self.event_shape, self.squash = tuple(event_shape), output == "sigmoid"
        self.uniform, self.context_dim = uniform, context_dim
        sizes = [latent_dim + context_dim, *hidden, math.prod(event_shape)]
        self.layers = perceptron(
            sizes, partial(nn.LeakyReLU, slope), he_ if spread is None else partial(_uniform, spread=spread)
        )

    def features(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        h = uniform_prior(z) if self.uniform else z
        if self.context_dim:
            h = torch.cat([h, h.new_zeros(len(h), self.context_dim) if context is None else context], 1)
        return self.layers[:2](h)

    def render(self, w: Tensor, context: Tensor | None = None) -> Tensor:
        return _squashed(self.layers[2:](w), self.squash).view(-1, *self.event_shape)


class MLPDiscriminator(nn.Module, Part):
    """x -> logits, linear layers with leaky ReLU between.

    Args:
        hidden: sizes of the hidden layers.
        centre: moves x from [0, 1] to [−1, 1] first.
        context_dim: K, projected on the last hidden layer.

    >>> MLPDiscriminator((2,), (64, 64))(torch.randn(5, 2)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        hidden: Sequence[int] = (1200, 1200),
        centre: bool = False,
        context_dim: int = 0,
    ):
        super().__init__()
        check_layers("hidden", hidden)
        self.centre = centre
        sizes = [math.prod(event_shape), *hidden, 1]
        self.layers = perceptron(sizes, partial(nn.LeakyReLU, SLOPE), he_)
        with torch.no_grad():
            self.layers[-1].weight.mul_(_SMALL)  # type: ignore[operator]
        self.projection = Projection(context_dim, sizes[-2])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, *E), context (B, K) -> logits (B,)."""
        h = (x * 2 - 1 if self.centre else x).flatten(1)
        return _judged(self.layers, self.projection, h, context)


class Maxout(nn.Module):
    """h_i = max_j (w_ij · x + b_ij), j = 1 … pieces (Goodfellow et al. 2013, arXiv 1302.4389).

    >>> Maxout(784, 240, pieces=5)(torch.zeros(2, 784)).shape
    torch.Size([2, 240])
    """

    def __init__(self, inputs: int, units: int, pieces: int = 5):
        super().__init__()
        self.pieces = pieces
        self.affine = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs) -> (B, units)."""
        return self.affine(x).unflatten(1, (-1, self.pieces)).amax(2)


class MaxoutDiscriminator(nn.Module, Part):
    """x -> logits, the paper's discriminator for MNIST: maxout layers, with dropout before each layer.

    Args:
        hidden: units of each maxout layer.
        pieces: linear pieces of each unit.
        drop_input, drop: rates at which values of x and units are dropped in training; 0 is allowed.
        context_dim: K, projected on the last maxout layer.

    >>> MaxoutDiscriminator((1, 28, 28))(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        hidden: Sequence[int] = (240, 240),
        pieces: int = 5,
        drop_input: float = 0.2,
        drop: float = 0.5,
        context_dim: int = 0,
    ):
        super().__init__()
        check_layers("maxout layers", hidden)
        check_size("pieces", pieces, 1024)
        check_range("drop_input", drop_input, 0, 0.99)
        check_range("drop", drop, 0, 0.99)
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(drop_input)]
        sizes = [math.prod(event_shape), *hidden]
        for inputs, units in itertools.pairwise(sizes):
            layers += [Maxout(inputs, units, pieces), nn.Dropout(drop)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                _uniform(module, 0.005)  # the paper's
        self.projection = Projection(context_dim, sizes[-1])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, *E), context (B, K) -> logits (B,)."""
        return _judged(self.layers, self.projection, x, context)


class ConvGenerator(Generator):
    """z -> x: a dense layer to at most 4 × 4, then 4×4 stride-2 transposed convolutions up to H × W, and one 3×3.

    A kernel that the stride divides leaves no checkerboard; odd sizes are cropped from the even ones above them. Level i
    from the full size down has min(width · 2^i, 8 · width) channels.

    Args:
        width: channels at full size.
        norm: "batch" (DCGAN, Radford et al. 2015, arXiv 1511.06434), "pixel" (Karras et al. 2018), or "none".
        blocks: residual blocks at each level before it is enlarged.
        uniform: whether the network is given `uniform_prior(z)` rather than z itself.
        context_dim: K; the context modulates the dense layer's outputs, and each further level's channels after the norm.

    >>> ConvGenerator(16, (3, 33, 20), width=8)(torch.randn(2, 16)).shape
    torch.Size([2, 3, 33, 20])
    """

    def __init__(
        self,
        latent_dim: int,
        event_shape: Sequence[int],
        width: int = 32,
        norm: Norm = "none",
        output: Output = "sigmoid",
        blocks: int = 0,
        uniform: bool = False,
        context_dim: int = 0,
    ):
        super().__init__()
        check_choice("norm", norm, ("pixel", "batch", "none"))
        check_choice("output", output, ("sigmoid", "linear"))
        check_size("blocks", blocks, _MOST_BLOCKS, least=0)
        sizes, widths = pyramid(event_shape, width)
        self.sizes, self.widths, self.squash, self.uniform = sizes[::-1], widths[::-1], output == "sigmoid", uniform
        self.normalises = norm == "pixel"
        first = self.widths[0] * math.prod(self.sizes[0])
        self.stem = he_(nn.Linear(latent_dim, first))
        self.norms = nn.ModuleList(
            {"pixel": PixelNorm(), "batch": SafeBatchNorm2d(c), "none": nn.Identity()}[norm] for c in self.widths
        )
        self.blocks = nn.ModuleList(nn.Sequential(*(Residual(c) for _ in range(blocks))) for c in self.widths[:-1])
        # stride 2 lets a quarter of the kernel's taps reach a pixel: He's variance is 2 / (4 · fan_in channels)
        self.enlarge = nn.ModuleList(
            he_(nn.ConvTranspose2d(c, d, 4, stride=2, padding=1), gain=2 * (d / c) ** 0.5)
            for c, d in itertools.pairwise(self.widths)
        )
        self.head = he_(nn.Conv2d(self.widths[-1], event_shape[0], 3, padding=1), gain=0.5)
        self.modulations = nn.ModuleList(Modulation(context_dim, channels, GAIN) for channels in (first, *self.widths[1:]))

    def features(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.modulations[0](self.stem(uniform_prior(z) if self.uniform else z), context)
        h = h.view(-1, self.widths[0], *self.sizes[0]).to(memory_format=torch.channels_last)
        return F.leaky_relu(self.norms[0](h), SLOPE)

    def render(self, w: Tensor, context: Tensor | None = None) -> Tensor:
        h = w
        levels = zip(self.blocks, self.enlarge, self.norms[1:], self.modulations[1:], self.sizes[1:], strict=True)
        for blocks, enlarge, norm, modulation, (height, width) in levels:
            h = norm(enlarge(blocks(h))[:, :, :height, :width])
            h = F.leaky_relu(modulation(h, context), SLOPE)
        return _squashed(self.head(h), self.squash)


class ConvDiscriminator(nn.Module, Part):
    """x -> logits: the generator's pyramid descended by 4×4 stride-2 convolutions, never normalised.

    Without batch normalisation D scores each example by itself, as gradient penalties suppose.

    Args:
        width: channels at full size.
        stddev_group: examples that share a `MinibatchStddev`; 0 leaves it out.
        blocks: residual blocks at each level after it is halved.
        centre: moves x from [0, 1] to [−1, 1] first.
        context_dim: K, projected on the last layer's features.

    >>> ConvDiscriminator((3, 33, 20), width=8)(torch.rand(2, 3, 33, 20)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 32,
        stddev_group: int = 4,
        blocks: int = 0,
        centre: bool = False,
        context_dim: int = 0,
    ):
        super().__init__()
        check_size("stddev_group", stddev_group, least=0)
        check_size("blocks", blocks, _MOST_BLOCKS, least=0)
        sizes, widths = pyramid(event_shape, width)
        self.centre = centre
        trunk: list[nn.Module] = [he_(nn.Conv2d(event_shape[0], widths[0], 3, padding=1)), nn.LeakyReLU(SLOPE)]
        for c, d in itertools.pairwise(widths):
            trunk += [Halve(c, d), *(Residual(d) for _ in range(blocks)), nn.LeakyReLU(SLOPE)]
        last = widths[-1]
        if stddev_group:
            trunk.append(MinibatchStddev(stddev_group))
        trunk += [he_(nn.Conv2d(last + bool(stddev_group), last, 3, padding=1)), nn.LeakyReLU(SLOPE)]
        self.trunk = nn.Sequential(*trunk)
        features = last * math.prod(sizes[-1])
        self.head = he_(nn.Linear(features, 1), gain=_SMALL)
        self.projection = Projection(context_dim, features)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), context (B, K) -> logits (B,)."""
        h = (x * 2 - 1 if self.centre else x).to(memory_format=torch.channels_last)
        h = self.trunk(h).flatten(1)
        return self.projection(self.head(h).squeeze(1), h, context)


def uniform_prior(z: Tensor) -> Tensor:
    """z ~ N(0, I) -> √3 (2Φ(z) − 1) = √3 erf(z / √2) ~ U(−√3, √3), the paper's prior, of variance 1 too.

    >>> uniform_prior(torch.tensor([-9.0, 0.0, 9.0]))
    tensor([-1.7321,  0.0000,  1.7321])
    """
    return math.sqrt(3) * torch.erf(z / math.sqrt(2))


def _judged(layers: Iterable[nn.Module], projection: Projection, h: Tensor, context: Tensor | None) -> Tensor:
    *hidden, head = layers
    for layer in hidden:
        h = layer(h)
    return projection(head(h).squeeze(1), h, context)


def _uniform(layer: nn.Linear, spread: float) -> None:
    """Weights uniform on ±spread, biases 0."""
    nn.init.uniform_(layer.weight, -spread, spread)
    nn.init.zeros_(layer.bias)


def _squashed(h: Tensor, squash: bool) -> Tensor:
    """In float32 or better: bfloat16 has no more than 8 bits, so that a sigmoid of it would band a picture's greys."""
    return exact(h).sigmoid() if squash else exact(h)
