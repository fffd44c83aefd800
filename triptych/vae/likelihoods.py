"""p(x|z): what the decoder network's outputs mean.

A likelihood takes the raw outputs h (B, outputs, *E) and gives log p(x|z) in nats, summed over the event, its mean, and
draws. It decides how the codec reads stored data, and whether bits are a density's or a mass's.

    Bernoulli            outputs 1: logits                    mass      x in {0, 1}
    Gaussian             outputs 1 or 2: mean, log σ          density   x dequantised, or any real with a linear mean
    DiscretisedLogistic  outputs 1 or 2: mean, log s          mass      x at bin centres
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from triptych.codec import Reading
from triptych.errors import TriptychError

LOG_SIGMA_FLOOR = -5.0  # a density: σ below 1.7 / 256 would let it grow without bound on flat parts of pictures
LINEAR_FLOOR = -12.0  # data that are no pixels have no bin width: only what float32 can divide by
LOG_S_FLOOR = -7.0  # a mass is bounded by 1 anyway: at s = 0.23 / 256 its bin holds 0.79 of it


class Likelihood(nn.Module, ABC):
    """p(x|z) as a function of the decoder's outputs h (B, outputs, *E)."""

    outputs: int = 1
    measure: Literal["density", "mass"] = "mass"
    reading: Reading

    @abstractmethod
    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """log p(x|z) summed over the event: x (B, *E), h (B, outputs, *E) -> (B,) nats."""

    @abstractmethod
    def mean(self, h: Tensor) -> Tensor:
        """E[x|z], (B, *E)."""

    @abstractmethod
    def observe(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw x ~ p(x|z), (B, *E)."""


class Bernoulli(Likelihood):
    """log p(x|z) = Σ x·h − softplus(h), the mean σ(h) (AEVB, appendix C.1). Grey values are refused."""

    reading: Reading = "binarise"

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        return _BernoulliLogProb.apply(x.flatten(1), h[:, 0].flatten(1))

    def mean(self, h: Tensor) -> Tensor:
        return h[:, 0].sigmoid()

    def observe(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(self.mean(h), generator=generator)


class _LocationScale(Likelihood):
    """A mean, through a sigmoid for pictures, and a log-scale: shared by channel, or put out by the network.

    The shared scale is the leading axis's (channels, or features): one number each, learned with the weights.
    """

    floor = LOG_SIGMA_FLOOR

    def __init__(
        self,
        event_shape: Sequence[int],
        scale: Literal["shared", "output"] = "shared",
        mean: Literal["sigmoid", "linear"] = "sigmoid",
        log_scale: float = -2.0,
    ):
        super().__init__()
        self.squash = mean == "sigmoid"
        self.outputs = 2 if scale == "output" else 1
        self.start = log_scale
        if scale == "shared":
            ones = [1] * (len(event_shape) - 1)
            self.log_scale = nn.Parameter(torch.full((event_shape[0], *ones), log_scale))

    def mean(self, h: Tensor) -> Tensor:
        return h[:, 0].sigmoid() if self.squash else h[:, 0]

    def log_sigma(self, h: Tensor) -> Tensor:
        """The log-scale, at least the floor."""
        raw = h[:, 1] + self.start if self.outputs == 2 else self.log_scale
        return _Floor.apply(raw, self.floor if self.squash else LINEAR_FLOOR)


class Gaussian(_LocationScale):
    """log p(x|z) = −½ Σ ((x − μ)² / σ² + 2 log σ + log 2π) (AEVB, appendix C.2), σ learned, log σ ≥ −5."""

    measure = "density"

    @property
    def reading(self) -> Reading:  # type: ignore[override]
        return "dequantise" if self.squash else "none"

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        log_sigma = self.log_sigma(h)
        scaled = (x - self.mean(h)) * torch.exp(-log_sigma)
        return -(0.5 * scaled.square() + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def observe(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean = self.mean(h)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return mean + self.log_sigma(h).exp() * noise


class DiscretisedLogistic(_LocationScale):
    """P(x|z) = F((x + ½δ − μ)/s) − F((x − ½δ − μ)/s), F the logistic CDF, δ = 2^−bits; the edge bins take the tails.

    Kingma et al. 2016, arXiv 1606.04934, section 5.2. A mass: its bits/dim is that of the 8-bit pixels themselves.
    """

    reading: Reading = "centre"
    floor = LOG_S_FLOOR

    def __init__(self, event_shape: Sequence[int], scale: Literal["shared", "output"] = "shared", bits: int = 8):
        super().__init__(event_shape, scale, "sigmoid", log_scale=-3.0)
        self.delta = 2.0**-bits

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        log_s = self.log_sigma(h)
        inverse = torch.exp(-log_s)
        centred = x - self.mean(h)
        upper, lower = (centred + self.delta / 2) * inverse, (centred - self.delta / 2) * inverse
        # log(σ(u) − σ(l)) = log σ(u) + log σ(−l) + log(1 − e^(l − u)), and u − l = δ/s whatever x: no cancellation
        middle = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-self.delta * inverse))
        inside = torch.where(x < self.delta, F.logsigmoid(upper), middle)
        return torch.where(x > 1 - self.delta, F.logsigmoid(-lower), inside).flatten(1).sum(1)

    def observe(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean = self.mean(h)
        u = torch.rand(mean.shape, generator=generator, device=mean.device).clamp(1e-6, 1 - 1e-6)
        x = mean + self.log_sigma(h).exp() * torch.logit(u)
        return ((x / self.delta).floor() + 0.5).clamp(0.5, 1 / self.delta - 0.5) * self.delta


class _BernoulliLogProb(torch.autograd.Function):
    """Σ x·h − softplus(h) with its gradient x − σ(h): half the passes over memory of the general cross-entropy.

    First derivatives in h only: x is data.
    """

    @staticmethod
    def forward(ctx, x: Tensor, h: Tensor) -> Tensor:
        ctx.save_for_backward(x, h)
        return (x * h).sum(1) - F.softplus(h).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[None, Tensor]:
        x, h = ctx.saved_tensors
        return None, torch.sub(x, h.sigmoid()).mul_(grad[:, None])


class _Floor(torch.autograd.Function):
    """max(a, floor) whose gradient also passes below the floor when it points upwards, so that nothing gets stuck there."""

    @staticmethod
    def forward(ctx, a: Tensor, floor: float) -> Tensor:
        ctx.save_for_backward(a < floor)
        return a.clamp(min=floor)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (below,) = ctx.saved_tensors
        return torch.where(below & (grad > 0), 0.0, grad), None  # descent on a positive gradient would sink further


def likelihood(
    name: str,
    event_shape: Sequence[int],
    scale: Literal["shared", "output"],
    mean: Literal["sigmoid", "linear"],
    bits: int,
) -> Likelihood:
    """The likelihood called `name`: bernoulli, gaussian or logistic (discretised)."""
    if name == "bernoulli":
        return Bernoulli()
    if name == "gaussian":
        return Gaussian(event_shape, scale, mean)
    if name == "logistic":
        return DiscretisedLogistic(event_shape, scale, bits)
    raise TriptychError(f"likelihood should be bernoulli, gaussian or logistic, got {name!r}")


def check_binary(x: Tensor) -> Tensor:
    """x itself if it is 0s and 1s, else the error that explains what a Bernoulli likelihood is for."""
    if not ((x == 0) | (x == 1)).all():
        raise TriptychError(
            "a Bernoulli likelihood scores 0s and 1s, got grey values: binarise them (the codec does: model.codec.encode), "
            "or choose likelihood=gaussian or logistic"
        )
    return x
