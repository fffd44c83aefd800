"""Glow's figure 3 in small: reversal, fixed shuffle or 1×1 convolution, with additive and affine couplings, on CIFAR-10.

Every configuration trains for the same seconds of processor time, on one thread, two processes at a time: so what else a
machine does costs nobody anything. Configurations of one seed see the same batches with the same noise, step by step, so
that they can be compared in pairs: at the same seconds (test data) and at the same number of steps (training data), since
permutations cost differently.

    TRIPTYCH_DATA=… python benchmarks/ablation_flow.py                                  18 runs of 90 s: about a quarter hour
    TRIPTYCH_DATA=… python benchmarks/ablation_flow.py --only invertible affine 0       one run alone, for its JSON

A run that ended is kept in runs/ with its curve (steps, seconds, bits/dim) and not run again; one that was killed begins
anew. ablation.png shows the curves against steps, ablation_seconds.png against seconds.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, begin, write
from race_flow import keep, kept
from torch import Tensor

from triptych import families, recipes
from triptych.data import load
from triptych.evaluate import bits_per_dim

PERMUTATIONS = ("reverse", "shuffle", "invertible")  # from the worst to the best, in the paper
COUPLINGS = ("additive", "affine")
BATCH, RATE, WARM_UP, LARGEST_NORM = 32, 1e-3, 50, 50.0
WINDOW = 20  # steps that a training figure is the mean of
EVERY = 5.0  # seconds of training between the curve's points

Runs = dict[tuple[str, str, int], dict[str, Any]]  # by permutation, coupling, seed


# One run, in a process of its own.


def built(options: argparse.Namespace, permutation: Any, coupling: Any, seed: int, batch: Tensor) -> Any:
    """The Glow, its weights drawn from the seed and its actnorms set by the batch."""
    model = recipes.GlowModel(depth=options.depth, width=options.width, permutation=permutation, coupling=coupling)
    recipe = recipes.Recipe(data=options.data, seed=seed, model=model, objective=recipes.FlowObjective())
    return families.build(recipe, batch).train()


class Learning:
    """A plain loop. `seconds` is what the processor gave to training, evaluation aside."""

    def __init__(self, model: Any, data: Tensor, seed: int):
        self.model, self.data, self.generator = model, data, torch.Generator().manual_seed(seed)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=RATE, fused=True)
        self.losses: list[Tensor] = []
        self.seconds = 0.0

    def step(self) -> None:
        start = time.process_time()
        self.optimizer.param_groups[0]["lr"] = RATE * min(1.0, (len(self.losses) + 1) / WARM_UP)
        rows = torch.randint(len(self.data), (BATCH,), generator=self.generator)
        x = self.model.codec.encode(self.data[rows], self.generator)
        self.optimizer.zero_grad()
        loss = -self.model.log_prob(x).mean() / (self.model.latent_dim * math.log(2)) + self.model.codec.bits
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST_NORM)
        self.optimizer.step()
        self.losses.append(loss.detach())
        self.seconds += time.process_time() - start

    def recent(self) -> float:
        """Training bits/dim over the last steps."""
        return torch.stack(self.losses[-WINDOW:]).mean().item()


def run(options: argparse.Namespace, permutation: str, coupling: str, seed: int) -> dict[str, Any]:
    """Trains one configuration: its curve, every step's loss, and bits/dim of the test data, dequantised once."""
    splits = load(options.data)
    model = built(options, permutation, coupling, seed, families.first_batch(splits.train))
    learning = Learning(model, splits.train[:], seed)
    curve: dict[str, list[float]] = {"steps": [], "seconds": [], "bits_per_dim": []}
    while learning.seconds < options.seconds:
        learning.step()
        if learning.seconds >= EVERY * (len(curve["steps"]) + 1) or learning.seconds >= options.seconds:
            for name, value in zip(curve, (len(learning.losses), learning.seconds, learning.recent()), strict=True):
                curve[name].append(value)
    noise = torch.Generator().manual_seed(0)
    test = bits_per_dim(model.eval(), splits.test[: options.images], generator=noise)
    return {
        "settings": settings(options),
        "test": test._asdict(),
        "train": learning.recent(),
        "steps": len(learning.losses),
        "seconds": learning.seconds,
        "parameters": sum(p.numel() for p in learning.parameters),
        "curve": curve,
        "losses": [round(v, 5) for v in torch.stack(learning.losses).tolist()],
    }


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What a kept run must have been asked for to be this one."""
    return {name: getattr(options, name) for name in ("data", "seconds", "depth", "width", "images")}


# All runs.


def name_of(permutation: str, coupling: str, seed: int) -> str:
    return f"{permutation}-{coupling}-{seed}"


def all_runs(options: argparse.Namespace) -> Runs:
    """Every run, so many at a time: seed 0 of all configurations first."""
    order = [(p, c, seed) for seed in range(options.seeds) for c, p in itertools.product(COUPLINGS, PERMUTATIONS)]
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            return dict(zip(order, pool.map(lambda key: apart(options, key), order), strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def apart(options: argparse.Namespace, key: tuple[str, str, int]) -> dict[str, Any]:
    """One run in a process of its own, unless it is kept."""
    path = options.out / "runs" / f"{name_of(*key)}.json"
    found = kept(path, None)
    if found is None or found["settings"] != settings(options):
        asked = [f"--{name}={value}" for name, value in settings(options).items()]
        command = [sys.executable, __file__, "--only", *map(str, key), "--out", str(options.out), *asked]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{name_of(*key)} failed:\n{done.stderr[-3000:]}")
        found = kept(path, None)
    shown = f"test {found['test']['value']:.4f} ± {found['test']['stderr']:.4f} bits/dim, {found['steps']} steps"
    print(f"{name_of(*key)}: {shown}", flush=True)
    return found


# What they show.


def at(found: dict[str, Any], steps: int) -> float:
    """Training bits/dim over the last WINDOW of the first so many steps."""
    return statistics.fmean(found["losses"][max(0, steps - WINDOW) : steps])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds, their standard deviation, and the values themselves."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return {"mean": statistics.fmean(values), "std": deviation, "values": list(values)}


def table(runs: Runs, seeds: int, common: int) -> dict[str, dict[str, Any]]:
    """By configuration: the end on test data, the same number of steps on training data, and how many steps there were."""
    rows = {}
    for coupling, permutation in itertools.product(COUPLINGS, PERMUTATIONS):
        found = [runs[permutation, coupling, seed] for seed in range(seeds)]
        rows[f"{coupling} {permutation}"] = {
            "test_at_end": spread([f["test"]["value"] for f in found]),
            "train_at_end": spread([f["train"] for f in found]),
            "train_at_equal_steps": spread([at(f, common) for f in found]),
            "steps": spread([f["steps"] for f in found]),
        }
    return rows


def orders(rows: dict[str, dict[str, Any]], measure: str) -> dict[str, Any]:
    """Whether 1×1 < shuffle < reverse, seed by seed, and the paired differences: below zero as in the paper."""
    results = {}
    for coupling in COUPLINGS:
        reverse, shuffle, invertible = (rows[f"{coupling} {p}"][measure]["values"] for p in PERMUTATIONS)
        results[coupling] = {
            "holds": [i < s < r for i, s, r in zip(invertible, shuffle, reverse, strict=True)],
            "invertible_less_shuffle": spread([i - s for i, s in zip(invertible, shuffle, strict=True)]),
            "shuffle_less_reverse": spread([s - r for s, r in zip(shuffle, reverse, strict=True)]),
        }
    return results


MEASURES = ("test_at_end", "train_at_end", "train_at_equal_steps")


def say(rows: dict[str, dict[str, Any]], verdicts: dict[str, Any], common: int) -> None:
    print(f"\nbits/dim, mean ± standard deviation over seeds; equal steps: {common}")
    print("| coupling, permutation | test at the end | train at the end | train at equal steps | steps |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        cells = [f"{row[m]['mean']:.4f} ± {row[m]['std']:.4f}" for m in MEASURES]
        print(f"| {name} | {' | '.join(cells)} | {row['steps']['mean']:.0f} |")
    for measure, coupling in itertools.product(MEASURES, COUPLINGS):
        verdict = verdicts[measure][coupling]
        pairs = [(k, v) for k, v in verdict.items() if k != "holds"]
        shown = ", ".join(f"{k.replace('_', ' ')} {v['mean']:+.4f} ± {v['std']:.4f}" for k, v in pairs)
        count = f"{sum(verdict['holds'])} of {len(verdict['holds'])} seeds"
        print(f"{measure}, {coupling}: 1×1 < shuffle < reverse for {count}; {shown}")
    print(flush=True)


def draw(runs: Runs, seeds: int, path: Path, *, seconds: bool = False) -> None:
    """A panel for each coupling: training bits/dim against steps (or seconds), mean over seeds with a min-max band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, coupling in zip(panels, COUPLINGS, strict=True):
        for permutation, colour in zip(PERMUTATIONS, ("tab:red", "tab:orange", "tab:blue"), strict=True):
            found = [runs[permutation, coupling, seed] for seed in range(seeds)]
            x, lines = on_seconds(found) if seconds else on_steps(found)
            panel.plot(x, lines.mean(0), color=colour, label={"invertible": "1×1"}.get(permutation, permutation))
            panel.fill_between(x, lines.min(0), lines.max(0), color=colour, alpha=0.2, linewidth=0)
        panel.set(xlabel="seconds of processor time" if seconds else "steps", title=f"{coupling} coupling")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("training NLL (bits/dim)")
    panels[1].legend(frameon=False)
    figure.savefig(path, dpi=130)


