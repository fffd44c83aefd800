"""What pictures are compared by, and the measures of samples that are made of it."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import triptych
from triptych import evaluate, storage
from triptych.cli import main
from triptych.codecs import BinCentres, Floats
from triptych.core import GenerativeModel
from triptych.data import Split
from triptych.errors import TriptychError
from triptych.evaluate import Pixels, features, sample_quality
from triptych.evaluate.features import INCEPTION, Inception, Learned, _task, learn_features
from triptych.evaluate.quality import FEWEST, MOST, Quality
from triptych.pretrained import save_model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shapes(n, side=12, seed=0):
    """A bright square, upright bar or lying bar (class) of some brightness (continuous) somewhere on a dark ground."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 30, (n, 1, side, side), dtype=np.uint8)
    kind, level = random.integers(0, 3, n), random.integers(60, 220, n)
    for picture, k, v, (y, x) in zip(pictures, kind, level, random.integers(0, side - 6, (n, 2)), strict=True):
        height, width = ((4, 4), (6, 2), (2, 6))[k]
        picture[0, y : y + height, x : x + width] += v.astype(np.uint8)
    return pictures, kind, level


def split(n=400, known="classes", seed=0):
    pictures, kind, level = shapes(n, seed=seed)
    if known == "classes":
        return Split(pictures, {"kind": kind, "level": level}, {"kind": "class"})
    return Split(pictures, {"level": level, "upright": kind == 1} if known == "attributes" else {})


def floats(n=300, *event, seed=0):
    return Split(np.random.default_rng(seed).normal(size=(n, *(event or (5,)))).astype(np.float32))


@pytest.fixture
def inception(tmp_path, monkeypatch):
    """A TorchScript file that takes what Inception's does, and returns the mean of each channel."""

    class Stands(torch.nn.Module):
        def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            return x.float().flatten(2).mean(2) if return_features else x.float()

    path = tmp_path / INCEPTION
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as those who published it wrote it
        torch.jit.script(Stands()).save(str(path))
    monkeypatch.setenv("TRIPTYCH_INCEPTION", str(path))
    return path


# --- features


def test_pixels_are_the_values_in_0_to_1():
    stored = split(7)[:]
    assert torch.equal(Pixels()(stored, batch=3), stored.float().flatten(1) / 255)
    assert torch.equal(Pixels()(floats(4)[:]), floats(4)[:]) and features("pixels", split(4)).name == "pixels"


@pytest.mark.parametrize("known, event", [("classes", None), ("attributes", None), ("nothing", None), ("floats", (5,)),
                                          ("floats", (2, 6))])  # fmt: skip
