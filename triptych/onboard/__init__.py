"""Models on board: small ones of the drawn faces, which come with the package and are known by name. No torch here.

A folder each, as a run has it: recipe.json, model.safetensors, README.md, and the directions that were learned. Matrices are
stored in float16. They are made by `make models` (benchmarks/onboard.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from triptych.errors import TriptychError

_HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The models that are there, sorted.

    >>> "faces-vae" in names()
    True
    """
    return sorted(found.parent.name for found in _HERE.glob("*/recipe.json"))


def folder_of(name: str | Path) -> Path | None:
    """The folder of a model on board; None for other names.

    >>> folder_of("faces-vae").name, folder_of("runs/faces-vae")
    ('faces-vae', None)
    """
    return _HERE / str(name) if str(name) in names() else None


def check_not_on_board(path: Path) -> None:
    """Raises a `TriptychError` for a path among the models on board: whoever changes one changes its own copy."""
    place = Path(os.path.realpath(path))
    if place.is_relative_to(_HERE) and place != _HERE:
        name = place.relative_to(_HERE).parts[0]
        raise TriptychError(
            f"{name} is on board, where nothing is written: copy the folder {_HERE / name}, and name the copy instead"
        )
