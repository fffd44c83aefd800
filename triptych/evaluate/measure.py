"""`evaluate`: every measure that a model's capabilities allow, on one split."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from triptych.codec import as_bits_per_dim, bits_per_dim
from triptych.core import Encodes, Estimate, GenerativeModel, HasDensity
from triptych.evaluate.exactness import round_trip
from triptych.evaluate.latent import active_units, codes, reconstruction_error
from triptych.evaluate.likelihood import elbo, importance_nll
from triptych.evaluate.posterior_sampling import LARGEST_LATENT, marginal_log_likelihood
from triptych.vae import VAE

if TYPE_CHECKING:
    from triptych.data import Split


def evaluate(
    model: GenerativeModel,
    data: Split,
    *,
    k: int = 1000,
    draws: int = 1,
    images: int = 500,
    hmc: int = 100,
    seed: int = 0,
) -> dict[str, Estimate]:
    """All measures by name, each with standard error and n.

    Args:
        k: draws of the importance-weighted bound, where the likelihood is a lower bound.
        draws: of the dequantisation's noise, where it is exact: above 1 adds bits_per_dim_k<draws>.
        images: data that likelihoods and round trips are measured on (some of the split, always the same).
        hmc: data for the paper's estimator by Hamiltonian Monte Carlo, where the latent space is small enough.
        seed: of all noise.
    """
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    stored = data[some(len(data), _AT_ONCE)]
    exact = isinstance(model, HasDensity) and model.bound == "exact"
    results: dict[str, Estimate] = {}
    if isinstance(model, VAE):
        results |= elbo(model, stored, generator=generator)
    if isinstance(model, HasDensity):
        results["nll"] = importance_nll(model, stored[:images], k=1 if exact else k, generator=generator)
        if model.codec.reading in ("dequantise", "centre"):
            results["bits_per_dim"] = as_bits_per_dim(model, results["nll"])
    if exact and draws > 1 and model.codec.reading == "dequantise":
        results[f"bits_per_dim_k{draws}"] = bits_per_dim(model, stored[:images], k=draws, generator=generator)
    if isinstance(model, Encodes):
        results |= round_trip(model, stored[:images]) if exact else _of_the_codes(model, stored)
    if hmc and isinstance(model, VAE) and model.latent_dim <= LARGEST_LATENT:
        results["log_marginal_hmc"] = marginal_log_likelihood(model, stored[:hmc], generator=generator)
    return results


def _of_the_codes(model: GenerativeModel, stored: Tensor) -> dict[str, Estimate]:
    """How much of z is used, and what is lost on the way through it."""
    return {"active_units": active_units(codes(model, stored)), "reconstruction_rmse": reconstruction_error(model, stored)}


def some(n: int, count: int) -> np.ndarray:
    """`count` of n indices, always the same and in no order of the data's own: the first of a sorted set are no sample."""
    return np.random.default_rng(0).permutation(n)[:count]


def digest(stored: Tensor) -> str:
    """Eight hexadecimal digits of the SHA-256 of stored data: what tells one set from another."""
    values = stored.detach().cpu().contiguous()
    return hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode() + values.numpy().tobytes()).hexdigest()[:8]


_AT_ONCE = 10_000  # data scored at the most: the standard error is small by then
