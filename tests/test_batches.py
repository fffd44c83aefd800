"""Batches: pure functions of (seed, step, rank), the same streamed as indexed; augmentations do what they say."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data import Batches, Split, load
from triptych.errors import TriptychError


def numbered(n: int) -> Split:
    """Examples that hold their index."""
    return Split(np.arange(n, dtype=np.float32)[:, None])


def pictures(n: int = 12, channels: int = 3) -> Split:
    return Split(np.random.default_rng(0).integers(0, 256, (n, channels, 20, 30), dtype=np.uint8))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    size=st.integers(1, 12),
    world=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 9),
)
def test_an_epoch_sees_each_example_once_and_ranks_share_it(n: int, size: int, world: int, seed: int, epoch: int) -> None:
    ranks = [Batches(numbered(n), size, seed=seed, world=world, rank=rank) for rank in range(world)]
    steps = ranks[0].steps_per_epoch
    seen = np.concatenate(
        [batches.at(step).stored[:, 0].numpy() for step in range(epoch * steps, (epoch + 1) * steps) for batches in ranks]
    )
    counts = np.bincount(seen.astype(int), minlength=n)
    assert len(seen) == steps * size * world
    assert counts.max() - counts.min() <= 1  # no example more than once more often than another
    if n >= size * world:
        assert counts.max() == 1 and n - len(seen) < size * world
    fresh = Batches(numbered(n), size, seed=seed, world=world, rank=world - 1)
    assert torch.equal(fresh.at(epoch * steps).stored, ranks[-1].at(epoch * steps).stored)  # whatever came before


def test_order_depends_on_seed_and_epoch() -> None:
    first, other = Batches(numbered(64), 64), Batches(numbered(64), 64, seed=1)
    assert not torch.equal(first.at(0).stored, first.at(1).stored) and not torch.equal(
        first.at(0).stored, other.at(0).stored
    )
    few = Batches(numbered(5), 8)
    assert not torch.equal(few.at(0).stored, few.at(1).stored)


@pytest.mark.parametrize("augment", [None, "flip", "shift", "flip,shift"])
@pytest.mark.parametrize("kind", ["memory", "mapped", "drawn"])
def test_streamed_is_indexed(kind: str, augment: str | None, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures().data)
    split = {
        "memory": lambda: pictures(),
        "mapped": lambda: load(tmp_path / "x.npy", budget=1).train,
        "drawn": lambda: load("faces", n=12, size=16, budget=1).train,
    }[kind]()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    batches = Batches(split, 4, seed=5, augment=augment)
    assert bool(batches.num_workers) == (kind != "memory")
    streamed = list(batches.stream(3, 9))
    assert len(streamed) == 6
    for step, batch in enumerate(streamed, 3):
        assert batch.stored.dtype == torch.uint8 and batch.stored.shape == (4, *split.event_shape)
        assert torch.equal(batch.stored, Batches(split, 4, seed=5, augment=augment).at(step).stored)
    assert torch.equal(state, torch.get_rng_state())
    assert numpy_state == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_a_stream_without_end() -> None:
    batches = Batches(numbered(6), 2)
    assert [batch.stored.shape[0] for batch in islice(batches.stream(4), 10)] == [2] * 10


@pytest.mark.parametrize("workers", [0, 2])
def test_context_is_indexed_like_the_examples(workers: int) -> None:
    context = torch.arange(6.0)[:, None] * torch.tensor([1.0, -1.0])
    batches = Batches(numbered(6), 4, seed=2, context=context)
    batches.num_workers = workers
    for batch in batches.stream(0, 3):
        assert torch.equal(batch.context, batch.stored * torch.tensor([1.0, -1.0]))
    assert Batches(numbered(6), 4).at(0).context is None


def test_batches_are_new_tensors() -> None:
    split = pictures()
    before = split[:]
    for augment in (None, "flip,shift"):
        Batches(split, 12, augment=augment).at(0).stored.zero_()
    assert torch.equal(split[:], before)


def test_flip_mirrors_about_half() -> None:
    split = pictures(200)
    plain, flipped = Batches(split, 200).at(0).stored, Batches(split, 200, augment="flip").at(0).stored
    same, mirrored = (plain == flipped).flatten(1).all(1), (plain.flip(-1) == flipped).flatten(1).all(1)
    assert (same | mirrored).all() and 60 < mirrored.sum() < 140


def test_shift_moves_up_to_a_tenth_and_repeats_the_edge() -> None:
    rows, columns = np.indices((20, 30))
    split = Split(np.broadcast_to(np.stack([rows, columns]), (300, 2, 20, 30)).astype(np.uint8))
    moved = Batches(split, 300, augment="shift").at(0).stored.int()
    down, right = 10 - moved[:, 0, 10, 15], 15 - moved[:, 1, 10, 15]
    assert set(down.tolist()) == set(range(-2, 3)) and set(right.tolist()) == set(range(-3, 4))
    expected = (torch.arange(20) - down[:, None]).clamp(0, 19)
    assert torch.equal(moved[:, 0], expected[:, :, None].expand(-1, -1, 30))
    assert torch.equal(moved[:, 1], (torch.arange(30) - right[:, None]).clamp(0, 29)[:, None, :].expand(-1, 20, -1))


def test_augmentation_differs_between_ranks_and_steps() -> None:
    split = Split(np.broadcast_to(pictures(1).data, (64, 3, 20, 30)).copy())
    ranks = [Batches(split, 32, world=2, rank=rank, augment="flip,shift") for rank in (0, 1)]
    assert not torch.equal(ranks[0].at(0).stored, ranks[1].at(0).stored) and not torch.equal(
        ranks[0].at(0).stored, ranks[0].at(1).stored
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Batches(pictures(), 4, augment="flip,twirl"), ["flip, shift", "'twirl'"]),
        (lambda: Batches(numbered(4), 4, augment="flip"), ["pictures", "float32", "(1,)"]),
        (lambda: Batches(numbered(4), 0), ["batch_size", "got 0"]),
        (lambda: Batches(numbered(4), 1, world=2, rank=2), ["rank 2 of 2"]),
        (lambda: Batches(numbered(0), 1), ["0 examples"]),
        (lambda: Batches(numbered(4), 1, context=torch.zeros(3, 2)), ["(4, K)", "(3, 2)"]),
        (lambda: Batches(numbered(4), 1, context=torch.zeros(4)), ["(4, K)", "(4,)"]),
    ],
)
def test_bad_input_is_one_line(make, words) -> None:
    with pytest.raises(TriptychError) as caught:
        make()
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words)
