"""Sample quality of the three families in one table, by the same features, with the same n, beside real data's own.

Each side is a run folder that was trained before; a GAN is trained here where --gan names no run.

    python benchmarks/families.py --data faces --vae RUN --glow RUN                 32×32; trains a dcgan (resumable)
    TRIPTYCH_DATA=… python benchmarks/families.py --data celeba10k --vae RUN --glow RUN --gan RUN

It writes DATA.json, and for each side a sheet of samples beside the nearest training picture of each. Sheets of people stay
under benchmarks/out.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from common import arguments, begin, lengths, trained, write

import triptych
from triptych import evaluate, families, figures
from triptych.core import GenerativeModel
from triptych.data import Splits, load
from triptych.data.splits import fixed_subset


def sides(options: argparse.Namespace, out: Path, splits: Splits) -> dict[str, GenerativeModel]:
    """The models by name; the GAN trained first, where none is given."""
    found = {name: triptych.load(getattr(options, name)) for name in ("vae", "glow", "gan") if getattr(options, name)}
    if "gan" not in found:
        data = "celeba" if options.data == "celeba10k" else options.data
        recipe = families.preset("dcgan", data)
        recipe = dataclasses.replace(recipe, data=options.data, size=options.size, steps=options.steps or recipe.steps)
        run, seconds = trained(out / f"{options.data}_dcgan", recipe, splits.train)
        print(f"the GAN: {run.step} steps in {seconds:.0f} s")
        found["gan"] = run.averaged.eval()
    return found


def sheet(model: GenerativeModel, splits: Splits, path: Path, n: int = 12) -> None:
    """Samples in the first row, under each the nearest training picture by raw pixels."""
    samples = model.codec.decode(model.sample(n, generator=torch.Generator().manual_seed(0)))
    pixels, train = evaluate.Pixels(), splits.train[fixed_subset(len(splits.train), 10_000)]
    _, nearest = evaluate.nearest_training(pixels(samples), pixels(train))
    figures.save(torch.cat([samples, train[nearest[:, 0]]]), path, columns=n)


def main() -> None:
    parser = arguments(__doc__, "families")
    parser.add_argument("--data", default="faces")
    parser.add_argument("--size", type=int, default=32)
    lengths(parser, n=1000, feature_steps=1500)
    parser.add_argument("--features", default="learned", choices=("learned", "pixels", "inception"))
    parser.add_argument("--steps", type=int, help="of the GAN trained here")
    for name in ("vae", "glow", "gan"):
        parser.add_argument(f"--{name}", help="a run")
    options = parser.parse_args()
    out = begin(options)
    splits = load(options.data, size=options.size)
    models = sides(options, out, splits)
    seen = evaluate.features(options.features, splits.train, steps=options.feature_steps)
    results: dict = {"features": seen.name, "n": options.n}
    for name, model in models.items():
        quality = evaluate.sample_quality(model, splits.test, splits.train, seen, n=options.n)
        results[name] = quality.as_json()
        figures.save(
            model.codec.decode(model.sample(64, generator=torch.Generator().manual_seed(0))),
            out / f"{options.data}_{name}.png",
        )
        sheet(model, splits, out / f"{options.data}_{name}_nearest.png")
    write(out, options.data, results)


if __name__ == "__main__":
    main()
