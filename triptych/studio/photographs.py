"""Photographs: the files that pictures are taken from, whose faces are found once, and to which an edit goes back.

Shapes: stored (1, C, H, W) uint8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from triptych import edit
from triptych.edit.choosing import Which
from triptych.errors import TriptychError
from triptych.studio import images, schemas
from triptych.studio.problems import Problem
from triptych.studio.served import Served

_PREVIEW = 480  # pixels of the longer side


@dataclass(frozen=True, eq=False)
class Photograph:
    """An uploaded file, held as it came.

    Attributes:
        sides: (H, W), upright.
        preview: a small JPEG, as a data URL.
        faces: the largest first; None: they were not looked for.
        note: why not, or "".
    """

    content: bytes
    sides: tuple[int, int]
    preview: str
    faces: list[edit.Face] | None = None
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes that it takes up, about."""
        return len(self.content) + len(self.preview) + 8192


@dataclass(frozen=True, eq=False)
class Taken:
    """A picture that was taken from a photograph: stored, and where it lies."""

    photograph: Photograph
    chosen: edit.Chosen
    stored: Tensor


def take(source: bytes | Photograph, served: Served, which: Which, most: int) -> Taken:
    """The face that is meant, as the model's training data have faces, or the centre.

    Faces are looked for where the model has an alignment, unless the centre is asked for, or "auto" for a picture that has
    the model's size already.

    Args:
        source: a file's bytes, or a photograph that is open already.
        most: pixels that it may have.

    Raises:
        Problem: for what cannot be read.
        TriptychError: where the face that is asked for is not there, or cannot be looked for.
    """
    if isinstance(source, bytes):
        source = Photograph(source, *images.preview(source, _PREVIEW, most))
    if which == "auto" and (served.alignment is None or source.sides == served.size):
        which = "centre"
    if which != "centre" and served.alignment is None:
        raise Problem(
            f"the model {served.id} does not say where its training data have faces: triptych edit --face largest finds "
            "it out, or take the centre (face=centre)"
        )
    pixels = None  # all of them take seconds and hundreds of megabytes: read where a face is searched or cut out, once
    if which != "centre" and source.faces is None:
        pixels = edit.read_photograph(source.content, most).pixels
        source = _searched(source, pixels, which)
    chosen = edit.choose(source.faces or [], which, served.alignment, source.sides, served.size)
    if chosen.number is None:
        return Taken(source, chosen, images.read(source.content, served.event_shape, most))
    pixels = edit.read_photograph(source.content, most).pixels if pixels is None else pixels
    return Taken(source, chosen, edit.align(pixels, chosen.placed, served.event_shape[0]))


def _searched(source: Photograph, pixels: Tensor, which: Which) -> Photograph:
    try:
        return replace(source, faces=edit.find_faces(pixels), note="")
    except TriptychError as error:
        if which == "auto":  # the picture is opened all the same
            return replace(source, faces=[], note=f"{error}")
        raise


def pasted(photograph: Photograph, chosen: edit.Chosen, before: Tensor, after: Tensor, most: int) -> bytes:
    """The whole photograph as PNG, with what an edit changes in it."""
    read = edit.read_photograph(photograph.content, most)
    return read.png(edit.paste_back(read.pixels, chosen.placed, before, after))


def described(photograph: Photograph, chosen: edit.Chosen) -> schemas.Photograph:
    """What the page shows of it."""
    height, width = photograph.sides
    found = None if photograph.faces is None else [
        schemas.FaceBox(corners=(face.corners / (width, height)).tolist(), eyes=face.seen) for face in photograph.faces
    ]  # fmt: skip
    corners = (chosen.placed.corners / (width, height)).tolist()
    return schemas.Photograph(
        image=photograph.preview, width=width, height=height, faces=found, face=chosen.number, taken=corners,
        note=photograph.note,
    )  # fmt: skip
