"""What joins the families: learned priors p(z) (`priors`), each a part that fits where N(0, I) was, VAEs whose decoder a
discriminator sharpens (`sharpened`), and encoders of GANs (`encoded`).

DensityPrior    any model of vectors with a density: a Gaussian, or a flow (`gaussian_prior`, `flow_prior`)
MixturePrior    a mixture of Gaussians
VampPrior       a mixture of the posteriors of learned pseudo-inputs
SharpenedVAE    a VAE with a discriminator
EncodedGAN      a GAN with an encoder that learned to invert its generator
"""

from triptych.checking import guard
from triptych.compose.encoded import EncodedGAN
from triptych.compose.priors import DensityPrior, MixturePrior, VampPrior, flow_prior, gaussian_prior
from triptych.compose.sharpened import SharpenedVAE

__all__ = ["DensityPrior", "EncodedGAN", "MixturePrior", "SharpenedVAE", "VampPrior", "flow_prior", "gaussian_prior"]

guard(__name__)
