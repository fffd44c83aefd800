"""Scores of pictures by scikit-learn estimators, read from files that cannot run anything (skops, not pickle).

Shapes: B batch, D values of an event; x (B, *E) model coordinates, so pictures in [0, 1], flat as (B, D) for the estimator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.core import GenerativeModel
from triptych.edit.optimising import Objective
from triptych.errors import TriptychError
from triptych.opening import regular

_LARGEST = 512 * 2**20  # bytes of a file


def load_probe(path: str | Path) -> Any:
    """The estimator that `skops.io.dump(estimator, path)` wrote, made of types alone that skops takes from anybody.

    Forests are not among them: a tree's own loading trusts the numbers in it.

    Raises:
        TriptychError: for a file that is missing, broken or of other types, and where skops is not installed.
    """
    try:
        import skops.io
    except ImportError:
        raise TriptychError(f"{path}: estimators are read by the package skops: pip install 'triptych[optimise]'") from None
    if not 0 < (size := regular(path).stat().st_size) <= _LARGEST:
        raise TriptychError(f"{path} should be a file of skops of up to {_LARGEST >> 20} MB, has {size} bytes")
    try:
        if strange := skops.io.get_untrusted_types(file=path):
            raise TriptychError(
                f"{path} holds types that are not read from files, such as {strange[0]}: fit a plain estimator"
            )
        return skops.io.load(path)
    except TriptychError:
        raise
    except Exception as error:  # whatever a broken archive raises in it
        raise TriptychError(
            f"{path} is not an estimator that skops.io.dump wrote ({type(error).__name__}: {error})"
        ) from error


def probe_score(probe: Any, model: GenerativeModel) -> Objective:
    """f for `optimise`: what the estimator says of pictures, x in [0, 1] flat as (B, D).

    A regressor's prediction, a classifier's decision function or log-odds of its second class. Linear ones have a gradient,
    others are black boxes.

    Raises:
        TriptychError: for an estimator of another number of features, and one with more than one score.

    >>> from sklearn.linear_model import LinearRegression
    >>> import numpy as np, triptych
    >>> probe = LinearRegression().fit(np.eye(4), [1.0, 2.0, 3.0, 4.0])
    >>> score = probe_score(probe, triptych.NICE((4,)))
    >>> [round(s, 3) for s in score(torch.eye(4)).tolist()]
    [1.0, 2.0, 3.0, 4.0]
    """
    features, size = getattr(probe, "n_features_in_", None), int(np.prod(model.event_shape))
    if features != size:
        raise TriptychError(
            f"the probe reads {features} features, these examples have {size}: fit it to pictures of this model's shape, "
            "flat and between 0 and 1"
        )
    single = np.size(getattr(probe, "coef_", ())) == size
    score = _linear(probe) if single else _said_by(probe)
    found = score(torch.zeros(2, *model.event_shape))
    if found.shape != (2,):
        raise TriptychError(
            f"the probe gives {tuple(found.shape)[1:]} scores an example: one is needed, of two classes or a number"
        )
    return score


def _linear(probe: Any) -> Objective:
    weight = torch.tensor(np.ravel(probe.coef_), dtype=torch.float32)
    intercept = float(np.ravel(getattr(probe, "intercept_", 0.0))[0])
    return lambda x: x.flatten(1).float() @ weight.to(x.device) + intercept


def _said_by(probe: Any) -> Objective:
    def score(x: Tensor) -> Tensor:
        rows = x.detach().flatten(1).cpu().numpy()
        if hasattr(probe, "decision_function"):
            found = probe.decision_function(rows)
        elif hasattr(probe, "predict_proba"):
            chances = np.clip(probe.predict_proba(rows), 1e-6, 1)
            found = np.log(chances[:, 1] / chances[:, 0]) if chances.shape[1] == 2 else chances
        else:
            found = probe.predict(rows)
        return torch.as_tensor(np.asarray(found, dtype=np.float64), dtype=torch.float32)

    return score
