"""`triptych mix`: what lies between pictures."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.cli import parse
from triptych.cli.options import Mix
from triptych.cli.sources import context_of, load_editable
from triptych.errors import TriptychError


def mix(words: Sequence[str]) -> None:
    """Writes a walk between two pictures, or a square between four."""
    options = parse(Mix, words, "triptych mix")
    if len(options.images) not in (2, 4):
        raise TriptychError(f"mix expects two pictures (a walk) or four (a square), got {len(options.images)}")
    from triptych.edit import interpolate, manifold
    from triptych.examples import read, save

    model = load_editable(options.run, options.model)
    x = read(options.images, model)
    context = context_of(model, options.known)
    if len(x) == 2:
        mixed = interpolate(model, x[:1], x[1:], 9 if options.steps is None else options.steps, context=context)
    else:
        mixed = manifold(model, x, 8 if options.steps is None else options.steps, context=context)
    save(mixed, options.out, model)
    print(options.out)
