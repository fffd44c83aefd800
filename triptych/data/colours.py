"""Grey pictures as coloured ones and back, for models that were trained on the other kind.

Shapes: stored pictures, uint8 (N, C, H, W), C = 1 or 3.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from triptych.data.splits import Source, Splits
from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError

_LUMA = np.array([19595, 38470, 7471], np.uint32)  # ITU-R 601 in 1/65536, as Pillow's convert("L") has it


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
    return Splits(**changed)


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
