"""What the latent variables are used for: active units, and how well a code gives its example back.

Shapes: stored (n, *E), as a split gives them; context (n, K) or (1, K), or None for "unknown"; z (n, L).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import torch
from torch import Tensor

from triptych.core import Estimate, GenerativeModel, encoded

ACTIVE = 0.01  # variance of the posterior mean over data above which a unit is active (Burda et al. 2016, section 5)


@torch.no_grad()
def codes(model: GenerativeModel, stored: Tensor, *, context: Tensor | None = None, batch: int = 500) -> Tensor:
    """z of stored data, encoded without noise: (n, L)."""
    return torch.cat([z.cpu() for _, z in encoded(model, stored, context=context, batch=batch)])


def active_units(z: Tensor, threshold: float = ACTIVE) -> Estimate:
    """How many latent dimensions the data move: #{j : Var_x(z_j) > 0.01} of the codes z (n, L).

    The standard error is a bootstrap's over examples (100 resamples).
    """
    generator = torch.Generator().manual_seed(0)
    resampled = torch.stack(
        [_active(z[torch.randint(len(z), (len(z),), generator=generator)], threshold) for _ in range(100)]
    )
    return Estimate(float(_active(z, threshold)), resampled.std().item(), len(z))


def _active(z: Tensor, threshold: float) -> Tensor:
    return (z.var(0, correction=0) > threshold).sum().float()


def reconstructions(
    model: GenerativeModel, stored: Tensor, *, context: Tensor | None = None, batch: int = 500
) -> Iterator[tuple[Tensor, Tensor]]:
    """(x, decode(encode(x))) of stored data, encoded without noise, in parts of up to `batch` examples."""
    context = model.check_context(context, len(stored))
    contexts = repeat(None) if context is None else context.split(batch)
    # not strict: the contexts of an unconditional model do not end
    for (x, z), c in zip(encoded(model, stored, context=context, batch=batch), contexts, strict=False):
        yield x, model.decode(z, c)


@torch.no_grad()
def reconstruction_error(
    model: GenerativeModel, stored: Tensor, *, context: Tensor | None = None, batch: int = 500
) -> Estimate:
    """Root mean square of decode(encode(x)) − x for each example, in model coordinates (a picture's range is 1)."""
    pairs = reconstructions(model, stored, context=context, batch=batch)
    return Estimate.of(torch.cat([(x_hat - x).flatten(1).square().mean(1).sqrt().double().cpu() for x, x_hat in pairs]))
