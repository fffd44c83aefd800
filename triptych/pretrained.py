"""A model's own files: recipe.json and model.safetensors, in a run directory, a folder or on the hub.

recipe.json holds the model as a tree of parts (`triptych.parts`). Loading executes nothing that a file says: a description
may name only the library's own parts, its model is laid out without memory first, and weights are safetensors.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from triptych import folders, onboard, parts, storage
from triptych.bijections import Whiten
from triptych.codecs import Conditions
from triptych.core import GenerativeModel, StandardNormal
from triptych.errors import TriptychError, not_finite, unknown
from triptych.families import from_json, own_model
from triptych.opening import exists
from triptych.recipes import Recipe, to_json
from triptych.version import FORMAT, __version__

_HUB = frozenset({"cache_dir", "force_download", "local_files_only", "token", "endpoint", "proxies", "etag_timeout"})
_WEIGHTS = "model.safetensors"
_ROOMS = ("codecs", "nets", "bijections", "vae", "gan", "flow", "compose")


@cache
def known_types() -> Mapping[str, type]:
    """What a description may name: the public parts of the library, by name."""
    found: dict[str, type] = {"StandardNormal": StandardNormal}
    for room in _ROOMS:
        module = importlib.import_module(f"triptych.{room}")
        found |= {name: kind for name in module.__all__ if _is_part(kind := getattr(module, name))}
    return found


def _is_part(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, parts.Part) and not inspect.isabstract(kind)


def save_model(model: GenerativeModel, folder: Path, recipe: Recipe | None = None) -> None:
    """The files of a run that a model needs: recipe.json, model.safetensors, README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / "recipe.json", described(model, recipe))
    storage.write_tensors(folder / _WEIGHTS, model.state_dict())
    write_card(model, folder, recipe)


def load(source: str | Path, *, revision: str | None = None, **own: Any) -> GenerativeModel:
    """The model of a run directory, one on board ("faces-vae"), or of a hub id ("owner/name"), in eval mode on the CPU.

    Weights that are stored in half precision become float32.

    Args:
        source: a folder with recipe.json and model.safetensors, a name of `triptych.onboard.names`, or a hub id, looked for
            in this order.
        revision: of the hub.
        own: a user's own parts by their place, such as encoder=MyEncoder(…), or model=MyVAE(…) for the whole; they get
            their weights back. Deeper places are written with dots: **{"bijection.parts.0.net": MyNet(…)}. Also the further
            arguments of huggingface_hub.snapshot_download, which are not modules.

    Raises:
        TriptychError: for a run that does not exist, is damaged or foreign, or lacks one of its user's own parts.

    >>> model = load("runs/faces")  # doctest: +SKIP
    """
    given = {name: part for name, part in own.items() if isinstance(part, nn.Module | parts.Part)}
    for name in own.keys() - given.keys() - _HUB:
        raise unknown("argument of load that is not a part", name, _HUB)
    folder = local_folder(source, revision=revision, **{k: v for k, v in own.items() if k not in given})
    model = blank_model(folder, given)
    _load_weights(model, folder)
    _check_finite(model, folder)
    return model.eval()


def _load_weights(model: GenerativeModel, folder: Path) -> None:
    """The weights of a run; those in half precision as float32, which leaves a whitening that is not quite a rotation."""
    storage.check_header(model.state_dict(), folder / _WEIGHTS, folder)
    tensors = storage.read_tensors(folder / _WEIGHTS)
    halves = [name for name, tensor in tensors.items() if tensor.dtype in (torch.float16, torch.bfloat16)]
    storage.load_weights(model, tensors | {name: tensors[name].float() for name in halves}, folder)
    if halves:
        for layer in model.modules():
            if isinstance(layer, Whiten):
                layer.straighten()


def _check_finite(model: GenerativeModel, folder: Path) -> None:
    """Raises a `TriptychError` that names the first weight that is not finite.

    A buffer may be infinite, such as a mask, and one of a single number NaN, where that was not measured yet.
    """
    broken = (name for name, p in model.named_parameters() if not p.isfinite().all())
    unknown_value = (name for name, b in model.named_buffers() if b.ndim and b.is_floating_point() and b.isnan().any())
    if name := next(itertools.chain(broken, unknown_value), None):
        raise TriptychError(f"{folder}: {not_finite(f'weights ({name})')}")


def stamp(folder: Path) -> str:
    """Which weights a run holds now ("" for none): kept with what is learned of them, which belongs to no others."""
    weights = folder / _WEIGHTS
    if not exists(weights):
        return ""
    try:
        expected = blank_model(folder).state_dict()
    except TriptychError:  # of a user's own parts, or damaged: they are hashed unseen, and `load` says what is lacking
        return storage.digest_of_tensors(weights)
    storage.check_header(expected, weights, folder)
    return storage.digest_of_tensors(weights)


