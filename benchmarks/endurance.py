"""Does a long training stay as it began? 5,000 steps of every family on four sets: NaN, memory and open files.

    python benchmarks/endurance.py                                  all, in about half an hour of one core
    python benchmarks/endurance.py --families vae,gan --sets table  these alone
    python benchmarks/endurance.py --steps 200                      a quick look

Networks and minibatches are small, so that 140,000 steps fit into that time: what leaks, leaks at every step, log, save or
picture, of which each run has 5,000, 100, 20 and 10. Every run is a fork of one process, one after another, in one thread;
killed, it goes on with the runs that are left. Memory (resident) and open files are read every 50 steps; growth is that of a
straight line through what is read after a fifth of each stage. Flat: less than 4 MiB over the rest of all, and as many
files open at the end as at the start.

The sets: `digits` (1×8×8, binarised or dequantised), drawn `faces` at 3×16×16, a table of 16 columns of many scales (for
the convolutional GANs, which take pictures alone, discs in 1×8×8), and pictures of two overlapping discs in 3×8×8.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import altered, arguments, begin, begun, write

import triptych
from triptych import families
from triptych.data import Split
from triptych.training.loop import fit

_SETTINGS = {
    "vae": ["model.hidden=[16]", "model.latent_dim=4", "model.net=mlp", "training.batch=16"],
    "gan": ["model.hidden=[16, 16]", "model.latent_dim=8", "model.net=mlp", "training.batch=16"],
    "dcgan": ["model.width=4", "model.latent_dim=8", "training.batch=8"],
    "progressive": ["model.width=4", "model.latent_dim=8", "training.batch=8", "model.images=8000"],
    "nice": ["model.hidden=[16]", "model.couplings=2", "training.batch=16"],
    "realnvp": ["model.width=4", "model.blocks=1", "training.batch=8"],
    "glow": ["model.depth=1", "model.width=8", "training.batch=8"],
    "spectral": ["model.width=16", "model.coupling_width=16", "model.couplings=2", "model.splines=1", "training.batch=16"],
}
_PICTURES_ALONE = ("dcgan", "progressive")
_FLAT = 4.0  # MiB
_EVERY = 50


def data_sets() -> dict[str, Split]:
    """The training splits by name."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(2000, 16)) @ random.normal(size=(16, 16))
    return {
        "digits": triptych.data.load("digits").train,
        "faces": triptych.data.load("faces", size=16, n=2000).train,
        "table": Split((mixed * 10.0 ** random.integers(-6, 7, 16) + 100).astype(np.float32)),
        "discs": Split(_discs(random, 2000, 3)),
    }


def _discs(random: np.random.Generator, n: int, channels: int) -> np.ndarray:
    """Two discs of random place, radius and colour, (n, C, 8, 8)."""
    y, x = np.mgrid[:8, :8]
    pictures = np.zeros((n, channels, 8, 8))
    for _ in range(2):
        cy, cx, radius = random.uniform(1, 6, (3, n, 1, 1, 1)) * np.array([1, 1, 0.5]).reshape(3, 1, 1, 1, 1)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        pictures += inside * random.uniform(40, 127, (n, channels, 1, 1))
    return pictures.astype(np.uint8)


