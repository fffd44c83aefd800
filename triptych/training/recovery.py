"""What happens after bad steps: they are named, and after too many in a row the last good state is restored."""

from __future__ import annotations

from collections.abc import Callable

from triptych.data.splits import Split
from triptych.errors import TriptychError
from triptych.training import checkpoint
from triptych.training.health import first_broken_module
from triptych.training.run import Run

PATIENCE = 20  # bad steps in a row before the last good state is restored
ROLLBACKS = 3  # times that is tried, each with half the rate, before the run gives up


def report_bad_steps(run: Run, data: Split, notice: Callable[[str], None]) -> bool:
    """Names bad steps since the last report; after `PATIENCE` in a row rolls back. Returns whether it did."""
    for name, health in run.health.items():
        count = int(health.bad) - health.reported
        if count <= 0:
            continue
        health.reported = int(health.bad)
        where = _name_bad_step(run, data, name)
        whose = f" of the {name}" if len(run.players) > 1 else ""
        notice(f"{count} bad step{'s' * (count > 1)}{whose} skipped, the last at step {int(health.last_bad_step)}: {where}")
        if int(health.streak) >= PATIENCE:
            roll_back(run, where, notice)
            return True
    return False


def roll_back(run: Run, where: str, notice: Callable[[str], None]) -> None:
    """Restores the last good state with half the learning rate.

    Args:
        where: what went wrong, for the message.

    Raises:
        TriptychError: after `ROLLBACKS`.
    """
    if run.progress.rollbacks >= ROLLBACKS:
        raise TriptychError(
            f"training does not recover at step {run.step} after {ROLLBACKS} rollbacks: {where}; the last good state is "
            f"kept in {run.folder}; lower --training.rate, set --training.clip, or check the data"
        )
    scale, tried = run.progress.rate_scale / 2, run.progress.rollbacks + 1
    run.restore(checkpoint.newest(run.folder, run.recipe.training.save_every))
    run.progress.rate_scale, run.progress.rollbacks, run.saved_step = scale, tried, None
    run.save()  # what was tried is part of the state
    if run.is_main:
        checkpoint.drop_after(run.folder, run.step)
    notice(f"rolled back to step {run.step}; the learning rate is now {scale:g} of the recipe's")


def _name_bad_step(run: Run, data: Split, name: str) -> str:
    """Where a player's last bad step went wrong: the batch, the first module with a broken output, or a gradient.

    The step is played forward once more: its batch and noise are pure functions of its number.
    """
    health, player = run.health[name], run.players[name]
    step = int(health.last_bad_step) - 1
    playing = run.playing(step)
    play = sum(playing[n].plays for n in list(playing)[: list(playing).index(name)])

    def replay() -> None:
        with run.noise(step, play):
            x, *context = run.examples(run.batches(data).at(run.minibatches(step) + play))
            if not x.isfinite().all():
                raise TriptychError("the batch itself holds NaN or infinity")
            player(x, player.span.played(step), *context)

    try:
        module = first_broken_module(player, replay)
    except TriptychError as error:  # the codec, or a layer that names itself
        return str(error)
    if module:
        return f"layer {module} returned NaN or infinity"
    parameters = [name for name, p in player.named_parameters() if p.requires_grad]
    return f"the gradient of {parameters[health.culprit()]} leapt or was not finite"
