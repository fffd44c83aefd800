"""The run directory of a training: create, save, resume.

    RUN/recipe.json         what was asked for, and the model's parts
    RUN/model.safetensors   the averaged weights: what evaluation, sampling and editing use
    RUN/state/000001000/    all that training needs to go on, as safetensors and JSON (`checkpoint`)
    RUN/metrics.jsonl       a line every log_every steps, cut back to the checkpoint on resume
    RUN/samples/            pictures
    RUN/README.md           the model card, as of the newest checkpoint
    RUN/.lock               claimed by the process that writes the run (`folders`)

Nothing here is a pickle. Files are written under another name, flushed and renamed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from triptych import figures, folders, storage
from triptych.core import GenerativeModel
from triptych.data.batches import Batch, Batches
from triptych.data.splits import Split
from triptych.errors import TriptychError, unknown
from triptych.families import first_examples, players
from triptych.modes import evaluating
from triptych.objectives.player import Player
from triptych.pretrained import blank_model, described, read_recipe, write_card
from triptych.randomness import noise_seed, seeded
from triptych.recipes import Recipe, Training, to_json
from triptych.training import checkpoint, metrics, optimisers, state
from triptych.training.average import MovingAverage
from triptych.training.checkpoint import Checkpoint, Progress
from triptych.training.health import Health, broken_layer
from triptych.training.precision import settled
from triptych.training.processes import accelerator, processes
from triptych.training.validation import Parts, Validation, part_size


class Run:
    """A training in progress. Made by `create` or `resume`.

    Attributes:
        model: the model in training; averaged: the one with averaged weights, for evaluation, sampling and editing.
        players: the sides of the game by name, in the order in which they play; wrapped: the same, wrapped for several
            processes.
        optimizers, health: of each player, by its name.
        validation: the best of the averaged weights, where examples are kept out to judge them by.
        progress: the step, and what else the training goes on from.
        saved_step: step of the newest checkpoint that this process has written or read.
        claim: the right to write the run, on the process that does.
        mid_round: whether a round is under way, so that weights and step do not belong together.
        remarked: kinds of remarks that have been made: each is made once.
    """

    def __init__(self, folder: Path, recipe: Recipe, model: GenerativeModel, trackers: tuple[str, ...] = ()):
        metrics.check_trackers(trackers)
        self.folder, self.accelerator = folder, accelerator(folder, model.grows, trackers)
        self.recipe = recipe = settled(recipe, self.device)
        self.model = model.to(self.device)
        self.players = players(recipe, self.model, self.accelerator.num_processes)
        self.average = MovingAverage(self.model, recipe.training.ema)
        self.model.bf16 = recipe.training.precision == "bf16"  # after the copy: what is evaluated computes in float32
        self.wrapped, self.optimizers, self.health = {}, {}, {}
        for name, player in self.players.items():
            optimizer = optimisers.make(self.loop(name), player, self.device)
            self.wrapped[name], prepared = self.accelerator.prepare(player, optimizer)
            self.optimizers[name] = prepared.optimizer  # accelerate's wrapper looks for packages on the disk at every step
            self.health[name] = Health(len(optimizer.param_groups[0]["params"]), player.kinds).to(self.device)
        validating = players(recipe, self.averaged, self.accelerator.num_processes) if recipe.training.validation else {}
        self.validation = Validation(validating, recipe.steps, self.device)
        self.progress = Progress()
        self.saved_step: int | None = None
        self.claim: folders.Claim | None = None
        self.mid_round = False
        self.remarked: set[str] = set()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        recipe: Recipe,
        model: GenerativeModel,
        *,
        overwrite: bool = False,
        trackers: tuple[str, ...] = (),
    ) -> Run:
        """A new run in `folder`, which must not hold anything unless `overwrite`; its first checkpoint is written.

        An old run stays until the new one is complete; another process that writes it, or makes one there, stops this.
        """
        folder = Path(folder)
        folders.check_new(folder, overwrite)
        processes().wait_for_everyone()  # until all have looked nothing is written
        there = folder.is_dir() and processes().is_main_process
        with folders.claimed(folder) if there else contextlib.nullcontext():
            run = cls(folder, recipe, model, trackers)  # whatever can be wrong with the recipe is wrong here
            if run.is_main:
                run._found(folder, over=there)
        run.accelerator.wait_for_everyone()
        run.accelerator.init_trackers("triptych", config=metrics.flat(to_json(run.recipe)))
        return run

    def _found(self, folder: Path, over: bool) -> None:
        """Writes the recipe and the first checkpoint, which become `folder` at once."""
        folders.sweep_beside(folder)
        with storage.write_folder(folder, over=over) as self.folder:
            self.claim = folders.claim(self.folder)
            self.write_recipe()
            self.save()
        self.folder = folder
        folders.moved(self.claim, folder)

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        *,
        trackers: tuple[str, ...] = (),
        steps: int | None = None,
        given: Mapping[str, nn.Module] | None = None,
    ) -> Run:
        """The run in `folder` as its newest checkpoint left it.

        Args:
            steps: what the recipe's steps become; by default they stay.
            given: the user's own parts by their place in the model, such as {"encoder": module}.
        """
        folder = Path(folder)
        recipe, model = read_recipe(folder), blank_model(folder, given)
        if recipe is None:
            raise TriptychError(f"{folder} holds a model without a training recipe: start from it with --init {folder}")
        right = folders.claim(folder) if processes().is_main_process else None
        if right is not None:
            checkpoint.settle(folder)
        processes().wait_for_everyone()
        stored, before = checkpoint.newest(folder, most=checkpoint.largest(model)), recipe.steps
        if steps is not None and steps < stored.progress.step:
            at = stored.progress.step
            raise TriptychError(f"{folder} is at step {at} already: give --steps that or more, the length of the whole run")
        recipe = recipe if steps is None else dataclasses.replace(recipe, steps=steps)
        storage.load_weights(model, stored.section("weights."), stored.source or folder)
        run = cls(folder, recipe, model, trackers)
        run.claim = right
        run.restore(stored)
        run.accelerator.init_trackers("triptych", config=metrics.flat(to_json(recipe)))
        if run.is_main:
            folders.sweep(folder, folder / "state", folder / "samples")
            # of this version, as the weights are; other steps are kept when the data are known to be right
            run.write_recipe(before)
            run._write_model()  # a kill may have come between the state and these
            if run.step and run.is_drawn(run.step) and not run._picture.exists():
                run.draw_samples()
        return run

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Inside nobody else writes the run; afterwards others may."""
        self._hold()
        if self.claim is not None:
            self.claim.busy = True
        try:
            yield
        finally:
            if self.claim is not None:
                self.claim.release()

    def _hold(self) -> None:
        """Claims the run on the process that writes it, unless it has it."""
        if self.is_main and (self.claim is None or not self.claim.held):
            self.claim = folders.claim(self.folder)

    def write_recipe(self, steps: int | None = None) -> None:
        """Keeps the recipe, which may have other steps than before: asked when its data are known to be right."""
        if self.is_main:
            recipe = self.recipe if steps is None else dataclasses.replace(self.recipe, steps=steps)
            storage.write_json(self.folder / "recipe.json", described(self.model, recipe))

    @property
    def step(self) -> int:
        """Rounds played."""
        return self.progress.step

    def playing(self, step: int) -> dict[str, Player]:
        """The players who take part in the round of `step` (counted from 0), in the order in which they play."""
        return {name: player for name, player in self.players.items() if player.span.holds(step)}

    def edge(self, step: int) -> int:
        """The next step after `step` at which players begin or end; the run's last where there is none."""
        ends = [end for player in self.players.values() for end in player.span if end is not None and end > step]
        return min(ends, default=self.recipe.steps)

    def minibatches(self, step: int) -> int:
        """How many minibatches the rounds before `step` took."""
        return sum(player.plays * player.span.played(step) for player in self.players.values())

    def loop(self, name: str) -> Training:
        """The loop's numbers for a player: its own, or the recipe's."""
        return self.players[name].loop or self.recipe.training

    def begin(self, data: Split) -> dict[str, str]:
        """Lets the players begin whose first round this is; returns their remarks by what they are about.

        What those leave behind who have played their last round is the average of their weights: the next stage builds on
        it, and it stays what it is: the best of those that were looked at, where they are validated.
        """
        remarks: dict[str, str] = {}
        beginners = {n: p for n, p in self.playing(self.step).items() if n not in self.begun}
        for name, player in self.players.items() if beginners else ():
            if player.span.last is not None and player.span.last <= self.step:
                remarks |= self.validation.restore_best(name)
                self.validation.forget([name])  # a later stage may move the same weights
                self.average.settle(player)
        for name, player in beginners.items():
            # the same on every process, and again where a run is resumed here
            with seeded(noise_seed(self.recipe.seed, self.step, 0, _BEGINNING), self.device):
                remarks |= player.begin(lambda n: self.look(data, n))
            self.average.begin(player, self.step)
            self.begun[name] = self.step
        return remarks

    def look(self, data: Split, n: int) -> tuple[Tensor, Tensor | None]:
        """x and context of up to n examples that it learns from: see `first_examples`."""
        data = self.recipe.parts(data)[0]
        stored, context = first_examples(self.recipe, data, self.model.conditions, n)
        return self.model.codec.encode(stored.to(self.device)), None if context is None else context.to(self.device)

    @property
    def begun(self) -> dict[str, int]:
        """The step at which each player began, of those who have."""
        assert self.progress.begun is not None  # files that do not say it are completed by `restore`
        return self.progress.begun

    @property
    def averaged(self) -> GenerativeModel:
        """The model with averaged weights."""
        return self.average.model

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.accelerator.is_main_process

    def held_out(self, data: Split) -> Parts:
        """What the averaged weights are chosen by: x (B, *E) that `batches` leaves out, and any context (B, K), in parts."""
        split = self.recipe.parts(data)[1]
        if split is None:
            return []
        context, size = self._context(split), part_size(len(split))
        with seeded(self.recipe.seed, self.device):  # of the values within their bins
            x = [self.model.codec.encode(split[i : i + size].to(self.device)) for i in range(0, len(split), size)]
        return [(part,) for part in x] if context is None else list(zip(x, context.to(self.device).split(size), strict=True))

    def validate(self, held_out: Parts) -> None:
        """Looks at the averaged weights now and then, and remembers the best."""
        if held_out:
            self.average.copy_unaveraged()
            self.validation.judge(self.step, held_out)

    def batches(self, data: Split) -> Batches:
        """The run's minibatches of stored values and context: pure functions of the recipe's seed, the step and the rank.

        They are of what it learns from: without what its weights are chosen by.
        """
        data = self.recipe.parts(data)[0]
        recipe, world, rank = self.recipe, self.accelerator.num_processes, self.accelerator.process_index
        return Batches(data, recipe.training.batch, seed=recipe.seed, world=world, rank=rank,
                       augment=recipe.augment or None, context=self._context(data))  # fmt: skip

    def _context(self, data: Split) -> Tensor | None:
        """What a conditional model is told of every example, (n, K)."""
        conditions = self.model.conditions
        if conditions is None:
            return None
        for name in conditions.names:
            if name not in data.attributes:
                raise unknown("attribute", name, data.attributes, " (the model is given it)")
        return conditions.of_data(data.attributes, data.kinds, data.classes, len(data))

    def examples(self, batch: Batch) -> tuple[Tensor, ...]:
        """x (B, *E), and where there is one the context (B, K), in which attributes are hidden at random."""
        x = self.model.codec.encode(batch.stored.to(self.device, non_blocking=True))
        if batch.context is None:
            return (x,)
        context = batch.context.to(self.device, non_blocking=True)
        return x, self.model.conditions.hide(context, self.recipe.training.hide)

    def noise(self, step: int, play: int) -> contextlib.AbstractContextManager[None]:
        """The noise of a play of a step on this process: what torch draws inside comes from generators of its own."""
        return seeded(noise_seed(self.recipe.seed, step, self.accelerator.process_index, play), self.device)

    def update_average(self) -> None:
        """Takes the newest weights into the moving average."""
        self.average.update(self.step)

    def log(self, step: int, numbers: dict[str, float]) -> dict[str, float | None]:
        """Appends a line to metrics.jsonl and sends it to the trackers; numbers that are not finite are written as null."""
        bad = sum(int(health.bad) for health in self.health.values())
        numbers = numbers | {"bad_steps": bad, "rollbacks": self.progress.rollbacks}
        line = metrics.line(step, numbers)
        if self.is_main:
            metrics.append(self.folder / "metrics.jsonl", line)
        self.accelerator.log({k: v for k, v in line.items() if v is not None}, step=step)
        return line

    def problem(self) -> str | None:
        """Why the state must not be saved over the last good one, in a line that names the layer, or None.

        Weights may be finite and yet turn no z into an example: those of a flow that cannot be inverted (a singular layer).
        """
        for name, player in self.players.items():
            if layer := broken_layer(player):
                return f"layer {layer}{f' of the {name}' if len(self.players) > 1 else ''} holds NaN or infinity"
        for player in self.playing(self.step - 1).values():
            if problem := player.problem():
                return problem
        self.average.copy_unaveraged()
        try:
            for model in (self.model, self.averaged):
                with evaluating(model):
                    model.sample(1, generator=torch.Generator().manual_seed(0))
        except TriptychError as error:
            return str(error)
        return None if self.average.is_finite() else "the averaged weights, or statistics of the data, are not finite"

    def save(self) -> None:
        """Writes a checkpoint at the current step; the previous one stays until this one is complete."""
        if not self.is_main or self.saved_step == self.step:
            return
        self._hold()
        self.average.copy_unaveraged()
        checkpoint.write(self.folder, state.checkpoint_of(self), self.recipe.training.save_every)
        self._write_model()
        self.saved_step = self.step

    def _write_model(self) -> None:
        """The averaged weights, and the card that says how far they have come."""
        with self.validation.at_best():
            storage.write_tensors(self.folder / "model.safetensors", self.averaged.state_dict())
        write_card(self.averaged, self.folder, self.recipe, self.step)

    @torch.no_grad()
    def restore(self, stored: Checkpoint) -> None:
        """Goes back to a checkpoint, and cuts metrics.jsonl to it."""
        stored, played = state.checked(self, stored)
        for prefix, model in (("weights.", self.model), ("average.", self.averaged)):
            model.load_state_dict(stored.section(prefix))
        for name in played:
            self.health[name].restore(stored.section(f"health.{name}."))
            optimisers.load(self.optimizers[name], stored.section(f"optimizer.{name}."))
            self.players[name].follow_buffers()
        self.validation.restore(stored.section("best."))
        self.progress, self.saved_step = stored.progress, stored.progress.step
        # with other steps than before, a stage may lie ahead again: it then begins anew
        started = {n: p.span.first for n, p in self.players.items() if p.span.first < self.step}
        begun = started if self.progress.begun is None else self.progress.begun
        self.progress.begun = {name: begun[name] for name in started if name in begun}
        self.validation.forget(name for name in self.players if name not in self.progress.begun)
        for name, player in sorted(self.players.items(), key=lambda item: item[1].span.first):
            self.average.begin(player, self.begun.get(name, 0))
        if self.is_main:
            metrics.cut(self.folder / "metrics.jsonl", self.step)

    def draw_samples(self) -> None:
        """samples/step-N.png: 64 examples from the averaged model, always of the same z, where they can be shown."""
        if not self.is_main:
            return
        self.average.copy_unaveraged()
        model, generator = self.averaged, torch.Generator().manual_seed(self.recipe.seed)
        with evaluating(model):
            pictures = model.codec.show(model.sample(64, generator=generator), model.event_shape)
        if pictures is not None:
            figures.save(pictures, self._picture)

    @property
    def _picture(self) -> Path:
        return self.folder / "samples" / f"step-{self.step:09d}.png"

    def is_drawn(self, step: int) -> bool:
        """Whether a picture is drawn at a step, whatever the clock says."""
        every = self.recipe.training.sample_every or self.recipe.training.save_every
        return step == self.recipe.steps or step % every == 0

    def finish(self) -> dict[str, str]:
        """Saves, leaves the best weights in the averaged model, and closes the trackers; remarks for a person."""
        self.save()
        self.accelerator.end_training()
        return {kind: line for name in self.players for kind, line in self.validation.restore_best(name).items()}


_BEGINNING = -1  # in the place of a play's number, of the noise with which players begin
