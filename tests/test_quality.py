"""Sample quality against closed forms and other people's code: torchmetrics, scikit-learn, SciPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.balls import precision_recall
from triptych.evaluate.distances import _frechet, _kernel, frechet_distance, kernel_distance
from triptych.evaluate.neighbours import (
    copied,
    distinct_outputs,
    nearest_ratio,
    nearest_training,
    squared_distances,
    two_sample_test,
)
from triptych.evaluate.parzen import parzen_log_likelihood
from triptych.evaluate.sliced import level_sides, sliced_wasserstein
from triptych.evaluate.structure import WEIGHTS, diversity, ms_ssim, scales_of


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, mean=0.0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64) + mean


def pictures(*shape, seed=0):
    """Blobs, not white noise: levels of a pyramid differ."""
    coarse = torch.rand(*shape[:2], 5, 5, generator=seeded(seed), dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bicubic").clamp(0, 1)


# one line a measure of two sets of rows: everything below holds for each
BETWEEN = {
    "frechet_distance": frechet_distance,
    "kernel_distance": kernel_distance,
    "precision": lambda a, b: precision_recall(a, b)["precision"],
    "recall": lambda a, b: precision_recall(a, b)["recall"],
    "density": lambda a, b: precision_recall(a, b)["density"],
    "coverage": lambda a, b: precision_recall(a, b)["coverage"],
    "sliced_wasserstein": lambda a, b: sliced_wasserstein(a, b, projections=16, generator=seeded())["swd"],
    "c2st_1nn": lambda a, b: two_sample_test(a, b, generator=seeded())["c2st_1nn"],
    "c2st_logistic": lambda a, b: two_sample_test(a, b, generator=seeded())["c2st_logistic"],
    "nearest_ratio": lambda a, b: nearest_ratio(
        b, a, normal(60, a[0].numel(), seed=9).view(-1, *a.shape[1:]), generator=seeded()
    ),
    "parzen_log_likelihood": lambda a, b: parzen_log_likelihood(a, b, b).estimate,
}
SYMMETRIC = ("frechet_distance", "kernel_distance", "sliced_wasserstein")
ROTATED = sorted(set(BETWEEN) - {"sliced_wasserstein", "c2st_logistic", "nearest_ratio"})  # these look along coordinates
SWAPPED = {"precision": "recall", "recall": "precision"}
every = pytest.mark.parametrize("name", BETWEEN)


@every
def test_estimates_are_numbers(name):
    found = BETWEEN[name](normal(50, 3), normal(70, 3, seed=1))
    assert isinstance(found, Estimate) and found.n >= 50
    assert math.isfinite(found.value) and found.stderr >= 0
    assert all(type(v) is float for v in found[:2])


@every
def test_the_same_again(name):
    a, b = normal(50, 3), normal(60, 3, seed=1)
    assert BETWEEN[name](a, b) == BETWEEN[name](a, b)


@every
def test_data_of_any_shape_are_flattened(name):
    if name == "sliced_wasserstein":
        return  # pictures are measured as pictures
    a, b = normal(40, 3, 2, 2), normal(40, 3, 2, 2, seed=1)
    assert BETWEEN[name](a, b).value == pytest.approx(BETWEEN[name](a.flatten(1), b.flatten(1)).value, rel=1e-9)


@every
def test_nan_integers_widths_and_too_few_are_refused(name):
    measure, x = BETWEEN[name], normal(40, 3)
    with pytest.raises(TriptychError, match="finite"):
        measure(x, x.clone().fill_(math.nan))
    with pytest.raises(TriptychError, match="finite"):
        measure(x * math.inf, x)
    with pytest.raises(TriptychError, match="one shape"):
        measure(x, normal(40, 4))
    with pytest.raises(TriptychError, match="divide pixels by 255"):
        measure(x.to(torch.uint8), x.to(torch.uint8))
    with pytest.raises(TriptychError, match=r"at least .* got 0"):
        measure(x, x[:0])


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetry(name):
    a, b = normal(60, 4), normal(60, 4, seed=1, mean=0.3)
    forth, back = BETWEEN[name](a, b), BETWEEN[name](b, a)
    assert forth.value == pytest.approx(back.value, rel=1e-9)
    assert forth.stderr == pytest.approx(back.stderr, rel=1e-9)


@pytest.mark.parametrize("name", SWAPPED)
def test_recall_is_precision_the_other_way(name):
    a, b = normal(60, 4), normal(80, 4, seed=1, mean=0.3)
    assert BETWEEN[name](a, b).value == BETWEEN[SWAPPED[name]](b, a).value


@pytest.mark.parametrize("name", ROTATED)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), shift=st.floats(-2, 2))
def test_orthogonal_maps_change_nothing(name, seed, shift):
    a, b = normal(40, 4, seed=seed), normal(40, 4, seed=seed + 1, mean=shift)
    q = torch.linalg.qr(normal(4, 4, seed=seed + 2)).Q
    assert BETWEEN[name](a @ q, b @ q).value == pytest.approx(BETWEEN[name](a, b).value, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(50, 4), (20, 60), (2, 5)])
def test_no_distance_between_equals(n, d):
    x = normal(n, d)
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-11)
    if n > 3:
        assert sliced_wasserstein(x, x, projections=16)["swd"] == (0, 0, n)


# ---- Fréchet


@pytest.mark.parametrize("n", [200, 30])
def test_frechet_is_torchmetrics(n):
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = normal(n, 3, 4, 4).float(), (normal(n + 7, 3, 4, 4, seed=1) * 1.3 + 0.2).float()
    theirs = FrechetInceptionDistance(torch.nn.Flatten(), input_img_size=(3, 4, 4), normalize=True).set_dtype(torch.float64)
    theirs.update(a.double(), real=True)
    theirs.update(b.double(), real=False)
    assert frechet_distance(a, b).value == pytest.approx(theirs.compute().item(), rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(300, 200), (300, 12)])
def test_frechet_is_the_formula_by_scipy(n, m):
    from scipy.linalg import sqrtm

    a, b = normal(n, 8), normal(m, 8, seed=1, mean=0.5) @ normal(8, 8, seed=2)
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    shift = (a.mean(0) - b.mean(0)).numpy()
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b).value == pytest.approx(expected, rel=1e-8)


def test_frechet_between_gaussians_of_known_moments():
    """Whitened samples have mean 0 and covariance I exactly: |μ|² + Σ(σ − 1)² without sampling error."""
    x = normal(100, 3)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), (x - x.mean(0)).T, upper=False).T
    sigma, mu = torch.tensor([0.5, 2.0, 3.0]), torch.tensor([1.0, 0.0, -2.0])
    assert frechet_distance(white, white * sigma + mu).value == pytest.approx(5 + 0.25 + 1 + 4, rel=1e-10)


def test_frechet_of_fewer_data_than_dimensions_and_of_dead_features():
    a, b = normal(15, 40), normal(25, 40, seed=1, mean=0.1)
    padded = frechet_distance(*(torch.cat([x, torch.zeros(len(x), 30)], dim=1) for x in (a, b)))
    assert padded == pytest.approx(frechet_distance(a, b), rel=1e-9)
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    trace = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace
    assert padded.value == pytest.approx(expected.item(), rel=1e-6)


def test_frechet_stderr_is_the_jackknifes():
    a, b = normal(80, 3), normal(60, 3, seed=1, mean=0.4) * 1.5
    left_a = [frechet_distance(torch.cat([a[:i], a[i + 1 :]]), b).value for i in range(80)]
    left_b = [frechet_distance(a, torch.cat([b[:i], b[i + 1 :]])).value for i in range(60)]
    expected = math.sqrt(np.var(left_a) * 79 + np.var(left_b) * 59)
    assert _frechet(a, b)[1].norm().item() == pytest.approx(expected, rel=0.05)


# ---- kernel distance


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_kernel_distance_is_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

    a, b = normal(120, 3, 4, 4).float(), normal(120, 3, 4, 4, seed=1).float() + 0.2
    theirs = KernelInceptionDistance(torch.nn.Flatten(), subsets=1, subset_size=120, normalize=True)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    ours = kernel_distance(a, b).value
    assert ours == pytest.approx(theirs.compute()[0].item(), rel=1e-3)
    assert ours == pytest.approx(poly_mmd(a.flatten(1).double(), b.flatten(1).double()).item(), rel=1e-9)


def test_kernel_distance_of_unequal_sizes_and_its_jackknife(monkeypatch):
    monkeypatch.setattr("triptych.evaluate.distances._AT_ONCE", 7)
    a, b = normal(40, 3), normal(30, 3, seed=1, mean=0.4)

    def plain(a, b):
        k = [(x @ y.T / 3 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
        within = [(m.sum() - m.diagonal().sum()) / (len(m) * (len(m) - 1)) for m in k[:2]]
        return (sum(within) - 2 * k[2].mean()).item()

    left_a = [plain(torch.cat([a[:i], a[i + 1 :]]), b) for i in range(40)]
    left_b = [plain(a, torch.cat([b[:i], b[i + 1 :]])) for i in range(30)]
    value, deviations = _kernel(a, b)
    assert kernel_distance(a, b).value == value == pytest.approx(plain(a, b), rel=1e-10)
    # the textbook's (n − 1)/n Σ(…)² is Var(n − 1 influences)/n, with n − 1 for n in the variance
    assert deviations.norm().item() == pytest.approx(math.sqrt(np.var(left_a) * 39 + np.var(left_b) * 29), rel=1e-6)


def test_kernel_distance_is_unbiased():
    values = [kernel_distance(normal(20, 2, seed=s), normal(20, 2, seed=1000 + s)).value for s in range(200)]
    assert min(values) < 0
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(200)


# ---- neighbours


def test_squared_distances_in_parts(monkeypatch):
    monkeypatch.setattr("triptych.evaluate.neighbours._AT_ONCE", 100)
    a, b = normal(33, 5) + 1000, normal(21, 5, seed=1) + 1000
    parts = list(squared_distances(a.float(), b.float()))
    assert len(parts) > 3
    torch.testing.assert_close(torch.cat(parts), torch.cdist(a.float().double(), b.float().double()) ** 2)


@pytest.mark.parametrize("at_once", [300, 8_000_000])
def test_precision_recall_is_scikit_learns_neighbours(monkeypatch, at_once):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr("triptych.evaluate.neighbours._AT_ONCE", at_once)
    real, fake, k = normal(60, 3).numpy(), normal(50, 3, seed=1, mean=0.7).numpy(), 4

    def radius(x):
        return NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1]  # without the example itself

    between = np.linalg.norm(fake[:, None] - real[None], axis=-1)  # (fake, real)
    in_real, in_fake = between <= radius(real), between <= radius(fake)[:, None]
    expected = {
        "precision": in_real.any(1).mean(),
        "recall": in_fake.any(0).mean(),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(0).mean(),
    }
    found = precision_recall(torch.as_tensor(real), torch.as_tensor(fake), k)
    assert {name: f.value for name, f in found.items()} == pytest.approx(expected)
    assert {name: f.n for name, f in found.items()} == {"precision": 50, "recall": 60, "density": 50, "coverage": 60}


def test_precision_recall_at_the_extremes():
    real = normal(60, 3)
    same, far = precision_recall(real, real), precision_recall(real, real + 100)
    assert [same[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert [f.value for f in far.values()] == [0, 0, 0, 0]
    mode = precision_recall(real, real[:1] + 1e-3 * normal(60, 3, seed=1))  # all fakes in one place
    assert mode["precision"].value == 1 and mode["recall"].value < 0.05 and mode["coverage"].value < 0.3
    equal = precision_recall(normal(1500, 2), normal(1500, 2, seed=1))
    assert equal["density"].value == pytest.approx(1, abs=0.05)
    assert equal["coverage"].value == pytest.approx(1 - 2**-3, abs=0.03)
    assert math.isnan(precision_recall(real[:7], real[:7])["recall"].stderr)


def test_precision_recall_wants_more_than_k():
    with pytest.raises(TriptychError, match="at least 6 examples in each set, got 5"):
        precision_recall(normal(9, 2), normal(5, 2), k=5)
    with pytest.raises(TriptychError, match="k should be at least 1"):
        precision_recall(normal(9, 2), normal(9, 2), k=0)


def test_nearest_training_is_scikit_learns(monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr("triptych.evaluate.neighbours._AT_ONCE", 500)
    fake, train = normal(30, 3, 2, 2), normal(100, 3, 2, 2, seed=1)
    distances, indices = nearest_training(fake, train, count=3)
    there = NearestNeighbors(n_neighbors=3).fit(train.flatten(1).numpy()).kneighbors(fake.flatten(1).numpy())
    torch.testing.assert_close(distances, torch.as_tensor(there[0]))
    assert np.array_equal(indices, there[1])


def test_a_copy_is_found_and_is_at_distance_nothing():
    train = normal(100, 50).float() + 1e4
    distances, indices = nearest_training(train[[17, 3]], train)
    assert distances.flatten().tolist() == [0, 0] and indices.flatten().tolist() == [17, 3]
    for count in (0, 101):
        with pytest.raises(TriptychError, match="from 1 to the 100 training examples"):
            nearest_training(train, train, count)


@pytest.mark.parametrize("d", [2, 20])
def test_the_nearest_ratio_tells_memory_from_novelty(d):
    train, held_out = normal(300, d), normal(500, d, seed=1)
    novel = nearest_ratio(normal(300, d, seed=2), train, held_out, generator=seeded())
    assert novel.value == pytest.approx(1, abs=0.15)
    near = nearest_ratio(train + 0.05 * normal(300, d, seed=3), train, held_out, generator=seeded())
    assert near.value + 4 * near.stderr < 0.9
    with pytest.raises(TriptychError, match="at least 2"):
        nearest_ratio(held_out[:1], train, held_out)


def test_the_nearest_ratio_where_every_sample_was_held_out():
    train, held_out = normal(50, 3), normal(50, 3, seed=1)
    copies = nearest_ratio(held_out[:20], train, held_out)
    assert copies.value == math.inf and math.isnan(copies.stderr) and copies.n == 20
    assert math.isnan(nearest_ratio(train[:20], train, train).value)  # nothing was held out


@pytest.mark.parametrize("d", [5, 50])
def test_copied_is_the_share_of_copies(d):
    train, held_out, novel = normal(1000, d), normal(100, d, seed=1), normal(200, d, seed=2)
    for share in (0, 50, 200):
        fake = torch.cat([train[:share] + 1e-3 * normal(share, d, seed=3), novel[share:]])
        found = copied(fake, held_out, train)
        assert abs(found.value - share / 200) < 4 * found.stderr + 0.02 and found.n == 200
    with pytest.raises(TriptychError, match="at least 3 training examples"):
        copied(novel, held_out, train[:2])


@pytest.mark.parametrize("count", [1, 2, 7, 20])
@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_distinct_outputs_are_counted(count, noise):
    real, outputs = normal(300, 20), normal(count, 20, seed=1)
    fake = outputs[torch.arange(300) % count] + noise * normal(300, 20, seed=2)
    found = distinct_outputs(fake, real)
    if count > 1 or not noise:  # of one alone nothing but noise is left to measure by
        assert found.value == pytest.approx(count, rel=0.1) and found.n == 300
    assert distinct_outputs(normal(300, 20, seed=3), real).value == 300 * 299 / 2


def test_the_two_sample_tests():
    same = two_sample_test(normal(300, 3), normal(200, 3, seed=1), generator=seeded())
    for found in same.values():
        assert abs(found.value - 0.5) < 4 * found.stderr and found.n == 400
    apart = two_sample_test(normal(100, 3), normal(100, 3, seed=1, mean=20), generator=seeded())
    assert [f.value for f in apart.values()] == [1, 1]
    copies = two_sample_test(normal(100, 3), normal(100, 3), generator=seeded())
    assert copies["c2st_1nn"].value == 0  # everyone's nearest is its twin in the other set
    with pytest.raises(TriptychError, match="folds"):
        two_sample_test(normal(10, 3), normal(10, 3), folds=1)


def test_the_logistic_two_sample_test_is_bayes_accuracy():
    """Two unit normals 2δ apart are told with accuracy Φ(δ), and no better."""
    found = two_sample_test(normal(1000, 2), normal(1000, 2, seed=1, mean=math.sqrt(2)), generator=seeded())
    expected = torch.special.ndtr(torch.tensor(1.0)).item()
    assert found["c2st_logistic"].value == pytest.approx(expected, abs=4 * found["c2st_logistic"].stderr)


def test_the_nearest_neighbour_test_is_scikit_learns():
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    a, b = normal(40, 2), normal(40, 2, seed=1, mean=0.5)
    x, label = torch.cat([a, b]).numpy(), np.repeat([0, 1], 40)
    expected = cross_val_score(KNeighborsClassifier(1), x, label, cv=LeaveOneOut()).mean()
    assert two_sample_test(a, b)["c2st_1nn"].value == pytest.approx(expected)


# ---- sliced Wasserstein


def test_sliced_wasserstein_of_numbers_is_scipys():
    from scipy.stats import wasserstein_distance

    a, b = normal(60, 1), normal(60, 1, seed=1, mean=0.5) * 2
    assert sliced_wasserstein(a, b)["swd"].value == pytest.approx(wasserstein_distance(a[:, 0], b[:, 0]), rel=1e-10)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    """|θ·v| of a unit θ in the plane is 2/π |v| in the mean."""
    x = normal(30, 2)
    found = sliced_wasserstein(x, x + torch.tensor([3.0, 4.0]), projections=4000, generator=seeded())["swd"]
    assert found.value == pytest.approx(5 * 2 / math.pi, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        ((1, 7, 9), ["swd_7", "swd"]),
        ((1, 28, 28), ["swd_28", "swd"]),
        ((2, 33, 47), ["swd_33", "swd_17", "swd"]),
        ((3, 64, 96), ["swd_64", "swd_32", "swd_16", "swd"]),
    ],
)
def test_sliced_wasserstein_names_its_levels(shape, keys):
    a, b = pictures(8, *shape), pictures(6, *shape, seed=1)
    found = sliced_wasserstein(a.float(), b.float(), patches=16, projections=8, generator=seeded())
    assert list(found) == keys and all(f.n == 6 for f in found.values())
    values = [f.value for f in found.values()]
    assert values[-1] == pytest.approx(np.mean(values[:-1]))
    assert min(values) > 0


def test_sliced_wasserstein_is_symmetric_and_does_not_see_brightness_or_contrast():
    a, b = pictures(20, 2, 32, 40), pictures(20, 2, 32, 40, seed=1)
    small = {"patches": 16, "projections": 8}
    forth, back = (sliced_wasserstein(*ab, **small, generator=seeded()) for ab in ((a, b), (b, a)))
    for name in forth:
        assert forth[name] == pytest.approx(back[name])
    tinted = sliced_wasserstein(a, 0.5 * b + torch.tensor([0.1, 0.3]).view(2, 1, 1), **small, generator=seeded())
    assert tinted["swd"].value == pytest.approx(forth["swd"].value, rel=1e-6)
    flat = sliced_wasserstein(torch.full_like(a, 0.5), torch.full_like(a, 0.2), **small)  # no deviation to divide by
    assert flat["swd"].value == pytest.approx(0, abs=1e-9)


def test_sliced_wasserstein_finds_the_scale_that_differs():
    """Detail is in the finest level; the coarse one does not see it."""
    a = pictures(40, 1, 64, 64)
    rough = (a + 0.05 * normal(40, 1, 64, 64, seed=1)).clamp(0, 1)
    found = sliced_wasserstein(a, rough, patches=32, projections=16, generator=seeded())
    assert found["swd_64"].value > 5 * found["swd_16"].value


def test_a_level_of_the_pyramid_with_the_coarser_ones_gives_the_picture_back():
    from triptych.evaluate.sliced import _double, _halve, _level

    x = pictures(2, 3, 37, 66)
    fine, coarse = _level(x, 0, False), _halve(x)
    torch.testing.assert_close(fine + _double(coarse, x), x)
    torch.testing.assert_close(_double(torch.ones_like(coarse), x), torch.ones_like(x))
    assert level_sides(37, 66) == [37, 19] and level_sides(31, 99) == [31]


def test_patches_are_the_pictures_own():
    from triptych.evaluate.sliced import _patches

    x = torch.arange(2 * 3 * 9 * 12.0).view(2, 3, 9, 12)
    corners = torch.tensor([[[0.0, 0.0], [0.999, 0.999]], [[0.5, 0.5], [0.0, 0.999]]])
    found = _patches(x, corners).view(2, 2, 3, 7, 7)
    assert torch.equal(found[0, 0], x[0, :, :7, :7]) and torch.equal(found[0, 1], x[0, :, 2:, 5:])
    assert torch.equal(found[1, 0], x[1, :, 1:8, 3:10]) and torch.equal(found[1, 1], x[1, :, :7, 5:])


def test_sliced_wasserstein_refuses_what_is_no_picture():
    with pytest.raises(TriptychError, match="sides of 7"):
        sliced_wasserstein(torch.rand(5, 1, 6, 20), torch.rand(5, 1, 6, 20))
    with pytest.raises(TriptychError, match="sides of 7"):
        sliced_wasserstein(torch.rand(5, 2, 20), torch.rand(5, 2, 20))
    with pytest.raises(TriptychError, match="projections should be"):
        sliced_wasserstein(torch.rand(5, 2), torch.rand(5, 2), projections=0)


# ---- structural similarity


def similar_pairs(*shape):
    x = pictures(*shape)
    y = (0.8 * x + 0.2 * torch.rand(x.shape, generator=seeded(1), dtype=x.dtype)).clamp(0, 1)
    return x, torch.cat([y[:-1], 1 - y[-1:]])


def test_ms_ssim_is_torchmetrics():
    from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

    x, y = similar_pairs(2, 1, 180, 187)
    theirs = MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0, reduction="none")(x, y)
    # it lets the windows of the coarsest scale, and of no other, leave the mirrored picture: not the paper's code
    torch.testing.assert_close(ms_ssim(x, y), theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 1, 20, 21), (5, 3, 11, 40)])
def test_ms_ssim_of_one_scale_is_torchmetrics_ssim(shape):
    """To the power of 1, and negative where structures are opposite."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    x, y = similar_pairs(*shape)
    x[0], y[0] = x[0].round(), 1 - x[0].round()
    found = ms_ssim(x, y)
    places = ssim(x, y, data_range=1.0, reduction="none", return_full_image=True)[1][..., 5:-5, 5:-5]  # windows inside
    torch.testing.assert_close(found, places.flatten(1).mean(1), rtol=1e-6, atol=1e-8)
    assert found[0] < 0