def test_learned_features_are_a_function_of_data_and_seed(known, event):
    data = floats(100, *event) if known == "floats" else split(100, known)
    state = torch.get_rng_state()
    a, b, c = (learn_features(data, steps=4, batch=16, width=4, size=9, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    seen = a(data[:], batch=32)
    assert seen.shape == (100, 9) and seen.dtype == torch.float32 and not seen.requires_grad and seen.isfinite().all()
    assert a.name == b.name != c.name and torch.equal(seen, b(data[:], batch=32))
    torch.testing.assert_close(seen, a(data[:], batch=7), atol=1e-5, rtol=1e-4)
    taught = {"floats": "denoising", "nothing": "denoising"}.get(known, known)
    assert a.name.startswith(f"learned-{taught}-") and len(a.name.rsplit("-", 1)[1]) == 8


@pytest.mark.parametrize("known", ["classes", "attributes"])
def test_what_was_taught_is_read_from_learned_features(known):
    """A linear probe of held-out data does better on them than on an untaught network's."""
    train, test = split(600, known), split(200, known, seed=1)
    name = {"classes": "kind", "attributes": "level"}[known]
    scores = []
    for steps in (1, 250):
        seen = learn_features(train, steps=steps, width=8, size=16)
        x, y = (torch.cat([seen(s[:]), torch.ones(len(s), 1)], 1).double() for s in (train, test))
        wanted, truth = (torch.as_tensor(s.attributes[name]).double() for s in (train, test))
        if known == "classes":
            wanted = torch.nn.functional.one_hot(wanted.long()).double()
            found = y @ torch.linalg.lstsq(x, wanted).solution
            scores.append((found.argmax(1) == truth).double().mean().item())
        else:
            found = y @ torch.linalg.lstsq(x, wanted).solution
            scores.append(1 - ((found - truth).square().sum() / (truth - truth.mean()).square().sum()).item())
    assert scores[1] > scores[0] and scores[1] > 0.8, scores


def test_unknown_attributes_are_ignored():
    data = split(60, "attributes")
    data.attributes["level"][::2] = np.nan
    data.attributes["upright"][:] = np.nan
    assert learn_features(data, steps=3, width=4)(data[:]).isfinite().all()


def test_unknown_classes_are_ignored():
    """Neither as classes of their own nor in the loss, though all of a batch may be unknown."""
    data, taught = split(60), []
    known = data.attributes["kind"].astype(np.float64)
    for labels in (np.where(np.arange(60) < 5, known, np.nan), known):
        data.attributes["kind"] = labels
        task = _task(data, 8, 4)
        taught.append(task.head.out_features)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 8))
        x, rows = torch.rand(60, 1, 12, 12), np.arange(60)
        losses = [task.loss(net, x[r], r) for r in (rows[:5], rows[5:], rows)]
        assert all(loss.isfinite() for loss in losses)
        assert 60 * losses[2].item() == pytest.approx(5 * losses[0].item() + 55 * losses[1].item(), rel=1e-5)
        if np.isnan(labels).any():
            assert losses[1] == 0
    assert taught == [len(set(known[:5])), 3]
    data.attributes["kind"] = np.full(60, np.nan)
    assert learn_features(data, steps=2, width=4).taught == "attributes"


def test_one_example_and_colour_are_enough():
    one = Split(np.zeros((1, 3, 9, 7), np.uint8))
    assert learn_features(one, steps=2, width=4)(one[:]).shape == (1, 128)


def test_a_learned_features_name_is_a_digest_of_its_weights():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    before = Learned(net, "x").name
    with torch.no_grad():
        net[1].bias[0] += 1e-6
    assert Learned(net, "x").name != before


def test_inception_is_read_from_a_torchscript_file(inception):
    assert isinstance(features("inception", split(4)), Inception)
    seen = features("inception", split(4))
    grey, colour = split(5)[:], split(5)[:].expand(-1, 3, -1, -1).contiguous()
    assert seen.name == "inception" and seen(grey).shape == (5, 3)
    torch.testing.assert_close(seen(grey), grey.float().flatten(1).mean(1, keepdim=True).expand(-1, 3))
    assert torch.equal(seen(grey), seen(colour))
    for data in (floats(3)[:], floats(3, 1, 8, 8)[:], torch.zeros(3, 2, 8, 8, dtype=torch.uint8)):
        with pytest.raises(TriptychError, match="8-bit pictures") as error:
            seen(data)
        assert "\n" not in str(error.value)


