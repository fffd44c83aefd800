"""What the latent variables are used for: active units, and how well a code gives its picture back."""

from __future__ import annotations

import torch
from torch import Tensor

from triptych.core import Encodes, Estimate, GenerativeModel, require

ACTIVE = 0.01  # variance of the posterior mean over data above which a unit is active (Burda et al. 2016, section 5)


@torch.no_grad()
def codes(model: GenerativeModel, stored: Tensor, *, batch: int = 500) -> Tensor:
    """z of stored data, encoded without noise: (n, L)."""
    encoder = require(model, Encodes)
    parts = stored.split(batch)
    return torch.cat([encoder.encode(model.codec.centre(model.check_event(p)).to(model.device)).cpu() for p in parts])


def active_units(z: Tensor, threshold: float = ACTIVE) -> Estimate:
    """How many latent dimensions the data move: #{j : Var_x(z_j) > 0.01} of the codes z (n, L).

    The standard error is a bootstrap's over data (100 resamples).
    """
    generator = torch.Generator().manual_seed(0)
    resampled = torch.stack(
        [_active(z[torch.randint(len(z), (len(z),), generator=generator)], threshold) for _ in range(100)]
    )
    return Estimate(float(_active(z, threshold)), resampled.std().item(), len(z))


def _active(z: Tensor, threshold: float) -> Tensor:
    return (z.var(0, correction=0) > threshold).sum().float()


@torch.no_grad()
def reconstruction_error(model: GenerativeModel, stored: Tensor, *, batch: int = 500) -> Estimate:
    """Root mean square of decode(encode(x)) − x for each datum, in model coordinates (a picture's range is 1)."""
    encoder = require(model, Encodes)
    errors = []
    for part in stored.split(batch):
        x = model.codec.centre(model.check_event(part)).to(model.device)
        again = model.decode(encoder.encode(x))
        errors.append((again - x).flatten(1).square().mean(1).sqrt().double().cpu())
    return Estimate.of(torch.cat(errors))
