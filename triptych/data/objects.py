"""Tables as JSON: an object on each line, or one document in any of the forms that programs write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from triptych.data.delimited import NAMING, Table, read_text
from triptych.data.layout import split_word
from triptych.errors import TriptychError


def read_lines(path: Path) -> Table:
    """An object on each line (JSON Lines).

    Raises:
        TriptychError: for a line that is not one.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TriptychError(
                    f"{path}: expected a JSON object on each line, line {number} is not ({error.msg})"
                ) from None
            if not isinstance(row, dict):
                raise TriptychError(f"{path}: expected a JSON object on each line, got {line[:40]!r} on line {number}")
            rows.append(row)
    return _table(rows)


def read_document(path: Path) -> Table | None:
    """A list of objects; columns, one of them called as one of names is; by the name of a picture its label or an object; or
    by split the names in it.

    None for anything else.
    """
    with suppress(json.JSONDecodeError, RecursionError):
        said = json.loads(read_text(path))
        if isinstance(said, list) and said and all(isinstance(row, dict) for row in said):
            return _table(said)
        if isinstance(said, dict) and said:
            return _of_object(said)
    return None


def _of_object(said: Mapping[str, Any]) -> Table | None:
    values = list(said.values())
    if all(isinstance(value, list) for value in values):
        if all(split_word(key) for key in said):
            rows = [{"file_name": word, "split": key} for key, listed in said.items() for word in listed]
            return _table(rows) if rows and all(isinstance(row["file_name"], str) for row in rows) else None
        if len({len(value) for value in values}) == 1 and any(key.lower() in NAMING for key in said):
            return _table([dict(zip(said, row, strict=True)) for row in zip(*values, strict=True)])
        return None
    if all(isinstance(value, dict) for value in values):
        return _table([{"file_name": key} | value for key, value in said.items()])
    if not any(isinstance(value, dict | list) for value in values):
        return _table([{"file_name": key, "label": value} for key, value in said.items()])
    return None


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Rows as words, objects inside them as columns of their own; lists are left out."""
    flat = [dict(_flat(row)) for row in rows]
    names = dict.fromkeys(key for row in flat for key in row)
    return Table(tuple(names), [["" if row.get(key) is None else str(row[key]) for key in names] for row in flat])


def _flat(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from (
                (inner, its) for inner, its in value.items() if inner not in row and not isinstance(its, dict | list)
            )
        elif not isinstance(value, list):
            yield key, value
