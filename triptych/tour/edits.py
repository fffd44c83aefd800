"""Claims 4 and 14: directions learned from faces with confounded attributes, and the optimal perturbation for a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import triptych
from triptych import edit
from triptych.capabilities import Encodes
from triptych.core import GenerativeModel
from triptych.data import load
from triptych.tour.place import Place
from triptych.tour.settings import CONFOUNDED

RADII = (0.5, 1.0, 2.0, 4.0)
_FEWEST = 200  # steps of a network that is to read smiles at all
_VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)


def measure_confounded(place: Place) -> None:
    """The beard of held-out faces set from 0 to 1 by directions of independent and of confounded faces."""
    lessons = {"independent": place.lessons, "confounded": _confounded(place)}
    place.keep("confounded", *_bearded(place, place.model("vae"), lessons))


def measure_confounded_alone(place: Place) -> None:
    """The same through a VAE that has never seen other faces than confounded ones."""
    model = triptych.load(place.folder / "confounded-vae")
    place.keep("confounded-alone", *_bearded(place, model, {"confounded": _confounded(place)}))


def _confounded(place: Place) -> tuple[Tensor, dict[str, Any]]:
    pairs = load(CONFOUNDED, size=place.settings.size, n=place.settings.lessons).train
    return pairs[:], dict(pairs.attributes)


def _bearded(
    place: Place, model: GenerativeModel, lessons: dict[str, tuple[Tensor, dict[str, Any]]]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """How far the beard and the hair move by directions of each kind of lessons; pictures."""
    x = model.codec.centre(place.data.test[: place.settings.moved])
    spread = float(place.judge(place.data.test[:])["hair_length"].std())
    numbers: dict[str, Any] = {"n": len(x)}
    pictures = {}
    for source, (stored, attributes) in lessons.items():
        for method in ("means", "joint"):
            found = edit.learn_directions(model, stored, attributes, method=method, names=["beard"])
            moved = model.codec.decode(edit.sweep(model, x, "beard", _VALUES, found).flatten(0, 1))
            read = {name: place.judge(moved)[name].view(len(x), len(_VALUES)) for name in ("beard", "hair_length")}
            change = (read["hair_length"][:, -1] - read["hair_length"][:, 0]) / spread
            numbers[f"{source} {method}"] = {
                "moves": float((read["beard"][:, -1] - read["beard"][:, 0]).mean()),
                "drags": float(change.mean()),
                "stderr": float(change.std() / math.sqrt(len(x))),
            }
            pictures[f"{source} {method}"] = moved.view(len(x), len(_VALUES), *moved.shape[1:])[:2].flatten(0, 1)
    return numbers, pictures


def optimised_reader(place: Place, names: Sequence[str]) -> edit.Reader:
    """A network that reads attributes and that edits are optimised by: it has seen none of the judge's faces."""
    (stored, attributes), settings = place.lessons, place.settings
    taught = {name: attributes[name] for name in names}
    return edit.learn_reader(stored, taught, steps=max(_FEWEST, settings.judge_steps // 2), seed=settings.seed + 1)


def measure_perturbations(place: Place) -> None:
    """The smile raised by the same |Δz| along its direction and by optimisation."""
    model, settings = place.model("vae"), place.settings
    direction = edit.learn_directions(model, *place.lessons, names=["smile"])["smile"]
    x = model.codec.centre(place.data.test[: settings.searched])
    reader = optimised_reader(place, ["smile"])
    rises, pictures = raised(model, x, direction, reader, place.judge, settings.search // 3)
    place.keep(
        "perturbations", {"n": len(x), "radii": RADII} | rises, {k: model.codec.decode(v[:4]) for k, v in pictures.items()}
    )


Rises = dict[str, tuple[float, float]]
"""By "own", the network that is optimised, and "judge", another: the mean rise of the smile, and its standard error."""


def raised(
    model: GenerativeModel, x: Tensor, direction: edit.Direction, reader: edit.Reader, judge: edit.Reader, steps: int
) -> tuple[dict[str, list[Rises]], dict[str, Tensor]]:
    """The smile of faces x (n, C, H, W) raised by each |Δz| of `RADII`.

    Args:
        model: that encodes and decodes.
        direction: the smile's.
        reader: the network that is optimised.
        judge: one that is not.
        steps: of each optimisation.

    Returns:
        the rises along the "direction", where it is "optimised", and the "gain" of the one over the other, on the same
        faces, so that what sets them apart cancels: a list by `RADII` each; and the pictures, "start", "direction 1", ….
    """
    assert isinstance(model, Encodes)
    with torch.no_grad():
        z = model.encode(x)
        pictures = {"start": model.decode(z)}
    rises: dict[str, list[Rises]] = {"direction": [], "optimised": [], "gain": []}
    for radius in RADII:
        with torch.no_grad():
            along = model.decode(z + radius * direction.step / direction.step.norm())
        best = edit.optimise(model, x, reader.score("smile"), within=radius, z=z, steps=steps).x
        pairs = {"direction": (pictures["start"], along), "optimised": (pictures["start"], best), "gain": (along, best)}
        for name, pair in pairs.items():
            rises[name].append({"own": _rise(reader, *pair), "judge": _rise(judge, *pair)})
        pictures |= {f"direction {radius:g}": along, f"optimised {radius:g}": best}
    return rises, pictures


@torch.no_grad()
def _rise(reader: edit.Reader, before: Tensor, after: Tensor) -> tuple[float, float]:
    """The mean rise of the smile that a reader sees, and its standard error."""
    score = reader.score("smile")
    change = score(after) - score(before)
    return float(change.mean()), float(change.std() / math.sqrt(len(change)))
