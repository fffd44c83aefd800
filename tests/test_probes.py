"""Pictures optimised for scikit-learn estimators that lie in files, from the command line."""

import pickle

import numpy as np
import pytest
import skops.io
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_edit_folder import SIZE, flow, save_run, vae

import triptych
from triptych.cli import main
from triptych.edit.probes import load_probe, probe_score
from triptych.errors import TriptychError
from triptych.figures import read_picture

D = int(np.prod(SIZE))
ROWS = np.random.default_rng(0).random((60, D))
BRIGHT = ROWS.mean(1) > np.median(ROWS.mean(1))

PROBES = {
    "linear": lambda: LinearRegression().fit(ROWS, ROWS.mean(1)),
    "logistic": lambda: LogisticRegression().fit(ROWS, BRIGHT),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, BRIGHT),
    "chances": lambda: GaussianNB().fit(ROWS, BRIGHT),
}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "me.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_scores_as_its_estimator_does(name, tmp_path):
    probe = PROBES[name]()
    skops.io.dump(probe, tmp_path / "probe.skops")
    found = probe_score(load_probe(tmp_path / "probe.skops"), triptych.VAE(SIZE, 4))
    x = torch.rand(5, *SIZE, generator=torch.Generator().manual_seed(0))
    if name == "chances":
        chances = probe.predict_proba(x.flatten(1).numpy()).clip(1e-6, 1)
        expected = np.log(chances[:, 1] / chances[:, 0])
    else:
        expected = getattr(probe, "decision_function", probe.predict)(x.flatten(1).numpy())
    np.testing.assert_allclose(found(x).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert found(x.requires_grad_()).requires_grad == (name in ("linear", "logistic"))


@pytest.mark.parametrize(("make", "name"), [(vae, "logistic"), (vae, "pipeline"), (flow, "linear")])
def test_edit_moves_a_picture_to_where_a_probe_scores_it_higher(make, name, tmp_path, picture, capsys):
    run, probe = save_run(make, tmp_path / "run"), PROBES[name]()
    skops.io.dump(probe, tmp_path / "probe.skops")
    words = ["edit", str(run), str(picture), "--optimise", str(tmp_path / "probe.skops"), "--steps", "5", "--triptych"]
    assert main([*words, "--within", "3", "--out", str(tmp_path / "out.png")]) == 0
    strip = np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
    whole = read_picture(tmp_path / "out.png", (3, *strip.shape[:2]))[0].float() / 255
    again, edited = whole[:, -16:, -34:-18], whole[:, -16:, -16:]
    score = getattr(probe, "decision_function", probe.predict)
    before, after = (score(p.flatten()[None].numpy())[0] for p in (again, edited))
    assert after > before


def test_a_film_of_the_way(tmp_path, picture):
    run = save_run(vae, tmp_path / "run")
    skops.io.dump(PROBES["logistic"](), tmp_path / "probe.skops")
    out = tmp_path / "way.gif"
    assert main(["edit", str(run), str(picture), "--optimise", str(tmp_path / "probe.skops"), "--out", str(out)]) == 0
    with Image.open(out) as film:
        assert film.n_frames > 1


def dumped(estimator):
    return lambda path: skops.io.dump(estimator(), path)


BAD = {
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(LinearRegression())), "not an estimator that skops"),
    "an empty file": (lambda path: path.write_bytes(b""), "should be a file of skops"),
    "no file": (lambda path: None, "does not exist"),
    "a folder": (lambda path: path.mkdir(), "is a folder: expected a file"),
    "other features": (dumped(lambda: LinearRegression().fit(ROWS[:, :5], ROWS.mean(1))), "the probe reads 5 features"),
    "three classes": (dumped(lambda: LogisticRegression().fit(ROWS, np.arange(60) % 3)), "gives .3,. scores"),
    "not a probe": (dumped(lambda: {"a": 1}), "the probe reads None features"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused_in_one_line(name, tmp_path, picture, capsys):
    write, said = BAD[name]
    path, run = tmp_path / "probe.skops", save_run(vae, tmp_path / "run")
    write(path)
    assert main(["edit", str(run), str(picture), "--optimise", str(path), "--out", str(tmp_path / "out.png")]) == 2
    with pytest.raises(TriptychError, match=said):
        probe_score(load_probe(path), triptych.VAE(SIZE, 4))
    assert not (tmp_path / "out.png").exists() and "Traceback" not in capsys.readouterr().err


def test_a_type_of_ones_own_is_not_loaded(tmp_path):
    class Mine(PCA):
        pass

    Mine.__module__, Mine.__qualname__ = "somebody.models", "Mine"
    estimator = make_pipeline(Mine(2), LinearRegression())
    skops.io.dump(estimator, tmp_path / "probe.skops")
    with pytest.raises(TriptychError, match="holds types that are not read from files, such as somebody"):
        load_probe(tmp_path / "probe.skops")
