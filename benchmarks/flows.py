"""A Glow on real pictures: bits per dimension, bytes that come back, samples by temperature.

Sizes are 28×28 for fashion-mnist and 32×32 for the rest. Evaluated are the averaged weights in float32; with --bf16 round
trips and likelihoods also as trained, with the networks in bfloat16. What is drawn of people stays under benchmarks/out.

    TRIPTYCH_DATA=… python benchmarks/flows.py --data fashion-mnist     or faces, celeba10k, cifar10-4k; resumable
    TRIPTYCH_DATA=… python benchmarks/flows.py --deep --bf16            L=3, K=32, width 64, batch 16 on celeba10k
"""

# Shapes: stored (n, C, H, W) uint8, x the same in model coordinates, z (n, L).

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from common import altered, arguments, begin, changes, lengths, trained, write
from torch import Tensor

from triptych import edit, evaluate, families, figures
from triptych.core import Estimate, GenerativeModel, standard_normal
from triptych.data import load
from triptych.data.splits import fixed_subset
from triptych.recipes import Recipe
from triptych.training.run import Run

DATA = ("fashion-mnist", "faces", "celeba10k", "cifar10-4k")
SIZES = {"fashion-mnist": None}  # as stored; the others' is SIZE
SIZE = 32
TEMPERATURES = (0.0, 0.25, 0.5, 0.7, 0.8, 1.0)
PICTURES = 1000  # of the test split: for round trips and likelihoods
WEIGHTED, DRAWS = 200, 8  # pictures and dequantisation draws of the importance-weighted likelihood
SAMPLES = 256


def asked(data: str, steps: int, bf16: bool, deep: bool) -> Recipe:
    """The family's preset for the data, at the size and for the steps of this benchmark."""
    recipe = families.preset("glow", data=data)
    levels = 2 if data == "fashion-mnist" else 3
    model = dataclasses.replace(recipe.model, levels=levels)
    training = dataclasses.replace(recipe.training, precision="bf16" if bf16 else "float32")
    if deep:
        model = dataclasses.replace(model, depth=32, width=64)
        training = dataclasses.replace(training, batch=16)
    return dataclasses.replace(recipe, data=data, size=SIZES.get(data, SIZE), steps=steps, model=model, training=training)


def likelihoods(model: GenerativeModel, stored: Tensor) -> dict[str, dict]:
    """Bits per dimension: with one draw of the dequantisation's noise, and on fewer pictures with 1 and with 8."""
    few = stored[:WEIGHTED]
    found = {"bits_per_dim": bits(model, stored, 1), f"bits_per_dim_same_{len(few)}": bits(model, few, 1)}
    return found | {f"bits_per_dim_k{DRAWS}": bits(model, few, DRAWS)}


def bits(model: GenerativeModel, stored: Tensor, k: int) -> dict:
    return evaluate.bits_per_dim(model, stored, k=k, generator=torch.Generator().manual_seed(0))._asdict()


def exactness(model: GenerativeModel, stored: Tensor) -> dict[str, float]:
    """What comes back of test pictures from z: 1 is every byte of every one; errors are in units of a picture's range."""
    return {name: estimate.value for name, estimate in evaluate.round_trip(model, stored).items()}


@contextlib.contextmanager
def as_trained(model: GenerativeModel) -> Iterator[None]:
    """The networks in bfloat16 inside."""
    model.bf16 = True
    try:
        yield
    finally:
        model.bf16 = False


@torch.no_grad()
def samples(model: GenerativeModel, out: Path, name: str) -> dict:
    """256 draws at temperature 1: their range, and whether any value is NaN; grids of the first at 1 and 0.7."""
    z = standard_normal(SAMPLES, model.latent_dim, generator=torch.Generator().manual_seed(0))
    x = torch.cat([model.decode(part) for part in z.split(64)])
    cool = model.decode(0.7 * z[:64])
    rows = torch.cat([model.decode(t * z[:10]) for t in TEMPERATURES])
    for kind, pictures, columns in (("samples_1.0", x[:64], 8), ("samples_0.7", cool, 8), ("temperatures", rows, 10)):
        figures.save(model.codec.decode(pictures), out / f"{name}_{kind}.png", columns=columns)
    outside = ((x < 0) | (x > 1)).flatten(1).double().mean(1)
    return {
        "n": len(x),
        "largest_abs": x[x.isfinite()].abs().max().item(),
        "share_outside_unit": Estimate.of(outside)._asdict(),
        "not_finite": int((~x.isfinite()).sum()),
    }


@torch.no_grad()
def pictures(model: GenerativeModel, stored: Tensor, out: Path, name: str) -> None:
    """Test pictures above what comes back from their z; and the way in z between pairs of them."""
    first = stored[:10]
    again = model.codec.decode(model.decode(model.encode(model.codec.centre(first))))
    figures.save(torch.cat([first, again]), out / f"{name}_reconstructed.png", columns=len(first))
    x = model.codec.centre(stored[:8])
    between = edit.interpolate(model, x[0::2], x[1::2], 9)
    figures.save(model.codec.decode(between.flatten(0, 1)), out / f"{name}_interpolated.png", columns=9)


def judged(run: Run, stored: Tensor, out: Path, name: str) -> dict:
    """Every measure of a trained Glow on test pictures."""
    model = run.averaged.eval()
    model.bf16 = False  # the last weights, where there is no average, are left as they were trained
    results: dict = {"test": len(stored), **likelihoods(model, stored), "float32": exactness(model, stored)}
    if run.recipe.training.precision == "bf16":
        with as_trained(model):
            results["bf16"] = {"bits_per_dim": bits(model, stored, 1), **exactness(model, stored)}
    results["samples"] = samples(model, out, name)
    pictures(model, stored, out, name)
    return results


def measure(out: Path, name: str, recipe: Recipe, n: int) -> None:
    """Trains (or resumes) a Glow, and judges it."""
    splits = load(recipe.data, size=recipe.size)
    run, seconds = trained(out / name, recipe, splits.train)
    stored = splits.test[fixed_subset(len(splits.test), n)]
    start = time.perf_counter()
    results = {
        "data": recipe.data,
        "event_shape": splits.train.event_shape,
        "train": len(splits.train),
        "parameters": sum(p.numel() for p in run.averaged.parameters()),
        "model": dataclasses.asdict(run.recipe.model),
        "precision": run.recipe.training.precision,
        "steps": run.step,
        "batch": run.recipe.training.batch,
        "training_seconds": seconds,
        "bad_steps": sum(int(watch.bad) for watch in run.health.values()),
        "rollbacks": run.progress.rollbacks,
        **judged(run, stored, out, name),
    }
    write(out, name, results | {"judging_seconds": time.perf_counter() - start})


def main() -> None:
    parser = arguments(__doc__, "flows")
    parser.add_argument("--data", choices=DATA, help="default: fashion-mnist, or celeba10k with --deep")
    parser.add_argument("--steps", type=int, default=2000)
    changes(parser)
    lengths(parser, n=PICTURES)
    parser.add_argument("--deep", action="store_true", help="K=32 steps a level, width 64")
    parser.add_argument("--bf16", action="store_true", help="networks trained in bfloat16")
    options = parser.parse_args()
    data = options.data or ("celeba10k" if options.deep else "fashion-mnist")
    name = "_".join([data, *(["deep"] if options.deep else []), *(["bf16"] if options.bf16 else [])])
    recipe = altered(asked(data, options.steps, options.bf16, options.deep), options.change)
    measure(begin(options), name, recipe, options.n)


if __name__ == "__main__":
    main()
