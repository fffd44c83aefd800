"""Where rows go once they are read: into memory when they fit, else into a memory-mapped file that is kept.

The kept files lie in $TRIPTYCH_CACHE, or ~/.cache/triptych: `<key>/rows.npy` and `<key>/about.json`. The key is made of
what was read (path, time, size) and how, so a changed picture or another `size` makes another file. Deleting the folder
is always safe.
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
"""Bytes of stored values that a split may take in memory; past this it is read from disk as it is needed."""
CHUNK = 16 * 2**20
"""Bytes read, converted or written at a time."""
_VERSION = 1  # of the decoding: raise it when the same file would give other bytes


class Reading(NamedTuple):
    """How to read: what every reader is told."""

    size: tuple[int, int] | None
    budget: int
    notice: Callable[[str], None]


def cache_folder() -> Path:
    """Where decoded sets are kept."""
    return Path(os.environ.get("TRIPTYCH_CACHE") or "~/.cache/triptych").expanduser()


def identity(path: Path) -> tuple[str, int, int]:
    """What tells one state of a file from another: name, time of change, bytes."""
    stat = path.stat()
    return str(path.absolute()), stat.st_mtime_ns, stat.st_size


def rows_in(event: tuple[int, ...], dtype: np.dtype | str) -> int:
    """How many rows a chunk holds."""
    return max(1, CHUNK // max(1, math.prod(event) * np.dtype(dtype).itemsize))


def kept(key: Any, budget: int) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Rows that an earlier run has kept under this key, and what it noted about them."""
    folder = _folder(key)
    try:
        about = json.loads((folder / "about.json").read_text())
        rows = np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return (rows if rows.nbytes > budget else np.array(rows)), about


def gather(
    chunks: Iterator[np.ndarray], count: int, key: Any, reading: Reading, about: Callable[[], dict[str, Any]] = dict
) -> np.ndarray:
    """Put chunks (k, *event), together at most `count` rows, in memory or in a kept file; `about` is asked at the end.

    Raises TriptychError when the cache folder cannot take them.
    """
    first = next(chunks, None)
    if first is None:
        return np.empty((0,), np.uint8)
    chunks = chain([first], chunks)
    if count * first[0].nbytes > reading.budget:
        return _keep(chunks, first.dtype, first.shape[1:], count, key, reading, about)
    rows = np.empty((count, *first.shape[1:]), first.dtype)
    done = 0
    for chunk in chunks:
        rows[done : done + len(chunk)] = chunk
        done += len(chunk)
    return rows if done == count else rows[:done].copy()


def _folder(key: Any) -> Path:
    return cache_folder() / hashlib.sha256(repr((_VERSION, key)).encode()).hexdigest()[:32]


def _keep(
    chunks: Iterator[np.ndarray],
    dtype: np.dtype,
    event: tuple[int, ...],
    count: int,
    key: Any,
    reading: Reading,
    about: Callable[[], dict[str, Any]],
) -> np.ndarray:
    """Write to a temporary folder and rename it, so that a kill at any moment leaves no half-written set."""
    folder = _folder(key)
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _room(folder.parent, count * math.prod(event) * dtype.itemsize)
        temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        with (temporary / "rows.npy").open("wb") as file:
            done = _write(file, chunks, dtype, event, count)
        (temporary / "about.json").write_text(json.dumps(about()))
        _publish(temporary, folder)
    except OSError as error:
        raise TriptychError(
            f"cannot keep decoded data in {folder.parent} ({error}); set TRIPTYCH_CACHE to a folder "
            "that can be written and has room"
        ) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    rows = np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)
    reading.notice(
        f"{done:,} rows ({rows.nbytes / 2**30:.2f} GiB) are over the budget of "
        f"{reading.budget / 2**30:.2f} GiB in memory: they are read from {folder}"
    )
    return rows


def _room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free")


def _write(file: BinaryIO, chunks: Iterator[np.ndarray], dtype: np.dtype, event: tuple[int, ...], count: int) -> int:
    """Rows as npy; the header's count is put right at the end (numpy pads headers so that they can grow)."""

    def header(n: int) -> None:
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n, *event)}
        np.lib.format.write_array_header_1_0(file, described)

    header(count)
    start, done = file.tell(), 0
    for chunk in chunks:
        file.write(np.ascontiguousarray(chunk).data)
        done += len(chunk)
    file.seek(0)
    header(done)
    assert file.tell() == start
    file.flush()
    os.fsync(file.fileno())
    return done


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:  # another process was first, or an unreadable one is in the way
        if _is_whole(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)


def _is_whole(folder: Path) -> bool:
    """Whether both files of a kept set are there and agree with their lengths."""
    try:
        json.loads((folder / "about.json").read_text())
        np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    return True
