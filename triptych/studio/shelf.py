"""Things kept in memory under ids that cannot be guessed, within a bound, for a while."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from triptych.studio.problems import Gone, Problem

T = TypeVar("T")


@dataclass
class _Kept(Generic[T]):
    item: T
    size: int
    used: float


class Shelf(Generic[T]):
    """Items under random ids of 128 bits; whoever has an id has the item, and nobody can list them.

    What nobody used for `expiry` seconds is forgotten; beyond `most` bytes, what was not used for longest.

    >>> shelf = Shelf("picture", most=10, expiry=60.0)
    >>> key = shelf.put("a", 6)
    >>> shelf.get(key), shelf.put("b", 6) != key, len(shelf)
    ('a', True, 1)
    """

    def __init__(self, what: str, *, most: int, expiry: float, clock: Callable[[], float] = time.monotonic):
        self.what, self.most, self.expiry, self._clock = what, most, expiry, clock
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def put(self, item: T, size: int) -> str:
        """Keeps an item of `size` bytes, and returns its id."""
        if size > self.most:
            raise Problem(f"this {self.what} is too large to be kept: {size:,} bytes, where {self.most:,} are there for all")
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._forget(self._clock() - self.expiry)
            while self.bytes + size > self.most:
                self.bytes -= self._kept.popitem(last=False)[1].size
            self._kept[key] = _Kept(item, size, self._clock())
            self.bytes += size
        return key

    def get(self, key: str) -> T:
        """The item, which counts as used now.

        Raises:
            Gone: for an id that is unknown or forgotten.
        """
        with self._lock:
            self._forget(self._clock() - self.expiry)
            if key not in self._kept:
                minutes = self.expiry / 60
                raise Gone(f"this {self.what} is not here any more: it is kept for {minutes:g} minutes; open it again")
            self._kept.move_to_end(key)
            self._kept[key].used = self._clock()
            return self._kept[key].item

    def touch(self, key: str) -> None:
        """The item counts as used now; an id that is unknown or forgotten is left at that."""
        with self._lock:
            self._forget(self._clock() - self.expiry)
            if key in self._kept:
                self._kept.move_to_end(key)
                self._kept[key].used = self._clock()

    def purge(self) -> None:
        """Forgets what has expired, also where nobody asks."""
        with self._lock:
            self._forget(self._clock() - self.expiry)

    def _forget(self, before: float) -> None:
        while self._kept and next(iter(self._kept.values())).used < before:
            self.bytes -= self._kept.popitem(last=False)[1].size

    def __len__(self) -> int:
        return len(self._kept)
