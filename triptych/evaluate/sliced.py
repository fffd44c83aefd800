"""Sliced Wasserstein distance: of pictures scale by scale, and of features.

Shapes: pictures (n, C, H, W); descriptors, one in each row, (N, D) with N = n · patches and D = C · 7 · 7.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.distances import paired_rows
from triptych.evaluate.neighbours import subsample
from triptych.randomness import standard_normal

TAP = 7  # side of a patch
COARSEST = 16  # side at which the pyramid ends


def sliced_wasserstein(
    a: Tensor,
    b: Tensor,
    *,
    patches: int = 128,
    repeats: int = 4,
    projections: int = 128,
    generator: torch.Generator | None = None,
) -> dict[str, Estimate]:
    """Mean of |sorted(θ·a) − sorted(θ·b)| over random unit θ: the Wasserstein-1 distance, averaged over projections.

    Pictures (Karras et al. 2018, section 5): θ sees 7 × 7 patches of each level of a Laplacian pyramid down to 16 pixels,
    every channel of a set normalised to mean 0 and deviation 1; times 10³. The patches lie at the same places in a and b.
    Features (n, d): the plain distance, neither normalised nor scaled. The larger set is cut to the
    size of the other, with `generator`, which draws patches and θ also.

    Returns:
        for pictures swd_<side> of each level, side the smaller one, as swd_64, swd_32, swd_16, and their mean swd; below
        32 pixels there is one level, the picture itself. For features swd alone. n counts examples of a set. The standard
        error adds the variance over repeats, each with fresh θ (NaN for one), to that over 8 parts of both sets, or fewer.

    Raises:
        TriptychError: for pictures under 7 pixels, fewer than 4 examples, values that are not finite floats, or two shapes.

    >>> x = torch.rand(20, 3, 16, 16)
    >>> sliced_wasserstein(x, x)
    {'swd_16': Estimate(value=0.0, stderr=0.0, n=20), 'swd': Estimate(value=0.0, stderr=0.0, n=20)}
    """
    if min(patches, repeats, projections) < 1:
        raise TriptychError(f"patches, repeats and projections should be 1 or more, got {patches}, {repeats}, {projections}")
    flat = paired_rows(a, b, at_least=4)
    size = min(len(a), len(b))
    if a.ndim == 2:
        left, right = (subsample(x, size, generator) for x in flat)
        found = {"swd": _distances(left, right, size, False, repeats, projections, generator)}
    else:
        a, b = (subsample(x.detach(), size, generator) for x in (a, b))
        found = _by_level(a, b, patches, repeats, projections, generator)
    return {name: by.estimate(size) for name, by in found.items()}


class _Spread(NamedTuple):
    """A distance by each repeat (repeats,), and by each part of the data."""

    repeats: Tensor
    parts: Tensor

    def estimate(self, n: int) -> Estimate:
        variances = [x.var().item() / len(x) if len(x) > 1 else math.nan for x in self]
        return Estimate(self.repeats.mean().item(), math.sqrt(sum(variances)), n)


def level_sides(height: int, width: int) -> list[int]:
    """The smaller side of every level of the pyramid, finest first.

    >>> level_sides(100, 64)
    [64, 32, 16]
    """
    sides = [min(height, width)]
    while sides[-1] >= 2 * COARSEST:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _by_level(
    a: Tensor, b: Tensor, patches: int, repeats: int, projections: int, generator: torch.Generator | None
) -> dict[str, _Spread]:
    """Distances × 10³ of each level, and their mean."""
    if a.ndim != 4 or min(a.shape[2:]) < TAP:
        raise TriptychError(
            f"expected pictures (n, C, H, W) with sides of {TAP} or more, or features (n, d), got {tuple(a.shape)}: "
            "flatten anything else"
        )
    sides = level_sides(*a.shape[2:])
    found = {}
    for level, side in enumerate(sides):
        corners = torch.rand(len(a), patches, 2, generator=generator, device=generator.device if generator else None)
        described = [_descriptors(x, level, level == len(sides) - 1, corners.to(x.device)) for x in (a, b)]
        by = _distances(described[0], described[1], len(a), True, repeats, projections, generator)
        found[f"swd_{side}"] = _Spread(1e3 * by.repeats, 1e3 * by.parts)
    return found | {"swd": _Spread(*(torch.stack(levels).mean(0) for levels in zip(*found.values(), strict=True)))}


def _descriptors(x: Tensor, level: int, last: bool, corners: Tensor) -> Tensor:
    """Patches of one level, (N, D), normalised; kept at x's own precision, or float32 if that is less: they are many."""
    precision = torch.promote_types(x.dtype, torch.float32)
    parts = zip(x.split(_PICTURES), corners.split(_PICTURES), strict=True)
    raw = torch.cat([_patches(_level(part.double(), level, last), where).to(precision) for part, where in parts])
    return _normalise(raw)


