"""Student's t of numbers and vectors: Gaussian directions, lengths with a heavy tail (AEVB, section 2.4, approach 2)."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, distributions
from torch.distributions import Distribution, constraints

from triptych.distributions.gammas import log_gamma
from triptych.distributions.precise import Precise, finite


class StudentT(Precise, distributions.StudentT):
    """z = μ + σ ε √(ν/χ²_ν), ε ~ N(0, 1): torch's, with draws from all of the tail, and their density.

    log p(x) = log Γ((ν + 1)/2) − log Γ(ν/2) − ½ log πν − log σ − (ν + 1)/2 log(1 + ((x − μ)/σ)²/ν), in nats.

    Args:
        df: ν > 0.
        loc, scale: μ, and σ > 0.

    >>> StudentT(torch.tensor(0.1)).log_prob(torch.tensor(1e30))
    tensor(-79.1617)
    """

    plain = distributions.StudentT

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample_shape, *batch_shape), differentiable in every parameter."""
        epsilon = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return finite(self.loc + self.scale * epsilon * _stretch(self.df.expand(epsilon.shape)), positive=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value.double() - self.loc.double()) / self.scale.double()
        return (_log_density(y[..., None], self.df.double()) - self.scale.double().log()).to(value.dtype)


class MultivariateStudentT(Distribution):
    """z = μ + L ε √(ν/χ²_ν), ε ~ N(0, I): ν degrees of freedom, scatter matrix L Lᵀ, dependent coordinates.

    log p(x) = log Γ((ν + D)/2) − log Γ(ν/2) − D/2 log πν − log |det L| − (ν + D)/2 log(1 + ‖L⁻¹(x − μ)‖²/ν), in nats.

    Args:
        df: ν > 0, (*B).
        loc: μ, (*B, D).
        scale_tril: L, (*B, D, D), lower triangular with a positive diagonal.

    Raises:
        ValueError: for a parameter outside its domain, unless `validate_args` is False.

    >>> MultivariateStudentT(3.0, torch.zeros(2), torch.eye(2)).rsample((4,)).shape
    torch.Size([4, 2])
    """

    arg_constraints: ClassVar = {
        "df": constraints.positive,
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
    }
    support: ClassVar = constraints.real_vector
    has_rsample = True

    def __init__(self, df: Tensor | float, loc: Tensor, scale_tril: Tensor, validate_args: bool | None = None):
        df = torch.as_tensor(df, dtype=loc.dtype, device=loc.device)
        batch = torch.broadcast_shapes(df.shape, loc.shape[:-1], scale_tril.shape[:-2])
        dim = loc.shape[-1]
        self.df, self.loc = df.expand(batch), loc.expand(*batch, dim)
        self.scale_tril = scale_tril.expand(*batch, dim, dim)
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Distribution:
        """The same distribution with its parameters expanded to `batch_shape`."""
        df, dim = self.df.expand(batch_shape), self.loc.shape[-1]
        loc, scale_tril = self.loc.expand(*batch_shape, dim), self.scale_tril.expand(*batch_shape, dim, dim)
        return type(self)(df, loc, scale_tril, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample_shape, *B, D), differentiable in every parameter."""
        epsilon = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        stretch = _stretch(self.df.expand(epsilon.shape[:-1]))
        return finite(self.loc + (self.scale_tril @ epsilon[..., None])[..., 0] * stretch[..., None], positive=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, computed in float64: (*sample_shape, *B, D) -> (*sample_shape, *B)."""
        if self._validate_args:
            self._validate_sample(value)
        difference, scale_tril = (value.double() - self.loc.double())[..., None], self.scale_tril.double()
        y = torch.linalg.solve_triangular(scale_tril, difference, upper=False)[..., 0]
        return (_log_density(y, self.df.double()) - scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)).to(value.dtype)


def _stretch(df: Tensor) -> Tensor:
    """√(ν/χ²_ν), of ν's shape, at most the largest float: for small ν many draws lie beyond.

    It is finite, and the last factor of a draw, so that the gradient of a draw beyond, 0, is not multiplied by ∞.
    """
    log_stretch = 0.5 * ((df / 2).log() - log_gamma(df / 2))
    largest = torch.finfo(df.dtype).max
    return log_stretch.clamp(max=math.log(largest)).exp().clamp(max=largest)  # the logarithm may have been rounded up


def _log_density(y: Tensor, df: Tensor) -> Tensor:
    """log p of the standard t of vectors y (…, D) float64, of ν degrees of freedom (…)."""
    dim = y.shape[-1]
    largest = y.detach().abs().amax(-1).clamp(min=1e-300)
    far = largest > _FAR  # where squares leave the range of floats
    near = torch.where(far[..., None], 0.0, y).square().sum(-1) / df
    scaled = torch.where(far[..., None], y / largest[..., None], 1.0).square().sum(-1)
    tail = torch.where(far, 2 * largest.log() + scaled.log() - df.log(), near.log1p())
    half = (df + dim) / 2
    return torch.lgamma(half) - torch.lgamma(df / 2) - dim / 2 * torch.log(math.pi * df) - half * tail


_FAR = 1e140
