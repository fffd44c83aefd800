"""Columns of a table as attributes: numbers, yes and no, and the names of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from triptych.data.splits import Kind

LABELS = ("label", "labels", "class", "target", "targets", "y")
"""Integer columns under these names are classes; the first of them is called `label`."""
MOST_CLASSES = 1000
"""More different strings than this are names, not classes."""
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


class Column(NamedTuple):
    """One attribute of every datum: float32 (N,), NaN where unknown."""

    values: np.ndarray
    kind: Kind
    names: tuple[str, ...] = ()


class Raw(NamedTuple):
    """A column as it was found: numbers, strings, or None where missing; `names` if it came with class names."""

    values: Sequence[Any] | np.ndarray
    names: tuple[str, ...] = ()


def encode(name: str, raw: Raw) -> Column | str:
    """The column as an attribute, or the reason why it cannot be one.

    >>> encode("smile", Raw(["yes", "no", ""])).values.tolist()
    [1.0, 0.0, nan]
    >>> encode("mood", Raw(["glad", "sad", "glad"])).names
    ('glad', 'sad')
    """
    numbers = _numbers(raw.values)
    if numbers is None:
        return _classes(raw.values)
    numbers[~np.isfinite(numbers)] = np.nan
    known = numbers[~np.isnan(numbers)]
    if not known.size:
        return "it is empty"
    if np.isin(known, (-1, 1)).all() and (known < 0).any():  # CelebA's own files write −1 for no
        return Column(((numbers + 1) / 2).astype(np.float32), "binary")
    return Column(numbers.astype(np.float32), _kind(name, raw, known), raw.names)


def _kind(name: str, raw: Raw, known: np.ndarray) -> Kind:
    whole = bool((known == np.round(known)).all() and (known >= 0).all())
    if raw.names or (name.lower() in LABELS and whole):
        return "class"
    return "binary" if np.isin(known, (0, 1)).all() else "continuous"


def _numbers(values: Sequence[Any] | np.ndarray) -> np.ndarray | None:
    """float64 (N,) with NaN where missing, or None when some are words."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return values.astype(np.float64)
    numbers = np.empty(len(values))
    for i, value in enumerate(values):
        try:
            numbers[i] = _number(value)
        except (ValueError, TypeError):
            return None
    return numbers


def _number(value: Any) -> float:
    if isinstance(value, str):
        value = value.strip().lower()
        return _WORDS[value] if value in _WORDS else float(value or "nan")
    return np.nan if value is None else float(value)


def _classes(values: Sequence[Any] | np.ndarray) -> Column | str:
    words = ["" if value is None else str(value).strip() for value in values]
    names = tuple(sorted(set(words) - {""}))
    if len(names) > min(MOST_CLASSES, max(2, len(words) // 2)):
        return f"it holds {len(names)} different words, too many to be classes"
    code: dict[str, float] = {word: i for i, word in enumerate(names)}
    return Column(np.array([code.get(word, np.nan) for word in words], np.float32), "class", names)


def together(
    tables: Sequence[dict[str, Raw]], counts: Sequence[int], notice: Callable[[str], None]
) -> list[dict[str, Column]]:
    """Encode the columns of all splits at once, so that a class has the same index in each of them."""
    columns: list[dict[str, Column]] = [{} for _ in tables]
    for name in dict.fromkeys(name for table in tables for name in table):
        raws = [table.get(name, Raw([None] * count)) for table, count in zip(tables, counts, strict=True)]
        column = encode(name, Raw(_joined(raws), next((raw.names for raw in raws if raw.names), ())))
        if isinstance(column, str):
            notice(f"column {name!r} is no attribute: {column}")
            continue
        for part, values in zip(columns, np.split(column.values, np.cumsum(counts)[:-1]), strict=True):
            part[name] = column._replace(values=values)
    _tell_unknown(columns, notice)
    return [_label_first(part) for part in columns]


def _tell_unknown(columns: Sequence[dict[str, Column]], notice: Callable[[str], None]) -> None:
    """One notice for all values that are missing."""
    missing = {name: sum(int(np.isnan(part[name].values).sum()) for part in columns) for name in columns[0]}
    named = [f"{name} ({count})" for name, count in missing.items() if count]
    if named:
        notice(f"attributes are not known (NaN) for some of the data: {', '.join(named[:5])}{', …' * (len(named) > 5)}")


def _joined(raws: Sequence[Raw]) -> Sequence[Any] | np.ndarray:
    if all(isinstance(raw.values, np.ndarray) for raw in raws):
        return np.concatenate([np.asarray(raw.values) for raw in raws])
    return [value for raw in raws for value in raw.values]


def _label_first(columns: dict[str, Column]) -> dict[str, Column]:
    """Call the classes `label`, whatever of the usual names they came under."""
    found = next(
        (name for alias in LABELS for name in columns if name.lower() == alias and columns[name].kind == "class"), None
    )
    if found is None or "label" in columns:
        return columns
    return {"label" if name == found else name: column for name, column in columns.items()}
