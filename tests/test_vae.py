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
from triptych import nets
from triptych.capabilities import HasDensity
from triptych.codecs import Dequantised, Floats
from triptych.core import GenerativeModel, StandardNormal
from triptych.objectives.vae import VAEPlayer
from triptych.randomness import seeded
from triptych.vae import VAE, Bernoulli, DiscretisedLogistic, Gaussian, LaplaceNoise, LogisticNoise, defaults, estimators
from triptych.vae.schedules import free_bits, kl_weight


def small(likelihood="gaussian", latent=2, steps=400):
    """A small model of three numbers, trained a little so that q(z|x) is near the posterior."""
    return copy.deepcopy(_trained(likelihood, latent, steps))


def perceptron_vae(event_shape, latent_dim, likelihood, hidden=(8,), context_dim=0, **parts):
    """A VAE of perceptrons with few units."""
    networks = defaults.perceptrons(event_shape, latent_dim, likelihood, hidden=hidden, context_dim=context_dim)
    encoder, decoder = networks
    parts |= {"encoder": encoder, "decoder": decoder, "likelihood": likelihood, "context_dim": context_dim}
    return VAE(event_shape, latent_dim, **parts)


def train(model, draw, steps, rate=0.02):
    """Adam's steps on −L^B of the batches (x,) or (x, context) that draw() returns."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (-estimators.bound_b(model, *draw()).value.mean()).backward()
        optimizer.step()
    return model


@functools.cache
def _trained(likelihood, latent, steps):
    def draw():
        x = torch.randn(64, 3) * torch.tensor([1.0, 0.5, 0.2])
        return (x if likelihood == "gaussian" else (x > 0).float(),)

    with seeded(1):
        part = Gaussian((3,), mean="linear") if likelihood == "gaussian" else Bernoulli()
        return train(perceptron_vae((3,), latent, part), draw, steps)


def grid_log_marginal(model, x, points=401, reach=8.0):
    """log p(x) by quadrature over a 2-D latent space."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    model = model.double()
    with torch.no_grad():
        out = []
        for row in x.double():
            log_joint = model.log_likelihoods(row[None], z[:, None])[:, 0] + model.log_prior(z)
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

    with pytest.raises(triptych.TriptychError, match="fewer than 5"):
        marginal_log_likelihood(small(latent=5), torch.zeros(2, 3))


def test_bounds_agree_in_expectation(generator):
    """L^A, L^B and L_1 are the same number on average."""
    model, x = small(), torch.randn(4, 3, generator=generator)
    with torch.no_grad():
        draws = {
            name: torch.stack([getattr(estimators, name)(model, x, draws=1).value for _ in range(3000)])
            for name in ("bound_a", "bound_b", "bound_k")
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


@pytest.mark.parametrize(
    ("mean", "codec", "floor"),
    [("sigmoid", None, -5.0), ("linear", None, -12.0), ("linear", Dequantised(), -5.0), ("sigmoid", Floats(), -12.0)],
)
def test_the_data_decide_how_small_a_gaussians_sigma_may_be(mean, codec, floor):
    """Pixels have bins, within which a density could grow without bound; floats have none."""
    likelihood = Gaussian((1, 2, 2), mean=mean, codec=codec)
    with torch.no_grad():
        likelihood.log_scale.fill_(-99.0)
    assert likelihood.log_sigma(torch.zeros(1, 1, 1, 2, 2)).unique().tolist() == [floor]


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


SHAPED = Gaussian((3,), mean="linear")


class Refusing(torch.nn.Module):
    """A network that takes no context."""

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: VAE((1, 2, 3, 4)), "event_shape"),
        (lambda: VAE((3,), latent_dim=0), "latent_dim"),
        (lambda: VAE((3,), prior=VAE((4,))), "or a model of vectors"),
        (lambda: VAE((3,), context_dim=2, encoder=Refusing()), r"encoder \(Refusing\) should take forward\(x, context\)"),
        (lambda: Gaussian((3,), mean="quadratic"), "mean should be one of sigmoid, linear"),
        (lambda: DiscretisedLogistic((3,), "given"), "scale should be one of"),
        (lambda: DiscretisedLogistic((3,), bits=9), "bits"),
        (lambda: defaults.convolutions((3,), 2, SHAPED), "take pictures"),
        (lambda: defaults.convolutions((3, 8, 8), 2, SHAPED, width=0), "width"),
        (lambda: defaults.convolutions((3, 8, 8), 2, SHAPED, blocks=65), "blocks"),
        (lambda: defaults.perceptrons((3,), 2, SHAPED, activation="sine"), "activation"),
        (lambda: defaults.perceptrons((3,), 2, SHAPED, hidden=(0,)), "hidden"),
        (lambda: defaults.perceptrons((3,), 2, SHAPED, hidden=(1,) * 65), "hidden"),
    ],
)
def test_bad_parts_are_named(build, message):
    with pytest.raises(triptych.TriptychError, match=message):
        build()


