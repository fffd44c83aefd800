"""What lies in a folder and below: pictures, and files that are left aside; links are followed, loops are not.

Only regular files are listed, by suffix: those of `pictures.SUFFIXES`, and files without one whose first bytes are a
picture's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from triptych.data.pictures import SUFFIXES, is_picture
from triptych.opening import exists, is_file, is_folder

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
TEXTS = (".txt", ".lst", ".list")
"""Suffixes of lists, without a header."""
TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".json", *TEXTS)
"""Suffixes of files that may say something about pictures beside them."""
ODD = "dangling links, pipes or devices"
"""What is in a folder, and is left aside unopened."""


@dataclass
class Listing:
    """Pictures as sorted relative names with forward slashes; tables of text; other files; what is not a file (`ODD`)."""

    pictures: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def suffixes(self) -> Counter[str]:
        """How many of the other files have each suffix."""
        return Counter(Path(name).suffix.lower() or "no suffix" for name in self.others)


def listed(folder: Path) -> Listing:
    """Everything in a folder and below that is not hidden; folders of runs are not data and left out."""
    found = Listing()
    for path, name in _files(folder, found.odd):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES or (not suffix and is_picture(path)):
            found.pictures.append(name)
        elif suffix in TABLES:
            found.tables.append(name)
        else:
            found.others.append(name)
    for names in (found.pictures, found.tables, found.others, found.odd):
        names.sort()
    return found


def _files(folder: Path, odd: list[str]) -> Iterator[tuple[Path, str]]:
    """Regular files with their relative names. A folder that is its own ancestor through a link is entered once.

    Args:
        odd: gets the relative names of what is neither a file nor a folder.
    """
    waiting: list[tuple[Path, tuple[str, ...]]] = [(folder, (os.path.realpath(folder),))]
    while waiting:
        at, ancestors = waiting.pop()
        with os.scandir(at) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in ancestors and not exists(Path(entry.path, "recipe.json")):
                        waiting.append((Path(entry.path), (*ancestors, real)))
                    continue
                path = Path(entry.path)
                if entry.is_file():
                    yield path, path.relative_to(folder).as_posix()
                else:
                    odd.append(path.relative_to(folder).as_posix())


def visible(folder: Path) -> list[Path]:
    """The regular files in a folder, sorted; an empty list if the folder does not exist."""
    paths = folder.iterdir() if is_folder(folder) else ()
    return sorted(path for path in paths if is_file(path) and not path.name.startswith("."))


def is_archive(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(ARCHIVES)
