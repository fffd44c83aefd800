"""Folders: of pictures, of data files for each split, or as other libraries save their sets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data import listing
from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.attributes import RawColumn
from triptych.data.files import TEXTS, Part, read_file, read_frames
from triptych.data.formats.archives import unpacked
from triptych.data.formats.columnar import read_parquet
from triptych.data.formats.idx import read_cifar, read_idx
from triptych.data.formats.reading import readable
from triptych.data.formats.roles import describes
from triptych.data.formats.several import read_npys
from triptych.data.hub import read_saved
from triptych.data.labels import Labels, columns_of, read_labels
from triptych.data.layout import placed, split_in
from triptych.data.pictures import SUFFIXES, Encoded, has_frames
from triptych.data.splits import counted
from triptych.errors import TriptychError
from triptych.opening import regular

_ARRAYS = (".npy", ".npz", ".mat", ".h5", ".hdf5")


def read_path(path: Path) -> dict[str, Part]:
    """The splits in a folder, an archive or another file."""
    if path.is_dir():
        return read_folder(path)
    path = regular(path)
    return read_folder(unpacked(path) / "files") if listing.is_archive(path) else read_file(path)


def read_folder(folder: Path) -> dict[str, Part]:
    """The splits in a folder; pictures or a file of a folder without splits are "train".

    Data files are those of the first format that there is: parquet, which may lie in data/ as on the hub, IDX, which may lie
    in raw/ as torchvision keeps it, CIFAR's binaries, arrays. Archives are unpacked, and tables of text read, where nothing
    else is there.

    Raises:
        TriptychError: for a folder with nothing to read, and for pictures beside data files.
    """
    here = listing.visible(folder)
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return read_saved(folder)
    if data := _data_files(folder, here):
        beside = [path.name for path in here if path.suffix.lower() in SUFFIXES]
        if beside:
            raise TriptychError(
                f"{folder}: expected pictures or data files, got both ({beside[0]}, {data[0].name}); "
                "name the file you mean, or move it elsewhere"
            )
        return _read_data(data)
    found = listing.listed(folder)
    if found.pictures:
        return _read_pictures(folder, found)
    if archives := [path for path in here if listing.is_archive(path)]:
        return _read_archives(archives)
    if tables := [path for path in here if path.suffix.lower() in TEXTS and path.suffix.lower() != ".txt"]:
        return _read_data(tables)
    if examples := [name for name in found.others if name.endswith(".npy")]:
        return _read_examples(folder, examples)
    counts = found.suffixes() + listing.Listing(others=found.tables).suffixes()
    got = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(3)) or "nothing"
    raise TriptychError(
        f"{folder}: expected pictures (jpg, png, webp, …) or parquet, IDX, npy, npz, csv or mat files, got "
        f"{got}; name another folder"
    )


def _data_files(folder: Path, here: list[Path]) -> list[Path]:
    """The files of the first format of data that there is in the folder, or in those where libraries put them."""
    parquet = [path for path in here + listing.visible(folder / "data") if path.suffix.lower() == ".parquet"]
    raw = next((path for path in (folder / "raw", *folder.glob("*/raw")) if path.is_dir()), None)
    idx = [path for path in here or (listing.visible(raw) if raw else []) if _is_idx_name(path.name)]
    if any(path.name == "batches.meta" for path in here):
        raise TriptychError(
            f"{folder} holds CIFAR's pickles, which may run whatever they say: download the binary version "
            "(cifar-10-binary.tar.gz) and give that"
        )
    cifar = [path for path in here if re.fullmatch(r"(data|test)_batch\w*\.bin", path.name)]
    arrays = [path for path in here if path.suffix.lower() in _ARRAYS]
    return parquet or idx or cifar or arrays


def _is_idx_name(name: str) -> bool:
    return bool(re.search(r"idx[2-4]|^(?!.*label).*ubyte", name))


def _read_data(paths: list[Path]) -> dict[str, Part]:
    """One file for each split, or files that hold splits themselves; parquet and CIFAR may come in shards."""
    if len(paths) > 1 and {path.suffix for path in paths} == {".npy"} and any(describes(path.stem) for path in paths):
        return dict(read_npys(paths[0].parent, [path.name for path in paths]))
    named = [split_in(path.name) for path in paths]
    if len(set(named) - {None}) > 1:  # what is called by no split beside those that are is something else
        paths, named = [p for p, its in zip(paths, named, strict=True) if its], [its for its in named if its]
    if paths[0].suffix == ".bin":
        return {s: read_cifar([p for p, its in zip(paths, named, strict=True) if (its or "train") == s])
                for s in dict.fromkeys(its or "train" for its in named)}  # fmt: skip
    if paths[0].suffix == ".npy" and not any(named) and len(paths) > 1:
        return _read_examples(paths[0].parent, [path.name for path in paths])
    parts: dict[str, Part] = {}
    for split in dict.fromkeys(its or "train" for its in named):
        its = [path for path, of in zip(paths, named, strict=True) if (of or "train") == split]
        found = _read_shards(its)
        parts |= {split: found["train"]} if set(found) == {"train"} else found
    if len(parts) > 1 and any(named):
        next(iter(parts.values())).divided = "by files"
    return parts


def _read_shards(paths: list[Path]) -> dict[str, Part]:
    """The files of one split: parquet may come in shards; of two copies, packed and not, the plain one is read."""
    if paths[0].suffix.lower() == ".parquet":
        return {"train": read_parquet(*paths)}
    paths = [path for path in paths if path.suffix != ".gz" or path.with_suffix("") not in paths]
    if len(paths) > 1:
        raise TriptychError(
            f"{paths[0].parent}: expected one data file for each split, got "
            f"{', '.join(path.name for path in paths[:3])}; name the one you mean"
        )
    return {"train": read_idx(paths[0])} if _is_idx_name(paths[0].name) else read_file(paths[0])


def _read_examples(folder: Path, names: list[str]) -> dict[str, Part]:
    """Arrays of one shape, an example each, with splits and classes by their folders; broken ones are left aside."""
    place = placed(names)
    parts: dict[str, Part] = {}
    for split in dict.fromkeys(s for s in place.splits if s):
        rows: dict[int, np.ndarray] = {}
        broken: dict[str, TriptychError] = {}
        for i in (i for i, its in enumerate(place.splits) if its == split):
            try:
                rows[i] = _example(folder / names[i])
            except TriptychError as error:
                broken[names[i]] = error
        if not rows:
            raise next(iter(broken.values()))
        first, *others = rows
        for i in others:
            if rows[i].shape != rows[first].shape or rows[i].dtype != rows[first].dtype:
                raise TriptychError(
                    f"{folder}: expected one array for each split, or arrays of one shape, an example each, got "
                    f"{names[first]} {rows[first].shape} {rows[first].dtype} and {names[i]} {rows[i].shape} "
                    f"{rows[i].dtype}; name the one you mean"
                )
        classes = [place.classes[i] for i in rows]
        columns = {"label": RawColumn(classes)} if any(classes) else {}
        parts[split] = Array.of(np.stack(list(rows.values())), str(folder), [str(folder / names[i]) for i in rows], columns)
        some = f"{', '.join([*broken][:3])}{', …' * (len(broken) > 3)}"
        parts[split].aside = (f"{counted(len(broken), 'broken file')} ({some})",) if broken else ()
    return parts


def _example(path: Path) -> np.ndarray:
    with readable(path, "npy file of numbers"):
        return np.load(path, allow_pickle=False, mmap_mode=None)


def _read_archives(paths: list[Path]) -> dict[str, Part]:
    """One archive, or one for each split."""
    named = [split_in(path.name) for path in paths]
    if len(paths) == 1:
        return _of_split(read_folder(unpacked(paths[0]) / "files"), named[0])
    if None in named or len(set(named)) < len(named):
        raise TriptychError(
            f"{paths[0].parent}: expected one archive, or one for each split, got "
            f"{', '.join(path.name for path in paths[:3])}; name the one you mean"
        )
    parts: dict[str, Part] = {}
    for path, split in zip(paths, named, strict=True):
        parts |= _of_split(read_folder(unpacked(path) / "files"), split)
    return parts


def _of_split(found: dict[str, Part], split: str | None) -> dict[str, Part]:
    return {split: found["train"]} if split and set(found) == {"train"} else found


def _read_pictures(folder: Path, found: listing.Listing) -> dict[str, Part]:
    """By the splits that a table says, else by folders, else all as "train"."""
    names = found.pictures
    if len(names) == 1 and has_frames(folder / names[0]):
        return {"train": read_frames(folder / names[0])}
    labels, place = read_labels(folder, found), placed(names)
    only = place.divided and set(labels.splits.values()) == {"train"}  # then folders tell what is not trained on
    said = {} if only else labels.splits
    splits = [said.get(name) for name in names] if said else place.splits
    where = "the lists" if labels.lists and said else "the table" if said else "the splits"
    aside = [*_beside(names, splits, where), *_others(found), *labels.left_aside()]
    parts: dict[str, Part] = {}
    for split in dict.fromkeys(s for s in splits if s):
        chosen = [i for i, its in enumerate(splits) if its == split]
        parts[split] = _album(folder, [names[i] for i in chosen], labels, [place.classes[i] for i in chosen])
    first = next(iter(parts.values()))
    first.aside, first.divided = tuple(aside), labels.by if said else "by folders" if place.divided else ""
    return parts


def _beside(names: Sequence[str], splits: Sequence[Any], what: str) -> list[str]:
    out = [name for name, split in zip(names, splits, strict=True) if not split]
    tops = sorted({name.partition("/")[0] + "/" * ("/" in name) for name in out})
    return [f"{counted(len(out), 'picture')} beside {what} ({', '.join(tops[:3])}{', …' * (len(tops) > 3)})"] if out else []


def _others(found: listing.Listing) -> list[str]:
    counts = found.suffixes()
    aside = [f"{counted(counts.total(), 'file')} ({', '.join(sorted(counts)[:4])})"] if counts else []
    return aside + (
        [f"{len(found.odd)} {listing.ODD} ({', '.join(found.odd[:3])}{', …' * (len(found.odd) > 3)})"] if found.odd else []
    )


def _album(folder: Path, names: list[str], labels: Labels, classes: Sequence[str | None]) -> Album:
    columns = {name: RawColumn(cells) for name, cells in columns_of(labels, names).items()}
    if any(classes):
        columns.setdefault("label", RawColumn(list(classes)))

    def read(wanted: np.ndarray) -> Iterator[Encoded]:
        return (Encoded(int(i), names[i], folder / names[i]) for i in wanted)

    return Album(str(folder), len(names), read, columns, names=tuple(names))
