"""Likelihoods of stored data: the bound, and its importance-weighted tightening.

Shapes: stored (n, *E), as a split gives them; results over n data.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from triptych.codec import negative_log_prob
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


def importance_nll(
    model: GenerativeModel,
    stored: Tensor,
    *,
    k: int | None = None,
    generator: torch.Generator | None = None,
    batch: int = 100,
    progress: Callable[[int], object] | None = None,
) -> Estimate:
    """−log p(x) in nats, with k draws where that tightens it (`triptych.codec.negative_log_prob`).

    Of a lower bound it is −log 1/k Σ w, an upper bound on −log p(x) that falls with k (Burda et al. 2016); of an exact
    density of dequantised pixels the same over draws of their noise.

    Args:
        k: draws; by default 1000 of a lower bound, 1 of an exact density.

    The standard error is over data; the estimator's own bias, of order Var(w)/k, is not in it.

    >>> model = VAE((4,), latent_dim=2, hidden=(8,), likelihood="gaussian", mean="linear")
    >>> importance_nll(model, torch.zeros(10, 4), k=10).n
    10
    """
    if k is None:
        k = 1 if require(model, HasDensity).bound == "exact" else 1000
    nats = []
    for part in negative_log_prob(model, stored, k=k, generator=generator, batch=batch):
        nats.append(part)
        if progress:
            progress(len(part))
    return Estimate.of(torch.cat(nats))


def _coordinates(model: GenerativeModel, stored: Tensor, generator: torch.Generator | None, batch: int):
    """Batches of x as the model scores them."""
    for part in stored.split(batch):
        yield model.codec.encode(model.check_event(part).to(model.device), generator)
