"""The joint method where codes overlap and attributes are correlated, on linear-Gaussian models of which all is known."""

import logging
import math

import numpy as np
import pytest
import torch
from test_edit import Rotation

from triptych import edit
from triptych.capabilities import Encodes
from triptych.codecs import Floats
from triptych.core import GenerativeModel
from triptych.edit.joint import Together, imputed, joint_pairs
from triptych.errors import TriptychError


class Identity(GenerativeModel, Encodes):
    """x = z."""

    def __init__(self, dim):
        super().__init__((dim,), dim, Floats())

    def decode(self, z, context=None):
        return z

    def encode(self, x, context=None):
        return x


def correlated(n, correlation, seed=0):
    """Two standard normal attributes (n, 2)."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, 2, generator=g)
    a[:, 1] = correlation * a[:, 0] + math.sqrt(1 - correlation**2) * a[:, 1]
    return a


def codes(a, v, noise=0.5, seed=1):
    """z = a V + e: (n, A), (A, L) -> (n, L)."""
    return a @ v + noise * torch.randn(len(a), v.shape[1], generator=torch.Generator().manual_seed(seed))


def named(a):
    return {name: a[:, j] for j, name in enumerate("abcd"[: a.shape[1]])}


def learned(z, attributes, **settings):
    return edit.learn_directions(Identity(z.shape[1]), z, attributes, **settings)


def test_a_step_is_what_z_does_when_one_of_two_correlated_attributes_moves():
    """A reading of one attribute alone has n·v < 0 here: calibrated by it, the step for a came out as (−0.79, −0.27)."""
    v = torch.tensor([[0.6, 0.18], [1.0, 0.0]])
    a = correlated(4000, -0.9)
    found = learned(codes(a, v), named(a))
    for name, step in zip("ab", v, strict=True):
        torch.testing.assert_close(found[name].step, step, atol=0.08, rtol=0)  # errors of 0.5 / √(4000 · 0.19) = 0.018
        assert float(found[name].normal @ found[name].step) == pytest.approx(found[name].scale, rel=1e-5) == 1


def test_plus_one_moves_an_attribute_by_one_within_its_error_in_random_models():
    off = []
    for seed in range(60):
        g = torch.Generator().manual_seed(seed)
        count = 2 + seed % 3
        dims = count + seed % (7 - count)
        v = torch.randn(count, dims, generator=g)
        a = correlated(1000, (-0.9, 0.9, 0.5)[seed % 3], seed)
        a = torch.cat([a, torch.randn(1000, count - 2, generator=g) + a[:, :1]], 1)
        if seed % 2:
            a[:, 1] = torch.where(a[:, 1] > 0.4, 1.0, -1.0)
        found = learned(codes(a, v, 0.3, seed + 1000), named(a))
        read = torch.linalg.pinv(v)  # of all attributes at once, unbiased: (L, A)
        error = 0.3 * (read.square().sum(0) * torch.linalg.inv((a - a.mean(0)).T @ (a - a.mean(0))).diagonal()).sqrt()
        for j, direction in enumerate(found.values()):
            moved = direction.step @ read
            assert float(direction.normal @ direction.step) == pytest.approx(1, rel=1e-4)
            off.append(float((moved[j] - 1) / error[j]))
    assert np.abs(off).max() < 4.5 and np.std(off) == pytest.approx(1, abs=0.2)


def test_what_z_tells_apart_is_read_whatever_else_moves():
    a = correlated(3000, 0.8)
    z = codes(a, torch.tensor([[1.0, 0.2, 0.0], [0.8, 1.0, 0.0]]), noise=0.05)
    found = learned(z, named(a))
    for name, value in named(a).items():
        assert (found[name].coordinate(z) - value).std() < 0.15
    moved = edit.move(z[:5], {"a": 1.0}, found, hold=["b"])
    torch.testing.assert_close(found["b"].coordinate(moved), found["b"].coordinate(z[:5]), atol=1e-4, rtol=0)
    assert (
        found["b"].coordinate(edit.move(z[:5], {}, found, add={"a": 1.0})) - found["b"].coordinate(z[:5])
    ).abs().max() < 0.05


def test_unknown_values_leave_the_steps_as_they_are():
    """A mean in their place would credit b with a third of what a does."""
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    a = correlated(6000, 0.9)
    z, holes = codes(a, v), a.clone()
    holes[torch.rand(a.shape, generator=torch.Generator().manual_seed(5)) < 0.4] = math.nan
    found = learned(z, named(holes))
    for name, step in zip("ab", v, strict=True):
        torch.testing.assert_close(found[name].step, step, atol=0.12, rtol=0)


def test_unknown_values_are_replaced_by_their_expectation():
    a = correlated(4000, 0.8).double()
    a = torch.cat([a, torch.randn(4000, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)], 1)
    holes = a.clone()
    holes[::2, 1] = math.nan
    holes[::3, 2] = math.nan
    filled = imputed(holes)
    torch.testing.assert_close(filled[::2, 1], 0.8 * a[::2, 0], atol=0.15, rtol=0)
    torch.testing.assert_close(filled[::3, 2], torch.zeros_like(filled[::3, 2]), atol=0.2, rtol=0)
    assert torch.equal(filled[holes.isfinite()], a[holes.isfinite()])
    assert imputed(a) is a


def test_what_is_determined_by_others_moves_with_them():
    v = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    a = correlated(2000, 0.5)
    z = codes(a, v)
    alone, twice = (learned(z, known) for known in (named(a), {**named(a), "q": 2 * a[:, 0] + 1, "minus": -a[:, 0]}))
    for name in "ab":
        torch.testing.assert_close(twice[name].step, alone[name].step, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(twice["q"].step, alone["a"].step / 2, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(twice["minus"].step, -alone["a"].step, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("names", ["label={}", "is_{}"])
def test_a_class_moves_from_all_the_others_to_itself(names):
    """Classes of one attribute add up to one: none could move while all the others stay."""
    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (900,), generator=g)
    means = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    z = means[label] + 0.1 * torch.randn(900, 2, generator=g)
    found = learned(z, {names.format(k): (label == k).float() for k in range(3)})
    for k, direction in enumerate(found.values()):
        expected = (z[label == k].mean(0) - z[label != k].mean(0)) / 2  # −1 to +1 is a step of 2
        torch.testing.assert_close(direction.step, expected, atol=1e-3, rtol=1e-3)


def test_an_attribute_that_only_follows_another_is_refused():
    a = correlated(4000, 0.8)
    z = codes(a, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    train, test = map(named, a.chunk(2))
    for method in ("joint", "regression"):
        found = edit.judge(Identity(3), learned(z[:2000], train, method=method), z[2000:], test)
        assert found["a"].judged["slope"] > 0.9 and found["a"].judged["worthless"] is False
        assert abs(found["b"].judged["slope"]) < 0.1 + 2 * found["b"].judged["slope_stderr"]
        assert found["b"].judged["worthless"] is True
        edit.refuse_worthless(found, ["a"])
        with pytest.raises(TriptychError, match="direction b reads held-out data no better than chance"):
            edit.refuse_worthless(found, ["b"])


def test_slopes_and_their_errors_are_those_of_least_squares():
    a, g = correlated(300, 0.7), torch.Generator().manual_seed(3)
    c = 2 * a[:, 0] - a[:, 1] + torch.randn(300, generator=g)
    design = torch.cat([a, torch.ones(300, 1)], 1).double()
    beta = torch.linalg.lstsq(design, c.double()[:, None]).solution[:, 0]
    variance = (c - design @ beta).square().sum() / (300 - 3) * torch.linalg.inv(design.T @ design).diagonal()
    for j, name in enumerate("ab"):
        slope, stderr = Together(named(a)).slope(name, c)
        assert slope == pytest.approx(float(beta[j]), rel=1e-5) and stderr == pytest.approx(
            float(variance[j] ** 0.5), rel=1e-5
        )
    assert Together(named(a[:2])).slope("a", c[:2]) is None


@pytest.mark.parametrize("n", [20, 400])
def test_thousands_of_dimensions_and_few_examples(n):
    g = torch.Generator().manual_seed(0)
    z = torch.randn(n, 500, generator=g)
    high = (torch.arange(n) % 2).float()
    z[:, 0] += 4 * high
    age = torch.randn(n, generator=g)
    z[:, 1] += 3 * age
    found = learned(z, {"high": high, "age": age, "flat": torch.ones(n)}, names=["high", "age"])
    for j, (name, size) in enumerate((("high", 2.0), ("age", 3.0))):
        assert float(found[name].normal @ found[name].step) == pytest.approx(1, rel=1e-3)
        assert float(found[name].step[j]) == pytest.approx(size, abs=4 / n**0.5)
        assert found[name].step.isfinite().all() and found[name].normal.isfinite().all()


def test_what_leaves_no_trace_is_skipped_and_said(caplog):
    g = torch.Generator().manual_seed(0)
    a = correlated(200, 0.3)
    z = codes(a, torch.eye(2), 0.1)
    with pytest.raises(TriptychError, match="leaves no trace"):
        learned(torch.zeros(200, 2), named(a))
    half = torch.cat([z[:100], torch.zeros(100, 2)])
    known = {"a": a[:, 0], "late": torch.cat([torch.full((100,), math.nan), torch.randn(100, generator=g)])}
    with caplog.at_level(logging.WARNING):
        found = learned(half, known, method="means")
    assert list(found) == ["a"] and "late leaves no trace" in caplog.text


def test_values_that_exclude_one_another_are_named():
    a = correlated(2000, 0.5)
    z = codes(a, torch.eye(2))
    found = learned(z, {**named(a), "q": 2 * a[:, 0] + 1, "again": a[:, 0]})
    both = edit.move(z[:3], {"a": 1.0, "q": 3.0}, found)  # these agree
    torch.testing.assert_close(found["q"].coordinate(both), torch.full((3,), 3.0), atol=1e-2, rtol=0)
    for values, hold, names in [({"a": 1.0, "q": 5.0}, [], "a, q"), ({"a": 1.0}, ["again"], "a, again")]:
        with pytest.raises(TriptychError, match=f"^{names} move the same thing"):
            edit.move(z[:3], values | ({"b": 0.0} if not hold else {}), found, hold=hold)
    with pytest.raises(TriptychError, match="cannot take these values together"):
        edit.move(z[:3], {}, found, add={"a": torch.tensor([0.0, 1.0, 0.0])}, hold=["q"])
    assert torch.equal(edit.move(z[:3], {}, found, add={"a": 0.0}), z[:3])


def test_units_do_not_make_values_exclude_one_another():
    a = correlated(2000, 0.8)
    z = codes(a, torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    found = learned(z, {"a": a[:, 0], "b": 1e5 * a[:, 1]})
    moved = found.coordinates(edit.move(z[:3], {"a": 1.0, "b": 2e5}, found))
    torch.testing.assert_close(moved["a"], torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(moved["b"], torch.full((3,), 2e5), atol=0, rtol=1e-3)


def test_a_binary_attribute_is_judged_from_class_to_class():
    """Not over its range, which is as wide as its noise."""
    model = Rotation()
    v = torch.ones(6)
    direction = edit.Direction("c", "binary", v / 6, 0.0, 1.0, v, range=(-9.0, 9.0))
    other = edit.Direction("d", "continuous", torch.eye(6)[0], 0.0, 1.0, torch.eye(6)[0], range=(-3.0, 3.0))
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    judged = edit.judge(model, edit.Directions(c=direction, d=other), x, {})
    spread = float(model.encode(x).detach()[:256, 0].std(correction=0))
    assert judged["c"].judged["share"] == pytest.approx(1, rel=1e-3)
    assert judged["c"].judged["leakage"]["d"] == pytest.approx(2 / spread, rel=1e-3)
    assert judged["d"].judged["share"] == pytest.approx(1, rel=1e-3)


def test_pairs_of_nothing_are_zero():
    pair = joint_pairs(torch.zeros(50, 3), named(correlated(50, 0.2)), ["a"])["a"]
    assert not pair.normal.any() and not pair.step.any()
