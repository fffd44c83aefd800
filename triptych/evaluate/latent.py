"""What the latent variables are used for, active units, and how well a code gives its example back: round trips.

Shapes: stored (n, *E), as a split gives them; context (n, K) or (1, K), or None for "unknown"; z (n, L).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from triptych.capabilities import Encodes, require
from triptych.core import Estimate, GenerativeModel
from triptych.errors import not_finite
from triptych.modes import in_eval_mode
from triptych.progress import tracked
from triptych.vae.posteriors import ACTIVE

Read: TypeAlias = Callable[[Tensor], Tensor]  # stored values (n, *E) -> x
WORST = 1e-3  # the fraction of all values that lies beyond the reported percentile


def batches(
    model: GenerativeModel, stored: Tensor, context: Tensor | None, batch: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Stored values with their context, on the model's device, up to `batch` examples at a time."""
    context = model.check_context(context, len(stored))
    for start in range(0, len(stored), batch):
        here = slice(start, start + batch)
        yield model.check_event(stored[here]).to(model.device), None if context is None else context[here]


@torch.no_grad()
@in_eval_mode
def codes(
    model: GenerativeModel,
    stored: Tensor,
    *,
    context: Tensor | None = None,
    read: Read | None = None,
    batch: int = 500,
) -> Tensor:
    """z of stored data, (n, L).

    Args:
        read: stored values -> x; None: without noise, as editing does (`Codec.centre`).
    """
    encoder, read = require(model, Encodes), model.codec.centre if read is None else read
    parts = tracked(batches(model, stored, context, batch), "encoding", -(-len(stored) // batch))
    z = torch.cat([encoder.encode(read(part), c).cpu() for part, c in parts])
    if not z.isfinite().all():
        raise not_finite("codes")
    return z


def as_learned(model: GenerativeModel) -> Read:
    """How data are read to measure what codes are used for: as the model learned them, with always the same noise."""
    return partial(model.codec.as_learned, generator=torch.Generator(model.device).manual_seed(0))


def active_units(z: Tensor) -> Estimate:
    """How many latent dimensions the data move: #{j : Var_x(z_j) > 0.01} of the codes z (n, L) (Burda et al. 2016).

    Of data as the model learned them: binarised ones for a Bernoulli, of which `evaluate` takes the codes.
    The standard error is over draws of examples, the model held still: a bootstrap's (100 resamples).
    """

    def active(z: Tensor) -> Tensor:
        return (z.var(0, correction=0) > ACTIVE).sum().float()

    n, generator = len(z), torch.Generator().manual_seed(0)
    resampled = torch.stack([active(z[torch.randint(n, (n,), generator=generator)]) for _ in range(100)])
    return Estimate(active(z).item(), resampled.std().item(), n)


def reconstructions(
    model: GenerativeModel, stored: Tensor, context: Tensor | None, read: Read, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(x, decode(encode(x))) of stored data, in parts of up to `batch` examples."""
    encoder = require(model, Encodes)
    for part, c in batches(model, stored, context, batch):
        x = read(part)
        yield x, model.decode(encoder.encode(x, c), c)


@torch.no_grad()
@in_eval_mode
def reconstruction_error(model: GenerativeModel, stored: Tensor, *, context: Tensor | None = None) -> Estimate:
    """Root mean square of decode(encode(x)) − x for each example, in model coordinates (a picture's range is 1).

    x are data as the model learned them, at the centre of a bin, or binarised for a Bernoulli. The standard error is over
    draws of examples, the model held still.
    """
    differences = (x_hat - x for x, x_hat in reconstructions(model, stored, context, as_learned(model), 500))
    return Estimate.of(torch.cat([d.flatten(1).square().mean(1).sqrt().double().cpu() for d in differences]))


@torch.no_grad()
@in_eval_mode
def round_trip(model: GenerativeModel, stored: Tensor, *, context: Tensor | None = None) -> dict[str, Estimate]:
    """|decode(encode(x)) − x| over all values of n examples, encoded without noise as editing does, in model coordinates.

    Returns:
        round_trip_p999  its 99.9th percentile; round_trip_max its largest; neither has a standard error (NaN)
        bytes_recovered  for pixels: the share of stored values that come back as they were, at the codec's depth
    """
    codec, worst, recovered = model.codec, torch.zeros(0), []
    beyond = math.ceil(WORST * len(stored) * math.prod(model.event_shape))
    for x, x_hat in reconstructions(model, stored, context, codec.centre, 100):
        errors = (x_hat - x).abs().nan_to_num(nan=math.inf).flatten().cpu()
        worst = torch.cat([worst, errors])
        worst = worst.topk(min(beyond, len(worst))).values  # only the worst are held
        if codec.is_picture:
            same = (codec.decode(x_hat.nan_to_num()) == codec.decode(x)) & x_hat.isfinite()
            recovered.append(same.flatten(1).double().mean(1).cpu())
    found = {"round_trip_p999": worst[-1], "round_trip_max": worst[0]}
    estimates = {name: Estimate(value.item(), math.nan, len(stored)) for name, value in found.items()}
    return estimates | ({"bytes_recovered": Estimate.of(torch.cat(recovered))} if recovered else {})
