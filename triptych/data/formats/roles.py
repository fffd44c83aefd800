"""Files that hold several arrays: which are examples, which are attributes, and of which split.

MedMNIST says train_images and train_labels, Keras x_train and y_train, others images and labels, or x alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from triptych.data.attributes import RawColumn
from triptych.data.layout import SPLIT_NAMES
from triptych.errors import TriptychError

DATA = frozenset({"x", "images", "image", "imgs", "img", "data", "inputs", "pictures", "features", "ff"})
LABELS = frozenset({"y", "labels", "label", "targets", "target", "classes", "class"})
_PAIR = re.compile(rf"(?:(x|y)({'|'.join(SPLIT_NAMES)})|({'|'.join(SPLIT_NAMES)})(x|y))")  # xtrain, trainX
MOST_COLUMNS = 64
"""Labels (N, K) of more columns than this are not attributes."""


class Header(NamedTuple):
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def may_be_data(self) -> bool:
        """Numbers of rank 2 to 4."""
        return 2 <= len(self.shape) <= 4 and self.dtype.kind in "buif"

    def may_describe(self, count: int) -> bool:
        """Whether it has a value, or a few, for each of so many examples."""
        fits = self.shape[:1] == (count,) and len(self.shape) <= 2 and self.dtype.kind in "buifUSO"
        return fits and (len(self.shape) == 1 or self.shape[1] <= MOST_COLUMNS)


class Roles(NamedTuple):
    """Of one split: the array of its examples, and of each attribute."""

    data: str
    attributes: dict[str, str]


def roles(where: str, headers: Mapping[str, Header]) -> dict[str, Roles]:
    """The roles of the arrays in a file, by split.

    Raises:
        TriptychError: where it cannot be told which array holds the examples.
    """
    splits: dict[str, dict[str, Header]] = {}
    for name, header in headers.items():
        splits.setdefault(_split(name), {})[name] = header
    if "train" not in splits or not any(header.may_be_data for header in splits["train"].values()):
        splits = {"train": dict(headers)}
    found = {split: _of_split(where, its) for split, its in splits.items()}
    used = {role.data for role in found.values()} | {name for role in found.values() for name in role.attributes.values()}
    for split, role in found.items():  # attributes that no word says the split of, told by their length
        shape = headers[role.data].shape
        for name, header in headers.items():
            twice = math.prod(header.shape) == math.prod(shape)  # the examples once more, flat
            if split == "train" and name not in used and header.may_describe(shape[0]) and not twice:
                role.attributes[name] = name
    return found


def unused(headers: Mapping[str, Header], found: Mapping[str, Roles]) -> list[str]:
    """The arrays that have no role."""
    used = {name for role in found.values() for name in (role.data, *role.attributes.values())}
    return [name for name in headers if name not in used]


def columns_of_array(name: str, values: np.ndarray) -> dict[str, RawColumn]:
    """One attribute, or one for each column: label_0, label_1, …; classes of which each row marks one are one attribute.

    >>> list(columns_of_array("y", np.zeros((9, 2)))), columns_of_array("y", np.eye(3))["y"].values.tolist()
    (['y_0', 'y_1'], [0, 1, 2])
    """
    values = values.astype(str) if values.dtype.kind == "S" else values
    if values.ndim == 1 or values.shape[1] == 1:
        return {name: RawColumn(values.reshape(-1))}
    if values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all():
        return {name: RawColumn(values.argmax(1))}
    return {f"{name}_{i}": RawColumn(values[:, i]) for i in range(values.shape[1])}


def describes(name: str) -> bool:
    """Whether an array's name says that it holds labels.

    >>> describes("y_train"), describes("ytest"), describes("images")
    (True, True, False)
    """
    return bool(set(_words(name)) & LABELS)


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    parts: list[str] = []
    for word in filter(None, re.split(r"[^a-z0-9]+", spaced.lower())):
        pair = _PAIR.fullmatch(word)
        parts += filter(None, pair.groups()) if pair else [word]
    return parts


def _split(name: str) -> str:
    return next((SPLIT_NAMES[word] for word in _words(name) if word in SPLIT_NAMES), "train")


def _of_split(where: str, headers: dict[str, Header]) -> Roles:
    fit = [name for name, header in headers.items() if header.may_be_data]
    named = [name for name in fit if set(_words(name)) & DATA]
    unlabelled = [name for name in fit if not set(_words(name)) & LABELS]
    if (
        len(named) > 1 and len({math.prod(headers[name].shape) for name in named}) == 1
    ):  # the same twice: flat, and as pictures
        named = [max(named, key=lambda name: len(headers[name].shape))]
    for choice in (["x"] if "x" in headers else [], named, unlabelled, fit):
        if len(choice) == 1:
            return Roles(choice[0], _attributes(choice[0], headers))
    found = ", ".join(f"{name} {header.shape} {header.dtype}" for name, header in headers.items())
    raise TriptychError(
        f"{where}: expected an array x, or one array of numbers of rank 2 to 4, got "
        f"{found or 'nothing'}; save the data under the key x"
    )


def _attributes(data: str, headers: dict[str, Header]) -> dict[str, str]:
    """Attribute to array: its name without the words that say the split."""
    count = headers[data].shape[0] if headers[data].shape else 0
    twice = math.prod(headers[data].shape)
    names = [name for name, header in headers.items()
             if name != data and header.may_describe(count) and math.prod(header.shape) != twice]  # fmt: skip
    return {"_".join(word for word in _words(name) if word not in SPLIT_NAMES) if _has_split(name) else name: name
            for name in names}  # fmt: skip


def _has_split(name: str) -> bool:
    words = _words(name)
    return any(word in SPLIT_NAMES for word in words) and len(words) > 1
