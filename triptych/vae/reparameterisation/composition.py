"""Composition: transforms of variables that have a reparameterisation themselves (AEVB, section 2.4, approach 3).

Shapes: scalar laws broadcast their parameters to the batch shape; `Dirichlet` has events of (K,). Densities are in
nats. Ratios of Gammas are taken as differences of logarithms, so small shapes neither underflow nor divide by zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from triptych.errors import TriptychError
from triptych.vae.reparameterisation.base import Parameter, PositiveSampler, Sampler, finite_exp
from triptych.vae.reparameterisation.inverse_cdf import Erlang
from triptych.vae.reparameterisation.location_scale import Gaussian
from triptych.vae.reparameterisation.standard_gamma import log_standard_gamma

_MOST_EXPONENTIALS = 16  # from about here one Marsaglia–Tsang draw is cheaper than so many logarithms


@dataclass(frozen=True, eq=False)
class LogNormal(PositiveSampler):
    """z = e^y, y ~ N(μ, σ²); log p(x) = log N(log x; μ, σ²) − log x, x > 0.

    >>> LogNormal(0.0, 1.0).icdf(torch.tensor(0.5)).item()  # the median, e^μ
    1.0
    """

    mu: Parameter = 0.0
    sigma: Parameter = 1.0
    _positive: ClassVar = ("sigma",)

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        return finite_exp(Gaussian(self.mu, self.sigma).sample(shape, generator=generator), self.dtype)

    def icdf(self, u: Tensor) -> Tensor:
        """exp(μ + σ Φ⁻¹(u)) for u in (0, 1)."""
        return finite_exp(Gaussian(self.mu, self.sigma).icdf(u), self.dtype)

    def _log_density(self, x: Tensor) -> Tensor:
        return Gaussian(self.mu, self.sigma).log_prob(x.log()) - x.log()

    def _inside(self, x: Tensor) -> Tensor:
        return x > 0


@dataclass(frozen=True, eq=False)
class Gamma(PositiveSampler):
    """z = g/λ, g ~ Gamma(α, 1); p(x) = λ^α x^(α−1) e^(−λx) / Γ(α), x >= 0.

    The type of α chooses how: an `int` up to 16 is the paper's sum of α exponentials (no gradient for α, which is
    whole); a float or a tensor is drawn by Marsaglia & Tsang 2000 and differentiated implicitly (Figurnov et al. 2018).

    >>> alpha = torch.tensor(0.3, requires_grad=True)
    >>> Gamma(alpha, 2.0).sample((1000,)).mean().backward()
    >>> bool(alpha.grad > 0)  # E[z] = α/λ
    True
    """

    alpha: Parameter
    rate: Parameter = 1.0
    exponentials: int = field(init=False, repr=False, default=0)
    _positive: ClassVar = ("alpha", "rate")

    def __post_init__(self) -> None:
        whole = isinstance(self.alpha, int) and self.alpha <= _MOST_EXPONENTIALS
        object.__setattr__(self, "exponentials", self.alpha if whole else 0)
        super().__post_init__()

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        if self.exponentials:
            return Erlang(self.alpha, self.rate).sample(shape, generator=generator)
        log_g = log_standard_gamma(self.alpha.expand(*shape, *self.batch_shape), generator=generator)
        return finite_exp(log_g, self.dtype) / self.rate

    def _log_density(self, x: Tensor) -> Tensor:
        power = torch.xlogy(self.alpha - 1, x)
        return self.alpha * self.rate.log() + power - self.rate * x - torch.lgamma(self.alpha)


@dataclass(frozen=True, eq=False)
class ChiSquared(PositiveSampler):
    """z = 2g, g ~ Gamma(ν/2, 1): the sum of ν squared standard normals, for any real ν > 0.

    >>> round(ChiSquared(2.0).log_prob(torch.tensor(0.0)).item(), 4)  # ν = 2 is Exponential(½)
    -0.6931
    """

    nu: Parameter
    _positive: ClassVar = ("nu",)

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        return Gamma(self.nu / 2, 0.5).sample(shape, generator=generator)

    def _log_density(self, x: Tensor) -> Tensor:
        return Gamma(self.nu / 2, 0.5).log_prob(x)


@dataclass(frozen=True, eq=False)
class F(PositiveSampler):
    """z = (χ²_d₁/d₁) / (χ²_d₂/d₂): Fisher's F.

    p(x) = (d₁/d₂)^(d₁/2) x^(d₁/2 − 1) (1 + d₁x/d₂)^(−(d₁+d₂)/2) / B(d₁/2, d₂/2), x >= 0.

    >>> round(F(2.0, 2.0).log_prob(torch.tensor(1.0)).item(), 4)  # 1/(1 + x)²
    -1.3863
    """

    d1: Parameter
    d2: Parameter
    _positive: ClassVar = ("d1", "d2")

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        full = (*shape, *self.batch_shape)
        above = log_standard_gamma(self.d1.expand(full) / 2, generator=generator) - self.d1.log()
        below = log_standard_gamma(self.d2.expand(full) / 2, generator=generator) - self.d2.log()
        return finite_exp(above - below, self.dtype)

    def _log_density(self, x: Tensor) -> Tensor:
        a, b, ratio = self.d1 / 2, self.d2 / 2, self.d1 / self.d2
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return a * ratio.log() + torch.xlogy(a - 1, x) - (a + b) * torch.log1p(ratio * x) - log_beta


@dataclass(frozen=True, eq=False)
class Beta(Sampler):
    """z = g₁/(g₁ + g₂) = σ(log g₁ − log g₂), g₁ ~ Gamma(α, 1), g₂ ~ Gamma(β, 1).

    p(x) = x^(α−1) (1 − x)^(β−1) / B(α, β), 0 <= x <= 1. Draws stay inside (0, 1), so their log-density is finite.

    >>> round(Beta(1.0, 1.0).log_prob(torch.tensor(0.3)).item(), 4)
    0.0
    """

    alpha: Parameter
    beta: Parameter
    _positive: ClassVar = ("alpha", "beta")

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        full = (*shape, *self.batch_shape)
        log_g1 = log_standard_gamma(self.alpha.expand(full), generator=generator)
        log_g2 = log_standard_gamma(self.beta.expand(full), generator=generator)
        limits = torch.finfo(self.dtype)
        return torch.sigmoid(log_g1 - log_g2).to(self.dtype).clamp(limits.tiny, 1 - limits.eps / 2)

    def _log_density(self, x: Tensor) -> Tensor:
        log_beta = torch.lgamma(self.alpha) + torch.lgamma(self.beta) - torch.lgamma(self.alpha + self.beta)
        return torch.xlogy(self.alpha - 1, x) + torch.special.xlog1py(self.beta - 1, -x) - log_beta

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= 0) & (x <= 1)

    def _interior(self) -> Tensor:
        return torch.full((), 0.5, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, eq=False)
class Dirichlet(Sampler):
    """z = g/Σg, gₖ ~ Gamma(αₖ, 1), that is softmax(log g); p(x) = Γ(Σα)/ΠΓ(αₖ) Π xₖ^(αₖ−1) on the simplex.

    alpha: (*B, K), K >= 2. `log_prob` takes x on trust to sum to one, and is −∞ where an entry is negative.

    >>> Dirichlet(torch.ones(3)).sample((5,)).shape
    torch.Size([5, 3])
    """

    alpha: Parameter
    _positive: ClassVar = ("alpha",)

    def _check(self) -> None:
        super()._check()
        if self.alpha.ndim < 1 or self.alpha.shape[-1] < 2:
            got = tuple(self.alpha.shape)
            raise TriptychError(f"Dirichlet: expected alpha (*B, K) with K >= 2, got {got}; use Beta for one share")

    @property
    def batch_shape(self) -> torch.Size:
        """α's leading dimensions."""
        return self.alpha.shape[:-1]

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        log_g = log_standard_gamma(self.alpha.expand(*shape, *self.alpha.shape), generator=generator)
        return torch.softmax(log_g, -1).to(self.dtype).clamp_min(torch.finfo(self.dtype).tiny)

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= 0).all(-1)

    def _log_density(self, x: Tensor) -> Tensor:
        constant = torch.lgamma(self.alpha.sum(-1)) - torch.lgamma(self.alpha).sum(-1)
        return constant + torch.xlogy(self.alpha - 1, x).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: (*shape, *B, K) -> (*shape, *B)."""
        log_p = self._log_density(torch.where(x >= 0, x, 1.0))
        return torch.where(self._inside(x), log_p, -math.inf)
