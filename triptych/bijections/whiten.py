"""Whitening: an affine map, fitted once, after which the channels have mean 0 and the identity as covariance.

Shapes: x, z (B, C, *S); N rows (N, C), one for each example and position; U (C, R) orthonormal columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from triptych.bijections.actnorm import Initialised, check_batch
from triptych.bijections.bijection import same_ladj
from triptych.errors import TriptychError, check_choice, check_size
from triptych.randomness import seeded

MOST_CHANNELS = 4096
"""Channels that are whitened without a rank: U holds C² numbers, 64 MiB at this bound."""
_FLOOR = 1e-6  # smallest variance, as a share of the mean one: without it constant channels would be divided by zero
_FOLDS = 4
_FEW = 2  # examples for each channel from which on nothing is said
_AT_ONCE = 2**21  # numbers of float64 at a time
_OVERSAMPLED, _ITERATIONS = 10, 4  # of the randomised decomposition (Halko et al. 2011, sections 4.2 and 4.5)
_MANY, _SMALL_PART = 512, 6  # subspace iteration is the faster from so many channels on, for at most a sixth of them
_NEAR, _SQUARED = 0.1, 4  # |MᵀM − I| below which so many of Newton's steps leave float64's rounding
_ROUNDS = 9  # of it: each is a product with the covariance and an orthonormalisation


class Whiten(Initialised):
    """z = Λ^(−½) Uᵀ (x − m) ("pca"), or z = U Λ^(−½) Uᵀ (x − m) ("zca": that which moves x least); ladj = −½ |S| Σ log λ.

    m is the mean, U Λ Uᵀ the covariance of the channels, the same map at every position, fixed once `initialize` or `fit`
    has seen data. Components are sorted from large to small variance. With a rank r there are r components, and what is
    orthogonal to them has one variance τ in common:

        zca   z = τ^(−½) (x − m) + U (Λ^(−½) − τ^(−½)) Uᵀ (x − m)
        pca   z = (Λ^(−½) Uᵀ (x − m), τ^(−½) U⊥ᵀ (x − m)), (U, U⊥) made of one block reflector, so that no C × C is needed

    A sample's covariance has its small variances too small and its large ones too large: with few data a Gaussian that
    believes it finds anything new all but impossible. So λ are variances of held-out data (Bartz 2016, arXiv 1611.00798):
    of each of 4 folds along the components of the other three, averaged by rank and made monotone. Directions in which the
    data do not vary, as some never do with fewer examples than channels, share the mean held-out variance that is left. A
    variance is at least 1e-6 of their mean, so that constant channels are safe.

    A whole event is whitened as a vector: Chain([Flatten(shape), Whiten(D), Unflatten(shape)]); patches after a `Squeeze`.
    Of a picture's D²/2 covariances, most are those of distant pixels, small, and for the greater part chance. With a reach r
    a covariance at distance d is multiplied by exp(−d²/2r²) first, as ensemble Kalman filters do (Houtekamer & Mitchell
    2001, section 3); a product of two such matrices, entry by entry, is a covariance again (Schur).

    Args:
        channels: C.
        kind: "pca" or "zca".
        rank: r, from 1 to C − 1; None keeps all components, which takes C² numbers and is refused beyond C = 4,096.
        places: S of a whole event that was flattened from (C′, *S) to C = C′·|S| channels.
        reach: distance of positions, among those places, at which covariances are multiplied by e^(−½); None believes them
            as they are. Without a rank only.

    Raises:
        TriptychError: for sizes that cannot be, and for use before data were seen.

    >>> layer = Whiten(3)
    >>> z = layer.initialize(torch.randn(2000, 3) @ torch.randn(3, 3))
    >>> torch.allclose(z.T @ z / len(z), torch.eye(3), atol=0.05)
    True
    """

    examples = 20_000
    seen: int = 0  # rows of the last fit
    mean: Tensor
    components: Tensor
    rotation: Tensor
    std: Tensor
    rest: Tensor

    def __init__(
        self,
        channels: int,
        kind: Literal["pca", "zca"] = "pca",
        rank: int | None = None,
        places: Sequence[int] = (),
        reach: float | None = None,
    ):
        super().__init__()
        check_choice("kind", kind, ("pca", "zca"))
        check_size("channels", channels, 2**31)
        if rank is not None:
            check_size("rank", rank, channels - 1)
        elif channels > MOST_CHANNELS:
            raise TriptychError(f"whitening {channels:,} channels takes a matrix of {channels**2:,} numbers: give a rank, "
                                f"such as rank=512, or whiten patches (Squeeze first)")  # fmt: skip
        if channels % math.prod(places) or (reach is not None and rank is not None):
            raise TriptychError(f"a reach is for whole events of {tuple(places)} positions, without a rank: got {channels} "
                                f"channels, rank={rank}")  # fmt: skip
        self.kind, self.rank, self.places, self.reach = kind, rank, tuple(places), reach
        kept = channels if rank is None else rank
        self.reflected = kind == "pca" and rank is not None
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("components", torch.zeros(channels, kept))  # U, or the block reflector's G
        self.register_buffer("rotation", torch.zeros(kept, kept) if self.reflected else torch.zeros(0))
        self.register_buffer("std", torch.ones(kept))
        self.register_buffer("rest", torch.ones(()))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.check_ready()
        y = x.movedim(1, -1) - self.mean
        if self.kind == "zca":
            z = self._stretched(y, self.std.reciprocal(), self.rest.reciprocal())
        else:
            z = self._turned(y) / self._stds()
        return z.movedim(-1, 1), same_ladj(-self._stds().log().sum(), x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        self.check_ready()
        z = z.movedim(1, -1)
        y = self._stretched(z, self.std, self.rest) if self.kind == "zca" else self._turned_back(z * self._stds())
        return (y + self.mean).movedim(-1, 1)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.fit(x)
        return self(x)[0]

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Sets mean and covariance to those of x (B, C, *S), in place of whatever they were."""
        check_batch(x, "Whiten")
        units = x.movedim(1, -1).flatten(1, -2) if x.ndim > 2 else x[:, None]  # (B, P, C)
        if len(units) < 2 * _FOLDS:
            units = units.reshape(-1, 1, x.shape[1])
        self._set(*_fitted(units, len(self.std), self.places, self.reach))
        self.seen = units.shape[0] * units.shape[1]

    def remark(self) -> str:
        """What a person should know of the last fit: that examples were few, that the rank leaves components out; or ""."""
        channels, kept = self.components.shape
        said = []
        if 0 < self.seen < _FEW * channels:
            said.append(f"{self.seen:,} examples are few for {channels:,} variances: held-out parts of them give these")
        if self.rank is not None:
            said.append(f"{kept:,} of {channels:,} components have a variance of their own, the rest one in common")
        return "; ".join(said)

    @torch.no_grad()
    def set_moments(self, mean: Tensor | None = None, covariance: Tensor | None = None) -> None:
        """Sets mean (C,) and covariance (C, C) to given ones, zeros and the identity by default: then z = x."""
        channels, kept = self.components.shape
        mean = torch.zeros_like(self.mean) if mean is None else mean
        if covariance is None:
            self._set(mean, torch.eye(channels, kept), torch.ones(channels))
        else:
            self._set(mean, *_decomposed(covariance.double(), kept))

    @torch.no_grad()
    def straighten(self) -> None:
        """Makes U orthonormal again, after it was rounded to fewer bits: the nearest such U. Else `inverse` does not undo
        `forward`.
        """
        if not self.ready:
            return
        scale = math.sqrt(2) if self.reflected else 1.0  # of a block reflector I − G Gᵀ, Gᵀ G is 2 I
        self.components.copy_(scale * _nearest_orthonormal(self.components / scale))
        if self.reflected:
            self.rotation.copy_(_nearest_orthonormal(self.rotation))

    def _set(self, mean: Tensor, components: Tensor, variance: Tensor) -> None:
        """The variances (C,) beyond the components are averaged."""
        kept = components.shape[1]
        floor = _FLOOR * variance.mean()
        variance = variance.clamp_min(floor if floor > 0 else 1.0)
        self.mean.copy_(mean)
        self.std.copy_(variance[:kept].sqrt())
        self.rest.copy_(variance[kept:].mean().sqrt() if self.rank else variance.new_zeros(()))
        if self.reflected:
            components, rotation = _reflector(components.double())
            self.rotation.copy_(rotation)
        self.components.copy_(components)
        self.mark()

    def _stds(self) -> Tensor:
        """Of each of the C components."""
        return torch.cat([self.std, self.rest.expand(len(self.mean) - len(self.std))])

    def _stretched(self, y: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """y (…, C) multiplied by `along` (R,) along the components and by `across` in all other directions, if any."""
        if self.rank is None:
            return ((y @ self.components) * along) @ self.components.T
        return across * y + ((y @ self.components) * (along - across)) @ self.components.T

    def _turned(self, y: Tensor) -> Tensor:
        """(U, U⊥)ᵀ y."""
        if not self.reflected:
            return y @ self.components
        y = y - (y @ self.components) @ self.components.T
        return torch.cat([y[..., : len(self.std)] @ self.rotation, y[..., len(self.std) :]], -1)

    def _turned_back(self, y: Tensor) -> Tensor:
        """(U, U⊥) y."""
        if not self.reflected:
            return y @ self.components.T
        y = torch.cat([y[..., : len(self.std)] @ self.rotation.T, y[..., len(self.std) :]], -1)
        return y - (y @ self.components) @ self.components.T


class _Moments(NamedTuple):
    """Of n units, each of which has as many rows: their mean (C,) and the scatter Σ (x − mean)(x − mean)ᵀ, in float64."""

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, units: Tensor) -> _Moments:
        """Of units (N, P, C)."""
        n, places, channels = units.shape
        mean = torch.stack([chunk.sum(0) for chunk in _chunks(units)]).sum(0) / (n * places)
        scatter = torch.zeros(channels, channels, dtype=torch.float64, device=units.device)
        for chunk in _chunks(units):
            centred = chunk - mean
            scatter.addmm_(centred.T, centred)
        return cls(n, mean, scatter / places)

    @classmethod
    def joined(cls, parts: Sequence[_Moments]) -> _Moments:
        """Of the units of all parts."""
        n = sum(part.n for part in parts)
        mean = torch.stack([part.n * part.mean for part in parts]).sum(0) / n
        scatter = torch.zeros_like(parts[0].scatter)
        for part in parts:
            scatter += part.scatter
            scatter.addr_(part.mean - mean, part.mean - mean, alpha=part.n)
        return cls(n, mean, scatter)


