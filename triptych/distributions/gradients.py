"""Two unbiased Monte-Carlo estimators of ∇φ E_q(z;φ)[f(z)], and their variance (AEVB, sections 2.2 and 2.4).

    pathwise         ∇φ f(g(ε, φ)),  ε ~ p(ε)            needs ∇z f and a reparameterised q
    score function   f(z) ∇φ log q(z; φ),  z ~ q          needs neither, at the cost of a high variance

Shapes: n draws; z is (n, *B, *E). f(z) is (n, *b), b the leading dimensions of B over which the objective is a plain
sum (a minibatch: b = (M,)); log q is summed over the trailing dimensions of B that f has summed over. φ is a tuple of
tensors, q maps them to a distribution, and an estimate has φ's shapes, in f's units per unit of φ. Draws come from torch's
random state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution

from triptych.errors import check_choice, check_size

Gradient: TypeAlias = tuple[Tensor, ...]
Family: TypeAlias = Callable[..., Distribution]
Objective: TypeAlias = Callable[[Tensor], Tensor]


def pathwise(q: Family, phi: Sequence[Tensor], f: Objective, *, n: int = 1) -> Gradient:
    """(1/n) Σₗ ∇φ f(g(εₗ, φ)): the reparameterisation estimator (AEVB, eq. 5 to 7).

    Args:
        q: φ -> a distribution with `rsample`; phi, its arguments.
        f: differentiable, (n, *B, *E) -> (n, *b).
        n: draws.

    >>> from torch.distributions import Normal
    >>> mu, sigma = torch.tensor(3.0), torch.tensor(0.1)
    >>> grad_mu, grad_sigma = pathwise(Normal, (mu, sigma), torch.square, n=1000)
    >>> abs(grad_mu.item() - 6.0) < 0.1  # d/dμ E[z²] = 2μ
    True
    """
    check_size("n", n, 2**31)
    leaves = _leaves(phi)
    z = q(*leaves).rsample((n,))
    return torch.autograd.grad(f(z).sum() / n, leaves, allow_unused=True, materialize_grads=True)


def score_function(
    q: Family,
    phi: Sequence[Tensor],
    f: Objective,
    *,
    n: int = 1,
    baseline: Literal["none", "leave-one-out"] = "none",
) -> Gradient:
    """(1/n) Σₗ (f(zₗ) − bₗ) ∇φ log q(zₗ; φ): the estimator of section 2.2, "which exhibits very high variance".

    Args:
        baseline: "none", b = 0; "leave-one-out", bₗ = the mean of f over the other draws, which is independent of zₗ and
            so leaves the estimate unbiased (Mnih & Rezende 2016, arXiv 1602.06725). Biased where q's support moves with φ.

    Raises:
        TriptychError: for a leave-one-out baseline with n < 2, or an unknown baseline.

    >>> from torch.distributions import Normal
    >>> mu, sigma = torch.tensor(3.0), torch.tensor(1.0)
    >>> grad_mu, _ = score_function(Normal, (mu, sigma), torch.square, n=100_000, baseline="leave-one-out")
    >>> abs(grad_mu.item() - 6.0) < 0.3
    True
    """
    check_choice("baseline", baseline, ("none", "leave-one-out"))
    check_size("n", n, 2**31, least=1 if baseline == "none" else 2)
    leaves = _leaves(phi)
    distribution = q(*leaves)
    with torch.no_grad():
        z = distribution.sample((n,))
        weight = f(z)
        if baseline == "leave-one-out":
            # f − (Σf − f)/(n − 1), written without the sum over the others
            weight = (weight - weight.mean(0)) * n / (n - 1)
    log_q = distribution.log_prob(z)
    log_q = log_q.flatten(weight.ndim).sum(-1) if log_q.ndim > weight.ndim else log_q
    return torch.autograd.grad((weight * log_q).sum() / n, leaves, allow_unused=True, materialize_grads=True)


def _leaves(phi: Sequence[Tensor]) -> Gradient:
    return tuple(p.detach().requires_grad_() for p in phi)


@dataclass(frozen=True)
class GradientMoments:
    """Mean and per-coordinate variance of a gradient estimator over R repetitions.

    >>> moments = variance_of_gradients(lambda: (torch.randn(3),), repetitions=100)
    >>> moments.repetitions, moments.variance[0].shape
    (100, torch.Size([3]))
    """

    mean: Gradient
    """The average estimate, φ's shapes, float64."""
    variance: Gradient
    """The variance of one estimate (divisor R − 1), φ's shapes, float64."""
    repetitions: int
    """R."""

    @property
    def trace(self) -> float:
        """The trace of the estimator's covariance: E‖g − E g‖²."""
        return sum(v.sum().item() for v in self.variance)

    @property
    def squared_norm(self) -> float:
        """‖E g‖², less trace/R, by which the squared norm of an average of R is too large on average."""
        return sum(m.square().sum().item() for m in self.mean) - self.trace / self.repetitions


def variance_of_gradients(estimate: Callable[[], Gradient], *, repetitions: int = 200) -> GradientMoments:
    """Mean and variance of `estimate()` over R >= 2 independent calls, by Welford's recurrence in float64.

    Raises:
        TriptychError: for R < 2.

    >>> moments = variance_of_gradients(lambda: (torch.ones(2),), repetitions=2)
    >>> moments.trace
    0.0
    """
    check_size("repetitions", repetitions, 2**31, least=2)
    mean: Gradient = tuple(g.double() for g in estimate())
    squares: Gradient = tuple(torch.zeros_like(m) for m in mean)
    for r in range(2, repetitions + 1):
        steps = tuple(g.double() - m for g, m in zip(estimate(), mean, strict=True))
        mean = tuple(m + d / r for m, d in zip(mean, steps, strict=True))
        squares = tuple(s + d.square() * (r - 1) / r for s, d in zip(squares, steps, strict=True))
    return GradientMoments(mean, tuple(s / (repetitions - 1) for s in squares), repetitions)
