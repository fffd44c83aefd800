"""Pictures of several models side by side, from the same seeds and of the same held-out examples.

Shapes: B examples; x (B, *E) model coordinates, z (B, L).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from triptych.core import GenerativeModel
from triptych.edit import Directions, sweep
from triptych.modes import in_eval_mode
from triptych.report.blocks import Block, Frames, Strip
from triptych.report.numbers import Number
from triptych.report.tables import Cell, Table

TEMPERATURES = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2)
_SHOWN, _SQUARE, _STEPS, _PLACES = 10, 16, 9, 9


@dataclass(frozen=True, eq=False)
class Shown:
    """A model as its pictures are made."""

    name: str
    """Of its row."""
    model: GenerativeModel
    """What samples."""
    encodes: GenerativeModel | None = None
    """The same with a way to encode; None: it is left out where examples are encoded."""
    z: Tensor | None = None
    """Codes of the held-out examples that are shown, (B, L)."""
    context: Tensor | None = None
    """What a conditional model is given of them, (B, K)."""
    note: str = ""
    """What its row says where examples are encoded, such as "by inversion"."""

    @property
    def label(self) -> str:
        """The name with the note."""
        return f"{self.name} ({self.note})" if self.note else self.name


def can_show(model: GenerativeModel) -> bool:
    """Whether what a model makes can be shown as a picture.

    >>> from triptych import NICE
    >>> can_show(NICE((4,), 2, (8,))), can_show(NICE((1, 4, 4), 2, (8,)))
    (False, True)
    """
    return model.codec.show(torch.zeros(1, *model.event_shape), model.event_shape) is not None


def _pictures(model: GenerativeModel, x: Tensor) -> list[Tensor]:
    shown = model.codec.show(x.detach().cpu(), model.event_shape)
    assert shown is not None  # `can_show` was asked
    return list(shown)


def _drawn(one: Shown, n: int, temperature: float, seed: int) -> list[Tensor]:
    noise = torch.Generator(one.model.device).manual_seed(seed)
    context = None if one.context is None else one.context[torch.arange(n) % len(one.context)]
    return _pictures(one.model, one.model.sample(n, context=context, temperature=temperature, generator=noise))


def sheet(pictures: Tensor, columns: int = 4) -> Tensor:
    """Pictures (n, C, H, W) as one, in rows, a white line of a pixel between them, none enlarged: the page does that.

    >>> sheet(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), columns=3).shape
    torch.Size([1, 17, 26])
    """
    n, channels, height, width = pictures.shape
    rows = -(-n // columns)
    found = pictures.new_full((channels, rows * (height + 1) - 1, columns * (width + 1) - 1), 255)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        found[:, top : top + height, left : left + width] = picture
    return found


def samples(shown: Sequence[Shown], seed: int) -> list[Block]:
    """A row of samples of each, and a slider over their temperature."""
    rows = [_drawn(one, _SHOWN, 1.0, seed) for one in shown]
    frames = [[sheet(torch.stack(_drawn(one, _SQUARE, t, seed))) for t in TEMPERATURES] for one in shown]
    names, places = [one.name for one in shown], [f"{t:g}" for t in TEMPERATURES]
    still = Strip(rows, names, [], "samples", f"Samples at temperature 1, seed {seed}: drawn, not chosen.")
    caption = "The temperature multiplies the prior's noise: below 1 samples are more typical and vary less."
    moved = Frames(frames, names, places, TEMPERATURES, "sixteen samples", caption, "temperature", TEMPERATURES.index(1.0))
    return [still, moved]


@torch.no_grad()
def reconstructions(shown: Sequence[Shown], x: Tensor) -> Block:
    """Held-out examples x over what each model makes of their codes.

    Args:
        x: (B, *E), the examples whose codes `Shown.z` has.
    """
    rows, names = [_pictures(shown[0].model, x)], ["held out"]
    for one in shown:
        if one.z is not None:
            rows.append(_pictures(one.model, _decoded(one, one.z, one.context)))
            names.append(one.label)
    caption = "decode(encode(x)) of the same held-out examples."
    return Strip(rows, names, [], "held-out examples and their reconstructions", caption)


@torch.no_grad()
def interpolations(shown: Sequence[Shown], x: Tensor) -> Block:
    """The straight line in z between the first two examples, for each model."""
    rows, names = [], []
    for one in shown:
        if one.z is not None:
            context = None if one.context is None else one.context[:1]
            steps = torch.linspace(0, 1, _STEPS).tolist()
            z = torch.cat([torch.lerp(one.z[:1], one.z[1:2], t) for t in steps])
            rows.append(_pictures(one.model, _decoded(one, z, context)))
            names.append(one.label)
    places = [f"{100 * k // (_STEPS - 1)} %" for k in range(_STEPS)]
    return Strip(rows, names, places, "between two held-out examples", "The straight line in z from one example to another.")


@in_eval_mode
def _decoded(one: Shown, z: Tensor, context: Tensor | None) -> Tensor:
    model = one.model
    return model.decode(z, model.check_context(context, len(z)))


def shared_names(directions: Sequence[Directions | None], most: int = 3) -> list[str]:
    """Names of directions that two models or more have, those of most models first.

    >>> shared_names([None, Directions()])
    []
    """
    counts: dict[str, int] = {}
    for found in directions:
        for name in found or ():
            counts[name] = counts.get(name, 0) + 1
    return sorted((name for name, count in counts.items() if count > 1), key=lambda name: -counts[name])[:most]


def effects(directions: Mapping[str, Directions], names: Sequence[str]) -> Table:
    """How far each model's directions of these names move, and what they drag most, as was judged when they were learned.

    Args:
        directions: by the name of the model.
    """
    rows: list[list[Cell]] = []
    for name in names:
        judged = {model: found[name].judged or {} for model, found in directions.items() if name in found}
        rows.append([f"{name}: moves", *(_moved(judged.get(model, {})) for model in directions)])
        rows.append([f"{name}: drags most", *(_dragged(judged.get(model, {})) for model in directions)])
    return Table(
        ["direction", *directions],
        rows,
        "What the directions do",
        "As each run's `triptych directions` measured on held-out examples, read by the model itself unless it was given a "
        "judge. Moves: the share of the way from low to high; drags: another attribute, in its spread.",
    )


def _moved(judged: Mapping[str, Any]) -> Cell:
    return Number(judged["share"], judged.get("share_stderr")) if "share" in judged else "–"


def _dragged(judged: Mapping[str, Any]) -> Cell:
    leakage = {name: value for name, value in judged.get("leakage", {}).items() if value is not None}
    if not leakage:
        return "–"
    worst = max(leakage, key=lambda name: abs(leakage[name]))
    return f"{worst} {Number(abs(leakage[worst]), digits=2).shown}"


@torch.no_grad()
def edits(shown: Sequence[Shown], directions: Mapping[str, Directions], name: str, x: Tensor) -> Block:
    """One example with the coordinate of a name set to rising values, by every model that has a direction of that name.

    Args:
        directions: by the name of the model.
        x: (B, *E); the first is edited.
    """
    having = [one for one in shown if one.encodes is not None and name in directions.get(one.name, ())]
    ranges = [directions[one.name][name].range for one in having]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    room = 0.25 * (high - low)
    values = torch.linspace(low - room, high + room, _PLACES).tolist()
    rows = []
    for one in having:
        context, z = (None if kept is None else kept[:1] for kept in (one.context, one.z))
        assert one.encodes is not None  # those that do not encode were left out above
        moved = sweep(one.encodes, x[:1], name, values, directions[one.name], context=context, z=z)
        rows.append(_pictures(one.model, moved[0]))
    digits = max(0, 2 - math.ceil(math.log10(max(high - low, 1e-6))))
    labels = [f"{value:+.{digits}f}".replace("-", "−") for value in values]
    caption = f"Training showed {name} from {low:.2g} to {high:.2g}; the slider goes a quarter beyond, each way."
    return Frames(rows, [one.label for one in having], labels, values, f"a held-out example, {name} changed", caption, name)
