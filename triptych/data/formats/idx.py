"""MNIST's format, IDX, gzipped or not; and CIFAR's binary one."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.arrays import Array
from triptych.data.attributes import RawColumn
from triptych.data.formats.reading import DEFLATE, readable, refuse_short, stream
from triptych.data.stored import identity
from triptych.errors import TriptychError
from triptych.opening import is_file

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CIFAR = 3 * 32 * 32


def is_idx(header: bytes) -> bool:
    """Whether these 4 bytes are two zeros, a type and a rank."""
    return len(header) == 4 and header[:2] == b"\0\0" and header[2] in _TYPES and 0 < header[3] < 8


def read_cifar(paths: list[Path]) -> Array:
    """CIFAR-10's binary version: a label's byte and 3×32×32 bytes for each picture, in one file or several."""
    row = _CIFAR + 1
    for path in paths:
        if not path.stat().st_size or path.stat().st_size % row:
            raise TriptychError(f"{path}: expected rows of {row:,} bytes, got {path.stat().st_size:,}: download it again")
    rows = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, row) for path in paths])
    pictures = np.ascontiguousarray(rows[:, 1:]).reshape(-1, 3, 32, 32)
    key = tuple(identity(path) for path in paths)
    return Array.of(pictures, str(paths[0].parent), key, {"label": RawColumn(rows[:, 0].astype(np.int64))})


def read_idx(path: Path) -> Array:
    """An IDX file of pictures or other rows; labels beside it (`…-labels-idx1-…`) become the attribute `label`."""
    shape, dtype, offset, chunks = _idx(path)
    plain = path.suffix.lower() != ".gz" and dtype == np.uint8 and 0 not in shape
    mapped = np.memmap(path, dtype, "r", offset, shape) if plain else None
    array = Array(str(path), shape, dtype, chunks, identity(path), mapped)
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if labels != path and is_file(labels):
        codes = np.concatenate(list(_idx(labels)[-1]()))
        if codes.shape != shape[:1]:
            raise TriptychError(
                f"{labels}: expected {array.count} labels, one for each picture, got shape {codes.shape}; "
                f"it does not belong to {path.name}"
            )
        array.columns["label"] = RawColumn(codes)
    return array


def _idx(path: Path) -> tuple[tuple[int, ...], np.dtype, int, Callable[[], Iterator[np.ndarray]]]:
    """Shape and dtype of the rows in an IDX file, where they start, and how to read them in chunks."""
    packed = path.suffix.lower() == ".gz"
    open_it: Callable[[], Any] = partial(gzip.open, path) if packed else partial(path.open, "rb")
    with readable(path, "IDX file"), open_it() as file:
        header = file.read(4)
        if not is_idx(header):
            raise TriptychError(
                f"{path}: expected an IDX file, which starts with 0, 0, a type 8..14 and a rank 1..7, "
                f"got {list(header)}; check that it is the right file"
            )
        shape = struct.unpack(f">{header[3]}I", file.read(4 * header[3]))
    dtype, offset, size = np.dtype(_TYPES[header[2]]), 4 + 4 * header[3], path.stat().st_size
    refuse_short(str(path), shape, dtype, size * DEFLATE if packed else size - offset)

    def chunks() -> Iterator[np.ndarray]:
        with readable(path, "IDX file"), open_it() as file:
            file.seek(offset)
            yield from stream(file, shape, dtype, str(path))

    return shape, dtype.newbyteorder("="), offset, chunks