def test_outputs_of_another_shape_are_named():
    model = VAE((6,), 2, encoder=torch.nn.Linear(6, 3), decoder=torch.nn.Linear(2, 5))
    with pytest.raises(triptych.TriptychError, match=r"the encoder \(Linear\) should return \(7, 4\), got \(7, 3\)"):
        model.encode(torch.zeros(7, 6))
    with pytest.raises(triptych.TriptychError, match=r"the decoder \(Linear\) should return \(7, 1, 6\), got \(7, 5\)"):
        model.decode(torch.zeros(7, 2))


def test_grey_values_are_refused_by_a_bernoulli():
    with pytest.raises(triptych.TriptychError, match="0s and 1s"):
        VAE((1, 4, 4)).log_prob(torch.full((2, 1, 4, 4), 0.5))


@pytest.mark.parametrize(
    "shape, likelihood, codec, network",
    [
        ((1, 28, 28), Bernoulli, "binarise", nets.MLP),
        ((1, 29, 28), DiscretisedLogistic, "centre", nets.ConvEncoder),
        ((3, 8, 8), DiscretisedLogistic, "centre", nets.ConvEncoder),
        ((7,), Gaussian, "none", nets.MLP),
        ((2, 40), Gaussian, "none", nets.MLP),
    ],
)
def test_the_defaults_suit_the_events_shape(shape, likelihood, codec, network):
    model = VAE(shape)
    assert model.latent_dim == 32 and isinstance(model.prior, StandardNormal)
    assert type(model.likelihood) is likelihood and model.codec.name == codec and type(model.encoder) is network


def test_pixels_that_are_not_a_picture_have_a_mass():
    assert type(defaults.default_likelihood((560,), pixels=True)) is Bernoulli
    assert type(defaults.default_likelihood((2, 40), pixels=True)) is DiscretisedLogistic


def test_part_left_out_is_the_default():
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 6))
    model = VAE((1, 6, 5), 3, encoder=encoder)
    assert model.encoder is encoder and type(model.decoder) is nets.MLP
    assert model.decode(model.encode(torch.ones(2, 1, 6, 5))).shape == (2, 1, 6, 5)


@pytest.mark.parametrize("noise", [LaplaceNoise(), LogisticNoise()])
def test_another_posterior_has_the_same_marginal_likelihood(noise, generator):
    """Importance weighting with a heavier tail than the Gaussian's finds the same log p(x)."""
    model = small("gaussian")
    x = torch.randn(3, 3, generator=generator) * 0.3
    truth = grid_log_marginal(model, x)
    model.noise = noise
    with torch.no_grad():
        estimate = model.log_prob(x, k=40_000, generator=generator).double()
        a, b = (f(model, x, draws=20_000, generator=generator).value for f in (estimators.bound_a, estimators.bound_b))
    torch.testing.assert_close(estimate, truth, atol=0.05, rtol=0)
    torch.testing.assert_close(a, b, atol=0.1, rtol=0)
    assert (b < truth + 0.05).all()


@pytest.mark.parametrize("noise", [LaplaceNoise(), LogisticNoise()])
def test_noise_has_its_own_density(noise, generator):
    epsilon = noise.draw(200_000, 1, generator=generator).double()
    edges = torch.linspace(-3, 3, 13, dtype=torch.float64)
    counts = torch.histogram(epsilon[:, 0], edges).hist / len(epsilon)
    fine = torch.linspace(-3, 3, 12_001, dtype=torch.float64)[:, None]
    mass = noise.log_prob(fine).exp()[:-1].view(12, 1000).sum(1) * (6 / 12_000)
    torch.testing.assert_close(counts, mass, atol=5e-3, rtol=0)


class Spread(GenerativeModel, HasDensity):
    """p(z) = N(shift, scale²) by dimension: a prior with something to learn, and to set from data."""

    bound, measure = "exact", "density"

    def __init__(self, event_shape):
        super().__init__(event_shape, event_shape[0], Floats())
        self.shift, self.log_scale = (torch.nn.Parameter(torch.zeros(event_shape)) for _ in range(2))

    def initialize(self, x, context=None):
        self.shift.copy_(x.mean(0))
        self.log_scale.copy_(x.std(0).log())

    def decode(self, z, context=None):
        return self.shift + self.log_scale.exp() * z

    def log_prob(self, x, context=None, *, k=1, generator=None):
        return torch.distributions.Normal(self.shift, self.log_scale.exp()).log_prob(x).sum(-1)


