"""Which examples are held out of a set that comes without a test split: a tenth, by what the examples are.

Every example is held out or not by a hash of its own content, so that a set that grows keeps its parts: what was trained
on is never tested on later, and a copy of a training picture, under another name, is trained on too.

Shapes: N examples; a fingerprint is a uint64, (N,) of a set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from triptych.errors import TriptychError
from triptych.opening import regular

HELD_OUT = 10
"""One example in so many is held out."""
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64's, Steele et al. 2014
_STEP = np.uint64(0x9E3779B97F4A7C15)


def fingerprint(content: bytes) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def of_rows(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Fingerprints of the rows of arrays (k, …), one after the other."""
    prints = [fingerprint(row.tobytes()) for chunk in chunks for row in chunk]
    return np.array(prints, np.uint64)


def of_contents(contents: Iterable[str | Path | bytes | Image.Image | None]) -> np.ndarray:
    """Fingerprints of files, bytes or opened pictures; what cannot be read has that of nothing, and is left out when it is
    decoded."""

    def one(content: str | Path | bytes | Image.Image | None) -> int:
        if isinstance(content, Image.Image):
            return fingerprint(repr((content.mode, content.size)).encode() + content.tobytes())
        try:
            return fingerprint(regular(content).read_bytes() if isinstance(content, str | Path) else content or b"")
        except (OSError, TriptychError):
            return fingerprint(b"")

    def all_of(pool: ThreadPoolExecutor) -> Iterator[int]:
        waiting = iter(contents)
        while some := list(islice(waiting, 256)):  # a bounded number of them in memory
            yield from pool.map(one, some)

    with ThreadPoolExecutor(4) as pool:
        return np.fromiter(all_of(pool), np.uint64)


def digest(prints: np.ndarray, chosen: np.ndarray) -> str:
    """What tells one training set, in its order, from another."""
    return hashlib.blake2b(np.ascontiguousarray(prints[chosen]).tobytes(), digest_size=16).hexdigest()


def occurrences(prints: np.ndarray) -> np.ndarray:
    """How many equal fingerprints came before each.

    >>> occurrences(np.array([5, 7, 5, 5], np.uint64)).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(prints, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(prints[order]) != 0])
    counts = np.diff(np.r_[starts, len(prints)])
    seen = np.empty(len(prints), np.int64)
    seen[order] = np.arange(len(prints)) - np.repeat(starts, counts)
    return seen


def held_out(prints: np.ndarray, seed: int, where: str = "the set", *, copies: bool = False) -> np.ndarray:
    """Whether each example is held out (N,): those whose hash with the seed falls in its lowest tenth, but at least one.

    Args:
        prints: the examples' fingerprints (N,).
        where: what an error calls the set.
        copies: whether equal examples are held out apart from one another, as rows of a table may be equal by chance.

    Raises:
        TriptychError: for fewer than 2 examples.

    >>> prints = np.arange(1000, dtype=np.uint64)
    >>> apart = held_out(prints, seed=0)
    >>> int(apart.sum()), np.array_equal(held_out(prints[:500], seed=0), apart[:500])
    (110, True)
    """
    if len(prints) < 2:
        raise TriptychError(
            f"{where}: expected at least 2 examples, to train on and to test on, got {len(prints)}: add some, or give it to "
            "a verb that takes a single one (score RUN FILE, edit RUN FILE)"
        )
    earlier = occurrences(prints).astype(np.uint64)
    mixed = _mixed(prints ^ _mixed(np.full(1, seed % 2**64, np.uint64)))
    lot = _mixed(mixed + earlier) if copies else mixed
    apart = lot < np.uint64(2**64 // HELD_OUT)
    if not apart.any():
        apart = lot == lot.min()
    if apart.all():  # the same example again and again, or one copy of it
        apart = np.arange(len(prints)) == np.argmin(_mixed(mixed + earlier))
    return apart


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64: a bijection of 64 bits whose output looks drawn."""
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))


def by_position(count: int, seed: int, where: str = "the set") -> np.ndarray:
    """As `held_out`, but a tenth of the places drawn by the seed alone: how runs of earlier versions were divided."""
    if count < 2:
        raise TriptychError(f"{where}: expected at least 2 examples, to train on and to test on, got {count}")
    order = np.random.default_rng([seed % 2**64, 0]).permutation(count)
    return np.isin(np.arange(count), order[: max(1, round(count / HELD_OUT))])
