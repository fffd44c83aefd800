"""Whitening against NumPy's covariances, SciPy's square root and what held-out data say.

Shapes: rows (N, C) · m (C,) · covariance (C, C)
"""

import dataclasses
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy import stats

from triptych import families
from triptych.bijections import Bijection, Chain, FactorOut, Flatten, MultiScale, Whiten, whiten
from triptych.data.splits import Split
from triptych.errors import TriptychError
from triptych.flow import Flow, Glow
from triptych.objectives.flow import FlowPlayer

KINDS = ("pca", "zca")


def gaussian(n, channels, seed=0, dtype=torch.float64):
    """Rows of a Gaussian whose standard deviations go from 3 to 0.01, its mean and covariance."""
    rng = np.random.default_rng(seed)
    rotation = stats.ortho_group(channels, seed=0).rvs()
    mean, root = np.arange(channels) / 10, rotation * np.geomspace(3, 0.01, channels)
    rows = mean + rng.normal(size=(n, channels)) @ root.T
    return torch.from_numpy(rows).to(dtype), mean, root @ root.T


@pytest.mark.parametrize("rank", [None, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_given_moments_are_whitened_exactly(kind, rank):
    rows, mean, covariance = gaussian(50, 12)
    layer = Whiten(12, kind, rank).double()
    layer.set_moments(torch.from_numpy(mean), torch.from_numpy(covariance))
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1].copy(), vectors[:, ::-1]
    if rank:
        values[rank:] = values[rank:].mean()
    z, ladj = layer(rows)
    assert ladj[0].item() == pytest.approx(-0.5 * np.log(values).sum())
    if kind == "zca":
        root = scipy.linalg.sqrtm(vectors * values @ vectors.T)
        np.testing.assert_allclose(z, np.linalg.solve(root, (rows.numpy() - mean).T).T, atol=1e-8)
    else:
        leading = slice(rank)
        expected = (rows.numpy() - mean) @ vectors / np.sqrt(values)
        np.testing.assert_allclose(z[:, leading].abs(), abs(expected[:, leading]), atol=1e-8)
        np.testing.assert_allclose((z**2).sum(1), (expected**2).sum(1))  # the rest in another orthonormal basis
    torch.testing.assert_close(layer.inverse(z), rows, atol=1e-10, rtol=0)


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_without_moments_it_is_the_identity_until_it_is_fitted_and_fitted_again(kind, rank):
    layer, x = Whiten(6, kind, rank), torch.randn(9, 6)
    layer.set_moments()
    z, ladj = layer(x)
    torch.testing.assert_close(z, x, atol=1e-6, rtol=0)
    assert (ladj == 0).all() and layer.ready
    for seed in (1, 2):
        rows = gaussian(4000, 6, seed, torch.float32)[0] * seed
        layer.fit(rows)
        z = layer(rows)[0]
        assert z.mean(0).abs().max() < 1e-4 and abs(z.var().item() - 1) < (0.02 if rank is None else 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_on_much_data_makes_the_covariance_the_identity(kind):
    rows = gaussian(20_000, 8)[0]
    layer = Whiten(8, kind).double()
    z = layer.initialize(rows)
    np.testing.assert_allclose(np.cov(z.T), np.eye(8), atol=0.02)
    fresh = layer(gaussian(20_000, 8, seed=1)[0])[0]
    np.testing.assert_allclose(np.cov(fresh.T), np.eye(8), atol=0.06)
    if kind == "pca":  # sorted from large to small
        assert (layer.std.diff() <= 0).all()


def test_positions_are_rows():
    x = torch.randn(40, 3, 2, 5).double() * torch.tensor([3.0, 1.0, 0.1]).view(3, 1, 1)
    picture, rows = Whiten(3).double(), Whiten(3).double()
    picture.fit(x)
    rows.fit(x.movedim(1, -1).reshape(-1, 3))
    torch.testing.assert_close(picture.components, rows.components)
    torch.testing.assert_close(picture.std, rows.std, rtol=0.05, atol=0)
    torch.testing.assert_close(picture(x)[1], 10 * picture(x[..., 0, 0])[1])


def spread(layer, rows):
    return layer(rows)[0].square().mean().item()


def log_probs(layer, rows):
    return Flow((rows.shape[1],), layer).double().eval().log_prob(rows)


@pytest.mark.parametrize("n", [6, 30, 100, 400])
def test_held_out_variances_are_better_for_new_data_than_the_samples_own(n):
    """In nats of new rows; with n ≤ C the sample's own covariance is singular, and its density of new rows zero."""
    rows, _, _ = gaussian(n, 60)
    new = gaussian(2000, 60, seed=1)[0]
    corrected, plain = Whiten(60).double(), Whiten(60).double()
    corrected.fit(rows)
    plain.set_moments(rows.mean(0), torch.cov(rows.T, correction=0))
    gain = (log_probs(corrected, new) - log_probs(plain, new)).mean().item()
    assert gain > {6: 1000, 30: 1000, 100: 10, 400: 0}[n]
    assert abs(spread(corrected, new) - 1) < (1 if n == 6 else 0.3)


@pytest.mark.parametrize("shape", [(2, 5, 6), (3, 12)])
def test_with_a_reach_the_components_are_those_of_the_tapered_covariance(shape):
    """And where distant values have little to do with each other, the Gaussian is better for new data."""
    size, places = math.prod(shape), shape[1:]
    at = torch.cartesian_prod(*(torch.arange(side).double() for side in places)).view(-1, len(places)).repeat(shape[0], 1)
    square = torch.cdist(at, at).square()
    true = torch.exp(-square / 2) + 0.1 * torch.eye(size).double()
    factor, noise = torch.linalg.cholesky(true), torch.Generator().manual_seed(0)
    rows, new = (torch.randn(n, size, generator=noise).double() @ factor.T for n in (100, 2000))
    local, plain = Whiten(size, "zca", places=places, reach=2.0).double(), Whiten(size, "zca").double()
    for layer in (local, plain):
        layer.fit(rows)
    tapered = torch.cov(rows.T, correction=0) * torch.exp(-square / 8)
    expected = torch.from_numpy(np.linalg.eigh(tapered.numpy())[1]).flip(1)
    overlap = (expected * local.components).sum(0).abs()
    torch.testing.assert_close(overlap, torch.ones(size).double(), atol=1e-6, rtol=0)
    assert (log_probs(local, new) - log_probs(plain, new)).mean() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_float32_goes_there_and_back(kind):
    """Standard deviations over four decades: an error of z does no harm to x where z was stretched."""
    rows = gaussian(3000, 300, dtype=torch.float32)[0]
    for rank in (None, 40):
        layer = Whiten(300, kind, rank)
        z = layer.initialize(rows)
        assert (layer.inverse(z) - rows).abs().max() < 5e-5  # of values up to 30
        exact = Whiten(300, kind, rank).double()
        exact.load_state_dict(layer.double().state_dict())
        torch.testing.assert_close(z.double(), exact(rows.double())[0], atol=5e-3, rtol=1e-4)


def test_few_components_of_many_channels_are_those_of_an_exact_decomposition():
    torch.manual_seed(0)
    x = torch.randn(2000, 600, dtype=torch.float64) * torch.linspace(0, -3, 600, dtype=torch.float64).exp()
    few, exact = Whiten(600, rank=40).double(), torch.linalg.eigh(torch.cov(x.T))
    few.fit(x)
    u = few.inverse(torch.eye(600, dtype=torch.float64)[:40]) - few.inverse(torch.zeros(1, 600, dtype=torch.float64))
    u = u / u.norm(dim=1, keepdim=True)
    assert (u @ u.T - torch.eye(40)).abs().max() < 1e-10
    captured, best = (u @ torch.cov(x.T) @ u.T).trace(), exact.eigenvalues[-40:].sum()
    assert 0.995 < captured / best <= 1
    few.fit(torch.ones(50, 600, dtype=torch.float64))
    assert few(torch.ones(2, 600, dtype=torch.float64))[0].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [None, 3])
def test_constant_channels_and_constant_data_are_safe(kind, rank):
    rows = torch.randn(50, 6)
    rows[:, 2] = 7.0
    layer = Whiten(6, kind, rank)
    z = layer.initialize(rows)
    assert z.isfinite().all() and z.abs().max() < 20
    torch.testing.assert_close(layer.inverse(z), rows, atol=1e-4, rtol=0)
    constant = Whiten(6, kind, rank)
    torch.testing.assert_close(constant.initialize(torch.full((5, 6), 3.0)), torch.zeros(5, 6))


def test_many_channels_are_refused_without_a_rank_and_fitted_with_one(monkeypatch):
    with pytest.raises(TriptychError, match="give a rank, such as rank=512"):
        Whiten(3 * 64 * 64)
    with pytest.raises(TriptychError, match="rank should be a whole number from 1 to 3"):
        Whiten(4, rank=4)
    with pytest.raises(TriptychError, match=r"a reach is for whole events of \(3,\) positions, without a rank"):
        Whiten(4, places=(3,), reach=1.0)
    with pytest.raises(TriptychError, match="without a rank"):
        Whiten(6, rank=2, places=(3,), reach=1.0)
    rows = gaussian(800, 60)[0]
    exact, rough = Whiten(60, "zca", 10).double(), Whiten(60, "zca", 10).double()
    exact.fit(rows)
    monkeypatch.setattr(whiten, "MOST_CHANNELS", 30)
    rough.fit(rows)
    torch.testing.assert_close(rough.std, exact.std, rtol=1e-3, atol=0)
    torch.testing.assert_close(rough.rest, exact.rest, rtol=1e-3, atol=0)
    torch.testing.assert_close(rough(rows)[0], exact(rows)[0], rtol=0, atol=0.02)
    few = Whiten(60, "pca", 40).double()
    few.fit(rows[:12])  # fewer examples than components
    z = few(rows)[0]
    assert z.isfinite().all() and (few.inverse(z) - rows).abs().max() < 1e-10


def test_use_before_data_and_data_without_statistics_are_refused():
    layer = Whiten(3)
    for use in (layer, layer.inverse):
        with pytest.raises(TriptychError, match="Whiten has not seen data yet"):
            use(torch.randn(2, 3))
    with pytest.raises(TriptychError, match="NaN or infinity"):
        layer.initialize(torch.full((4, 3), math.nan))
    with pytest.raises(TriptychError, match="one example does not have"):
        layer.initialize(torch.randn(1, 3))


def test_a_whitened_gaussian_does_not_depend_on_the_data_s_coordinates():
    """log p(x) of rotated, shifted and scaled data is the same but for the scale's own log-determinant."""
    rows, new = gaussian(200, 20)[0], gaussian(50, 20, seed=1)[0]
    rotation = torch.from_numpy(stats.ortho_group(20, seed=3).rvs())
    scores = []
    for change in (lambda x: x, lambda x: 5 * x @ rotation + 2):
        layer = Whiten(20, "zca").double()
        layer.fit(change(rows))
        scores.append(log_probs(layer, change(new)))
    torch.testing.assert_close(scores[0], scores[1] + 20 * math.log(5), atol=1e-6, rtol=0)


def test_a_flow_of_it_alone_is_a_gaussian_as_scipy_s():
    rows, mean, covariance = gaussian(30, 12)
    layer = Whiten(12).double()
    layer.set_moments(torch.from_numpy(mean), torch.from_numpy(covariance))
    model = Flow((12,), Chain([Flatten((12,)), layer])).double().eval()
    np.testing.assert_allclose(model.log_prob(rows), stats.multivariate_normal(mean, covariance).logpdf(rows))


# how much data it sees


class Counted(Bijection):
    """The identity, which keeps count of what it was initialised from."""

    def forward(self, x, context=None):
        return x, x.new_zeros(len(x))

    def inverse(self, z, context=None):
        return z

    def initialize(self, x, context=None):
        self.seen, self.told = len(x), None if context is None else len(context)
        return x


def test_it_is_initialised_from_many_examples_and_later_layers_from_a_first_batch():
    before, after, last = Counted(), Counted(), Counted()
    scales = [Chain([before, Whiten(4), after]), Chain([last])]
    model = Flow((4,), MultiScale(scales, [FactorOut((4,), context_dim=2)], (2,)), context_dim=2)
    assert model.examples == 20_000 and Flow((4,), Counted()).examples == 256
    model.initialize(torch.randn(1000, 4), torch.randn(1000, 2))
    assert [layer.seen for layer in (before, after, last)] == [1000, 256, 256]
    assert [layer.told for layer in (before, after, last)] == [1000, 256, 256]
    alone = Chain([Counted(), Counted()])
    alone.initialize(torch.randn(1000, 4))  # where none asks for more than others, all see what was given
    assert alone.parts[1].seen == 1000


def test_a_model_built_for_data_sees_as_many_as_it_asks_for_flipped_as_in_training():
    pictures = np.zeros((700, 1, 4, 4), np.uint8)
    pictures[..., 0] = 200  # a bright left edge, which flips move to the right
    split = Split(pictures, {})

    def model(event_shape):
        return Flow(event_shape, Chain([Flatten(event_shape), Whiten(16), Counted()]))

    for augment, right in (("", 0.5 / 256), ("flip", 100 / 256)):
        recipe = dataclasses.replace(families.preset("glow"), augment=augment)
        made = families.build_for(recipe, split, model)
        assert made.bijection.parts[2].seen == 256
        assert made.bijection.parts[1].mean.view(4, 4)[0, 3].item() == pytest.approx(right, rel=0.15)


def test_few_examples_and_components_left_out_are_told(tmp_path):
    layer = Whiten(30)
    layer.fit(torch.randn(40, 30))
    assert layer.remark() == "40 examples are few for 30 variances: held-out parts of them give these"
    layer.fit(torch.randn(100, 30))
    assert not layer.remark()
    low = Whiten(30, rank=10)
    low.fit(torch.randn(100, 30))
    assert low.remark() == "10 of 30 components have a variance of their own, the rest one in common"
    player = FlowPlayer(Flow((30,), low))
    assert player.begin(lambda n: (torch.zeros(n, 30), None)) == {"whitening bijection": low.remark()}


def test_a_rank_is_of_a_whitening():
    with pytest.raises(TriptychError, match="a rank is of the whitening: choose whiten=zca or pca"):
        Glow((1, 4, 4), levels=1, depth=1, width=4, rank=5)
