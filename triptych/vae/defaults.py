"""The parts of a VAE that an event's shape suggests: what `VAE(event_shape)` and the command line build without being told.

(C, H, W)   8-bit pictures. Grey with sides up to 28: perceptrons and a Bernoulli, as in the paper; others:
            convolutions and a discretised logistic
the rest    floats: perceptrons and a Gaussian with a linear mean
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from triptych.nets import MLP, ConvDecoder, ConvEncoder
from triptych.vae.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian, Likelihood

LATENT_DIM = 32
NEARLY_BINARY = 0.3


def small_grey(event_shape: Sequence[int]) -> bool:
    """Whether pixels are no more than those of the paper's pictures: without colour, sides up to 28.

    >>> small_grey((1, 28, 28)), small_grey((3, 8, 8)), small_grey((7,))
    (True, False, True)
    """
    return (len(event_shape) < 3 or event_shape[0] == 1) and max(event_shape[1:], default=0) <= 28


def nearly_binary(pixels: Tensor) -> bool:
    """Whether grey values lie so near to black or white that they may be read as either: E 4p (1 − p) ≤ 0.3, p = v / 255.

    MNIST has 0.07, scikit-learn's digits 0.28, Fashion-MNIST 0.32, photographs 0.6 and more.

    >>> import torch
    >>> nearly_binary(torch.tensor([0, 255, 250, 3])), nearly_binary(torch.tensor([0, 255, 128, 60]))
    (True, False)
    """
    p = pixels.double() / 255
    return bool((4 * p * (1 - p)).mean() <= NEARLY_BINARY)


def suited_to_convolutions(event_shape: Sequence[int]) -> bool:
    """Whether the default networks are convolutional: for pictures with several channels, or sides above 28.

    >>> suited_to_convolutions((3, 8, 8)), suited_to_convolutions((1, 28, 28)), suited_to_convolutions((7,))
    (True, False, False)
    """
    return len(event_shape) == 3 and not small_grey(event_shape)


def default_likelihood(event_shape: Sequence[int], *, pixels: bool | None = None, bits: int = 8) -> Likelihood:
    """p(x|z) for events of this shape.

    Args:
        pixels: whether stored values are 8-bit pixels; None: whether the shape is a picture's.
        bits: depth at which pixels are read.

    >>> type(default_likelihood((1, 28, 28))).__name__, type(default_likelihood((7,))).__name__
    ('Bernoulli', 'Gaussian')
    """
    if not (len(event_shape) == 3 if pixels is None else pixels):
        return Gaussian(event_shape, mean="linear")
    return Bernoulli(bits) if small_grey(event_shape) else DiscretisedLogistic(event_shape, bits=bits)


def perceptrons(
    event_shape: Sequence[int],
    latent_dim: int,
    likelihood: Likelihood,
    *,
    hidden: Sequence[int] = (500,),
    activation: str = "tanh",
    context_dim: int = 0,
) -> tuple[MLP, MLP]:
    """An encoder (B, *E) -> (B, 2 L) and a decoder (B, L) -> (B, outputs · D), D = prod(E), with mirrored hidden layers."""
    values = likelihood.outputs * math.prod(event_shape)
    return (
        MLP(event_shape, hidden, 2 * latent_dim, activation, likelihood.codec.centred, context_dim),
        MLP((latent_dim,), hidden[::-1], values, activation, context_dim=context_dim),
    )


def convolutions(
    event_shape: Sequence[int],
    latent_dim: int,
    likelihood: Likelihood,
    *,
    width: int = 32,
    blocks: int = 0,
    context_dim: int = 0,
) -> tuple[ConvEncoder, ConvDecoder]:
    """An encoder (B, C, H, W) -> (B, 2 L) and a decoder (B, L) -> (B, outputs · C, H, W), for pictures of any size."""
    encoder = ConvEncoder(event_shape, width, 2 * latent_dim, blocks, likelihood.codec.centred, context_dim)
    channels = likelihood.outputs * event_shape[0]
    return encoder, ConvDecoder(latent_dim, event_shape, width, channels, blocks, context_dim)