def _chunks(units: Tensor) -> Iterator[Tensor]:
    """Rows (n, C) in float64."""
    rows = units.flatten(0, 1)
    yield from (chunk.double() for chunk in rows.split(max(1, _AT_ONCE // rows.shape[1])))


def _fitted(units: Tensor, kept: int, places: Sequence[int], reach: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, components U (C, kept) and held-out variances (C,) of units (N, P, C)."""
    from sklearn.isotonic import isotonic_regression  # half a second to import

    folds = min(_FOLDS, len(units))
    if units.shape[-1] <= MOST_CHANNELS:
        taper = None if reach is None else _taper(places, reach, units)
        mean, components, held_out = _exactly(units, kept, folds, taper)
    else:
        mean, components, held_out = _roughly(units, kept, folds)
    monotone = isotonic_regression(held_out.mean(0).cpu().numpy(), increasing=False)
    return mean, components, torch.from_numpy(monotone.copy()).to(units.device)


def _exactly(units: Tensor, kept: int, folds: int, taper: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, components, and each fold's variances (folds, C), by covariance matrices."""
    parts, held_out = [_Moments.of(units[k::folds]) for k in range(folds)], []
    for part in parts:
        others = _Moments.joined([other for other in parts if other is not part])
        between = part.mean - others.mean
        covariance = part.scatter / part.n + torch.outer(between, between)
        components = _principal(others.scatter, kept, taper)
        along = ((covariance @ components) * components).sum(0)
        variance = _with_rest(along, covariance.trace(), len(covariance))
        # a taper leaves no direction without variance, hence none that is arbitrary
        held_out.append(_shared(variance, others.n * units.shape[1] - 1 if taper is None else len(variance)))
    whole = _Moments.joined(parts)
    return whole.mean, _principal(whole.scatter, kept, taper), torch.stack(held_out)


def _principal(scatter: Tensor, kept: int, taper: Tensor | None) -> Tensor:
    """The first `kept` eigenvectors (C, kept), from large to small.

    Few among many channels are found by subspace iteration (Halko et al. 2011, algorithm 4.4), which is faster. They are
    orthonormal to rounding; those at the end are mixed with their successors where the spectrum is flat, so that their
    variances, which are measured along them, are a few per cent below the largest that there are.
    """
    channels = len(scatter)
    if taper is not None or channels < _MANY or _SMALL_PART * kept > channels:
        return _decomposed(scatter, kept, taper)[0]
    with seeded(0, scatter.device):
        q = torch.randn(channels, kept + max(16, kept // 6), dtype=scatter.dtype).to(scatter.device)
    for _ in range(_ROUNDS):
        q = torch.linalg.qr(scatter @ q)[0]
    within = torch.linalg.eigh(q.T @ scatter @ q)[1]
    return _signed((q @ within).flip(1)[:, :kept])


def _with_rest(along: Tensor, total: Tensor, channels: int) -> Tensor:
    """Variances (C,): those along the first components, and of all others the mean of what is left of the total."""
    others = channels - len(along)
    return torch.cat([along, ((total - along.sum()) / max(1, others)).expand(others)])


def _taper(places: Sequence[int], reach: float, units: Tensor) -> Tensor:
    """exp(−d² / 2 reach²) for each two of the channels (C, C), d the distance of their positions."""
    taper = torch.ones(1, 1, dtype=torch.float64, device=units.device)
    for side in places:
        at = torch.arange(side, dtype=torch.float64, device=units.device)
        taper = torch.kron(taper, (-0.5 * ((at[:, None] - at) / reach).square()).exp())
    return taper.repeat(*(units.shape[-1] // len(taper),) * 2)


def _roughly(units: Tensor, kept: int, folds: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same for many channels, without a C × C: leading components by a randomised decomposition."""
    rows, channels = units.flatten(0, 1), units.shape[-1]
    held_out = []
    for k in range(folds):
        held = torch.arange(len(rows), device=rows.device) // units.shape[1] % folds == k
        mean, components = _leading(rows[~held], kept)
        centred = rows[held] - mean
        variance = (centred @ components).double().square().mean(0)
        whole = _with_rest(variance, centred.double().square().mean(0).sum(), channels)
        held_out.append(_shared(whole, int((~held).sum()) - 1))
    return *_leading(rows, kept), torch.stack(held_out)


def _shared(variance: Tensor, ranks: int) -> Tensor:
    """The variances with those beyond the data's rank, whose directions are arbitrary, replaced by their mean."""
    return torch.cat([variance[:ranks], variance[ranks:].mean().expand(len(variance[ranks:]))])


def _decomposed(covariance: Tensor, kept: int, taper: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Its first `kept` eigenvectors (C, kept), from large to small, and all eigenvalues (C,), tapered first."""
    covariance = covariance if taper is None else covariance * taper
    variance, components = torch.linalg.eigh(covariance)
    return _signed(components.flip(1)[:, :kept]), variance.flip(0)


def _leading(rows: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Mean and the first components (C, kept) of rows (N, C); where the data do not have as many, any others."""
    mean = rows.mean(0)
    q = min(kept + _OVERSAMPLED, *rows.shape)
    with seeded(0, rows.device):
        found = torch.svd_lowrank(rows - mean, q, niter=_ITERATIONS)[2][:, :kept]
        others = torch.randn(rows.shape[1], kept - found.shape[1], dtype=rows.dtype).to(rows.device)
    return mean, _signed(torch.linalg.qr(torch.cat([found, others], 1).double())[0]).to(rows.dtype)


def _nearest_orthonormal(matrix: Tensor) -> Tensor:
    """The polar factor M (MᵀM)^(−½) of a matrix (C, R), in float64.

    Of one that rounding has moved little by Newton's iteration M ← M (3 I − MᵀM) / 2 (Higham 1986), whose error E = MᵀM − I
    is squared in each step where |E| < 1; a decomposition of MᵀM ≈ I by two threads takes twenty times as long.
    """
    matrix = matrix.double()
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    error = matrix.T @ matrix - eye
    if not error.norm() < _NEAR:
        values, vectors = torch.linalg.eigh(error + eye)
        return matrix @ (vectors * values.rsqrt()) @ vectors.T
    for _ in range(_SQUARED):
        matrix = matrix - 0.5 * matrix @ error
        error = matrix.T @ matrix - eye
    return matrix


def _signed(components: Tensor) -> Tensor:
    """Each column with the sign that makes its largest entry positive: decompositions leave it open."""
    largest = components.abs().argmax(0, keepdim=True)
    return components * torch.take_along_dim(components, largest, 0).sign()


def _reflector(components: Tensor) -> tuple[Tensor, Tensor]:
    """G (C, R) and a rotation −P (R, R) such that U = (I − G Gᵀ)(−P; 0).

    Let P be the orthogonal factor of U's upper R rows, A = S P with S ≥ 0. Then U Pᵀ has the upper rows S, and with
    W = U Pᵀ + (I; 0) the block reflector I − W (I + S)⁻¹ Wᵀ maps (I; 0) to −U Pᵀ; (I + S)⁻¹ has condition 2 at the most.
    """
    kept = components.shape[1]
    left, scale, right = torch.linalg.svd(components[:kept])
    p = left @ right
    w = components @ p.T
    w[:kept].diagonal().add_(1)
    root = (left * (1 + scale).rsqrt()) @ left.T
    return w @ root, -p
