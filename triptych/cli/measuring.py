"""`triptych doctor`: what is wrong with a training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.cli import parse
from triptych.cli.options import Doctor
from triptych.cli.sources import (
    load_model,
    load_splits,
    notice,
)
from triptych.errors import TriptychError

if TYPE_CHECKING:
    from triptych.recipes import Recipe


def doctor(words: Sequence[str]) -> None:
    """Prints what is wrong with a training, from its records and a few samples."""
    options = parse(Doctor, words, "triptych doctor")
    if options.samples == 1:
        raise TriptychError(f"--samples should be 0, or 2 or more to be compared with one another, got {options.samples}")
    from triptych import storage
    from triptych.doctor import History, diagnose, examine

    history, found = History.of(Path(options.run)), None
    if options.samples:
        try:
            model = load_model(str(options.run), options.model)
            found = examine(model, load_splits(str(options.run), model, options.data), options.samples)
        except TriptychError as error:  # of a model that is ill itself, or of data that are gone: the records say much
            notice(f"its samples could not be looked at: {error}")
    verdicts = diagnose(history, found, _recipe(Path(options.run)))
    for verdict in verdicts:
        print(verdict)
    if options.json:
        storage.write_json(options.json, {"verdicts": [dataclasses.asdict(v) for v in verdicts], "samples": found or {}})


def _recipe(run: Path) -> Recipe | None:
    """The run's own, if it can be read: records are judged without it too."""
    from triptych.pretrained import read_recipe

    with contextlib.suppress(TriptychError):
        return read_recipe(run)
    return None
