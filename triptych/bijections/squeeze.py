"""Squeezing: positions into channels (RealNVP, section 3.6); flattening."""

from __future__ import annotations

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
        if any(p % 2 for p in x.shape[2:]):
            size = "×".join(map(str, x.shape[2:]))
            raise TriptychError(f"a squeeze halves every side, {size} cannot be halved: resize or pad the data")
        if x.ndim == 4:
            b, c, h, w = x.shape
            z = x.permute(0, 2, 3, 1).reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5)
            return z.reshape(b, h // 2, w // 2, 4 * c).permute(0, 3, 1, 2), zero_ladj(x)
        if x.ndim == 3:
            b, c, t = x.shape
            return x.transpose(1, 2).reshape(b, t // 2, 2 * c).transpose(1, 2), zero_ladj(x)
        return x, zero_ladj(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if z.shape[1] % 2 ** (z.ndim - 2):
            raise TriptychError(f"a squeezed event has a multiple of {2 ** (z.ndim - 2)} channels, got {z.shape[1]}")
        if z.ndim == 4:
            b, c, h, w = z.shape
            x = z.permute(0, 2, 3, 1).reshape(b, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5)
            return x.reshape(b, 2 * h, 2 * w, c // 4).permute(0, 3, 1, 2)
        if z.ndim == 3:
            b, c, t = z.shape
            return z.transpose(1, 2).reshape(b, 2 * t, c // 2).transpose(1, 2)
        return z


class Flatten(Bijection):
    """(B, *E) -> (B, D), rows one after another.

    Args:
        shape: E.
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), zero_ladj(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.view(len(z), *self.shape)


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """The event's shape after one squeeze."""
    channels, *places = shape
    return (channels * 2 ** len(places), *(p // 2 for p in places))


def most_levels(shape: Sequence[int]) -> int:
    """How many times an event can be squeezed, half of its channels leaving after each but the last.

    >>> most_levels((3, 32, 24)), most_levels((1, 28, 28)), most_levels((8,)), most_levels((5,))
    (3, 2, 3, 3)
    """
    levels = 0
    channels, *places = shape
    if not places:
        return (channels - 1).bit_length()  # ⌈C/2⌉ stay, and 2 are enough for one more
    while all(p % 2 == 0 and p > 0 for p in places):
        places, levels = [p // 2 for p in places], levels + 1
    return levels


def check_levels(shape: Sequence[int], levels: int, least: int = 0) -> None:
    """Refuses levels that the event's size cannot give; the message names the largest number that works."""
    most, size = most_levels(shape), "×".join(map(str, shape[1:])) or str(shape[0])
    if isinstance(levels, int) and least <= levels <= most:
        return
    if most < least and len(shape) == 1:
        raise TriptychError("one feature has nothing to couple with: give data of at least 2")
    if most < least:
        even = ",".join(str(p + p % 2) for p in shape[1:])
        raise TriptychError(f"{size} cannot be halved even once: resize or pad the data to {even}, or use realnvp, levels=1")
    if not isinstance(levels, int) or levels < least:
        raise TriptychError(f"levels should be {least} to {most} for data of {size}, got {levels!r}")
    what = "features" if len(shape) == 1 else "positions"
    advice = f"use levels={most}" + (" or fewer" if most > least else "")
    raise TriptychError(f"levels={levels}, but {size} {what} can be halved {most} time{'s' * (most != 1)}: {advice}")
