"""How unlike the training data pictures are, the least likely first.

Shapes: stored (n, C, H, W).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from triptych.capabilities import Encodes, HasDensity
from triptych.edit.inversion import Inverting, coordinate_model
from triptych.evaluate import Reference, p_values, statistics
from triptych.evaluate.scoring import bits_of
from triptych.studio.problems import Problem
from triptych.studio.served import Served

_K, _SEED = 10, 0  # as `triptych score` has them, so that what it keeps in the run is used


class Row(NamedTuple):
    """One picture's score.

    Attributes:
        number: of the picture among those that were sent.
        score: larger is less normal; p: the share of held-out training data that is as unusual, where that is known.
        bits_per_dim, reconstruction: where the model has them.
    """

    number: int
    score: float
    p: float | None
    bits_per_dim: float | None
    reconstruction: float | None


class Scored(NamedTuple):
    """All pictures, and what they are sorted by, in words."""

    by: str
    rows: list[Row]


def score(served: Served, stored: Tensor) -> Scored:
    """Scores by the run's reference where it has one (`triptych score` keeps it), else by what the model itself says."""
    model = coordinate_model(served.model)
    if isinstance(model, Inverting) and model.encoder is None:
        raise Problem(f"the model {served.id} has neither a density nor an encoder to score by: choose another model")
    reference = Reference.load(served.folder, f"{served.weights} {_K} {_SEED} {served.data}")
    found = statistics(model, stored, blunt=None if reference is None else reference.blunt, k=_K, seed=_SEED)
    bits, again = bits_of(model, found), found.get("reconstruction")
    p = None
    if reference is not None:
        name, main = next(iter(reference.scores(model, found).items()))
        normal = reference.scores(model, reference.held_out)[name]
        by, p = f"{name} score against {reference.n:,} held-out training examples", p_values(main, normal)
    elif bits is not None:
        by, main = "bits per dimension", bits
    elif isinstance(model, HasDensity):
        by, main = "nats", -found["log_prob"]
    else:
        assert isinstance(model, Encodes) and again is not None
        by, main = "reconstruction error", again
    columns = [_column(values, len(stored)) for values in (p, bits, again)]
    order = main.nan_to_num(nan=torch.inf).argsort(descending=True).tolist()
    finite = main.nan_to_num(nan=1e30, posinf=1e30, neginf=-1e30).tolist()
    return Scored(by, [Row(i, finite[i], *(column[i] for column in columns)) for i in order])


def _column(values: Tensor | None, n: int) -> list[float | None]:
    """Numbers for JSON: None where there are none, and where one is not finite."""
    if values is None:
        return [None] * n
    return [value if abs(value) < torch.inf else None for value in values.tolist()]
