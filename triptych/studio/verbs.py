"""What a model's thread does with pictures: encode, move, mix, draw, measure. Nothing here knows HTTP.

Shapes: stored (1, C, H, W) uint8, of one picture; z (1, L) its codes; context (1, K) or None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triptych import edit
from triptych.capabilities import Encodes, HasDensity, require
from triptych.core import GenerativeModel
from triptych.edit.inversion import coordinate_model
from triptych.errors import TriptychError
from triptych.evaluate.likelihood import negative_log_prob
from triptych.studio.problems import Problem
from triptych.studio.served import Served


class Codes(NamedTuple):
    """z to move, and the codes that coordinates are read from; both (1, L)."""

    moved: Tensor
    read: Tensor


@dataclass
class Picture:
    """An opened picture.

    Attributes:
        model: the id of the model that it was opened for.
        stored: as that model takes it.
        codes: by the depth at which they lie, of the weights `weights`; found when they are first needed.
        again: its reconstruction, stored.
        photograph: the id of the photograph that it was taken from, "" for none; chosen: where it lies there.
    """

    model: str
    stored: Tensor
    context: Tensor | None = None
    weights: str = ""
    codes: dict[int | None, Codes] = field(default_factory=dict)
    again: Tensor | None = None
    photograph: str = ""
    chosen: edit.Chosen | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes up with its codes, about."""
        return 8 * 4 * self.stored.numel() + 4096


def encoded(served: Served, picture: Picture) -> dict[int | None, Codes]:
    """The picture's codes at every depth that is edited, computed by themselves, and kept with it."""
    if picture.weights != served.weights:
        if tuple(picture.stored.shape[1:]) != served.event_shape:
            raise Problem(f"the model {served.id} now takes pictures of {served.event_shape}: open this one again")
        x = served.model.codec.centre(picture.stored)
        picture.codes = {depth: _codes(part, x, picture.context) for depth, part in served.parts.items()}
        decoded = served.model.decode(picture.codes[None].moved, served.model.check_context(picture.context, 1))
        picture.again, picture.weights = _stored(served, decoded), served.weights
    return picture.codes


def _codes(part: GenerativeModel, x: Tensor, context: Tensor | None) -> Codes:
    context, by = part.check_context(context, len(x)), coordinate_model(part)
    z = require(part, Encodes).encode(x, context)
    return Codes(z, z if by is part else require(by, Encodes).encode(x, context))


def coordinates(served: Served, picture: Picture, directions: edit.Directions) -> dict[str, float]:
    """Where the picture lies along every direction."""
    codes = encoded(served, picture)
    return {name: float(d.coordinate(_at(served, picture, codes, d.depth).read)) for name, d in directions.items()}


def _at(served: Served, picture: Picture, codes: dict[int | None, Codes], depth: int | None) -> Codes:
    if depth not in codes:
        codes[depth] = _codes(served.part(depth), served.model.codec.centre(picture.stored), picture.context)
    return codes[depth]


def rms(picture: Picture) -> float:
    """How far the reconstruction is off: root mean square of 8-bit values."""
    assert picture.again is not None
    return (picture.again.double() - picture.stored.double()).square().mean().sqrt().item()


@dataclass(frozen=True, eq=False)
class Move:
    """An edit that is asked for: coordinates set, others held."""

    picture: Picture
    values: Mapping[str, float]
    hold: tuple[str, ...]
    directions: edit.Directions


