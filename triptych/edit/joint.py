"""The joint method: what z does when one attribute moves and the others stay, and the best reading of exactly that.

Shapes: z (n, L) training codes, a (n, A) attributes, both centred here; v, w, g and n of one attribute (L,), p (A,).

The codes are taken as z = V a + e, with e of any covariance. For an attribute j

    p = (aᵀa)⁻¹ e_j         a·p is a_j without what the other attributes say of it, over its sum of squares
    v = zᵀ a p              column j of the least-squares V: what z does when a_j is higher by 1 and the others are the same
    w = (zᵀz + λI)⁻¹ zᵀ a_j the ridge regression of a_j on z;  g = (zᵀz + λI)⁻¹ v
    n = w + (1 − w·v) / (v·g) g

n has the least E(n·z − a_j)² of all readings with n·v = 1, by Lagrange's multiplier. As n·z − a_j = Σ_k≠j (n·v_k) a_k + n·e
no longer contains a_j then, n ∝ (Σ_e + Σ_k,l≠j v_k Cov(a_k, a_l) v_lᵀ)⁻¹ v as well: generalised least squares for a_j, with
the other attributes as random effects. So n·v = 1 however codes overlap and attributes are correlated, and no calibration
divides by what may be zero or negative. Where the codes tell attributes apart n·v_k → 0; where they do not, the reading
gives up as much of that as its noise is worth, while unbiased estimates of all attributes at once explode.

(Haufe et al. 2014: v is the pattern, n the filter; Frisch & Waugh 1933: p.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_DETERMINED = 1e-3  # share of an attribute's variance that the others leave unexplained, below which they determine it
_TAKES_PART = 0.1  # of the largest standardised coefficient, above which an attribute is one of those that do
_ROUNDING = 1e-8  # relative size of a moment that values in float32 leave of what should be none
_ROUNDS, _ROWS = 30, 1024


class Pair(NamedTuple):
    """n and v of one attribute, each (L,), with n·v = 1; both 0 where the attribute leaves no trace in z."""

    normal: Tensor
    step: Tensor


class Together:
    """Attributes that are regressed on together, each with as many of the others held as can be.

    Those that determine an attribute, alone or with others, cannot be held while it moves, nor can other classes of the same
    one.

    Args:
        attributes: values (n,) by name, NaN where unknown, each varying.
    """

    def __init__(self, attributes: Mapping[str, Tensor]):
        self.names = [*attributes]
        columns = torch.stack([*attributes.values()], 1).double()
        columns = columns - columns.nanmean(0)
        self.spread = columns.square().nanmean(0).sqrt()
        a = imputed(columns / self.spread)
        self.a = a - a.mean(0)  # (n, A), standardised
        self.gram = self.a.T @ self.a

    def held(self, name: str) -> list[int]:
        """The column of an attribute, and those of the others that can be held while it moves."""
        j = self.names.index(name)
        others = [k for k, other in enumerate(self.names) if k != j and not of_one_attribute(name, other)]
        return [j, *_holdable(self.gram, j, others)]

    def contrast(self, columns: Sequence[int]) -> Tensor:
        """p, for the first of the columns (K,): (K,)."""
        return self._inverse(columns)[0]

    def _inverse(self, columns: Sequence[int]) -> Tensor:
        """Of the gram, (K, K); attributes that are held may determine one another."""
        return torch.linalg.pinv(self.gram[columns][:, columns], hermitian=True, rtol=_ROUNDING)

    def slope(self, name: str, c: Tensor) -> tuple[float, float] | None:
        """What c (n,) does when the attribute is higher by 1 and the others are the same, and its standard error.

        None where there are too few examples to tell.
        """
        columns = self.held(name)
        spare = len(c) - len(columns) - 1
        if spare < 1:
            return None
        c = c.double() - c.double().mean()
        moments = self.a[:, columns].T @ c
        inverse = self._inverse(columns)
        slopes = inverse @ moments
        noise = max(float(c @ c - slopes @ moments), 0.0) / spare
        spread = float(self.spread[columns[0]])
        return float(slopes[0]) / spread, (noise * float(inverse[0, 0])) ** 0.5 / spread


def joint_pairs(z: Tensor, attributes: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Pair]:
    """n and v for each of the names, the others of the attributes held; arguments as of `Together`."""
    together = Together(attributes)
    z = z - z.mean(0)
    moments, weights = _moments(z, together.a), ridges(z, together.a).T.double()  # (L, A)
    found = {}
    for name in names:
        columns = together.held(name)
        p, w, spread = together.contrast(columns), weights[:, columns[0]], together.spread[columns[0]]
        v, g = moments[:, columns] @ p, weights[:, columns] @ p
        along = v @ g
        n = w + (1 - w @ v) / along * g if along > 0 else torch.zeros_like(w)
        found[name] = Pair((n * spread).float(), (v / spread).float())
    return found


def of_one_attribute(name: str, other: str) -> bool:
    """Whether both are classes of one attribute, as `axes` names them: one cannot come without another going."""
    attribute, equals, _ = name.partition("=")
    return bool(equals) and other.startswith(attribute + equals)


def _holdable(gram: Tensor, j: int, others: Sequence[int]) -> list[int]:
    """The others without those that determine attribute j: were they held, it could not move."""
    scale = gram.diagonal().sqrt()
    correlation, kept = gram / scale / scale[:, None], list(others)
    while kept:
        to = correlation[kept, j]
        explains = torch.linalg.lstsq(correlation[kept][:, kept], to[:, None], rcond=_ROUNDING, driver="gelsd").solution[
            :, 0
        ]
        if 1 - float(explains @ to) > _DETERMINED:
            break
        size = explains.abs()
        kept = [k for k, part in zip(kept, size.tolist(), strict=True) if part < _TAKES_PART * float(size.max())]
    return kept


def imputed(a: Tensor) -> Tensor:
    """Standardised values (n, A), the unknown ones (NaN) replaced by their expectation given the known ones of the example.

    E[z | known] = V E[a | known], so that regressions on what this returns have the slopes of regressions on all values; the
    mean in place of what is unknown would credit one attribute with another's share. Mean and covariance by
    expectation-maximisation (Dempster, Laird & Rubin 1977); covariances of attributes of which little is known are shrunk.
    """
    there = a.isfinite()
    if there.all():
        return a
    patterns, which = there.unique(dim=0, return_inverse=True)
    counts = which.bincount().double()[:, None, None]
    known = there.sum(0)
    trust = (known / (known + a.shape[1])).sqrt()
    filled, cov = a.nan_to_num(0.0), torch.eye(a.shape[1], dtype=a.dtype)
    mean = torch.zeros(a.shape[1], dtype=a.dtype)
    for _ in range(_ROUNDS):
        slopes = _regressions(cov, patterns.to(a.dtype))
        centred = (a - mean).nan_to_num(0.0)
        parts = zip(centred.split(_ROWS), which.split(_ROWS), strict=True)
        filled = mean + torch.cat([torch.einsum("nij,nj->ni", slopes[pattern], rows) for rows, pattern in parts])
        mean = filled.mean(0)
        left = ((cov - slopes @ cov) * counts).sum(0) / len(a)
        total = (filled - mean).T @ (filled - mean) / len(a) + left
        cov = total * trust * trust[:, None] + torch.diag(total.diagonal() * (1 - trust**2))
    return torch.where(there, a, filled)


def _regressions(cov: Tensor, patterns: Tensor) -> Tensor:
    """Of each pattern of known (1) and unknown values (0), the matrix that makes expectations of known values: (P, A, A)."""
    both = patterns[:, :, None] * patterns[:, None]
    ridge = 1e-6 * torch.eye(cov.shape[1], dtype=cov.dtype)  # attributes that are one and the same may both be known
    inverse = torch.linalg.inv(both * cov + torch.diag_embed(1 - patterns) + ridge) * both
    return cov @ inverse


def _moments(z: Tensor, a: Tensor) -> Tensor:
    """zᵀa in float64, without a copy of z in it: (L, A)."""
    found = torch.zeros(z.shape[1], a.shape[1], dtype=torch.float64)
    for rows, values in zip(z.split(2048), a.split(2048), strict=True):
        found.addmm_(rows.double().T, values)
    return found


def ridges(z: Tensor, a: Tensor) -> Tensor:
    """(ZᵀZ + λI)⁻¹ Zᵀ A, centred, of attributes (n, A) at once: (A, L).

    λ = L/3 times z's mean variance gives each weight a prior of variance 3 / L, as the logistic regression has: with less, a
    flow's thousands of dimensions learn the training data by heart. In float64: its codes are nearly collinear where
    pictures are flat.
    """
    mean, a = z.mean(0), (a - a.mean(0)).double()
    prior = max(z.shape[1] / 3 * float(z.var(0, correction=0).double().mean()), 1e-12)
    if len(z) < z.shape[1]:  # the same by Zᵀ (ZZᵀ + λI)⁻¹ A, whose matrix is the smaller one
        rows = (z - mean).double()
        return torch.linalg.solve(rows @ rows.T + prior * torch.eye(len(z), dtype=torch.float64), a).T.matmul(rows).float()
    gram = prior * torch.eye(z.shape[1], dtype=torch.float64)
    moment = torch.zeros(z.shape[1], a.shape[1], dtype=torch.float64)
    for rows, values in zip((z - mean).split(2048), a.split(2048), strict=True):
        gram.addmm_(rows.double().T, rows.double())
        moment.addmm_(rows.double().T, values)
    return torch.linalg.solve(gram, moment).T.float()
