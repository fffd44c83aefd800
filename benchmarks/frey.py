"""Frey Face, 560-200-Nz, Gaussian with sigmoid means: the bound against samples seen for Nz 2, 5, 10, 20 (figure 2).

The paper's axes: training samples evaluated (log), the bound in nats of a density on [0, 1]^560. Data are dequantised and
log σ is at least −5 here, without which a density on quantised pixels may grow without end. A tenth is held out.

    TRIPTYCH_DATA=… python benchmarks/frey.py
"""

from __future__ import annotations

import dataclasses
import json

import torch
from common import arguments, begin, trained, write

from triptych import evaluate, families, figures
from triptych.data import load


def main() -> None:
    parser = arguments(__doc__, "frey")
    parser.add_argument("--steps", type=int, default=40_000)
    options = parser.parse_args()
    out = begin(options)
    splits = load("frey")
    curves, results = {}, {}
    for latent in (2, 5, 10, 20):
        recipe = families.preset("vae", "frey")
        recipe = dataclasses.replace(recipe, steps=options.steps, model=dataclasses.replace(recipe.model, latent_dim=latent))
        run, seconds = trained(out / f"nz{latent}", recipe, splits.train)
        model, generator = run.averaged.eval(), torch.Generator().manual_seed(0)
        scores = {
            name: evaluate.elbo(model, split[:], draws=20, generator=generator)["elbo"]._asdict()
            for name, split in splits.items()
        }
        bits = {"bits_per_dim_test": evaluate.bits_per_dim(model, splits.test[:], k=100, generator=generator)._asdict()}
        results[f"nz{latent}"] = {"elbo": scores, **bits, "steps": run.step, "training_seconds": seconds}
        curves[f"Nz = {latent}"] = history(run, recipe.training.batch)
    axes = {"xlabel": "training samples seen", "ylabel": "bound L (nats, training minibatches)", "title": "Frey Face"}
    figures.curves(curves, out / "frey.png", xscale="log", ylim=(0, 1600), **axes)
    write(out, "frey", results)


def history(run, batch: int, window: int = 5) -> tuple[list[float], list[float]]:
    """Samples seen, and the bound smoothed over a few log lines."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    elbo = [line["elbo"] for line in lines]
    smooth = [sum(elbo[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(elbo))]
    return [line["step"] * batch for line in lines], smooth


if __name__ == "__main__":
    main()
