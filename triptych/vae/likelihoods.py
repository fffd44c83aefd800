"""p(x|z): what the decoder network's outputs mean.

A likelihood takes the raw outputs h (B, outputs, *E) and gives log p(x|z) in nats, summed over the event, its mean, and
draws. It decides how stored data are read (its codec), and whether bits are a density's or a mass's.

    Bernoulli            outputs 1: logits                    mass      x in {0, 1}
    Gaussian             outputs 1 or 2: mean, log σ          density   x dequantised, or any real with a linear mean
    DiscretisedLogistic  outputs 1 or 2: mean, log s          mass      x at bin centres
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from triptych.codecs import Binarised, BinCentres, Dequantised, Floats
from triptych.core import LOG_2PI, Codec
from triptych.errors import TriptychError, check_choice
from triptych.parts import Part

LOG_SIGMA_FLOOR = -5.0  # a density: σ below 1.7 / 256 would let it grow without bound on flat parts of pictures
FLOATS_FLOOR = -12.0  # data that are not pixels have no bin width: only what float32 can divide by
LOG_S_FLOOR = -7.0  # a mass is bounded by 1 anyway: at s = 0.23 / 256 its bin holds 0.79 of it


class Likelihood(nn.Module, Part, ABC):
    """p(x|z) as a function of the decoder's outputs h (B, outputs, *E).

    Attributes:
        outputs: numbers that the decoder gives for each value of x.
        measure: "density" (nats per unit volume of model coordinates) or "mass".
        codec: how stored values are read for it.
    """

    outputs: int = 1
    measure: Literal["density", "mass"] = "mass"

    def __init__(self, codec: Codec):
        super().__init__()
        self.codec = codec

    @abstractmethod
    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """log p(x|z) summed over the event: x (B, *E), h (B, outputs, *E) -> (B,) nats."""

    @abstractmethod
    def mean(self, h: Tensor) -> Tensor:
        """E[x|z], (B, *E)."""

    @abstractmethod
    def observe(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw x ~ p(x|z), (B, *E)."""

    def check(self, x: Tensor) -> Tensor:
        """x itself if this likelihood can score it, else a `TriptychError`."""
        return x


class Bernoulli(Likelihood):
    """log p(x|z) = Σ x·h − softplus(h), the mean σ(h) (AEVB, appendix C.1).

    Args:
        bits: depth at which pixels are read before they are binarised.
        codec: how stored values are read; None: `Binarised`.

    >>> Bernoulli().log_prob(torch.ones(2, 3), torch.zeros(2, 1, 3))
    tensor([-2.0794, -2.0794])
    """

    def __init__(self, bits: int = 8, codec: Codec | None = None):
        super().__init__(codec or Binarised(bits))

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        return _BernoulliLogProb.apply(x.flatten(1), h[:, 0].flatten(1))

    def mean(self, h: Tensor) -> Tensor:
        return h[:, 0].sigmoid()

    def observe(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(self.mean(h), generator=generator)

    def check(self, x: Tensor) -> Tensor:
        if not ((x == 0) | (x == 1)).all():
            raise TriptychError(
                "a Bernoulli likelihood scores 0s and 1s, got grey values: binarise them (the codec does: "
                "model.codec.encode), or choose likelihood=gaussian or logistic"
            )
        return x


class _LocationScale(Likelihood):
    """A mean, through a sigmoid for pictures, and a log-scale: shared by channel, or an output of the network.

    The shared scale is the leading axis's (channels, or features): one number each, learned with the weights.
    """

    floor = LOG_SIGMA_FLOOR
    start = -2.0  # the log-scale before training

    def __init__(self, event_shape: Sequence[int], scale: str, squash: bool, codec: Codec):
        check_choice("scale", scale, ("shared", "output"))
        super().__init__(codec)
        self.squash = squash
        self.outputs = 2 if scale == "output" else 1
        if scale == "shared":
            self.log_scale = nn.Parameter(torch.full((*event_shape[:1], *[1] * (len(event_shape) - 1)), self.start))

    def mean(self, h: Tensor) -> Tensor:
        return h[:, 0].sigmoid() if self.squash else h[:, 0]

    def log_sigma(self, h: Tensor) -> Tensor:
        """The log-scale, at least the floor: (B, *E), or one number for each of the leading axis where it is shared."""
        raw = h[:, 1] + self.start if self.outputs == 2 else self.log_scale
        return _Floor.apply(raw, self.floor if self.codec.is_picture else FLOATS_FLOOR)


class Gaussian(_LocationScale):
    """log p(x|z) = −½ Σ ((x − μ)² / σ² + 2 log σ + log 2π) (AEVB, appendix C.2), σ learned: log σ ≥ −5 of
    pixels, ≥ −12 of floats, which have no bin.

    Args:
        event_shape: of x.
        scale: "shared" by channel, or an "output" of the network for each value.
        mean: "sigmoid" for pictures, "linear" for other data.
        bits: depth at which pixels are read.
        codec: how stored values are read; None: `Dequantised` with a sigmoid, `Floats` with a linear mean.

    >>> Gaussian((3,), mean="linear").log_prob(torch.zeros(2, 3), torch.zeros(2, 1, 3))
    tensor([3.2432, 3.2432], grad_fn=<NegBackward0>)
    """

    measure = "density"

    def __init__(
        self,
        event_shape: Sequence[int],
        scale: Literal["shared", "output"] = "shared",
        mean: Literal["sigmoid", "linear"] = "sigmoid",
        bits: int = 8,
        codec: Codec | None = None,
    ):
        check_choice("mean", mean, ("sigmoid", "linear"))
        squash = mean == "sigmoid"
        super().__init__(event_shape, scale, squash, codec or (Dequantised(bits) if squash else Floats()))

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        log_sigma = self.log_sigma(h)
        scaled = (x - self.mean(h)) * torch.exp(-log_sigma)
        return -(0.5 * scaled.square() + log_sigma + 0.5 * LOG_2PI).flatten(1).sum(1)

    def observe(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean = self.mean(h)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return mean + self.log_sigma(h).exp() * noise


class DiscretisedLogistic(_LocationScale):
    """P(x|z) = F((x + ½δ − μ)/s) − F((x − ½δ − μ)/s), F the logistic CDF, δ = 2^−bits; the edge bins take the tails.

    Kingma et al. 2016, arXiv 1606.04934, section 5.2. A mass: its bits/dim is that of the 8-bit pixels themselves.

    Args:
        event_shape: of x.
        scale: "shared" by channel, or an "output" of the network for each value.
        bits: depth at which pixels are read.
        codec: how stored values are read; None: `BinCentres`.

    >>> DiscretisedLogistic((1,), bits=1).log_prob(torch.tensor([[0.25], [0.75]]), torch.zeros(2, 1, 1))
    tensor([-0.6931, -0.6931], grad_fn=<SumBackward1>)
    """

    floor = LOG_S_FLOOR
    start = -3.0

    def __init__(
        self,
        event_shape: Sequence[int],
        scale: Literal["shared", "output"] = "shared",
        bits: int = 8,
        codec: Codec | None = None,
    ):
        super().__init__(event_shape, scale, True, codec or BinCentres(bits))
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
