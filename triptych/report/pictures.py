"""Pictures inside the page: PNG as data URLs, small ones enlarged by whole factors when they are shown, never smoothed."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import TypeAlias

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from triptych import figures
from triptych.errors import TriptychError

Picture: TypeAlias = Tensor | Image.Image | bytes
"""Stored values (C, H, W) uint8, a Pillow picture, or the bytes of a PNG file."""
PIXELATED = 160  # pixels: a picture with no longer side is shown with hard edges
SHOWN = 224  # pixels: small pictures are shown at the largest whole multiple that stays below


def image(picture: Picture, alt: str, most: int = SHOWN) -> str:
    """An `img` element of a picture.

    Args:
        most: pixels that a small picture is enlarged to, at most.

    Raises:
        TriptychError: for what is not a picture, and without an alternative text.

    >>> import torch
    >>> image(torch.zeros(1, 8, 8, dtype=torch.uint8), "a black square")[:70]
    '<img alt="a black square" width="224" height="224" class="crisp" src="'
    """
    check_alt(alt)
    content, (width, height) = _png(picture)
    factor = max(1, most // max(width, height))
    source = base64.b64encode(content).decode("ascii")
    style = ' class="crisp"' if max(width, height) <= PIXELATED else ""
    size = f'width="{width * factor}" height="{height * factor}"'
    return f'<img alt="{escape(alt)}" {size}{style} src="data:image/png;base64,{source}">'


def check_alt(alt: str) -> None:
    """Raises a `TriptychError` for a figure that nobody could read without seeing it."""
    if not alt.strip():
        raise TriptychError("every figure needs an alternative text, got none: say in alt what it shows")


def _png(picture: Picture) -> tuple[bytes, tuple[int, int]]:
    if isinstance(picture, bytes):
        return picture, _size(picture)
    drawn = figures.image(picture, enlarge=False) if isinstance(picture, Tensor) else picture
    if not isinstance(drawn, Image.Image):
        raise TriptychError(
            f"expected a picture: stored values (C, H, W), a Pillow picture or PNG bytes, got {picture!r:.60}"
        )
    return figures.encoded(drawn, optimize=True), drawn.size


def _size(content: bytes) -> tuple[int, int]:
    try:
        with Image.open(BytesIO(content), formats=("PNG",)) as found:
            return found.size
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow's words for other bytes
        raise TriptychError(
            f"expected the bytes of a PNG file, got {len(content)} others: encode the picture first"
        ) from error
