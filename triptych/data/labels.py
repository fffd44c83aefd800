"""Tables beside pictures, that say something about each: which of them do, and which picture a row means.

metadata.csv and metadata.jsonl with a column `file_name` are the Hugging Face convention; labels.csv and CelebA's lists are
read as well: any table, one of whose columns names pictures. Tables called by a split (train.txt, test.csv) say which
pictures are in it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from triptych.data import objects
from triptych.data.delimited import NAMING, NUMBERING, Table, counts_rows, headless, read_delimited, read_list, read_text
from triptych.data.layout import split_in, split_word
from triptych.data.listing import TEXTS, Listing
from triptych.data.pictures import SUFFIXES
from triptych.data.splits import counted
from triptych.errors import TriptychError

METADATA = "metadata"
"""Stem of a file that must describe pictures; others are left aside where they do not."""
_SPLIT_COLUMNS = ("split", "partition", "subset", "set", "fold", "usage")
_NUMBERED = {"0": "train", "1": "valid", "2": "test"}  # CelebA's list_eval_partition
_YES, _NO = frozenset(["1", "true", "True", "TRUE", "yes", "1.0"]), frozenset(["0", "false", "False", "FALSE", "no", "0.0"])


@dataclass
class Labels:
    """What the tables say: by picture its attributes, and its split where they say it.

    `lists` holds for each table that is called by a split, train.txt or test.csv, the pictures that it names; `by`, which
    table told splits apart; `aside`, which tables were left aside by why; `unused`, which rows.
    """

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    lists: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    by: str = ""
    aside: dict[str, list[str]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def leave(self, table: str, why: str) -> None:
        """Notes that a table is left aside."""
        self.aside.setdefault(why, []).append(table)

    def divide(self, names: Sequence[str]) -> None:
        """Splits by lists, where at least one says what is not trained on; pictures that none names are trained on if no
        list says what is."""
        told = {split for split, _ in self.lists.values()}
        if self.splits or not told - {"train"}:
            return
        self.by = f"by {', '.join(self.lists)}"
        if "train" not in told:
            self.splits = dict.fromkeys(names, "train")
        for split in ("train", "valid", "test"):  # what is in several is not trained on
            self.splits |= {name: split for its, listed in self.lists.values() if its == split for name in listed}

    def left_aside(self) -> list[str]:
        """What was left aside, in words."""
        some = {why: f"{', '.join(names[:2])}{f' and {len(names) - 2} more' * (len(names) > 2)}"
                for why, names in self.aside.items()}  # fmt: skip
        return [*(f"{names} ({why})" for why, names in some.items()), *self.unused]


class Names:
    """Finds a picture by how a table calls it: by its relative name, by its file's name alone, without its suffix, or in
    other letters, small or capital, where that means a single one.

    Unicode is compared in its composed form: some systems store "é" as one character, others as two.
    """

    def __init__(self, names: Iterable[str]):
        self.exact: dict[str, str] = {}
        self.looser: list[dict[str, list[str]]] = [{}, {}, {}, {}, {}]
        self.numbered: dict[str, str] = {}  # by their numbers in images.txt, for lists of these
        self.digits = 0  # of the names that are numbers, where all of these have as many
        for name in names:
            plain = _composed(name)
            path = PurePosixPath(plain)
            self.exact[plain] = name
            low = (plain.casefold(), path.name.casefold(), path.stem.casefold())
            for index, key in zip(self.looser, (path.name, path.stem, *low), strict=True):
                index.setdefault(key, []).append(name)
        lengths = {len(stem) for stem in self.looser[1] if stem.isdecimal()}
        self.digits = lengths.pop() if len(lengths) == 1 else 0

    def find(self, word: str, at: str = "") -> str | None:
        """The picture that a word in a table in the folder `at` means."""
        found = self.meant(word, at)
        return found[0] if len(found) == 1 else None

    def meant(self, word: str, at: str = "") -> list[str]:
        """The pictures that it may mean: none, one, or several that are called so."""
        plain = PurePosixPath(_composed(word.strip().replace("\\", "/"))).as_posix()
        for key in (f"{at}/{plain}" if at else plain, plain):
            if key in self.exact:
                return [self.exact[key]]
        if plain in ("", "."):
            return []
        alone = PurePosixPath(plain)
        keys = (alone.name, alone.name, plain.casefold(), alone.name.casefold(), alone.name.casefold())
        for index, key in zip(self.looser, keys, strict=True):
            # a word with folders means none but a picture whose path ends, or which lies, as it says
            if fits := [name for name in index.get(key, ()) if len(alone.parts) == 1 or self._agrees(name, alone)]:
                return fits
        return []

    @staticmethod
    def _agrees(name: str, said: PurePosixPath) -> bool:
        """Whether one of two paths is the end of the other, suffixes and capitals aside."""
        picture = PurePosixPath(_composed(name).casefold())
        ours = (*picture.parts[:-1], picture.stem)
        theirs = (*(part.casefold() for part in said.parts[:-1]), said.name.casefold().removesuffix(picture.suffix))
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
    if "images.txt" in found.tables:
        lines = (line.split(None, 1) for line in read_text(folder / "images.txt").split("\n"))
        names.numbered = dict(words for words in lines if len(words) == 2)
    for table in sorted(found.tables, key=lambda name: (Path(name).stem == METADATA, name)):  # metadata has the last word
        _read(folder / table, table, names, labels)
    labels.divide(found.pictures)
    return labels


def _read(path: Path, table: str, names: Names, labels: Labels) -> None:
    must = _must(path)
    at = PurePosixPath(table).parent.as_posix()
    at = "" if at == "." else at
    try:
        read = _table(path, names, at)
    except TriptychError:
        if must:
            raise
        read = None
    if read is None:
        labels.leave(table, "text" if path.suffix.lower() == ".txt" else "not a table with a header")
        return
    column, hits = _naming_column(read, names, at)
    if not hits and not _no_names(path, read, None, names, at):
        respelled = _respelled(read, names)
        found, hits = _naming_column(respelled, names, at)
        read, column = (respelled, found) if hits else (read, column)
    if column is None or not hits:
        why = _no_names(path, read, column, names, at)
        if must:
            raise TriptychError(why or f"{path}: expected a column file_name and one for each attribute, got "
                                f"{', '.join(read.header)}; rename the column that names the pictures")  # fmt: skip
        labels.leave(table, "names that several pictures have" if "several" in why else "no column of file names")
        return
    _take(path, read, column, names, at, labels)


def _no_names(path: Path, table: Table, column: str | None, names: Names, at: str) -> str:
    """Why a column of file names names no picture; nothing where no column is one."""
    shared = ((cell, meant) for row in table.rows[:100] for cell in row if len(meant := names.meant(cell, at)) > 1)
    for word, meant in shared:
        return (
            f"{path}: expected names that mean one picture each, but several are called {word} "
            f"({', '.join(meant[:2])}{', …' * (len(meant) > 2)}); write them with their folders"
        )
    if column is None:
        return ""
    words = [word for word in table.column(column) if word]
    some = f"{', '.join(words[:3])}{', …' * (len(words) > 3)}"
    return f"{path} names {len(words)} files that are not there: {some}; add them or remove their rows"


def _table(path: Path, names: Names, at: str) -> Table | None:
    """Whatever can be read as rows of words; None for text that is not a table."""
    suffix, stem = path.suffix.lower(), path.stem.lower()
    if suffix == ".jsonl":
        return objects.read_lines(path)
    if suffix == ".json":
        return objects.read_document(path)
    if names.numbered and stem.startswith("train_test_split"):
        return _keyed(path, names.numbered)
    if suffix in TEXTS and not stem.startswith("list_attr"):
        return read_list(path, lambda word: names.find(word, at) is not None and (_said(stem) or "." in word))
    table = read_delimited(path)
    if any(names.find(cell, at) for cell in table.header):  # its first row names a picture too
        return headless([list(table.header), *table.rows])
    return table


def _keyed(path: Path, numbered: Mapping[str, str]) -> Table | None:
    """The split of each picture by its number, as CUB has it: 1 is training."""
    rows = [line.split() for line in read_text(path).split("\n") if line.strip()]
    if all(len(row) == 2 and row[1] in ("0", "1") for row in rows):
        return Table(("file_name", "is_train"), [[numbered[key], said] for key, said in rows if key in numbered])
    return None


def _said(stem: str) -> bool:
    """Whether a list is called by what it says, so that bare numbers in it are names: train.txt, list_eval_partition.txt."""
    return split_in(stem) is not None or any(word in stem for word in (*_SPLIT_COLUMNS[:3], "list"))


def _naming_column(table: Table, names: Names, at: str) -> tuple[str | None, int]:
    """The column that names most pictures; `file_name` where none names any but it is there."""
    columns = dict(zip(table.header, zip(*table.rows, strict=True), strict=False))
    hits = {name: sum(names.find(cell, at) is not None for cell in cells) for name, cells in columns.items()}
    usual = [name for alias in NAMING for name in hits if _alias(name) == alias and hits[name]]
    if usual:
        return usual[0], hits[usual[0]]
    # a column of mere numbers names pictures called by numbers only where nothing else does
    suffixed = {name: sum("." in cell for cell in cells) for name, cells in columns.items()}
    best = max(hits, key=lambda name: (bool(suffixed[name]), hits[name]) if hits[name] else (False, 0), default=None)
    if best is None or not hits[best]:
        return ("file_name", 0) if "file_name" in table.header else (None, 0)
    return best, hits[best]


def _respelled(table: Table, names: Names) -> Table:
    """The same with names of pictures as these are called now: with the zeros that spreadsheets take from 00012, and without
    the suffix that they had before they were converted."""
    at = [i for i, head in enumerate(table.header) if _alias(head) in NAMING]

    def respelled(word: str) -> str:
        plain = word.removesuffix(PurePosixPath(word).suffix) if PurePosixPath(word).suffix.lower() in SUFFIXES else word
        return plain.zfill(names.digits) if plain.isdecimal() else plain

    return Table(table.header, [[respelled(w) if i in at else w for i, w in enumerate(row)] for row in table.rows])


def _alias(column: str) -> str:
    return column.lower().replace(" ", "_")


def _take(path: Path, table: Table, column: str, names: Names, at: str, labels: Labels) -> None:
    """Adds what a table says of each picture; of its attributes nothing where it has several rows for one, as lists of boxes
    and captions have."""
    parts = _split_column(table, path)
    key, missing, shared = table.header.index(column), 0, 0
    seen: dict[str, list[str]] = {}
    several = ""
    for row in table.rows:
        meant = names.meant(row[key], at)
        missing, shared = missing + (not meant), shared + (len(meant) > 1)
        if len(meant) == 1 and seen.setdefault(meant[0], row) != row:
            several = row[key]
    if several and _must(path):
        raise TriptychError(f"{path}: expected one row for each picture, got two for {several}: remove one")
    counting = [head for head in table.header if head.lower() in NUMBERING and counts_rows(table.column(head))]
    heads = [head for head in table.header if head not in (column, parts, *counting)]
    for name, row in seen.items():
        cells = dict(zip(table.header, row, strict=True))
        labels.rows.setdefault(name, {}).update({} if several else {head: cells[head] for head in heads})
        if parts and (split := split_meant(cells[parts], parts)):
            labels.splits[name], labels.by = split, f"by column {parts} of {path.name}"
    split = None if parts else split_in(path.stem)
    if split:
        labels.lists[path.name] = split, list(seen)
    if several and heads:
        labels.leave(path.name, "several rows for one picture")
    elif not heads and not parts and not split:
        labels.leave(path.name, "names alone")
    labels.unused += [f"column {head} of {path.name} (counts the rows)" for head in counting if head != column]
    for count, why in ((missing, "without their picture"), (shared, "whose name several pictures have")):
        if count:
            labels.unused.append(f"{counted(count, 'row')} of {path.name} {why}")


def _must(path: Path) -> bool:
    """Whether a table is there to describe pictures, so that it is an error if it does not."""
    return path.stem.lower() == METADATA and path.suffix.lower() not in (".txt", ".json")


def _split_column(table: Table, path: Path) -> str | None:
    """A column that says the split of each row, if there is one."""
    return next((name for name in table.header if says_splits(name, table.column(name), path.stem)), None)


def says_splits(name: str, words: Sequence[str], where: str = "") -> bool:
    """Whether a column says the split of each example: by its words, which all mean splits; where these are only train, or
    numbers, also by its name. Some may be empty.

    >>> says_splits("Data Split", ["train", ""]), says_splits("mode", ["train", "eval"]), says_splits("set", ["a", "b"])
    (True, True, False)
    >>> says_splits("is_valid", ["True", "False"]), says_splits("partition", ["0", "2"])
    (True, True)
    """
    called, said = _called(name), {word for word in words if word}
    if not said:
        return False
    if _asks(name):
        return said <= set(_YES | _NO)
    if all(split_word(word) for word in said):
        return len({split_word(word) for word in said}) > 1 or bool(called & set(_SPLIT_COLUMNS))
    return said <= set(_NUMBERED) and ("partition" in called or "partition" in where)


def split_meant(word: str, name: str = "") -> str | None:
    """The split that a word of such a column means; None for an empty one.

    >>> split_meant("0", "is_training_image"), split_meant("1", "partition"), split_meant("eval", "mode")
    ('test', 'valid', 'valid')
    """
    asked = _asks(name)
    if asked and word:
        return asked if word in _YES else "train" if asked != "train" else "test"
    return split_word(word) or _NUMBERED.get(word)


def _called(name: str) -> set[str]:
    return set(name.lower().replace("_", " ").split())


def _asks(name: str) -> str | None:
    """The split that a column of yes and no asks for: is_train, is_valid."""
    first, _, rest = name.lower().replace(" ", "_").partition("_")
    return split_word(rest) if first in ("is", "in") else None


def columns_of(labels: Labels, names: Sequence[str]) -> dict[str, list[str | None]]:
    """The columns of the tables for these pictures, None where nothing is said."""
    found = dict.fromkeys(column for name in names for column in labels.rows.get(name, {}))
    return {column: [labels.rows.get(name, {}).get(column) for name in names] for column in found}
