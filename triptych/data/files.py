"""Single files: npy, npz, IDX (MNIST's format, .gz or not) and parquet with encoded pictures.

Each reader looks at the head only and gives an `Array` or an `Album`, which reads the rest when it is told how.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from triptych.data.album import Album
from triptych.data.arrays import Array, array_of
from triptych.data.attributes import Raw
from triptych.data.pictures import SUFFIXES, Encoded
from triptych.data.stored import identity, rows_in
from triptych.errors import TriptychError

Part = Array | Album
IMAGE_COLUMNS = ("image", "img", "picture", "photo")
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, KeyError, NotImplementedError, OverflowError),
    *(zlib.error, zipfile.BadZipFile, struct.error, SyntaxError, TokenError),  # numpy parses a head as Python
)
_DEFLATE = 1032  # no stream of gzip or zip grows to more than this many times its length
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_file(path: Path) -> Part:
    """The set in one file, by its suffix, or by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        raise TriptychError(f"{path} is a single picture, expected a set; give the folder that it is in")
    by_suffix: dict[str, Callable[[Path], Part]]
    by_suffix = {".npy": read_npy, ".npz": read_npz, ".parquet": read_parquet, ".gz": read_idx}
    read = by_suffix.get(suffix) or (read_idx if is_idx(path) else None)
    if read is None:
        raise TriptychError(
            f"{path}: expected .npy, .npz, .parquet, an IDX file (.gz or not) or a folder of pictures, "
            f"got {suffix or 'no suffix'}; convert it to one of these"
        )
    return read(path)


@contextmanager
def _readable(path: Path, what: str, kinds: tuple[type[Exception], ...] = _BROKEN) -> Iterator[None]:
    """Turn what a reader raises on broken files into one line that names the file."""
    try:
        yield
    except kinds as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise TriptychError(
            f"{path}: expected a whole {what}, but this is not one ({said}); copy or save it again"
        ) from None


def read_npy(path: Path) -> Array:
    """An .npy file; mapped, so that a large one is never read whole. Pickled objects are refused."""
    with _readable(path, "npy file of numbers"):
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if "mmap" not in str(error).lower() and "empty" not in str(error).lower():
                raise
            values = np.load(path, allow_pickle=False)  # maps cannot be empty
    array = array_of(values, str(path), identity(path))
    array.check()
    return array


def read_npz(path: Path) -> Array:
    """An .npz file: the array `x`, or the only one of suitable rank; 1-D arrays as long as it become attributes."""
    with _readable(path, "npz file of numbers"), zipfile.ZipFile(path) as archive:
        heads = {name[:-4]: _npy_head(archive, name) for name in archive.namelist() if name.endswith(".npy")}
        key = _main_array(path, heads)
        shape, fortran, dtype = heads[key]
        _refuse_short(str(path), shape, dtype, archive.getinfo(f"{key}.npy").compress_size * _DEFLATE)
        columns = {}
        with np.load(path, allow_pickle=False) as arrays:
            for name, (its_shape, _, its_dtype) in heads.items():
                if its_shape == shape[:1] and its_dtype.kind in "buifUS":
                    columns[name] = Raw(arrays[name] if its_dtype.kind in "buif" else arrays[name].astype(str).tolist())
            if fortran:
                return array_of(arrays[key], f"{path}[{key}]", (identity(path), key), columns)
    chunks = partial(_member_chunks, path, f"{key}.npy", shape, dtype)
    array = Array(f"{path}[{key}]", shape, dtype, chunks, (identity(path), key), columns=columns)
    array.check()
    return array


