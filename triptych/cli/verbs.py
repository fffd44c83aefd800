"""What is done to pictures by a trained run: edit, mix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Edit, Mix
from triptych.cli.sources import (
    check_positive,
    check_seed,
    context_of,
    folder_of,
    load_editable,
    load_model,
    notice,
)
from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch


def edit(words: Sequence[str]) -> None:
    """Writes pictures with attributes set, swept, conditioned otherwise, or parts filled in."""
    options = parse(Edit, words, "triptych edit")
    if not options.images:
        raise TriptychError("edit expects at least one picture file")
    if sum(map(bool, (options.set, options.sweep, options.inpaint, options.given))) != 1:
        raise TriptychError(
            "edit expects one of --set name=value, --sweep name=low:high:count, --given name=value and --inpaint top"
        )
    if options.inpaint:
        _inpaint(options)
        return
    import torch

    from triptych import edit as verbs
    from triptych.figures import read_picture, save

    model = load_editable(options.run, options.model)
    context, given = context_of(model, options.known), context_of(model, options.given)
    stored = torch.cat([read_picture(path, model.event_shape) for path in options.images])
    x, hold = model.codec.centre(stored), [h for h in (options.hold or "").split(",") if h]
    if given is not None:
        save(model.codec.decode(verbs.change_context(model, x, context, given)), options.out)
        print(options.out)
        return
    folder = folder_of(options.run)
    known = verbs.Directions.load(folder)
    if isinstance(model, verbs.Inverting) and model.encoder is None:
        notice(f"{folder} has no encoder to read coordinates by, they are rough: triptych directions {folder} learns one")
    if options.set:
        edited = verbs.apply(model, x, _settings(options.set), known, hold=hold, context=context)
        save(model.codec.decode(edited), options.out)
    else:
        name, values = parse_sweep(options.sweep or "")
        moved = verbs.sweep(model, x, name, values, known, hold=hold, context=context)
        save(model.codec.decode(moved.flatten(0, 1)), options.out, columns=len(values))
    print(options.out)


def _inpaint(options: Edit) -> None:
    check_positive(steps=options.steps)
    check_seed(options.seed)
    import torch

    from triptych import edit as verbs
    from triptych.figures import read_picture, save

    model = load_model(options.run, options.model)
    stored = torch.cat([read_picture(path, model.event_shape) for path in options.images])
    generator = torch.Generator().manual_seed(options.seed)
    hidden = verbs.mask(options.inpaint or "", model.event_shape, generator)
    x, context = model.codec.centre(stored), context_of(model, options.known)
    filled = verbs.inpaint(model, x, hidden, steps=options.steps, context=context, generator=generator)
    before = stored.masked_fill(hidden, 128)
    after = torch.where(hidden, model.codec.decode(filled), stored)
    save(torch.stack([before, after], dim=1).flatten(0, 1), options.out, columns=2)
    print(options.out)


def mix(words: Sequence[str]) -> None:
    """Writes a walk between two pictures, or a square between four."""
    options = parse(Mix, words, "triptych mix")
    if len(options.images) not in (2, 4):
        raise TriptychError(f"mix expects two pictures (a walk) or four (a square), got {len(options.images)}")
    import torch

    from triptych.edit import interpolate, manifold
    from triptych.figures import read_picture, save

    model = load_editable(options.run, options.model)
    x = torch.cat([model.codec.centre(read_picture(path, model.event_shape)) for path in options.images])
    context = context_of(model, options.known)
    if len(x) == 2:
        mixed = interpolate(model, x[:1], x[1:], 9 if options.steps is None else options.steps, context=context)
    else:
        mixed = manifold(model, x, 8 if options.steps is None else options.steps, context=context)
    save(model.codec.decode(mixed.flatten(0, 1)), options.out, columns=mixed.shape[1])
    print(options.out)


def parse_sweep(text: str) -> tuple[str, list[float]]:
    """smile=-3:3:9 -> ("smile", nine values from −3 to 3)."""
    import numpy as np

    try:
        name, _, spread = text.rpartition("=")
        low, high, count = spread.split(":")
        values = np.linspace(float(low), float(high), int(count)).tolist()
    except ValueError:
        raise TriptychError(f"--sweep expects name=low:high:count such as smile=-3:3:9, got {text!r}") from None
    if not name or not 2 <= len(values) <= 200 or not np.isfinite(values).all():
        raise TriptychError(f"--sweep expects 2 to 200 finite values, got {text!r}")
    return name.strip(), values


def _settings(texts: Sequence[str]) -> dict[str, float | str | torch.Tensor]:
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")  # a name may hold an equals sign, a number cannot
        if not equals or not name.strip():
            raise TriptychError(f"--set expects name=value such as smile=1.5 or smile=+0.5, got {text!r}")
        if name.strip() in settings:
            raise TriptychError(f"--set {name.strip()} is given twice: give it once")
        settings[name.strip()] = value
    return settings
