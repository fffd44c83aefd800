"""What every model of a tour is measured by, alike: samples, likelihood, reconstruction, edits, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import triptych
from triptych import edit, evaluate
from triptych.capabilities import Encodes, HasDensity, Layered
from triptych.core import Estimate, GenerativeModel
from triptych.pretrained import read_recipe
from triptych.tour.place import ON_BOARD, Place, cpu_seconds, onboard

VALUES = tuple(v / 4 for v in range(-8, 9))
"""Coordinates to which a smile is set, −2 … 2: beyond ±1 lies what training showed nothing of."""
EDITED = ("smile", "beard", "glasses")
_SHOWN, _NEAREST, _FACES = 48, 8, 4  # samples in a sheet, those beside their nearest training faces, faces in strips
_DEEP = 4  # a flow is edited after a quarter of its layers
_MOUTH = 0.6  # of a drawn face's height, from the top: eyes, cheeks and all but mouth and chin
_AMONG = 10_000  # training faces among which copies are sought
_DRAWS = 20  # importance-weighted draws of a bound
_OF_EDITS = ("depth", "share", "leakage", "leaks_to", "values", "above_mouth", "read_smile", "read_glasses")
_LIKELIHOODS = ("elbo", "nll", "bits_per_dim", "reconstruction_rmse", "round_trip_max", "bytes_recovered", "active_units")


def measure(place: Place, name: str) -> None:
    """The row of a model."""
    model, settings = place.model(name), place.settings
    numbers: dict[str, Any] = {"on_board": name in ON_BOARD}
    drawn = model.codec.decode(model.sample(settings.samples, generator=torch.Generator().manual_seed(1)))
    numbers["samples"] = compared(place, drawn)
    numbers["density"] = _likelihoods(model, place)
    pictures = _sheets(model, place, drawn)
    if name == "normal":  # the VAE's own weights: all but the prior is the same
        numbers |= {key: value for key, value in place.numbers("row-vae").items() if key in ("reconstruction", *_OF_EDITS)}
    elif isinstance(model, Encodes):
        numbers["reconstruction"] = evaluate.reconstruction_error(model, place.data.test[: settings.scored])
        edits, strips = _edits(model, place, name)
        numbers, pictures = numbers | edits, pictures | strips
    numbers |= _costs(model, place, name)
    place.keep(f"row-{name}", numbers, pictures)


def measure_other(place: Place, name: str) -> None:
    """Samples and likelihoods of a model that is not edited."""
    model, settings = triptych.load(place.folder / name), place.settings
    drawn = model.codec.decode(model.sample(settings.samples, generator=torch.Generator().manual_seed(1)))
    trained, recipe = settings.trained[name], read_recipe(place.folder / name)
    assert recipe is not None
    few = recipe.parts(place.data.train.take(trained.examples))[0][: settings.samples] if trained.examples else None
    numbers: dict[str, Any] = {"samples": compared(place, drawn, few)}
    if isinstance(model, HasDensity) and not trained.data:  # likelihoods are of faces as the tour's models see them
        seen = (place.data.train if few is None else few)[: settings.scored]
        for what, stored in (("bits", place.data.test[: settings.scored]), ("bits_seen", seen)):
            noise = torch.Generator().manual_seed(0)
            numbers[what] = evaluate.bits_per_dim(model, stored, k=_DRAWS if model.bound == "lower" else 1, generator=noise)
    place.keep(f"other-{name}", numbers)


def measure_floor(place: Place) -> None:
    """What other real faces score in the samples' place: those that the features were not fitted to."""
    train = place.data.train
    others = train[place.features.unseen(train)[: place.settings.samples]]
    place.keep("floor", compared(place, others))


def compared(place: Place, drawn: Tensor, few: Tensor | None = None) -> dict[str, Estimate]:
    """How far samples (n, C, H, W) are from as many held-out faces, and whether they are copies of training faces.

    Of a model that has seen few of them, nearness to these is by pixels: the features know them all.
    """
    train, n = place.data.train, place.settings.samples
    stored = place.data.test[:n]
    real, fake = place.features(stored), place.features(drawn)
    noise = torch.Generator().manual_seed(0)
    found = {"fid": evaluate.frechet_distance(real, fake), **evaluate.precision_recall(real, fake)}
    found |= evaluate.two_sample_test(real, fake, generator=noise)
    if few is None:
        known = place.features(train[place.features.unseen(train)[:n]])
    else:
        fake, known, real = map(_coarse, (drawn, few, stored))
    found["nearest_ratio"] = evaluate.nearest_ratio(fake, known, real, generator=noise)
    found["copied"] = evaluate.copied(*map(_coarse, (drawn, stored, train[:_AMONG] if few is None else few)))
    return found


def _coarse(stored: Tensor) -> Tensor:
    """Pictures at half their side, as vectors: a copy is one at any size, and a quarter of the values are compared."""
    return functional.avg_pool2d(stored.float() / 255, 2).flatten(1)