def test_a_learned_prior_is_sampled_scored_and_trained(generator):
    prior = Spread((2,))
    model = perceptron_vae((3,), 2, Gaussian((3,), mean="linear"), prior=prior)
    x = torch.randn(16, 3, generator=generator)
    model.initialize(x)
    assert prior.shift.abs().max() > 0
    z = torch.randn(5, 16, 2, generator=generator)
    torch.testing.assert_close(model.log_prior(z)[3], prior.log_prob(z[3]))
    assert model.sample(4, generator=generator).shape == (4, 3)
    assert model.log_prob(x, k=3).shape == (16,)
    for bound in (estimators.bound_a, estimators.bound_b, estimators.bound_k, estimators.score_function):
        model.zero_grad()
        (-bound(model, x, draws=2).value.mean()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()), bound.__name__


def test_the_sampled_kl_agrees_with_the_closed_form(generator):
    """A learned prior that is N(0, I): the same bound on average, here over many draws."""
    model, x = small(), torch.randn(4, 3, generator=generator)
    with torch.no_grad():
        closed = estimators.bound_b(model, x, draws=20_000, generator=generator)
        model.prior = Spread((2,))
        sampled = estimators.bound_b(model, x, draws=20_000, generator=generator)
    torch.testing.assert_close(sampled.kl, closed.kl, atol=0.1, rtol=0)
    torch.testing.assert_close(sampled.value, closed.value, atol=0.1, rtol=0)


def test_a_context_says_what_is_seen():
    """x = ±2 by the context, plus noise: p(x|c) is above p(x), and samples follow what they are given."""

    def draw():
        context = torch.randint(0, 2, (64, 1)) * 2.0 - 1
        hidden = context * (torch.rand(64, 1) > 0.1)
        return 2 * context + 0.3 * torch.randn(64, 2), hidden

    with seeded(2):
        model = perceptron_vae((2,), 2, Gaussian((2,), mean="linear"), hidden=(16,), context_dim=1)
        train(model, draw, 1200)
        x, _ = draw()
        context = x[:, :1].sign()
        given, unknown, wrong = (model.log_prob(x, c, k=50).mean() for c in (context, None, -context))
        samples = model.sample(64, context=torch.ones(1, 1))
    assert given > unknown + 0.3 and unknown > wrong
    assert (samples > 0).float().mean() > 0.95
    assert model.log_likelihoods(x, torch.zeros(3, 64, 2), context).shape == (3, 64)


@pytest.mark.parametrize("network", ["perceptrons", "convolutions"])
def test_networks_take_a_context(network):
    shape, likelihood = (2, 9, 6), DiscretisedLogistic((2, 9, 6))
    encoder, decoder = getattr(defaults, network)(shape, 3, likelihood, context_dim=4)
    model = VAE(shape, 3, encoder=encoder, decoder=decoder, likelihood=likelihood, context_dim=4)
    x, context = torch.rand(5, *shape), torch.eye(5, 4)
    estimators.bound_b(model, x, context, draws=2).value.sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    assert all(g is not None for g in gradients.values())
    maps = [g for n, g in gradients.items() if "modulations" in n]
    assert bool(maps) == (network == "convolutions") and all(g.abs().max() > 0 for g in maps)
    torch.testing.assert_close(encoder(x), encoder(x, torch.zeros(5, 4)))


def test_modulation_starts_as_the_identity_and_scales_by_channel():
    h = torch.randn(2, 3, 4, 5)
    modulation = nets.Modulation(2, 3)
    torch.testing.assert_close(modulation(h, torch.ones(2, 2)), h)
    with torch.no_grad():
        modulation.maps.weight[1, 0] = 0.5  # gamma of channel 1
        modulation.maps.weight[5, 1] = 2.0  # beta of channel 2
    expected = h.clone()
    expected[0, 1] *= 1.5
    expected[1, 2] += 2.0
    torch.testing.assert_close(modulation(h, torch.eye(2)), expected)
    assert not list(nets.Modulation(0, 3).parameters())


def test_the_player_weighs_the_bound_and_logs_its_parts(generator):
    model, x = small(), torch.randn(4, 3, generator=generator)
    player = VAEPlayer(model, functools.partial(estimators.bound_a, draws=3), lambda step: 0.5 * step)
    with seeded(3):
        loss = player(x, step=1)
    with seeded(3):
        bound = estimators.bound_a(model, x, draws=3, weight=0.5)
    torch.testing.assert_close(loss.total, -bound.value.mean())
    torch.testing.assert_close(loss.terms["elbo"], loss.terms["log_likelihood"] - loss.terms["kl"])
    assert not any(term.requires_grad for term in loss.terms.values())


def test_one_builder_draws_as_its_initialiser_says():
    """A layer is initialised as soon as it is made: random numbers come in the order of the layers."""
    with seeded(0):
        made = nets.perceptron((3, 4, 2), torch.nn.ReLU, lambda layer: torch.nn.init.normal_(layer.weight))
    with seeded(0):
        expected = []
        for inputs, outputs in ((3, 4), (4, 2)):
            layer = torch.nn.Linear(inputs, outputs)
            expected.append(torch.nn.init.normal_(layer.weight))
    assert all(torch.equal(layer.weight, w) for layer, w in zip(made[::2], expected, strict=True))
