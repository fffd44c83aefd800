"""Arrays that hold pictures or other events already: checked, converted to uint8 or float32, resized.

uint8 and bool of rank 3 are grey pictures (N, H, W), of rank 4 pictures (N, C, H, W), or (N, H, W, C) when the last axis,
and not the second, has length 1 to 4; of rank 2 events (N, D), or grey pictures where `size` is given and H·W = D. Floats
of rank 2 to 4 are events (N, *event).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triptych.data.attributes import RawColumn
from triptych.data.pictures import resized
from triptych.data.splits import Skipped, Source
from triptych.data.stored import Options, keep, rows_in_chunk
from triptych.errors import TriptychError


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

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.shape[0]

    def rows(self, wanted: np.ndarray, options: Options, grey: bool) -> tuple[Source, np.ndarray, dict[int, Skipped]]:
        """The stored values, all of them (reading is cheap, and the caller chooses); otherwise as `Album.rows`."""
        plan, data = Plan.of(self, options), self.mapped
        as_is = not plan.channels_last and plan.factor == 1 and plan.size is None and plan.dtype in ("|u1", "<f4")
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

    @classmethod
    def of(cls, array: Array, options: Options) -> Plan:
        """Decides by shape, dtype and, for small integers, the values."""
        picture, size, event = array.dtype.kind in "bui", options.size, array.shape[1:]
        channels_last = picture and len(event) == 3 and event[2] <= 4 < event[0]
        if channels_last:
            event = (event[2], *event[:2])
        elif picture and len(event) == 2:
            event = (1, *event)
        elif picture and size and event == (size[0] * size[1],):
            event = (1, *size)
        if size and not (picture and len(event) == 3):
            raise TriptychError(
                f"{array.where}: size applies to uint8 pictures, got {array.dtype} rows of shape {event}: omit --size"
            )
        drawing = picture and all(chunk.max() <= 1 for chunk in array.chunks())  # the first chunk usually tells
        if drawing and array.dtype.kind != "b":
            options.notice(f"{array.where} holds only 0 and 1: they are stored as 0 and 255")
        return cls(event, array.dtype.str, channels_last, 255 if drawing else 1, size if size != event[1:] else None)

    def convert(self, chunk: np.ndarray, where: str, start: int) -> np.ndarray:
        """A chunk of the file as stored values; `start` is its first row, for messages."""
        if chunk.dtype.kind == "f":
            return _float32(chunk)
        if chunk.dtype not in (np.uint8, np.bool_) and (outside := (chunk < 0) | (chunk > 255)).any():
            at = np.unravel_index(int(outside.argmax()), chunk.shape)
            raise TriptychError(
                f"{where}: expected whole numbers in 0..255, got {chunk[at]} in row {start + at[0]}; "
                "scale pictures to uint8, or save other data as float32"
            )
        pixels = chunk.astype(np.uint8, copy=False) * np.uint8(self.factor)
        if self.channels_last:
            pixels = pixels.transpose(0, 3, 1, 2)
        pixels = np.ascontiguousarray(pixels).reshape(len(chunk), *self.event)
        return resized(pixels, self.size) if self.size else pixels


def _float32(chunk: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite, and is counted with the rest
        return chunk.astype(np.float32, copy=False)
