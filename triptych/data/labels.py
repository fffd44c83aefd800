"""Tables beside pictures, that say something about each: which of them do, and which picture a row means.

metadata.csv and metadata.jsonl with a column `file_name` are the Hugging Face convention; labels.csv and CelebA's lists are
read as well: any table, one of whose columns names pictures.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from triptych.data.delimited import Table, read_delimited, read_pairs, read_text
from triptych.data.layout import split_word
from triptych.data.listing import Listing
from triptych.errors import TriptychError

METADATA = "metadata"
"""Stem of a file that must describe pictures; others are left aside where they do not."""
_SPLIT_COLUMNS = ("split", "partition", "subset", "set", "fold")
_NUMBERED = {"0": "train", "1": "valid", "2": "test"}  # CelebA's list_eval_partition
_NAMING = ("file_name", "filename", "file", "image_id", "image", "img", "path", "name", "id")
"""Usual names of a column that names pictures: of several that might, the first of these does."""
_KINDS = (".csv", ".tsv", ".tab", ".jsonl", ".txt")


@dataclass
class Labels:
    """What the tables say: by picture its attributes, and its split where they say it; and what was left aside, and why."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    aside: list[str] = field(default_factory=list)


class Names:
    """Finds a picture by how a table calls it: by its relative name, by its file's name alone, or without its suffix.

    Unicode is compared in its composed form: some systems store "é" as one character, others as two.
    """

    def __init__(self, names: Iterable[str]):
        self.exact: dict[str, str] = {}
        self.file: dict[str, str | None] = {}
        self.stem: dict[str, str | None] = {}
        for name in names:
            plain = _composed(name)
            path = PurePosixPath(plain)
            self.exact[plain] = name
            for index, key in ((self.file, path.name), (self.stem, path.stem)):
                index[key] = None if key in index else name  # one that is not alone means none of them

    def find(self, word: str, at: str = "") -> str | None:
        """The picture that a word in a table in the folder `at` means."""
        plain = PurePosixPath(_composed(word.strip().replace("\\", "/"))).as_posix()
        below = f"{at}/{plain}" if at else plain
        for key in (below, plain):
            if key in self.exact:
                return self.exact[key]
        if plain in ("", "."):
            return None
        alone = PurePosixPath(plain)
        found = self.file.get(alone.name) or self.stem.get(alone.name)
        # a word with folders means none but a picture whose path ends, or which lies, as it says
        fits = found is None or len(alone.parts) == 1 or self._agrees(PurePosixPath(_composed(found)), alone)
        return found if fits else None

    @staticmethod
    def _agrees(picture: PurePosixPath, said: PurePosixPath) -> bool:
        """Whether one of two paths is the end of the other, suffixes aside."""
        ours, theirs = (*picture.parts[:-1], picture.stem), (*said.parts[:-1], said.name.removesuffix(picture.suffix))
        short = min(len(ours), len(theirs))
        return ours[-short:] == theirs[-short:]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def read_labels(folder: Path, found: Listing) -> Labels:
    """What the tables in a folder and below say about its pictures.

    Raises:
        TriptychError: for a metadata file that names no picture, or says two things of one.
    """
    labels, names = Labels(), Names(found.pictures)
    for table in sorted(found.tables, key=lambda name: (Path(name).stem == METADATA, name)):  # metadata has the last word
        path = folder / table
        if path.suffix.lower() in _KINDS:
            _read(path, table, names, labels)
    return labels


def _read(path: Path, table: str, names: Names, labels: Labels) -> None:
    must = path.stem.lower() == METADATA and path.suffix.lower() != ".txt"
    try:
        read = _table(path)
    except TriptychError:
        if must:
            raise
        read = None
    if read is None:
        labels.aside.append(f"{table} (not a table with a header)" if path.suffix.lower() != ".txt" else table)
        return
    at = PurePosixPath(table).parent.as_posix()
    at = "" if at == "." else at
    column, hits = _naming_column(read, names, at)
    if column is None or not hits:
        if must:
            raise TriptychError(_no_names(path, read, column))
        labels.aside.append(f"{table} (no column of file names)")
        return
    _take(path, read, column, names, at, labels)


