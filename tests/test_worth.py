"""What directions are worth: measures against scipy's, verdicts against chance, strengths, and what is skipped."""

import logging

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import r2_score
from test_edit import world

from triptych import edit
from triptych.data import Split
from triptych.edit.learning import judgeable, learnable
from triptych.edit.worth import read_against_chance
from triptych.errors import TriptychError

BINARY, CONTINUOUS = "binary", "continuous"


def reads(kind, n, noise, seed=0, share=0.5):
    """What a direction that reads z's only axis makes of an attribute that is z with noise; infinite noise is luck."""
    g = torch.Generator().manual_seed(seed)
    z, luck = torch.randn(n, 1, generator=g), torch.randn(n, generator=g)
    a = luck if noise == float("inf") else z[:, 0] + noise * luck
    if kind == BINARY:
        a = (a > a.quantile(1 - share)).float()
    one = torch.ones(1)
    return read_against_chance(edit.Direction("d", kind, one, 0.0, 1.0, one), z, a), z[:, 0], a


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_auc_and_its_chance_are_mann_and_whitneys(share):
    found, c, a = reads(BINARY, 200, 3.0, share=share)
    high, low = c[a == 1].numpy(), c[a == 0].numpy()
    expected = scipy.stats.mannwhitneyu(high, low, method="asymptotic", use_continuity=False)
    assert found["auc"] == pytest.approx(expected.statistic / (len(high) * len(low)))
    p = 2 * scipy.stats.norm.sf(abs(found["auc"] - found["chance"]) / found["chance_stderr"])
    assert p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found["majority"] == pytest.approx(max(share, 1 - share), abs=0.01)


def test_r2_and_correlation_are_those_of_others():
    found, c, a = reads(CONTINUOUS, 300, 0.5)
    assert found["r2"] == pytest.approx(r2_score(a.numpy(), c.numpy()), abs=1e-6)
    assert found["correlation"] == pytest.approx(scipy.stats.pearsonr(a.numpy(), c.numpy()).statistic, abs=1e-6)
    random = np.random.default_rng(0)
    shuffled = [scipy.stats.pearsonr(random.permutation(a.numpy()), c.numpy()).statistic for _ in range(1000)]
    assert found["chance_stderr"] == pytest.approx(np.std(shuffled), rel=0.1)
    rows = [random.integers(0, 300, 300) for _ in range(500)]
    assert found["stderr"] == pytest.approx(np.std([r2_score(a.numpy()[i], c.numpy()[i]) for i in rows]), rel=0.2)


@pytest.mark.parametrize("kind", [BINARY, CONTINUOUS])
@pytest.mark.parametrize("n", [12, 40, 400])
def test_luck_is_worthless_and_what_follows_is_not(kind, n):
    lucky = [reads(kind, n, float("inf"), seed)[0]["worthless"] for seed in range(100)]
    assert sum(lucky) >= 92  # two standard errors of chance: one in 44 is beyond
    assert not any(reads(kind, n, 0.3, seed)[0]["worthless"] for seed in range(20))


@pytest.mark.parametrize("kind", [BINARY, CONTINUOUS])
def test_too_few_examples_say_nothing(kind):
    for noise in (0.0, float("inf")):
        assert reads(kind, 4, noise)[0]["worthless"] is None
    one_class = read_against_chance(reads_nothing(kind), torch.zeros(30, 1), torch.zeros(30))
    assert one_class.get("worthless") is None and one_class.get("auc") is None
    assert read_against_chance(reads_nothing(kind), torch.zeros(3, 1), torch.full((3,), torch.nan)) == {}


def reads_nothing(kind):
    return edit.Direction("d", kind, torch.ones(1), 0.0, 1.0, torch.ones(1))


def test_a_direction_that_always_reads_the_same_is_worthless():
    for kind in (BINARY, CONTINUOUS):
        a = torch.arange(40.0) if kind == CONTINUOUS else torch.arange(40.0) % 2
        assert read_against_chance(reads_nothing(kind), torch.zeros(40, 1), a)["worthless"] is True


def test_only_what_was_found_worthless_is_refused():
    judged = {"worthless": True, "auc": 0.51, "chance": 0.5, "chance_stderr": 0.02}
    vector = torch.ones(1)
    given = {
        "luck": judged,
        "smile": {**judged, "worthless": False},
        "few": {"worthless": None},
        "older": {"auc": 0.5},
    }
    known = edit.Directions(
        {name: edit.Direction(name, BINARY, vector, 0.0, 1.0, vector, judged=its) for name, its in given.items()}
    )
    edit.refuse_worthless(known, ["smile", "few", "older"])
    with pytest.raises(TriptychError, match=r"luck reads .*auc 0\.51, by chance 0\.5 ± 0\.02.*--force"):
        edit.refuse_worthless(known, ["smile", "luck"])


