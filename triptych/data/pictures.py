"""Pictures to uint8 arrays: decode, orient, flatten, resize, crop.

Shapes: a picture becomes (C, H, W) with C = 1 (grey) or 3 (RGB); `size` is (height, width).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from triptych.data.splits import Skipped
from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError

Size = tuple[int, int]
GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})


class Encoded(NamedTuple):
    """A picture before it is decoded: its index in the set, its name for messages, its file, bytes, or it opened."""

    row: int
    name: str
    content: str | Path | bytes | Image.Image | None


def parse_size(size: int | str | tuple[int, int] | None) -> Size | None:
    """A size as (height, width): a side, a pair, or either as text.

    Raises:
        TriptychError: for anything but one or two whole numbers of at least 1.

    >>> parse_size(64), parse_size((28, 20)), parse_size("28,20"), parse_size(None)
    ((64, 64), (28, 20), (28, 20), None)
    """
    if size is None:
        return None
    try:
        sides = [int(str(side)) for side in (size.split(",") if isinstance(size, str) else np.ravel(size).tolist())]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise TriptychError(f"expected size as one whole number or height,width, got {size!r}: give for example 64")
    return sides[0], sides[-1]


def _open(content: str | Path | bytes | Image.Image | None) -> Image.Image:
    if isinstance(content, Image.Image):
        return content.copy()  # what is closed afterwards is not the caller's
    return Image.open(content if isinstance(content, str | Path) else BytesIO(content or b""))


def decode(content: str | Path | bytes | Image.Image | None, grey: bool, size: Size | None) -> np.ndarray:
    """One picture as uint8 (C, H, W), upright, without transparency (on white), shorter side to `size` and cropped.

    Raises:
        Exception: of nearly any kind, for broken bytes; a picture over Pillow's limit of pixels is a decompression bomb.
    """
    with _open(content) as image:
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise Image.DecompressionBombError
        if size:
            image.draft(None, (2 * max(size), 2 * max(size)))  # JPEG: decode at the smallest sufficient scale
        pixels = np.asarray(fit(flatten(ImageOps.exif_transpose(image)).convert("L" if grey else "RGB"), size))
        return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def flatten(image: Image.Image) -> Image.Image:
    """Eight bits per channel and no alpha: transparent parts become white, 16-bit values lose their low byte."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"values {values.min()}..{values.max()} are not 16-bit; save it as 8 or 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pictures have no stated range; save it as 8 or 16 bits")
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("L" if image.mode in GREY else "RGB")
    return image


def fit(image: Image.Image, size: Size | None) -> Image.Image:
    """Resizes until the picture just covers `size`, antialiased, and crops the centre."""
    if size is None or (image.height, image.width) == size:
        return image
    scale = max(size[0] / image.height, size[1] / image.width)
    height, width = size[0] / scale, size[1] / scale  # of the centre crop, in the source's pixels
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (max(0.0, left), max(0.0, top), min(image.width, left + width), min(image.height, top + height))
    kernel = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return image.resize((size[1], size[0]), kernel, box=box)


def resized(pictures: np.ndarray, size: Size) -> np.ndarray:
    """uint8 pictures (B, C, H, W) of any channel count, each channel fitted to `size`.

    >>> resized(np.zeros((2, 5, 28, 20), np.uint8), (16, 16)).shape
    (2, 5, 16, 16)
    """
    planes = pictures.reshape(-1, *pictures.shape[2:])
    fitted = np.stack([np.asarray(fit(Image.fromarray(plane), size)) for plane in planes])
    return fitted.reshape(*pictures.shape[:2], *size)


def decoded(
    pictures: Iterable[Encoded], grey: bool, size: Size | None, skipped: list[tuple[int, Skipped]]
) -> Iterator[np.ndarray]:
    """Chunks (k, C, H, W), decoded in threads (Pillow releases the interpreter's lock), a bounded number ahead.

    Args:
        skipped: gets the index of each picture that could not be read, with its name and the reason.

    Raises:
        TriptychError: for a picture that is dangerously large, and, without `size`, for pictures of different sizes.
    """

    def attempt(picture: Encoded) -> np.ndarray | Exception:
        try:
            return decode(picture.content, grey, size)
        except Exception as error:  # broken bytes make Pillow raise nearly anything
            return error

    pictures, first, window = iter(pictures), None, 1
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while batch := list(islice(pictures, window)):
            chunk = []
            for picture, result in zip(batch, pool.map(attempt, batch), strict=True):
                if isinstance(result, Exception):
                    skipped.append((picture.row, Skipped(picture.name, reason(result, picture.name))))
                    continue
                sides = "×".join(map(str, result.shape[1:]))
                first = first or (sides, picture.name)
                if sides != first[0]:
                    raise TriptychError(
                        f"expected pictures of one size, got {first[0]} ({first[1]}) and {sides} ({picture.name}): "
                        "give --size to resize and crop them"
                    )
                chunk.append(result)
            if chunk:
                window = min(512, rows_in_chunk(chunk[0].shape, "uint8"))
                yield np.stack(chunk)


def all_grey(pictures: Iterable[Encoded]) -> bool:
    """Whether every picture with a readable header is grey; stops at the first that is not."""
    with warnings.catch_warnings(action="ignore"):
        for picture in pictures:
            with suppress(Exception), _open(picture.content) as image:  # decoding will report what is wrong
                if image.mode not in GREY:
                    return False
    return True


def reason(error: Exception, name: str) -> str:
    """Why a picture could not be decoded, as `one_line`.

    Raises:
        TriptychError: for a picture over Pillow's limit of pixels, since it may be made to exhaust memory.
    """
    if isinstance(error, Image.DecompressionBombError):
        raise TriptychError(
            f"{name} is too large to be decoded safely: expected at most {Image.MAX_IMAGE_PIXELS:,} pixels; "
            "shrink it or remove it"
        ) from None
    return "not a picture that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else one_line(error)


def one_line(error: Exception) -> str:
    """What an exception says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
