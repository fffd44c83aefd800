"""Data that are in memory already, as the parts that files give, so that the same checks and errors follow.

    array, tensor           as an .npy file: pictures or other events
    a dictionary            of arrays, as an .npz file: x (or the only one of suitable rank) and attributes, or x_train,
                            y_train, …; or of splits
    two arrays              (x, y): examples and their labels; or (x, y) of training and of test data
    a pandas table          a column of picture files, bytes or Pillow pictures, and attributes; else its numbers as rows
    a list, or a data set   of items: a picture file, bytes, a Pillow picture or an array, alone, with a label or with a
                            dictionary of attributes; or a dictionary of all these, as the `datasets` library gives it

Neither torch nor pandas is imported here: data can only be theirs where they are.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.attributes import LABELS, RawColumn
from triptych.data.files import Part
from triptych.data.formats.columnar import IMAGE_COLUMNS
from triptych.data.formats.roles import Header, columns_of_array, roles, unused
from triptych.data.layout import SPLIT_NAMES
from triptych.data.pictures import SUFFIXES, Encoded
from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError
from triptych.opening import at_home, exists

MARK = "in memory: "
"""Begins what a recipe calls data that have no name or path."""
_EXPECTED = (
    "expected a name, a path, an array, a tensor, a list of picture files, a pandas DataFrame, a map-style torch Dataset "
    "or a dictionary of arrays"
)


def is_named(data: Any) -> bool:
    """Whether data are given by a name or a path, under which they can be found again."""
    return isinstance(data, str | Path)


def summary(data: Any) -> str:
    """What a recipe calls the data: their name or path, or for data in memory what they are.

    >>> summary("faces"), summary(np.zeros((40, 8, 8), np.uint8))
    ('faces', 'in memory: ndarray of 40')
    """
    if is_named(data):
        return str(data)
    kind, length = type(data).__name__, getattr(data, "__len__", None)
    return f"{MARK}{kind} of {length():,}" if length and not isinstance(data, Mapping) else f"{MARK}{kind}"


def read_memory(data: Any, budget: int) -> dict[str, Part]:
    """The splits of data in memory; without names of splits all of it is "train".

    Args:
        budget: bytes that the arrays of a data set's items may take together, since these are copied into one.

    Raises:
        TriptychError: for what is none of the kinds above, and for what a file with the same values would be refused for.
    """
    data = _labelled(data)
    if isinstance(data, Mapping) and data and set(data) <= set(SPLIT_NAMES):
        return {SPLIT_NAMES[name]: _part(_labelled(values), budget) for name, values in data.items()}
    if isinstance(data, Mapping):
        return dict(_arrays(data, f"the {type(data).__name__}"))
    return {"train": _part(data, budget)}


def _labelled(data: Any) -> Any:
    """(x, y) as a dictionary of these, and ((x, y), (x, y)) or three of them as splits of such; other data as they are."""
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        if all(isinstance(part, tuple) and isinstance(_labelled(part), Mapping) for part in data):
            return dict(zip(("train", "test") if len(data) == 2 else ("train", "valid", "test"), data, strict=True))
        shapes = [np.shape(part) for part in data if _is_column(part) or (isinstance(data, tuple) and _is_numbers(part))]
        if len(data) == len(shapes) == 2 and len(shapes[0]) > len(shapes[1]) > 0 and shapes[0][0] == shapes[1][0]:
            return {"x": data[0], "y": data[1]}
    return data


def _is_column(data: Any) -> bool:
    return isinstance(data, np.ndarray) or _is(data, "torch", "Tensor") or _is(data, "pandas", "Series")


def _is_numbers(data: Any) -> bool:
    """Whether it is a list of numbers or words, as labels are."""
    return isinstance(data, list) and bool(data) and all(isinstance(value, int | float | str | np.number) for value in data)


def _part(data: Any, budget: int) -> Part:
    where = f"the {type(data).__name__}"
    if _is(data, "torch", "Tensor") or (isinstance(data, np.ndarray) and data.dtype != object):
        return _array(_numpy(data), where)
    if isinstance(data, Mapping):
        return _arrays(data, where)["train"]
    if _is(data, "pandas", "DataFrame"):
        return _table(data, where, budget)
    if is_named(data) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TriptychError(f"{_EXPECTED}, got {where}: an iterable becomes a list by list(…)")
    if not len(data):
        raise TriptychError(f"{where}: expected at least one example, got none")
    return _items(data, where, budget)


def _is(data: Any, module: str, name: str) -> bool:
    """Whether data are of a class in a module that need not be there."""
    return module in sys.modules and isinstance(data, getattr(sys.modules[module], name))


def _numpy(values: Any) -> np.ndarray:
    """A tensor, or what numpy takes, as an array; half precision becomes float32, which numpy has for all of it."""
    if _is(values, "torch", "Tensor"):
        values = values.detach().cpu()
        return (values.float() if values.is_floating_point() and values.itemsize < 4 else values).numpy()
    return np.asarray(values)


def _array(
    values: np.ndarray, where: str, columns: dict[str, RawColumn] | None = None, names: tuple[str, ...] = ()
) -> Array:
    if not values.ndim:
        raise TriptychError(f"{where}: expected an array of examples (N, …), got a single number")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    made = Array.of(values, where, (values.shape, values.dtype.str, _digest(values)), columns)
    made.names = names
    if values.flags.c_contiguous:
        made.mapped = values  # what is over the budget, but in memory already, is used as it is
    return made


def _digest(values: np.ndarray) -> str:
    """What tells these values from others, for the cache."""
    found, step = hashlib.blake2b(digest_size=16), rows_in_chunk(values.shape[1:], values.dtype)
    for start in range(0, len(values) if values.dtype != object else 0, step):
        found.update(np.ascontiguousarray(values[start : start + step]).data.cast("B") if values.size else b"")
    return found.hexdigest()


def _arrays(data: Mapping[str, Any], where: str) -> dict[str, Array]:
    """The array of examples of each split and those as long as it, by the roles that names have in files of several."""
    arrays = {str(name): _numpy(values) for name, values in data.items()}
    headers = {name: Header(values.shape, values.dtype) for name, values in arrays.items() if values.ndim}
    found = roles(where, headers)
    parts = {}
    for split, role in found.items():
        columns = [columns_of_array(name, arrays[key]) for name, key in role.attributes.items()]
        parts[split] = _array(arrays[role.data], where, {name: its for some in columns for name, its in some.items()})
    count, numbers = len(arrays[found["train"].data]), (name for name in headers if headers[name].dtype.kind in "biuf")
    short = {name for name in numbers if headers[name].shape[0] != count and not name.endswith("_names")}
    if over := [name for name in unused(headers, found) if name in short]:
        raise TriptychError(f"{where}: expected {count} values of {over[0]}, one for each example, got shape "
                            f"{headers[over[0]].shape}")  # fmt: skip
    return parts


def _table(frame: Any, where: str, budget: int) -> Part:
    """A pandas table: a column of pictures or arrays and attributes, or rows of numbers and the attributes that are not
    numbers."""
    if len(set(map(str, frame.columns))) < frame.shape[1]:
        names = [str(name) for name in frame.columns]
        twice = next(name for name in names if names.count(name) > 1)
        raise TriptychError(f"{where}: expected each column once, got {twice!r} twice: rename or remove one")
    columns = {str(name): _column(frame[name]) for name in frame.columns}
    for name, column in columns.items():
        first = next((value for value in column if value is not None), None) if column.dtype == object else None
        others = {other: values for other, values in columns.items() if other != name}
        if _is_encoded(first):
            return _album(column, {other: RawColumn(values) for other, values in others.items()}, where)
        if isinstance(first, np.ndarray | list | tuple) or _is(first, "torch", "Tensor"):
            items = ((value, {o: c[i] for o, c in others.items()}) for i, value in enumerate(column))
            return _stacked(items, column, _numpy(first), where, budget)
    numbers = [name for name, c in columns.items() if c.dtype != object and name.lower() not in LABELS]
    if not numbers:
        raise TriptychError(
            f"{where}: expected a column of picture files or bytes, or columns of numbers, got "
            f"{', '.join(list(columns)[:8]) or 'no columns'}: convert the columns that are meant"
        )
    rows = np.stack([columns[name] for name in numbers], axis=1)
    attributes = {name: RawColumn(values) for name, values in columns.items() if name not in numbers}
    return _array(rows, where, attributes, tuple(numbers))


def _column(series: Any) -> np.ndarray:
    """Numbers, NaN where missing; other values as objects, None where missing."""
    if series.dtype.kind in "iufb":
        return series.to_numpy(np.float64, na_value=np.nan)
    return series.astype(object).where(series.notna(), None).to_numpy()


def _is_encoded(picture: Any) -> bool:
    """Whether it is a picture that Pillow opens: a file's name or path, bytes, or opened already."""
    if isinstance(picture, str):
        return Path(picture).suffix.lower() in SUFFIXES
    return isinstance(picture, Path | bytes | Image.Image)


