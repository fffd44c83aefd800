"""Splines against Durkan et al.'s equations, groups of features, and the flow over principal components.

Shapes: b (B, C) · h (B, (3 K − 1) C) · x (B, *E) · z (B, D)
"""

import math

import numpy as np
import pytest
import torch
from scipy import interpolate, stats

import triptych
from triptych.bijections import Autoregressive, ContextAffine, Dense, Spline
from triptych.errors import TriptychError
from triptych.flow import SpectralFlow
from triptych.flow.spectral import clipped

# splines


@pytest.mark.parametrize("bins, bound", [(2, 1.0), (5, 3.0), (8, 5.0)])
def test_a_spline_interpolates_its_knots_with_the_slopes_that_it_says(bins, bound, generator):
    spline, n = Spline(bins, bound), 400
    h = torch.randn(1, spline.outputs, generator=generator).double().expand(n, -1)
    x, y, slopes = (t[0, :, 0] for t in spline._knots(h))
    assert x[0] == y[0] == -bound and x[-1] == y[-1] == bound and (x.diff() > 0).all() and (y.diff() > 0).all()
    b = torch.linspace(-bound, bound, n).double()[:, None]
    image, log_slope = spline(b, h)
    at_knots, log_slopes = spline(x[1:-1, None], h[: bins - 1])
    torch.testing.assert_close(at_knots[:, 0], y[1:-1])
    torch.testing.assert_close(log_slopes[:, 0].exp(), slopes[1:-1])
    assert (image.diff(dim=0) > 0).all()
    integral = interpolate.CubicSpline(b[:, 0], log_slope[:, 0].exp()).integrate(-bound, bound)
    assert integral == pytest.approx(2 * bound, rel=5e-3)  # the slope is the derivative: it integrates to the image's range


def test_a_spline_is_the_identity_at_first_and_beyond_its_bound_always(generator):
    spline = Spline(8, 2.0)
    b = 3 * torch.randn(1000, 2, generator=generator)
    image, log_slope = spline(b, torch.zeros(1000, 2 * spline.outputs))
    torch.testing.assert_close(image, b, atol=1e-5, rtol=0)
    assert log_slope.abs().max() < 1e-4
    image, log_slope = spline(b, 3 * torch.randn(1000, 2 * spline.outputs, generator=generator))
    beyond = b.abs() >= 2
    assert torch.equal(image[beyond], b[beyond]) and (log_slope[beyond] == 0).all()
    assert (image[~beyond] != b[~beyond]).any()


@pytest.mark.parametrize("strength", [1.0, 10.0, 100.0])
def test_splines_go_there_and_back_in_float32_however_wild_the_network(strength, generator):
    """Slopes are at least 1e-3 and bins at least a thousandth of their mean width: nothing is lost for good."""
    spline = Spline()
    b = 2 * torch.randn(2000, 3, generator=generator)
    h = strength * torch.randn(2000, 3 * spline.outputs, generator=generator)
    image, log_slope = spline(b, h)
    assert image.isfinite().all() and log_slope.isfinite().all()
    gentle = log_slope > -5
    assert (spline.inverse(image, h) - b)[gentle].abs().max() < 2e-3
    exact = spline(b.double(), h.double())[0]
    assert (spline.inverse(exact, h.double()) - b).abs().max() < 1e-4


def test_values_of_a_spline_are_refused_in_words():
    with pytest.raises(TriptychError, match="bins should be a whole number from 2"):
        Spline(1)
    with pytest.raises(TriptychError, match="bound should be a number"):
        Spline(8, 0)


# groups


def test_groups_that_do_not_fit_are_refused():
    parts = [ContextAffine((2,), 0), ContextAffine((3,), 4)]
    with pytest.raises(TriptychError, match="n groups take n sizes, n bijections and n − 1 trunks, got 2, 2 and 0"):
        Autoregressive((2, 3), parts, [])
    layer = Autoregressive((2, 3), parts, [Dense(2, 4, (8,))])
    with pytest.raises(TriptychError, match=r"are 5 features, got 6"):
        layer(torch.randn(3, 6))


def test_a_group_depends_on_those_before_it_and_on_no_other():
    torch.manual_seed(0)
    model = SpectralFlow((9,), groups=(2, 3), width=8, coupling_width=8, couplings=2, splines=1)
    model.initialize(torch.randn(64, 9))
    layer = model.bijection.parts[2]
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.3)
    jacobian = torch.autograd.functional.jacobian(lambda y: layer(y)[0][0], torch.randn(1, 9))[:, 0]
    for rows, later in ((slice(0, 2), slice(2, 9)), (slice(2, 5), slice(5, 9))):
        assert (jacobian[rows, later] == 0).all() and (jacobian[rows, : rows.stop] != 0).any()
    assert (jacobian[5:, :5] != 0).any()


