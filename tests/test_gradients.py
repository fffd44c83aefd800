"""Both estimators of ∇φ E_q[f(z)] against known answers, and the order of their variances."""

import doctest
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Gamma, Normal

from triptych.distributions import gradients
from triptych.distributions.gradients import Gradient, pathwise, score_function, variance_of_gradients
from triptych.errors import TriptychError
from triptych.randomness import seeded

MU, LOG_SIGMA = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([0.1, -0.4], dtype=torch.float64)
PHI = (MU, LOG_SIGMA)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, and lose a lot to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def q(mu: Tensor, log_sigma: Tensor) -> Distribution:
    return Normal(mu, log_sigma.exp())


def f(z: Tensor) -> Tensor:
    """Σᵢ (zᵢ − 1)², whose expectation Σ (μ − 1)² + σ² has the gradient 2(μ − 1), 2σ²."""
    return (z - 1).square().sum(-1)


KNOWN: Gradient = (2 * (MU - 1), 2 * (2 * LOG_SIGMA).exp())


def estimator(kind: str, n: int):  # type: ignore[no-untyped-def]
    if kind == "pathwise":
        return lambda: pathwise(q, PHI, f, n=n)
    return lambda: score_function(q, PHI, f, n=n, baseline=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["pathwise", "none", "leave-one-out"])
@pytest.mark.parametrize("n", [2, 7])
def test_estimators_are_unbiased(kind: str, n: int) -> None:
    repetitions = 1000
    with seeded(n):
        moments = variance_of_gradients(estimator(kind, n), repetitions=repetitions)
    for mean, variance, known in zip(moments.mean, moments.variance, KNOWN, strict=True):
        assert ((mean - known).abs() < 4 * (variance / repetitions).sqrt()).all()


def test_pathwise_has_the_least_variance_and_a_baseline_helps() -> None:
    kinds = ("pathwise", "leave-one-out", "none")
    with seeded(0):
        traces = [variance_of_gradients(estimator(k, 5), repetitions=400).trace for k in kinds]
    assert traces == sorted(traces)
    assert traces[0] < traces[1] / 2


def test_variances_are_the_analytic_ones() -> None:
    # f = (z − 1)², D = 1, μ = 0, σ = 1, n = 1: the pathwise 2(z − 1) has variance 4; the score's (z − 1)² z has
    # E[z²(z − 1)⁴] − 4 = 15 + 6·3 + 1 − 4 = 30.
    phi = (torch.zeros((), dtype=torch.float64),)

    def square(z: Tensor) -> Tensor:
        return (z - 1).square()

    def standard(mu: Tensor) -> Distribution:
        return Normal(mu, 1.0)

    with seeded(0):
        by_path = variance_of_gradients(lambda: pathwise(standard, phi, square), repetitions=2000)
        by_score = variance_of_gradients(lambda: score_function(standard, phi, square), repetitions=2000)
    assert by_path.trace == pytest.approx(4, rel=0.1)
    assert by_score.trace == pytest.approx(30, rel=0.3)
    assert by_path.squared_norm == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("estimate", [pathwise, score_function])
def test_a_batch_is_summed_and_events_are_kept(estimate) -> None:  # type: ignore[no-untyped-def]
    """E[log x] summed over a batch of two Gammas and E[x·w] of a Dirichlet: distributions that are not Gaussian."""
    alpha = torch.tensor([0.7, 3.0], dtype=torch.float64)
    with seeded(3):
        (got,) = estimate(lambda a: Gamma(a, 1.0), (alpha,), torch.log, n=100_000)
    torch.testing.assert_close(got, torch.polygamma(1, alpha), rtol=0.05, atol=0.0)

    alpha, w = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    with seeded(4):
        (got,) = estimate(Dirichlet, (alpha,), lambda x: x @ w, n=100_000)
    total = alpha.sum()
    torch.testing.assert_close(got, (w * total - w @ alpha) / total**2, rtol=0.0, atol=0.03)


def test_an_examples_score_is_weighted_by_its_own_objective_only() -> None:
    """With b = (M,), an example whose f is 0 gets a gradient of exactly 0, whatever the others' f."""
    phi = (torch.zeros(2, 3), torch.zeros(2, 3))
    grad_mu, _ = score_function(q, phi, lambda z: z.square().sum(-1) * torch.tensor([0.0, 1.0]), n=4)
    assert not grad_mu[0].any()
    assert grad_mu[1].any()


def test_the_gradient_reaches_through_a_network_and_leaves_it_untouched() -> None:
    weight = torch.randn(3, 2, requires_grad=True)
    x = torch.randn(5, 3)
    (got,) = pathwise(lambda w: Normal(x @ w, 1.0), (weight,), lambda z: z.sum(-1))
    torch.testing.assert_close(got, x.sum(0)[:, None].expand(3, 2))
    assert weight.grad is None


def test_a_parameter_that_is_not_used_has_gradient_zero() -> None:
    phi = (torch.zeros(()), torch.ones(3))
    for estimate in (pathwise, score_function):
        assert not estimate(lambda mu, _: Normal(mu, 1.0), phi, torch.square)[1].any()


def test_moments_are_those_of_the_sample() -> None:
    draws = torch.randn(50, 4, dtype=torch.float64) + 3
    rows = iter(draws)
    moments = variance_of_gradients(lambda: (next(rows),), repetitions=50)
    torch.testing.assert_close(moments.mean[0], draws.mean(0))
    torch.testing.assert_close(moments.variance[0], draws.var(0))
    assert moments.squared_norm == pytest.approx(float(draws.mean(0).square().sum() - draws.var(0).sum() / 50))
    assert math.isclose(moments.trace, float(draws.var(0).sum()))


def test_mistakes_are_named() -> None:
    with pytest.raises(TriptychError, match="n should be a whole number from 2"):
        score_function(q, PHI, f, baseline="leave-one-out")
    with pytest.raises(TriptychError, match="n should be a whole number from 1"):
        pathwise(q, PHI, f, n=0)
    with pytest.raises(TriptychError, match="baseline should be one of none, leave-one-out, got 'mean'"):
        score_function(q, PHI, f, n=2, baseline="mean")  # type: ignore[arg-type]
    with pytest.raises(TriptychError, match="repetitions should be a whole number from 2"):
        variance_of_gradients(lambda: PHI, repetitions=1)


def test_the_examples_run() -> None:
    result = doctest.testmod(gradients)
    assert result.attempted > 0
    assert result.failed == 0
