"""A model's own files: recipe.json and model.safetensors, in a run directory, a folder or on the hub.

Loading executes nothing that a file says: a recipe may name only the classes listed here, its model is laid out without
memory first, and weights are safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import triptych
from triptych import storage
from triptych.core import GenerativeModel
from triptych.errors import TriptychError
from triptych.recipes import Recipe, from_json, to_json

FORMAT = 1
MODELS = (
    "VAE",
    "GAN",
    "ProgressiveGAN",
    "NICE",
    "RealNVP",
    "Glow",
)  # what a recipe may name: a checkpoint cannot make us build anything else


def save_model(model: GenerativeModel, folder: Path, recipe: Recipe | None = None) -> None:
    """The files of a run that a model needs: recipe.json, model.safetensors, README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / "recipe.json", described(model, recipe))
    storage.write_tensors(folder / "model.safetensors", model.state_dict())
    write_card(model, folder, recipe)


def load(source: str | Path, *, revision: str | None = None, **download: Any) -> GenerativeModel:
    """The model of a run directory, or of a hub id ("owner/name"), in eval mode on the CPU.

    Args:
        source: a folder with recipe.json and model.safetensors, or a hub id.
        revision: of the hub.
        download: further arguments of huggingface_hub.snapshot_download.

    Raises:
        TriptychError: when there is no such run, or it is damaged or foreign.

    >>> model = triptych.load("runs/faces")  # doctest: +SKIP
    """
    folder = local_folder(source, revision=revision, **download)
    model = blank_model(folder)
    storage.load_weights(model, storage.read_tensors(folder / "model.safetensors"), folder)
    return model.eval()


def stamp(folder: Path) -> str:
    """Which weights a run holds now ("" for none): kept with what is learned of them, which belongs to no others."""
    weights = folder / "model.safetensors"
    return storage.digest(weights) if weights.exists() else ""


def local_folder(source: str | Path, *, revision: str | None = None, **download: Any) -> Path:
    """The folder itself, or where the hub's copy of it was put."""
    return Path(source) if Path(source).exists() else _download(str(source), revision, download)


def read_recipe(folder: Path) -> Recipe | None:
    """The training recipe of a run, or None for a model saved without one."""
    stored = read_description(folder).get("recipe")
    return None if stored is None else from_json(stored)


def initial_model(source: str | Path, event_shape: tuple[int, ...]) -> GenerativeModel:
    """A trained model to start from (`--init`), checked against the new data's shape."""
    model = load(source)
    if model.event_shape != event_shape:
        raise TriptychError(
            f"{source} was trained on {model.event_shape}, the data are {event_shape}: "
            "add --size, or start from a run on such data"
        )
    model.begin()
    return model.train()


def described(model: GenerativeModel, recipe: Recipe | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "triptych": triptych.__version__,
        "model": {"class": type(model).__name__, "event_shape": list(model.event_shape), "arguments": model.arguments},
        "codec": {"reading": model.codec.reading, "bits": model.codec.bits},
        "recipe": None if recipe is None else to_json(recipe),
    }


def read_description(folder: Path) -> dict[str, Any]:
    if not (folder / "recipe.json").is_file():
        raise TriptychError(f"{folder} is not a triptych run: it has no recipe.json")
    stored = storage.read_json(folder / "recipe.json")
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        found = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
        raise TriptychError(f"{folder}/recipe.json should have format {FORMAT}, has {found!r}: not a run of this version")
    return stored


def blank_model(folder: Path) -> GenerativeModel:
    """The model of a recipe without memory for its weights, so that a hostile recipe cannot ask for any."""
    stored: Any = read_description(folder).get("model")
    try:
        name, shape, arguments = stored["class"], stored["event_shape"], stored["arguments"]
        if name not in MODELS:
            raise TriptychError(f"{folder} holds a model of class {name!r}; this version knows {', '.join(MODELS)}")
        with torch.device("meta"):
            return getattr(triptych, name)(tuple(shape), **arguments)
    except (TypeError, KeyError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TriptychError(f"{folder}/recipe.json does not describe a model ({reason}): damaged or foreign") from error


def _download(source: str, revision: str | None, options: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    files = ["recipe.json", "model.safetensors", "README.md"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=files, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TriptychError(f"no run folder {source!r} here, and the hub has none to give ({reason})") from error


def write_card(model: GenerativeModel, folder: Path, recipe: Recipe | None, step: int | None = None) -> None:
    from triptych.report import model_card

    text = model_card(model, recipe, step)
    storage.write_file(folder / "README.md", lambda p: p.write_text(text, encoding="utf-8"))
