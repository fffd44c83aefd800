"""The recipe of a run: its dataclasses, checked, and as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from triptych.errors import TriptychError
from triptych.recipes import models

Model = TypeVar("Model")
Objective = TypeVar("Objective")

FAMILIES: dict[str, tuple[type, type]] = {
    "vae": (models.VAEModel, models.VAEObjective),
    "gan": (models.GANModel, models.GANObjective),
    "dcgan": (models.DCGANModel, models.GANObjective),
    "progressive": (models.ProgressiveModel, models.GANObjective),
    "nice": (models.NICEModel, models.FlowObjective),
    "realnvp": (models.RealNVPModel, models.FlowObjective),
    "glow": (models.GlowModel, models.FlowObjective),
}

_TINY, _HUGE = 1e-12, 1e12

RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, _HUGE),
    "seed": (0, 2**63 - 1),
    "size": (1, 65_536),
    "latent_dim": (1, 1e6),
    "width": (1, 65_536),
    "blocks": (0, 64),
    "couplings": (2, 64),
    "levels": (0, 16),
    "depth": (1, 512),
    "drift_bound": (0, _HUGE),
    "sample_bound": (0, _HUGE),
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
    "momentum_end": (0, 1 - 1e-9),
    "beta2": (0, 1 - 1e-9),
    "plays": (1, 100),
    "gamma": (0, 1e6),
    "drift": (0, 1e3),
    "discriminator_weight": (_TINY, 1e3),
    "stddev_group": (0, 65_536),
    "images": (0, 1e9),
    "every": (1, 1e6),
    "ada_target": (-1, 1),
    "ada_images": (1, _HUGE),
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
    decay: Literal["constant", "linear", "cosine", "exponential"] = "cosine"
    """How the rate falls to its end over the run's steps."""
    rate_end: float = 0.02
    """Fraction of the rate that is left at the last step."""
    weight_decay: float = 0.0
    """Added to the gradient as weight_decay · θ (adamw: decoupled). 1/N is the paper's N(0, I) prior on weights."""
    momentum: float = 0.9
    """First-moment decay (Adam's β₁; sgd's momentum)."""
    momentum_end: float | None = None
    """What the momentum becomes, linearly, by the last step; without a number it stays."""
    beta2: float = 0.999
    """Second-moment decay of the Adams."""
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
    """Augmentations, joined by commas: flip, shift; for a GAN of few data also diffaug (always) or ada (as needed)."""
    correlate: tuple[str, ...] = ()
    """Of the embedded faces: pairs such as hair_length:beard:-0.9, which break the attributes' independence."""
    steps: int = 5000
    """Rounds of the training game."""
    seed: int = 0
    """Of weights, batches and noise."""
    model: Model = field(default_factory=models.VAEModel)  # type: ignore[assignment]
    """The networks."""
    objective: Objective = field(default_factory=models.VAEObjective)  # type: ignore[assignment]
    """What is maximised, and what is watched."""
    training: Training = field(default_factory=Training)

    @property
    def family(self) -> str:
        return next(f for f, (model, _) in FAMILIES.items() if isinstance(self.model, model))

    def __post_init__(self) -> None:
        for part in (self, self.model, self.objective, self.training):
            _check(part)
        if isinstance(self.objective, models.VAEObjective) and self.objective.free_bits and self.objective.estimator != "B":
            raise TriptychError("free_bits floor the closed-form KL: they need --objective.estimator B")
        if self.training.decay == "exponential" and not self.training.rate_end:
            raise TriptychError("an exponential decay never reaches 0: choose --training.rate-end above 0, or decay cosine")
        if self.differentiable != "none" and not isinstance(self.objective, models.GANObjective):
            raise TriptychError(f"augment {self.differentiable} is for what a discriminator sees: choose flip or shift")

    @property
    def differentiable(self) -> Literal["none", "diffaug", "ada"]:
        """What both players of a GAN see pictures through: diffaug, ada or none."""
        names = [name.strip() for name in self.augment.split(",")]
        if "diffaug" in names and "ada" in names:
            raise TriptychError("augment diffaug changes every picture, ada as many as are needed: choose one of the two")
        return "diffaug" if "diffaug" in names else "ada" if "ada" in names else "none"


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
