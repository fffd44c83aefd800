"""What nearest neighbours show: copies of the training set, repetitions, whether two sets differ.

Shapes: real (n, d), fake (m, d), train and held_out (·, d), or examples of any equal shape, which are flattened; Euclidean
distances, float64 inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.distances import paired_rows
from triptych.evaluate.spread import Traced, by_halves, jeffreys, of_mean


def nearest_training(fake: Tensor, train: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """The `count` nearest training examples of each fake one, nearest first.

    Returns:
        distances (m, count), float64, 0 for an exact copy; indices into train (m, count).

    Raises:
        TriptychError: for fewer than `count` training examples, values that are not finite floats, or two widths.

    >>> nearest_training(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]]))[1]
    tensor([[1]])
    """
    fake, train = paired_rows(fake, train, at_least=1)
    if not 1 <= count <= len(train):
        raise TriptychError(f"count should be from 1 to the {len(train)} training examples, got {count}")
    indices = torch.cat([squared.topk(count, largest=False).indices for squared in squared_distances(fake, train)])
    # |x|² + |y|² − 2x·y cannot tell a copy from a near one: the differences themselves can
    parts = zip(fake.split(1000), indices.split(1000), strict=True)
    exact = [(x.double()[:, None] - train[rows].double()).norm(dim=2) for x, rows in parts]
    distances, order = torch.cat(exact).sort(dim=1, stable=True)
    return distances, indices.gather(1, order)


def nearest_ratio(fake: Tensor, train: Tensor, held_out: Tensor, *, generator: torch.Generator | None = None) -> Estimate:
    """Mean distance from a fake example to the nearest training example, over that to the nearest held-out one.

    1 for new samples, below 1 for a model that remembers, 0 for copies. It is the ratio of the two means: the mean of
    ratios is above 1 for new samples too (π/2 in the plane), and infinite after one held-out copy. Both sets are cut to
    one size, with `generator`, since a larger set has nearer neighbours. The standard error is over draws of all three
    sets, from random halves of them (`spread.by_halves`): one example may be next to many fakes. Where every fake is itself
    a held-out example it is infinite, and NaN where each is a training example as well: nothing was held out.

    Raises:
        TriptychError: for fewer than 2 fakes, values that are not finite floats, or two widths.

    >>> train, held_out = torch.randn(100, 5), torch.randn(100, 5)
    >>> nearest_ratio(train[:10], train, held_out).value
    0.0
    """
    fake, train, held_out = paired_rows(fake, train, held_out, at_least=1)
    if len(fake) < 2:
        raise TriptychError(f"nearest_ratio needs at least 2 samples, got {len(fake)}: draw more")
    size = min(len(train), len(held_out))
    sets = fake, *(subsample(x, size, generator) for x in (train, held_out))

    def ratio(*sets: Tensor) -> Tensor:
        near, far = (nearest_training(sets[0], x)[0].mean() for x in sets[1:])
        return (near / far)[None]

    value, deviations = ratio(*sets).item(), by_halves(ratio, *sets, least=1)[:, 0]
    return Traced.of_deviations(value, deviations if math.isfinite(value) else deviations * math.nan, len(fake))


def copied(fake: Tensor, held_out: Tensor, train: Tensor) -> Estimate:
    """Share of fakes less than a third as far from their nearest training example as from the next, above held-out data's.

    The rule is Yoon et al.'s (2023) for memorised samples. It finds copies among any number of training
    examples, where `nearest_ratio` hardly does: as many as are held out seldom contain the copied ones. 0 for new samples, 1
    for a model that returns its training examples. Copies of examples that occur twice are not found.

    Returns:
        the difference of shares; n counts fakes. The standard error is over draws of fakes and held-out data, the training
        set held still, from either share's `jeffreys` error: not 0 where no copy was seen.

    Raises:
        TriptychError: for fewer than 3 training examples, values that are not finite floats, or two widths.

    >>> train, held_out = torch.randn(100, 5), torch.randn(100, 5)
    >>> copied(train[:10], held_out, train).value > 0.5
    True
    """
    if len(train) < 3:
        raise TriptychError(f"copied needs at least 3 training examples, got {len(train)}: give more")
    found = []
    for x in (fake, held_out):
        distances, _ = nearest_training(x, train, count=2)
        found.append((distances[:, 0] < distances[:, 1] / 3).double())
    shares = [float(x.mean()) for x in found]
    least = math.hypot(*(jeffreys(share, len(x)) for share, x in zip(shares, found, strict=True)))
    deviations = torch.cat([of_mean(found[0]), -of_mean(found[1])])
    return Traced.of_deviations(shares[0] - shares[1], deviations, len(fake), least)


def distinct_outputs(fake: Tensor, real: Tensor) -> Estimate:
    """How many equally likely outputs coincide as often as n fakes do: n(n − 1)/2 over the pairs that coincide, plus 1.

    The birthday paradox read backwards (Arora & Zhang 2017): K outputs, each with tiny noise, make n²/2K pairs. The 1 takes
    away the bias of a reciprocal of few: E[1/(X + 1)] = (1 − e^−λ)/λ of a Poisson X. Two fakes
    coincide where they are nearer than a third of the median from a real example to its nearest other, and than a tenth of
    fakes' root-mean-square distance. The first alone would identify what lies on a smooth surface, such as the means of a
    VAE with two latent dimensions; the second alone, data that come in tight groups.

    Returns:
        the number, at most n(n − 1)/2, where no two coincide; n counts fakes, as many as there are real examples. The
        standard error is over draws of fakes: with c_i fakes that coincide with the i-th, Var(pairs) = Σ (c_i − c̄)² − pairs,
        the jackknife's with its second order counted once, and at least `pairs`, as of rare events, and for the reciprocal
        K² Var(pairs) / (pairs (pairs + 2)). Where most of few pairs are of one output, how often that comes decides: of 22
        pairs among 64 fakes, a tenth of them alike, it is .73 of the spread, from 300 fakes on .92 and more.

    Raises:
        TriptychError: for fewer than 3 examples, values that are not finite floats, or two widths.

    >>> three = torch.eye(3).repeat(40, 1)
    >>> round(distinct_outputs(three, torch.randn(120, 3)).value)
    3
    """
    fake, real = paired_rows(fake, real, at_least=3)
    n = min(len(fake), len(real))
    fake, real = fake[:n], real[:n]
    # root mean squares of the distances of all pairs: √2 times the standard deviation, over all values
    among_reals, among_fakes = (math.sqrt(2 * float(x.double().var(0).sum())) for x in (real, fake))
    median = float(nearest_training(real, real, count=2)[0][:, 1].median())
    near = max(min(median / 3, among_fakes / 10), 1e-6 * among_reals)  # never 0: copies are a rounding error apart
    with_each = torch.cat([(squared <= near**2).sum(1) - 1 for squared in squared_distances(fake, fake)]).double()
    pairs = float(with_each.sum()) / 2
    least = max(pairs, 1.0)
    variance = max(float((with_each - with_each.mean()).square().sum()) - pairs, least)
    value = n * (n - 1) / 2 / (pairs + 1)
    return Estimate(value, value * math.sqrt(variance / (least * (pairs + 2))), n)


def two_sample_test(
    real: Tensor, fake: Tensor, *, folds: int = 5, generator: torch.Generator | None = None
) -> dict[str, Estimate]:
    """Held-out accuracy of telling real from fake (Lopez-Paz & Oquab 2017): ½ where they cannot be told apart.

    Equally many of each are taken, with `generator`.

    Returns:
        c2st_1nn       by the nearest other example (leave one out); below ½ where samples are copies of real data
        c2st_logistic  by logistic regression on standardised features, cross-validated

        The standard errors are over draws of both sets. Two examples that are each other's nearest agree or disagree
        together; two that train the classifier that judges the other are right or wrong together: at ½ the binomial error is
        √(1 + 2/π) = 1.28 times too small for it (`_shared_training`).

    Raises:
        TriptychError: for fewer examples than folds, folds < 2, values that are not finite floats, or two widths.

    >>> two_sample_test(torch.randn(30, 2), torch.randn(30, 2) + 50)["c2st_1nn"].value
    1.0
    """
    if folds < 2:
        raise TriptychError(f"folds should be at least 2, got {folds}: 5 is usual")
    real, fake = paired_rows(real, fake, at_least=folds)
    size = min(len(real), len(fake))
    # real, fake, real, fake, …: a fold takes as many of each, and no tie of distances goes to one set alone
    pooled = torch.stack([subsample(x, size, generator, shuffle=True) for x in (real, fake)], dim=1).flatten(0, 1)
    return {"c2st_1nn": _nearest_agrees(pooled), "c2st_logistic": _logistic(pooled, folds)}


def _nearest_agrees(pooled: Tensor) -> Estimate:
    """How often the nearest other example comes from the same set; sets alternate in `pooled`."""
    found, start = [], 0
    for squared in squared_distances(pooled, pooled):
        squared.diagonal(start).fill_(math.inf)
        found.append(squared.argmin(1))
        start += len(squared)
    nearest, index = torch.cat(found), torch.arange(len(pooled), device=pooled.device)
    agrees = (nearest % 2 == index % 2).double()
    # two examples that are each other's nearest agree or disagree together: their covariance is their variance
    mutual = nearest[nearest] == index
    deviations = (agrees - agrees.mean()) * (1 + mutual.double()).sqrt() / len(pooled)
    value = agrees.mean().item()
    return Traced.of_deviations(value, deviations, len(pooled), jeffreys(value, len(pooled)))


def _logistic(pooled: Tensor, folds: int) -> Estimate:
    """Held-out accuracy of logistic regression; sets alternate in `pooled`, in random order."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    row = np.arange(len(pooled))
    by_fold = PredefinedSplit(row // 2 % folds)
    x = pooled.double().cpu()
    scores = cross_val_predict(classifier, x.numpy(), row % 2, cv=by_fold, method="decision_function")
    label = torch.from_numpy(2.0 * (row % 2) - 1)
    margin = label * torch.from_numpy(scores)
    correct = torch.where(margin == 0, label < 0, margin > 0).double()  # a score of 0 is the first set's
    value, deviations = correct.mean().item(), correct - correct.mean()
    variance = deviations.square().sum()
    swelling = (1 + _shared_training(x, margin, folds) / variance).sqrt() if variance else torch.tensor(1.0)
    return Traced.of_deviations(value, deviations * swelling / len(x), len(x), jeffreys(value, len(x)))


def _shared_training(x: Tensor, margin: Tensor, folds: int) -> Tensor:
    """Σ_{i≠j} Cov(c_i, c_j), c whether a cross-validated logistic regression is right about an example.

    Each of two examples trains the classifier that judges the other. Example j moves the score of i by g_ij r_j, g = XᵀH⁻¹X
    with the penalised likelihood's Hessian H and r = 1 − p the held-out residual (Koh & Liang 2017, eq. 2), and whether i is
    right by that times the density of i's margin at 0:

        Cov(c_i, c_j) = δ(margin_i) δ(margin_j) g_ij² r_i r_j,  δ a normal density of .3 s_i,  s_i² = Σ_{j≠i} g_ij² r_j²

    Where both sets are of one distribution this is 2/π of the binomial variance, for any n and d; where they are not, few
    margins are near 0, and nothing is left of it.

    Args:
        x: the sets pooled (N, d).
        margin: label · score of each, held out (N,).
    """
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-12)
    if x.shape[1] > len(x):
        x = torch.linalg.qr(x.T).R.T  # the same inner products
    penalty = torch.ones(x.shape[1] + 1, dtype=x.dtype)
    penalty[-1] = 1e-9  # scikit-learn's of the weights; of the constant none
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    p, r = margin.sigmoid(), (-margin).sigmoid()
    across = torch.linalg.solve(x.T @ (x * (p * r)[:, None]) + penalty.diag(), x.T).T  # H⁻¹x (N, d + 1)
    own = (across * x).sum(1)  # g_ii
    # H without i itself (Sherman & Morrison), and of a fold less
    held_out = math.sqrt(folds / (folds - 1)) / (1 - p * r * own).clamp_min(1e-3)
    moved = ((across @ (x.T @ (x * r.square()[:, None]))) * across).sum(1) - (own * r).square()
    width = _WIDTH * held_out * moved.clamp_min(1e-24).sqrt()
    weight = torch.exp(-0.5 * (margin / width).square()) / (width * math.sqrt(2 * math.pi)) * held_out * r
    product = across.T @ (x * weight[:, None])  # tr of its square is Σ_ij w_i w_j g_ij²
    shared = (product * product.T).sum() - (weight * own).square().sum()
    return (1 + _WIDTH**2) * shared.clamp_min(0)  # the density's own width, made good where all margins are about 0


def squared_distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """|a_i − b_j|² (part, m) in float64, for a part of the rows a at a time, in order."""
    origin = b.double().mean(0)  # small norms lose less in their difference
    b = b.double() - origin
    size_b = b.square().sum(1)
    for part in a.split(max(1, _AT_ONCE // len(b))):
        x = part.double() - origin
        yield torch.addmm(x.square().sum(1)[:, None] + size_b, x, b.T, alpha=-2).clamp_(min=0)


def subsample(x: Tensor, size: int, generator: torch.Generator | None, *, shuffle: bool = False) -> Tensor:
    """`size` of the examples at random, in random order; x as it is where it has no more, unless `shuffle`."""
    if len(x) <= size and not shuffle:
        return x
    device = generator.device if generator is not None else None
    return x[torch.randperm(len(x), generator=generator, device=device)[:size].to(x.device)]


_WIDTH = 0.3  # of the density of margins, in their own standard errors
_AT_ONCE = 8_000_000  # distances that are held
LOOKED_AMONG = 10_000  # training examples among which copies are looked for
