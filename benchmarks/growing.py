"""Does growing pay? A progressive GAN against the same networks whole from the beginning, for the same processor time.

    python benchmarks/growing.py --threads 1                faces at 64×64, 25 minutes each, one after the other
    python benchmarks/growing.py --threads 1 --seconds 600 --size 32

Pictures of each phase are set from timed rounds at every level, so that growth takes --share of the time and the full size
has the rest. Quality is looked at --looks times by features learned from the faces' attributes at the full size; a network
that has not grown yet shows what it has, enlarged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from common import altered, arguments, begin, lengths, write

from triptych import evaluate, families, figures, recipes
from triptych.data import Split, load
from triptych.gan.progressive import FIRST
from triptych.training.loop import train
from triptych.training.run import Run


def seconds_an_image(recipe: recipes.Recipe, level: int, folder: Path, rounds: int = 12) -> float:
    """Of whole networks of that level, which cost what a grown one's do."""
    data = Split(torch.randint(0, 256, (512, 3, 2**level, 2**level), dtype=torch.uint8).numpy())  # time is not of content
    whole = altered(recipe, [f"size={2**level}", "model.images=0"])
    run = Run.create(folder / "timing", whole, families.build(whole, data[:32]), overwrite=True)
    with contextlib.closing(train(run, data)) as steps:
        for _ in range(3):
            next(steps)
        start = time.process_time()
        for _ in range(rounds):
            next(steps)
        return (time.process_time() - start) / (rounds * recipe.training.batch)


def phase_images(costs: dict[int, float], seconds: float) -> int:
    """Pictures of each phase, if growth takes the time: one at 4 × 4, two at each level between, one that fades at last."""
    *between, last = [cost for level, cost in costs.items() if level > FIRST]
    return max(1, round(seconds / (costs[FIRST] + 2 * sum(between) + last)))


def side(
    name: str, recipe: recipes.Recipe, options: argparse.Namespace, out: Path, seen: evaluate.Features
) -> dict[str, Any]:
    """Trained until the time is up; what was shown and how good samples were on the way."""
    splits = load("faces", size=options.size)
    run = Run.create(out / name, recipe, families.build(recipe, splits.train[:32]), overwrite=True)
    looks: list[dict[str, float]] = []
    due = [options.seconds * (i + 1) / options.looks for i in range(options.looks)]
    spent, shown = 0.0, 0
    with contextlib.closing(train(run, splits.train)) as rounds:
        while len(looks) < len(due):
            start = time.process_time()
            next(rounds)
            spent, shown = spent + time.process_time() - start, shown + recipe.training.batch
            if spent < due[len(looks)]:
                continue
            run.save()
            quality = evaluate.sample_quality(run.averaged.eval(), splits.test, splits.train, seen, n=options.n)
            level = int(math.log2(options.size)) if not recipe.model.images else run.averaged.stage_now.level
            looks.append({"seconds": spent, "images": shown, "side": 2**level} | quality.as_json())
            print(name, round(spent), "s", shown, "images", 2**level, quality.measures["fid"], flush=True)
            noise = torch.Generator().manual_seed(0)
            pictures = run.averaged.codec.decode(run.averaged.sample(64, generator=noise))
            figures.save(pictures, out / f"{name}_{len(looks)}.png")
    return {"images_a_second": shown / spent, "looks": looks}


def main() -> None:
    parser = arguments(__doc__, "growing")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1500)
    parser.add_argument("--share", type=float, default=0.6)
    parser.add_argument("--looks", type=int, default=5)
    lengths(parser, n=1000, feature_steps=1500)
    parser.add_argument("--sides", nargs="+", choices=("growing", "whole"), default=["growing", "whole"])
    options = parser.parse_args()
    out = begin(options)
    base = altered(families.preset("progressive"), [f"size={options.size}", f"steps={10**7}"])
    seen = evaluate.features("learned", load("faces", size=options.size).train, steps=options.feature_steps)
    levels = range(FIRST, int(math.log2(options.size)) + 1)
    results: dict[str, Any] = {"features": seen.name, "n": options.n, "seconds": options.seconds}
    for name in options.sides:
        kept = out / f"{name}.json"
        if not kept.exists():
            images, costs = 0, {}
            if name == "growing":
                costs = {level: seconds_an_image(base, level, out) for level in levels}
                images = phase_images(costs, options.share * options.seconds)
            found = side(name, altered(base, [f"model.images={images}"]), options, out, seen)
            by_side = {2**level: 1 / cost for level, cost in costs.items()}
            kept.write_text(json.dumps(found | {"phase_images": images, "images_a_second_at": by_side}))
        results[name] = json.loads(kept.read_text())
    write(out, "growing", results)


if __name__ == "__main__":
    main()
