"""Stored pictures as files in memory: PNG, GIF, data URLs; and uploaded bytes as stored pictures.

Shapes: stored (1, C, H, W) uint8.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from triptych import figures
from triptych.data.pictures import decode, flatten, known, reason
from triptych.studio.problems import Problem


def png(stored: Tensor) -> bytes:
    """One picture, at its own size."""
    return _written(figures.image(stored[0], enlarge=False), "PNG")


def strip(stored: Sequence[Tensor]) -> bytes:
    """A PNG of pictures side by side."""
    return _written(figures.grid(torch.cat([*stored]), columns=len(stored)), "PNG")


def film(stored: Sequence[Tensor]) -> bytes:
    """A GIF that plays pictures forwards and backwards, small ones enlarged."""
    frames = [figures.image(one[0]).convert("RGB") for one in stored]
    frames += frames[-2:0:-1]
    return _written(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=80, loop=0)


def data_url(stored: Tensor) -> str:
    """A picture as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png(stored)).decode("ascii")


def read(content: bytes, event_shape: Sequence[int], most: int) -> Tensor:
    """Uploaded bytes as the model takes them: upright, resized until they cover its size, cropped, grey or RGB.

    Args:
        most: pixels that the picture may have, before it is decoded.

    Raises:
        Problem: for bytes that are not a picture, broken ones, and too many pixels.
    """
    channels, height, width = event_shape
    with _reading(content, most):
        return torch.from_numpy(decode(content, channels == 1, (height, width), most=most).copy())[None]


def preview(content: bytes, side: int, most: int) -> tuple[tuple[int, int], str]:
    """The sides (H, W) of uploaded bytes, upright, and a small JPEG of them as a data URL.

    A JPEG is decoded no larger than that needs.

    Args:
        side: pixels of the preview's longer side.
        most: pixels that the picture may have, before it is decoded.

    Raises:
        Problem: as `read`.
    """
    with _reading(content, most), Image.open(io.BytesIO(content), formats=known()) as image:
        width, height = image.size
        if width * height > min(most, Image.MAX_IMAGE_PIXELS or most):
            raise Image.DecompressionBombError
        image.draft(None, (2 * side, 2 * side))
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)  # by a quarter
        drawn = flatten(ImageOps.exif_transpose(image)).convert("RGB")
    drawn.thumbnail((side, side), Image.Resampling.BOX if max(drawn.size) > 4000 else Image.Resampling.LANCZOS)
    target = io.BytesIO()
    drawn.save(target, "JPEG", quality=85)
    url = "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")
    return ((width, height) if turned else (height, width)), url


@contextmanager
def _reading(content: bytes, most: int) -> Iterator[None]:
    """What may be wrong with uploaded bytes, said as problems."""
    if not content:
        raise Problem("expected a picture file, got an empty one: choose a jpg, png or webp file")
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Image.DecompressionBombError:
        raise Problem(f"this picture has more than {most / 1e6:.0f} million pixels: give a smaller one") from None
    except MemoryError:
        raise Problem("this picture is too large to be decoded here: give a smaller one") from None
    except Exception as error:  # broken bytes make Pillow raise nearly anything
        raise Problem(f"this file cannot be read as a picture ({reason(error)}): give a jpg, png or webp file") from error


def _written(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()
