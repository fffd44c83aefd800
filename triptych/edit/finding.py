"""Faces in photographs, by the cascades of Haar features that OpenCV brings (Viola & Jones 2001; Lienhart & Maydt 2002).

The photograph is looked at in a size of its own, upright and turned to both sides, so that the time is bounded whatever its
size. Each face that is found is looked at again, enlarged and turned upright, for its eyes: what several cascades say of
an eye is taken together with where eyes lie in a face of such a box, which is all there is where none is seen.

Shapes: photograph (C, H, W) uint8; grey pictures (h, w) uint8, of which `View` knows how they lie in the photograph.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from triptych.errors import TriptychError

Point = tuple[float, float]
_LARGEST = 2048  # pixels of the longer side that eyes are looked for in
_SIDE, _ENLARGED = 480, 192  # pixels of the longer side in which faces are looked for, at most, and where it has fewer
_SMALLEST = 24  # pixels of a face there: a twentieth of the photograph
_TURNS = (0.0, -25.0, 25.0)  # degrees; the cascades bear about 15 to each side
_SURE = 4  # windows that have to agree on a face
_FACES = 16  # that are looked at again
_PATCH, _BOX = 192, 96  # pixels of a face's patch, and of the face in it
# where eyes lie from the middle of a face's box, in its width: measured on CelebA by `benchmarks/face_finding.py`
_ASIDE, _ABOVE = 0.193, 0.121
_NEAR = 0.2  # of the box's width: how far an eye may lie from where it is expected
_EYES = {"eye": 0.0, "eye_tree_eyeglasses": 0.0, "lefteye_2splits": 0.13, "righteye_2splits": 0.13}
# and how far above the eye each has the middle of its window, of the window's height: the last two see the brow too


@dataclass(frozen=True)
class Face:
    """A face in a photograph, in its pixels: x to the right, y down.

    Attributes:
        left: the eye at the left of the upright face.
        right: the other.
        seen: whether the eyes were seen; else they are where eyes lie in a face of this size.
    """

    left: Point
    right: Point
    seen: bool = True

    @property
    def width(self) -> float:
        """Of the face, without the ears."""
        return float(np.hypot(*np.subtract(self.right, self.left))) / (2 * _ASIDE)

    @property
    def corners(self) -> np.ndarray:
        """The square around the face, (4, 2), round from the corner at its upper left."""
        across = np.subtract(self.right, self.left) / (2 * _ASIDE)
        down = np.array([-across[1], across[0]])
        middle = np.add(self.left, self.right) / 2 + _ABOVE * down
        return np.array([middle + (x * across + y * down) / 2 for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))])


def find_faces(photograph: Tensor) -> list[Face]:
    """The faces in a photograph, the largest first; none where none is found.

    Faces may be tilted by about 40° to each side, and have to be a twentieth of the longer side, and 24 pixels, or more.

    Args:
        photograph: (C, H, W) uint8, upright.

    Raises:
        TriptychError: where OpenCV is missing (`pip install 'triptych[faces]'`), and for anything but such values.

    >>> import torch
    >>> find_faces(torch.zeros(3, 60, 80, dtype=torch.uint8))
    []
    """
    from triptych.edit.photographs import check_photograph

    check_photograph(photograph)
    grey, pixels = _grey(photograph)
    found = _apart([_looked_at(grey, candidate) for candidate in _candidates(opencv(), grey)])
    return sorted((_enlarged(face, pixels) for face in found), key=lambda face: -face.width)


def _enlarged(face: Face, pixels: np.ndarray) -> Face:
    """The face in the photograph's own pixels."""
    (a, b), (c, d) = (np.array([face.left, face.right]) * pixels).tolist()
    return Face((a, b), (c, d), face.seen)


@functools.cache
def opencv() -> Any:
    """OpenCV.

    Raises:
        TriptychError: where it is missing, or has no cascades.
    """
    try:
        import cv2
    except ImportError as error:
        raise TriptychError("faces are found by OpenCV, which is missing: pip install 'triptych[faces]'") from error
    if not hasattr(cv2, "CascadeClassifier"):
        raise TriptychError(f"OpenCV {cv2.__version__} has no cascades to find faces by: pip install 'triptych[faces]'")
    return cv2


