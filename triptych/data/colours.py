"""Grey pictures as coloured ones and back, for models that were trained on the other kind.

Shapes: stored pictures, uint8 (N, C, H, W), C = 1 or 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from triptych.data.splits import Source, Splits
from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError

_LUMA = np.array([19595, 38470, 7471], np.uint32)  # ITU-R 601 in 1/65536, as Pillow's convert("L") has it


def shaped(splits: Splits, event_shape: tuple[int, ...], name: str, notice: Callable[[str], None]) -> Splits:
    """The splits as a model of this shape takes them: grey pictures in colour, or colours in grey, which is said.

    Raises:
        TriptychError: for data of another shape; the message names the remedy.
    """
    found = splits["train"].event_shape
    if found == event_shape:
        return splits
    pictures = all(split.is_image for split in splits.values()) and len(event_shape) == 3
    if pictures and found[1:] == event_shape[1:] and {found[0], event_shape[0]} == {1, 3}:
        kinds = ("grey", "in colour") if found[0] == 1 else ("in colour", "grey")
        notice(f"{name} is {kinds[0]}, the model {kinds[1]}: its pictures are converted")
        return recoloured(splits, event_shape[0])
    raise TriptychError(
        f"{name} holds examples of shape {found}, the model takes {event_shape}: {_remedy(found, event_shape)}"
    )


def _remedy(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What to do about data of another shape than the model's."""
    if len(found) != len(wanted):
        return "use data of the model's kind, or train a model on these"
    if len(wanted) == 3 and found[1:] != wanted[1:] and (found[0] == wanted[0] or {found[0], wanted[0]} == {1, 3}):
        return f"--size {wanted[1] if wanted[1] == wanted[2] else f'{wanted[1]},{wanted[2]}'} resizes and crops pictures"
    if len(wanted) == 3:
        return f"pictures of {found[0]} channels are not converted to {wanted[0]}, train a model on these"
    return "give data with as many values in the same order, or train a model on these"


def recoloured(splits: Splits, channels: int) -> Splits:
    """The splits with so many channels: grey pictures repeated three times, coloured ones by their luma.

    Raises:
        TriptychError: for anything but 8-bit pictures of 1 or 3 channels.
    """
    changed = {}
    for name, split in splits.items():
        if not split.is_image or {split.event_shape[0], channels} - {1, 3}:
            raise TriptychError(
                f"8-bit pictures of 1 or 3 channels are converted to 3 or 1, got {split.event_shape}: convert them first"
            )
        source = Recoloured(split.data, channels)
        changed[name] = dataclasses.replace(split, data=_read(source) if split.in_memory else source)
    result = Splits(**changed)
    result.origin, result.divided, result.remarks = splits.origin, splits.divided, splits.remarks
    return result


def converted(pictures: np.ndarray, channels: int) -> np.ndarray:
    """Pictures (…, C, H, W) with so many channels, 1 or 3.

    >>> converted(np.array([[[[255]], [[0]], [[0]]]], np.uint8), 1).tolist()
    [[[[76]]]]
    """
    if pictures.shape[-3] == channels:
        return pictures
    if channels == 3:
        return np.repeat(pictures, 3, axis=-3)
    # rounded as Pillow rounds
    luma = np.tensordot(_LUMA, pictures.astype(np.uint32), axes=(0, pictures.ndim - 3)) + 0x8000 >> 16
    return np.expand_dims(luma.astype(np.uint8), -3)


def _read(source: Source) -> np.ndarray:
    """All of a source, read a chunk at a time."""
    step = rows_in_chunk(source.shape[1:], source.dtype)
    return np.concatenate([source[i : i + step] for i in range(0, len(source), step)])


class Recoloured:
    """Pictures of a source with another number of channels, converted as they are read."""

    def __init__(self, source: Source, channels: int):
        self.source, self.channels = source, channels
        self.shape, self.dtype = (len(source), channels, *source.shape[2:]), source.dtype

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return converted(np.asarray(self.source[rows]), self.channels)
