"""What a checkpoint holds of a run: written as it is, and compared with a fresh run's before it is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from triptych.core import GenerativeModel
from triptych.objectives.player import Player
from triptych.recipes import Training
from triptych.training import foreign, optimisers
from triptych.training.checkpoint import Checkpoint, Progress
from triptych.training.health import Health
from triptych.training.validation import Validation


class Kept(Protocol):
    """What of a `Run` is kept."""

    folder: Path
    model: GenerativeModel
    players: dict[str, Player]
    optimizers: dict[str, Optimizer]
    health: dict[str, Health]
    validation: Validation
    progress: Progress

    @property
    def averaged(self) -> GenerativeModel:
        """The model with averaged weights."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def loop(self, name: str) -> Training:
        """The loop's numbers for a player."""


def checkpoint_of(run: Kept) -> Checkpoint:
    """The run as it is."""
    tensors = _state(run, run.optimizers) | run.validation.state()
    for name, optimizer in run.optimizers.items():
        tensors |= {f"optimizer.{name}.{k}": v for k, v in optimisers.state(optimizer).items()}
    return Checkpoint(run.progress, tensors)


def checked(run: Kept, stored: Checkpoint) -> tuple[Checkpoint, list[str]]:
    """A checkpoint in this version's form that fits the run, and of which players it knows.

    A run that was shorter may have lacked a stage; of a run that was not validated no best weights are kept.
    """
    tensors = dict(stored.tensors)
    played = [name for name in run.players if stored.section(f"health.{name}.")]
    for name in played:
        health = run.health[name].upgraded(stored.section(f"health.{name}."))
        tensors |= {f"health.{name}.{k}": v for k, v in health.items()}
    expected = _state(run, played) | run.validation.state(n for n in run.validation.players if stored.section(f"best.{n}."))
    known = {name: foreign.slots(run.loop(name), run.device) for name in played}
    optimizers = {name: run.optimizers[name] for name in played}
    parameters = [name for name, _ in run.model.named_parameters()]
    finite = {f"{kept}.{name}" for kept in ("weights", "average") for name in parameters} | run.validation.finite()
    foreign.check_tensors(tensors, expected, optimizers, known, finite, stored.source or run.folder)
    return stored._replace(tensors=tensors), played


def _state(run: Kept, players: Iterable[str]) -> dict[str, Tensor]:
    """All but what the optimisers remember, and the best weights."""
    tensors = {f"weights.{k}": v for k, v in run.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in run.averaged.state_dict().items()}
    for name in players:
        tensors |= {f"health.{name}.{k}": v for k, v in run.health[name].state_dict().items()}
    return tensors
