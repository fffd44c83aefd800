"""Fidelity and variety by balls round the examples of two sets, with errors that know that the balls move with the data.

Notation: m points and n centres in d dimensions; the ball of a centre reaches to its k-th neighbour among the centres; C_f
are the balls that hold the point f. Squared distances, float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.distances import paired_rows
from triptych.evaluate.neighbours import squared_distances
from triptych.evaluate.spread import Traced, by_halves, jeffreys, of_mean

_OF_JACKKNIFE = 2 / 3


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> dict[str, Estimate]:
    """Fidelity and variety from balls that reach from each example to its k-th neighbour in its own set.

    Returns:
        precision  share of fakes in a real ball; recall share of reals in a fake ball (Kynkäänniemi et al. 2019)
        density    real balls that a fake lies in, over k: 1 for equal distributions, and above 1 in dense places
        coverage   share of real balls with a fake in them (Naeem et al. 2020); 1 − 2⁻ᵏ for equal distributions

        The standard error is over draws of both sets (NaN under 2k + 2 examples): the balls move with the data, and the
        binomial error, which holds them still, can be three times too small. That of coverage is from random halves
        (`spread.by_halves`), the others' from what each example adds (`_cover`).

    Raises:
        TriptychError: for k or fewer examples, k < 1, values that are not finite floats, or two widths.

    >>> x = torch.arange(8.0)[:, None]
    >>> precision_recall(x, x + 100, k=2)["precision"]
    Estimate(value=0.0, stderr=0.0724..., n=8)
    """
    if k < 1:
        raise TriptychError(f"k should be at least 1, got {k}: 3 is usual for precision, 5 for density")
    real, fake = paired_rows(real, fake, at_least=k + 1)
    of_fakes, of_reals = _cover(fake, real, k), _cover(real, fake, k)
    halves = by_halves(lambda r, f: _coverage(r, f, k), real, fake, least=k + 1)[:, 0]
    enough = 1.0 if min(len(real), len(fake)) >= 2 * (k + 1) else math.nan
    coverage = _coverage(real, fake, k).item()
    return {
        "precision": _share(of_fakes.share, enough * torch.cat([of_fakes.by_centre[0], of_fakes.by_point[0]]), len(fake)),
        "recall": _share(of_reals.share, enough * torch.cat([of_reals.by_point[0], of_reals.by_centre[0]]), len(real)),
        "density": Traced.of_deviations(
            of_fakes.density, enough * torch.cat([of_fakes.by_centre[1], of_fakes.by_point[1]]), len(fake)
        ),
        "coverage": _share(coverage, halves, len(real)),
    }


def _share(value: float, deviations: Tensor, n: int) -> Traced:
    return Traced.of_deviations(value, deviations, n, jeffreys(value, n))


class _Balls(NamedTuple):
    """Balls round n centres.

    Attributes:
        reach: (n,) to the k-th neighbour.
        further: (n,) to the one after it, where the ball ends once one of the k is gone.
        near: (n, k) the k, by their place.
    """

    reach: Tensor
    further: Tensor
    near: Tensor


def _balls(centres: Tensor, k: int) -> _Balls:
    found, start = [], 0
    for squared in squared_distances(centres, centres):
        squared.diagonal(start).fill_(-1)  # each is the first of its own neighbours, whatever copies it has
        found.append(squared.topk(min(k + 2, len(centres)), largest=False))
        start += len(squared)
    distance, place = (torch.cat(parts) for parts in zip(*found, strict=True))
    return _Balls(distance[:, k], distance[:, -1], place[:, 1 : k + 1])


class _Cover(NamedTuple):
    """What balls hold of the points.

    Attributes:
        share: of the points in a ball.
        density: mean of |C_f| / k.
        by_point, by_centre: deviations of both, (2, m) and (2, n), of which the sum of all squares is the variance.
    """

    share: float
    density: float
    by_point: Tensor
    by_centre: Tensor


def _cover(points: Tensor, centres: Tensor, k: int) -> _Cover:
    """The share of points in a ball and how many hold one, with their errors over draws of points and of centres.

    Both are means over the points, θ = mean_f h_f, so that given the centres the variance is Var_f(h_f)/m. To that comes the
    variance over centres of the mean over all possible points. With c_fi = h_f without the centre i, less h_f (a ball is
    gone, and those of whose k neighbours it was one reach further) and c_i = mean_f c_fi,

        J = Σ_i (c_i − c̄)² − Σ_i Var_f(c_fi)/m

    is the jackknife's estimate of it without what the points' own draw adds, and has mean V₁ + 2 V₂ + … where the variance
    is V₁ + V₂ + … (Efron & Stein 1981). How the two compare is not known, for both fall as 1/n: ⅔ J is right for V₁ = V₂,
    and of a variance of two orders never further off than √⅔ and √(4/3) of the standard error. (From halves of the sets one
    would have to know how fast it falls with n: where samples lie far off, in sixteen dimensions, .77 to .86 of it came.)
    """
    h, mean, square = _changes(points, centres, k)
    centred = mean - mean.mean(1, keepdim=True)
    jackknife = centred.square().sum(1, keepdim=True)
    of_points = (square - mean.square()).sum(1, keepdim=True) / max(len(points) - 1, 1)
    left = (1 - of_points / jackknife.clamp_min(1e-300)).clamp_min(0)
    deviations = centred * (_OF_JACKKNIFE * left).sqrt()
    share, density = h.mean(1).tolist()
    return _Cover(share, density, torch.stack([of_mean(v) for v in h]), deviations)


def _changes(points: Tensor, centres: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a ball holds a point, and how many do over k, (2, m); means over points of c_fi and of its square, (2, n)."""
    balls, n = _balls(centres, k), len(centres)
    held, moved, squares = [], points.new_zeros(2, n, dtype=torch.float64), points.new_zeros(2, n, dtype=torch.float64)
    for squared in squared_distances(points, centres):
        inside = squared <= balls.reach
        count = inside.sum(1)
        gained = _gained(balls, (squared <= balls.further) & ~inside)
        found = (count == 0)[:, None] & (gained > 0)
        lost = (count == 1)[:, None] & inside & (gained == 0)
        for i, change in enumerate((found.double() - lost.double(), (gained - inside.double()) / k)):  # c_fi (part, n)
            moved[i] += change.sum(0)
            squares[i] += change.square().sum(0)
        held.append(count)
    count = torch.cat(held).double()
    return torch.stack([(count > 0).double(), count / k]), moved / len(points), squares / len(points)


def _gained(balls: _Balls, beyond: Tensor) -> Tensor:
    """How many balls reach a point once a centre is gone that do not hold it now: (part, n), of which are just `beyond`."""
    point, ball = beyond.nonzero(as_tuple=True)
    gone = point[:, None] * beyond.shape[1] + balls.near[ball]
    gained = torch.zeros(beyond.numel(), dtype=torch.float64, device=beyond.device)
    return gained.index_add_(0, gone.flatten(), gained.new_ones(gone.numel())).view(beyond.shape)


def _coverage(real: Tensor, fake: Tensor, k: int) -> Tensor:
    """(1,)."""
    nearest = torch.cat([squared.amin(1) for squared in squared_distances(real, fake)])
    return (nearest <= _balls(real, k).reach).double().mean()[None].cpu()
