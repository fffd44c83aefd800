"""Are standard errors right? How often a measure lies within one of them, over repeated draws, for every measure.

    python benchmarks/calibration.py --threads 1                       all; some ten minutes on one core, resumable
    python benchmarks/calibration.py --only vectors --n 64 --repetitions 400

Each repetition draws everything anew that a measure's ± says it covers, from known distributions: two sets of one
distribution (null) and of two (other). Of the values over repetitions, with mean m and standard deviation s, it prints

    coverage   the share of repetitions with |value − m| ≤ ±: .68 for a normal estimate whose ± is right
    ratio      mean ± over s: 1
    beyond 2   the share with |value − m| > 2 ±, false alarms at two standard errors: .05

m, not the truth: the bias of fid, swd and the like is said to be in no ±. n is the number of examples of each set; half as
many repetitions are made at n > 100, a quarter at n > 500.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from common import arguments, begin, machine
from torch import Tensor

import triptych
from triptych import evaluate
from triptych.core import Estimate
from triptych.data import Split
from triptych.data.faces import Faces
from triptych.doctor.columns import Column
from triptych.evaluate.likelihood import elbo
from triptych.evaluate.spread import difference, share_of
from triptych.nets import MLP
from triptych.vae.likelihoods import Gaussian

Found: TypeAlias = dict[str, Estimate]
DIMS = 16
_POOL = 8000  # drawn faces of which sets are drawn without replacement
_SAVED_EVERY = 20.0  # seconds


def vectors(n: int, other: bool, noise: torch.Generator) -> Found:
    """Measures of two sets of Gaussian vectors, whose variances fall as 1/i; the other set is moved, and narrower."""
    real, train = _gaussian(n, noise), _gaussian(n, noise)
    fake = _gaussian(n, noise, *((1.0, 0.8) if other else ()))
    return _of_sets(real, fake, noise) | {"nearest_ratio": evaluate.nearest_ratio(fake, train, real, generator=noise)}


def balls(n: int, other: bool, noise: torch.Generator) -> Found:
    """Precision, recall, density and coverage alone, of the same vectors."""
    real, _ = _gaussian(n, noise), _gaussian(n, noise)
    return evaluate.precision_recall(real, _gaussian(n, noise, *((1.0, 0.8) if other else ())))


def faces(n: int, other: bool, noise: torch.Generator) -> Found:
    """The same of learned features of drawn faces; the others smile."""
    rows = torch.randperm(_POOL, generator=noise)
    real, theirs = rows[:n], torch.randperm(_POOL, generator=noise)[:n] if other else rows[n : 2 * n]
    return _of_sets(_face_features()[real], _face_features(other)[theirs], noise)


def differences(n: int, other: bool, noise: torch.Generator) -> Found:
    """`Quality.compare`: of two sets of samples, of which one may be further off, against the same real data."""
    real, near = _gaussian(n, noise), _gaussian(n, noise, 0.5, 0.9)
    far = _gaussian(n, noise, *((1.0, 0.8) if other else (0.5, 0.9)))
    ours, theirs = (_of_sets(real, fake, torch.Generator().manual_seed(0)) for fake in (near, far))
    return {name: difference(ours[name], theirs[name]) for name in ours}


def pictures(n: int, other: bool, noise: torch.Generator) -> Found:
    """What compares drawn faces by their pixels, 16 × 16; the others smile."""
    rows = torch.randperm(_POOL, generator=noise)
    real, fake = _face_pictures()[rows[:n]], _face_pictures(other)[rows[n : 2 * n]]
    x, y = (stored[:500].float() / 255 for stored in (real, fake))
    found = evaluate.sliced_wasserstein(x, y, patches=32, projections=32, generator=noise)
    return {"swd": found["swd"], "ms_ssim": evaluate.diversity(y, generator=noise)}


def scores(n: int, other: bool, noise: torch.Generator) -> Found:
    """Of numbers and of shares: scores of anomalies, accuracies, copies, columns, units, densities, repetitions."""
    score, odd = (torch.randn(n, generator=noise) for _ in range(2))
    label, read = torch.randn(n, generator=noise) > 0, torch.randn(n, generator=noise) > 0
    column = [np.exp(0.5 * torch.randn(n, 1, generator=noise).double().numpy()) for _ in range(2)]
    of_column = Column.of("", column[0] * (1.2 if other else 1.0), column[1])
    widths = torch.linspace(0.05, 0.2, 100)  # standard deviations about the .1 above which a unit is active
    train, fake = _gaussian(1000, torch.Generator().manual_seed(1)), _gaussian(n, noise)
    if other:
        share = torch.rand(n, generator=noise) < 0.05
        fake[share] = train[torch.randint(1000, (int(share.sum()),), generator=noise)]
    samples, held_out = (_gaussian(500, torch.Generator().manual_seed(seed)) for seed in (2, 3))
    return {
        "auroc": evaluate.auroc(score, odd + (1.0 if other else 0.0)),
        "accuracy of a direction": share_of(label == (read | label if other else read)),
        "copied": evaluate.copied(fake, _gaussian(n, noise), train),
        "distance of a column": of_column.distance,
        "mean of a column": of_column.mean,
        "spread of a column": of_column.spread,
        "active_units": evaluate.active_units(torch.randn(n, 100, generator=noise) * widths * (1.3 if other else 1.0)),
        "parzen": evaluate.parzen_log_likelihood(samples, held_out, _gaussian(n, noise, 0.5 * other), [0.5]).estimate,
        **repetitions(n, other, noise),
    }


def repetitions(n: int, other: bool, noise: torch.Generator) -> Found:
    """Of 200 outputs, equally likely or a tenth of the time one and the same."""
    outputs = _gaussian(200, torch.Generator().manual_seed(4))[torch.randint(200, (n,), generator=noise)]
    outputs = outputs if not other else outputs * (torch.rand(n, 1, generator=noise) > 0.1)
    return {"distinct_outputs": evaluate.distinct_outputs(outputs, _gaussian(n, noise))}


def likelihoods(n: int, other: bool, noise: torch.Generator) -> Found:
    """Of a VAE of two dimensions whose bound is tight, on data from it, or on wider ones."""
    model, x = _linear_vae(), torch.randn(n, 2, generator=noise) * (1.5 if other else 1.0)
    found = elbo(model, x, generator=noise)
    found["nll"] = evaluate.importance_nll(model, x, k=10, generator=noise)
    found["reconstruction_rmse"] = evaluate.reconstruction_error(model, x)
    return found


def sampling(n: int, other: bool, noise: torch.Generator) -> Found:
    """The same by Hamiltonian Monte Carlo: of 20 examples, whatever n, and 8 chains, since it is slow."""
    x = torch.randn(20, 2, generator=noise) * (1.5 if other else 1.0)
    return {"log_marginal_hmc": evaluate.marginal_log_likelihood(_linear_vae(), x, chains=8, generator=noise)}


_MEASURED = (vectors, balls, faces, differences, pictures, scores, repetitions, likelihoods, sampling)
GROUPS: dict[str, Callable[[int, bool, torch.Generator], Found]] = {function.__name__: function for function in _MEASURED}
_AGAIN = ("balls", "repetitions")  # parts of other groups, quick enough for many repetitions


def _of_sets(real: Tensor, fake: Tensor, noise: torch.Generator) -> Found:
    found = {"fid": evaluate.frechet_distance(real, fake), "kid": evaluate.kernel_distance(real, fake)}
    found |= evaluate.precision_recall(real, fake) | evaluate.two_sample_test(real, fake, generator=noise)
    return found | evaluate.sliced_wasserstein(real, fake, generator=noise)


def _gaussian(n: int, noise: torch.Generator, shift: float = 0.0, width: float = 1.0) -> Tensor:
    spectrum = torch.arange(1.0, DIMS + 1) ** -0.5
    return width * torch.randn(n, DIMS, generator=noise) * spectrum + shift / DIMS**0.5


@cache
def _face_pictures(smiling: bool = False) -> Tensor:
    drawn = Faces(_POOL, 16, seed=1, start=_POOL * smiling, ranges={"smile": (0.0, 1.0)} if smiling else {})
    return torch.from_numpy(drawn[:])


@cache
def _face_features(smiling: bool = False) -> Tensor:
    return _learned()(_face_pictures(smiling))


@cache
def _learned() -> evaluate.Features:
    drawn = Faces(4000, 16, seed=2, start=10 * _POOL)
    return evaluate.learn_features(Split(drawn[:], drawn.attributes), steps=300)


@cache
def _linear_vae() -> triptych.VAE:
    """x = z + N(0, .3²) with its exact posterior: every bound is tight."""
    variance = 0.3**2
    networks = {"encoder": MLP((2,), (), 4), "decoder": MLP((2,), (), 2)}
    model = triptych.VAE((2,), 2, **networks, likelihood=Gaussian((2,), mean="linear"))
    with torch.no_grad():
        model.likelihood.log_scale.fill_(0.5 * np.log(variance))
        model.decoder[-1].weight.copy_(torch.eye(2))
        model.decoder[-1].bias.zero_()
        model.encoder[-1].weight.zero_()
        model.encoder[-1].weight[:2] = torch.eye(2) / (1 + variance)
        model.encoder[-1].bias.copy_(torch.tensor([0.0, 0.0, *[0.5 * np.log(variance / (1 + variance))] * 2]))
    return model.eval()


def repeated(path: Path, group: str, n: int, other: bool, repetitions: int) -> dict[str, list[list[float]]]:
    """(value, ±) of every measure over repetitions, kept in a file: those that it has are not made again."""
    kept: dict[str, list[list[float]]] = json.loads(path.read_text()) if path.exists() else {}
    done, saved = max(map(len, kept.values()), default=0), time.monotonic()
    for repetition in range(done, repetitions):
        noise = torch.Generator().manual_seed(1_000_003 * repetition + 2 * n + other)
        for name, estimate in GROUPS[group](n, other, noise).items():
            kept.setdefault(name, []).append([estimate.value, estimate.stderr])
        if time.monotonic() - saved > _SAVED_EVERY or repetition == repetitions - 1:
            _save(path, kept)
            saved = time.monotonic()
    return {name: rows[:repetitions] for name, rows in kept.items()}


def _save(path: Path, kept: dict[str, list[list[float]]]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(kept))
    new.replace(path)


def calibration(rows: list[list[float]]) -> dict[str, float]:
    """Coverage, ratio and false alarms of (value, ±) over repetitions; the ratio is not finite where values never differ."""
    values, stated = np.array(rows).T
    off, spread = np.abs(values - values.mean()), values.std(ddof=1)
    return {
        "coverage": float((off <= stated).mean()),
        "ratio": float(stated.mean() / spread) if spread > 1e-12 else np.inf,
        "beyond_2": float((off > 2 * stated).mean()),
        "mean": float(values.mean()),
        "repetitions": len(values),
    }


def measured(out: Path, options: argparse.Namespace) -> Iterator[tuple[str, int, bool, str, dict[str, float]]]:
    for group in options.only:
        for n in options.n:
            for other in (False, True):
                repetitions = options.repetitions // (4 if n > 500 else 2 if n > 100 else 1)
                path = out / f"{group}-{n}-{'other' if other else 'null'}.json"
                for name, rows in repeated(path, group, n, other, repetitions).items():
                    yield group, n, other, name, calibration(rows)
                print(f"{group}, n = {n}, {'other' if other else 'null'}: {repetitions} repetitions", flush=True)


def table(found: dict[tuple[str, str, bool], dict[int, dict[str, float]]], sizes: list[int]) -> str:
    """Markdown: coverage · ratio · beyond 2, for each measure, case and n."""
    lines = [
        "| measure | of | sets | " + " | ".join(f"n = {n}" for n in sizes) + " |",
        "|---|---|---|" + "---|" * len(sizes),
    ]
    for (group, name, other), by_n in found.items():
        cells = [_cell(by_n[n]) if n in by_n else "" for n in sizes]
        lines.append(f"| {name} | {group} | {'other' if other else 'null'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(numbers: dict[str, float]) -> str:
    if not np.isfinite(numbers["ratio"]):
        return "no spread"
    return " · ".join(f"{numbers[name]:.2f}" for name in ("coverage", "ratio", "beyond_2"))


def main() -> None:
    parser = arguments(__doc__, "calibration")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--n", type=int, nargs="+", default=[64, 300, 1000])
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=[name for name in GROUPS if name not in _AGAIN])
    options = parser.parse_args()
    out = begin(options)
    found: dict[tuple[str, str, bool], dict[int, dict[str, float]]] = {}
    for group, n, other, name, numbers in measured(out, options):
        found.setdefault((group, name, other), {})[n] = numbers
    said = table(found, options.n)
    (out / "table.md").write_text(said + "\n")
    counts = sorted({(n, int(v["repetitions"])) for by_n in found.values() for n, v in by_n.items()})
    print(said, f"coverage · ratio · beyond 2; n: repetitions {counts}; {machine()}", sep="\n\n")


if __name__ == "__main__":
    main()