def _npy_head(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    with archive.open(name) as file:
        return _head(file)


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    old = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    return read(file)


def _main_array(path: Path, heads: dict[str, Any]) -> str:
    if "x" in heads:
        return "x"
    fit = [name for name, (shape, _, dtype) in heads.items() if 2 <= len(shape) <= 4 and dtype.kind in "buif"]
    if len(fit) == 1:
        return fit[0]
    held = ", ".join(f"{name} {shape} {dtype}" for name, (shape, _, dtype) in heads.items())
    raise TriptychError(
        f"{path}: expected an array x, or one array of numbers of rank 2 to 4, got "
        f"{held or 'nothing'}; save the data under the key x"
    )


def _member_chunks(path: Path, member: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    with _readable(path, "npz file"), zipfile.ZipFile(path) as archive, archive.open(member) as file:
        _head(file)
        yield from _stream(file, shape, dtype, str(path))


def _refuse_short(where: str, shape: tuple[int, ...], dtype: np.dtype, most: int) -> None:
    """Raise when the file, which can hold `most` bytes of data, is too short for what its head promises."""
    expected = math.prod(shape) * dtype.itemsize
    if expected > most:
        raise TriptychError(
            f"{where} is cut short: expected {expected:,} bytes of data for shape {shape}, got at most "
            f"{most:,}; copy or download it again"
        )


def _stream(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, where: str) -> Iterator[np.ndarray]:
    """Rows from a stream of bytes, in native byte order, a bounded number at a time."""
    step, row = rows_in(shape[1:], dtype), math.prod(shape[1:]) * dtype.itemsize
    for start in range(0, shape[0], step):
        wanted = row * min(step, shape[0] - start)
        content = file.read(wanted)
        if len(content) < wanted:
            _refuse_short(where, shape, dtype, start * row + len(content))
        yield np.frombuffer(content, dtype).reshape(-1, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)


def is_idx(path: Path) -> bool:
    """Whether a file starts as an IDX file does: two zero bytes, a type, a rank."""
    with path.open("rb") as file:
        head = file.read(4)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and 0 < head[3] < 8


def read_idx(path: Path) -> Array:
    """An IDX file of pictures or other rows; labels beside it (`…-labels-idx1-…`) become the attribute `label`."""
    array = _idx(path)
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if labels != path and labels.exists():
        codes = np.concatenate(list(_idx(labels).chunks()))
        if codes.shape != array.shape[:1]:
            raise TriptychError(
                f"{labels}: expected {array.count} labels, one a picture, got shape {codes.shape}; "
                f"it does not belong to {path.name}"
            )
        array.columns["label"] = Raw(codes)
    array.check()
    return array


def _idx(path: Path) -> Array:
    packed = path.suffix.lower() == ".gz"
    open_it: Callable[[], Any] = partial(gzip.open, path) if packed else partial(path.open, "rb")
    with _readable(path, "IDX file"), open_it() as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not 0 < head[3] < 8:
            raise TriptychError(
                f"{path}: expected an IDX file, which starts with 0, 0, a type 8..14 and a rank 1..7, "
                f"got {list(head)}; check that it is the right file"
            )
        shape = struct.unpack(f">{head[3]}I", file.read(4 * head[3]))
    dtype, offset = np.dtype(_IDX_TYPES[head[2]]), 4 + 4 * head[3]
    size = path.stat().st_size
    _refuse_short(str(path), shape, dtype, size * _DEFLATE if packed else size - offset)

    def chunks() -> Iterator[np.ndarray]:
        with _readable(path, "IDX file"), open_it() as file:
            file.read(offset)
            yield from _stream(file, shape, dtype, str(path))

    plain = not packed and head[2] == 8 and 0 not in shape
    mapped = np.memmap(path, np.uint8, "r", offset, shape) if plain else None
    return Array(str(path), shape, dtype.newbyteorder("="), chunks, identity(path), mapped)


def read_parquet(*paths: Path) -> Album:
    """Parquet with encoded pictures (a column `image` or `img`, bytes or {bytes, path}); other columns: attributes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(paths[0], "parquet file", (*_BROKEN, pa.ArrowException)):
        files = [pq.ParquetFile(path, memory_map=True) for path in paths]
        schema = files[0].schema_arrow
        image = _image_column(schema, str(paths[0]))
        plain = [field.name for field in schema if field.name != image and not pa.types.is_nested(field.type)]
        table = pa.concat_tables([file.read(columns=plain) for file in files]).combine_chunks() if plain else None
    count = sum(file.metadata.num_rows for file in files)
    where = str(paths[0] if len(paths) == 1 else paths[0].parent)
    features = _hub_features(schema)
    columns = {name: _parquet_column(table[name], features.get(name, {})) for name in plain} if table else {}
    return Album(where, count, partial(_parquet_rows, paths, image), [identity(path) for path in paths], columns)


def _hub_features(schema: Any) -> dict[str, Any]:
    """What the `datasets` library noted about the columns, if it wrote the file."""
    noted = (schema.metadata or {}).get(b"huggingface")
    return json.loads(noted)["info"].get("features", {}) if noted else {}


def _image_column(schema: Any, where: str) -> str:
    features = _hub_features(schema)
    for name in schema.names:
        if features.get(name, {}).get("_type") == "Image":
            return name
    for name in IMAGE_COLUMNS:
        if name in schema.names and _holds_bytes(schema.field(name).type):
            return name
    raise TriptychError(
        f"{where}: expected a column of encoded pictures named {' or '.join(IMAGE_COLUMNS[:2])}, got "
        f"columns {', '.join(schema.names[:8])}{', …' * (len(schema.names) > 8)}; rename or convert it"
    )


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _parquet_column(column: Any, feature: dict[str, Any]) -> Raw:
    import pyarrow as pa

    simple = pa.types.is_boolean(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    values = column.to_numpy() if simple and not column.null_count else column.to_pylist()
    return Raw(values, tuple(feature.get("names") or ()))


def _parquet_rows(paths: tuple[Path, ...], image: str, wanted: np.ndarray) -> Iterator[Encoded]:
    """The wanted pictures, a few hundred rows of the file at a time."""
    start, remaining = 0, set(wanted.tolist())
    for path in paths:
        for column in _column_batches(path, image):
            for i, cell in enumerate(column):
                if start + i in remaining:
                    yield _encoded(start + i, cell.as_py(), path.name)
            start += len(column)


def _column_batches(path: Path, name: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(path, "parquet file", (*_BROKEN, pa.ArrowException)):
        for batch in pq.ParquetFile(path, memory_map=True).iter_batches(batch_size=256, columns=[name]):
            yield batch.column(0)


def _encoded(index: int, cell: Any, where: str) -> Encoded:
    if isinstance(cell, dict):
        return Encoded(index, cell.get("path") or f"{where} row {index}", cell["bytes"])
    return Encoded(index, f"{where} row {index}", cell)
