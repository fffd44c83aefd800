"""`triptych train`: from a data set to a run directory."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal

import tyro

from triptych import recipes
from triptych.cli import parse
from triptych.errors import TriptychError
from triptych.recipes import FAMILIES, PRESETS, Recipe, preset
from triptych.recipes.recipe import Model, Objective

if TYPE_CHECKING:
    from triptych.data import Splits
    from triptych.run import Run


@dataclass(frozen=True)
class Train(Generic[Model, Objective]):
    """What every family's command takes."""

    recipe: Annotated[Recipe[Model, Objective], tyro.conf.arg(name="")]
    """What to train, on what, how long."""
    out: Path | None = None
    """The run's folder; refused if it exists, unless --overwrite."""
    preset: str | None = None
    """Settings to start from, by name; without one, those made for the data."""
    resume: Path | None = None
    """Go on with this run; only --steps may change."""
    init: str | None = None
    """Fine-tune from the weights of this run folder or hub id."""
    overwrite: bool = False
    """Replace the run in --out."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log to these trackers."""


class TrainVAE(Train[recipes.VAEModel, recipes.VAEObjective]):
    """Train a variational autoencoder (Kingma & Welling 2013)."""


class TrainGAN(Train[recipes.GANModel, recipes.GANObjective]):
    """Train a generative adversarial network of perceptrons (Goodfellow et al. 2014)."""


class TrainDCGAN(Train[recipes.DCGANModel, recipes.GANObjective]):
    """Train a convolutional generative adversarial network, for pictures of any size."""


class TrainProgressive(Train[recipes.ProgressiveModel, recipes.GANObjective]):
    """Train a progressively grown generative adversarial network (Karras et al. 2018)."""


class TrainNICE(Train[recipes.NICEModel, recipes.FlowObjective]):
    """Train NICE, a flow of additive couplings (Dinh, Krueger & Bengio 2014)."""


class TrainRealNVP(Train[recipes.RealNVPModel, recipes.FlowObjective]):
    """Train RealNVP, a flow of masked affine couplings (Dinh, Sohl-Dickstein & Bengio 2016)."""


class TrainGlow(Train[recipes.GlowModel, recipes.FlowObjective]):
    """Train Glow, a flow with invertible 1×1 convolutions (Kingma & Dhariwal 2018)."""


COMMANDS: dict[str, type] = {
    "vae": TrainVAE,
    "gan": TrainGAN,
    "dcgan": TrainDCGAN,
    "progressive": TrainProgressive,
    "nice": TrainNICE,
    "realnvp": TrainRealNVP,
    "glow": TrainGlow,
}


def train(words: Sequence[str]) -> None:
    """Parses, then creates, resumes or fine-tunes a run, and trains it."""
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: triptych train {{{'|'.join(COMMANDS)}}} --data DATA --out RUN … (each has its own --help)")
        print("       triptych train --resume RUN")
        print("       triptych train --init RUN|HUB --data DATA --out RUN …")
        return
    family, rest = _family(words)
    command = COMMANDS[family]
    options = parse(command, rest, f"triptych train {family}", default=_defaults(command, family, rest))
    if options.resume:
        _check_resumable(options, rest)
        _resume(options, "--steps" in _flags(rest))
    else:
        _start(options)


def _family(words: Sequence[str]) -> tuple[str, list[str]]:
    """The family: named, or that of the run to resume or to start from."""
    if words[0] in COMMANDS:
        return words[0], list(words[1:])
    if not words[0].startswith("-"):
        raise TriptychError(f"unknown family {words[0]!r}: choose {', '.join(COMMANDS)}")
    source = _peek(words, "--resume") or _peek(words, "--init")
    if source is None:
        raise TriptychError(f"train wants a family ({', '.join(COMMANDS)}), or --resume RUN, or --init RUN")
    return _recipe_of(source).family, list(words)


def _defaults(command: type, family: str, words: Sequence[str]) -> Any:
    """The recipe to override: that of --resume or --init, the preset's, or the data's."""
    source = _peek(words, "--resume") or _peek(words, "--init")
    if source is not None:
        _check_init(words)
        recipe = _recipe_of(source) if _peek(words, "--resume") else _recipe_of(source, family)
        if recipe.family != family:
            raise TriptychError(f"{source} is a {recipe.family}, not a {family}: leave the family out")
    else:
        recipe = preset(family, _peek(words, "--preset"), _peek(words, "--data"))
    return command(recipe=recipe)


def _check_init(words: Sequence[str]) -> None:
    changed = sorted(flag for flag in _flags(words) if flag.startswith("--model."))
    if changed:
        raise TriptychError(f"the model is that of the run it starts from: {', '.join(changed)} cannot change; leave it out")


def _recipe_of(source: str, family: str | None = None) -> Recipe:
    """The recipe a run was trained by; a model saved without one gets its family's default, where that is named."""
    from triptych.checkpoint import local_folder, read_recipe

    recipe = read_recipe(local_folder(source))
    if recipe is None and family is not None:
        return preset(family)
    if recipe is None:
        raise TriptychError(f"{source} was saved without a training recipe: name the family and its settings instead")
    return recipe


