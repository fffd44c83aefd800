"""The multi-scale architecture: scales, half of the channels leaving in between (RealNVP, 3.6; Glow, figure 2b)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection
from triptych.bijections.factorout import FactorOut


class MultiScale(Bijection):
    """x (B, C, *S) -> flat z (B, D): what leaves after scale i comes before what leaves after scale i + 1, the last scale's
    whole output at the end.

    Args:
        scales: one bijection for each scale.
        splits: one for each scale but the last: factors half of the channels out.
        shape: (C, *S) after the last scale.

    >>> from triptych.bijections import Squeeze
    >>> flow = MultiScale([Squeeze(), Squeeze()], [FactorOut((4, 4, 4))], shape=(8, 2, 2))
    >>> x = torch.randn(3, 1, 8, 8)
    >>> z, ladj = flow(x)
    >>> z.shape, torch.allclose(flow.inverse(z), x)
    (torch.Size([3, 64]), True)
    """

    def __init__(self, scales: Sequence[Bijection], splits: Sequence[FactorOut], shape: Sequence[int]):
        super().__init__()
        self.scales: Any = nn.ModuleList(scales)
        self.splits: Any = nn.ModuleList(splits)
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        factored = []
        x, total = self.scales[0](x, context)
        for split, scale in zip(self.splits, self.scales[1:], strict=True):
            joint, split_ladj = split(x, context)
            x, leaving = split.divide(joint)
            factored.append(leaving.flatten(1))
            x, ladj = scale(x, context)
            total = total + split_ladj + ladj
        return torch.cat([*factored, x.flatten(1)], 1), total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        sizes = [math.prod(shape) for shape in (*(split.factored for split in self.splits), self.shape)]
        *factored, last = z.split(sizes, 1)
        x = self.scales[-1].inverse(last.view(len(z), *self.shape), context)
        for scale, split, leaving in reversed([*zip(self.scales[:-1], self.splits, factored, strict=True)]):
            x = torch.cat([x, leaving.view(len(z), *split.factored)], 1)
            x = scale.inverse(split.inverse(x, context), context)
        return x

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        factored = []
        x = self.scales[0].initialize(x, context)
        for split, scale in zip(self.splits, self.scales[1:], strict=True):
            context = None if context is None else context[: len(x)]
            x, leaving = split.divide(split.initialize(x, context))
            factored.append(leaving.flatten(1))
            x = scale.initialize(x, context)
        return torch.cat([*(leaving[: len(x)] for leaving in factored), x.flatten(1)], 1)

    def count_layers(self) -> int:
        """Those of the scales, and the splits between them."""
        return sum(scale.count_layers() for scale in self.scales) + len(self.splits)

    def truncated(self, layers: int, shape: Sequence[int]) -> MultiScale:
        scales, splits, here = [], [], tuple(shape)
        for i, scale in enumerate(self.scales):
            scales.append(scale.truncated(min(layers, scale.count_layers()), here))
            here, layers = scales[-1].image_shape(here), layers - scale.count_layers()
            if layers <= 0 or i == len(self.splits):
                break
            splits.append(self.splits[i])
            here, layers = (splits[-1].kept, *here[1:]), layers - 1
        return MultiScale(scales, splits, here)

    def image_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (math.prod(shape),)
