"""Learned Gaussians as layers: what leaves at the end of a scale, or a flow's end, standardised by what is known of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, sum_event
from triptych.bijections.conditioners import Conditioner, ContextShift, PositionShift, from_zero, wide
from triptych.bijections.coupling import Coupling, Transform

_LOG_SIGMA_BOUND = 4.0  # σ stays between 0.018 and 55, so samples cannot explode


class Standardise(Transform):
    """(b − μ) / σ with (μ, r) = h and log σ = 4 tanh(r / 4), which stays between −4 and 4: N(μ, σ²) becomes N(0, 1)."""

    outputs = 2

    def forward(self, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_sigma = self.moments(h)
        return (b - mu) * (-log_sigma).exp(), -log_sigma

    def inverse(self, image: Tensor, h: Tensor) -> Tensor:
        mu, log_sigma = self.moments(h)
        return mu + log_sigma.exp() * image

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ, each as b."""
        mu, r = h.chunk(2, 1)
        return mu, _LOG_SIGMA_BOUND * torch.tanh(r / _LOG_SIGMA_BOUND)


class FactorOut(Coupling):
    """(x₁, x₂) -> (x₁, (x₂ − μ(x₁, c)) / σ(x₁, c)): halves the channels, and standardises what leaves by its learned prior.

    Glow lets x₂ leave with the prior N(μ(x₁), σ²(x₁)) (released code, `split2d_prior`). Here its standardised residual
    leaves instead, which is N(0, I) under the same prior, so that z is standard normal everywhere and decoding needs nothing
    else; ladj = −Σ log σ makes the likelihood the same. log σ = 4 tanh(r / 4), (μ, r) from a 3×3 convolution from zero.

    Args:
        shape: (C, *S) of x; ⌈C/2⌉ channels stay.
        learned: False leaves x₂ as it is: its prior is N(0, I), as in RealNVP (section 3.6).
        context_dim: K; the learned prior adds a linear map of the context, from zero.
        positions: whether it adds a bias of each position's own, from zero.

    Attributes:
        kept: how many channels stay.
        factored: the shape of what leaves.

    >>> layer = FactorOut((4, 8, 8))
    >>> stays, leaves = layer.divide(layer(torch.randn(2, 4, 8, 8))[0])
    >>> stays.shape, leaves.shape, layer.factored
    (torch.Size([2, 2, 8, 8]), torch.Size([2, 2, 8, 8]), (2, 8, 8))
    """

    def __init__(self, shape: Sequence[int], learned: bool = True, context_dim: int = 0, positions: bool = False):
        leaving = shape[0] // 2
        kept = shape[0] - leaving
        net = _Prior((kept, *shape[1:]), 2 * leaving, context_dim, positions) if learned else nn.Identity()
        super().__init__(net, Standardise(), kept)
        self.kept, self.factored = kept, (leaving, *shape[1:])

    def output(self, a: Tensor, b: Tensor, context: Tensor | None) -> Tensor:
        if isinstance(self.net, nn.Identity):
            return b.new_zeros(len(b), 2 * b.shape[1], *b.shape[2:])
        return super().output(a, b, context)


class _Prior(Conditioner):
    """One layer from zero: a 3×3 convolution, or a linear layer for vectors."""

    def __init__(self, shape: Sequence[int], outputs: int, context_dim: int, positions: bool):
        super().__init__()
        self.layer = from_zero(wide(len(shape) - 1, shape[0], outputs))
        self.context_out = ContextShift(context_dim, outputs)
        self.position_out = PositionShift((outputs, *shape[1:]) if positions else None)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.position_out(self.context_out(self.layer(x), context))


class ContextAffine(Bijection):
    """z = (x − μ(c)) / σ(c): each value standardised by what the context says of it; ladj = −Σ log σ.

    μ and r are linear in c and start at zero, log σ = 4 tanh(r / 4): an unknown context leaves x as it is. As the last layer
    of a flow it makes the distribution at its end a Gaussian that depends on c, while z stays N(0, I).

    Args:
        shape: (C, *S) of x.
        context_dim: K.

    >>> layer = ContextAffine((3, 2, 2), context_dim=5)
    >>> x = torch.randn(4, 3, 2, 2)
    >>> z, ladj = layer(x, torch.randn(4, 5))
    >>> torch.equal(z, x), ladj.shape
    (True, torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], context_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * math.prod(shape), context_dim))
        self.transform = Standardise()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.transform(x, self._moments(x, context))
        return z, sum_event(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.transform.inverse(z, self._moments(z, context))

    def _moments(self, x: Tensor, context: Tensor | None) -> Tensor:
        """μ and r of x given the context, (B, 2C, *S)."""
        context = x.new_zeros(len(x), self.weight.shape[1]) if context is None else context
        return F.linear(context, self.weight).view(len(context), 2 * x.shape[1], *x.shape[2:])
