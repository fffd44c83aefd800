"""Bijections: invertible maps with the log-determinant of their Jacobian.

Shapes: B batch, S the event's positions: () for a vector, (T,) for a sequence, (H, W) for a picture.
    x, z     (B, C, *S)   C channels (a vector's features), always the second axis
    context  (B, K)       what a conditional model is told, zeros where unknown; None without a condition
    ladj     (B,)         log |det ∂z/∂x|, in nats
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triptych.core import first_size
from triptych.errors import TriptychError
from triptych.parts import Part


class NotInvertible(TriptychError):
    """A layer has lost its inverse: `problem` says why. The message names its class, or its `name` where that is known."""

    def __init__(self, layer: nn.Module, problem: str, name: str = ""):
        where = name or type(layer).__name__
        super().__init__(f"{where}: {problem}, so it cannot be inverted: restore an earlier checkpoint, or lower the rate")
        self.layer, self.problem = layer, problem


class Bijection(nn.Module, Part, ABC):
    """z = f(x; c) with f⁻¹ and log |det ∂f/∂x|, so that log p(x) = log p(f(x)) + ladj (change of variables).

    The context c says which bijection of x it is; layers without a use for it ignore it.

    Attributes:
        examples: how many it should be initialised from.
    """

    examples: int = 256

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C, *S) -> z and ladj (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z -> x."""

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Sets whatever depends on data from a first batch x; returns z, with which the next bijection is initialised.

        A chain returns z of the batch's first examples only, where some parts ask for more of them than those that follow.
        """
        return self(x, context)[0]

    def count_layers(self) -> int:
        """How many bijections in a row this one is made of: 1, unless it can be cut."""
        return 1

    def truncated(self, layers: int, shape: Sequence[int]) -> Bijection:
        """The first `layers` of them as one bijection of events of that shape; their parameters are shared, not copied."""
        return self if layers else Chain([])

    def image_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of z for x of an event's shape: the same, unless this bijection changes it."""
        return tuple(shape)


class Chain(Bijection):
    """f_n ∘ … ∘ f_1; log-determinants add.

    Args:
        parts: f_1, …, f_n.

    >>> from triptych.bijections import Scale
    >>> chain = Chain([Scale(3), Scale(3)])
    >>> z, ladj = chain(torch.randn(2, 3))
    >>> chain.inverse(z).shape, ladj.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(self, parts: Iterable[Bijection]):
        super().__init__()
        self.parts: Any = nn.ModuleList(parts)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = zero_ladj(x)
        for part in self.parts:
            x, ladj = part(x, context)
            total = total + ladj
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for part in reversed(self.parts):
            z = part.inverse(z, context)
        return z

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        asked = [wanted(part) for part in self.parts]
        for i, part in enumerate(self.parts):
            x = part.initialize(x, context)
            rest = max(asked[i + 1 :], default=asked[i])
            if rest < asked[i]:
                x = x[: first_size(rest, x[0].numel())]
            context = None if context is None else context[: len(x)]
        return x

    def count_layers(self) -> int:
        return sum(part.count_layers() for part in self.parts)

    def truncated(self, layers: int, shape: Sequence[int]) -> Chain:
        parts: list[Bijection] = []
        for part in self.parts:
            if layers <= 0:
                break
            parts.append(part.truncated(min(layers, part.count_layers()), shape))
            layers, shape = layers - part.count_layers(), part.image_shape(shape)
        return Chain(parts)

    def image_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        for part in self.parts:
            shape = part.image_shape(shape)
        return tuple(shape)


def wanted(module: nn.Module) -> int:
    """How many examples a module should be initialised from: the most that one of its bijections asks for."""
    return max((m.examples for m in module.modules() if isinstance(m, Bijection)), default=Bijection.examples)


def all_finite(layer: nn.Module) -> bool:
    """Whether every parameter of the layer is a number."""
    return all(bool(p.isfinite().all()) for p in layer.parameters())


def zero_ladj(x: Tensor) -> Tensor:
    """The log-determinant of a map that preserves volume: zeros (B,), in float32 or better."""
    return x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))


def same_ladj(value: Tensor, x: Tensor) -> Tensor:
    """A log-determinant that is the same at each position and for every example of x: |S| · value, (B,)."""
    return (positions(x) * value).expand(len(x))


def positions(x: Tensor) -> int:
    """How many positions share a channel's parameters: H·W of a picture, T of a sequence, 1 of a vector."""
    return math.prod(x.shape[2:])


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Values (C,) or (B, C), shaped to broadcast over the positions of x (B, C, *S)."""
    return values.view(*values.shape, *(1,) * (x.ndim - 2))


def sum_event(values: Tensor) -> Tensor:
    """Σ over all axes but the batch, (B,), in float32 or better."""
    return values.flatten(1).sum(1, dtype=torch.promote_types(values.dtype, torch.float32))
