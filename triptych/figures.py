"""Figures: stored pictures as grids, strips, GIFs and files, and curves.

Shapes: pictures are stored values, uint8 (N, C, H, W).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triptych import storage
from triptych.data.pictures import decode, reason
from triptych.errors import TriptychError

LEGIBLE = 64  # pixels: smaller pictures are enlarged by whole factors until they have this many
_GAP = 2
_PAPER = 255


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
    path, advice = Path(path), "give a name that ends in .png, .jpg or .gif"
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise TriptychError(f"cannot write {path}: {path.suffix or 'a name without suffix'} is not a picture's; {advice}")
    storage.write_file(path, lambda temporary: _write(pictures, temporary, kind, columns), advice)


def _write(pictures: Tensor, path: Path, kind: str, columns: int | None) -> None:
    if kind == "GIF":
        frames = [image(p).convert("RGB") for p in pictures]
        frames += frames[-2:0:-1]
        frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=120, loop=0)
    elif len(pictures) == 1:
        image(pictures[0], enlarge=False).save(path, kind)
    else:
        grid(pictures, columns).save(path, kind)


def read_picture(path: str | Path, event_shape: Sequence[int]) -> Tensor:
    """A picture file as stored values of this shape (C, H, W), as a batch (1, C, H, W): resized, cropped, grey or RGB.

    Raises:
        TriptychError: for a file that is missing, not a picture or dangerously large, and for a shape other than
            (1 or 3, H, W).
    """
    channels, *size = event_shape
    if channels not in (1, 3) or len(size) != 2:
        raise TriptychError(
            f"{path}: pictures are opened as (1 or 3, H, W), got a model of {tuple(event_shape)}: give an array instead"
        )
    with warnings.catch_warnings(action="ignore"):
        try:
            return torch.from_numpy(decode(Path(path), channels == 1, (size[0], size[1])).copy())[None]
        except FileNotFoundError:
            raise TriptychError(f"{path} does not exist: check the name") from None
        except Exception as error:  # broken bytes make Pillow raise nearly anything
            why = reason(error, str(path))
            raise TriptychError(f"{path} cannot be read as a picture: {why}; give a jpg, png or webp file") from None


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
    figure.savefig(path, dpi=130)
