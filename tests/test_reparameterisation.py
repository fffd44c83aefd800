"""One table of reparameterised distributions against SciPy: law, log-density, moments, and pathwise gradients.

Torch's own are in it, since `triptych.distributions` leaves to torch what passes these tests. A second table has parameters
from very small to very large, in float32. A distribution becomes tested
by one line in CASES; `test_every_public_distribution_has_a_case` fails when the line is missing.
"""

import doctest
import importlib
import inspect
import itertools
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
from torch import distributions as torchs
from torch.distributions import Distribution

from triptych import distributions
from triptych.distributions import Gompertz, InverseCDF, Logistic, MultivariateStudentT, Reciprocal, Triangular
from triptych.randomness import seeded

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A distribution, its parameters, and the SciPy law that it should be (for vectors: of one projection of it)."""

    make: Callable[..., Distribution]
    parameters: Parameters
    scipy: Callable[..., Any]
    joint: Callable[..., Any] | None = None  # the law of the whole vector, for log_prob
    project: Callable[[Tensor], Tensor] = lambda x: x

    def distribution(self, dtype: torch.dtype = torch.float64) -> Distribution:
        return self.make(**{k: _tensor(v, dtype) for k, v in self.parameters.items()})


def _tensor(value: Any, dtype: torch.dtype = torch.float64) -> Any:
    return torch.tensor(value, dtype=dtype)


def drawn(name: str, distribution: Distribution, *shape: int) -> Tensor:
    with seeded(zlib.crc32(name.encode())):
        return distribution.rsample(shape)


ALPHA = [0.4, 1.5, 3.0]
MU, L = [0.5, -1.0, 0.3], [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.5, 0.3, 1.4]]
W = np.array([1.0, -0.7, 0.4])


def _across(x: Tensor) -> Tensor:
    return x @ torch.tensor(W, dtype=x.dtype)


def _projected(mu: Any, L: Any) -> dict[str, float]:
    return {"loc": float(W @ np.asarray(mu)), "scale": float(np.linalg.norm(W @ np.asarray(L)))}


def _scatter(L: Any) -> np.ndarray:
    return np.asarray(L) @ np.asarray(L).T


def _rayleigh(sigma: Tensor) -> Distribution:
    return distributions.Weibull(math.sqrt(2) * sigma, torch.full_like(sigma, 2.0))


def _gamma(concentration: Any, rate: Any) -> Any:
    return stats.gamma(concentration, scale=1 / rate)


def _beta(concentration1: Any, concentration0: Any) -> Any:
    return stats.beta(concentration1, concentration0)


def _weibull(scale: Any, concentration: Any) -> Any:
    return stats.weibull_min(concentration, scale=scale)


CASES: dict[str, Case] = {
    "exponential": Case(torchs.Exponential, {"rate": 1.7}, lambda rate: stats.expon(scale=1 / rate)),
    "cauchy": Case(torchs.Cauchy, {"loc": 0.6, "scale": 1.3}, stats.cauchy),
    "logistic": Case(Logistic, {"loc": -0.6, "scale": 0.7}, stats.logistic),
    "rayleigh": Case(_rayleigh, {"sigma": 1.4}, lambda sigma: stats.rayleigh(scale=sigma)),
    "pareto": Case(
        distributions.Pareto, {"scale": 0.8, "alpha": 6.5}, lambda scale, alpha: stats.pareto(alpha, scale=scale)
    ),
    "pareto heavy": Case(
        distributions.Pareto, {"scale": 0.8, "alpha": 0.7}, lambda scale, alpha: stats.pareto(alpha, scale=scale)
    ),
    "weibull": Case(distributions.Weibull, {"scale": 0.9, "concentration": 1.8}, _weibull),
    "weibull heavy": Case(distributions.Weibull, {"scale": 0.9, "concentration": 0.6}, _weibull),
    "reciprocal": Case(Reciprocal, {"low": 0.5, "high": 3.0}, lambda low, high: stats.loguniform(low, high)),
    "gompertz": Case(Gompertz, {"shape": 0.4, "rate": 1.6}, lambda shape, rate: stats.gompertz(shape, scale=1 / rate)),
    "gumbel": Case(torchs.Gumbel, {"loc": 0.4, "scale": 0.8}, stats.gumbel_r),
    "laplace": Case(torchs.Laplace, {"loc": 0.5, "scale": 0.8}, stats.laplace),
    "uniform": Case(torchs.Uniform, {"low": -0.5, "high": 1.5}, lambda low, high: stats.uniform(low, high - low)),
    "triangular": Case(
        Triangular,
        {"low": -0.5, "peak": 0.2, "high": 1.5},
        lambda low, peak, high: stats.triang((peak - low) / (high - low), loc=low, scale=high - low),
    ),
    "normal": Case(torchs.Normal, {"loc": 0.7, "scale": 1.2}, stats.norm),
    "student-t": Case(distributions.StudentT, {"df": 5.5, "loc": 0.7, "scale": 1.2}, stats.t),
    "student-t heavy": Case(distributions.StudentT, {"df": 0.8, "loc": 0.7, "scale": 1.2}, stats.t),
    "elliptical gaussian": Case(
        lambda mu, L: torchs.MultivariateNormal(mu, scale_tril=L),
        {"mu": MU, "L": L},
        lambda mu, L: stats.norm(**_projected(mu, L)),
        joint=lambda mu, L: stats.multivariate_normal(mu, _scatter(L)),
        project=_across,
    ),
    "elliptical student": Case(
        lambda mu, L, df: MultivariateStudentT(df, mu, L),
        {"mu": MU, "L": L, "df": 5.5},
        lambda mu, L, df: stats.t(df, **_projected(mu, L)),
        joint=lambda mu, L, df: stats.multivariate_t(mu, _scatter(L), df=df),
        project=_across,
    ),
    "log-normal": Case(
        torchs.LogNormal, {"loc": 0.3, "scale": 0.5}, lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc))
    ),
    "erlang": Case(distributions.Gamma, {"concentration": 3.0, "rate": 1.5}, _gamma),
    "gamma 0.05": Case(distributions.Gamma, {"concentration": 0.05, "rate": 1.5}, _gamma),
    "gamma 0.6": Case(distributions.Gamma, {"concentration": 0.6, "rate": 1.5}, _gamma),
    "gamma 2.5": Case(distributions.Gamma, {"concentration": 2.5, "rate": 1.5}, _gamma),
    "gamma 1000": Case(distributions.Gamma, {"concentration": 1000.0, "rate": 700.0}, _gamma),
    "chi-squared": Case(distributions.Chi2, {"df": 3.3}, stats.chi2),
    "f": Case(distributions.FisherSnedecor, {"df1": 5.5, "df2": 12.5}, lambda df1, df2: stats.f(df1, df2)),
    "f heavy": Case(distributions.FisherSnedecor, {"df1": 1.5, "df2": 1.2}, lambda df1, df2: stats.f(df1, df2)),
    "beta": Case(distributions.Beta, {"concentration1": 1.4, "concentration0": 2.6}, _beta),
    "beta of two ends": Case(distributions.Beta, {"concentration1": 0.3, "concentration0": 0.2}, _beta),
    "dirichlet": Case(
        distributions.Dirichlet,
        {"concentration": ALPHA},
        lambda concentration: stats.beta(concentration[1], sum(concentration) - concentration[1]),
        joint=lambda concentration: stats.dirichlet(concentration),
        project=lambda x: x[..., 1],
    ),
}
each = pytest.mark.parametrize("name", CASES)
BOUNDED = [
    name for name, case in CASES.items() if not case.joint and np.isfinite(case.scipy(**case.parameters).support()).any()
]


def _has_icdf(distribution: Distribution) -> bool:
    try:
        distribution.icdf(torch.tensor(0.5, dtype=torch.float64))
    except NotImplementedError:
        return False
    return True


each_with_icdf = pytest.mark.parametrize("name", [name for name, case in CASES.items() if _has_icdf(case.distribution())])


def test_every_public_distribution_has_a_case() -> None:
    public = {getattr(distributions, name) for name in distributions.__all__} - {InverseCDF}
    assert public <= {type(case.distribution()) for case in CASES.values()}


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
    x = case.project(drawn(name, case.distribution(), 8000)).numpy()
    assert stats.kstest(x, case.scipy(**case.parameters).cdf).pvalue > 1e-3


@each
def test_mean_and_variance_are_scipys(name: str) -> None:
    case = CASES[name]
    frozen = case.scipy(**case.parameters)
    mean, variance, excess = (float(m) for m in frozen.stats("mvk"))
    n = 40_000
    x = case.project(drawn(name, case.distribution(), n)).numpy()
    if math.isfinite(variance):
        assert abs(x.mean() - mean) < 4 * math.sqrt(variance / n)
    if math.isfinite(excess):
        # var(s²) = σ⁴ (kurtosis − 1)/n; itself noisy for the heavier tails, hence 5 of them.
        assert abs(x.var(ddof=1) - variance) < 5 * variance * math.sqrt((excess + 2) / n)


@each
def test_log_prob_is_scipys(name: str) -> None:
    case = CASES[name]
    distribution = case.distribution()
    x = drawn(name, distribution, 500)
    frozen = (case.joint or case.scipy)(**case.parameters)
    expected = frozen.logpdf(x.numpy().T if isinstance(distribution, torchs.Dirichlet) else x.numpy())
    np.testing.assert_allclose(distribution.log_prob(x).numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BOUNDED)
def test_values_off_the_support_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="within the support"):
        CASES[name].distribution().log_prob(torch.tensor(-50.0, dtype=torch.float64))


@each_with_icdf
def test_icdf_is_scipys(name: str) -> None:
    case = CASES[name]
    u = torch.tensor([1e-9, 0.02, 0.3, 0.5, 0.8, 0.99, 1 - 1e-9], dtype=torch.float64)
    expected = case.scipy(**case.parameters).ppf(u.numpy())
    np.testing.assert_allclose(case.distribution().icdf(u).numpy(), expected, rtol=1e-6, atol=1e-12)


# --- float32, from very small parameters to very large ones ---------------------------------------------------------------
_MANY = (1e-2, 0.1, 1.0, 10.0, 1e3, 1e5, 1e6)


def _vector(df: float) -> Any:
    return stats.multivariate_t(np.zeros(2), np.eye(2), df=df)


WIDE: dict[str, tuple[Callable[..., Distribution], Callable[..., Any], tuple[tuple[float, ...], ...]]] = {
    "exponential": (torchs.Exponential, lambda rate: stats.expon(scale=1 / rate), (_MANY,)),
    "cauchy": (torchs.Cauchy, stats.cauchy, ((0.0, 1e3), _MANY)),
    "logistic": (Logistic, stats.logistic, ((0.0, 1e5), _MANY)),
    "pareto": (distributions.Pareto, lambda scale, alpha: stats.pareto(alpha, scale=scale), ((1e-3, 1e3), _MANY)),
    "weibull": (distributions.Weibull, _weibull, ((1e-3, 1e3), (0.1, 1.0, 10.0, 1e3))),
    "reciprocal": (Reciprocal, stats.loguniform, ((1e-30, 1e-3, 1.0), (1.00001, 2.0, 1e5, 1e30))),
    "gompertz": (Gompertz, lambda shape, rate: stats.gompertz(shape, scale=1 / rate), ((1e-8, 1e-3, 1.0, 1e6), _MANY)),
    "gumbel": (torchs.Gumbel, stats.gumbel_r, ((0.0, 1e3), _MANY)),
    "laplace": (torchs.Laplace, stats.laplace, ((0.0, 1e3), _MANY)),
    "triangular": (
        lambda low, width: Triangular(low, low + width / 4, low + width),
        lambda low, width: stats.triang(0.25, loc=low, scale=width),
        ((-1024.0, 0.0, 8192.0), (1.0, 1024.0)),  # sums of powers of two are floats
    ),
    "normal": (torchs.Normal, stats.norm, ((0.0, 1e3), _MANY)),
    "student-t": (distributions.StudentT, stats.t, ((0.03, 0.3, *_MANY, 1e8),)),
    "student-t of vectors": (lambda df: MultivariateStudentT(df, torch.zeros(2), torch.eye(2)), _vector, ((0.03, *_MANY),)),
    "gamma": (distributions.Gamma, _gamma, ((1e-3, 0.05, *_MANY), (1e-3, 1.0, 1e3))),
    "chi-squared": (distributions.Chi2, stats.chi2, (_MANY,)),
    "f": (distributions.FisherSnedecor, stats.f, (_MANY[1:], _MANY[1:])),
    "beta": (distributions.Beta, _beta, (_MANY, _MANY)),
}


@pytest.mark.parametrize("name", WIDE)
def test_float32_draws_are_scored_as_by_scipy_in_float64(name: str) -> None:
    make, law, grids = WIDE[name]
    for values in itertools.product(*grids):
        distribution = make(*(torch.tensor(v, dtype=torch.float32) for v in values))
        x = drawn(name, distribution, 300)
        found = distribution.log_prob(x)
        assert x.isfinite().all() and found.isfinite().all() and found.dtype == torch.float32, values
        expected = law(*(float(np.float32(v)) for v in values)).logpdf(x.double().numpy())
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4, err_msg=str(values))


@pytest.mark.parametrize("df", [0.1, 0.5])
def test_far_draws_of_a_student_t_have_its_law_in_float32(df: float) -> None:
    """In float32 χ² of few degrees of freedom underflows: draws would end at 10¹⁹, with a hundredth of them there."""
    x = drawn("tail", distributions.StudentT(torch.tensor(df)), 20_000).double().numpy()
    tail = special.betainc(df / 2, 0.5, df / (df + 1e40))  # P(|x| > 10²⁰)
    assert abs((np.abs(x) > 1e20).mean() - tail) < 4 * math.sqrt(tail / len(x)) + 1e-12
    far = distributions.StudentT(torch.tensor(df, dtype=torch.float64)).log_prob(torch.tensor(1e300, dtype=torch.float64))
    expected = stats.t(df).logpdf(1e100) - (df + 1) * math.log(1e200)  # a power law by then
    assert far.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("df", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("vectors", [False, True])
def test_the_gradients_of_a_student_t_are_finite_in_float32(df: float, vectors: bool) -> None:
    """Also where draws lie beyond the largest float: ∇σ E clip(x) has 0, not 0 · ∞, of those."""
    mu = torch.zeros(2, requires_grad=True)
    sigma = (2 * torch.eye(2) if vectors else torch.full((2,), 2.0)).requires_grad_()
    nu = torch.tensor(df, requires_grad=True)
    q = (MultivariateStudentT if vectors else distributions.StudentT)(nu, mu, sigma)
    x = drawn("tail gradients", q, 5_000)
    for h in (x.clamp(-5, 5).square(), q.log_prob(x)):
        assert all(g.isfinite().all() for g in torch.autograd.grad(h.mean(), (nu, mu, sigma), retain_graph=True))


@pytest.mark.parametrize("values", [(3.0, 1e5), (1e5, 3.0), (0.3, 1e5), (0.05, 3.0)])
def test_the_gradients_of_a_beta_hold_where_its_concentrations_are_unequal(values: tuple[float, float]) -> None:
    """Where torch's own approximation is wrong, up to sixfold at (3, 10⁵): E log x and E log(1 − x) have closed forms."""
    n, total = 40_000, sum(values)
    leaves = [torch.full((n,), v, dtype=torch.float64, requires_grad=True) for v in values]
    x = drawn("unequal", distributions.Beta(*leaves))
    for h, which in ((x.log(), 0), ((-x).log1p(), 1)):
        gradients = torch.autograd.grad(h.sum(), leaves, retain_graph=True)
        for i, g in enumerate(gradients):
            expected = float(special.polygamma(1, values[which])) * (i == which) - float(special.polygamma(1, total))
            assert abs(g.mean() - expected) < 4 * g.std() / math.sqrt(n) + 1e-3 * abs(expected), (which, i)


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


