"""Files: what is opened, what is written over, what is swept away; and what a command shares with its terminal."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import triptych
from triptych import figures, folders, storage
from triptych.cli import main, places
from triptych.data import load
from triptych.data.hub import read_hub
from triptych.errors import TriptychError

LEFT = "triptych-99999999-00c0ffee"  # of a process that cannot be


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    triptych.train("vae", np.zeros((9, 8, 8), np.uint8), steps=1, out=out, model={"latent_dim": 2}, training={"batch": 4})
    return out


def photos(folder: Path, count: int = 12) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(folder / f"{i}.png")
    return folder


def odd(folder: Path) -> dict[str, Path]:
    """What is not a regular file, and never ends where it is read: by what it is called in an error."""
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "sub.png").mkdir()
    names = {"pipe": "a pipe", "zero": "a device", "gone": "does not exist", "sub": "a folder"}
    return {said: folder / f"{name}.png" for name, said in names.items()}


def test_only_regular_files_are_opened(tmp_path: Path, run: Path) -> None:
    model = triptych.load(run)
    for said, path in odd(tmp_path).items():
        calls: list[Any] = [lambda path=path: triptych.read(path, model), lambda path=path: storage.digest(path)]
        if "folder" not in said and "exist" not in said:
            calls += [lambda path=path: load(path), lambda path=path: storage.read_json(path)]
        for call in calls:
            with pytest.raises(TriptychError, match=said):
                call()


def test_what_is_not_a_file_is_left_aside_and_counted(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    odd(folder)
    splits = load(folder)
    assert sum(len(split) for split in splits.values()) == 12
    assert "3 dangling links, pipes or devices (gone.png, pipe.png, zero.png)" in splits.summary


@pytest.mark.parametrize("name", ["recipe.json", "metrics.jsonl", "model.safetensors"])
def test_a_run_of_pipes_is_one_line(run: Path, tmp_path: Path, name: str, capsys: Any) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in run.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path)
    os.mkfifo(folder / name)
    capsys.readouterr()
    assert main(["list", str(tmp_path)]) == 0
    assert main(["doctor" if name == "metrics.jsonl" else "sample", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("triptych: ") and said.count("\n") == 1 and "is a pipe" in said


def test_a_write_replaces_a_links_target_and_keeps_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "target.png", tmp_path / "link.png"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    figures.save(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), link)
    assert link.is_symlink() and target.read_bytes()[:4] == b"\x89PNG" and target.stat().st_mode & 0o777 == 0o600
    for place in ("/dev/null", tmp_path / "pipe.png"):
        with contextlib.suppress(FileExistsError):
            os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(TriptychError, match="device, a pipe or a socket"):
            storage.write_bytes(Path(place), b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.png", "pipe.png", "target.png"]


def test_a_failed_write_leaves_the_picture_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "me.gif"
    frames = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    figures.save(frames, path)
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TriptychError, match="No space left"):
        figures.save(frames + 255, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["me.gif"]


def test_names_of_any_length_can_be_written(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / ("é" * 120 + ".bin"), b"1")  # 244 bytes, to which nothing can be added
    with pytest.raises(TriptychError, match="too long"):
        storage.write_bytes(tmp_path / ("x" * 300), b"1")


def test_only_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    kept = [".a.tmp1", f"a.{LEFT}", f".a.{LEFT}.png", f".a.triptych-{os.getppid()}-00c0ffee", f".{LEFT}"]
    for name in [*kept, f".a.png.{LEFT}", ".a.tmp99999999"]:
        (tmp_path / name).write_text("")
    (tmp_path / f".link.{LEFT}").symlink_to(tmp_path / kept[0])
    (tmp_path / f".folder.{LEFT}" / "deep").mkdir(parents=True)
    folders.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, f".link.{LEFT}"])


@pytest.mark.parametrize("verb", ["sample", "usual", "mix", "list"])
def test_what_a_kill_left_of_an_output_goes_with_the_next(
    verb: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the same output, whatever the verb; another's, of a run that may be going on elsewhere, stays."""
    monkeypatch.chdir(tmp_path)
    picture = str(next((run / "samples").iterdir()))
    words, out = {
        "sample": (["sample", str(run), "--n", "1", "--out", "new.npy"], "new.npy"),
        "usual": (["sample", str(run), "--n", "1"], "samples.png"),
        "mix": (["mix", str(run), picture, picture, "--steps", "2"], "mix.png"),
        "list": (["list", str(run), "--json", "deep/found.json"], "deep/found.json"),
    }[verb]
    path = Path(out)
    path.parent.mkdir(exist_ok=True)
    kept = [path.with_name(f".a{path.name}.{LEFT}"), path.with_name(f".{path.name}.triptych-{os.getppid()}-00c0ffee")]
    for left in [*kept, path.with_name(f".{path.name}.{LEFT}")]:
        left.write_text("")
    assert main(words) == 0
    assert {*path.parent.iterdir()} - {path} == {*kept}


