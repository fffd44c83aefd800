"""Measures: likelihoods (`likelihood`), reconstruction, latent use and round trips (`latent`), and the quality of samples
(`quality`) by distances of sets (`distances`, `sliced`, `structure`, `parzen`) of `features`, and by `neighbours`. Single
examples are scored (`scoring`) against a `reference` of normal ones; `detection` says how well.

A model's capabilities decide which of them apply. What is measured of a set is an `Estimate` (value, standard error, n), or
a dictionary of them by name; `parzen_log_likelihood` gives the σ that it chose beside it, `sample_quality` the floors, and
`typicality` a p-value in its place. What is measured of each example (statistics, scores, p-values, distances, complexities)
is a tensor.
"""

from triptych.checking import guard
from triptych.evaluate.balls import precision_recall
from triptych.evaluate.compression import complexity
from triptych.evaluate.detection import auroc, p_values, typicality
from triptych.evaluate.distances import frechet_distance, kernel_distance
from triptych.evaluate.efficientnet import EfficientNet
from triptych.evaluate.feature_sets import features
from triptych.evaluate.features import Features, Inception, Learned, Pixels, learn_features
from triptych.evaluate.gaussian import Gaussian
from triptych.evaluate.latent import active_units, reconstruction_error, round_trip
from triptych.evaluate.likelihood import bits_per_dim, elbo, importance_nll
from triptych.evaluate.local import Local
from triptych.evaluate.measure import evaluate
from triptych.evaluate.neighbours import (
    copied,
    distinct_outputs,
    nearest_ratio,
    nearest_training,
    two_sample_test,
)
from triptych.evaluate.parzen import parzen_log_likelihood
from triptych.evaluate.posterior_sampling import marginal_log_likelihood
from triptych.evaluate.quality import Quality, sample_quality
from triptych.evaluate.reference import Reference, learn_reference
from triptych.evaluate.scoring import joint, scores, statistics
from triptych.evaluate.sliced import sliced_wasserstein
from triptych.evaluate.structure import diversity, ms_ssim

__all__ = [
    "EfficientNet",
    "Features",
    "Gaussian",
    "Inception",
    "Learned",
    "Local",
    "Pixels",
    "Quality",
    "Reference",
    "active_units",
    "auroc",
    "bits_per_dim",
    "complexity",
    "copied",
    "distinct_outputs",
    "diversity",
    "elbo",
    "evaluate",
    "features",
    "frechet_distance",
    "importance_nll",
    "joint",
    "kernel_distance",
    "learn_features",
    "learn_reference",
    "marginal_log_likelihood",
    "ms_ssim",
    "nearest_ratio",
    "nearest_training",
    "p_values",
    "parzen_log_likelihood",
    "precision_recall",
    "reconstruction_error",
    "round_trip",
    "sample_quality",
    "scores",
    "sliced_wasserstein",
    "statistics",
    "two_sample_test",
    "typicality",
]

guard(__name__, infinite=("auroc", "joint", "p_values", "scores", "typicality"))