class _Cascades(threading.local):
    """Cascades by name, those of each thread: one is not made for several."""

    def __init__(self) -> None:
        self._read: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        if name not in self._read:
            self._read[name] = opencv().CascadeClassifier(f"{opencv().data.haarcascades}haarcascade_{name}.xml")
        return self._read[name]


_cascade = _Cascades()


class View(NamedTuple):
    """A grey picture (h, w), and the map (2, 3) that takes the photograph's pixels to its own."""

    values: np.ndarray
    matrix: np.ndarray

    def back(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of this picture in the photograph."""
        return (np.asarray(points, float) - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T


class _Box(NamedTuple):
    """A face that a cascade has seen: its middle and width, its tilt in degrees, and how many windows agree."""

    middle: np.ndarray
    width: float
    tilt: float
    windows: float


def _grey(photograph: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) of at most `_LARGEST` pixels a side, and how many of the photograph's pixels each is across and down."""
    cv2, (height, width) = opencv(), photograph.shape[1:]
    fewer = max(1.0, max(height, width) / _LARGEST)
    size = (max(1, round(width / fewer)), max(1, round(height / fewer)))
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in photograph.contiguous().numpy()]
    grey = planes[0] if len(planes) == 1 else cv2.cvtColor(cv2.merge(planes), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey), np.array([width, height]) / size


def _candidates(cv2: Any, grey: np.ndarray) -> list[_Box]:
    """What may be a face, the surest first."""
    boxes = [box for view, turn in _views(cv2, grey) for box in _boxes(view, turn)]
    found: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: -box.windows):
        same = next((i for i, other in enumerate(found) if _is_same(box, other[0])), None)
        if same is None:
            found.append([box])
        else:
            found[same].append(box)
    merged = sorted((_merged(same) for same in found), key=lambda box: -box.windows)
    return [box for box in merged if box.windows >= _SURE][:_FACES]


def _views(cv2: Any, grey: np.ndarray) -> Iterator[tuple[View, float]]:
    """The photograph in the size in which faces are looked for, at several turns."""
    side = max(grey.shape)
    scale = min(_SIDE, max(_ENLARGED, side)) / side
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    ratio = np.array(size) / grey.shape[::-1]
    for turn in _TURNS:
        if turn == 0:
            yield View(small, np.array([[ratio[0], 0, 0], [0, ratio[1], 0]])), turn
            continue
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        rotation = np.array([[cos, sin], [-sin, cos]])  # turns a face that is tilted so upright
        whole = np.ceil(np.abs(rotation) @ size).astype(int)
        shift = whole / 2 - rotation @ (np.array(size) / 2)
        turned = _warped(small, np.c_[rotation, shift], (int(whole[0]), int(whole[1])))
        yield View(turned, np.c_[rotation * ratio, shift]), turn


def _boxes(view: View, turn: float) -> list[_Box]:
    found, windows = _cascade("frontalface_alt2").detectMultiScale2(view.values, 1.15, 2, 0, (_SMALLEST, _SMALLEST))
    scale = np.sqrt(abs(np.linalg.det(view.matrix[:, :2])))
    return [
        _Box(view.back(np.array([[x + w / 2, y + h / 2]]))[0], w / scale, turn, float(n))
        for (x, y, w, h), n in zip(found, np.ravel(windows), strict=True)
    ]


def _is_same(one: _Box, other: _Box) -> bool:
    larger, smaller = max(one.width, other.width), min(one.width, other.width)
    return bool(np.linalg.norm(one.middle - other.middle) < 0.4 * larger and smaller > larger / 2)


def _merged(boxes: list[_Box]) -> _Box:
    weights = np.array([box.windows for box in boxes])
    middle, width, tilt = (
        np.average([getattr(box, name) for box in boxes], axis=0, weights=weights) for name in ("middle", "width", "tilt")
    )
    return _Box(middle, float(width), float(tilt), float(weights.sum()))


