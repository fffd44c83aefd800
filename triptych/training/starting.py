"""How a training starts, on the command line and in Python alike: what was said becomes a recipe, data and a run.

    recipe_for     what was said, in place in a preset, in another recipe, or in that of a run to start from
    prepared       the recipe's data, or those in memory, in a shape that its model takes
    start          the recipe decided by the data, its model, and the run's folder with a first checkpoint

`said` holds only what was said, by name: fields of `Recipe`, and in `model`, `objective` and `training` those of its parts.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych import folders, storage
from triptych.core import GenerativeModel
from triptych.data.batches import parse_augment
from triptych.data.colours import shaped
from triptych.data.memory import is_named
from triptych.data.names import load
from triptych.data.splits import Split, Splits
from triptych.errors import TriptychError, unknown
from triptych.families import FAMILIES, build_for, continued, preset
from triptych.opening import exists
from triptych.pretrained import blank_model, initial_model, local_folder, own_whole, read_description, read_recipe
from triptych.recipes import Recipe
from triptych.training.checkpoint import progress_of
from triptych.training.planning import Plan, plan, plan_minutes
from triptych.training.processes import processes
from triptych.training.run import Run

PARTS = ("model", "objective", "training")
"""The parts of a recipe, whose fields are said by the part's name, a dot and their own."""
Factory = Callable[[tuple[int, ...]], GenerativeModel]
Notice = Callable[[str], None]
_log = logging.getLogger("triptych.data")


def recipe_of(source: str | Path, family: str | None = None) -> Recipe:
    """The recipe a run was trained by; a model saved without one gets its family's default, where that is named."""
    recipe = read_recipe(local_folder(source))
    if recipe is None and family is not None:
        return preset(family)
    if recipe is None:
        raise TriptychError(f"{source} was saved without a training recipe: name the family and its settings instead")
    return recipe


def recipe_for(
    family: str | Recipe, said: Mapping[str, Any], *, called: str | None = None, init: str | Path | None = None
) -> Recipe:
    """The preset's recipe, or that of the run to start from, with what was said in place; a path made absolute.

    Args:
        family: a name; or a recipe, in place of a preset.
        called: a preset by name; by default the one made for the data.
        init: a run, whose model is kept.

    Raises:
        TriptychError: for names that are unknown, values out of range, and settings of a model that stays as it is.
    """
    start = _start(family, said.get("data"), called, init)
    if init and (changed := flags({name: said[name] for name in ("model", "given") if name in said})):
        raise TriptychError(f"the model is that of the run it starts from: {', '.join(changed)} cannot change; leave it out")
    parts = {name: _with(name, getattr(start, name), said[name]) for name in PARTS if name in said}
    recipe = _with("recipe", start, {**said, **parts})
    path = Path(recipe.data)
    embedded = recipe.data.partition("?")[0] in ("faces", "digits")
    return recipe if embedded or not exists(path) else dataclasses.replace(recipe, data=str(path.resolve()))


def _start(family: str | Recipe, data: str | None, called: str | None, init: str | Path | None) -> Recipe:
    if isinstance(family, Recipe):
        if called or init:
            raise TriptychError("a recipe takes the place of preset and init: leave them out")
        return family
    if not init:
        return preset(family, called, data)
    start = _undecided(recipe_of(init, family))
    if start.family != family:
        raise TriptychError(f"{init} is a {start.family}, not a {family}: name {start.family}, or leave the family out")
    return start


def _undecided(recipe: Recipe) -> Recipe:
    """Without what was decided by the data and the machine of the run that it comes from: these may be others."""
    augment = ",".join(name for name in recipe.augment.split(",") if name.strip() != "diffaug")
    training = dataclasses.replace(recipe.training, precision="auto", validation=None)
    return dataclasses.replace(recipe, augment=augment, training=training)


def _with(name: str, part: Any, said: Any) -> Any:
    """A dataclass with some fields changed; one of its own type takes its place."""
    if isinstance(said, type(part)):
        return said
    if not isinstance(said, Mapping):
        raise TriptychError(f"{name} expects a dictionary of settings or a {type(part).__name__}, got {said!r:.60}")
    known = [field.name for field in dataclasses.fields(part)]
    for key in said:
        if key not in known:
            raise unknown(f"setting of {name}", key, known)
    # recipe.json, in which tuples are lists, gives the same
    return dataclasses.replace(part, **{key: tuple(v) if isinstance(v, list) else v for key, v in said.items()})


def flags(said: Mapping[str, Any]) -> list[str]:
    """What was said, sorted, as the command line spells it.

    >>> flags({"steps": 3, "model": {"latent_dim": 4}})
    ['--model.latent-dim', '--steps']
    """
    nested = {name: list(value) for name, value in said.items() if isinstance(value, Mapping)}
    dotted = {f"{part}.{name}" for part, names in nested.items() for name in names}
    return sorted("--" + name.replace("_", "-") for name in {name for name in said if name not in nested} | dotted)


