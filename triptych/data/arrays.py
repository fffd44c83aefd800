"""Arrays that hold pictures or other events already: checked, converted to uint8 or float32, resized.

Whole numbers of rank 3 are grey pictures (N, H, W), of rank 4 pictures (N, C, H, W), or (N, H, W, C) by their shape; of
rank 2 events (N, D), or grey pictures where `size` is given and H·W = D. Those of 9 to 16 bits are brought to 8 by the
greatest of the set. Floats are events (N, *event), channels first; but of rank 4, with 1 or 3 channels and values in 0..1,
0..255 or −1..1, they are pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from triptych.data import holding
from triptych.data.attributes import RawColumn
from triptych.data.pictures import Depth, Survey, depth_of, resized, shallow
from triptych.data.splits import Skipped, Source
from triptych.data.stored import Options, keep, rows_in_chunk
from triptych.errors import TriptychError

LONG = 2**33
"""Bytes of a mapped file, from which on it is not read through before it is needed."""


@dataclass
class Array:
    """One split that is an array on disk or in memory.

    Raises:
        TriptychError: unless dtype and rank are those of data that can be learned from.
    """

    where: str
    """For messages: the file."""
    shape: tuple[int, ...]
    """(N, …), as in the file."""
    dtype: np.dtype
    """As in the file."""
    chunks: Callable[[], Iterator[np.ndarray]]
    """The rows from first to last, a bounded number at a time."""
    key: Any
    """What identifies the values, for the cache."""
    mapped: np.ndarray | None = None
    """The same rows as a memory map, where the file allows it; or as an array that is in memory anyway."""
    columns: dict[str, RawColumn] = field(default_factory=dict)
    """Attributes as they were found, by name."""
    names: tuple[str, ...] = ()
    """Of a table (N, D), the names of its columns, where they are known."""
    aside: tuple[str, ...] = ()
    """What lies beside the values and was not read, and why."""
    divided: str = ""
    """How splits were told apart, where they came with the data: by folders, by files."""
    places: np.ndarray | None = None
    """Of a part of a set, where its examples stood in that, (N,)."""

    def __post_init__(self) -> None:
        if self.dtype.kind not in "buif":
            raise TriptychError(
                f"{self.where}: expected numbers (uint8 pictures or floats), got dtype {self.dtype}; "
                "save it with .astype(np.uint8) or .astype(np.float32)"
            )
        if not 2 <= len(self.shape) <= 4:
            raise TriptychError(
                f"{self.where}: expected rows of 1 to 3 dimensions, (N, D) to (N, C, H, W), got {self.shape}: reshape it"
            )
        if 0 in self.shape:
            raise TriptychError(f"{self.where}: expected at least one row, got shape {self.shape}")

    @classmethod
    def of(cls, values: np.ndarray, where: str, key: Any, columns: dict[str, RawColumn] | None = None) -> Array:
        """An array that is in memory or mapped, read in chunks.

        >>> Array.of(np.zeros((5, 3), np.float32), "zeros", 0).count
        5
        """
        step = rows_in_chunk(values.shape[1:], values.dtype)
        mapped = values if isinstance(values, np.memmap) and values.flags.c_contiguous else None

        def chunks() -> Iterator[np.ndarray]:
            return (np.asarray(values[i : i + step]) for i in range(0, len(values), step))

        return cls(where, values.shape, values.dtype, chunks, key, mapped, columns or {})

    def part(self, rows: np.ndarray) -> Array:
        """The rows at these indices as an array of their own, in memory."""
        values = np.concatenate(list(self.chunks()))[rows]
        columns = {name: raw._replace(values=[raw.values[i] for i in rows]) for name, raw in self.columns.items()}
        made = Array.of(values, self.where, (self.key, rows.tobytes()), columns)
        made.names, made.aside, made.divided = self.names, self.aside, self.divided
        made.places = rows
        return made

    def reordered(self, names: tuple[str, ...]) -> Array:
        """A table with its columns in another order."""
        order = [self.names.index(name) for name in names]
        values = np.concatenate(list(self.chunks()))[:, order]
        made = Array.of(values, self.where, (self.key, names), self.columns)
        made.names, made.aside, made.divided = names, self.aside, self.divided
        return made

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.shape[0]

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The least and greatest value; (0, 255) as soon as they cannot lie closer together than bytes do."""
        least, greatest = math.inf, -math.inf
        for chunk in self.chunks():
            least, greatest = min(least, chunk.min()), max(greatest, chunk.max())
            if self.dtype.itemsize == 1 and greatest > 1:
                return 0, 255
        return least, greatest

    @cached_property
    def prints(self) -> np.ndarray:
        """Fingerprints of the rows (N,): of their bytes; of their places, where reading them would take minutes."""
        if self.mapped is not None and self.mapped.nbytes > LONG:
            return np.arange(self.count, dtype=np.uint64)
        bytes_ = self.dtype.kind in "bui" and 0 <= self.extremes[0] <= self.extremes[1] <= 255
        stored = np.uint8 if bytes_ else np.float32  # the same values in another dtype are the same examples
        return holding.of_rows(_float32(chunk) if stored is np.float32 else chunk.astype(stored) for chunk in self.chunks())

    @property
    def copies(self) -> bool:
        """Whether equal rows are examples of their own: those of a table, not pictures."""
        return len(self.shape) == 2

    @property
    def event(self) -> tuple[tuple[int, ...], bool]:
        """The shape of a row with channels first, and whether they are last in the file."""
        event = self.shape[1:]
        last = len(event) == 3 and channels_last(event)
        return ((event[2], *event[:2]) if last else event), last

    def depth(self, given: Depth | None = None) -> Depth | None:
        """How values become 8-bit pixels; None for values that are 8-bit already, and for those that are not pictures.

        Args:
            given: of the set that the array belongs to, whose range its own values may not show.
        """
        (event, _), (least, greatest) = self.event, self.extremes
        if self.dtype.kind != "f":
            if len(event) < 2 or self.dtype.itemsize == 1 or not 0 <= least <= greatest <= 65_535:
                return None
            whole = given if given and given.shift is not None else None
            return whole or (depth_of([(least, greatest)], False) if greatest > 255 else None)
        grey = len(event) == 2 or (len(event) == 3 and event[0] in (1, 3))
        if not grey or min(event[-2:]) < 8 or not np.isfinite([least, greatest]).all():
            return None
        found = depth_of([(least, greatest)], True)
        sides = len(event) == 3 or event[0] == event[1]  # else series in −1..1, such as sound, would be pictures
        if (found.low, found.high) in ((0, 1), (0, 255)) or (found.low == -1 and found.high == 1 and sides):
            return found
        return given if given and given.shift is None and given.low <= least <= greatest <= given.high else None

    def rows(self, wanted: np.ndarray, options: Options, survey: Survey) -> tuple[Source, np.ndarray, dict[int, Skipped]]:
        """The stored values, all of them (reading is cheap, and the caller chooses); otherwise as `Album.rows`."""
        plan, data = Plan.of(self, options, survey.depth), self.mapped
        as_is = not plan.channels_last and plan.factor == 1 and plan.size is None and plan.depth is None
        as_is = as_is and plan.dtype in ("|u1", "<f4")
        if as_is and data is not None and data.nbytes > options.budget:
            data = data.reshape(self.count, *plan.event)
            if self.dtype.kind == "f":
                for _ in self._converted(plan):  # only for the errors that it may raise
                    pass
        else:
            data, _ = keep(self._converted(plan), self.count, ("array", self.key, plan), options)
        return data, np.arange(self.count), {}

    def _converted(self, plan: Plan) -> Iterator[np.ndarray]:
        done = 0
        for chunk in self.chunks():
            values = plan.convert(chunk, self.where, done)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                row, *rest = np.argwhere(~np.isfinite(values))[0].tolist()
                count = sum(int((~np.isfinite(_float32(chunk))).sum()) for chunk in self.chunks())
                raise TriptychError(
                    f"{self.where}: expected finite numbers, got {count} NaN or infinite values, the first at "
                    f"{(done + row, *rest)}: fill in or drop these rows"
                )
            yield values
            done += len(chunk)


