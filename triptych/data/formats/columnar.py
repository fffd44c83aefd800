"""Tables: parquet with encoded pictures, and parquet or CSV whose columns are the values of vectors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.attributes import LABELS, RawColumn
from triptych.data.delimited import MISSING, NUMBERING, read_delimited
from triptych.data.formats.reading import readable
from triptych.data.pictures import SUFFIXES, Encoded, is_picture
from triptych.data.stored import identity
from triptych.errors import TriptychError
from triptych.opening import exists

IMAGE_COLUMNS = ("image", "img", "picture", "photo")
"""Usual names of a column of encoded pictures."""
_MANY = re.compile(r"\s*[+-]?[\d.]+(?:[eE][+-]?\d+)?(?:\s+[+-]?[\d.]+(?:[eE][+-]?\d+)?){7,}\s*")  # eight numbers or more
_PIXEL = re.compile(r"(?:pixel|pix|px|p)?[ _.]?\d+(?:x\d+)?")


def read_parquet(*paths: Path) -> Album | Array:
    """Parquet with encoded pictures (bytes, or {bytes, path}) in a column of any name, whose other columns are attributes;
    or with columns of numbers, which are vectors."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with readable(paths[0], "parquet file"):
        files = [pq.ParquetFile(path, memory_map=True) for path in paths]
        schema = files[0].schema_arrow
        recorded = (schema.metadata or {}).get(b"huggingface")  # by the `datasets` library, if it wrote the file
        features = json.loads(recorded)["info"].get("features", {}) if recorded else {}
        image = _image_column(files[0], features)
        nested = pa.types.is_struct if image is None else pa.types.is_nested  # lists of numbers may be the examples
        plain = [field.name for field in schema if field.name != image and not nested(field.type)]
        plain = [name for name in plain if image or not _is_bytes(schema.field(name).type)]
        table = pa.concat_tables([file.read(columns=plain) for file in files])
    columns = {}
    for name, column in zip(plain, table.columns, strict=True):
        if pa.types.is_decimal(column.type) or (column.null_count and pa.types.is_integer(column.type)):
            column = column.cast(pa.float64())
        numbers = pa.types.is_floating(column.type) or (pa.types.is_primitive(column.type) and not column.null_count)
        quick = numbers and not pa.types.is_temporal(column.type)
        classes = tuple(features.get(name, {}).get("names") or ())
        lists = None if quick else _stacked(column)
        values = column.to_numpy() if quick else column.to_pylist() if lists is None else lists
        columns[name] = RawColumn(values, classes)
    count = sum(file.metadata.num_rows for file in files)
    where = str(paths[0] if len(paths) == 1 else paths[0].parent)
    if image:
        return Album(where, count, partial(_parquet_rows, paths, image), columns)
    return of_columns(where, columns, [identity(path) for path in paths])


def _stacked(column: Any) -> np.ndarray | None:
    """Lists of numbers, nested or not and all of one length, as an array; None for any other column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shape, flat = [len(column)], column.combine_chunks()
    while pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        lengths = pc.list_value_length(flat).unique().to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            return None
        shape, flat = [*shape, lengths[0]], flat.flatten()
    numbers = len(shape) > 1 and (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type))
    return flat.to_numpy(zero_copy_only=False).reshape(shape) if numbers and not flat.null_count else None


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _image_column(file: Any, features: dict[str, Any]) -> str | None:
    """The column of encoded pictures: marked as one, usually named, or whose first value is a picture."""
    import pyarrow as pa

    schema = file.schema_arrow
    encoded = []
    for field in schema:
        inner = field.type
        if pa.types.is_struct(inner) and inner.get_field_index("bytes") >= 0:
            inner = inner.field("bytes").type
        if _is_bytes(inner):
            encoded.append(field.name)
    marked = [name for name in encoded if features.get(name, {}).get("_type") == "Image"]
    usual = [name for alias in IMAGE_COLUMNS for name in encoded if name.lower() == alias]
    if marked or usual:
        return (marked or usual)[0]
    first = next(file.iter_batches(1, columns=encoded), None) if encoded else None
    for name in encoded:
        content = first[name][0].as_py() if first is not None and len(first) else None
        if is_picture(content["bytes"] if isinstance(content, dict) else content):
            return name
    return None


def _parquet_rows(paths: tuple[Path, ...], image: str, wanted: np.ndarray) -> Iterator[Encoded]:
    """The wanted pictures, a few hundred rows of the file at a time."""
    import pyarrow.parquet as pq

    row, remaining = 0, set(wanted.tolist())
    for path in paths:
        with readable(path, "parquet file"):
            for batch in pq.ParquetFile(path, memory_map=True).iter_batches(256, columns=[image]):
                for cell in batch[0]:
                    if row in remaining:
                        content = cell.as_py()
                        picture = content if isinstance(content, dict) else {"bytes": content}
                        yield Encoded(row, picture.get("path") or f"{path.name} row {row}", picture["bytes"])
                    row += 1


def read_csv(path: Path) -> Array:
    """A table as text: columns of numbers are the values of vectors, the others attributes."""
    table = read_delimited(path)
    cells = zip(*table.rows, strict=True)
    columns = {name: RawColumn(_numbers(its)) for name, its in zip(table.header, cells, strict=True)}
    return of_columns(str(path), columns, [identity(path)])


def _numbers(cells: Sequence[str]) -> np.ndarray | list[str]:
    """Numbers where all cells are, empty ones NaN; else the words."""
    try:
        return np.array([math.nan if cell.lower() in MISSING else float(cell) for cell in cells])
    except ValueError:
        return list(cells)


def of_columns(where: str, columns: dict[str, RawColumn], key: Any) -> Array:
    """Vectors of the numeric columns; words, classes and columns called label, class or target are attributes.

    Columns pixel0, pixel1, … of bytes, as many as a square has, are grey pictures.

    Where one column holds all numbers of a row, as a list or as text, these are the vector, and the others are attributes.

    Raises:
        TriptychError: without columns of numbers, and for missing values among them.
    """
    _refuse_names(where, columns)
    for name, raw in columns.items():
        if (rows := _vectors(where, name, raw.values)) is not None:
            return _of_vectors(where, rows, key, {other: its for other, its in columns.items() if other != name})
    values, attributes = {}, {}
    for name, raw in columns.items():
        numbers = _array(raw.values) if not raw.classes else np.array([], object)
        if numbers.dtype.kind in "iuf" and name.lower() not in LABELS:
            values[name] = numbers.astype(np.float64)
        else:
            attributes[name] = raw
    values, aside = _that_vary(values)
    if not values:
        raise TriptychError(
            f"{where}: expected columns of numbers, or one of encoded pictures named {' or '.join(IMAGE_COLUMNS[:2])} or "
            f"otherwise, got columns {', '.join(list(columns)[:8])}{', …' * (len(columns) > 8)}; rename or convert it"
        )
    missing = {name: int(np.isnan(column).sum()) for name, column in values.items() if np.isnan(column).any()}
    if missing:
        some = ", ".join(f"{name} ({count})" for name, count in list(missing.items())[:3])
        raise TriptychError(f"{where}: expected a number in every row, got none in {some}: fill them in or drop these rows")
    if all(_PIXEL.fullmatch(name.lower()) for name in values):  # in the order of their numbers, not of their letters
        values = dict(sorted(values.items(), key=lambda item: [int(part) for part in re.findall(r"\d+", item[0])]))
    data = np.stack(list(values.values()), 1)
    if pixels := _as_pixels(list(values), data):
        return Array.of(data.astype(np.uint8).reshape(-1, 1, *pixels), where, key, attributes)
    array = Array.of(data, where, key, attributes)
    array.names, array.aside = tuple(values), aside
    return array


def _that_vary(values: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The columns that say something, and which others were left aside: those that are empty, or number the rows."""
    counted = [name for name, column in values.items() if _counts(name, column) and len(values) > 1]
    empty = [name for name, column in values.items() if name not in counted and np.isnan(column).all()]
    aside = (*(f"column {name} (counts the rows)" for name in counted), *(f"column {name} (empty)" for name in empty))
    return {name: column for name, column in values.items() if name not in (*counted, *empty)}, aside


