"""celeba10k at 64×64: the smile direction's held-out accuracy; then a person's own 300 photos, fine-tuned from it.

The pictures are of real people: what this writes stays under benchmarks/out, which is never committed.

    TRIPTYCH_DATA=… python benchmarks/celeba.py            trains (resumable), directions, a strip
    TRIPTYCH_DATA=… python benchmarks/celeba.py --photos   photos, from that run and from nothing
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from common import arguments, begin, trained, write

import triptych
from triptych import edit, evaluate, recipes, report
from triptych.checkpoint import initial_model
from triptych.data import load
from triptych.run import Run

ATTRIBUTES = ["Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair"]
SWEEP = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]


def celeba(out: Path, steps: int | None, bf16: bool) -> None:
    splits = load("celeba10k", size=64)
    recipe = recipes.preset("vae", "celeba")
    training = dataclasses.replace(recipe.training, precision="bf16" if bf16 else "float32")
    recipe = dataclasses.replace(recipe, steps=steps or recipe.steps, training=training)
    run, seconds = trained(out / "run", recipe, splits.train)
    model, generator = run.averaged.eval(), torch.Generator().manual_seed(0)
    test = splits.test
    results = {"training_seconds": seconds, "steps": run.step, "smiling_share": float(test.attributes["Smiling"].mean())}
    results |= {k: v._asdict() for k, v in evaluate.elbo(model, test[:], generator=generator).items()}
    results["bits_per_dim"] = evaluate.bits_per_dim(model, test[:200], k=50, generator=generator)._asdict()
    results["reconstruction_rmse"] = evaluate.reconstruction_error(model, test[:])._asdict()
    for method in ("joint", "means", "regression"):
        found = edit.learn_directions(model, splits.train[:], splits.train.attributes, method=method)
        found = edit.judge(model, found, test[:], test.attributes)
        results[method] = {n: found[n].judged for n in ATTRIBUTES}
        for judged in results[method].values():
            judged["leakage"] = dict(sorted(judged["leakage"].items(), key=lambda item: -abs(item[1]))[:3])
        strip = edit.sweep(model, model.codec.centre(test[:8]), "Smiling", SWEEP, found)
        report.save(model.codec.decode(strip.flatten(0, 1)), out / f"smile_{method}.png", columns=len(SWEEP))
    report.save(model.codec.decode(model.sample(64, temperature=0.8, generator=generator)), out / "samples.png")
    write(out, "celeba", results)


def photos(out: Path, steps: int) -> None:
    """The 300 photos: 270 to learn from, 30 held out; --init against the same recipe from random weights."""
    splits = load("photos", size=64)
    base = recipes.preset("vae", "celeba")
    training = dataclasses.replace(base.training, rate=2e-4, rate_warmup=50, save_every=500)
    recipe = dataclasses.replace(base, data="photos", augment="flip,shift", steps=steps, training=training)
    results: dict = {"train": len(splits.train), "test": len(splits.test)}
    for name in ("init", "scratch"):
        folder = out / f"photos_{name}"
        if name == "init" and not folder.exists():
            Run.create(folder, recipe, initial_model(out / "run", splits.train.event_shape)).save()
        if name == "init":
            results["before"] = scores(initial_model(out / "run", splits.train.event_shape).eval(), splits.test[:])
        run, seconds = trained(folder, recipe, splits.train)
        results[name] = scores(run.averaged.eval(), splits.test[:]) | {"seconds": seconds, "steps": run.step}
    model = triptych.load(out / "photos_init")
    found = edit.learn_directions(model, splits.train[:], splits.train.attributes)
    found = edit.judge(model, found, splits.test[:], splits.test.attributes)
    results["smiling"] = found["Smiling"].judged
    strip = edit.sweep(model, model.codec.centre(splits.test[:6]), "Smiling", SWEEP, found)
    report.save(model.codec.decode(strip.flatten(0, 1)), out / "photos_smile.png", columns=len(SWEEP))
    write(out, "photos", results)


def scores(model, stored: torch.Tensor) -> dict:
    generator = torch.Generator().manual_seed(0)
    bits = evaluate.bits_per_dim(model, stored, k=50, generator=generator)
    return {"bits_per_dim": bits._asdict(), "rmse": evaluate.reconstruction_error(model, stored)._asdict()}


def main() -> None:
    parser = arguments(__doc__, "celeba")
    parser.add_argument("--photos", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument(
        "--bf16", action="store_true", help="networks in bfloat16: a third faster where there is AVX-512 BF16"
    )
    options = parser.parse_args()
    out = begin(options)
    if options.photos:
        photos(out, options.steps or 1000)
    else:
        celeba(out, options.steps, options.bf16)


if __name__ == "__main__":
    main()
