"""Stored pictures as files in memory: PNG, GIF, data URLs; and uploaded bytes as stored pictures.

Shapes: stored (1, C, H, W) uint8.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triptych import figures
from triptych.data.pictures import check_pixels, decode, fit, flatten, open_picture, reason, sides, upright
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


class Opened(NamedTuple):
    """A picture as a model takes it, and what is shown of the whole.

    Attributes:
        sides: (H, W) of the file, upright.
        preview: the whole in RGB, small.
    """

    stored: Tensor
    sides: tuple[int, int]
    preview: Image.Image


def read(content: bytes, event_shape: Sequence[int], most: int) -> Tensor:
    """Uploaded bytes as the model takes them: upright, resized until they cover its size, cropped, grey or RGB.

    Args:
        most: pixels that the picture may have, before it is decoded.

    Raises:
        Problem: for bytes that are not a picture, broken ones, and too many pixels.
    """
    channels, height, width = event_shape
    with _refusing(content, most):
        return torch.from_numpy(decode(content, channels == 1, (height, width), most=most).copy())[None]


def opened(content: bytes, event_shape: Sequence[int], longest: int, most: int) -> Opened:
    """The same as `read`, with a preview of at most `longest` pixels a side: a file is decoded whole once, a JPEG never, but
    at the scale that each needs.

    Raises:
        Problem: as `read`.
    """
    with _refusing(content, most), open_picture(content) as image:
        check_pixels(image, most)
        upright_sides = sides(image)
        if image.draft(None, (2 * longest, 2 * longest)) is None:
            flat = flatten(upright(image))
            rgb, grey = flat.convert("RGB"), event_shape[0] == 1
            fitted = np.array(fit(flat.convert("L") if grey else rgb, (event_shape[1], event_shape[2])))
            stored = torch.from_numpy(fitted[None] if grey else np.ascontiguousarray(fitted.transpose(2, 0, 1)))
            return Opened(stored[None], upright_sides, reduced(rgb, longest))
        preview = reduced(flatten(upright(image)).convert("RGB"), longest)
    return Opened(read(content, event_shape, most), upright_sides, preview)


def reduced(image: Image.Image, longest: int) -> Image.Image:
    """The picture with at most `longest` pixels a side; what came is changed."""
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)  # which takes means of blocks first
    return image


def has_size(content: bytes, size: tuple[int, int], most: int) -> bool:
    """Whether a picture is (h, w) pixels, upright, by its header.

    Raises:
        Problem: as `read`.
    """
    with _refusing(content, most), open_picture(content) as image:
        check_pixels(image, most)
        return sides(image) == tuple(size)


@contextmanager
def _refusing(content: bytes, most: int) -> Iterator[None]:
    """Says in one sentence why bytes cannot be read."""
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
