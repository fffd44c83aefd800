"""Where a model's picture lies in a photograph, by eyes or in the centre; cutting it out, and bringing an edit back.

An affine map takes the photograph's pixels to the picture's: q = A p + b, with x to the right, y down, and a pixel's
centre half a pixel from its corner. For a face it is the similarity that puts both eyes where the alignment has them.

Shapes: photograph (C, H, W) uint8, C 1 or 3; picture (1, c, h, w) uint8, as a model stores it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from triptych.data.pictures import fit
from triptych.edit.alignment import Alignment
from triptych.edit.finding import Face, Point
from triptych.edit.photographs import check_photograph
from triptych.errors import TriptychError

FEATHER = 0.25
"""Of the picture's side: over this much of it an edit fades out towards the edge."""
_ROWS = 2**20  # values of a photograph that are changed at a time: memory stays bounded


@dataclass(frozen=True)
class Placed:
    """Where a picture lies in a photograph.

    Attributes:
        linear: A, as ((a, b), (c, d)).
        shift: b, in pixels of the picture.
        size: (h, w) of the picture.
    """

    linear: tuple[Point, Point]
    shift: Point
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """How many pixels of the picture one of the photograph's becomes."""
        (a, b), (c, d) = self.linear
        return math.sqrt(abs(a * d - b * c))

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the photograph in the picture."""
        return np.asarray(points, float) @ np.array(self.linear).T + self.shift

    def to_photograph(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the picture in the photograph."""
        return (np.asarray(points, float) - self.shift) @ np.linalg.inv(self.linear).T

    @property
    def corners(self) -> np.ndarray:
        """The picture's corners in the photograph, (4, 2), round from the one at its upper left."""
        h, w = self.size
        return self.to_photograph(np.array([[0, 0], [w, 0], [w, h], [0, h]]))


def place(face: Face, alignment: Alignment, size: tuple[int, int]) -> Placed:
    """The similarity that puts a face's eyes where the alignment has them, in a picture of (h, w) pixels.

    >>> from triptych.edit import Alignment, Face
    >>> placed = place(Face((40.0, 50.0), (60.0, 50.0)), Alignment((0.3, 0.5), (0.7, 0.5)), (10, 10))
    >>> placed.scale, placed.to_picture([[40, 50], [60, 50], [50, 60]]).round(6).tolist()
    (0.2, [[3.0, 5.0], [7.0, 5.0], [5.0, 7.0]])
    """
    h, w = size
    left, right = (complex(x * w, y * h) for x, y in (alignment.left, alignment.right))
    found, other = complex(*face.left), complex(*face.right)
    if found == other:
        raise TriptychError(f"expected two eyes in different places, got both at {face.left}")
    turn = (right - left) / (other - found)
    shift = left - turn * found
    return Placed(((turn.real, -turn.imag), (turn.imag, turn.real)), (shift.real, shift.imag), (h, w))


def centred(photograph: tuple[int, int], size: tuple[int, int]) -> Placed:
    """The centre of a photograph of (H, W) pixels, as large as it has it: what is taken where no face is asked for.

    >>> centred((40, 30), (10, 10)).corners.round(6).tolist()
    [[0.0, 5.0], [30.0, 5.0], [30.0, 35.0], [0.0, 35.0]]
    """
    (height, width), (h, w) = photograph, size
    scale = max(h / height, w / width)
    return Placed(((scale, 0.0), (0.0, scale)), ((w - scale * width) / 2, (h - scale * height) / 2), (h, w))


def align(photograph: Tensor, placed: Placed, channels: int = 3) -> Tensor:
    """The picture that lies there, (1, channels, h, w) uint8, antialiased; past the photograph's edge its last pixels go on.

    Args:
        photograph: (C, H, W) uint8.
        placed: of `place`, or `centred`.
        channels: 3, or 1 for grey.

    >>> align(torch.zeros(3, 40, 30, dtype=torch.uint8), centred((40, 30), (8, 8))).shape
    torch.Size([1, 3, 8, 8])
    """
    check_photograph(photograph)
    h, w = placed.size
    region, origin = _region(photograph, placed)
    fewer = max(1, int(0.5 / placed.scale))  # leaves two pixels or more for each of the picture's
    reduced = np.asarray(_image(region).reduce(fewer))
    values = torch.from_numpy(reduced.reshape(*reduced.shape[:2], -1).copy()).permute(2, 0, 1).float()
    more = max(1, math.ceil(1 / (placed.scale * fewer)))
    steps = (np.stack(np.meshgrid(np.arange(w * more), np.arange(h * more)), axis=-1) + 0.5) / more
    at = (placed.to_photograph(steps.reshape(-1, 2)) - origin) / fewer
    sampled = _sampled(values, at.reshape(h * more, w * more, 2), "border").clamp(0, 255).round().byte()
    drawn = fit(_image(sampled).convert("L" if channels == 1 else "RGB"), (h, w))
    picture = torch.from_numpy(np.asarray(drawn).reshape(h, w, channels).copy())
    return picture.permute(2, 0, 1)[None].contiguous()