def test_missing_weights_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("TRIPTYCH_INCEPTION", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(TriptychError, match=r"TRIPTYCH_INCEPTION.*learned or pixels") as absent:
        features("inception", split(4))
    assert str(tmp_path) in str(absent.value)

    def refuse(*_):
        raise OSError("no way out")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(TriptychError, match=r"no way out.*use learned or pixels") as unreachable:
        features("inception", split(4), download=True)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    monkeypatch.setenv("TRIPTYCH_INCEPTION", str(tmp_path / "junk.pt"))
    with pytest.raises(TriptychError, match="not a TorchScript file") as damaged:
        features("inception", split(4))
    with pytest.raises(TriptychError, match="choose learned, pixels, efficientnet or inception") as unknown:
        features("vgg", split(4))
    assert all("\n" not in str(e.value) for e in (absent, unreachable, damaged, unknown))


# --- sample quality


class Gives(GenerativeModel):
    """A model whose samples are given pictures, one after the other by z's rank, whatever they are."""

    def __init__(self, stored, noise=0.0):
        codec = Floats() if stored.is_floating_point() else BinCentres()
        super().__init__(tuple(stored.shape[1:]), 1, codec)
        self.x, self.noise, self.weight = codec.centre(stored), noise, torch.nn.Parameter(torch.zeros(1))

    def decode(self, z, context=None):
        rows = (torch.special.ndtr(z[:, 0]) * len(self.x)).long().clamp(max=len(self.x) - 1)
        x = self.x[rows]
        return x + self.noise * torch.randn(x.shape, generator=seeded())


@pytest.fixture(scope="module")
def sets():
    return split(300), split(300, seed=1), split(300, seed=2)[:]


@pytest.fixture(scope="module")
def measured(sets):
    """Novel data, copies of training data, data with noise, and noise, by pixels."""
    train, test, novel = sets
    noise = torch.randint(0, 256, (300, 1, 12, 12), dtype=torch.uint8, generator=seeded())
    models = {"novel": Gives(novel), "copies": Gives(train[:]), "noisy": Gives(novel, 0.1), "noise": Gives(noise)}
    return {name: sample_quality(model, test, train, Pixels(), n=200) for name, model in models.items()}


@pytest.mark.parametrize("measure", ["fid", "kid", "c2st_1nn", "c2st_logistic", "swd"])
def test_the_better_samples_score_better(measured, measure):
    novel, noisy, noise = (measured[name].measures[measure].value for name in ("novel", "noisy", "noise"))
    assert novel < noise and noisy <= noise and ("c2st" in measure or novel < noisy)
    change = measured["novel"].compare(measured["noise"], measure)
    assert change.value == pytest.approx(noise - novel) and change.value > 2 * change.stderr


@pytest.mark.parametrize("measure", ["precision", "recall", "density", "coverage"])
def test_shares_fall_to_nothing_for_noise(measured, measure):
    assert measured["noise"].measures[measure].value < 0.1 < measured["novel"].measures[measure].value


def test_copies_are_seen_by_their_nearest_neighbours(measured):
    values = {name: q.measures["nearest_ratio"].value for name, q in measured.items()}
    assert values["copies"] < 0.6 < 0.8 < values["novel"] < 1.2
    assert measured["copies"].measures["fid"].value == pytest.approx(measured["novel"].measures["fid"].value, rel=0.5)


def test_the_floor_is_what_data_score(measured):
    for quality in measured.values():
        assert set(quality.measures) - set(quality.floor) == {"nearest_ratio", "copied"}
        assert quality.floor == measured["novel"].floor
        floor = quality.floor
        assert abs(floor["kid"].value) < 4 * floor["kid"].stderr + 1e-3 and floor["c2st_1nn"].value == pytest.approx(
            0.5, abs=0.12
        )
        assert floor["fid"].value < 0.2 * measured["noise"].measures["fid"].value
    novel = measured["novel"]
    for name, floor in novel.floor.items():
        spread = (floor.stderr**2 + novel.measures[name].stderr ** 2) ** 0.5
        assert abs(novel.measures[name].value - floor.value) < 6 * spread + 0.02, name


@pytest.mark.parametrize("kind", ["learned", "inception"])
def test_other_features_order_right_too(sets, kind, inception):
    train, test, novel = sets
    seen = features(kind, train, steps=60)
    noise = torch.randint(0, 256, novel.shape, dtype=torch.uint8, generator=seeded())
    good, bad = (sample_quality(Gives(x), test, train, seen, n=60) for x in (novel, noise))
    assert good.features == seen.name and good.compare(bad, "fid").value > 0


def test_vectors_are_measured_without_pictures_measures():
    train, test = floats(200), floats(200, seed=1)
    good, bad = (
        sample_quality(Gives(x), test, train, Pixels(), n=120) for x in (floats(200, seed=2)[:], floats(200)[:] + 3)
    )
    assert "ms_ssim" not in good.measures and {"fid", "swd"} <= set(good.measures)
    assert good.compare(bad, "fid").value > 0


def test_measuring_repeats_and_leaves_the_model_alone(sets):
    train, test, novel = sets
    model = Gives(novel).train()
    state = torch.get_rng_state()
    a, b, c = (sample_quality(model, test, train, Pixels(), n=60, seed=seed) for seed in (0, 0, 1))
    assert a == b and a != c and model.training and torch.equal(torch.get_rng_state(), state)
    assert sample_quality(model, test, train, Pixels(), n=60, temperature=0.0).measures["coverage"].value < 0.2


def test_only_what_is_alike_is_compared(measured):
    novel = measured["novel"]
    for other, what in (
        (replace(novel, features="learned-classes-00000000"), "features"),
        (replace(novel, n=199), "samples 200 and 199"),
        (replace(novel, held_out=100), "held_out 200 and 100"),
        (replace(novel, reference="00000000"), "reference"),
        (replace(novel, temperature=0.7), "temperature 1.0 and 0.7"),
    ):
        with pytest.raises(TriptychError, match=f"not comparable: {what}") as error:
            novel.compare(other, "fid")
        assert "\n" not in str(error.value)
    with pytest.raises(TriptychError, match="unknown measure 'beauty': choose fid"):
        novel.compare(novel, "beauty")
    assert novel.compare(novel, "fid").value == 0


def test_too_few_are_refused(sets):
    train, test, novel = sets
    for n, data, expected in (
        (FEWEST - 1, test, "at least 50 samples, got 49"),
        (MOST + 1, test, "at most 50000 samples, got 50001: ask for 50000"),
        (100, test.take(range(30)), "at least 50 held-out examples, got 30: .*--data DATA"),
    ):
        with pytest.raises(TriptychError, match=expected) as error:
            sample_quality(Gives(novel), data, train, Pixels(), n=n)
        assert "\n" not in str(error.value)


def test_fewer_held_out_data_than_samples_are_all_compared_with(sets, measured):
    train, test, novel = sets
    quality = sample_quality(Gives(novel), test.take(range(60)), train, Pixels(), n=200)
    assert (quality.n, quality.held_out) == (200, 60) and quality.measures["precision"].n == 200
    assert quality.measures["recall"].n == 60 and quality.measures["fid"].n == 60
    assert quality.reference != measured["novel"].reference != ""
    assert {(v["samples"], v["held_out"]) for v in quality.as_json().values()} == {(200, 60)}
    with pytest.raises(TriptychError, match="held_out 60 and 200"):
        quality.compare(measured["novel"], "fid")


def test_the_reference_is_the_data_compared_with(sets, measured):
    train, _, novel = sets
    assert len({quality.reference for quality in measured.values()}) == 1
    other = sample_quality(Gives(novel), split(300, seed=5), train, Pixels(), n=200)
    with pytest.raises(TriptychError, match="not comparable: reference"):
        other.compare(measured["novel"], "fid")


@pytest.mark.parametrize("count", [3, 200, 5000])
def test_copies_are_seen_among_any_number_of_data(count):
    """Where nearest_ratio, which takes as many as are held out, hardly does."""
    train, test = (Split(shapes(n, side=8, seed=seed)[0]) for n, seed in ((count, 0), (60, 1)))
    copies, novel = (
        sample_quality(Gives(x), test, train, Pixels(), n=60) for x in (train[:], Split(shapes(300, side=8, seed=2)[0])[:])
    )
    assert copies.measures["copied"].value > 0.6 and abs(novel.measures["copied"].value) < 0.3
    if count == 5000:
        assert copies.measures["nearest_ratio"].value > 0.9


def test_the_floor_is_of_data_that_the_features_were_not_fitted_to():
    """A network that has memorised its data finds them unlike new ones; data that it never saw stand for real ones."""
    random = np.random.default_rng(0)

    def labelled(n):  # only memory tells the labels
        return Split(random.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), {"x": random.integers(0, 5, n)}, {"x": "class"})

    train, test, novel = labelled(400), labelled(150), labelled(300)
    seen = features("learned", train, steps=400, keep=150)
    rows = seen.unseen(train)
    assert len(rows) == 150 and len(set(rows)) == 150 and rows.max() < 400
    assert np.array_equal(seen.unseen(test), np.arange(150))  # of others it saw none
    quality = sample_quality(Gives(novel[:]), test, train, seen, n=150)
    taught = np.setdiff1d(np.arange(400), rows)[:150]
    spoiled, fresh = (
        evaluate.precision_recall(seen(test[:]), seen(x))["density"].value for x in (train[taught], novel[:150])
    )
    assert spoiled < 0.75 and quality.floor["density"].value > 0.85
    assert quality.floor["density"].value == pytest.approx(fresh, abs=0.2)