@dataclass(frozen=True)
class Plan:
    """What has to be done to each chunk of an array."""

    event: tuple[int, ...]
    """Stored event before any resizing."""
    dtype: str
    """Of the values as they are in the file."""
    channels_last: bool
    factor: int
    """255 for values that are only 0 and 1, else 1."""
    size: tuple[int, int] | None
    depth: Depth | None
    """How values of more than eight bits, or floats, become pixels; None for pixels, and for floats that stay floats."""
    table: bool
    """Whether whole numbers become floats: rows of a table that are not bytes."""

    @classmethod
    def of(cls, array: Array, options: Options, given: Depth | None) -> Plan:
        """Decides by shape, dtype and, for floats and small integers, the values.

        Args:
            given: the depth of the set that the array belongs to.
        """
        size, (event, last), whole = options.size, array.event, array.dtype.kind in "bui"
        least, greatest = array.extremes
        depth = array.depth(given)
        table = whole and len(event) == 1 and not 0 <= least <= greatest <= 255
        picture = (whole or depth is not None) and not table
        if picture and len(event) == 2:
            event = (1, *event)
        elif picture and size and event == (size[0] * size[1],):
            event = (1, *size)
        if size and not (picture and len(event) == 3):
            raise TriptychError(
                f"{array.where}: size applies to uint8 pictures, got {array.dtype} rows of shape {event}: omit --size"
            )
        drawing = whole and picture and greatest <= 1 and depth is None
        if drawing and array.dtype.kind != "b":
            options.notice(f"{array.where} holds only 0 and 1: they are stored as 0 and 255")
        factor, size = 255 if drawing else 1, size if size != event[1:] else None
        return cls(event, array.dtype.str, last, factor, size, depth, table)

    def convert(self, chunk: np.ndarray, where: str, start: int) -> np.ndarray:
        """A chunk of the file as stored values; `start` is its first row, for messages."""
        if self.channels_last:
            chunk = chunk.transpose(0, 3, 1, 2)
        if self.depth is None and (chunk.dtype.kind == "f" or self.table):
            return np.ascontiguousarray(_float32(chunk))
        if self.depth is None and chunk.dtype not in (np.uint8, np.bool_) and (outside := (chunk < 0) | (chunk > 255)).any():
            at = np.unravel_index(int(outside.argmax()), chunk.shape)
            raise TriptychError(
                f"{where}: expected whole numbers in 0..255 or 0..65535, got {chunk[at]} in row {start + at[0]}; "
                "scale pictures to uint8, or save other data as float32"
            )
        pixels = shallow(chunk, self.depth) if self.depth else chunk.astype(np.uint8, copy=False) * np.uint8(self.factor)
        pixels = np.ascontiguousarray(pixels).reshape(len(chunk), *self.event)
        return resized(pixels, self.size) if self.size else pixels


def channels_last(event: tuple[int, ...]) -> bool:
    """Whether the last of three axes counts channels: it is the shortest, and of a usual length, or the others are equal.

    >>> channels_last((28, 20, 3)), channels_last((24, 24, 5)), channels_last((3, 24, 24)), channels_last((5, 24, 24))
    (True, True, False, False)
    """
    height, width, channels = event
    return channels < min(height, width) and (channels <= 4 < height or (channels <= 16 and height == width))


def _float32(chunk: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite, and is counted with the rest
        return chunk.astype(np.float32, copy=False)