def _album(pictures: Sequence[Any] | np.ndarray, columns: dict[str, RawColumn], where: str) -> Album:
    """Encoded pictures: named by their file, or by their row."""
    files = [at_home(picture) for picture in pictures if isinstance(picture, str | Path)]
    missing = [str(path) for path in files if not exists(path)]
    if missing:
        named = f"{', '.join(missing[:3])}{', …' * (len(missing) > 3)}"
        raise TriptychError(f"{where}: {len(missing)} of {len(pictures)} files are not there: {named}; check their paths")

    def read(wanted: np.ndarray) -> Iterator[Encoded]:
        for row in wanted.tolist():
            content = _divided(pictures[row], where)[0]
            if _is_column(content):
                raise TriptychError(
                    f"{where}: expected files, bytes or Pillow pictures throughout, got an array at {row}: convert it by "
                    "PIL.Image.fromarray"
                )
            is_file = isinstance(content, str | Path)
            yield Encoded(row, str(content) if is_file else f"row {row}", at_home(content) if is_file else content)

    return Album(where, len(pictures), read, columns)


def _items(data: Any, where: str, budget: int) -> Part:
    """A list or data set of pictures or arrays, whose labels are read at once."""
    picture, labels = _divided(data[0], where)
    rows = (_divided(data[i], where) for i in range(len(data)))
    if not _is_encoded(picture):
        return _stacked(rows, data, _numpy(picture), where, budget)
    if not labels:
        return _album(data, {}, where)
    return _album(data, _columns((labels for _, labels in rows), data), where)


