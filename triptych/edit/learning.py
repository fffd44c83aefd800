"""Directions from labels, and without.

Shapes: z (n, L) training codes, a (n,) an attribute.

    means       n = v = μ₊ − μ₋, or Cov(z, a) for a continuous a         (Larsen et al. 2016; Glow, section 5)
    regression  n = the weights of a logistic or ridge regression of a on z, v ∥ n   (Shen et al. 2020, InterFaceGAN)
    joint       n as in regression; v from the regression of z on all attributes at once: what z does when this attribute
                moves and the others stay (Haufe et al. 2014: patterns, where regression weights are filters)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from triptych.core import GenerativeModel
from triptych.edit.directions import Direction, DirectionKind, Directions, calibrated
from triptych.edit.inversion import coordinate_model
from triptych.errors import TriptychError, unknown
from triptych.evaluate.latent import codes

Method = Literal["means", "regression", "joint"]
FEWEST = 10  # examples of each class, or in all for a continuous attribute, below which nothing is learned


def learn_directions(
    model: GenerativeModel,
    stored: Tensor,
    attributes: Mapping[str, Tensor | np.ndarray],
    *,
    method: Method = "joint",
    names: Sequence[str] | None = None,
) -> Directions:
    """Directions for named attributes, fitted on the codes of `stored` (n, *E).

    Args:
        attributes: values (n,) by name, NaN where unknown; two distinct values make a binary one.
        method: see the head of this file.
        names: which to learn; all by default. The joint method holds the others still all the same.

    Raises:
        TriptychError: for an unknown name (with the nearest ones), a constant attribute, or too few examples.
    """
    chosen = list(names) if names is not None else list(attributes)
    check_attributes(attributes, chosen, len(stored))
    values = {name: _values(a) for name, a in attributes.items()}
    z = codes(coordinate_model(model), stored)
    steps = _joint_steps(z, values) if method == "joint" else {}
    normals = _normals(z, values, chosen, method)
    return Directions({name: _learn(name, z, values[name], normals[name], steps.get(name)) for name in chosen})


def unsupervised_directions(model: GenerativeModel, stored: Tensor, count: int) -> Directions:
    """The `count` principal components of the codes of `stored`: pc1 …, c in standard deviations (GANSpace's idea)."""
    from sklearn.decomposition import PCA

    check_components(count, len(stored), model.latent_dim)
    z = codes(coordinate_model(model), stored)
    pca = PCA(count, random_state=0).fit(z.numpy())
    found = {}
    for i, (axis, variance) in enumerate(zip(pca.components_, pca.explained_variance_, strict=True), 1):
        normal = torch.tensor(axis, dtype=torch.float32)
        centre, sigma = float(normal @ torch.tensor(pca.mean_, dtype=torch.float32)), float(variance) ** 0.5
        found[f"pc{i}"] = calibrated(f"pc{i}", "unsupervised", normal, normal, (0.0, 1.0), (centre, centre + sigma), z)
    return Directions(found)


def _learn(name: str, z: Tensor, a: Tensor, normal: Tensor, step: Tensor | None) -> Direction:
    known = a.isfinite()
    z, a = z[known], a[known]
    binary = len(a.unique()) == 2
    kind: DirectionKind = "binary" if binary else "continuous"
    found = calibrated(name, kind, normal, normal if step is None else step, *_anchors(normal, z, a, binary), z)
    return dataclasses.replace(found, threshold=float(a.min() + a.max()) / 2) if binary else found


def _anchors(normal: Tensor, z: Tensor, a: Tensor, binary: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two values of c and the n·z where they belong: the class means, or the line of n·z against a.

    For a continuous attribute n·z is regressed on a, not a on n·z: the latter shrinks the coordinate towards its mean.
    """
    reading = z @ normal
    if binary:
        high = a == a.max()
        return (-1.0, 1.0), (reading[~high].mean().item(), reading[high].mean().item())
    slope = ((reading - reading.mean()) * (a - a.mean())).mean() / a.var(correction=0)
    intercept = reading.mean() - slope * a.mean()
    return (0.0, 1.0), (intercept.item(), (intercept + slope).item())


def _mean_difference(z: Tensor, a: Tensor) -> Tensor:
    """μ₊ − μ₋ for a binary attribute, Cov(z, a) / Var(a) for a continuous one."""
    if len(a.unique()) == 2:
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


def _ridges(z: Tensor, a: Tensor) -> Tensor:
    """(ZᵀZ + I)⁻¹ Zᵀ A, centred, of attributes (n, A) at once: (A, L).

    In float64: the codes of a flow are nearly collinear where pictures are flat.
    """
    mean, a = z.mean(0), (a - a.mean(0)).double()
    if len(z) < z.shape[1]:  # the same by Zᵀ (ZZᵀ + I)⁻¹ A, whose matrix is the smaller one
        rows = (z - mean).double()
        return torch.linalg.solve(rows @ rows.T + torch.eye(len(z), dtype=torch.float64), a).T.matmul(rows).float()
    gram = torch.eye(z.shape[1], dtype=torch.float64)
    moment = torch.zeros(z.shape[1], a.shape[1], dtype=torch.float64)
    for rows, values in zip((z - mean).split(2048), a.split(2048), strict=True):
        gram.addmm_(rows.double().T, rows.double())
        moment.addmm_(rows.double().T, values)
    return torch.linalg.solve(gram, moment).T.float()


def _normals(z: Tensor, values: Mapping[str, Tensor], names: Sequence[str], method: Method) -> dict[str, Tensor]:
    """n of every name. Continuous attributes that are known everywhere share one solution."""
    whole = [n for n in names if values[n].isfinite().all() and len(values[n].unique()) > 2] if method != "means" else []
    shared = _ridges(z, torch.stack([values[n] for n in whole], 1)).unbind(0) if whole else ()
    found: dict[str, Tensor] = dict(zip(whole, shared, strict=True))
    for name in set(names) - set(whole):
        known = values[name].isfinite()
        found[name] = _normal(z[known], values[name][known], method)
    return found


def _normal(z: Tensor, a: Tensor, method: Method) -> Tensor:
    if method == "means":
        return _mean_difference(z, a)
    return _logistic(z, a) if len(a.unique()) == 2 else _ridges(z, a[:, None])[0]


def _joint_steps(z: Tensor, attributes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """∂E[z|a]/∂a_j for every attribute j, the others held: the rows of the least-squares map from attributes to codes.

    Unknown values count as the attribute's mean; attributes that never vary are left out.
    """
    known = {name: a.nan_to_num(a.nanmean().item()) for name, a in attributes.items() if a.shape == (len(z),)}
    attributes = {name: a for name, a in known.items() if a.std() > 0}
    columns = torch.stack([(a - a.mean()) / a.std() for a in attributes.values()], dim=1).double()
    # a little ridge: attributes that determine each other (or two names for one thing) must not blow up
    gram = columns.T @ columns + 1e-3 * len(z) * torch.eye(columns.shape[1], dtype=torch.float64)
    rows = torch.linalg.solve(gram, columns.T @ (z - z.mean(0)).double())
    return dict(zip(attributes, rows.float(), strict=True))


def check_components(count: int, n: int, latent_dim: int) -> None:
    """Raises unless `count` principal components can be had of n codes: 1 ≤ count ≤ min(n, L)."""
    if not 1 <= count <= min(n, latent_dim):
        raise TriptychError(f"unsupervised directions: expected 1 to {min(n, latent_dim)}, got {count}")


def check_attributes(attributes: Mapping[str, Tensor | np.ndarray], names: Sequence[str], n: int) -> None:
    """Raises what `learn_directions` would say of these names and their values (n,), without any work."""
    if not names:
        raise TriptychError(f"no attribute is named to learn a direction of: known: {', '.join(attributes) or 'none'}")
    for name in names:
        if name not in attributes:
            raise unknown("attribute", name, attributes)
        _check_values(name, _values(attributes[name]), n)


def _values(a: Tensor | np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(a), dtype=torch.float32)


def _check_values(name: str, a: Tensor, n: int) -> None:
    if a.shape != (n,):
        raise TriptychError(f"attribute {name} should have one value for each of {n} examples, has shape {tuple(a.shape)}")
    if a.isinf().any():
        raise TriptychError(f"attribute {name} holds infinity: correct or leave out those examples first")
    values, counts = a[a.isfinite()].unique(return_counts=True)
    n = int(counts.sum())
    if n == 0:
        raise TriptychError(f"attribute {name} is unknown (NaN) everywhere: no direction can be learned from it")
    if len(values) < 2:
        raise TriptychError(f"attribute {name} is {values[0].item():g} everywhere: no direction can be learned from it")
    if n < FEWEST or (len(values) == 2 and counts.min() < FEWEST):
        few = int(counts.min()) if len(values) == 2 else n
        raise TriptychError(f"attribute {name} has only {few} examples in its smaller class or in all: {FEWEST} are needed")
