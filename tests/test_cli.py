"""The command line as a person meets it: what it prints, writes and returns."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from triptych.cli import COMMANDS, main
from triptych.cli.editing import parse_sweep
from triptych.errors import TriptychError

FAST = ["--model.latent-dim", "4", "--model.width", "4", "--training.batch", "16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty small pictures: red ones are `red`, and each has a brightness."""
    root = tmp_path_factory.mktemp("photos")
    rows, random = ["file_name,red,brightness"], np.random.default_rng(0)
    for i in range(40):
        picture = np.zeros((20, 16, 3), np.uint8) + random.integers(0, 40, (20, 16, 3), dtype=np.uint8)
        picture[..., 0] += np.uint8(120 * (i % 2))
        picture += np.uint8(i)
        Image.fromarray(picture).save(root / f"{i:02}.png")
        rows.append(f"{i:02}.png,{i % 2},{i}")
    (root / "metadata.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "vae", "--data", str(folder), "--size", "16", "--steps", "40", "--out", str(out), *FAST]) == 0
    return out


def frames(path):
    with Image.open(path) as picture:
        return getattr(picture, "n_frames", 1)


def one_line_error(capsys, words, *parts):
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("triptych: ") and said.count("triptych: ") == 1, said
    assert "Traceback" not in said
    for part in parts:
        assert part in said, said


def test_the_main_job(run, folder, tmp_path, capsys):
    scores, told = tmp_path / "scores.json", tmp_path / "told.json"
    assert main(["evaluate", str(run), "--k", "10", "--images", "4", "--hmc", "0", "--json", str(scores)]) == 0
    numbers = json.loads(scores.read_text())
    assert set(numbers) == {
        "elbo",
        "log_likelihood",
        "kl",
        "nll",
        "bits_per_dim",
        "active_units",
        "reconstruction_rmse",
    }
    assert all(set(v) == {"value", "stderr", "n"} for v in numbers.values())
    for name, size in (("samples.png", None), ("samples.gif", None), ("samples.npy", (6, 3, 16, 16))):
        out = tmp_path / name
        assert main(["sample", str(run), "--n", "6", "--temperature", "0.7", "--seed", "1", "--out", str(out)]) == 0
        if size:
            values = np.load(out)
            assert values.shape == size and values.dtype == np.uint8
        else:
            assert frames(out) >= 1
    assert main(["directions", str(run), "--json", str(told)]) == 0
    assert set(json.loads(told.read_text())) == {"red", "brightness"}
    pictures = [str(folder / "00.png"), str(folder / "01.png")]
    for extra in (["--set", "red=1"], ["--set", "red=+0.5", "--set", "brightness=-3"], ["--sweep", "red=-2:2:5"]):
        out = tmp_path / "edited.png"
        assert main(["edit", str(run), *pictures, *extra, "--out", str(out)]) == 0
        with Image.open(out) as picture:
            assert picture.size[0] > 64
    assert main(["mix", str(run), *pictures, "--steps", "5", "--out", str(tmp_path / "mix.gif")]) == 0
    assert frames(tmp_path / "mix.gif") == 8
    assert main(["directions", str(run), "--unsupervised", "2"]) == 0
    assert main(["edit", str(run), pictures[0], "--set", "pc1=2", "--out", str(tmp_path / "pc.png")]) == 0


def test_sampling_is_reproducible(run, tmp_path):
    for name in ("a.npy", "b.npy"):
        assert main(["sample", str(run), "--n", "3", "--observe", "--seed", "4", "--out", str(tmp_path / name)]) == 0
    assert (np.load(tmp_path / "a.npy") == np.load(tmp_path / "b.npy")).all()


def test_fine_tuning_and_resuming(run, folder, tmp_path, capsys):
    tuned = tmp_path / "tuned"
    words = ["--init", str(run), "--data", str(folder), "--size", "16", "--augment", "flip,shift", "--steps", "4"]
    assert main(["train", *words, "--out", str(tuned)]) == 0
    recipe = json.loads((tuned / "recipe.json").read_text())
    assert recipe["recipe"]["augment"] == "flip,shift" and recipe["model"]["arguments"]["latent_dim"] == 4
    assert main(["train", "--resume", str(tuned)]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["train", "--resume", str(tuned), "--steps", "6"]) == 0
    assert (tuned / "state" / "000000006").is_dir()


def test_a_saved_model_can_be_fine_tuned(run, folder, tmp_path):
    import triptych

    triptych.load(run).save_pretrained(tmp_path / "saved")
    words = ["train", "vae", "--init", str(tmp_path / "saved"), "--data", str(folder), "--size", "16", "--steps", "2"]
    assert main([*words, "--out", str(tmp_path / "tuned")]) == 0


def test_a_run_inside_the_data_folder_is_not_data(folder, tmp_path, capsys):
    import shutil

    photos = tmp_path / "photos"
    shutil.copytree(folder, photos)
    words = ["train", "vae", "--data", str(photos), "--size", "16", "--steps", "2", *FAST]
    assert main([*words, "--out", str(photos / "run")]) == 0
    assert main(["train", "--resume", str(photos / "run"), "--steps", "4"]) == 0


def test_errors_are_one_line(run, folder, tmp_path, capsys):
    there = str(tmp_path / "there")
    empty = tmp_path / "empty"
    empty.mkdir()
    one_line_error(capsys, ["trian"], "train")
    one_line_error(capsys, ["train", "vea"], "vae")
    one_line_error(capsys, ["train", "--data", "faces"], "family")
    one_line_error(capsys, ["train", "vae", "--steps", "many", "--out", there], "steps", "--help")
    one_line_error(capsys, ["train", "vae", "--model.latent", "3", "--out", there], "--model.latent")
    one_line_error(capsys, ["train", "vae", "--data", "faces"], "--out")
    one_line_error(capsys, ["train", "vae", "--data", "facse", "--out", there], "faces")
    one_line_error(capsys, ["train", "vae", "--data", str(empty), "--out", there], str(empty))
    one_line_error(capsys, ["train", "vae", "--data", str(folder), "--out", str(run)], "--resume", "--overwrite")
    one_line_error(capsys, ["train", "vae", "--preset", "huge", "--out", there], "huge", "mnist")
    one_line_error(capsys, ["train", "vae", "--data", "faces?a-b", "--out", there], "a-b")
    one_line_error(capsys, ["train", "vae", "--data", str(folder), "--size", "16", "--given", "rad", "--out", there], "red")
    one_line_error(capsys, ["train", "vae", "--training.batch", "0", "--out", there], "batch")
    one_line_error(capsys, ["train", "--resume", there], there)
    one_line_error(capsys, ["train", "--resume", str(run), "--seed", "3"], "--seed", "--init")
    one_line_error(capsys, ["train", "--init", str(run), "--data", "digits", "--size", "8", "--out", there], "--size 16")
    one_line_error(capsys, ["train", "--init", str(run), "--model.width", "9", "--out", there], "--model.width")
    one_line_error(
        capsys, ["train", "vae", "--data", str(folder), "--size", "16", "--augment", "flop", "--out", there], "flop"
    )
    one_line_error(capsys, ["train", "vae", "--seed", "1" + "0" * 20, "--out", there], "seed")
    one_line_error(capsys, ["train", "vae", "--training.rate", "inf", "--out", there], "rate")
    one_line_error(capsys, ["train", "vae", "--objective.beta", "nan", "--out", there], "beta")
    assert not (tmp_path / "there").exists()
    one_line_error(capsys, ["evaluate"], "evaluate", "--help")
    one_line_error(capsys, ["evaluate", str(run), "--hmc", "-1"], "--hmc")
    one_line_error(capsys, ["sample", str(run), "--temperature", "nan"], "temperature")
    one_line_error(capsys, ["sample", str(run), "--out", str(folder / "00.png" / "x.png")], "cannot write")
    one_line_error(capsys, ["evaluate", str(tmp_path / "nothing")], "no run folder")
    one_line_error(capsys, ["evaluate", str(run), "--split", "valid"], "valid", "choose train or test")
    one_line_error(capsys, ["evaluate", str(run), "--k", "0"], "--k")
    one_line_error(capsys, ["sample", str(run), "--n", "0"], "--n")
    one_line_error(capsys, ["sample", str(run), "--out", str(tmp_path / "x.xyz")], ".png")
    one_line_error(capsys, ["sample", str(run), "--temperature", "-1"], "temperature")
    one_line_error(capsys, ["directions", str(run), "--attributes", "redd"], "red")
    main(["directions", str(run)])
    picture = str(folder / "00.png")
    one_line_error(capsys, ["edit", str(run), picture, "--set", "rde=1"], "red")
    one_line_error(capsys, ["edit", str(run), picture, "--set", "red"], "name=value")
    one_line_error(capsys, ["edit", str(run), picture], "--set")
    one_line_error(capsys, ["edit", str(run), picture, "--set", "red=1", "--set", "red=2"], "twice")
    one_line_error(capsys, ["edit", str(run), picture, "--sweep", "red=1:2"], "low:high:count")
    one_line_error(capsys, ["edit", str(run), str(tmp_path / "no.png"), "--set", "red=1"], "no.png")
    one_line_error(capsys, ["mix", str(run), picture, picture, "--steps", "1"], "from 2 to 1000")


def test_attributes_are_needed_for_directions(tmp_path, capsys):
    pictures = tmp_path / "plain"
    pictures.mkdir()
    for i in range(12):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(pictures / f"{i}.png")
    out = tmp_path / "run"
    assert main(["train", "vae", "--data", str(pictures), "--steps", "2", "--out", str(out)]) == 0
    one_line_error(capsys, ["directions", str(out)], "metadata.csv", "--unsupervised")


def test_unreadable_pictures_are_named_and_skipped(folder, tmp_path, capsys):
    import shutil

    bad = tmp_path / "photos"
    shutil.copytree(folder, bad)
    (bad / "03.png").write_bytes((bad / "03.png").read_bytes()[:60])
    assert (
        main(["train", "vae", "--data", str(bad), "--size", "16", "--steps", "1", "--out", str(tmp_path / "r"), *FAST]) == 0
    )
    said = capsys.readouterr().err
    assert "03.png" in said and "1" in said


def test_traceback_on_request(capsys):
    with pytest.raises(TriptychError):
        main(["train", "vae", "--traceback"])


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        words = [command, "vae", "--help"] if command == "train" else [command, "--help"]
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert not stop.value.code
        assert len(capsys.readouterr().out) > 100
    assert main(["train", "--help"]) == 0 and main(["--version"]) == 0 and main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {command} " in said for command in COMMANDS)


def test_sweeps_are_parsed():
    assert parse_sweep("smile=-3:3:3") == ("smile", [-3.0, 0.0, 3.0])
    for wrong in ("smile", "smile=1", "smile=1:2:x", "smile=0:nan:3", "smile=0:1:1000", "smile=0:1:1"):
        with pytest.raises(TriptychError):
            parse_sweep(wrong)


def test_importing_and_help_do_not_import_torch():
    code = "import sys, triptych.cli, triptych.recipes; triptych.cli.main(['--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_write_that_fails_leaves_the_run_resumable(tmp_path):
    """A limit on file sizes stands for a full disk: one line, exit 2, and the last checkpoint still there."""
    out = tmp_path / "run"
    words = ["train", "vae", "--data", "digits", "--steps", "200", "--training.save-every", "10", "--out", str(out)]
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from triptych import storage; original = storage.write_folder; count = []\n"
        "def limit(path, **options):\n"
        "    count.append(1)\n"
        "    if len(count) == 5: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "    return original(path, **options)\n"
        "storage.write_folder = limit\n"
        "from triptych.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", limited, *words], capture_output=True, text=True, env=environment)
    assert (
        done.returncode == 2 and done.stderr.count("triptych: ") == 1 and "cannot write" in done.stderr.splitlines()[-1]
    ), done.stderr
    assert sorted(p.name for p in (out / "state").iterdir()) == ["000000000", "000000010"]
    assert main(["train", "--resume", str(out), "--steps", "12"]) == 0
