"""What a command shares with its terminal: streams that take every character, Ctrl-C, a reader that has gone."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def writable() -> Iterator[None]:
    """Inside, both streams are there, and write ? for what their encoding lacks: half a name in any is better than none."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed: nothing else may be opened in its place
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # for good
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    strict = [stream for stream in streams if stream.errors in ("strict", "surrogateescape")]
    before = [stream.errors for stream in strict]
    for stream in strict:
        stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        for stream, errors in zip(strict, before, strict=True):
            if not stream.closed:
                stream.reconfigure(errors=errors)


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Inside, SIGTERM (a scheduler's farewell) and Ctrl-C raise `KeyboardInterrupt`; yields the list of those that came.

    What is ignored stays so (nohup), and only a main thread may set handlers.
    """
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                with contextlib.suppress(ValueError):
                    before[number] = signal.signal(number, stop)
        yield asked
    finally:
        for stopped, handler in before.items():
            signal.signal(stopped, handler)


def flush() -> None:
    """Writes what is waiting.

    Raises:
        OSError: where that is not possible any more: a full disk, or nobody who reads.
    """
    try:
        sys.stdout.flush()
    except OSError:
        abandon()
        raise


def abandon() -> None:
    """Nobody reads any more: what is still to be written goes nowhere, and fails nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