def _divided(item: Any, where: str) -> tuple[Any, dict[str, Any]]:
    """The picture of an item, and its attributes by name."""
    if isinstance(item, Mapping):
        name = next((name for name in IMAGE_COLUMNS if name in item), None)
        if name is None:
            got = ", ".join(map(str, item))
            raise TriptychError(f"{where}: expected items with a picture under {' or '.join(IMAGE_COLUMNS[:2])}, got {got}")
        return item[name], {key: value for key, value in item.items() if key != name}
    if not (isinstance(item, tuple) or _pairs(item)):
        return item, {}
    picture, *labels = item
    if len(labels) == 1 and isinstance(labels[0], Mapping):
        return picture, dict(labels[0])
    return picture, {"label" if not i else f"label_{i + 1}": value for i, value in enumerate(labels)}


def _pairs(item: Any) -> bool:
    """Whether a list is a picture with its label: what comes after it is not another of its shape."""
    if not isinstance(item, list) or len(item) < 2:
        return False
    is_array = isinstance(item[0], np.ndarray) or _is(item[0], "torch", "Tensor")
    return _is_encoded(item[0]) or (is_array and np.ndim(item[0]) > 1 and np.shape(item[1]) != np.shape(item[0]))


def _columns(labels: Iterator[dict[str, Any]], data: Any) -> dict[str, RawColumn]:
    """Attributes of all items by name; those of several numbers give a column each.

    A data set's `classes`, as torchvision's have them, are the names of its labels.
    """
    table = [{key: value for name, label in row.items() for key, value in _named(name, label)} for row in labels]
    names = dict.fromkeys(name for row in table for name in row)
    columns = {name: RawColumn([row.get(name) for row in table]) for name in names}
    classes = tuple(map(str, getattr(data, "classes", None) or ()))
    codes = columns["label"].values if "label" in columns else ()
    if classes and len(codes) and all(isinstance(code, int) and 0 <= code < len(classes) for code in codes):
        columns["label"] = RawColumn(np.array(codes), classes)
    return columns


def _named(name: str, label: Any) -> list[tuple[str, Any]]:
    """A label as (name, number or text): a vector's elements are counted, what is missing is None."""
    if label is None or isinstance(label, str):
        return [(name, label)]
    values = _numpy(label)
    if values.ndim > 1 or values.dtype.kind not in "biufU":
        raise TriptychError(f"expected numbers or text as {name}, got {type(label).__name__}: leave it out of the items")
    return [(name, values.item())] if not values.ndim else [(f"{name}_{i}", v) for i, v in enumerate(values.tolist())]


def _stacked(rows: Iterator[tuple[Any, dict[str, Any]]], data: Any, first: np.ndarray, where: str, budget: int) -> Array:
    """Items that are arrays, as one array and attributes."""
    count = len(data)
    if first.nbytes * count > budget:
        raise TriptychError(
            f"{where}: {count:,} items of {first.nbytes:,} bytes are over the budget of {budget / 2**30:.2f} GiB in memory: "
            "raise it by triptych.data.load(…, budget=bytes), or give the files"
        )
    values, found = np.empty((count, *first.shape), first.dtype), []
    for i, (picture, labels) in enumerate(rows):
        value = _numpy(picture)
        if value.shape != first.shape or value.dtype != first.dtype:
            raise TriptychError(
                f"{where}: expected items of one shape and dtype, got {first.shape} {first.dtype} and, at {i}, "
                f"{value.shape} {value.dtype}: resize or convert them"
            )
        values[i] = value
        found.append(labels)
    return _array(values, where, _columns(iter(found), data))
