"""Tables as text: CSV and its relatives, as spreadsheets, scripts and published data sets write them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from triptych.errors import TriptychError

DELIMITERS = ",;\t|"
MOST_BYTES = 2**30
"""A larger table is a mistake, or should be parquet."""
MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "-", "?"])
"""Words, in small letters, for a number that is not known."""
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_BLANKS = "\xa0\u2007\u2009\u202f '’"  # between thousands
_NUMBER = re.compile(r"[+-]?\d+")
_GROUPED = {mark: re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:[{mark}]\d{{3}})+") for mark in (",", ".", _BLANKS)}
_SCALED = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


NAMING = ("file_name", "filename", "file", "image_id", "image_name", "image", "img", "path", "file_path", "name", "id")
"""Usual names of a column that names pictures: of several that might, the first of these does."""

NUMBERING = frozenset(["id", "index", "unnamed: 0", "column 1", "__index_level_0__"])
"""Names, in small letters, of a column that may only number the rows."""


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
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise TriptychError(f"{path}: expected a table as text, got other bytes: save it as CSV, UTF-8")


def _zeros(content: bytes) -> str | None:
    """UTF-16 without a mark, told by the zeros in its ASCII: which half of each pair they are."""
    if len(content) < 4 or content.count(0) < len(content) / 4:
        return None
    return "utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"


def read_delimited(path: Path) -> Table:
    """A table with a header: commas, semicolons, tabs or bars between cells, whichever the header has most of, or blanks.

    Lines that begin with # before the header are left out, but for a last one of as many cells as the rows have. Rows
    without any word are left out, and so are columns without a name that hold none; numbers are written as programs write
    them, with a point and without marks between thousands. Columns of a table of numbers without a header are counted.
    A file that begins with the number of its rows, as CelebA's lists do, has blanks between cells.

    Raises:
        TriptychError: for a row with more words than the header has names, and for a file without rows.
    """
    lines, said = _begun(read_text(path).splitlines(keepends=True))
    first = next((line for line in lines if line.strip()), "")
    if _NUMBER.fullmatch(first.strip()) and any(len(line.split()) > 1 for line in lines):
        return _celeba(lines)
    delimiter = said or max(DELIMITERS, key=_unquoted(first).count)
    if delimiter not in _unquoted(first) and (cells := _blank_separated(lines)):
        delimiter = " "
    else:
        cells = _cells(path, lines, delimiter)
    cells = [row for row in cells if any(row)]
    if len(cells) > 1 and all(map(_is_number, plain := _plain([cells[0]], delimiter)[0])) and not _counts(plain):
        return headless(_plain(cells, delimiter))
    header, rows = _rectangle(path, cells)
    return Table(header, _plain(rows, delimiter))


def _begun(lines: list[str]) -> tuple[list[str], str]:
    """The lines from the header on, and the delimiter where the file says it: Excel's first line may be sep=;"""
    lines = lines[next((i for i, line in enumerate(lines) if line.strip()), 0) :]
    if lines and (said := re.fullmatch(r'"?sep=(.)"?', lines[0].strip())):
        return lines[1:], said[1]
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    if not count or not (rest := lines[count:]):
        return lines, ""
    named = lines[count - 1].lstrip("# ")  # numpy writes its header so
    delimiter = max(DELIMITERS, key=rest[0].count)
    if named.count(delimiter) == rest[0].count(delimiter) and any(map(_is_number, rest[0].split(delimiter))):
        return [named, *rest], ""
    return rest, ""


def headless(rows: list[list[str]]) -> Table:
    """A table whose columns have no names, and are counted."""
    width = max(map(len, rows))
    return Table(tuple(f"column {i + 1}" for i in range(width)), [(row + [""] * width)[:width] for row in rows])


def _cells(path: Path, lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO("".join(lines)), delimiter=delimiter, skipinitialspace=True)
        ]
    except csv.Error as error:
        raise TriptychError(f"{path}: expected a table as text ({error}): save it as CSV, UTF-8") from None


def _blank_separated(lines: Sequence[str]) -> list[list[str]]:
    """Rows of several cells with blanks between them, if there are as many in each row."""
    cells = [line.split() for line in lines if line.strip()]
    return cells if cells and len(cells[0]) > 1 and all(len(row) == len(cells[0]) for row in cells) else []