@pytest.mark.parametrize("shape", [(2, 1, 177, 180), (2, 3, 48, 50), (4, 2, 28, 24)])
def test_every_scale_of_ms_ssim_is_torchmetrics(shape):
    from torchmetrics.functional.image.ssim import _ssim_update

    x, y = similar_pairs(*shape)
    number, terms = scales_of(*shape[2:]).number, []
    p, q = x, y
    for _ in range(number):
        terms.append(_ssim_update(p, q, data_range=1.0, return_contrast_sensitivity=True)[1])
        whole = _ssim_update(p, q, data_range=1.0, return_full_image=True)[1][..., 5:-5, 5:-5].flatten(1).mean(1)
        p, q = (torch.nn.functional.avg_pool2d(v, 2) for v in (p, q))
    weights = torch.tensor(WEIGHTS[:number], dtype=x.dtype)
    terms = torch.stack([*terms[:-1], whole], dim=1).clamp(min=0)
    expected = (terms ** (weights if number == 5 else weights / weights.sum())).prod(1)
    torch.testing.assert_close(ms_ssim(x, y), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((256, 256), (5, 11)),
        ((175, 400), (4, 11)),
        ((28, 28), (2, 11)),
        ((21, 64), (1, 11)),
        ((10, 12), (1, 9)),
        ((1, 1), (1, 1)),
    ],
)
def test_scales_and_window_fit_the_picture(size, expected):
    assert scales_of(*size) == expected
    x = pictures(2, 1, *size)
    assert ms_ssim(x, x).tolist() == pytest.approx([1, 1])
    assert (ms_ssim(x, 1 - x) < 1).all()


