"""The run directory of a training: create, save, resume.

    RUN/recipe.json         what was asked for, and the model's constructor arguments
    RUN/model.safetensors   the averaged weights: what evaluation, sampling and editing use
    RUN/state/000001000/    all that training needs to go on, as safetensors and JSON; the newest two are kept
    RUN/metrics.jsonl       a line every log_every steps, cut back to the checkpoint on resume
    RUN/samples/            pictures
    RUN/README.md           the model card

Nothing here is a pickle. Files are written under another name, flushed and renamed.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor

from triptych import optimizers, storage
from triptych.checkpoint import FORMAT, blank_model, described, read_description, read_recipe, write_card
from triptych.core import GenerativeModel, evaluating
from triptych.errors import TriptychError
from triptych.health import Health, holder_of_nan
from triptych.objectives import players
from triptych.recipes import Recipe, to_json

KEPT = 2


class Run:
    """A training under way: model, players, optimisers, moving average, step. Made by `create` or `resume`."""

    def __init__(self, folder: Path, recipe: Recipe, model: GenerativeModel, trackers: tuple[str, ...] = ()):
        self.folder, self.recipe = folder, recipe
        _check_trackers(trackers)
        # a walk through the graph at every step: for those who need it
        unused = [DistributedDataParallelKwargs(find_unused_parameters=True)] if model.grows else []
        self.accelerator = Accelerator(
            cpu=processes().device.type == "cpu",
            mixed_precision="no",  # networks enter autocast themselves; log-determinants and sums stay in float32
            log_with=list(trackers) or None,
            project_dir=folder if trackers else None,
            kwargs_handlers=unused,
        )
        _check_processes(self.accelerator)
        self.model = model.to(self.accelerator.device)
        self.players = players(recipe, self.model, self.accelerator.num_processes)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.model.bf16 = recipe.training.precision == "bf16"  # after the copy: what is evaluated computes in float32
        # listed once: walking a module's tree at every step costs as much as a small layer
        self._averaged: list[Tensor] = list(self.averaged.mapping().parameters())
        self._current: list[Tensor] = list(self.model.mapping().parameters())
        self._running = _running(self.averaged.mapping()), _running(self.model.mapping())
        self._rest = _rest(self.averaged), _rest(self.model)
        self.wrapped, self.optimizers, self.health = {}, {}, {}
        for name, player in self.players.items():
            optimizer = optimizers.make(recipe.training, player, self.device)
            self.wrapped[name], prepared = self.accelerator.prepare(player, optimizer)
            self.optimizers[name] = prepared.optimizer  # accelerate's shell looks for packages on the disk at every step
            self.health[name] = Health(len(optimizer.param_groups[0]["params"])).to(self.device)
        self.step, self.rate_scale, self.rollbacks = 0, 1.0, 0
        self.saved_step: int | None = None
        self.mid_round = False
        self.data_size: int | None = None
        self.reported_bad: dict[str, int] = {}
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

        An old run is put aside until the new one stands, and back if it never does.
        """
        folder = Path(folder)
        _all_or_none(lambda: check_room(folder, overwrite))
        run = cls(folder, recipe, model, trackers)  # whatever can be wrong with the recipe is wrong here
        if run.is_main:
            with _room(folder):
                storage.write_json(folder / "recipe.json", described(model, recipe))
                write_card(model, folder, recipe, step=0)
                run.save()
        run.accelerator.wait_for_everyone()
        run._start_trackers()
        return run

    @classmethod
    def resume(cls, folder: str | Path, *, trackers: tuple[str, ...] = (), steps: int | None = None) -> Run:
        """The run in `folder` as its newest checkpoint left it; `steps` lengthens (or shortens) it."""
        import dataclasses

        folder = Path(folder)
        recipe, model = read_recipe(folder), blank_model(folder)
        if recipe is None:
            raise TriptychError(f"{folder} holds a model without a training recipe: start from it with --init {folder}")
        if steps is not None:
            recipe = dataclasses.replace(recipe, steps=steps)
        storage.load_weights(model, _prefixed(_newest_state(folder)[1], "weights."), folder)
        run = cls(folder, recipe, model, trackers)
        run.restore()
        run._start_trackers()
        if run.is_main:
            storage.sweep(folder, folder / "state", folder / "samples")
            storage.write_json(folder / "recipe.json", described(model, recipe))
            run._write_weights()  # a kill may have come between the state and these
        return run

    def _start_trackers(self) -> None:
        if self.accelerator.log_with:
            self.accelerator.init_trackers("triptych", config=_flat(to_json(self.recipe)))

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def world(self) -> int:
        return self.accelerator.num_processes

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    @torch.no_grad()
    def update_average(self) -> None:
        """ema += (1 − d)(θ − ema) with d = min(ema, (1 + t)/(10 + t)): a short run does not keep its initial weights."""
        decay = min(self.recipe.training.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        if self._running[0]:  # statistics belong to the weights they were seen with, so they are averaged alike
            torch._foreach_lerp_(*self._running, 1 - decay)

    def log(self, step: int, numbers: dict[str, float]) -> dict[str, float | None]:
        """Appends a line to metrics.jsonl and the trackers; numbers that are not finite are written as null."""
        bad = sum(int(h.bad) for h in self.health.values())
        line: dict[str, float | None] = {
            "step": step,
            **{k: v if math.isfinite(v) else None for k, v in numbers.items()},
        }
        line |= {"bad_steps": bad, "rollbacks": self.rollbacks}
        if self.is_main:
            with storage.explained("metrics.jsonl"), (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self.accelerator.log({k: v for k, v in line.items() if v is not None}, step=step)
        return line

    def flaw(self) -> str | None:
        """Why the state must not be saved over the last good one, in a line that names the layer, or None.

        Weights may be finite and still make nothing of a z: those of a flow without a way back (a singular layer).
        """
        for whose, player in self.players.items():
            if holder := holder_of_nan(player):
                return f"layer {holder}{f' of the {whose}' if len(self.players) > 1 else ''} holds NaN or infinity"
        if any(bool(b.isnan().any()) for b in self._running[1]):
            return "a running average of the data is NaN"
        self._follow()
        try:
            for model in (self.model, self.averaged):
                with evaluating(model):
                    model.sample(1, generator=torch.Generator().manual_seed(0))
        except TriptychError as error:
            return str(error)
        return None if all(bool(p.isfinite().all()) for p in self._averaged) else "the averaged weights are not finite"

    def save(self) -> None:
        """A checkpoint at the current step; the previous one stays until this one is whole."""
        if not self.is_main or self.saved_step == self.step:
            return
        self._follow()
        target = self.folder / "state" / f"{self.step:09d}"
        if target.exists():
            shutil.rmtree(target)
        with storage.write_folder(target) as folder:
            tensors, numbers = self._state()
            storage.write_tensors(folder / "state.safetensors", tensors)
            numbers["sha256"] = storage.digest(folder / "state.safetensors")
            storage.write_json(folder / "state.json", numbers)
        self._write_weights()
        self.saved_step = self.step
        for old in _states(self.folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    @torch.no_grad()
    def _follow(self) -> None:
        """Gives the averaged model what is not averaged."""
        for kept, current in zip(*self._rest, strict=True):
            kept.copy_(current)

    def _write_weights(self) -> None:
        storage.write_tensors(self.folder / "model.safetensors", self.averaged.state_dict())

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"weights.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.averaged.state_dict().items()}
        groups = {}
        for name, optimizer in self.optimizers.items():
            tensors |= {f"health.{name}.{k}": v for k, v in self.health[name].state_dict().items()}
            state = optimizer.state_dict()
            groups[name] = state["param_groups"]
            for index, slots in state["state"].items():
                tensors |= {f"optimizer.{name}.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()}
        return tensors, {
            "format": FORMAT,
            "step": self.step,
            "rate_scale": self.rate_scale,
            "rollbacks": self.rollbacks,
            "data_size": self.data_size,
            "param_groups": groups,
        }

    def restore(self) -> None:
        """Takes back the newest checkpoint, and cuts metrics.jsonl to it."""
        numbers, tensors = _newest_state(self.folder)
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                value.copy_(tensors[f"weights.{name}"])
            for name, value in self.averaged.state_dict().items():
                value.copy_(tensors[f"average.{name}"])
        for name, optimizer in self.optimizers.items():
            self.health[name].load_state_dict(_prefixed(tensors, f"health.{name}."))
            self.reported_bad[name] = int(self.health[name].bad)
            state = optimizers.stored_state(_prefixed(tensors, f"optimizer.{name}."))
            optimizer.load_state_dict({"state": state, "param_groups": numbers["param_groups"][name]})
            optimizers.lay_out(optimizer)
            self.players[name].settle()
        self.step = self.saved_step = numbers["step"]
        self.rate_scale, self.rollbacks = numbers["rate_scale"], numbers["rollbacks"]
        self.data_size = numbers["data_size"]
        if self.is_main:
            _cut_metrics(self.folder / "metrics.jsonl", self.step)

    def draw_samples(self) -> None:
        """samples/step-N.png: 64 data from the averaged model, always from the same z. Pictures only."""
        from triptych import report

        model = self.averaged
        if not self.is_main or not report.is_picture(model.event_shape) or model.codec.reading == "none":
            return
        self._follow()
        generator = torch.Generator().manual_seed(self.recipe.seed)
        with evaluating(model):
            x = model.sample(64, generator=generator)
        path = self.folder / "samples" / f"step-{self.step:09d}.png"
        path.parent.mkdir(exist_ok=True)
        storage.write_file(path, lambda p: report.grid(self.model.codec.decode(x)).save(p, format="png"))

    def finish(self) -> None:
        """Saves, writes the card's final numbers and closes the trackers."""
        self.save()
        if self.is_main:
            write_card(self.averaged, self.folder, self.recipe, self.step)
        self.accelerator.end_training()


def _rest(model: GenerativeModel) -> list[Tensor]:
    """What is not averaged: it is saved as it is."""
    averaged = {id(t) for t in (*model.mapping().parameters(), *_running(model.mapping()))}
    return [t for t in (*model.parameters(), *_buffers(model)) if id(t) not in averaged]


def _running(module: torch.nn.Module) -> list[Tensor]:
    """Floating buffers that are averages of data."""
    return [b for b in _buffers(module) if b.is_floating_point()]


def _buffers(module: torch.nn.Module) -> list[Tensor]:
    """All buffers but those that say how training goes."""
    return [
        buffer
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
        if name not in getattr(part, "about_training", ())
    ]


def check_room(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that a run must not be put into."""
    if folder.is_file():
        raise TriptychError(f"{folder} is a file: give --out the name of a folder")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise TriptychError(f"{folder} exists already: --resume {folder} goes on with it, --overwrite replaces it")
        if not (folder / "recipe.json").exists():
            raise TriptychError(f"{folder} is no triptych run: --overwrite only replaces runs; choose another --out")


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """An empty folder in place of what was there, which comes back if the block fails."""
    aside = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    with storage.explained(str(folder)):
        if folder.exists():
            folder.replace(aside)
        try:
            folder.mkdir(parents=True)
            yield
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            if aside.exists():
                aside.replace(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _all_or_none(check: Callable[[], None]) -> None:
    """Runs a check on the main process and raises its error on all of them: none is left waiting for the others."""
    problem: list[TriptychError | None] = [None]
    if processes().is_main_process:
        try:
            check()
        except TriptychError as error:
            problem[0] = error
    broadcast_object_list(problem)
    if problem[0] is not None:
        raise problem[0]


def processes() -> PartialState:
    """The processes of this run: on a machine without an accelerator they talk over gloo."""
    return PartialState(cpu=not torch.accelerator.is_available())


def _check_processes(accelerator: Accelerator) -> None:
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise TriptychError(
            f"{started} processes run, accelerate sees {accelerator.num_processes}: start them with torchrun"
        )


def _states(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "state").glob("*") if p.name.isdigit())


def _newest_state(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Numbers and tensors of the newest checkpoint, verified."""
    read_description(folder)
    states = _states(folder)
    if not states:
        raise TriptychError(f"{folder} has no checkpoint to resume from: train it anew with --overwrite")
    newest = states[-1]
    advice = f"delete {newest} to go on from {states[-2].name}" if len(states) > 1 else "train it anew with --overwrite"
    try:
        numbers = storage.read_json(newest / "state.json")
        if storage.digest(newest / "state.safetensors") != numbers["sha256"]:
            raise TriptychError("state.safetensors is not what was written")
        missing = {"step", "rate_scale", "rollbacks", "data_size", "param_groups"} - set(numbers)
        if missing:
            raise TriptychError(f"state.json lacks {', '.join(sorted(missing))}")
        return numbers, storage.read_tensors(newest / "state.safetensors")
    except (TriptychError, OSError, KeyError, TypeError) as error:
        raise TriptychError(f"checkpoint {newest} is damaged ({error}): {advice}") from error


def _prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _cut_metrics(path: Path, step: int) -> None:
    """Drops the lines after `step`, and a last line that a kill cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            break
    text = "".join(line + "\n" for line in kept)
    storage.write_file(path, lambda p: p.write_text(text, encoding="utf-8"))


def _check_trackers(trackers: tuple[str, ...]) -> None:
    for name in trackers:
        if importlib.util.find_spec(name) is None:
            raise TriptychError(f"--track {name} needs its package: pip install 'triptych[{name}]'")


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested recipe -> one level of numbers and strings, as trackers want."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
