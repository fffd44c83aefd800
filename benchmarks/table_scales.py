"""Tables of any scale: what standardising inside the model is worth, for each family on six tables.

Each family is trained twice for the same number of steps, with networks narrower than by default: on values as they are
(raw), and standardised inside, as it does by itself. Measured on held-out rows: nats of the stored values' density
(importance-weighted with 100 draws for a VAE's bound; a GAN has none); and of samples the worst column's distance from the
training data, mean |Q_samples(p) − Q_data(p)| in standard deviations. Beside them a Gaussian with the training rows' mean
and covariance.

    python benchmarks/table_scales.py --steps 600
    python benchmarks/table_scales.py --tables made unit --families nice vae
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import altered, arguments, begin, write

from triptych import families
from triptych.capabilities import HasDensity
from triptych.core import Estimate
from triptych.data import Split
from triptych.doctor import compare_columns
from triptych.errors import TriptychError
from triptych.evaluate.likelihood import importance_nll
from triptych.modes import evaluating
from triptych.training.loop import fit
from triptych.training.run import Run

FAMILIES = {
    "vae": ["model.hidden=[128]", "model.latent_dim=4"],
    "gan": ["model.hidden=[128,128]", "model.latent_dim=8"],
    "nice": ["model.hidden=[128,128]"],
    "realnvp": ["model.width=16"],
    "glow": ["model.width=32", "model.depth=4"],
    "spectral": ["model.width=64", "model.coupling_width=32"],
}


def made(n: int = 2000, seed: int = 0) -> np.ndarray:
    """Six dependent columns of spread 0.001 to 900 around −20 to 1,000,000, one of two modes, one with a heavy tail."""
    random = np.random.default_rng(seed)
    z = random.standard_normal((n, 6)) @ np.linalg.qr(random.standard_normal((6, 6)))[0] * np.linspace(0.5, 1.5, 6)
    modes = np.where(random.random(n) < 0.5, -2, 2) + 0.5 * z[:, 1]
    columns = [5000 + 900 * z[:, 0], 10 * modes - 20, 0.001 * z[:, 2], 3 + 0.1 * z[:, 3] * z[:, 0],
               np.exp(2 + z[:, 4]), 1e6 + 50 * z[:, 5]]  # fmt: skip
    return np.stack(columns, 1)


def tables() -> dict[str, Any]:
    """Rows (N, D) by name, drawn or of scikit-learn's own; `unit` has unit scale already."""
    from sklearn import datasets

    plain = made()
    sets = {"iris": datasets.load_iris, "wine": datasets.load_wine, "breast cancer": datasets.load_breast_cancer}
    found = {"made": plain, "unit": (plain - plain.mean(0)) / plain.std(0)} | {k: load().data for k, load in sets.items()}
    return found | {"diabetes": datasets.load_diabetes(scaled=False).data}


def halves(rows: np.ndarray) -> tuple[Split, Split]:
    """Nine tenths to train on, the rest to score."""
    order = np.random.default_rng(0).permutation(len(rows))
    held_out = len(rows) // 10
    train, test = (rows[part].astype(np.float32) for part in (order[held_out:], order[:held_out]))
    return Split(train), Split(test)


def gaussian(train: np.ndarray, test: np.ndarray) -> Estimate:
    """Nats of held-out rows under the Gaussian fitted to the training rows."""
    from scipy.stats import multivariate_normal

    train, test = train.astype(np.float64), test.astype(np.float64)
    scale = train.std(0)  # the same density, of a better conditioned matrix
    mean, covariance = (train / scale).mean(0), np.cov((train / scale).T)
    log_p = multivariate_normal.logpdf(test / scale, mean, covariance, allow_singular=True) - np.log(scale).sum()
    return Estimate.of(-torch.from_numpy(log_p))


def measure(folder: Path, family: str, train: Split, test: Split, raw: bool, steps: int, seed: int) -> dict[str, Any]:
    """One training and what is measured of it."""
    recipe = altered(replace(families.preset(family), steps=steps, seed=seed), FAMILIES[family])

    def unread(shape: tuple[int, ...]) -> Any:  # a model that is not fitted to the data's scale
        return families.family(family).build(recipe, families.first_batch(train), 0)

    run = Run.create(folder, recipe, families.build_for(recipe, train, unread if raw else None), overwrite=True)
    try:
        fit(run, train, notice=lambda line: None)
    except TriptychError as error:  # which says that it diverged
        return {"failed": str(error).partition(";")[0]}
    model, found = run.averaged, {}
    with evaluating(model):
        if isinstance(model, HasDensity):
            k = 1 if model.bound == "exact" else 100
            found["nll"] = importance_nll(model, test[:], k=k, generator=torch.Generator().manual_seed(0))._asdict()
        worst = compare_columns(model, train, len(train))
    if worst:
        found["worst column"] = worst[0].name, *worst[0].distance
    return found


def main() -> None:
    """Measures what is not in the folder yet, and writes everything."""
    parser = arguments(__doc__, "table_scales")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", nargs="*", default=list(tables()))
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    folder, results = begin(options), {}
    for table in options.tables:
        train, test = halves(tables()[table])
        results[f"{table}, a Gaussian"] = gaussian(train.data, test.data)._asdict()
        for family in options.families:
            for way in ("raw", "standardised"):
                kept = folder / f"{table}-{family}-{way}-{options.steps}-{options.seed}.json"
                if not kept.exists():
                    found = measure(folder / "run", family, train, test, way == "raw", options.steps, options.seed)
                    kept.write_text(json.dumps(found))
                results[f"{table}, {family}, {way}"] = json.loads(kept.read_text())
                print(table, family, way, results[f"{table}, {family}, {way}"], flush=True)
    write(folder, "table_scales", results)


if __name__ == "__main__":
    main()
