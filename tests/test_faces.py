"""The embedded faces: reproducible in any order and batch, distributed as promised, and legible in every attribute."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from triptych.data.faces import ATTRIBUTES, Faces, attributes, draw
from triptych.errors import TriptychError

CONTINUOUS = [name for name, a in ATTRIBUTES.items() if a.kind == "continuous"]
BINARY = [name for name, a in ATTRIBUTES.items() if a.kind == "binary"]
MANY = attributes(np.arange(20_000), seed=5)


def pearson(values, *names):
    return np.corrcoef([values[name] for name in names])[0, 1]


def many_looks(n=24, seed=11):
    return attributes(np.arange(n), seed=seed)


# Reproducibility


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(-5, 2**63))
def test_attributes_depend_on_seed_and_index_alone(indices, seed):
    correlate = {("hair_length", "beard"): -0.9, ("glasses", "age"): 0.5}
    together = attributes(indices, seed=seed, correlate=correlate)
    for place in {0, len(indices) - 1}:
        alone = attributes([indices[place]], seed=seed, correlate=correlate)
        assert all(alone[name][0] == together[name][place] for name in ATTRIBUTES)


def test_attributes_are_pinned():
    values = attributes([0, 1], seed=0)
    assert values["smile"].tolist() == pytest.approx([0.27239367, 0.13272314], abs=1e-7)
    assert values["glasses"].tolist() == [1.0, 1.0]


def test_seeds_and_stretches_differ():
    assert not np.array_equal(attributes(range(9), seed=0)["age"], attributes(range(9), seed=1)["age"])
    np.testing.assert_array_equal(Faces(5, start=7)[:], Faces(12)[7:])


@pytest.mark.parametrize("size", [16, 17, 32, 50])
def test_a_picture_is_the_same_alone_and_in_any_batch(size):
    values = attributes(np.arange(1500 if size == 32 else 20))
    batch = draw(values, size)
    for place in (0, 7, len(batch) - 1):
        assert torch.equal(draw({name: v[place] for name, v in values.items()}, size)[0], batch[place])


def test_pixels_tell_every_attribute():
    """Linear regression from 16 × 16 pixels explains at least four fifths of each attribute's variance."""
    faces = Faces(3000, 16, seed=8)
    x = np.float64(faces[:]).reshape(3000, -1) / 255
    y = np.stack(list(faces.attributes.values()), 1)
    x, y = x - x[:2500].mean(0), y - y[:2500].mean(0)
    weights = np.linalg.solve(x[:2500].T @ x[:2500] + 0.1 * np.eye(x.shape[1]), x[:2500].T @ y[:2500])
    explained = 1 - np.square(y - x @ weights)[2500:].mean(0) / y[2500:].var(0)
    assert dict(zip(faces.attributes, explained > 0.8, strict=True)) == dict.fromkeys(ATTRIBUTES, True), explained


def test_pictures_do_not_depend_on_the_number_of_threads():
    values, threads = attributes(np.arange(60)), torch.get_num_threads()
    expected = draw(values, 50)
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(draw(values, 50), expected)
    finally:
        torch.set_num_threads(threads)


def test_drawing_leaves_the_global_state_alone():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Faces(3)[:]
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


# Distribution


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_attributes_are_uniform(name):
    a = ATTRIBUTES[name]
    assert stats.kstest(MANY[name], stats.uniform(a.low, a.high - a.low).cdf).pvalue > 1e-3
    assert a.low <= MANY[name].min() and MANY[name].max() <= a.high


@pytest.mark.parametrize("name", BINARY)
def test_binary_attributes_are_fair_coins(name):
    assert set(MANY[name].tolist()) == {0.0, 1.0}
    assert abs(MANY[name].mean() - 0.5) < 0.015


def test_attributes_are_independent():
    r = np.corrcoef(list(MANY.values())) - np.eye(len(MANY))
    assert np.abs(r).max() < 0.03  # four standard errors of 20,000 pictures
    lagged = [pearson({"a": v[1:], "b": v[:-1]}, "a", "b") for v in MANY.values()]
    assert np.abs(lagged).max() < 0.03


