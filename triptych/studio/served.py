"""A run as the studio serves it: a model that can be edited, its directions, and the thread that does its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from triptych import edit
from triptych.capabilities import Encodes, HasDensity
from triptych.core import GenerativeModel
from triptych.edit.inversion import load_encoder
from triptych.errors import TriptychError
from triptych.pretrained import load, read_recipe, stamp
from triptych.studio.limits import Limits
from triptych.studio.worker import Worker


@dataclass(frozen=True, eq=False)
class Served:
    """A model that loaded.

    Attributes:
        model: it can encode, by an encoder of its own or by inversion.
        parts: by depth, the model edited there, for each depth that a direction has; None stands for z.
        weights: `pretrained.stamp` of what was loaded.
        family, data: what the run says of itself; data "" where it does not.
        alignment: where its training pictures have the eyes of faces; None where that is not known, as for other things.
        note: what a person should know, for example that the run lacks directions; "" for nothing.
    """

    id: str
    folder: Path
    model: GenerativeModel
    directions: edit.Directions
    weights: str
    family: str
    data: str
    note: str
    worker: Worker
    parts: Mapping[int | None, GenerativeModel] = field(default_factory=dict)
    alignment: edit.Alignment | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(C, H, W) of its pictures."""
        return self.model.event_shape

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.event_shape[1], self.event_shape[2]

    @property
    def bound(self) -> str | None:
        """What its likelihoods are: "exact", "lower" bounds, or None where there are none."""
        return self.model.bound if isinstance(self.model, HasDensity) else None

    def part(self, depth: int | None) -> GenerativeModel:
        """The model whose codes lie at a depth."""
        return self.parts[depth] if depth in self.parts else edit.at_depth(self.model, depth)


def load_served(name: str, folder: Path, limits: Limits) -> Served:
    """The model of a run with all that the studio needs of it.

    Raises:
        TriptychError: for a run that cannot be loaded, and a model of other data than pictures.
    """
    weights = stamp(folder)
    loaded = load(folder)
    shape = loaded.event_shape
    if not (loaded.codec.is_picture and len(shape) == 3 and shape[0] in (1, 3)):
        raise TriptychError(f"its examples are of shape {shape}, not pictures of 1 or 3 channels, which the studio shows")
    recipe = read_recipe(folder)
    inverted = not isinstance(loaded, Encodes)
    model = edit.Inverting(loaded, load_encoder(loaded, folder)) if inverted else loaded
    directions, note = _directions(folder, weights)
    if inverted:
        note = f"it has no encoder: each picture is searched for, which takes a while. {note}".strip()
    parts = {depth: edit.at_depth(model, depth) for depth in {None, *(d.depth for d in directions.values())}}
    family = type(loaded).__name__.lower() if recipe is None else recipe.family
    data = "" if recipe is None else recipe.data
    alignment = edit.Alignment.load(folder) or edit.known_alignment(data, (shape[1], shape[2]))
    worker = Worker(name, waiting=limits.waiting, together=limits.together)
    return Served(name, folder, model, directions, weights, family, data, note, worker, parts, alignment)


def _directions(folder: Path, weights: str) -> tuple[edit.Directions, str]:
    """The run's directions, or none and why."""
    try:
        return edit.Directions.load(folder, weights), ""
    except TriptychError as error:
        return edit.Directions(), str(error).replace(f"{folder.parent}/", "")
