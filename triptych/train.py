"""One loop for every family: rounds of a game between players. It never names a family.

`train` yields after each round, so that logging, saving and plotting are the caller's; `fit` is the caller that the
command line, the tour and the benchmarks share.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from triptych import health
from triptych.errors import TriptychError
from triptych.recipes import Training

if TYPE_CHECKING:
    from triptych.data import Batches, Split
    from triptych.run import Run


class Round(NamedTuple):
    """What a round of the game showed: its step (counted from 1) and every player's terms, still on the device."""

    step: int
    terms: dict[str, Tensor]


def rate_at(step: int, steps: int, training: Training) -> float:
    """The learning rate at `step` of `steps`: linear warm-up, then decay to rate · rate_end, or none (constant).

    A pure function of the step, so that resuming is starting at a step.

    >>> rate_at(0, 10, Training(rate=1.0, decay="constant"))
    1.0
    """
    import math

    warm = min(1.0, (step + 1) / training.rate_warmup) if training.rate_warmup else 1.0
    progress = min(1.0, step / max(1, steps - 1))
    if training.decay == "exponential":
        return training.rate * warm * training.rate_end**progress
    shape = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return training.rate * warm * (training.rate_end + (1 - training.rate_end) * shape[training.decay])


def momentum_at(step: int, steps: int, training: Training) -> float:
    """The momentum at `step` of `steps`, moving linearly from `momentum` to `momentum_end`."""
    end = training.momentum if training.momentum_end is None else training.momentum_end
    return training.momentum + (end - training.momentum) * min(1.0, step / max(1, steps - 1))


def noise_seed(seed: int, step: int, rank: int, play: int) -> int:
    """A seed for the noise of one play: a 63-bit hash (splitmix64's finaliser) of its coordinates.

    >>> noise_seed(0, 1, 0, 0) != noise_seed(0, 0, 1, 0)
    True
    """
    mixed = 0
    for part in (seed, step, rank, play):
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        mixed ^= mixed >> 31
    return mixed >> 1


