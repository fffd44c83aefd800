"""Folders that are replaced as a whole, and the one process that may write a run. Nothing here imports torch.

No system renames a folder over another. So a successor is written beside it, complete and flushed; then

    NAME             ->  .NAME.before    the old one steps aside
    .NAME.triptych-PID-…  ->  NAME       the new one takes its place
    .NAME.before     is removed

A kill between the first two leaves `.NAME.before`, whole, and no NAME: whatever asks for NAME next undoes the first
(`recover`). After the second the replacement stands, and what is left of the old one is removed by the next writer.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

from triptych.errors import TriptychError
from triptych.onboard import check_not_on_board
from triptych.opening import exists, is_folder

LOCK = ".lock"
_BEFORE = ".before"
_PATIENCE = 2.0  # seconds in which a replacement that is under way is over


_LONGEST = 200  # bytes of a name that its temporary name repeats, for file systems allow 255
_TEMPORARY = re.compile(r"\..+\.(?:triptych-(\d+)-[0-9a-f]{8}|tmp(\d+))", re.DOTALL)  # the second: of earlier versions


def temporary(path: Path) -> Path:
    """A name beside `path` that says whose it is: this process's, and of this write alone."""
    return path.with_name(f"{_begins(path)}triptych-{os.getpid()}-{secrets.token_hex(4)}")


def _begins(path: Path) -> str:
    """What the temporary names of `path` begin with."""
    return f".{os.fsdecode(os.fsencode(path.name)[:_LONGEST])}."


def writer_of(name: str) -> int | None:
    """The process that a name of `temporary` is of; None for other names.

    >>> writer_of(".recipe.json.triptych-77-0123abcd"), writer_of(".thesis.tmp")
    (77, None)
    """
    found = _TEMPORARY.fullmatch(name)
    return None if found is None else int(found[1] or found[2])


def aside(path: Path) -> Path:
    """The name of a folder while its successor takes its place."""
    return path.with_name(f".{path.name}{_BEFORE}")


def original(path: Path) -> Path | None:
    """The folder that a name of `aside` stands for; None for other names.

    >>> original(Path("runs/.faces.before"))
    PosixPath('runs/faces')
    """
    name = path.name
    known = name.startswith(".") and name.endswith(_BEFORE) and len(name) > len(_BEFORE) + 1
    return path.with_name(name[1 : -len(_BEFORE)]) if known else None


writing: set[Path] = set()
"""Temporary names of this process that are in use."""


def sweep(*places: Path) -> None:
    """Removes what kills left half written in these folders: names that `temporary` gave, of this user, of processes that
    have ended; what another process has claimed, and everything else, stays."""
    for place in places:
        _sweep(place.glob(".*"))


def sweep_beside(path: Path) -> None:
    """The same of what was to become `path` alone: a file or a folder, or one that it replaces."""
    for place in (path, aside(path)):
        _sweep(place.parent.glob(f"{glob.escape(_begins(place))}*"))


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _sweep(names: Iterator[Path]) -> None:
    for left in names:
        if _is_left(left):
            with contextlib.suppress(OSError):  # what may not be removed does not keep anybody from writing
                remove(left)


def _is_left(path: Path) -> bool:
    """Whether a write of this user that was killed has left it."""
    writer = writer_of(path.name)
    if writer is None or path in writing or (_runs(writer) and writer != os.getpid()):
        return False
    try:
        status = path.lstat()
    except FileNotFoundError:  # another process was faster
        return False
    if status.st_uid != os.getuid():
        return False
    return stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and not _is_written(path))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is there, and somebody else's
        return True
    return True


def replace(successor: Path, path: Path) -> None:
    """Renames a folder, complete and flushed, to `path`; what is there stays until then, and is removed after."""
    finish(path)
    old = aside(path)
    if path.is_dir():
        path.rename(old)
    try:
        successor.rename(path)
    except OSError:
        if old.is_dir():
            old.rename(path)
        raise
    finish(path)


