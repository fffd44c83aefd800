"""What long work says of itself while it lasts: one mechanism for trainings, encoders, features, directions and encoding.

`tracked` goes round a loop, `begun` is for work that counts its own steps. The listener is chosen outside: `shown` (which
the command line uses) draws bars in a terminal, and elsewhere writes a line every 30 seconds. Without it nothing is said.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")
Shown = Callable[[], str]  # returns a text such as the newest loss; called only when it is displayed

EVERY = 30.0  # seconds between lines where the output does not go to a terminal
_REDRAWN, _AT_ONCE = 1.0, 1.0  # seconds between two looks at numbers, and before a bar appears: short work has none
_TOLD = 5.0  # work that took at least so many seconds ends with a line


class Task:
    """Work under way, to which nobody listens.

    Args:
        title: what is done, such as "training".
        total: how many steps there are.
        done: how many were done before.
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self.title, self.total, self.first, self.done = title, total, done, done
        self.start = time.monotonic()

    def update(self, done: int, shown: Shown | None = None, left: float | None = None) -> None:
        """Says that so many steps are done.

        Args:
            shown: numbers of the newest step, in words.
            left: seconds that are left, where that is known better than from the speed so far.
        """
        self.done = done

    def close(self) -> None:
        """The work has ended, well or not."""

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.start

    def left(self) -> float:
        """Seconds that are left at the speed so far."""
        return self.elapsed / max(1, self.done - self.first) * (self.total - self.done)


class LineTask(Task):
    """Work of which a line is written every 30 seconds, and one at its end where it took a while."""

    def __init__(self, title: str, total: int, done: int = 0, file: TextIO | None = None, every: float = EVERY):
        super().__init__(title, total, done)
        self.file, self.every, self.next = file, every, every

    def update(self, done: int, shown: Shown | None = None, left: float | None = None) -> None:
        self.done = done
        if self.elapsed < self.next or done >= self.total:
            return
        self.next = self.elapsed + self.every
        numbers = f", {said}" if shown and (said := shown()) else ""
        self._say(f"step {done:,} of {self.total:,}{numbers}, {duration(self.left() if left is None else left)} left")

    def close(self) -> None:
        if self.elapsed >= _TOLD:
            self._say(f"{self.done - self.first:,} of {self.total - self.first:,} steps took {duration(self.elapsed)}")

    def _say(self, what: str) -> None:
        print(f"{self.title}: {what}", file=self.file or sys.stderr, flush=True)


class BarTask(Task):
    """Work with a bar in a terminal, once it has lasted a second."""

    def __init__(self, bars: Progress, title: str, total: int, done: int = 0):
        super().__init__(title, total, done)
        self.bars, self.next = bars, _AT_ONCE
        self.id: TaskID | None = None

    def update(self, done: int, shown: Shown | None = None, left: float | None = None) -> None:
        self.done = done
        if self.elapsed < self.next and done < self.total:
            return
        if self.id is None:
            if self.elapsed < _AT_ONCE:
                return
            self.bars.start()
            self.id = self.bars.add_task(self.title, total=self.total, numbers="", left="")
        self.next = self.elapsed + _REDRAWN
        remaining = duration(self.left() if left is None else left) + " left" if done < self.total else ""
        self.bars.update(self.id, completed=done, numbers=shown() if shown else "", left=remaining)

    def close(self) -> None:
        if self.id is None:
            return
        self.bars.stop_task(self.id)
        if all(task.finished or task.stop_time is not None for task in self.bars.tasks):
            self.bars.stop()


_listener: ContextVar[Callable[[str, int, int], Task]] = ContextVar("listener", default=Task)


@contextlib.contextmanager
def begun(title: str, total: int, done: int = 0) -> Iterator[Task]:
    """Work of `total` steps, of which so many were done before; told of its steps by `update`."""
    task = _listener.get()(title, total, done)
    try:
        yield task
    finally:
        task.close()


def tracked(items: Iterable[T], title: str, total: int, shown: Callable[[T], str] | None = None) -> Iterator[T]:
    """The items one by one, each a step of the work.

    Args:
        shown: what an item says in words, such as its loss.

    >>> list(tracked(range(3), "counting", total=3))
    [0, 1, 2]
    """
    with begun(title, total) as task:
        for done, item in enumerate(items, 1):
            yield item
            task.update(done, None if shown is None else partial(shown, item))


@contextlib.contextmanager
def heard(make: Callable[[str, int, int], Task]) -> Iterator[None]:
    """Inside, long work is told to what make(title, total, done) makes of it.

    >>> with heard(Task):
    ...     list(tracked(range(2), "counting", total=2))
    [0, 1]
    """
    token = _listener.set(make)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def shown(file: TextIO | None = None, every: float = EVERY) -> Iterator[None]:
    """Inside, long work is shown: as bars where standard error is a terminal, else a line every so many seconds.

    Args:
        file: where the lines go, by default standard error.

    >>> with shown():
    ...     work = sum(tracked(range(4), "adding", total=4))
    """
    make = _bars() if file is None and sys.stderr.isatty() else None

    def listen(title: str, total: int, done: int) -> Task:
        return LineTask(title, total, done, file, every) if make is None else make(title, total, done)

    with heard(listen):
        yield


def _bars() -> Callable[[str, int, int], Task]:
    """Makes bars, which are drawn together while any of their work lasts; rich is imported with the first."""
    drawn: list[Progress] = []

    def make(title: str, total: int, done: int) -> Task:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        if not drawn or not drawn[-1].live.is_started:
            name, left, numbers = (TextColumn(f"{{task.{said}}}") for said in _SAID)
            drawn[:] = [Progress(name, BarColumn(), MofNCompleteColumn(), left, numbers, console=Console(stderr=True))]
        return BarTask(drawn[-1], title, total, done)

    return make


_SAID = ("description", "fields[left]", "fields[numbers]")  # of rich's task, in words


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> [duration(s) for s in (0.2, 41.4, 200, 3_570, 7_300, 400_000)]
    ['less than a second', '41 s', '3 min 20 s', '60 min', '2 h 2 min', '4 days 15 h']
    """
    if seconds < 1:
        return "less than a second"
    for most, unit, long, smaller, part in _UNITS:
        if seconds < most:
            whole, rest = divmod(round(seconds / part) * part, long)
            return f"{whole} {unit}" + (f" {rest // (1 if smaller == 's' else part)} {smaller}" if rest else "")
    return "more than a year"


# below so many seconds: the unit, its seconds, what the rest is counted in, and the seconds to which it is rounded
_UNITS = (
    (100, "s", 1, "", 1),
    (1000, "min", 60, "s", 10),  # so that nothing is said by more than 3 % wrong
    (5400, "min", 60, "", 60),
    (172_800, "h", 3600, "min", 60),
    (3e7, "days", 86_400, "h", 3600),
)
