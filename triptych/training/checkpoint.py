"""The folders in state/: everything that training needs to go on, as safetensors and JSON.

The newest two are kept, and the newest by steps: a rollback restores that one, so that what is trained does not depend on
when the clock, or a person, had others written.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from triptych import storage
from triptych.errors import TriptychError
from triptych.pretrained import FORMAT

KEPT = 2


@dataclass
class Progress:
    """The numbers that a training goes on from; state.json holds them.

    Attributes:
        step: rounds played.
        rate_scale: factor on the recipe's learning rate, halved by each rollback.
        rollbacks: how often the last good state was restored.
        data_size: how many training examples the run began with; None before the first `fit`.
        data_digest: of these examples, in their order (`Split.digest`); empty where it is not known.
        begun: the step at which each player began, by its name; None in files of earlier versions: at its first.
    """

    step: int = 0
    rate_scale: float = 1.0
    rollbacks: int = 0
    data_size: int | None = None
    data_digest: str = ""
    begun: dict[str, int] | None = field(default_factory=dict)


class Checkpoint(NamedTuple):
    """A training at one step.

    Attributes:
        progress: the numbers of the training.
        param_groups: of each optimiser, by its player's name.
        tensors: weights.*, average.*, health.PLAYER.* and optimizer.PLAYER.INDEX.SLOT, the index being the parameter's.
    """

    progress: Progress
    param_groups: dict[str, list[dict[str, Any]]]
    tensors: dict[str, Tensor]

    def section(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with the prefix, named without it.

        >>> Checkpoint(Progress(), {}, {"weights.a": 1, "average.a": 2}).section("average.")
        {'a': 2}
        """
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def write(folder: Path, checkpoint: Checkpoint, every: int) -> None:
    """Writes a checkpoint of the run in `folder`; older ones stay until it is complete.

    Args:
        every: steps between those by steps, of which the newest is kept too.
    """
    target = folder / "state" / f"{checkpoint.progress.step:09d}"
    with storage.write_folder(target) as temporary:
        tensors = temporary / "state.safetensors"
        storage.write_tensors(tensors, checkpoint.tensors)
        numbers = {"format": FORMAT, **asdict(checkpoint.progress), "param_groups": checkpoint.param_groups}
        storage.write_json(temporary / "state.json", numbers | {"sha256": storage.digest(tensors)})
        if target.exists():  # a run that is rolled back saves its step once more
            shutil.rmtree(target)
    steps = _steps(folder)
    for old in set(steps) - {*steps[-KEPT:], *_regular(steps, every)[-1:]}:
        shutil.rmtree(old, ignore_errors=True)


def newest(folder: Path, every: int | None = None) -> Checkpoint:
    """The newest checkpoint of the run in `folder`, verified.

    Args:
        every: steps between those by steps: the newest of them, if there is one.

    Raises:
        TriptychError: where there is none, or it is damaged; the message names the one before it.
    """
    steps = _steps(folder)
    steps = steps if every is None else _regular(steps, every) or steps
    if not steps:
        raise TriptychError(f"{folder} has no checkpoint to resume from: train it anew with --overwrite")
    try:
        return _read(steps[-1])
    except (TriptychError, OSError, KeyError, TypeError) as error:
        older = f"delete {steps[-1]} to go on from {steps[-2].name}" if len(steps) > 1 else "train it anew with --overwrite"
        raise TriptychError(f"checkpoint {steps[-1]} is damaged ({error}): {older}") from error


def drop_after(folder: Path, step: int) -> None:
    """Removes the checkpoints of later steps, which a rollback has given up."""
    for path in _steps(folder):
        if int(path.name) > step:
            shutil.rmtree(path)


def _read(folder: Path) -> Checkpoint:
    numbers = storage.read_json(folder / "state.json")
    if storage.digest(folder / "state.safetensors") != numbers["sha256"]:
        raise TriptychError("state.safetensors is not what was written")
    return Checkpoint(_progress(numbers), numbers["param_groups"], storage.read_tensors(folder / "state.safetensors"))


def _progress(numbers: dict[str, Any]) -> Progress:
    return Progress(**{"begun": None, **{f.name: numbers[f.name] for f in fields(Progress) if f.name in numbers}})


def progress_of(folder: Path) -> Progress | None:
    """The numbers of the run's newest checkpoint, without its tensors; None where they cannot be read."""
    steps = _steps(folder)
    with contextlib.suppress(TriptychError, OSError, KeyError, TypeError):
        return _progress(storage.read_json(steps[-1] / "state.json")) if steps else None
    return None


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "state").glob("*") if path.name.isdigit())


def _regular(steps: list[Path], every: int) -> list[Path]:
    """Those that were written by steps, not by the clock or by Ctrl-C."""
    return [path for path in steps if int(path.name) % every == 0]
