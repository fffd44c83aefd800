"""A photograph as it is read and written: upright, at its own size, in the colours that its profile says.

Shapes: pixels (3, H, W) uint8.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triptych.data.pictures import decode, profile, reason
from triptych.errors import TriptychError
from triptych.figures import encoded, write


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph.

    Attributes:
        pixels: (3, H, W) uint8, upright, transparent parts white.
        profile: the ICC profile of its colours; None: sRGB.
    """

    pixels: Tensor
    profile: bytes | None = None

    def png(self, pixels: Tensor) -> bytes:
        """These pixels as a PNG file of the same colours, without what else the photograph's held, such as its place."""
        return encoded(_drawn(pixels), compress_level=3, icc_profile=self.profile)

    def save(self, pixels: Tensor, path: str | Path) -> None:
        """Writes these pixels to a file; one that keeps every value, such as PNG, keeps those of the photograph."""
        write(_drawn(pixels), Path(path), icc_profile=self.profile)


def read_photograph(source: str | Path | bytes, most: int | None = None) -> Photograph:
    """A photograph of a file, or its bytes: turned as its EXIF data say, at its own size.

    Args:
        most: pixels that it may have, besides Pillow's own limit.

    Raises:
        TriptychError: for a file that is missing or not a picture, and for too many pixels.
    """
    name = "this file" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings(action="ignore"):
            pixels = torch.from_numpy(np.require(decode(source, False, None, most=most), requirements=["W"]))
            return Photograph(pixels, profile(source))
    except Image.DecompressionBombError:
        limit = min(most or Image.MAX_IMAGE_PIXELS or 0, Image.MAX_IMAGE_PIXELS or most or 0)
        raise TriptychError(f"{name} has more than {limit / 1e6:.0f} million pixels: give a smaller one") from None
    except MemoryError:
        raise TriptychError(f"{name} is too large to be decoded here: give a smaller one") from None
    except TriptychError:
        raise
    except Exception as error:  # broken bytes make Pillow raise nearly anything
        raise TriptychError(f"{name} cannot be read as a picture ({reason(error)}): give a jpg, png or webp file") from error


def check_photograph(photograph: Tensor) -> None:
    """Raises a `TriptychError` for anything but 8-bit values (1 or 3, H, W)."""
    shape = tuple(photograph.shape)
    if photograph.dtype != torch.uint8 or len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape:
        raise TriptychError(f"expected a photograph as uint8 (1 or 3, H, W), got {photograph.dtype} {shape}")


def _drawn(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