def local_folder(source: str | Path, *, revision: str | None = None, **download: Any) -> Path:
    """The folder itself, that of a model on board, or where the hub's copy was put: whichever is there, in this order."""
    if exists(folders.recover(Path(source))):
        return Path(source)
    return onboard.folder_of(source) or _download(str(source), revision, download)


def read_recipe(folder: Path) -> Recipe | None:
    """The training recipe of a run, or None for a model saved without one."""
    stored = read_description(folder).get("recipe")
    return None if stored is None else from_json(stored)


def initial_model(source: str | Path, event_shape: tuple[int, ...], **own: Any) -> GenerativeModel:
    """A trained model to start from (`--init`), checked against the new data's shape."""
    model = load(source, **own)
    if model.event_shape != event_shape:
        raise TriptychError(
            f"{source} was trained on {model.event_shape}, the data are {event_shape}: "
            "give data of its shape, or start from a run on such data"
        )
    model.begin()
    return model.train()


def described(model: GenerativeModel, recipe: Recipe | None) -> dict[str, Any]:
    """What recipe.json holds."""
    if type(model.conditions) not in (Conditions, type(None)):
        raise TriptychError(f"conditions should be a triptych.codecs.Conditions, got {type(model.conditions).__name__}")
    return {
        "format": FORMAT,
        "triptych": __version__,
        "event_shape": list(model.event_shape),
        "model": parts.describe(model),
        "fitted": model.codec.fitted(),
        "conditions": None if model.conditions is None else parts.describe(model.conditions),
        "recipe": None if recipe is None else to_json(recipe),
    }


def read_description(folder: Path) -> dict[str, Any]:
    """recipe.json, of this format or one before."""
    if not exists(folders.recover(folder) / "recipe.json"):
        raise TriptychError(f"{folder} is not a triptych run: it has no recipe.json")
    stored = storage.read_json(folder / "recipe.json")
    found = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
    if found not in range(1, FORMAT + 1):
        raise TriptychError(f"{folder}/recipe.json should have format {FORMAT}, has {found!r}: not a run of this version")
    return stored


def own_whole(folder: Path, factory: Callable[..., Any]) -> dict[str, GenerativeModel]:
    """A user's own model for the weights of a run, made by a function of the event shape, as `load` takes it."""
    description = read_description(folder)
    if "event_shape" not in description:
        raise TriptychError(f"{folder} is of an earlier version, whose models have no parts of one's own: leave out --model")
    conditions = read_conditions(description)
    dim = 0 if conditions is None else conditions.dim
    return {"model": own_model(factory, tuple(description["event_shape"]), dim)}


def read_conditions(description: dict[str, Any]) -> Any:
    """The conditions that a recipe.json holds, or None."""
    stored = description.get("conditions")
    conditions = None if stored is None else parts.build(stored, known_types())
    if not isinstance(conditions, Conditions | None):
        raise TriptychError(f"recipe.json holds conditions that are {conditions!r:.40}: damaged or foreign")
    return conditions


