"""How layers are told of their context: linear maps that start at zero, so that a new condition changes nothing at first.

Shapes: context (B, K), zeros where unknown · x, h (B, C, *S)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, per_channel, sum_event, zero_ladj

_LOG_SIGMA_BOUND = 4.0  # σ stays between 0.018 and 55, so samples cannot explode


def bounded(r: Tensor) -> Tensor:
    """log σ = 4 tanh(r / 4), which stays between −4 and 4."""
    return _LOG_SIGMA_BOUND * torch.tanh(r / _LOG_SIGMA_BOUND)


class ContextShift(nn.Module):
    """h + W c at every position, W from zero: zeros, which say "unknown", add nothing, and nor does no context.

    Args:
        context_dim: K; 0 makes a module without parameters that returns h.
        channels: C of h.
    """

    weight: nn.Parameter | None

    def __init__(self, context_dim: int, channels: int):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.zeros(channels, context_dim)) if context_dim else None)

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        if self.weight is None or context is None:
            return h
        return h + per_channel(F.linear(context, self.weight), h)


class ContextAffine(Bijection):
    """z = (x − μ(c)) ⊙ exp(−log σ(c)): each value standardised by what the context says of it; ladj = −Σ log σ.

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
        self.shape = tuple(shape)
        self.weight = nn.Parameter(torch.zeros(2 * math.prod(shape), context_dim))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if context is None:
            return x, zero_ladj(x)
        mu, log_sigma = self.prior(context)
        return (x - mu) * (-log_sigma).exp(), -sum_event(log_sigma)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if context is None:
            return z
        mu, log_sigma = self.prior(context)
        return mu + log_sigma.exp() * z

    def prior(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ of x given the context, each (B, C, *S)."""
        mu, r = F.linear(context, self.weight).view(len(context), 2, *self.shape).unbind(1)
        return mu, bounded(r)
