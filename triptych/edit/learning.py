"""Directions from labels, and without, and how good they are on data that they were not learned from.

Shapes: z (n, L) training codes, a (n,) an attribute; context (n, K) of the examples, or (1, K), or None for "unknown".

    means       n = v = μ₊ − μ₋, or Cov(z, a) for a continuous a         (Larsen et al. 2016; Glow, section 5)
    regression  n = the weights of a logistic or ridge regression of a on z, v ∥ n   (Shen et al. 2020, InterFaceGAN)
    joint       v from the regression of z on all attributes at once: what z does when this attribute moves and the others
                stay; n the best reading with n·v = 1                    (`joint`)

The first two are calibrated on one attribute alone: +1 is what z shows when it is higher by 1 *with all that is correlated
with it*, and the classes' means lie at −1 and +1. Joint coordinates are calibrated with the others held: +1 is what this
attribute alone does, so that the classes' means lie at −1 and +1 as far as z tells it from what is correlated with it.

What coordinates read of held-out data is measured in `worth`; what an edit moves, here:

share     set c from low to high as an edit does, decode, and read c: how much of the way it went. A binary attribute goes
          from one class to the other, −1 to +1, any other over its `Direction.range`
leakage   the same, but read every other coordinate: the mean change of c_j over its spread (standard deviation on held-out
          data). The model reads itself, unless a `Reader` does, which is the stricter judge: what an exact model reads of
          its own edits is what it wrote.

A model that is inverted reads by its encoder, and moves z that are optimised, here as in an edit.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from triptych.capabilities import Encodes, require
from triptych.core import GenerativeModel
from triptych.edit.depth import depth_of, fitting
from triptych.edit.directions import Anchors, Direction, DirectionKind, Directions, calibrated
from triptych.edit.inversion import coordinate_model
from triptych.edit.joint import Pair, Together, joint_pairs, ridges
from triptych.edit.moving import move
from triptych.edit.reading import Reader
from triptych.edit.worth import read_against_chance, with_slope
from triptych.errors import TriptychError, unknown
from triptych.evaluate.latent import codes
from triptych.modes import in_eval_mode

Attributes: TypeAlias = Mapping[str, Tensor | np.ndarray]  # values (n,) by name, NaN where unknown
Method = Literal["means", "regression", "joint"]
_MOVED = 256  # held-out examples that are moved to measure leakage
_SEARCHED = 64  # the same where each z is searched for: seconds of work, where encoding is nothing
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
    values = {name: _values(a) for name, a in attributes.items()}
    z = codes(coordinate_model(model), stored, context=context)
    if method == "joint":
        pairs = joint_pairs(z, _coded(values, len(z)), chosen)
    else:
        pairs = {name: Pair(normal, normal) for name, normal in _normals(z, values, chosen, method).items()}
    lost = {name: "leaves no trace in this model's z" for name in chosen if not pairs[name].normal.abs().max() > _NO_TRACE}
    chosen = _without(chosen, lost, notice)
    anchors = _others_held if method == "joint" else _alone
    return Directions({name: _learn(name, z, values[name], pairs[name], anchors) for name in chosen}).at(depth_of(model))


@in_eval_mode
def unsupervised_directions(
    model: GenerativeModel, stored: Tensor, count: int, *, context: Tensor | None = None
) -> Directions:
    """The `count` principal components of the codes of `stored`: pc1 …, c in standard deviations (GANSpace's idea)."""
    from sklearn.decomposition import PCA

    check_components(count, len(stored), model.latent_dim)
    z = codes(coordinate_model(model), stored, context=context)
    pca = PCA(count, random_state=0).fit(z.numpy())
    mean, found = torch.tensor(pca.mean_, dtype=torch.float32), Directions()
    for i, (axis, variance) in enumerate(zip(pca.components_, pca.explained_variance_, strict=True), 1):
        normal = torch.tensor(axis, dtype=torch.float32)
        centre = float(normal @ mean)
        anchors = (0.0, centre), (1.0, centre + float(variance) ** 0.5)
        found[f"pc{i}"] = calibrated(f"pc{i}", "unsupervised", normal, normal, anchors, z)
    return found.at(depth_of(model))


@in_eval_mode
def judge(
    model: GenerativeModel,
    directions: Directions,
    stored: Tensor,
    attributes: Attributes,
    *,
    context: Tensor | None = None,
    reader: Reader | None = None,
) -> Directions:
    """The same directions with `judged` filled in from held-out data: the measures of `worth`, share and leakage.

    A binary attribute is moved from class to class, −1 to +1, any other over its range.

    Args:
        stored, attributes: held-out examples (n, *E), and their values (n,) by name, NaN where unknown.
        context: of a conditional model, what they show, (n, K) or (1, K).
        reader: what reads edited examples, by which share and leakage are measured; None: the model itself.
    """
    model = fitting(model, directions)
    coordinates, context = coordinate_model(model), model.check_context(context, len(stored))
    z = codes(coordinates, stored, context=context)
    n = _MOVED if coordinates is model else _SEARCHED
    few = None if context is None else context[:n]
    encoder = require(coordinates, Encodes)

    def read(x: Tensor) -> dict[str, Tensor]:
        return directions.coordinates(encoder.encode(x, few)) if reader is None else reader(model.codec.decode(x))

    moved = _moved(model, directions, codes(model, stored[:n], context=few), z[:n], few)
    effects = _effects(moved, read, model.codec.centre(stored[:n].to(model.device)))
    values = {name: _values(a) for name, a in attributes.items()}
    varying = _coded(values, len(z))
    together, judged = Together(varying) if varying else None, Directions()
    for name, direction in directions.items():
        measures: dict[str, object] = {"n": len(z), **effects[name]}
        if name in attributes:
            measures |= read_against_chance(direction, z, values[name])
        if name in varying and together is not None:
            measures = with_slope(measures, together.slope(name, direction.coordinate(z)))
        judged[name] = dataclasses.replace(direction, judged=measures)
    return judged


class _Moved(NamedTuple):
    """Examples of which one coordinate was set low and high, each (n, *E)."""

    name: str
    width: float
    low: Tensor
    high: Tensor


def _moved(
    model: GenerativeModel, directions: Directions, z: Tensor, read: Tensor, context: Tensor | None
) -> Iterator[_Moved]:
    """A move for each direction: from class to class for a binary one, over the whole range for others.

    Args:
        z, read: the codes that are moved, and those that coordinates are read from.
    """
    for name, direction in directions.items():
        low, high = (-1.0, 1.0) if direction.kind == "binary" else direction.range
        ends = (model.decode(move(z, {name: c}, directions, read=read), context) for c in (low, high))
        yield _Moved(name, high - low, *ends)


@torch.no_grad()
def _effects(moved: Iterable[_Moved], read: Callable[[Tensor], dict[str, Tensor]], x: Tensor) -> dict[str, dict[str, Any]]:
    """Per direction: share and leakage, as the head of this file has them.

    Args:
        read: examples (n, *E) -> coordinates by name.
        x: the examples before they are moved.
    """
    spread, found = {name: c.std(correction=0).clamp(min=1e-6) for name, c in read(x).items()}, {}
    for name, width, *ends in moved:
        before, after = map(read, ends)
        change = {other: float((after[other] - before[other]).mean()) for other in spread}
        leakage = {other: value / float(spread[other]) for other, value in change.items() if other != name}
        found[name] = {"leakage": leakage} | ({"share": change[name] / width} if name in change else {})
    return found


def _learn(name: str, z: Tensor, a: Tensor, pair: Pair, anchors: Callable[[Tensor, Tensor], Anchors]) -> Direction:
    known = a.isfinite()
    z, a = z[known], a[known]
    kind: DirectionKind = "binary" if _is_binary(a) else "continuous"
    found = calibrated(name, kind, *pair, anchors(z @ pair.normal, a), z)
    return dataclasses.replace(found, threshold=float(a.min() + a.max()) / 2) if kind == "binary" else found


def _alone(reading: Tensor, a: Tensor) -> Anchors:
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


def _coded(values: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
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


def check_components(count: int, n: int, latent_dim: int) -> None:
    """Raises unless `count` principal components can be had of n codes: 1 ≤ count ≤ min(n, L)."""
    if not 1 <= count <= min(n, latent_dim):
        raise TriptychError(f"unsupervised directions: expected 1 to {min(n, latent_dim)}, got {count}")


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
        _check_values(name, _values(attributes[name]), n)
    return _without(names, problems(attributes, names), notice)


def problems(attributes: Attributes, names: Iterable[str]) -> dict[str, str]:
    """Why no direction can be learned of values (n,): a clause for each of the names of which none can."""
    found = {name: _problem(_values(attributes[name])) for name in names}
    return {name: problem for name, problem in found.items() if problem}


def judgeable(truth: Attributes, names: Sequence[str], notice: Callable[[str], object]) -> list[str]:
    """The same of held-out values (n,): without those that are too rare there to be judged.

    Where the held-out examples are few altogether nothing is skipped: what is learned is marked as not judged.
    """
    found = {name: _held_out_problem(_values(truth[name])) for name in names if name in truth}
    return _without(names, {name: problem for name, problem in found.items() if problem}, notice)


def _without(names: Sequence[str], problems: Mapping[str, str], notice: Callable[[str], object]) -> list[str]:
    """The names without a problem; those with one are said, or raised where none is left."""
    said = [f"attribute {name} {problem}" for name, problem in problems.items()]
    if len(problems) == len(set(names)):
        raise TriptychError("; ".join(said[:_NAMED]) + f"; and {len(said) - _NAMED} others" * (len(said) > _NAMED))
    for sentence in said:
        notice(f"skipped: {sentence}")
    return [name for name in names if name not in problems]


def _values(a: Tensor | np.ndarray) -> Tensor:
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
