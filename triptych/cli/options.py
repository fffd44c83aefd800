"""What each command takes, as dataclasses; the sentence under a field is its help. Nothing here imports torch."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_type_hints

import tyro

from triptych.families import Family
from triptych.recipes import Recipe, Training


@dataclass(frozen=True)
class OfRun:
    """What every command that reads a run takes."""

    run: tyro.conf.Positional[str]
    """A run folder or hub id."""


@dataclass(frozen=True)
class OwnModel:
    """For runs of a model of one's own."""

    model: str | None = None
    """Your own model, as my_package:MyVAE, which is called with the event shape; needed for runs trained with one."""


@dataclass(frozen=True)
class Sample(OwnModel, OfRun):
    """Draw new examples from a run."""

    n: int | None = None
    """How many to draw; by default 64, or 8 at each temperature where there are several."""
    temperature: str = "1"
    """Multiplies the prior's noise, or of a GAN moves its first features: below 1 samples are more typical, above 1 more
    unusual; several, such as 0.25,0.5,1, draw a row each."""
    given: str | None = None
    """What a conditional model is given, such as smile=1,glasses=yes; attributes that are not named are unknown."""
    seed: int = 0
    """Seed of the noise."""
    observe: bool = False
    """Draw from p(x|z) instead of showing its mean (VAE)."""
    out: Path = Path("samples.png")
    """A picture (.png, .jpg, .gif), or .npy for the values themselves."""


@dataclass(frozen=True)
class LearnDirections(OwnModel, OfRun):
    """Learn edit directions, judge them on held-out data, and store them in the run."""

    data: str | None = None
    """The data with the attributes; by default what the run was trained on."""
    attributes: str | None = None
    """Which attributes to learn, joined by commas; by default all."""
    unsupervised: int | None = None
    """Take this many principal components of the codes instead, which needs no attributes."""
    method: Literal["joint", "means", "regression"] = "joint"
    """The method: joint holds the other attributes still, means takes the difference of means, regression a logistic or
    ridge regression."""
    depth: str | None = None
    """Where a flow is edited: z, or the activations after so many of its layers (0: the data themselves), or auto, the depth
    at which directions leak least, the default where there are attributes. It is stored with the directions."""
    json: Path | None = None
    """A file to write the measures to, too."""


@dataclass(frozen=True)
class Edit(OwnModel, OfRun):
    """Change attributes of pictures, or fill in a part of them."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """The picture files to edit."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """name=1.5 sets the attribute, name=+1.5 adds to it (a minus sets: name=+-1.5 subtracts); can be repeated. Needs the
    directions that triptych directions has stored in the run."""
    sweep: str | None = None
    """Set an attribute to several values, as name=low:high:count: writes a strip, or a GIF where --out ends in .gif."""
    hold: str | None = None
    """Attributes, joined by commas, whose coordinates must not change."""
    given: str | None = None
    """Decode the picture's z under these attributes instead, such as glasses=yes (conditional models)."""
    known: str | None = None
    """What the picture shows now, such as glasses=no; what is not named is unknown (conditional models)."""
    inpaint: str | None = None
    """Hide a part and fill it in by the model's density (flows): top, bottom, left, right, odd, even, middle-horizontal,
    middle-vertical, random-75 or random-90."""
    steps: int = 500
    """Steps of --inpaint: more of them fill in better."""
    seed: int = 0
    """Seed of --inpaint's noise, and of the places of a random mask."""
    out: Path = Path("edited.png")
    """The picture to write: the edited picture, or a grid of several; with --sweep a strip for each; with --inpaint a row
    for each: the picture with its hidden part grey, then filled in."""


@dataclass(frozen=True)
class Mix(OwnModel, OfRun):
    """Walk in z from one picture to another, or span a surface through four."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Two picture files, the first and the last of a walk, or four, which are blended by two angles, all the way round."""
    steps: int | None = None
    """How many pictures a walk has, by default 9; with four files, how many each side of the square has, by default 8
    (multiples of 4 show all four)."""
    known: str | None = None
    """What the pictures show, for a conditional model, such as glasses=no; attributes that are not named are unknown."""
    out: Path = Path("mix.png")
    """The picture to write: a strip, a square for four pictures, or a GIF where it ends in .gif."""


