"""What the verbs share: the run that is named, its data, and checks of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triptych.errors import TriptychError

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.data import Split, Splits


def load_model(source: str) -> GenerativeModel:
    from triptych.checkpoint import load
    from triptych.cli.training import flush_subnormals

    flush_subnormals()
    return load(source)


def load_editable(source: str) -> GenerativeModel:
    """The model, together with a way to invert it where it has no encoder of its own: the run's learned one, if any."""
    from triptych.cli.training import notice
    from triptych.core import Encodes
    from triptych.edit.inversion import Inverting, is_outdated, load_encoder

    model, folder = load_model(source), folder_of(source)
    if isinstance(model, Encodes):
        return model
    if is_outdated(folder):
        notice(f"{folder}'s encoder is of other weights, it is left aside: triptych directions {folder} learns it again")
    return Inverting(model, load_encoder(model, folder))


def encoding(model: GenerativeModel, folder: Path, stored: Tensor, weights: str) -> GenerativeModel:
    """The same with an encoder in any case, learned now from samples and `stored` where the run has none yet.

    Args:
        weights: `checkpoint.stamp` of the model's.
    """
    from triptych.cli.training import notice
    from triptych.core import Encodes
    from triptych.edit.inversion import Inverting, is_outdated, learn_encoder, load_encoder, save_encoder

    if isinstance(model, Encodes):
        return model
    encoder = load_encoder(model, folder)
    if encoder is None:
        why = "the run's encoder is of other weights" if is_outdated(folder) else f"a {type(model).__name__} has no encoder"
        notice(f"{why}: learning one, which is kept in the run")
        encoder = learn_encoder(model, data=stored, progress=lambda step, loss: notice(f"encoder {step}: {loss:.3f}"))
        save_encoder(encoder, folder, weights)
    return Inverting(model, encoder)


def folder_of(source: str) -> Path:
    from triptych.checkpoint import local_folder

    return local_folder(source)


def load_split(source: str, model: GenerativeModel, data: str | None, split: str) -> Split:
    """The split to measure on, at the model's size, from `data` or what the run was trained on."""
    return named_split(load_splits(source, model, data), split, data or source)


def named_split(splits: Splits, name: str, source: str) -> Split:
    if name not in splits:
        raise TriptychError(f"{source} has no split {name!r}: it has {', '.join(splits)}")
    return splits[name]


def load_splits(source: str, model: GenerativeModel, data: str | None) -> Splits:
    """All splits at the model's size, of `data` or of what the run was trained on."""
    from triptych.checkpoint import read_recipe
    from triptych.cli.training import correlations, notice
    from triptych.data import load

    recipe = read_recipe(folder_of(source))
    if recipe is None and data is None:
        raise TriptychError(f"{source} does not say what it was trained on: give --data")
    name = data or recipe.data  # type: ignore[union-attr]
    correlate = correlations(recipe.correlate) if recipe is not None and data in (None, recipe.data) else None
    picture = len(model.event_shape) == 3 and model.codec.reading != "none"
    size = model.event_shape[1:] if picture else None
    seed = recipe.seed if recipe is not None else 0  # decides what is held out: it must be what training left out
    return load(name, size=size, seed=seed, correlate=correlate, notice=notice)  # type: ignore[arg-type]


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise TriptychError(f"--seed should be 0 to 2^63 − 1, got {seed}")


def check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise TriptychError(f"--{name} should be at least 1, got {value}")
