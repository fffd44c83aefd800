"""Columns of a table as attributes: numbers, yes and no, and the names of classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from triptych.data.delimited import MISSING
from triptych.data.splits import kind_of

if TYPE_CHECKING:
    from triptych.codecs.conditions import Kind

LABELS = ("label", "labels", "class", "target", "targets", "y")
"""Integer columns with these names are classes; the first of them is renamed to `label`."""
MOST_CLASSES = 1000
"""More different strings than this are names, not classes."""
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0, "": np.nan}
_NEGATIVE = frozenset(
    ["n", "f", "no", "nein", "false", "negative", "neg", "absent", "off", "without", "none", "normal", "healthy", "benign"]
)
_DENIALS = re.compile(r"(?:no|not|non|without|un)[ _-]+|un(?=[a-z]{4})")
_ASSERTS = re.compile(r"(?:with|has|is)[ _-]+")


class Column(NamedTuple):
    """One attribute of every example: float32 (N,), NaN where unknown."""

    values: np.ndarray
    kind: Kind
    classes: tuple[str, ...] = ()


class RawColumn(NamedTuple):
    """A column as it was found: numbers, strings, or None where missing; `classes` if it came with class names."""

    values: Sequence[Any] | np.ndarray
    classes: tuple[str, ...] = ()


def encode(name: str, raw: RawColumn) -> Column | str:
    """The column as an attribute, or the reason why it cannot be one.

    >>> encode("smile", RawColumn(["yes", "no", ""])).values.tolist()
    [1.0, 0.0, nan]
    >>> encode("mood", RawColumn(["glad", "sad", "calm"] * 2)).classes
    ('calm', 'glad', 'sad')
    >>> encode("mood", RawColumn(["glad", "sad", "glad"])).values.tolist()  # of two classes one is 1
    [0.0, 1.0, 0.0]
    """
    if isinstance(raw.values, np.ndarray) and raw.values.dtype.kind in "biuf":
        numbers = raw.values.astype(np.float64)
    else:
        words = ["" if value is None else str(value).strip() for value in raw.values]
        found = _numbers(words)
        if found is None:
            return _class_column(words)
        numbers = found
    numbers[~(np.abs(numbers) <= np.finfo(np.float32).max)] = np.nan
    known = numbers[~np.isnan(numbers)]
    if not known.size:
        return "it is empty"
    if np.isin(known, (-1, 1)).all() and (known < 0).any():  # CelebA's own files write −1 for no
        numbers = (numbers + 1) / 2
    elif len(raw.classes) == 2 or np.isin(known, (0, 1)).all():
        return Column(numbers.astype(np.float32), "binary", raw.classes if len(raw.classes) == 2 else ())
    elif raw.classes or (name.lower() in LABELS and (known == np.round(known)).all() and (known >= 0).all()):
        return Column(numbers.astype(np.float32), "class", raw.classes)
    return Column(numbers.astype(np.float32), kind_of(numbers))


def _numbers(words: Sequence[str]) -> np.ndarray | None:
    """Words as numbers, if all are: yes and no as 1 and 0; "NA", "?" and the like are missing beside numbers."""
    plain = [word.lower() for word in words]
    missing = dict.fromkeys(MISSING, np.nan) if any(word.strip("+-.")[:1].isdecimal() for word in plain) else {}
    try:
        return np.array([float((_WORDS | missing).get(word, word)) for word in plain])
    except ValueError:
        return None


def _class_column(words: Sequence[str]) -> Column | str:
    classes = tuple(sorted(set(words) - {""}))
    if len(classes) > min(MOST_CLASSES, max(2, len(words) // 2)):
        return f"it holds {len(classes)} different words, too many to be classes"
    if len(classes) == 2:
        classes = absent_first(*classes)
    code = {word: i for i, word in enumerate(classes)}
    kind: Kind = "binary" if len(classes) == 2 else "class"
    return Column(np.array([code.get(word, np.nan) for word in words], np.float32), kind, classes)


def absent_first(one: str, other: str) -> tuple[str, str]:
    """Two classes in the order 0, 1: the one that denies the other, or has a usual word for no, comes first.

    >>> absent_first("smiling", "not_smiling"), absent_first("cats", "dogs"), absent_first("PNEUMONIA", "NORMAL")
    (('not_smiling', 'smiling'), ('cats', 'dogs'), ('NORMAL', 'PNEUMONIA'))
    >>> absent_first("with_mask", "without_mask"), absent_first("Glasses", "NoGlasses")
    (('without_mask', 'with_mask'), ('NoGlasses', 'Glasses'))
    """
    for absent, present in ((one, other), (other, one)):
        said, opposite = (re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower() for word in (absent, present))
        denied = _DENIALS.sub("", said, count=1)
        if said in _NEGATIVE or (denied != said and denied == _ASSERTS.sub("", opposite, count=1)):
            return absent, present
    return one, other


def _named(columns: dict[str, Column]) -> dict[str, Column]:
    """A label of two words is called by what is there where it is 1: smiling, for folders smiling and not_smiling."""
    named = {}
    for name, column in columns.items():
        two = name.lower() in LABELS and column.kind == "binary" and len(column.classes) == 2
        word = column.classes[1] if two else name
        named[word if word not in columns and not word.isdigit() else name] = column
    return named


def encode_tables(
    tables: Sequence[dict[str, RawColumn]], counts: Sequence[int], notice: Callable[[str], None]
) -> list[dict[str, Column]]:
    """The attributes of all splits, encoded at once, so that a class has the same index in each of them.

    The first column of classes with one of the usual names is renamed to `label`.

    Args:
        tables, counts: columns by name and number of examples, for each split.
        notice: called with a line about columns that are left out, and one about missing values.
    """
    columns: dict[str, Column] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        raws = [table.get(name, RawColumn([None] * count)) for table, count in zip(tables, counts, strict=True)]
        values = [raw.values if isinstance(raw.values, np.ndarray) else np.array(raw.values, object) for raw in raws]
        column = encode(name, RawColumn(np.concatenate(values), next((raw.classes for raw in raws if raw.classes), ())))
        if isinstance(column, str):
            notice(f"column {name!r} is not used as an attribute: {column}")
        else:
            columns[name] = column
    columns = _named(columns)
    missing = {name: np.isnan(column.values).sum() for name, column in columns.items()}
    named = [f"{name} ({count})" for name, count in missing.items() if count]
    if named:
        notice(f"attributes with unknown values (NaN): {', '.join(named[:5])}{', …' * (len(named) > 5)}")
    usual = [name for alias in LABELS for name in columns if name.lower() == alias and columns[name].kind != "continuous"]
    if usual and "label" not in columns:
        columns = {"label" if name == usual[0] else name: column for name, column in columns.items()}
    ends = np.cumsum(counts)
    return [
        {name: column._replace(values=column.values[end - count : end]) for name, column in columns.items()}
        for count, end in zip(counts, ends, strict=True)
    ]
