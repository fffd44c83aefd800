"""Reparameterised distributions that torch lacks: z = g(ε, φ), differentiable in φ (AEVB, arXiv 1312.6114, section 2.4).

Each is a `torch.distributions.Distribution` with `rsample` and `log_prob` (nats). Of the paper's list, by its approaches,

    inverse CDF      here: Logistic, Reciprocal, Gompertz. In torch: Exponential, Cauchy, Pareto, Weibull, Gumbel;
                     Rayleigh(σ) is Weibull(√2 σ, 2), Erlang(k, λ) is Gamma(k, λ)
    location-scale   here: Triangular, MultivariateStudentT. In torch: Normal, Laplace, StudentT, Uniform, MultivariateNormal
    composition      in torch: LogNormal, Gamma, Dirichlet, Beta, Chi2, FisherSnedecor

Torch's gradients by a Gamma's shape are approximations with a relative error below 10⁻³. `gradients` compares such pathwise
gradients with the score function's.

>>> import torch
>>> loc = torch.zeros(3, requires_grad=True)
>>> z = Logistic(loc, 0.5).rsample((2,))
>>> z.sum().backward()
>>> z.shape, loc.grad
(torch.Size([2, 3]), tensor([2., 2., 2.]))
"""

from triptych.distributions.inverse_cdf import Gompertz, InverseCDF, Logistic, Reciprocal, Triangular
from triptych.distributions.student import MultivariateStudentT

__all__ = ["Gompertz", "InverseCDF", "Logistic", "MultivariateStudentT", "Reciprocal", "Triangular"]
