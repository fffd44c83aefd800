"""Measures against closed forms."""

import math

import numpy as np
import pytest
import torch

import triptych
from triptych import evaluate
from triptych.capabilities import Encodes, HasDensity
from triptych.codecs import Attribute, Conditions, Floats
from triptych.core import Estimate, GenerativeModel
from triptych.data import Split, fixed_subset
from triptych.errors import TriptychError
from triptych.evaluate.latent import as_learned, codes
from triptych.evaluate.measure import context_of
from triptych.nets import MLP
from triptych.vae.estimators import bound_a, bound_b
from triptych.vae.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian


def linear_vae(noise=0.3):
    """x = W z + N(0, σ²) with its exact posterior: every bound is tight, log p(x) is a Gaussian's."""
    networks = {"encoder": MLP((2,), (), 4), "decoder": MLP((2,), (), 2)}
    model = triptych.VAE((2,), 2, **networks, likelihood=Gaussian((2,), mean="linear"))
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


def test_the_bound_and_its_tightening_are_of_the_same_examples(exact):
    """So that −elbo − nll is what the bound gives away, and not how far two subsets differ."""
    model, x, _ = exact
    results = evaluate.evaluate(model, Split(x.numpy()), k=20, images=40, hmc=0)
    assert {results[name].n for name in ("elbo", "log_likelihood", "kl", "nll")} == {40}
    few = x[fixed_subset(len(x), 40)]
    parts = evaluate.elbo(model, few, draws=200, generator=torch.Generator().manual_seed(0))
    assert results["elbo"].value == pytest.approx(parts["elbo"].value, abs=0.3)
    assert results["active_units"].n == results["reconstruction_rmse"].n == len(x)


def test_neither_of_the_papers_bounds_has_always_the_lower_variance(exact):
    """Where q(z|x) is p(z|x) L^A is log p(x) whatever is drawn, and L^B is not."""
    model, x, _ = exact
    with torch.no_grad():
        a, b = (torch.stack([bound(model, x[:5]).value for _ in range(50)]) for bound in (bound_a, bound_b))
    assert a.std(0).max() < 1e-4 and b.std(0).min() > 0.1


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
    model = triptych.VAE((1, 4, 4), 3, likelihood=DiscretisedLogistic((1, 4, 4)))
    stored = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(codes(model, stored, batch=3), model.encode((stored + 0.5) / 256).detach())


class Recorded(torch.nn.Module):
    """An encoder that keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = torch.nn.Linear(16, 6), []

    def forward(self, x):
        self.seen.append(x)
        return self.linear(x.flatten(1))


def test_a_bernoulli_is_measured_on_binarised_data():
    """Of grey pictures, which it never was shown, an encoder's codes and reconstructions say little."""
    encoder, decoder = Recorded(), torch.nn.Linear(3, 16)
    model = triptych.VAE((1, 4, 4), 3, encoder=encoder, decoder=decoder, likelihood=Bernoulli())
    stored = torch.randint(0, 256, (600, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    error = evaluate.reconstruction_error(model, stored)
    x = torch.cat(encoder.seen)
    assert ((x == 0) | (x == 1)).all() and abs(x.mean() - 0.5) < 0.02
    assert error.value == pytest.approx((model.decode(model.encode(x)) - x).square().flatten(1).mean(1).sqrt().mean().item())
    assert evaluate.reconstruction_error(model, stored) == error
    encoder.seen.clear()
    data = Split(stored.numpy())
    active = evaluate.evaluate(model, data, hmc=0, k=1)["active_units"]
    assert all(((x == 0) | (x == 1)).all() for x in encoder.seen)
    assert active == evaluate.active_units(codes(model, data[fixed_subset(600, 10_000)], read=as_learned(model)))
    encoder.seen.clear()
    found = evaluate.statistics(model, stored[:5], k=1, blunt={"gaussian": evaluate.Gaussian.of(stored / 255)})
    assert all(((x == 0) | (x == 1)).all() for x in encoder.seen)
    assert found["reconstruction"].shape == (5,)


def test_estimates():
    estimate = Estimate.of(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert estimate.value == 2.5 and estimate.n == 4
    assert estimate.stderr == pytest.approx(math.sqrt(5 / 3) / 2)
    assert math.isnan(Estimate.of(torch.tensor([1.0])).stderr)
    assert estimate.scaled(-2, 1).value == -4 and estimate.scaled(-2).stderr == pytest.approx(2 * estimate.stderr)


class Shifted(GenerativeModel, Encodes, HasDensity):
    """x = z + 3 c, z ~ N(0, I), where a binary attribute c is known; where it is not, x ~ N(0, I)."""

    bound, measure = "exact", "density"

    def __init__(self):
        super().__init__((2,), 2, Floats(), context_dim=1)
        self.conditions = Conditions([Attribute("c", "binary")])
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, x, context=None):
        return x - 3 * self.check_context(context, len(x))

    def decode(self, z, context=None):
        return z + 3 * self.check_context(context, len(z))

    def log_prob(self, x, context=None, *, k=1, generator=None):
        return self.prior.log_prob(self.encode(x, context))


def shifted(n=400):
    c = np.random.default_rng(1).integers(0, 2, n).astype(np.float32)
    c[::10] = np.nan
    x = np.random.default_rng(0).normal(size=(n, 2)) + 3 * np.nan_to_num(2 * c - 1)[:, None]
    return Split(x.astype(np.float32), {"c": c}, {"c": "binary"})


def test_a_conditional_model_is_given_the_attributes():
    model, data = Shifted(), shifted()
    results = evaluate.evaluate(model, data)
    assert results["nll"].value == pytest.approx(2 * 1.4189, abs=0.2)
    assert results["nll_unconditional"].value > results["nll"].value + 5
    assert results["round_trip_max"].value < 1e-5
    rows = np.array([0, 1, 2])
    context = context_of(model, data, rows)
    assert context.shape == (3, 1) and context[0] == 0 and context[1:].abs().tolist() == [[1], [1]]
    torch.testing.assert_close(codes(model, data[rows], context=context), data[rows] - 3 * context)
    assert not context_of(model, Split(data.data), rows).any()
    fair = evaluate.sample_quality(model, data, data, evaluate.Pixels(), n=200)
    assert fair.measures["c2st_logistic"].value < 0.6 and fair.measures["coverage"].value > 0.7


def test_a_context_of_the_wrong_width_is_named():
    for context, model in ((torch.zeros(5, 2), Shifted()), (torch.zeros(4, 1), Shifted())):
        with pytest.raises(TriptychError, match=r"context should be \(5, 1\)"):
            evaluate.importance_nll(model, torch.zeros(5, 2), context=context)
    with pytest.raises(TriptychError, match="without a condition"):
        evaluate.importance_nll(triptych.VAE((2,), 2), torch.zeros(5, 2), context=torch.zeros(5, 1), k=1)


def test_what_a_model_lacks_is_named():
    for measure in (evaluate.elbo, evaluate.marginal_log_likelihood):
        with pytest.raises(TriptychError, match=r"Shifted has no .*q\(z\|x\)"):
            measure(Shifted(), torch.zeros(5, 2))
    with pytest.raises(TriptychError, match="fewer than 5 latent dimensions"):
        evaluate.marginal_log_likelihood(triptych.VAE((2,), 5), torch.zeros(5, 2))