def _refuse_names(where: str, columns: dict[str, RawColumn]) -> None:
    """Raises for a table that names pictures beside it: these are meant, not its numbers."""
    for name, raw in columns.items():
        first = next((word for word in raw.values[:100] if isinstance(word, str) and word), "")
        if Path(first).suffix.lower() in SUFFIXES and exists(Path(where).parent / first):
            raise TriptychError(
                f"{where} names pictures in column {name}: give their folder, {Path(where).parent}, whose tables are read; "
                "or remove the column to read the numbers alone"
            )


def _vectors(where: str, name: str, cells: Any) -> np.ndarray | None:
    """The rows of a column each of whose cells holds many numbers; None for other columns.

    Raises:
        TriptychError: where cells hold different numbers of them, or none.
    """
    if isinstance(cells, np.ndarray) and cells.ndim > 1:
        return cells
    first = next((cell for cell in cells if cell is not None), None)
    text = isinstance(first, str) and _MANY.fullmatch(first)
    if not text and not isinstance(first, list):
        return None
    try:
        rows = np.array([cell.split() for cell in cells] if text else list(cells), float if text else None)
    except (ValueError, AttributeError):
        rows = np.array([], object)
    if rows.dtype.kind not in "biuf":
        if not text and not any(isinstance(value, int | float) for value in np.ravel(np.asarray(first, object))):
            return None  # lists of words
        raise TriptychError(
            f"{where}: expected as many numbers in each row of {name}, got other ones: pad or drop these rows"
        )
    return rows


def _of_vectors(where: str, rows: np.ndarray, key: Any, attributes: dict[str, RawColumn]) -> Array:
    """Whole bytes as many as a square of at least 8 × 8 has are a grey picture."""
    side = math.isqrt(rows.shape[1])
    if rows.ndim == 2 and side >= 8 and side * side == rows.shape[1] and _are_bytes(rows):
        rows = rows.astype(np.uint8).reshape(-1, 1, side, side)
    return Array.of(rows, where, key, attributes)


def _are_bytes(data: np.ndarray) -> bool:
    return bool(((data >= 0) & (data <= 255) & (data == np.rint(data))).all())


def _counts(name: str, column: np.ndarray) -> bool:
    """Whether a column only numbers the rows."""
    return name.lower() in NUMBERING and len(column) > 1 and np.array_equal(column - column[0], np.arange(len(column)))


def _as_pixels(names: list[str], data: np.ndarray) -> tuple[int, int] | None:
    """The sides of a square picture whose pixels the columns are, by their names and values."""
    side = math.isqrt(len(names))
    named = side > 3 and side * side == len(names) and all(_PIXEL.fullmatch(name.lower()) for name in names)
    return (side, side) if named and _are_bytes(data) else None


def _array(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """A column as an array; of objects where its rows are lists of different lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.array([None] * len(values), object)