def paste_back(photograph: Tensor, placed: Placed, before: Tensor, after: Tensor) -> Tensor:
    """The photograph with what an edit changes: `after` − `before`, enlarged smoothly, faded out towards the picture's edge.

    The difference alone is added, so that the photograph keeps the detail that a small picture does not have; where the
    edit does not reach, every value stays as it is.

    Args:
        photograph: (C, H, W) uint8.
        placed: where the picture was taken from.
        before: the reconstruction, (1, c, h, w) uint8.
        after: the edited picture, alike.

    >>> photograph = torch.zeros(3, 40, 30, dtype=torch.uint8)
    >>> placed = centred((40, 30), (8, 8))
    >>> before = align(photograph, placed)
    >>> bool((paste_back(photograph, placed, before, before) == photograph).all())
    True
    """
    check_photograph(photograph)
    for name, picture in (("before", before), ("after", after)):
        if picture.ndim != 4 or len(picture) != 1 or tuple(picture.shape[2:]) != placed.size:
            raise TriptychError(f"expected {name} as one picture of {placed.size} pixels, got {tuple(picture.shape)}")
    change = after[0].float() - before[0].float()
    if len(change) != len(photograph):  # grey on colours changes all of them alike
        change = change.mean(0, keepdim=True)
    apart = 1 / placed.scale  # pixels of the photograph between two of the picture's
    if apart < 1:
        sides = [max(1, round(side * apart)) for side in placed.size]
        change = F.interpolate(change[None], sides, mode="bilinear", antialias=True)[0]
    out, (left, top, right, bottom) = photograph.clone(), _box(photograph, placed)
    rows = max(1, _ROWS // max(1, right - left))
    for start in range(top, bottom, rows):
        stop = min(bottom, start + rows)
        out[:, start:stop, left:right] = _changed(photograph[:, start:stop, left:right], (left, start), placed, change)
    return out


def _changed(part: Tensor, origin: tuple[int, int], placed: Placed, change: Tensor) -> Tensor:
    """A part of the photograph with the change added."""
    h, w = part.shape[1:]
    pixels = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1) + 0.5 + np.array(origin)
    at = placed.to_picture(pixels.reshape(-1, 2)) / np.array(placed.size[::-1])  # 0 … 1 in the picture
    inside = np.minimum(at, 1 - at).clip(0, FEATHER) / FEATHER
    weight = torch.from_numpy((inside**2 * (3 - 2 * inside)).prod(1).reshape(h, w)).float()
    sides = np.array(change.shape[:0:-1])
    added = _sampled(change, (at * sides).reshape(h, w, 2), "border") * weight
    return torch.where(weight > 0, (part + added).round().clamp(0, 255), part.float()).byte()


def _sampled(values: Tensor, at: np.ndarray, beyond: str) -> Tensor:
    """values (C, H, W) at points (h, w, 2), by cubic interpolation."""
    sides = np.array([values.shape[2], values.shape[1]])
    grid = torch.from_numpy(2 * at / sides - 1).float()
    return F.grid_sample(values[None], grid[None], mode="bicubic", padding_mode=beyond, align_corners=False)[0]


def _box(photograph: Tensor, placed: Placed, margin: float = 0.0) -> tuple[int, int, int, int]:
    """The pixels that the picture's corners span, inside the photograph: left, top, right, bottom."""
    sides = np.array([photograph.shape[2], photograph.shape[1]])
    low = np.clip(np.floor(placed.corners.min(0) - margin), 0, sides - 1).astype(int)
    high = np.clip(np.ceil(placed.corners.max(0) + margin), low + 1, sides).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _region(photograph: Tensor, placed: Placed) -> tuple[Tensor, np.ndarray]:
    """What is needed of the photograph, and where its upper left corner lies."""
    left, top, right, bottom = _box(photograph, placed, 4 / placed.scale)
    return photograph[:, top:bottom, left:right], np.array([left, top])


def _image(values: Tensor) -> Image.Image:
    found = values.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(found[..., 0] if found.shape[2] == 1 else found)


def apart(one: Placed, other: Placed) -> float:
    """How far apart two places are: the largest distance of a corner from its other self, as a share of the side."""
    first, second = one.corners, other.corners
    return float(np.linalg.norm(first - second, axis=1).max() / np.linalg.norm(second[1] - second[0]))
