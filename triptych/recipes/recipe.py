"""The recipe of a run: what was asked for, as frozen dataclasses, checked. A field's sentence is also its `--help` text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints

from triptych.checking import check_argument
from triptych.errors import TriptychError, check_choice, check_layers, check_range

if TYPE_CHECKING:
    from triptych.data.splits import Split

_TINY, _HUGE = 1e-12, 1e12
LEARNED = 100  # times that a run sees each of few examples from which on likelihoods of others tell when to stop
FEW = range(20, 20_000)  # as many as that are few, and enough to spare some
SPARED = 0.1  # the share that is spared
OFTEN = 500  # times that a discriminator sees each picture in a run, from which on it sees them augmented

RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, _HUGE),
    "seed": (0, 2**63 - 1),
    "size": (1, 65_536),
    "latent_dim": (1, 1e6),
    "width": (1, 65_536),
    "blocks": (0, 64),
    "components": (1, 65_536),
    "prior_steps": (0, _HUGE),
    "sharpen": (0, _HUGE),
    "sharpen_rate": (_TINY, 1e3),
    "sharpen_width": (1, 65_536),
    "sharpen_weight": (_TINY, 1e6),
    "sharpen_bound": (1, 1e6),
    "couplings": (2, 64),
    "coupling_width": (1, 65_536),
    "splines": (0, 65_536),
    "coupled": (0, 65_536),
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
    "mismatch": (0, 1e3),
    "tie": (0, 1e3),
    "discriminator_weight": (_TINY, 1e3),
    "stddev_group": (0, 65_536),
    "images": (0, 1e9),
    "every": (1, 1e6),
    "ada_target": (-1, 1),
    "ada_images": (1, _HUGE),
    "clip": (0, _HUGE),
    "ema": (0, 1 - 1e-9),
    "hide": (0, 1),
    "validation": (0, 0.9),
    "log_every": (1, _HUGE),
    "save_every": (1, _HUGE),
    "save_minutes": (0, _HUGE),
    "sample_every": (0, _HUGE),
}
"""What every number of a recipe may be, ends included."""


def check_fields(settings: Any) -> None:
    """Raises a `TriptychError` that names the first field that is out of its range or not one of its choices."""
    hints = get_type_hints(type(settings))
    for item in dataclasses.fields(settings):
        value, hint = getattr(settings, item.name), hints[item.name]
        if get_origin(hint) is Literal:
            check_choice(item.name, value, get_args(hint))
            continue
        check_argument(item.name, value, hint)
        if item.name in RANGES and value is not None and not isinstance(value, str):
            check_range(item.name, value, *RANGES[item.name])
        elif item.name == "hidden":
            check_layers("hidden", value)


class Settings(Protocol):
    """A family's configuration of its networks: a frozen dataclass that names its family."""

    family: ClassVar[str]


class Objective(Protocol):
    """A family's configuration of its training game."""

    def judged(self, steps: int) -> int:
        """How many minibatches of a run of so many steps a discriminator sees; 0: there is none to see any."""


@dataclass(frozen=True)
class Training:
    """The loop's numbers."""

    batch: int = 100
    """Examples in a minibatch, on each process."""
    optimizer: Literal["adam", "adamw", "adamax", "adagrad", "sgd"] = "adam"
    """The update rule."""
    rate: float = 1e-3
    """The highest learning rate."""
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
    """What the momentum becomes, linearly, by the last step; without a number it does not change."""
    beta2: float = 0.999
    """Second-moment decay of the Adams."""
    clip: float = 0.0
    """Largest gradient norm; 0 never clips."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What the networks compute in; weights, likelihoods and sums are float32 either way. auto: bf16 where the processor or
    GPU multiplies in it fast, which the run then keeps."""
    ema: float = 0.999
    """Decay of the weights' moving average, which evaluation and editing use; 0 keeps the last weights."""
    hide: float = 0.1
    """How often each attribute is hidden in training, so that "unknown" can be asked for (conditional models)."""
    validation: float | None = None
    """Share of the training examples (500 at most) that is not learned from: each stage that maximises a likelihood ends
    with the averaged weights that make these likeliest. Without a number a tenth where each of fewer than 20,000
    examples is seen 100 times, else none; 0 keeps the last weights."""
    log_every: int = 100
    """Steps between lines of metrics.jsonl."""
    save_every: int = 1000
    """Steps between checkpoints."""
    save_minutes: float = 5.0
    """Most minutes between checkpoints, besides those by steps: the first comes after half a minute, the next after twice as
    long, and so on; 0: by steps alone."""
    sample_every: int = 0
    """Steps between pictures in samples/; 0 draws them at checkpoints."""


