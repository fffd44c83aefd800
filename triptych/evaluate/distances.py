"""Distances between two sets of features: Fréchet's between fitted Gaussians, and the cubic kernel's.

Shapes: a (n, d), b (m, d), or examples of any equal shape, which are flattened; float64 inside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from triptych.core import Estimate
from triptych.errors import TriptychError
from triptych.evaluate.spread import jackknife, of_mean


def frechet_distance(a: Tensor, b: Tensor) -> Estimate:
    """|μa − μb|² + tr(Σa + Σb − 2(ΣaΣb)^½), Σ with 1/(n − 1); FID of Inception features (Heusel et al. 2017, eq. 6).

    The standard error is over draws of both sets: the infinitesimal jackknife's, M the optimal map's matrix:
    IFa(x) = 2(μa − μb)·(x − μa) + (x − μa)ᵀ(I − M)(x − μa) − const, Var = Var(IFa)/n + Var(IFb)/m, with its second order
    counted once (`spread.jackknife`). The bias, which is positive, of order 1/n, and large for n near d or under it, is not
    in it: compare at equal n. Memory: about four times that of a and b in float64.

    Returns:
        the distance; its n is min(n, m).

    Raises:
        TriptychError: for fewer than 2 examples, values that are not finite floats, or two widths.

    >>> x = torch.randn(50, 3)
    >>> round(frechet_distance(x, x + 2).value, 6)
    12.0
    """
    a, b = paired_rows(a, b, at_least=2)
    return jackknife(_frechet, a, b, least=2)


def _frechet(a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    a, b = a.double(), b.double()
    n, m = len(a), len(b)
    shift = a.mean(0) - b.mean(0)
    a, b = a - a.mean(0), b - b.mean(0)
    # tr (ΣaΣb)^½ = ‖ABᵀ‖_* / √((n−1)(m−1)): singular values are real at any rank, and Q R = A leaves d × d at most
    (q_a, r_a), (q_b, r_b) = torch.linalg.qr(a), torch.linalg.qr(b)
    u, s, vh = torch.linalg.svd(r_a @ r_b.T / math.sqrt((n - 1) * (m - 1)), full_matrices=False)
    size_a, size_b = a.square().sum(1), b.square().sum(1)
    value = shift @ shift + size_a.sum() / (n - 1) + size_b.sum() / (m - 1) - 2 * s.sum()
    # xᵀMx for a's own rows x is (n−1) Σ_k s_k (Q U)²_k, and so for b's with its own map: nothing is inverted
    influence_a = 2 * a @ shift + size_a - (n - 1) * (q_a @ u).square() @ s
    influence_b = -2 * b @ shift + size_b - (m - 1) * (q_b @ vh.T).square() @ s
    return max(value.item(), 0.0), torch.cat([of_mean(influence_a), of_mean(influence_b)])


def kernel_distance(a: Tensor, b: Tensor) -> Estimate:
    """Unbiased MMD² with k(x, y) = (x·y/d + 1)³; KID of Inception features (Bińkowski et al. 2018).

    Σ_{i≠j} k(a_i, a_j)/(n(n−1)) + Σ_{i≠j} k(b_i, b_j)/(m(m−1)) − 2 Σ_ij k(a_i, b_j)/(nm), over all examples, not over blocks
    of them. It is about 0, and may be negative, where both come from one distribution. The standard error is over draws of
    both sets: the jackknife's, with its second order counted once (`spread.jackknife`).

    Returns:
        the distance; its n is min(n, m).

    Raises:
        TriptychError: for fewer than 3 examples, values that are not finite floats, or two widths.

    >>> kernel_distance(torch.zeros(10, 2), torch.ones(10, 2)).value  # 1 + 8 − 2 · 1
    7.0
    """
    a, b = paired_rows(a, b, at_least=3)
    return jackknife(_kernel, a, b, least=3)


def _kernel(a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    a, b = a.double(), b.double()
    n, m = len(a), len(b)
    within_a, within_b = _others(a), _others(b)
    across_a, across_b = _kernel_sums(a, b)
    value = within_a.sum() / (n * (n - 1)) + within_b.sum() / (m * (m - 1)) - 2 * across_a.sum() / (n * m)
    # what leaving one example out changes, times n − 1; n − 2 is exact for the U-statistic
    influence_a = 2 * (within_a / (n - 2) - across_a / m)
    influence_b = 2 * (within_b / (m - 2) - across_b / n)
    return value.item(), torch.cat([of_mean(influence_a), of_mean(influence_b)])


def _others(x: Tensor) -> Tensor:
    """Σ_{j≠i} k(x_i, x_j), (n,)."""
    return _kernel_sums(x, x)[0] - _cubic(x.square().sum(1), x.shape[1])


def _kernel_sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j k(x_i, y_j) (n,) and Σ_i k(x_i, y_j) (m,)."""
    by_row, by_column = [], torch.zeros_like(y[:, 0])
    for part in x.split(_AT_ONCE):
        k = _cubic(part @ y.T, x.shape[1])
        by_row.append(k.sum(1))
        by_column += k.sum(0)
    return torch.cat(by_row), by_column


def _cubic(products: Tensor, d: int) -> Tensor:
    return (products / d + 1) ** 3


def paired_rows(*sets: Tensor, at_least: int) -> list[Tensor]:
    """Every set as rows (n, d) of one width; else a `TriptychError`."""
    if len({x.shape[1:] for x in sets}) > 1:
        raise TriptychError(
            f"all sets should have examples of one shape, got {' and '.join(str(tuple(x.shape)) for x in sets)}: "
            "take all from one model and one size"
        )
    return [rows(x, at_least=at_least) for x in sets]


def rows(x: Tensor, *, at_least: int = 1) -> Tensor:
    """Examples (n, …) flattened to (n, d); a `TriptychError` unless they are `at_least` or more finite floats."""
    if x.ndim < 2 or x[:1].numel() < min(len(x), 1) or not x.is_floating_point():
        raise TriptychError(
            f"expected floats (n, …), one example in each row, got {x.dtype} {tuple(x.shape)}: "
            "divide pixels by 255, give single numbers as (n, 1)"
        )
    if len(x) < at_least:
        raise TriptychError(f"this measure needs at least {at_least} examples in each set, got {len(x)}: draw more")
    if not x.isfinite().all():
        raise TriptychError("every value should be finite, got NaN or infinity: look at the samples (triptych doctor)")
    return x.detach().flatten(1)


_AT_ONCE = 1000  # rows of a kernel matrix that are held
