"""Filling in the hidden part of data by noisy ascent of log p (NICE, arXiv 1410.8516, section 5.2).

Shapes: B batch, E event_shape; x (B, *E) model coordinates, mask (*E) or (B, *E), True where hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from triptych.capabilities import HasDensity, require
from triptych.core import GenerativeModel
from triptych.errors import TriptychError, check_range, check_size, unknown
from triptych.modes import in_eval_mode
from triptych.randomness import standard_normal

Rates: TypeAlias = list[tuple[float, float]]


@in_eval_mode
def inpaint(
    model: GenerativeModel,
    x: Tensor,
    mask: Tensor,
    *,
    steps: int = 1000,
    scale: float | Tensor | None = None,
    temperature: float | None = None,
    start: Tensor | None = None,
    context: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """x with its hidden part filled in, the observed part kept to the bit: (B, *E).

    NICE's update, for i = 0 … steps − 1, with the values x_H counted in units of σ (the paper has σ = 1):

        x_H ← Π[x_H + α_i (σ² ∂log p(x_O, x_H)/∂x_H + σ ε)],   α_i = 10 / (100 + i),   ε ~ N(0, I)

    From the paper: α_i, the noise of standard deviation α_i (not Langevin's √(2α_i): its temperature is α_i/2, so that it
    cools towards a mode), and Π, the projection to the data's range, [0, 1] for pictures.

    Not from the paper, σ: with σ = 1, bins that are 1/256 wide make a step throw values from 0 to 1 and back. (The
    authors' code divides the gradient by its batch of 100, which the formula does not say.) By default it is each value's
    own, 1/√E[(∂log p/∂x_d)²] over 128 draws of the model: for independent Gaussian values, their standard deviation. Nor
    the start: the authors' code takes uniform noise; here it is the hidden part of that draw whose observed part is
    nearest. Median log p of 24 digits of 8×8, half of the rows hidden, by a small Glow after 500 steps: −85,000 nats for
    `scale=1, start=torch.rand_like(x)`, the original; −580 with σ of each value but that start; +117 by default; +105
    with T = 1; the digits themselves have +89.

    Args:
        model: with a density in x that can be differentiated.
        x: model coordinates; what is hidden in it is never read, and may be NaN.
        mask: bool, True where hidden; see `mask`.
        steps: each costs one log p and its gradient.
        scale: σ, in units of x: a number, or a tensor that broadcasts against *E; None for the default above.
        temperature: T, for Langevin dynamics instead: noise √(2 α_i T) σ ε, which at T = 1 draws from p(x_H | x_O), and
            at 0 ascends without noise. None for the paper's.
        start: where the hidden part starts, (B, *E); None for the default above.
        context: of a conditional model, (1, K): what it is given for all of x.
        generator: of all noise.

    Raises:
        TriptychError: for a model without density (or with a mass, which has no gradient in x), a mask of another shape or
            type or one that hides everything, observed values that are not finite, or an ascent that diverges.

    >>> hidden = mask("top", model.event_shape)  # doctest: +SKIP
    >>> filled = inpaint(model, model.codec.centre(stored), hidden, steps=500)  # doctest: +SKIP
    """
    if require(model, HasDensity).measure != "density":
        raise TriptychError(
            f"inpainting ascends a density of x, this {type(model).__name__} has a mass of discrete values: "
            "use a flow, or a VAE with a Gaussian likelihood"
        )
    check_size("steps", steps, 2**31)
    check_range("temperature", temperature or 0.0, 0, 1e9)
    alphas = [10 / (100 + i) for i in range(steps)]
    rates = [(a, a if temperature is None else math.sqrt(2 * a * temperature)) for a in alphas]
    hidden = _check_mask(model.check_event(x), mask)
    if not x[~mask.expand(x.shape)].isfinite().all():
        raise TriptychError("x should be finite where it is not hidden, holds NaN or infinity: fill it in, or hide it")
    if start is not None and (start.shape != x.shape or not start.isfinite().all()):
        raise TriptychError(f"start should be finite and have x's shape {tuple(x.shape)}, has {tuple(start.shape)}")
    draws = x[:0] if scale is not None and start is not None else _drawn(model, context, generator).to(x)
    units = _measured(model, draws, context, generator) if scale is None else _checked_scale(model, scale)
    first = _nearest(draws, x, hidden) if start is None else start.to(x)
    parts = zip(*(values.split(_at_once(model)) for values in (x, hidden, first)), strict=True)
    units = units.to(x)
    return torch.cat([_ascend(model, seen, where, at, units, rates, context, generator) for seen, where, at in parts])


_VALUES = 2**17  # of data differentiated together: memory stays bounded whatever B is
_DRAWS = 128  # of the model: they say how far each value varies, and where to start


def _at_once(model: GenerativeModel) -> int:
    return max(1, _VALUES // math.prod(model.event_shape))


def _drawn(model: GenerativeModel, context: Tensor | None, generator: Generator | None) -> Tensor:
    """x of the model's own, (_DRAWS, *E), as many at once as are differentiated together."""
    sizes = [len(part) for part in torch.empty(_DRAWS).split(_at_once(model))]
    return model.codec.project(torch.cat([model.sample(size, context=context, generator=generator) for size in sizes]))


def _ascend(
    model: GenerativeModel,
    x: Tensor,
    hidden: Tensor,
    first: Tensor,
    units: Tensor,
    rates: Rates,
    context: Tensor | None,
    generator: Generator | None,
) -> Tensor:
    """x with its hidden part moved from `first` by a step for each rate: α_i, and the factor of the noise."""
    filled = torch.where(hidden, model.codec.project(first), x)
    for step, (alpha, noise) in enumerate(rates, 1):
        gradient = _gradient(model, filled, context, generator)
        epsilon = standard_normal(*x.shape, generator=generator, device=x.device).to(x)
        moved = filled + alpha * units.square() * gradient + noise * units * epsilon
        if not moved[hidden].isfinite().all():
            raise TriptychError(f"log p has no finite gradient at step {step} of inpainting: give a smaller scale")
        filled = torch.where(hidden, model.codec.project(moved), x)
    return filled


def _gradient(model: GenerativeModel, x: Tensor, context: Tensor | None, generator: Generator | None) -> Tensor:
    """∂log p(x | context)/∂x, (B, *E)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_p = require(model, HasDensity).log_prob(x, context, generator=generator)
        if not log_p.requires_grad:
            raise TriptychError(f"the density of this {type(model).__name__} cannot be differentiated by x: use a flow")
        return torch.autograd.grad(log_p.sum(), x)[0]


def _measured(model: GenerativeModel, draws: Tensor, context: Tensor | None, generator: Generator | None) -> Tensor:
    """σ = 1/√E[(∂log p/∂x_d)²] of each value, (*E), without draws where the gradient is not finite."""
    squares = torch.cat([_gradient(model, part, context, generator).square() for part in draws.split(_at_once(model))])
    known = squares.isfinite()
    mean = squares.where(known, 0).sum(0) / known.sum(0).clamp(min=1)
    return mean.clamp(min=_FLATTEST).rsqrt()


_FLATTEST = 1e-8  # a value that log p hardly depends on would have an endless unit: 10⁴ is the largest


def _checked_scale(model: GenerativeModel, scale: float | Tensor) -> Tensor:
    """A σ that was given, which broadcasts against (*E)."""
    units, shape = torch.as_tensor(scale, device=model.device), model.event_shape
    if units.ndim > len(shape) or any(n not in (1, m) for n, m in zip(units.shape[::-1], shape[::-1], strict=False)):
        raise TriptychError(f"scale should be a number or broadcast to {shape}, has shape {tuple(units.shape)}")
    if not (units.isfinite() & (units > 0)).all():
        raise TriptychError("scale should be positive: it is the unit in which values are counted, 1 in the paper")
    return units


def _nearest(draws: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
    """For each example the draw whose observed part is nearest to its own, (B, *E)."""
    draws = draws[draws.flatten(1).isfinite().all(1)]
    if not len(draws):
        raise TriptychError("the model's own draws hold NaN or infinity: train it further, or give start")
    seen, flat = (~hidden).flatten(1).to(x), draws.flatten(1)
    known = torch.where(hidden, 0, x).flatten(1)
    distance = seen @ flat.square().T - 2 * known @ flat.T  # (B, draws), up to what all draws share
    return draws[distance.argmin(1)]


def _check_mask(x: Tensor, hidden: Tensor) -> Tensor:
    """The mask for each example, (B, *E)."""
    if hidden.dtype != torch.bool:
        raise TriptychError(f"mask should be bool, True where hidden, got {hidden.dtype}: write mask > 0.5, say")
    if hidden.shape not in (x.shape, x.shape[1:]):
        raise TriptychError(f"mask should be {tuple(x.shape[1:])} or {tuple(x.shape)}, got {tuple(hidden.shape)}")
    hidden = hidden.to(x.device).expand(x.shape)
    if hidden.flatten(1).all(1).any():
        raise TriptychError("the mask hides everything: nothing is left to go by; draw new data with sample instead")
    if not x[~hidden].isfinite().all():
        raise TriptychError("observed values hold NaN or infinity: hide them as well, they are filled in then")
    return hidden


def mask(name: str, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
    """One of NICE's ten masks (figure 6), bool of the event's `shape`: True is hidden. Channels are hidden together.

        top, bottom            the upper or lower half of the rows (the lower has the middle one of an odd number)
        left, right            the same of the columns
        odd, even              the 1st, 3rd, 5th … or the 2nd, 4th … place, counted row by row
        middle-horizontal      the middle half of the rows, rounded down: a band from the left side to the right
        middle-vertical        the middle half of the columns, rounded down: a band from top to bottom
        random-75, random-90   that share of the places, exactly up to rounding, drawn with `generator`

    Args:
        shape: (C, H, W); (C, T) and (D,) count as one row and know no mask by rows.

    Raises:
        TriptychError: for another name (it lists the names), and for a mask by rows where there are none.

    >>> mask("left", (1, 2, 4)).int()
    tensor([[[1, 1, 0, 0],
             [1, 1, 0, 0]]], dtype=torch.int32)
    """
    if name not in MASKS:
        raise unknown("mask", name, MASKS, f" (there are {', '.join(MASKS)})")
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise TriptychError(f"a mask's shape should be (D,), (C, T) or (C, H, W) with sizes ≥ 1, got {tuple(shape)}")
    if len(shape) < 3 and name in ("top", "bottom", "middle-horizontal"):
        raise TriptychError(f"mask {name} is for pictures (C, H, W), got {tuple(shape)}: use left, right, odd or even")
    rows, columns = shape[1:] if len(shape) == 3 else (1, shape[-1])
    if name in _BY_PLACE:
        hidden = _BY_PLACE[name](torch.arange(rows)[:, None], torch.arange(columns)[None], rows, columns)
    else:
        order = torch.randperm(rows * columns, generator=generator, device=generator.device if generator else None)
        hidden = (order < round(_SHARES[name] * len(order))).cpu().view(rows, columns)
    return hidden.expand(rows, columns).reshape(shape[-2:] if len(shape) == 3 else shape[-1:]).expand(*shape).clone()


def _middle(place: Tensor, size: int) -> Tensor:
    first = (size - size // 2) // 2
    return (place >= first) & (place < first + size // 2)


_BY_PLACE: dict[str, Callable[[Tensor, Tensor, int, int], Tensor]] = {
    "top": lambda row, column, rows, columns: row < rows // 2,
    "bottom": lambda row, column, rows, columns: row >= rows // 2,
    "odd": lambda row, column, rows, columns: (row * columns + column) % 2 == 0,
    "even": lambda row, column, rows, columns: (row * columns + column) % 2 == 1,
    "left": lambda row, column, rows, columns: column < columns // 2,
    "right": lambda row, column, rows, columns: column >= columns // 2,
    "middle-horizontal": lambda row, column, rows, columns: _middle(row, rows),
    "middle-vertical": lambda row, column, rows, columns: _middle(column, columns),
}
_SHARES = {"random-75": 0.75, "random-90": 0.9}
MASKS = (*_BY_PLACE, *_SHARES)
"""The names that `mask` knows: NICE's ten."""
