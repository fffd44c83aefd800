"""What repeats: samples that copy training data, and samples that are few different ones.

Shapes: fake (n, d), held_out (m, d), train (N, d), real (M, d), or examples of any equal shape, which are flattened.
"""

from __future__ import annotations

import math

from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.distances import paired_rows
from triptych.evaluate.neighbours import nearest_training, squared_distances

LOOKED_AMONG = 10_000  # training examples among which copies are looked for


def copied(fake: Tensor, held_out: Tensor, train: Tensor) -> Estimate:
    """Share of fakes less than a third as far from their nearest training example as from the next, above held-out data's.

    The rule is Yoon et al.'s (2023) for memorised samples. It finds copies among any number of training
    examples, where `nearest_ratio` hardly does: as many as are held out seldom contain the copied ones. 0 for new samples, 1
    for a model that returns its training examples. Copies of examples that occur twice are not found.

    Returns:
        the difference of shares, with its binomial standard error; n counts fakes.

    Raises:
        TriptychError: for fewer than 3 training examples, values that are not finite floats, or two widths.

    >>> import torch
    >>> train, held_out = torch.randn(100, 5), torch.randn(100, 5)
    >>> copied(train[:10], held_out, train).value > 0.5
    True
    """
    if len(train) < 3:
        raise TriptychError(f"copied needs at least 3 training examples, got {len(train)}: give more")
    (p, n), (q, m) = ((_next_to_one(x, train), len(x)) for x in (fake, held_out))
    return Estimate(p - q, math.sqrt(p * (1 - p) / n + q * (1 - q) / m), n)


def _next_to_one(x: Tensor, train: Tensor) -> float:
    distances, _ = nearest_training(x, train, count=2)
    return float((distances[:, 0] < distances[:, 1] / 3).double().mean())


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

    >>> import torch
    >>> three = torch.eye(3).repeat(40, 1)
    >>> round(distinct_outputs(three, torch.randn(120, 3)).value)
    3
    """
    fake, real = paired_rows(fake, real, at_least=3)
    n = min(len(fake), len(real))
    fake, real = fake[:n], real[:n]
    apart = _root_mean_square(real)
    # never 0: copies of one another are a rounding error apart
    near = max(min(_median_nearest(real) / 3, _root_mean_square(fake) / 10), 1e-6 * apart)
    pairs = (sum(int((squared <= near**2).sum()) for squared in squared_distances(fake, fake)) - n) / 2
    value = n * (n - 1) / 2 / max(pairs, 1)
    return Estimate(value, value / math.sqrt(max(pairs, 1)), n)


def _root_mean_square(x: Tensor) -> float:
    """Of the distances of all pairs: √2 times the standard deviation, over all values."""
    return math.sqrt(2 * float(x.double().var(0).sum()))


def _median_nearest(x: Tensor) -> float:
    distances, _ = nearest_training(x, x, count=2)
    return float(distances[:, 1].median())
