"""Moves in z: set calibrated coordinates, go through their values, walk between examples, span a manifold.

Shapes: B batch, L latent_dim, E event_shape; x (B, *E) model coordinates, z (B, L).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from triptych.capabilities import Encodes, require
from triptych.core import GenerativeModel
from triptych.edit.depth import fitting
from triptych.edit.directions import Direction, Directions
from triptych.edit.inversion import coordinate_model
from triptych.errors import TriptychError, check_size
from triptych.modes import in_eval_mode

Value: TypeAlias = float | str | Tensor


def move(
    z: Tensor,
    values: Mapping[str, float | Tensor],
    directions: Directions,
    *,
    add: Mapping[str, float | Tensor] | None = None,
    hold: Sequence[str] = (),
    read: Tensor | None = None,
) -> Tensor:
    """z' = z + Σ_j δ_j v_j, with δ such that every named coordinate takes its value.

    The coordinates are solved for together, (n_i·v_j) δ = s ⊙ (c' − c), so that setting two correlated ones gives both.

    Args:
        values: c' by name, numbers or (B,).
        add: what to add to c instead.
        hold: names whose coordinate must not change.
        read: codes (B, L) of the same data from which c is read, by default z: those that the directions were calibrated on.

    Raises:
        TriptychError: for an unknown name, one that is both set and added to, and for values that exclude one another, as of
            two names for one attribute, or of more attributes than z has dimensions.
    """
    add, read = add or {}, z if read is None else read
    names = list(dict.fromkeys([*values, *add, *hold]))
    if not names:
        return z
    if twice := sorted(set(values) & set(add)):
        raise TriptychError(f"{', '.join(twice)} is both set and added to: do one")
    chosen = [directions[name] for name in names]
    normals = torch.stack([d.normal.to(z) / d.scale for d in chosen])  # (k, L)
    steps = torch.stack([d.step.to(z) for d in chosen])  # (k, L)
    wanted = []
    for name, direction in zip(names, chosen, strict=True):
        change = torch.as_tensor(values.get(name, add.get(name, 0.0)), dtype=z.dtype, device=z.device)
        wanted.append((change - direction.coordinate(read) if name in values else change).expand(len(z)))
    return z + _solved(chosen, normals @ steps.T, torch.stack(wanted)).T @ steps


def _solved(chosen: Sequence[Direction], effects: Tensor, wanted: Tensor) -> Tensor:
    """δ (k, B) with effects (k, k) δ = wanted (k, B), each coordinate in units of its range.

    Raises:
        TriptychError: where effects that are combinations of one another are wanted not to be, with the names in them.
    """
    widths = torch.tensor([max(d.range[1] - d.range[0], 1e-6) for d in chosen], dtype=torch.float64)[:, None]
    u, size, vh = torch.linalg.svd(effects.double().cpu() / widths * widths.T)
    free, target = size > _SAME * size.max(), wanted.double().cpu() / widths
    along = u.T @ target
    missed = u[:, ~free] @ along[~free]  # what no move reaches
    if (missed.abs().amax(0) > _SAME * target.abs().amax(0)).any():
        involved = (u[:, ~free].abs().amax(1) > _TAKES_PART).tolist()
        excluding = ", ".join(d.name for d, part in zip(chosen, involved, strict=True) if part)
        raise TriptychError(
            f"{excluding} move the same thing and cannot take these values together: set or hold fewer of them"
        )
    return (widths * (vh[free].T @ (along[free] / size[free, None]))).to(wanted)


@torch.no_grad()
@in_eval_mode
def apply(
    model: GenerativeModel,
    x: Tensor,
    values: Mapping[str, Value],
    directions: Directions,
    *,
    hold: Sequence[str] = (),
    context: Tensor | None = None,
    z: Tensor | None = None,
) -> Tensor:
    """x with the named coordinates set: decode(encode(x) moved), (B, *E), at the directions' own depth.

    Directions of several depths are set one depth after another, in the order of their names.

    Args:
        x: model coordinates; `model.codec.centre(stored)` for stored pictures.
        values: {"smile": 1.5} sets c; {"smile": "+1.5"}, a text that begins with a plus, adds to it.
        hold: names whose coordinate must not change.
        context: of a conditional model, what x shows, (B, K) or (1, K).
        z: what `model.encode(x, context)` gives, where it is known already: an inversion is long work.

    Raises:
        TriptychError: for an unknown name (the nearest ones are offered), a text that is not a number, a model without an
            encoder, and for `hold` together with directions of several depths.

    >>> edited = apply(model, x, {"smile": 1.5, "age": "+1"}, directions)  # doctest: +SKIP
    """
    numbers, add = strengths(values)
    for depth, chosen in _by_depth(directions, list(values), hold).items():
        part = fitting(model, chosen)
        found, read = _codes(part, x, context, z if depth is None else None)
        sets, adds = ({name: value for name, value in given.items() if name in chosen} for given in (numbers, add))
        x, z = part.decode(move(found, sets, chosen, add=adds, hold=hold, read=read), context), None
    return x


@torch.no_grad()
@in_eval_mode
def sweep(
    model: GenerativeModel,
    x: Tensor,
    name: str,
    values: Sequence[float],
    directions: Directions,
    *,
    hold: Sequence[str] = (),
    context: Tensor | None = None,
    z: Tensor | None = None,
) -> Tensor:
    """x with one coordinate set to each value in turn: (B, len(values), *E); arguments as of `apply`."""
    ((depth, chosen),) = _by_depth(directions, [name], hold).items()
    part = fitting(model, chosen)
    found, read = _codes(part, x, context, z if depth is None else None)
    moved = [part.decode(move(found, {name: float(v)}, chosen, hold=hold, read=read), context) for v in values]
    return torch.stack(moved, dim=1)


@torch.no_grad()
@in_eval_mode
def change_context(
    model: GenerativeModel, x: Tensor, context: Tensor | None, given: Tensor, *, z: Tensor | None = None
) -> Tensor:
    """x with its condition changed and its z kept: decode(encode(x | context) | given), (B, *E).

    A conditional model's z is independent of its context, so that what the context does not say stays.

    Args:
        x: model coordinates; `model.codec.centre(stored)` for stored pictures.
        context: what x shows now, (B, K) or (1, K); None where it is unknown.
        given: what it should show, (B, K) or (1, K).
        z: what `model.encode(x, context)` gives, where it is known already.

    Raises:
        TriptychError: for a model without an encoder, and for one without conditions.

    >>> with_glasses = change_context(model, x, None, model.conditions.parse("glasses=yes"))  # doctest: +SKIP
    """
    if z is None:
        z = require(model, Encodes).encode(model.check_event(x), model.check_context(context, len(x)))
    return model.decode(z, model.check_context(given, len(x)))


def _by_depth(directions: Directions, names: Sequence[str], hold: Sequence[str]) -> dict[int | None, Directions]:
    """An edit's directions, apart by depth, looked up before any work; held ones are solved for with those that move."""
    if not hold:
        return directions.by_depth(names) or {None: Directions()}
    chosen = Directions({name: directions[name] for name in [*names, *hold]})
    return {chosen.depth: chosen}


def _codes(model: GenerativeModel, x: Tensor, context: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor]:
    """z to move, and the codes to read coordinates from, which differ where z is found by optimisation."""
    if z is None:
        z = require(model, Encodes).encode(model.check_event(x), context)
    by = coordinate_model(model)
    return z, z if by is model else require(by, Encodes).encode(x, context)


@torch.no_grad()
@in_eval_mode
def interpolate(model: GenerativeModel, x0: Tensor, x1: Tensor, n: int, *, context: Tensor | None = None) -> Tensor:
    """n examples on the straight line in z from x0 to x1 (B, *E), both ends decoded: (B, n, *E).

    Args:
        context: of a conditional model, what they all show, (B, K) or (1, K).
    """
    if n < 2:
        raise TriptychError(f"interpolate expects at least 2 steps, got {n}")
    if x0.shape != x1.shape:
        raise TriptychError(f"interpolate expects as many ends as beginnings, got {tuple(x0.shape)} and {tuple(x1.shape)}")
    encoder = require(model, Encodes)
    z0, z1 = (encoder.encode(model.check_event(x), context) for x in (x0, x1))
    first = model.decode(z0, context)
    found = first[:, None].repeat(1, n, *[1] * (first.ndim - 1))  # what does not fit into memory is said before any work
    for i, t in enumerate(torch.linspace(0, 1, n).tolist()):
        found[:, i] = model.decode(torch.lerp(z0, z1, t), context)
    return found


@torch.no_grad()
@in_eval_mode
def manifold(model: GenerativeModel, x: Tensor, n: int, *, context: Tensor | None = None) -> Tensor:
    """The two-dimensional manifold in z that four examples span (RealNVP, arXiv 1605.08803, section 4.2 and equation 19).

        z = cos φ (cos φ' z₁ + sin φ' z₂) + sin φ (cos φ' z₃ + sin φ' z₄),   φ, φ' = 2π j / n,  j = 0 … n − 1

    The four weights' squares sum to 1, so that independent z₁ … z₄ ~ N(0, I) give z ~ N(0, I) everywhere on the grid: it
    stays as typical as its corners, where a straight line passes through the unlikely middle. φ = φ' = 0 is x₁.

    Args:
        model: with an encoder.
        x: four examples in model coordinates, (4, *E).
        context: of a conditional model, what they all show, (1, K).
        n: angles in each direction; where 4 divides n, all four examples are on the grid (φ, φ' = 0 or π/2).

    Returns:
        (n, n, *E): φ along the first axis, φ' along the second.

    Raises:
        TriptychError: unless there are four examples and n ≥ 2, and for a model without an encoder.

    >>> pictures = manifold(model, model.codec.centre(stored[:4]), 8)  # doctest: +SKIP
    """
    if len(x) != 4:
        raise TriptychError(f"a manifold is spanned by 4 examples, got {len(x)}: give four, or interpolate between two")
    check_size("the steps of a manifold", n, _MOST_ANGLES, least=2)
    z = require(model, Encodes).encode(model.check_event(x), context)
    angles = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    circle = torch.stack([angles.cos(), angles.sin()], dim=1).to(z)  # (n, 2)
    weights = torch.einsum("ia,jb->ijab", circle, circle).reshape(n * n, 4)  # cos cos, cos sin, sin cos, sin sin
    return torch.stack([model.decode(part @ z, context) for part in weights.split(n)])


def strengths(values: Mapping[str, Value]) -> tuple[dict[str, float | Tensor], dict[str, float | Tensor]]:
    """What coordinates are set to, and what is added to them: a text that begins with a plus adds.

    Raises:
        TriptychError: for a text that is not a number.

    >>> strengths({"smile": 1.5, "age": "+0.2"})
    ({'smile': 1.5}, {'age': 0.2})
    """
    added = {name for name, value in values.items() if isinstance(value, str) and value.strip().startswith("+")}
    numbers = {name: value if isinstance(value, Tensor) else _number(name, value) for name, value in values.items()}
    return numbers, {name: numbers.pop(name) for name in values if name in added}


FARTHEST = 1e6
"""Coordinates are set, and added to, within ± this."""
_SAME = 1e-3  # relative size of an effect, below which it is none: codes would go a thousand times as far as is wanted
_TAKES_PART = 0.05  # size of a name in a unit combination, above which it is named
_MOST_ANGLES = 256  # their square is the number of examples that are decoded


def _number(name: str, text: str | float) -> float:
    try:
        value = float(text.strip().removeprefix("+") if isinstance(text, str) else text)
    except ValueError:
        value = math.nan
    if not abs(value) < FARTHEST:
        raise TriptychError(f"{name}={text}: expected a number within ±{FARTHEST:g}, such as 1.5 (sets) or +1.5 (adds)")
    return value
