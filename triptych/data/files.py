"""Single files, by their suffix or first bytes: what each holds, as the parts of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.formats.columnar import read_csv, read_parquet
from triptych.data.formats.idx import is_idx, read_cifar, read_idx
from triptych.data.formats.reading import readable
from triptych.data.formats.several import read_hdf5, read_mat, read_npy, read_npz
from triptych.data.pictures import SUFFIXES, Encoded, frames, has_frames
from triptych.errors import TriptychError

Part = Array | Album
"""One split of a data set, not yet read."""
TEXTS = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
"""Suffixes of tables of text."""
READERS: dict[str, Callable[[Path], Part | dict[str, Array]]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".mat": read_mat,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".parquet": read_parquet,
    **dict.fromkeys(TEXTS, read_csv),
    ".gz": lambda path: _read_packed(path),
    ".bin": lambda path: read_cifar([path]),
}
"""By suffix; `read_file` knows the rest."""


def read_file(path: Path) -> dict[str, Part]:
    """The splits in one file; what is not divided is "train"."""
    suffix = path.suffix.lower()
    if suffix in READERS:
        found = READERS[suffix](path)
        return dict(found) if isinstance(found, dict) else {"train": found}
    if suffix in SUFFIXES:
        if not has_frames(path):
            raise TriptychError(f"{path} is a single picture, expected a set: give the folder that it is in")
        return {"train": read_frames(path)}
    with path.open("rb") as file:
        if is_idx(file.read(4)):
            return {"train": read_idx(path)}
    raise TriptychError(
        f"{path}: expected .npy, .npz, .parquet, .csv, .mat, .h5, .zip or .tar, an IDX file (.gz or not), a picture of "
        f"several frames or a folder of pictures, got {suffix or 'no suffix'}; convert it to one of these"
    )


def _read_packed(path: Path) -> Array:
    if Path(path.stem).suffix.lower() in READERS:
        raise TriptychError(f"{path} is packed: expected a plain {Path(path.stem).suffix} or an IDX file; gunzip it first")
    return read_idx(path)


def read_frames(path: Path) -> Album:
    """The frames of an animation, or the pages of a stack, as the pictures of a set."""
    with readable(path, "picture of several frames"):
        contents = list(frames(path))

    def read(wanted: np.ndarray) -> Iterator[Encoded]:
        return (Encoded(int(i), f"{path.name} frame {i}", contents[i]) for i in wanted)

    return Album(str(path), len(contents), read)
