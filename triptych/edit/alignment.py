"""Where a data set has the eyes of its faces: known, measured on its pictures, or kept in a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from triptych import storage
from triptych.edit.finding import Face, Point, find_faces
from triptych.errors import TriptychError

FILE = "alignment.json"
_FORMAT = 1
_LEAST = 10  # faces that a measurement needs


@dataclass(frozen=True)
class Alignment:
    """Where the eyes are in an aligned picture.

    Attributes:
        left: of the eye at the left of the picture, (x, y) as shares of width and height.
        right: of the other.
    """

    left: Point
    right: Point

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) and -1 <= v <= 2 for v in (*self.left, *self.right)) or self.left[0] >= self.right[0]:
            raise TriptychError(f"expected two eyes side by side as shares of a picture, got {self.left} and {self.right}")

    def cropped(self, whole: tuple[int, int], size: tuple[int, int]) -> Alignment:
        """The same in pictures of (h, w) pixels, which are the centre of pictures of (H, W) pixels."""
        scale = max(size[0] / whole[0], size[1] / whole[1])
        ratio = scale * np.array(whole[::-1]) / np.array(size[::-1])  # of the whole picture's sides to the centre's
        (a, b), (c, d) = ((np.array([self.left, self.right]) - 0.5) * ratio + 0.5).tolist()
        return Alignment((a, b), (c, d))

    def save(self, folder: Path) -> None:
        """Writes alignment.json into a run."""
        storage.write_json(folder / FILE, {"format": _FORMAT, "left": [*self.left], "right": [*self.right]})

    @classmethod
    def load(cls, folder: Path) -> Alignment | None:
        """What a run keeps; None where it keeps none.

        Raises:
            TriptychError: for a file that is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        stored = storage.read_json(path)
        try:
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']!r}, this version knows {_FORMAT}")
            (a, b), (c, d) = (map(float, stored[name]) for name in ("left", "right"))
            return cls((a, b), (c, d))
        except (KeyError, TypeError, ValueError) as error:
            raise TriptychError(f"{path} does not hold two eyes ({error}): remove it, and it is measured again") from error


CELEBA = Alignment((0.3889, 0.5114), (0.6091, 0.5114))
"""The eyes in CelebA's aligned pictures of 218×178 pixels, as `find_faces` sees them: `benchmarks/face_finding.py`."""
_CELEBA_SIZE = (218, 178)
DRAWN = Alignment((0.405, 0.465), (0.595, 0.465))
"""The eyes of the drawn faces that look straight ahead."""


def known_alignment(data: str, size: tuple[int, int]) -> Alignment | None:
    """The alignment of a data set that is known by its name, in pictures of (h, w) pixels; None for any other.

    >>> known_alignment("digits", (8, 8)) is None, known_alignment("celeba10k", (64, 64)) is None
    (True, False)
    """
    data = data.partition("?")[0]
    if data == "faces":  # a folder of one's own may be called faces, too
        return DRAWN.cropped((1, 1), size)
    return CELEBA.cropped(_CELEBA_SIZE, size) if Path(data).name in ("celeba", "celeba10k") else None


def measure_alignment(pictures: Tensor) -> Alignment:
    """Where the eyes are in a set of aligned pictures: the median over those in which a face with both eyes is found.

    Args:
        pictures: (N, C, h, w) uint8; some hundred are enough.

    Raises:
        TriptychError: for fewer than 10 such faces.
    """
    faces = [_main(find_faces(picture)) for picture in pictures]
    eyes = np.array([[face.left, face.right] for face in faces if face is not None])
    if len(eyes) < _LEAST:
        raise TriptychError(
            f"a face with two eyes is found in {len(eyes)} of {len(pictures)} pictures, {_LEAST} are needed to tell how "
            "they are aligned: use the centre instead"
        )
    (a, b), (c, d) = (np.median(eyes, axis=0) / np.array(pictures.shape[:1:-1])).tolist()
    return Alignment((a, b), (c, d))


def _main(faces: list[Face]) -> Face | None:
    return next((face for face in faces if face.seen), None)
