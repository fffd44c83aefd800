"""The judge of the drawn faces: a network that reads attributes, and has seen neither a model nor its faces."""

from __future__ import annotations

import torch

from triptych import edit
from triptych.data.faces import Faces

_FIRST = 10_000_000  # index of the judge's first face: none of a model's
_LESSONS = 20_000


def judge_of_faces(size: int, steps: int = 4000, lessons: int = _LESSONS) -> edit.Reader:
    """Learned from faces of its own, whose smiles go from −2 to 2, beyond the models' −1 to 1.

    >>> judge_of_faces(32)  # doctest: +SKIP
    """
    faces = Faces(lessons, size, seed=1, start=_FIRST, ranges={"smile": (-2.0, 2.0)})
    return edit.learn_reader(torch.from_numpy(faces[:]), faces.attributes, steps=steps, width=16, seed=7)
