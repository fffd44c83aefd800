"""Groups of features, each transformed given those before it.

Shapes: x, z (B, D), D = d_1 + … + d_n · context (B, K) · what a trunk says of x_1, …, x_{i−1}: (B, F)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, zero_ladj
from triptych.errors import TriptychError
from triptych.parts import call


class Autoregressive(Bijection):
    """z_i = f_i(x_i; t_i(x_1, …, x_{i−1}; c)): each group of features by a bijection whose context a network makes of the
    groups before it.

    The Jacobian is block triangular, so that ladj = Σ ladj_i. All of z is computed in one pass; the inverse goes from group
    to group. The first group has none before it: its bijection sees c itself.

    Args:
        sizes: d_1, …, d_n.
        parts: f_1, …, f_n, which take a context of F numbers (f_1 of K).
        trunks: t_2, …, t_n, any modules (B, d_1 + … + d_{i−1})[, c (B, K)] -> (B, F).
        noise: standard deviation of Gaussian noise on what the trunks see, in training mode alone. Sampled groups lie
            somewhat off what data look like: those after them learn to answer such neighbours too (conditioning
            augmentation, Ho et al. 2022, arXiv 2106.15282, section 4).

    >>> from triptych.bijections import ContextAffine, Dense
    >>> parts = [ContextAffine((2,), 0), ContextAffine((3,), 4)]
    >>> layer = Autoregressive((2, 3), parts, [Dense(2, 4, hidden=(8,))])
    >>> x = torch.randn(6, 5)
    >>> z, ladj = layer(x)
    >>> torch.allclose(layer.inverse(z), x, atol=1e-6), ladj.shape
    (True, torch.Size([6]))
    """

    def __init__(self, sizes: Sequence[int], parts: Sequence[Bijection], trunks: Sequence[nn.Module], noise: float = 0.0):
        super().__init__()
        if not len(sizes) == len(parts) == len(trunks) + 1:
            raise TriptychError(
                f"n groups take n sizes, n bijections and n − 1 trunks, got {len(sizes)}, {len(parts)} and {len(trunks)}"
            )
        if not 0 <= noise < math.inf:
            raise TriptychError(f"noise is a standard deviation, 0 or more, got {noise}")
        self.sizes, self.noise = tuple(sizes), noise
        self.parts: Any = nn.ModuleList(parts)
        self.trunks: Any = nn.ModuleList(trunks)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z: list[Tensor] = []
        total, start = zero_ladj(x), 0
        for i, (group, part) in enumerate(zip(self._divided(x), self.parts, strict=True)):
            before = x[:, :start]
            if self.noise and self.training:
                before = before + self.noise * torch.randn_like(before)
            image, ladj = part(group, self._told(i, before, context))
            z.append(image)
            total, start = total + ladj, start + self.sizes[i]
        return torch.cat(z, 1), total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        x = z[:, :0]
        for i, (group, part) in enumerate(zip(self._divided(z), self.parts, strict=True)):
            x = torch.cat([x, part.inverse(group, self._told(i, x, context))], 1)
        return x

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        z: list[Tensor] = []
        start = 0
        for i, (group, part) in enumerate(zip(self._divided(x), self.parts, strict=True)):
            z.append(part.initialize(group, self._told(i, x[:, :start], context)))
            start += self.sizes[i]
        return torch.cat([image[: len(z[-1])] for image in z], 1)

    def count_layers(self) -> int:
        """One for each group, in their order."""
        return len(self.parts)

    def truncated(self, layers: int, shape: Sequence[int]) -> Bijection:
        if not 0 < layers < len(self.parts):
            return super().truncated(layers, shape)
        groups = Autoregressive(self.sizes[:layers], self.parts[:layers], self.trunks[: layers - 1], self.noise)
        return _First(groups, sum(groups.sizes)).train(self.training)

    def _divided(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.shape[1] != sum(self.sizes):
            raise TriptychError(f"groups of {self.sizes} are {sum(self.sizes)} features, got {x.shape[1]}")
        return x.split(self.sizes, 1)

    def _told(self, i: int, before: Tensor, context: Tensor | None) -> Tensor | None:
        """What group i is told of those before it."""
        return call(self.trunks[i - 1], before, context) if i else context


class _First(Bijection):
    """The first features by a bijection, those after them as they are."""

    def __init__(self, part: Bijection, size: int):
        super().__init__()
        self.part, self.size = part, size

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, ladj = self.part(x[:, : self.size], context)
        return torch.cat([z, x[:, self.size :]], 1), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.cat([self.part.inverse(z[:, : self.size], context), z[:, self.size :]], 1)

    def count_layers(self) -> int:
        return self.part.count_layers()