@pytest.mark.parametrize(
    ("pair", "rho"),
    [
        (("hair_length", "beard"), -0.9),
        (("smile", "age"), 0.4),
        (("earrings", "glasses"), 0.7),
        (("glasses", "age"), 0.8),
        (("age", "earrings"), -0.3),
    ],
)
def test_the_copula_gives_the_asked_correlation(pair, rho):
    values = attributes(np.arange(20_000), correlate={pair: rho})
    assert pearson(values, *pair) == pytest.approx(rho, abs=0.02)
    for name in set(pair) & set(CONTINUOUS):
        a = ATTRIBUTES[name]
        assert stats.kstest(values[name], stats.uniform(a.low, a.high - a.low).cdf).pvalue > 1e-3


def test_several_pairs_hold_together_and_leave_the_rest_alone():
    pairs = {("hair_length", "beard"): -0.6, ("beard", "age"): 0.5, ("smile", "light"): 0.3}
    values, free = attributes(np.arange(20_000), seed=5, correlate=pairs), MANY
    for pair, rho in pairs.items():
        assert pearson(values, *pair) == pytest.approx(rho, abs=0.02)
    assert abs(pearson(values, "smile", "age")) < 0.03
    np.testing.assert_array_equal(values["skin_tone"], free["skin_tone"])


def test_ranges_widen_one_attribute():
    wide = attributes(np.arange(2000), ranges={"smile": (-2, 2)})
    np.testing.assert_allclose(wide["smile"], 2 * attributes(np.arange(2000))["smile"], atol=1e-6)
    assert wide["smile"].max() > 1.9


# Drawing


@pytest.mark.parametrize("size", [16, 17, 32, 50, 64, 128, 256])
def test_sizes_dtype_and_use_of_the_range(size):
    pictures = draw(many_looks(4), size)
    assert pictures.shape == (4, 3, size, size) and pictures.dtype == torch.uint8
    assert pictures.amin() < 60 and pictures.amax() > 200
    assert pictures.float().std() > 30


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_shows_wherever_in_its_range(name):
    """A tenth of the range (all of it for a binary one) moves some pixels by several grey levels in every picture."""
    a, looks = ATTRIBUTES[name], many_looks(48)
    low, high = (-2.0, 2.0) if name == "smile" else (a.low, a.high)
    stops = np.linspace(low, high, 2 if a.kind == "binary" else 11)
    pictures = torch.stack([draw(looks | {name: stop}).float() for stop in stops])
    change = (pictures[1:] - pictures[:-1]).abs().flatten(2)
    assert change.topk(12).values.mean(-1).amin() > 1.0
    assert (pictures[-1] - pictures[0]).abs().flatten(1).topk(36).values.mean(-1).amin() > 15


@pytest.mark.parametrize("name", CONTINUOUS)
def test_pictures_change_smoothly(name):
    """No thresholds: a step of a thousandth of the range moves no channel of any pixel by more than a few levels."""
    a = ATTRIBUTES[name]
    low, high = a.drawable
    stops = low + (high - low) * np.linspace(0, 1, 1001)
    pictures = draw({**{k: v[3] for k, v in many_looks().items()}, name: stops}).float()
    assert (pictures[1:] - pictures[:-1]).abs().amax() <= 6


def test_a_smile_goes_on_beyond_its_range():
    """Down the middle of the face the mouth opens, and its corners rise, at each step from −2 to 2."""
    pictures = draw({"smile": np.linspace(-2, 2, 9)}, 128).float()
    mouth = pictures[:, :, 72:108, 40:88]
    steps = (mouth[1:] - mouth[:-1]).square().mean((1, 2, 3)).sqrt()
    from_start = (mouth - mouth[:1]).square().mean((1, 2, 3)).sqrt()
    assert steps.min() > 5 and (from_start.diff() > 2).all()
    assert (height_of_lips(pictures).diff() > 0).all()


def height_of_lips(pictures):
    """By how many pixels the mouth's corners lie above its middle; lips are where red exceeds green most."""
    mouth = pictures[:, 0, 72:108] - pictures[:, 1, 72:108]
    rows = torch.arange(mouth.shape[1], dtype=torch.float32)[:, None]
    weight = (mouth - 90).clamp(min=0)
    middle, left, right = (weight[:, :, span] for span in (slice(62, 66), slice(50, 56), slice(72, 78)))
    level = [(part * rows).sum((1, 2)) / part.sum((1, 2)) for part in (middle, left, right)]
    return level[0] - (level[1] + level[2]) / 2


@pytest.mark.parametrize("size", [16, 24, 32, 64])
def test_antialiasing_is_consistent_across_sizes(size):
    """A picture is the average of one twice as fine, to two grey levels and, at the worst edges, to a few more."""
    looks = many_looks(16)
    fine = torch.nn.functional.avg_pool2d(draw(looks, 2 * size).float(), 2)
    error = (draw(looks, size).float() - fine).abs()
    assert error.mean() < 2 and error.flatten(1).quantile(0.99, 1).max() < 30


