"""Sliced Wasserstein distance: of pictures scale by scale, and of features.

Shapes: pictures (n, C, H, W); descriptors, one in each row, (N, D) with N = n · patches and D = C · 7 · 7.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError, check_size
from triptych.evaluate.distances import paired_rows
from triptych.evaluate.neighbours import subsample
from triptych.evaluate.spread import Traced, by_halves, of_mean
from triptych.evaluate.structure import along_both_sides
from triptych.randomness import standard_normal

TAP = 7  # side of a patch
COARSEST = 16  # side at which the pyramid ends


def sliced_wasserstein(
    a: Tensor, b: Tensor, *, patches: int = 128, projections: int = 128, generator: torch.Generator | None = None
) -> dict[str, Estimate]:
    """Mean of |sorted(θ·a) − sorted(θ·b)| over random unit θ: the Wasserstein-1 distance, averaged over projections.

    Pictures (Karras et al. 2018, section 5): θ sees 7 × 7 patches of each level of a Laplacian pyramid down to 16 pixels,
    every channel of a set normalised to mean 0 and deviation 1; times 10³. The patches lie at the same places in a and b.
    Features (n, d): the plain distance, neither normalised nor scaled. The larger set is cut to the
    size of the other, with `generator`, which draws patches and θ also.

    Returns:
        for pictures swd_<side> of each level, side the smaller one, as swd_64, swd_32, swd_16, and their mean swd; below
        32 pixels there is one level, the picture itself. For features swd alone. n counts examples of a set. The standard
        error is over draws of both sets and of θ: the variance over 4 repeats, each with fresh θ, and that of random halves
        of the sets (`spread.by_halves`).

    Raises:
        TriptychError: for pictures under 7 pixels, fewer than 4 examples, values that are not finite floats, or two shapes.

    >>> x = torch.rand(20, 3, 16, 16)
    >>> sliced_wasserstein(x, x)
    {'swd_16': Estimate(value=0.0, stderr=0.0, n=20), 'swd': Estimate(value=0.0, stderr=0.0, n=20)}
    """
    check_size("patches", patches)
    check_size("projections", projections)
    flat = paired_rows(a, b, at_least=4)
    size = min(len(a), len(b))
    if a.ndim == 2:
        left, right = (subsample(x, size, generator) for x in flat)
        return {"swd": _estimate(*_distances(left, right, size, False, projections, generator), size)}
    if a.ndim != 4 or min(a.shape[2:]) < TAP:
        raise TriptychError(
            f"expected pictures (n, C, H, W) with sides of {TAP} or more, or features (n, d), got {tuple(a.shape)}: "
            "flatten anything else"
        )
    a, b = (subsample(x.detach(), size, generator) for x in (a, b))
    found, sides = {}, level_sides(*a.shape[2:])
    for level, side in enumerate(sides):
        corners = torch.rand(size, patches, 2, generator=generator, device=generator.device if generator else None)
        left, right = (_descriptors(x, level, side == sides[-1], corners.to(x.device)) for x in (a, b))
        found[f"swd_{side}"] = [1e3 * x for x in _distances(left, right, size, True, projections, generator)]
    found["swd"] = [torch.stack(levels).mean(0) for levels in zip(*found.values(), strict=True)]
    return {name: _estimate(repeats, deviations, size) for name, (repeats, deviations) in found.items()}


def _estimate(repeats: Tensor, deviations: Tensor, n: int) -> Traced:
    """A distance by each repeat, and its deviations by halves of the data, as one number."""
    return Traced.of_deviations(repeats.mean().item(), torch.cat([of_mean(repeats), deviations]), n)


def level_sides(height: int, width: int) -> list[int]:
    """The smaller side of every level of the pyramid, finest first.

    >>> level_sides(100, 64)
    [64, 32, 16]
    """
    sides = [min(height, width)]
    while sides[-1] >= 2 * COARSEST:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _descriptors(x: Tensor, level: int, last: bool, corners: Tensor) -> Tensor:
    """Patches of one level, (N, D), normalised; kept at x's own precision, or float32 if that is less: they are many."""
    precision = torch.promote_types(x.dtype, torch.float32)
    parts = zip(x.split(_PICTURES), corners.split(_PICTURES), strict=True)
    return _normalise(torch.cat([_patches(_level(p.double(), level, last), where).to(precision) for p, where in parts]))


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
    return along_both_sides(F.pad(x, (2, 2, 2, 2), mode="reflect"), taps)


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
    a: Tensor, b: Tensor, n: int, pictures: bool, projections: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Mean Wasserstein-1 distance over `projections` directions, float64, by each repeat, and its deviations by halves.

    a and b (N, D) belong to n examples, in order.
    """
    directions = standard_normal(_REPEATS * projections, a.shape[1], generator=generator, device=a.device).double()
    directions /= directions.norm(dim=1, keepdim=True)
    by_direction = _along(a, b, directions)

    def of_part(left: Tensor, right: Tensor) -> Tensor:
        left, right = left.flatten(0, 1), right.flatten(0, 1)
        if pictures:  # as for the whole set: the mean of a part is not a distance
            left, right = _normalise(left), _normalise(right)
        return _along(left, right, directions[:_FEWER]).mean()[None]

    deviations = by_halves(of_part, *(x.unflatten(0, (n, -1)) for x in (a, b)), least=1)[:, 0]
    return by_direction.view(_REPEATS, projections).mean(1), deviations


def _along(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Wasserstein-1 distance along each direction, (directions,)."""

    def ordered(x: Tensor, d: Tensor) -> Tensor:
        return torch.cat([d @ part.double().T for part in x.split(_ROWS)], dim=1).sort(dim=1).values

    return torch.cat([(ordered(a, d) - ordered(b, d)).abs().mean(1) for d in directions.split(_DIRECTIONS)])


_FLAT = 1e-5  # deviation that counts as none: a level of 8 bits is 4e-3
_REPEATS = 4  # with directions of their own
_FEWER = 32  # directions along which halves are compared: their spread needs no more
_PICTURES = 64  # whose pyramids are built together
_ROWS = 50_000  # descriptors converted to float64 together
_DIRECTIONS = 32  # along which all descriptors are sorted together
