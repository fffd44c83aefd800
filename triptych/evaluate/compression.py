"""How complex a picture is: the bits that generic lossless codecs, which have seen no training data, need for it.

Shapes: pixels (n, *E) uint8; results (n,), float64.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triptych.errors import TriptychError

_WIDEST = 16_383  # pixels along a side that WebP takes
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 9},
    "webp": {"lossless": True, "exact": True, "method": 2, "quality": 50},  # 5 % longer than its best, 80 times faster
}


def complexity(pixels: Tensor) -> Tensor:
    """L(x), the length in bits of each example as PNG or lossless WebP, whichever is shorter (Serrà et al. 2020).

    Pictures of 1, 3 or 4 channels are compressed as such, all else as a grey picture of its rows. The formats' headers
    count: some hundred bits, the same for all examples of a shape.

    Raises:
        TriptychError: for anything but uint8.

    >>> noise = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    >>> bool(complexity(noise) > complexity(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)))
    True
    """
    if pixels.dtype != torch.uint8:
        raise TriptychError(f"complexity is of 8-bit pixels, got {pixels.dtype}: other data have no lossless codec here")
    return torch.tensor([_bits(_as_image(p)) for p in pixels.cpu().numpy()], dtype=torch.float64)


def _as_image(example: np.ndarray) -> Image.Image:
    if example.ndim == 3 and example.shape[0] in (3, 4):
        return Image.fromarray(np.ascontiguousarray(example.transpose(1, 2, 0)))
    return Image.fromarray(example.reshape(-1, example.shape[-1]))


def _bits(image: Image.Image) -> int:
    formats = _FORMATS if max(image.size) <= _WIDEST else {"png": _FORMATS["png"]}
    return 8 * min(_length(image, name, options) for name, options in formats.items())


def _length(image: Image.Image, name: str, options: dict[str, Any]) -> int:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.tell()