@pytest.mark.parametrize("n, keep, expected", [(400, 100, 100), (400, 1000, 200), (60, 1000, 30), (1, 10, 0), (40, 0, 0)])
def test_never_more_than_half_of_the_data_are_kept_out(n, keep, expected):
    data = split(n)
    seen, again = (learn_features(data, steps=1, width=4, keep=keep) for _ in range(2))
    assert len(seen.kept.rows) == expected and np.array_equal(seen.kept.rows, again.kept.rows)
    assert len(seen.unseen(data)) == (expected or n) and len(Pixels().unseen(data)) == n


def test_the_floor_is_of_as_many_data_as_there_are_samples_or_says_so(capsys):
    """A model that draws new data is at the floor; a floor of fewer is said, in the table's head, below it and in JSON."""
    from triptych.cli.tables import print_quality

    train, test, novel = split(300), split(300, seed=1), split(300, seed=2)[:]
    seen = learn_features(train, steps=1, width=4, keep=60)
    made_up = sample_quality(Gives(novel), test, train, seen, n=150)
    assert made_up.others == made_up.n == 150 and made_up.floor["precision"].n == made_up.measures["precision"].n == 150
    print_quality(made_up, "samples")
    assert "of 150" not in " ".join(capsys.readouterr().out.split()).partition("real data's own")[2][:40]
    few = sample_quality(Gives(novel), test.take(range(150)), train, seen, n=150)
    assert few.others == 60 and {v["floor_samples"] for v in few.as_json().values() if "floor" in v} == {60}
    print_quality(few, "samples")
    said = " ".join(capsys.readouterr().out.split())
    assert "(of 60)" in said and "of 60 examples in the place of 150 samples" in said
    assert few.floor["fid"].value > made_up.floor["fid"].value


