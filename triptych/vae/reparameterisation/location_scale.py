"""Location-scale: ε from the standard law of the family, z = location + scale · ε (AEVB, section 2.4, approach 2).

Shapes: scalar laws broadcast their parameters to the batch shape; `Elliptical` has events of (D,). Densities are in
nats. Student-t's standard law has a parameter of its own, ν; its gradient comes from the Gamma inside it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from triptych.errors import TriptychError
from triptych.vae.reparameterisation.base import InverseCDF, Parameter, Sampler, finite_exp
from triptych.vae.reparameterisation.standard_gamma import log_standard_gamma


@dataclass(frozen=True, eq=False)
class Gaussian(Sampler):
    """z = μ + σ ε, ε ~ N(0, 1); p(x) = e^(−((x−μ)/σ)²/2) / (σ√2π).

    >>> round(Gaussian(0.0, 1.0).log_prob(torch.tensor(0.0)).item(), 4)
    -0.9189
    """

    mu: Parameter = 0.0
    sigma: Parameter = 1.0
    _positive: ClassVar = ("sigma",)

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        return self.mu + self.sigma * self._normal((*shape, *self.batch_shape), generator)

    def icdf(self, u: Tensor) -> Tensor:
        """μ + σ Φ⁻¹(u) for u in (0, 1)."""
        return self.mu + self.sigma * torch.special.ndtri(u)

    def _log_density(self, x: Tensor) -> Tensor:
        return -((x - self.mu) / self.sigma).square() / 2 - self.sigma.log() - math.log(2 * math.pi) / 2


@dataclass(frozen=True, eq=False)
class Laplace(InverseCDF):
    """z = μ + b ε, ε standard Laplace, drawn as −sign(u − ½) log(1 − 2|u − ½|); p(x) = e^(−|x−μ|/b) / 2b.

    >>> round(Laplace(0.0, 1.0).icdf(torch.tensor(0.75)).item(), 4)
    0.6931
    """

    mu: Parameter = 0.0
    b: Parameter = 1.0
    _positive: ClassVar = ("b",)

    def icdf(self, u: Tensor) -> Tensor:
        epsilon = -torch.sign(u - 0.5) * torch.log(2 * torch.minimum(u, 1 - u))
        return self.mu + self.b * epsilon

    def _log_density(self, x: Tensor) -> Tensor:
        return -(x - self.mu).abs() / self.b - torch.log(2 * self.b)


@dataclass(frozen=True, eq=False)
class Uniform(InverseCDF):
    """z = a + (b − a) ε, ε ~ U(0, 1); p(x) = 1/(b − a), a <= x <= b.

    The score-function estimator is biased here: the support moves with the parameters. Use pathwise gradients.

    >>> Uniform(1.0, 3.0).icdf(torch.tensor(0.25)).item()
    1.5
    """

    a: Parameter = 0.0
    b: Parameter = 1.0

    def _check(self) -> None:
        super()._check()
        self._ordered("a", "b")

    def icdf(self, u: Tensor) -> Tensor:
        return self.a + (self.b - self.a) * u

    def _log_density(self, x: Tensor) -> Tensor:
        return -torch.log(self.b - self.a) + 0 * x

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= self.a) & (x <= self.b)


@dataclass(frozen=True, eq=False)
class Triangular(InverseCDF):
    """z = a + (b − a) ε, ε triangular on [0, 1] with its mode at m = (c − a)/(b − a).

    ε = √(m u) for u < m, else 1 − √((1 − m)(1 − u)); p(x) = 2(x−a)/((b−a)(c−a)) up to the mode c, 2(b−x)/((b−a)(b−c))
    after it; a <= c <= b.

    >>> Triangular(0.0, 0.5, 1.0).icdf(torch.tensor(0.5)).item()
    0.5
    """

    a: Parameter
    c: Parameter
    b: Parameter

    def _check(self) -> None:
        super()._check()
        self._ordered("a", "b")
        within = (self.c >= self.a) & (self.c <= self.b)
        self._require("c", self.c, within, "a mode within [a, b]", "move c between a and b")

    def icdf(self, u: Tensor) -> Tensor:
        m = (self.c - self.a) / (self.b - self.a)
        rising = u < m
        # √0 has an infinite slope: the branch not taken is given 1 to work on, so that its gradient is 0 and not NaN.
        up = torch.sqrt(torch.where(rising, m * u, 1.0))
        down = 1 - torch.sqrt(torch.where(rising, 1.0, (1 - m) * (1 - u)))
        return self.a + (self.b - self.a) * torch.where(rising, up, down)

    def _log_density(self, x: Tensor) -> Tensor:
        rising = x < self.c
        run = torch.where(rising, x - self.a, self.b - x)
        length = torch.where(rising, self.c - self.a, self.b - self.c)
        # At c = b (or a) the mode is the end: run = length = 0 there, and the density is 2/(b − a).
        ratio = torch.where(length > 0, run / torch.where(length > 0, length, 1.0), 1.0)
        return math.log(2) + ratio.log() - torch.log(self.b - self.a)

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= self.a) & (x <= self.b)

    def _interior(self) -> Tensor:
        return self.c.detach()


@dataclass(frozen=True, eq=False)
class StudentT(Sampler):
    """z = μ + σ ε, ε = n √(ν/χ²_ν), n ~ N(0, 1): Student's t with ν > 0 degrees of freedom, differentiable in ν.

    >>> round(StudentT(1.0).log_prob(torch.tensor(0.0)).item(), 4)  # ν = 1 is Cauchy: −log π
    -1.1447
    """

    nu: Parameter
    mu: Parameter = 0.0
    sigma: Parameter = 1.0
    _positive: ClassVar = ("nu", "sigma")

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        full = (*shape, *self.batch_shape)
        stretch = _student_stretch(self.nu.expand(full), generator)
        return self.mu + self.sigma * self._normal(full, generator) * stretch

    def _log_density(self, x: Tensor) -> Tensor:
        squared = ((x - self.mu) / self.sigma).square()
        return _log_student(squared, self.nu, 1) - self.sigma.log()


def _student_stretch(nu: Tensor, generator: torch.Generator | None) -> Tensor:
    """√(ν/χ²_ν): what turns a Gaussian into a Student-t. The shape of ν."""
    log_half_chi2 = log_standard_gamma(nu / 2, generator=generator)
    return finite_exp((torch.log(nu / 2) - log_half_chi2) / 2, nu.dtype)


def _log_student(squared: Tensor, nu: Tensor, dim: int) -> Tensor:
    """log density of the standard D-dimensional Student-t at squared radius r²."""
    constant = torch.lgamma((nu + dim) / 2) - torch.lgamma(nu / 2) - dim / 2 * torch.log(nu * math.pi)
    return constant - (nu + dim) / 2 * torch.log1p(squared / nu)


class Radius(ABC):
    """The law of the length r = ‖ε‖ of a spherically symmetric ε in D dimensions."""

    @abstractmethod
    def sample(self, like: Tensor, dim: int, generator: torch.Generator | None) -> Tensor:
        """r > 0, with the shape, dtype and device of `like`."""

    @abstractmethod
    def log_generator(self, squared: Tensor, dim: int) -> Tensor:
        """log p(ε) in nats as a function of r² = ‖ε‖²."""


@dataclass(frozen=True, eq=False)
class GaussianRadius(Radius):
    """r ~ χ_D: ε ~ N(0, I).

    >>> round(GaussianRadius().log_generator(torch.tensor(0.0), 2).item(), 4)  # −log 2π
    -1.8379
    """

    def sample(self, like: Tensor, dim: int, generator: torch.Generator | None) -> Tensor:
        log_half_chi2 = log_standard_gamma(torch.full_like(like, dim / 2), generator=generator)
        return finite_exp((log_half_chi2 + math.log(2)) / 2, like.dtype)

    def log_generator(self, squared: Tensor, dim: int) -> Tensor:
        return -squared / 2 - dim / 2 * math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class StudentRadius(Radius):
    """r = χ_D √(ν/χ²_ν): ε is the multivariate Student-t, whose coordinates are dependent. ν: number or (*B).

    Errors: `TriptychError` for ν <= 0.

    >>> StudentRadius(4.0).sample(torch.zeros(3), 2, None).shape
    torch.Size([3])
    """

    nu: Parameter

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.nu) > 0).all()):
            raise TriptychError(f"StudentRadius: expected nu above 0, got {self.nu}; map it there, as softplus does")

    def sample(self, like: Tensor, dim: int, generator: torch.Generator | None) -> Tensor:
        nu = torch.as_tensor(self.nu, dtype=like.dtype, device=like.device).expand(like.shape)
        return GaussianRadius().sample(like, dim, generator) * _student_stretch(nu, generator)

    def log_generator(self, squared: Tensor, dim: int) -> Tensor:
        return _log_student(squared, torch.as_tensor(self.nu, dtype=squared.dtype, device=squared.device), dim)


@dataclass(frozen=True, eq=False)
class Elliptical(Sampler):
    """z = μ + L (r s): s uniform on the unit sphere, r from `radius`; p(x) = g(‖L⁻¹(x − μ)‖²) / |det L|.

    mu: (*B, D). L: (*B, D, D), lower triangular with a positive diagonal; what is above the diagonal is not read. The
    scatter matrix is L Lᵀ: the covariance for `GaussianRadius`, and (ν − 2)/ν of it for `StudentRadius(nu)`.

    >>> Elliptical(torch.zeros(2), torch.eye(2), StudentRadius(3.0)).sample((4,)).shape
    torch.Size([4, 2])
    """

    mu: Parameter
    L: Parameter
    radius: Radius

    def _check(self) -> None:
        super()._check()
        if self.mu.ndim < 1 or self.L.ndim < 2 or self.L.shape[-2:] != (self.mu.shape[-1],) * 2:
            raise TriptychError(
                f"Elliptical: expected mu (*B, D) and L (*B, D, D), got {tuple(self.mu.shape)} and "
                f"{tuple(self.L.shape)}; reshape L to one D × D matrix for each mu"
            )
        diagonal = self.L.diagonal(dim1=-2, dim2=-1)
        self._require("L", diagonal, diagonal > 0, "values above 0 on the diagonal")

    @property
    def batch_shape(self) -> torch.Size:
        """μ's and L's leading dimensions, broadcast."""
        return torch.broadcast_shapes(self.mu.shape[:-1], self.L.shape[:-2], self._radius_shape())

    def _radius_shape(self) -> torch.Size:
        return torch.as_tensor(getattr(self.radius, "nu", 0.0)).shape

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        dim = self.mu.shape[-1]
        n = self._normal((*shape, *self.batch_shape, dim), generator)
        s = n / torch.linalg.vector_norm(n, dim=-1, keepdim=True)
        r = self.radius.sample(n[..., 0], dim, generator)
        return self.mu + (self.L.tril() @ (r[..., None] * s)[..., None])[..., 0]

    def _log_density(self, x: Tensor) -> Tensor:
        epsilon = torch.linalg.solve_triangular(self.L.tril(), (x - self.mu)[..., None], upper=False)[..., 0]
        log_det = self.L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return self.radius.log_generator(epsilon.square().sum(-1), self.mu.shape[-1]) - log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: (*shape, *B, D) -> (*shape, *B)."""
        return self._log_density(x)
