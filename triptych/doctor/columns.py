"""Samples of a table compared with its data, column by column; of other floats channel by channel.

Shapes: n examples, C columns (channels), P positions of each (1 for a vector); values (n, C, P), in stored coordinates.
"""

from __future__ import annotations

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
_RESAMPLES = 50
_MOST_VALUES = 10_000  # of a column in each set: of many positions, those of fewer examples say as much


class Column(NamedTuple):
    """One column: the distance of samples from data, and what it is of.

    Attributes:
        distance: mean |Q_samples(p) − Q_data(p)| over quantiles p, in standard deviations of the data (1 where the data are
            constant): Wasserstein's W₁. Its standard error is a bootstrap's over both sets.
        mean, data_mean, spread, data_spread: with standard errors; spread is the standard deviation.
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
        random = np.random.default_rng(0)
        drawn = [[values[random.integers(len(values), size=len(values))] for values in (fake, real)]
                 for _ in range(_RESAMPLES)]  # fmt: skip

        def estimate(figure, which: int | None = None) -> Estimate:
            def value(pair):
                return figure(*pair) if which is None else figure(pair[which])

            errors = [value(pair) for pair in drawn]
            return Estimate(float(value((fake, real))), float(np.std(errors, ddof=1)), len(fake if which != 1 else real))

        return cls(name, estimate(_distance), *(estimate(f, i) for f in (np.mean, np.std) for i in (0, 1)))

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


def _distance(fake: np.ndarray, real: np.ndarray) -> float:
    unit = real.std() or 1.0
    return float(np.abs(np.quantile(fake, _LEVELS) - np.quantile(real, _LEVELS)).mean() / unit)