def test_few_training_data_have_no_floor(capsys):
    from triptych.cli.tables import print_quality

    train, test = split(80), split(60, seed=1)
    quality = sample_quality(Gives(split(60, seed=2)[:]), test, train, learn_features(train, steps=1, width=4), n=60)
    assert quality.floor == {} and "floor" not in quality.as_json()["fid"]
    print_quality(quality, "samples")
    assert "too few other examples for real data's own" in " ".join(capsys.readouterr().out.split())


def test_the_table_and_the_file_say_the_scales_of_ms_ssim(measured, capsys):
    from triptych.cli.tables import print_quality

    print_quality(measured["novel"], "samples")
    said = " ".join(capsys.readouterr().out.split())
    assert "ms_ssim: 1 scale of 5, a window of 11" in said and "│ n" in said
    stored = measured["novel"].as_json()["ms_ssim"]
    assert (stored["scales"], stored["window"], stored["n"]) == (1, 11, 100)


@pytest.mark.parametrize("known", [60, 61])
def test_samples_that_all_are_held_out_data_are_measured(known, capsys, tmp_path):
    from triptych.cli.tables import print_quality

    data = Split(np.full((60, 1, 8, 8), 7, np.uint8))

    class Constant(GenerativeModel):
        def __init__(self):
            super().__init__((1, 8, 8), 2, BinCentres())
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def decode(self, z, context=None):
            return self.codec.centre(data[:1]).expand(len(z), 1, 8, 8)

    train = data if known == 60 else Split(shapes(known, side=8)[0])
    quality = sample_quality(Constant(), data, train, Pixels(), n=60)
    assert not np.isfinite(quality.measures["nearest_ratio"].value)
    print_quality(quality, "samples")
    assert "every sample is itself a held-out" in " ".join(capsys.readouterr().out.split())
    storage.write_json(tmp_path / "told.json", quality.as_json())
    assert storage.read_json(tmp_path / "told.json")["nearest_ratio"]["value"] is None


