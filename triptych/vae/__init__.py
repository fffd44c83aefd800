"""Variational autoencoders: Kingma & Welling, Auto-Encoding Variational Bayes (2013), arXiv 1312.6114.

Read `model` (the two networks), `likelihoods` (p(x|z)), `posteriors` (the noise of q(z|x)), `estimators` (the bounds),
`schedules` (β, warm-up, free bits) and `defaults` (the parts that an event's shape suggests).
"""

from triptych.checking import guard
from triptych.vae.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian, Likelihood
from triptych.vae.model import VAE
from triptych.vae.posteriors import LaplaceNoise, LogisticNoise, Noise, NormalNoise

__all__ = [
    "VAE",
    "Bernoulli",
    "DiscretisedLogistic",
    "Gaussian",
    "LaplaceNoise",
    "Likelihood",
    "LogisticNoise",
    "Noise",
    "NormalNoise",
]

guard(__name__)
