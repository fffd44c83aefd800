"""The optimal perturbation for a task: z moved to where a score of the picture is highest, held near its start.

    z* = argmax  f(decode(z)) + λ log p(z) / L      subject to  |z − z₀| ≤ r,   z − z₀ in the span of the basis

Shapes: B batch, L latent_dim, E event_shape, T steps, k columns of the basis, P candidates at once.
    x (B, *E) model coordinates · z (B, L) · u (B, k) coordinates of z − z₀ · scores (B,)

Where f can be differentiated, by ascent along its gradient: in a ball the best direction of a linear f is g / |g|, to which
normalised steps lead, and to which Adam's, that are alike in every dimension, do not. Where f is a black box, such as a
person or a tree, by CMA-ES (Hansen 2016, arXiv 1604.00772; the package cma).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from triptych import progress
from triptych.capabilities import Encodes, require
from triptych.core import GenerativeModel, in_parts
from triptych.edit.depth import depth_of
from triptych.errors import TriptychError, check_choice, check_range, check_size
from triptych.modes import evaluating, frozen

Objective: TypeAlias = Callable[[Tensor], Tensor]  # x (B, *E) in model coordinates -> (B,), higher is better
Method = Literal["auto", "gradient", "cma"]
_REACH = 0.25  # the default radius is this share of √L, the length of a typical z ~ N(0, I)
_FIRST = 0.2  # length of the first step, a share of the radius
_SPREAD = 0.3  # of CMA-ES's first candidates: |u| is about this share of the radius
_DENSE = 128  # dimensions, above which CMA-ES adapts a variance for each and no covariances: they are k² numbers


class Optimised(NamedTuple):
    """What `optimise` found, and the way there.

    Attributes:
        x: the best pictures found, model coordinates (B, *E).
        z: their codes, (B, L).
        scores: f(x), (B,).
        path: the best z so far at the start and after each step, (T + 1, B, L): `model.decode` makes a film of it.
        path_scores: f of those, (T + 1, B).
        distance: |z − z₀|, (B,).
    """

    x: Tensor
    z: Tensor
    scores: Tensor
    path: Tensor
    path_scores: Tensor
    distance: Tensor


def optimise(
    model: GenerativeModel,
    x: Tensor,
    objective: Objective,
    *,
    within: float | None = None,
    prior: float = 0.0,
    steps: int = 100,
    method: Method = "auto",
    along: Tensor | None = None,
    context: Tensor | None = None,
    z: Tensor | None = None,
    seed: int = 0,
) -> Optimised:
    """The z near encode(x) whose picture scores highest: argmax f(decode(z)) + λ log p(z) / L over |z − z₀| ≤ r.

    The start counts too, so that no score is lower than that of decode(z₀), which is x up to the reconstruction's error.

    Args:
        x: what is changed; `model.codec.centre(stored)` for stored pictures.
        objective: f: x (B, *E), model coordinates, -> (B,), higher is better. For what scores stored values,
            `lambda x: score(model.codec.decode(x))`, a black box.
        within: r, in units of z; by default √L / 4, a quarter of the length of a draw from N(0, I).
        prior: λ ≥ 0, nats of prior per dimension against one of f.
        steps: of the gradient's ascent, or generations of CMA-ES.
        method: auto: by the gradient where f has one, else by CMA-ES.
        along: (k, L), directions that z may move in, such as `directions["smile"].step[None]` or principal components; by
            default all. CMA-ES finds more by few.
        context: of a conditional model, what x shows, (B, K) or (1, K).
        z: what `model.encode(x, context)` gives, where it is known already.
        seed: of CMA-ES.

    Raises:
        TriptychError: for arguments out of range, an f that does not give B finite numbers at the start, a gradient that
            is asked for and not there, and where the package cma is missing (`pip install triptych[optimise]`).

    >>> brighter = optimise(model, x, lambda x: x.mean((1, 2, 3)), within=2.0)  # doctest: +SKIP
    >>> film = model.decode(brighter.path[:, 0])  # doctest: +SKIP
    """
    check_range("prior", prior, 0, 1e9)
    check_size("steps", steps, 100_000)
    check_choice("method", method, ("auto", "gradient", "cma"))
    radius = reach(model, within)
    if prior and depth_of(model) is not None:
        raise TriptychError("prior holds z, and these are a flow's codes before z: hold them by within alone, or move z")
    context = model.check_context(context, len(model.check_event(x)))
    with evaluating(model), frozen(model):
        start = model.check_latent(_start(model, x, context) if z is None else z).detach()
        search = _Search(model, objective, start, context, prior, radius, basis_of(along, start))
        if method == "auto":
            method = "gradient" if search.differentiable() else "cma"
        return (_ascend if method == "gradient" else _evolve)(search, steps, seed)


def reach(model: GenerativeModel, within: float | None) -> float:
    """r: `within`, checked, or √L / 4."""
    radius = _REACH * math.sqrt(model.latent_dim) if within is None else within
    check_range("within", radius, 1e-9, 1e9)
    return float(radius)


def into_ball(u: Tensor, radius: float) -> Tensor:
    """u (…, k) itself where |u| ≤ r, else the nearest point of the ball: u r / |u|."""
    return u * (radius / u.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)


@torch.no_grad()
def _start(model: GenerativeModel, x: Tensor, context: Tensor | None) -> Tensor:
    return require(model, Encodes).encode(x, context)


def basis_of(along: Tensor | None, z: Tensor) -> Tensor | None:
    """An orthonormal basis of the rows of `along`, (k, L), so that |u| is |z − z₀|; None: all of z."""
    if along is None:
        return None
    if not isinstance(along, Tensor) or along.ndim != 2 or along.shape[1] != z.shape[1] or not along.isfinite().all():
        got = tuple(along.shape) if isinstance(along, Tensor) else repr(along)[:60]
        raise TriptychError(f"along should be directions (k, {z.shape[1]}) of finite numbers, got {got}")
    _, sizes, rows = torch.linalg.svd(along.to(z).double(), full_matrices=False)
    kept = rows[sizes > 1e-6 * sizes.max().clamp(min=1e-30)]
    if not len(kept):
        raise TriptychError("along holds zeros alone: give directions that z may move in")
    return kept.to(z)


@dataclass
class _Search:
    """What is searched: f and the prior over u, and the best of each example so far."""

    model: GenerativeModel
    objective: Objective
    z: Tensor
    context: Tensor | None
    prior: float
    radius: float
    basis: Tensor | None

    def __post_init__(self) -> None:
        self.path, self.path_scores = [self.z], [self.scored(self.z)]
        self.best = self.valued(self.z, self.path_scores[0])
        if not self.best.isfinite().all():
            raise TriptychError(
                "the objective is NaN or infinite for the examples as they are: correct it, or leave them out"
            )

    @property
    def dimensions(self) -> int:
        return self.z.shape[1] if self.basis is None else len(self.basis)

    def codes(self, u: Tensor) -> Tensor:
        """z₀ + u in the basis: (B, k) -> (B, L)."""
        return self.z + (u if self.basis is None else u @ self.basis)

    @torch.no_grad()
    def scored(self, z: Tensor) -> Tensor:
        """f(decode(z)) without a graph: (B, L) -> (B,)."""
        return self._scored(z, self.context)

    def _scored(self, z: Tensor, context: Tensor | None) -> Tensor:
        scores = self.objective(self.model.decode(z, context))
        if not isinstance(scores, Tensor) or scores.shape != (len(z),):
            got = tuple(scores.shape) if isinstance(scores, Tensor) else f"{type(scores).__name__}"
            raise TriptychError(f"the objective should give a tensor of {len(z)} scores, one for each example, got {got}")
        return scores.to(z)

    def valued(self, z: Tensor, scores: Tensor) -> Tensor:
        """f + λ log p(z) / L of scores (B,)."""
        if not self.prior:
            return scores
        return scores + self.prior * self.model.prior.log_prob(z) / z.shape[1]  # type: ignore[operator]

    def with_gradient(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values and scores (B,) at u, and ∂value/∂u (B, k)."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            z = self.codes(u)
            scores = self._scored(z, self.context)
            values = self.valued(z, scores)
            if not scores.requires_grad:
                raise TriptychError("the objective has no gradient (it left torch, or detached): ask for method='cma'")
            (gradient,) = torch.autograd.grad(values.sum(), u)
        return values.detach(), scores.detach(), gradient.nan_to_num(0.0, 0.0, 0.0)

    def differentiable(self) -> bool:
        """Whether f has a gradient, asked with the examples as they are: f may have a target for each."""
        with torch.enable_grad():
            return self._scored(self.z.clone().requires_grad_(), self.context).requires_grad

    def keep(self, z: Tensor, values: Tensor, scores: Tensor) -> None:
        """A step of the path: z where it is better than all before, else the best before."""
        better = values > self.best  # False for NaN
        self.best = torch.where(better, values, self.best)
        self.path.append(torch.where(better[:, None], z, self.path[-1]))
        self.path_scores.append(torch.where(better, scores, self.path_scores[-1]))

    @torch.no_grad()
    def result(self) -> Optimised:
        z = self.path[-1]
        x = torch.cat([self.model.decode(*part) for part in in_parts(z, self.context)])
        path, scores = torch.stack(self.path), torch.stack(self.path_scores)
        return Optimised(x, z, scores[-1], path, scores, (z - self.z).norm(dim=1))


def _ascend(search: _Search, steps: int, seed: int) -> Optimised:
    """u ← the ball's nearest point to u + η g / |g|, where η falls by a cosine."""
    u = torch.zeros(len(search.z), search.dimensions).to(search.z)
    values, scores, gradient = search.with_gradient(u)
    with progress.begun("optimising", steps) as task:
        for step in range(steps):
            length = _FIRST * search.radius * 0.5 * (1 + math.cos(math.pi * step / steps))
            ascent = length * gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-30)
            u = into_ball(u + ascent, search.radius)
            values, scores, gradient = search.with_gradient(u)
            search.keep(search.codes(u), values, scores)
            task.update(step + 1)
    return search.result()


