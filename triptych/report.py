"""Figures: grids, strips and GIFs of stored values, and the model card.

Shapes: pictures are stored values, uint8 (N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from triptych.errors import TriptychError

if TYPE_CHECKING:
    from triptych.core import GenerativeModel
    from triptych.recipes import Recipe

_LEGIBLE = 64  # pixels: smaller pictures are enlarged by whole factors until they have this many
_GAP = 2
_PAPER = 255


def is_picture(event_shape: Sequence[int]) -> bool:
    """Whether an event is something that can be shown: (C, H, W) with 1, 3 or 4 channels and at least 4 × 4 pixels."""
    return len(event_shape) == 3 and event_shape[0] in (1, 3, 4) and min(event_shape[1:]) >= 4


def image(picture: Tensor, enlarge: bool = True) -> Image.Image:
    """One stored picture (C, H, W) as a Pillow image, small ones enlarged without smoothing."""
    if picture.dtype.is_floating_point or not is_picture(picture.shape):
        raise TriptychError(
            f"only 8-bit pictures (1, 3 or 4, H, W) can be drawn, got {picture.dtype} {tuple(picture.shape)}"
        )
    values = picture.permute(1, 2, 0).cpu().numpy()
    drawn = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    factor = math.ceil(_LEGIBLE / max(drawn.size)) if enlarge else 1
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
    """Writes pictures as one file: .gif moves through them there and back; one is itself, several are a grid."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".gif":
            _save_gif([image(p).convert("RGB") for p in pictures], path)
        elif len(pictures) == 1:
            image(pictures[0], enlarge=False).save(path)
        else:
            grid(pictures, columns).save(path)
    except (OSError, ValueError) as error:
        raise TriptychError(f"cannot write {path}: {error}; give a name that ends in .png, .jpg or .gif") from error


def _save_gif(frames: list[Image.Image], path: Path, milliseconds: int = 120) -> None:
    frames = frames + frames[-2:0:-1]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)


def read_picture(path: str | Path, model: GenerativeModel) -> Tensor:
    """A picture file as the stored values that the model takes, (1, C, H, W): resized, cropped, grey or RGB."""
    from triptych.data.pictures import open_picture

    if not is_picture(model.event_shape):
        raise TriptychError(f"this model's data have shape {model.event_shape}: they are no pictures to open from a file")
    channels, height, width = model.event_shape
    return open_picture(Path(path), channels=channels, size=(height, width))[None]


def model_card(model: GenerativeModel, recipe: Recipe | None, step: int | None) -> str:
    """README.md of a run, with the front matter that hubs read."""
    parameters = sum(p.numel() for p in model.parameters())
    shape = " × ".join(map(str, model.event_shape))
    lines = [
        "---",
        "library_name: triptych",
        "tags: [generative-model, " + type(model).__name__.lower() + "]",
        "---",
        f"# {type(model).__name__} of {shape}",
        "",
        f"- {parameters:,} parameters, z of {model.latent_dim} dimensions, z ~ N(0, I)",
        f"- stored values are read as `{model.codec.reading}` at {model.codec.bits} bits",
    ]
    if recipe is not None:
        lines += [
            f"- trained on `{_public(recipe.data)}`, {step or 0:,} of {recipe.steps:,} steps of {recipe.training.batch}",
            f"- seed {recipe.seed}; everything else that was asked for is in `recipe.json`",
        ]
    lines += [
        "",
        "```python",
        "import triptych",
        'model = triptych.load("path/to/this/folder")',
        "x = model.sample(16, temperature=0.8)",
        "```",
        "",
        "The model repeats what its training data show, their gaps and correlations included. Do not use it to pass off",
        "pictures of people as real, and check the licence of the data before sharing the weights.",
    ]
    return "\n".join(lines) + "\n"


def _public(data: str) -> str:
    """The data's name without the folders of whoever trained on it."""
    return Path(data).name if Path(data).is_absolute() else data


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
