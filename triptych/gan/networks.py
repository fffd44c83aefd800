"""Generators and discriminators: perceptrons, the paper's maxout nets, and convolutions for pictures of any size.

Generators put out [0, 1] through a sigmoid ("sigmoid", pictures) or any real ("linear"). Discriminators put out logits.

Shapes: B batch, L latent_dim, E event_shape, C channels, H × W picture.
    z (B, L) · x (B, *E) · logits (B,)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.gan.layers import BatchNorm, Halve, MinibatchStddev, PixelNorm, exact
from triptych.nets import Residual, _he, _pyramid

Output = Literal["sigmoid", "linear"]
Norm = Literal["batch", "pixel", "none"]

SLOPE = 0.2  # of leaky ReLU below 0, as in DCGAN and since
_SMALL = 0.1  # scale of a discriminator's last layer: the first rounds' logits are near 0, where both sides learn


class MLPGenerator(nn.Module):
    """z -> x, linear layers with (leaky) ReLU between.

    Args:
        hidden: 1200, 1200 in Goodfellow et al. 2014 for MNIST.
        slope: of leaky ReLU; 0 is the paper's ReLU.
        spread: weights start uniform on ±spread, the paper's 0.05; None: He's initialisation.

    >>> MLPGenerator(100, (1, 28, 28))(torch.randn(2, 100)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        event_shape: Sequence[int],
        hidden: Sequence[int] = (1200, 1200),
        output: Output = "sigmoid",
        slope: float = 0.0,
        spread: float | None = 0.05,
    ):
        super().__init__()
        self.event_shape, self.squash = tuple(event_shape), output == "sigmoid"
        self.layers = _perceptron([latent_dim, *hidden, math.prod(event_shape)], slope, spread)

    def forward(self, z: Tensor) -> Tensor:
        return _squashed(self.layers(z), self.squash).view(-1, *self.event_shape)


class MLPDiscriminator(nn.Module):
    """x -> logits, linear layers with leaky ReLU between.

    >>> MLPDiscriminator((2,), (64, 64))(torch.randn(5, 2)).shape
    torch.Size([5])
    """

    def __init__(self, event_shape: Sequence[int], hidden: Sequence[int] = (1200, 1200), slope: float = SLOPE):
        super().__init__()
        self.layers = _perceptron([math.prod(event_shape), *hidden, 1], slope, None)
        _shrink(self.layers[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1)).squeeze(1)


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
        return self.affine(x).unflatten(1, (-1, self.pieces)).amax(2)


