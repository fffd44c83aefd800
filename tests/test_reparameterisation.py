"""One table of samplers against SciPy: the law, its log-density, its moments, and its pathwise gradients.

A sampler becomes tested by one line in CASES; `test_every_public_sampler_has_a_case` fails when the line is missing.
"""

import doctest
import importlib
import inspect
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from triptych.errors import TriptychError
from triptych.vae import reparameterisation
from triptych.vae.reparameterisation import (
    Beta,
    Cauchy,
    ChiSquared,
    Dirichlet,
    Elliptical,
    Erlang,
    Exponential,
    F,
    Gamma,
    Gaussian,
    GaussianRadius,
    Gompertz,
    Gumbel,
    InverseCDF,
    Laplace,
    Logistic,
    LogNormal,
    Pareto,
    Radius,
    Rayleigh,
    Reciprocal,
    Sampler,
    StudentRadius,
    StudentT,
    Triangular,
    Uniform,
    Weibull,
)
from triptych.vae.reparameterisation.base import finite_exp, open_uniform
from triptych.vae.reparameterisation.standard_gamma import dlogz_dalpha

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A sampler, its parameters, and the SciPy law that it should be (for vectors: of one projection of it)."""

    make: Callable[..., Sampler]
    parameters: Parameters
    scipy: Callable[..., Any]
    joint: Callable[..., Any] | None = None  # the law of the whole vector, for log_prob
    project: Callable[[Tensor], Tensor] = lambda x: x

    def sampler(self, dtype: torch.dtype = torch.float64) -> Sampler:
        return self.make(**{k: _tensor(v, dtype) for k, v in self.parameters.items()})


def _tensor(value: Any, dtype: torch.dtype = torch.float64) -> Any:
    return value if isinstance(value, int) else torch.tensor(value, dtype=dtype)


def generator(case_name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(case_name.encode()))


ALPHA = [0.4, 1.5, 3.0]
MU, L = [0.5, -1.0, 0.3], [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.5, 0.3, 1.4]]
W = np.array([1.0, -0.7, 0.4])


def _across(x: Tensor) -> Tensor:
    return x @ torch.tensor(W, dtype=x.dtype)


def _projected(mu: Any, L: Any) -> dict[str, float]:
    lower = np.tril(np.asarray(L))
    return {"loc": float(W @ np.asarray(mu)), "scale": float(np.linalg.norm(W @ lower))}


def _scatter(L: Any) -> np.ndarray:
    return np.tril(np.asarray(L)) @ np.tril(np.asarray(L)).T


def _gamma(alpha: Any, rate: Any) -> Any:
    return stats.gamma(alpha, scale=1 / rate)


CASES: dict[str, Case] = {
    "exponential": Case(Exponential, {"rate": 1.7}, lambda rate: stats.expon(scale=1 / rate)),
    "cauchy": Case(Cauchy, {"mu": 0.6, "gamma": 1.3}, lambda mu, gamma: stats.cauchy(mu, gamma)),
    "logistic": Case(Logistic, {"mu": -0.6, "s": 0.7}, lambda mu, s: stats.logistic(mu, s)),
    "rayleigh": Case(Rayleigh, {"sigma": 1.4}, lambda sigma: stats.rayleigh(scale=sigma)),
    "pareto": Case(Pareto, {"alpha": 6.5, "x_m": 0.8}, lambda alpha, x_m: stats.pareto(alpha, scale=x_m)),
    "pareto heavy": Case(Pareto, {"alpha": 0.7, "x_m": 0.8}, lambda alpha, x_m: stats.pareto(alpha, scale=x_m)),
    "weibull": Case(Weibull, {"k": 1.8, "scale": 0.9}, lambda k, scale: stats.weibull_min(k, scale=scale)),
    "weibull heavy": Case(Weibull, {"k": 0.6, "scale": 0.9}, lambda k, scale: stats.weibull_min(k, scale=scale)),
    "reciprocal": Case(Reciprocal, {"a": 0.5, "b": 3.0}, stats.loguniform),
    "gompertz": Case(Gompertz, {"eta": 0.4, "b": 1.6}, lambda eta, b: stats.gompertz(eta, scale=1 / b)),
    "gumbel": Case(Gumbel, {"mu": 0.4, "beta": 0.8}, lambda mu, beta: stats.gumbel_r(mu, beta)),
    "erlang": Case(Erlang, {"k": 3, "rate": 1.5}, lambda k, rate: stats.erlang(k, scale=1 / rate)),
    "laplace": Case(Laplace, {"mu": 0.5, "b": 0.8}, lambda mu, b: stats.laplace(mu, b)),
    "uniform": Case(Uniform, {"a": -0.5, "b": 1.5}, lambda a, b: stats.uniform(a, b - a)),
    "triangular": Case(
        Triangular,
        {"a": -0.5, "c": 0.2, "b": 1.5},
        lambda a, c, b: stats.triang((c - a) / (b - a), loc=a, scale=b - a),
    ),
    "gaussian": Case(Gaussian, {"mu": 0.7, "sigma": 1.2}, lambda mu, sigma: stats.norm(mu, sigma)),
    "student-t": Case(
        StudentT, {"nu": 5.5, "mu": 0.7, "sigma": 1.2}, lambda nu, mu, sigma: stats.t(nu, loc=mu, scale=sigma)
    ),
    "student-t heavy": Case(
        StudentT, {"nu": 0.8, "mu": 0.7, "sigma": 1.2}, lambda nu, mu, sigma: stats.t(nu, loc=mu, scale=sigma)
    ),
    "elliptical gaussian": Case(
        lambda mu, L: Elliptical(mu, L, GaussianRadius()),
        {"mu": MU, "L": L},
        lambda mu, L: stats.norm(**_projected(mu, L)),
        joint=lambda mu, L: stats.multivariate_normal(mu, _scatter(L)),
        project=_across,
    ),
    "elliptical student": Case(
        lambda mu, L, nu: Elliptical(mu, L, StudentRadius(nu)),
        {"mu": MU, "L": L, "nu": 5.5},
        lambda mu, L, nu: stats.t(nu, **_projected(mu, L)),
        joint=lambda mu, L, nu: stats.multivariate_t(mu, _scatter(L), df=nu),
        project=_across,
    ),
    "log-normal": Case(LogNormal, {"mu": 0.3, "sigma": 0.5}, lambda mu, sigma: stats.lognorm(sigma, scale=np.exp(mu))),
    "gamma, a sum": Case(Gamma, {"alpha": 4, "rate": 1.5}, _gamma),
    "gamma 0.05": Case(Gamma, {"alpha": 0.05, "rate": 1.5}, _gamma),
    "gamma 0.6": Case(Gamma, {"alpha": 0.6, "rate": 1.5}, _gamma),
    "gamma 2.5": Case(Gamma, {"alpha": 2.5, "rate": 1.5}, _gamma),
    "gamma 1000": Case(Gamma, {"alpha": 1000.0, "rate": 700.0}, _gamma),
    "chi-squared": Case(ChiSquared, {"nu": 3.3}, lambda nu: stats.chi2(nu)),
    "f": Case(F, {"d1": 5.5, "d2": 12.5}, lambda d1, d2: stats.f(d1, d2)),
    "f heavy": Case(F, {"d1": 1.5, "d2": 1.2}, lambda d1, d2: stats.f(d1, d2)),
    "beta": Case(Beta, {"alpha": 1.4, "beta": 2.6}, lambda alpha, beta: stats.beta(alpha, beta)),
    "beta of two ends": Case(Beta, {"alpha": 0.3, "beta": 0.2}, lambda alpha, beta: stats.beta(alpha, beta)),
    "dirichlet": Case(
        Dirichlet,
        {"alpha": ALPHA},
        lambda alpha: stats.beta(alpha[1], sum(alpha) - alpha[1]),
        joint=stats.dirichlet,
        project=lambda x: x[..., 1],
    ),
}
each = pytest.mark.parametrize("name", CASES)
each_scalar = pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.joint])
each_with_icdf = pytest.mark.parametrize("name", [name for name, c in CASES.items() if hasattr(c.sampler(), "icdf")])


def test_every_public_sampler_has_a_case() -> None:
    public = {getattr(reparameterisation, name) for name in reparameterisation.__all__}
    samplers = {c for c in public if issubclass(c, Sampler | Radius)} - {Sampler, InverseCDF, Radius}
    built = [case.sampler() for case in CASES.values()]
    tested = {type(s) for s in built} | {type(s.radius) for s in built if isinstance(s, Elliptical)}
    assert samplers == tested


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, and lose a lot to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@each
def test_the_law_is_scipys(name: str) -> None:
    case = CASES[name]
    x = case.project(case.sampler().sample((8000,), generator=generator(name))).numpy()
    assert stats.kstest(x, case.scipy(**case.parameters).cdf).pvalue > 1e-3


@each
def test_mean_and_variance_are_scipys(name: str) -> None:
    case = CASES[name]
    frozen = case.scipy(**case.parameters)
    mean, variance, excess = (float(m) for m in frozen.stats("mvk"))
    n = 40_000
    x = case.project(case.sampler().sample((n,), generator=generator(name))).numpy()
    if math.isfinite(variance):
        assert abs(x.mean() - mean) < 4 * math.sqrt(variance / n)
    if math.isfinite(excess):
        # var(s²) = σ⁴ (kurtosis − 1)/n; itself noisy for the heavier tails, hence 5 of them.
        assert abs(x.var(ddof=1) - variance) < 5 * variance * math.sqrt((excess + 2) / n)


@each
def test_log_prob_is_scipys(name: str) -> None:
    case = CASES[name]
    sampler = case.sampler()
    x = sampler.sample((500,), generator=generator(name))
    frozen = (case.joint or case.scipy)(**case.parameters)
    expected = frozen.logpdf(x.numpy().T if isinstance(sampler, Dirichlet) else x.numpy())
    np.testing.assert_allclose(sampler.log_prob(x).numpy(), expected, rtol=1e-9, atol=1e-9)


@each_scalar
def test_log_prob_is_minus_infinity_off_the_support_without_nan_gradients(name: str) -> None:
    case = CASES[name]
    parameters = {k: v if isinstance(v, int) else _tensor(v).requires_grad_() for k, v in case.parameters.items()}
    x = torch.tensor([-50.0, 50.0, 0.9], dtype=torch.float64, requires_grad=True)
    log_p = case.make(**parameters).log_prob(x)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(log_p.detach().numpy(), case.scipy(**case.parameters).logpdf(x.detach().numpy()))
    kept = torch.where(log_p.isfinite(), log_p, 0.0).sum()
    leaves = [x, *(p for p in parameters.values() if isinstance(p, Tensor))]
    assert all(g.isfinite().all() for g in torch.autograd.grad(kept, leaves))


@each_with_icdf
def test_icdf_is_scipys(name: str) -> None:
    case = CASES[name]
    u = torch.tensor([1e-9, 0.02, 0.3, 0.5, 0.8, 0.99, 1 - 1e-9], dtype=torch.float64)
    expected = case.scipy(**case.parameters).ppf(u.numpy())
    np.testing.assert_allclose(case.sampler().icdf(u).numpy(), expected, rtol=1e-7, atol=1e-12)


# --- gradients ------------------------------------------------------------------------------------------------------
# Both statistics see location, scale and shape: arctan is bounded, so its gradients have a variance under any tail;
# the logarithm sees the small draws of a Gamma of small shape, which arctan rounds off.
STATISTICS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Any], Any]]] = {
    "arctan": (torch.atan, np.arctan),
    "log": (torch.log, np.log),
}
POSITIVE = [name for name, case in CASES.items() if case.scipy(**case.parameters).support()[0] >= 0]
GRADIENTS = [(name, "arctan") for name in CASES] + [(name, "log") for name in POSITIVE]


@cache
def _logits() -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on 40 panels of [−30, 30], wide enough for 1e-13 in each tail of u."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    centres = np.arange(-29.25, 30, 1.5)
    return (centres[:, None] + 0.75 * nodes).ravel(), np.tile(0.75 * weights, len(centres))


def _expectation(frozen: Any, h: Callable[[Any], Any]) -> float:
    """E[h(x)] = ∫ h(F⁻¹(σ(y))) σ(y) σ(−y) dy: in logits of u both tails fade exponentially."""
    y, weights = _logits()
    below, above = special.expit(y), special.expit(-y)
    x = np.where(y > 0, frozen.isf(above), frozen.ppf(below))
    return float(np.sum(weights * h(x) * below * above))


def _moved(parameters: Parameters, key: str, index: tuple[int, ...], step: float) -> Parameters:
    value = np.array(parameters[key], dtype=float)
    value[index] += step
    return {**parameters, key: value if value.ndim else float(value)}


def _derivative(case: Case, key: str, index: tuple[int, ...], h: Callable[[Any], Any]) -> float:
    """∂E[h(x)]/∂φ by central differences of SciPy's quantile function."""
    step = 1e-4 * max(abs(float(np.array(case.parameters[key])[index])), 0.1)
    above, below = (_expectation(case.scipy(**_moved(case.parameters, key, index, s)), h) for s in (step, -step))
    return (above - below) / (2 * step)