def test_numbers_are_broadcast_and_neutral_values_fill_in():
    neutral = {name: a.neutral for name, a in ATTRIBUTES.items()}
    assert torch.equal(draw({}), draw(neutral))
    expected = draw({name: [value] * 2 for name, value in neutral.items()} | {"smile": [-1, 1]})
    for smile in ([-1, 1], np.array([-1.0, 1.0]), torch.tensor([-1, 1])):
        assert torch.equal(draw({"smile": smile}), expected)
    assert draw({"smile": []}).shape == (0, 3, 32, 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same():
    looks = many_looks()
    difference = draw(looks, 64, device="cuda").cpu().int() - draw(looks, 64).int()
    assert difference.abs().max() <= 1


# The array


def test_faces_is_an_array():
    faces = Faces(30, 16, seed=3)
    whole = faces[:]
    assert len(faces) == 30 and faces.shape == (30, 3, 16, 16) and faces.dtype == whole.dtype == np.uint8
    np.testing.assert_array_equal(faces[[5, 2, 5]], whole[[5, 2, 5]])
    np.testing.assert_array_equal(faces[-1], whole[29])
    np.testing.assert_array_equal(faces[4:20:5], whole[4:20:5])
    np.testing.assert_array_equal(faces[np.arange(30) % 7 == 0], whole[::7])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(faces))[3:5], whole[3:5])
    np.testing.assert_array_equal(faces.attributes["beard"], attributes(range(30), seed=3)["beard"])
    with pytest.raises(IndexError):
        faces[30]


def test_faces_passes_correlations_and_ranges_on():
    faces = Faces(2000, 16, correlate={("hair_length", "beard"): -0.9}, ranges={"smile": (1, 2)})
    assert pearson(faces.attributes, "hair_length", "beard") < -0.85
    assert faces.attributes["smile"].min() >= 1


# Errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: draw({"smlie": 0}), ["smlie", "smile"]),
        (lambda: draw({"smile": float("nan")}), ["smile", "-2", "2", "nan"]),
        (lambda: draw({"smile": 2.1}), ["smile", "2.1"]),
        (lambda: draw({"age": [0.2, -0.5]}), ["age", "-0.5"]),
        (lambda: draw({"age": "old"}), ["age", "'old'"]),
        (lambda: draw({"age": [[0.2]]}), ["age", "(1, 1)"]),
        (lambda: draw({"age": [0, 1, 0], "smile": [0, 1]}), ["[2, 3]"]),
        (lambda: draw({}, 8), ["16", "256", "8"]),
        (lambda: draw({}, 32.5), ["32.5"]),
        (lambda: Faces(3, 300), ["256", "300"]),
        (lambda: Faces(-3), ["-3"]),
        (lambda: attributes([-1]), ["-1"]),
        (lambda: attributes([0.5]), ["0.5"]),
        (lambda: attributes([0], ranges={"smiles": (0, 1)}), ["smiles", "smile"]),
        (lambda: attributes([0], ranges={"smile": (-3, 1)}), ["smile", "-3"]),
        (lambda: attributes([0], ranges={"glasses": (0, 1)}), ["glasses"]),
        (lambda: Faces(9, correlate={("hair", "beard"): 0.5}), ["'hair'", "hair_length", "hair_colour"]),
        (lambda: Faces(9, correlate={("age", "beard"): 1.5}), ["age", "beard", "1.5"]),
        (lambda: Faces(9, correlate={("age", "beard"): float("nan")}), ["nan"]),
        (lambda: Faces(9, correlate={("age", "glasses"): 0.9}), ["0.866", "0.9"]),
        (lambda: Faces(9, correlate={("age", "age"): 0.9}), ["age", "different"]),
        (lambda: Faces(9, correlate={"age:beard": 0.9}), ["age:beard", "pair"]),
        (lambda: Faces(9, correlate={("age", "beard"): 0.9, ("beard", "age"): 0.9}), ["twice"]),
        (lambda: Faces(9, correlate={("age", "beard"): -1}), ["positive definite", "age:beard=-1"]),
        (
            lambda: Faces(9, correlate={("age", "beard"): 0.9, ("beard", "smile"): 0.9, ("age", "smile"): -0.9}),
            ["positive definite"],
        ),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call, words):
    with pytest.raises(TriptychError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
