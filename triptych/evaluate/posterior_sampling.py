"""The paper's estimator of the marginal likelihood by Hamiltonian Monte Carlo (AEVB, appendix D).

Draw z from p(z|x) by HMC, fit a density q to half the draws, and with the other half

    p(x) ≈ ( 1/S Σ_s q(z_s) / (p(z_s) p(x|z_s)) )⁻¹,     E_p(z|x)[q(z) / p(x, z)] = 1 / p(x).

Shapes: S chains for each of B examples, L latent_dim; z (S, B, L).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from triptych.capabilities import HasPosterior, require
from triptych.core import Estimate, GenerativeModel
from triptych.errors import TriptychError
from triptych.modes import in_eval_mode
from triptych.randomness import standard_normal

LARGEST_LATENT = 4  # "under 5 dimensions": q's mismatch grows with the dimension, and the estimator's variance with it
ACCEPTANCE = 0.9
BURN_IN, DRAWS, LEAPFROG = 60, 20, 10  # transitions that are discarded and kept, and the steps of each
LogDensity: TypeAlias = Callable[[Tensor], Tensor]  # log p(x, z) of z (S, B, L), in nats: (S, B)


@in_eval_mode
def marginal_log_likelihood(
    model: GenerativeModel,
    stored: Tensor,
    *,
    context: Tensor | None = None,
    chains: int = 32,
    generator: Generator | None = None,
) -> Estimate:
    """log p(x | context) in nats by HMC samples of the posterior; the standard error is over examples.

    Args:
        chains: run side by side for each example, started from q(z|x); the first 60 transitions, while the step size is
            adapted to 90 % acceptance, are discarded, the next 20 kept.

    Raises:
        TriptychError: for 5 or more latent dimensions, where the paper's estimator is not reliable, and for a model without
            a posterior.
    """
    if model.latent_dim > LARGEST_LATENT:
        raise TriptychError(
            f"the HMC estimator needs fewer than 5 latent dimensions, this model has {model.latent_dim}: use importance_nll"
        )
    posterior = require(model, HasPosterior)
    context = model.check_context(context, len(stored))
    x = model.codec.encode(model.check_event(stored).to(model.device), generator)

    def log_joint(z: Tensor) -> Tensor:
        return posterior.log_likelihoods(x, z, context) + posterior.log_prior(z)

    with torch.no_grad():
        mu, log_sigma = posterior.posterior(x, context)
    z = posterior_draws(log_joint, mu, log_sigma.exp(), chains, generator)  # (draws, S, B, L)
    fitted, held_out = z[:, : chains // 2].flatten(0, 1), z[:, chains // 2 :].flatten(0, 1)
    log_ratio = _gaussian_fit(fitted, held_out) - log_joint(held_out)
    log_p = math.log(len(held_out)) - log_ratio.logsumexp(0)
    return Estimate.of(log_p.detach().double().cpu() - model.codec.log_scale(model.event_shape))


def posterior_draws(
    log_joint: LogDensity, mu: Tensor, sigma: Tensor, chains: int, generator: Generator | None = None
) -> Tensor:
    """States of every chain after burn-in, (DRAWS, chains, B, L), from N(μ, σ²) (B, L) at the start."""
    z = mu + sigma * standard_normal(chains, *mu.shape, generator=generator, device=mu.device)
    # the encoder's σ preconditions: one unit of the scaled coordinates is about one posterior standard deviation
    step = torch.full((1, len(mu), 1), 0.2, device=z.device) * sigma
    kept = []
    for transition in range(BURN_IN + DRAWS):
        z, accepted = _transition(log_joint, z, step, generator)
        if transition < BURN_IN:
            rate = accepted.mean(0)[None, :, None]  # for each example, over its chains
            step = step * torch.exp(0.3 * (rate - ACCEPTANCE))
        else:
            kept.append(z)
    return torch.stack(kept)


def _transition(log_joint: LogDensity, z: Tensor, step: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """One HMC proposal by leapfrog integration, and the Metropolis decision; the acceptances (S, B)."""
    p = standard_normal(*z.shape, generator=generator, device=z.device)
    energy, gradient = _energy(log_joint, z)
    start, proposal = energy + 0.5 * p.square().sum(-1), z
    for _ in range(LEAPFROG):
        p = p - 0.5 * step * gradient
        proposal = proposal + step * p
        energy, gradient = _energy(log_joint, proposal)
        p = p - 0.5 * step * gradient
    log_accept = (start - energy - 0.5 * p.square().sum(-1)).nan_to_num(-math.inf)
    u = torch.rand(log_accept.shape, generator=generator, device=z.device)
    accepted = u.log() < log_accept
    return torch.where(accepted[..., None], proposal, z), accepted.float()


def _energy(log_joint: LogDensity, z: Tensor) -> tuple[Tensor, Tensor]:
    """−log p(x, z) (S, B) and its gradient with respect to z."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        energy = -log_joint(z)
        (gradient,) = torch.autograd.grad(energy.sum(), z)
    return energy.detach(), gradient


def _gaussian_fit(fitted: Tensor, at: Tensor) -> Tensor:
    """log q at (S', B, L) of a full Gaussian fitted to (S, B, L): (S', B)."""
    mean = fitted.mean(0)
    centred = (fitted - mean).double()
    jitter = 1e-8 * torch.eye(fitted.shape[-1], dtype=torch.float64, device=at.device)
    covariance = torch.einsum("sbi,sbj->bij", centred, centred) / (len(fitted) - 1) + jitter
    q = torch.distributions.MultivariateNormal(torch.zeros_like(covariance[0, 0]), covariance)
    return q.log_prob((at - mean).double()).to(at.dtype)
