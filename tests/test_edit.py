"""Directions, moves and interpolation, on a model whose latent space is known."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych import edit, storage
from triptych.capabilities import Encodes
from triptych.codecs import Floats
from triptych.core import GenerativeModel
from triptych.errors import TriptychError
from triptych.pretrained import stamp


class Rotation(GenerativeModel, Encodes):
    """x = R z, an exact encoder: what a flow would be."""

    def __init__(self, dim=6):
        super().__init__((dim,), dim, Floats())
        q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(3)))
        self.rotation = torch.nn.Parameter(q)

    def decode(self, z, context=None):
        return self.check_latent(z) @ self.rotation.T

    def encode(self, x, context=None):
        return self.check_event(x) @ self.rotation


def world(n=2000, correlation=0.0, noise=0.05):
    """Codes whose first three axes carry attributes: continuous a, b (correlated), binary c."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(n, 6, generator=g)
    z[:, 1] = correlation * z[:, 0] + math.sqrt(1 - correlation**2) * z[:, 1]
    a = z[:, 0] + noise * torch.randn(n, generator=g)
    b = 3 + 2 * z[:, 1] + noise * torch.randn(n, generator=g)
    c = (z[:, 2] + 0.3 * torch.randn(n, generator=g) > 0).float()
    model = Rotation()
    return model, model.decode(z).detach(), {"a": a.numpy(), "b": b.numpy(), "c": c.numpy()}


METHODS = ["means", "regression", "joint"]