def _gradients(case: Case, h: Callable[[Tensor], Tensor], n: int, rng: torch.Generator) -> dict[str, Tensor]:
    """One pathwise gradient for each of n draws: (n, *parameter) for each parameter."""
    leaves = {
        k: _tensor(v).expand(n, *np.shape(v)).clone().requires_grad_()
        for k, v in case.parameters.items()
        if not isinstance(v, int)
    }
    x = case.project(case.make(**{**case.parameters, **leaves}).sample(generator=rng))
    return dict(zip(leaves, torch.autograd.grad(h(x).sum(), list(leaves.values())), strict=True))


@pytest.mark.parametrize(("name", "statistic"), GRADIENTS)
def test_pathwise_gradient_is_the_derivative_of_the_expectation(name: str, statistic: str) -> None:
    case, (h, h_numpy) = CASES[name], STATISTICS[statistic]
    n = 20_000
    for key, g in _gradients(case, h, n, generator(name)).items():
        for index in np.ndindex(tuple(g.shape[1:])):
            here = g[(slice(None), *index)]
            if key == "L" and index[0] < index[1]:
                assert not here.any()  # above the diagonal: not read
                continue
            expected = _derivative(case, key, index, h_numpy)
            # 1e-6: what the quadrature and the differences leave.
            assert abs(here.mean() - expected) < 4 * here.std() / math.sqrt(n) + 1e-6, (key, index)


