"""Where decoded rows are stored: in memory if they fit, else in a memory-mapped cache file.

The cache is $TRIPTYCH_CACHE, or ~/.cache/triptych: `<key>/rows` (raw) and `<key>/about.json`. The key is made of what was
read (its content, or path, time and size) and how, so a changed picture or another `size` makes another. Decoded pictures
are kept there too, so that they are decoded once. Beyond `MOST` what was not used for longest is removed; deleting the
folder is always safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from triptych.errors import TriptychError

BUDGET = 2 * 2**30
"""Bytes of stored values that a split may take in memory; a larger one is read from disk as needed."""
MOST = 20 * 2**30
"""Bytes that the cache may take, unless $TRIPTYCH_CACHE_BYTES says otherwise."""
WORTH_KEEPING = 2**20
"""Bytes of decoded pictures from which on they are kept."""
CHUNK = 16 * 2**20
"""Bytes read, converted or written at a time."""
_ENTRY = re.compile(r"[0-9a-f]{32}|unpacked-[0-9a-f]{24}")  # names of what is kept; other folders there are not ours
_ADVICE = "set TRIPTYCH_CACHE to a writable folder with space"
_VERSION = 3  # of the decoding and of the files: raise it when the same file would give other bytes


class Options(NamedTuple):
    """How to read: pictures resized to `size`, up to `budget` bytes in memory, `notice` called with a line for the user;
    `cache`: whether what was decoded may be kept on disk, and taken from there."""

    size: tuple[int, int] | None
    budget: int
    notice: Callable[[str], None]
    cache: bool = True


_keeping: ContextVar[bool] = ContextVar("keeping", default=True)


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Inside, nothing is taken from the cache or put there but what does not fit in memory."""
    token = _keeping.set(False)
    try:
        yield
    finally:
        _keeping.reset(token)


def keeping() -> bool:
    """Whether the cache is in use, for what could also be made anew."""
    return _keeping.get()


def identity(path: Path) -> tuple[str, int, int]:
    """What tells one state of a file from another: name, time of change, bytes."""
    stat = path.stat()
    return str(path.absolute()), stat.st_mtime_ns, stat.st_size


def cache_root() -> Path:
    """The folder of everything that is kept to be faster another time: $TRIPTYCH_CACHE, or ~/.cache/triptych."""
    return Path(os.environ.get("TRIPTYCH_CACHE") or "~/.cache/triptych").expanduser()


def rows_in_chunk(event: tuple[int, ...], dtype: np.dtype | str) -> int:
    """How many rows of this event shape a chunk holds, at least 1."""
    return max(1, CHUNK // max(1, math.prod(event) * np.dtype(dtype).itemsize))


def keep(
    chunks: Iterator[np.ndarray],
    count: int,
    key: Any,
    options: Options,
    about: Callable[[], dict[str, Any]] = dict,
    costly: bool = False,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Chunks (k, *event), together at most `count` rows, as one array in memory or in the cache, and what is known of them.

    Nothing is read of the chunks if an earlier run cached the rows under this key.

    Args:
        about: called when all chunks are read; what it returns is returned, and cached with them.
        costly: rows that fit in memory are cached too, if they are many.

    Raises:
        TriptychError: when the cache folder cannot take what does not fit in memory.
    """
    folder = cache_root() / hashlib.sha256(repr((_VERSION, key)).encode()).hexdigest()[:32]
    if options.cache:
        with contextlib.suppress(OSError, ValueError, KeyError):
            rows, noted = _cached(folder)
            os.utime(folder / "about.json")
            return (rows if rows.nbytes > options.budget else np.array(rows)), noted
    first = next(chunks, np.empty((0,), np.uint8))
    chunks, needed = chain([first], chunks), count * first[:1].nbytes
    if needed > options.budget:
        _cache(folder, chunks, first, needed, about)
        trimmed(folder)
        rows, noted = _cached(folder)
        sizes = f"({rows.nbytes / 2**30:.2f} GiB) are over the budget of {options.budget / 2**30:.2f} GiB in memory"
        options.notice(f"{len(rows):,} rows {sizes}: they are read from {folder}")
        return rows, noted
    held, done = np.empty((count, *first.shape[1:]), first.dtype), 0
    for chunk in chunks:
        held[done : done + len(chunk)] = chunk
        done += len(chunk)
    held, noted = held[:done], about()
    if costly and options.cache and WORTH_KEEPING <= held.nbytes <= most() // 4:
        _keep_if_possible(folder, held, noted, options)
    return held, noted


def most() -> int:
    """Bytes that the cache may take."""
    said = os.environ.get("TRIPTYCH_CACHE_BYTES", "")
    return int(said) if said.isdecimal() else MOST


def _keep_if_possible(folder: Path, rows: np.ndarray, noted: dict[str, Any], options: Options) -> None:
    """Caches the rows; where that fails the user is told, and the rows in memory serve."""
    try:
        _cache(folder, iter([rows]), rows[:1], rows.nbytes, lambda: noted)
        trimmed(folder)
    except (OSError, TriptychError) as error:
        options.notice(f"decoded pictures are not kept for the next time: {error}")


def trimmed(newest: Path) -> None:
    """Removes what kills have left half written, and, but for the newest, what was not used for longest, until the cache
    takes no more than it may."""
    from triptych.folders import sweep

    entries, root = [], cache_root()
    sweep(root, *(folder for folder in root.glob("*") if _ENTRY.fullmatch(folder.name)))
    for folder in root.glob("*"):
        with contextlib.suppress(OSError):  # another process may be at it too
            if _ENTRY.fullmatch(folder.name):
                size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                about = folder / "about.json"  # a kill may have come before it was written
                entries.append(((about if about.exists() else folder).stat().st_mtime, size, folder))
    for folder in least_used(entries, most()):
        if folder != newest:
            shutil.rmtree(folder, ignore_errors=True)


def least_used(entries: Iterable[tuple[float, int, Path]], most: int) -> list[Path]:
    """What to remove of (time of the last use, bytes, path), so that what was used latest takes at most so many bytes.

    >>> least_used([(1.0, 5, Path("old")), (3.0, 5, Path("new")), (2.0, 5, Path("middle"))], most=12)
    [PosixPath('old')]
    """
    total, beyond = 0, []
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > most:
            beyond.append(path)
    return beyond


def _cached(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The rows in a cache folder, mapped, and what was noted of them."""
    about = json.loads((folder / "about.json").read_text())
    return np.memmap(folder / "rows", about["dtype"], "r", shape=tuple(about["shape"])), about["noted"]


def _cache(
    folder: Path, chunks: Iterator[np.ndarray], first: np.ndarray, needed: int, about: Callable[[], dict[str, Any]]
) -> None:
    """Writes the rows, then about.json, without which they do not count, so that a kill leaves no half-written cache."""
    from triptych.storage import write_file  # which imports torch

    def write_rows(path: Path) -> None:
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise OSError(f"{needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free")
        with path.open("wb") as file:
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk).data)

    write_file(folder / "rows", write_rows, _ADVICE)
    shape = ((folder / "rows").stat().st_size // first[0].nbytes, *first.shape[1:])
    noted = json.dumps({"dtype": first.dtype.str, "shape": shape, "noted": about()})
    write_file(folder / "about.json", lambda path: path.write_text(noted), _ADVICE)
