"""`triptych train`: from a data set to a run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Source, train_options
from triptych.cli.sources import flush_subnormals, load_data, notice, own_factory, own_parts
from triptych.errors import TriptychError, unknown
from triptych.families import FAMILIES, build_for, continued, preset
from triptych.recipes import Recipe

if TYPE_CHECKING:
    from triptych.core import GenerativeModel
    from triptych.data import Split, Splits
    from triptych.training import Plan, Run


def train(words: Sequence[str]) -> None:
    """Parses, then creates, resumes or fine-tunes a run, and trains it."""
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: triptych train {{{'|'.join(FAMILIES)}}} --data DATA --out RUN … (each has its own --help)")
        print("       triptych train --resume RUN")
        print("       triptych train --init RUN|HUB --data DATA --out RUN …")
        return
    name, said = _said(words)
    if "minutes" in said and "steps" in said:
        raise TriptychError("--minutes decides how many steps there are: leave out --steps, or --minutes")
    if "resume" in said:
        _resume(said)
    else:
        _start(name, said)


def _said(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The family, named or that of the run to resume or to start from, and what the words say, each parsed once."""
    if not words[0].startswith("-"):
        if words[0] not in FAMILIES:
            raise unknown("family", words[0], FAMILIES)
        return words[0], parse(train_options(FAMILIES[words[0]]), words[1:], f"triptych train {words[0]}")
    source, rest = parse(Source, words, "triptych train", known_only=True)
    if source.resume is None and source.init is None:
        raise TriptychError(f"train expects a family ({', '.join(FAMILIES)}), or --resume RUN, or --init RUN")
    _check_there(source.resume)
    name = _recipe_of(source.resume or source.init).family
    named = {k: v for k, v in vars(source).items() if v is not None}
    return name, {**parse(train_options(FAMILIES[name]), rest, f"triptych train {name}"), **named}


def _recipe_of(source: str | Path, family: str | None = None) -> Recipe:
    """The recipe a run was trained by; a model saved without one gets its family's default, where that is named."""
    from triptych.pretrained import local_folder, read_recipe

    recipe = read_recipe(local_folder(source))
    if recipe is None and family is not None:
        return preset(family)
    if recipe is None:
        raise TriptychError(f"{source} was saved without a training recipe: name the family and its settings instead")
    return recipe


def _check_there(run: Path | None) -> None:
    if run is not None and not run.is_dir():
        raise TriptychError(f"{run} is not a folder that could be resumed: check the name")


def _resume(said: dict[str, Any]) -> None:
    from triptych.training import plan as timed
    from triptych.training.run import Run

    others = sorted(_flags(said) - {"--resume", "--steps", "--minutes", "--track", "--model"})
    if others:
        raise TriptychError(f"--resume goes on as it began: {', '.join(others)} cannot change; use --init for a new run")
    _check_there(said["resume"])
    flush_subnormals()
    folder, own = said["resume"], own_parts(said["resume"], said.get("own_model"))
    splits, plan, steps = None, None, said.get("steps")
    if "minutes" in said:
        splits = load_data(_recipe_of(folder))
        plan = _longer(folder, said["minutes"], splits.train, own)
        steps = plan.recipe.steps
    run = Run.resume(folder, trackers=said.get("track", ()), steps=steps, given=own)
    if run.step >= run.recipe.steps:
        print(f"{run.folder} is finished at step {run.step}: --steps N or --minutes M makes it longer")
        return
    print(f"resuming {run.folder} at step {run.step} of {run.recipe.steps}")
    splits = load_data(run.recipe) if splits is None else splits
    _fit(run, splits, plan or timed(run.recipe, run.model, splits.train, start=run.step))


def _longer(folder: Path, minutes: float, data: Split, own: dict[str, Any]) -> Plan:
    """The plan of a run that goes on for so many minutes."""
    from triptych.pretrained import load
    from triptych.training import plan_minutes
    from triptych.training.checkpoint import newest

    model, start = load(folder, **own).train().requires_grad_(), newest(folder).progress.step
    return plan_minutes(minutes, _recipe_of(folder), lambda recipe: model, data, start=start)


def _flags(said: dict[str, Any]) -> set[str]:
    """The flags that were said, as one types them."""
    nested = {name: list(value) for name, value in said.items() if isinstance(value, dict)}
    flat = {"model" if name == "own_model" else name for name in said if name not in nested}
    dotted = {f"{part}.{name}" for part, names in nested.items() for name in names}
    return {"--" + name.replace("_", "-") for name in flat | dotted}