_MASK = 2**64 - 1


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random state set to `seed` inside, and as it was outside."""
    # not torch.manual_seed: without a GPU it queues a seeding, with a stack trace, for each kind of device at every call
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def train(run: Run, data: Split) -> Generator[Round, None, None]:
    """Plays the rounds from run.step to the recipe's last, yielding after each.

    Subnormal numbers slow CPU convolutions up to a hundredfold. Where the caller does not flush them, rounds run in a
    thread that does from its start, so that its pool of workers does too; the caller's own settings and random state stay
    as they are. Programs should rather call torch.set_flush_denormal(True) before their first parallel operation, as the
    command line does: a second pool of workers competes with the caller's for the cores (seen: 13 ms a step, not 8).
    """
    recipe = run.recipe
    batches = _batches(run, data)
    plays = sum(player.plays for player in run.players.values())
    stream = batches.stream(run.step * plays, recipe.steps * plays)
    for player in run.players.values():
        player.train()
    with _flushing() as play:
        while run.step < recipe.steps:
            yield play(_round, run, stream)


@contextlib.contextmanager
def _flushing() -> Iterator[Callable[..., Round]]:
    """A way to call a function with subnormals flushed: directly where they are, else in a thread of its own."""
    if float(torch.tensor(1e-38) * 1e-3) == 0:
        yield lambda function, *arguments: function(*arguments)
        return
    with ThreadPoolExecutor(1, initializer=torch.set_flush_denormal, initargs=(True,)) as worker:
        yield lambda function, *arguments: worker.submit(function, *arguments).result()


def _batches(run: Run, data: Split) -> Batches:
    """The run's minibatches: pure functions of the recipe's seed, the step and the rank."""
    from triptych.data.batches import Batches

    recipe = run.recipe
    augment = recipe.augment or None
    return Batches(data, recipe.training.batch, seed=recipe.seed, world=run.world, rank=run.rank, augment=augment)


def _round(run: Run, stream: Iterator[Tensor]) -> Round:
    terms: dict[str, Tensor] = {}
    play, run.mid_round = 0, True
    for name, player in run.players.items():
        for _ in range(player.plays):
            terms |= _play(run, name, next(stream), play)
            play += 1
    run.update_average()
    run.step += 1
    run.mid_round = False
    return Round(run.step, terms)


def _play(run: Run, name: str, stored: Tensor, play: int) -> dict[str, Tensor]:
    """One minibatch of one player: loss, gradient, verdict, update."""
    optimizer, watch, training = run.optimizers[name], run.health[name], run.recipe.training
    (group,) = optimizer.param_groups
    group["lr"] = rate_at(run.step, run.recipe.steps, training) * run.rate_scale
    if training.momentum_end is not None:
        _set_momentum(group, momentum_at(run.step, run.recipe.steps, training))
    player = run.players[name]
    if run.step and player.stage(run.step) != player.stage(run.step - 1):
        optimizer.state.clear()
    with seeded(noise_seed(run.recipe.seed, run.step, run.rank, play), run.device):
        x = run.model.codec.encode(stored.to(run.device, non_blocking=True))
        loss = run.wrapped[name](x, run.step)
    for parameter in group["params"]:
        parameter.grad = None
    run.accelerator.backward(loss.total)
    bad, norm = watch.judge([p.grad for p in group["params"]], run.step + 1)
    gradients = [p.grad for p in group["params"] if p.grad is not None]  # a growing network's other layers have none
    if training.clip:
        health.clip(gradients, norm, training.clip)
    health.skip_if(bad, optimizer, gradients)
    optimizer.step()
    suffix = f"_{name}" if len(run.players) > 1 else ""
    return {f"loss{suffix}": loss.total.detach(), f"grad_norm{suffix}": norm, **loss.terms}


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, group["betas"][1])
    else:
        group["momentum"] = momentum


PATIENCE = 20  # bad steps in a row before the last good state is taken back
ROLLBACKS = 3  # times that is tried, each with half the rate, before the run gives up


def fit(
    run: Run,
    data: Split,
    *,
    notice: Callable[[str], None] = print,
    watch: Callable[[Round, dict[str, float | None]], None] | None = None,
) -> None:
    """Trains to the recipe's last step: logs, saves, draws samples, names bad steps and rolls repeated ones back.

    Args:
        notice: called with a line for a person when something is amiss.
        watch: called after each round with it and the newest logged numbers (a progress bar).
    Raises:
        KeyboardInterrupt: after saving, so that the run can be resumed.
        TriptychError: when bad steps persist after every rollback, naming the layer and the step.
    """
    notice = notice if run.is_main else _silent
    _check_same_data(run, data)
    _say_few_data(run, data, notice)
    try:
        with _asked_to_stop() as asked:
            while run.step < run.recipe.steps:
                _fit_until_bad(run, data, notice, watch, asked)
    except KeyboardInterrupt:
        if not run.mid_round and not run.flaw():  # in the middle of a round weights and step do not belong together
            run.save()
        raise
    run.finish()


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that Ctrl-C or SIGTERM is noted in, so that the round under way ends first; a second one stops at once."""
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield asked
        return
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_same_data(run: Run, data: Split) -> None:
    """A resumed run draws the batches that it would have drawn, which needs the data that it began with."""
    if run.data_size not in (None, len(data)):
        raise TriptychError(
            f"the run began with {run.data_size} training data, now there are {len(data)}: give it the same data back, "
            "or start a new run with --init"
        )
    run.data_size = len(data)


def _say_few_data(run: Run, data: Split, notice: Callable[[str], None]) -> None:
    """Copies in a minibatch are no new data: what is measured across it (batch norm, spreads) is of fewer."""
    needed = run.recipe.training.batch * run.world
    if len(data) < needed:
        notice(f"{len(data)} data are fewer than the {needed} of a minibatch: they are repeated to fill it")


def _silent(_line: str) -> None:
    """One process speaks for all."""


def _fit_until_bad(run: Run, data: Split, notice, watch, asked: list[int]) -> None:
    training, start = run.recipe.training, time.perf_counter()
    logged: dict[str, float | None] = {}
    first = run.step
    with contextlib.closing(train(run, data)) as rounds:
        for step in rounds:
            last = step.step == run.recipe.steps
            if last or step.step % training.log_every == 0:
                speed = (step.step - first) / (time.perf_counter() - start)
                numbers = {k: v.item() for k, v in step.terms.items()} | {"steps_per_s": speed}
                found, remarks = _inspect(run)
                logged = run.log(step.step, numbers | found)
                if report_bad_steps(run, data, notice):
                    return
                _say_once(run, remarks, notice)
            if last or step.step % training.save_every == 0:
                if flaw := run.flaw():
                    _roll_back(run, flaw, notice)
                    return
                run.save()
            if step.step % (training.sample_every or training.save_every) == 0 or last:
                _draw_samples(run, notice)
            if watch:
                watch(step, logged)
            if asked:
                raise KeyboardInterrupt


