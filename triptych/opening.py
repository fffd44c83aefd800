"""The gate through which files are opened: regular files alone, and what goes wrong in reading is one line.

A pipe would be waited for without end, and a device such as /dev/zero, also behind a link, never stops.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from triptych.errors import TriptychError
from triptych.onboard import check_not_on_board

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular(path: str | Path) -> Path:
    """The path, if a regular file is there, or behind a link there.

    Raises:
        TriptychError: for anything else, and where nothing is there or may be looked at.

    >>> regular(os.devnull)
    Traceback (most recent call last):
        ...
    triptych.errors.TriptychError: /dev/null is a device: expected a file
    """
    with understood(path):
        kind = stat.S_IFMT(os.stat(path).st_mode)  # noqa: PTH116  # a path that is text, with a zero in it, too
    if kind != stat.S_IFREG:
        raise TriptychError(f"{path} is {_KINDS.get(kind, 'something else')}: expected a file")
    return Path(path)


def writable(path: Path) -> Path:
    """Where `path` is written: itself, or what a link there means.

    Raises:
        TriptychError: where a device, a pipe or a socket is, which a file would take the place of; and among the models
            that come with the package.
    """
    check_not_on_board(path)
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise TriptychError(f"cannot write {path}: it is a device, a pipe or a socket; give the name of a file")
    return path


@contextlib.contextmanager
def understood(path: str | Path) -> Iterator[None]:
    """Turns what the system says against reading a file into one line: missing, not permitted, a name too long."""
    try:
        yield
    except FileNotFoundError as error:
        raise TriptychError(f"{error.filename or path} does not exist: check the name") from error
    except PermissionError as error:
        raise TriptychError(f"{error.filename or path} may not be read: change its permissions") from error
    except OSError as error:
        raise TriptychError(f"{_short(error.filename or path)} cannot be read: {_reason(error)}; check the name") from error
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise TriptychError(f"{str(path)!r} cannot be read: a name has no zero byte; check the name") from error


def exists(path: str | Path) -> bool:
    """Whether anything is there. False for names that cannot be, which `Path.exists` raises for."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether a regular file is there, or behind a link there; False for names that cannot be."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; False for names that cannot be."""
    return os.path.isdir(path)  # noqa: PTH112


def at_home(path: str | Path) -> Path:
    """The path with a leading ~ as a home folder, where there is one of that name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _short(name: object, most: int = 120) -> str:
    text = str(name)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"