def _start(name: str, said: dict[str, Any]) -> None:
    from triptych.data.batches import parse_augment
    from triptych.pretrained import initial_model, local_folder
    from triptych.training import plan as timed
    from triptych.training import plan_minutes
    from triptych.training.run import Run, check_folder, processes

    recipe, init = _recipe(name, said), said.get("init")
    flush_subnormals()
    if "own_model" in said and (useless := sorted(flag for flag in _flags(said) if flag.startswith("--model."))):
        raise TriptychError(f"--model is a model of your own: {', '.join(useless)} would change nothing, leave it out")
    if "out" not in said:
        raise TriptychError("train expects --out RUN, a folder for the run")
    out, overwrite = said["out"], said.get("overwrite", False)
    if processes().is_main_process:
        check_folder(out, overwrite)  # before the data, which may take long
    factory = own_factory(said["own_model"]) if "own_model" in said else None
    splits = load_data(recipe)
    parse_augment(recipe.augment, splits.train)

    def make(recipe: Recipe) -> GenerativeModel:
        if not init:
            return build_for(recipe, splits.train, factory)
        own = own_parts(local_folder(init), said.get("own_model"))
        return continued(recipe, initial_model(init, splits.train.event_shape, **own))

    plan = plan_minutes(said["minutes"], recipe, make, splits.train) if "minutes" in said else None
    recipe = _decided(recipe, splits.train, plan)
    model = make(recipe)
    plan = plan or timed(recipe, model, splits.train)
    _fit(Run.create(out, recipe, model, overwrite=overwrite, trackers=said.get("track", ())), splits, plan)


def _decided(recipe: Recipe, data: Split, plan: Plan | None) -> Recipe:
    """The recipe with what it leaves to the data, and to a time that was asked for, decided."""
    decided = recipe.decided(len(data), data.is_image) if plan is None else plan.recipe
    if decided.augment != recipe.augment:
        times = decided.judged_times(len(data))
        notice(
            f"a discriminator is to see each of {len(data)} pictures {times:,.0f} times: it sees them through diffaug, so "
            "as not to know them by heart (--augment none: as they are)"
        )
    return decided


def _recipe(name: str, said: dict[str, Any]) -> Recipe:
    """The preset's recipe, or that of the run to start from, with what was said in place; a path made absolute."""
    init = said.get("init")
    if init and (changed := sorted(flag for flag in _flags(said) if flag.startswith("--model.") or flag == "--given")):
        raise TriptychError(f"the model is that of the run it starts from: {', '.join(changed)} cannot change; leave it out")
    start = _undecided(_recipe_of(init, name)) if init else preset(name, said.get("preset"), said.get("data"))
    if start.family != name:
        raise TriptychError(f"{init} is a {start.family}, not a {name}: leave the family out")
    names = {f.name for f in dataclasses.fields(Recipe)}
    parts = {k: dataclasses.replace(getattr(start, k), **v) for k, v in said.items() if isinstance(v, dict)}
    recipe = dataclasses.replace(start, **({k: v for k, v in said.items() if k in names} | parts))
    path = Path(recipe.data)
    embedded = recipe.data.partition("?")[0] in ("faces", "digits")
    return recipe if embedded or not path.exists() else dataclasses.replace(recipe, data=str(path.resolve()))


def _undecided(recipe: Recipe) -> Recipe:
    """Without what was decided by the data and the machine of the run that it comes from: these may be others."""
    augment = ",".join(name for name in recipe.augment.split(",") if name.strip() != "diffaug")
    training = dataclasses.replace(recipe.training, precision="auto")
    return dataclasses.replace(recipe, augment=augment, training=training)


def _fit(run: Run, splits: Splits, plan: Plan | None) -> None:
    from triptych.doctor import History, diagnose
    from triptych.training.loop import fit

    if plan is not None and run.is_main:
        print(f"{run.folder}: {plan}", flush=True)
    try:
        fit(run, splits["train"], notice=notice, left=None if plan is None else plan.left)
    except KeyboardInterrupt:
        notice(f"\nsaved at step {run.step}: triptych train --resume {run.folder} goes on")
        raise
    print(f"{run.folder}: {run.step} steps done; triptych evaluate {run.folder} scores it")
    if run.is_main:
        for verdict in diagnose(History.of(run.folder), recipe=run.recipe):
            print(verdict)
