"""How long a training takes, and how many steps fit into a time: a few rounds of each of its stages are timed beforehand.

They are played by a copy of the model, or one of its own, in a folder that is removed again, so that the training itself is
that of the same steps without any of this. Stages differ in speed (a prior of codes is many times faster than its VAE, a
growing network slower at each level), so each is timed apart: begin + rounds · seconds for a round.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triptych.core import GenerativeModel
from triptych.data.batches import Batch
from triptych.data.splits import Split
from triptych.errors import TriptychError, check_range
from triptych.families import players
from triptych.objectives.player import Player
from triptych.progress import duration
from triptych.recipes import Recipe
from triptych.training.loop import flushing, play_round
from triptych.training.pace import of_first
from triptych.training.processes import processes
from triptych.training.run import Run

FEW = 100  # steps of a run, below which it is not timed beforehand: that would take about as long
_SHARE, _MOST = 0.05, 2.0  # of a stretch's rounds, and seconds, that are played to time it
_TOGETHER = 4  # rounds that are timed at once: penalties come at every fourth
_SEEN, _WARMED = 500, 64  # examples with which players begin while they are timed, and before
_LEAST = 0.5  # of the time asked for is trained, though planning on a crowded machine took more than the rest
_CLOSE, _TRIES = 0.005, 8  # of the time asked for, by which a plan may miss it; plans that are tried

Make = Callable[[Recipe], GenerativeModel]
Clock = Callable[[], float]


class Kind(NamedTuple):
    """What a round's time depends on: who plays, and which weights each trains (`Player.stage`)."""

    players: tuple[str, ...]
    levels: tuple[int, ...]


class Stretch(NamedTuple):
    """Rounds of one kind, from `first` up to, not including, `last`."""

    kind: Kind
    first: int
    last: int


class Cost(NamedTuple):
    """Seconds before the first round of a stretch, in which players begin, and for each round."""

    begin: float
    round: float


@dataclass(frozen=True)
class Plan:
    """A recipe with the time that it takes.

    Attributes:
        recipe: the run's, with the steps that were decided.
        stretches: of the rounds that are to be played.
        costs: of each kind of round.
        saving: seconds for a checkpoint with its samples.
    """

    recipe: Recipe
    stretches: tuple[Stretch, ...]
    costs: Mapping[Kind, Cost]
    saving: float

    @property
    def rounds(self) -> int:
        """How many are to be played."""
        return self.stretches[-1].last - self.stretches[0].first

    @property
    def seconds(self) -> float:
        """What the whole takes."""
        return self.left(self.stretches[0].first)

    def left(self, step: int) -> float:
        """Seconds from `step` on, checkpoints included."""
        return sum(self._played(stretch, step) for stretch in self.stretches)

    def _played(self, stretch: Stretch, step: int) -> float:
        cost, rounds = self.costs[stretch.kind], stretch.last - max(stretch.first, step)
        if rounds <= 0:
            return 0.0
        played = cost.round * rounds + (cost.begin if step <= stretch.first else 0.0)
        training = self.recipe.training
        by_clock = played / (60 * training.save_minutes) if training.save_minutes else 0.0
        return played + self.saving * (rounds / training.save_every + by_clock)

    def __str__(self) -> str:
        """The time in words, and that of each stage where there are several."""
        stages: dict[tuple[str, ...], list[Stretch]] = {}
        for stretch in self.stretches:
            stages.setdefault(stretch.kind.players, []).append(stretch)
        whole = f"about {duration(self.seconds)} for {self.rounds:,} steps"
        if len(stages) == 1:
            return whole
        start = self.stretches[0].first
        told = [
            f"{' and '.join(names)} {duration(sum(self._played(s, start) for s in found))} "
            f"({sum(s.last - s.first for s in found):,})"
            for names, found in stages.items()
        ]
        return f"{whole}: {', then '.join(told)}"


def check_minutes(minutes: float) -> None:
    """Raises for a time that no training can take, to be asked before the data are read."""
    check_range("minutes", minutes, 1e-3, 1e7)


