"""Log-likelihood by a Gaussian Parzen window on a model's samples, as the first adversarial networks were compared.

Shapes: n examples of any equal shape, which are flattened to d numbers; float64 inside.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.distances import paired_rows
from triptych.evaluate.neighbours import squared_distances


class Parzen(NamedTuple):
    """Mean log-likelihood in nats per example, and the window's σ that was chosen."""

    estimate: Estimate
    sigma: float


def parzen_log_likelihood(samples: Tensor, valid: Tensor, test: Tensor, sigmas: Sequence[float] | None = None) -> Parzen:
    """log 1/S Σ_s N(x; x_s, σ²I) over test examples x, σ the best of `sigmas` on valid (Goodfellow et al. 2014, section 5).

    It is far below the model's own likelihood in high dimensions and ranks models badly there (Theis et al. 2016): it is
    here for the published tables, which take 10,000 samples.

    Args:
        sigmas: by default 10 from 0.1 to 1, evenly in log σ: right for data in [0, 1]. Where the best is the first or last
            of these, the grid is continued at that end until it is not, for six decades at most. Given ones are not
            extended; where the best is at their end, a warning says so.

    Returns:
        (estimate, sigma): n = len(test), and the standard error is over draws of test examples, samples and σ held still.

    Raises:
        TriptychError: for no examples, a σ that is not above 0, values that are not finite floats, or two widths.

    >>> parzen_log_likelihood(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(3, 2), sigmas=[1.0]).estimate.value
    -1.83787...
    """
    candidates = _GRID if sigmas is None else [float(s) for s in sigmas]
    if not candidates or not all(0 < s < math.inf for s in candidates):
        raise TriptychError(f"sigmas should be numbers above 0, got {candidates}: 0.1 to 1 suits data in [0, 1]")
    samples, valid, test = paired_rows(samples, valid, test, at_least=1)
    sigma = _best(valid, samples, candidates)
    if sigmas is None:
        sigma = _inside(valid, samples, sigma)
    elif len(candidates) > 1 and sigma in (min(candidates), max(candidates)):
        warnings.warn(f"the best σ, {sigma:.3g}, is at the end of those given: give more beyond it", stacklevel=2)
    return Parzen(Estimate.of(_log_likelihoods(test, samples, [sigma])[0]), sigma)


def _best(valid: Tensor, samples: Tensor, sigmas: Sequence[float]) -> float:
    return sigmas[int(_log_likelihoods(valid, samples, sigmas).mean(1).argmax())]


def _inside(valid: Tensor, samples: Tensor, sigma: float) -> float:
    """The best σ of the default grid, continued by decades from the end at which the best one lay."""
    if sigma not in (_GRID[0], _GRID[-1]):
        return sigma
    ratio = 10.0 ** (1 / (len(_GRID) - 1) * (1 if sigma == _GRID[-1] else -1))
    for _ in range(_DECADES):
        further = [sigma * ratio**i for i in range(len(_GRID))]
        sigma = _best(valid, samples, further)
        if sigma != further[-1]:
            return sigma
    warnings.warn(f"the best σ is beyond {sigma:.3g}: validation examples that are samples have none", stacklevel=3)
    return sigma


_GRID: list[float] = torch.logspace(-1, 0, 10, dtype=torch.float64).tolist()
_DECADES = 6


def _log_likelihoods(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    """log p(x) (len(sigmas), n)."""
    parts = [
        torch.stack([(squared / (-2 * s**2)).logsumexp(1) for s in sigmas]) for squared in squared_distances(x, samples)
    ]
    scale = torch.tensor(sigmas, dtype=torch.float64, device=x.device)[:, None]
    constant = math.log(len(samples)) + 0.5 * x.shape[1] * torch.log(2 * math.pi * scale**2)
    return torch.cat(parts, dim=1) - constant
