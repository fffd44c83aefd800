"""Student's t of vectors: Gaussian directions, lengths with a heavy tail (AEVB, section 2.4, approach 2: elliptical)."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Chi2, Distribution, constraints


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
        stretch = torch.rsqrt(Chi2(self.df).rsample(sample_shape) / self.df)
        return self.loc + (self.scale_tril @ epsilon[..., None])[..., 0] * stretch[..., None]

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats: (*sample_shape, *B, D) -> (*sample_shape, *B)."""
        if self._validate_args:
            self._validate_sample(value)
        difference = (value - self.loc)[..., None]
        squared = torch.linalg.solve_triangular(self.scale_tril, difference, upper=False).square().sum((-2, -1))
        log_det, half = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1), (self.df + self.loc.shape[-1]) / 2
        constant = torch.lgamma(half) - torch.lgamma(self.df / 2) - self.loc.shape[-1] / 2 * torch.log(math.pi * self.df)
        return constant - log_det - half * torch.log1p(squared / self.df)
