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
from typing import NamedTuple

import torch
from torch import Tensor, nn

from triptych import progress
from triptych.data.batches import Batch
from triptych.data.splits import Split
from triptych.errors import TriptychError
from triptych.modes import flush_subnormals
from triptych.training import health, optimisers
from triptych.training.pace import Pace
from triptych.training.precision import slow_bf16
from triptych.training.recovery import report_bad_steps, roll_back
from triptych.training.run import Run
from triptych.training.validation import Parts


class Round(NamedTuple):
    """A round of the game.

    Attributes:
        step: counted from 1.
        terms: of every player who took part, by name, scalars still on the device.
        remarks: of the players who began with this round, for a person, by what they are about.
    """

    step: int
    terms: dict[str, Tensor]
    remarks: dict[str, str]


def train(run: Run, data: Split) -> Generator[Round, None, None]:
    """Plays the rounds from run.step to the recipe's last, yielding after each.

    Subnormal numbers slow CPU convolutions up to a hundredfold. Where the caller does not flush them, rounds run in a
    thread that does from its start, so that its pool of workers does too; the caller's own settings and random state stay
    as they are. Programs should rather call modes.flush_subnormals() before their first parallel operation, as the
    command line does: a second pool of workers competes with the caller's for the cores (seen: 13 ms a step, not 8).
    """
    held_out = run.held_out(data)
    stream = run.batches(data).stream(run.minibatches(run.step), run.minibatches(run.recipe.steps))
    for player in run.players.values():
        player.train()
    with flushing() as play:
        while run.step < run.recipe.steps:
            yield play(play_round, run, data, stream, held_out)


@contextlib.contextmanager
def flushing() -> Iterator[Callable[..., Round]]:
    """A way to call a function with subnormals flushed: directly where they are already, else in a thread of its own."""
    if float(torch.tensor(1e-38) * 1e-3) == 0:
        yield lambda function, *arguments: function(*arguments)
        return
    with ThreadPoolExecutor(1, initializer=flush_subnormals) as worker:
        yield lambda function, *arguments: worker.submit(function, *arguments).result()


def play_round(run: Run, data: Split, stream: Iterator[Batch], held_out: Parts = ()) -> Round:
    """The round of run.step: each player who takes part plays its minibatches, of the stream.

    Args:
        held_out: what the best of its weights are chosen by, `Run.held_out`.
    """
    terms: dict[str, Tensor] = {}
    play, run.mid_round = 0, True
    remarks = run.begin(data)
    for name, player in run.playing(run.step).items():
        for _ in range(player.plays):
            terms |= _play(run, name, next(stream), play)
            play += 1
    run.update_average()
    run.progress.step += 1
    run.validate(held_out)
    run.mid_round = False
    return Round(run.step, terms, remarks)


def _play(run: Run, name: str, batch: Batch, play: int) -> dict[str, Tensor]:
    """One minibatch of one player: loss, gradient, verdict, update."""
    optimizer, training, player = run.optimizers[name], run.loop(name), run.players[name]
    step = player.span.played(run.step)
    optimisers.schedule(optimizer, training, step, player.span.played(run.recipe.steps), run.progress.rate_scale)
    if step and player.stage(step) != player.stage(step - 1):
        optimizer.state.clear()
    with run.noise(run.step, play):
        x, *context = run.examples(batch)
        loss = run.wrapped[name](x, step, *context)
    parameters = optimizer.param_groups[0]["params"]
    for parameter in parameters:
        parameter.grad = None
    run.accelerator.backward(loss.total)
    bad, norm = run.health[name].judge([p.grad for p in parameters], run.step + 1, player.kind(step))
    gradients = [p.grad for p in parameters if p.grad is not None]  # a growing network's other layers have none
    if training.clip:
        nn.utils.clip_grads_with_norm_(parameters, training.clip, norm)
    health.skip_if(bad, optimizer, gradients)
    optimizer.step()
    suffix = "" if list(run.playing(run.step)) == [name] == list(run.players)[:1] else f"_{name}"
    return {f"loss{suffix}": loss.total.detach(), f"grad_norm{suffix}": norm, **loss.terms}


Notice = Callable[[str], None]
Watch = Callable[[Round, dict[str, float | None]], None]


def fit(
    run: Run, data: Split, *, notice: Notice = print, watch: Watch | None = None, left: Callable[[int], float] | None = None
) -> None:
    """Trains to the recipe's last step: logs, saves, draws samples, names bad steps and rolls repeated ones back.

    A listener (`triptych.progress`) sees the newest losses and how much time is left.

    Args:
        notice: called with a line for a person when something is amiss.
        watch: called after each round with it and the newest logged numbers.
        left: step -> seconds that are left, where that is foreseen (`Plan.left`); by default it follows from the speed so
            far.

    Raises:
        KeyboardInterrupt: after saving, so that the run can be resumed.
        TriptychError: when bad steps persist after every rollback, naming the layer and the step.
    """
    notice = notice if run.is_main else lambda line: None  # one process speaks for all
    _check_data(run, data, notice)
    with run.writing():
        run.write_recipe()
        _fit(run, data, notice, watch, left)


