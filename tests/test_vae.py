"""The VAE's maths against oracles: quadrature, SciPy, torch.distributions."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import triptych
from triptych.vae import estimators
from triptych.vae.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian
from triptych.vae.schedules import free_bits, kl_weight


def small(likelihood="gaussian", latent=2, steps=400):
    """A small model of three numbers, trained a little so that q(z|x) is near the posterior."""
    return copy.deepcopy(_trained(likelihood, latent, steps))


@functools.cache
def _trained(likelihood, latent, steps):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        mean = "linear" if likelihood == "gaussian" else "sigmoid"
        model = triptych.VAE((3,), latent, hidden=(8,), likelihood=likelihood, mean=mean)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(steps):
            x = torch.randn(64, 3) * torch.tensor([1.0, 0.5, 0.2])
            x = x if likelihood == "gaussian" else (x > 0).float()
            optimizer.zero_grad()
            (-estimators.bound_b(model, x).value.mean()).backward()
            optimizer.step()
    return model


def grid_log_marginal(model, x, points=401, reach=8.0):
    """log p(x) by quadrature over a 2-D latent space."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    model = model.double()
    with torch.no_grad():
        out = []
        for row in x.double():
            log_joint = model.log_likelihood(row.expand(len(z), -1), z) + estimators.log_normal(z)
            out.append(log_joint.logsumexp(0) + 2 * math.log(axis[1] - axis[0]))
    model.float()
    return torch.stack(out)


