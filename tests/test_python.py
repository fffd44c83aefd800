"""Training, reading and saving in one call each: they decide what the command line decides, and give what it stores."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import triptych
from triptych import edit, recipes
from triptych.cli import main
from triptych.data import Split, Splits, load
from triptych.errors import TriptychError
from triptych.families import FAMILIES, preset
from triptych.pretrained import read_recipe
from triptych.training import starting

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
VECTORS = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
QUICK: dict[str, Any] = {"model": {"latent_dim": 4, "width": 4}, "training": {"batch": 16}}
FLAGS = ["--model.latent-dim", "4", "--model.width", "4", "--training.batch", "16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    rows = ["file_name,red"]
    for i, pixels in enumerate(PICTURES):
        Image.fromarray(pixels).save(root / "photos" / f"{i:02}.png")
        rows.append(f"{i:02}.png,{i % 2}")
    (root / "photos" / "metadata.csv").write_text("\n".join(rows))
    np.save(root / "pictures.npy", PICTURES)
    np.save(root / "vectors.npy", VECTORS)
    return root


class _Started(Exception):
    """What a model was about to be built of: its weights are a pure function of both."""

    def __init__(self, recipe: recipes.Recipe, split: Split):
        super().__init__()
        self.recipe, self.split = recipe, split


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a call was about to train, or why it refuses to, instead of a training."""

    def build_for(recipe: recipes.Recipe, split: Split, factory: object) -> None:
        raise _Started(recipe, split)

    def start(call: Any) -> _Started | str:
        try:
            call()
        except _Started as found:
            return found
        except TriptychError as error:
            return str(error)
        raise AssertionError("nothing was started")

    monkeypatch.setattr(starting, "build_for", build_for)
    return start


@pytest.mark.parametrize("data", ["digits", "photos", "pictures.npy", "vectors.npy"])
@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_are_the_command_lines(family: str, data: str, folder: Path, started: Any, tmp_path: Path) -> None:
    """Recipe and training data, by a name, a folder and files; or the same refusal."""
    name = data if data == "digits" else str(folder / data)
    here = started(lambda: triptych.train(family, name))
    there = started(lambda: main(["--traceback", "train", family, "--data", name, "--out", str(tmp_path / "run")]))
    if isinstance(here, str):
        assert here == there
    else:
        assert here.recipe == there.recipe and torch.equal(here.split[:], there.split[:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["faces", "celeba10k", "mnist", "frey", "./photos"])
def test_settings_are_the_command_lines(family: str, name: str, started: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Also where a preset is made for the data, which need not be there for it to be chosen."""
    monkeypatch.setattr(starting, "load", lambda name, **options: Splits(train=Split(np.zeros((9, 3, 32, 32), np.uint8))))
    said = {"steps": 7, "seed": 3, "augment": ["flip", "shift"], "training": {"rate": 0.5}}
    flags = ["--steps", "7", "--seed", "3", "--augment", "flip,shift", "--training.rate", "0.5"]
    here = started(lambda: triptych.train(family, name, **said))
    words = ["--traceback", "train", family, "--data", name, *flags, "--out", str(tmp_path / "run")]
    assert here.recipe == started(lambda: main(words)).recipe
    assert (here.recipe.steps, here.recipe.training.rate) == (7, 0.5) and here.recipe.augment.startswith("flip,shift")


def test_an_array_trains_as_its_file_does(folder: Path, tmp_path: Path) -> None:
    """To the bit, for the split is the same; the model is that of the run's folder."""
    out = tmp_path / "run"
    model = triptych.train("vae", PICTURES, steps=3, out=out, **QUICK)
    words = ["--data", str(folder / "pictures.npy"), "--steps", "3", "--out", str(tmp_path / "cli")]
    assert main(["train", "vae", *words, *FLAGS]) == 0
    others = [triptych.load(out), triptych.load(tmp_path / "cli"), triptych.train("vae", load(PICTURES), steps=3, **QUICK)]
    for other in others:
        assert other.training is model.training is False
        for (name, value), (_, weight) in zip(model.named_parameters(), other.named_parameters(), strict=True):
            assert torch.equal(value, weight) and value.requires_grad == weight.requires_grad, name
    mine, theirs = read_recipe(out), read_recipe(tmp_path / "cli")
    assert mine is not None and mine.data == "in memory: ndarray of 40"
    assert dataclasses.replace(mine, data="") == dataclasses.replace(theirs, data="")  # type: ignore[type-var]


def test_a_run_in_memory_is_resumed_with_its_data(tmp_path: Path, capsys: Any) -> None:
    settings: dict[str, Any] = {"training": {"decay": "constant", "batch": 16}, "model": QUICK["model"]}
    whole = triptych.train("vae", PICTURES, steps=4, **settings)
    triptych.train("vae", PICTURES, steps=4, out=tmp_path / "run", **settings)
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "the data were given in memory: ndarray of 40" in capsys.readouterr().err
    with pytest.raises(TriptychError, match="the data were given in memory"):
        triptych.resume(tmp_path / "run", steps=6)
    same = triptych.resume(tmp_path / "run", PICTURES)  # is finished: nothing is played
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), same.parameters(), strict=True))
    longer = triptych.resume(tmp_path / "run", PICTURES, steps=6)
    assert not all(torch.equal(a, b) for a, b in zip(same.parameters(), longer.parameters(), strict=True))
    with pytest.raises(TriptychError, match="began with 39 training examples"):
        triptych.resume(tmp_path / "run", PICTURES[:30], steps=8)


