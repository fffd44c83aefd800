"""What a checkpoint holds of a run: written as it is, and compared with a fresh run's before it is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from triptych.training import foreign, optimisers
from triptych.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from triptych.training.run import Run


def checkpoint_of(run: Run) -> Checkpoint:
    """The run as it is."""
    tensors = _state(run, run.optimizers) | run.validation.state()
    for name, optimizer in run.optimizers.items():
        tensors |= {f"optimizer.{name}.{k}": v for k, v in optimisers.state(optimizer).items()}
    return Checkpoint(run.progress, tensors)


def checked(run: Run, stored: Checkpoint) -> tuple[Checkpoint, list[str]]:
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


def _state(run: Run, players: Iterable[str]) -> dict[str, Tensor]:
    """All but what the optimisers remember, and the best weights."""
    tensors = {f"weights.{k}": v for k, v in run.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in run.averaged.state_dict().items()}
    for name in players:
        tensors |= {f"health.{name}.{k}": v for k, v in run.health[name].state_dict().items()}
    return tensors