@dataclass(frozen=True)
class Recipe:
    """A run, whole: data, length, seed, model, objective, loop. Saved as recipe.json."""

    model: Any
    """The networks."""
    objective: Any
    """What is optimised, and what is watched."""
    data: str = "faces"
    """A name (faces, digits, mnist, …), a folder of pictures, a parquet, npz, npy or IDX file, or hf:owner/name."""
    size: int | None | str = None  # noqa: RUF036  # in this order, for the command line takes "None" for None
    """Resize the shorter side to this and crop the centre; 28x20: to a height and a width."""
    augment: str = ""
    """Augmentations, joined by commas: flip, shift; a GAN's discriminator sees pictures through diffaug (all of them), ada
    (as many as needed) or none: where nothing is said, diffaug if it is to see each picture 500 times, else none."""
    held_out: Literal["content", "position"] = "content"
    """What decides which tenth is held out of data without a test split: each example's content, or, in runs of earlier
    versions, its position."""
    given: str = ""
    """Attributes that the model is conditioned on, joined by commas, such as smile,glasses."""
    steps: int = 5000
    """Rounds of the training game."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    training: Training = field(default_factory=Training)
    """The loop."""

    @property
    def family(self) -> str:
        """The name of the model's family."""
        return self.model.family

    def __post_init__(self) -> None:
        if self.size is not None and not isinstance(self.size, int):
            object.__setattr__(self, "size", _sized(self.size))
        for settings in (self, self.model, self.objective, self.training):
            check_fields(settings)
        if self.training.decay == "exponential" and not self.training.rate_end:
            raise TriptychError("an exponential decay never reaches 0: choose --training.rate-end above 0, or decay cosine")
        if self.training.validation and not self.has_likelihood:
            raise TriptychError(
                "validation goes by likelihoods, which this game has none of: leave --training.validation out"
            )
        if self.differentiable != "none" and not self.adversarial:
            raise TriptychError(f"augment {self.differentiable} is for what a discriminator sees: choose flip or shift")

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator sees the pictures, so that they may be augmented on the way to it."""
        return self.objective.judged(self.steps) > 0

    @property
    def has_likelihood(self) -> bool:
        """Whether some steps maximise a likelihood, which held-out examples can judge: those without a discriminator."""
        return self.objective.judged(self.steps) < self.steps

    def parts(self, split: Split) -> tuple[Split, Split | None]:
        """The training examples in two: what the run learns from, and what its weights are chosen by, if anything."""
        from triptych.data.splits import divided

        return divided(split, self.training.validation or 0.0)

    @property
    def differentiable(self) -> Literal["none", "diffaug", "ada"]:
        """What both players of a GAN see pictures through: diffaug, ada or none."""
        return next(iter(self._chosen()), "none")

    def _chosen(self) -> list[Any]:
        """Which of none, diffaug and ada is named: one at most."""
        names = [name.strip() for name in self.augment.split(",")]
        chosen = [name for name in ("none", "diffaug", "ada") if name in names]
        if len(chosen) > 1:
            raise TriptychError(f"augment {' and '.join(chosen)} exclude each other (none changes no picture that a "
                                "discriminator sees, diffaug every one, ada as many as are needed): choose one")  # fmt: skip
        return chosen

    def decided(self, examples: int, pictures: bool) -> Recipe:
        """The recipe with what it leaves to the training data decided, to be asked before a run starts.

        A discriminator that sees the same pictures again and again knows them by heart in the end: where nothing else is
        said it sees them through diffaug if it sees each 500 times. Augmented from the start they teach far more slowly:
        benchmarks/hinge.py --examples. A density that sees the same examples again and again learns them by heart: where it
        sees each of fewer than 20,000 at least 100 times, a tenth of them is kept out to judge by (`Training.validation`).

        Args:
            examples: of the training data.
            pictures: whether they are 8-bit pictures.

        >>> from triptych.families import preset
        >>> [preset("dcgan").decided(n, pictures=True).augment for n in (100, 1_000)]
        ['diffaug', '']
        """
        found, training = self, self.training
        often = examples in FEW and self.times_seen(examples) >= LEARNED
        if training.validation is None and self.has_likelihood and often:
            found = dataclasses.replace(found, training=dataclasses.replace(training, validation=SPARED))
        if self._chosen() or not pictures or self.judged_times(examples) < OFTEN:
            return found
        return dataclasses.replace(found, augment=",".join(filter(None, (self.augment, "diffaug"))))

    def times_seen(self, examples: int) -> float:
        """How often the run learns from each of so many training examples, on one process."""
        return self.steps * self.training.batch / max(1, examples)

    def judged_times(self, examples: int) -> float:
        """How often a discriminator sees each of so many training examples; 0 where there is none.

        >>> from triptych.families import preset
        >>> [preset(name).judged_times(examples=1000) for name in ("dcgan", "vae")]
        [80.0, 0.0]
        """
        return self.objective.judged(self.steps) * self.training.batch / max(1, examples)

    @property
    def conditions(self) -> list[str]:
        """The names of the attributes that the model is given."""
        return [name.strip() for name in self.given.split(",") if name.strip()]


def _sized(size: Any) -> int | str:
    """A size as a recipe keeps it: one number, or HxW.

    >>> _sized("28x20"), _sized((28, 20)), _sized("64"), _sized([64, 64])
    ('28x20', '28x20', 64, 64)
    """
    from triptych.data.pictures import parse_size

    height, width = parse_size(size) or (0, 0)
    for side in (height, width):
        check_range("size", side, *RANGES["size"])
    return height if height == width else f"{height}x{width}"


def to_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain numbers, strings and lists."""
    return {"family": recipe.family, **dataclasses.asdict(recipe)}


def restored(kind: type, stored: Any) -> Any:
    """A dataclass from its JSON, checked: unknown or missing fields are named."""
    if not isinstance(stored, dict):
        raise TriptychError(f"the recipe's {kind.__name__} part should be an object, is {type(stored).__name__}")
    extra = sorted(set(stored) - {f.name for f in dataclasses.fields(kind)})
    if extra:
        raise TriptychError(f"the recipe holds unknown {kind.__name__} fields {', '.join(extra)}: from a newer version?")
    hints = get_type_hints(kind)
    try:
        return kind(**{k: tuple(v) if str(hints[k]).startswith("tuple") else v for k, v in stored.items()})
    except TypeError as error:
        raise TriptychError(f"the recipe's {kind.__name__} part does not fit: {error}") from error