def on_steps(found: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps that all seeds reached, after the warm-up where there are more, and each seed's moving mean (seeds, steps)."""
    last = min(f["steps"] for f in found)
    width = min(WINDOW, last)
    lines = np.stack([np.convolve(f["losses"][:last], np.ones(width) / width, "valid") for f in found])
    steps = np.arange(width, last + 1)
    shown = steps > (WARM_UP if last > 2 * WARM_UP else 0)
    return steps[shown], lines[:, shown]


def on_seconds(found: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The curves' points, each seed's read at the first one's seconds."""
    x = np.asarray(found[0]["curve"]["seconds"])
    return x, np.stack([np.interp(x, f["curve"]["seconds"], f["curve"]["bits_per_dim"]) for f in found])


def report(options: argparse.Namespace) -> None:
    runs = all_runs(options)
    common = min(found["steps"] for found in runs.values())
    rows = table(runs, options.seeds, common)
    verdicts = {measure: orders(rows, measure) for measure in MEASURES}
    draw(runs, options.seeds, options.out / "ablation.png")
    draw(runs, options.seeds, options.out / "ablation_seconds.png", seconds=True)
    asked = settings(options) | {"seeds": options.seeds, "jobs": options.jobs, "threads_per_run": 1, "batch": BATCH}
    write(options.out, "ablation", {"settings": asked, "equal_steps": common, "table": rows, "orders": verdicts})
    say(rows, verdicts, common)


def main() -> None:
    parser = arguments(__doc__, "ablation_flow")
    parser.set_defaults(threads=1)
    parser.add_argument("--seconds", type=float, default=90.0, help="of processor time, for each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--data", default="cifar10-4k")
    parser.add_argument("--depth", type=int, default=4, help="K")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--images", type=int, default=500, help="of the test split")
    parser.add_argument("--only", nargs=3, metavar=("PERMUTATION", "COUPLING", "SEED"), help="this run alone, here")
    options = parser.parse_args()
    out = begin(options)
    (out / "runs").mkdir(exist_ok=True)
    if options.only:
        key = (*options.only[:2], int(options.only[2]))
        keep(out / "runs" / f"{name_of(*key)}.json", run(options, *key))
    else:
        report(options)


if __name__ == "__main__":
    main()
