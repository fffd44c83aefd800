"""Archives: unpacked once into the cache, and read as a folder from then on.

Only regular files inside are taken, by names that stay inside; their number and sizes are bounded, for an archive may
promise more than any disk holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from triptych.data.formats.reading import DEFLATE, readable
from triptych.data.stored import cache_root, identity, trimmed
from triptych.errors import TriptychError

MOST_FILES = 2_000_000
_ADVICE = "unpack it yourself and give its folder"


def unpacked(path: Path) -> Path:
    """The folder in the cache that holds an archive's files.

    Raises:
        TriptychError: for what is not an archive, holds too much, or does not fit on the disk.
    """
    from triptych.storage import write_folder

    folder = cache_root() / ("unpacked-" + hashlib.sha256(repr(identity(path)).encode()).hexdigest()[:24])
    if not folder.exists():
        with readable(path, "zip or tar archive"), write_folder(folder) as fresh:
            _unpack(path, fresh)
            (fresh / "about.json").write_text("{}")
        trimmed(folder)
    with contextlib.suppress(OSError):
        os.utime(folder / "about.json")  # the cache keeps what was used last
    return folder


def _unpack(path: Path, folder: Path) -> None:
    free, taken = shutil.disk_usage(folder).free, 0
    most = min(free // 2, path.stat().st_size * DEFLATE)
    for count, (name, size, source) in enumerate(_members(path), 1):
        taken += size
        if taken > most or count > MOST_FILES:
            raise TriptychError(
                f"{path} holds over {taken / 2**30:.1f} GiB in {count:,} files, of {most / 2**30:.1f} GiB that may be "
                f"unpacked: {_ADVICE}"
            )
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]:
            raise TriptychError(f"{path}: {name!r} would lie outside of the archive's folder: {_ADVICE} if you trust it")
        target = folder.joinpath("files", *parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            _copy(source, file, size, path)


def _copy(source: IO[bytes], file: IO[bytes], size: int, path: Path) -> None:
    """As many bytes as the archive said, and no more."""
    left = size
    while left and (chunk := source.read(min(left, 2**20))):
        file.write(chunk)
        left -= len(chunk)
    if left or source.read(1):
        raise TriptychError(f"{path} does not hold what its list says: copy or download it again")


def _members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each regular file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                kind = stat.S_IFMT(item.external_attr >> 16)
                if not item.is_dir() and kind in (0, stat.S_IFREG):
                    with archive.open(item) as source:
                        yield item.filename, item.file_size, source
        return
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            inside = archive.extractfile(member) if member.isreg() else None
            if inside is not None:
                yield member.name, member.size, inside
