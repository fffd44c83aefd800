"""Samples of a table compared with its data, column by column; of other floats channel by channel.

Shapes: n examples, C columns (channels), P positions of each (1 for a vector); values (n, C, P), in stored coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from triptych.capabilities import HasPosterior
from triptych.codecs.floats import feature_name
from triptych.core import Estimate, GenerativeModel
from triptych.data import Split, fixed_subset
from triptych.evaluate.measure import context_of
from triptych.modes import in_eval_mode

NAMED = 3  # worst columns that are told of
_LEVELS = (np.arange(100) + 0.5) / 100
_SMOOTH = 0.4  # c²
_GRID = 200  # values at which two distributions are compared, for the error of their distance
_MOST_VALUES = 10_000  # of a column in each set: of many positions, those of fewer examples say as much


class Column(NamedTuple):
    """One column: the distance of samples from data, and what it is of.

    Attributes:
        distance: mean |Q_samples(p) − Q_data(p)| over quantiles p, in standard deviations of the data (1 where the data are
            constant): Wasserstein's W₁. Its standard error is over draws of both sets (`_distance_error`).
        mean, data_mean, spread, data_spread: each over draws of its own set, by the jackknife over examples; spread is the
            standard deviation.
    """

    name: str
    distance: Estimate
    mean: Estimate
    data_mean: Estimate
    spread: Estimate
    data_spread: Estimate

    @classmethod
    def of(cls, name: str, fake: np.ndarray, real: np.ndarray) -> Column:
        """The column of samples (n, P) and data (m, P)."""
        sets = [torch.from_numpy(np.ascontiguousarray(x)).double() for x in (fake, real)]

        distance = Estimate(_distance(fake, real), _distance_error(*sets), len(fake))
        return cls(name, distance, *(m[i] for i in (0, 1) for m in map(_moments, sets)))

    def __str__(self) -> str:
        """A clause for a person: what is far off by how much."""
        mean, data_mean, spread, data_spread = (f"{e.value:.4g}" for e in self[2:])
        off = f"{self.distance.value:.2g} ± {self.distance.stderr:.1g} standard deviations"
        return f"{self.name} by {off} (mean {mean}, data {data_mean}; spread {spread}, data {data_spread})"


@in_eval_mode
def compare_columns(model: GenerativeModel, data: Split, n: int = 200, seed: int = 0) -> list[Column]:
    """The worst columns of n samples against as many examples of data, the worst first; [] for data that are not floats.

    A model with a likelihood p(x|z) draws from it: its means alone have too small a spread. A conditional model is given the
    data's attributes.
    """
    if data.data.dtype.kind != "f":
        return []
    rows = fixed_subset(len(data), n)
    context = context_of(model, data, np.resize(rows, n))
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if isinstance(model, HasPosterior):
            x = model.observe(
                model.sample_prior(n, generator=noise), context, generator=torch.Generator(model.device).manual_seed(seed)
            )
        else:
            x = model.sample(n, context=context, generator=noise)
        fake = _by_column(model.codec.decode(x).cpu().numpy())
    real = _by_column(data[rows].numpy())
    if not np.isfinite(fake).all():  # which other rules say
        return []
    far = [_distance(fake[:, i], real[:, i]) for i in range(real.shape[1])]
    worst = np.argsort(far, kind="stable")[::-1][:NAMED]
    return [Column.of(feature_name(i, data.event_shape, data.columns), fake[:, i], real[:, i]) for i in worst.tolist()]


def as_numbers(columns: list[Column]) -> dict[str, float]:
    """Columns as `diagnose` takes them and JSON holds them: numbers by name."""
    return {
        f"{figure} of {column.name}{part}": value
        for column in columns
        for figure, estimate in zip(Column._fields[1:], column[1:], strict=True)
        for part, value in (("", estimate.value), (" (stderr)", estimate.stderr), (" (n)", estimate.n))
    }


def from_numbers(numbers: Mapping[str, float]) -> list[Column]:
    """The columns of `as_numbers`, in their order; other numbers are left aside."""
    names = [name.removeprefix("distance of ") for name in numbers if name.startswith("distance of ")]
    names = [name for name in names if f"distance of {name} (stderr)" in numbers]

    def estimate(figure: str, name: str) -> Estimate:
        value, stderr, n = (numbers[f"{figure} of {name}{part}"] for part in ("", " (stderr)", " (n)"))
        return Estimate(value, stderr, int(n))

    return [Column(name, *(estimate(figure, name) for figure in Column._fields[1:])) for name in names]


def _by_column(values: np.ndarray) -> np.ndarray:
    """(n, C, …) as float64 (n, C, P), of fewer examples where there are many positions."""
    values = values.reshape(*values.shape[:2], -1)
    return values[: max(30, _MOST_VALUES // values.shape[2])].astype(np.float64)


def _distance_error(fake: torch.Tensor, real: torch.Tensor) -> float:
    """The standard error of W₁ = ∫ |F − G| du / σ over draws of both sets (n, P) and (m, P), F and G their distributions.

    An example's influence is ∫ h(u) 1[x ≤ u] du with h = sign(F − G) (del Barrio, Giné & Matrán 1999), less W₁ times that on
    σ. Where F = G the sign is chance, and its variance twice ∫|F − G|'s or more; with h = 2 Φ(t / c) − 1, t = (F − G)
    over its own standard error, c = 1, it is that: (2/π) asin(ρ/2) ρ for Cov(|Z|, |Z'|) of correlated normal Z, Z' (equal at
    small ρ, .33 for .36 at ρ = 1). c² = .4 makes good for what is estimated from few. Far from F = G, h is the sign.
    """
    u = torch.quantile(torch.cat([_few(fake), _few(real)]), torch.linspace(0, 1, _GRID, dtype=torch.float64))
    below = [(x[:, :, None] <= u).double().mean(1) for x in (fake, real)]  # (n, grid)
    gap = below[0].mean(0) - below[1].mean(0)
    own = torch.stack([b.var(0) / len(b) for b in below]).sum(0).sqrt().clamp_min(1e-12)
    step = torch.erf(gap / own / math.sqrt(2 * _SMOOTH)) * torch.diff(u, append=u[-1:])
    unit, square = real.std(correction=0), (real - real.mean()).square().mean(1)
    if not unit > 0:
        return float((below[0] @ step).std() / math.sqrt(len(fake)))
    distance = float((gap.abs() * torch.diff(u, append=u[-1:])).sum())
    influences = below[0] @ step, below[1] @ step + distance * square / (2 * unit**2)
    return math.sqrt(sum(float(x.var()) / len(x) for x in influences)) / float(unit)


def _few(x: torch.Tensor) -> torch.Tensor:
    return x.flatten()[:: 1 + x.numel() // 100_000]


def _moments(x: torch.Tensor) -> tuple[Estimate, Estimate]:
    """Mean and standard deviation of all values of x (n, P), with the jackknife's errors over examples."""
    n, mean = len(x), x.mean()
    own, square = x.mean(1) - mean, (x - mean).square().mean(1)
    variance = square.mean()
    left = (n * variance - square) / max(n - 1, 1) - (own / max(n - 1, 1)).square()  # the variance without each example
    spread = left.clamp_min(0).sqrt()
    error = math.sqrt((n - 1) / n * (spread - spread.mean()).square().sum().item())
    return Estimate.of(x.mean(1)), Estimate(variance.sqrt().item(), error, n)


def _distance(fake: np.ndarray, real: np.ndarray) -> float:
    unit = real.std() or 1.0
    return float(np.abs(np.quantile(fake, _LEVELS) - np.quantile(real, _LEVELS)).mean() / unit)
