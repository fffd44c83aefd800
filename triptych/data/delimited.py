"""Tables as text: CSV and its relatives, as spreadsheets, scripts and published data sets write them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from triptych.errors import TriptychError

DELIMITERS = ",;\t|"
MOST_BYTES = 2**30
"""A larger table is a mistake, or should be parquet."""
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?\d+")


class Table(NamedTuple):
    """A table of words: names of the columns, and rows of as many cells each."""

    header: tuple[str, ...]
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        at = self.header.index(name)
        return [row[at] for row in self.rows]


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 (by its mark, or by its zeros) or, where it is neither, Windows-1252.

    Raises:
        TriptychError: for bytes that are not text.
    """
    if path.stat().st_size > MOST_BYTES:
        raise TriptychError(f"{path}: expected a table of at most {MOST_BYTES / 2**30:.0f} GiB: save it as parquet")
    content = path.read_bytes()
    marked = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), None)
    if marked is None and (zeros := _zeros(content[:1000])):
        marked = zeros
    for encoding in [marked] if marked else ["utf-8", "cp1252"]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise TriptychError(f"{path}: expected a table as text, got other bytes: save it as CSV, UTF-8")


def _zeros(content: bytes) -> str | None:
    """UTF-16 without a mark, told by the zeros in its ASCII: which half of each pair they are."""
    if len(content) < 4 or content.count(0) < len(content) / 4:
        return None
    return "utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"


def read_delimited(path: Path) -> Table:
    """A table with a header: commas, semicolons, tabs or bars between cells, whichever the header has most of.

    Rows without any word are left out, and so are columns without a name that hold none; numbers with a decimal comma are
    written with a point. A file that begins with the number of its rows, as CelebA's lists do, has blanks between cells.

    Raises:
        TriptychError: for a row with more words than the header has names, and for a file without rows.
    """
    lines = read_text(path).splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), "")
    if _NUMBER.fullmatch(first.strip()):
        return _blanks(lines)
    delimiter = max(DELIMITERS, key=_unquoted(first).count)
    try:
        cells = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO("".join(lines)), delimiter=delimiter, skipinitialspace=True)
        ]
    except csv.Error as error:
        raise TriptychError(f"{path}: expected a table as text ({error}): save it as CSV, UTF-8") from None
    header, rows = _rectangle(path, cells)
    return Table(header, _points(rows) if delimiter != "," else rows)


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _blanks(lines: Sequence[str]) -> Table:
    """CelebA's lists: the number of rows, the names of the attributes, then a file name and its values on each line."""
    cells = [line.split() for line in lines if line.strip()][1:]
    if not cells:
        return Table(("file_name",), [])
    width = len(cells[0]) + 1
    return Table(("file_name", *cells[0]), [row for row in cells[1:] if len(row) == width])


def read_pairs(path: Path) -> list[list[str]]:
    """A list without a header, a file name and a value on each line, as in CelebA's list_eval_partition.txt."""
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    return rows if all(len(row) == 2 for row in rows) else []


def _rectangle(path: Path, cells: list[list[str]]) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header and rows of its length, without what is empty."""
    cells = [row for row in cells if any(row)]
    if len(cells) < 2:
        raise TriptychError(f"{path}: expected a header and rows, got {'no rows' if cells else 'nothing'}: add some")
    header = cells[0]
    longest = max(range(1, len(cells)), key=lambda i: len("".join(cells[i][len(header) :])))
    if any(cells[longest][len(header) :]):
        raise TriptychError(
            f"{path}: expected {len(header)} values in each row, as in its header, got {len(cells[longest])} in row "
            f"{longest} ({', '.join(cells[longest])[:60]}): quote values that hold the delimiter, or name the columns"
        )
    rows = [(row + [""] * len(header))[: len(header)] for row in cells[1:]]
    kept = [i for i, name in enumerate(header) if name or any(row[i] for row in rows)]
    names = tuple(header[i] or f"column {i + 1}" for i in kept)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise TriptychError(f"{path}: expected each column once, got {twice[0]!r} twice: rename or remove one")
    return names, [[row[i] for i in kept] for row in rows]


def _points(rows: list[list[str]]) -> list[list[str]]:
    """Decimal commas as points, in columns that hold nothing but numbers."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    for column in columns:
        words = [word for word in column if word]
        if any(_COMMA.fullmatch(word) for word in words) and all(_is_number(word.replace(",", ".", 1)) for word in words):
            column[:] = [word.replace(",", ".", 1) for word in column]
    return [list(row) for row in zip(*columns, strict=True)]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
