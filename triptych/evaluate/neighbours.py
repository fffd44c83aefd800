"""What nearest neighbours show: fidelity and variety, copies of the training set, repetitions, whether two sets differ.

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


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> dict[str, Estimate]:
    """Fidelity and variety from balls that reach from each example to its k-th neighbour in its own set.

    Returns:
        precision  share of fakes in a real ball; recall share of reals in a fake ball (Kynkäänniemi et al. 2019)
        density    real balls that a fake lies in, over k: 1 for equal distributions, and above 1 in dense places
        coverage   share of real balls with a fake in them (Naeem et al. 2020); 1 − 2⁻ᵏ for equal distributions

        The standard error is from the spread over 10 parts of both sets (fewer of small ones, NaN under 2k + 2 examples):
        the balls move with the data, and the binomial error, which holds them still, can be three times too small.

    Raises:
        TriptychError: for k or fewer examples, k < 1, values that are not finite floats, or two widths.

    >>> x = torch.arange(8.0)[:, None]
    >>> precision_recall(x, x + 100, k=2)["precision"]
    Estimate(value=0.0, stderr=0.0, n=8)
    """
    if k < 1:
        raise TriptychError(f"k should be at least 1, got {k}: 3 is usual for precision, 5 for density")
    real, fake = paired_rows(real, fake, at_least=k + 1)
    values = _shares(real, fake, k)
    count = min(10, len(real) // (k + 1), len(fake) // (k + 1))
    parts = torch.stack([_shares(r, f, k) for r, f in zip(_parts(real, count), _parts(fake, count), strict=True)])
    spread = parts.std(0) / math.sqrt(count) if count > 1 else torch.full_like(values, math.nan)
    names, sizes = ("precision", "recall", "density", "coverage"), (len(fake), len(real)) * 2
    found = zip(values.tolist(), spread.tolist(), sizes, strict=True)
    return {name: Estimate(*numbers) for name, numbers in zip(names, found, strict=True)}


def _shares(real: Tensor, fake: Tensor, k: int) -> Tensor:
    """Precision, recall, density, coverage: (4,)."""
    # an example itself is one of the k + 1 nearest
    radius_real, radius_fake = (
        torch.cat([squared.kthvalue(k + 1).values for squared in squared_distances(x, x)]) for x in (real, fake)
    )
    balls = []  # for each fake, how many real balls hold it
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    nearest = torch.full_like(radius_real, math.inf)  # squared, from each real example to a fake one
    start = 0
    for squared in squared_distances(fake, real):
        balls.append((squared <= radius_real).sum(1))
        recalled |= (squared <= radius_fake[start : start + len(squared), None]).any(0)
        nearest = torch.minimum(nearest, squared.amin(0))
        start += len(squared)
    held = torch.cat(balls)
    return torch.stack([v.double().mean() for v in (held > 0, recalled, held / k, nearest <= radius_real)]).cpu()


def _parts(x: Tensor, count: int) -> list[Tensor]:
    """x in `count` parts of nearly equal size, in a fixed random order: data may come sorted."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return [x[part.to(x.device)] for part in order.tensor_split(count)]


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
    one size, with `generator`, since a larger set has nearer neighbours. The standard error is over fakes. Where every fake
    is itself a held-out example it is infinite, and NaN where each is a training example as well: nothing was held out.

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
    near, far = (nearest_training(fake, subsample(x, size, generator))[0][:, 0] for x in (train, held_out))
    ratio = near.mean() / far.mean()
    spread = (near - ratio * far).std() / far.mean()  # the delta method's
    return Estimate(ratio.item(), spread.item() / math.sqrt(len(fake)), len(fake))


def copied(fake: Tensor, held_out: Tensor, train: Tensor) -> Estimate:
    """Share of fakes less than a third as far from their nearest training example as from the next, above held-out data's.

    The rule is Yoon et al.'s (2023) for memorised samples. It finds copies among any number of training
    examples, where `nearest_ratio` hardly does: as many as are held out seldom contain the copied ones. 0 for new samples, 1
    for a model that returns its training examples. Copies of examples that occur twice are not found.

    Returns:
        the difference of shares, with its binomial standard error; n counts fakes.

    Raises:
        TriptychError: for fewer than 3 training examples, values that are not finite floats, or two widths.

    >>> train, held_out = torch.randn(100, 5), torch.randn(100, 5)
    >>> copied(train[:10], held_out, train).value > 0.5
    True
    """
    if len(train) < 3:
        raise TriptychError(f"copied needs at least 3 training examples, got {len(train)}: give more")
    shares = []
    for x in (fake, held_out):
        distances, _ = nearest_training(x, train, count=2)
        shares.append(float((distances[:, 0] < distances[:, 1] / 3).double().mean()))
    variances = [share * (1 - share) / len(x) for share, x in zip(shares, (fake, held_out), strict=True)]
    return Estimate(shares[0] - shares[1], math.sqrt(sum(variances)), len(fake))


def distinct_outputs(fake: Tensor, real: Tensor) -> Estimate:
    """How many equally likely outputs would coincide as often as n fakes do: n(n − 1)/2 over the pairs that coincide.

    The birthday paradox read backwards (Arora & Zhang 2017): K outputs, each with tiny noise, make n²/2K pairs. Two fakes
    coincide where they are nearer than a third of the median from a real example to its nearest other, and than a tenth of
    fakes' root-mean-square distance. The first alone would identify what lies on a smooth surface, such as the means of a
    VAE with two latent dimensions; the second alone, data that come in tight groups.

    Returns:
        the number, at most n(n − 1)/2, where no two coincide; n counts fakes, as many as there are real examples.

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
    pairs = (sum(int((squared <= near**2).sum()) for squared in squared_distances(fake, fake)) - n) / 2
    value = n * (n - 1) / 2 / max(pairs, 1)
    return Estimate(value, value / math.sqrt(max(pairs, 1)), n)


def two_sample_test(
    real: Tensor, fake: Tensor, *, folds: int = 5, generator: torch.Generator | None = None
) -> dict[str, Estimate]:
    """Held-out accuracy of telling real from fake (Lopez-Paz & Oquab 2017): ½ where they cannot be told apart.

    Equally many of each are taken, with `generator`.

    Returns:
        c2st_1nn       by the nearest other example (leave one out); below ½ where samples are copies of real data
        c2st_logistic  by logistic regression on standardised features, cross-validated

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
    variance = ((agrees - agrees.mean()).square() * (1 + mutual.double())).sum() / len(pooled) ** 2
    return Estimate(agrees.mean().item(), variance.sqrt().item(), len(pooled))


def _logistic(pooled: Tensor, folds: int) -> Estimate:
    """Held-out accuracy of logistic regression; sets alternate in `pooled`, in random order."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    row = np.arange(len(pooled))
    by_fold = PredefinedSplit(row // 2 % folds)
    predicted = cross_val_predict(classifier, pooled.double().cpu().numpy(), row % 2, cv=by_fold)
    return Estimate.of(torch.as_tensor(predicted == row % 2).float())


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


_AT_ONCE = 8_000_000  # distances that are held
LOOKED_AMONG = 10_000  # training examples among which copies are looked for