@dataclass(frozen=True)
class Evaluate(OwnModel, OfRun):
    """Measure a run: likelihoods, bits/dim, latent use, sample quality; each with n and standard error."""

    data: str | None = None
    """The data to measure on; by default what the run was trained on."""
    split: str = "test"
    """Which split of the data to measure on."""
    k: int = 1000
    """Draws of z for the importance-weighted bound (VAE)."""
    draws: int = 1
    """Draws of the noise inside a pixel's bin (flows): above 1 adds the tighter bits_per_dim_k<draws>, one pass each."""
    images: int = 500
    """How many examples the likelihood and round trips are measured on."""
    hmc: int = 100
    """How many examples the paper's HMC estimator takes (under 5 latent dimensions); 0 leaves it out."""
    samples: int | None = None
    """How many samples are compared with as many held-out examples, or all there are; by default 1000 for a model without
    a likelihood, none for others."""
    features: Literal["learned", "pixels", "inception"] = "learned"
    """What samples are compared by: a small network trained on the data, raw values, or Inception v3."""
    download: bool = False
    """Fetch Inception's weights if they are not at hand."""
    temperature: float = 1.0
    """Temperature of those samples."""
    seed: int = 0
    """Seed of all noise."""
    json: Path | None = None
    """A file to write the numbers to, too."""


@dataclass(frozen=True)
class Score(OwnModel, OfRun):
    """Score each example: log-likelihood or bound in nats, and bits per dimension of pixels, as a CSV."""

    data: tyro.conf.Positional[str] = ""
    """The data to score."""
    split: str | None = None
    """Only this split of it; by default all of the data."""
    given: str | None = None
    """What a conditional model is given for every example, such as glasses=yes; by default each example's own attributes."""
    k: int = 10
    """Draws of z for a bound (VAE), or of the noise inside a pixel's bin (flows)."""
    seed: int = 0
    """Seed of all noise."""
    out: Path = Path("scores.csv")
    """The file to write: a row for each example, with its split, its number there and its scores."""


@dataclass(frozen=True)
class Doctor(OwnModel, OfRun):
    """Say in plain words what is wrong with a training, with evidence and a remedy."""

    data: str | None = None
    """The data to compare samples with; by default what the run was trained on."""
    samples: int = 200
    """How many samples to look at, 2 or more; 0 reads the records alone."""
    json: Path | None = None
    """A file to write the verdicts to, too."""


@dataclass(frozen=True)
class Tour:
    """Train a VAE on the embedded faces, score it, sample it, and make a face smile."""

    out: Path = Path("tour")
    """Where the run and the pictures go; an earlier tour there is replaced."""
    steps: int = 3900
    """Steps of training."""


@dataclass(frozen=True)
class Source:
    """Where a training without a named family comes from."""

    resume: Path | None = None
    init: str | None = None


@cache
def train_options(family: Family) -> type:
    """What `triptych train FAMILY` takes: a mapping that holds only what was said, so that a preset can be changed by it."""
    default = family.presets["default"]
    run = {
        "out": (Path, "The run's folder; refused if it exists, unless --overwrite."),
        "preset": (str, "Settings to start from, by name; without one, those made for the data."),
        "minutes": (float, "Train for so long instead of --steps: the speed of a few rounds decides how many steps it is."),
        "resume": (Path, "Go on with this run; only its end may change, by --steps or --minutes from now."),
        "init": (str, "Fine-tune from the weights of this run folder or hub id."),
        "overwrite": (bool, "Replace the run in --out."),
        "track": (tuple[Literal["tensorboard", "wandb"], ...], "Also log to these trackers."),
    }
    said: dict[str, Any] = {name: NotRequired[_option(kind, help)] for name, (kind, help) in run.items()}
    own = "Your own model instead of the family's, as my_package:MyVAE: called with the event shape (and context_dim)."
    said["own_model"] = NotRequired[Annotated[str, tyro.conf.arg(name="model", help=own, help_behavior_hint="")]]
    said |= _fields(Recipe, default, without=("model", "objective", "training"))
    for name, kind in (("model", family.model), ("objective", family.objective), ("training", Training)):
        said[name] = TypedDict(kind.__name__, _fields(kind, getattr(default, name)), total=False)  # type: ignore[operator]
    made = TypedDict("TrainOptions", said, total=False)  # type: ignore[misc]
    made.__doc__ = family.help
    return made


def _fields(kind: type, default: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    hints, sentences = get_type_hints(kind), field_help(kind)
    fields = [f.name for f in dataclasses.fields(kind) if f.name not in without]
    return {name: NotRequired[_option(hints[name], sentences[name], getattr(default, name))] for name in fields}


def _option(kind: Any, sentence: str, default: object = "") -> Any:
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    hint = f"(default: {shown})" if shown not in ("", ()) else ""
    return Annotated[kind, tyro.conf.arg(help=sentence, help_behavior_hint=hint)]


def field_help(kind: type) -> dict[str, str]:
    """The sentence under each field of a dataclass, by the field's name."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[field.target.id] = " ".join(str(after.value.value).split())  # type: ignore[union-attr]
    return found
