"""Recipes: everything a run was asked for, as frozen dataclasses; named presets; and `build`, recipe -> model.

The sentence under a field is also its `--help` text. Torch is not imported until something is built.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from triptych.errors import TriptychError

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel

Model = TypeVar("Model")
Objective = TypeVar("Objective")


_TINY, _HUGE = 1e-12, 1e12

RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, _HUGE),
    "seed": (0, 2**63 - 1),
    "size": (1, 65_536),
    "latent_dim": (1, 1e6),
    "width": (1, 65_536),
    "blocks": (0, 64),
    "bits": (1, 8),
    "draws": (1, 1e6),
    "beta": (0, _HUGE),
    "warmup": (0, _HUGE),
    "free_bits": (0, _HUGE),
    "batch": (1, 1e6),
    "rate": (_TINY, 1e3),
    "rate_warmup": (0, _HUGE),
    "rate_end": (0, 1),
    "weight_decay": (0, 1e3),
    "momentum": (0, 1 - 1e-9),
    "clip": (0, _HUGE),
    "ema": (0, 1 - 1e-9),
    "log_every": (1, _HUGE),
    "save_every": (1, _HUGE),
    "sample_every": (0, _HUGE),
}
"""What every number of a recipe may be, ends included."""


def _check(part: Any) -> None:
    """Names the first field of a recipe's part that is out of its range or not one of its choices."""
    hints = get_type_hints(type(part))
    for item in dataclasses.fields(part):
        value, choices = getattr(part, item.name), get_args(hints[item.name])
        if get_origin(hints[item.name]) is Literal and value not in choices:
            raise TriptychError(f"{item.name} should be one of {', '.join(choices)}, got {value!r}")
        if item.name in RANGES and value is not None:
            low, high = RANGES[item.name]
            if not isinstance(value, int | float) or not low <= value <= high:
                raise TriptychError(f"{item.name} should be a number from {low:g} to {high:g}, got {value!r}")
    hidden = getattr(part, "hidden", ())
    if len(hidden) > 64 or not all(isinstance(h, int) and 1 <= h <= 1e6 for h in hidden):
        raise TriptychError(f"hidden should be up to 64 layer sizes from 1 to 1e6, got {hidden!r:.60}")


@dataclass(frozen=True)
class VAEModel:
    """The two networks and the likelihood of a VAE."""

    latent_dim: int = 20
    """Length of z."""
    net: Literal["auto", "mlp", "conv"] = "auto"
    """mlp (the paper's), conv (pictures of any size), or auto by the data."""
    hidden: tuple[int, ...] = (500,)
    """Hidden layers of the mlp's encoder, mirrored in its decoder."""
    activation: Literal["tanh", "relu", "silu", "gelu"] = "tanh"
    """Of the mlp."""
    width: int = 32
    """First channel count of the conv nets; it doubles at each level, up to 8 times."""
    blocks: int = 0
    """Residual blocks at each level of the conv nets."""
    likelihood: Literal["auto", "bernoulli", "gaussian", "logistic"] = "auto"
    """p(x|z): bernoulli (black and white), gaussian (a density), logistic (8-bit pixels), or auto by the data."""
    scale: Literal["shared", "output"] = "shared"
    """Scale of the gaussian or logistic: one number a channel, or put out by the network for every value."""
    mean: Literal["auto", "sigmoid", "linear"] = "auto"
    """Of the gaussian: sigmoid for pictures, linear for other data."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class VAEObjective:
    """Which bound a VAE maximises."""

    estimator: Literal["B", "A", "k", "score"] = "B"
    """B (closed-form KL), A (all by sampling), k (importance-weighted), score (the naive gradient, for comparison)."""
    draws: int = 1
    """Draws of z for each datum: the paper's L, or k of the importance-weighted bound."""
    beta: float = 1.0
    """Weight of the KL."""
    warmup: int = 0
    """Steps over which the KL's weight grows from 0 to beta."""
    free_bits: float = 0.0
    """Nats below which no latent dimension's KL is pressed (estimator B)."""


