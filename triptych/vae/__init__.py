"""Variational autoencoders: Kingma & Welling, Auto-Encoding Variational Bayes (2013), arXiv 1312.6114.

Read `model` (the two networks), `likelihoods` (p(x|z)), `estimators` (the bounds), `schedules` (β, warm-up, free bits),
then `reparameterisation` (section 2.4's samplers) and `gradients` (why they matter).
"""

from triptych.vae.model import VAE

__all__ = ["VAE"]