def _looked_at(grey: np.ndarray, box: _Box) -> Face:
    """The face with its eyes, looked for twice: the second time as upright as the first made it."""
    face = _expected(box)
    for _ in range(2):
        patch = _patch(grey, face)
        (left, right), seen = zip(*(_eye(patch, side) for side in (-1, 1)), strict=True)
        (a, b), (c, d) = patch.back(np.array([left, right])).tolist()
        face = Face((a, b), (c, d), all(seen))
    return face


def _expected(box: _Box) -> Face:
    """Where the eyes lie in a face of such a box."""
    cos, sin = np.cos(np.radians(box.tilt)), np.sin(np.radians(box.tilt))
    across, down = box.width * np.array([cos, sin]), box.width * np.array([-sin, cos])
    (a, b), (c, d) = ((box.middle + side * _ASIDE * across - _ABOVE * down).tolist() for side in (-1, 1))
    return Face((a, b), (c, d), seen=False)


def _patch(grey: np.ndarray, face: Face) -> View:
    """The face turned upright, its box `_BOX` pixels wide in the middle of `_PATCH`."""
    corners = face.corners
    across = (corners[1] - corners[0]) / _BOX
    inverse = np.linalg.inv(np.array([across, [-across[1], across[0]]]).T)
    matrix = np.c_[inverse, (_PATCH - _BOX) / 2 - inverse @ corners[0]]
    # the part that is needed, averaged first where the patch has fewer pixels
    reach, fewer = _PATCH / _BOX * face.width, max(1, int(np.hypot(*across)))
    low = np.clip(corners.mean(0) - reach, 0, np.array(grey.shape[::-1]) - 1).astype(int)
    high = np.clip(corners.mean(0) + reach, low + 1, grey.shape[::-1]).astype(int)
    sides = [max(1, int(side) // fewer) for side in high - low]
    part = opencv().resize(grey[low[1] : high[1], low[0] : high[0]], sides, interpolation=opencv().INTER_AREA)
    ratio = (high - low) / sides
    return View(_warped(part, np.c_[matrix[:, :2] * ratio, matrix[:, :2] @ low + matrix[:, 2]], (_PATCH, _PATCH)), matrix)


def _warped(values: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """values under a map of pixels whose centres lie half a pixel from their corners; OpenCV has them at whole numbers."""
    cv2 = opencv()
    shift = matrix[:, 2] + matrix[:, :2].sum(1) / 2 - 0.5
    return np.asarray(cv2.warpAffine(values, np.c_[matrix[:, :2], shift], size, borderMode=cv2.BORDER_REPLICATE))


def _eye(patch: View, side: int) -> tuple[np.ndarray, bool]:
    """Where the eye at the left (−1) or right (1) is in a patch: the mean of what is seen near its place, and the place."""
    place = np.array([_PATCH / 2 + side * _ASIDE * _BOX, _PATCH / 2 - _ABOVE * _BOX])
    low, high = (place - 0.32 * _BOX).astype(int), (place + 0.32 * _BOX).astype(int)
    part = np.ascontiguousarray(patch.values[low[1] : high[1], low[0] : high[0]])
    seen = []
    for name, above in _EYES.items():
        for x, y, w, h in _cascade(name).detectMultiScale(part, 1.08, 2, 0, (16, 16), (48, 48)):
            at = low + np.array([x + w / 2, y + (0.5 + above) * h])
            if np.linalg.norm(at - place) < _NEAR * _BOX:
                seen.append(at)
    return np.mean([*seen, place], axis=0), bool(seen)


def _apart(faces: list[Face]) -> list[Face]:
    """Without those that lie on a surer one."""
    kept: list[Face] = []
    for face in faces:
        middle = face.corners.mean(0)
        if all(np.linalg.norm(middle - other.corners.mean(0)) > 0.5 * max(face.width, other.width) for other in kept):
            kept.append(face)
    return kept
