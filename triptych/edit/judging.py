"""What directions do to held-out examples: how far they move, what they drag along, whom they change, how far they hold.

Shapes: n held-out examples (n, *E), z their codes (n, L); context (n, K) of the examples, or (1, K), or None for "unknown".

What coordinates read of held-out data is measured in `worth`; what an edit moves, here, by examples of which one coordinate
c is set, which are decoded and read again. The model reads itself, unless a `Reader` does, which is the stricter judge: what
an exact model reads of its own edits is what it wrote.

share     how much of the way c goes when it is set from low to high. A binary attribute goes from one class to the other,
          −1 to +1, any other over its `Direction.range`
leakage   the mean change of every other coordinate on that way, over its spread (standard deviation on held-out data)
drift     how far the same move takes an example from who it is, as a share of the distance between two examples at random,
              √( E Σ_k (Δr_k / σ_k)²  /  E Σ_k ((r_k − r'_k) / σ_k)² ),   where the denominator is twice the number of k:
          r_k are the readings of the attributes that make identity, σ_k their spreads, Δ the change of one example: 0 is the
          same person, 1 another one. Leakage is signed and averaged, so that changes of some examples cancel those of
          others; drift counts them all. (Distances of a face recogniser's embeddings are used so: Deng et al. 2019,
          ArcFace; Abdal et al. 2021, StyleFlow. Readings of attributes stand in for them, which any data may have.)
safe      the values of c about the middle of `Direction.range` where an edit does what it says. Of 13 values, over the range
          and half of its width past each end, from each to the next the reading rises on nine of ten examples, and on
          average by half of what it rises by within the range, or more: beyond, it saturates or turns back. None: not even
          in the middle. (The prior is not asked: a learned one is so sharp that edits which read as they should, and show
          nothing wrong, lie hundreds of nats below data.)

Standard errors are those of means over the n examples; of drift by the delta method. Spreads count as known.
A model that is inverted reads by its encoder, and moves z that are optimised, here as in an edit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triptych.capabilities import Encodes, require
from triptych.core import Estimate, GenerativeModel
from triptych.edit.depth import fitting
from triptych.edit.directions import Direction, Directions
from triptych.edit.inversion import Inverting, coordinate_model
from triptych.edit.joint import Together, of_one_attribute
from triptych.edit.learning import Attributes, as_values, in_their_units
from triptych.edit.moving import move
from triptych.edit.reading import Reader
from triptych.edit.worth import read_against_chance, with_slope
from triptych.evaluate.latent import codes
from triptych.modes import in_eval_mode

MOVED = 256  # held-out examples that are moved to measure leakage
_SEARCHED = 64  # the same where each z is searched for: seconds of work, where encoding is nothing
_SWEPT, _INTERVALS, _PAST = 32, 12, 0.5  # examples and steps of the safe range; of the width, past each end
_RISES, _SATURATED = 0.9, 0.5
Read = Callable[[Tensor], dict[str, Tensor]]


@in_eval_mode
def judge(
    model: GenerativeModel,
    directions: Directions,
    stored: Tensor,
    attributes: Attributes,
    *,
    context: Tensor | None = None,
    reader: Reader | None = None,
    beside: Directions | None = None,
    identity: Sequence[str] | None = None,
) -> Directions:
    """The same directions with `judged` filled in from held-out data: the measures of `worth`, and those above.

    Args:
        stored, attributes: held-out examples (n, *E), and their values (n,) by name, NaN where unknown.
        context: of a conditional model, what they show, (n, K) or (1, K).
        reader: what reads edited examples; None: the model itself, by all directions.
        beside: further directions of the same codes, which the model reads too: others may drag their attributes along.
        identity: of what is read, the names by which drift is measured; by default all but the edited attribute.

    Returns:
        Directions whose `judged` has n, share, share_stderr, leakage and leakage_stderr (by name), drift and drift_stderr,
        safe [low, high], and what `worth` says. What cannot be measured is left out.
    """
    model = fitting(model, directions)
    coordinates, context = coordinate_model(model), model.check_context(context, len(stored))
    read = codes(coordinates, stored, context=context)
    n = MOVED if coordinates is model else _SEARCHED
    searched = isinstance(coordinates, Inverting) and coordinates.steps > 0  # each reading would be a search
    few = None if context is None else context[:n]
    shown = _Shown(model, codes(model, stored[:n], context=few), read[:n], few)
    known = Directions({**directions, **{name: d for name, d in (beside or {}).items() if name not in directions}})
    readings = shown.reader(known, reader)
    effects = _effects(shown.moved(directions), readings, model.codec.centre(stored[:n].to(model.device)), identity)
    values = {name: as_values(a) for name, a in attributes.items()}
    varying = in_their_units(values, len(read))
    together, judged = Together(varying) if varying else None, Directions()
    for name, direction in directions.items():
        measures: dict[str, object] = {"n": len(read), **effects[name]}
        if not searched:
            measures["safe"] = shown.first(_SWEPT).safe(direction, reader)
        if name in attributes:
            measures |= read_against_chance(direction, read, values[name])
        if name in varying and together is not None:
            measures = with_slope(measures, together.slope(name, direction.coordinate(read)))
        judged[name] = dataclasses.replace(direction, judged=measures)
    return judged


class _Moved(NamedTuple):
    """Examples of which one coordinate was set low and high, each (n, *E)."""

    name: str
    width: float
    low: Tensor
    high: Tensor


class _Shown(NamedTuple):
    """Held-out examples to be moved: their codes, and those that coordinates are read from, each (n, L)."""

    model: GenerativeModel
    z: Tensor
    read: Tensor
    context: Tensor | None

    def first(self, n: int) -> _Shown:
        context = self.context if self.context is None or len(self.context) == 1 else self.context[:n]
        return _Shown(self.model, self.z[:n], self.read[:n], context)

    def set(self, direction: Direction, c: float) -> Tensor:
        """z of the examples with one coordinate set."""
        return move(self.z, {direction.name: c}, Directions({direction.name: direction}), read=self.read)

    def reader(self, known: Directions, reader: Reader | None) -> Read:
        """What reads edited examples: x (n, *E) -> coordinates by name."""
        if reader is not None:
            return lambda x: reader(self.model.codec.decode(x))
        encoder = require(coordinate_model(self.model), Encodes)
        return lambda x: known.coordinates(encoder.encode(x, self.context))

    @torch.no_grad()
    def moved(self, directions: Directions) -> Iterator[_Moved]:
        """A move for each direction: from class to class for a binary one, over the whole range for others."""
        for direction in directions.values():
            low, high = (-1.0, 1.0) if direction.kind == "binary" else direction.range
            ends = (self.model.decode(self.set(direction, c), self.context) for c in (low, high))
            yield _Moved(direction.name, high - low, *ends)

    @torch.no_grad()
    def safe(self, direction: Direction, reader: Reader | None) -> list[float] | None:
        """The values of c where its reading rises, as the head of this file has them."""
        name, (low, high) = direction.name, direction.range
        past = _PAST * (high - low)
        grid = torch.linspace(low - past, high + past, _INTERVALS + 1).tolist()
        read = self.reader(Directions({name: direction}), reader if reader is None or name in reader.lines else None)
        moved = [self.set(direction, c) for c in grid]
        readings = torch.stack([read(self.model.decode(z, self.context))[name] for z in moved])  # (values, n)
        rises, inner = readings.diff(dim=0), slice(_INTERVALS // 4, -(_INTERVALS // 4))
        enough = rises.mean(1) >= _SATURATED * rises[inner].mean().clamp(min=0)
        return _about_the_middle(grid, ((rises > 0).double().mean(1) >= _RISES) & enough)


def _about_the_middle(grid: Sequence[float], good: Tensor) -> list[float] | None:
    """The ends of the good steps, from grid value to grid value, that follow one another about the middle value."""
    middle = low = high = len(good) // 2
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(good) and good[high]:
        high += 1
    return [grid[low], grid[high]] if low < middle < high else None


@torch.no_grad()
def _effects(moved: Iterable[_Moved], read: Read, x: Tensor, identity: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Per direction: share, leakage and drift, as the head of this file has them.

    Args:
        x: the examples before they are moved.
    """
    spread = {name: c.std(correction=0).clamp(min=1e-6) for name, c in read(x).items()}
    found: dict[str, dict[str, Any]] = {}
    for name, width, *ends in moved:
        before, after = map(read, ends)
        change = {other: (after[other] - before[other]).cpu() / spread[other].cpu() for other in spread}
        leakage = {other: Estimate.of(value) for other, value in change.items() if other != name}
        found[name] = {
            "leakage": {other: e.value for other, e in leakage.items()},
            "leakage_stderr": {other: _finite(e.stderr) for other, e in leakage.items()},
        }
        if name in change:
            share = Estimate.of(change[name] * spread[name].cpu() / width)
            found[name] |= {"share": share.value, "share_stderr": _finite(share.stderr)}
        found[name] |= drift(change, _of_identity(name, change, identity))
    return found


def _of_identity(name: str, change: Mapping[str, Tensor], identity: Sequence[str] | None) -> list[str]:
    others = [other for other in change if other != name and not of_one_attribute(name, other)]
    return others if identity is None else [other for other in others if other in identity]


def drift(change: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, float]:
    """drift and its standard error; nothing where no reading makes identity.

    Args:
        change: of readings in their spreads, (n,) by name.
        names: of those that make identity.

    >>> drift({"age": torch.tensor([2.0, 0.0]), "hair": torch.tensor([0.0, 2.0])}, ["age", "hair"])["drift"]
    1.0
    """
    if not names:
        return {}
    squares = torch.stack([change[name].double().square() for name in names]).mean(0) / 2
    found = Estimate.of(squares)
    value = math.sqrt(found.value)
    return {"drift": value, "drift_stderr": _finite(found.stderr / (2 * value)) if value > 0 else 0.0}


def _finite(stderr: float) -> float:
    """Of one example alone an error is unknown: 0, as files hold no NaN."""
    return stderr if math.isfinite(stderr) else 0.0
