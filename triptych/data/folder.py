"""Folders: of pictures (with metadata.csv, split folders, class folders), or of data files for each split."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from triptych.data.album import Album
from triptych.data.attributes import RawColumn
from triptych.data.files import Part, read_file, read_idx, read_parquet
from triptych.data.pictures import SUFFIXES, Encoded
from triptych.data.stored import identity
from triptych.errors import TriptychError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "t10k"), "test"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
}
"""Words in names of files and folders, and the split that each means."""
METADATA = "metadata.csv"
"""The Hugging Face convention: a column `file_name`, the others are attributes."""


def read_folder(folder: Path) -> dict[str, Part]:
    """The splits in a folder; the pictures or the one file of a folder without splits are "train".

    Data files are those of the first format that there is: parquet, which may lie in data/ as on the hub, IDX, numpy's.

    Raises:
        TriptychError: for a folder with nothing to read, and for pictures beside data files.
    """
    here = _visible(folder)
    parquet = [path for path in here + _visible(folder / "data") if path.suffix.lower() == ".parquet"]
    idx = [path for path in here if re.search(r"idx[2-4]|^(?!.*label).*ubyte", path.name)]
    data = parquet or idx or [path for path in here if path.suffix.lower() in (".npy", ".npz")]
    beside = [path.name for path in here if path.suffix.lower() in SUFFIXES]
    if not data:
        return _read_pictures(folder)
    if beside:
        raise TriptychError(
            f"{folder}: expected pictures or data files, got both ({beside[0]}, {data[0].name}); "
            "name the file you mean, or move it elsewhere"
        )
    splits = _grouped(data, [_split_of(path.name) or "train" for path in data])
    return {split: _read_all(paths) for split, paths in splits.items()}


def _grouped(items: Sequence[Any], splits: Sequence[str]) -> dict[str, list[Any]]:
    """The items of each split, by the split of each item."""
    return {of: [item for item, its in zip(items, splits, strict=True) if its == of] for of in dict.fromkeys(splits)}


def _visible(folder: Path) -> list[Path]:
    """The files in a folder, sorted; an empty list if the folder does not exist."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))


def _split_of(name: str) -> str | None:
    """The split that a word in a file's name means: train-00000-of-00002.parquet, t10k-images-idx3-ubyte.

    >>> _split_of("t10k-images-idx3-ubyte.gz"), _split_of("letters_train.npy"), _split_of("trainer.npy")
    ('test', 'train', None)
    """
    words = re.split(r"[^a-z0-9]", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _read_all(paths: list[Path]) -> Part:
    """The files of one split: parquet may come in shards; of two copies, packed and not, the plain one is read."""
    if paths[0].suffix == ".parquet":
        return read_parquet(*paths)
    paths = [path for path in paths if path.suffix != ".gz" or path.with_suffix("") not in paths]
    if len(paths) > 1:
        raise TriptychError(
            f"{paths[0].parent}: expected one data file for each split, got "
            f"{', '.join(path.name for path in paths[:3])}; name the one you mean"
        )
    return read_idx(paths[0]) if "idx" in paths[0].name else read_file(paths[0])


def _read_pictures(folder: Path) -> dict[str, Part]:
    """By the first folder if each of them is a split's, else all as "train"."""
    names = _listing(folder)
    if not names:
        suffixes = Counter(path.suffix or "no suffix" for path in _visible(folder))
        found = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(3)) or "nothing"
        raise TriptychError(
            f"{folder}: expected pictures (jpg, png, webp, …) or parquet, IDX, npy or npz files, got "
            f"{found}; name another folder"
        )
    tops = [name.partition("/")[0].lower() if "/" in name else "" for name in names]
    divided, metadata = set(tops) <= set(SPLIT_NAMES), _read_metadata(folder, names)
    splits = _grouped(names, [SPLIT_NAMES[top] if divided else "train" for top in tops])
    return {split: _album(folder, its, metadata) for split, its in splits.items()}


def _listing(folder: Path) -> list[str]:
    """Pictures in a folder and below, as sorted relative names with forward slashes; hidden ones are left out."""
    found = []
    for at, folders, files in os.walk(folder):
        runs = [name for name in folders if (Path(at) / name / "recipe.json").exists()]  # a run's samples are not data
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")) and name not in runs)
        found += [Path(at, name) for name in files if name[0] != "." and Path(name).suffix.lower() in SUFFIXES]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _album(folder: Path, names: list[str], metadata: dict[str, dict[str, str]]) -> Album:
    found = dict.fromkeys(column for row in metadata.values() for column in row)
    columns = {column: RawColumn([metadata.get(name, {}).get(column) for name in names]) for column in found}
    if classes := _class_folders(names):
        columns.setdefault("label", RawColumn(classes))

    def read(wanted: np.ndarray) -> Iterator[Encoded]:
        return (Encoded(int(i), names[i], folder / names[i]) for i in wanted)

    return Album(str(folder), len(names), read, [identity(folder / name) for name in names], columns, tuple(names))


def _class_folders(names: list[str]) -> list[str]:
    """The folder that each picture lies in, below its split's; empty unless there are at least two of them."""
    inner = []
    for name in names:
        folders = PurePosixPath(name).parts[:-1]
        inner.append(next((part for i, part in enumerate(folders) if i or part.lower() not in SPLIT_NAMES), ""))
    return inner if all(inner) and len(set(inner)) > 1 else []


def _read_metadata(folder: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Rows by picture, from metadata.csv in the folder itself and in its split folders."""
    rows: dict[str, dict[str, str]] = {}
    for at in [folder, *sorted({folder / PurePosixPath(name).parts[0] for name in names if "/" in name})]:
        if (at / METADATA).is_file():
            prefix = "" if at == folder else f"{at.name}/"
            rows.update({prefix + name: row for name, row in _read_csv(at / METADATA).items()})
    missing = sorted(set(rows) - set(names))
    if missing:
        raise TriptychError(
            f"{folder}: {METADATA} names {len(missing)} files that are not there: "
            f"{', '.join(missing[:3])}{', …' * (len(missing) > 3)}; add them or remove their rows"
        )
    return rows


def _read_csv(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TriptychError(f"{path}: expected comma-separated UTF-8 text ({error}): save it as CSV, UTF-8") from None
    header = [str(name) for name in table[0]] if table else ["no rows"]
    if "file_name" not in header:
        raise TriptychError(
            f"{path}: expected a column file_name and one for each attribute, got {', '.join(header)}; "
            "rename the column, separate values with commas"
        )
    rows: dict[str, dict[str, str]] = {}
    for row in table:
        name = PurePosixPath((row.pop("file_name") or "").replace("\\", "/")).as_posix()
        if name in rows:
            raise TriptychError(f"{path}: expected one row for each picture, got two for {name}: remove one")
        rows[name] = {key: value for key, value in row.items() if key}
    return rows