def data_of(
    recipe: Recipe,
    notice: Notice | None,
    data: Any = None,
    event_shape: tuple[int, ...] | None = None,
    depth: Sequence[float] = (),
) -> Splits:
    """The recipe's data.

    Args:
        notice: called with a line for a person: what was read, pictures skipped; by default logger `triptych.data` warns of
            what is amiss.
        data: in memory, which the recipe does not hold.
        event_shape: of a model that there is already, as which grey or coloured pictures are read.
        depth: of its codec, by which pixels of more than eight bits are read.
    """
    source = recipe.data if data is None or is_named(data) else data
    splits = load(source, size=recipe.size, seed=recipe.seed, held_out=recipe.held_out, depth=depth, notice=notice)
    if notice is not None:
        notice(f"{recipe.data}: {splits.summary}")
    return splits if event_shape is None else shaped(splits, event_shape, recipe.data, notice or _log.warning)


def depth_of(folder: str | Path) -> tuple[float, ...]:
    """The range of 16-bit or float values that a run's training pixels were scaled from (`Codec.depth`); () for 8 bits."""
    return tuple(read_description(local_folder(folder)).get("fitted", {}).get("depth", ()))


def prepared(
    recipe: Recipe, notice: Notice | None, data: Any = None, init: str | Path | None = None, factory: Factory | None = None
) -> tuple[Recipe, Splits]:
    """The data, in the shape of the model to start from; where no size is said, in one that the family takes, which the
    recipe then has."""
    if init:
        folder = local_folder(init)
        model = blank_model(folder, {} if factory is None else own_whole(folder, factory))
        return recipe, data_of(recipe, notice, data, model.event_shape, model.codec.depth)
    splits, side_of = data_of(recipe, notice, data), FAMILIES[recipe.family].side
    shape = splits["train"].event_shape
    if recipe.size is not None or side_of is None or not splits["train"].is_image:
        return recipe, splits
    side = side_of(shape[1:])
    if shape[1:] == (side, side):
        return recipe, splits
    (notice or _log.warning)(
        f"pictures of {shape[1]}×{shape[2]} are resized and cropped to {side}×{side} (--size chooses another power of two)"
    )
    recipe = dataclasses.replace(recipe, size=side)
    return recipe, data_of(recipe, lambda line: None, data)


def moved(folder: Path, data: str, notice: Notice) -> None:
    """Names another place of the run's training data in its recipe, if the examples there are the same.

    Raises:
        TriptychError: for other examples, and for a run of a version that did not note which it had.
    """
    recipe, progress = recipe_of(folder), progress_of(folder)
    found = data_of(dataclasses.replace(recipe, data=data), notice, depth=depth_of(folder))["train"]
    known = "" if progress is None else progress.data_digest
    if not known or found.digest != known:
        why = "are others than" if known else "cannot be compared with"
        raise TriptychError(
            f"the training examples in {data} {why} those that {folder} began with: give it the same data, or start a new "
            "run with --init"
        )
    place = str(Path(data).resolve()) if exists(data) else data
    with folders.claimed(folder):
        stored = storage.read_json(folder / "recipe.json")
        stored["recipe"]["data"] = place
        storage.write_json(folder / "recipe.json", stored)


def check_place(folder: Path, overwrite: bool) -> None:
    """Raises for a folder that a new run must not be put into, to be asked before the data, which may take long."""
    if processes().is_main_process:
        folders.check_new(folder, overwrite)


def start(
    recipe: Recipe,
    data: Split,
    folder: Path,
    *,
    notice: Notice,
    init: str | Path | None = None,
    factory: Factory | None = None,
    overwrite: bool = False,
    trackers: tuple[str, ...] = (),
    minutes: float | None = None,
    foresee: bool = True,
) -> tuple[Run, Plan | None]:
    """The run that trains by the recipe on the data, at its first checkpoint, and how long it will take.

    Args:
        notice: called with a line about what the recipe left to the data.
        init: a run whose weights it starts from.
        factory: a user's own model, event_shape -> model.
        minutes: that the training may take, which decides its steps.
        foresee: whether its time is asked for, which takes seconds to measure.
    """
    parse_augment(recipe.augment, data)

    def make(recipe: Recipe) -> GenerativeModel:
        if not init:
            return build_for(recipe, data, factory)
        own = {} if factory is None else own_whole(local_folder(init), factory)
        return continued(recipe, initial_model(init, data.event_shape, **own))

    timed = None if minutes is None else plan_minutes(minutes, recipe, make, data)
    recipe = _decided(recipe, data, notice, timed)
    model = make(recipe)
    if timed is None and foresee:
        timed = plan(recipe, model, data)
    return Run.create(folder, recipe, model, overwrite=overwrite, trackers=trackers), timed


def _decided(recipe: Recipe, data: Split, notice: Notice, timed: Plan | None) -> Recipe:
    """The recipe with what it leaves to the data, and to a time that was asked for, decided."""
    decided = recipe.decided(len(data), data.is_image) if timed is None else timed.recipe
    if decided.augment != recipe.augment:
        times = decided.judged_times(len(data))
        notice(
            f"a discriminator is to see each of {len(data)} pictures {times:,.0f} times: it sees them through diffaug, so "
            "as not to know them by heart (--augment none: as they are)"
        )
    if decided.training.validation and recipe.training.validation is None:
        notice(
            f"each of {len(data)} examples is to be seen {decided.times_seen(len(data)):,.0f} times: a tenth is kept out, "
            "to end with the weights that suit them best (--training.validation 0: learn from all, keep the last)"
        )
    return decided
