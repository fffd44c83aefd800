"""What the studio bounds: bodies, pictures, memory, queues and strengths."""

from __future__ import annotations

from dataclasses import dataclass

STRENGTH = 1e3
"""The largest absolute strength of an edit, in the direction's own units."""
MIXED = 4
"""Pictures that are mixed at once."""
SAMPLES = 64
"""Examples of one draw."""
FRAMES = 60
"""Frames of a sweep."""
PILE = 200
"""Pictures of one pile of Teach."""
SCORED = 64
"""Files of one request of Score."""
NAME = 80
"""Characters of a direction's name, or of a model's id."""


@dataclass(frozen=True)
class Limits:
    """Bounds that may be set otherwise, as tests do.

    Attributes:
        upload: bytes of the body that brings one picture; folder: of one that brings several; json: of any other.
        reading: bytes of all bodies that are held at a time.
        patience: seconds that a client may take between two parts of its body.
        pixels: of a picture, before it is decoded.
        pictures: bytes of all pictures that are kept, with their codes; photographs: of the files that they were taken from.
        expiry: seconds after which a picture that nobody used is forgotten.
        waiting: pieces of work that may wait for one model; together: those that it does at once.
    """

    upload: int = 2**24
    folder: int = 2**26
    json: int = 2**16
    reading: int = 2**28
    patience: float = 20.0
    pixels: int = 50_000_000
    pictures: int = 2**28
    photographs: int = 2**28
    expiry: float = 1800.0
    waiting: int = 64
    together: int = 16
