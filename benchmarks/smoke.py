"""Benchmarks in small: each runs to its end with numbers so small that they mean nothing, in minutes for all.

    python benchmarks/smoke.py                     those that need no data from elsewhere; all where $TRIPTYCH_DATA is set
    python benchmarks/smoke.py nice game           these alone

What is shown is that a command still runs. A race runs without its peers, which it would install: our side of `race_flow`,
`race_vae` and `same_time`. Of what has none, `LEFT_OUT` says why. All arguments are parsed by the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent

SMALL = {
    "calibration": "--only scores --n 32 --repetitions 8",
    "code_statistics": "",
    "conditional": "--data faces --models dcgan --steps 2 --set model.width=4 --reader-steps 4",
    "cover": "",
    "depths": "--run faces-spectral --depths 2 --reader-steps 10",
    "encoders": "--seconds 1 --ways joint --change model.width=4 --n 50 --feature-steps 4 --reader-steps 10",
    "endurance": "--families nice --sets digits --steps 200",
    "families": "--vae faces-vae --glow faces-glow --gan faces-gan --features pixels --n 50",
    "feature_distances": "--features pixels --n 100",
    "flow_cost": "--only share --rounds 1 --depth 2 --widths 16",
    "flows": "--data faces --steps 2 --n 8 --change model.depth=1 --change model.whiten=none",
    "game": "--steps 120 --every 60 --plays 1 --batch 32",
    "games": "--data faces --games relativistic --seconds 1 --width 4 --looks 1 --n 50 --feature-steps 4",
    "gradient_variance": "--repetitions 20 --dimensions 1 2 --steps 0 3",
    "growing": "--size 16 --seconds 1 --looks 1 --n 50 --feature-steps 4",
    "hinge": "--kinds vae --seconds 1 --label small --change model.width=4 --n 50 --feature-steps 4 --reader-steps 10",
    "inversion": "faces-gan --n 2 --steps 1 2 --encoder-steps 2 --pulls 0",
    "leakage": "--models faces-vae --methods means --names smile --examples 500 --reader-steps 10 --teacher-steps 4",
    "onboard": "--names faces-vae --steps 2 --few 3500 --board board",
    "overlapping": "--models 3 --n 200",
    "perturbation": "--run faces-vae --faces 2 --viewers 2 --fit-steps 4 --reader-steps 100 --teacher-steps 100",
    "priors": "--kinds flow --steps 2 --few 4 --k 2 --n 50 --feature-steps 4 --change model.width=4",
    "race_flow": "--side ours --depth 1",
    "race_gan": "--rounds 2 --width 4 --batch 8",
    "race_vae": "--side ours",
    "smile": "--steps 2 --regressor-steps 4 --n 16 --change model.width=4",
    "stability": "--data faces --depth 2 --width 8 --steps 4 --floors 0.5 --bounds 3",
    "startup": "",
    "step_times": "--floor --rounds 1 --threads 1",
    "studio_load": "faces-vae --clients 2 --seconds 2",
    "table_scales": "--tables iris --families nice --steps 5",
}
"""Arguments by benchmark, of those that draw or embed their data, or take a model on board."""

FROM_DATA = {
    "ablation_flow": "--seconds 0.2 --seeds 1 --jobs 1 --depth 1 --width 8 --images 16",
    "celeba": "--size 32 --steps 2 --change model.width=4",
    "face_finding": "--n 4 --tilts 0",
    "frey": "--steps 4",
    "mnist": "--steps 4",
    "nearest": "--families gan --counts 100 --steps 2 --feature-steps 4",
    "nice": "--steps 2 --hidden 16 --images 50 --fill 2",
    "paper_gan": "--steps 2 --n 1000",
    "photos_gan": "--base base --sides init --steps 2 --n 50 --feature-steps 4",
    "same_time": "--side ours --seconds 2",
    "score": "--families vae --share 0.0001",
    "stacked": "--steps 2 --n 100 --reader-steps 4",
}
"""Those that read a set under $TRIPTYCH_DATA."""

LEFT_OUT = {"chaos": "a test itself: what it kills and damages takes the time that it is given"}
"""Those without a small form, and why."""

WRITES = {"code_statistics": "", "cover": "--path cover.png", "gradient_variance": "--out out.json", "step_times": ""}
"""Where a benchmark writes, of those that have no folder `--out`."""

BEFORE = {"photos_gan": "train dcgan --data faces --steps 2 --model.width 4 --out base"}
"""The run that a benchmark starts from, where none on board will do: words of `triptych`."""


def main() -> None:
    table = {**SMALL, **(FROM_DATA if "TRIPTYCH_DATA" in os.environ else {})}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(table), metavar="NAME", help=f"of {', '.join(table)}")
    options = parser.parse_args()
    if unknown := set(options.names) - set(table):
        parser.error(f"no small form of {', '.join(sorted(unknown))}: there are {', '.join(table)}")
    failed = [name for name in options.names if not runs(name, table[name].split())]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def runs(name: str, words: list[str]) -> bool:
    """Whether the benchmark ends well, on one thread and in a folder of its own; what it said is printed if not."""
    start, alone = time.perf_counter(), {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        commands = [["-m", "triptych", *BEFORE[name].split()]] if name in BEFORE else []
        commands.append([str(HERE / f"{name}.py"), *words, *WRITES.get(name, "--out out").split()])
        for command in commands:
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=folder, env=alone)
            if done.returncode:
                break
    verdict = "runs" if done.returncode == 0 else f"fails with {done.returncode}\n{done.stdout}{done.stderr}"
    print(f"{name:<18} {time.perf_counter() - start:6.1f} s   {verdict}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    main()
