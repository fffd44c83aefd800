"""How well a score tells anomalous from normal examples, and whether a batch as a whole is typical of a model.

Shapes: normal (n,), anomalous (m,) scores, larger is less normal; nll (n,), reference (m,) nats of −log p; float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.spread import jeffreys


def auroc(normal: Tensor, anomalous: Tensor) -> Estimate:
    """P(anomalous > normal) + ½ P(equal), the area under the receiver's operating characteristic, of n + m examples.

    ½ is a coin, 1 tells all pairs apart, and below ½ the score prefers the anomalous. The standard error is DeLong's
    (1988), over draws of both sets; where all pairs are told apart, that of a share of all of the smaller set's examples
    (`spread.jeffreys`), not 0.

    >>> auroc(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0]))
    Estimate(value=0.75, stderr=0.2886..., n=5)
    """
    normal, anomalous = normal.double(), anomalous.double()
    if not len(normal) or not len(anomalous):
        raise TriptychError(f"auroc compares two sets, got {len(normal)} normal and {len(anomalous)} anomalous examples")
    if normal.isnan().any() or anomalous.isnan().any():
        raise TriptychError("scores hold NaN: leave those examples out, or call them anomalous with a score of infinity")
    above, below = _placements(anomalous, normal), _placements(-normal, -anomalous)
    spread = sum(float(p.var()) / len(p) for p in (above, below))  # NaN where a set has one example
    value = above.mean().item()
    stderr = jeffreys(value, min(len(normal), len(anomalous))) if spread == 0 and value in (0.0, 1.0) else spread**0.5
    return Estimate(value, stderr, len(normal) + len(anomalous))


def _placements(values: Tensor, among: Tensor) -> Tensor:
    """The share of `among` below each value, equal ones counted half."""
    ordered = among.sort().values
    ranks = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
    return ranks.double() / (2 * len(among))


class Typicality(NamedTuple):
    """|mean −log p − H| of a batch in nats, its p-value among batches of held-out data, and the batch's size."""

    value: float
    p: float
    n: int


def typicality(nll: Tensor, reference: Tensor, *, resamples: int = 2000, seed: int = 0) -> Typicality:
    """Whether the examples are typical as a batch: their mean −log p beside the entropy H (Nalisnick et al. 2019).

    H is the mean of −log p over held-out data. p is the share of as large batches, and as large references, drawn from
    held-out data with replacement, whose means differ as much or more. A batch of blank pictures that a flow finds likelier
    than anything it was trained on has a small p, too.

    Args:
        nll: −log p of the batch, in nats.
        reference: the same of held-out examples.

    >>> typicality(torch.full((50,), -3.0), torch.randn(500, generator=torch.Generator().manual_seed(0))).p < 0.01
    True
    """
    held_out, n = reference.double().numpy(), len(nll)
    if not n or not len(held_out):
        raise TriptychError(f"typicality compares a batch with held-out examples, got {n} and {len(held_out)}")
    value, random, even = abs(nll.double().mean().item() - held_out.mean()), np.random.default_rng(seed), len(held_out)
    weights = (random.multinomial(size, np.full(even, 1 / even), resamples) / size for size in (n, even))
    means, entropies = (w @ held_out for w in weights)
    beyond = int((np.abs(means - entropies) >= value).sum())
    return Typicality(value, (1 + beyond) / (1 + resamples), n)


def p_values(scores: Tensor, reference: Tensor) -> Tensor:
    """(1 + #{held-out scores ≥ s}) / (1 + m): the share of normal data that look as odd or odder, (n,).

    A decision at p ≤ α calls at most about α of new normal examples anomalous, whatever the score (conformal prediction).

    >>> p_values(torch.tensor([0.0, 5.0]), torch.arange(4.0))
    tensor([1.0000, 0.2000], dtype=torch.float64)
    """
    ordered = reference.double().sort().values
    as_odd = len(ordered) - torch.searchsorted(ordered, scores.double())
    return (1 + as_odd).double() / (1 + len(ordered))