def test_kl_against_torch_distributions():
    mu, log_sigma = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    q = torch.distributions.Normal(mu, log_sigma.exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(estimators.kl_to_prior(mu, log_sigma), expected.double(), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_importance_weighting_converges_to_the_marginal_likelihood(likelihood, generator):
    model = small(likelihood)
    x = torch.randn(3, 3, generator=generator) * 0.3 if likelihood == "gaussian" else torch.eye(3)
    truth = grid_log_marginal(model, x)
    with torch.no_grad():
        estimate = model.log_prob(x, k=40_000, generator=generator).double()
        elbo = estimators.bound_b(model, x, draws=20_000, generator=generator).value.double()
    torch.testing.assert_close(estimate, truth, atol=0.05, rtol=0)
    assert (elbo < truth + 0.05).all()


def test_hmc_finds_the_marginal_likelihood(generator):
    from triptych.evaluate import marginal_log_likelihood

    model = small("gaussian")
    x = torch.randn(6, 3, generator=generator) * 0.3
    estimate = marginal_log_likelihood(model, x, chains=64, generator=generator)
    assert estimate.value == pytest.approx(grid_log_marginal(model, x).mean().item(), abs=0.1)
    assert estimate.n == 6


def test_hmc_refuses_large_latent_spaces():
    from triptych.evaluate import marginal_log_likelihood

    with pytest.raises(triptych.TriptychError, match="under 5"):
        marginal_log_likelihood(small(latent=5), torch.zeros(2, 3))


def test_bounds_agree_in_expectation(generator):
    """L^A, L^B and L_1 are the same number on average."""
    model, x = small(), torch.randn(4, 3, generator=generator)
    with torch.no_grad():
        draws = {
            f.__name__: torch.stack([f(model, x, draws=1).value for _ in range(3000)])
            for f in (estimators.bound_a, estimators.bound_b, estimators.bound_k)
        }
    means = {n: d.mean(0) for n, d in draws.items()}
    for name, mean in means.items():
        error = 5 * (draws[name].std(0) / 3000**0.5 + draws["bound_b"].std(0) / 3000**0.5)
        assert ((mean - means["bound_b"]).abs() < error).all(), name


def _encoder_gradient(bound, model):
    model.zero_grad()
    (-bound.value.mean()).backward()
    return torch.cat([p.grad.flatten() for p in model.encoder.parameters()])


def test_all_estimators_have_the_same_gradient_on_average():
    model, x = small(steps=20), torch.randn(2, 3, generator=torch.Generator().manual_seed(2))
    calls = {
        "A": (estimators.bound_a, 4),
        "B": (estimators.bound_b, 4),
        "k1": (estimators.bound_k, 1),
        "score": (estimators.score_function, 16),
    }
    runs, gradients = 600, {}
    for name, (function, draws) in calls.items():
        sampled = torch.stack([_encoder_gradient(function(model, x, draws=draws), model) for _ in range(runs)])
        gradients[name] = (sampled.mean(0), sampled.std(0) / runs**0.5)
    truth, spread = gradients["B"]
    for name, (mean, error) in gradients.items():
        if name != "B":
            z = (mean - truth) / (error**2 + spread**2).sqrt().clamp(min=1e-9)
            assert z.abs().max() < 5, name


def test_the_bernoulli_is_scipys(generator):
    h, x = torch.randn(5, 1, 4, generator=generator).double(), torch.eye(5, 4).double()
    expected = stats.bernoulli(h[:, 0].sigmoid().numpy()).logpmf(x.numpy()).sum(1)
    np.testing.assert_allclose(Bernoulli().log_prob(x, h).numpy(), expected, rtol=1e-9)


def test_the_bernoullis_gradient_is_its_own_derivative(generator):
    h = (3 * torch.randn(4, 1, 5, generator=generator)).double().requires_grad_()
    x = (torch.rand(4, 5, generator=generator) > 0.5).double()
    assert torch.autograd.gradcheck(lambda h: Bernoulli().log_prob(x, h), (h,))


@pytest.mark.parametrize("scale", ["shared", "output"])
def test_the_gaussian_is_scipys(scale, generator):
    likelihood = Gaussian((4,), scale).double()
    h, x = torch.randn(5, likelihood.outputs, 4, generator=generator).double(), torch.rand(5, 4).double()
    sigma = likelihood.log_sigma(h).detach().exp()
    expected = stats.norm(likelihood.mean(h).numpy(), sigma.numpy()).logpdf(x.numpy()).sum(1)
    np.testing.assert_allclose(likelihood.log_prob(x, h).detach().numpy(), expected, rtol=1e-9)


@given(mean=st.floats(-8, 8), log_s=st.floats(-6.5, 0), bits=st.integers(2, 8))
def test_the_discretised_logistic_sums_to_one(mean, log_s, bits):
    likelihood = DiscretisedLogistic((1,), bits=bits).double()
    with torch.no_grad():
        likelihood.log_scale.fill_(log_s)
        x = ((torch.arange(2**bits).double() + 0.5) / 2**bits)[:, None]
        total = likelihood.log_prob(x, torch.full((2**bits, 1, 1), mean, dtype=torch.float64)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


def test_the_discretised_logistic_is_a_difference_of_scipys_cdf():
    likelihood = DiscretisedLogistic((1,)).double()
    x = ((torch.arange(1, 255).double() + 0.5) / 256)[:, None]
    h = torch.zeros(254, 1, 1, dtype=torch.float64)
    cdf = stats.logistic(0.5, math.exp(-3)).cdf
    expected = np.log(cdf((x + 1 / 512).numpy()) - cdf((x - 1 / 512).numpy()))[:, 0]
    np.testing.assert_allclose(likelihood.log_prob(x, h).detach().numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian((1,), "shared"), DiscretisedLogistic((1,))])
def test_observations_have_the_mean(likelihood, generator):
    h = torch.full((20_000, 1, 1), 0.3)
    x = likelihood.observe(h, generator).detach()
    error = x.std() / len(x) ** 0.5
    assert abs(x.mean() - likelihood.mean(h)[0, 0]) < 4 * error


def test_a_scale_at_its_floor_can_leave_it():
    likelihood = Gaussian((1,), "shared")
    with torch.no_grad():
        likelihood.log_scale.fill_(-9.0)
    x, h = torch.full((4, 1), 0.9), torch.zeros(4, 1, 1)
    (-likelihood.log_prob(x, h).mean()).backward()
    assert likelihood.log_scale.grad.item() < 0  # descent raises log σ
    likelihood.log_scale.grad = None
    (-likelihood.log_prob(torch.full((4, 1), 0.5), h).mean()).backward()
    assert likelihood.log_scale.grad.item() == 0  # and does not sink it


@given(step=st.integers(0, 1000), beta=st.floats(0, 4), warmup=st.integers(0, 500))
def test_kl_weight_rises_to_beta(step, beta, warmup):
    weight = kl_weight(step, beta=beta, warmup=warmup)
    assert 0 <= weight <= beta
    assert kl_weight(step + 1, beta=beta, warmup=warmup) >= weight
    if step + 1 >= warmup:
        assert weight == beta


@given(floor=st.floats(0, 2), seed=st.integers(0, 50))
def test_free_bits_is_the_sum_of_floored_means(floor, seed):
    kl = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) * 2
    expected = kl.mean(0).clamp(min=floor).sum() if floor > 0 else kl.sum(1).mean()
    torch.testing.assert_close(free_bits(kl, floor).mean(), expected)


def test_beta_weighs_the_kl(generator):
    model, x = small(), torch.randn(4, 3, generator=generator)
    one, two = (estimators.bound_b(model, x, weight=w, generator=torch.Generator().manual_seed(0)).value for w in (1.0, 2.0))
    kl = estimators.kl_to_prior(*model.posterior(x)).sum(1)
    torch.testing.assert_close(one - two, kl)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"event_shape": (3,), "net": "conv"}, "net=mlp"),
        ({"event_shape": (1, 2, 3, 4)}, "event_shape"),
        ({"event_shape": (3,), "latent_dim": 0}, "latent_dim"),
        ({"event_shape": (3,), "likelihood": "poisson"}, "likelihood should be"),
        ({"event_shape": (3,), "mean": "linear"}, "linear mean"),
        ({"event_shape": (3,), "net": "transformer"}, "net should be"),
        ({"event_shape": (3,), "activation": "sine"}, "activation"),
        ({"event_shape": (3,), "hidden": (0,)}, "hidden"),
        ({"event_shape": (3, 8, 8), "width": 0}, "width"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(triptych.TriptychError, match=message):
        triptych.VAE(**settings)
