"""How good a direction is, on data that it was not learned from.

accuracy  share of held-out data on the right side (binary; the threshold is c = 0), with the area under the ROC curve
r2        1 − Σ(a − c)² / Σ(a − ā)² (continuous)
leakage   set c from the low to the high end of its range as an edit does, decode, and read every other direction: the mean
          change of c_j over its spread (standard deviation on held-out data). The model reads itself here; an independent
          regressor is the stricter judge where there is one.

A model that is inverted reads by its encoder, and moves z that are optimised, here as in an edit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from triptych.core import Encodes, GenerativeModel, require
from triptych.edit.directions import Direction, Directions
from triptych.edit.inversion import coordinate_model
from triptych.edit.moving import move
from triptych.evaluate.latent import codes

_MOVED = 256  # held-out data that are moved to measure leakage
_SEARCHED = 64  # the same where each z is searched for: seconds of work, where encoding is nothing


def judge(
    model: GenerativeModel, directions: Directions, stored: Tensor, attributes: Mapping[str, Tensor | np.ndarray]
) -> Directions:
    """The same directions with `judged` filled in from held-out data `stored` (n, *E) and their attributes."""
    z = codes(coordinate_model(model), stored)
    n = _MOVED if coordinate_model(model) is model else _SEARCHED
    leakage = _leakage(model, directions, codes(model, stored[:n]), z[:n])
    judged = {}
    for name, direction in directions.items():
        measures: dict[str, object] = {"n": len(z), "leakage": leakage[name]}
        if name in attributes:
            measures |= _reading(direction, z, torch.as_tensor(np.asarray(attributes[name]), dtype=torch.float32))
        judged[name] = dataclasses.replace(direction, judged=measures)
    return Directions(judged)


def _reading(direction: Direction, z: Tensor, a: Tensor) -> dict[str, float]:
    known = a.isfinite()
    c, a = direction.coordinate(z)[known], a[known]
    if not len(a):
        return {}
    if direction.kind == "continuous":
        total = float((a - a.mean()).square().sum())
        return {"r2": 1 - float((a - c).square().sum()) / total} if total > 0 else {}
    from sklearn.metrics import roc_auc_score

    high = (a > direction.threshold).numpy()
    correct = float(((c > 0).numpy() == high).mean())
    error = (correct * (1 - correct) / len(a)) ** 0.5
    auc = float(roc_auc_score(high, c.numpy())) if 0 < high.sum() < len(high) else None
    majority = float(max(high.mean(), 1 - high.mean()))
    return {"accuracy": correct, "stderr": error, "auc": auc, "majority": majority}


@torch.no_grad()
def _leakage(model: GenerativeModel, directions: Directions, z: Tensor, read: Tensor) -> dict[str, dict[str, float]]:
    """Per direction: {other: mean change of c_other over its spread} for a move over the direction's whole range.

    Args:
        z, read: the codes that are moved, and those that coordinates are read from.
    """
    encoder = require(coordinate_model(model), Encodes)
    spread = {name: c.std(correction=0).clamp(min=1e-6) for name, c in directions.coordinates(read).items()}
    table = {}
    for name, direction in directions.items():
        low, high = (-1.0, 1.0) if direction.kind == "binary" else direction.range
        ends = [encoder.encode(model.decode(move(z, {name: c}, directions, read=read))) for c in (low, high)]
        before, after = (directions.coordinates(e) for e in ends)
        change = {other: float((after[other] - before[other]).mean() / spread[other]) for other in directions}
        change.pop(name)
        table[name] = change
    return table
