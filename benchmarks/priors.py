"""Learned priors of a VAE's codes compared: the bound, the importance-weighted likelihood, and the samples.

Every kind has the preset's steps in all; a prior that is fitted afterwards takes its stage out of them. Runs go on after a
kill; seconds are those of training, on a machine that does nothing else.

    TRIPTYCH_DATA=… python benchmarks/priors.py --data mnist --kinds normal,flow,flow-jointly --threads 1
    python benchmarks/priors.py --data faces --threads 1 --seeds 0,1,2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from common import altered, arguments, begin, changes, lengths, trained, write

from triptych import data, families
from triptych.data import Splits, fixed_subset
from triptych.evaluate import elbo, importance_nll, learn_features, sample_quality
from triptych.recipes import Recipe

KINDS = ("normal", "gaussian", "mixture", "vamp-jointly", "flow", "flow-jointly")
MEASURES = ("negative_elbo", "nll", "fid", "c2st_1nn", "c2st_logistic")


def recipe_of(options: argparse.Namespace, kind: str, seed: int) -> Recipe:
    """The preset of the data with another prior."""
    preset = families.preset("vae", data=options.data)
    prior, _, jointly = kind.partition("-")
    recipe = dataclasses.replace(
        preset,
        steps=options.steps or preset.steps,
        seed=seed,
        model=dataclasses.replace(preset.model, prior=prior),
        objective=dataclasses.replace(preset.objective, prior_fit=jointly or "after"),
    )
    return altered(recipe, options.change)


def measured(options: argparse.Namespace, folder: Path, recipe: Recipe, splits: Splits, features: Any) -> dict[str, float]:
    """A run's figures, in a file beside it once they are there."""
    found = folder / "priors.json"
    if found.exists():
        return json.loads(found.read_text())
    run, seconds = trained(folder, recipe, splits.train)
    model, test = run.averaged.eval(), splits.test
    noise = torch.Generator().manual_seed(0)
    figures = {
        "seconds": seconds,
        "negative_elbo": -elbo(model, test[fixed_subset(len(test), 10_000)], generator=noise)["elbo"].value,
    }
    few = test[: options.few]
    figures["nll"] = importance_nll(model, few, k=options.k, generator=noise).value
    quality = sample_quality(model, test, splits.train, features, n=options.n)
    figures |= {name: quality.measures[name].value for name in ("fid", "c2st_1nn", "c2st_logistic")}
    found.write_text(json.dumps(figures) + "\n")
    return figures


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean ± spread over seeds."""
    rows = ["| prior | n | seconds | " + " | ".join(MEASURES) + " |", "|---|" + "---:|" * (len(MEASURES) + 2)]
    for kind, runs in results.items():
        cells = [_cell([run[name] for run in runs]) for name in ("seconds", *MEASURES)]
        rows.append(f"| {kind} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4g}{spread}"


def main() -> None:
    parser = arguments(__doc__, "priors")
    parser.add_argument("--data", default="faces")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, help="of every run; the preset's without a number")
    parser.add_argument("--few", type=int, default=300, help="the first examples, of which the likelihood is estimated")
    parser.add_argument("--k", type=int, default=500, help="draws of the importance-weighted likelihood")
    changes(parser)
    lengths(parser, n=1000, feature_steps=600)
    options = parser.parse_args()
    out = begin(options)
    splits = data.load(options.data, size=families.preset("vae", data=options.data).size)
    features, results = learn_features(splits.train, steps=options.feature_steps), {}
    for kind in options.kinds.split(","):
        seeds = [int(seed) for seed in options.seeds.split(",")]
        results[kind] = [
            measured(options, out / f"{options.data}_{kind}_{seed}", recipe_of(options, kind, seed), splits, features)
            for seed in seeds
        ]
        print(table(results), flush=True)
    write(out, options.data, results)


if __name__ == "__main__":
    main()