def test_noise_reaches_what_groups_are_told_in_training_alone():
    torch.manual_seed(0)
    noisy, plain = (
        SpectralFlow((9,), groups=(2, 3), width=8, coupling_width=8, couplings=2, splines=1, noise=noise)
        for noise in (0.5, 0)
    )
    x = torch.randn(64, 9)
    noisy.initialize(x)
    for p in noisy.bijection.parts[2].parameters():
        torch.nn.init.normal_(p, std=0.3)
    plain.load_state_dict(noisy.state_dict())
    first, second = noisy.bijection.parts[2](x)[0], noisy.bijection.parts[2](x)[0]
    assert (first[:, :2] == second[:, :2]).all() and (first[:, 2:] != second[:, 2:]).any(0).all()
    assert torch.equal(noisy.eval().log_prob(x), plain.eval().log_prob(x))
    assert (noisy.decode(noisy.encode(x)) - x).abs().max() < 1e-4
    head = noisy.bijection.parts[2].truncated(2, (9,))
    assert torch.equal(head(x)[0], head(x)[0])
    with pytest.raises(TriptychError, match="standard deviation"):
        SpectralFlow((9,), noise=-0.1)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 4000])
def test_groups_are_clipped_to_what_there_is(size):
    sizes = clipped((4, 12, 100), size)
    assert sum(sizes) == size and all(sizes)
    assert all(a == b for a, b in zip(sizes[:-1], (4, 12, 100), strict=False))


# the model


def test_at_first_it_is_the_gaussian_of_the_data():
    rng = np.random.default_rng(0)
    mean, root = rng.normal(size=6), np.tril(rng.normal(size=(6, 6))) + 2 * np.eye(6)
    x = torch.from_numpy(mean + rng.normal(size=(20_000, 6)) @ root.T)
    model = SpectralFlow((6,), groups=(2, 2), width=8, coupling_width=8).double().eval()
    model.initialize(x)
    expected = stats.multivariate_normal(mean, root @ root.T).logpdf(x[:500].numpy())
    np.testing.assert_allclose(model.log_prob(x[:500]).detach(), expected, rtol=0.02)


def test_a_trained_one_knows_what_a_gaussian_does_not():
    """Two components on a ring: in nats of fresh data, better than the best Gaussian by far."""
    torch.manual_seed(0)

    def ring(n):
        angle = 2 * math.pi * torch.rand(n)
        points = torch.stack([angle.cos(), angle.sin()], 1) * (3 + 0.1 * torch.randn(n, 1))
        return torch.cat([points, points[:, :1] * points[:, 1:] + 0.1 * torch.randn(n, 1)], 1)

    model = SpectralFlow((3,), groups=(2,), width=32, coupling_width=32, couplings=4)
    model.initialize(ring(2000))
    before = model.log_prob(ring(1000)).mean().item()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (-model.log_prob(ring(256)).mean()).backward()
        optimizer.step()
    model.eval()
    assert model.log_prob(ring(1000)).mean().item() > before + 1.5
    x = ring(200)
    torch.testing.assert_close(model.decode(model.encode(x)), x, atol=1e-3, rtol=0)


def test_networks_in_bf16_score_alike_and_it_goes_there_and_back_in_float32():
    torch.manual_seed(0)
    model = SpectralFlow((1, 8, 8), groups=(8, 8, 16), width=32, coupling_width=32).eval()
    x = torch.rand(300, 1, 8, 8)
    model.initialize(x)
    for p in model.parameters():
        p.data.add_(0.01 * torch.randn_like(p))
    exact = model.log_prob(x)
    assert (model.decode(model.encode(x)) - x).abs().max() < 1e-4
    model.bf16 = True
    scores = model.log_prob(x)
    assert not torch.equal(scores, exact)
    torch.testing.assert_close(scores, exact, atol=1.0, rtol=0.01)


def test_it_is_made_of_numbers_and_of_any_size():
    assert isinstance(triptych.SpectralFlow((5,)), SpectralFlow)
    with pytest.raises(TriptychError, match="give at least 2"):
        SpectralFlow((1, 1, 1))
    with torch.device("meta"):
        large = SpectralFlow((3, 64, 64), groups=(16, 32), width=8, coupling_width=8)
    whiten = large.bijection.parts[1]
    assert whiten.rank == 48 and large.bijection.parts[2].sizes == (16, 32, 3 * 64 * 64 - 48)
