"""Does training at arm's length prevent overfitting? Distance to training over held-out data, by how many were trained on.

    TRIPTYCH_DATA=… python benchmarks/nearest.py --threads 1                all three families; runs are resumable
    TRIPTYCH_DATA=… python benchmarks/nearest.py --threads 1 --families gan --counts 100

fashion-mnist; a model of each family learns from the first N pictures, with as many steps for every N. The ratio has the
distances of 1,000 samples to their nearest of N training pictures over those to N held-out ones, by raw pixels and by
features learned from the classes of all training pictures: 1 for novel samples, less for a model that remembers. Where
there is a density, its own gap between training and held-out data is there too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import altered, arguments, begin, lengths, trained, write

from triptych import doctor, evaluate, families, figures
from triptych.capabilities import HasDensity
from triptych.data import Splits, load
from triptych.data.splits import fixed_subset

PRESETS = {
    "vae": ("vae", ["model.likelihood=logistic", "model.prior=normal"]),
    "gan": ("dcgan", ["model.width=16"]),
    "glow": ("glow", []),
}
STEPS = {"vae": 12_000, "gan": 1500, "glow": 750}


def one(family: str, count: int, steps: int, seen: list[evaluate.Features], splits: Splits, out: Path) -> dict[str, Any]:
    """A model of the family from `count` pictures, and how it stands to them and to as many others."""
    preset, changes = PRESETS[family]
    few = splits.train.take(np.arange(count))
    batch = min(count, 64)
    asked = ["data=fashion-mnist", "augment=", f"steps={steps}", f"training.batch={batch}", f"training.save_every={steps}"]
    recipe = altered(families.preset(preset, data="fashion-mnist"), [*asked, *changes])
    run, seconds = trained(out / f"{family}_{count}", recipe, few)
    model, noise = run.averaged.eval(), torch.Generator().manual_seed(0)
    samples = model.codec.decode(model.sample(1000, generator=noise))
    figures.save(samples[:64], out / f"{family}_{count}.png")
    train, held_out = few[:], splits.test[fixed_subset(len(splits.test), count)]
    result: dict[str, Any] = {"seconds": seconds, "steps": run.step}
    for features in seen:
        fake, known, new, others = (features(x) for x in (samples, train, held_out, splits.train[count : count + 1000]))
        result[features.name] = evaluate.nearest_ratio(fake, known, new, generator=noise)._asdict()
        # what as many pictures never seen have, the nearest thing to 1 that chance allows
        result[f"{features.name}, real"] = evaluate.nearest_ratio(others, known, new, generator=noise)._asdict()
    if isinstance(model, HasDensity):
        few_known, few_new = train[fixed_subset(count, 500)], splits.test[fixed_subset(len(splits.test), 500)]
        known, new = (evaluate.bits_per_dim(model, x, generator=noise) for x in (few_known, few_new))
        result["bits_per_dim"] = {"training": known._asdict(), "held_out": new._asdict()}
    looked = doctor.examine(model, Splits(train=few, test=splits.test), n=500)
    verdicts = doctor.diagnose(doctor.History.of(out / f"{family}_{count}"), looked)
    return result | {"examined": looked, "verdicts": [verdict.name for verdict in verdicts]}


def main() -> None:
    parser = arguments(__doc__, "nearest")
    parser.add_argument("--families", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--steps", type=int, help="instead of those that suit each family")
    lengths(parser, feature_steps=1500)
    options: argparse.Namespace = parser.parse_args()
    out = begin(options)
    splits = load("fashion-mnist")
    seen = [evaluate.Pixels(), evaluate.features("learned", splits.train, steps=options.feature_steps)]
    results: dict[str, Any] = {}
    for count in options.counts:
        for family in options.families:
            kept = out / f"{family}_{count}.json"
            if not kept.exists():
                kept.write_text(json.dumps(one(family, count, options.steps or STEPS[family], seen, splits, out)))
            results[f"{family}, {count}"] = json.loads(kept.read_text())
            print(family, count, results[f"{family}, {count}"], flush=True)
    write(out, "nearest", results)


if __name__ == "__main__":
    main()
