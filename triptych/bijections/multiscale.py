"""The multi-scale architecture: scales, half of the channels leaving in between (RealNVP, 3.6; Glow, figure 2b)."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    """

    scales: Sequence[Bijection]
    splits: Sequence[FactorOut]

    def __init__(self, scales: Sequence[Bijection], splits: Sequence[FactorOut], shape: Sequence[int]):
        super().__init__()
        assert len(splits) == len(scales) - 1
        self.scales = nn.ModuleList(scales)  # type: ignore[assignment]
        self.splits = nn.ModuleList(splits)  # type: ignore[assignment]
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        factored = []
        x, total = self.scales[0](x, context)
        for split, scale in zip(self.splits, list(self.scales)[1:], strict=True):
            joint, split_ladj = split(x, context)
            x, leaving = split.halves(joint)
            factored.append(leaving.flatten(1))
            x, ladj = scale(x, context)
            total = total + split_ladj + ladj
        return torch.cat([*factored, x.flatten(1)], 1), total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        shapes = [split.factored for split in self.splits]
        *factored, last = z.split([*(math.prod(s) for s in shapes), math.prod(self.shape)], 1)
        x = self.scales[-1].inverse(last.view(len(z), *self.shape), context)
        for i in range(len(factored) - 1, -1, -1):
            leaving = factored[i].view(len(z), *shapes[i])
            x = self.splits[i].inverse(torch.cat([x, leaving], 1), context)
            x = self.scales[i].inverse(x, context)
        return x

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        factored = []
        x = self.scales[0].initialize(x, context)
        for split, scale in zip(self.splits, list(self.scales)[1:], strict=True):
            x, leaving = split.halves(split.initialize(x, context))
            factored.append(leaving.flatten(1))
            x = scale.initialize(x, context)
        return torch.cat([*factored, x.flatten(1)], 1)
