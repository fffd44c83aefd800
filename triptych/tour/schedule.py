"""The parts of a tour, done one after another, or several at once by processes of one thread each.

A part is done when its results are kept; a tour that was stopped, however it was, goes on with the parts that are not.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Literal

from filelock import FileLock

from triptych import progress
from triptych.errors import TriptychError
from triptych.tour.place import Place
from triptych.tour.settings import measured

_PATIENCE = 120.0  # seconds that a part waits for a process of a tour that was killed, which saves what it has
_ENDED = "an idle process of the tour has ended: the same command goes on with it"
_TRAINING = "training"  # the work whose steps say how far a part is


@dataclass(frozen=True)
class Part:
    """Something that a tour does once."""

    name: str
    """Of its results."""
    title: str
    """What is done, for a person."""
    work: Callable[[Place], None]
    """Does it, and keeps the results."""
    cost: float
    """CPU seconds on the machine of the record, `touring.REFERENCE`."""
    needs: tuple[str, ...] = ()
    """Parts that come before."""
    scales: Literal["steps", "examples", ""] = ""
    """What it has less of on a slower machine."""

    def costs(self, share: float) -> float:
        """CPU seconds where trainings have a share of their steps."""
        return self.cost * {"steps": share, "examples": measured(share), "": 1.0}[self.scales]


def do(place: Place, part: Part) -> None:
    """The part, unless it is done; waits for another process that is at it."""
    parts = place.folder / "parts"
    parts.mkdir(exist_ok=True)
    with FileLock(parts / f".{part.name}.lock", timeout=_PATIENCE):
        if not place.is_done(part.name):
            part.work(place)


def left(place: Place, parts: Sequence[Part]) -> list[Part]:
    """The parts that are not done."""
    return [part for part in parts if not place.is_done(part.name)]


def run(place: Place, parts: Sequence[Part], jobs: int) -> None:
    """Does what is left, `jobs` parts at once; a listener (`triptych.progress`) sees the whole and each part.

    Raises:
        TriptychError: where a part fails; the others' results are kept.
    """
    waiting = left(place, parts)
    whole = sum(part.cost for part in parts) or 1.0
    done = whole - sum(part.cost for part in waiting)

    def percent(cost: float) -> int:
        return round(100 * cost / whole)

    with progress.begun("the tour, in per cent", 100, percent(done)) as task:
        if jobs == 1:
            for part in waiting:
                do(place, part)
                done += part.cost
                task.update(percent(done))
        else:
            with _Crew(place, waiting, jobs) as crew:
                for share in crew.work():
                    task.update(percent(done + share), crew.said)


class _Crew:
    """Processes that do parts, and what they say of them."""

    def __init__(self, place: Place, waiting: Sequence[Part], jobs: int):
        self.place, self.waiting = place, list(waiting)
        self.heard: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self.workers = [_start(place) for _ in range(min(jobs, len(self.waiting)))]
        self.busy: dict[int, Part] = {}
        self.shares: dict[str, float] = {}
        self.tasks: dict[int, tuple[ExitStack, progress.Task | None]] = {}
        self.listeners = [
            threading.Thread(target=self._listen, args=(number, worker.stdout), daemon=True)
            for number, worker in enumerate(self.workers)
        ]
        for listener in self.listeners:
            listener.start()

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *error: object) -> None:
        for stack, _ in self.tasks.values():
            stack.close()
        for worker in self.workers:  # at the end of its input a process saves what it trains, and ends
            assert worker.stdin is not None
            with suppress(BrokenPipeError):  # of one that has ended: nothing is left to tell it
                worker.stdin.close()
        for worker, listener in zip(self.workers, self.listeners, strict=True):
            worker.wait()
            listener.join()
            assert worker.stdout is not None
            worker.stdout.close()

    def said(self) -> str:
        """What is done just now."""
        return ", ".join(part.title for part in self.busy.values())

    def work(self) -> Iterator[float]:
        """Does all parts; CPU seconds of the record that are done, now and then."""
        finished = 0.0
        self._assign()
        while self.busy:
            number, message = self.heard.get()
            part = self.busy.get(number)
            if part is None:  # a process says nothing while it has no part
                raise TriptychError(_ENDED)
            if message is None:
                raise TriptychError(f"the process that was {part.title} has ended: the same command goes on with it")
            if "failed" in message:
                raise TriptychError(f"{part.title}: {message['failed']}")
            if "done" in message:
                self._finish(number)
                finished += part.cost
                self._assign()
            else:
                self._follow(number, part, message)
            yield finished + sum(self.shares.get(part.name, 0.0) * part.cost for part in self.busy.values())

    def _assign(self) -> None:
        """Gives each idle process the first part whose needs are met."""
        for number, worker in enumerate(self.workers):
            if number in self.busy:
                continue
            pending = {part.name for part in (*self.waiting, *self.busy.values())}
            part = next((part for part in self.waiting if not pending & set(part.needs)), None)
            if part is None:
                return
            self.waiting.remove(part)
            self.busy[number] = part
            assert worker.stdin is not None
            try:
                worker.stdin.write(part.name + "\n")
                worker.stdin.flush()
            except BrokenPipeError:  # what a person can do is the same as for one that is heard to end
                raise TriptychError(_ENDED) from None

    def _listen(self, number: int, lines: IO[str]) -> None:
        for line in lines:
            self.heard.put((number, json.loads(line)))
        self.heard.put((number, None))

    def _follow(self, number: int, part: Part, message: dict[str, Any]) -> None:
        """Shows a step of a part's work."""
        title, total, done = message["title"], message["total"], message["step"]
        stack, task = self.tasks.get(number, (ExitStack(), None))
        if task is None or task.total != total or message.get("first"):
            stack.close()
            stack = ExitStack()
            task = stack.enter_context(progress.begun(f"{part.title}: {title}", total, done))
            self.tasks[number] = (stack, task)
        task.update(done, lambda: message["numbers"])
        if title == _TRAINING and total:
            self.shares[part.name] = done / total

    def _finish(self, number: int) -> None:
        stack, _ = self.tasks.pop(number, (ExitStack(), None))
        stack.close()
        del self.busy[number]


def _start(place: Place) -> subprocess.Popen[str]:
    """A process of one thread that does the parts whose names it is told."""
    command = [sys.executable, "-m", "triptych.tour.worker", str(place.folder)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env={**os.environ, **threads}
    )


@contextmanager
def telling(out: IO[str]) -> Iterator[None]:
    """Inside, steps of long work are written as lines of JSON."""

    def make(title: str, total: int, done: int) -> progress.Task:
        return _Told(title, total, done, out)

    with progress.heard(make):
        yield


class _Told(progress.Task):
    """Work whose steps are written, one a second."""

    def __init__(self, title: str, total: int, done: int, out: IO[str]):
        super().__init__(title, total, done)
        self.out, self.next, self.first_time = out, 1.0, True

    def update(self, done: int, shown: progress.Shown | None = None, left: float | None = None) -> None:
        self.done = done
        if self.elapsed < self.next and done < self.total:
            return
        if self.elapsed < 1:  # short work is not worth a line
            return
        self.next = self.elapsed + 1.0
        said = {"title": self.title, "total": self.total, "step": done, "numbers": shown() if shown else ""}
        print(json.dumps(said | {"first": self.first_time}), file=self.out, flush=True)
        self.first_time = False
