"""Generative adversarial networks: Goodfellow et al. 2014, arXiv 1406.2661.

Read `model` (the pair), `games` (what each side minimises), `penalties` (what keeps the discriminator smooth), then
`networks` (perceptrons, maxout, convolutions) and `augment` (what lets few pictures suffice).
"""

from triptych.gan.model import GAN

__all__ = ["GAN"]