def _evolve(search: _Search, steps: int, seed: int) -> Optimised:
    """A generation of each example's CMA-ES a step; candidates of one rank are decoded together."""
    strategies = [_strategy(search, [seed, row]) for row in range(len(search.z))]
    with progress.begun("optimising", steps) as task:
        for step in range(steps):
            asked = [strategy.ask() for strategy in strategies]
            candidates = torch.tensor(np.array(asked), dtype=search.z.dtype, device=search.z.device)  # (B, P, k)
            values = _generation(search, candidates)
            for strategy, points, found in zip(strategies, asked, values.tolist(), strict=True):
                strategy.tell(points, [-v if math.isfinite(v) else math.inf for v in found])
            task.update(step + 1)
    return search.result()


@torch.no_grad()
def _generation(search: _Search, candidates: Tensor) -> Tensor:
    """Values (B, P) of candidates (B, P, k), those outside the ball at its nearest point; the best of each is kept."""
    rows, found, tried = range(len(candidates)), [], []
    for u in into_ball(candidates, search.radius).unbind(1):
        z = search.codes(u)
        scores = search.scored(z)
        found.append((search.valued(z, scores), scores))
        tried.append(z)
    values, scores = (torch.stack(side, 1) for side in zip(*found, strict=True))  # (B, P)
    best = values.nan_to_num(-math.inf).argmax(1)
    search.keep(torch.stack(tried, 1)[rows, best], values[rows, best], scores[rows, best])
    return values


def _strategy(search: _Search, seed: list[int]) -> Any:
    """A CMA-ES around u = 0 with random numbers of its own: the package would seed NumPy's for all."""
    try:
        import cma
    except ImportError:
        raise TriptychError(
            "a score without a gradient is optimised by CMA-ES of the package cma: pip install 'triptych[optimise]'"
        ) from None
    random, k = np.random.default_rng(seed), search.dimensions
    settings = {
        "verbose": -9,
        "seed": math.nan,
        "randn": lambda *shape: random.standard_normal(shape),
        "CMA_diagonal": k > _DENSE,
        "maxiter": math.inf,
    }
    return cma.CMAEvolutionStrategy(np.zeros(k), _SPREAD * search.radius / math.sqrt(k), settings)