class Mover:
    """Edits of one model, many in one call: those of the same directions are solved together, all are decoded together."""

    def __init__(self, served: Served):
        self.served = served

    def __call__(self, moves: list[Move]) -> list[Tensor]:
        """Edited pictures, stored."""
        moved: dict[int | None, list[tuple[int, Tensor]]] = {}
        found: dict[int, Tensor] = {}
        for group in _alike(moves):
            first, chosen = moves[group[0]], moves[group[0]].directions
            names = [*first.values, *first.hold]
            depths = {chosen[name].depth for name in names}
            if len(depths) > 1:
                found |= {i: self._in_turn(moves[i]) for i in group}
                continue
            depth = next(iter(depths), None)
            codes = [_at(self.served, m.picture, encoded(self.served, m.picture), depth) for m in (moves[i] for i in group)]
            z, read = (torch.cat(column) for column in zip(*codes, strict=True))
            values = {name: torch.tensor([moves[i].values[name] for i in group]) for name in first.values}
            z = edit.move(z, values, chosen, hold=first.hold, read=read)
            moved.setdefault(depth, []).extend(zip(group, z.split(1), strict=True))
        for depth, rows in moved.items():
            found |= self._decoded(depth, rows, moves)
        return [found[i] for i in range(len(moves))]

    def _decoded(self, depth: int | None, rows: list[tuple[int, Tensor]], moves: list[Move]) -> dict[int, Tensor]:
        contexts = [self.served.model.check_context(moves[i].picture.context, 1) for i, _ in rows]
        context = None if contexts[0] is None else torch.cat([c for c in contexts if c is not None])
        x = self.served.part(depth).decode(torch.cat([z for _, z in rows]), context)
        return {i: _stored(self.served, one) for (i, _), one in zip(rows, x.split(1), strict=True)}

    def _in_turn(self, asked: Move) -> Tensor:
        """Directions of several depths, one depth after another."""
        x, model = self.served.model.codec.centre(asked.picture.stored), self.served.model
        z = encoded(self.served, asked.picture)[None].moved
        context = model.check_context(asked.picture.context, 1)
        edited = edit.apply(model, x, dict(asked.values), asked.directions, hold=asked.hold, context=context, z=z)
        return _stored(self.served, edited)


def _alike(moves: Sequence[Move]) -> list[list[int]]:
    """Which of them name the same directions, as lists of their numbers."""
    groups: dict[Any, list[int]] = {}
    for i, move in enumerate(moves):
        key = (tuple((name, id(move.directions[name])) for name in move.values), move.hold)
        groups.setdefault(key, []).append(i)
    return [*groups.values()]


def _stored(served: Served, x: Tensor) -> Tensor:
    """x as a picture, checked to be one."""
    if not x.isfinite().all():
        raise Problem("the model draws nothing finite there: choose smaller strengths, or a lower temperature")
    return served.model.codec.decode(x)


def mixed(served: Served, pictures: Sequence[Picture], weights: Sequence[float]) -> Tensor:
    """decode(Σ w_i z_i / Σ w_i), stored: of two pictures a point of the line between them."""
    z = torch.cat([encoded(served, picture)[None].moved for picture in pictures])
    w = torch.tensor(weights, dtype=torch.float64)
    z = ((w / w.sum()).to(z) @ z)[None]
    return _stored(served, served.model.decode(z, served.model.check_context(pictures[0].context, 1)))


def drawn(served: Served, n: int, temperature: float, seed: int, context: Tensor | None) -> list[Tensor]:
    """n new examples, stored: those that `triptych sample` draws of the same seed."""
    sampler = served.model.model if isinstance(served.model, edit.Inverting) else served.model
    noise = torch.Generator().manual_seed(seed)
    x = sampler.sample(n, context=context, temperature=temperature, generator=noise)
    return [_stored(served, one) for one in x.split(1)]


_DRAWS = 50  # of z for a bound, and of the noise inside a pixel's bin


class Likelihood(NamedTuple):
    """How likely a picture is: bits per dimension, or nats where its data have no bits."""

    value: float
    unit: str


def likelihood(served: Served, stored: Tensor, context: Tensor | None) -> Likelihood | None:
    """Of one picture, always with the same noise; None for a model without a density."""
    model = served.model
    if not isinstance(model, HasDensity):
        return None
    noise, draws = torch.Generator().manual_seed(0), 1 if model.bound == "exact" else _DRAWS
    nats = float(negative_log_prob(model, stored, context, draws, noise)[0])
    try:
        added = model.codec.added_bits(model.measure)
    except TriptychError:  # only pixels have bits per dimension
        return Likelihood(nats, "nats")
    return Likelihood(nats / (math.prod(model.event_shape) * math.log(2)) + added, "bits/dim")
