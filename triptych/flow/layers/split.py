"""The multi-scale architecture's split, with z standard normal at every scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.flow.bijection import Bijection, no_change, sum_event
from triptych.flow.conditioners import Conditioner, wide

_LOG_SIGMA_BOUND = 4.0  # σ stays between 0.018 and 55: a prior that is sure of nothing, so samples cannot explode


class Split(Bijection):
    """(x₁, x₂) -> (x₁, (x₂ − μ(x₁)) / σ(x₁)): halves the channels, and standardises what leaves by its learned prior.

    Glow lets x₂ leave with the prior N(μ(x₁), σ²(x₁)) (released code, `split2d_prior`). Here its standardised residual
    leaves instead, which is N(0, I) under the same prior, so that z is standard normal everywhere and nothing is lost
    on the way back; ladj = −Σ log σ is the same likelihood. log σ = 4 tanh(r / 4), (μ, r) from a 3×3 convolution from zero.

    Args:
        shape: (C, *S) of x; ⌈C/2⌉ channels stay.
        learned: False leaves x₂ as it is: its prior is N(0, I), as in RealNVP (section 3.6).

    Attributes:
        kept: how many channels stay; left: the shape of what leaves.
    """

    def __init__(self, shape: Sequence[int], learned: bool = True):
        super().__init__()
        self.kept = shape[0] - shape[0] // 2
        self.left = (shape[0] // 2, *shape[1:])
        self.net = _Prior((self.kept, *shape[1:]), 2 * (shape[0] // 2)) if learned else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.net is None:
            return x, no_change(x)
        x1, x2 = self.halves(x)
        mu, log_sigma = self.prior(x1)
        return torch.cat([x1, (x2 - mu) * (-log_sigma).exp()], 1), -sum_event(log_sigma)

    def inverse(self, z: Tensor) -> Tensor:
        if self.net is None:
            return z
        x1, epsilon = self.halves(z)
        mu, log_sigma = self.prior(x1)
        return torch.cat([x1, mu + log_sigma.exp() * epsilon], 1)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What stays and what leaves."""
        kept, left = x.split([self.kept, x.shape[1] - self.kept], 1)
        return kept, left

    def prior(self, x1: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ of x₂ given x₁, where they are learned."""
        assert self.net is not None
        mu, r = self.net(x1).chunk(2, 1)
        return mu, _LOG_SIGMA_BOUND * torch.tanh(r / _LOG_SIGMA_BOUND)


class _Prior(Conditioner):
    """One layer from zero: a 3×3 convolution, or a linear layer for vectors."""

    def __init__(self, shape: Sequence[int], outputs: int):
        super().__init__()
        self.layer = wide(len(shape) - 1, shape[0], outputs)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def compute(self, x: Tensor) -> Tensor:
        return self.layer(x)
