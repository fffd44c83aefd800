"""Attributes as axes, along which directions can be learned; each of several classes is one axis, against the rest.

Shapes: values (n,), as a split has them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from triptych.data.splits import Split

Classes = Mapping[str, Mapping[int, str]]


def class_names(split: Split) -> dict[str, dict[int, str]]:
    """The classes that examples have, by attribute: value to name, the most frequent first."""
    found = {}
    for name in (name for name, kind in split.kinds.items() if kind == "class" and name in split.attributes):
        known = split.attributes[name][np.isfinite(split.attributes[name])].astype(int)
        values, counts = np.unique(known, return_counts=True)
        names = split.classes.get(name, ())
        order = values[np.argsort(-counts, kind="stable")].tolist()
        found[name] = {value: names[value] if value < len(names) else str(value) for value in order}
    return found


def axes(split: Split, classes: Classes | None = None) -> dict[str, np.ndarray]:
    """Binary and continuous attributes as they are, and of each class attribute an axis `name=class` for each class.

    Of two classes the second alone is an axis, since the first is its opposite.

    Args:
        classes: of `class_names`, where another split than this one decides which there are.

    Returns:
        Values (n,) by name: 1 for the class and 0 for the rest, NaN where it is unknown.

    >>> pets = {"pet": np.array([0, 1, 2])}, {"pet": "class"}, {"pet": ("cat", "dog", "owl")}
    >>> split = Split(np.zeros((3, 2), np.float32), *pets)
    >>> {name: values.tolist() for name, values in axes(split).items()}
    {'pet=cat': [1.0, 0.0, 0.0], 'pet=dog': [0.0, 1.0, 0.0], 'pet=owl': [0.0, 0.0, 1.0]}
    """
    found, classes = {}, class_names(split) if classes is None else classes
    for name, values in split.attributes.items():
        if split.kinds[name] != "class":
            found[name] = values
            continue
        chosen = sorted(classes.get(name, {}).items())
        for value, label in chosen[1:] if len(chosen) == 2 else chosen:
            found[f"{name}={label}"] = np.where(np.isfinite(values), values == value, np.nan).astype(np.float32)
    return found
