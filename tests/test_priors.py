"""Learned priors: densities that sum to one with their samples, fits in closed form, and their place in a model."""

import itertools
import math

import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture

from triptych import compose, load, parts
from triptych.core import Prior, StandardNormal
from triptych.errors import TriptychError
from triptych.flow import NICE
from triptych.pretrained import save_model
from triptych.vae import VAE, Gaussian

L = 2
BUILD = {
    "gaussian": lambda: compose.gaussian_prior(L),
    "flow": lambda: compose.flow_prior(L, depth=2, width=8),
    "one-dimension": lambda: compose.flow_prior(1),
    "mixture": lambda: compose.MixturePrior(L, components=3),
}


def codes(n=2000, dims=L, seed=0):
    """A curved, correlated cloud."""
    e = torch.randn(n, dims, generator=torch.Generator().manual_seed(seed))
    if dims == 1:
        return 0.5 * e + 2
    return torch.stack([e[:, 0], 0.3 * e[:, 1] + 0.5 * e[:, 0].square() - 1], 1)


def fitted(name):
    prior = BUILD[name]()
    prior.fit(codes(dims=prior.latent_dim))
    return prior


def vamp(components=4):
    torch.manual_seed(0)
    return VAE((5,), L, likelihood=Gaussian((5,), mean="linear"), prior=compose.VampPrior(L, (5,), components))


def test_every_public_prior_has_a_case():
    kinds = {type(build()) for build in BUILD.values()} | {compose.VampPrior}
    public = {getattr(compose, name) for name in compose.__all__}
    assert {kind for kind in public if isinstance(kind, type) and issubclass(kind, Prior)} == kinds


@pytest.mark.parametrize("name", BUILD)
def test_a_density_integrates_to_one(name):
    prior = fitted(name)
    axis = torch.linspace(-12, 12, 601)
    grid = axis[:, None] if prior.latent_dim == 1 else torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = prior.log_prob(grid).double().exp().sum() * 0.04**prior.latent_dim
    assert mass.item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", [*BUILD, "vamp"])
def test_samples_are_of_the_density(name):
    """E over samples of −log p equals the entropy, which the density gives by importance sampling from a wide normal."""
    prior = vamp().prior if name == "vamp" else fitted(name)
    with torch.no_grad():
        z = prior.sample(4000, generator=torch.Generator().manual_seed(1))
        wide = 4 * torch.randn(200_000, prior.latent_dim, generator=torch.Generator().manual_seed(2))
        log_q = -0.5 * ((wide / 4).square() + math.log(2 * math.pi) + 2 * math.log(4)).sum(1)
        log_p = prior.log_prob(wide)
        w = (log_p - log_q).double().exp()
        entropy = -(w * log_p).mean().item()
        sampled = -prior.log_prob(z).double()
    assert abs(sampled.mean().item() - entropy) < 5 * sampled.std().item() / 4000**0.5 + 0.05


@pytest.mark.parametrize("name", [*BUILD, "vamp"])
def test_temperature_multiplies_the_noise(name):
    prior = vamp(1).prior if name == "vamp" else fitted(name)
    spreads = [
        prior.sample(2000, temperature=t, generator=torch.Generator().manual_seed(0)).std(0) for t in (0.25, 1.0, 2.0)
    ]
    still = prior.sample(8, temperature=0.0)
    assert all((a < b).all() for a, b in itertools.pairwise(spreads))
    assert name == "mixture" or torch.allclose(still, still[:1].expand_as(still), atol=1e-5)


def test_a_gaussian_is_the_codes_own():
    z = codes(5000) @ torch.tensor([[2.0, 1.5], [0.0, 0.2]])
    prior = compose.gaussian_prior(L)
    prior.fit(z)
    expected = stats.multivariate_normal(z.mean(0).numpy(), z.T.cov(correction=0).numpy()).logpdf(z.numpy())
    with torch.no_grad():
        assert abs(prior.log_prob(z).mean().item() - expected.mean()) < 0.01


