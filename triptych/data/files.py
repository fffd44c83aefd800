"""Single files: npy, npz, IDX (MNIST's format, .gz or not) and parquet with encoded pictures.

Each function reads the header only and returns an `Array` or an `Album`, which reads the rest on demand.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.attributes import RawColumn
from triptych.data.pictures import SUFFIXES, Encoded, one_line
from triptych.data.stored import identity, rows_in_chunk
from triptych.errors import TriptychError

Part = Array | Album
"""One split of a data set, not yet read."""
IMAGE_COLUMNS = ("image", "img", "picture", "photo")
"""Names of a column of encoded pictures."""
_DEFLATE = 1032  # no gzip or zip stream expands to more than this many times its length
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_file(path: Path) -> Part:
    """The data in one file, whose format is told by its suffix or its first bytes."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        raise TriptychError(f"{path} is a single picture, expected a set: give the folder that it is in")
    by_suffix: dict[str, Callable[[Path], Part]]
    by_suffix = {".npy": read_npy, ".npz": read_npz, ".parquet": read_parquet, ".gz": read_idx}
    if suffix in by_suffix:
        return by_suffix[suffix](path)
    with path.open("rb") as file:
        if _is_idx_header(file.read(4)):
            return read_idx(path)
    raise TriptychError(
        f"{path}: expected .npy, .npz, .parquet, an IDX file (.gz or not) or a folder of pictures, "
        f"got {suffix or 'no suffix'}; convert it to one of these"
    )


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    """Turns what broken files raise, which is nearly anything, into one line that names the file."""
    try:
        yield
    except TriptychError:
        raise
    except Exception as error:
        raise TriptychError(
            f"{path}: expected a complete {what}, but this is not one ({one_line(error)}): copy or save it again"
        ) from error


def read_npy(path: Path) -> Array:
    """An .npy file; mapped, so that a large one is never read whole. Pickled objects are refused."""
    with _readable(path, "npy file of numbers"):
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError:  # maps cannot be empty
            values = np.load(path, allow_pickle=False)
    return Array.of(values, str(path), identity(path))


def read_npz(path: Path) -> Array:
    """An .npz file: the array `x`, or the only one of suitable rank; 1-D arrays as long as it become attributes."""
    headers, columns = {}, {}
    with _readable(path, "npz file of numbers"), zipfile.ZipFile(path) as archive:
        for name in (name for name in archive.namelist() if name.endswith(".npy")):
            with archive.open(name) as file:
                headers[name[:-4]] = _npy_header(file)
        key = _main_array(path, headers)
        shape, in_columns, dtype = headers[key]
        _refuse_short(str(path), shape, dtype, archive.getinfo(f"{key}.npy").compress_size * _DEFLATE)
        for name, (its_shape, _, its_dtype) in headers.items():
            if its_shape == shape[:1] and its_dtype.kind in "buifUS":
                with archive.open(f"{name}.npy") as file:
                    values = npy.read_array(file)
                columns[name] = RawColumn(values.astype(str) if values.dtype.kind == "S" else values)

    def chunks() -> Iterator[np.ndarray]:
        with _readable(path, "npz file"), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            if in_columns:  # Fortran's order: its rows are nowhere together
                yield npy.read_array(file)
            else:
                _npy_header(file)
                yield from _stream(file, shape, dtype, str(path))

    return Array(f"{path}[{key}]", shape, dtype, chunks, (identity(path), key), columns=columns)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the values are in Fortran's order, and dtype."""
    old = npy.read_magic(file) == (1, 0)
    return npy.read_array_header_1_0(file) if old else npy.read_array_header_2_0(file)


def _main_array(path: Path, headers: dict[str, Any]) -> str:
    fit = [name for name, (shape, _, dtype) in headers.items() if 2 <= len(shape) <= 4 and dtype.kind in "buif"]
    if "x" in headers or len(fit) == 1:
        return "x" if "x" in headers else fit[0]
    found = ", ".join(f"{name} {shape} {dtype}" for name, (shape, _, dtype) in headers.items())
    raise TriptychError(
        f"{path}: expected an array x, or one array of numbers of rank 2 to 4, got "
        f"{found or 'nothing'}; save the data under the key x"
    )


def _refuse_short(where: str, shape: tuple[int, ...], dtype: np.dtype, most: int) -> None:
    """Raises when the file, which can hold `most` bytes of data, is too short for what its header says."""
    expected = math.prod(shape) * dtype.itemsize
    if expected > most:
        raise TriptychError(
            f"{where} is cut short: expected {expected:,} bytes of data for shape {shape}, got at most "
            f"{most:,}; copy or download it again"
        )


