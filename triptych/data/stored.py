"""Where decoded rows are stored: in memory if they fit, else in a memory-mapped cache file.

The cache is $TRIPTYCH_CACHE, or ~/.cache/triptych: `<key>/rows.npy` and `<key>/about.json`. The key is made of what was read
(path, time, size) and how, so a changed picture or another `size` makes another file. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from triptych.errors import TriptychError

BUDGET = 2 * 2**30
"""Bytes of stored values that a split may take in memory; a larger one is read from disk as needed."""
CHUNK = 16 * 2**20
"""Bytes read, converted or written at a time."""
_VERSION = 1  # of the decoding: raise it when the same file would give other bytes


class Options(NamedTuple):
    """How to read: pictures resized to `size`, up to `budget` bytes in memory, `notice` called with a line for the user."""

    size: tuple[int, int] | None
    budget: int
    notice: Callable[[str], None]


def identity(path: Path) -> tuple[str, int, int]:
    """What tells one state of a file from another: name, time of change, bytes."""
    stat = path.stat()
    return str(path.absolute()), stat.st_mtime_ns, stat.st_size


def rows_in_chunk(event: tuple[int, ...], dtype: np.dtype | str) -> int:
    """How many rows of this event shape a chunk holds, at least 1."""
    return max(1, CHUNK // max(1, math.prod(event) * np.dtype(dtype).itemsize))


def find_cached(key: Any, budget: int) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The rows that an earlier run cached under this key, and what it noted about them; None without any."""
    folder = _folder(key)
    try:
        about = json.loads((folder / "about.json").read_text())
        rows = _mapped(folder)
    except (OSError, ValueError):
        return None
    return (rows if rows.nbytes > budget else np.array(rows)), about


def store(
    chunks: Iterator[np.ndarray], count: int, key: Any, options: Options, about: Callable[[], dict[str, Any]] = dict
) -> np.ndarray:
    """Chunks (k, *event), together at most `count` rows, as one array in memory or in the cache.

    Args:
        about: called when all chunks are read; what it returns is cached with them.

    Raises:
        TriptychError: when the cache folder cannot take them.
    """
    first = next(chunks, None)
    if first is None:
        return np.empty((0,), np.uint8)
    chunks = chain([first], chunks)
    if count * first[0].nbytes > options.budget:
        folder = _folder(key)
        _cache(chunks, (count, *first.shape[1:]), first.dtype, folder, about)
        rows = _mapped(folder)
        options.notice(
            f"{len(rows):,} rows ({rows.nbytes / 2**30:.2f} GiB) are over the budget of "
            f"{options.budget / 2**30:.2f} GiB in memory: they are read from {folder}"
        )
        return rows
    rows = np.empty((count, *first.shape[1:]), first.dtype)
    done = 0
    for chunk in chunks:
        rows[done : done + len(chunk)] = chunk
        done += len(chunk)
    return rows if done == count else rows[:done].copy()


def _folder(key: Any) -> Path:
    root = Path(os.environ.get("TRIPTYCH_CACHE") or "~/.cache/triptych").expanduser()
    return root / hashlib.sha256(repr((_VERSION, key)).encode()).hexdigest()[:32]


def _mapped(folder: Path) -> np.ndarray:
    return np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)


def _cache(
    chunks: Iterator[np.ndarray], shape: tuple[int, ...], dtype: np.dtype, folder: Path, about: Callable[[], dict[str, Any]]
) -> None:
    """Writes to a temporary folder and renames it, so that a kill at any moment leaves no half-written cache."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        needed, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(folder.parent).free
        if needed > free:
            raise OSError(f"{needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free")
        temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        with (temporary / "rows.npy").open("wb") as file:
            _write_npy(file, chunks, shape, dtype)
        (temporary / "about.json").write_text(json.dumps(about()))
        _publish(temporary, folder)
    except OSError as error:
        raise TriptychError(
            f"cannot cache decoded data in {folder.parent} ({error}): set TRIPTYCH_CACHE to a writable folder with space"
        ) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_npy(file: BinaryIO, chunks: Iterator[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Rows as npy; the header's count is corrected at the end (numpy pads headers so that they can grow)."""

    def write_header(n: int) -> None:
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n, *shape[1:])}
        np.lib.format.write_array_header_1_0(file, described)

    write_header(shape[0])
    start, done = file.tell(), 0
    for chunk in chunks:
        file.write(np.ascontiguousarray(chunk).data)
        done += len(chunk)
    file.seek(0)
    write_header(done)
    assert file.tell() == start
    file.flush()
    os.fsync(file.fileno())


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:  # another process was first, or an unreadable cache is in the way
        try:
            json.loads((folder / "about.json").read_text())
            _mapped(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