@pytest.mark.parametrize("method", METHODS)
def test_coordinates_are_calibrated(method):
    model, x, attributes = world()
    found = edit.learn_directions(model, x, attributes, method=method)
    c = found.coordinates(model.encode(x).detach())
    for name in ("a", "b"):
        slope = np.polyfit(attributes[name], c[name].numpy(), 1)
        np.testing.assert_allclose(slope, [1, 0], atol=0.02)
    high = torch.tensor(attributes["c"]) == 1
    assert c["c"][high].mean().item() == pytest.approx(1, abs=1e-4)
    assert c["c"][~high].mean().item() == pytest.approx(-1, abs=1e-4)
    for direction in found.values():
        assert float(direction.normal @ direction.step) == pytest.approx(direction.scale, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_setting_and_adding(method):
    model, x, attributes = world()
    found = edit.learn_directions(model, x, attributes, method=method)
    edited = edit.apply(model, x[:5], {"a": 1.5, "b": "+0.5"}, found)
    before, after = (found.coordinates(model.encode(v).detach()) for v in (x[:5], edited))
    torch.testing.assert_close(after["a"], torch.full((5,), 1.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(after["b"], before["b"] + 0.5, atol=1e-4, rtol=0)


def test_joint_directions_do_not_drag_a_correlated_attribute_along():
    model, x, attributes = world(correlation=-0.9)
    true_b = lambda v: 3 + 2 * model.encode(v)[:, 1].detach()  # noqa: E731
    drag = {}
    for method in METHODS:
        found = edit.learn_directions(model, x, attributes, method=method)
        moved = edit.apply(model, x[:50], {"a": "+2"}, found)
        drag[method] = (true_b(moved) - true_b(x[:50])).mean().abs().item()
    assert drag["means"] > 2  # 2 · 0.9 · 2 = 3.6: hair and beard cannot be told apart
    assert drag["joint"] < 0.3


def test_hold_keeps_a_coordinate():
    model, x, attributes = world(correlation=0.6)
    found = edit.learn_directions(model, x, attributes, method="means")
    before = found.coordinates(model.encode(x[:5]).detach())["b"]
    held = edit.apply(model, x[:5], {"a": 2.0}, found, hold=["b"])
    free = edit.apply(model, x[:5], {"a": 2.0}, found)
    after = {n: found.coordinates(model.encode(v).detach())["b"] for n, v in (("held", held), ("free", free))}
    torch.testing.assert_close(after["held"], before, atol=1e-4, rtol=0)
    assert (after["free"] - before).abs().max() > 0.1


def test_judging_on_held_out_data():
    model, x, attributes = world()
    found = edit.learn_directions(model, x[:1500], {n: a[:1500] for n, a in attributes.items()})
    judged = edit.judge(model, found, x[1500:], {n: a[1500:] for n, a in attributes.items()})
    assert judged["a"].judged["r2"] > 0.98 and judged["c"].judged["accuracy"] > 0.85
    assert judged["c"].judged["auc"] > 0.9 and judged["a"].judged["n"] == 500
    assert abs(judged["a"].judged["leakage"]["b"]) < 0.1
    correlated = world(correlation=-0.9)
    found = edit.learn_directions(*correlated, method="means")
    leak = edit.judge(correlated[0], found, correlated[1], correlated[2])["a"].judged["leakage"]["b"]
    assert leak < -1


@pytest.mark.parametrize("method", METHODS)
def test_unknown_labels_are_left_out(method):
    model, x, attributes = world()
    holes = {name: a.copy() for name, a in attributes.items()}
    holes["a"][::3] = np.nan
    holes["c"][1::4] = np.nan
    found = edit.learn_directions(model, x, holes, method=method)
    judged = edit.judge(model, found, x, holes)
    assert judged["a"].judged["r2"] > 0.95 and judged["c"].judged["accuracy"] > 0.85


def test_a_held_out_set_of_one_class_is_scored_right_way_up():
    model, x, attributes = world()
    found = edit.learn_directions(model, x, attributes)
    low = attributes["c"] == 0
    judged = edit.judge(model, found, x[low], {"c": attributes["c"][low]})
    assert judged["c"].judged["accuracy"] > 0.8 and judged["c"].judged["auc"] is None


def test_a_single_held_out_example_is_judged_without_nonsense(tmp_path):
    model, x, attributes = world()
    found = edit.judge(model, edit.learn_directions(model, x, attributes), x[:1], {n: a[:1] for n, a in attributes.items()})
    assert "r2" not in found["a"].judged
    found.save(tmp_path)
    edit.Directions.load(tmp_path)


def test_directions_of_other_weights_are_refused(tmp_path):
    model, x, attributes = world()
    storage.write_tensors(tmp_path / "model.safetensors", {"these weights": torch.ones(1)})
    edit.learn_directions(model, x, attributes).save(tmp_path)
    assert edit.Directions.load(tmp_path)
    storage.write_tensors(tmp_path / "model.safetensors", {"trained further": torch.ones(1)})
    with pytest.raises(TriptychError, match="other weights"):
        edit.Directions.load(tmp_path)


def test_directions_belong_to_the_weights_they_were_learned_of(tmp_path):
    """Also where a training has replaced those before the directions were stored."""
    model, x, attributes = world()
    storage.write_tensors(tmp_path / "model.safetensors", {"these weights": torch.ones(1)})
    before = stamp(tmp_path)
    storage.write_tensors(tmp_path / "model.safetensors", {"trained meanwhile": torch.ones(1)})
    edit.learn_directions(model, x, attributes).save(tmp_path, before)
    with pytest.raises(TriptychError, match="other weights"):
        edit.Directions.load(tmp_path)


@pytest.mark.parametrize("change", [{"scale": 0}, {"offset": "abc"}, {"range": [1]}, {"scale": None}])
def test_damaged_directions_are_named(tmp_path, change):
    model, x, attributes = world(100)
    edit.learn_directions(model, x, {"a": attributes["a"]}).save(tmp_path)
    stored = json.loads((tmp_path / "directions.json").read_text())
    stored["directions"]["a"] |= change
    (tmp_path / "directions.json").write_text(json.dumps(stored))
    with pytest.raises(TriptychError, match="learn them again"):
        edit.Directions.load(tmp_path)


def test_unsupervised_directions_count_standard_deviations():
    model, x, _ = world(correlation=0.9)
    found = edit.unsupervised_directions(model, x, 3)
    assert list(found) == ["pc1", "pc2", "pc3"]
    c = found["pc1"].coordinate(model.encode(x).detach())
    assert c.std().item() == pytest.approx(1, rel=1e-3) and c.mean().item() == pytest.approx(0, abs=1e-3)
    with pytest.raises(TriptychError, match="expected 1 to 6"):
        edit.unsupervised_directions(model, x, 7)


class Moved(Rotation):
    """x = R (z + 5 c e₀), where c is the context, 0 where it is unknown."""

    def __init__(self):
        super().__init__()
        self.context_dim = 1

    def decode(self, z, context=None):
        return super().decode(z + self.shift(context, len(z)))

    def encode(self, x, context=None):
        return super().encode(x) - self.shift(context, len(x))

    def shift(self, context, n):
        return 5 * self.check_context(context, n) * torch.eye(6)[:1]


def test_directions_of_a_conditional_model_are_learned_from_codes_given_their_context():
    model, context = Moved(), torch.tensor([[-1.0], [1.0]]).repeat(1000, 1)
    z = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0))
    x, known = model.decode(z, context).detach(), {"a": z[:, 0], "b": z[:, 1]}
    found = edit.learn_directions(model, x, known, context=context)
    plain = edit.learn_directions(Rotation(), Rotation().decode(z).detach(), known)
    for name in known:
        torch.testing.assert_close(found[name].normal, plain[name].normal, atol=1e-3, rtol=1e-2)
        assert found[name].range == pytest.approx(plain[name].range, abs=1e-2)
    judged = edit.judge(model, found, x, known, context=context)
    assert judged["a"].judged["r2"] > 0.99 > edit.judge(model, found, x, known)["a"].judged["r2"]
    assert abs(judged["a"].judged["leakage"]["b"]) < 0.05
    spread = lambda context: edit.unsupervised_directions(model, x, 1, context=context)["pc1"].scale  # noqa: E731
    assert spread(context) < 1.2 and spread(None) > 5
    edited = edit.apply(model, x[:4], {"a": 1.5}, found, context=context[:4])
    torch.testing.assert_close(model.encode(edited, context[:4])[:, 0].detach(), torch.full((4,), 1.5), atol=1e-2, rtol=0)
    with pytest.raises(TriptychError, match=r"context should be \(2000, 1\)"):
        edit.learn_directions(model, x, known, context=context[:7])


def test_directions_survive_storage(tmp_path):
    model, x, attributes = world()
    found = edit.judge(model, edit.learn_directions(model, x, attributes), x, attributes)
    found.save(tmp_path)
    again = edit.Directions.load(tmp_path)
    assert list(again) == list(found)
    for name in found:
        assert torch.equal(again[name].normal, found[name].normal) and torch.equal(again[name].step, found[name].step)
        assert again[name].judged == found[name].judged and again[name].range == found[name].range
    assert not list(tmp_path.glob("*.pkl"))


@given(n=st.integers(2, 7))
def test_interpolation_is_linear_in_z_and_meets_its_ends(n):
    model, x, _ = world(50)
    walk = edit.interpolate(model, x[:2], x[2:4], n)
    assert walk.shape == (2, n, 6)
    torch.testing.assert_close(walk[:, 0], x[:2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(walk[:, -1], x[2:4], atol=1e-5, rtol=1e-5)
    steps = walk.diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), atol=1e-5, rtol=1e-4)


@given(quarter=st.integers(1, 3))
def test_a_manifold_meets_its_four_examples(quarter):
    model, x, _ = world(50)
    n = 4 * quarter
    surface = edit.manifold(model, x[:4], n)
    assert surface.shape == (n, n, 6)
    corners = {(0, 0): x[0], (0, quarter): x[1], (quarter, 0): x[2], (quarter, quarter): x[3], (2 * quarter, 0): -x[0]}
    for (i, j), expected in corners.items():
        torch.testing.assert_close(surface[i, j], expected, atol=1e-5, rtol=1e-5)


def test_a_manifold_is_equation_19_and_stays_typical():
    model, x, _ = world(50)
    z = model.encode(x[:4]).detach()
    surface = edit.manifold(model, x[:4], 7)
    a, b = 2 * math.pi * 2 / 7, 2 * math.pi * 5 / 7
    expected = math.cos(a) * (math.cos(b) * z[0] + math.sin(b) * z[1]) + math.sin(a) * (
        math.cos(b) * z[2] + math.sin(b) * z[3]
    )
    torch.testing.assert_close(model.encode(surface[2, 5][None]).detach()[0], expected, atol=1e-5, rtol=1e-5)
    sphere = torch.eye(6)[:4]  # four orthogonal codes of length 1: so is every mixture
    lengths = model.encode(edit.manifold(model, model.decode(sphere), 5).flatten(0, 1)).norm(dim=1)
    torch.testing.assert_close(lengths.detach(), torch.ones(25), atol=1e-5, rtol=0)


def test_sweeps():
    model, x, attributes = world()
    found = edit.learn_directions(model, x, attributes)
    swept = edit.sweep(model, x[:3], "a", [-3, 0, 3], found)
    assert swept.shape == (3, 3, 6)
    c = found["a"].coordinate(model.encode(swept.flatten(0, 1)).detach()).view(3, 3)
    torch.testing.assert_close(c, torch.tensor([-3.0, 0.0, 3.0]).expand(3, 3), atol=1e-3, rtol=0)


def test_errors_are_for_people():
    model, x, attributes = world(100)
    found = edit.learn_directions(model, x, attributes)
    with pytest.raises(TriptychError, match="did you mean smile"):
        edit.learn_directions(model, x, {"smile": attributes["a"]}, names=["smiles"])
    with pytest.raises(TriptychError, match="unknown direction"):
        edit.apply(model, x, {"zzz": 1.0}, found)
    with pytest.raises(TriptychError, match="expected a number"):
        edit.apply(model, x, {"a": "much"}, found)
    with pytest.raises(TriptychError, match="everywhere"):
        edit.learn_directions(model, x, {"a": np.ones(100)})
    with pytest.raises(TriptychError, match="smaller class"):
        edit.learn_directions(model, x, {"a": (np.arange(100) < 3).astype(float)})
    with pytest.raises(TriptychError, match="unknown"):
        edit.learn_directions(model, x, {"a": np.full(100, np.nan)})
    with pytest.raises(TriptychError, match="infinity"):
        edit.learn_directions(model, x, {"a": np.full(100, np.inf)})
    with pytest.raises(TriptychError, match="one value for each"):
        edit.learn_directions(model, x, {"a": np.arange(99.0)})
    with pytest.raises(TriptychError, match="dimensions"):
        found.check(7)
    with pytest.raises(TriptychError, match="at least 2"):
        edit.interpolate(model, x[:1], x[1:2], 1)
    with pytest.raises(TriptychError, match="spanned by 4 examples, got 3"):
        edit.manifold(model, x[:3], 4)
    for n in (1, 1000):
        with pytest.raises(TriptychError, match="2 to 256"):
            edit.manifold(model, x[:4], n)
    with pytest.raises(TriptychError, match="model should be a GenerativeModel, got a Linear"):
        edit.manifold(torch.nn.Linear(6, 6), x[:4], 4)
    with pytest.raises(TriptychError, match="both set and added"):
        edit.move(torch.zeros(1, 6), {"a": 1.0}, found, add={"a": 1.0})
