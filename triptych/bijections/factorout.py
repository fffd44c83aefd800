"""Factoring out half of the channels at the end of a scale, with z standard normal at every scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, sum_event, zero_ladj
from triptych.bijections.conditioners import Conditioner, wide
from triptych.bijections.context import ContextShift, bounded


class FactorOut(Bijection):
    """(x₁, x₂) -> (x₁, (x₂ − μ(x₁, c)) / σ(x₁, c)): halves the channels, and standardises what leaves by its learned prior.

    Glow lets x₂ leave with the prior N(μ(x₁), σ²(x₁)) (released code, `split2d_prior`). Here its standardised residual
    leaves instead, which is N(0, I) under the same prior, so that z is standard normal everywhere and decoding needs nothing
    else; ladj = −Σ log σ makes the likelihood the same. log σ = 4 tanh(r / 4), (μ, r) from a 3×3 convolution from zero.

    Args:
        shape: (C, *S) of x; ⌈C/2⌉ channels stay.
        learned: False leaves x₂ as it is: its prior is N(0, I), as in RealNVP (section 3.6).
        context_dim: K; the learned prior adds a linear map of the context, from zero.

    Attributes:
        kept: how many channels stay.
        factored: the shape of what leaves.
    """

    def __init__(self, shape: Sequence[int], learned: bool = True, context_dim: int = 0):
        super().__init__()
        self.kept = shape[0] - shape[0] // 2
        self.factored = (shape[0] // 2, *shape[1:])
        self.net = _Prior((self.kept, *shape[1:]), 2 * (shape[0] // 2), context_dim) if learned else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.net is None:
            return x, zero_ladj(x)
        x1, x2 = self.halves(x)
        mu, log_sigma = self.prior(x1, context)
        return torch.cat([x1, (x2 - mu) * (-log_sigma).exp()], 1), -sum_event(log_sigma)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if self.net is None:
            return z
        x1, epsilon = self.halves(z)
        mu, log_sigma = self.prior(x1, context)
        return torch.cat([x1, mu + log_sigma.exp() * epsilon], 1)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What stays and what leaves."""
        kept, factored = x.split([self.kept, x.shape[1] - self.kept], 1)
        return kept, factored

    def prior(self, x1: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """μ and log σ of x₂ given x₁ and the context, where they are learned."""
        assert self.net is not None
        mu, r = self.net(x1, context).chunk(2, 1)
        return mu, bounded(r)


class _Prior(Conditioner):
    """One layer from zero: a 3×3 convolution, or a linear layer for vectors."""

    def __init__(self, shape: Sequence[int], outputs: int, context_dim: int):
        super().__init__()
        self.layer = wide(len(shape) - 1, shape[0], outputs)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.context_out = ContextShift(context_dim, outputs)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.context_out(self.layer(x), context)
