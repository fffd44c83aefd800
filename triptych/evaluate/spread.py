"""Standard errors of what is not a mean: from influences, from halves, of shares, and of differences.

Notation: θ(A, B) a measure of two sets of n and m examples; V its variance over repeated draws of both sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from triptych.core import Estimate

Influenced: TypeAlias = Callable[[Tensor, Tensor], tuple[float, Tensor]]
"""θ(A, B), and what each example adds to its error, (n + m,), in one order: Σ of the squares estimates V."""

PAIRS = 10  # of halves: a standard error is then known to a fifth
_ENOUGH = 1000  # examples of the smaller set in a part at the most


class Traced(Estimate):
    """An estimate that knows its deviations: the parts of its error, independent, one for each example or pair of halves.

    Deviations of two estimates with the same real data have the same order, so that what those data do to both drops out of
    their difference (`difference`).

    >>> a, b = (Traced.of_deviations(v, torch.tensor([0.3, 0.4]), 2) for v in (1.0, 3.0))
    >>> a, difference(a, b)
    (Estimate(value=1.0, stderr=0.5000..., n=2), Estimate(value=2.0, stderr=0.0, n=2))
    """

    deviations: Tensor

    @classmethod
    def of_deviations(cls, value: float, deviations: Tensor, n: int, least: float = 0.0) -> Traced:
        """value ± √Σ deviations², or ± `least` where that is more."""
        deviations = deviations.detach().double().cpu()
        found = cls(value, max(deviations.square().sum().sqrt().item(), least), n)
        found.deviations = deviations
        return found

    def __repr__(self) -> str:
        return repr(Estimate(*self))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """b − a: Var = Σ (d_b − d_a)² over the deviations that both know, plus what is beyond them."""
    n, value = min(a.n, b.n), b.value - a.value
    if not (isinstance(a, Traced) and isinstance(b, Traced) and len(a.deviations) == len(b.deviations)):
        return Estimate(value, math.hypot(a.stderr, b.stderr), n)
    shared = (b.deviations - a.deviations).square().sum().item()
    beyond = sum(e.stderr**2 - e.deviations.square().sum().item() for e in (a, b))
    counts = beyond > 1e-9 * (a.stderr**2 + b.stderr**2)  # more than rounding
    return Estimate(value, math.sqrt(shared + (beyond if counts else 0.0)), n)


def jackknife(statistic: Influenced, a: Tensor, b: Tensor, least: int) -> Traced:
    """θ with the infinitesimal jackknife's error, its second-order part counted once.

    With Hoeffding's V = V₁ + V₂ + …, V₁ ∝ 1/n and V₂ ∝ 1/n², the jackknife has mean V₁ + 2 V₂ + … (Efron & Stein 1981): √2
    times too large for the standard error where two sets are of one distribution, since V₁ = 0. On halves of the sets it has
    mean 2 V₁ + 8 V₂, hence V₂ = (V_half − 2 V_jack) / 4, held between 0 and V_jack / 2.

    Args:
        least: examples that θ needs of each set; sets under twice that keep the jackknife as it is.
    """
    value, deviations = statistic(a, b)
    variance, count = deviations.square().sum().item(), min(len(a), len(b))
    if variance > 0 and count >= 2 * least:
        halves = zip(*(_parts(x, 2) for x in (a, b)), strict=True)
        halved = sum(statistic(*half)[1].square().sum().item() for half in halves) / 2
        second = min(max((halved - 2 * variance) / 4, 0.0), variance / 2)
        deviations = deviations * math.sqrt(1 - second / variance)
    return Traced.of_deviations(value, deviations, count)


def by_halves(statistic: Callable[..., Tensor], *sets: Tensor, least: int) -> Tensor:
    """Deviations of θ (k,) from random halves of the sets (half-sample replication, McCarthy 1969): (10, k).

    The halves of all sets are independent, so that (θ(A₁, B₁) − θ(A₂, B₂))²/2 has as its mean the variance at n/2, twice
    that at n wherever V ∝ 1/n. For statistics of neighbours, to which a bootstrap gives neighbours at distance 0 and the
    jackknife up to 1.7 times the error, and of sorted values. (Subsamples that overlap would need a factor that is right
    of means alone.)

    Args:
        least: examples that θ needs of each set; NaN where half of the smallest has fewer. Of large sets parts are
            compared, of which the smallest has 1,000 examples.
    """
    smallest = min(len(x) for x in sets)
    if smallest < 2 * least:
        return torch.full((PAIRS, len(statistic(*sets))), math.nan, dtype=torch.float64)
    share = min(0.5, _ENOUGH / smallest)
    found = torch.stack([statistic(*some) for some in zip(*(_disjoint(x, share) for x in sets), strict=True)]).double()
    return (found[0::2] - found[1::2]) * math.sqrt(share / (2 * PAIRS))


def jeffreys(share: float, n: int) -> float:
    """The standard error of a share of n: the posterior's by Jeffreys's prior, (s + ½)/(n + 1) = p, √(p (1 − p)/(n + 2)).

    About √(s (1 − s)/n), and .7/n where none or all were seen, of which ± 0 would be said (Brown, Cai & DasGupta 2001).

    >>> round(jeffreys(0.0, 1000), 5), round(jeffreys(0.5, 1000), 4)
    (0.00071, 0.0158)
    """
    p = (share * n + 0.5) / (n + 1)
    return math.sqrt(p * (1 - p) / (n + 2))


def share_of(found: Tensor) -> Estimate:
    """The share of examples (n,) of which something is true, with `jeffreys`'s error where it is true of all or none.

    >>> share_of(torch.zeros(1000) > 0)
    Estimate(value=0.0, stderr=0.0007..., n=1000)
    """
    of_mean = Estimate.of(found.double())
    if 0 < of_mean.value < 1:
        return of_mean
    return Estimate(of_mean.value, jeffreys(of_mean.value, len(found)), len(found))


def of_mean(influence: Tensor) -> Tensor:
    """Deviations of a mean of n influences: Σ of the squares is their variance over n."""
    return (influence - influence.mean()) / math.sqrt(len(influence) * max(len(influence) - 1, 1))


def _parts(x: Tensor, count: int) -> list[Tensor]:
    """x in `count` parts of nearly equal size, in a fixed random order: data may come sorted."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return [x[part.to(x.device)] for part in order.tensor_split(count)]


def _disjoint(x: Tensor, share: float) -> Iterator[Tensor]:
    """Two parts of x without a common example, again and again."""
    noise = torch.Generator().manual_seed(0)  # of sets of one size the same rows: equal sets stay equal
    count = int(share * len(x))
    for _ in range(PAIRS):
        order = torch.randperm(len(x), generator=noise).to(x.device)
        yield from (x[order[:count]], x[order[count : 2 * count]])
