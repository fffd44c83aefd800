"""Measures against closed forms."""

import math

import pytest
import torch

import triptych
from triptych import evaluate
from triptych.core import Estimate
from triptych.data import Split
from triptych.evaluate.latent import codes


def linear_vae(noise=0.3):
    """x = W z + N(0, σ²) with its exact posterior: every bound is tight, log p(x) is a Gaussian's."""
    model = triptych.VAE((2,), 2, hidden=(), likelihood="gaussian", mean="linear")
    with torch.no_grad():
        model.likelihood.log_scale.fill_(math.log(noise))
        model.decoder[-1].weight.copy_(torch.eye(2))
        model.decoder[-1].bias.zero_()
        variance = noise**2 / (1 + noise**2)
        model.encoder[-1].weight.zero_()
        model.encoder[-1].weight[:2] = torch.eye(2) / (1 + noise**2)
        model.encoder[-1].bias.copy_(torch.tensor([0.0, 0.0, *[0.5 * math.log(variance)] * 2]))
    return model, noise


@pytest.fixture
def exact():
    model, noise = linear_vae()
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) * math.sqrt(1 + noise**2)
    p = torch.distributions.Normal(0.0, math.sqrt(1 + noise**2))
    return model, x, Estimate.of(p.log_prob(x).sum(1))


def test_every_likelihood_is_the_gaussians_own(exact):
    model, x, truth = exact
    results = evaluate.evaluate(model, Split(x.numpy()), k=20, images=300, hmc=300)
    assert results["elbo"].value == pytest.approx(truth.value, abs=0.1)
    assert results["nll"].value == pytest.approx(-truth.value, abs=1e-3)
    assert results["nll"].stderr == pytest.approx(truth.stderr, rel=1e-3)
    assert results["log_marginal_hmc"].value == pytest.approx(truth.value, abs=0.05)
    assert results["elbo"].n == results["nll"].n == 300
    assert "bits_per_dim" not in results


def test_the_two_parts_make_the_bound(exact):
    model, x, _ = exact
    parts = evaluate.elbo(model, x, generator=torch.Generator().manual_seed(0))
    assert parts["elbo"].value == pytest.approx(parts["log_likelihood"].value - parts["kl"].value, abs=1e-4)


def test_results_do_not_depend_on_the_batch_for_an_exact_model(exact):
    model, x, _ = exact
    a, b = (evaluate.importance_nll(model, x, k=5, batch=n).value for n in (7, 300))
    assert a == pytest.approx(b, abs=1e-4)


def test_active_units_counts_what_the_data_move():
    z = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 1, 0.5, 0.05, 0.01, 0])
    assert evaluate.active_units(z) == Estimate(3.0, 0.0, 500)


def test_reconstruction_of_the_linear_model(exact):
    model, x, _ = exact
    expected = ((x - x / 1.09) ** 2).mean(1).sqrt().mean().item()
    assert evaluate.reconstruction_error(model, x).value == pytest.approx(expected, rel=1e-4)


def test_codes_are_posterior_means_of_the_bin_centres():
    model = triptych.VAE((1, 4, 4), 3, hidden=(5,), likelihood="logistic")
    stored = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(codes(model, stored, batch=3), model.encode((stored + 0.5) / 256).detach())


def test_estimates():
    estimate = Estimate.of(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert estimate.value == 2.5 and estimate.n == 4
    assert estimate.stderr == pytest.approx(math.sqrt(5 / 3) / 2)
    assert math.isnan(Estimate.of(torch.tensor([1.0])).stderr)
    assert estimate.scaled(-2, 1).value == -4 and estimate.scaled(-2).stderr == pytest.approx(2 * estimate.stderr)
