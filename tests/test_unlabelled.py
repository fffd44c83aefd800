"""Directions without labels, from piles and from words, and what is measured of directions, on models that are known."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from test_edit import Rotation
from torch import nn

import triptych
from triptych import edit
from triptych.capabilities import Encodes
from triptych.cli import main
from triptych.codecs import Floats
from triptych.core import GenerativeModel
from triptych.edit.judging import drift
from triptych.errors import TriptychError
from triptych.vae import VAE

SIZE = (3, 8, 8)


class Linear(GenerativeModel, Encodes):
    """x = A z with singular values 8, 4, 2 and 1; or x = sin(A z), which turns back."""

    def __init__(self, bent=False):
        super().__init__((6,), 4, Floats())
        g = torch.Generator().manual_seed(0)
        u, v = (torch.linalg.qr(torch.randn(n, n, generator=g))[0] for n in (6, 4))
        self.v, self.bent = v, bent
        self.a = u[:, :4] * torch.tensor([8.0, 4.0, 2.0, 1.0]) @ v.T

    def decode(self, z, context=None):
        return torch.sin(z @ self.a.T) if self.bent else z @ self.a.T

    def encode(self, x, context=None):
        return x @ torch.linalg.pinv(self.a).T


def test_the_jacobians_directions_are_the_right_singular_vectors_of_a_linear_decoder():
    model = Linear()
    found = edit.unsupervised_directions(model, torch.randn(200, 6), 4, method="jacobian", draws=4000)
    assert list(found) == ["jac1", "jac2", "jac3", "jac4"]
    steps = torch.stack([d.normal for d in found.values()])
    torch.testing.assert_close((steps @ model.v).abs(), torch.eye(4), atol=0.1, rtol=0)
    torch.testing.assert_close(steps @ steps.T, torch.eye(4), atol=1e-5, rtol=0)
    for d in found.values():  # c counts standard deviations of the codes
        c = d.coordinate(model.encode(torch.randn(200, 6)))
        assert c.std() < 2 and float(d.normal @ d.step) == pytest.approx(d.scale, rel=1e-4)


def test_the_jacobian_agrees_with_autograds_own_averaged_over_draws():
    """Of a decoder that is not linear, at draws of its own prior; the same seed gives the same directions."""
    torch.manual_seed(0)
    model = VAE((5,), 3)
    for p in model.parameters():
        nn.init.normal_(p, std=0.4)
    stored = torch.randn(100, 5)
    found = edit.unsupervised_directions(model, stored, 3, method="jacobian", draws=6000)
    z = model.sample_prior(400, generator=torch.Generator().manual_seed(1))
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda z: model.decode(z[None])[0], one) for one in z])
    values, vectors = torch.linalg.eigh((jacobians.mT @ jacobians).mean(0))
    best = vectors[:, -1]
    assert values[-1] > 1.5 * values[-2]
    assert float((found["jac1"].normal @ best).abs()) > 0.98
    again = edit.unsupervised_directions(model, stored, 3, method="jacobian", draws=6000)
    assert all(torch.equal(again[name].step, found[name].step) for name in found)
    assert not any(p.grad is not None for p in model.parameters())


def test_a_flow_at_a_depth_is_drawn_from_by_its_samples():
    flow = triptych.Glow(SIZE, levels=1, depth=2, width=8)
    stored = torch.randint(256, (40, *SIZE), dtype=torch.uint8)
    flow.initialize(flow.codec.encode(stored))
    middle = edit.AtDepth(flow, 1)
    drawn = middle.sample_prior(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(middle.decode(drawn), flow.sample(8, generator=torch.Generator().manual_seed(0)))
    found = edit.unsupervised_directions(middle, stored, 2, method="jacobian", draws=8)
    assert found.depth == 1


@pytest.mark.parametrize(("wrong", "said"), [({"count": 5}, "expected 1 to 4, got 5"), ({"draws": 1}, "draws")])
def test_directions_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(TriptychError, match=said):
        edit.unsupervised_directions(Linear(), torch.randn(50, 6), **{"count": 2, "method": "jacobian", **wrong})


def piles(shift=3.0, n=40):
    """Codes of which the first coordinate is higher in the first pile."""
    z = torch.randn(2 * n, 6, generator=torch.Generator().manual_seed(0))
    z[:n, 0] += shift
    return Rotation().decode(z).detach().split(n)


def test_piles_that_differ_in_one_code_give_its_direction_and_their_means():
    model = Rotation()
    found = edit.learn_from_piles(model, *piles(), "new")
    unit = found.step / found.step.norm()
    assert float(unit[0]) > 0.95
    assert found.judged["accuracy"] > 0.85 and found.judged["majority"] == 0.5 and found.judged["worthless"] is False
    c = found.coordinate(model.encode(torch.cat(piles())).detach())
    assert float(c[:40].mean()) == pytest.approx(1, abs=1e-4) and float(c[40:].mean()) == pytest.approx(-1, abs=1e-4)


def test_piles_that_do_not_differ_are_judged_by_pictures_that_were_not_learned_from():
    """A direction of 40 dimensions separates 40 pictures that it has seen, and no others."""
    accuracies = []
    for seed in range(6):
        x = torch.randn(40, 40, generator=torch.Generator().manual_seed(seed))

        class Same(GenerativeModel, Encodes):
            def decode(self, z, context=None):
                return z

            encode = decode

        found = edit.learn_from_piles(Same((40,), 40, Floats()), x[:20], x[20:], "luck")
        accuracies.append(found.judged["accuracy"])
        seen = (found.coordinate(x) > 0) == (torch.arange(40) < 20)
        assert seen.double().mean() > 0.75
    assert abs(np.mean(accuracies) - 0.5) < 4 * 0.5 / math.sqrt(240)


def test_piles_are_measured_against_the_directions_beside_them():
    model, eye = Rotation(), torch.eye(6)
    beside = edit.Directions(
        {name: edit.Direction(name, "continuous", eye[i], 0.0, 1.0, eye[i]) for i, name in enumerate(["first", "other"])}
    )
    judged = edit.learn_from_piles(model, *piles(), "new", beside=beside).judged
    assert set(judged["leakage"]) == {"first", "other"}
    assert judged["leakage"]["first"] > 1 > abs(judged["leakage"]["other"])
    for few, name, said in (
        (5, "new", "5 pictures: 13 are needed"),
        (40, "first", "first already"),
        (40, " ", "a name"),
        (40, "a=b,c", "comma"),
    ):
        with pytest.raises(TriptychError, match=said):
            edit.learn_from_piles(model, piles()[0][:few], piles()[1], name, beside=beside)


def scorer(pictures, texts):
    """Knows the words red and light; everything is liked the better, the greener it is."""
    said = {"red": pictures[:, 0].mean((1, 2)), "light": pictures.mean((1, 2, 3))}
    green = pictures[:, 1].mean((1, 2))
    return torch.stack([green + sum((v for word, v in said.items() if word in text), 0.0 * green) for text in texts], 1)


def stored_pictures(n=200):
    values = torch.randint(0, 256, (n, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    return values.expand(n, *SIZE).to(torch.uint8)


def test_words_are_the_difference_of_two_scores_in_spreads():
    stored = stored_pictures()
    words = edit.Words(scorer, {"red": ("a red thing", "a thing"), "light": ("light", "a thing")}, stored)
    read = words(stored)
    red = stored[:, 0, 0, 0].double() / 255
    torch.testing.assert_close(read["red"].double(), (red - red.mean()) / red.std(correction=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(words(stored[:3])["red"], read["red"][:3])
    assert all(words.known[name].equal(read[name]) for name in read)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scorer": lambda pictures, texts: torch.zeros(len(pictures), 1)}, r"\(64, 2\), got \(64, 1\)"),
        ({"scorer": lambda pictures, texts: torch.full((len(pictures), 2), torch.nan)}, "not finite"),
        ({"texts": {"a": ("one thing", "a thing")}}, "no difference between 'one thing' and 'a thing'"),
        ({"texts": {"a": ("red", "")}}, "expected two texts"),
        ({"texts": {}}, "expected texts by name"),
        ({"stored": torch.randn(30, 4)}, "8-bit pictures"),
    ],
)
def test_scorers_and_texts_that_do_not_serve_are_refused(wrong, said):
    with pytest.raises(TriptychError, match=said):
        edit.Words(**{"scorer": scorer, "texts": {"red": ("red", "a thing")}, "stored": stored_pictures(), **wrong})


def test_drift_is_0_of_the_same_and_1_of_another_at_random():
    g = torch.Generator().manual_seed(0)
    people, others = torch.randn(2, 4000, 3, generator=g)
    change = dict(zip("abc", (others - people).T, strict=True))
    found = drift(change, ["a", "b", "c"])
    assert abs(found["drift"] - 1) < 4 * found["drift_stderr"] < 0.1
    assert drift({"a": torch.zeros(9)}, ["a"]) == {"drift": 0.0, "drift_stderr": 0.0}
    assert drift(change, []) == {}
    # opposite changes of two halves leak nothing on average, and are another person all the same
    opposite = {"a": torch.tensor([1.0, -1.0]).repeat(50)}
    assert drift(opposite, ["a"])["drift"] == pytest.approx(math.sqrt(0.5))


def test_drifts_error_is_that_of_repeated_samples():
    g = torch.Generator().manual_seed(0)
    found = [drift({"a": torch.randn(100, generator=g).abs() * 0.3}, ["a"]) for _ in range(400)]
    spread = np.std([f["drift"] for f in found])
    assert np.mean([f["drift_stderr"] for f in found]) == pytest.approx(spread, rel=0.15)


def one(name, i, width):
    n = torch.eye(4)[i]
    return edit.Directions({name: edit.Direction(name, "continuous", n, 0.0, 1.0, n, (-width, width))})


def test_the_safe_range_ends_where_readings_turn_back():
    """sin turns back at π/2; the reader is blind to all else."""

    class Bent(Linear):
        def decode(self, z, context=None):
            return torch.cat([torch.sin(z), torch.zeros(len(z), 2)], 1)

        def encode(self, x, context=None):
            return x[:, :4]

    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    low, high = edit.judge(Bent(), one("a", 0, 2.0), x, {})["a"].judged["safe"]
    assert -math.pi / 2 - 0.01 < low < 0 < high < math.pi / 2 + 0.01 and high - low > 1.9


def test_the_safe_range_ends_where_readings_saturate():
    """tanh rises everywhere; its slope is half of the mean within ±2, tanh(2) / 2, at 1.15."""

    class Saturating(Linear):
        def decode(self, z, context=None):
            return torch.cat([torch.tanh(z), torch.zeros(len(z), 2)], 1)

        def encode(self, x, context=None):
            return x[:, :4]

    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) / 9
    low, high = edit.judge(Saturating(), one("a", 0, 2.0), x, {})["a"].judged["safe"]
    assert -1.5 < low < -0.6 and 0.6 < high < 1.5
    assert edit.judge(Linear(), one("a", 0, 1.0), x, {})["a"].judged["safe"] == [-2.0, 2.0]  # all that was tried


def test_a_direction_that_moves_nothing_is_nowhere_safe():
    class Deaf(Linear):
        def decode(self, z, context=None):
            return super().decode(0 * z)

    assert edit.judge(Deaf(), one("a", 0, 1.0), torch.randn(50, 6), {})["a"].judged["safe"] is None


def test_identity_says_what_drift_is_read_by():
    model, x = Linear(), Linear().decode(torch.randn(100, 4))
    v = torch.tensor([1.0, 0.0, 3.0, 0.0])  # drags the third along
    known = edit.Directions({**one("b", 1, 1.0), **one("c", 2, 1.0)})
    moved = edit.Directions(a=edit.Direction("a", "continuous", torch.eye(4)[0], 0.0, 1.0, v, (-1.0, 1.0)))
    by_all = edit.judge(model, moved, x, {}, beside=known)["a"].judged
    by_b = edit.judge(model, moved, x, {}, beside=known, identity=["b"])["a"].judged
    by_c = edit.judge(model, moved, x, {}, beside=known, identity=["c"])["a"].judged
    assert by_b["drift"] < 1e-3 < by_all["drift"] < by_c["drift"]
    assert by_c["leakage"]["c"] == pytest.approx(math.sqrt(2) * by_c["drift"], rel=1e-3)
    assert set(by_all["leakage_stderr"]) == set(by_all["leakage"]) == {"b", "c"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A VAE that has not been trained: its codes still tell colours apart."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("run") / "run"
    VAE(SIZE, 6).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, colour, n in (("train", 0, 60), ("train", 2, 60), ("test", 0, 20), ("test", 2, 20)):
        (root / split / "rgb"[colour]).mkdir(parents=True)
        for i in range(n):
            pixels = random.integers(0, 80, (8, 8, 3)) + random.integers(0, 90)
            pixels[..., colour] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / "rgb"[colour] / f"{i}.png")
    return root


def learned(run, data, *words):
    told = run.parent / "told.json"
    assert main(["directions", str(run), "--data", str(data), "--json", str(told), *words]) == 0
    return json.loads(told.read_text())


def test_piles_and_the_jacobian_from_the_command_line(run, data, tmp_path, capsys):
    assert set(learned(run, data, "--unsupervised", "2", "--method", "jacobian")) == {"jac1", "jac2"}
    strips = tmp_path / "strips.png"
    folders = [str(data / "train" / colour) for colour in "rb"]
    (told,) = learned(run, data, "--piles", *folders, "--name", "red", "--strips", str(strips)).values()
    assert told["n"] == 120 and told["accuracy"] > 0.7 and set(told["leakage"]) == {"jac1", "jac2"} and "drift" in told
    with Image.open(strips) as drawn:
        assert drawn.width > 14 * 64 and drawn.height >= 64
    said = capsys.readouterr().out
    assert "drift" in said and "majority 0.500" in said and "jac1" in said
    assert list(edit.Directions.load(run)) == ["jac1", "jac2", "red"]
    again = edit.Directions.load(run)["red"]
    assert {**again.judged, "kind": again.kind, "range": list(again.range), "depth": None} == told
    for words, said in (
        (["--piles", folders[0], str(tmp_path / "none"), "--name", "x"], "two folders"),
        (["--piles", *folders], "one --name"),
        (["--piles", *folders, "--name", "x", "--unsupervised", "2"], "different directions"),
        (["--piles", *folders, "--name", "x", "--method", "joint"], "piles are learned by their means"),
        (["--unsupervised", "2", "--method", "joint"], "expected pca or jacobian"),
        (["--method", "pca"], "expected joint or means or regression"),
        (["--words", "red"], "--scorer"),
        (["--words", "red", "--scorer", "a:b"], "--against"),
        (["--words", "a, b", "--against", "c", "--scorer", "a:b"], "--name"),
        (["--words", "a", "--words", "b", "--name", "x", "--name", "x", "--against", "c", "--scorer", "a:b"], "'x' twice"),
        (["--piles", *folders, "--name", "a=b,c"], "cannot be a direction's name"),
        (["--against", "red"], "belong to --words"),
        (["--strips", str(tmp_path / "strips.gif")], "should end in .png"),
    ):
        assert main(["directions", str(run), "--data", str(data), *words]) == 2
        assert said in capsys.readouterr().err


def test_words_from_the_command_line_are_read_by_the_users_own_scorer(run, data, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_scorer.py").write_text(
        "import torch\n"
        "def make():\n"
        "    def scorer(pictures, texts):\n"
        "        red = pictures[:, 0].mean((1, 2)) - pictures[:, 2].mean((1, 2))\n"
        "        return torch.stack([red if 'red' in text else 0 * red for text in texts], 1)\n"
        "    return scorer\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["--words", "a red picture", "--against", "a picture", "--scorer", "own_scorer:make"]
    told = learned(run, data, *words)["a red picture"]
    assert told["kind"] == "continuous" and told["correlation"] > 0.6 and told["worthless"] is False
    photo = str(data / "test" / "b" / "0.png")
    assert main(["edit", str(run), photo, "--set", "a red picture=1", "--out", str(tmp_path / "x.png")]) == 0
    assert set(learned(run, data, *words, "--name", "red")) == {"red"}
    capsys.readouterr()
    assert main(["directions", str(run), "--data", str(data), *words[:-1], "own_scorer:nothing"]) == 2
    assert "--scorer own_scorer:nothing" in capsys.readouterr().err
