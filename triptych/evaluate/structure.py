"""Multi-scale structural similarity of pictures, and the variety of a set by it.

Shapes: pictures (n, C, H, W) in [0, 1]; means of channels and places, float64 inside.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.distances import paired_rows
from triptych.evaluate.neighbours import subsample

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest first
TAPS = 11  # width of the window
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # for a range of 1


class Scales(NamedTuple):
    """How many scales there are, and how wide the window is."""

    number: int
    taps: int


def scales_of(height: int, width: int) -> Scales:
    """The scales that pictures of this size have: 5 from 176 pixels on; a window of 11 from 11 pixels on.

    Fewer where a halved side would be under 11; below 11 pixels one scale, with the largest odd window that fits.

    >>> scales_of(176, 200), scales_of(32, 32), scales_of(8, 8)
    (Scales(number=5, taps=11), Scales(number=2, taps=11), Scales(number=1, taps=7))
    """
    side = min(height, width)
    number = 1
    while number < len(WEIGHTS) and side >> number >= TAPS:
        number += 1
    return Scales(number, min(TAPS, side - 1 + side % 2))


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity of pairs, ΠS l_S^w_S Πs cs_s^w_s (Wang et al. 2003, eq. 7): (n,), 1 for equal ones.

    S is the coarsest scale; windows lie inside the picture; a negative mean counts as 0. Small pictures have fewer scales
    (`scales_of`), whose weights are enlarged to a sum of 1: similarities compare at one size only. At one scale it is plain
    SSIM (Wang et al. 2004), which may be negative.

    Raises:
        TriptychError: for two shapes, values outside [0, 1], or values that are not finite floats.

    >>> x = torch.rand(2, 3, 32, 32)
    >>> ms_ssim(x, x)
    tensor([1., 1.], dtype=torch.float64)
    """
    if x.shape != y.shape:
        raise TriptychError(f"ms_ssim compares pairs of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    paired_rows(x, y, at_least=1)
    if x.ndim != 4:
        raise TriptychError(f"expected pictures (n, C, H, W), got {tuple(x.shape)}: give grey ones a channel")
    low, high = min(x.min(), y.min()).item(), max(x.max(), y.max()).item()
    if low < 0 or high > 1:
        raise TriptychError(f"pictures should lie in [0, 1], got values from {low:.3g} to {high:.3g}: rescale or clamp them")
    parts = zip(x.detach().split(_AT_ONCE), y.detach().split(_AT_ONCE), strict=True)
    return torch.cat([_ms_ssim(p.double(), q.double()) for p, q in parts])


def diversity(x: Tensor, pairs: int = 1000, *, generator: torch.Generator | None = None) -> Estimate:
    """Mean MS-SSIM over random pairs of pictures (Odena et al. 2017, section 4.2): the higher, the less diverse.

    Compare with the value of real data of the same size; `scales_of` gives the scales.

    Args:
        pairs: at the most; no picture is in two pairs, so that their standard error holds, over draws of
            pictures; n // 2 where that is fewer.

    Raises:
        TriptychError: for fewer than 4 pictures, values outside [0, 1], or values that are not finite floats.

    >>> diversity(torch.ones(10, 1, 16, 16))
    Estimate(value=1.0, stderr=0.0, n=5)
    """
    if pairs < 1 or len(x) < 4:
        raise TriptychError(f"diversity needs at least 4 pictures and 1 pair, got {len(x)} and {pairs}: draw more")
    count = min(pairs, len(x) // 2)
    drawn = subsample(x, 2 * count, generator, shuffle=True)
    return Estimate.of(ms_ssim(drawn[:count], drawn[count:]))


def _ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    number, taps = scales_of(*x.shape[2:])
    weights = WEIGHTS if number == len(WEIGHTS) else [w / sum(WEIGHTS[:number]) for w in WEIGHTS[:number]]
    at = torch.arange(taps, dtype=x.dtype, device=x.device) - (taps - 1) / 2
    window = torch.softmax(-0.5 * (at / SIGMA) ** 2, dim=0)
    similarity = torch.ones_like(x[:, 0, 0, 0])
    for scale in range(number):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        # contrast-structure cs, and l · cs, at every place (Wang et al. 2004, eq. 13)
        mu_x, mu_y, xx, yy, xy = (along_both_sides(v, window) for v in (x, y, x * x, y * y, x * y))
        var_x, var_y, covariance = xx - mu_x**2, yy - mu_y**2, xy - mu_x * mu_y
        term = (2 * covariance + C2) / (var_x + var_y + C2)
        if scale == number - 1:
            term = (2 * mu_x * mu_y + C1) / (mu_x**2 + mu_y**2 + C1) * term
        mean = term.flatten(1).mean(1)
        similarity = mean if number == 1 else similarity * mean.clamp(min=0) ** weights[scale]
    return similarity


def along_both_sides(x: Tensor, window: Tensor) -> Tensor:
    """Means of x (n, C, H, W), weighted by the window (taps,), about every place whose whole window is in the picture."""
    flat = F.conv2d(F.conv2d(x.flatten(0, 1)[:, None], window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return flat.view(*x.shape[:2], *flat.shape[2:])


_AT_ONCE = 32  # pairs filtered together
