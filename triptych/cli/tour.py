"""`triptych tour`: the whole way on the embedded faces, without a network, in minutes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from triptych.cli import parse
from triptych.cli.options import Tour
from triptych.errors import TriptychError


def tour(words: Sequence[str]) -> None:
    """Trains, scores, samples and edits, and says what happens."""
    options = parse(Tour, words, "triptych tour")
    from triptych.cli import directing, editing, evaluating, sampling, training, verbs

    run, start = options.out / "vae", time.perf_counter()
    _clear(options.out)
    said = _Diary(start)
    said(f"1/5 training a VAE on drawn faces, {options.steps} steps -> {run}")
    short = ["--training.batch", "32"]  # half the preset's: more steps in the same time, which a short run needs more
    training.train(["vae", "--data", "faces", "--steps", str(options.steps), "--out", str(run), *short])
    said("2/5 scoring it on faces that it has not seen")
    evaluating.evaluate([str(run), "--k", "100", "--images", "200", "--json", str(options.out / "scores.json")])
    said("3/5 drawing new faces")
    sampling.sample([str(run), "--temperature", "0.8", "--out", str(options.out / "samples.png")])
    said("4/5 learning what moves a smile, and everything else, and what each drags along")
    directing.directions([str(run)])
    said("5/5 making held-out faces smile, past what training showed (−1 … 1), and mixing two")
    faces = _held_out_faces(options.out, 4)
    for name in ("smile", "age", "hair_length"):
        out = options.out / f"{name}.png"
        editing.edit([str(run), *map(str, faces), "--sweep", f"{name}=-1.5:1.5:9", "--out", str(out)])
    editing.edit([str(run), str(faces[0]), "--sweep", "smile=-1.5:1.5:15", "--out", str(options.out / "smile.gif")])
    verbs.mix([str(run), str(faces[0]), str(faces[1]), "--out", str(options.out / "mix.png")])
    said(f"done: look at {options.out}/samples.png, smile.png, smile.gif, age.png, hair_length.png and mix.png")


_MARK = ".triptych-tour"  # says that a folder was made by a tour, whose pictures and run may then be replaced
_PICTURES = ("samples.png", "smile.png", "age.png", "hair_length.png", "smile.gif", "mix.png", "scores.json")


def _clear(folder: Path) -> None:
    """Removes what an earlier tour wrote, by name, and nothing else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise TriptychError(f"{folder} holds something other than a tour: choose another --out")
    from triptych import storage

    with storage.explained(str(folder), "choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
        if (folder / "vae").exists():
            shutil.rmtree(folder / "vae")
        for name in _PICTURES:
            (folder / name).unlink(missing_ok=True)


def _held_out_faces(folder: Path, count: int) -> list[Path]:
    """A few test faces as picture files, as a person would bring her own."""
    from triptych.data import load
    from triptych.figures import save

    test = load("faces", size=32, n=count * 10)["test"]
    paths = [folder / f"face{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        save(test[i][None], path)
    return paths


class _Diary:
    """Says what happens, with the seconds gone by."""

    def __init__(self, start: float):
        self.start = start

    def __call__(self, line: str) -> None:
        print(f"[{time.perf_counter() - self.start:5.0f} s] {line}", flush=True)
