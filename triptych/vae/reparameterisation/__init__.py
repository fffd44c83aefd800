"""The reparameterisations of Kingma & Welling 2013 (arXiv 1312.6114, section 2.4): z = g(ε, φ), differentiable in φ.

Three classes, one file each: `inverse_cdf`, `location_scale`, `composition`. Every law has
`sample(shape=(), *, generator=None)` and `log_prob(x)` in nats, and `icdf(u)` where that has a closed form.

>>> import torch
>>> alpha = torch.tensor([0.5, 2.0, 8.0], requires_grad=True)
>>> x = Dirichlet(alpha).sample((4,), generator=torch.Generator().manual_seed(0))
>>> x.shape, Dirichlet(alpha).log_prob(x).shape
(torch.Size([4, 3]), torch.Size([4]))
"""

from triptych.vae.reparameterisation.base import InverseCDF, Sampler
from triptych.vae.reparameterisation.composition import Beta, ChiSquared, Dirichlet, F, Gamma, LogNormal
from triptych.vae.reparameterisation.inverse_cdf import (
    Cauchy,
    Erlang,
    Exponential,
    Gompertz,
    Gumbel,
    Logistic,
    Pareto,
    Rayleigh,
    Reciprocal,
    Weibull,
)
from triptych.vae.reparameterisation.location_scale import (
    Elliptical,
    Gaussian,
    GaussianRadius,
    Laplace,
    Radius,
    StudentRadius,
    StudentT,
    Triangular,
    Uniform,
)

__all__ = [
    "Beta",
    "Cauchy",
    "ChiSquared",
    "Dirichlet",
    "Elliptical",
    "Erlang",
    "Exponential",
    "F",
    "Gamma",
    "Gaussian",
    "GaussianRadius",
    "Gompertz",
    "Gumbel",
    "InverseCDF",
    "Laplace",
    "LogNormal",
    "Logistic",
    "Pareto",
    "Radius",
    "Rayleigh",
    "Reciprocal",
    "Sampler",
    "StudentRadius",
    "StudentT",
    "Triangular",
    "Uniform",
    "Weibull",
]
