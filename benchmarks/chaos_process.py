"""One command in a process of its own, watched: how it ended, what it said, how much memory it took, where it wrote.

Starting Python with torch takes seconds, and a command a tenth of one. So a parent imports everything once, with one thread
and before any parallel operation, and each command runs in a fork of it, in `triptych.cli.main` as a terminal would call it.
An audit hook (PEP 578) sees every file that Python opens for writing, renames or removes, whichever library asked for it;
with os.fsync, which has no audit event, these are the write events at which a process can be killed. It also sees pickles
being loaded, programs started and sockets opened, none of which a hostile file may bring about.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

COMPUTING = 60.0  # seconds of a processor after which a command hangs: the slowest of these takes a few
WAITING = 15.0  # seconds in which it neither computes nor wants to, after which it hangs too; a busy machine does not count
MEMORY = 2**30  # bytes beyond those of the parent that a command may come to hold
_ADDRESSES = 6 * 2**30  # bytes of address space beyond the parent's, so that the machine survives what does not hold
_LARGEST_FILE = 2**31
_CRASHED = 99
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = ("pickle.find_class", "os.system", "subprocess.Popen", "os.posix_spawn", "socket.connect")

Action = Callable[[], "int | None"]


class Fault(NamedTuple):
    """What is wrong, as a column of the table, and in words."""

    kind: str
    detail: str


class Case(NamedTuple):
    """A case by its name, which says what it is; `run` plays it in a folder and returns what was wrong."""

    name: str
    run: Callable[[Path], list[Fault]]


KINDS = ("lost", "unequal", "hung", "traced back", "not one line", "accepted", "over memory", "outside")


@dataclass(frozen=True)
class Watch:
    """How a command is disturbed and limited.

    Attributes:
        kill_at: the write event before which it is killed, counted from 1; half: with the file that is being flushed cut
            to its first half, as if the kill had come while it was written.
        kill_after, interrupt_after: seconds until SIGKILL, SIGINT.
        stdout: file, closed, pipe (which nobody reads), full (/dev/full) or ascii.
    """

    kill_at: int | None = None
    half: bool = False
    kill_after: float | None = None
    interrupt_after: float | None = None
    stdout: str = "file"


class Ended(NamedTuple):
    """How a command ended: exit code (negative: a signal), what it said, bytes beyond the parent's, the events seen."""

    code: int
    hung: bool
    out: str
    err: str
    memory: int
    seconds: float
    events: tuple[str, ...]
    outside: tuple[str, ...]


def command(words: Sequence[str]) -> Action:
    """The command line with these words."""

    def run() -> int:
        from triptych.cli import main

        return main(list(words))

    return run


def run(action: Action, place: Path, watch: Watch = Watch()) -> Ended:
    """The action in a fork, in the folder `place`; its logs and temporary files lie beside it."""
    logs = place.with_name(place.name + ".logs")
    logs.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    (logs / "events").write_bytes(b"")  # a kill may come before the fork has made it
    held, start = _pages(1), time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(action, place, logs, watch)
    hung = _wait(pid, watch)
    _, status, used = os.wait4(pid, 0)
    seen = [line.partition("\t") for line in (logs / "events").read_text(errors="replace").splitlines()]
    return Ended(
        os.waitstatus_to_exitcode(status), hung, _text(logs / "out"), _text(logs / "err"),
        max(0, used.ru_maxrss * 1024 - held), time.monotonic() - start,
        *(tuple(what for where, _, what in seen if where == kind) for kind in ("event", "outside")),
    )  # fmt: skip


def _wait(pid: int, watch: Watch) -> bool:
    """Sends what the watch asks for; returns whether the process had to be ended."""
    ended = select.poll()
    handle = os.pidfd_open(pid)
    ended.register(handle, select.POLLIN)
    try:
        for number, after in ((signal.SIGKILL, watch.kill_after), (signal.SIGINT, watch.interrupt_after)):
            if after is not None and not ended.poll(1000 * after):
                os.kill(pid, number)
        used, since = -1.0, time.monotonic()
        while not ended.poll(1000):
            state, now = _progress(pid)
            if state != "S" or now > used:
                used, since = now, time.monotonic()
            if now > COMPUTING or time.monotonic() - since > WAITING:
                os.kill(pid, signal.SIGKILL)
                return True
        return False
    finally:
        os.close(handle)


def _progress(pid: int) -> tuple[str, float]:
    """A process's state as the system has it (R: wants to compute, S: waits), and the seconds that it has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-20_000:] if path.exists() else ""


def _pages(column: int) -> int:
    """Of this process, in bytes: 0 addresses, 1 resident."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()


def _child(action: Action, place: Path, logs: Path, watch: Watch) -> None:
    """Runs the action as a fresh interpreter would, and ends the process."""
    code = _CRASHED
    try:
        os.chdir(place)
        _limit(logs)
        events = os.open(logs / "events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        _redirect(logs, watch.stdout)
        _listen(events, (str(place.resolve()), str(logs.resolve()), os.environ["TRIPTYCH_CACHE"]), watch)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = action() or 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        code = _flushed(code)
        sys.stderr.flush()
    os._exit(code)


def _flushed(code: int) -> int:
    """What the interpreter does at its end: a stdout that cannot be flushed is said on stderr, and the code is 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        traceback.print_exc()
        return 120
    return code


def _limit(logs: Path) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: none outlives the benchmark
    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + _ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["TMPDIR"] = tempfile.tempdir = str(logs)
    sys.dont_write_bytecode = True


def _redirect(logs: Path, stdout: str) -> None:
    """Standard streams of the command; a terminal's are never left to it."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(logs / "err", flags), 2)
    if stdout == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full" if stdout == "full" else logs / "out", flags)
    os.dup2(writing, 1)
    encoding = "ascii" if stdout == "ascii" else "utf-8"
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding, "strict")  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(open(2, "wb", 0, closefd=False), encoding, "backslashreplace", write_through=True)  # noqa: SIM115
    if stdout == "closed":
        os.close(1)
        sys.stdout = None  # type: ignore[assignment]


