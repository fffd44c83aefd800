"""What goes in and out as JSON, with every bound of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from triptych.studio.limits import FRAMES, MIXED, NAME, PILE, SAMPLES, STRENGTH

Strength = Annotated[float, Field(ge=-STRENGTH, le=STRENGTH, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=NAME)]
Id = Annotated[str, Field(min_length=1, max_length=NAME)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
_LARGEST = 64  # names in one edit


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class Detail(BaseModel):
    """An error: one sentence."""

    detail: str


class Direction(BaseModel):
    """A direction that a slider moves: `range` is that of the training data, beyond which artefacts are to be expected.

    `safe` is where its edits were seen to do what they say: null where that was not measured, and where with `swept` it was,
    nowhere.
    """

    name: str
    range: tuple[float, float]
    safe: tuple[float, float] | None = None
    swept: bool = False
    kind: str
    worthless: bool | None = None


class Model(BaseModel):
    """A model, or with `problem` a run whose model did not load; `faces`: it knows where its training data have faces."""

    id: str
    family: str | None
    event_shape: list[int] | None
    directions: list[Direction]
    bound: str | None = None
    given: list[str] = []
    faces: bool = False
    note: str = ""
    problem: str | None = None


class Models(BaseModel):
    """All models: those that work first."""

    models: list[Model]


Corners = list[tuple[float, float]]


class FaceBox(BaseModel):
    """A face: the corners of the square around it as shares of the photograph's sides, and whether its eyes were seen."""

    corners: Corners
    eyes: bool


class Photograph(BaseModel):
    """The file that a picture was taken from: small, with its faces (the largest first; null where they were not looked
    for), the number of the one that was taken (from 1; null: the centre), and the corners of what was taken."""

    image: str
    width: int
    height: int
    faces: list[FaceBox] | None
    face: int | None
    taken: Corners
    note: str


class Encoded(BaseModel):
    """An opened picture: its id, its own coordinate along each direction, as it was read, and as the model gives it back.

    `rms` is the root mean square error of the reconstruction, 0 … 255; `photograph` is there where `face` was asked for.
    """

    picture: str
    model: str
    projections: dict[str, float]
    image: str
    reconstruction: str
    rms: float
    source: str
    photograph: Photograph | None = None


class Edit(_Strict):
    """An edit: `set` gives coordinates their values, `hold` keeps others; `taught` are directions of Teach, by id.

    `alone` asks for the bits that `triptych edit` gives, outside of any batch.
    """

    picture: Id
    set: dict[Name, Strength] = Field(default={}, max_length=_LARGEST)
    hold: list[Name] = Field(default=[], max_length=_LARGEST)
    taught: list[Id] = Field(default=[], max_length=_LARGEST)
    alone: bool = False


class Project(_Strict):
    """An opened picture, and taught directions to read it by besides the model's own."""

    picture: Id
    taught: list[Id] = Field(default=[], max_length=_LARGEST)


class Projections(BaseModel):
    """Where a picture lies along each direction."""

    projections: dict[str, float]


class Sweep(Edit):
    """The same, and one coordinate that goes through `count` values from `low` to `high`."""

    name: Name
    low: Strength
    high: Strength
    count: int = Field(default=9, ge=2, le=FRAMES)
    format: Annotated[str, Field(pattern="^(gif|png)$")] = "gif"


class Likelihoods(BaseModel):
    """How likely the picture is to its model, and after the edit; null where the model has no density.

    `bound` is "exact", or "lower" where the model bounds log p from below, so that bits are bounded from above.
    """

    before: float | None
    after: float | None
    unit: str | None
    bound: str | None


class Mix(_Strict):
    """Two to four pictures of one model, and their weights."""

    pictures: list[Id] = Field(min_length=1, max_length=MIXED)
    weights: list[Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]] = Field(min_length=1, max_length=MIXED)


class Sample(_Strict):
    """New examples; `given` says what a conditional model shows, such as "glasses=yes"."""

    model: Id
    n: int = Field(default=8, ge=1, le=SAMPLES)
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 1.0
    seed: Seed = 0
    given: str | None = Field(default=None, max_length=500)


class Sampled(BaseModel):
    """An example by id, and as a data URL."""

    picture: str
    image: str


class Samples(BaseModel):
    """The examples of a draw."""

    pictures: list[Sampled]


class Random(_Strict):
    """A picture for those who have none at hand: a drawn face where the model was trained on such, else a sample."""

    model: Id
    seed: Seed | None = None


class Teach(_Strict):
    """Two piles of opened pictures, with and without something that has a name."""

    model: Id
    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f=,]+$")]
    shown: list[Id] = Field(max_length=PILE)
    lacking: list[Id] = Field(max_length=PILE)


class Taught(BaseModel):
    """A taught direction by id, which edits name in `taught`; see `triptych.studio.teaching.Taught`."""

    taught: str
    direction: Direction
    n: int
    accuracy: float
    stderr: float
    majority: float
    drags: dict[str, float]


class Judged(Direction):
    """A direction with what it measured on held-out data."""

    depth: int | None
    judged: dict[str, Any]


class Directions(BaseModel):
    """The directions of a model."""

    model: str
    directions: list[Judged]


class Score(BaseModel):
    """A scored picture; see `triptych.studio.scoring.Row`."""

    name: str
    image: str
    score: float
    p: float | None
    bits_per_dim: float | None
    reconstruction: float | None


class Scores(BaseModel):
    """Pictures, the least likely first, and files that could not be read."""

    by: str
    scores: list[Score]
    refused: dict[str, str]


class RunSummary(BaseModel):
    """A run's id, what it is, and how far it is."""

    id: str
    family: str | None
    data: str | None
    step: int
    steps: int | None


class Runs(BaseModel):
    """All runs, trained or under way."""

    runs: list[RunSummary]


class Verdict(BaseModel):
    """One finding of the doctor."""

    name: str
    evidence: str
    remedy: str


class Run(RunSummary):
    """A run's curves (points by name), its sample sheets in order, and the doctor's verdicts on its records."""

    curves: dict[str, list[tuple[float, float | None]]]
    samples: list[str]
    verdicts: list[Verdict]


class Health(BaseModel):
    """Whether the studio answers, how many models it serves, and how much work waits."""

    status: str
    models: int
    waiting: int
