"""Whether a set of features can be trusted on real pictures: the Fréchet distance should rise with each of four faults.

    blur    Gaussian, of so many hundredths of the pictures' side
    noise   Gaussian, of so many hundredths of the range of values
    modes   groups of pictures (k-means of 10 groups, by small copies of the pixels) that never appear
    copies  different pictures, in hundredths, of which the others are repetitions

Each is applied at five strengths, from none, to n pictures that are compared with as many others; the two-sample accuracies
stand beside the distances. "monotonic" says whether the distance rises at each step.

python benchmarks/feature_distances.py --data celeba10k --size 64 --features efficientnet
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
import torch
from common import arguments, begin, write
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from triptych import data, evaluate

BLURS = (0.0, 1.0, 2.0, 4.0, 8.0)
NOISES = (0.0, 2.0, 5.0, 10.0, 20.0)
LOST = (0, 2, 4, 6, 8)
DISTINCT = (100, 50, 20, 10, 5)
GROUPS = 10


def blurred(pictures: Tensor, strength: float) -> Tensor:
    """uint8 (n, C, H, W) through a Gaussian of strength / 100 of the side."""
    sigma = strength / 100 * pictures.shape[-1]
    if not sigma:
        return pictures
    reach = max(1, round(3 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(pictures.shape[1], 1, 1, -1)
    x = F.pad(pictures.float(), (reach,) * 4, mode="replicate")
    x = F.conv2d(F.conv2d(x, kernel, groups=len(kernel)), kernel.transpose(2, 3), groups=len(kernel))
    return x.round().clamp(0, 255).byte()


def noisy(pictures: Tensor, strength: float, noise: torch.Generator) -> Tensor:
    """With Gaussian noise of strength / 100 of the range."""
    added = pictures.float() + 2.55 * strength * torch.randn(pictures.shape, generator=noise)
    return added.round().clamp(0, 255).byte()


def groups(pictures: Tensor) -> np.ndarray:
    """A group for each picture, by k-means of 8 × 8 copies."""
    small = F.interpolate(pictures.float(), (8, 8), mode="area").flatten(1).numpy()
    return KMeans(GROUPS, n_init=3, random_state=0).fit_predict(small)


def faulty(fault: str, strength: float, pool: Tensor, labels: np.ndarray, n: int) -> Tensor:
    """n pictures of the pool with a fault; those of strength 0 are the same for all faults."""
    noise = torch.Generator().manual_seed(0)
    if fault == "blur":
        return blurred(pool[:n], strength)
    if fault == "noise":
        return noisy(pool[:n], strength, noise)
    if fault == "modes":
        rows = np.flatnonzero(labels >= strength)
        return pool[np.resize(rows, n)] if len(rows) < n else pool[rows[:n]]
    return pool[np.resize(np.arange(round(n * strength / 100)), n)]


def measured(seen: Tensor, real: Tensor) -> dict[str, float]:
    """Distance and accuracies of one set of features (n, d) against the real ones."""
    distance = evaluate.frechet_distance(real, seen)
    told = evaluate.two_sample_test(real, seen, generator=torch.Generator().manual_seed(0))
    return {"distance": distance.value, "stderr": distance.stderr, **{name: e.value for name, e in told.items()}}


FAULTS = {"blur": BLURS, "noise": NOISES, "modes": LOST, "copies": DISTINCT}


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__, "feature_distances")
    parser.add_argument("--data", default="faces")
    parser.add_argument("--size", type=int)
    parser.add_argument("--features", default="efficientnet", choices=evaluate.feature_sets.NAMES)
    parser.add_argument("--n", type=int, default=1000)
    options = parser.parse_args()
    out = begin(options)
    train = data.load(options.data, size=options.size).train
    seen = evaluate.features(options.features, train)
    rows = seen.unseen(train)
    rows = rows[data.fixed_subset(len(rows), len(rows))]
    reference, pool = train[rows[: options.n]], train[rows[options.n :]]
    real, labels = seen(reference), groups(pool)
    results: dict[str, Any] = {"data": options.data, "shape": list(train.event_shape), "n": options.n, "features": seen.name}
    sound = measured(seen(pool[: options.n]), real)
    for fault, strengths in FAULTS.items():
        found = [sound, *(measured(seen(faulty(fault, s, pool, labels, options.n)), real) for s in strengths[1:])]
        distances = [f["distance"] for f in found]
        results[fault] = {
            "strengths": strengths,
            **{name: [round(f[name], 4) for f in found] for name in found[0]},
            "monotonic": all(a < b for a, b in itertools.pairwise(distances)),
        }
        print(fault, results[fault], flush=True)
    write(out, f"{options.data}-{options.features}", results)


if __name__ == "__main__":
    main()
