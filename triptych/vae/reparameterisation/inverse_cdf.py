"""Inverse CDF: ε ~ U(0, 1), z = F⁻¹(ε; φ) (AEVB, section 2.4, approach 1).

Shapes: all parameters broadcast to the batch shape; u and x broadcast with them. Densities are in nats. Each law is
written with log1p(−u) and the like, so that the far tail, which is where float32 fails, keeps its digits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from triptych.vae.reparameterisation.base import InverseCDF, Parameter, PositiveSampler, finite_exp


@dataclass(frozen=True, eq=False)
class Exponential(InverseCDF, PositiveSampler):
    """z = −log(1 − ε) / λ; p(x) = λ e^(−λx), x >= 0.

    >>> Exponential(2.0).icdf(torch.tensor(0.5)).item()  # the median, log 2 / λ
    0.3465735912322998
    """

    rate: Parameter = 1.0
    _positive: ClassVar = ("rate",)

    def icdf(self, u: Tensor) -> Tensor:
        return -torch.log1p(-u) / self.rate

    def _log_density(self, x: Tensor) -> Tensor:
        return self.rate.log() - self.rate * x


@dataclass(frozen=True, eq=False)
class Cauchy(InverseCDF):
    """z = μ + γ tan(π(ε − ½)); p(x) = 1 / (πγ (1 + ((x − μ)/γ)²)). No moments: its mean does not exist.

    >>> Cauchy(1.0, 2.0).icdf(torch.tensor(0.75)).item()  # upper quartile, μ + γ
    3.0
    """

    mu: Parameter = 0.0
    gamma: Parameter = 1.0
    _positive: ClassVar = ("gamma",)

    def icdf(self, u: Tensor) -> Tensor:
        # tan near ±π/2 loses every digit of its argument in float32; 1/tan of the distance to the end keeps them.
        distance = torch.minimum(u, 1 - u)
        return self.mu + self.gamma * torch.sign(u - 0.5) / torch.tan(math.pi * distance)

    def _log_density(self, x: Tensor) -> Tensor:
        return -torch.log(math.pi * self.gamma) - torch.log1p(((x - self.mu) / self.gamma).square())


@dataclass(frozen=True, eq=False)
class Logistic(InverseCDF):
    """z = μ + s (log ε − log(1 − ε)); p(x) = σ(y) σ(−y) / s, y = (x − μ)/s, σ the sigmoid.

    The paper lists it twice: its quantile function is linear in μ and s, so as a location-scale law it is this one.

    >>> Logistic(1.0, 2.0).icdf(torch.tensor(0.5)).item()
    1.0
    """

    mu: Parameter = 0.0
    s: Parameter = 1.0
    _positive: ClassVar = ("s",)

    def icdf(self, u: Tensor) -> Tensor:
        return self.mu + self.s * torch.logit(u)

    def _log_density(self, x: Tensor) -> Tensor:
        y = (x - self.mu) / self.s
        return logsigmoid(y) + logsigmoid(-y) - self.s.log()


@dataclass(frozen=True, eq=False)
class Rayleigh(InverseCDF, PositiveSampler):
    """z = σ √(−2 log(1 − ε)); p(x) = x/σ² e^(−x²/2σ²), x >= 0: the length of a 2-D Gaussian.

    >>> round(Rayleigh(1.0).icdf(torch.tensor(0.5)).item(), 4)  # √(2 log 2)
    1.1774
    """

    sigma: Parameter = 1.0
    _positive: ClassVar = ("sigma",)

    def icdf(self, u: Tensor) -> Tensor:
        return self.sigma * torch.sqrt(-2 * torch.log1p(-u))

    def _log_density(self, x: Tensor) -> Tensor:
        return x.log() - 2 * self.sigma.log() - (x / self.sigma).square() / 2


@dataclass(frozen=True, eq=False)
class Pareto(InverseCDF):
    """z = x_m (1 − ε)^(−1/α); p(x) = α x_m^α / x^(α+1), x >= x_m.

    >>> Pareto(1.0, 3.0).icdf(torch.tensor(0.5)).item()  # x_m 2^(1/α)
    6.0
    """

    alpha: Parameter
    x_m: Parameter = 1.0
    _positive: ClassVar = ("alpha", "x_m")

    def icdf(self, u: Tensor) -> Tensor:
        return self.x_m * finite_exp(-torch.log1p(-u) / self.alpha, self.dtype)

    def _log_density(self, x: Tensor) -> Tensor:
        return self.alpha.log() + self.alpha * self.x_m.log() - (self.alpha + 1) * x.log()

    def _inside(self, x: Tensor) -> Tensor:
        return x >= self.x_m

    def _interior(self) -> Tensor:
        return self.x_m.detach()


@dataclass(frozen=True, eq=False)
class Weibull(InverseCDF, PositiveSampler):
    """z = λ (−log(1 − ε))^(1/k); p(x) = k/λ (x/λ)^(k−1) e^(−(x/λ)^k), x >= 0.

    >>> round(Weibull(1.0, 2.0).icdf(torch.tensor(0.5)).item(), 4)  # k = 1 is Exponential(1/λ)
    1.3863
    """

    k: Parameter
    scale: Parameter = 1.0
    _positive: ClassVar = ("k", "scale")

    def icdf(self, u: Tensor) -> Tensor:
        return self.scale * finite_exp(torch.log(-torch.log1p(-u)) / self.k, self.dtype)

    def _log_density(self, x: Tensor) -> Tensor:
        y = x / self.scale
        return self.k.log() - self.scale.log() + torch.xlogy(self.k - 1, y) - y**self.k


@dataclass(frozen=True, eq=False)
class Reciprocal(InverseCDF):
    """z = a (b/a)^ε; p(x) = 1 / (x log(b/a)), 0 < a <= x <= b: uniform in log x.

    >>> round(Reciprocal(1.0, 4.0).icdf(torch.tensor(0.5)).item(), 4)  # √(ab)
    2.0
    """

    a: Parameter
    b: Parameter
    _positive: ClassVar = ("a", "b")

    def _check(self) -> None:
        super()._check()
        self._ordered("a", "b")

    def icdf(self, u: Tensor) -> Tensor:
        return self.a * torch.exp(u * (self.b / self.a).log())

    def _log_density(self, x: Tensor) -> Tensor:
        return -x.log() - (self.b / self.a).log().log()

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= self.a) & (x <= self.b)

    def _interior(self) -> Tensor:
        return self.a.detach()


@dataclass(frozen=True, eq=False)
class Gompertz(InverseCDF, PositiveSampler):
    """z = log(1 − log(1 − ε)/η) / b; p(x) = ηb exp(bx − η(e^(bx) − 1)), x >= 0.

    >>> round(Gompertz(1.0, 2.0).icdf(torch.tensor(0.5)).item(), 4)  # log(1 + log 2) / b
    0.2633
    """

    eta: Parameter
    b: Parameter = 1.0
    _positive: ClassVar = ("eta", "b")

    def icdf(self, u: Tensor) -> Tensor:
        return torch.log1p(-torch.log1p(-u) / self.eta) / self.b

    def _log_density(self, x: Tensor) -> Tensor:
        return self.eta.log() + self.b.log() + self.b * x - self.eta * torch.expm1(self.b * x)


@dataclass(frozen=True, eq=False)
class Gumbel(InverseCDF):
    """z = μ − β log(−log ε); p(x) = e^(−y − e^(−y)) / β, y = (x − μ)/β: the largest of many.

    >>> round(Gumbel(0.0, 1.0).icdf(torch.tensor(0.5)).item(), 4)  # −log log 2
    0.3665
    """

    mu: Parameter = 0.0
    beta: Parameter = 1.0
    _positive: ClassVar = ("beta",)

    def icdf(self, u: Tensor) -> Tensor:
        return self.mu - self.beta * torch.log(-u.log())

    def _log_density(self, x: Tensor) -> Tensor:
        y = (x - self.mu) / self.beta
        return -y - torch.exp(-y) - self.beta.log()


@dataclass(frozen=True, eq=False)
class Erlang(PositiveSampler):
    """z = −Σᵢ₌₁ᵏ log εᵢ / λ; p(x) = λᵏ x^(k−1) e^(−λx) / (k−1)!, x >= 0, k = 1, 2, …

    k is a whole number and has no gradient; a real shape is `Gamma`'s. Time and memory grow with the largest k.

    >>> Erlang(3, 2.0).sample((5,)).shape
    torch.Size([5])
    """

    k: Parameter
    rate: Parameter = 1.0
    _positive: ClassVar = ("k", "rate")

    def _check(self) -> None:
        super()._check()
        self._require("k", self.k, self.k == self.k.round(), "whole numbers", "use Gamma for a real shape")
        object.__setattr__(self, "k", self.k.detach())

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        most = int(self.k.max())
        log_u = self._uniform((*shape, *self.batch_shape, most), generator).log()
        # k may differ over the batch: everyone draws the most, and sums the first k.
        counted = torch.arange(most, device=self.device) < self.k[..., None]
        return -torch.where(counted, log_u, 0.0).sum(-1) / self.rate

    def _log_density(self, x: Tensor) -> Tensor:
        return self.k * self.rate.log() + torch.xlogy(self.k - 1, x) - self.rate * x - torch.lgamma(self.k)