def test_without_a_folder_nothing_stays_and_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caplog.set_level(logging.WARNING, "triptych")
    model = triptych.train("vae", PICTURES, steps=2, **QUICK)
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr() == ("", "")
    assert model.sample(2).shape == (2, 3, 16, 16)
    assert not caplog.records
    triptych.train("nice", VECTORS, steps=1, model={"hidden": [8]}, training={"batch": 64})
    assert "37 examples are fewer than" in caplog.text and capfd.readouterr() == ("", "")


def test_progress_is_shown_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    seen: list[int] = []
    triptych.train("vae", PICTURES, steps=3, progress=lambda step, numbers: seen.append(step.step), **QUICK)
    assert seen == [1, 2, 3] and capfd.readouterr() == ("", "")
    monkeypatch.setattr(triptych.progress, "_TOLD", 0.0)
    triptych.train("vae", PICTURES, steps=2, progress=True, **QUICK)
    out, err = capfd.readouterr()
    assert out == "" and "training: 2 of 2 steps took" in err


def test_ones_own_model_and_a_recipe(tmp_path: Path) -> None:
    def make(event_shape: tuple[int, ...]) -> triptych.VAE:
        return triptych.VAE(event_shape, 2)

    run = tmp_path / "run"
    own = triptych.VAE((4,), 2)
    recipe = dataclasses.replace(preset("vae"), steps=2, training=recipes.Training(batch=8))
    for model in (own, make):
        trained = triptych.train(recipe, VECTORS, model=model)
        assert trained is not model and trained.latent_dim == 2
    triptych.train("vae", VECTORS, steps=1, model=recipes.VAEModel(latent_dim=3), training=recipe.training, out=run)
    again = triptych.train("vae", VECTORS, steps=1, init=run)
    assert again.latent_dim == 3 and triptych.train(recipe, Split(VECTORS), steps=1).event_shape == (4,)


def test_given_attributes(folder: Path) -> None:
    model = triptych.train("vae", folder / "photos", given=["red"], steps=1, **QUICK)
    assert model.sample(2, context=model.conditions.parse("red=1")).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"family": "vea"}, "unknown family 'vea': did you mean vae"),
        ({"model": {"latent": 3}}, "unknown setting of model 'latent': did you mean latent_dim"),
        ({"model": {"latent_dim": 0}}, "latent_dim should be"),
        ({"training": {"optimizer": "adm"}}, "optimizer should be one of"),
        ({"objective": 3}, "objective expects a dictionary of settings or a VAEObjective, got 3"),
        ({"preset": "huge"}, "unknown preset of vae"),
        ({"steps": 0}, "steps should be"),
        ({"given": "hat"}, "hat"),
        ({"augment": "flop"}, "unknown augmentation 'flop'"),
        ({"data": 3}, "expected a name, a path, an array"),
        ({"data": Splits(test=Split(VECTORS))}, "expected a training split, got test"),
        ({"data": Split(VECTORS), "size": 8}, "these data are loaded: give size to triptych.data.load"),
        ({"family": preset("vae"), "preset": "faces"}, "a recipe takes the place of preset and init"),
        ({"track": ["tensorboard"]}, "need a folder that stays"),
        ({"model": lambda shape: 3}, "a model is a triptych.core.GenerativeModel"),
    ],
)
def test_errors_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TriptychError, match=said) as error:
        triptych.train(**({"family": "vae", "data": VECTORS, "steps": 1} | options))
    assert "\n" not in str(error.value)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(TriptychError, match="holds other things than a run"):
        triptych.train("vae", VECTORS, steps=1, out=tmp_path)