def _counts(words: Sequence[str]) -> bool:
    """Whether a row is 0, 1, 2, … or 1, 2, 3, …, which names columns."""
    return len(words) > 1 and words in ([str(i) for i in range(len(words))], [str(i + 1) for i in range(len(words))])


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _celeba(lines: Sequence[str]) -> Table:
    """CelebA's lists: the number of rows, the names of the attributes, then a file name and its values on each line."""
    cells = [line.split() for line in lines if line.strip()][1:]
    if not cells:
        return Table(("file_name",), [])
    width = len(cells[0]) + 1
    return Table(("file_name", *cells[0]), [row for row in cells[1:] if len(row) == width])


def read_list(path: Path, known: Callable[[str], bool]) -> Table | None:
    """A list without a header: on each line the name of a picture, and perhaps a label or split after it.

    Args:
        known: whether a word is the name of a picture.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    parts: list[Callable[[str], list[str]]] = [
        lambda line: [line],
        lambda line: [cell.strip() for cell in re.split("[,;\t|]", line)],
        lambda line: line.rsplit(None, 1),
        str.split,
    ]
    for cut in parts:
        rows = [cut(line) for line in lines]
        if rows and len({len(row) for row in rows}) == 1 and 2 * sum(any(map(known, row)) for row in rows) > len(rows):
            columns = [column for column in zip(*rows, strict=True) if not counts_rows(column)]
            at = max(range(len(columns)), key=lambda i: sum(map(known, columns[i])))
            if columns[at][0].lower() in NAMING:  # a header after all
                return Table(tuple(column[0] for column in columns), [list(row) for row in zip(*columns, strict=True)][1:])
            others = [f"label{f' {i + 1}' * (i > 0)}" for i in range(len(columns) - 1)]
            return Table((*others[:at], "file_name", *others[at:]), [list(row) for row in zip(*columns, strict=True)])
    return None


def counts_rows(words: Sequence[str]) -> bool:
    """Whether a column only numbers the rows, from 0 or 1."""
    return len(words) > 1 and list(words) == [str(i) for i in range(int(words[0] == "1"), len(words) + (words[0] == "1"))]


def _rectangle(path: Path, cells: list[list[str]]) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header and rows of its length, without what is empty."""
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


def _plain(rows: list[list[str]], delimiter: str) -> list[list[str]]:
    """Numbers as programs write them, in columns that hold nothing else.

    What a column's own numbers do not tell (is 1,234 a thousand?) those of the others do, or else the delimiter: a comma
    between cells goes with points in numbers, a semicolon or tab with commas. What programs read stays unless others tell.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    known = [[word for word in column if word.lower() not in MISSING] for column in columns]
    marks = [_decimal_marks(words) for words in known]
    told = {mark for its in marks if len(its) == 1 for mark in its}
    for column, words, its in zip(columns, known, marks, strict=True):
        if its and not (len(its) == 2 and told != {","} and all(map(_is_number, words))):
            usual = min(told) if len(told) == 1 else "." if delimiter in ", " else ","
            mark = usual if usual in its else min(its)
            column[:] = [_number(word, mark) or word for word in column]
    return [list(row) for row in zip(*columns, strict=True)]


def _decimal_marks(words: Sequence[str]) -> set[str]:
    """The marks, "." or ",", with which all of these are numbers; both where they do not tell, none for other words."""
    if not any("." in word or "," in word or _GROUPED[_BLANKS].fullmatch(word) for word in words):
        return set()
    return {mark for mark in ".," if all(_number(word, mark) for word in words)}


def _number(word: str, mark: str) -> str | None:
    """A number with this decimal mark, written as programs write it; None for what is not one.

    >>> _number("1.234,5", ","), _number("1 234.5", "."), _number("1,234", "."), _number("1,5", "."), _number("1,5", ",")
    ('1234.5', '1234.5', '1234', None, '1.5')
    """
    whole, comma, rest = word.partition(mark)
    grouped = next((m for m in ({",", ".", _BLANKS} - {mark}) if _GROUPED[m].fullmatch(whole)), "")
    plain = re.sub(f"[{grouped}]", "", whole) if grouped else whole
    said = f"{plain}{'.' if comma else ''}{rest}"
    return said if _SCALED.fullmatch(said) and (comma or "." not in plain) else None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
