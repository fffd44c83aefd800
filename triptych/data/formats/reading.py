"""What the readers of files share: errors of broken files in one line, and rows read a bounded number at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from triptych.data.pictures import one_line
from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError

DEFLATE = 1032
"""No gzip or zip stream expands to more than this many times its length."""


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turns what broken files raise, which is nearly anything, into one line that names the file."""
    try:
        yield
    except TriptychError:
        raise
    except Exception as error:
        raise TriptychError(
            f"{path}: expected a complete {what}, but this is not one ({one_line(error)}): copy or save it again"
        ) from error


def refuse_short(where: str, shape: tuple[int, ...], dtype: np.dtype, most: int) -> None:
    """Raises when the file, which can hold `most` bytes of data, is too short for what its header says."""
    expected = math.prod(shape) * dtype.itemsize
    if expected > most:
        raise TriptychError(
            f"{where} is cut short: expected {expected:,} bytes of data for shape {shape}, got at most "
            f"{most:,}; copy or download it again"
        )


def stream(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, where: str) -> Iterator[np.ndarray]:
    """Rows from a stream of bytes, in native byte order, a bounded number at a time."""
    step, row = rows_in_chunk(shape[1:], dtype), math.prod(shape[1:]) * dtype.itemsize
    for start in range(0, shape[0], step):
        wanted = row * min(step, shape[0] - start)
        content = file.read(wanted)
        if len(content) < wanted:
            refuse_short(where, shape, dtype, start * row + len(content))
        yield np.frombuffer(content, dtype).reshape(-1, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)
