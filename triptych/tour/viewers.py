"""Claim 14: pictures that are made for each of many simulated viewers, by a map that was learned from others.

A viewer is a profile p of six numbers; the first three say how much smile, age and hair the viewer likes best. What such a
viewer thinks of a picture x is s(x, p) = −|a(x) − p_{1…3}|², a the readings of a network, in their spreads over data.

Shapes: x (n, C, H, W); p (n, 6); s (n,).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from triptych import edit
from triptych.capabilities import Encodes
from triptych.core import Estimate, GenerativeModel
from triptych.tour.edits import optimised_reader
from triptych.tour.place import Place

PROFILE = 6
LIKED = ("smile", "age", "hair_length")
SHOWN = ("the seed face", "the best single picture", "a picture for each profile", "optimised for each viewer")
_FITTED = 400  # steps of the map from profiles to pictures
_SPREAD = 1000  # faces over which readings are standardised


def tastes(reader: edit.Reader, stored: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """s(x, p) by a network's readings, in their spreads over stored pictures (n, C, H, W)."""
    readings = torch.stack([reader(stored)[name] for name in LIKED], 1)
    mean, std, score = readings.mean(0), readings.std(0), reader.score(*LIKED)
    return lambda x, p: -((score(x) - mean) / std - p[:, : len(LIKED)]).square().sum(1)


def pleased(
    model: GenerativeModel,
    stored: Tensor,
    reader: edit.Reader,
    judge: edit.Reader,
    count: int,
    *,
    steps: int = _FITTED,
    seed: int = 0,
) -> dict[str, tuple[Estimate, Estimate]]:
    """What new viewers think of the pictures that they are shown.

    Args:
        model: that encodes and decodes.
        stored: held-out pictures (n, C, H, W), uint8; the first is the seed face.
        reader: the network whose readings are optimised.
        judge: another, that nothing is optimised for.
        count: viewers that the map is learned from, and as many new ones.
        steps: of learning the map from profiles to pictures.
        seed: of profiles and learning.

    Returns:
        by what is shown, `SHOWN`: the mean score as the reader, and as the judge, has it.
    """
    assert isinstance(model, Encodes)
    profiles, others = torch.randn(2 * count, PROFILE, generator=torch.Generator().manual_seed(seed)).split(count)
    x = model.codec.centre(stored[:1])
    taste, unlike = (tastes(network, stored[:_SPREAD]) for network in (reader, judge))
    perturb = edit.fit_perturbation(model, x, profiles, taste, steps=steps, seed=seed)
    mean = profiles.mean(0, keepdim=True)  # of all viewers' squared distances, a constant more than that from their mean
    single = edit.optimise(model, x, lambda x: taste(x, mean), within=perturb.within)
    each = edit.optimise(model, x.expand(count, -1, -1, -1), lambda x: taste(x, others), within=perturb.within)
    with torch.no_grad():
        seen = (
            model.decode(perturb.z).expand(count, -1, -1, -1),
            single.x.expand(count, -1, -1, -1),
            perturb.pictures(model, others),
            each.x,
        )
        return {
            name: (Estimate.of(taste(pictures, others)), Estimate.of(unlike(pictures, others)))
            for name, pictures in zip(SHOWN, seen, strict=True)
        }


def measure_viewers(place: Place) -> None:
    """The scores of the tour's simulated viewers, through its VAE."""
    reader = optimised_reader(place, LIKED)
    scores = pleased(place.model("vae"), place.data.test[:], reader, place.judge, place.settings.viewers)
    place.keep("viewers", {name: {"own": own, "judge": judge} for name, (own, judge) in scores.items()})
