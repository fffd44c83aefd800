"""Likelihoods of stored data: the bound, and its importance-weighted tightening.

Shapes: stored (n, *E), as a split gives them; results over n data.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from triptych.core import Estimate, GenerativeModel, HasDensity, require
from triptych.vae import VAE
from triptych.vae.estimators import bound_b


@torch.no_grad()
def elbo(
    model: VAE, stored: Tensor, *, draws: int = 1, generator: torch.Generator | None = None, batch: int = 500
) -> dict[str, Estimate]:
    """E_q[log p(x|z)] − KL(q ‖ p) in nats (L^B, AEVB eq. 7), with its two parts.

    Args:
        draws: of z for each datum; their noise averages out over data, so 1 is enough for a large set.

    Returns:
        {"elbo", "log_likelihood", "kl"}.
    """
    parts = []
    for x in _coordinates(model, stored, generator, batch):
        bound = bound_b(model, x, draws=draws, generator=generator)
        parts.append(torch.stack([bound.value, bound.log_likelihood, bound.kl]).double().cpu())
    values = torch.cat(parts, dim=1)
    return {name: Estimate.of(v) for name, v in zip(("elbo", "log_likelihood", "kl"), values, strict=True)}


@torch.no_grad()
def importance_nll(
    model: GenerativeModel,
    stored: Tensor,
    *,
    k: int = 1000,
    generator: torch.Generator | None = None,
    batch: int = 100,
    progress: Callable[[int], object] | None = None,
) -> Estimate:
    """−log 1/k Σ w in nats: an upper bound on −log p(x), tighter with k (Burda et al. 2016), exact for an exact model.

    The standard error is over data; the estimator's own bias, of order Var(w)/k, is not in it.

    >>> model = VAE((4,), latent_dim=2, hidden=(8,), likelihood="gaussian", mean="linear")
    >>> importance_nll(model, torch.zeros(10, 4), k=10).n
    10
    """
    density = require(model, HasDensity)
    nats = []
    for x in _coordinates(model, stored, generator, batch):
        nats.append(-density.log_prob(x, k=k, generator=generator).double().cpu())
        if progress:
            progress(len(x))
    return Estimate.of(torch.cat(nats))


def _coordinates(model: GenerativeModel, stored: Tensor, generator: torch.Generator | None, batch: int):
    """Batches of x as the model scores them."""
    for part in stored.split(batch):
        yield model.codec.encode(model.check_event(part).to(model.device), generator)
