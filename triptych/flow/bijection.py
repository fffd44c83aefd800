"""Bijections: invertible maps with the log-determinant of their Jacobian.

Shapes: B batch, S the event's positions: () for a vector, (T,) for a sequence, (H, W) for a picture.
    x, z   (B, C, *S)   C channels (a vector's features), always the second axis
    ladj   (B,)         log |det ∂z/∂x|, in nats
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from triptych.errors import TriptychError


class NoWayBack(TriptychError):
    """A layer cannot be inverted: `what` is wrong with it. It is called by its class, unless somebody knows its `name`."""

    def __init__(self, layer: nn.Module, what: str, name: str = ""):
        super().__init__(
            f"{name or type(layer).__name__}: {what}, so that there is no way back from z: restore an earlier checkpoint, "
            "or train with a lower rate"
        )
        self.layer, self.what = layer, what


class Bijection(nn.Module, ABC):
    """z = f(x) with f⁻¹ and log |det ∂f/∂x|, so that log p(x) = log p(f(x)) + ladj (change of variables)."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S) -> z and ladj (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """z -> x."""

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Sets whatever depends on data from a first batch x; returns z, which the next bijection is initialised by."""
        return self(x)[0]


class Chain(Bijection):
    """f_n ∘ … ∘ f_1; log-determinants add.

    >>> from triptych.flow import Scale
    >>> chain = Chain([Scale(3), Scale(3)])
    >>> z, ladj = chain(torch.randn(2, 3))
    >>> chain.inverse(z).shape, ladj.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    parts: Sequence[Bijection]

    def __init__(self, parts: Iterable[Bijection]):
        super().__init__()
        self.parts = nn.ModuleList(parts)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = no_change(x)
        for part in self.parts:
            x, ladj = part(x)
            total = total + ladj
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        for part in reversed(self.parts):
            z = part.inverse(z)
        return z

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part.initialize(x)
        return x


def all_finite(layer: nn.Module) -> bool:
    """Whether every parameter of the layer is a number."""
    return all(bool(p.isfinite().all()) for p in layer.parameters())


def no_change(x: Tensor) -> Tensor:
    """The log-determinant of a map that keeps volume: zeros (B,), in float32 or better."""
    return x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))


def per_datum(value: Tensor, x: Tensor, positions: int = 1) -> Tensor:
    """One log-determinant, the same at each position, for every datum of x: positions · value, (B,)."""
    return (positions * value).expand(len(x))


def positions(x: Tensor) -> int:
    """How many positions share a channel's parameters: H·W of a picture, T of a sequence, 1 of a vector."""
    return math.prod(x.shape[2:])


def by_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter (C,) shaped to meet x (B, C, *S)."""
    return parameter.view(-1, *(1,) * (x.ndim - 2))


def sum_event(values: Tensor) -> Tensor:
    """Σ over all but the batch, (B,), in float32 or better."""
    return values.flatten(1).sum(1, dtype=torch.promote_types(values.dtype, torch.float32))
