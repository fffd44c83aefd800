"""What directions are worth: what they read of held-out data against chance, and how far they may be set.

Shapes: n held-out examples whose value is known; z (n, L), coordinates c and values a (n,).

accuracy     share on the right side (binary; the threshold is c = 0), beside the majority's share, which one value scores
auc          area under the ROC curve of c against a (binary); by chance ½ ± √((n₊ + n₋ + 1) / 12 n₊ n₋)
r2           1 − Σ(a − c)² / Σ(a − ā)² (continuous); below 0 also for a noisy c that follows a, hence beside it
correlation  of c and a (continuous); by chance 0 ± 1 / √(n − 1)
slope        what c does when a is higher by 1 (from class to class: by 2) and the other attributes are the same, by least
             squares: 1 for the joint method's training data. A coordinate that only follows what a is correlated with has 0

The errors of chance of auc and correlation are those of all orders of the values (Mann & Whitney 1947; Pitman 1937),
whatever their distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from triptych.edit.directions import Direction, Directions
from triptych.edit.moving import Value, strengths
from triptych.errors import TriptychError
from triptych.evaluate.spread import share_of

_ERRORS = 2.0  # standard errors of chance, above which a reading is more than chance
_FAR = 0.5  # of the range's width, past its ends


def read_against_chance(direction: Direction, z: Tensor, a: Tensor) -> dict[str, float | bool | None]:
    """What a direction reads of held-out values: the measures above, each with its standard error, and a verdict.

    Args:
        z: the codes of all held-out examples, (n, L).
        a: their values, (n,), NaN where unknown.

    Returns:
        accuracy, stderr, majority, auc; or r2, stderr, correlation; for both: chance and chance_stderr of auc or
        correlation, and worthless: whether that is at chance; None where too few examples are known to tell.
    """
    known = a.isfinite()
    c, a = direction.coordinate(z)[known].double(), a[known].double()
    if not len(a):
        return {}
    return _continuous(c, a) if direction.kind == "continuous" else of_classes(c, a > direction.threshold)


def _continuous(c: Tensor, a: Tensor) -> dict[str, float | bool | None]:
    spread, errors = (a - a.mean()).square(), (a - c).square()
    total, n = float(spread.sum()), len(a)
    if not total > 0:
        return {}
    lost = float(errors.sum()) / total
    # of a ratio of sums: its residuals' spread over the denominator
    stderr = math.sqrt(n / (n - 1) * float((errors - lost * spread).square().sum())) / total
    along = float((c - c.mean()).square().sum())
    correlation = float(((c - c.mean()) * (a - a.mean())).sum()) / math.sqrt(along * total) if along > 0 else 0.0
    verdict = _against("correlation", correlation, 0.0, 1 / math.sqrt(n - 1))
    return {"r2": 1 - lost, "stderr": stderr} | verdict


def of_classes(c: Tensor, high: Tensor) -> dict[str, float | bool | None]:
    """The measures of a binary attribute: of coordinates c (n,), and whether each is of the second class, (n,)."""
    from sklearn.metrics import roc_auc_score

    n, positive = len(high), int(high.sum())
    negative = n - positive
    correct = share_of((c > 0) == high)
    found = {
        "accuracy": correct.value,
        "stderr": correct.stderr,
        "majority": max(positive, negative) / n,
    }
    if not (positive and negative):
        return found | {"auc": None, "worthless": None}
    auc = float(roc_auc_score(high.numpy(), c.numpy()))
    return found | _against("auc", auc, 0.5, math.sqrt((n + 1) / (12 * positive * negative)))


def _against(name: str, value: float, chance: float, stderr: float) -> dict[str, float | bool | None]:
    """The measure beside chance, and the verdict: None where even a perfect measure, 1, would not be beyond chance."""
    beyond = chance + _ERRORS * stderr
    return {name: value, "chance": chance, "chance_stderr": stderr, "worthless": None if beyond >= 1 else value <= beyond}


def with_slope(measures: dict[str, object], slope: tuple[float, float] | None) -> dict[str, object]:
    """Measures with a slope and its standard error beside them: worthless also where that is at chance."""
    if slope is None:
        return measures
    value, stderr = slope
    at_chance = _ERRORS * stderr < 1 and value <= _ERRORS * stderr
    return measures | {"slope": value, "slope_stderr": stderr} | ({"worthless": True} if at_chance else {})


def why_worthless(judged: Mapping[str, Any]) -> str | None:
    """Which measure of a worthless direction is not better than chance, with its figures; None for a direction of worth."""
    if not judged.get("worthless"):
        return None
    measure = "auc" if "auc" in judged else "correlation"
    value, chance, stderr = judged[measure], judged["chance"], judged["chance_stderr"]
    if value is not None and value <= chance + _ERRORS * stderr:
        return f"{measure} {value:.2f}, by chance {chance:g} ± {stderr:.2f}"
    return (
        f"slope {judged['slope']:.2f}, by chance 0 ± {judged['slope_stderr']:.2f}, where the other attributes are the same"
    )


def refuse_worthless(directions: Directions, names: Iterable[str]) -> None:
    """Raises a `TriptychError` for the first of these directions that reads held-out data no better than chance."""
    for name in names:
        if why := why_worthless(directions[name].judged):
            raise TriptychError(
                f"direction {name} reads held-out data no better than chance ({why}): setting it changes something else; "
                "--force does"
            )


def far_out(directions: Directions, values: Mapping[str, Value]) -> list[str]:
    """A sentence for each strength far outside what training codes show: by half the range's width past its ends.

    Args:
        values: as `apply` takes them; what is added is far where it leads so far out from the middle of the range.

    Raises:
        TriptychError: for an unknown name, and a text that is not a number.

    >>> from torch import tensor
    >>> smile = Direction("smile", "continuous", tensor([1.0]), 0.0, 1.0, tensor([1.0]), range=(-1.0, 1.0))
    >>> far_out(Directions(smile=smile), {"smile": 1.9}), far_out(Directions(smile=smile), {"smile": "+9"})
    ([], ['smile=+9 is far outside its range in training, -1.00 … 1.00: expect artefacts'])
    """
    sets, adds = strengths(values)
    sentences = []
    for name, value in {**sets, **adds}.items():
        low, high = directions[name].range
        distance = torch.as_tensor(value) - (0.0 if name in adds else (low + high) / 2)
        if (distance.abs() > (0.5 + _FAR) * (high - low)).any():
            where = f"its range in training, {low:.2f} … {high:.2f}"
            sentences.append(f"{name}={values[name]} is far outside {where}: expect artefacts")
    return sentences