def _gradients(name: str, h: Callable[[Tensor], Tensor], n: int) -> dict[str, Tensor]:
    """One pathwise gradient for each of n draws: (n, *parameter) for each parameter."""
    case = CASES[name]
    leaves = {k: _tensor(v).expand(n, *np.shape(v)).clone().requires_grad_() for k, v in case.parameters.items()}
    x = case.project(drawn(name, case.make(**leaves)))
    return dict(zip(leaves, torch.autograd.grad(h(x).sum(), list(leaves.values())), strict=True))


@pytest.mark.parametrize(("name", "statistic"), GRADIENTS)
def test_pathwise_gradient_is_the_derivative_of_the_expectation(name: str, statistic: str) -> None:
    case, (h, h_numpy) = CASES[name], STATISTICS[statistic]
    n = 20_000
    for key, g in _gradients(name, h, n).items():
        for index in np.ndindex(tuple(g.shape[1:])):
            here = g[(slice(None), *index)]
            if key == "L" and index[0] < index[1]:
                continue  # above the diagonal
            expected = _derivative(case, key, index, h_numpy)
            # 1e-6: what the quadrature and the differences leave.
            assert abs(here.mean() - expected) < 4 * here.std() / math.sqrt(n) + 1e-6, (key, index)


KNOWN: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, float]]] = {
    # d/dφ of a mean or of E[log x], from the textbooks and not from SciPy.
    "exponential": (lambda x: x, {"rate": -1 / 1.7**2}),
    "gumbel": (lambda x: x, {"loc": 1.0, "scale": 0.5772156649015329}),
    "triangular": (lambda x: x, {"low": 1 / 3, "high": 1 / 3, "peak": 1 / 3}),
    "reciprocal": (torch.log, {"low": 1.0, "high": 1 / 6}),  # E[log x] = log √(ab)
    "weibull": (torch.log, {"concentration": 0.5772156649015329 / 1.8**2, "scale": 1 / 0.9}),
    "gamma 0.6": (torch.log, {"concentration": float(special.polygamma(1, 0.6)), "rate": -1 / 1.5}),
    "gamma 1000": (lambda x: x, {"concentration": 1 / 700, "rate": -1000 / 700**2}),
    "chi-squared": (lambda x: x, {"df": 1.0}),
    "beta": (lambda x: x, {"concentration1": 2.6 / 16, "concentration0": -1.4 / 16}),  # β/(α + β)², −α/(α + β)²
}


