"""Convolutional networks for pictures of any size, and the layers that they are made of.

Shapes: B batch, C channels, H × W picture, K context_dim.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.errors import TriptychError, check_size
from triptych.nets.perceptrons import append_context
from triptych.parts import Part

Layer = TypeVar("Layer", nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


class Residual(nn.Module):
    """h + conv(act(conv(act(h)))), two 3×3 convolutions (B, C, H, W) -> (B, C, H, W).

    The second starts small, so that a block starts near identity.

    >>> Residual(8)(torch.zeros(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        he_(self.first)
        he_(self.second, gain=0.1)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, H, W) -> the same shape."""
        return h + self.second(F.silu(self.first(F.silu(h))))


class Modulation(nn.Module):
    """h ⊙ (1 + γ(c)) + β(c), by channel: γ and β are linear in the context c, and zero at first.

    They have no bias, so that an unknown context (zeros) and none at all leave h (B, C, …) as it is. Without a context
    (K = 0) the module has no parameters. The context is multiplied by `gain` first.

    >>> Modulation(3, 8)(torch.ones(2, 8, 5, 5), torch.eye(2, 3)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, context_dim: int, channels: int, gain: float = 1.0):
        super().__init__()
        self.gain = gain
        self.maps = nn.Linear(context_dim, 2 * channels, bias=False) if context_dim else None
        if self.maps is not None:
            nn.init.zeros_(self.maps.weight)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """h (B, C, …), context (B, K) -> the same shape as h."""
        if self.maps is None or context is None:
            return h
        gamma, beta = self.maps(self.gain * context).view(len(h), -1, *(1,) * (h.ndim - 2)).chunk(2, 1)
        return h * (1 + gamma) + beta


class ConvEncoder(nn.Module, Part):
    """(B, C, H, W) -> (B, outputs): stride-2 convolutions, each halving (rounding up) until both sides are at most 4.

    Level i has min(width · 2^i, 8 · width) channels and `blocks` residual blocks; any size of at least 1 × 1 works.

    Args:
        event_shape: (C, H, W).
        width: channels at full size.
        outputs: numbers for each example.
        blocks: residual blocks at each level below the full size.
        centre: moves inputs from [0, 1] to [−1, 1] first.
        context_dim: K; the context modulates each level's channels, and is appended to the last layer's inputs.

    >>> ConvEncoder((3, 33, 20), 8, 40)(torch.zeros(2, 3, 33, 20)).shape
    torch.Size([2, 40])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int,
        outputs: int,
        blocks: int = 0,
        centre: bool = False,
        context_dim: int = 0,
    ):
        super().__init__()
        check_size("blocks", blocks, 64, least=0)
        sizes, widths = pyramid(event_shape, width)
        layers: list[nn.Module] = [he_(nn.Conv2d(event_shape[0], widths[0], 3, padding=1))]
        for inputs, channels in itertools.pairwise(widths):
            layers += [nn.SiLU(), he_(nn.Conv2d(inputs, channels, 3, stride=2, padding=1))]
            layers += [Residual(channels) for _ in range(blocks)]
        self.trunk = nn.Sequential(*layers, nn.SiLU())
        self.head = nn.Linear(widths[-1] * math.prod(sizes[-1]) + context_dim, outputs)
        nn.init.xavier_uniform_(self.head.weight)
        self.modulations = nn.ModuleList(Modulation(context_dim, channels) for channels in widths)
        self.centre, self.context_dim = centre, context_dim

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), context (B, K) -> (B, outputs)."""
        h = (x * 2 - 1 if self.centre else x).to(memory_format=torch.channels_last)
        modulations = iter(self.modulations)
        for layer in self.trunk:
            h = layer(h)
            if isinstance(layer, nn.Conv2d):  # one at the start of each level
                h = next(modulations)(h, context)
        return self.head(append_context(h.flatten(1), context, self.context_dim))


class ConvDecoder(nn.Module, Part):
    """(B, inputs) -> (B, outputs, H, W): the encoder's pyramid climbed back by 4×4 stride-2 transposed convolutions.

    A kernel that the stride divides leaves no checkerboard; odd sizes are cropped from the even ones above them.

    Args:
        inputs: L.
        event_shape: (C, H, W).
        width: channels at full size.
        outputs: channels of the result.
        blocks: residual blocks at each level below the full size.
        context_dim: K; the context is appended to z, and modulates each level's channels.

    >>> ConvDecoder(20, (3, 33, 20), 8, 6)(torch.zeros(2, 20)).shape
    torch.Size([2, 6, 33, 20])
    """

    def __init__(
        self, inputs: int, event_shape: Sequence[int], width: int, outputs: int, blocks: int = 0, context_dim: int = 0
    ):
        super().__init__()
        check_size("blocks", blocks, 64, least=0)
        sizes, widths = pyramid(event_shape, width)
        self.sizes, self.widths, self.context_dim = sizes[::-1], widths[::-1], context_dim
        self.stem = nn.Linear(inputs + context_dim, self.widths[0] * math.prod(self.sizes[0]))
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(Residual(below) for _ in range(blocks)),
                nn.SiLU(),
                he_(nn.ConvTranspose2d(below, above, 4, stride=2, padding=1), gain=2**0.5),
            )
            for below, above in itertools.pairwise(self.widths)
        )
        self.head = he_(nn.Conv2d(self.widths[-1], outputs, 3, padding=1), gain=0.5)
        nn.init.xavier_uniform_(self.stem.weight)
        self.modulations = nn.ModuleList(Modulation(context_dim, channels) for channels in self.widths)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z (B, inputs), context (B, K) -> (B, outputs, H, W)."""
        h = self.stem(append_context(z, context, self.context_dim)).view(-1, self.widths[0], *self.sizes[0])
        h = h.to(memory_format=torch.channels_last)
        h = self.modulations[0](h, context)
        for level, modulation, (height, width) in zip(self.levels, self.modulations[1:], self.sizes[1:], strict=True):
            h = modulation(level(h)[:, :, :height, :width], context)
        return self.head(F.silu(h))


def pyramid(event_shape: Sequence[int], width: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Sizes of a picture (C, H, W) from H × W down to at most 4 × 4, and the channels at each: min(width · 2^i, 8 · width).

    Raises:
        TriptychError: for a shape that is not a picture's, and for a width that cannot be.

    >>> pyramid((3, 14, 9), 8)
    ([(14, 9), (7, 5), (4, 3)], [8, 16, 32])
    """
    if len(event_shape) != 3:
        raise TriptychError(f"convolutional networks take pictures (C, H, W), got {tuple(event_shape)}: use perceptrons")
    check_size("width", width)
    _, height, breadth = event_shape
    sizes = [(height, breadth)]
    while max(sizes[-1]) > 4:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes, [min(width * 2**i, 8 * width) for i in range(len(sizes))]


def he_(layer: Layer, gain: float = 1.0) -> Layer:
    """He's initialisation, variance gain² · 2 / fan_in, bias 0; kernels are laid out channels last, the faster way.

    >>> he_(nn.Linear(500, 20)).weight.std().item()
    0.06...
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    layout = torch.channels_last if layer.weight.ndim == 4 else torch.contiguous_format
    with torch.no_grad():
        layer.weight = nn.Parameter((layer.weight * gain).contiguous(memory_format=layout))
        layer.bias.zero_()  # type: ignore[union-attr]
    return layer