def plan(recipe: Recipe, model: GenerativeModel, data: Split, *, start: int = 0) -> Plan | None:
    """How long the recipe's steps from `start` on take; None for fewer than 100, which are not worth timing.

    Args:
        recipe: what `Recipe.decided` returned.
        model: of the run, in training mode; a copy of it plays.
        data: the training examples.

    >>> plan(recipe, families.build_for(recipe, data), data)  # doctest: +SKIP
    """
    if recipe.steps - start < FEW:
        return None
    return _timed(recipe, copy.deepcopy(model), data, start, _MOST, time.perf_counter)


def plan_minutes(
    minutes: float, recipe: Recipe, make: Make, data: Split, *, start: int = 0, clock: Clock = time.perf_counter
) -> Plan:
    """The recipe with as many steps as the time allows, that of planning included; its own number only begins the search.

    What the recipe leaves to the data (`Recipe.decided`) is decided for that many steps. A run of `plan.recipe` is the same
    as if its steps had been asked for.

    Args:
        minutes: of training, from this call to its end, on this machine as busy as it is now; where planning itself takes
            long, half of them at the least are trained.
        make: recipe -> a new model for it, such as `partial(families.build_for, split=data)`.
        data: the training examples.
        start: steps that were played before, in a run that goes on.
        clock: the time in seconds.

    Raises:
        TriptychError: for a time that is not positive, and where stages of a fixed number of steps do not fit into it.

    >>> found = plan_minutes(20, preset("vae", data="faces"), lambda r: build_for(r, data), data)  # doctest: +SKIP
    >>> run = Run.create("runs/faces", found.recipe, build_for(found.recipe, data))  # doctest: +SKIP
    """
    check_minutes(minutes)
    began = clock()
    recipe = dataclasses.replace(recipe, steps=max(recipe.steps, start + FEW))
    found = _planned(60 * minutes, began, recipe, make, data, start, clock)
    decided = found.recipe.decided(len(data), data.is_image)
    if decided != found.recipe:  # that so many steps see augmented pictures takes time
        found = _planned(60 * minutes, began, decided, make, data, start, clock)
    return found


def _planned(seconds: float, began: float, recipe: Recipe, make: Make, data: Split, start: int, clock: Clock) -> Plan:
    model = make(recipe)
    timed = _timed(recipe, model, data, start, min(_MOST, 0.03 * seconds), clock)
    (left,) = of_first(max(_LEAST * seconds, seconds - (clock() - began)))

    def at(steps: int) -> Plan:
        """The plan of so many steps more, by the same costs."""
        asked = dataclasses.replace(recipe, steps=start + steps)
        # only of a model that grows does what a round trains depend on the number of steps
        return _laid_out(asked, make(asked) if model.grows else model, start, timed)

    try:
        return _fitting(left, timed, at)
    except TriptychError as error:
        raise TriptychError(f"in {duration(seconds)} the stages do not fit: {error}") from error


def _fitting(seconds: float, found: Plan, at: Callable[[int], Plan]) -> Plan:
    """The longest plan that takes no more than so many seconds, or one step's, sought by secants: time is nearly linear."""
    steps, took, best, aim = found.rounds, found.seconds, None, seconds * (1 - _CLOSE / 2)
    slope = took / steps
    for _ in range(_TRIES):
        if took <= seconds and (best is None or steps > best.rounds):
            best = found
        guess = max(1, int(steps + (aim - took) / slope))
        if guess == steps or (best is found and seconds - took <= _CLOSE * seconds):
            break
        found = at(guess)
        slope = max((found.seconds - took) / (guess - steps), 0.1 * slope)
        steps, took = guess, found.seconds
    return best or found


def stretches(game: Mapping[str, Player], first: int, last: int) -> list[Stretch]:
    """The rounds from `first` to `last` in stretches in which the same players train the same weights.

    Levels only grow, so that they change between two rounds wherever these differ.
    """

    def kind(step: int) -> Kind:
        playing = {name: player for name, player in game.items() if player.span.holds(step)}
        return Kind(tuple(playing), tuple(p.stage(p.span.played(step)) for p in playing.values()))

    def divided(first: int, last: int) -> Iterator[Stretch]:
        if kind(first) == kind(last - 1):
            yield Stretch(kind(first), first, last)
        else:
            middle = (first + last) // 2
            yield from divided(first, middle)
            yield from divided(middle, last)

    # the last round of a span is followed by others, whatever the levels
    ends = {end for player in game.values() for end in player.span if end is not None and first < end < last}
    joined: list[Stretch] = []
    edges = [first, *sorted(ends), last]
    for start, end in itertools.pairwise(edges):
        for stretch in divided(start, end):
            if joined and joined[-1].kind == stretch.kind:
                stretch = Stretch(stretch.kind, joined.pop().first, stretch.last)
            joined.append(stretch)
    return joined


