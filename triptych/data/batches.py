"""Batches as pure functions of (seed, step, rank), so that a run that resumes at a step sees what it would have seen.

Shapes: N examples, B in a batch of one rank, R ranks, K numbers of context; pictures are uint8 (B, C, H, W).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from triptych.data.splits import Split, picked
from triptych.errors import TriptychError, unknown

if TYPE_CHECKING:
    import torch

SHIFT = 0.1
"""The most that `shift` moves a picture, as a fraction of its height or width."""
_ORDER, _AUGMENT = 0, 1  # so that the order and the augmentation never draw the same numbers


class Batch(NamedTuple):
    """Stored values (B, *event) and their context (B, K), or None in an unconditional model."""

    stored: torch.Tensor
    context: torch.Tensor | None


class Batches:
    """The batches of a split, in an order that `seed` determines.

    An epoch is a permutation of the split, drawn from (seed, epoch) and cut into steps of R·B examples, of which rank r
    takes the r-th B; the remainder at the end is dropped, different examples in each epoch. When N < R·B, a step is made
    of ⌈RB / N⌉ permutations from (seed, step, 0), (seed, step, 1), …, one after the other, so that no two examples differ
    by more than one in how often they appear.

    Args:
        split: the examples.
        batch_size: B, for each rank.
        seed, world, rank: the order's seed; the number of ranks R; this rank.
        augment: None, or names joined by commas, applied in that order: "flip" mirrors half of the pictures, "shift"
            moves each by up to a tenth of height and width, repeating its edge. Those that act inside a GAN are ignored.
        context: (N, K) float32, of the whole split, or None.

    Attributes:
        num_workers: processes with which `stream` reads ahead: 2 if the split is not in memory, else 0.

    Raises:
        TriptychError: for an empty split, a batch size, rank or augmentation out of range, and a context of another length.

    >>> import numpy as np
    >>> batches = Batches(Split(np.arange(10, dtype=np.float32)[:, None]), 4, seed=1)
    >>> batches.steps_per_epoch, tuple(batches.at(0).stored.shape), batches.at(0).context
    (2, (4, 1), None)
    >>> bool((batches.at(7).stored == batches.at(7).stored).all())
    True
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        world: int = 1,
        rank: int = 0,
        augment: str | None = None,
        context: torch.Tensor | None = None,
    ):
        if batch_size < 1 or not 0 <= rank < world or not len(split):
            raise TriptychError(
                f"expected a batch size of at least 1, a rank in 0..world − 1 and a split with examples, got batch size "
                f"{batch_size}, rank {rank} of {world} and {len(split)} examples"
            )
        if context is not None and (context.ndim != 2 or len(context) != len(split)):
            raise TriptychError(f"expected a context ({len(split)}, K) for the whole split, got {tuple(context.shape)}")
        self.split, self.batch_size, self.seed, self.world, self.rank = split, batch_size, seed, world, rank
        self.context = context
        self.augmentations = parse_augment(augment, split)
        self.num_workers = 0 if split.in_memory else min(2, os.cpu_count() or 1)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each example is seen once, except for a remainder."""
        return max(1, len(self.split) // (self.batch_size * self.world))

    def indices(self, step: int) -> np.ndarray:
        """The examples in this rank's batch (B,)."""
        n, total, start = len(self.split), self.batch_size * self.world, self.rank * self.batch_size
        if n < total:
            order = np.concatenate([_permutation(n, self.seed, _ORDER, step, i) for i in range(-(-total // n))])
        else:
            epoch, within = divmod(step, self.steps_per_epoch)
            order, start = _permutation(n, self.seed, _ORDER, epoch), start + within * total
        return order[start : start + self.batch_size]

    def at(self, step: int) -> Batch:
        """This rank's batch of a step, as new tensors; pictures are augmented."""
        import torch

        indices = self.indices(step)
        stored = picked(self.split.data, indices)
        if self.augmentations:
            random = _generator(self.seed, _AUGMENT, step, self.rank)
            for augmentation in self.augmentations:
                stored = augmentation(stored, random)
        context = None if self.context is None else self.context[torch.from_numpy(indices)]
        return Batch(torch.from_numpy(np.ascontiguousarray(stored)), context)

    def stream(self, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """`at(start)`, `at(start + 1)`, … before `stop`, or without end; workers read ahead what is not in memory."""
        steps = count(start) if stop is None else range(start, stop)
        if not self.num_workers:
            return map(self.at, steps)
        import torch
        from torch.utils.data import DataLoader

        return iter(
            DataLoader(
                range(sys.maxsize),  # type: ignore[arg-type]  # of which item i is i: whole batches, by step
                sampler=steps,
                batch_size=None,
                collate_fn=self.at,  # type: ignore[arg-type]
                num_workers=self.num_workers,
                prefetch_factor=4,
                generator=torch.Generator(),  # of its own, so that the loader leaves torch's global one alone
            )
        )


def _generator(seed: int, *key: int) -> np.random.Generator:
    """Random numbers that depend only on the seed and the key."""
    return np.random.default_rng([seed % 2**64, *key])


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, *key: int) -> np.ndarray:
    """The order of an epoch; the latest ones are cached, since all its steps need it."""
    return _generator(seed, *key).permutation(n)


def flip(pictures: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mirrors each picture (B, C, H, W) left to right with probability ½."""
    mirrored = np.flatnonzero(random.integers(0, 2, len(pictures)))
    pictures = pictures.copy()
    pictures[mirrored] = pictures[mirrored, :, :, ::-1]
    return pictures


def shift(pictures: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Moves each picture (B, C, H, W) by whole pixels, up to ±10 % of height and of width, repeating the edge."""
    n, _, height, width = pictures.shape
    down, right = int(height * SHIFT), int(width * SHIFT)
    wide = np.pad(pictures, ((0, 0), (0, 0), (down, down), (right, right)), mode="edge")
    windows = sliding_window_view(wide, (height, width), (2, 3))  # (B, C, 2 down + 1, 2 right + 1, H, W)
    return windows[np.arange(n), :, random.integers(0, 2 * down + 1, n), random.integers(0, 2 * right + 1, n)]


AUGMENTATIONS = {"flip": flip, "shift": shift}
"""What is done to stored pictures, by name."""
DIFFERENTIABLE = ("none", "diffaug", "ada")
"""Names of what a discriminator sees of data and samples alike: done inside a GAN, not to stored pictures."""


def parse_augment(augment: str | None, split: Split) -> list[Callable[[np.ndarray, np.random.Generator], np.ndarray]]:
    """The augmentations of stored pictures that a text such as "flip,shift" names.

    Raises:
        TriptychError: for an unknown name, and for data that are not pictures.
    """
    names = [name.strip() for name in (augment or "").split(",") if name.strip()]
    for name in names:
        if name not in (known := (*AUGMENTATIONS, *DIFFERENTIABLE)):
            raise unknown("augmentation", name, known, "; join several with commas")
    if names and not split.is_image:
        raise TriptychError(
            f"augment expects uint8 pictures (C, H, W), got {split.data.dtype} of shape {split.event_shape}: leave it out"
        )
    return [AUGMENTATIONS[name] for name in names if name in AUGMENTATIONS]
