"""Attributes as a context: how they are encoded, hidden and asked for, in Python and on the command line."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import triptych
from triptych import edit, families, parts
from triptych.cli import main
from triptych.codecs import Attribute, Conditions
from triptych.data import Split
from triptych.errors import TriptychError
from triptych.evaluate import evaluate, statistics
from triptych.training import fit
from triptych.training.run import Run

GIVEN = Conditions(
    [
        Attribute("glasses", "binary"),
        Attribute("age", "continuous", mean=40.0, std=10.0),
        Attribute("mood", "class", ("glad", "sad", "calm")),
    ]
)


def test_a_context_is_what_its_table_says():
    context = GIVEN.encode({"glasses": [1, 0, np.nan], "age": [50, np.nan, 40], "mood": [2, np.nan, 0]})
    expected = [[1, 1, 1, 0, 0, 1], [-1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]
    assert torch.equal(context, torch.tensor(expected, dtype=torch.float32)) and GIVEN.dim == 6
    assert not GIVEN.encode({}, 4).any() and GIVEN.encode({"other": [1], "age": [3]}, 1).shape == (1, 6)
    assert torch.equal(
        GIVEN.encode({"glasses": ["yes", "unknown"], "mood": ["sad", "calm"]})[:, [0, 4]], torch.tensor([[1.0, 1], [0, 0]])
    )
    with pytest.raises(TriptychError, match="did you mean age"):
        GIVEN.encode({"agee": [1]})


@given(st.floats(-50, 150), st.booleans(), st.sampled_from(["glad", "sad", "calm"]))
def test_texts_say_the_same_as_values(age, glasses, mood):
    text = GIVEN.parse(f"age={age!r}, glasses={'yes' if glasses else 'no'},mood={mood}")
    values = {"age": [age], "glasses": [glasses], "mood": [("glad", "sad", "calm").index(mood)]}
    assert torch.allclose(text, GIVEN.encode(values))
    assert not GIVEN.parse("age=unknown,mood=?").any()


@pytest.mark.parametrize(
    "text, said",
    [
        ("glases=1", "did you mean glasses"),
        ("glasses", "name=value"),
        ("glasses=maybe", "yes, no, or a number from 0 to 1"),
        ("glasses=2", "yes, no, or a number from 0 to 1"),
        ("mood=angry", "one of glad, sad, calm"),
        ("age=old", "a finite number"),
        ("age=inf", "a finite number"),
    ],
)
def test_words_that_cannot_be_are_named(text, said):
    with pytest.raises(TriptychError, match=said):
        GIVEN.parse(text)


def test_attributes_that_cannot_be_conditions_are_named():
    values = {"empty": np.full(5, np.nan), "many": np.arange(5.0) * 1000}
    with pytest.raises(TriptychError, match="no known values"):
        Conditions.of(["empty"], values, {"empty": "continuous"})
    with pytest.raises(TriptychError, match="4001 classes"):
        Conditions.of(["many"], values, {"many": "class"})
    with pytest.raises(TriptychError, match="did you mean many"):
        Conditions.of(["mani"], values, {})
    with pytest.raises(TriptychError, match="each once"):
        Conditions([Attribute("a", "binary"), Attribute("a", "binary")])
    with pytest.raises(TriptychError, match="class from 0 to 2"):
        GIVEN.encode({"mood": [3.0]})


def test_hiding_makes_whole_attributes_unknown():
    context = GIVEN.encode({"glasses": np.ones(4000), "age": np.full(4000, 60.0), "mood": np.ones(4000)})
    torch.manual_seed(0)
    hidden = GIVEN.hide(context, 0.25)
    assert torch.equal(GIVEN.hide(context, 0.0), context) and not GIVEN.hide(context, 1.0).any()
    assert set(map(tuple, hidden[:, 1:3].tolist())) == {(0.0, 0.0), (2.0, 1.0)}
    for column in (0, 1, 4):
        assert 0.21 < (hidden[:, column] == 0).float().mean() < 0.29
    together = (hidden[:, 0] == 0) & (hidden[:, 1] == 0)
    assert 0.04 < together.float().mean() < 0.09  # each for itself


def test_conditions_survive_a_checkpoint():
    again = parts.build(parts.describe(GIVEN), {"Conditions": Conditions})
    assert again.attributes == GIVEN.attributes


@pytest.fixture(scope="module")
def red_or_not():
    """Pictures whose `red` decides their colour and whose brightness is `light`."""
    random = np.random.default_rng(0)
    red, light = random.integers(0, 2, 400), random.uniform(0, 1, 400)
    pictures = random.integers(0, 30, (400, 3, 8, 8)) + (120 * light)[:, None, None, None]
    pictures[:, 0] += 90 * red[:, None, None]
    return Split(pictures.astype(np.uint8), {"red": red, "light": light})


@pytest.mark.parametrize("name", ["vae", "dcgan", "glow"])
def test_samples_show_what_is_asked_for(name, red_or_not, tmp_path):
    start = families.preset(name)
    small = {"vae": {"latent_dim": 4, "width": 8}, "dcgan": {"latent_dim": 4, "width": 8}, "glow": {"depth": 2, "width": 16}}
    training = dataclasses.replace(start.training, batch=32, rate=3e-3, ema=0.98, rate_warmup=0, save_every=1000)
    recipe = dataclasses.replace(
        start, given="red,light", steps=250, training=training, model=dataclasses.replace(start.model, **small[name])
    )
    run = Run.create(tmp_path / "run", recipe, families.build_for(recipe, red_or_not))
    fit(run, red_or_not, notice=lambda line: None)
    model, noise = triptych.load(tmp_path / "run"), torch.Generator().manual_seed(0)
    yes, no = (model.sample(100, context=model.conditions.parse(f"red={r},light=0.5"), generator=noise) for r in (1, 0))
    reds = [(x[:, 0] - x[:, 1]).mean((1, 2)) for x in (yes, no)]
    assert (reds[0] > 0.18).float().mean() > 0.9 and (reds[1] < 0.18).float().mean() > 0.9
    if name == "dcgan":
        return
    x = model.codec.centre(red_or_not[:20])
    context = model.conditions.encode({k: v[:20] for k, v in red_or_not.attributes.items()})
    turned = edit.change_context(model, x, context, context * torch.tensor([-1.0, 1.0, 1.0]))
    change = ((turned[:, 0] - turned[:, 1]) - (x[:, 0] - x[:, 1])).mean((1, 2))
    assert (change.sign() == -context[:, 0]).float().mean() > 0.9
    measured = evaluate(model, red_or_not, k=10, images=100, hmc=0)
    assert measured["nll"].value < measured["nll_unconditional"].value
    scores = statistics(model, red_or_not[:20], context=context, k=5)
    wrong = statistics(model, red_or_not[:20], context=context * torch.tensor([-1.0, 1.0, 1.0]), k=5)
    assert (scores["log_prob"] > wrong["log_prob"]).float().mean() > 0.8  # Bayes' rule


def test_the_command_line(tmp_path, capsys):
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["file_name,smile,glasses"]
    for i in range(40):
        Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,{random.uniform():.2f},{'yes' if i % 2 else 'no'}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    run = str(tmp_path / "run")
    words = ["--data", str(folder), "--given", "smile,glasses", "--steps", "4", "--training.batch", "8"]
    assert main(["train", "glow", *words, "--out", run, "--model.depth", "1", "--model.width", "8"]) == 0
    face, out = str(folder / "00.png"), str(tmp_path / "out.png")
    assert main(["sample", run, "--n", "2", "--given", "smile=1,glasses=yes", "--out", out]) == 0
    assert main(["edit", run, face, "--given", "glasses=yes", "--known", "glasses=no", "--out", out]) == 0
    scores = tmp_path / "scores.csv"
    assert main(["score", run, str(folder), "--out", str(scores), "--k", "2"]) == 0
    with scores.open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 40 and {"log_prob", "bits_per_dim", "log_prob_unconditional"} <= set(table[0])
    assert main(["evaluate", run, "--images", "4"]) == 0
    capsys.readouterr()
    for wrong, said in (
        (["sample", run, "--given", "smil=1"], "did you mean smile"),
        (["sample", run, "--given", "glasses=perhaps"], "yes, no"),
        (["train", "glow", "--data", str(folder), "--given", "smile,beard", "--out", str(tmp_path / "b")], "beard"),
        (["train", "--init", run, "--given", "smile", "--out", str(tmp_path / "b")], "--given"),
    ):
        assert main(wrong) == 2
        assert said in capsys.readouterr().err
    plain = str(tmp_path / "plain")
    assert main(["train", "nice", "--data", "digits", "--steps", "2", "--out", plain, "--model.hidden", "8"]) == 0
    assert main(["sample", plain, "--given", "label=1", "--out", out]) == 2
    assert "without conditions" in capsys.readouterr().err


def test_other_data_number_their_classes_otherwise():
    conditions = Conditions([Attribute("animal", "class", ("cat", "dog", "eel")), Attribute("glasses", "binary")])
    values = {"animal": np.array([1.0, 2.0, np.nan]), "glasses": np.array([0.0, 1.0, np.nan])}
    kinds = {"animal": "class", "glasses": "binary"}
    context = conditions.of_data(values, kinds, {"animal": ("dog", "cat", "eel")}, 3)
    assert torch.equal(context, torch.tensor([[1.0, 0, 0, -1], [0, 0, 1, 1], [0, 0, 0, 0]]))
    with pytest.raises(TriptychError, match="animal=bee: expected one of cat, dog, eel"):
        conditions.of_data(values, kinds, {"animal": ("bee", "cat", "dog")}, 3)
    with pytest.raises(TriptychError, match="was binary in training and is class"):
        conditions.of_data(values, {**kinds, "glasses": "class"}, {}, 3)
    with pytest.raises(TriptychError, match="0 or 1, got 0 to 2"):
        conditions.encode({"glasses": [2.0, 0.0]})
    a, b = conditions.encode({"animal": [0, 0, 0], "glasses": [1, 1, np.nan]}), conditions.parse("animal=cat,glasses=no")
    assert conditions.differ(a, b.expand(3, -1)).tolist() == [True, True, False]


def test_constant_attributes_are_refused():
    for kind in ("binary", "continuous"):
        with pytest.raises(TriptychError, match="everywhere"):
            Attribute.of("s", kind, np.full(160, 0.1))
    with pytest.raises(TriptychError, match="twice"):
        GIVEN.parse("age=1,age=2")
    model = triptych.VAE((4,), 2, context_dim=3)
    with pytest.raises(TriptychError, match="finite"):
        model.eval().sample(1, context=torch.tensor([[0.0, np.nan, 0.0]]))
