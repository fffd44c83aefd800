"""Measures: likelihoods (`likelihood`), reconstruction and latent use (`latent`), round trips (`exactness`).

What a model can do decides which.

Every result is an `Estimate`: value, standard error, n.
"""

from triptych.codec import bits_per_dim
from triptych.evaluate.exactness import round_trip
from triptych.evaluate.latent import active_units, reconstruction_error
from triptych.evaluate.likelihood import elbo, importance_nll
from triptych.evaluate.measure import evaluate
from triptych.evaluate.posterior_sampling import marginal_log_likelihood

__all__ = [
    "active_units",
    "bits_per_dim",
    "elbo",
    "evaluate",
    "importance_nll",
    "marginal_log_likelihood",
    "reconstruction_error",
    "round_trip",
]
