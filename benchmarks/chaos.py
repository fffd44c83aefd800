"""What breaks a run? Kills at every write, hostile checkpoints, command lines and files, and what they lead to.

    python benchmarks/chaos.py                  all four parts
    python benchmarks/chaos.py --kills          one at every write event of every verb that writes, 100 at random moments
    python benchmarks/chaos.py --checkpoints    300 recipes, weights, states and records that triptych did not write
    python benchmarks/chaos.py --commands       400 command lines, with streams that fail and Ctrl-C at random moments
    python benchmarks/chaos.py --files          150 pictures, tables and archives
    python benchmarks/chaos.py --quick          some tens of cases of each

The cases are drawn by --seed. Each runs in a folder of its own under --out, in a fork of a process that has imported
everything (`chaos_process.py`), so that a case costs tenths of a second; command lines that are about starting and ending
Python are processes of their own. Killed, it goes on where it was, for as long as neither triptych nor the cases have
changed. What is found is counted in a table and listed, and the folder of each faulty case is kept.

    lost          something that was there is gone, or the next start refuses what a kill has left
    unequal       what was killed and started again has other bits than what was not, or a file is neither old nor new
    accepted      exit 0 for a state that does not fit its recipe
    outside       a file written outside of the case's folder, a pickle loaded, a program started, a socket opened
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import chaos_checkpoints
import chaos_commands
import chaos_files
import chaos_kills
import torch
from chaos_process import KINDS, Case, Fault, parallel, preload
from common import arguments

import triptych

PARTS = {
    "kills": chaos_kills.cases,
    "checkpoints": chaos_checkpoints.cases,
    "commands": chaos_commands.cases,
    "files": chaos_files.cases,
}


def main() -> int:
    options = _options()
    torch.set_num_threads(1)
    root = options.out / f"{_code()}-{options.seed}{'-quick' * options.quick}"
    root.mkdir(parents=True, exist_ok=True)
    _surroundings(root)
    _preload(root)
    parts = [name for name in PARTS if getattr(options, name)] or list(PARTS)
    parallel([*chaos_checkpoints.preparations(root), *chaos_kills.preparations(root)], options.workers)
    left = []
    for part in parts:
        (root / part).mkdir(exist_ok=True)
        there, cases = _found(root / part), PARTS[part](root, options.seed, options.quick)
        left += [partial(_play, case, root / part) for case in cases if case.name not in there]
    random.Random(0).shuffle(left)  # slow ones are not all at the end
    start = time.monotonic()
    parallel(left, options.workers)
    print(f"{len(left)} cases in {time.monotonic() - start:.0f} s, {options.workers} side by side", flush=True)
    results = {part: _found(root / part) for part in parts}
    print(_table(results))
    for part, found in results.items():
        for name, faults in found.items():
            for fault in faults:
                print(f"{part} {name}: {fault.kind}: {fault.detail}")
    return int(any(faults for found in results.values() for faults in found.values()))


def _options() -> argparse.Namespace:
    parser = arguments(__doc__, "chaos")
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help=f"only this part, or these: {part}")
    parser.add_argument("--quick", action="store_true", help="some tens of cases of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="cases that run side by side, each in one thread")
    return parser.parse_args()


def _code() -> str:
    """What the results belong to: the package and these cases."""
    found = hashlib.sha256()
    for folder, pattern in ((Path(triptych.__file__).parent, "**/*.py"), (Path(__file__).parent, "chaos*.py")):
        for path in sorted(folder.glob(pattern)):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _surroundings(root: Path) -> None:
    """No network, no data but the embedded ones, caches of its own, one thread."""
    caches = {"TRIPTYCH_CACHE": "cache", "HF_HOME": "cache/hf", "MPLCONFIGDIR": "cache/mpl", "XDG_CACHE_HOME": "cache/xdg"}
    os.environ |= {name: str((root / folder).resolve()) for name, folder in caches.items()}
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    os.environ.pop("TRIPTYCH_DATA", None)


def _preload(root: Path) -> None:
    place = root / "warm" / "place"
    shutil.rmtree(place, ignore_errors=True)
    train = [*chaos_kills.TRAIN, "--out", "run"]
    edit = ["edit", "run", "a/000000.png", "--sweep", "pc1=0:1:2", "--out", "b.gif"]
    preload(
        [train, ["sample", "run", "--n", "2", "--out", "a/"], ["directions", "run", "--attributes", "label=0"],
         ["directions", "run", "--unsupervised", "1"], edit, ["doctor", "run"],
         ["score", "run", "digits", "--out", "s.csv"], ["evaluate", "run", "--images", "4", "--hmc", "0"], ["list", "."]],
        place,
    )  # fmt: skip


def _play(case: Case, folder: Path) -> None:
    short = hashlib.sha256(case.name.encode(errors="replace")).hexdigest()[:8]
    place = folder / f"{case.name.replace('/', '-')[:60]} {short}" / "place"
    shutil.rmtree(place.parent, ignore_errors=True)
    place.mkdir(parents=True)
    faults = case.run(place)
    if not faults:
        shutil.rmtree(place.parent, ignore_errors=True)
    line = json.dumps({"case": case.name, "faults": faults}) + "\n"
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(line)


def _found(folder: Path) -> dict[str, list[Fault]]:
    path = folder / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {found["case"]: [Fault(*fault) for fault in found["faults"]] for found in map(json.loads, lines)}


def _table(results: dict[str, dict[str, list[Fault]]]) -> str:
    lines = [f"| | n | {' | '.join(KINDS)} |", "|---|" + "---:|" * (len(KINDS) + 1)]
    for part, found in results.items():
        counts = Counter(kind for faults in found.values() for kind in {fault.kind for fault in faults})
        lines.append(f"| {part} | {len(found)} | {' | '.join(str(counts[kind]) for kind in KINDS)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
