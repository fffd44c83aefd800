"""Networks that more than one family uses: perceptrons, and a convolutional encoder and decoder for any size.

Each is a part, takes x or z and a context (B, K) as second argument, and ignores a context of None; zeros are "unknown".
"""

from triptych.checking import guard
from triptych.nets.convolutions import ConvDecoder, ConvEncoder, Modulation, Residual, he_, pyramid
from triptych.nets.encoders import blank_encoder, encoder_network, suits_convolutions
from triptych.nets.perceptrons import ACTIVATIONS, MLP, perceptron

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "Modulation",
    "Residual",
    "blank_encoder",
    "encoder_network",
    "he_",
    "perceptron",
    "pyramid",
    "suits_convolutions",
]

guard(__name__)
