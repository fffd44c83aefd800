"""A GAN's life on the command line: train, evaluate, sample, doctor, directions, edit, mix."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from PIL import Image

from triptych import families
from triptych.cli import main
from triptych.edit import inversion
from triptych.pretrained import read_recipe
from triptych.recipes.recipe import OFTEN

TINY = {
    "dcgan": ["--data", "digits", "--model.width", "4", "--model.latent-dim", "4"],
    "gan": ["--data", "digits", "--model.hidden", "16", "--model.latent-dim", "4"],
}
FEW = ["--steps", "12", "--training.batch", "8", "--training.log-every", "2"]


@pytest.fixture(scope="module", params=TINY)
def run(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / request.param
    assert main(["train", request.param, *TINY[request.param], *FEW, "--out", str(out)]) == 0
    return out


@pytest.fixture
def quick(monkeypatch):
    """Few steps of learning and searching; the number of times that an encoder was learned."""
    learned = []

    def learn_encoder(model, **options):
        learned.append(1)
        return _learn(model, **{**options, "steps": 5, "batch": 8})

    _learn = inversion.learn_encoder
    monkeypatch.setattr(inversion, "learn_encoder", learn_encoder)
    monkeypatch.setattr(inversion, "invert", functools.partial(_limited, inversion.invert))
    return learned


def _limited(invert, model, x, **options):
    return invert(model, x, **{**options, "steps": 6, "restarts": 2})


def pictures(run, folder, n=4):
    values = folder / "values.npy"
    assert main(["sample", str(run), "--n", str(n), "--out", str(values)]) == 0
    paths = [folder / f"{i}.png" for i in range(n)]
    for path, picture in zip(paths, np.load(values), strict=True):
        Image.fromarray(picture.transpose(1, 2, 0).squeeze()).save(path)
    return [str(path) for path in paths]


def said_in_one_line(capsys, words, *parts):
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    last = [line for line in said.splitlines() if line.startswith("triptych: ")]
    assert len(last) == 1 and said.endswith(last[0] + "\n") and "Traceback" not in said, said
    for part in parts:
        assert part in said, said


def test_training_ends_with_a_verdict(tmp_path, capsys):
    assert main(["train", "gan", *TINY["gan"], *FEW, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "12 steps done" in said and any(
        line.startswith(("too early to say", "mode collapse")) for line in said.splitlines()
    )
    assert (tmp_path / "run" / "samples").is_dir()


def test_evaluate_measures_samples(run, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    words = ["evaluate", str(run), "--samples", "60", "--features", "pixels", "--json", str(scores)]
    assert main(words) == 0
    numbers, said = json.loads(scores.read_text()), capsys.readouterr().out
    assert {"fid", "kid", "precision", "recall", "nearest_ratio"} <= set(numbers) and "60 samples of" in said
    for name, value in numbers.items():
        assert {"value", "stderr", "n", "features"} <= set(value) and value["features"] == "pixels", name
    assert main(words) == 0 and json.loads(scores.read_text()) == numbers


@pytest.mark.parametrize(
    "extra, part",
    [
        (["--samples", "10"], "at least 50"),
        (["--samples", "1000000"], "from 0 to 100000"),
        (["--samples", "60", "--features", "inception"], "TRIPTYCH_INCEPTION"),
        (["--samples", "60", "--split", "nowhere"], "unknown split 'nowhere'"),
        (["--samples", "0"], "by its samples alone"),
        (["--samples", "60", "--temperature", "-1"], "temperature"),
    ],
)
def test_evaluate_refuses_in_one_line(run, capsys, monkeypatch, tmp_path, extra, part):
    monkeypatch.setenv("TRIPTYCH_INCEPTION", str(tmp_path / "absent.pt"))
    features = [] if "--features" in extra else ["--features", "pixels"]
    said_in_one_line(capsys, ["evaluate", str(run), *features, *extra], part)


def test_samples_are_drawn(run, tmp_path, capsys):
    for name in ("a.npy", "b.npy"):
        assert main(["sample", str(run), "--n", "3", "--seed", "2", "--out", str(tmp_path / name)]) == 0
    a, b = (np.load(tmp_path / name) for name in ("a.npy", "b.npy"))
    assert a.dtype == np.uint8 and len(a) == 3 and (a == b).all()
    assert main(["sample", str(run), "--n", "4", "--temperature", "0.5,1", "--out", str(tmp_path / "s.png")]) == 0
    said_in_one_line(capsys, ["sample", str(run), "--observe", "--out", str(tmp_path / "o.png")], "(observe)")


def test_the_doctor_writes_verdicts(run, tmp_path, capsys):
    told = tmp_path / "told.json"
    assert main(["doctor", str(run), "--samples", "40", "--json", str(told)]) == 0
    stored, said = json.loads(told.read_text()), capsys.readouterr().out
    assert stored["verdicts"] and {"spread_ratio", "nearest_ratio"} <= set(stored["samples"])
    for verdict in stored["verdicts"]:
        assert set(verdict) == {"name", "evidence", "remedy"} and verdict["name"] in said
    assert main(["doctor", str(run), "--samples", "0", "--json", str(told)]) == 0
    assert json.loads(told.read_text())["samples"] == {}
    said_in_one_line(capsys, ["doctor", str(run), "--samples", "-1"], "--samples")
    said_in_one_line(capsys, ["doctor", str(tmp_path / "nothing")], "metrics.jsonl")


def test_edits_by_a_learned_encoder_that_the_run_keeps(run, tmp_path, capsys, quick):
    (run / inversion.FILE).unlink(missing_ok=True)
    out = str(tmp_path / "out.png")
    assert main(["directions", str(run), "--unsupervised", "2"]) == 0
    assert "learning one, which is kept in the run" in capsys.readouterr().err and (run / inversion.FILE).is_file()
    assert main(["directions", str(run), "--unsupervised", "2"]) == 0 and len(quick) == 1
    files = pictures(run, tmp_path)
    assert main(["edit", str(run), *files[:2], "--set", "pc1=1", "--out", out]) == 0
    assert main(["edit", str(run), files[0], "--sweep", "pc2=-1:1:3", "--out", out]) == 0
    assert main(["mix", str(run), *files[:2], "--steps", "3", "--out", out]) == 0
    assert main(["mix", str(run), *files, "--steps", "4", "--out", out]) == 0
    (run / inversion.FILE).write_bytes(b"damaged")
    said_in_one_line(capsys, ["mix", str(run), *files[:2], "--out", out], "encoder.safetensors")
    (run / inversion.FILE).unlink()
    capsys.readouterr()
    assert main(["edit", str(run), files[0], "--set", "pc1=1", "--out", out]) == 0
    assert "no encoder to read coordinates by" in capsys.readouterr().err
    assert main(["mix", str(run), *files[:2], "--steps", "3", "--out", out]) == 0  # inversion starts from draws
    said_in_one_line(capsys, ["edit", str(run), files[0], "--inpaint", "top", "--out", out], "")


def test_what_was_learned_of_earlier_weights_is_not_used_after_more_training(tmp_path, capsys, quick):
    run, out = tmp_path / "run", str(tmp_path / "out.png")
    assert main(["train", "gan", *TINY["gan"], *FEW, "--out", str(run)]) == 0
    assert main(["directions", str(run), "--unsupervised", "2"]) == 0
    files = pictures(run, tmp_path, 2)
    assert main(["train", "--resume", str(run), "--steps", "12"]) == 0  # no step more: the weights are what they were
    assert main(["edit", str(run), files[0], "--set", "pc1=1", "--out", out]) == 0
    assert main(["train", "--resume", str(run), "--steps", "14"]) == 0
    said_in_one_line(capsys, ["edit", str(run), files[0], "--set", "pc1=1", "--out", out], "directions", "other weights")
    capsys.readouterr()
    assert main(["mix", str(run), *files, "--steps", "3", "--out", out]) == 0
    assert "is of other weights, it is left aside" in capsys.readouterr().err
    for learned in (2, 2):
        assert main(["directions", str(run), "--unsupervised", "2"]) == 0 and len(quick) == learned
    assert main(["edit", str(run), files[0], "--set", "pc1=1", "--out", out]) == 0
    said = capsys.readouterr().err
    assert said.count("the run's encoder is of other weights: learning one") == 1 and "left aside" not in said


def bright_or_dark(folder):
    """Pictures with one attribute."""
    folder.mkdir()
    for i in range(40):
        Image.fromarray(np.full((16, 16, 3), 3 * i + 100 * (i % 2), np.uint8)).save(folder / f"{i:02}.png")
    rows = [f"{i:02}.png,{i % 2}" for i in range(40)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,bright", *rows]))
    return folder


def test_attributes_become_directions(tmp_path, quick):
    run, told, photos = tmp_path / "run", tmp_path / "told.json", bright_or_dark(tmp_path / "photos")
    words = ["train", "dcgan", "--data", str(photos), *TINY["dcgan"][2:], *FEW, "--augment", "diffaug"]
    assert main([*words, "--out", str(run)]) == 0
    assert main(["directions", str(run), "--attributes", "bright", "--json", str(told)]) == 0
    assert set(json.loads(told.read_text())) == {"bright"} and len(quick) == 1


def test_what_cannot_become_directions_is_said_before_an_encoder_is_learned(tmp_path, capsys, quick):
    run, photos = tmp_path / "run", bright_or_dark(tmp_path / "photos")
    assert main(["train", "gan", "--data", str(photos), *TINY["gan"][2:], *FEW, "--out", str(run)]) == 0
    said_in_one_line(capsys, ["directions", str(run), "--attributes", "brigth"], "did you mean bright")
    said_in_one_line(capsys, ["directions", str(run), "--attributes", ","], "no attribute is named")
    said_in_one_line(capsys, ["directions", str(run), "--unsupervised", "999"], "expected 1 to 4, got 999")
    assert not quick and not (run / inversion.FILE).exists()


@pytest.mark.parametrize(
    "said, kept",
    [([], "diffaug"), (["flip"], "flip,diffaug"), (["none"], "none"), (["flip,none"], "flip,none"), (["ada"], "ada")],
)
def test_pictures_seen_often_are_augmented_unless_something_else_is_said(tmp_path, capsys, monkeypatch, said, kept):
    """It is decided when a run starts, and written down: a resumed run asks no more, nor does one of an earlier version."""
    monkeypatch.setattr("triptych.recipes.recipe.OFTEN", 0.01)
    run = tmp_path / "run"
    augment = ["--augment", *said] if said else []
    assert main(["train", "dcgan", *TINY["dcgan"], *FEW, *augment, "--out", str(run)]) == 0
    assert json.loads((run / "recipe.json").read_text())["recipe"]["augment"] == kept
    assert ("know them by heart" in capsys.readouterr().err) == ("diffaug" in kept)
    assert read_recipe(run).decided(10, pictures=True).augment == kept
    assert main(["train", "--resume", str(run), "--steps", "13"]) == 0
    assert read_recipe(run).augment == kept and "know them by heart" not in capsys.readouterr().err


@pytest.mark.parametrize("family", ["vae", "glow", "dcgan", "progressive"])
def test_what_is_left_to_the_data(family):
    recipe = dataclasses.replace(families.preset(family), steps=4000)
    often = 4000 * recipe.training.batch // OFTEN
    gan = family in ("dcgan", "progressive")
    assert recipe.decided(often, pictures=True).differentiable == ("diffaug" if gan else "none")
    assert recipe.decided(often + 1, pictures=True).differentiable == "none"
    assert recipe.decided(often, pictures=False).differentiable == "none"
    assert recipe.decided(often, pictures=False).training.validation == (None if gan else 0.1)


def test_sharpening_counts_its_own_steps():
    """A VAE's discriminator sees nothing of the steps before it plays."""
    recipe = dataclasses.replace(families.preset("vae"), steps=4000)
    sharp = dataclasses.replace(recipe, objective=dataclasses.replace(recipe.objective, sharpen=1000))
    assert not recipe.adversarial and sharp.adversarial
    assert sharp.judged_times(100) == 10 * recipe.training.batch


def test_fine_tuning_and_resuming(run, tmp_path, capsys):
    tuned, data = tmp_path / "tuned", TINY[run.name][:2]
    augment = ["--augment", "flip,ada", "--training.batch", "8"]
    assert main(["train", "--init", str(run), *data, *augment, "--steps", "4", "--out", str(tuned)]) == 0
    assert json.loads((tuned / "recipe.json").read_text())["recipe"]["augment"] == "flip,ada"
    assert main(["train", "--resume", str(tuned), "--steps", "6"]) == 0
    assert (tuned / "state" / "000000006").is_dir()
    words = ["train", "--init", str(run), *data, "--augment", "diffaug,ada", "--out", str(tmp_path / "other")]
    said_in_one_line(capsys, words, "choose one")


@pytest.mark.parametrize("family", TINY)
def test_help_names_the_games_settings(family, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", family, "--help"])
    said = capsys.readouterr().out
    assert not stop.value.code and "--objective.penalty" in said and "--training.momentum-end" in said
