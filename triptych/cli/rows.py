"""Tables of many rows, written as they come, and all or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from triptych.errors import TriptychError

FORMATS = (".csv", ".json", ".npz")
_NAMES: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}  # names of files may be any bytes


class Table:
    """Columns of equal lengths, added a few hundred rows at a time.

    Args:
        add: what becomes of them.
    """

    def __init__(self, add: Callable[[dict[str, list[Any]]], object]):
        self._add = add
        self.names: list[str] | None = None

    def add(self, columns: Mapping[str, Any]) -> None:
        """Rows by column, lists or tensors; all parts of a table have the same columns."""
        plain = {name: values if isinstance(values, list) else values.tolist() for name, values in columns.items()}
        if self.names is None:
            self.names = list(plain)
        if list(plain) != self.names:
            raise TriptychError(f"expected the columns {', '.join(self.names)} in every split, got {', '.join(plain)}: "
                                "score one --split at a time")  # fmt: skip
        self._add(plain)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Table]:
    """A table that is `path` when the block ends well: CSV as rows come, JSON or npz at the end; nothing of it otherwise.

    Raises:
        TriptychError: for another suffix, before any work, and for a path that cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise TriptychError(f"--out expects a name that ends in {', '.join(FORMATS)}, got {path.name!r}")
    from triptych import storage

    if path.suffix.lower() == ".csv":
        with storage.replacing(path) as temporary, temporary.open("w", newline="", **_NAMES) as file:
            yield Table(_csv_rows(file))
        return
    columns: dict[str, list[Any]] = {}

    def keep(part: dict[str, list[Any]]) -> None:
        for name, values in part.items():
            columns.setdefault(name, []).extend(values)

    yield Table(keep)
    write = _write_json if path.suffix.lower() == ".json" else _write_npz
    storage.write_file(path, lambda temporary: write(temporary, columns))


def _csv_rows(file: Any) -> Callable[[dict[str, list[Any]]], object]:
    writer = csv.writer(file, lineterminator="\n")
    begun = False

    def add(columns: dict[str, list[Any]]) -> None:
        nonlocal begun
        if not begun:
            writer.writerow(columns)
            begun = True
        rows = zip(*columns.values(), strict=True)
        writer.writerows([f"{v:.7g}" if isinstance(v, float) else v for v in row] for row in rows)

    return add


def _write_json(path: Path, columns: dict[str, list[Any]]) -> None:
    rows = [dict(zip(columns, map(_finite, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text(json.dumps({"n": len(rows), "examples": rows}, ensure_ascii=False) + "\n", **_NAMES)


def _finite(value: Any) -> Any:
    """The value, or None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and value - value != 0 else value


def _write_npz(path: Path, columns: dict[str, list[Any]]) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez_compressed(file, **{name: np.array(values) for name, values in columns.items()})  # type: ignore[arg-type]
