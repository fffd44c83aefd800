"""Figures: stored pictures as grids, strips, GIFs and files, and curves.

Shapes: pictures are stored values, uint8 (N, C, H, W).
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from triptych import storage
from triptych.data.pictures import Depth, decode, reason
from triptych.errors import TriptychError

LEGIBLE = 64  # pixels: smaller pictures are enlarged by whole factors until they have this many
_GAP = 2
_TEXT = 14  # pixels of a letter's height
_PAPER = 255
_QUALITY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}
_ADVICE = "give a name that ends in .png, .jpg or .gif, in a place that can be written"


def image(picture: Tensor, enlarge: bool = True) -> Image.Image:
    """One stored picture (C, H, W) as a Pillow image, small ones enlarged without smoothing.

    Raises:
        TriptychError: for anything but uint8 of 1, 3 or 4 channels.
    """
    if picture.dtype.is_floating_point or picture.ndim != 3 or picture.shape[0] not in (1, 3, 4):
        raise TriptychError(f"expected an 8-bit picture (1, 3 or 4, H, W), got {picture.dtype} {tuple(picture.shape)}")
    values = picture.permute(1, 2, 0).cpu().numpy()
    drawn = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    factor = math.ceil(LEGIBLE / max(drawn.size)) if enlarge else 1
    return drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)


def grid(pictures: Tensor, columns: int | None = None) -> Image.Image:
    """Pictures (N, C, H, W) in rows, by default about as many rows as columns.

    >>> import torch
    >>> grid(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), columns=3).size
    (200, 134)
    """
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    tiles = [image(p) for p in pictures]
    width, height = tiles[0].size
    rows = math.ceil(len(tiles) / columns)
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    sheet = Image.new(tiles[0].mode, size, (_PAPER,) * len(tiles[0].getbands()))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (_GAP + (i % columns) * (width + _GAP), _GAP + (i // columns) * (height + _GAP)))
    return sheet


def save(pictures: Tensor, path: str | Path, *, columns: int | None = None) -> None:
    """Writes pictures (N, C, H, W) to one file: a GIF plays them forwards and backwards; else one alone, or a grid.

    Raises:
        TriptychError: for a path that cannot be written, or has a suffix that is not a picture's.
    """
    path = Path(path)
    if path.suffix.lower() == ".gif":
        frames = [image(p).convert("RGB") for p in pictures]
        frames += frames[-2:0:-1]
        write(frames[0], path, save_all=True, append_images=frames[1:], duration=120, loop=0)
    else:
        write(image(pictures[0], enlarge=False) if len(pictures) == 1 else grid(pictures, columns), path)


def save_rows(rows: Mapping[str, Tensor], path: str | Path) -> None:
    """Writes a row of pictures (N, C, H, W) for each name, with the name before it.

    Raises:
        TriptychError: as of `save`.
    """
    font = ImageFont.load_default(_TEXT)
    strips = [grid(pictures, len(pictures)).convert("RGB") for pictures in rows.values()]
    margin = 2 * _TEXT + max(int(font.getlength(line)) for name in rows for line in name.split("\n"))
    size = margin + max(strip.width for strip in strips), sum(strip.height for strip in strips)
    sheet, top = Image.new("RGB", size, (_PAPER,) * 3), 0
    pen = ImageDraw.Draw(sheet)
    for name, strip in zip(rows, strips, strict=True):
        sheet.paste(strip, (margin, top))
        pen.multiline_text((_TEXT, top + strip.height / 2), name, fill=0, font=font, anchor="lm")
        top += strip.height
    write(sheet, Path(path))


def is_writable(name: str) -> bool:
    """Whether pictures can be written under a name, by its suffix: not every format that is read is.

    >>> is_writable("a.PNG"), is_writable("a.psd"), is_writable("a")
    (True, False, False)
    """
    return _format(Path(name)) in Image.SAVE


def _format(path: Path) -> str:
    return Image.registered_extensions().get(path.suffix.lower(), "")


def write(drawn: Image.Image, path: Path, **options: object) -> None:
    """A Pillow image to a file, in the format that its suffix says.

    Raises:
        TriptychError: for a path that cannot be written, or has a suffix that is not a picture's.
    """
    kind = _format(path)  # said to Pillow, which would go by the suffix of the temporary name
    if kind not in Image.SAVE:
        raise TriptychError(f"cannot write {path}: {path.suffix or 'no suffix'} is not a picture's; {_ADVICE}")
    storage.write_bytes(path, encoded(drawn, kind, path, **options), _ADVICE)


def encoded(drawn: Image.Image, kind: str = "PNG", path: Path | None = None, **options: object) -> bytes:
    """A Pillow image as the bytes of a file.

    Args:
        kind: Pillow's name of the format.
        path: what an error calls it.
    """
    content = BytesIO()
    try:
        drawn.save(content, kind, **_QUALITY.get(kind, {}), **options)
    except (ValueError, OSError) as error:  # a size or mode that the format does not have
        raise TriptychError(f"cannot write {path or 'the picture'} as {kind}: {error}; {_ADVICE}") from error
    return content.getvalue()


def read_picture(path: str | Path | Image.Image, event_shape: Sequence[int], depth: Sequence[float] = ()) -> Tensor:
    """A picture file, or a Pillow picture, as stored values of this shape (C, H, W), in a batch of one: resized, cropped,
    grey or RGB.

    Args:
        depth: of `Codec.depth`, by which values of more than eight bits are read; by default their own.

    Raises:
        TriptychError: for a file that is missing, not a picture or dangerously large, and for a shape other than
            (1 or 3, H, W).
    """
    (found,) = read_pictures([path], event_shape, depth)
    if isinstance(found, TriptychError):
        raise found
    return found


def read_pictures(
    paths: Sequence[str | Path | Image.Image], event_shape: Sequence[int], depth: Sequence[float] = ()
) -> list[Tensor | TriptychError]:
    """Picture files as `read_picture` reads one, in threads; in the place of one that cannot be read, why.

    Raises:
        TriptychError: for a shape other than (1 or 3, H, W).
    """
    channels, *size = event_shape
    if channels not in (1, 3) or len(size) != 2:
        raise TriptychError(
            f"pictures are opened as (1 or 3, H, W), got a model of {tuple(event_shape)}: give an array instead of "
            f"{', '.join(map(str, paths[:1]))}"
        )
    read = partial(_read, grey=channels == 1, size=(size[0], size[1]), depth=Depth.of(depth))
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(read, paths))


def _read(path: str | Path | Image.Image, grey: bool, size: tuple[int, int], depth: Depth | None) -> Tensor | TriptychError:
    try:
        return torch.from_numpy(decode(path, grey, size, depth).copy())[None]
    except TriptychError as error:
        return error
    except Exception as error:  # broken bytes make Pillow raise nearly anything
        return TriptychError(f"{path} cannot be read as a picture: {reason(error)}; give a jpg, png or webp file")


def curves(series: dict[str, tuple[Sequence[float], Sequence[float]]], path: str | Path, **axes: object) -> None:
    """Lines {name: (x, y)} as a PNG; `axes` are matplotlib's axis properties (xlabel, ylabel, xscale, ylim, title)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    plot = figure.subplots()
    for name, (x, y) in series.items():
        plot.plot(np.asarray(x), np.asarray(y), label=name)
    plot.set(**axes)
    plot.grid(alpha=0.3)
    plot.legend(frameon=False)
    content = BytesIO()
    figure.savefig(content, dpi=130)
    storage.write_bytes(Path(path), content.getvalue(), _ADVICE)
