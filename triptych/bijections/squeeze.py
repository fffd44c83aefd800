"""Squeezing: positions into channels (RealNVP, section 3.6); flattening."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from triptych.bijections.bijection import Bijection, zero_ladj
from triptych.errors import TriptychError


class Squeeze(Bijection):
    """(B, C, H, W) -> (B, 4C, H/2, W/2), and (B, C, T) -> (B, 2C, T/2): each block of neighbours becomes channels.

    Channel (i·2 + j)·C + c of the result holds channel c of the block's row i and column j. A vector stays as it is.

    >>> import torch
    >>> x = torch.arange(16.0).view(1, 1, 4, 4)
    >>> Squeeze()(x)[0][0, :, 0, 0]
    tensor([0., 1., 4., 5.])
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        b, c, *places = x.shape
        if any(p % 2 for p in places):
            size = "×".join(map(str, places))
            raise TriptychError(f"a squeeze halves every side, {size} cannot be halved: resize or pad the data")
        n, halves = len(places), [p // 2 for p in places]
        blocks = x.movedim(1, -1).reshape(b, *(size for half in halves for size in (half, 2)), c)
        z = blocks.permute(0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1)  # (B, *S/2, 2, 2, C)
        return z.reshape(b, *halves, 2**n * c).movedim(-1, 1), zero_ladj(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        b, c, *places = z.shape
        n = len(places)
        if c % 2**n:
            raise TriptychError(f"a squeezed event has a multiple of {2**n} channels, got {c}")
        blocks = z.movedim(1, -1).reshape(b, *places, *[2] * n, c // 2**n)
        x = blocks.permute(0, *(axis for i in range(n) for axis in (1 + i, 1 + n + i)), 2 * n + 1)
        return x.reshape(b, *(2 * p for p in places), c // 2**n).movedim(-1, 1)

    def image_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return squeezed(shape)


class Flatten(Bijection):
    """(B, *E) -> (B, D), rows one after another.

    Args:
        shape: E.

    >>> import torch
    >>> z, ladj = Flatten((2, 3))(torch.arange(6.0).view(1, 2, 3))
    >>> z, ladj
    (tensor([[0., 1., 2., 3., 4., 5.]]), tensor([0.]))
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), zero_ladj(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.view(len(z), *self.shape)

    def image_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (math.prod(shape),)


class Unflatten(Bijection):
    """(B, D) -> (B, *E): a `Flatten` undone, so that positions return after a map of the whole event.

    Args:
        shape: E.

    >>> import torch
    >>> Unflatten((3, 2, 2))(torch.zeros(5, 12))[0].shape
    torch.Size([5, 3, 2, 2])
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.reshape(len(x), *self.shape), zero_ladj(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.flatten(1)

    def image_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.shape


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """The event's shape after one squeeze."""
    channels, *places = shape
    return (channels * 2 ** len(places), *(p // 2 for p in places))


def most_levels(shape: Sequence[int]) -> int:
    """How many times an event can be squeezed, half of its channels leaving after each but the last.

    >>> most_levels((3, 32, 24)), most_levels((1, 28, 28)), most_levels((8,)), most_levels((5,))
    (3, 2, 3, 3)
    """
    channels, *places = shape
    if not places:
        return (channels - 1).bit_length()  # ⌈C/2⌉ stay, and 2 are enough for one more
    side = math.gcd(*places)
    return (side & -side).bit_length() - 1  # how often 2 divides it


def check_levels(shape: Sequence[int], levels: int, most: int, least: int = 0, unhalved: int = 0) -> None:
    """Refuses levels that the event's size cannot give; the message names the largest number that works.

    Args:
        most, least: numbers of levels that work.
        unhalved: the number of levels that halves nothing.
    """
    size, what = ("×".join(map(str, shape[1:])), "position") if len(shape) > 1 else (str(shape[0]), "feature")
    halvings = most - unhalved
    if most < least and math.prod(shape[1:] or shape) < 2:
        raise TriptychError(f"one {what} has nothing to couple with: give data of at least 2")
    if most < least:
        even = ",".join(str(p + p % 2) for p in shape[1:])
        raise TriptychError(f"{size} cannot be halved even once: resize or pad the data to {even}, or use realnvp, levels=1")
    if not isinstance(levels, int) or levels < least:
        raise TriptychError(f"levels should be {least} to {most} for data of {size}, got {levels!r}")
    if levels > most:
        advice = f"use levels={most}" + " or fewer" * (most > least)
        times = f"{halvings} time" + "s" * (halvings != 1)
        raise TriptychError(f"levels={levels}, but {size} {what}s can be halved {times}: {advice}")
