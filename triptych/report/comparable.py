"""What may stand side by side, and what not: of models, and of the data that they learned and are measured on.

Shapes: stored examples (N, *E).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from triptych.core import GenerativeModel
from triptych.data import Split, fixed_subset
from triptych.errors import TriptychError

KNOWN_TWINS = 0.02  # share of held-out examples that published sets hold in both parts: beyond it, they were trained on
LOOKED_AT = 2000  # held-out examples that are looked for among the training ones


def check_models(names: Sequence[str], models: Sequence[GenerativeModel]) -> None:
    """Raises a `TriptychError` for models whose figures are of different things, with what to do.

    They are: other shapes; pictures against other values; other bit depths, whose pixels are others; conditional models
    against unconditional ones, or given other attributes, which are told other things of each example.

    >>> from triptych import NICE
    >>> check_models(["a", "b"], [NICE((4,), 2, (8,)), NICE((4,), 2, (8,))])
    """
    first, *others = zip(names, models, strict=True)
    for other in others:
        for what, ours, theirs, advice in _differences(first[1], other[1]):
            if ours != theirs:
                raise TriptychError(
                    f"{first[0]} and {other[0]} are not comparable: {what} {ours} and {theirs}; {advice}, or evaluate them "
                    "one by one"
                )


def _differences(a: GenerativeModel, b: GenerativeModel) -> Iterator[tuple[str, object, object, str]]:
    yield "they make examples of shape", a.event_shape, b.event_shape, "train both at one --size"
    yield "they read", _values(a), _values(b), "train both on one kind of data"
    if a.codec.is_picture and b.codec.is_picture:
        advice = "train both at one --model.bits"
        yield "they read pixels at a depth of (bits)", a.codec.bits, b.codec.bits, advice
    given = "train both with the same --given, or both without"
    yield "they are given", _given(a), _given(b), given


def _values(model: GenerativeModel) -> str:
    return "pixels" if model.codec.is_picture else "numbers"


def _given(model: GenerativeModel) -> str:
    if model.conditions is not None:
        return ", ".join(model.conditions.names)
    return f"a context of {model.context_dim} numbers" if model.context_dim else "nothing"


def seen_before(test: Split, train: Split) -> float:
    """Which share of held-out examples, of up to 2,000 of them, are training examples, value by value.

    >>> held_out = Split(np.arange(12, dtype=np.float32).reshape(3, 4))
    >>> seen_before(held_out, Split(np.concatenate([held_out.data[:1], np.zeros((5, 4), np.float32)])))
    0.333...
    """
    if test.event_shape != train.event_shape or test.data.dtype != train.data.dtype:
        return 0.0
    wanted = [digest for digests in _digests(test, fixed_subset(len(test), LOOKED_AT)) for digest in digests]
    missing = set(wanted)
    for digests in _digests(train, np.arange(len(train))):
        missing.difference_update(digests)
        if not missing:
            break
    return sum(digest not in missing for digest in wanted) / len(wanted)


def _digests(split: Split, rows: np.ndarray) -> Iterator[list[bytes]]:
    """Of each of these rows, some hundreds at a time."""
    for part in np.array_split(rows, -(-len(rows) // 512)):
        yield [hashlib.blake2b(example.numpy().tobytes(), digest_size=16).digest() for example in split[part]]


def check_unseen(name: str, data: str, share: float) -> None:
    """Raises a `TriptychError` for a run that was trained on what it is measured on.

    Args:
        share: of `seen_before`.

    >>> check_unseen("runs/a", "faces", 0.001)
    """
    if share > KNOWN_TWINS:
        raise TriptychError(
            f"{name} was trained on {share:.0%} of the held-out examples of {data}: its figures are of examples that it "
            "knows, and not comparable; give data that no run was trained on by --data, or train the runs with one --seed"
        )