def test_samples_that_are_not_finite_are_named():
    train, test = floats(100), floats(100, seed=1)
    with pytest.raises(TriptychError, match="finite") as error:
        sample_quality(Gives(floats(100)[:], float("inf")), test, train, Pixels(), n=60)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "held_out, words, expected",
    [
        (60, ["--samples", "10"], "at least 50 samples, got 10"),
        (60, ["--samples", "-5"], "from 0 to 100000, got -5"),
        (5, [], "at least 50 training examples, got 46"),
        (5, ["--split", "train"], "at least 50 training examples, got 46"),
    ],
)
def test_counts_are_refused_before_anything_is_learned(tmp_path, monkeypatch, capsys, held_out, words, expected):
    folder = tmp_path / "run"
    save_model(triptych.GAN((1, 12, 12), latent_dim=2), folder)
    np.save(tmp_path / "set.npy", shapes(10 * held_out)[0])

    def refuse(*_, **__):
        raise AssertionError("features are learned")

    monkeypatch.setattr("triptych.evaluate.features", refuse)
    assert main(["evaluate", str(folder), "--data", str(tmp_path / "set.npy"), *words]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("triptych: ") and expected in said


def test_the_command_says_both_counts(tmp_path, capsys):
    folder, told = tmp_path / "run", tmp_path / "told.json"
    save_model(triptych.GAN((1, 12, 12), latent_dim=2), folder)
    np.save(tmp_path / "set.npy", shapes(600)[0])
    words = ["--data", str(tmp_path / "set.npy"), "--features", "pixels", "--samples", "90", "--json", str(told)]
    assert main(["evaluate", str(folder), *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "90 samples of" in said and "against 66 held-out" in said and "go with both counts" in said
    assert {(v["samples"], v["held_out"]) for v in json.loads(told.read_text()).values()} == {(90, 66)}


def test_json_has_a_line_for_each_measure(measured, tmp_path):
    stored = measured["novel"].as_json()
    assert {"fid", "kid", "precision", "recall", "density", "coverage", "c2st_1nn", "c2st_logistic", "swd", "ms_ssim",
            "nearest_ratio"} <= set(stored)  # fmt: skip
    for name, numbers in stored.items():
        expected = {"value", "stderr", "n", "features", "samples", "held_out", "against", "reference", "temperature"}
        expected |= set() if name in ("nearest_ratio", "copied") else {"floor", "floor_stderr", "floor_n", "floor_samples"}
        expected |= {"scales", "window"} if name == "ms_ssim" else set()
        assert set(numbers) == expected and numbers["features"] == "pixels" and numbers["samples"] == 200
    storage.write_json(tmp_path / "quality.json", stored)
    assert json.loads((tmp_path / "quality.json").read_text())["fid"]["value"] == stored["fid"]["value"]
    assert evaluate.Quality is Quality