def _likelihoods(model: GenerativeModel, place: Place) -> dict[str, Estimate]:
    if not isinstance(model, HasDensity):
        return {}
    found = evaluate.evaluate(model, place.data.test, k=_DRAWS, images=place.settings.scored // 2, hmc=0)
    return {name: found[name] for name in _LIKELIHOODS if name in found and math.isfinite(found[name].value)}


def _sheets(model: GenerativeModel, place: Place, drawn: Tensor) -> dict[str, Tensor]:
    """Samples, some beside the training face that is nearest by pixels; test faces and what comes back."""
    among = place.data.train[:]
    few, many = (x.flatten(1).float() / 255 for x in (drawn[:_NEAREST], among))
    nearest = evaluate.nearest_training(few, many)[1][:, 0]
    found = {"samples": drawn[:_SHOWN], "nearest": among[nearest]}
    if isinstance(model, Encodes):
        x = model.codec.centre(place.data.test[:_NEAREST])
        with torch.no_grad():
            found["again"] = model.codec.decode(model.decode(model.encode(x)))
    return found


def _edits(model: GenerativeModel, place: Place, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Directions, judged; readings and pictures while a smile, and glasses, are moved."""
    found, part = _directions(model, place)
    if name not in ON_BOARD:
        found.save(place.folder / name)
    shares = {key: found[key].judged["share"] for key in EDITED if key in found}
    leaks = {key: _worst(found[key].judged["leakage"]) for key in shares}
    numbers: dict[str, Any] = {
        "depth": found.depth,
        "share": shares,
        "leakage": {key: value for key, (_, value) in leaks.items()},
        "leaks_to": {key: to for key, (to, _) in leaks.items()},
        "values": VALUES,
    }
    pictures = {}
    if "smile" in found:
        numbers["above_mouth"] = _above_mouth(part, place, found)
    for key in ("smile", "glasses"):
        values = VALUES if key == "smile" else [v / 2 for v in VALUES]
        numbers[f"read_{key}"], pictures[key] = _swept(part, place, found, key, values)
    return numbers, pictures


def _directions(model: GenerativeModel, place: Place) -> tuple[edit.Directions, GenerativeModel]:
    """Judged directions, of a flow where edits are about straightest (benchmarks/depths.py); the model at their depth."""
    stored, attributes = place.lessons
    test = place.data.test
    few, truth = test[:], dict(test.attributes)

    def learn(part: GenerativeModel) -> edit.Directions:
        found = edit.learn_directions(part, stored, attributes, names=[n for n in EDITED if n in attributes])
        return edit.judge(part, found, few[:500], {n: a[:500] for n, a in truth.items()}, reader=place.judge)

    if not isinstance(model, Layered):
        return learn(model), model
    part = edit.at_depth(model, max(1, model.count_layers() // _DEEP))
    return learn(part), part


def _worst(leakage: dict[str, float]) -> tuple[str, float]:
    """What is dragged most along, and how far, in its spread."""
    name = max(leakage, key=lambda other: abs(leakage[other]))
    return name, leakage[name]


def _swept(
    model: GenerativeModel, place: Place, found: edit.Directions, name: str, values: Sequence[float]
) -> tuple[dict[str, Any], Tensor]:
    """What the judge reads at each value, and strips of a few faces (faces · values, C, H, W)."""
    x = model.codec.centre(place.data.test[: place.settings.moved])
    moved = model.codec.decode(edit.sweep(model, x, name, values, found).flatten(0, 1))
    read = place.judge(moved)[name].view(len(x), len(values))
    between = ((read > -0.5) & (read < 0.5)).double().mean(0)
    n = len(x)
    numbers = {
        "values": list(values),
        "mean": read.mean(0),
        "stderr": read.std(0) / math.sqrt(n),
        "between": between,
        "n": n,
    }
    return numbers, moved.view(n, len(values), *moved.shape[1:])[:_FACES].flatten(0, 1)


def _above_mouth(model: GenerativeModel, place: Place, found: edit.Directions) -> float:
    """The share of what a smile from −1 to 1 changes, in squared values, that lies above the mouth."""
    x = model.codec.centre(place.data.test[: place.settings.moved])
    low, high = edit.sweep(model, x, "smile", [-1.0, 1.0], found).unbind(1)
    return above_mouth(high - low)


def above_mouth(change: Tensor) -> float:
    """The share of a change of faces (n, C, H, W), in squared values, that lies in the upper three fifths."""
    squared = change.double().square().sum((0, 1, 3))
    return float(squared[: round(_MOUTH * len(squared))].sum() / squared.sum())


def _costs(model: GenerativeModel, place: Place, name: str) -> dict[str, float]:
    x = model.codec.centre(place.data.test[:64])
    costs = {"sample_64": cpu_seconds(lambda: model.sample(64))}
    if isinstance(model, Encodes):
        costs["encode_64"] = cpu_seconds(lambda: model.encode(x))
    folder = onboard(name) or place.folder / ("vae" if name == "normal" else name)
    return costs | {"megabytes": (folder / "model.safetensors").stat().st_size / 1e6}