def _fit(run: Run, data: Split, notice: Notice, watch: Watch | None, left: Callable[[int], float] | None) -> None:
    begun = progress.begun if run.is_main else _unheard
    try:
        with _stop_requests() as requests, begun("training", run.recipe.steps, run.step) as task:

            def told(played: Round, logged: dict[str, float | None]) -> None:
                task.update(played.step, lambda: _in_words(played.terms), None if left is None else left(played.step))
                if watch:
                    watch(played, logged)

            while run.step < run.recipe.steps:
                _fit_until_rolled_back(run, data, notice, told, requests)
    except KeyboardInterrupt:
        if not run.mid_round and not run.problem():  # in the middle of a round weights and step do not belong together
            run.save()
        raise
    _say_once(run, run.finish(), notice)


@contextlib.contextmanager
def _unheard(title: str, total: int, done: int) -> Iterator[progress.Task]:
    """Of several processes one speaks."""
    yield progress.Task(title, total, done)


def _in_words(terms: dict[str, Tensor]) -> str:
    """A round's losses, and what else tells at a glance how it goes."""
    chosen = [name for name in terms if name.startswith("loss") or name in _TELLING]
    return "  ".join(f"{name} {terms[name].item():.4g}" for name in chosen)


_TELLING = ("elbo", "kl", "bits_per_dim", "d_accuracy", "spread_ratio", "drift")


def _check_data(run: Run, data: Split, notice: Notice) -> None:
    """A resumed run draws the batches that it would have drawn, which needs the data that it began with."""
    began = run.progress.data_size
    if began not in (None, len(data)):
        raise TriptychError(
            f"the run began with {began} training examples, now there are {len(data)}: give it the same data, "
            "or start a new run with --init"
        )
    if data.digest and run.progress.data_digest not in ("", data.digest):
        raise TriptychError(
            f"the run began with {began} other training examples than these: give it the same data, or start a new run "
            "with --init"
        )
    run.progress.data_size, run.progress.data_digest = len(data), data.digest or run.progress.data_digest
    needed = run.recipe.training.batch * run.accelerator.num_processes
    if (count := len(run.recipe.parts(data)[0])) < needed:  # what is measured across a minibatch (batch norm) is of fewer
        notice(f"{count} examples are fewer than the {needed} of a minibatch: they are repeated to fill it")
    for remark in run.model.codec.remarks(data.event_shape, data.columns).values() if not run.step else ():
        notice(remark)
    if slow := slow_bf16(run.recipe, run.device):
        notice(slow)


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list to which Ctrl-C and SIGTERM are appended, so that the current round ends first; a second one stops at once."""
    requests: list[int] = []

    def note(number: int, _frame: object) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield requests
        return
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _fit_until_rolled_back(run: Run, data: Split, notice: Notice, watch: Watch, requests: list[int]) -> None:
    """Plays until the last step, or until a rollback, after which the batches start again from an earlier step."""
    training, first, start = run.recipe.training, run.step, time.perf_counter()
    pace = Pace(60 * training.save_minutes, step=first)
    logged: dict[str, float | None] = {}

    def due(every: int) -> bool:
        return run.step == run.recipe.steps or run.step % every == 0

    with contextlib.closing(train(run, data)) as rounds:
        for played in rounds:
            _say_once(run, played.remarks, notice)
            if due(training.log_every):
                speed = (run.step - first) / (time.perf_counter() - start)
                # on each process: what a player changes as a result it must change on all
                findings = [player.inspect() for player in run.playing(run.step - 1).values()]
                numbers = {k: v.item() for k, v in played.terms.items()} | {"steps_per_s": speed} | run.validation.numbers
                logged = run.log(run.step, numbers | {k: v for found in findings for k, v in found.numbers.items()})
                if report_bad_steps(run, data, notice):
                    return
                for found in findings:
                    _say_once(run, found.remarks, notice)
            if due(training.save_every):
                if problem := run.problem():
                    roll_back(run, problem, notice)
                    return
                run.save()
                pace.written()
            # by the clock nothing is saved, or rolled back, that would make the training depend on when that was
            early = not due(training.save_every) and pace.due(run.step, run.edge(run.step)) and not run.problem()
            if early:
                run.save()
            if run.is_drawn(run.step) or (early and not training.sample_every):
                _draw_samples(run, notice)
            watch(played, logged)
            if requests:
                raise KeyboardInterrupt


def _draw_samples(run: Run, notice: Notice) -> None:
    """Sampling that fails is reported once and does not stop the training: bad steps are found by their gradients."""
    try:
        run.draw_samples()
    except TriptychError as error:
        _say_once(run, {"samples": f"no samples could be drawn: {error}"}, notice)


def _say_once(run: Run, remarks: dict[str, str], notice: Notice) -> None:
    """Each kind of remark once a run: what is wrong stays wrong for many logs."""
    for kind, line in remarks.items():
        if kind not in run.remarked:
            run.remarked.add(kind)
            notice(f"step {run.step}: {line}")