def finish(path: Path) -> None:
    """Undoes a replacement of `path` that was left half done, or removes what it replaced: for whoever may write it."""
    old = aside(path)
    if not old.is_dir():
        return
    if not path.exists():
        old.rename(path)
        return
    discard(old)


def discard(path: Path) -> None:
    """Removes a folder that is whole or not there at any moment: half removed it must not be taken for a whole one."""
    gone = temporary(path)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def recover(path: Path) -> Path:
    """`path` itself, put back where a replacement was left half done: for whoever reads it.

    Raises:
        TriptychError: where it may not be renamed here.
    """
    if not path.name:
        return path
    old, end = aside(path), time.monotonic() + _PATIENCE
    while not exists(path) and is_folder(old):
        if not _is_written(old) or time.monotonic() > end:
            _put_back(old, path)
        time.sleep(0.01)
    return path


def _put_back(old: Path, path: Path) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):  # another reader was faster
            old.rename(path)
    except OSError as error:
        if not path.exists():
            raise TriptychError(f"{path} was left half replaced ({error.strerror}): rename {old} to {path}") from error


def _is_written(folder: Path) -> bool:
    """Whether a process has claimed the folder: it is replacing it just now."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with _lock(folder):
            return False
    except Timeout:
        return True
    except OSError:  # on a read-only disk nobody writes
        return False


def check_new(folder: Path, overwrite: bool) -> None:
    """Raises a `TriptychError` for a folder that a new run must not be put into."""
    if folder.is_file():
        raise TriptychError(f"{folder} is a file: give --out the name of a folder")
    recover(folder)
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    # a claim, or a write that was cut off, means nothing by itself
    held = sorted(name for name in names if name != LOCK and writer_of(name) is None)
    if not held:
        return
    if "recipe.json" not in held:
        shown = f"{', '.join(held[:2])}{', …' * (len(held) > 2)}"
        raise TriptychError(
            f"{folder} holds other things than a run ({shown}), which is not written over: give --out a new folder, such as "
            f"{folder.with_name(folder.name + '-run')}; data are named by --data"
        )
    if not overwrite:
        raise TriptychError(f"{folder} exists already: --resume {folder} goes on with it, --overwrite replaces it")


class Claim:
    """The right to write a run, held until `release`, or until the process ends, however it does.

    Attributes:
        busy: whether a training uses it; a claim that none uses passes on to the next who asks for it in this process.
    """

    def __init__(self, lock: FileLock) -> None:
        self._lock, self.busy = lock, False

    @property
    def held(self) -> bool:
        """Whether it has neither been released nor passed on."""
        return self._lock.is_locked

    def release(self) -> None:
        """Lets others write the run."""
        self._lock.release(force=True)


_CLAIMS: WeakValueDictionary[Path, Claim] = WeakValueDictionary()
_GUARD = threading.Lock()


def claim(folder: Path) -> Claim:
    """The right to write the run in a folder, which must exist.

    Raises:
        TriptychError: where another process has it, or a training in this one; and for a model that comes with the package.
    """
    check_not_on_board(folder)
    place = folder.resolve()
    with _GUARD:
        earlier = _CLAIMS.get(place)
        if earlier is not None and earlier.held:
            if earlier.busy:
                raise TriptychError(f"{folder} is being trained by this process: wait until it is done")
            earlier.release()
        lock = _lock(place)
        try:
            lock.acquire()
        except Timeout:
            raise TriptychError(
                f"{folder} is being written by another process: wait until it is done, or give another folder"
            ) from None
        except OSError as error:
            raise TriptychError(f"cannot write {folder}: {error.strerror}; choose another place") from error
        found = _CLAIMS[place] = Claim(lock)
        return found


def moved(right: Claim, folder: Path) -> None:
    """Notes that a folder that is claimed was renamed to `folder`."""
    with _GUARD:
        _CLAIMS[folder.resolve()] = right


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The right to write a run, inside."""
    right = claim(folder)
    right.busy = True
    try:
        yield
    finally:
        right.release()


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / LOCK, blocking=False, thread_local=False)