def _no_names(path: Path, table: Table, column: str | None) -> str:
    if column is None:
        return (
            f"{path}: expected a column file_name and one for each attribute, got {', '.join(table.header)}; "
            "rename the column that names the pictures"
        )
    words = [word for word in table.column(column) if word]
    some = f"{', '.join(words[:3])}{', …' * (len(words) > 3)}"
    return f"{path} names {len(words)} files that are not there: {some}; add them or remove their rows"


def _table(path: Path) -> Table | None:
    """Whatever can be read as rows of words; None for text that is not a table."""
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _json_lines(path)
    if suffix == ".txt":
        if "partition" in path.stem.lower() and (pairs := read_pairs(path)):
            return Table(("file_name", "partition"), pairs)
        if not path.stem.lower().startswith("list_"):
            return None
    return read_delimited(path)


def _json_lines(path: Path) -> Table:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
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
    plain = dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict | list))
    return Table(tuple(plain), [["" if row.get(key) is None else str(row[key]) for key in plain] for row in rows])


def _naming_column(table: Table, names: Names, at: str) -> tuple[str | None, int]:
    """The column that names most pictures; `file_name` where none names any but it is there."""
    columns = dict(zip(table.header, zip(*table.rows, strict=True), strict=False))
    hits = {name: sum(names.find(cell, at) is not None for cell in cells) for name, cells in columns.items()}
    usual = [name for alias in _NAMING for name in hits if name.lower().replace(" ", "_") == alias and hits[name]]
    if usual:
        return usual[0], hits[usual[0]]
    # a column of mere numbers names pictures called by numbers only where nothing else does
    suffixed = {name: sum("." in cell for cell in cells) for name, cells in columns.items()}
    best = max(hits, key=lambda name: (bool(suffixed[name]), hits[name]) if hits[name] else (False, 0), default=None)
    if best is None or not hits[best]:
        return ("file_name", 0) if "file_name" in table.header else (None, 0)
    return best, hits[best]


def _take(path: Path, table: Table, column: str, names: Names, at: str, labels: Labels) -> None:
    """Adds what a table says, row by row."""
    parts = _split_column(table, path)
    key, missing = table.header.index(column), 0
    seen: dict[str, list[str]] = {}
    for row in table.rows:
        name = names.find(row[key], at)
        if name is None:
            missing += 1
            continue
        if seen.setdefault(name, row) != row:
            raise TriptychError(f"{path}: expected one row for each picture, got two for {row[key]}: remove one")
        said = {head: cell for head, cell in zip(table.header, row, strict=True) if head not in (column, parts)}
        labels.rows.setdefault(name, {}).update(said)
        if parts and (meant := split_meant(row[table.header.index(parts)])):
            labels.splits[name] = meant
    if missing:
        labels.aside.append(f"{missing:,} rows of {path.name} without their picture")


def _split_column(table: Table, path: Path) -> str | None:
    """A column that says the split of each row, if there is one."""
    return next((name for name in table.header if says_splits(name, table.column(name), path.stem)), None)


def says_splits(name: str, words: Sequence[str], where: str = "") -> bool:
    """Whether a column says the split of each example: by its name, and by what its words mean; some may be empty.

    >>> says_splits("Data Split", ["train", "test_set", ""]), says_splits("set", ["a", "b"])
    (True, False)
    """
    called = name.lower().replace("_", " ").split()
    if not set(called) & set(_SPLIT_COLUMNS):
        return False
    said = {word for word in words if word}
    numbered = said <= set(_NUMBERED) and ("partition" in called or "partition" in where)
    return bool(said) and (all(split_word(word) for word in said) or numbered)


def split_meant(word: str) -> str | None:
    """The split that a word of such a column means; None for an empty one."""
    return split_word(word) or _NUMBERED.get(word)


def columns_of(labels: Labels, names: Sequence[str]) -> dict[str, list[str | None]]:
    """The columns of the tables for these pictures, None where nothing is said."""
    found = dict.fromkeys(column for name in names for column in labels.rows.get(name, {}))
    return {column: [labels.rows.get(name, {}).get(column) for name in names] for column in found}
