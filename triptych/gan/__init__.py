"""Generative adversarial networks: Goodfellow et al. 2014, arXiv 1406.2661.

Read `model` (the pair, and what every pair has), `progressive` (one that grows), `games` (what each side minimises),
`penalties` (what keeps the discriminator smooth), then `networks` and `layers`, and `augment` (making do with few pictures).
"""

from triptych.checking import guard
from triptych.gan.model import GAN, Adversarial, MaxoutGAN
from triptych.gan.networks import (
    ConvDiscriminator,
    ConvGenerator,
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
)
from triptych.gan.progressive import ProgressiveGAN

__all__ = [
    "GAN",
    "Adversarial",
    "ConvDiscriminator",
    "ConvGenerator",
    "MLPDiscriminator",
    "MLPGenerator",
    "MaxoutDiscriminator",
    "MaxoutGAN",
    "ProgressiveGAN",
]

guard(__name__)
