"""Benchmarks in small: each runs to its end with numbers so small that they mean nothing, in minutes for all.

    python benchmarks/smoke.py                     those that need no data from elsewhere; all where $TRIPTYCH_DATA is set
    python benchmarks/smoke.py nice game           these alone

What is shown is that a command still runs. Those that are left out have no small form: `race_flow`, `race_vae` and
`same_time` install their peers, `chaos` and `studio_load` are tests of their own, and the rest begin with trainings of
fixed length. Their arguments are parsed by the tests.
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
    "endurance": "--families nice --sets digits --steps 200",
    "flow_cost": "--only share --rounds 1 --depth 2 --widths 16",
    "game": "--steps 120 --every 60 --plays 1 --batch 32",
    "gradient_variance": "--repetitions 20 --dimensions 1 2 --steps 0 3",
    "overlapping": "--models 3 --n 200",
    "race_gan": "--rounds 2 --width 4 --batch 8",
    "stability": "--data faces --depth 2 --width 8 --steps 4 --floors 0.5 --bounds 3",
    "startup": "",
    "table_scales": "--tables iris --families nice --steps 5",
}
"""Arguments by benchmark, of those that draw or embed their data."""

FROM_DATA = {
    "frey": "--steps 4",
    "mnist": "--steps 4",
    "nice": "--steps 2 --hidden 16 --images 50 --fill 2",
}
"""Those that read a set under $TRIPTYCH_DATA."""


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
    """Whether the benchmark ends well, in a folder of its own; what it said is printed if not."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = [] if name == "code_statistics" else ["--out", f"{folder}/out{'.json' if name == 'gradient_variance' else ''}"]
        script = [sys.executable, str(HERE / f"{name}.py"), *words, *out]
        done = subprocess.run(script, capture_output=True, text=True, cwd=folder)
    verdict = "runs" if done.returncode == 0 else f"fails\n{done.stdout}{done.stderr}"
    print(f"{name:<18} {time.perf_counter() - start:6.1f} s   {verdict}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    main()