@dataclass(frozen=True)
class Training:
    """The loop's numbers."""

    batch: int = 100
    """Data in a minibatch, on each process."""
    optimizer: Literal["adam", "adamw", "adamax", "adagrad", "sgd"] = "adam"
    """Update rule."""
    rate: float = 1e-3
    """Learning rate, at its highest."""
    rate_warmup: int = 0
    """Steps over which the rate grows linearly from 0."""
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    """How the rate falls to its end over the run's steps."""
    rate_end: float = 0.02
    """Fraction of the rate that is left at the last step."""
    weight_decay: float = 0.0
    """Added to the gradient as weight_decay · θ (adamw: decoupled). 1/N is the paper's N(0, I) prior on weights."""
    momentum: float = 0.9
    """First-moment decay (Adam's β₁; sgd's momentum)."""
    clip: float = 0.0
    """Largest gradient norm; 0 never clips."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the networks; weights, likelihoods and sums are float32 either way. bf16 is faster where processors have it."""
    ema: float = 0.999
    """Decay of the weights' moving average, which evaluation and editing use; 0 keeps the last weights."""
    log_every: int = 100
    """Steps between lines of metrics.jsonl."""
    save_every: int = 1000
    """Steps between checkpoints."""
    sample_every: int = 0
    """Steps between pictures in samples/; 0 draws them at checkpoints."""


@dataclass(frozen=True)
class Recipe(Generic[Model, Objective]):
    """A run, whole: data, length, seed, model, objective, loop. Saved as recipe.json."""

    data: str = "faces"
    """A name (faces, digits, mnist, …), a folder of pictures, a parquet, npz, npy or IDX file, or hf:owner/name."""
    size: int | None = None
    """Resize the shorter side to this and centre-crop."""
    augment: str = ""
    """Augmentations, joined by commas: flip, shift."""
    correlate: tuple[str, ...] = ()
    """Of the embedded faces: pairs such as hair_length:beard:-0.9, which break the attributes' independence."""
    steps: int = 5000
    """Rounds of the training game."""
    seed: int = 0
    """Of weights, batches and noise."""
    model: Model = field(default_factory=VAEModel)  # type: ignore[assignment]
    objective: Objective = field(default_factory=VAEObjective)  # type: ignore[assignment]
    training: Training = field(default_factory=Training)

    @property
    def family(self) -> str:
        return next(f for f, (model, _) in FAMILIES.items() if isinstance(self.model, model))

    def __post_init__(self) -> None:
        for part in (self, self.model, self.objective, self.training):
            _check(part)
        if isinstance(self.objective, VAEObjective) and self.objective.free_bits and self.objective.estimator != "B":
            raise TriptychError("free_bits floor the closed-form KL: they need --objective.estimator B")


FAMILIES: dict[str, tuple[type, type]] = {"vae": (VAEModel, VAEObjective)}

_CONV = Training(batch=64, rate=1e-3, rate_warmup=200)

PRESETS: dict[str, dict[str, Recipe]] = {
    "vae": {
        "default": Recipe(model=VAEModel(latent_dim=32), training=_CONV),
        "mnist": Recipe(
            data="mnist",
            steps=50_000,
            # silu where the paper has tanh: 6.5 nats better after five epochs
            model=VAEModel(latent_dim=20, net="mlp", hidden=(500,), activation="silu", likelihood="bernoulli"),
            training=Training(batch=100, rate=2e-3, save_every=2000),
        ),
        "frey": Recipe(
            data="frey",
            steps=40_000,
            model=VAEModel(latent_dim=10, net="mlp", hidden=(200,), likelihood="gaussian", scale="output", mean="sigmoid"),
            training=Training(batch=100, rate=5e-4, save_every=2000),
        ),
        "faces": Recipe(
            data="faces",
            size=32,
            steps=4_000,
            model=VAEModel(latent_dim=32, net="conv", width=24, likelihood="logistic"),
            training=_CONV,
        ),
        "celeba": Recipe(
            data="celeba10k",
            size=64,
            augment="flip",
            steps=10_000,
            model=VAEModel(latent_dim=128, net="conv", width=24, likelihood="logistic"),
            training=Training(batch=32, rate=1e-3, rate_warmup=200),
        ),
    }
}