FAR = ["2.1", -2.1, "+-2.1", torch.tensor([0.0, 9.0])]
NEAR = [1.9, "-1.9", "+1.9", torch.zeros(3)]


@pytest.mark.parametrize(("value", "far"), [*((value, True) for value in FAR), *((value, False) for value in NEAR)])
def test_strengths_far_out_are_said(value, far):
    vector = torch.ones(1)
    known = edit.Directions(smile=edit.Direction("smile", CONTINUOUS, vector, 0.0, 1.0, vector, range=(-1.0, 1.0)))
    assert len(edit.far_out(known, {"smile": value})) == far


def test_judged_directions_hold_the_verdict_on_their_way_through_a_file(tmp_path):
    model, x, attributes = world()
    attributes["luck"] = np.random.default_rng(0).normal(size=len(x)).astype(np.float32)
    found = edit.learn_directions(model, x[:1500], {n: a[:1500] for n, a in attributes.items()})
    edit.judge(model, found, x[1500:], {n: a[1500:] for n, a in attributes.items()}).save(tmp_path)
    again = edit.Directions.load(tmp_path)
    assert {name: d.judged["worthless"] for name, d in again.items()} == {"a": False, "b": False, "c": False, "luck": True}


def test_what_cannot_be_learned_is_skipped_and_named(caplog):
    model, x, attributes = world(300)
    bad = {
        "constant": np.ones(300),
        "rare": (np.arange(300) < 3).astype(float),
        "unknown": np.full(300, np.nan),
        "few": np.where(np.arange(300) < 9, np.arange(300.0), np.nan),
    }
    said = []
    found = edit.learn_directions(model, x, {**bad, "a": attributes["a"]}, notice=said.append)
    assert list(found) == ["a"] and len(said) == 4
    assert all(name in sentence for name, sentence in zip(bad, said, strict=True))
    with pytest.raises(TriptychError, match=r"constant is 1 everywhere.*rare has only 3.*unknown is unknown.*and 1 other"):
        edit.learn_directions(model, x, bad)
    with caplog.at_level(logging.WARNING, "triptych.edit"):
        edit.learn_directions(model, x, {"a": attributes["a"], "constant": np.ones(300)})
    assert "constant" in caplog.text


def test_held_out_examples_that_show_one_value_cannot_judge():
    names, said = ["rare", "clear"], []
    clear = np.arange(40) % 2
    assert judgeable({"rare": np.zeros(40), "clear": clear}, names, said.append) == ["clear"] and "rare" in said[0]
    assert judgeable({"rare": np.full(40, np.nan), "clear": clear}, names, said.append) == ["clear"]
    assert judgeable({"rare": np.zeros(5), "clear": clear[:5]}, names, said.append) == names  # the set's fault
    assert judgeable({"clear": clear}, names, said.append) == names  # held-out data without the attribute
    with pytest.raises(TriptychError, match="is 0 in all 40 held-out examples"):
        judgeable({"rare": np.zeros(40)}, ["rare"], said.append)
    assert learnable({"a": clear}, ["a"], 40, said.append) == ["a"]


def pets(values, classes=("cat", "dog", "owl"), kind="class"):
    split = Split(np.zeros((len(values), 2), np.float32), {"pet": np.array(values), "age": np.arange(len(values))},
                  {"pet": kind}, {"pet": classes} if classes else {})  # fmt: skip
    return edit.axes(split)


def test_classes_are_axes_one_against_the_rest():
    found = pets([0, 1, 2, np.nan])
    assert list(found) == ["pet=cat", "pet=dog", "pet=owl", "age"]
    np.testing.assert_array_equal(found["pet=dog"], [0, 1, 0, np.nan])
    total = sum(found[f"pet={name}"] for name in ("cat", "dog", "owl"))
    np.testing.assert_array_equal(total, [1, 1, 1, np.nan])
    assert list(pets([0, 0, 2])) == ["pet=owl", "age"]  # two that occur: one axis, the other is its opposite
    assert list(pets([7, 3, 9, 3], classes=())) == ["pet=3", "pet=7", "pet=9", "age"]
    assert list(pets([0, 1, 1], kind="binary")) == ["pet", "age"]
    few = Split(np.zeros((2, 2), np.float32), {"pet": np.array([0, 0])}, {"pet": "class"})
    assert edit.axes(few, {"pet": {0: "cat", 1: "dog"}})["pet=dog"].tolist() == [0, 0]
