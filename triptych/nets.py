"""Networks that more than one family uses: perceptrons, and a convolutional encoder and decoder for any size.

Shapes: B batch, C channels, H × W picture, D = prod(event_shape).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.errors import TriptychError

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


class MLP(nn.Sequential):
    """(B, *E) -> (B, outputs): flatten, then hidden layers with the activation, then a linear layer.

    >>> MLP((1, 28, 28), (500,), 40)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 40])
    """

    def __init__(self, event_shape: Sequence[int], hidden: Sequence[int], outputs: int, activation: str = "tanh"):
        if activation not in ACTIVATIONS:
            raise TriptychError(f"activation should be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        sizes = [math.prod(event_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
        super().__init__(*layers, nn.Linear(sizes[-1], outputs))
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)


class Residual(nn.Module):
    """h + conv(act(conv(act(h)))), two 3×3 convolutions; the second starts small, so that a block starts near identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        _he(self.first)
        _he(self.second, gain=0.1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(F.silu(self.first(F.silu(h))))


class ConvEncoder(nn.Module):
    """(B, C, H, W) -> (B, outputs): stride-2 convolutions, each halving (rounding up) until both sides are at most 4.

    Level i has min(width · 2^i, 8 · width) channels and `blocks` residual blocks; any size of at least 1 × 1 works.
    """

    def __init__(self, event_shape: Sequence[int], width: int, outputs: int, blocks: int = 0):
        super().__init__()
        sizes, widths = _pyramid(event_shape, width)
        layers: list[nn.Module] = [_he(nn.Conv2d(event_shape[0], widths[0], 3, padding=1))]
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.SiLU(), _he(nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1))]
            layers += [Residual(fan_out) for _ in range(blocks)]
        self.trunk = nn.Sequential(*layers, nn.SiLU())
        self.head = nn.Linear(widths[-1] * math.prod(sizes[-1]), outputs)
        nn.init.xavier_uniform_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x.to(memory_format=torch.channels_last))
        return self.head(h.flatten(1))


class ConvDecoder(nn.Module):
    """(B, inputs) -> (B, outputs, H, W): the encoder's pyramid climbed back by 4×4 stride-2 transposed convolutions.

    A kernel that the stride divides leaves no checkerboard; odd sizes are cropped from the even ones above them.
    """

    def __init__(self, inputs: int, event_shape: Sequence[int], width: int, outputs: int, blocks: int = 0):
        super().__init__()
        sizes, widths = _pyramid(event_shape, width)
        self.sizes, self.widths = sizes[::-1], widths[::-1]
        self.stem = nn.Linear(inputs, self.widths[0] * math.prod(self.sizes[0]))
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(Residual(fan_in) for _ in range(blocks)),
                nn.SiLU(),
                _he(nn.ConvTranspose2d(fan_in, fan_out, 4, stride=2, padding=1), gain=2**0.5),
            )
            for fan_in, fan_out in itertools.pairwise(self.widths)
        )
        self.head = _he(nn.Conv2d(self.widths[-1], outputs, 3, padding=1), gain=0.5)
        nn.init.xavier_uniform_(self.stem.weight)

    def forward(self, z: Tensor) -> Tensor:
        h = self.stem(z).view(-1, self.widths[0], *self.sizes[0]).to(memory_format=torch.channels_last)
        for level, (height, width) in zip(self.levels, self.sizes[1:], strict=True):
            h = level(h)[:, :, :height, :width]
        return self.head(F.silu(h))


def _pyramid(event_shape: Sequence[int], width: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Sizes from the full picture down to at most 4 × 4, and the channels at each."""
    _, height, breadth = event_shape
    sizes = [(height, breadth)]
    while max(sizes[-1]) > 4:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes, [min(width * 2**i, 8 * width) for i in range(len(sizes))]


def _he(conv: nn.Conv2d | nn.ConvTranspose2d, gain: float = 1.0) -> nn.Conv2d | nn.ConvTranspose2d:
    """He's initialisation, variance gain² · 2 / fan_in, laid out channels last, which is the faster way to convolve."""
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight = nn.Parameter((conv.weight * gain).contiguous(memory_format=torch.channels_last))
        conv.bias.zero_()
    return conv
