"""What a few samples and data show of a model, as numbers for the rules."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from triptych.capabilities import HasDensity, HasPosterior
from triptych.core import GenerativeModel
from triptych.data import Splits, fixed_subset
from triptych.doctor.columns import as_numbers, compare_columns
from triptych.errors import check_size
from triptych.evaluate import Pixels, active_units, copied, distinct_outputs, importance_nll, nearest_ratio, two_sample_test
from triptych.evaluate.latent import as_learned, codes
from triptych.evaluate.measure import context_of
from triptych.evaluate.neighbours import LOOKED_AMONG
from triptych.modes import in_eval_mode

COMPARABLE = 30
"""Examples of either kind below which their distances to samples show little."""
VALUES = 4096  # of an example, by which samples and data are told apart
SPREAD = 10  # samples below which their standard deviation shows little


@in_eval_mode
def examine(model: GenerativeModel, splits: Splits, n: int = 200, seed: int = 0) -> dict[str, float]:
    """What a few samples and data show, numbers by name, for `diagnose`.

        spread_ratio      mean standard deviation of samples over that of data, value by value; of 10 samples or more
        distinct_outputs  how many different outputs would repeat as samples do (`evaluate.distinct_outputs`); of 30 or more
        copied            share of samples that copy a single training example (`evaluate.copied`), by raw values
        nearest_ratio     distance of samples to training data over that to as many held-out data, by raw values; not finite
                          where every sample is itself a held-out example
        told_apart        held-out accuracy of a classifier of samples and held-out data, the better of two, by at most 4096
                          raw values (`evaluate.two_sample_test`); of 30 or more of each
        active_units      latent dimensions that a model with a posterior uses
        nll_gap           nats of held-out data above those of training data, over the standard deviation of the latter
        distance of …, mean of …   of the three columns of a table (channels of other floats) whose samples are worst, each
                          with its standard error and n: see `columns.Column`
        side, full_side, alpha   how far a model that grows has grown, and the weight of its newest layer

    A conditional model is given the attributes of the training data.

    Args:
        n: samples, and examples of either kind; fewer where there are fewer.

    Raises:
        TriptychError: for fewer than 2 samples, which are compared with one another.
    """
    check_size("the number of samples", n, 2**31, least=2)
    rows = {name: fixed_subset(len(splits[name]), n) for name in ("train", "test")}
    train, test = (splits[name][rows[name]] for name in rows)
    of_train, of_test = (context_of(model, splits[name], rows[name]) for name in rows)
    of_samples = context_of(model, splits["train"], np.resize(rows["train"], n))
    noise = torch.Generator().manual_seed(seed)
    found = model.growth() | as_numbers(compare_columns(model, splits["train"], n, seed))
    samples = model.codec.decode(model.sample(n, context=of_samples, generator=noise)).cpu()
    found |= _distances(model, splits, (samples, train, test), noise)
    if isinstance(model, HasPosterior):
        found["active_units"] = active_units(codes(model, train, context=of_train, read=as_learned(model))).value
    if isinstance(model, HasDensity):
        known = importance_nll(model, train, context=of_train, k=1, generator=noise)
        new = importance_nll(model, test, context=of_test, k=1, generator=noise)
        found["nll_gap"] = (new.value - known.value) / max(known.stderr * known.n**0.5, 1e-12)
    return found


def _distances(
    model: GenerativeModel, splits: Splits, drawn: tuple[Tensor, Tensor, Tensor], noise: torch.Generator
) -> dict[str, float]:
    """What values of samples, training data and held-out data show: pixels as they are, floats in the model's own scale."""

    def seen(stored: Tensor) -> Tensor:
        finite = stored.is_floating_point() and bool(stored.isfinite().all())
        return Pixels()(model.codec.centre(stored) if finite else stored)

    fake, real, held_out = map(seen, drawn)
    found = {}
    if len(fake) >= SPREAD:
        spread, data_spread = (x.std(0, correction=0).mean() for x in (fake, real))
        found["spread_ratio"] = (spread / data_spread.clamp(min=1e-12)).item()
    if not fake.isfinite().all():
        return found
    repeated = len(real.unique(dim=0)) < len(real) / 2  # where data repeat, a sample that equals one is not a copy
    if min(len(real), len(held_out)) >= COMPARABLE and fake.shape[1] > 1 and not repeated:
        found["nearest_ratio"] = nearest_ratio(fake, real, held_out, generator=noise).value
    # points of a curve are near to one another without being few
    if min(len(real), len(fake)) >= COMPARABLE and model.latent_dim > 1 and not repeated:
        found["distinct_outputs"] = distinct_outputs(fake, real).value
    if min(len(held_out), len(fake)) >= COMPARABLE:
        found["told_apart"] = _told_apart(held_out, fake, noise)
    if len(splits["train"]) > 2:
        among = seen(splits["train"][fixed_subset(len(splits["train"]), LOOKED_AMONG)])
        found["copied"] = copied(fake, held_out, among).value
    return found


def _told_apart(real: Tensor, fake: Tensor, noise: torch.Generator) -> float:
    """How well a classifier tells examples (n, d) apart that it has not seen: by a random part of many values, as a fit to
    all those of large pictures takes minutes."""
    values = torch.randperm(real.shape[1], generator=noise)[:VALUES]
    return max(found.value for found in two_sample_test(real[:, values], fake[:, values], generator=noise).values())
