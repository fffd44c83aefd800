"""The multi-scale architecture: scales, half of the channels leaving in between (RealNVP, 3.6; Glow, figure 2b)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.flow.bijection import Bijection
from triptych.flow.layers.split import Split


class MultiScale(Bijection):
    """x (B, C, *S) -> flat z (B, D): scale i's leavers come before scale i + 1's, the last scale's whole output at the end.

    Args:
        scales: one bijection a scale.
        splits: one a scale but the last: halves the channels.
        shape: (C, *S) after the last scale.
    """

    scales: Sequence[Bijection]
    splits: Sequence[Split]

    def __init__(self, scales: Sequence[Bijection], splits: Sequence[Split], shape: Sequence[int]):
        super().__init__()
        assert len(splits) == len(scales) - 1
        self.scales = nn.ModuleList(scales)  # type: ignore[assignment]
        self.splits = nn.ModuleList(splits)  # type: ignore[assignment]
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        leavers = []
        x, total = self.scales[0](x)
        for split, scale in zip(self.splits, list(self.scales)[1:], strict=True):
            joint, by_split = split(x)
            x, left = split.halves(joint)
            leavers.append(left.flatten(1))
            x, ladj = scale(x)
            total = total + by_split + ladj
        return torch.cat([*leavers, x.flatten(1)], 1), total

    def inverse(self, z: Tensor) -> Tensor:
        shapes = [split.left for split in self.splits]
        *leavers, last = z.split([*(math.prod(s) for s in shapes), math.prod(self.shape)], 1)
        x = self.scales[-1].inverse(last.view(len(z), *self.shape))
        for i in range(len(leavers) - 1, -1, -1):
            left = leavers[i].view(len(z), *shapes[i])
            x = self.splits[i].inverse(torch.cat([x, left], 1))
            x = self.scales[i].inverse(x)
        return x

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        leavers = []
        x = self.scales[0].initialize(x)
        for split, scale in zip(self.splits, list(self.scales)[1:], strict=True):
            x, left = split.halves(split.initialize(x))
            leavers.append(left.flatten(1))
            x = scale.initialize(x)
        return torch.cat([*leavers, x.flatten(1)], 1)
