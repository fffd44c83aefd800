"""celeba10k: the smile direction's held-out accuracy; then a person's own 300 photos, fine-tuned from that run.

The pictures are of real people: what this writes stays under benchmarks/out, which is never committed.

    TRIPTYCH_DATA=… python benchmarks/celeba.py                 a VAE at 64×64 (resumable), directions, a strip
    TRIPTYCH_DATA=… python benchmarks/celeba.py --family glow   a Glow at 32×32, or at --size
    TRIPTYCH_DATA=… python benchmarks/celeba.py --photos        photos, from that run and from nothing
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Literal

import torch
from common import altered, arguments, begin, changes, trained, write

import triptych
from triptych import edit, evaluate, families, figures, recipes
from triptych.capabilities import HasDensity, require
from triptych.core import GenerativeModel
from triptych.data import Splits, load
from triptych.pretrained import initial_model
from triptych.training.run import Run
from triptych.vae import VAE

ATTRIBUTES = ["Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair"]
SWEEP = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]


def asked(family: str, size: int | None, steps: int | None, bf16: bool) -> recipes.Recipe:
    """The family's preset for celeba10k, at a size: the preset's own, else 64."""
    recipe = families.preset(family, "celeba")
    training = dataclasses.replace(recipe.training, precision="bf16" if bf16 else "float32")
    return dataclasses.replace(recipe, size=size or recipe.size or 64, steps=steps or recipe.steps, training=training)


def celeba(out: Path, name: str, recipe: recipes.Recipe) -> None:
    splits = load("celeba10k", size=recipe.size)
    run, seconds = trained(out / name, recipe, splits.train)
    model, generator = run.averaged.eval(), torch.Generator().manual_seed(0)
    test = splits.test
    results = {"training_seconds": seconds, "steps": run.step, "smiling_share": float(test.attributes["Smiling"].mean())}
    if isinstance(model, VAE):
        results |= {k: v._asdict() for k, v in evaluate.elbo(model, test[:], generator=generator).items()}
    results |= scores(model, test[:], bits_of=200)
    for method in ("joint", "means", "regression"):
        start = time.perf_counter()
        found = directions(model, splits, method)
        results[method] = {n: found[n].judged for n in ATTRIBUTES} | {"seconds": time.perf_counter() - start}
        strip = edit.sweep(model, model.codec.centre(test[:8]), "Smiling", SWEEP, found)
        figures.save(model.codec.decode(strip.flatten(0, 1)), out / f"{name}_smile_{method}.png", columns=len(SWEEP))
    figures.save(model.codec.decode(model.sample(64, temperature=0.8, generator=generator)), out / f"{name}_samples.png")
    write(out, name, results)


def directions(model: GenerativeModel, splits: Splits, method: Literal["joint", "means", "regression"]) -> edit.Directions:
    """Learned on the training split and judged on the other, with the three largest leakages of each.

    All 40 attributes where z is small; only those reported where it has a flow's thousands of dimensions, where each takes
    ten seconds and more. The joint method holds all 40 still either way.
    """
    names = ATTRIBUTES if model.latent_dim > 1000 else None
    found = edit.learn_directions(model, splits.train[:], splits.train.attributes, method=method, names=names)
    found = edit.judge(model, found, splits.test[:], splits.test.attributes)
    for direction in found.values():
        leakage = direction.judged["leakage"]
        direction.judged["leakage"] = dict(sorted(leakage.items(), key=lambda item: -abs(item[1]))[:3])
    return found


def photos(out: Path, base: str, recipe: recipes.Recipe) -> None:
    """The 300 photos: 270 to learn from, 30 held out; --init against the same recipe from random weights."""
    splits = load("photos", size=recipe.size)
    training = dataclasses.replace(recipe.training, rate=2e-4, rate_warmup=50, save_every=500)
    recipe = dataclasses.replace(recipe, data="photos", augment="flip,shift", training=training)
    results: dict = {"train": len(splits.train), "test": len(splits.test)}
    for name in ("init", "scratch"):
        folder = out / f"{base}_photos_{name}"
        if name == "init" and not folder.exists():
            Run.create(folder, recipe, initial_model(out / base, splits.train.event_shape)).save()
        if name == "init":
            results["before"] = scores(initial_model(out / base, splits.train.event_shape).eval(), splits.test[:])
        run, seconds = trained(folder, recipe, splits.train)
        results[name] = scores(run.averaged.eval(), splits.test[:]) | {"seconds": seconds, "steps": run.step}
    model = triptych.load(out / f"{base}_photos_init")
    found = edit.learn_directions(model, splits.train[:], splits.train.attributes)
    found = edit.judge(model, found, splits.test[:], splits.test.attributes)
    results["smiling"] = found["Smiling"].judged
    strip = edit.sweep(model, model.codec.centre(splits.test[:6]), "Smiling", SWEEP, found)
    figures.save(model.codec.decode(strip.flatten(0, 1)), out / f"{base}_photos_smile.png", columns=len(SWEEP))
    write(out, f"{base}_photos", results)


def scores(model: GenerativeModel, stored: torch.Tensor, bits_of: int | None = None) -> dict:
    """Bits per dimension (of the first `bits_of`; by 50 draws where log p is a lower bound), and what comes back from z."""
    k = 50 if require(model, HasDensity).bound == "lower" else 1
    bits = evaluate.bits_per_dim(model, stored[:bits_of], k=k, generator=torch.Generator().manual_seed(0))
    return {"bits_per_dim": bits._asdict(), "rmse": evaluate.reconstruction_error(model, stored)._asdict()}


def main() -> None:
    parser = arguments(__doc__, "celeba")
    parser.add_argument("--family", choices=("vae", "glow"), default="vae")
    parser.add_argument("--size", type=int)
    parser.add_argument("--photos", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument(
        "--bf16", action="store_true", help="networks in bfloat16: a third faster where there is AVX-512 BF16"
    )
    changes(parser)
    options = parser.parse_args()
    out = begin(options)
    steps = options.steps or (1000 if options.photos else None)
    recipe = altered(asked(options.family, options.size, steps, options.bf16), options.change)
    name = f"{options.family}_{recipe.size}"
    if options.photos:
        photos(out, name, recipe)
    else:
        celeba(out, name, recipe)


if __name__ == "__main__":
    main()
