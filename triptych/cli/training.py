"""`triptych train`: from a data set to a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych import folders
from triptych.cli import parse
from triptych.cli.options import Source, train_options
from triptych.cli.sources import notice, own_factory, own_parts
from triptych.errors import TriptychError, unknown
from triptych.families import FAMILIES

if TYPE_CHECKING:
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
    from triptych.training.starting import recipe_of

    name = recipe_of(source.resume or source.init).family
    named = {k: v for k, v in vars(source).items() if v is not None}
    return name, {**parse(train_options(FAMILIES[name]), rest, f"triptych train {name}"), **named}


def _check_there(run: Path | None) -> None:
    if run is not None and not folders.recover(run).is_dir():
        raise TriptychError(f"{run} is not a folder that could be resumed: check the name")


def _resume(said: dict[str, Any]) -> None:
    from triptych.modes import flush_subnormals
    from triptych.training import plan as timed
    from triptych.training.run import Run
    from triptych.training.starting import data_of, depth_of, flags, moved, recipe_of

    others = sorted(set(flags(said)) - {"--resume", "--steps", "--minutes", "--track", "--own-model", "--data"})
    if others:
        raise TriptychError(f"--resume goes on as it began: {', '.join(others)} cannot change; use --init for a new run")
    _check_there(said["resume"])
    if "data" in said:
        moved(said["resume"], said["data"], notice)
    flush_subnormals()
    folder, own = said["resume"], own_parts(said["resume"], said.get("own_model"))
    splits, plan, steps = None, None, said.get("steps")
    if "minutes" in said:
        splits = data_of(recipe_of(folder), notice, depth=depth_of(folder))
        plan = _longer(folder, said["minutes"], splits["train"], own)
        steps = plan.recipe.steps
    run = Run.resume(folder, trackers=said.get("track", ()), steps=steps, given=own)
    if run.step >= run.recipe.steps:
        print(f"{run.folder} is finished at step {run.step}: --steps N or --minutes M makes it longer")
        return
    print(f"resuming {run.folder} at step {run.step} of {run.recipe.steps}")
    if splits is None:
        splits = data_of(run.recipe, notice, event_shape=run.model.event_shape, depth=run.model.codec.depth)
    _fit(run, splits, plan or timed(run.recipe, run.model, splits["train"], start=run.step))


def _longer(folder: Path, minutes: float, data: Split, own: dict[str, Any]) -> Plan:
    """The plan of a run that goes on for so many minutes."""
    from triptych.pretrained import load
    from triptych.training import plan_minutes
    from triptych.training.checkpoint import newest
    from triptych.training.starting import recipe_of

    model, start = load(folder, **own).train().requires_grad_(), newest(folder).progress.step
    return plan_minutes(minutes, recipe_of(folder), lambda recipe: model, data, start=start)


def _start(name: str, said: dict[str, Any]) -> None:
    from triptych.modes import flush_subnormals
    from triptych.training.planning import check_minutes
    from triptych.training.starting import check_place, flags, prepared, recipe_for, start

    asked, init = {name: said[name] for name in said if name not in _OF_RUN}, said.get("init")
    recipe = recipe_for(name, asked, called=said.get("preset"), init=init)
    flush_subnormals()
    if "own_model" in said and (useless := [flag for flag in flags(said) if flag.startswith("--model.")]):
        raise TriptychError(f"--model is a model of your own: {', '.join(useless)} would change nothing, leave it out")
    if "out" not in said:
        raise TriptychError("train expects --out RUN, a folder for the run")
    if "minutes" in said:
        check_minutes(said["minutes"])
    out, overwrite = said["out"], said.get("overwrite", False)
    check_place(out, overwrite)
    factory = own_factory(said["own_model"]) if "own_model" in said else None
    recipe, splits = prepared(recipe, notice, init=init, factory=factory)
    options: dict[str, Any] = {"overwrite": overwrite, "trackers": said.get("track", ()), "minutes": said.get("minutes")}
    run, plan = start(recipe, splits["train"], out, notice=notice, init=init, factory=factory, **options)
    _fit(run, splits, plan)


# what is said of the run, and not of its recipe
_OF_RUN = ("out", "preset", "resume", "init", "overwrite", "track", "own_model", "minutes")


def _fit(run: Run, splits: Splits, plan: Plan | None) -> None:
    from triptych.doctor import History, as_numbers, compare_columns, diagnose
    from triptych.training.loop import fit

    if plan is not None and run.is_main:
        print(f"{run.folder}: {plan}", flush=True)
    try:
        fit(run, splits["train"], notice=notice, left=None if plan is None else plan.left)
    except KeyboardInterrupt:
        notice(f"\nsaved at step {run.saved_step}: triptych train --resume {run.folder} goes on")
        raise
    print(f"{run.folder}: {run.step} steps done; triptych evaluate {run.folder} scores it")
    if run.is_main:
        found = as_numbers(compare_columns(run.averaged, splits["train"]))
        for verdict in diagnose(History.of(run.folder), found, run.recipe):
            print(verdict)