class _Watched:
    """Memory and open files of this process, and every logged number that is not finite."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, int]] = []
        self.broken: set[str] = set()

    def __call__(self, played: Any, logged: dict[str, float | None]) -> None:
        if played.step % _EVERY == 0:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
            self.seen.append((played.step, resident, len(list(Path("/proc/self/fd").iterdir()))))
            self.broken |= {name for name, value in logged.items() if value is None or not math.isfinite(value)}


def endured(folder: Path, family: str, data: Split, steps: int) -> dict[str, Any]:
    """One training of so many steps, and what it came to."""
    shutil.rmtree(folder, ignore_errors=True)
    often = [f"training.log_every={_EVERY}", f"training.save_every={max(1, steps // 20)}",
             f"training.sample_every={max(1, steps // 10)}"]  # fmt: skip
    recipe = altered(families.preset(family), [f"steps={steps}", 'augment=""', *_SETTINGS[family], *often])
    run, watched, start, said = begun(folder, recipe, data), _Watched(), time.perf_counter(), []
    fit(run, data, watch=watched, notice=said.append)
    step, memory, files = (np.array(column, dtype=float) for column in zip(*watched.seen, strict=True))
    late = step >= steps / 5
    edges = [*sorted(set(run.begun.values())), steps]
    sample = run.averaged.eval().sample(64, generator=torch.Generator().manual_seed(0))
    return {
        "steps": run.step,
        "not_finite": sorted(watched.broken),
        "finite": bool(sample.isfinite().all()) and all(bool(p.isfinite().all()) for p in run.model.parameters()),
        "bad_steps": sum(int(health.bad) for health in run.health.values()),
        "rollbacks": run.progress.rollbacks,
        "mib": float(memory[late][0]),
        "mib_growth": sum(_growth(step, memory, *stage) for stage in itertools.pairwise(edges)),
        "files": [int(files[0]), int(files[-1])],
        "seconds": time.perf_counter() - start,
        "said": said[:5],
    }


def _growth(step: np.ndarray, memory: np.ndarray, first: int, last: int) -> float:
    """By a straight line, MiB over the last four fifths of a stage: what it begins with is not a leak."""
    late = (step > first + (last - first) / 5) & (step <= last)
    return float(np.polyfit(step[late], memory[late], 1)[0] * (last - step[late][0]))


def _forked(path: Path, family: str, data: Split, steps: int) -> dict[str, Any]:
    """The same in a fork, whose memory begins anew; kept in a file, so that what is done is not done again."""
    if not path.exists():
        if (pid := os.fork()) == 0:
            try:
                path.write_text(json.dumps(endured(path.with_suffix(""), family, data, steps)))
            except BaseException:
                traceback.print_exc()
            os._exit(not path.exists())
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"{family} on {path.stem} failed, see above")
        shutil.rmtree(path.with_suffix(""))
    return json.loads(path.read_text())


def verdict(found: dict[str, Any]) -> str:
    """ok, or what was not."""
    wrong = {
        "NaN": bool(found["not_finite"]) or not found["finite"],
        "memory": found["mib_growth"] > _FLAT,
        "files": found["files"][0] != found["files"][1],
    }
    return ", ".join(name for name, is_so in wrong.items() if is_so) or "ok"


def main() -> None:
    parser = arguments(__doc__, "endurance")
    parser.add_argument("--families", default=",".join(_SETTINGS))
    parser.add_argument("--sets", default="digits,faces,table,discs")
    parser.add_argument("--steps", type=int, default=5000)
    parser.set_defaults(threads=1)
    options: argparse.Namespace = parser.parse_args()
    out, sets, results = begin(options), data_sets(), {}
    print("| family | set | steps | bad steps | MiB | growth, MiB | files | seconds | |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---|")
    for family in options.families.split(","):
        for name in options.sets.split(","):
            data = sets[name]
            if name == "table" and family in _PICTURES_ALONE:
                data = Split(_discs(np.random.default_rng(1), 2000, 1))
            found = _forked(out / f"{family}-{name}-{options.steps}.json", family, data, options.steps)
            results[f"{family} {name}"] = found
            files = f"{found['files'][0]} → {found['files'][1]}"
            numbers = (
                f"{found['steps']:,} | {found['bad_steps']} | {found['mib']:.0f} | {found['mib_growth']:+.2f} | {files}"
            )
            print(f"| {family} | {name} | {numbers} | {found['seconds']:.0f} | {verdict(found)} |", flush=True)
    write(out, "endurance", results)


if __name__ == "__main__":
    main()
