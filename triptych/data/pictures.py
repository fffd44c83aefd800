"""Pictures to uint8 arrays: decode, orient, flatten, resize, crop.

Shapes: a picture becomes (C, H, W) with C = 1 (grey) or 3 (RGB); `size` is (height, width).
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageSequence

from triptych.data.splits import Skipped
from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError
from triptych.opening import regular

Size = tuple[int, int]
DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
"""Pillow's modes of more than eight bits."""
GREY = frozenset({"1", "L", "LA", "La"}) | DEEP
FORMATS = (
    *("AVIF", "BMP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "GIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000", "MSP"),
    *("PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
"""What Pillow reads itself. The rest stays closed: Encapsulated PostScript, for one, would start another program."""
SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif"),
        *(".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".avifs", ".jp2", ".j2k", ".j2c"),
        *(".jpc", ".jpf", ".jpx", ".tga", ".icb", ".vda", ".vst", ".pcx", ".dcx", ".ico", ".icns"),
        *(".cur", ".sgi", ".rgb", ".rgba", ".bw", ".ras", ".qoi", ".psd", ".dds", ".fit", ".fits"),
        *(".fli", ".flc", ".im", ".msp", ".pxr", ".xbm", ".xpm"),
    ]
)
"""Those of `FORMATS`; what a file holds is told by its bytes all the same."""


# of pictures that have neither several frames nor more than eight bits
_PLAIN = (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".avif", ".jp2", ".tga")


class Encoded(NamedTuple):
    """A picture before it is decoded: its index in the set, its name for messages, its file, bytes, or it opened."""

    row: int
    name: str
    content: str | Path | bytes | Image.Image | None


class Depth(NamedTuple):
    """How values of more than eight bits become 0..255: whole ones by a shift, floats from low..high.

    One for a whole set: a picture by itself does not tell how bright its brightest pixel is.
    """

    shift: int | None = None
    low: float = 0.0
    high: float = 1.0

    @property
    def numbers(self) -> tuple[float, ...]:
        """The shift, or the range: what a run keeps of it."""
        return (self.low, self.high) if self.shift is None else (self.shift,)

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Depth | None:
        """From `numbers`; None from none.

        >>> Depth.of([4]), Depth.of([0.0, 255.0]), Depth.of([])
        (Depth(shift=4, low=0.0, high=1.0), Depth(shift=None, low=0.0, high=255.0), None)
        """
        return None if not numbers else cls(int(numbers[0])) if len(numbers) == 1 else cls(None, *map(float, numbers))


class Survey(NamedTuple):
    """What the headers of a set say: whether all pictures are grey, how deep ones are read, how many have several frames."""

    grey: bool = True
    depth: Depth | None = None
    animated: int = 0

    def describe(self) -> str:
        """What a user should know, for `Splits.summary`; empty for ordinary pictures."""
        said = []
        if self.depth and self.depth.shift is None:
            said.append(f"floats from {self.depth.low:g} to {self.depth.high:g} read as 8-bit pixels")
        elif self.depth and self.depth.shift:
            said.append(f"{8 + self.depth.shift}-bit values read as 8-bit pixels")
        if self.animated:
            said.append(f"the first frame of {self.animated} with several (name one such file to read its frames)")
        return ", ".join(said)


def parse_size(size: int | str | tuple[int, int] | None) -> Size | None:
    """A size as (height, width): a side, a pair, or either as text.

    Raises:
        TriptychError: for anything but one or two whole numbers of at least 1.

    >>> parse_size(64), parse_size((28, 20)), parse_size("28,20"), parse_size("28x20"), parse_size(None)
    ((64, 64), (28, 20), (28, 20), (28, 20), None)
    """
    if size is None:
        return None
    try:
        sides = [int(str(side)) for side in (re.split("[,x×]", size) if isinstance(size, str) else np.ravel(size).tolist())]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise TriptychError(f"expected size as one whole number or height,width, got {size!r}: give for example 64 or 28,20")
    return sides[0], sides[-1]


def open_picture(content: str | Path | bytes | Image.Image | None) -> Image.Image:
    """A picture whose header is read, and nothing more.

    Raises:
        Exception: of nearly any kind, for broken bytes.
    """
    if isinstance(content, Image.Image):
        return content.copy()  # what is closed afterwards is not the caller's
    return Image.open(regular(content) if isinstance(content, str | Path) else BytesIO(content or b""), formats=known())


def check_pixels(image: Image.Image, most: int | None) -> None:
    """Raises a `DecompressionBombError` for more pixels than `most`, or Pillow's own limit."""
    if image.width * image.height > min(most or float("inf"), Image.MAX_IMAGE_PIXELS or float("inf")):
        raise Image.DecompressionBombError


@cache
def known() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has: AVIF came with 11.3."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def is_picture(content: Path | bytes | None) -> bool:
    """Whether the first bytes are those of a picture, whatever a file is called."""
    with (
        warnings.catch_warnings(action="ignore"),
        suppress(Exception),
        open_picture(content),
    ):  # Pillow may raise nearly anything
        return True
    return False


def has_frames(path: Path) -> bool:
    """Whether a picture is a series of them: an animation, or a stack of pages."""
    with warnings.catch_warnings(action="ignore"), suppress(Exception), open_picture(path) as image:
        return bool(getattr(image, "is_animated", False))
    return False


def frames(path: Path) -> Iterator[bytes]:
    """The frames of one file, each as a picture of its own.

    Raises:
        Exception: of nearly any kind, for broken bytes.
    """
    with warnings.catch_warnings(action="ignore"), open_picture(path) as image:
        for frame in ImageSequence.Iterator(image):
            content = BytesIO()
            frame.save(content, "TIFF")
            yield content.getvalue()


def decode(
    content: str | Path | bytes | Image.Image | None,
    grey: bool,
    size: Size | None,
    depth: Depth | None = None,
    most: int | None = None,
) -> np.ndarray:
    """One picture as uint8 (C, H, W), upright, without transparency (on white), shorter side to `size` and cropped.

    Args:
        depth: of values of more than eight bits; None: of this picture by itself.
        most: pixels that it may have, besides Pillow's own limit.

    Raises:
        Exception: of nearly any kind, for broken bytes; a picture over the limit of pixels is a decompression bomb.
    """
    with open_picture(content) as image:
        check_pixels(image, most)
        if size:
            image.draft(None, (2 * max(size), 2 * max(size)))  # JPEG: decode at the smallest sufficient scale
        pixels = np.asarray(fit(flatten(upright(image), depth).convert("L" if grey else "RGB"), size))
        return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def profile(content: str | Path | bytes) -> bytes | None:
    """The ICC profile of a picture whose pixels are read as RGB; None where it has none."""
    with open_picture(content) as image:
        found = image.info.get("icc_profile")
        return found if isinstance(found, bytes) and image.mode in ("RGB", "RGBA") else None


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says."""
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def sides(image: Image.Image) -> Size:
    """(height, width) of the picture upright, by its header."""
    return image.size if orientation(image) >= 5 else image.size[::-1]


def orientation(image: Image.Image) -> int:
    """EXIF's, from 1 to 8; 1, as it is, where there is none or it cannot be read: the pixels are whole all the same."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises whatever the damage leads to: SyntaxError, struct.error, ValueError, TypeError …
        return 1
    return found if isinstance(found, int) and found in range(1, 9) else 1


def flatten(image: Image.Image, depth: Depth | None = None) -> Image.Image:
    """Eight bits per channel and no alpha: transparent parts become white, deep values are brought to 0..255 by `depth`."""
    if image.mode in DEEP:
        values = np.asarray(image)
        return Image.fromarray(shallow(values, depth or depth_of([(values.min(), values.max())], image.mode == "F")))
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("L" if image.mode in GREY else "RGB")
    return image


def depth_of(extremes: Sequence[tuple[float, float]], floats: bool) -> Depth:
    """By the least and the greatest value of each picture: 8 to 16 bits for whole numbers, for floats 0..1, 0..255, −1..1 or
    their own range.

    >>> depth_of([(0, 255), (3, 90)], False).shift, depth_of([(0, 4000)], False).shift, depth_of([(0.0, 0.9)], True).high
    (0, 4, 1.0)
    >>> depth_of([(-1.0, 0.98)], True).numbers
    (-1.0, 1.0)
    """
    least, greatest = min((low for low, _ in extremes), default=0), max((high for _, high in extremes), default=1)
    if not floats:
        if least < 0 or greatest > 65_535:
            raise ValueError(f"values {least}..{greatest} are not 16-bit; save it as 8 or 16 bits")
        return Depth(max(0, int(greatest).bit_length() - 8))
    if not np.isfinite([least, greatest]).all():
        raise ValueError("some values are not finite; save it as 8 or 16 bits")
    usual = next((high for high in (1.0, 255.0) if least >= 0 and high / 4 < greatest <= high), None)
    if -1 <= least < -0.25 and 0.25 < greatest <= 1:
        return Depth(None, -1.0, 1.0)
    return Depth(None, 0.0, usual) if usual else Depth(None, float(least), float(max(greatest, least + 1e-9)))


def shallow(values: np.ndarray, depth: Depth) -> np.ndarray:
    """Deep values as uint8; those beyond the depth's range, which is a set's, are clipped to it.

    >>> shallow(np.array([0, 4095, 5000]), Depth(4)).tolist(), shallow(np.array([0.0, 0.5, 2.0]), Depth()).tolist()
    ([0, 255, 255], [0, 128, 255])
    """
    if depth.shift is not None and values.dtype.kind != "f":
        if values.min(initial=0) < 0 or values.max(initial=0) > 65_535:
            raise ValueError(f"values {values.min()}..{values.max()} are not 16-bit; save it as 8 or 16 bits")
        return (values >> depth.shift).clip(0, 255).astype(np.uint8)
    if not np.isfinite(values).all():
        raise ValueError("some values are not finite; save it as 8 or 16 bits")
    low, high = (depth.low, depth.high) if depth.shift is None else (0.0, 256.0 * 2**depth.shift - 1)
    scaled = (values.astype(np.float32) - low) * (255 / (high - low))
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


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
    pictures: Iterable[Encoded], survey: Survey, size: Size | None, skipped: list[tuple[int, Skipped]]
) -> Iterator[np.ndarray]:
    """Chunks (k, C, H, W), decoded in threads (Pillow releases the interpreter's lock), a bounded number ahead.

    Args:
        survey: of the whole set.
        skipped: gets the index of each picture that could not be read, with its name and the reason.

    Raises:
        TriptychError: without `size`, for pictures of different sizes.
    """

    def attempt(picture: Encoded) -> np.ndarray | Exception:
        try:
            return decode(picture.content, survey.grey, size, survey.depth)
        except Exception as error:  # broken bytes make Pillow raise nearly anything
            return error

    pictures, first, window = iter(pictures), None, 1
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while batch := list(islice(pictures, window)):
            chunk = []
            for picture, result in zip(batch, pool.map(attempt, batch), strict=True):
                if isinstance(result, Exception):
                    skipped.append((picture.row, Skipped(picture.name, reason(result))))
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


def surveyed(pictures: Iterable[Encoded], given: Depth | None = None) -> Survey:
    """A look at the headers: up to the first picture that is not grey, and beyond it of files that may have several frames
    or more than eight bits.

    Deep pictures are read whole, for their range.

    Args:
        given: the depth of a set that these belong to, in place of their own.
    """
    extremes: list[tuple[float, float]] = []
    grey, floats, animated = True, False, 0
    with warnings.catch_warnings(action="ignore"):
        for picture in pictures:
            if not grey and Path(picture.name).suffix.lower() in _PLAIN:
                continue
            with suppress(Exception), open_picture(picture.content) as image:  # decoding will report what is wrong
                animated += bool(getattr(image, "is_animated", False))
                grey = grey and image.mode in GREY
                fits = image.width * image.height <= (Image.MAX_IMAGE_PIXELS or float("inf"))
                if given is None and fits and image.mode in DEEP:
                    values = np.asarray(image)
                    extremes.append((values.min(), values.max()))
                    floats |= image.mode == "F"
    return Survey(grey, given or _depth(extremes, floats), animated)


def _depth(extremes: list[tuple[float, float]], floats: bool) -> Depth | None:
    """Without those that cannot be pictures, which decoding reports."""
    usable = [ends for ends in extremes if np.isfinite(ends).all() and (floats or (ends[0] >= 0 and ends[1] <= 65_535))]
    return depth_of(usable, floats) if usable else None


def reason(error: Exception) -> str:
    """Why a picture could not be decoded, as `one_line`."""
    if isinstance(error, Image.DecompressionBombError):
        return f"too large to be decoded safely: more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    return "not a picture that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else one_line(error)


def one_line(error: Exception) -> str:
    """What an exception says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