def test_a_folder_that_is_claimed_is_not_swept(tmp_path: Path) -> None:
    left = tmp_path / f".run.{LEFT}"
    left.mkdir()
    with folders.claimed(left):
        folders.sweep(tmp_path)
        folders.sweep_beside(tmp_path / "run")
        assert left.is_dir()
    folders.sweep_beside(tmp_path / "other")
    assert left.is_dir()
    folders.sweep_beside(tmp_path / "run")
    assert not left.is_dir()


def test_a_runs_own_files_are_never_an_output(run: Path, tmp_path: Path, capsys: Any) -> None:
    alias = tmp_path / "alias.json"
    alias.symlink_to(run / "recipe.json")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    picture = str(next((run / "samples").iterdir()))
    calls = [["list", str(run), "--json", str(run / name)] for name in places.OWN]
    calls += [["sample", str(run), "--out", picture], ["doctor", str(run), "--json", str(alias)]]
    calls += [["score", str(run), "digits", "--out", str(run / "state" / "new.csv")]]
    calls += [["score", str(run), "digits", "--out", str(tmp_path / "a.json"), "--json", str(tmp_path / "a.json")]]
    for words in calls:
        capsys.readouterr()
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and ("own files" in said or "over one another" in said), said
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_runs_own_files_are_known() -> None:
    from triptych.edit import directions, inversion
    from triptych.evaluate import reference

    assert {f"{directions.FILE}.json", f"{directions.FILE}.safetensors", inversion.FILE, reference.FILE} <= {*places.OWN}


@pytest.mark.parametrize("name", ["../x", "/etc", "a/../b", "http://a/b", "a", "a/b/c", "~/x", "a/b:c/d", "", "a /b"])
def test_hub_names_are_an_owner_and_a_name(name: str) -> None:
    with pytest.raises(TriptychError, match="expected hf:owner/name"):
        read_hub(name)


def test_a_folder_is_not_read_in_the_place_of_a_hub_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "name")
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(TriptychError, match="would be read in the hub's place"):
        read_hub(f"{tmp_path.name}/name")


@pytest.mark.parametrize(
    ("ending", "codes"),
    [("| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", (0, 141)), (">&-", (0,)), ("> /dev/full", (2,)), ("", (0,))],
)
def test_output_that_cannot_be_written_is_no_traceback(run: Path, ending: str, codes: tuple[int, ...]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    line = f"{sys.executable} -m triptych list {run.parent} {ending}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    assert done.returncode in codes and done.stderr.count("\n") <= 1


@pytest.mark.parametrize("module", ["triptych.cli", "tyro", "numpy", "torch", "triptych.pretrained"])
def test_an_interrupt_while_importing_is_no_traceback(run: Path, module: str) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which tests in the background of a shell are without
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from triptych.__main__ import run\n"
        "sys.exit(run())"
    )
    done = subprocess.run([sys.executable, "-c", code, "evaluate", str(run)], capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr in ("", "stopped\n")


def test_suggestions_are_the_same_at_any_width(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    for columns in ("20", "80", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["train", "vae", "--model.latnet-dim", "3"]) == 2
        assert "--model.latent-dim" in capsys.readouterr().err
        assert os.environ["COLUMNS"] == columns


@pytest.mark.parametrize(
    "words",
    [
        "sample RUN --n 0",
        "sample RUN --n 1000000000000000000",
        "sample RUN --temperature nan",
        "sample RUN --temperature 1e300",
        "sample RUN --seed -1",
        "evaluate RUN --samples 1000000000000000000",
        "evaluate RUN --temperature inf",
        "train vae --minutes nan --out x",
        "train vae --steps 1000000000000000000 --out x",
        "train vae --size -1 --out x",
        "edit RUN a.png --set a=1e300",
        "edit RUN a.png --set a=nan",
        "edit RUN a.png --sweep a=0:1:1000000000000000000",
        "mix RUN a.png b.png --steps 1000000000",
        "directions RUN --unsupervised -1",
        "score RUN digits --batch 0",
        "doctor RUN --samples -5",
        "tour --jobs 0",
    ],
)
def test_numbers_are_bounded_before_any_work(words: str, capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(r"should be|expects|expected", said), said
    assert not list(tmp_path.iterdir())


def test_the_floor_is_what_pyproject_says() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    pins = dict(line.split("==") for line in (root / "constraints-floor.txt").read_text().splitlines() if "==" in line)
    floors = dict(one.partition(",")[0].split(">=") for one in asked)
    assert pins.keys() == floors.keys()
    for name, pin in pins.items():
        assert (pin + ".0.0").startswith(floors[name] + "."), name
