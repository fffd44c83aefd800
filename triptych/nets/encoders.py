"""The network x -> numbers that an event's shape suggests, for whoever is not particular about it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from triptych.nets.convolutions import ConvEncoder
from triptych.nets.perceptrons import MLP


def encoder_network(
    event_shape: tuple[int, ...], width: int, outputs: int, hidden: Sequence[int], context_dim: int = 0
) -> nn.Module:
    """x (B, *E)[, context] -> (B, outputs): convolutions for pictures, a perceptron with `hidden` layers for the rest.

    >>> type(encoder_network((3, 8, 8), 4, 2, (16,))).__name__, type(encoder_network((7,), 4, 2, (16,))).__name__
    ('ConvEncoder', 'MLP')
    """
    if suits_convolutions(event_shape):
        return ConvEncoder(event_shape, width, outputs, context_dim=context_dim)
    return MLP(event_shape, hidden, outputs, "silu", context_dim=context_dim)


def blank_encoder(event_shape: tuple[int, ...], latent_dim: int, width: int, context_dim: int = 0) -> nn.Module:
    """A network x (B, *E)[, context] -> z (B, L) to invert a generator with: convolutions for pictures, else a perceptron.

    Args:
        width: channels at full size.

    >>> type(blank_encoder((3, 8, 8), 4, width=8)).__name__
    'ConvEncoder'
    """
    return encoder_network(event_shape, width, latent_dim, (32 * width, 16 * width), context_dim)


def suits_convolutions(event_shape: tuple[int, ...]) -> bool:
    """Whether events are pictures with sides of at least 4."""
    return len(event_shape) == 3 and min(event_shape[1:]) >= 4