def _peek(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag before everything is parsed, `--flag value` or `--flag=value`."""
    for i, word in enumerate(words):
        if word == flag and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(flag + "="):
            return word.split("=", 1)[1]
    return None


def _flags(words: Sequence[str]) -> set[str]:
    return {w.split("=", 1)[0] for w in words if w.startswith("--")}


def _check_resumable(options: Any, words: Sequence[str]) -> None:
    others = sorted(_flags(words) - {"--resume", "--steps", "--track"})
    if others:
        raise TriptychError(f"--resume goes on as it began: {', '.join(others)} cannot change; use --init for a new run")
    if options.resume is not None and not options.resume.is_dir():
        raise TriptychError(f"there is no run {options.resume} to resume")


def _resume(options: Any, lengthen: bool) -> None:
    from triptych.run import Run

    flush_subnormals()
    run = Run.resume(options.resume, trackers=options.track, steps=options.recipe.steps if lengthen else None)
    if run.step >= run.recipe.steps:
        print(f"{run.folder} is finished at step {run.step}: --steps N makes it longer")
        return
    print(f"resuming {run.folder} at step {run.step} of {run.recipe.steps}")
    _fit(run, load_data(run.recipe))


def _start(options: Any) -> None:
    from triptych.checkpoint import initial_model
    from triptych.data.batches import parse_augment
    from triptych.recipes import build, first_batch
    from triptych.run import Run, check_room, processes

    flush_subnormals()
    if options.out is None:
        raise TriptychError("train wants --out RUN, a folder for the run")
    if processes().is_main_process:
        check_room(options.out, options.overwrite)  # before the data, which may take long
    recipe = _rooted(options.recipe)
    splits = load_data(recipe)
    parse_augment(recipe.augment, splits.train)
    if options.init:
        model = initial_model(options.init, splits.train.event_shape)
    else:
        model = build(recipe, first_batch(splits.train))
    run = Run.create(options.out, recipe, model, overwrite=options.overwrite, trackers=options.track)
    _fit(run, splits)


def flush_subnormals() -> None:
    """Before the first parallel operation: a flush after the pool of workers exists misses them."""
    import torch

    torch.set_flush_denormal(True)


def _rooted(recipe: Recipe) -> Recipe:
    """The recipe with a path made absolute, so that the run can be resumed and scored from anywhere."""
    path = Path(recipe.data)
    embedded = recipe.data in ("faces", "digits")
    return recipe if embedded or not path.exists() else dataclasses.replace(recipe, data=str(path.resolve()))


def load_data(recipe: Recipe) -> Splits:
    """The recipe's data, with notices (skipped pictures) on standard error."""
    from triptych.data import load

    correlate = correlations(recipe.correlate)
    return load(recipe.data, size=recipe.size, seed=recipe.seed, correlate=correlate, notice=notice)


def correlations(pairs: Sequence[str]) -> dict[tuple[str, str], float] | None:
    """("hair_length:beard:-0.9",) -> {("hair_length", "beard"): -0.9}; None for no pairs."""
    found = {}
    for pair in pairs:
        try:
            first, second, value = pair.split(":")
            found[first, second] = float(value)
        except ValueError:
            raise TriptychError(f"--correlate wants pairs such as hair_length:beard:-0.9, got {pair!r}") from None
    return found or None


def notice(line: str) -> None:
    """A line for a person, beside the progress bar."""
    print(line, file=sys.stderr, flush=True)


def _fit(run: Run, splits: Splits) -> None:
    from triptych.doctor import History, diagnose
    from triptych.train import fit

    try:
        with progress(run) as watch:
            fit(run, splits["train"], notice=notice, watch=watch)
    except KeyboardInterrupt:
        print(f"\nsaved at step {run.step}: triptych train --resume {run.folder} goes on", file=sys.stderr)
        raise
    print(f"{run.folder}: {run.step} steps done; triptych evaluate {run.folder} scores it")
    if run.is_main:
        for verdict in diagnose(History.of(run.folder), recipe=run.recipe):
            print(verdict)


class progress:
    """A bar with the newest numbers; nothing where nobody watches (no terminal)."""

    def __init__(self, run: Run):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self.run = run
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            disable=not (console.is_terminal and run.is_main),
        )

    def __enter__(self):
        self.bar.start()
        task = self.bar.add_task("training", total=self.run.recipe.steps, completed=self.run.step, numbers="")

        def watch(step, numbers) -> None:
            shown = "  ".join(f"{k} {v:.4g}" for k, v in numbers.items() if k in _SHOWN and v is not None)
            self.bar.update(task, completed=step.step, numbers=shown)

        return watch

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


_SHOWN = ("loss", "elbo", "kl", "bits_per_dim", "nll", "round_trip", "d_accuracy", "spread_ratio", "bad_steps")

assert set(COMMANDS) == set(FAMILIES) == set(PRESETS)
