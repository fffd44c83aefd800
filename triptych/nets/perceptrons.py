"""Perceptrons: linear layers with an activation between them.

Shapes: B batch, E event_shape, D = prod(E), K context_dim.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from triptych.errors import check_choice, check_layers, check_size
from triptych.parts import Part

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}
"""Units of perceptrons, by the name that a recipe has for them."""


def perceptron(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module],
    initialise: Callable[[nn.Linear], object] | None = None,
) -> nn.Sequential:
    """Linear, activation, Linear, …, Linear: layer i is (B, sizes[i]) -> (B, sizes[i + 1]).

    Args:
        sizes: of the inputs, the hidden layers and the outputs: two or more.
        activation: makes a module for each place between two layers.
        initialise: is called with each linear layer as soon as it is made; None leaves torch's initialisation.

    >>> [type(layer).__name__ for layer in perceptron((2, 8, 1), nn.ReLU)]
    ['Linear', 'ReLU', 'Linear']
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
        if initialise is not None:
            initialise(layers[-2])  # type: ignore[arg-type]
    return nn.Sequential(*layers[:-1])


def append_context(x: Tensor, context: Tensor | None, context_dim: int) -> Tensor:
    """x (B, *E) flattened, with the context (B, K) behind it, zeros if there is none: (B, D + K); x itself if K = 0."""
    if not context_dim:
        return x
    context = x.new_zeros(len(x), context_dim) if context is None else context
    return torch.cat([x.flatten(1), context], 1)


class MLP(nn.Sequential, Part):
    """(B, *E) -> (B, outputs): flatten, append the context, then hidden layers with the activation and a linear layer.

    Args:
        event_shape: of the inputs.
        hidden: sizes of the hidden layers.
        outputs: numbers for each example.
        activation: tanh, relu, silu or gelu.
        centre: moves inputs from [0, 1] to [−1, 1] first.
        context_dim: K.

    Raises:
        TriptychError: for an unknown activation, and for sizes that cannot be.

    >>> MLP((1, 28, 28), (500,), 40)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 40])
    >>> MLP((20,), (500,), 784, context_dim=10)(torch.zeros(2, 20), torch.eye(2, 10)).shape
    torch.Size([2, 784])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        hidden: Sequence[int],
        outputs: int,
        activation: str = "tanh",
        centre: bool = False,
        context_dim: int = 0,
    ):
        check_choice("activation", activation, ACTIVATIONS)
        check_layers("hidden", hidden)
        check_size("outputs", outputs, 2**31)
        sizes = [math.prod(event_shape) + context_dim, *hidden, outputs]
        super().__init__(nn.Flatten(), *perceptron(sizes, ACTIVATIONS[activation]))
        self.centre, self.context_dim = centre, context_dim
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, *E), context (B, K) -> (B, outputs)."""
        x = x * 2 - 1 if self.centre else x
        return super().forward(append_context(x, context, self.context_dim))
