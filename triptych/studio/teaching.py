"""A direction from two piles of pictures, judged by pictures that it was not learned from.

Every picture is read by a direction that was learned without it (five folds); what is kept is learned from all.

Shapes: n pictures; stored (n, C, H, W), a (n,): 1 with what is taught, 0 without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from triptych import edit
from triptych.capabilities import Encodes, require
from triptych.edit.inversion import coordinate_model
from triptych.edit.learning import FEWEST
from triptych.evaluate.latent import codes
from triptych.studio.problems import Problem
from triptych.studio.served import Served
from triptych.studio.verbs import Picture

FOLDS = 5
LEAST = -(-FEWEST * FOLDS // (FOLDS - 1))
"""Pictures of each pile, so that every fold leaves enough to learn from."""


@dataclass(frozen=True)
class Taught:
    """A direction that a visitor has taught.

    Attributes:
        model: the id of the model whose codes it moves; weights: which of its weights.
        n, accuracy, stderr, majority: how many pictures, how many of them the directions that had not seen them read
            rightly, with its standard error, and what one answer for all scores.
        drags: how far other directions move when this one goes from −1 to +1, in shares of their own range.
    """

    model: str
    weights: str
    direction: edit.Direction
    n: int
    accuracy: float
    stderr: float
    majority: float
    drags: dict[str, float]


@dataclass(frozen=True)
class Piles:
    """What is taught: pictures with and pictures without something that has a name."""

    name: str
    shown: Sequence[Picture]
    lacking: Sequence[Picture]


def teach(served: Served, piles: Piles) -> Taught:
    """Learns the direction between two piles, by the difference of their means.

    Raises:
        Problem: for too few pictures, and a name that the model has already.
    """
    name = piles.name
    if not name:
        raise Problem("expected a name for what the first pile shows, got spaces")
    if name in served.directions:
        raise Problem(f"the model {served.id} has a direction {name} already: choose another name")
    for what, pile in (("with", piles.shown), ("without", piles.lacking)):
        if len(pile) < LEAST:
            raise Problem(f"the pile {what} {name} has {len(pile)} pictures: {LEAST} are needed to learn and to judge by")
    stored = torch.cat([picture.stored for picture in (*piles.shown, *piles.lacking)])
    a = torch.cat([torch.ones(len(piles.shown)), torch.zeros(len(piles.lacking))])
    part = served.part(next((d.depth for d in served.directions.values()), None))
    right = torch.zeros(len(a), dtype=torch.bool)
    for fold in range(FOLDS):
        out = torch.arange(len(a)) % FOLDS == fold
        read = _learned(part, stored[~out], a[~out], name).coordinate(codes(coordinate_model(part), stored[out]))
        right[out] = (read > 0) == (a[out] > 0)
    direction = _learned(part, stored, a, name)
    accuracy, n = right.double().mean().item(), len(a)
    share = max(len(piles.shown), len(piles.lacking)) / n
    direction = dataclasses.replace(direction, judged={"n": n, "accuracy": accuracy, "majority": share})
    stderr = (accuracy * (1 - accuracy) / n) ** 0.5
    drags = _drags(served, part, direction, stored)
    return Taught(served.id, served.weights, direction, n, accuracy, stderr, share, drags)


def _learned(part: Any, stored: Tensor, a: Tensor, name: str) -> edit.Direction:
    return edit.learn_directions(part, stored, {name: a}, method="means")[name]


def _drags(served: Served, part: Any, direction: edit.Direction, stored: Tensor) -> dict[str, float]:
    """How far the model's own directions move with this one, as a mean over the pictures."""
    known = edit.Directions({n: d for n, d in served.directions.items() if d.depth == direction.depth})
    by, both = coordinate_model(part), edit.Directions({direction.name: direction})
    z, reader = codes(by, stored), require(by, Encodes)
    ends = [part.decode(edit.move(z, {direction.name: c}, both), part.check_context(None, len(z))) for c in (-1.0, 1.0)]
    before, after = (known.coordinates(reader.encode(x, by.check_context(None, len(z)))) for x in ends)
    widths = {name: d.range[1] - d.range[0] for name, d in known.items()}
    return {name: float((after[name] - before[name]).mean()) / max(widths[name], 1e-9) for name in known}
