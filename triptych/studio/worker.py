"""One thread for each model, which does its work in the order in which it came, what is alike in batches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from starlette.requests import Request

from triptych.modes import flush_subnormals
from triptych.studio.problems import Busy, Left

P = TypeVar("P")
R = TypeVar("R")
Together = Callable[[list[P]], list[R]]
_LOOKED = 0.05  # seconds between two looks at whether a visitor is still there


@dataclass(eq=False)
class _Job:
    together: Together[Any, Any]
    payload: Any
    alone: bool
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """A bounded queue and the thread that empties it.

    Work is a function of a list of payloads and one payload: whatever waits for the same function is done in one call. A
    model is touched by this thread only, so that what it computes does not depend on who else asks, except that a batch
    may round otherwise than one alone.

    Args:
        waiting: how many may wait; more are refused.
        together: how many are done at once.

    >>> worker = Worker("model")
    >>> worker.submit(lambda numbers: [n + 1 for n in numbers], 1).result()
    2
    >>> worker.close()
    """

    def __init__(self, name: str, *, waiting: int = 64, together: int = 16):
        self.name, self.waiting, self.together = name, waiting, together
        self._jobs: deque[_Job] = deque()
        self._ready = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name=f"model {name}", daemon=True).start()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, together: Together[P, R], payload: P, *, alone: bool = False) -> Future[R]:
        """Queues work.

        Args:
            alone: not in a batch, so that the result is to the bit that of a single call elsewhere.

        Raises:
            Busy: where too much waits already.
        """
        job = _Job(together, payload, alone)
        with self._ready:
            if len(self._jobs) >= self.waiting:
                self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
            if self._closed or len(self._jobs) >= self.waiting:
                raise Busy(f"the model {self.name} has {len(self._jobs)} requests waiting: try again in a second")
            self._jobs.append(job)
            self._ready.notify()
        return job.future

    def close(self) -> None:
        """Does what is waiting, and ends."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def _run(self) -> None:
        flush_subnormals()  # before this thread's pool of workers exists, which inherits it
        with torch.no_grad():
            while batch := self._next():
                _do([job for job in batch if job.future.set_running_or_notify_cancel()])

    def _next(self) -> list[_Job]:
        with self._ready:
            while not self._jobs:
                if self._closed:
                    return []
                self._ready.wait()
            first = self._jobs.popleft()
            if first.alone:
                return [first]
            alike = [job for job in self._jobs if job.together == first.together and not job.alone]
            taken = alike[: self.together - 1]
            for job in taken:
                self._jobs.remove(job)
            return [first, *taken]


def _do(batch: list[_Job]) -> None:
    if not batch:
        return
    try:
        results = batch[0].together([job.payload for job in batch])
    except BaseException as error:
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        for job in batch:  # one that cannot be done is not the others' fault
            _do([job])
        return
    for job, result in zip(batch, results, strict=True):
        job.future.set_result(result)


async def answer(request: Request, future: Future[R]) -> R:
    """The result; work that still waits when its visitor has left is taken back."""
    waiting = asyncio.wrap_future(future)
    while not waiting.done():
        await asyncio.wait([waiting], timeout=_LOOKED)
        if not waiting.done() and await request.is_disconnected():
            waiting.cancel()
            raise Left("nobody waits for this answer any more")
    return waiting.result()
