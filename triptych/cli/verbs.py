"""What is done with a trained run: sample, mix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Mix, Sample
from triptych.cli.sources import check_seed, context_of, load_editable, load_model, notice
from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch

    from triptych.core import GenerativeModel


def sample(words: Sequence[str]) -> None:
    """Writes new examples as a picture or an array."""
    options = parse(Sample, words, "triptych sample")
    temperatures = parse_temperatures(options.temperature)
    n = (64 if len(temperatures) == 1 else 8) if options.n is None else options.n
    if not 1 <= n * len(temperatures) <= _MOST_SAMPLES:
        raise TriptychError(f"--n should be 1 to {_MOST_SAMPLES // len(temperatures)}, got {n}")
    check_seed(options.seed)
    import torch

    from triptych.capabilities import HasPosterior, require

    model = load_model(options.run, options.model)
    if options.observe:
        require(model, HasPosterior)
    context = context_of(model, options.given)
    rows = [_draw(model, n, temperature, options, context) for temperature in temperatures]
    _write_data(model, torch.cat(rows), options.out, columns=n if len(rows) > 1 else None)


def _draw(model: Any, n: int, temperature: float, options: Sample, context: torch.Tensor | None) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(options.seed)  # afresh for each temperature: they share z
    if not options.observe:
        return model.sample(n, context=context, temperature=temperature, generator=generator)
    z = model.sample_prior(n, temperature=temperature, generator=generator)
    return torch.cat([model.observe(part, context, generator=generator) for part in z.split(256)])


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


_MOST_SAMPLES = 100_000


def parse_temperatures(text: str) -> list[float]:
    """0.5,1 -> [0.5, 1.0]."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 <= value < math.inf for value in values):
        raise TriptychError(f"--temperature should be a number of 0 or more, or several as 0.25,0.5,1, got {text!r}")
    return values


def _write_data(model: GenerativeModel, x: torch.Tensor, out: Path, columns: int | None = None) -> None:
    from triptych.examples import save

    lost = int((~x.isfinite()).flatten(1).any(1).sum())
    if lost:
        notice(f"{lost} of {len(x)} are not finite, which a picture cannot show: lower --temperature, or train further")
    save(x, out, model, columns=columns)
    print(out)
