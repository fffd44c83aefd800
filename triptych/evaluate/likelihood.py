"""Likelihoods of stored data: nats and bits per dimension, the bound and its parts, and its importance-weighted tightening.

Shapes: stored (n, *E), as a split gives them; context (n, K) or (1, K), or None for "unknown"; results over n examples.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from triptych.capabilities import HasDensity, HasPosterior, require
from triptych.core import Estimate, GenerativeModel
from triptych.errors import check_size, not_finite
from triptych.evaluate.latent import batches
from triptych.modes import in_eval_mode
from triptych.vae.estimators import bound_b


def bits_per_dim(
    model: GenerativeModel, pixels: Tensor, *, context: Tensor | None = None, k: int = 1, generator: Generator | None = None
) -> Estimate:
    """Bits per dimension of stored pixels: −log p(x) / (D ln 2), plus the bit depth where p is a density.

    Lower is better. It is an upper bound on the true code length whenever log p is a lower bound, and for dequantised
    pixels always, a flow's included (Theis et al. 2016, eq. 2); `k` draws tighten either (`negative_log_prob`).

    Args:
        pixels: uint8 (n, *E).
        k: draws per example: of the model's own bound, or of the dequantisation's noise.

    Raises:
        TriptychError: for a model without density, and for data that are not pixels or are binarised on the way in.
    """
    model.codec.added_bits(require(model, HasDensity).measure)  # refused before the work, not after it
    return as_bits_per_dim(model, Estimate.of(negative_log_prob(model, pixels, context, k, generator)))


def as_bits_per_dim(model: GenerativeModel, nll: Estimate) -> Estimate:
    """Nats of −log p(x) per example in model coordinates -> bits per dimension of the stored pixels."""
    added = model.codec.added_bits(require(model, HasDensity).measure)
    return nll.scaled(1 / (math.prod(model.event_shape) * math.log(2)), added)


@torch.no_grad()
@in_eval_mode
def negative_log_prob(
    model: GenerativeModel,
    stored: Tensor,
    context: Tensor | None = None,
    k: int = 1,
    generator: Generator | None = None,
    batch: int = 128,
) -> Tensor:
    """−log p(x | context) in nats of stored data: (n,), float64. Of floats, which may be standardised inside, it is the
    density of the stored values.

    A lower bound takes its own k draws. A density that is exact at x, but not at the pixel, whose bin x was drawn from, is
    averaged over k draws of that noise: −log 1/k Σ p((v + u_i) / 2^b), which falls towards −log of the bin's mean density
    (eq. 2 of Theis et al. 2016 is k = 1; Burda et al. 2016 for k). Without noise k changes nothing, and costs nothing.
    """
    density = require(model, HasDensity)
    check_size("k", k, 2**31)
    exact = density.bound == "exact"
    times = k if exact and model.codec.noisy else 1
    nats = []
    for part, c in batches(model, stored, context, batch):
        log_p = torch.tensor(-math.inf, dtype=torch.float64, device=model.device)
        for _ in range(times):  # one after another: memory is that of one
            x = model.codec.encode(part, generator)
            log_p = torch.logaddexp(log_p, density.log_prob(x, c, k=1 if exact else k, generator=generator).double())
        nats.append((math.log(times) - log_p).cpu())
    return known(torch.cat(nats)) + model.codec.log_scale(model.event_shape)


def known(values: Tensor, what: str = "log-likelihoods") -> Tensor:
    """The values themselves if none is NaN, else a `TriptychError`."""
    if values.isnan().any():
        raise not_finite(what)
    return values


def importance_nll(
    model: GenerativeModel,
    stored: Tensor,
    *,
    context: Tensor | None = None,
    k: int | None = None,
    generator: Generator | None = None,
    batch: int = 100,
) -> Estimate:
    """−log p(x | context) in nats, with k draws where that tightens it (`negative_log_prob`).

    Of a lower bound it is −log 1/k Σ w, an upper bound on −log p(x) that falls with k (Burda et al. 2016); of an exact
    density of dequantised pixels the same over draws of their noise.

    Args:
        k: draws; by default 1000 of a lower bound, 1 of an exact density.

    The standard error is over examples; the estimator's own bias, of order Var(w)/k, is not in it.

    >>> from triptych.vae import VAE
    >>> importance_nll(VAE((4,), latent_dim=2), torch.zeros(10, 4), k=10).n
    10
    """
    if k is None:
        k = 1 if require(model, HasDensity).bound == "exact" else 1000
    return Estimate.of(negative_log_prob(model, stored, context, k, generator, batch))


@torch.no_grad()
@in_eval_mode
def elbo(
    model: GenerativeModel,
    stored: Tensor,
    *,
    context: Tensor | None = None,
    draws: int = 1,
    generator: Generator | None = None,
) -> dict[str, Estimate]:
    """E_q[log p(x|z)] − KL(q ‖ p) in nats (L^B, AEVB eq. 7), with its two parts.

    Args:
        draws: of z for each example; their noise averages out over examples, so 1 is enough for a large set.

    Returns:
        {"elbo", "log_likelihood", "kl"}.

    Raises:
        TriptychError: for a model without a posterior.
    """
    posterior, parts = require(model, HasPosterior), []
    for part, c in batches(model, stored, context, 500):
        bound = bound_b(posterior, model.codec.encode(part, generator), context=c, draws=draws, generator=generator)
        parts.append(torch.stack([bound.value, bound.log_likelihood, bound.kl]).double().cpu())
    values = known(torch.cat(parts, dim=1))
    values[:2] -= model.codec.log_scale(model.event_shape)
    return {name: Estimate.of(v) for name, v in zip(("elbo", "log_likelihood", "kl"), values, strict=True)}
