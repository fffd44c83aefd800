"""Folders: of pictures (with metadata.csv, split folders, class folders), or of data files for each split."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from triptych.data.album import Album
from triptych.data.attributes import RawColumn
from triptych.data.files import Part, is_idx, read_file, read_idx, read_parquet
from triptych.data.pictures import SUFFIXES, Encoded
from triptych.data.stored import identity
from triptych.errors import TriptychError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "t10k": "test",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
}
"""Words in names of files and folders, and the split that each means."""
METADATA = "metadata.csv"
"""The Hugging Face convention: a column `file_name`, the others are attributes."""


def read_folder(folder: Path) -> dict[str, Part]:
    """The splits in a folder, "train" first; the pictures or the one file of a folder without splits are "train".

    Raises:
        TriptychError: for a folder with nothing to read, for pictures beside data files, for splits without "train".
    """
    files = _data_files(folder)
    beside = [path.name for path in _visible(folder) if path.suffix.lower() in SUFFIXES]
    if files and beside:
        raise TriptychError(
            f"{folder}: expected pictures or data files, got both ({beside[0]}, "
            f"{next(iter(files.values()))[0].name}); name the file you mean, or move it elsewhere"
        )
    if files:
        return _ordered({split: _read_all(paths) for split, paths in files.items()}, folder)
    return _ordered(_read_pictures(folder), folder)


def _ordered(parts: dict[str, Part], folder: Path) -> dict[str, Part]:
    if "train" not in parts:
        raise TriptychError(
            f"{folder}: expected training data, got only {', '.join(parts)}; add a train split, or "
            "name the file or folder of one split itself"
        )
    return {name: parts[name] for name in ("train", "valid", "test") if name in parts}


def _data_files(folder: Path) -> dict[str, list[Path]]:
    """Files of the first format that there is, by split; parquet may lie in data/, as on the hub."""
    here = _visible(folder)
    parquet = [path for path in here + _visible(folder / "data") if path.suffix.lower() == ".parquet"]
    idx = [path for path in here if re.search(r"idx[2-4]", path.name) or _plain_idx(path)]
    numpy = [path for path in here if path.suffix.lower() in (".npy", ".npz")]
    found = parquet or idx or numpy
    splits: dict[str, list[Path]] = {}
    for path in found:
        splits.setdefault(_split_of(path.name) or "train", []).append(path)
    return splits


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _plain_idx(path: Path) -> bool:
    return "ubyte" in path.name and path.suffix.lower() != ".gz" and "label" not in path.name and is_idx(path)


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
    names = _listing(folder)
    if not names:
        suffixes = Counter(path.suffix or "no suffix" for path in _visible(folder))
        found = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(3)) or "nothing"
        raise TriptychError(
            f"{folder}: expected pictures (jpg, png, webp, …) or parquet, IDX, npy or npz files, got "
            f"{found}; name another folder"
        )
    metadata = _read_metadata(folder, names)
    return {split: _album(folder, its, metadata) for split, its in _by_split(names).items()}


def _listing(folder: Path) -> list[str]:
    """Pictures in a folder and below, as sorted relative names with forward slashes; hidden ones are left out."""
    found = []
    for at, folders, files in os.walk(folder):
        runs = [name for name in folders if (Path(at) / name / "recipe.json").exists()]  # a run's samples are not data
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")) and name not in runs)
        found += [
            (Path(at) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def _by_split(names: list[str]) -> dict[str, list[str]]:
    """By the first folder if each of them is a split's, else all as "train"."""
    tops = {PurePosixPath(name).parts[0] for name in names if "/" in name}
    if any("/" not in name for name in names) or not all(top.lower() in SPLIT_NAMES for top in tops):
        return {"train": names}
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(SPLIT_NAMES[PurePosixPath(name).parts[0].lower()], []).append(name)
    return splits


def _album(folder: Path, names: list[str], metadata: dict[str, dict[str, str]]) -> Album:
    columns: dict[str, RawColumn] = {}
    for column in dict.fromkeys(column for row in metadata.values() for column in row):
        columns[column] = RawColumn([metadata.get(name, {}).get(column) for name in names])
    classes = _class_folders(names)
    if classes and "label" not in columns:
        columns["label"] = RawColumn(classes)
    key = [identity(folder / name) for name in names]
    return Album(str(folder), len(names), partial(_read, folder, names), key, columns)


def _class_folders(names: list[str]) -> list[str] | None:
    """The folder that each picture lies in, below its split's, when there are at least two of them."""
    inner = [
        [part for i, part in enumerate(PurePosixPath(name).parts[:-1]) if i or part.lower() not in SPLIT_NAMES]
        for name in names
    ]
    if not all(inner) or len({parts[0] for parts in inner}) < 2:
        return None
    return [parts[0] for parts in inner]


def _read(folder: Path, names: list[str], wanted: np.ndarray) -> Iterator[Encoded]:
    return (Encoded(int(i), names[i], folder / names[i]) for i in wanted)


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
    header = [str(name) for name in table[0]] if table else []
    if "file_name" not in header:
        raise TriptychError(
            f"{path}: expected a column file_name and one for each attribute, got "
            f"{', '.join(header) or 'no rows'}; rename the column, separate values with commas"
        )
    rows: dict[str, dict[str, str]] = {}
    for row in table:
        name = PurePosixPath((row["file_name"] or "").replace("\\", "/")).as_posix()
        if name in rows:
            raise TriptychError(f"{path}: expected one row for each picture, got two for {name}: remove one")
        rows[name] = {key: value for key, value in row.items() if key and key != "file_name"}
    return rows
