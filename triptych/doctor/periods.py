"""Whether a series of numbers is periodic."""

from __future__ import annotations

import math

import numpy as np


def period(values: np.ndarray) -> tuple[float, int, float]:
    """Amplitude, the lag at which the autocorrelation of ranks peaks after it was negative, and its height there.

    Ranks, because V's turning points may be sharp. The height is limited to the depth before it, and the lag to a third of
    the values: the autocorrelation of noise rises by chance too, but seldom as far as it fell, and seldom so soon.
    """
    swing = math.sqrt(2) * float(_detrended(values).std())
    if swing < 1e-6:
        return 0.0, 0, 0.0
    ranks = _detrended(values.argsort().argsort().astype(np.float64))
    lags = range(1, len(values) // 3 + 1)
    auto = np.asarray([(ranks[:-lag] * ranks[lag:]).mean() / (ranks**2).mean() for lag in lags])
    below = np.flatnonzero(auto < 0)
    if not len(below) or below[0] + 1 >= len(auto):
        return swing, 0, 0.0
    top = int(below[0] + auto[below[0] :].argmax())
    return swing, top + 1, float(min(auto[top], -auto[: top + 1].min()))


def _detrended(values: np.ndarray) -> np.ndarray:
    time = np.arange(len(values))
    return values - np.polyval(np.polyfit(time, values, 1), time)
