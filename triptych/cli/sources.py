"""What the commands share: the run that is named, its data, and a model of one's own."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from triptych.errors import TriptychError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.data import Split, Splits


def notice(line: str) -> None:
    """A line for a person, beside the progress bar."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def kept_if_possible(what: str) -> Iterator[None]:
    """Where a run cannot be written, what was learned serves this time, and that is said."""
    try:
        yield
    except TriptychError as error:
        notice(f"{what} is not kept in the run: {error}")


def own_factory(place: str, option: str = "--model", example: str = "my_package:MyVAE") -> Callable[..., Any]:
    """What an option such as --model my_package:MyVAE names, imported from the Python path or the current folder.

    Raises:
        TriptychError: if the module does not exist, or lacks that name.
    """
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise TriptychError(f"{option} expects module:name, such as {example}, got {place!r}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TriptychError(f"{option} {place}: {error}; check the name, and that Python finds the module here") from error


def own_parts(folder: Path, place: str | None) -> dict[str, Any]:
    """The user's own model for a run, as `triptych.load` takes it; nothing without --model."""
    if place is None:
        return {}
    from triptych.pretrained import own_whole

    return own_whole(folder, own_factory(place))


def load_model(source: str, own: str | None = None) -> GenerativeModel:
    """The model of a run folder or hub id.

    Args:
        own: what --model says.
    """
    from triptych.modes import flush_subnormals
    from triptych.pretrained import load

    flush_subnormals()
    return load(source, **(own_parts(folder_of(source), own) if own else {}))


def load_editable(source: str, own: str | None = None) -> GenerativeModel:
    """The model, together with a way to invert it where it has no encoder of its own: the run's learned one, if any."""
    from triptych.capabilities import Encodes
    from triptych.edit.inversion import Inverting, is_outdated, load_encoder

    model, folder = load_model(source, own), folder_of(source)
    if isinstance(model, Encodes):
        return model
    if is_outdated(folder):
        notice(f"{folder}'s encoder is of other weights, it is left aside: triptych directions {folder} learns it again")
    return Inverting(model, load_encoder(model, folder))


def encoding(
    model: GenerativeModel, folder: Path, stored: Tensor, weights: str, context: Tensor | None = None
) -> GenerativeModel:
    """The same with an encoder in any case, learned now from samples and `stored` where the run has none yet.

    Args:
        weights: `pretrained.stamp` of the model's.
        context: of a conditional model, what `stored` shows.
    """
    from triptych.capabilities import Encodes
    from triptych.edit.inversion import Inverting, is_outdated, learn_encoder, load_encoder, save_encoder

    if isinstance(model, Encodes):
        return model
    encoder = load_encoder(model, folder)
    if encoder is None:
        why = "the run's encoder is of other weights" if is_outdated(folder) else f"a {type(model).__name__} has no encoder"
        notice(f"{why}: learning one, which is kept in the run")
        encoder = learn_encoder(model, data=stored, context=context)
        with kept_if_possible("the encoder"):
            save_encoder(encoder, folder, weights)
    return Inverting(model, encoder)


def context_of(model: GenerativeModel, given: str | None) -> Tensor | None:
    """The context (1, K) that --given says; None where nothing is said, which means unknown.

    Raises:
        TriptychError: for a model without conditions, an attribute that it is not given, or a value that cannot be.
    """
    if given is None:
        return None
    if model.conditions is None:
        raise TriptychError(
            f"this {type(model).__name__} was trained without conditions: leave out --given, or train with it"
        )
    return model.conditions.parse(given)


def folder_of(source: str) -> Path:
    """The run's folder, here or where the hub's copy was put."""
    from triptych.pretrained import local_folder

    return local_folder(source)


def named_split(splits: Splits, name: str) -> Split:
    """A split by its name."""
    if name not in splits:
        raise unknown("split", name, splits)
    return splits[name]


class Wanted(NamedTuple):
    """Which data a run is measured on: a name, the size of pictures, and what decides what is held out, which must be what
    training left out: the seed, and by what; and how values of more than eight bits were read."""

    data: str
    size: tuple[int, ...] | int | None
    seed: int
    held_out: Literal["content", "position"]
    depth: tuple[float, ...] = ()


def wanted(source: str, model: GenerativeModel, data: str | None) -> Wanted:
    """`data`, or what the run was trained on, at the model's size.

    Raises:
        TriptychError: for a run that does not say what it was trained on, where no data are named.
    """
    from triptych.pretrained import read_recipe

    recipe = read_recipe(folder_of(source))
    if recipe is None and data is None:
        raise TriptychError(f"{source} does not say what it was trained on: give --data")
    size = model.event_shape[1:] if len(model.event_shape) == 3 and model.codec.is_picture else None
    if recipe is None:
        return Wanted(str(data), size, 0, "content", model.codec.depth)
    return Wanted(data or recipe.data, size, recipe.seed, recipe.held_out, model.codec.depth)


def load_splits(source: str, model: GenerativeModel, data: str | None) -> Splits:
    """All splits in the model's shape, of `data` or of what the run was trained on."""
    from triptych.data.colours import shaped

    asked = wanted(source, model, data)
    splits = read_wanted(asked)
    compare_training_data(source, splits, asked)
    return shaped(splits, model.event_shape, asked.data, notice)


def compare_training_data(source: str, splits: Splits, asked: Wanted) -> None:
    """Says where the training examples are no longer those of the run, though the data have their name."""
    from triptych.pretrained import read_recipe
    from triptych.training.checkpoint import progress_of

    folder = folder_of(source)
    recipe, progress = read_recipe(folder), progress_of(folder)
    found = splits["train"].digest
    if recipe is None or progress is None or asked.data != recipe.data or found in ("", progress.data_digest):
        return
    if progress.data_digest:
        held_out = (
            "held out is still what it was not trained on"
            if asked.held_out == "content" and splits.origin
            else "some of what is held out may be what it was trained on"
        )
        notice(
            f"{asked.data} has changed since {source} was trained ({progress.data_size} training examples then, "
            f"{len(splits['train'])} now): {held_out}"
        )


def read_wanted(asked: Wanted) -> Splits:
    """The data, of which is said what was read."""
    from triptych.data import load

    name, size, seed, held_out, depth = asked
    splits = load(name, size=size, seed=seed, held_out=held_out, depth=depth, notice=notice)  # type: ignore[arg-type]
    notice(f"{name}: {splits.summary}")
    return splits


def split_context(model: GenerativeModel, split: Split) -> Tensor | None:
    """What a conditional model is given of each example, (n, K); None for other models."""
    return (
        None
        if model.conditions is None
        else model.conditions.of_data(split.attributes, split.kinds, split.classes, len(split))
    )