def _normalise(x: Tensor) -> Tensor:
    """Descriptors (N, D) with every channel brought, in place, to mean 0 and deviation 1 over all of them."""
    for channel in x.unflatten(1, (-1, TAP * TAP)).unbind(1):  # views of x
        mean = channel.mean(dtype=torch.float64)
        variance = torch.stack([(p.double() - mean).square().sum() for p in channel.split(_ROWS)]).sum() / channel.numel()
        # a channel without detail is 0: neither NaN, nor its rounding scaled up to deviation 1
        channel.sub_(mean).div_(torch.where(variance > _FLAT**2, variance.sqrt(), 1.0))
    return x


def _level(x: Tensor, level: int, last: bool) -> Tensor:
    """Level of the Laplacian pyramid (Burt & Adelson 1983): what halving loses, or for the last the low-pass itself."""
    for _ in range(level):
        x = _halve(x)
    return x if last else x - _double(_halve(x), x)


def _halve(x: Tensor) -> Tensor:
    return _blur(x)[..., ::2, ::2]


def _double(x: Tensor, like: Tensor) -> Tensor:
    """x at the size of `like`, which was halved to it."""
    wide = torch.zeros_like(like)
    wide[..., ::2, ::2] = 4 * x
    return _blur(wide)


def _blur(x: Tensor) -> Tensor:
    """The binomial filter (1, 4, 6, 4, 1)/16 along both sides, mirrored at the border."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype, device=x.device) / 16
    flat = F.pad(x.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="reflect")
    return F.conv2d(F.conv2d(flat, taps.view(1, 1, 5, 1)), taps.view(1, 1, 1, 5)).view_as(x)


def _patches(x: Tensor, corners: Tensor) -> Tensor:
    """7 × 7 patches of x (n, C, H, W) at corners (n, patches, 2) in [0, 1): (n · patches, C · 49)."""
    height, width = x.shape[2:]
    room = torch.tensor([height - TAP + 1, width - TAP + 1], device=x.device)
    top, left = (corners * room).long().unbind(-1)  # (n, patches)
    tap = torch.arange(TAP, device=x.device)
    row, column = (top[..., None] + tap)[..., :, None], (left[..., None] + tap)[..., None, :]
    picture = torch.arange(len(x), device=x.device)[:, None, None, None]
    found = x.movedim(1, -1)[picture, row, column]  # (n, patches, 7, 7, C)
    return found.movedim(-1, 2).flatten(0, 1).flatten(1)


def _distances(
    a: Tensor, b: Tensor, n: int, pictures: bool, repeats: int, projections: int, generator: torch.Generator | None
) -> _Spread:
    """Mean Wasserstein-1 distance over `projections` directions, float64; a and b (N, D) belong to n examples, in order."""
    directions = standard_normal(repeats * projections, a.shape[1], generator=generator, device=a.device).double()
    directions /= directions.norm(dim=1, keepdim=True)
    by_direction = _along(a, b, directions)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(a.device)  # data may come sorted
    parts = []
    for part in order.tensor_split(min(_PARTS, n // 2)):
        left, right = (x.unflatten(0, (n, -1))[part].flatten(0, 1) for x in (a, b))
        if pictures:  # as for the whole set: the mean of a part is not a distance
            left, right = _normalise(left), _normalise(right)
        parts.append(_along(left, right, directions[:projections]).mean())
    return _Spread(by_direction.view(repeats, projections).mean(1), torch.stack(parts))


def _along(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Wasserstein-1 distance along each direction, (directions,)."""
    return torch.cat([(_sorted(a, d) - _sorted(b, d)).abs().mean(1) for d in directions.split(_DIRECTIONS)])


def _sorted(x: Tensor, directions: Tensor) -> Tensor:
    """x (N, D) projected and sorted, (directions, N)."""
    return torch.cat([directions @ part.double().T for part in x.split(_ROWS)], dim=1).sort(dim=1).values


_FLAT = 1e-5  # deviation that counts as none: a level of 8 bits is 4e-3
_PARTS = 8  # of the data, for the standard error
_PICTURES = 64  # whose pyramids are built together
_ROWS = 50_000  # descriptors converted to float64 together
_DIRECTIONS = 32  # along which all descriptors are sorted together