def _listen(events: int, inside: tuple[str, ...], watch: Watch) -> None:
    """Writes every write event to the descriptor, and kills the process at the one that is asked for."""
    count = 0

    def note(name: str, real: str, flushed: bool = False) -> None:
        """Counts an event in the place, and stops one outside: a device that is renamed over would be gone for all."""
        nonlocal count
        if real == inside[0] or real.startswith(inside[0] + os.sep):
            count += 1
            os.write(events, f"event\t{name} {real.removeprefix(inside[0])}\n".encode(errors="replace"))
            if count == watch.kill_at:
                if watch.half and flushed and Path(real).is_file():
                    os.truncate(real, Path(real).stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        elif not real.startswith(inside[1:]) and not (name == "open" and Path(real).exists() and not Path(real).is_file()):
            os.write(events, f"outside\t{name} {real}\n".encode(errors="replace"))
            raise PermissionError(errno.EPERM, "the benchmark allows no write outside of the case's folder", real)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN:
            os.write(events, f"outside\t{event} {arguments!r:.200}\n".encode(errors="replace"))
        for path in _written(event, arguments):
            note(event, path)

    fsync = os.fsync

    def flush(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        note("fsync", str(Path(f"/proc/self/fd/{number}").readlink()), flushed=True)
        fsync(descriptor)

    os.fsync = flush
    sys.addaudithook(hook)


def _written(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The paths that an audit event is about to change, links on the way to them followed."""
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(path, str | bytes) and isinstance(flags, int) and flags & _WRITES
        return [os.path.realpath(os.fsdecode(path))] if writes else []
    if event == "os.rename":
        return [_under(arguments[1], arguments[3])]
    if event in ("os.remove", "os.rmdir"):
        return [_under(arguments[0], arguments[1])]
    if event == "os.mkdir":
        return [_under(arguments[0], arguments[2])]
    return [_under(arguments[1], -1)] if event in ("os.link", "os.symlink") else []


def _under(path: Any, folder: int) -> str:
    """The path of a name that is relative to an open folder; its last part is not followed, which is what is changed."""
    named = Path(os.fsdecode(path))
    if folder >= 0:
        named = Path(f"/proc/self/fd/{folder}").readlink() / named  # which an absolute name replaces
    return str(Path(os.path.realpath(named.parent)) / named.name)


def faults_of(ended: Ended, what: str, codes: Sequence[int] = (0, 2)) -> list[Fault]:
    """What is wrong with how a command ended, whose exit code should be one of `codes`."""
    said, found = ended.err.strip().splitlines(), []
    tail = f"{what}: exit {ended.code}: {' / '.join(said[-3:])[-400:]}"
    if ended.hung:
        found.append(Fault("hung", tail))
    elif (
        "Traceback (most recent call last)" in ended.err
        or "Exception ignored in" in ended.err
        or ended.code not in (*codes, 2)
    ):
        found.append(Fault("traced back", tail))
    elif ended.code == 2 and (not said or not said[-1].startswith("triptych: ") or ended.err.count("\ntriptych: ") > 1):
        found.append(Fault("not one line", tail))
    elif ended.code == 2 and 2 not in codes:
        found.append(Fault("lost", tail))
    if ended.memory > MEMORY:
        found.append(Fault("over memory", f"{what}: {ended.memory / 2**20:,.0f} MiB more"))
    if ended.outside:
        found.append(Fault("outside", f"{what}: {'; '.join(ended.outside[:3])}"))
    return found


def parallel(jobs: Sequence[Callable[[], object]], workers: int) -> None:
    """Calls all, in so many forks of this process."""
    pids = []
    for worker in range(workers):
        if (pid := os.fork()) == 0:
            failed = False
            for job in jobs[worker::workers]:
                try:
                    job()
                except BaseException:
                    traceback.print_exc()
                    failed = True
            os._exit(failed)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    if any(codes):
        raise RuntimeError("the benchmark itself failed, see above; started again it goes on where it was")


def preload(commands: Sequence[Sequence[str]], place: Path) -> None:
    """Imports here all of the package, and what else the commands import, each run once in a fork that tells."""
    import triptych

    for module in pkgutil.walk_packages(triptych.__path__, "triptych."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    from triptych.cli import parse
    from triptych.cli.options import train_options
    from triptych.families import FAMILIES

    for family in FAMILIES.values():  # tyro reads the sources of what it parses, once
        parse(train_options(family), [], "train")
    for words in commands:
        listed = place / "modules.json"

        def telling(words: Sequence[str] = words, listed: Path = listed) -> int:
            code = command(words)()
            listed.write_text(json.dumps(sorted(sys.modules)))
            return code or 0

        ended = run(telling, place)
        if ended.code:
            raise RuntimeError(f"{' '.join(words)} should work, but exits {ended.code}: {ended.err[-2000:]}")
        for name in json.loads(listed.read_text()):
            if name not in sys.modules and not name.startswith("__m"):
                with contextlib.suppress(ImportError, AttributeError):
                    importlib.import_module(name)
