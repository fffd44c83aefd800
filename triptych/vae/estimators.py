"""The paper's bounds and their gradients' estimators: L^A, L^B, importance-weighted, and the score function.

    L^A = 1/S Σ_s log p(x, z_s) − log q(z_s|x)                        AEVB eq. 6
    L^B = −KL(q(z|x) ‖ p(z)) + 1/S Σ_s log p(x|z_s)                   AEVB eq. 7, the lower variance
    L_k = log 1/k Σ_i w_i,  w = p(x, z) / q(z|x)                      Burda et al. 2016

with z = μ + σ ⊙ ε. Every function gives a `Bound`: what to maximise, (B,) nats, and its two parts for the log.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from triptych.core import standard_normal
from triptych.vae.model import VAE, log_normal
from triptych.vae.schedules import free_bits


class Bound(NamedTuple):
    """A lower bound on log p(x) (B,), and its parts (B,): log p(x|z) and the KL as estimated; all in nats."""

    value: Tensor
    log_likelihood: Tensor
    kl: Tensor


def kl_to_prior(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = −½ (1 + log σ² − μ² − σ²), per datum and dimension: (B, L) nats (AEVB, appendix B)."""
    return 0.5 * (mu.square() + (2 * log_sigma).exp() - 1) - log_sigma


def bound_a(
    model: VAE, x: Tensor, *, draws: int = 1, weight: float = 1.0, generator: torch.Generator | None = None
) -> Bound:
    """L^A: the KL estimated from the same draws as the likelihood; `weight` (β) multiplies it."""
    log_px, log_pz, log_qz = model.log_terms(x, draws, generator)
    kl = (log_qz - log_pz).mean(0)
    return Bound(log_px.mean(0) - weight * kl, log_px.mean(0), kl)


def bound_b(
    model: VAE,
    x: Tensor,
    *,
    draws: int = 1,
    weight: float = 1.0,
    floor: float = 0.0,
    generator: torch.Generator | None = None,
) -> Bound:
    """L^B: the KL in closed form; `weight` (β) multiplies it, `floor` (λ) gives free bits."""
    mu, log_sigma = model.posterior(x)
    epsilon = standard_normal(draws, *mu.shape, generator=generator, device=mu.device)
    log_px = model.log_likelihoods(x, mu + log_sigma.exp() * epsilon).mean(0)
    kl = kl_to_prior(mu, log_sigma)
    return Bound(log_px - weight * free_bits(kl, floor), log_px, kl.sum(1))


def bound_k(model: VAE, x: Tensor, *, draws: int, weight: float = 1.0, generator: torch.Generator | None = None) -> Bound:
    """L_k with k = draws; `weight` tempers log p(z) − log q(z|x) inside the weights (1 is the paper's)."""
    log_px, log_pz, log_qz = model.log_terms(x, draws, generator)
    kl = log_qz - log_pz
    value = (log_px - weight * kl).logsumexp(0) - math.log(draws)
    return Bound(value, log_px.mean(0), kl.mean(0))


def score_function(
    model: VAE, x: Tensor, *, draws: int = 1, weight: float = 1.0, generator: torch.Generator | None = None
) -> Bound:
    """L^B with the naive gradient: f(z) ∇ log q(z|x) for the encoder, f = log p(x|z) (AEVB, section 2.2).

    The value is L^B's; only the gradient differs: draws are cut off from the encoder, and each draw's log q is weighted
    by f less the mean of the other draws' (leave-one-out; with one draw there is no baseline).
    """
    mu, log_sigma = model.posterior(x)
    epsilon = standard_normal(draws, *mu.shape, generator=generator, device=mu.device)
    z = (mu + log_sigma.exp() * epsilon).detach()
    log_px = model.log_likelihoods(x, z)
    log_qz = log_normal((z - mu) * (-log_sigma).exp()) - log_sigma.sum(-1)
    signal = log_px.detach()
    if draws > 1:
        signal = (signal - signal.mean(0)) * draws / (draws - 1)
    surrogate = (signal * log_qz).mean(0)
    kl = kl_to_prior(mu, log_sigma).sum(1)
    value = log_px.mean(0) - weight * kl + surrogate - surrogate.detach()
    return Bound(value, log_px.mean(0), kl)
