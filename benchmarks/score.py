"""Anomaly scores: AUROC of every score of `triptych score` over pairs of sets, beside an isolation forest and PCA.

Two small models (a VAE, Glow) of each of three sets: MNIST without the digits 1 and 4, Fashion-MNIST, and drawn
faces at 32×32. Normal are held-out examples of the set; anomalous the digits left out, other sets, the normal ones upside
down, blank pictures (one level, or colour, each) and uniform noise. Needs $TRIPTYCH_DATA. Resumable: what is there is kept.
With --choose the score is chosen on the pairs of two sets and reported on those of the third, which had no say in it.
"""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import common
import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from torch import Tensor

import triptych
from triptych import families, storage
from triptych.core import GenerativeModel
from triptych.data import Split, Splits, fixed_subset, load
from triptych.evaluate import Reference, auroc, joint, learn_reference, statistics
from triptych.pretrained import stamp
from triptych.recipes import Recipe

LEFT_OUT = (1, 4)
SIZES: dict[str, int | None] = {"mnist": None, "fashion-mnist": None, "faces": 32}
STEPS = {
    ("vae", "mnist"): 5000, ("vae", "fashion-mnist"): 7000, ("vae", "faces"): 1500,
    ("glow", "mnist"): 2500, ("glow", "faces"): 400, ("glow", "fashion-mnist"): 800,
}  # fmt: skip
SMALLER: dict[tuple[str, str], dict[str, Any]] = {
    ("vae", "fashion-mnist"): {"likelihood": "logistic"},  # grey clothes say little in black and white
    ("vae", "faces"): {"width": 12},
    **{("glow", data): {"depth": 4, "width": 48} for data in SIZES},
}

OTHERS = {
    "mnist": ("fashion-mnist", "omniglot"),
    "fashion-mnist": ("mnist", "omniglot"),
    "faces": ("celeba10k", "cifar10-4k"),
}
N = 500  # examples of each set


def main() -> None:
    parser = common.arguments(__doc__, "score")
    parser.add_argument("--seeds", default="0", help="of the models, joined by commas")
    parser.add_argument("--families", default="vae,glow", help="of the models, joined by commas")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps: smaller models need an --out of their own")
    parser.add_argument("--untrained", action="store_true", help="score the models that are there, train none")
    parser.add_argument("--choose", action="store_true", help="choose a score on some sets, report it on another")
    options = parser.parse_args()
    folder, rows = common.begin(options), []
    for seed in map(int, options.seeds.split(",")):
        for (family, data), steps in STEPS.items():
            run, splits = folder / f"{family}-{data}-{seed}", training_set(data)
            if family not in options.families.split(","):
                continue
            if not options.untrained:
                common.trained(run, recipe_of(family, data, max(1, round(options.share * steps)), seed), splits.train)
            elif not (run / "model.safetensors").exists():
                continue
            found = scored(run, family, data, splits, options.choose)
            rows += [{"family": family, "seed": seed, **row} for row in found]
    if options.choose:
        common.write(folder, "chosen", {"chosen": (found := chosen(rows))})
        print(choices(found))
        return
    rows += [row for data in SIZES for row in by_baselines(folder, data, int(options.seeds.partition(",")[0]))]
    common.write(folder, "score", {"pairs": rows})
    print(table(rows))


def scored(run: Path, family: str, data: str, splits: Splits, subsets: bool = False) -> list[dict[str, Any]]:
    """AUROC of each score over the set's pairs; the statistics are kept, as they take the time.

    Args:
        subsets: whether the joint distance of every set of statistics is a score of its own.
    """
    model, sets = triptych.load(run), sets_of(data, splits)
    reference = Reference.load(run, stamp(run)) or learn_reference(model, splits.train, half(splits.test, 0))
    reference.save(run, stamp(run))
    measured = {name: measure(run / f"{name}.safetensors", model, stored, reference) for name, stored in sets.items()}
    made = {name: reference.scores(model, found) for name, found in measured.items()}
    if subsets:
        known = list(reference.held_out)
        for names in (names for n in range(2, len(known)) for names in combinations(known, n)):
            some = {name: reference.held_out[name] for name in names}
            for name, found in measured.items():
                made[name][f"joint of {', '.join(names)}"] = joint(found, some)
    elif family == "glow":  # once for each set
        rest = {name: value for name, value in reference.held_out.items() if name != "log_prob"}
        for name, found in measured.items():
            made[name]["joint without its likelihood"] = joint(found, rest)
    return [
        {"data": data, "against": name, "by": f"{family} {score}", **auroc(normal, made[name][score])._asdict()}
        for name in list(made)[1:]
        for score, normal in made["normal"].items()
    ]


def chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each family, seed and set: the score with the best mean AUROC over the pairs of the other sets and the other
    seeds, and what it and the default come to on the pairs of this one, which had no say in it."""
    frame = pd.DataFrame(rows)
    frame["by"] = [by.removeprefix(f"{family} ") for by, family in zip(frame["by"], frame["family"], strict=True)]
    found = []
    for (family, seed, data), here in frame.groupby(["family", "seed", "data"]):
        there = frame[(frame.family == family) & (frame.data != data) & (frame.seed != seed)]
        best = there.groupby("by")["value"].mean().idxmax()
        means = here.groupby("by")["value"].mean()
        shown = {name: float(means[name]) for name in ("joint", "likelihood", "complexity", "typicality", "reconstruction")
                 if name in means}  # fmt: skip
        found.append({"family": family, "set": data, "seed": int(seed), "chosen by the others": best,
                      "chosen": float(means[best]), "best here": float(means.max())} | shown)  # fmt: skip
    return found


def choices(found: list[dict[str, Any]]) -> str:
    """Of `chosen` a row for each family and set, means and ranges over seeds."""
    frame = pd.DataFrame(found)
    numbers = [name for name in frame if name not in ("family", "set", "seed", "chosen by the others")]
    lines = ["| | chosen by the others | " + " | ".join(numbers) + " |", "|---" * (len(numbers) + 2) + "|"]
    for (family, data), rows in frame.groupby(["family", "set"]):
        told = "; ".join(dict.fromkeys(rows["chosen by the others"]))
        cells = [f"{rows[n].mean():.3f} ({rows[n].min():.2f} … {rows[n].max():.2f})" for n in numbers]
        lines.append(f"| {family}: {data} | {told} | {' | '.join(cells)} |")
    whole = [f"{frame[name].mean():.3f}" for name in numbers]
    return "\n".join([*lines, f"| mean | | {' | '.join(whole)} |"])


def measure(path: Path, model: GenerativeModel, stored: Tensor, reference: Reference) -> dict[str, Tensor]:
    """The statistics of a set, kept beside the run."""
    weights = stamp(path.parent)
    if not path.exists() or storage.read_stamp(path) != weights:
        storage.write_tensors(path, statistics(model, stored, blunt=reference.blunt), weights)
    return storage.read_tensors(path)


def by_baselines(folder: Path, data: str, seed: int) -> list[dict[str, Any]]:
    """The same by scikit-learn's isolation forest and the reconstruction error of as many components as a VAE has codes."""
    path = folder / f"baselines-{data}-{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    splits = training_set(data)
    train = flat(splits.train[fixed_subset(len(splits.train), 10_000)])
    forest = IsolationForest(random_state=seed).fit(train)
    pca = PCA(32, svd_solver="randomized", random_state=seed).fit(train)
    sets = {name: flat(stored) for name, stored in sets_of(data, splits).items()}
    made = {
        "isolation forest": {name: -forest.score_samples(x) for name, x in sets.items()},
        "PCA error": {name: np.square(x - pca.inverse_transform(pca.transform(x))).mean(1) for name, x in sets.items()},
    }
    rows = [
        {"data": data, "against": name, "by": by, **auroc(*map(torch.from_numpy, (found["normal"], found[name])))._asdict()}
        for by, found in made.items()
        for name in list(sets)[1:]
    ]
    path.write_text(json.dumps(rows))
    return rows


def flat(stored: Tensor) -> np.ndarray:
    """Pictures as rows in [0, 1]."""
    return stored.flatten(1).numpy().astype(np.float32) / 255


def sets_of(data: str, splits: Splits) -> dict[str, Tensor]:
    """The normal examples, from the half of the test split that no reference sees, and what they are told from."""
    normal = some(half(splits.test, 1))
    random = np.random.default_rng(0)
    levels = random.integers(0, 256, (N, normal.shape[1], 1, 1), dtype=np.uint8)
    found = {"normal": normal, "upside down": normal.flip(-2).flip(-1)}
    found["blank"] = torch.from_numpy(np.broadcast_to(levels, (N, *normal.shape[1:])).copy())
    found["noise"] = torch.from_numpy(random.integers(0, 256, (N, *normal.shape[1:]), dtype=np.uint8))
    for name in OTHERS[data]:
        found[name] = some(load(name, size=normal.shape[2:]).test)
    if data == "mnist":
        test = load(data).test
        found |= {f"the digit {d}": some(test.take(np.flatnonzero(test.attributes["label"] == d))) for d in LEFT_OUT}
    return found


def half(split: Split, which: int) -> Split:
    """One half of a split: the reference is learned from the first, normal examples are of the second."""
    return split.take(fixed_subset(len(split), len(split))[which::2])


def some(split: Split) -> Tensor:
    """N examples, always the same, or all there are."""
    return split[fixed_subset(len(split), N)]


def table(rows: list[dict[str, Any]]) -> str:
    """AUROC, means over seeds: a row for each score and a column for each pair, and the mean and the worst of each row."""
    pairs = list(dict.fromkeys((row["data"], row["against"]) for row in rows))
    lines = ["| | " + " | ".join(f"{data}: {other}" for data, other in pairs) + " | mean | worst |"]
    lines.append("|---" * (len(pairs) + 3) + "|")
    for by in dict.fromkeys(row["by"] for row in rows):
        found: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row["by"] == by:
                found.setdefault((row["data"], row["against"]), []).append(row["value"])
        values = [sum(its) / len(its) if (its := found.get(pair)) else None for pair in pairs]
        known = [value for value in values if value is not None]
        shown = ["" if value is None else f"{value:.3f}" for value in [*values, sum(known) / len(known), min(known)]]
        lines.append(f"| {by} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def recipe_of(family: str, data: str, steps: int, seed: int) -> Recipe:
    """The preset made for the data, shorter and where that takes too long smaller."""
    start = families.preset(family, data=data)
    model = dataclasses.replace(start.model, **SMALLER.get((family, data), {}))
    return dataclasses.replace(start, data=data, size=SIZES[data], steps=steps, seed=seed, model=model)


def training_set(data: str) -> Splits:
    """The set, of MNIST without two digits."""
    splits = load(data, size=SIZES[data])
    if data != "mnist":
        return splits
    return Splits({name: split.take(np.flatnonzero(~is_left_out(split))) for name, split in splits.items()})


def is_left_out(split: Split) -> np.ndarray:
    """Which examples are of a digit that was left out, (n,)."""
    return np.isin(split.attributes["label"], LEFT_OUT)


if __name__ == "__main__":
    main()
