"""Pictures to uint8 arrays: decode, orient, flatten, resize, crop.

Shapes: a picture becomes (C, H, W) with C = 1 (grey) or 3 (RGB); `size` is (height, width).
"""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from triptych.data.splits import Skipped
from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]
GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})


class Encoded(NamedTuple):
    """A picture before it is decoded: its index in the set, its name for messages, its file or bytes."""

    row: int
    name: str
    content: Path | bytes | None


def parse_size(size: int | str | tuple[int, int] | None) -> Size | None:
    """A size as (height, width): a side, a pair, or either as text.

    Raises:
        TriptychError: for anything but one or two whole numbers of at least 1.

    >>> parse_size(64), parse_size((28, 20)), parse_size("28,20"), parse_size(None)
    ((64, 64), (28, 20), (28, 20), None)
    """
    if size is None:
        return None
    sides = size.split(",") if isinstance(size, str) else size if isinstance(size, (tuple, list)) else [size]
    try:
        pair = [operator.index(int(side) if isinstance(side, str) else side) for side in sides]
        if len(pair) in (1, 2) and min(pair) >= 1:
            return pair[0], pair[-1]
    except (TypeError, ValueError):
        pass
    raise TriptychError(f"expected size as one whole number or height,width, got {size!r}: give for example 64")


@contextmanager
def pillow_checked() -> Iterator[None]:
    """Makes Pillow's warning about huge pictures an error, and ignores the rest. Not for use inside threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(content: Path | bytes, grey: bool, size: Size | None) -> np.ndarray:
    """One picture as uint8 (C, H, W), upright, without transparency (on white), shorter side to `size` and cropped."""
    with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as image:
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise Image.DecompressionBombError
        if size:
            image.draft(None, (2 * max(size), 2 * max(size)))  # JPEG: decode at the smallest sufficient scale
        upright = ImageOps.exif_transpose(image)
        return planes(fit(flatten(upright).convert("L" if grey else "RGB"), size))


def open_picture(picture: Path | bytes, *, channels: int, size: int | Size | None = None) -> torch.Tensor:
    """One picture as stored values, uint8 (C, H, W), prepared as those of a set are: to edit, score or mix it.

    Raises:
        TriptychError: for what is not a picture or dangerously large, and for other than 1 or 3 channels.
    """
    import torch

    name = str(picture) if isinstance(picture, Path) else "this picture"
    if channels not in (1, 3):
        raise TriptychError(
            f"{name}: pictures are opened as grey (1 channel) or RGB (3), got {channels} channels: give an array instead"
        )
    try:
        with pillow_checked():
            return torch.from_numpy(np.array(decode(picture, channels == 1, parse_size(size))))
    except FileNotFoundError:
        raise TriptychError(f"there is no file {name}: check the name") from None
    except Exception as error:  # broken bytes make Pillow raise nearly anything
        refuse_bomb(Encoded(0, name, picture), error)
        raise TriptychError(f"{name} cannot be read as a picture: {one_line(error)}; give a jpg, png or webp file") from None


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


def planes(image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, C) as (C, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resized(pictures: np.ndarray, size: Size) -> np.ndarray:
    """uint8 pictures (B, C, H, W) of any channel count, each channel fitted to `size`.

    >>> resized(np.zeros((2, 5, 28, 20), np.uint8), (16, 16)).shape
    (2, 5, 16, 16)
    """
    if pictures.shape[2:] == size:
        return pictures
    flat = pictures.reshape(-1, *pictures.shape[2:])
    fitted = np.stack([np.asarray(fit(Image.fromarray(plane), size)) for plane in flat])
    return fitted.reshape(*pictures.shape[:2], *size)


class Decoder:
    """Decodes a stream of pictures to chunks (k, C, H, W) and collects in `skipped` which could not be read.

    Raises:
        TriptychError: for a picture that is dangerously large, and, without `size`, for pictures of different sizes.
    """

    def __init__(self, grey: bool, size: Size | None):
        self.grey, self.size = grey, size
        self.skipped: list[tuple[int, Skipped]] = []
        self._first: tuple[str, tuple[int, ...]] | None = None

    def chunks(self, pictures: Iterable[Encoded]) -> Iterator[np.ndarray]:
        """Decodes in threads (Pillow releases the interpreter's lock), a bounded number of pictures ahead."""
        pictures = iter(pictures)
        with pillow_checked(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            while window := list(islice(pictures, self._window())):
                decoded = [
                    array
                    for picture, result in zip(window, pool.map(self._try, window), strict=True)
                    if (array := self._accepted(picture, result)) is not None
                ]
                if decoded:
                    yield np.stack(decoded)

    def _window(self) -> int:
        return min(512, rows_in_chunk(self._first[1], "uint8")) if self._first else 1

    def _try(self, picture: Encoded) -> np.ndarray | Exception:
        try:
            if picture.content is None:
                raise ValueError("there are no bytes")
            return decode(picture.content, self.grey, self.size)
        except Exception as error:  # broken bytes make Pillow raise nearly anything
            return error

    def _accepted(self, picture: Encoded, result: np.ndarray | Exception) -> np.ndarray | None:
        if isinstance(result, Exception):
            refuse_bomb(picture, result)
            self.skipped.append((picture.row, Skipped(picture.name, one_line(result))))
            return None
        self._first = self._first or (picture.name, result.shape)
        if result.shape != self._first[1]:
            raise TriptychError(
                f"expected pictures of one size, got {_sides(self._first[1])} ({self._first[0]}) and "
                f"{_sides(result.shape)} ({picture.name}): give --size to resize and crop them"
            )
        return result


def all_grey(pictures: Iterable[Encoded]) -> bool:
    """Whether every picture with a readable header is grey; stops at the first that is not."""
    with pillow_checked():
        return all(_mode(picture) in GREY for picture in pictures)


def _mode(picture: Encoded) -> str:
    content = picture.content
    try:
        with Image.open(BytesIO(content or b"") if not isinstance(content, Path) else content) as image:
            return image.mode
    except Exception as error:  # decoding will report it
        refuse_bomb(picture, error)
        return "L"


def refuse_bomb(picture: Encoded, error: Exception) -> None:
    """Raises for a picture over Pillow's limit of pixels: it may be made to exhaust memory."""
    if isinstance(error, (Image.DecompressionBombWarning, Image.DecompressionBombError)):
        raise TriptychError(
            f"{picture.name} is too large to be decoded safely: expected at most "
            f"{Image.MAX_IMAGE_PIXELS:,} pixels; shrink it or remove it"
        ) from None


def one_line(error: Exception) -> str:
    """What an exception says, on one line of at most 200 characters."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture that Pillow knows"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[2]}"
