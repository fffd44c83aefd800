"""Directions from labels.

Shapes: z (n, L) training codes, a (n,) an attribute; context (n, K) of the examples, or (1, K), or None for "unknown".

    means       n = v = μ₊ − μ₋, or Cov(z, a) for a continuous a         (Larsen et al. 2016; Glow, section 5)
    regression  n = the weights of a logistic or ridge regression of a on z, v ∥ n   (Shen et al. 2020, InterFaceGAN)
    joint       v from the regression of z on all attributes at once: what z does when this attribute moves and the others
                stay; n the best reading with n·v = 1                    (`joint`)

The first two are calibrated on one attribute alone: +1 is what z shows when it is higher by 1 *with all that is correlated
with it*, and the classes' means lie at −1 and +1. Joint coordinates are calibrated with the others held: +1 is what this
attribute alone does, so that the classes' means lie at −1 and +1 as far as z tells it from what is correlated with it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from triptych.core import GenerativeModel
from triptych.edit.depth import depth_of
from triptych.edit.directions import Anchors, Direction, DirectionKind, Directions, calibrated
from triptych.edit.inversion import coordinate_model
from triptych.edit.joint import Pair, joint_pairs, ridges
from triptych.errors import TriptychError, unknown
from triptych.evaluate.latent import codes
from triptych.modes import in_eval_mode

Attributes: TypeAlias = Mapping[str, Tensor | np.ndarray]  # values (n,) by name, NaN where unknown
Method = Literal["means", "regression", "joint"]
_FEW_HELD_OUT = 20  # examples, below which it is not an attribute's fault that they do not show it
_NAMED = 3  # problems in one error
_NO_TRACE = 1e-12
FEWEST = 10  # examples of each class, or in all for a continuous attribute, below which nothing is learned
_log = logging.getLogger("triptych.edit")


@in_eval_mode
def learn_directions(
    model: GenerativeModel,
    stored: Tensor,
    attributes: Attributes,
    *,
    method: Method = "joint",
    names: Sequence[str] | None = None,
    context: Tensor | None = None,
    notice: Callable[[str], object] = _log.warning,
) -> Directions:
    """Directions for named attributes, fitted on the codes of `stored` (n, *E).

    Args:
        attributes: values (n,) by name, NaN where unknown; two distinct values make a binary one. `axes` makes them of
            classes.
        method: see the head of this file.
        names: which to learn; all by default. The joint method holds the others still all the same.
        context: of a conditional model, what the examples show: their codes are those given it.
        notice: called with a line for each attribute that is skipped, as it is constant or too rare.

    Raises:
        TriptychError: for an unknown name (with the nearest ones), and where no attribute is left to learn.
    """
    chosen = learnable(attributes, list(attributes if names is None else names), len(stored), notice)
    values = {name: as_values(a) for name, a in attributes.items()}
    z = codes(coordinate_model(model), stored, context=context)
    if method == "joint":
        pairs = joint_pairs(z, in_their_units(values, len(z)), chosen)
    else:
        pairs = {name: Pair(normal, normal) for name, normal in _normals(z, values, chosen, method).items()}
    lost = {name: "leaves no trace in this model's z" for name in chosen if not pairs[name].normal.abs().max() > _NO_TRACE}
    chosen = _without(chosen, lost, notice)
    anchors = _others_held if method == "joint" else alone
    return Directions({name: _learn(name, z, values[name], pairs[name], anchors) for name in chosen}).at(depth_of(model))


def _learn(name: str, z: Tensor, a: Tensor, pair: Pair, anchors: Callable[[Tensor, Tensor], Anchors]) -> Direction:
    known = a.isfinite()
    z, a = z[known], a[known]
    kind: DirectionKind = "binary" if _is_binary(a) else "continuous"
    found = calibrated(name, kind, *pair, anchors(z @ pair.normal, a), z)
    return dataclasses.replace(found, threshold=float(a.min() + a.max()) / 2) if kind == "binary" else found


def alone(reading: Tensor, a: Tensor) -> Anchors:
    """The classes' means, or two points of the line of n·z (n,) against a continuous attribute a.

    n·z is regressed on a, not a on n·z: the latter shrinks the coordinate towards its mean.
    """
    if _is_binary(a):
        low, high = _class_means(reading, a)
        return (-1.0, low), (1.0, high)
    slope = ((reading - reading.mean()) * (a - a.mean())).mean() / a.var(correction=0)
    intercept = reading.mean() - slope * a.mean()
    return (0.0, intercept.item()), (1.0, (intercept + slope).item())


def _others_held(reading: Tensor, a: Tensor) -> Anchors:
    """The slope that n·v = 1 has made 1; c is a on average, or 0 halfway between the means of two classes."""
    offset = sum(_class_means(reading, a)) / 2 if _is_binary(a) else float(reading.mean() - a.mean())
    return (0.0, offset), (1.0, offset + 1)


def in_their_units(values: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    """The attributes that vary, in the units of their coordinates: two classes are −1 and +1."""
    found = {}
    for name, a in values.items():
        _check_values(name, a, n)
        levels = a[a.isfinite()].unique()
        if len(levels) > 1 and a.isfinite().sum() >= FEWEST:
            found[name] = (a - levels.mean()) / (levels[1] - levels[0]) * 2 if len(levels) == 2 else a
    return found


def _class_means(reading: Tensor, a: Tensor) -> tuple[float, float]:
    high = a == a.max()
    return float(reading[~high].mean()), float(reading[high].mean())


def _is_binary(a: Tensor) -> bool:
    return len(a.unique()) == 2


def _mean_difference(z: Tensor, a: Tensor) -> Tensor:
    """μ₊ − μ₋ for a binary attribute, Cov(z, a) / Var(a) for a continuous one."""
    if _is_binary(a):
        high = a == a.max()
        return z[high].mean(0) - z[~high].mean(0)
    return ((z - z.mean(0)) * (a - a.mean())[:, None]).mean(0) / a.var(correction=0)


def _logistic(z: Tensor, a: Tensor) -> Tensor:
    from sklearn.linear_model import LogisticRegression

    # C is the variance of each weight's prior: with more latent dimensions each must say less, or a flow's thousands of
    # them learn the training data by heart (Smiling, L = 3072: held-out accuracy 0.84 with C = 1, 0.89 with 3 / L)
    prior = min(1.0, 3 / z.shape[1])
    fit = LogisticRegression(C=prior, max_iter=1000, class_weight="balanced").fit(z.numpy(), (a == a.max()).numpy())
    return torch.tensor(fit.coef_[0], dtype=torch.float32)


def _normals(z: Tensor, values: Mapping[str, Tensor], names: Sequence[str], method: Method) -> dict[str, Tensor]:
    """n of every name. Continuous attributes that are known everywhere share one solution."""
    whole = [n for n in names if method != "means" and values[n].isfinite().all() and not _is_binary(values[n])]
    shared = ridges(z, torch.stack([values[n] for n in whole], 1)).unbind(0) if whole else ()
    found: dict[str, Tensor] = dict(zip(whole, shared, strict=True))
    for name in set(names) - set(whole):
        known = values[name].isfinite()
        by, a = z[known], values[name][known]
        if method == "means":
            found[name] = _mean_difference(by, a)
        else:
            found[name] = _logistic(by, a) if _is_binary(a) else ridges(by, a[:, None])[0]
    return found


def learnable(attributes: Attributes, names: Sequence[str], n: int, notice: Callable[[str], object]) -> list[str]:
    """Those of the names of which directions can be learned from values (n,), found without any work.

    Args:
        notice: called with a line for each that is skipped.

    Raises:
        TriptychError: for an unknown name, for values that are not n finite or unknown ones, and where none is left.
    """
    if not names:
        raise TriptychError(f"no attribute is named to learn a direction of: known: {', '.join(attributes) or 'none'}")
    for name in names:
        if name not in attributes:
            raise unknown("attribute", name, attributes)
        _check_values(name, as_values(attributes[name]), n)
    return _without(names, problems(attributes, names), notice)


def problems(attributes: Attributes, names: Iterable[str]) -> dict[str, str]:
    """Why no direction can be learned of values (n,): a clause for each of the names of which none can."""
    found = {name: _problem(as_values(attributes[name])) for name in names}
    return {name: problem for name, problem in found.items() if problem}


def judgeable(truth: Attributes, names: Sequence[str], notice: Callable[[str], object]) -> list[str]:
    """The same of held-out values (n,): without those that are too rare there to be judged.

    Where the held-out examples are few altogether nothing is skipped: what is learned is marked as not judged.
    """
    found = {name: _held_out_problem(as_values(truth[name])) for name in names if name in truth}
    return _without(names, {name: problem for name, problem in found.items() if problem}, notice)


def _without(names: Sequence[str], problems: Mapping[str, str], notice: Callable[[str], object]) -> list[str]:
    """The names without a problem; those with one are said, or raised where none is left."""
    said = [f"attribute {name} {problem}" for name, problem in problems.items()]
    if len(problems) == len(set(names)):
        raise TriptychError("; ".join(said[:_NAMED]) + f"; and {len(said) - _NAMED} others" * (len(said) > _NAMED))
    for sentence in said:
        notice(f"skipped: {sentence}")
    return [name for name in names if name not in problems]


def as_values(a: Tensor | np.ndarray) -> Tensor:
    """An attribute as float32, (n,)."""
    return torch.as_tensor(np.asarray(a), dtype=torch.float32)


def _check_values(name: str, a: Tensor, n: int) -> None:
    if a.shape != (n,):
        raise TriptychError(f"attribute {name} should have one value for each of {n} examples, has shape {tuple(a.shape)}")
    if a.isinf().any():
        raise TriptychError(f"attribute {name} holds infinity: correct or leave out those examples first")


def _problem(a: Tensor) -> str | None:
    """Why no direction can be learned from the values a, (n,); None where one can."""
    values, counts = a[a.isfinite()].unique(return_counts=True)
    known = int(counts.sum())
    few = int(counts.min()) if len(values) == 2 else known
    problems = {
        "is unknown (NaN) everywhere: no direction can be learned from it": known == 0,
        f"is {a.nanmean().item():g} everywhere: no direction can be learned from it": len(values) == 1,
        f"has only {few} examples of its smaller class, or in all, to learn from: {FEWEST} are needed": few < FEWEST,
    }
    return next((problem for problem, found in problems.items() if found), None)


def _held_out_problem(a: Tensor) -> str | None:
    """Why the held-out values a, (n,), cannot judge a direction though they are many; None where they can, or are few."""
    if len(a) < _FEW_HELD_OUT:
        return None
    values = a[a.isfinite()].unique()
    if len(values) > 1:
        return None
    shown = f"is {values.item():g}" if len(values) else "is unknown"
    return f"{shown} in all {len(a)} held-out examples: no direction of it could be judged"
