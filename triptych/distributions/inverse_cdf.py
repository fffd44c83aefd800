"""Inverse CDF: ε ~ U(0, 1), z = F⁻¹(ε; φ) (AEVB, section 2.4, approach 1).

Shapes: all parameters broadcast to the batch shape; u and x broadcast with them. Densities are in nats.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all, clamp_probs
from torch.nn.functional import logsigmoid


class InverseCDF(Distribution):
    """A distribution drawn as F⁻¹(ε; φ). Its parameters are what `arg_constraints` names, in that order.

    Raises:
        ValueError: for a parameter or a value outside its domain, unless `validate_args` is False.
    """

    has_rsample = True

    def __init__(self, *parameters: Tensor | float, validate_args: bool | None = None):
        for name, value in zip(self.arg_constraints, broadcast_all(*parameters), strict=True):
            setattr(self, name, value)
        super().__init__(value.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Distribution:
        """The same distribution with its parameters expanded to `batch_shape`."""
        return type(self)(*(getattr(self, name).expand(batch_shape) for name in self.arg_constraints), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """F⁻¹(ε; φ) for fresh ε: (*sample_shape, *batch_shape), differentiable in every parameter."""
        like: Tensor = getattr(self, next(iter(self.arg_constraints)))
        shape = self._extended_shape(sample_shape)
        return self.icdf(clamp_probs(torch.rand(shape, dtype=like.dtype, device=like.device)))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value; φ) in nats."""
        if self._validate_args:
            self._validate_sample(value)
        return self._log_density(value)

    @abstractmethod
    def icdf(self, value: Tensor) -> Tensor:
        """F⁻¹(value; φ) for a value in (0, 1), broadcast with the parameters."""

    @abstractmethod
    def _log_density(self, x: Tensor) -> Tensor:
        """log p(x; φ) for x on the support."""


