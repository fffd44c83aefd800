"""Which face of a photograph is edited, or its centre, and in what words it is said that there is none.

Shapes: photograph (C, H, W) uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from triptych.edit.alignment import Alignment
from triptych.edit.finding import Face
from triptych.edit.placing import Placed, apart, centred, place
from triptych.errors import TriptychError

Which = Literal["auto", "centre", "largest"] | int
_WORDS: dict[str, Which] = {"auto": "auto", "centre": "centre", "largest": "largest"}
_ALIGNED = 0.15  # of the side: a picture whose corners all lie within this of the face's counts as aligned


class Chosen(NamedTuple):
    """Where the edited picture lies.

    Attributes:
        number: of the face, counted from 1, the largest first; None for the centre.
    """

    placed: Placed
    number: int | None = None


def parse_which(text: str) -> Which:
    """auto, centre, largest, or a face's number from 1.

    Raises:
        TriptychError: for anything else.

    >>> parse_which("2"), parse_which("centre")
    (2, 'centre')
    """
    word: Which | None = _WORDS.get(text)
    if word is not None:
        return word
    if not (text.isascii() and text.isdigit() and 0 < int(text[:4]) < 1000):
        raise TriptychError(f"expected a face as auto, centre, largest or its number from 1, got {text[:40]!r}")
    return int(text)


def choose(
    faces: Sequence[Face], which: Which, alignment: Alignment | None, photograph: tuple[int, int], size: tuple[int, int]
) -> Chosen:
    """The face that is meant, aligned, or the centre.

    Args:
        faces: of `find_faces`.
        which: "largest", or a number from 1; "centre"; or "auto": the largest, and the centre where there is none or where
            the photograph is an aligned picture already.
        alignment: where a face's eyes are put; the centre needs none.
        photograph: its (H, W).
        size: (h, w) of the model's pictures.

    Raises:
        TriptychError: where that face is not there, or nothing says where its eyes are put.
    """
    centre = Chosen(centred(photograph, size))
    if which == "centre" or (which == "auto" and not faces):
        return centre
    if not faces:
        raise TriptychError("no face is found in this photograph: take its centre instead (centre), or a larger face")
    number = which if isinstance(which, int) else 1
    if number > len(faces):
        count = "one face is" if len(faces) == 1 else f"{len(faces)} faces are"
        raise TriptychError(f"{count} found in this photograph, not {number}: choose one of them, or its centre (centre)")
    if alignment is None:
        raise TriptychError("a face is placed by an Alignment, got None: measure_alignment finds one, or take the centre")
    found = place(faces[number - 1], alignment, size)
    return centre if which == "auto" and apart(found, centre.placed) < _ALIGNED else Chosen(found, number)