def test_a_mixture_agrees_with_scikit_learns():
    prior, z = fitted("mixture"), codes()
    theirs = GaussianMixture(3, covariance_type="diag")
    log_w, mu, log_sigma = (t.detach().double() for t in prior.components())
    theirs.weights_, theirs.means_ = log_w.exp().numpy(), mu.numpy()
    theirs.precisions_cholesky_ = (-log_sigma).exp().numpy()
    assert torch.allclose(prior.log_prob(z).double(), torch.from_numpy(theirs.score_samples(z.double().numpy())), atol=1e-4)


def test_until_it_is_fitted_a_density_is_standard_normal():
    prior, z = compose.flow_prior(L), torch.randn(5, L)
    assert torch.equal(prior.log_prob(z), StandardNormal().log_prob(z))
    generator = [torch.Generator().manual_seed(0) for _ in range(2)]
    expected = VAE((5,), L).sample_prior(3, temperature=0.5, generator=generator[1])
    assert torch.equal(prior.sample(3, temperature=0.5, generator=generator[0]), expected)


def test_a_density_is_fitted_once():
    """Data would set its first layers anew, under later ones that have learned what follows."""
    with pytest.raises(TriptychError, match=r"fitted already: .* build a new one"):
        fitted("flow").fit(codes())


def test_one_dimension_is_learned_too():
    assert [*compose.flow_prior(1).parameters()]  # something for gradients to move


def test_a_mixture_of_more_components_than_codes():
    prior, z = compose.MixturePrior(2, 10), torch.randn(5, 2)
    assert not prior.ready
    prior.fit(z)
    assert prior.ready and prior.log_prob(z).isfinite().all()
    assert len(prior.mu.unique(dim=0)) == 10  # two in one place would stay together
    with pytest.raises(TriptychError, match="NaN or infinity"):
        prior.fit(z / 0)


def test_a_vamp_prior_is_the_mean_posterior_of_its_pseudo_inputs():
    model, z = vamp(), torch.randn(6, L)
    mu, log_sigma = model.posterior(model.prior.pseudo_inputs)
    each = torch.distributions.Normal(mu, log_sigma.exp()).log_prob(z[:, None]).sum(-1)
    assert torch.allclose(model.prior.log_prob(z), each.logsumexp(1) - math.log(4), atol=1e-5)
    model.prior.log_prob(z).sum().backward()
    assert model.prior.pseudo_inputs.grad.abs().sum() > 0


def test_a_vamp_prior_follows_copies_of_its_model():
    import copy

    model = vamp()
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.encoder[-1].bias.add_(1.0)
    z = torch.randn(3, L)
    assert copied.prior._attached() is copied and not torch.allclose(copied.prior.log_prob(z), model.prior.log_prob(z))
    with pytest.raises(TriptychError, match="give it to one"):
        compose.VampPrior(L, (5,)).log_prob(z)


@pytest.mark.parametrize("name", ["gaussian", "flow", "mixture", "vamp"])
def test_a_model_with_a_learned_prior_is_saved_and_loaded(name, tmp_path):
    model = vamp() if name == "vamp" else VAE((5,), L, likelihood=Gaussian((5,), mean="linear"), prior=fitted(name))
    save_model(model.eval(), tmp_path)
    again, x = load(tmp_path), torch.randn(3, 5)
    assert parts.describe(again) == parts.describe(model)
    seeds = [torch.Generator().manual_seed(0) for _ in range(4)]
    assert torch.equal(again.sample(4, generator=seeds[0]), model.sample(4, generator=seeds[1]))
    assert torch.equal(again.log_prob(x, generator=seeds[2]), model.log_prob(x, generator=seeds[3]))


def test_a_prior_of_another_size_or_kind_is_refused():
    with pytest.raises(TriptychError, match="of 3 dimensions"):
        VAE((5,), 3, prior=compose.flow_prior(2))
    with pytest.raises(TriptychError, match="of vectors"):
        compose.DensityPrior(VAE((1, 4, 4), 2))
    assert VAE((5,), 2, prior=NICE((2,), hidden=(8,))).prior.event_shape == (2,)
