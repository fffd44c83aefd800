"""Anomaly scores: of one example they depend on nothing else; blank pictures do not win; the verb writes all or nothing."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.metrics import roc_auc_score

import triptych
from triptych import families
from triptych.cli import main
from triptych.data import Split, load
from triptych.errors import TriptychError
from triptych.evaluate import (
    Gaussian,
    Local,
    Reference,
    auroc,
    complexity,
    learn_reference,
    p_values,
    statistics,
    typicality,
)
from triptych.flow import NICE, Glow
from triptych.training.loop import fit
from triptych.training.run import Run

# --- how well a score tells sets apart


@pytest.mark.parametrize("levels", [3, 1000])
def test_auroc_is_sklearns_and_its_error_is_the_spread_of_repetitions(levels):
    random = np.random.default_rng(levels)

    def drawn():
        return random.integers(0, levels, 60), random.integers(levels // 3, levels + levels // 3, 40)

    repeated = []
    for _ in range(100):
        normal, anomalous = drawn()
        found = auroc(torch.from_numpy(normal), torch.from_numpy(anomalous))
        truth = np.repeat([0, 1], [60, 40])
        assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate([normal, anomalous])))
        repeated.append(found)
    assert np.mean([f.stderr for f in repeated]) == pytest.approx(np.std([f.value for f in repeated]), rel=0.25)


def test_p_values_of_normal_data_are_uniform():
    noise = torch.Generator().manual_seed(0)
    p = p_values(torch.randn(5000, generator=noise), torch.randn(999, generator=noise))
    assert [(p <= level).double().mean().item() for level in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9], abs=0.05)


@pytest.mark.parametrize("n", [5, 2000])
def test_typicality_holds_its_level_and_sees_likelier_batches_too(n):
    noise = torch.Generator().manual_seed(0)
    p = [typicality(torch.randn(n, generator=noise), torch.randn(300, generator=noise), resamples=200).p for _ in range(40)]
    assert 0.2 < float(np.mean(np.array(p) <= 0.5)) < 0.8 and np.mean(np.array(p) <= 0.02) < 0.1
    assert typicality(torch.randn(n, generator=noise) - 3, torch.randn(300, generator=noise)).p < 0.01


# --- blunter densities


def test_the_gaussian_is_scipys_where_every_component_is_kept():
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6).float() + 3
    found = Gaussian.of(x, rank=5)  # one direction is left: its own variance is the rest's
    truth = stats.multivariate_normal(x.double().mean(0).numpy(), np.cov(x.numpy().T))
    np.testing.assert_allclose(found.log_prob(x[:50]), truth.logpdf(x[:50].numpy()), rtol=1e-3, atol=1e-2)


def test_the_local_density_integrates_to_one_over_its_last_value():
    noise = torch.Generator().manual_seed(0)
    local = Local.of(torch.rand(50, 2, 6, 6, generator=noise))
    x = torch.rand(1, 2, 6, 6, generator=noise)
    last = x.repeat(20_001, 1, 1, 1)
    last[:, 1, 5, 5] = torch.linspace(-12, 13, 20_001)
    density = (local.log_prob(last) - local.log_prob(last).max()).exp()  # given all others: no other sees it
    peak = -(2 * local.scale[1].double()).log()
    assert float(density.sum() * 25 / 20_000 * peak.exp()) == pytest.approx(1, abs=1e-2)


def test_complexity_orders_blank_smooth_and_noise():
    side = torch.arange(32.0)
    smooth = ((side[:, None] + 3 * side) % 256).byte().expand(3, 32, 32)
    noise = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    bits = complexity(torch.stack([torch.full_like(noise, 7), smooth, noise]))
    assert bits[0] < bits[1] < bits[2] and bits[2] >= 8 * noise.numel()
    with pytest.raises(TriptychError, match="8-bit"):
        complexity(torch.zeros(1, 3, 4, 4))


# --- statistics and scores


def _models():
    torch.manual_seed(0)
    glow = Glow((1, 8, 8), levels=1, depth=2, width=8)
    glow.initialize(torch.rand(64, 1, 8, 8))
    learned = triptych.Glow((1, 8, 8), levels=1, depth=1, width=8, dequantisation="variational")
    learned.initialize(torch.rand(64, 1, 8, 8))
    vae = triptych.VAE((1, 8, 8), 3)
    return {"vae": vae, "glow": glow, "variational": learned, "nice": NICE((1, 8, 8), hidden=(16,)),
            "encoded": triptych.EncodedGAN((1, 8, 8), 4)}  # fmt: skip


@pytest.mark.parametrize("name", list(_models()))
def test_an_examples_statistics_depend_on_it_alone(name):
    model, stored = _models()[name].eval(), load("digits").test[:40]
    local = {"local": Local.of(stored[:20] / 255.0)}
    whole = statistics(model, stored, blunt=local, k=12, seed=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    other = statistics(model, stored[order], blunt=local, k=12, seed=3, batch=7)
    assert {"codec_bits", "local"} < set(whole)
    for key, values in whole.items():
        assert values.shape == (40,)
        torch.testing.assert_close(other[key], values[order], rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_shared_noise_does_not_bias_the_bound():
    model, stored = _models()["vae"].eval(), load("digits").test[:30]
    x = model.codec.centre(stored).round()
    black_and_white = (x * 255).byte()  # binarising draws nothing then
    shared = torch.stack([statistics(model, black_and_white, k=1, seed=s)["log_prob"] for s in range(50)]).mean(0)
    noise = torch.Generator().manual_seed(0)
    own = torch.stack([model.log_prob(x, generator=noise) for _ in range(50)]).double()
    assert float(((shared - own.mean(0)) / (own.std(0) / 5)).abs().mean()) < 1.5


@pytest.fixture(scope="module")
def bright_run(tmp_path_factory):
    """A small Glow of smooth pictures with a blob each, trained for a moment."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    at = random.uniform(1, 6, (500, 2, 1, 1))
    blobs = 120 * np.exp(-((y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2) / 6)
    pictures = (blobs + random.normal(60, 15, (500, 8, 8))).clip(0, 255).astype(np.uint8)
    folder = tmp_path_factory.mktemp("bright")
    np.save(folder / "blobs.npy", pictures)
    splits = load(folder / "blobs.npy")
    start = families.preset("glow")
    training = dataclasses.replace(start.training, rate_warmup=0, ema=0.9, save_every=1000)
    small = dataclasses.replace(start.model, depth=2, width=16, levels=1)
    recipe = dataclasses.replace(start, data=str(folder / "blobs.npy"), steps=150, training=training, model=small)
    run = Run.create(folder / "run", recipe, families.build_for(recipe, splits.train))
    fit(run, splits.train, notice=lambda line: None)
    return folder / "run", splits


def test_blank_pictures_are_not_the_most_normal(bright_run):
    folder, splits = bright_run
    model = triptych.load(folder)
    reference = learn_reference(model, splits.train, splits.test)
    normal, blank = splits.test[:], torch.full((50, 1, 8, 8), 70, dtype=torch.uint8)
    made = [reference.scores(model, statistics(model, x, blunt=reference.blunt)) for x in (normal, blank)]
    by = {name: auroc(made[0][name], made[1][name]).value for name in made[0]}
    assert by["likelihood"] < 0.2, "blank pictures are likelier than data"
    assert by["joint"] > 0.95 and by["typicality"] > 0.5
    assert typicality(-statistics(model, blank)["log_prob"], -reference.held_out["log_prob"]).p < 0.01
    assert next(iter(made[0])) == "joint"


def test_a_reference_is_kept_for_its_weights_alone(bright_run, tmp_path):
    folder, splits = bright_run
    reference = learn_reference(triptych.load(folder), splits.train, splits.test)
    reference.save(tmp_path, "a")
    again = Reference.load(tmp_path, "a")
    assert again is not None and again.n == reference.n == (
        len(splits.test) if len(splits.test) >= 50 else len(splits.train) // 2
    )
    x = torch.rand(5, 1, 8, 8)
    for name, density in reference.blunt.items():
        torch.testing.assert_close(again.blunt[name].log_prob(x), density.log_prob(x))
    assert Reference.load(tmp_path, "b") is None and Reference.load(tmp_path / "none", "a") is None


# --- the verb


def test_the_verb_scores_a_folder_by_file(bright_run, tmp_path, capsys):
    folder, splits = bright_run
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, picture in enumerate(splits.test[:11]):
        Image.fromarray(picture[0].numpy()).resize((16, 16)).save(photos / f"{i:02}.png")
    Image.new("L", (16, 16), 70).save(photos / "blank.png")
    run, out, said = str(folder), tmp_path / "scores.csv", tmp_path / "said.json"
    assert main(["score", run, str(photos), "--out", str(out), "--batch", "4", "--json", str(said)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 12 and {row["file_name"] for row in rows} == {*(f"{i:02}.png" for i in range(11)), "blank.png"}
    worst = max(rows, key=lambda row: float(row["score"]))
    assert worst["file_name"] == "blank.png" and all(math.isfinite(float(row["batch_p"])) for row in rows)
    assert out.with_suffix(".png").exists() and (folder / "reference.safetensors").exists()
    summary = json.loads(said.read_text())
    assert summary["least_likely"][0]["file_name"] == "blank.png"
    assert sum(split["log_prob"]["n"] for split in summary["splits"].values()) == 12
    assert "scoring held-out training data" in capsys.readouterr().err
    for suffix in (".npz", ".json"):
        other = tmp_path / f"again{suffix}"
        assert main(["score", run, str(photos), "--out", str(other), "--sheet", "0", "--split", "train"]) == 0
        assert not other.with_suffix(".png").exists()
    assert "held-out" not in capsys.readouterr().err, "the reference is learned once"
    kept = [row for row in rows if row["split"] == "train"]
    with np.load(tmp_path / "again.npz") as arrays:
        np.testing.assert_allclose(arrays["score"], [float(row["score"]) for row in kept], rtol=1e-4)
    examples = json.loads((tmp_path / "again.json").read_text())["examples"]
    assert [e["file_name"] for e in examples] == [row["file_name"] for row in kept]
    one = tmp_path / "one.csv"
    assert main(["score", run, str(photos / "blank.png"), "--out", str(one), "--by", "complexity"]) == 0
    assert len(list(csv.DictReader(one.read_text().splitlines()))) == 1


def test_wrong_requests_leave_nothing_behind(bright_run, tmp_path, capsys):
    folder, _ = bright_run
    run, out = str(folder), tmp_path / "scores.csv"
    for words, expected in (
        ([run], "triptych score RUN DATA"),
        ([run, "digits", "--out", str(tmp_path / "scores.txt")], ".csv, .json, .npz"),
        ([run, "digits", "--by", "reconstruction", "--out", str(out)], "choose --by joint"),
        ([run, "digits", "--split", "valid", "--out", str(out)], "unknown split"),
        ([run, "digits", "--batch", "0", "--out", str(out)], "--batch"),
        ([run, "digits", "--trained-on", str(tmp_path / "moved.npy"), "--out", str(out)], "moved.npy"),
    ):
        assert main(["score", *words]) == 2
        error = capsys.readouterr().err
        assert expected in error and error.splitlines()[-1].startswith("triptych: ")
    assert not list(tmp_path.iterdir())


def test_a_gan_is_scored_through_an_encoder(tmp_path, capsys, monkeypatch):
    from triptych.edit import inversion

    whole = inversion.learn_encoder
    monkeypatch.setattr(inversion, "learn_encoder", lambda *args, **kwargs: whole(*args, **{**kwargs, "steps": 3}))
    run, out = str(tmp_path / "gan"), tmp_path / "scores.csv"
    words = ["--steps", "2", "--model.width", "4", "--model.latent-dim", "4"]
    assert main(["train", "dcgan", "--data", "digits", *words, "--out", run]) == 0
    assert main(["score", run, "digits", "--split", "test", "--out", str(out)]) == 0
    table = list(csv.DictReader(out.read_text().splitlines()))
    assert len(table) == 190 and "log_prob" not in table[0] and float(table[0]["reconstruction"]) > 0
    assert "no encoder: learning one" in capsys.readouterr().err
    assert main(["score", run, "digits", "--by", "likelihood", "--out", str(out)]) == 2
    assert "choose --by joint or reconstruction" in capsys.readouterr().err


def test_vectors_are_scored_without_a_codec(tmp_path):
    torch.manual_seed(0)
    model = NICE((3,), hidden=(8,)).eval()
    data = Split(torch.randn(200, 3).numpy())
    reference = learn_reference(model, data, data)
    made = reference.scores(model, statistics(model, data[:9], blunt=reference.blunt))
    assert list(made) == ["joint", "likelihood", "ratio", "typicality"]
    assert set(reference.held_out) == {"log_prob", "gaussian"}


def test_rows_of_a_table_and_one_picture_are_named(tmp_path, capsys):
    """A held-out row is found in the file by its number there; one example is a sentence with its p-value."""
    values = np.random.default_rng(0).normal(size=(80, 3)).round(3)
    (tmp_path / "t.csv").write_text("a,b,c\n" + "\n".join(",".join(map(str, row)) for row in values) + "\n")
    triptych.train("nice", tmp_path / "t.csv", out=tmp_path / "run", steps=2, model={"hidden": (8,)})
    assert main(["score", str(tmp_path / "run"), str(tmp_path / "t.csv"), "--out", str(tmp_path / "s.csv")]) == 0
    lines = [line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines()]
    at, held = lines[0].index("row"), [line for line in lines if line[0] == "test"]
    splits = triptych.data.load(tmp_path / "t.csv")
    for line, row in zip(held, splits.test[:], strict=True):
        assert np.allclose(values[int(line[at]) - 1], row, atol=1e-6)
    assert sorted(int(line[at]) for line in lines[1:]) == list(range(1, 81))
    with pytest.raises(TriptychError, match="at least 4 of them, got 2"):
        triptych.evaluate.learn_reference(triptych.load(tmp_path / "run"), splits.train.take(2), splits.test.take(1))
    from triptych.cli.scoring import _sentence

    said = _sentence("file", {"score": {"n": 1, "value": 1.5}, "p_value": 0.25}, "joint")
    assert said.startswith("file: score by joint 1.5, p = 0.25")