@pytest.mark.parametrize("name", KNOWN)
def test_pathwise_gradient_is_the_textbooks(name: str) -> None:
    h, expected = KNOWN[name]
    for key, g in _gradients(name, h, 20_000).items():
        assert abs(g.mean() - expected[key]) < 4 * g.std() / math.sqrt(len(g)) + 1e-12, key


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 2.5, 30.0, 1000.0])
def test_torchs_gamma_gradient_is_within_a_thousandth(alpha: float) -> None:
    """Of that of the inverse of the incomplete Gamma function, relative: why torch draws Gammas."""
    u = np.array([0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    d = 1e-3 * alpha

    def slope(d: float) -> Any:
        return (np.log(special.gammaincinv(alpha + d, u)) - np.log(special.gammaincinv(alpha - d, u))) / (2 * d)

    by_richardson = (4 * slope(d / 2) - slope(d)) / 3
    z = torch.tensor(special.gammaincinv(alpha, u))
    got = torch._standard_gamma_grad(torch.full_like(z, alpha), z) / z
    np.testing.assert_allclose(got.numpy(), by_richardson, rtol=1e-3)


# --- the interface --------------------------------------------------------------------------------------------------
@each
def test_parameters_broadcast_and_give_the_dtype(name: str) -> None:
    case = CASES[name]
    dtype = torch.float32
    values = {k: _tensor(v, dtype) for k, v in case.parameters.items()}
    keys = list(values)
    values[keys[0]] = values[keys[0]].expand(4, 1, *values[keys[0]].shape)
    values[keys[-1]] = values[keys[-1]].expand(*(() if len(keys) == 1 else (3,)), *values[keys[-1]].shape)
    batch = (4, 1) if len(keys) == 1 else (4, 3)
    distribution = case.make(**values)
    event = (3,) if case.joint else ()
    x = drawn(name, distribution, 2)
    assert distribution.batch_shape == batch
    assert x.shape == (2, *batch, *event)
    assert x.dtype == dtype
    assert distribution.log_prob(x).shape == (2, *batch)
    wider = distribution.expand((5, *batch))
    assert wider.batch_shape == (5, *batch)
    assert wider.log_prob(x[:, None]).shape == (2, 5, *batch)


@each
def test_a_million_float32_draws_are_finite_and_possible(name: str) -> None:
    distribution = CASES[name].distribution(torch.float32)
    x = drawn(name, distribution, 1_000_000)
    assert x.isfinite().all()
    assert distribution.log_prob(x).isfinite().all()


def test_triangular_with_its_peak_at_an_end_has_finite_gradients() -> None:
    for c in (0.0, 1.0):
        low, peak, high = (torch.tensor(v, requires_grad=True) for v in (0.0, c, 1.0))
        q = Triangular(low, peak, high)
        x = drawn("end", q, 1000)
        assert all(g.isfinite() for g in torch.autograd.grad(x.sum(), (low, peak, high)))
        assert q.log_prob(torch.tensor(c)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Logistic(0.0, -1.0), "scale"),
        (lambda: Logistic(math.nan, 1.0), "loc"),
        (lambda: Gompertz(1.0, torch.tensor([1.0, 0.0])), "rate"),
        (lambda: Reciprocal(2.0, 1.0), "Reciprocal expects low < high, got 2.0 and 1.0"),
        (lambda: Triangular(1.0, 0.5, 0.0), "Triangular expects low < high"),
        (lambda: Triangular(0.0, 2.0, 1.0), "a peak from low to high, got 2.0"),
        (lambda: MultivariateStudentT(0.0, torch.zeros(2), torch.eye(2)), "df"),
        (lambda: MultivariateStudentT(1.0, torch.zeros(2), -torch.eye(2)), "scale_tril"),
    ],
)
def test_a_bad_parameter_is_named(make: Callable[[], Distribution], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()


@pytest.mark.parametrize("module", ["inverse_cdf", "student", "precise", "gammas", ""])
def test_the_examples_run(module: str) -> None:
    found = importlib.import_module(f"{distributions.__name__}.{module}".rstrip("."))
    result = doctest.testmod(found)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_distribution_carries_an_example() -> None:
    public = [getattr(distributions, name) for name in distributions.__all__]
    bare = [law.__name__ for law in public if not inspect.isabstract(law) and ">>>" not in (law.__doc__ or "")]
    assert bare == ["InverseCDF"]
