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
    """Where your own model is, as my_package:MyVAE: called with the event shape; needed for runs that were trained by it."""


@dataclass(frozen=True)
class Sample(OwnModel, OfRun):
    """Draw new examples from a run."""

    n: int | None = None
    """How many; by default 64, or 8 at each temperature where there are several."""
    temperature: str = "1"
    """Multiplies the prior's noise: below 1 more typical, above more unusual; several, as 0.25,0.5,0.7,1, a row for each."""
    given: str | None = None
    """Of a conditional model, as smile=1,glasses=yes; attributes that are not named are unknown."""
    seed: int = 0
    """Of the noise."""
    observe: bool = False
    """Draw from p(x|z) instead of showing its mean (VAE)."""
    out: Path = Path("samples.png")
    """A picture (.png, .jpg, .gif), or .npy for the values themselves."""


@dataclass(frozen=True)
class LearnDirections(OwnModel, OfRun):
    """Learn edit directions, judge them on held-out data, and store them in the run."""

    data: str | None = None
    """Where the attributes are; by default what the run was trained on."""
    attributes: str | None = None
    """Names joined by commas; by default all."""
    unsupervised: int | None = None
    """Instead: this many principal components of the codes."""
    method: Literal["joint", "means", "regression"] = "joint"
    """How: joint holds the other attributes still, means is the difference of means, regression a logistic one."""
    json: Path | None = None
    """Also write what was measured here."""


@dataclass(frozen=True)
class Edit(OwnModel, OfRun):
    """Change attributes of pictures, or fill in a part of them."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Picture files."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """name=1.5 sets the attribute, name=+1.5 adds to it (a minus sets: name=+-1.5 subtracts); can be repeated. Needs the
    directions that triptych directions has stored in the run."""
    sweep: str | None = None
    """name=low:high:count, a strip, or a GIF where --out ends in .gif."""
    hold: str | None = None
    """Attributes, joined by commas, whose coordinate must not change."""
    given: str | None = None
    """Of a conditional model: decodes the picture's z under these attributes instead, as glasses=yes."""
    known: str | None = None
    """Of a conditional model: what the picture shows now, as glasses=no; what is not named is unknown."""
    inpaint: str | None = None
    """Hides a part and fills it in by the model's density (flows): top, bottom, left, right, odd, even, middle-horizontal,
    middle-vertical, random-75 or random-90."""
    steps: int = 500
    """Of --inpaint: more steps fill in better."""
    seed: int = 0
    """Of --inpaint: the noise, and the places of a random mask."""
    out: Path = Path("edited.png")
    """The picture to write: the edited one itself, several as a grid, a sweep as a strip for each; with --inpaint a row for
    each, the picture with its hidden part grey, then filled in."""


@dataclass(frozen=True)
class Mix(OwnModel, OfRun):
    """Walk in z from one picture to another, or span a surface through four."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Two picture files, the first and the last of a walk; or four, which are blended by two angles, all the way round."""
    steps: int | None = None
    """Pictures of a walk, 9 by default; with four files, of each side of the square, 8 (multiples of 4 show all four)."""
    out: Path = Path("mix.png")
    """A strip, a square for four pictures, or a GIF where it ends in .gif."""


@dataclass(frozen=True)
class Evaluate(OwnModel, OfRun):
    """Measure a run: likelihoods, bits/dim, latent use, sample quality; each with n and standard error."""

    data: str | None = None
    """What to measure on; by default what the run was trained on."""
    split: str = "test"
    """Which split of it."""
    k: int = 1000
    """Draws of the importance-weighted bound (VAE)."""
    draws: int = 1
    """Draws of the noise inside a pixel's bin (flows): above 1 adds the tighter bits_per_dim_k<draws>, at as many passes."""
    images: int = 500
    """Examples that the likelihood and round trips are measured on."""
    hmc: int = 100
    """Examples for the paper's HMC estimator (under 5 latent dimensions); 0 leaves it out."""
    samples: int | None = None
    """Samples whose quality is measured against as many held-out examples, or all there are; by default 1000 of a model
    without likelihood, else none."""
    features: Literal["learned", "pixels", "inception"] = "learned"
    """What they are compared by: a small network trained on the data, raw values, or Inception v3."""
    download: bool = False
    """Fetch Inception's weights if they are not at hand."""
    temperature: float = 1.0
    """Of those samples."""
    seed: int = 0
    """Of all noise."""
    json: Path | None = None
    """Also write the numbers here."""


@dataclass(frozen=True)
class Score(OwnModel, OfRun):
    """Score each example: log-likelihood or bound in nats, and bits per dimension of pixels, as a CSV."""

    data: tyro.conf.Positional[str] = ""
    """What to score."""
    split: str = "test"
    """Which split of it."""
    given: str | None = None
    """Of a conditional model, as glasses=yes, for all examples; by default the attributes that the data have."""
    k: int = 10
    """Draws of a bound, or of the noise inside a pixel's bin."""
    seed: int = 0
    """Of all noise."""
    out: Path = Path("scores.csv")
    """The file to write: a row for each example, in the data's order."""


@dataclass(frozen=True)
class Doctor(OwnModel, OfRun):
    """Say in plain words what is wrong with a training, with evidence and a remedy."""

    data: str | None = None
    """What to compare samples with; by default what the run was trained on."""
    samples: int = 200
    """Samples that are looked at, 2 or more; 0 reads the records alone."""
    json: Path | None = None
    """Also write the verdicts here."""


@dataclass(frozen=True)
class Tour:
    """Train a VAE on the embedded faces, score it, sample it, and make a face smile."""

    out: Path = Path("tour")
    """Where the run and the pictures go; an earlier tour there is replaced."""
    steps: int = 2600
    """Of training."""


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
        "resume": (Path, "Go on with this run; only --steps may change."),
        "init": (str, "Fine-tune from the weights of this run folder or hub id."),
        "overwrite": (bool, "Replace the run in --out."),
        "track": (tuple[Literal["tensorboard", "wandb"], ...], "Also log to these trackers."),
    }
    said: dict[str, Any] = {name: NotRequired[_option(kind, help)] for name, (kind, help) in run.items()}
    own = "Your own model instead of the family's, as my_package:MyVAE: called with the event shape, returns the model."
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