@pytest.fixture(scope="module")
def model() -> triptych.VAE:
    return triptych.VAE((3, 16, 16), 4).eval()


def test_pictures_are_read_as_data_are(folder: Path, model: triptych.VAE, tmp_path: Path) -> None:
    files = sorted((folder / "photos").glob("*.png"))
    stored = torch.from_numpy(PICTURES).permute(0, 3, 1, 2)
    x = triptych.read(files, model)
    assert torch.equal(x, model.codec.centre(stored)) and torch.equal(model.codec.decode(x), stored)
    for one in (files[3], str(files[3]), [files[3]], Image.open(files[3]), Image.fromarray(PICTURES[3])):
        assert torch.equal(triptych.read(one, model), x[3:4])
    grey = triptych.read(files[0], triptych.VAE((1, 12, 10), 2))
    assert grey.shape == (1, 1, 12, 10)
    for name in ("x.png", "x.npy"):  # without loss
        triptych.save(x[:1], tmp_path / name, model)
        assert torch.equal(triptych.read(tmp_path / name, model), x[:1])
    triptych.save(x, tmp_path / "all.npy", model)
    assert torch.equal(triptych.read(str(tmp_path / "all.npy"), model), x)
    np.save(tmp_path / "one.npy", VECTORS[0])
    assert torch.equal(triptych.read(tmp_path / "one.npy", triptych.VAE((4,), 2)), torch.from_numpy(VECTORS[:1]))


def test_an_edit_from_a_path_to_a_path(folder: Path, model: triptych.VAE, tmp_path: Path) -> None:
    photos = load(folder / "photos")
    model.save_pretrained(tmp_path / "run")
    edit.learn_directions(model, photos.train[:], photos.train.attributes).save(tmp_path / "run")
    directions, face = edit.Directions.load(str(tmp_path / "run")), folder / "photos" / "00.png"
    edited = edit.apply(model, triptych.read(face, model), {"red": 1.5}, directions)
    triptych.save(edited, tmp_path / "red.png", model)
    words = ["edit", str(tmp_path / "run"), str(face), "--set", "red=1.5", "--out", str(tmp_path / "cli.png")]
    assert main(words) == 0
    assert (tmp_path / "red.png").read_bytes() == (tmp_path / "cli.png").read_bytes()
    swept = edit.sweep(model, triptych.read([face, face], model), "red", [-1, 0, 1], directions)
    strip, grid = triptych.show(swept, model), triptych.show(swept.flatten(0, 1), model, columns=3)
    assert strip.size == grid.size and strip.width > strip.height
    triptych.save(swept, tmp_path / "strip.gif", model)
    with Image.open(tmp_path / "strip.gif") as film:
        assert film.n_frames == 10


def test_what_cannot_be_read_or_shown(model: triptych.VAE, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VECTORS)
    (tmp_path / "broken.npy").write_bytes(b"no")
    vectors = triptych.VAE((4,), 2)
    for wrong, said in (
        (lambda: triptych.read([], model), "expected at least one file"),
        (lambda: triptych.read("none.png", model), "none.png does not exist"),
        (lambda: triptych.read("none.npy", model), "none.npy does not exist"),
        (lambda: triptych.read(tmp_path / "broken.npy", model), "broken.npy: expected a complete npy"),
        (lambda: triptych.read(tmp_path / "x.npy", model), r"takes \(B, 3, 16, 16\), got \(40, 4\)"),
        (lambda: triptych.read("face.png", vectors), "give an array instead"),
        (lambda: triptych.show(torch.zeros(2, 4), vectors), "are not 8-bit pictures"),
        (lambda: triptych.save(torch.zeros(2, 4), tmp_path / "x.png", vectors), "are not 8-bit pictures"),
        (lambda: triptych.save(model.sample(1), tmp_path / "x.xyz", model), "cannot write"),
        (lambda: model.encode("face.png"), r"triptych.read\(path, model\) makes one of files"),
    ):
        with pytest.raises(TriptychError, match=said):
            wrong()
