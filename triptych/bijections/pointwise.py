"""Maps of each value for itself: scale, logit, and the logistic prior as a change of variables."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from triptych.bijections.actnorm import channel_statistics
from triptych.bijections.bijection import Bijection, per_channel, same_ladj, sum_event
from triptych.core import LOG_2PI
from triptych.errors import TriptychError


class Scale(Bijection):
    """z = exp(log_s) ⊙ x, a factor for each channel: NICE's last layer (section 3.3), ladj = |S| Σ log_s.

    Args:
        channels: C; for a vector, a factor for each of its D values, as in the paper. `initialize` gives each the spread 1
            on a first batch, which the paper does not say; a constant one keeps its factor.

    >>> layer = Scale(2)
    >>> z = layer.initialize(torch.randn(100, 2) * torch.tensor([5.0, 0.1]))
    >>> torch.allclose(z.std(0, correction=0), torch.ones(2)), torch.allclose(layer(layer.inverse(z))[0], z)
    (True, True)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.log_s = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * per_channel(self.log_s.exp(), x), same_ladj(self.log_s.sum(), x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z * per_channel((-self.log_s).exp(), z)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.log_s.copy_(-channel_statistics(x, "Scale")[1].log())
        return self(x)[0]


class Logit(Bijection):
    """z = logit(α + (1 − 2α) x) for x in [0, 1] (RealNVP, section 4.1, with both ends kept off by α).

    The paper writes α + (1 − α) x / 256, which reaches the upper end; its released code shrinks on both sides, as here.

    Args:
        alpha: 0.05 as in the paper.

    >>> Logit()(torch.tensor([[0.0, 0.5, 1.0]]))[0]
    tensor([[-2.9444,  0.0000,  2.9444]])
    """

    def __init__(self, alpha: float = 0.05):
        super().__init__()
        if not 0 <= alpha < 0.5:
            raise TriptychError(f"alpha, how far both ends are kept off, should be at least 0 and below ½, got {alpha}")
        self.alpha = alpha

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        p = self.alpha + (1 - 2 * self.alpha) * x
        ladj = math.log(1 - 2 * self.alpha) - p.log() - (-p).log1p()
        return logit(p), sum_event(ladj)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (z.sigmoid() - self.alpha) / (1 - 2 * self.alpha)


class LogisticToNormal(Bijection):
    """z with Φ(z) = σ(h): a logistic variable becomes a standard normal one, exactly, however far out.

    So a flow with NICE's logistic prior, log p(h) = −softplus(h) − softplus(−h), has z ~ N(0, I) as every model here:
    ladj = log p_logistic(h) − log N(z; 0, 1), and h = log Φ(z) − log Φ(−z) back.

    >>> h = torch.tensor([[-200.0, -3.0, 0.0, 3.0, 200.0]])
    >>> z, _ = LogisticToNormal()(h)
    >>> torch.allclose(LogisticToNormal().inverse(z), h, rtol=1e-4)
    True
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = _Normal.apply(x)
        return z, sum_event(log_logistic(x) + 0.5 * (z.square() + LOG_2PI))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)


def logit(p: Tensor) -> Tensor:
    """log p − log(1 − p), value by value."""
    return p.log() - (-p).log1p()


def log_logistic(h: Tensor) -> Tensor:
    """The logistic density's logarithm, which is also log ∂σ(h)/∂h, value by value."""
    return -F.softplus(h) - F.softplus(-h)


class _Normal(torch.autograd.Function):
    """h -> z; its derivative is the densities' ratio p_logistic(h) / N(z)."""

    @staticmethod
    def forward(ctx, h: Tensor) -> Tensor:
        log_p = -F.softplus(h.abs().double())  # log Φ(−z) of the z ≥ 0 for |h|
        z = torch.where(log_p > -30, -torch.special.ndtri(log_p.clamp(-30, 0).exp()), (-2 * log_p).sqrt())
        for _ in range(5):  # Newton's method, which the concave log Φ lets converge from either side
            log_tail = torch.special.log_ndtr(-z)
            density = -0.5 * (z.square() + LOG_2PI)
            z = z + (log_tail - log_p) * (log_tail - density).exp()
        z = z.to(h.dtype) * h.sign()
        ctx.save_for_backward(h, z)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        h, z = ctx.saved_tensors
        return grad * (log_logistic(h) + 0.5 * (z.square() + LOG_2PI)).exp()
