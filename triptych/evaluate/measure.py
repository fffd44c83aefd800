"""`evaluate`: every measure that a model's capabilities allow, on one split."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from triptych.capabilities import Encodes, HasDensity, HasPosterior
from triptych.core import Estimate, GenerativeModel
from triptych.data import Split, fixed_subset
from triptych.errors import TriptychError
from triptych.evaluate.latent import active_units, as_learned, codes, reconstruction_error, round_trip
from triptych.evaluate.likelihood import as_bits_per_dim, bits_per_dim, elbo, importance_nll
from triptych.evaluate.posterior_sampling import LARGEST_LATENT, marginal_log_likelihood
from triptych.modes import in_eval_mode


@in_eval_mode
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

    A conditional model is given the split's attributes; nll_unconditional is its nll where none of them is known.

    Args:
        k: draws of the importance-weighted bound, where the likelihood is a lower bound.
        draws: of the dequantisation's noise, where it is exact: above 1 adds bits_per_dim_k<draws>.
        images: examples that likelihoods, the bound and its parts among them, and round trips are measured on (a fixed
            subset of the split); other measures of codes take up to 10,000.
        hmc: examples for the paper's estimator by Hamiltonian Monte Carlo, where the latent space is small enough.
        seed: of all noise.
    """
    noise = torch.Generator(model.device).manual_seed(seed)
    rows = fixed_subset(len(data), _AT_ONCE)
    stored, context = data[rows], context_of(model, data, rows)
    few, given = stored[:images], context_of(model, data, rows[:images])
    exact = isinstance(model, HasDensity) and model.bound == "exact"
    results: dict[str, Estimate] = {}
    if isinstance(model, HasPosterior):
        results |= elbo(model, few, context=given, generator=noise)
    if isinstance(model, HasDensity):
        results |= _likelihoods(model, few, given, 1 if exact else k, noise)
    if exact and draws > 1 and model.codec.noisy:
        results[f"bits_per_dim_k{draws}"] = bits_per_dim(model, few, context=given, k=draws, generator=noise)
    if isinstance(model, Encodes) and exact:
        results |= round_trip(model, few, context=given)
    elif isinstance(model, Encodes):
        results["active_units"] = active_units(codes(model, stored, context=context, read=as_learned(model)))
        results["reconstruction_rmse"] = reconstruction_error(model, stored, context=context)
    if hmc and isinstance(model, HasPosterior) and model.latent_dim <= LARGEST_LATENT:
        few, given = stored[:hmc], context_of(model, data, rows[:hmc])
        results["log_marginal_hmc"] = marginal_log_likelihood(model, few, context=given, generator=noise)
    return results


def context_of(model: GenerativeModel, data: Split, rows: np.ndarray) -> Tensor | None:
    """What a conditional model is told of these rows of a split: their attributes as context (n, K); None for other models.

    Attributes that the split does not have are unknown.
    """
    if model.conditions is None:
        return None
    context: Tensor = model.conditions.of_data(data.attributes, data.kinds, data.classes, len(data))[rows]
    return context


def _likelihoods(
    model: GenerativeModel, stored: Tensor, context: Tensor | None, k: int, noise: torch.Generator
) -> dict[str, Estimate]:
    found = {"nll": importance_nll(model, stored, context=context, k=k, generator=noise)}
    with contextlib.suppress(TriptychError):  # only pixels have bits per dimension
        found["bits_per_dim"] = as_bits_per_dim(model, found["nll"])
    if context is not None:
        found["nll_unconditional"] = importance_nll(model, stored, k=k, generator=noise)
    return found


_AT_ONCE = 10_000  # examples scored at most: the standard error is small by then