def test_ms_ssim_does_not_depend_on_the_batch(monkeypatch):
    x, y = pictures(7, 1, 30, 30), pictures(7, 1, 30, 30, seed=1)
    whole = ms_ssim(x, y)
    monkeypatch.setattr("triptych.evaluate.structure._AT_ONCE", 3)
    torch.testing.assert_close(ms_ssim(x, y), whole)
    torch.testing.assert_close(ms_ssim(y, x), whole)


def test_diversity_orders_sets_by_their_variety():
    varied = pictures(60, 1, 28, 28)
    alike = 0.9 * varied[:1] + 0.1 * varied
    found, dull = (diversity(x, generator=seeded()) for x in (varied, alike))
    assert found.value + 4 * found.stderr < dull.value
    assert found.n == 30 and diversity(varied, 10).n == 10


def test_ms_ssim_and_diversity_refuse_other_pictures():
    x = torch.rand(5, 1, 12, 12)
    with pytest.raises(TriptychError, match=r"\[0, 1\], got values from [0-9.e-]+ to 25"):
        ms_ssim(x, x * 255)
    with pytest.raises(TriptychError, match="pairs of one shape"):
        ms_ssim(x, x[:3])
    with pytest.raises(TriptychError, match="give grey ones a channel"):
        ms_ssim(x[:, 0], x[:, 0])
    with pytest.raises(TriptychError, match="finite"):
        ms_ssim(x, x * math.nan)
    with pytest.raises(TriptychError, match="at least 4 pictures"):
        diversity(x[:3])


