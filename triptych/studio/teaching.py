"""A direction that a visitor teaches by two piles of pictures: `edit.learn_from_piles` on pictures that are opened here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from triptych import edit
from triptych.edit.piles import check_piles
from triptych.studio.served import Served
from triptych.studio.verbs import Picture


@dataclass(frozen=True)
class Taught:
    """A direction that a visitor has taught.

    Attributes:
        model: the id of the model whose codes it moves; weights: which of its weights.
        n, accuracy, stderr, majority: how many pictures, how many of them the directions that had not seen them read
            rightly, with its standard error, and what one answer for all scores.
        drags: how far other directions move when this one goes from −1 to +1, in their spreads over the pictures.
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
    """Learns the direction between two piles, at the depth of the model's first direction.

    Raises:
        TriptychError: for too few pictures, and a name that the model has already.
    """
    check_piles(piles.name, len(piles.shown), len(piles.lacking), served.directions)
    depth = next((d.depth for d in served.directions.values()), None)
    beside = edit.Directions({name: d for name, d in served.directions.items() if d.depth == depth})
    shown, lacking = (torch.cat([picture.stored for picture in pile]) for pile in (piles.shown, piles.lacking))
    direction = edit.learn_from_piles(served.part(depth), shown, lacking, piles.name, beside=beside)
    judged = direction.judged
    said = (judged[key] for key in ("n", "accuracy", "stderr", "majority", "leakage"))
    return Taught(served.id, served.weights, direction, *said)