def _stream(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, where: str) -> Iterator[np.ndarray]:
    """Rows from a stream of bytes, in native byte order, a bounded number at a time."""
    step, row = rows_in_chunk(shape[1:], dtype), math.prod(shape[1:]) * dtype.itemsize
    for start in range(0, shape[0], step):
        wanted = row * min(step, shape[0] - start)
        content = file.read(wanted)
        if len(content) < wanted:
            _refuse_short(where, shape, dtype, start * row + len(content))
        yield np.frombuffer(content, dtype).reshape(-1, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)


def _is_idx_header(header: bytes) -> bool:
    """Whether these 4 bytes are two zeros, a type and a rank."""
    return len(header) == 4 and header[:2] == b"\0\0" and header[2] in _IDX_TYPES and 0 < header[3] < 8


def read_idx(path: Path) -> Array:
    """An IDX file of pictures or other rows; labels beside it (`…-labels-idx1-…`) become the attribute `label`."""
    shape, dtype, offset, chunks = _idx(path)
    plain = path.suffix.lower() != ".gz" and dtype == np.uint8 and 0 not in shape
    mapped = np.memmap(path, dtype, "r", offset, shape) if plain else None
    array = Array(str(path), shape, dtype, chunks, identity(path), mapped)
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if labels != path and labels.exists():
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
    with _readable(path, "IDX file"), open_it() as file:
        header = file.read(4)
        if not _is_idx_header(header):
            raise TriptychError(
                f"{path}: expected an IDX file, which starts with 0, 0, a type 8..14 and a rank 1..7, "
                f"got {list(header)}; check that it is the right file"
            )
        shape = struct.unpack(f">{header[3]}I", file.read(4 * header[3]))
    dtype, offset, size = np.dtype(_IDX_TYPES[header[2]]), 4 + 4 * header[3], path.stat().st_size
    _refuse_short(str(path), shape, dtype, size * _DEFLATE if packed else size - offset)

    def chunks() -> Iterator[np.ndarray]:
        with _readable(path, "IDX file"), open_it() as file:
            file.seek(offset)
            yield from _stream(file, shape, dtype, str(path))

    return shape, dtype.newbyteorder("="), offset, chunks


def read_parquet(*paths: Path) -> Album:
    """Parquet with encoded pictures (a column `image` or `img`, bytes or {bytes, path}); other columns: attributes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(paths[0], "parquet file"):
        files = [pq.ParquetFile(path, memory_map=True) for path in paths]
        schema = files[0].schema_arrow
        recorded = (schema.metadata or {}).get(b"huggingface")  # by the `datasets` library, if it wrote the file
        features = json.loads(recorded)["info"].get("features", {}) if recorded else {}
        image = _image_column(schema, features, str(paths[0]))
        plain = [field.name for field in schema if field.name != image and not pa.types.is_nested(field.type)]
        table = pa.concat_tables([file.read(columns=plain) for file in files])
    columns = {}
    for name, column in zip(plain, table.columns, strict=True):
        quick = pa.types.is_primitive(column.type) and not column.null_count
        classes = tuple(features.get(name, {}).get("names") or ())
        columns[name] = RawColumn(column.to_numpy() if quick else column.to_pylist(), classes)
    count = sum(file.metadata.num_rows for file in files)
    where = str(paths[0] if len(paths) == 1 else paths[0].parent)
    return Album(where, count, partial(_parquet_rows, paths, image), [identity(path) for path in paths], columns)


def _image_column(schema: Any, features: dict[str, Any], where: str) -> str:
    import pyarrow as pa

    marked = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    for name in (*marked, *(name for name in IMAGE_COLUMNS if name in schema.names)):
        kind = schema.field(name).type
        encoded = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        if pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded):
            return name
    raise TriptychError(
        f"{where}: expected a column of encoded pictures named {' or '.join(IMAGE_COLUMNS[:2])}, got "
        f"columns {', '.join(schema.names[:8])}{', …' * (len(schema.names) > 8)}; rename or convert it"
    )


def _parquet_rows(paths: tuple[Path, ...], image: str, wanted: np.ndarray) -> Iterator[Encoded]:
    """The wanted pictures, a few hundred rows of the file at a time."""
    import pyarrow.parquet as pq

    row, remaining = 0, set(wanted.tolist())
    for path in paths:
        with _readable(path, "parquet file"):
            for batch in pq.ParquetFile(path, memory_map=True).iter_batches(256, columns=[image]):
                for cell in batch[0]:
                    if row in remaining:
                        content = cell.as_py()
                        picture = content if isinstance(content, dict) else {"bytes": content}
                        yield Encoded(row, picture.get("path") or f"{path.name} row {row}", picture["bytes"])
                    row += 1