def _laid_out(recipe: Recipe, model: GenerativeModel, start: int, timed: Plan) -> Plan:
    """The plan of a recipe with other steps. A kind that was not timed counts as the nearest of the same players'."""
    found = stretches(players(recipe, model, processes().num_processes), start, recipe.steps)
    costs = dict(timed.costs)
    for kind in {stretch.kind for stretch in found} - costs.keys():
        near = [known for known in timed.costs if known.players == kind.players] or list(timed.costs)
        far = [sum(abs(a - b) for a, b in zip(known.levels, kind.levels, strict=False)) for known in near]
        costs[kind] = timed.costs[near[far.index(min(far))]]
    return Plan(recipe, tuple(found), costs, timed.saving)


def _timed(recipe: Recipe, model: GenerativeModel, data: Split, start: int, most: float, clock: Clock) -> Plan:
    """The plan of a recipe, by rounds that the model plays: at most so many seconds, or a few rounds, of each stretch."""
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        run = Run(Path(folder), recipe, model)
        for player in run.players.values():
            player.train()
        found, costs = stretches(run.players, start, recipe.steps), {}
        with contextlib.closing(_endless(run, data)) as stream, flushing() as call:
            for stretch in found:
                if stretch.kind not in costs:
                    costs[stretch.kind] = _cost(run, data, stream, stretch, most, call, clock)
            began = clock()
            call(_save, run)
            (saving,) = of_first(clock() - began)
    return Plan(run.recipe, tuple(found), costs, saving)


def _endless(run: Run, data: Split) -> Generator[Batch, None, None]:
    yield from run.batches(data).stream()


def _cost(
    run: Run, data: Split, stream: Iterator[Batch], stretch: Stretch, most: float, call: Callable[..., Any], clock: Clock
) -> Cost:
    run.progress.step, length = stretch.first, stretch.last - stretch.first
    begin = call(_begin, run, data, clock)
    if length > 1:  # the first round pays for what later ones find ready
        call(play_round, run, data, stream)
    count, spent, enough = 0, 0.0, max(1, int(_SHARE * length))
    while count < enough and spent < most:
        rounds, began = min(_TOGETHER, enough - count), clock()
        for _ in range(rounds):
            call(play_round, run, data, stream)
        _finish_queued(run.device)
        count, (spent,) = count + rounds, of_first(spent + clock() - began)
    began = clock()
    for player in run.playing(stretch.first).values():
        call(player.inspect)
    looked, begun = of_first(clock() - began, begin)
    return Cost(begun, spent / count + looked / run.recipe.training.log_every)


def _begin(run: Run, data: Split, clock: Clock) -> float:
    """Lets those begin who have not; the seconds that it would take with as many examples as they ask for."""
    spent = 0.0
    for name, player in run.playing(run.step).items():
        if name not in run.begun:
            # what only the first pays for, such as an import, is not multiplied by the share
            if type(player).begin is not Player.begin:
                copy.deepcopy(player).begin(lambda n: run.look(data, min(n, _WARMED)))
            looked, began = _Looked(run, data), clock()
            player.begin(looked)
            spent += (clock() - began) * looked.share
            run.begun[name] = run.step
    return spent


class _Looked:
    """Shows a player fewer examples than it asks for, and keeps how many times fewer."""

    def __init__(self, run: Run, data: Split):
        self.run, self.data, self.share = run, data, 1.0

    def __call__(self, n: int) -> tuple[Tensor, Tensor | None]:
        self.share = max(self.share, min(n, len(self.data)) / _SEEN)
        return self.run.look(self.data, min(n, _SEEN))


def _save(run: Run) -> None:
    """A checkpoint with its samples, as they come with it."""
    run.problem()
    with contextlib.suppress(TriptychError):  # no samples of a model that has hardly begun, or no space there
        run.save()
        run.draw_samples()


def _finish_queued(device: torch.device) -> None:
    """An accelerator works behind the program: time is taken when it has caught up."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
