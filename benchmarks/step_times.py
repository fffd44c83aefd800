"""Milliseconds of a training step of each family, here and in another checkout, alternating in one run.

    python benchmarks/step_times.py --against ../old            medians over rounds, and their ratio
    python benchmarks/step_times.py --floor                     the paper's VAE against its floor, in one process

A step is one round of the library's own loop on data in memory: batch, codec, losses, verdict, update, average. The floor
of the VAE is the same networks and fused Adam on one batch held ready, with nothing around them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SETTINGS: dict[str, tuple[str, tuple[int, ...], int, int]] = {  # family, event, batch, steps timed
    "VAE 784-500-20": ("vae", (1, 28, 28), 100, 150),
    "VAE 32×32 conv": ("vae", (3, 32, 32), 64, 25),
    "DCGAN 32×32": ("dcgan", (3, 32, 32), 64, 20),
    "maxout GAN 28×28": ("gan", (1, 28, 28), 100, 60),
    "NICE 28×28": ("nice", (1, 28, 28), 100, 40),
    "RealNVP 16×16": ("realnvp", (3, 16, 16), 32, 15),
    "RealNVP, vectors of 32": ("realnvp", (32,), 500, 15),
    "Glow 16×16": ("glow", (3, 16, 16), 32, 20),
    "Glow, vectors of 32": ("glow", (32,), 500, 30),
}


def measure(name: str) -> float:
    """Median milliseconds of a step in this process, with whatever `triptych` it finds."""
    import dataclasses

    import numpy as np
    import torch

    torch.set_flush_denormal(True)
    from triptych.data import Split

    try:
        from triptych import families
        from triptych.training.loop import train
        from triptych.training.run import Run
    except ImportError:  # a checkout from before there was a table of families
        from triptych.run import Run
        from triptych.train import train

        from triptych import recipes as families
    family, event, batch, steps = SETTINGS[name]
    random = np.random.default_rng(0)
    floats, shape = len(event) == 1, (5000, *event)
    data = Split(random.standard_normal(shape).astype(np.float32) if floats else random.integers(0, 256, shape, np.uint8))
    recipe = families.preset(family)
    training = dataclasses.replace(recipe.training, batch=batch, log_every=10**6, save_every=10**6)
    recipe = dataclasses.replace(recipe, steps=steps + 5, training=training)
    if family == "vae" and hasattr(recipe.model, "prior"):
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, prior="normal"))
    if family == "realnvp" and floats:
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, levels=3))
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", recipe, families.build(recipe, families.first_batch(data)))
        return statistics.median(list(_ticks(train(run, data)))[5:])


def _ticks(rounds: Any) -> Iterator[float]:
    before = time.perf_counter()
    for _ in rounds:
        now = time.perf_counter()
        yield 1e3 * (now - before)
        before = now


def compare(other: Path, names: list[str], rounds: int, threads: int) -> None:
    """Medians over rounds of both checkouts, each measured in a process of its own, in turn."""
    print(
        f"| step, {threads} threads | before, ms | now, ms | now / before, median of {rounds} rounds |\n|---|---:|---:|---:|"
    )
    for name in names:
        pairs = [
            tuple(_elsewhere(tree, name, threads) for tree in (other, Path(__file__).parents[1])) for _ in range(rounds)
        ]
        before, now = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {name} | {before:.1f} | {now:.1f} | {ratio:.2f} |", flush=True)


def _elsewhere(tree: Path, name: str, threads: int) -> float:
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve()), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--one", name]
    said = subprocess.run(command, env=environment, cwd=tree, check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def floor(rounds: int, threads: int, compiled: bool) -> None:
    """The paper's VAE through the loop, in float32 and bf16, against its floor: blocks of 40 steps in turn."""
    import dataclasses

    import numpy as np
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    from triptych import families
    from triptych.data import Split
    from triptych.training.loop import train
    from triptych.training.run import Run

    data = Split(np.random.default_rng(0).integers(0, 256, (6000, 1, 28, 28), np.uint8))
    recipe = families.preset("vae", "mnist")
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, prior="normal"))
    sides: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "bf16"):
            training = dataclasses.replace(recipe.training, precision=precision, log_every=10**6, save_every=10**6)
            ready = dataclasses.replace(recipe, steps=10**6, training=training)
            run = Run.create(Path(folder) / precision, ready, families.build_for(ready, data))
            sides[f"loop, {precision}"] = train(run, data).__next__
            sides[f"floor, {precision}"] = _bare(precision == "bf16", False)
            if compiled:
                sides[f"floor compiled, {precision}"] = _bare(precision == "bf16", True)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, step in sides.items():
                step()
                start = time.perf_counter()
                for _ in range(40):
                    step()
                times[name].append(25 * (time.perf_counter() - start))
    base = times["floor, float32"]
    for name, found in times.items():
        ratio = statistics.median(t / b for t, b in zip(found, base, strict=True))
        low, high = np.quantile(found, [0.1, 0.9])
        print(f"| {name} | {statistics.median(found):.2f} ms ({low:.2f} … {high:.2f}) | {ratio:.3f} |")


def _bare(bf16: bool, compiled: bool) -> Callable[[], object]:
    """A step of the networks and fused Adam alone, on one batch held ready."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    encoder = nn.Sequential(nn.Linear(784, 500), nn.SiLU(), nn.Linear(500, 40))
    decoder = nn.Sequential(nn.Linear(20, 500), nn.SiLU(), nn.Linear(500, 784))
    x = torch.bernoulli(torch.full((100, 784), 0.3))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=True)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            mu, log_sigma = encoder(x).float().chunk(2, 1)
            h = decoder(mu + log_sigma.exp() * torch.randn_like(mu)).float()
        kl = 0.5 * (mu.square() + (2 * log_sigma).exp() - 1) - log_sigma
        return (F.binary_cross_entropy_with_logits(h, x, reduction="sum") + kl.sum()) / len(x)

    made = torch.compile(loss) if compiled else loss

    def step() -> None:
        optimizer.zero_grad()
        made().backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path)
    parser.add_argument("--names", nargs="+", default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--compiled", action="store_true", help="with --floor: torch.compile of the bare step too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.one))
    elif options.against:
        compare(options.against, options.names, options.rounds, options.threads)
    else:
        floor(options.rounds * 4, options.threads, options.compiled)


if __name__ == "__main__":
    main()
