"""`triptych compare`: its figures are those of `evaluate`; what is not comparable is refused in a line, or stands apart."""

import json
import re

import numpy as np
import pytest
import torch

import triptych
from triptych import edit
from triptych.cli import main
from triptych.cli.comparing import short_names
from triptych.codecs import Attribute, Conditions
from triptych.data import Split
from triptych.errors import TriptychError
from triptych.evaluate import Pixels, sample_quality
from triptych.report.comparable import check_models, seen_before
from triptych.report.gallery import shared_names
from triptych.vae import Bernoulli, DiscretisedLogistic

SIZE = (1, 8, 8)
FAST = ["--features", "pixels", "--samples", "50", "--images", "10", "--k", "3", "--inversions", "2"]


def flow():
    model = triptych.Glow(SIZE, levels=2, depth=1, width=8)
    model.initialize(torch.rand(32, *SIZE))
    return model


def given():
    model = triptych.VAE(SIZE, 4, context_dim=1)
    model.conditions = Conditions([Attribute("glasses", "binary")])
    return model


MODELS = {
    "vae": lambda: triptych.VAE(SIZE, 4, likelihood=DiscretisedLogistic(SIZE)),
    "glow": flow,
    "gan": lambda: triptych.GAN(SIZE, 4),
    "given": given,
    "wide": lambda: triptych.VAE((1, 8, 12), 4),
    "shallow": lambda: triptych.VAE(SIZE, 4, likelihood=DiscretisedLogistic(SIZE, bits=5)),
    "numbers": lambda: triptych.VAE((3,), 2),
    "binary": lambda: triptych.VAE(SIZE, 4, likelihood=Bernoulli()),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run of every kind, two with directions of one name, and a set of pictures."""
    root = tmp_path_factory.mktemp("runs")
    stored = torch.randint(0, 256, (600, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    np.save(root / "data.npy", stored.numpy())
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make().eval()
        model.save_pretrained(root / name)
        if name in ("vae", "glow"):
            found = edit.unsupervised_directions(model, stored[:40], 2)
            edit.judge(model, found, stored[40:60], {}).save(root / name)
    return root


@pytest.fixture(scope="module")
def report(home):
    """The page of three families, and its JSON."""
    runs = [str(home / name) for name in ("vae", "glow", "gan")]
    out, numbers = home / "report.html", home / "numbers.json"
    words, evaluated = ["--data", str(home / "data.npy"), *FAST], home / "evaluated.json"
    with pytest.MonkeyPatch.context() as patch:  # sliced Wasserstein distances take most of the time, and show nothing here
        patch.setattr("triptych.evaluate.quality.sliced_wasserstein", lambda *_, **__: {})
        assert main(["compare", *runs, *words, "--out", str(out), "--json", str(numbers)]) == 0
        assert main(["evaluate", runs[1], *words[:-2], "--hmc", "0", "--json", str(evaluated)]) == 0
    page, mine, theirs = (json.loads(p.read_text()) for p in (out.with_suffix(".json"), numbers, evaluated))
    return out.read_text(encoding="utf-8"), page, mine, theirs


def test_every_figure_is_the_one_that_evaluate_has(report):
    """Among others a run is measured as it is alone."""
    _, _, mine, theirs = report
    (measures,) = [measures for run, measures in mine["runs"].items() if run.endswith("glow")]
    assert {name: measures[name] for name in theirs} == theirs and len(theirs) > 15


def test_the_page_shows_what_json_says(report):
    _, page, mine, _ = report
    tables = [b for s in page["sections"] for b in s["blocks"] if b["kind"] == "table"]
    rows = {row["measure"]: row for table in tables for row in table["rows"] if "measure" in row}
    for name, label in (
        ("bits_per_dim", "bits per dimension ↓"),
        ("precision", "precision ↑"),
        ("kid", "kernel distance ↓"),
    ):
        for run, measures in mine["runs"].items():
            cell = rows[label][run.rpartition("/")[2]]
            assert cell == "–" if name not in measures else cell["value"] == measures[name]["value"]
    assert rows["kind"]["gan"].startswith("none") and "bound" in rows["kind"]["vae"] and "exact" in rows["kind"]["glow"]
    assert rows["codes are found"] == {
        "measure": "codes are found",
        "vae": "by an encoder",
        "glow": "exactly",
        "gan": "by inversion",
    }
    assert rows["sampled a second ↑"]["vae"]["value"] > 0 and rows["parameters"]["vae"]["value"] > 0
    assert rows["error of inversion (range 1) ↓"]["gan"]["n"] == 8


def test_pictures_of_all_stand_side_by_side(report):
    html, page, _, _ = report
    found = {s["anchor"]: s["blocks"] for s in page["sections"]}
    assert found["samples"][0]["rows"] == ["vae", "glow", "gan"] and found["samples"][1]["kind"] == "frames"
    assert found["reconstructions"][0]["rows"] == ["held out", "vae", "glow", "gan (by inversion)"]
    assert found["between"][0]["columns"][0] == "0 %" and found["between"][0]["columns"][-1] == "100 %"
    effects, strip = found["edits"][:2]
    assert strip["rows"] == ["vae", "glow"] and strip["values"] == sorted(strip["values"])
    assert {row["direction"].split(": ")[1] for row in effects["rows"]} == {"moves", "drags most"}
    assert all(row[name]["stderr"] > 0 for row in effects["rows"][::2] for name in ("vae", "glow"))
    assert html.count("<img ") > 3 * (10 + 6) + 4 * 8 + 3 * 9


def test_likelihoods_of_other_things_stand_apart_with_the_reason(report):
    _, page, mine, _ = report
    assert "nll" in mine["not_comparable"] and "bits_per_dim" not in mine["not_comparable"]
    (care,) = [s for s in page["sections"] if s["anchor"] == "care"]
    texts = json.dumps(care, ensure_ascii=False)
    assert (
        "otherwise" in texts
        and "not known: their training data are not here" in texts
        and "by inversion" in json.dumps(page)
    )
    (details,) = [b for b in care["blocks"] if b["kind"] == "details"]
    assert "−log p(x), nats" in [row["measure"] for row in details["blocks"][0]["rows"]]


REFUSED = {
    "one run": (["vae"], [], "two runs or more"),
    "one run twice": (["vae", "vae"], [], "twice"),
    "shapes": (["vae", "wide"], [], "shapes"),
    "pixels and numbers": (["vae", "numbers"], [], "shapes"),
    "a condition": (["vae", "given"], [], "they are given nothing and glasses; train both"),
    "bits": (["vae", "shallow"], [], "8 and 5; train both at one --model.bits"),
    "not a page": (["vae", "glow"], ["--out", "report.pdf"], r"ends in \.html"),
    "one file for both": (["vae", "glow"], ["--out", "a.html", "--json", "a.json"], "another name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_comparable_is_refused_before_any_measuring(home, tmp_path, monkeypatch, capsys, case):
    runs, more, said = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("triptych.cli.comparing.measure_all", lambda *_: pytest.fail("measured"))
    words = [*(str(home / run) for run in runs), "--data", str(home / "data.npy"), *FAST]
    assert main(["compare", *words, *more]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("triptych: ")]
    assert len(lines) == 1 and re.search(said, lines[0]), lines
    assert not list(tmp_path.glob("*.html"))


def test_a_run_that_was_trained_on_the_held_out_examples_is_refused(home, tmp_path, capsys):
    stored = np.load(home / "data.npy")
    np.savez(tmp_path / "known.npz", x_train=stored[:500], x_test=stored[500:])
    np.savez(tmp_path / "unknown.npz", x_train=stored[:100], x_test=stored[300:400])
    runs = []
    for seed in ("0", "1"):
        runs.append(str(tmp_path / f"run{seed}"))
        words = ["vae", "--data", str(tmp_path / "known.npz"), "--steps", "1", "--seed", seed, "--training.batch", "8"]
        assert main(["train", *words, "--out", runs[-1]]) == 0
    capsys.readouterr()
    assert main(["compare", *runs, "--data", str(tmp_path / "unknown.npz"), *FAST]) == 2
    assert re.search(r"run0 was trained on 100% of the held-out examples.*--data", capsys.readouterr().err)


def test_vectors_have_figures_and_no_pictures(home, tmp_path):
    """Among them a GAN, of which nothing is known without samples but its speed and size."""
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32))
    triptych.NICE((3,), 2, (8,)).eval().save_pretrained(tmp_path / "nice")
    triptych.GAN((3,), 2).eval().save_pretrained(tmp_path / "gan")
    runs = [str(home / "numbers"), str(tmp_path / "nice"), str(tmp_path / "gan")]
    out = tmp_path / "report.html"
    words = ["--data", str(tmp_path / "table.npy"), "--samples", "0", "--images", "5", "--k", "2", "--inversions", "2"]
    assert main(["compare", *runs, *words, "--out", str(out)]) == 0
    page = json.loads(out.with_suffix(".json").read_text())
    assert [s["anchor"] for s in page["sections"]] == ["figures", "care", "how"] and "<img" not in out.read_text()
    rows = {row["measure"]: row for b in page["sections"][0]["blocks"] for row in b["rows"]}
    assert rows["sampled a second ↑"]["gan"]["value"] > 0 and rows["−log p(x), nats ↓"]["gan"] == "–"


def test_how_much_was_seen_is_counted(generator):
    data = torch.randint(0, 256, (90, 1, 4, 4), dtype=torch.uint8, generator=generator).numpy()
    for shared in (0, 1, 10, 30):
        train = Split(np.concatenate([data[:shared], data[30:]]))
        assert seen_before(Split(data[:30]), train) == pytest.approx(shared / 30)
    assert seen_before(Split(data[:30]), Split(np.zeros((3, 5), np.float32))) == 0


def test_names_are_as_long_as_they_must_be():
    assert short_names(["a/x/vae", "b/x/vae", "glow"]) == ["a/x/vae", "b/x/vae", "glow"]


def test_models_of_other_data_are_told_apart():
    models = [MODELS["vae"]().eval(), triptych.VAE(SIZE, 4).eval(), MODELS["binary"]().eval()]
    check_models(["a", "b", "c"], models)
    with pytest.raises(TriptychError, match="shape"):
        check_models(["a", "b"], [models[0], MODELS["numbers"]().eval()])


def test_directions_of_models_that_do_not_encode_are_left_out(home, tmp_path, monkeypatch):
    """Two GANs that are not inverted have directions of one name, and nothing to edit by them."""
    for name in ("one", "other"):
        model = MODELS["gan"]().eval()
        model.save_pretrained(tmp_path / name)
        found = edit.Directions(pc1=edit.Direction("pc1", "continuous", torch.eye(4)[0], 0.0, 1.0, torch.eye(4)[0]))
        found.save(tmp_path / name)
    monkeypatch.setattr("triptych.evaluate.quality.sliced_wasserstein", lambda *_, **__: {})
    words = ["compare", str(tmp_path / "one"), str(tmp_path / "other"), "--data", str(home / "data.npy"), *FAST[:-1], "0"]
    assert main([*words, "--out", str(tmp_path / "report.html")]) == 0
    sections = json.loads((tmp_path / "report.json").read_text())["sections"]
    assert "edits" not in [section["anchor"] for section in sections]


def test_directions_that_two_have_are_shared_those_of_most_first():
    def directions(*names):
        zero = torch.ones(2)
        return edit.Directions({n: edit.Direction(n, "continuous", zero, 0.0, 1.0, zero) for n in names})

    having = [directions("smile", "age", "hat"), directions("age", "smile"), directions("age"), None]
    assert shared_names(having) == ["age", "smile"]


def test_a_floor_that_is_known_is_the_one_that_would_be_measured(generator, monkeypatch):
    for slow in ("sliced_wasserstein", "two_sample_test"):
        monkeypatch.setattr(f"triptych.evaluate.quality.{slow}", lambda *_, **__: {})
    data = torch.randint(0, 256, (240, *SIZE), dtype=torch.uint8, generator=generator).numpy()
    test, train, how = Split(data[:80]), Split(data[80:]), {"n": 50}
    first, second = (MODELS[name]().eval() for name in ("gan", "glow"))
    known = sample_quality(first, test, train, Pixels(), **how)
    assert sample_quality(second, test, train, Pixels(), **how, like=known) == sample_quality(
        second, test, train, Pixels(), **how
    )
    with pytest.raises(TriptychError, match="with other features"):
        sample_quality(second, test, train, Pixels(), n=60, like=known)