def _draw_samples(run: Run, notice: Callable[[str], None]) -> None:
    """A look that fails is said once and no reason to stop: bad steps are named, and rolled back, by their gradients."""
    try:
        run.draw_samples()
    except TriptychError as error:
        _say_once(run, {"samples": f"no samples could be drawn: {error}"}, notice)


def _inspect(run: Run) -> tuple[dict[str, float], dict[str, str]]:
    """What every player finds; on each process, for what a player changes thereupon it must change on all."""
    numbers: dict[str, float] = {}
    remarks: dict[str, str] = {}
    for player in run.players.values():
        found = player.inspect()
        numbers |= found.numbers
        remarks |= found.remarks
    return numbers, remarks


def _say_once(run: Run, remarks: dict[str, str], notice: Callable[[str], None]) -> None:
    """Each kind of remark once a run: what is wrong stays wrong for many logs."""
    for kind, line in remarks.items():
        if kind not in run.remarked:
            run.remarked.add(kind)
            notice(f"step {run.step}: {line}")


def report_bad_steps(run: Run, data: Split, notice: Callable[[str], None]) -> bool:
    """Names bad steps since the last report; after PATIENCE in a row rolls back, and says whether it did."""
    for name, watch in run.health.items():
        count = int(watch.bad) - run.reported_bad.get(name, 0)
        if count <= 0:
            continue
        run.reported_bad[name] = int(watch.bad)
        where = _name_bad(run, data, name)
        whose = f" of the {name}" if len(run.players) > 1 else ""
        notice(f"{count} bad step{'s' * (count > 1)}{whose} skipped, the last at step {int(watch.last_bad_step)}: {where}")
        if int(watch.streak) >= PATIENCE:
            _roll_back(run, where, notice)
            return True
    return False


def _roll_back(run: Run, where: str, notice: Callable[[str], None]) -> None:
    if run.rollbacks >= ROLLBACKS:
        raise TriptychError(
            f"training does not recover at step {run.step} after {ROLLBACKS} rollbacks: {where}; the last good state is "
            f"kept in {run.folder}; lower --training.rate, set --training.clip, or check the data"
        )
    scale, tried = run.rate_scale / 2, run.rollbacks + 1
    run.restore()
    run.rate_scale, run.rollbacks, run.saved_step = scale, tried, None
    run.save()  # what was tried is part of the state
    notice(f"rolled back to step {run.step}; the learning rate is now {scale:g} of the recipe's")


def _name_bad(run: Run, data: Split, name: str) -> str:
    """Where the last bad step went wrong: the batch, the first module with a broken output, or a gradient."""
    watch, player = run.health[name], run.players[name]
    step = int(watch.last_bad_step) - 1
    parameter = [n for n, p in player.named_parameters() if p.requires_grad][watch.culprit()]
    try:
        x, play = _again(run, data, name, step)
    except TriptychError as error:
        return str(error)
    if not x.isfinite().all():
        return "the batch itself holds NaN or infinity"
    try:
        module = health.first_broken_module(player, play)
    except TriptychError as error:  # a layer that names itself
        return str(error)
    if module:
        return f"layer {module} put out NaN or infinity"
    return f"the gradient of {parameter} leapt or was not finite"


def _again(run: Run, data: Split, name: str, step: int) -> tuple[Tensor, Callable[[], object]]:
    """The batch of a past step, and a call that plays it forward again: both are pure functions of the step."""
    recipe = run.recipe
    batches = _batches(run, data)
    order = list(run.players)
    play = sum(run.players[n].plays for n in order[: order.index(name)])
    index = step * sum(p.plays for p in run.players.values()) + play
    seed = noise_seed(recipe.seed, step, run.rank, play)
    with seeded(seed, run.device):
        x = run.model.codec.encode(batches.at(index).to(run.device))

    def forward() -> object:
        with seeded(seed, run.device):
            return run.players[name](x, step)

    return x, forward