class MaxoutDiscriminator(nn.Module):
    """x -> logits, the paper's discriminator for MNIST: maxout layers, with dropout before each layer.

    Args:
        hidden: units of each maxout layer.
        pieces: linear pieces of each unit.
        drop_input, drop: rates at which the data's values and the units are dropped in training; 0 is allowed.
        spread: weights start uniform on ±spread.

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
        spread: float = 0.005,
    ):
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(drop_input)]
        sizes = [math.prod(event_shape), *hidden]
        for inputs, units in itertools.pairwise(sizes):
            layers += [Maxout(inputs, units, pieces), nn.Dropout(drop)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
        for module in self.layers.modules():
            _initialise(module, spread)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


class ConvGenerator(nn.Module):
    """z -> x: a dense layer to at most 4 × 4, then 4×4 stride-2 transposed convolutions up to H × W, and one 3×3.

    A kernel that the stride divides leaves no checkerboard; odd sizes are cropped from the even ones above them. Level i
    from the full size down has min(width · 2^i, 8 · width) channels.

    Args:
        norm: "batch" (DCGAN, Radford et al. 2015, arXiv 1511.06434), "pixel" (Karras et al. 2018), or "none".
        blocks: residual blocks at each level before it is enlarged.

    >>> ConvGenerator(16, (3, 33, 20), width=8)(torch.randn(2, 16)).shape
    torch.Size([2, 3, 33, 20])
    """

    def __init__(
        self,
        latent_dim: int,
        event_shape: Sequence[int],
        width: int = 32,
        norm: Norm = "batch",
        output: Output = "sigmoid",
        blocks: int = 0,
    ):
        super().__init__()
        sizes, widths = _pyramid(event_shape, width)
        self.sizes, self.widths, self.squash = sizes[::-1], widths[::-1], output == "sigmoid"
        self.stem = nn.Linear(latent_dim, self.widths[0] * math.prod(self.sizes[0]))
        _initialise(self.stem, None)
        self.norms = nn.ModuleList(_norm(norm, channels) for channels in self.widths)
        self.blocks = nn.ModuleList(nn.Sequential(*(Residual(c) for _ in range(blocks))) for c in self.widths[:-1])
        # stride 2 lets a quarter of the kernel's taps reach a pixel: He's variance is 2 / (4 · fan_in channels)
        self.enlarge = nn.ModuleList(
            _he(nn.ConvTranspose2d(c, d, 4, stride=2, padding=1), gain=2 * (d / c) ** 0.5)
            for c, d in itertools.pairwise(self.widths)
        )
        self.head = _he(nn.Conv2d(self.widths[-1], event_shape[0], 3, padding=1), gain=0.5)

    def forward(self, z: Tensor) -> Tensor:
        h = self.stem(z).view(-1, self.widths[0], *self.sizes[0]).to(memory_format=torch.channels_last)
        h = F.leaky_relu(self.norms[0](h), SLOPE)
        for blocks, enlarge, norm, (height, width) in zip(
            self.blocks, self.enlarge, self.norms[1:], self.sizes[1:], strict=True
        ):
            h = F.leaky_relu(norm(enlarge(blocks(h))[:, :, :height, :width]), SLOPE)
        return _squashed(self.head(h), self.squash)


class ConvDiscriminator(nn.Module):
    """x -> logits: the generator's pyramid descended by 4×4 stride-2 convolutions, never normalised.

    Without batch normalisation D scores each datum by itself, as gradient penalties suppose.

    Args:
        stddev_group: data that share a `MinibatchStddev`; 0 leaves it out.
        blocks: residual blocks at each level after it is halved.

    >>> ConvDiscriminator((3, 33, 20), width=8)(torch.rand(2, 3, 33, 20)).shape
    torch.Size([2])
    """

    def __init__(self, event_shape: Sequence[int], width: int = 32, stddev_group: int = 4, blocks: int = 0):
        super().__init__()
        sizes, widths = _pyramid(event_shape, width)
        trunk: list[nn.Module] = [_he(nn.Conv2d(event_shape[0], widths[0], 3, padding=1)), nn.LeakyReLU(SLOPE)]
        for c, d in itertools.pairwise(widths):
            trunk += [Halve(c, d), *(Residual(d) for _ in range(blocks)), nn.LeakyReLU(SLOPE)]
        last = widths[-1]
        if stddev_group:
            trunk.append(MinibatchStddev(stddev_group))
        trunk += [_he(nn.Conv2d(last + bool(stddev_group), last, 3, padding=1)), nn.LeakyReLU(SLOPE)]
        self.trunk = nn.Sequential(*trunk)
        self.head = nn.Linear(last * math.prod(sizes[-1]), 1)
        _initialise(self.head, None)
        _shrink(self.head)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x.to(memory_format=torch.channels_last))
        return self.head(h.flatten(1)).squeeze(1)


def _norm(name: Norm, channels: int) -> nn.Module:
    return {"batch": BatchNorm(channels), "pixel": PixelNorm(), "none": nn.Identity()}[name]


def _perceptron(sizes: Sequence[int], slope: float, spread: float | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(slope)]
        _initialise(layers[-2], spread)
    return nn.Sequential(*layers[:-1])


def _initialise(module: nn.Module, spread: float | None) -> None:
    """Linear layers: uniform on ±spread, or He's variance 2 / fan_in; biases 0."""
    if not isinstance(module, nn.Linear):
        return
    if spread is None:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:
        nn.init.uniform_(module.weight, -spread, spread)
    nn.init.zeros_(module.bias)


def _shrink(layer: nn.Module) -> None:
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.mul_(_SMALL)


def _squashed(h: Tensor, squash: bool) -> Tensor:
    """In float32 or better: bfloat16 has no more than 8 bits, so that a sigmoid of it would band a picture's greys."""
    return exact(h).sigmoid() if squash else exact(h)