KNOWN: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, float]]] = {
    # d/dφ of a mean or of E[log x], from the textbooks and not from SciPy.
    "exponential": (lambda x: x, {"rate": -1 / 1.7**2}),
    "gumbel": (lambda x: x, {"mu": 1.0, "beta": 0.5772156649015329}),
    "triangular": (lambda x: x, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
    "reciprocal": (torch.log, {"a": 1.0, "b": 1 / 6}),  # E[log x] = log √(ab)
    "weibull": (torch.log, {"k": 0.5772156649015329 / 1.8**2, "scale": 1 / 0.9}),
    "gamma 0.6": (torch.log, {"alpha": float(special.polygamma(1, 0.6)), "rate": -1 / 1.5}),
    "gamma 1000": (lambda x: x, {"alpha": 1 / 700, "rate": -1000 / 700**2}),
    "chi-squared": (lambda x: x, {"nu": 1.0}),
    "beta": (lambda x: x, {"alpha": 2.6 / 16, "beta": -1.4 / 16}),  # β/(α + β)², −α/(α + β)²
}


@pytest.mark.parametrize("name", KNOWN)
def test_pathwise_gradient_is_the_textbooks(name: str) -> None:
    h, expected = KNOWN[name]
    for key, g in _gradients(CASES[name], h, 20_000, generator(name)).items():
        assert abs(g.mean() - expected[key]) < 4 * g.std() / math.sqrt(len(g)) + 1e-12, key


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 2.5, 30.0, 1000.0])
def test_gamma_gradient_is_that_of_the_inverse_of_the_incomplete_gamma(alpha: float) -> None:
    u = np.array([0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    d = 1e-3 * alpha

    def slope(d: float) -> Any:
        return (np.log(special.gammaincinv(alpha + d, u)) - np.log(special.gammaincinv(alpha - d, u))) / (2 * d)

    by_richardson = (4 * slope(d / 2) - slope(d)) / 3
    log_z = torch.tensor(special.gammaincinv(alpha, u)).log()
    got = dlogz_dalpha(torch.full_like(log_z, alpha), log_z)
    np.testing.assert_allclose(got.numpy(), by_richardson, rtol=1e-6)


def test_gamma_gradient_agrees_with_torchs_approximation() -> None:
    alpha = torch.logspace(-1, 3, 200, dtype=torch.float64)
    z = torch._standard_gamma(alpha, generator=generator("torch"))
    np.testing.assert_allclose(
        (z * dlogz_dalpha(alpha, z.log())).numpy(), torch._standard_gamma_grad(alpha, z).numpy(), rtol=2e-3
    )


def test_gamma_gradient_joins_its_closed_form() -> None:
    alpha = torch.tensor([1e-3, 0.05, 0.4], dtype=torch.float64)
    above, below = (dlogz_dalpha(alpha, torch.full_like(alpha, -40 + s)) for s in (1e-9, -1e-9))
    np.testing.assert_allclose(above.numpy(), below.numpy(), rtol=1e-8)


# --- the interface --------------------------------------------------------------------------------------------------
@each
def test_a_generator_makes_draws_repeatable(name: str) -> None:
    sampler = CASES[name].sampler()
    first, again = (sampler.sample((5,), generator=generator(name)) for _ in range(2))
    other = sampler.sample((5,), generator=generator(name + "!"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@each
def test_parameters_broadcast_and_give_the_dtype(name: str) -> None:
    case = CASES[name]
    dtype = torch.float32
    values = {k: _tensor(v, dtype) for k, v in case.parameters.items()}
    keys = [k for k, v in values.items() if isinstance(v, Tensor)]
    values[keys[0]] = values[keys[0]].expand(4, 1, *values[keys[0]].shape)
    values[keys[-1]] = values[keys[-1]].expand(*(() if len(keys) == 1 else (3,)), *values[keys[-1]].shape)
    batch = (4, 1) if len(keys) == 1 else (4, 3)
    sampler = case.make(**values)
    event = (3,) if case.joint else ()
    x = sampler.sample((2,), generator=generator(name))
    assert sampler.batch_shape == batch
    assert x.shape == (2, *batch, *event)
    assert x.dtype == dtype
    assert sampler.log_prob(x).shape == (2, *batch)


@each
def test_a_million_float32_draws_are_finite_and_possible(name: str) -> None:
    case = CASES[name]
    sampler = case.sampler(torch.float32)
    x = sampler.sample((1_000_000,), generator=generator(name))
    assert x.isfinite().all()
    assert sampler.log_prob(x).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_uniform_never_reaches_an_end(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = round(1 / torch.finfo(dtype).eps)
    monkeypatch.setattr(torch, "randint", lambda high, *_, **__: torch.tensor([0, high // 2, high - 1]))
    u = open_uniform((3,), dtype=dtype, device=torch.device("cpu"))
    assert u.dtype == dtype
    assert u[0] == 1 / (2 * levels) > 0
    assert u[2] < 1
    assert 1 - u[2] == u[0]


def test_finite_exp_stays_finite_and_positive() -> None:
    x = finite_exp(torch.tensor([-1e6, 1e6], dtype=torch.float64), torch.float32)
    assert x.dtype == torch.float32
    assert x[0] > 0
    assert (x * 2**15).isfinite().all()


def test_numbers_take_the_dtype_of_the_tensors_among_them() -> None:
    q = Gaussian(torch.zeros(3, dtype=torch.float64), 1)
    assert q.dtype == q.sigma.dtype == torch.float64
    assert Gaussian(0, 1).dtype == torch.get_default_dtype()


def test_erlang_takes_a_different_k_for_each_member_of_the_batch() -> None:
    k = torch.tensor([1.0, 4.0])
    x = Erlang(k, 1.0).sample((20_000,), generator=generator("k"))
    np.testing.assert_allclose(x.mean(0).numpy(), k.numpy(), rtol=0.05)


def test_triangular_with_its_mode_at_an_end_has_finite_gradients() -> None:
    for c in (0.0, 1.0):
        a, mode, b = (torch.tensor(v, requires_grad=True) for v in (0.0, c, 1.0))
        q = Triangular(a, mode, b)
        x = q.sample((1000,), generator=generator("end"))
        assert all(g.isfinite() for g in torch.autograd.grad(x.sum(), (a, mode, b)))
        assert q.log_prob(torch.tensor(c)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Gaussian(0.0, -1.0), "Gaussian: expected values above 0 for sigma, got -1; "),
        (lambda: Gaussian(math.nan, 1.0), "Gaussian: expected finite values for mu, got nan; "),
        (lambda: Cauchy(0.0, torch.tensor([1.0, 0.0])), "Cauchy: expected values above 0 for gamma, got 0; "),
        (lambda: Erlang(2.5), "Erlang: expected whole numbers for k, got 2.5; use Gamma"),
        (lambda: Erlang(0), "Erlang: expected values above 0 for k, got 0; "),
        (lambda: Gamma(-3), "Gamma: expected values above 0 for alpha, got -3; "),
        (lambda: Uniform(1.0, 0.0), "Uniform: expected values above a for b, got 0; swap"),
        (lambda: Reciprocal(2.0, 1.0), "Reciprocal: expected values above a for b, got 1; swap"),
        (lambda: Triangular(0.0, 2.0, 1.0), "Triangular: expected a mode within .a, b. for c, got 2; move"),
        (lambda: StudentRadius(0.0), "StudentRadius: expected nu above 0, got 0.0; "),
        (lambda: Dirichlet(1.0), "Dirichlet: expected alpha .* got .*; use Beta"),
        (lambda: Gaussian([0.0], 1.0), "Gaussian: expected a number or a tensor for mu, got list; "),
        (lambda: Elliptical(torch.zeros(3), torch.eye(2), GaussianRadius()), "Elliptical: expected mu .*; reshape L"),
        (lambda: Elliptical(torch.zeros(2), -torch.eye(2), GaussianRadius()), "above 0 on the diagonal for L, got -1"),
    ],
)
def test_a_bad_parameter_is_named_in_one_line(make: Callable[[], Sampler], expected: str) -> None:
    with pytest.raises(TriptychError, match=expected) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", ["base", "standard_gamma", "inverse_cdf", "location_scale", "composition", ""])
def test_the_examples_run(module: str) -> None:
    found = importlib.import_module(f"{reparameterisation.__name__}.{module}".rstrip("."))
    result = doctest.testmod(found)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_law_carries_an_example() -> None:
    laws = [getattr(reparameterisation, name) for name in reparameterisation.__all__]
    bare = [law.__name__ for law in laws if not inspect.isabstract(law) and ">>>" not in (law.__doc__ or "")]
    assert not bare