def blank_model(folder: Path, given: Mapping[str, Any] | None = None) -> GenerativeModel:
    """The model of a recipe without memory for its weights, so that a hostile recipe cannot ask for any.

    Args:
        given: a user's own parts, or {"model": the whole}.
    """
    stored = read_description(folder)
    if given and "model" in given:
        if len(given) > 1:
            raise TriptychError(f"model= is the whole: leave out {', '.join(given.keys() - {'model'})}")
        return _whole(given["model"], stored, folder)
    try:
        with torch.device("meta"), _Undrawn():
            model = _first_format(stored["model"]) if stored["format"] == 1 else _tree(stored["model"], given)
        return _conditioned(model, stored, folder)
    except (
        TypeError,
        KeyError,
        ValueError,
        RuntimeError,
        OverflowError,
        AttributeError,
        RecursionError,
        IndexError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TriptychError(f"{folder}/recipe.json does not describe a model ({reason}): damaged or foreign") from error


class _Undrawn(TorchFunctionMode):
    """Inside, weights are laid out and neither drawn nor computed: they have no memory.

    For such tensors torch would import its compiler, which takes seconds, where it draws, and where it goes from value to
    value. What is not listed here is left to it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS and _is_unset(drawn := args[0] if args else kwargs["tensor"]):
            return drawn
        if func in _VALUE_BY_VALUE and _is_unset(args[0]) and np.broadcast_shapes(*map(_shape, args)) == args[0].shape:
            return args[0].detach()
        if func is torch.randn and not kwargs:
            return torch.empty(*args)
        return func(*args, **kwargs)


def _is_unset(value: Any) -> bool:
    """Whether it is a float tensor without memory, whose values are of no interest."""
    return isinstance(value, Tensor) and value.is_meta and value.is_floating_point()


def _shape(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, Tensor) else ()


_DRAWS = frozenset(
    {Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_}
)
_VALUE_BY_VALUE = frozenset({Tensor.mul, Tensor.sign, Tensor.abs, Tensor.log, Tensor.tril, Tensor.triu})


def _tree(description: Any, given: Mapping[str, Any] | None) -> GenerativeModel:
    model = parts.build(description, known_types(), given)
    if not isinstance(model, GenerativeModel):
        raise TypeError(f"a {type(model).__name__} is not a model")
    return model


def _whole(model: nn.Module, stored: dict[str, Any], folder: Path) -> GenerativeModel:
    if not isinstance(model, GenerativeModel):
        raise TriptychError(f"model should be a triptych.core.GenerativeModel, got {type(model).__name__}")
    return _conditioned(model, stored, folder)


def _conditioned(model: GenerativeModel, stored: dict[str, Any], folder: Path) -> GenerativeModel:
    model.codec.restore(stored.get("fitted", {}))
    model.conditions = read_conditions(stored)
    if model.conditions is not None and model.conditions.dim != model.context_dim:
        raise TriptychError(
            f"{folder} holds conditions of {model.conditions.dim} numbers, the model takes {model.context_dim}: "
            f"build it with context_dim={model.conditions.dim}"
        )
    return model


def _first_format(stored: dict[str, Any]) -> GenerativeModel:
    """Models of format 1, whose parts were numbers and strings."""
    from triptych import flow, gan
    from triptych.recipes import gan as gans
    from triptych.recipes import vae

    name, shape, arguments = stored["class"], tuple(stored["event_shape"]), stored["arguments"]
    makers: dict[str, Any] = {
        "VAE": vae.from_numbers,
        "GAN": gans.from_numbers,
        "ProgressiveGAN": gan.ProgressiveGAN,
        "NICE": flow.NICE,
        "RealNVP": flow.RealNVP,
        "Glow": flow.Glow,
    }
    if name not in makers:
        raise TriptychError(f"the run holds a model of class {name!r}; this version knows {', '.join(makers)}")
    widened = {"widen": True} if name == "RealNVP" else {}  # as it was then, of vectors too
    return makers[name](shape, **arguments, **widened)


def _download(source: str, revision: str | None, options: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    files = ["recipe.json", "model.safetensors", "README.md"]
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=files, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TriptychError(
            f"no run folder {source!r} here, no model of that name on board ({', '.join(onboard.names())}), and the hub has "
            f"none to give ({reason})"
        ) from error


def write_card(model: GenerativeModel, folder: Path, recipe: Recipe | None, step: int | None = None) -> None:
    """README.md of a run, with the front matter that hubs read.

    Args:
        step: how far the training has come; None: not known.
    """
    text = model_card(model, recipe, step)
    storage.write_file(folder / "README.md", lambda p: p.write_text(text, encoding="utf-8", errors="replace"))


def model_card(model: GenerativeModel, recipe: Recipe | None, step: int | None = None) -> str:
    """What a person should know of a model, as markdown."""
    learned = "" if isinstance(model.prior, StandardNormal) else f", its prior learned ({type(model.prior).__name__})"
    told = [] if recipe is None else [
        f"- trained on `{_public(recipe.data)}`, {_how_far(recipe, step)}",
        f"- seed {recipe.seed}; everything else that was asked for is in `recipe.json`",
    ]  # fmt: skip
    given = [] if model.conditions is None else [f"- given {', '.join(model.conditions.names)}: `--given name=value`"]
    lines = [
        "---",
        "library_name: triptych",
        "tags: [generative-model, " + type(model).__name__.lower() + "]",
        "---",
        f"# {type(model).__name__} of {' × '.join(map(str, model.event_shape))}",
        "",
        f"- {sum(p.numel() for p in model.parameters()):,} parameters, z of {model.latent_dim} dimensions, "
        + ("z ~ N(0, I)" if not learned else f"z ~ p(z){learned}"),
        f"- stored values are read as `{model.codec.name}` at {model.codec.bits} bits",
        *(f"- {remark}" for remark in model.codec.remarks(model.event_shape).values()),
        *told,
        *given,
        *(f"- {remark}" for remark in model.remarks()),
        "",
        "```python",
        "import triptych",
        'model = triptych.load("path/to/this/folder")',
        "x = model.sample(16, temperature=0.8)  # model coordinates",
        "stored = model.codec.decode(x)  # values as the data have them",
        "```",
        "",
        "The model repeats what its training data show, their gaps and correlations included. Do not use it to pass off",
        "pictures of people as real, and check the licence of the data before sharing the weights.",
    ]
    return "\n".join(lines) + "\n"


def _how_far(recipe: Recipe, step: int | None) -> str:
    """How much of its training a model has had, in words."""
    length = f"{recipe.steps:,} steps of {recipe.training.batch} examples"
    if step is None:
        return f"by a recipe of {length}"
    return length if step >= recipe.steps else f"**not finished**: {step:,} of {length}"


def _public(data: str) -> str:
    """The data's name without the folders of whoever trained on it."""
    return Path(data).name if Path(data).is_absolute() else data