# ---- Parzen window


def test_parzen_is_scikit_learns_kernel_density(monkeypatch):
    from sklearn.neighbors import KernelDensity

    monkeypatch.setattr("triptych.evaluate.neighbours._AT_ONCE", 500)
    samples, valid, test = (torch.rand(n, 1, 2, 3, generator=seeded(n)) for n in (90, 40, 50))
    sigmas = np.logspace(-1, 0, 10)
    scored = {
        s: [KernelDensity(bandwidth=s).fit(samples.flatten(1)).score_samples(x.flatten(1)) for x in (valid, test)]
        for s in sigmas
    }
    best = max(sigmas, key=lambda s: scored[s][0].mean())
    estimate, sigma = parzen_log_likelihood(samples, valid, test)
    assert sigma == pytest.approx(best, rel=1e-12) and 0.1 < sigma < 1
    assert estimate.value == pytest.approx(scored[best][1].mean(), rel=1e-5)
    assert estimate.stderr == pytest.approx(scored[best][1].std(ddof=1) / math.sqrt(50), rel=1e-4) and estimate.n == 50


def test_parzen_far_from_every_sample_is_finite():
    far = torch.full((2, 4), 50.0)
    with pytest.warns(UserWarning, match="at the end of those given"):
        estimate, sigma = parzen_log_likelihood(torch.zeros(3, 4), far, far, [0.5, 1.0])
    assert sigma == 1 and estimate.value == pytest.approx(-2 * math.log(2 * math.pi) - 5000)


@pytest.mark.parametrize("scale", [1e-3, 0.3, 50.0, 3000.0])
def test_the_window_is_not_at_the_end_of_its_grid(scale):
    """Wherever the data lie: for samples of one point, the best σ is the spread itself."""
    samples, valid, test = torch.zeros(1, 4), scale * normal(400, 4), scale * normal(400, 4, seed=1)
    estimate, sigma = parzen_log_likelihood(samples.double(), valid, test)
    assert sigma == pytest.approx(scale, rel=0.3)
    expected = torch.distributions.Normal(0.0, scale).log_prob(test).sum(1).mean().item()
    assert estimate.value == pytest.approx(expected, abs=0.3)


def test_validation_data_that_are_samples_have_no_best_window():
    x = torch.rand(20, 3)
    with pytest.warns(UserWarning, match="validation examples that are samples"):
        assert parzen_log_likelihood(x, x, x).sigma < 1e-6


@pytest.mark.parametrize("sigmas", [[], [0.0], [-1.0, 1.0], [math.nan]])
def test_parzen_refuses_windows_without_width(sigmas):
    with pytest.raises(TriptychError, match="above 0"):
        parzen_log_likelihood(torch.rand(3, 2), torch.rand(3, 2), torch.rand(3, 2), sigmas)
