"""The paper's bounds and their gradients' estimators: L^A, L^B, importance-weighted, and the score function.

    L^A = 1/S Σ_s log p(x, z_s) − log q(z_s|x)                        AEVB eq. 6
    L^B = −KL(q(z|x) ‖ p(z)) + 1/S Σ_s log p(x|z_s)                   AEVB eq. 7
    L_k = log 1/k Σ_i w_i,  w = p(x, z) / q(z|x)                      Burda et al. 2016

with z = μ + σ ⊙ ε. L^B has the KL in closed form and typically less variance (AEVB, section 2.3), but not near the optimum:
where q(z|x) = p(z|x), L^A is log p(x) whatever is drawn. Every function returns a `Bound`: what to maximise, (B,) nats, and
its two parts for the log. A context is given to p(x|z) and q(z|x), not to p(z). Where the KL has no closed form (a learned
prior, or noise that is not Gaussian), L^B estimates it from its draws.

Shapes: S draws, B batch, L latent_dim, K context_dim. x (B, *E) · z (S, B, L) · mu, log_sigma (B, L) · context (B, K)
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from triptych.capabilities import HasPosterior
from triptych.core import StandardNormal
from triptych.vae.posteriors import NormalNoise, noise_of
from triptych.vae.schedules import free_bits


class Bound(NamedTuple):
    """A lower bound on log p(x) (B,), and its parts (B,): log p(x|z) and the KL as estimated; all in nats."""

    value: Tensor
    log_likelihood: Tensor
    kl: Tensor


class Draws(NamedTuple):
    """z = μ + σ ⊙ ε of a posterior: mu, log_sigma (B, L), epsilon and z (S, B, L)."""

    mu: Tensor
    log_sigma: Tensor
    epsilon: Tensor
    z: Tensor


class Under(HasPosterior):
    """A model's q(z|x) and p(x|z) with another p(z), for a bound that is not to use the model's own.

    Args:
        model: with a posterior.
        prior: p(z), with log_prob of (B, L).
    """

    def __init__(self, model: HasPosterior, prior: nn.Module):
        self.model, self.prior, self.noise = model, prior, noise_of(model)

    def posterior(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.model.posterior(x, context)

    def log_likelihoods(self, x: Tensor, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.model.log_likelihoods(x, z, context)

    def observe(self, z: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        return self.model.observe(z, context, generator=generator)


def draw(
    model: HasPosterior,
    x: Tensor,
    context: Tensor | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
    shared: bool = False,
) -> Draws:
    """So many draws z ~ q(z|x), differentiable in μ and σ.

    Args:
        shared: the same ε for each example, whose draws then do not depend on the others.
    """
    mu, log_sigma = model.posterior(x, context)
    shape = (1, mu.shape[1]) if shared else mu.shape
    epsilon = noise_of(model).draw(draws, *shape, generator=generator, device=mu.device).expand(draws, *mu.shape)
    return Draws(mu, log_sigma, epsilon, mu + log_sigma.exp() * epsilon)


def log_terms(
    model: HasPosterior,
    x: Tensor,
    context: Tensor | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
    shared: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x|z), log p(z) and log q(z|x) of fresh draws, each (S, B) nats."""
    q = draw(model, x, context, draws, generator, shared)
    return model.log_likelihoods(x, q.z, context), model.log_prior(q.z), _log_q(model, q)


def kl_to_prior(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = −½ (1 + log σ² − μ² − σ²), per example and dimension: (B, L) nats (AEVB, appendix B)."""
    return 0.5 * (mu.square() + (2 * log_sigma).exp() - 1) - log_sigma


def bound_b(
    model: HasPosterior,
    x: Tensor,
    context: Tensor | None = None,
    *,
    draws: int = 1,
    weight: float = 1.0,
    floor: float = 0.0,
    closed: bool = True,
    generator: torch.Generator | None = None,
) -> Bound:
    """L^B: the KL in closed form where there is one; `weight` (β) multiplies it.

    Args:
        closed: with False the KL is estimated from the same draws as the likelihood, which is L^A.
        floor: λ of free bits, in nats for each dimension; for the whole of a KL that is estimated from draws.

    >>> from triptych import VAE
    >>> bound_b(VAE((3,), 2), torch.zeros(4, 3)).value.shape
    torch.Size([4])
    """
    q = draw(model, x, context, draws, generator)
    log_px = model.log_likelihoods(x, q.z, context).mean(0)
    kl = _kl(model, q, closed)
    return Bound(log_px - weight * free_bits(kl, floor), log_px, kl.sum(1))


bound_a = partial(bound_b, closed=False)
"""L^A, with the arguments of L^B."""


def bound_k(model: HasPosterior, x: Tensor, context: Tensor | None = None, *, draws: int, weight: float = 1.0) -> Bound:
    """L_k with k = draws; `weight` tempers log p(z) − log q(z|x) inside the weights (1 is the paper's)."""
    log_px, log_pz, log_qz = log_terms(model, x, context, draws)
    kl = log_qz - log_pz
    value = (log_px - weight * kl).logsumexp(0) - math.log(draws)
    return Bound(value, log_px.mean(0), kl.mean(0))


def score_function(
    model: HasPosterior, x: Tensor, context: Tensor | None = None, *, draws: int = 1, weight: float = 1.0
) -> Bound:
    """L^B with the naive gradient: f(z) ∇ log q(z|x) for the encoder, f = log p(x|z) (AEVB, section 2.2).

    The value is L^B's; only the gradient differs: draws are cut off from the encoder, and each draw's log q is weighted
    by f less the mean of the other draws' (leave-one-out; one draw has no others, and so no baseline).
    """
    q = draw(model, x, context, draws)
    z = q.z.detach()
    log_px = model.log_likelihoods(x, z, context)
    log_qz = _log_q(model, q._replace(epsilon=(z - q.mu) * (-q.log_sigma).exp()))
    signal = log_px.detach()
    if draws > 1:
        signal = (signal - signal.mean(0)) * draws / (draws - 1)
    surrogate = (signal * log_qz).mean(0)
    kl = _kl(model, q).sum(1)
    value = log_px.mean(0) - weight * kl + surrogate - surrogate.detach()
    return Bound(value, log_px.mean(0), kl)


def _log_q(model: HasPosterior, q: Draws) -> Tensor:
    """log q(z|x) of the draws, (S, B) nats."""
    return noise_of(model).log_prob(q.epsilon) - q.log_sigma.sum(-1)


def _kl(model: HasPosterior, q: Draws, closed: bool = True) -> Tensor:
    """KL(q(z|x) ‖ p(z)) by dimension (B, L) in closed form, or as a whole (B, 1) from the draws."""
    if closed and isinstance(model.prior, StandardNormal) and isinstance(noise_of(model), NormalNoise):
        return kl_to_prior(q.mu, q.log_sigma)
    return (_log_q(model, q) - model.log_prior(q.z)).mean(0)[:, None]