def preset(family: str, name: str | None = None, data: str | None = None) -> Recipe:
    """The preset called `name`; without a name, the one made for the data, else the family's default.

    >>> preset("vae", data="mnist").model.hidden
    (500,)
    """
    if family not in PRESETS:
        raise TriptychError(f"unknown family {family!r}: choose {', '.join(PRESETS)}")
    named = PRESETS[family]
    if name is None:
        return next((r for n, r in named.items() if n != "default" and r.data == data), named["default"])
    if name not in named:
        raise TriptychError(f"{family} has no preset {name!r}: choose {', '.join(named)}")
    return named[name]


def to_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain numbers, strings and lists."""
    return {"family": recipe.family, **dataclasses.asdict(recipe)}


def from_json(stored: dict[str, Any]) -> Recipe:
    """The recipe of `to_json`, checked: unknown or missing fields are named."""
    if not isinstance(stored, dict):
        raise TriptychError(f"the training recipe should be an object, is {type(stored).__name__}: damaged or foreign")
    stored = dict(stored)
    family = stored.pop("family", None)
    if family not in FAMILIES:
        raise TriptychError(f"the recipe names family {family!r}; this version knows {', '.join(FAMILIES)}")
    model, objective = FAMILIES[family]
    parts = {
        "model": _dataclass(model, stored.pop("model", {})),
        "objective": _dataclass(objective, stored.pop("objective", {})),
        "training": _dataclass(Training, stored.pop("training", {})),
    }
    return _dataclass(Recipe, stored | parts)


def build(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    """A model for stored values shaped and typed like `batch` (B, *E), its weights drawn from the recipe's seed.

    Raises:
        TriptychError: where the model cannot read such data; the message says what could.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return _BUILDERS[recipe.family](recipe, batch)


def _build_vae(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    from triptych.vae import VAE

    pixels = not batch.is_floating_point()
    settings = dataclasses.asdict(recipe.model)
    if settings["likelihood"] == "auto":
        settings["likelihood"] = _natural_likelihood(batch) if pixels else "gaussian"
    if settings["mean"] == "auto":
        settings["mean"] = "sigmoid" if pixels else "linear"
    if not pixels and settings["mean"] != "linear":
        raise TriptychError(
            "the data are floats, this recipe reads pixels: choose --model.likelihood gaussian --model.mean linear"
        )
    if pixels and settings["mean"] == "linear":
        raise TriptychError("the data are 8-bit pictures, a linear mean is for floats: choose --model.mean sigmoid")
    return VAE(tuple(batch.shape[1:]), **settings)


_BUILDERS = {"vae": _build_vae}


def _natural_likelihood(batch: Tensor) -> str:
    """Bernoulli for black-and-white or small grey pictures, as in the paper; the discretised logistic for the rest."""
    grey = batch.ndim < 4 or batch.shape[1] == 1
    return "bernoulli" if grey and max(batch.shape[2:], default=0) <= 28 else "logistic"


def _dataclass(kind: type, stored: dict[str, Any]) -> Any:
    if not isinstance(stored, dict):
        raise TriptychError(f"the recipe's {kind.__name__} part should be an object, is {type(stored).__name__}")
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(stored) - known)
    if unknown:
        raise TriptychError(f"the recipe holds unknown {kind.__name__} fields {', '.join(unknown)}: a newer version's?")
    hints = get_type_hints(kind)
    try:
        return kind(**{k: tuple(v) if str(hints[k]).startswith("tuple") else v for k, v in stored.items()})
    except TypeError as error:
        raise TriptychError(f"the recipe's {kind.__name__} part does not fit: {error}") from error
