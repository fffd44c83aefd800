"""Examples as a model takes them, x, from files and back: read, show, save.

Shapes: x (B, *E) in model coordinates, or (B, n, *E): rows of n, as a sweep gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triptych import figures, storage
from triptych.core import GenerativeModel
from triptych.data.formats.reading import readable
from triptych.errors import TriptychError
from triptych.opening import regular

Source = str | Path | Image.Image
"""A picture file, or a Pillow picture."""


def read(source: Source | Sequence[Source], model: GenerativeModel) -> Tensor:
    """Picture files as x, (B, *E) in model coordinates: what `model.encode`, `triptych.edit` and `model.log_prob` take.

    Pictures are turned upright, resized until they cover the model's size, cropped, made grey or RGB as the model is, and
    read at the centre of their pixels' bins, without noise. `model.codec.decode(x)` gives the stored values, uint8.

    Args:
        source: one file, Pillow picture, or .npy file of stored values (*E) or (n, *E); or several.

    Raises:
        TriptychError: for a file that is missing or not a picture, for values of another shape, and for a model of other
            data than pictures, which are given as .npy files.

    >>> x = read("face.jpg", model)  # doctest: +SKIP
    >>> faces = read(["me.jpg", "you.png"], model)  # doctest: +SKIP
    """
    sources: Sequence[Source] = [source] if isinstance(source, str | Path | Image.Image) else source
    if not len(sources):
        raise TriptychError("expected at least one file, got none")
    return torch.cat([model.codec.centre(_stored(one, model)) for one in sources]).to(model.device)


def _stored(source: Source, model: GenerativeModel) -> Tensor:
    """Stored values (n, *E) of one file."""
    if isinstance(source, Image.Image) or Path(source).suffix.lower() != ".npy":
        return figures.read_picture(source, model.event_shape, model.codec.depth)
    with readable(regular(source), "npy file of numbers"):
        values = torch.from_numpy(np.load(source, allow_pickle=False))
    values = values[None] if tuple(values.shape) == model.event_shape else values
    return model.check_event(values.float() if values.is_floating_point() else values)


def show(x: Tensor, model: GenerativeModel, *, columns: int | None = None) -> Image.Image:
    """x as a Pillow picture, which a notebook shows: one alone, or a grid.

    Args:
        x: (B, *E); or (B, n, *E), as `triptych.edit.sweep` gives it, a row for each.
        columns: of the grid.

    Raises:
        TriptychError: for a model of data that are not pictures of 1, 3 or 4 channels.

    >>> show(model.sample(16), model)  # doctest: +SKIP
    """
    return figures.grid(*_pictures(x, model, columns))


def save(x: Tensor, path: str | Path, model: GenerativeModel, *, columns: int | None = None) -> None:
    """Writes x to a file: a picture or a grid (.png, .jpg), a film (.gif), or the stored values themselves (.npy).

    `read(path, model)` of one picture that was saved as .png gives it back, to the bin of each pixel.

    Args:
        x, columns: as those of `show`.

    Raises:
        TriptychError: for a path that cannot be written, and for data that are not pictures under another name than .npy.

    >>> save(edited, "smiling.png", model)  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        stored = model.codec.decode(x.flatten(0, x.ndim - len(model.event_shape) - 1)).cpu().numpy()
        storage.write_bytes(path, npy(stored))
    else:
        pictures, columns = _pictures(x, model, columns)
        figures.save(pictures, path, columns=columns)


def npy(values: np.ndarray) -> bytes:
    """An array as the bytes of an .npy file."""
    content = BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def _pictures(x: Tensor, model: GenerativeModel, columns: int | None) -> tuple[Tensor, int | None]:
    """Stored pictures (n, C, H, W), and how many stand in a row."""
    if x.ndim == len(model.event_shape) + 2:
        x, columns = x.flatten(0, 1), columns or x.shape[1]
    pictures = model.codec.show(model.check_event(x), model.event_shape)
    if pictures is None:
        raise TriptychError(
            f"data of shape {model.event_shape} are not 8-bit pictures: save them under a name that ends in .npy"
        )
    return pictures, columns