class Logistic(InverseCDF):
    """z = μ + s (log ε − log(1 − ε)); p(x) = σ(y) σ(−y) / s, y = (x − μ)/s, σ the sigmoid.

    >>> Logistic(1.0, 2.0).icdf(torch.tensor(0.5)).item()
    1.0
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support: ClassVar = constraints.real
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor | float, scale: Tensor | float, validate_args: bool | None = None):
        super().__init__(loc, scale, validate_args=validate_args)

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * torch.logit(value)

    def _log_density(self, x: Tensor) -> Tensor:
        y = (x - self.loc) / self.scale
        return logsigmoid(y) + logsigmoid(-y) - self.scale.log()


class _Bounded(InverseCDF):
    """On [low, high], both of them parameters."""

    low: Tensor
    high: Tensor

    def __init__(self, *parameters: Tensor | float, validate_args: bool | None = None):
        super().__init__(*parameters, validate_args=validate_args)
        if self._validate_args and not (self.low < self.high).all():
            raise ValueError(f"{type(self).__name__} expects low < high, got {self.low} and {self.high}")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        """[low, high]."""
        return constraints.interval(self.low, self.high)


class Reciprocal(_Bounded):
    """z = a (b/a)^ε; p(x) = 1 / (x log(b/a)), 0 < a = low ≤ x ≤ high = b: uniform in log x.

    >>> round(Reciprocal(1.0, 4.0).icdf(torch.tensor(0.5)).item(), 4)  # √(ab)
    2.0
    """

    arg_constraints: ClassVar = {"low": constraints.positive, "high": constraints.positive}

    def __init__(self, low: Tensor | float, high: Tensor | float, validate_args: bool | None = None):
        super().__init__(low, high, validate_args=validate_args)

    def icdf(self, value: Tensor) -> Tensor:
        upper = value > 0.5  # from the nearer end: (b/a)^ε may pass the largest float
        x = torch.where(upper, self.high, self.low) * ((value - upper.to(value.dtype)) * self._width).exp()
        return x.clamp(self.low, self.high)  # rounding may leave the support

    def _log_density(self, x: Tensor) -> Tensor:
        return -x.log() - self._width.log()

    @property
    def _width(self) -> Tensor:
        """log(b/a): where the two are near one another their quotient rounds, and where they are far apart it overflows."""
        near = self.high < 2 * self.low
        step = torch.where(near, (self.high - self.low) / torch.where(near, self.low, 1.0), 0.0)
        return torch.where(near, step.log1p(), self.high.log() - self.low.log())


class Gompertz(InverseCDF):
    """z = log(1 − log(1 − ε)/η) / b; p(x) = ηb exp(bx − η(e^(bx) − 1)), x ≥ 0, η the shape, b the rate.

    >>> round(Gompertz(1.0, 2.0).icdf(torch.tensor(0.5)).item(), 4)  # log(1 + log 2) / b
    0.2633
    """

    arg_constraints: ClassVar = {"shape": constraints.positive, "rate": constraints.positive}
    support: ClassVar = constraints.nonnegative
    shape: Tensor
    rate: Tensor

    def __init__(self, shape: Tensor | float, rate: Tensor | float, validate_args: bool | None = None):
        super().__init__(shape, rate, validate_args=validate_args)

    def icdf(self, value: Tensor) -> Tensor:
        return torch.log1p(-torch.log1p(-value) / self.shape) / self.rate

    def _log_density(self, x: Tensor) -> Tensor:
        power = self.rate * x
        return self.shape.log() + self.rate.log() + power - self.shape * torch.expm1(power)


class Triangular(_Bounded):
    """z = a + (b − a) ε, ε triangular on [0, 1] with its mode at m = (c − a)/(b − a); a ≤ c ≤ b are low, peak, high.

    ε = √(m u) for u < m, else 1 − √((1 − m)(1 − u)); p(x) = 2(x−a)/((b−a)(c−a)) up to the mode c, 2(b−x)/((b−a)(b−c))
    after it.

    >>> Triangular(0.0, 0.5, 1.0).icdf(torch.tensor(0.5)).item()
    0.5
    """

    arg_constraints: ClassVar = {"low": constraints.real, "peak": constraints.real, "high": constraints.real}
    peak: Tensor

    def __init__(self, low: Tensor | float, peak: Tensor | float, high: Tensor | float, validate_args: bool | None = None):
        super().__init__(low, peak, high, validate_args=validate_args)
        if self._validate_args and not ((self.peak >= self.low) & (self.peak <= self.high)).all():
            raise ValueError(f"Triangular expects a peak from low to high, got {self.peak} in [{self.low}, {self.high}]")

    @property
    def mode(self) -> Tensor:
        """The peak of the density."""
        return self.peak

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws strictly between the ends, where the density is above 0."""
        x = super().rsample(sample_shape)
        return x.clamp(torch.nextafter(self.low, self.high).detach(), torch.nextafter(self.high, self.low).detach())

    def icdf(self, value: Tensor) -> Tensor:
        m = (self.peak - self.low) / (self.high - self.low)
        rising = value < m
        # √0 has an infinite slope: the branch not taken is given 1 to work on, so that its gradient is 0 and not NaN
        up = torch.sqrt(torch.where(rising, m * value, 1.0))
        down = 1 - torch.sqrt(torch.where(rising, 1.0, (1 - m) * (1 - value)))
        return self.low + (self.high - self.low) * torch.where(rising, up, down)

    def _log_density(self, x: Tensor) -> Tensor:
        rising = x < self.peak
        run = torch.where(rising, x - self.low, self.high - x)
        length = torch.where(rising, self.peak - self.low, self.high - self.peak)
        # a peak at an end: run = length = 0 there, and the density is 2/(b − a)
        ratio = torch.where(length > 0, run / torch.where(length > 0, length, 1.0), 1.0)
        return math.log(2) + ratio.log() - torch.log(self.high - self.low)
