"""The folders in state/: everything that training needs to go on, as safetensors and JSON.

The newest two are kept, and the newest by steps: a rollback restores that one, so that what is trained does not depend on
when the clock, or a person, had others written.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from triptych import folders, storage
from triptych.errors import TriptychError, check_range, check_size
from triptych.pretrained import FORMAT

KEPT = 2
_COPIES = 16  # of the weights: their average and an optimiser's slots are five
_MOST = 10**12  # steps and examples, as many as a recipe may ask for


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
        tensors: weights.*, average.*, health.PLAYER.* and optimizer.PLAYER.INDEX.SLOT, the index being the parameter's.
        source: the folder it was read from; None for one that is to be written.
    """

    progress: Progress
    tensors: dict[str, Tensor]
    source: Path | None = None

    def section(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with the prefix, named without it.

        >>> Checkpoint(Progress(), {"weights.a": 1, "average.a": 2}).section("average.")
        {'a': 2}
        """
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def write(folder: Path, checkpoint: Checkpoint, every: int) -> None:
    """Writes a checkpoint of the run in `folder`; older ones stay until it is complete, one of the same step too: a run
    that is rolled back saves its step once more.

    Args:
        every: steps between those by steps, of which the newest is kept too.
    """
    target = folder / "state" / f"{checkpoint.progress.step:09d}"
    with storage.write_folder(target) as temporary:
        tensors = temporary / "state.safetensors"
        storage.write_tensors(tensors, checkpoint.tensors)
        numbers = {"format": FORMAT, **asdict(checkpoint.progress)}
        storage.write_json(temporary / "state.json", numbers | {"sha256": storage.digest(tensors)})
    steps = _steps(folder)
    for old in set(steps) - {*steps[-KEPT:], *_regular(steps, every)[-1:]}:
        folders.discard(old)


def largest(model: nn.Module) -> int:
    """The bytes that a state of the model may have, so that what is larger is not even hashed."""
    return 2**24 + _COPIES * sum(v.numel() * v.element_size() for v in model.state_dict().values())


def newest(folder: Path, every: int | None = None, most: int | None = None) -> Checkpoint:
    """The newest checkpoint of the run in `folder`, verified.

    Args:
        every: steps between those by steps: the newest of them, if there is one.
        most: bytes of its tensors' file.

    Raises:
        TriptychError: where there is none, or it is damaged; the message names the one before it.
    """
    steps = _steps(folder)
    steps = steps if every is None else _regular(steps, every) or steps
    if not steps:
        raise TriptychError(f"{folder} has no checkpoint to resume from: train it anew with --overwrite")
    try:
        return _read(steps[-1], most)
    except (TriptychError, OSError, KeyError, TypeError) as error:
        older = f"delete {steps[-1]} to go on from {steps[-2].name}" if len(steps) > 1 else "train it anew with --overwrite"
        raise TriptychError(f"checkpoint {steps[-1]} is damaged ({error}): {older}") from error


def settle(folder: Path) -> None:
    """Undoes or finishes the replacement of a checkpoint that was left half done."""
    for path in (folder / "state").glob(".*"):
        if place := folders.original(path):
            folders.finish(place)


def drop_after(folder: Path, step: int) -> None:
    """Removes the checkpoints of later steps, which a rollback has given up."""
    for path in _steps(folder):
        if int(path.name) > step:
            folders.discard(path)


def _read(folder: Path, most: int | None) -> Checkpoint:
    numbers = storage.read_json(folder / "state.json")
    if storage.digest_of_tensors(folder / "state.safetensors", most) != numbers["sha256"]:
        raise TriptychError("state.safetensors is not what was written")
    progress = _progress(numbers)
    if progress.step != int(folder.name):
        raise TriptychError(f"state.json is of step {progress.step}")
    return Checkpoint(progress, storage.read_tensors(folder / "state.safetensors"), folder)


def _progress(numbers: dict[str, Any]) -> Progress:
    """The numbers of a state.json, each of its type and in its range; others are left alone."""
    known: dict[str, Any] = {"begun": None} | {f.name: numbers[f.name] for f in fields(Progress) if f.name in numbers}
    for name in ("step", "rollbacks"):
        check_size(name, known[name], _MOST, least=0)
    check_range("rate_scale", known["rate_scale"], 0, 1)
    if known.get("data_size") is not None:
        check_size("data_size", known["data_size"], _MOST)
    if not isinstance(digest := known.get("data_digest", ""), str) or len(digest) > 256:
        raise TriptychError(f"data_digest should be a short text, got {digest!r:.40}")
    if not isinstance(begun := known["begun"], dict | None):
        raise TriptychError(f"begun should be an object of steps by player, got {begun!r:.40}")
    for name, step in (begun or {}).items():
        check_size(f"begun.{name:.40}", step, known["step"], least=0)
    return Progress(**known)


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
