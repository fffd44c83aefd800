"""Generative adversarial networks: Goodfellow et al. 2014, arXiv 1406.2661.

Read `adversarial` (what every pair has), `model` and `progressive` (the pairs), `games` (what each side minimises),
`penalties` (what keeps the discriminator smooth), then `networks` and `layers`, and `augment` (making do with few pictures).
"""

from triptych.gan.adversarial import Adversarial
from triptych.gan.model import GAN, MaxoutGAN
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
