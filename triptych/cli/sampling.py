"""`triptych sample`: new examples, drawn a chunk at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Sample
from triptych.cli.outputs import Output, kind_of_output, usual_name
from triptych.cli.places import check_places
from triptych.cli.sources import context_of, folder_of, load_model, notice
from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch

MOST = 1_000_000  # examples, whose numbers have six digits
_MOST_ROWS = 100  # temperatures in one sheet
_CHUNK = 256  # examples that are drawn and held at a time


def sample(words: Sequence[str]) -> None:
    """Writes new examples as a picture, an array, a table or a folder."""
    options = parse(Sample, words, "triptych sample")
    temperatures = parse_temperatures(options.temperature)
    n = (64 if len(temperatures) == 1 else 8) if options.n is None else options.n
    if not 1 <= n * len(temperatures) <= MOST:
        raise TriptychError(f"--n should be 1 to {MOST // len(temperatures)}, got {n}")
    if options.out is not None:
        kind_of_output(options.out)  # a suffix that nothing is written with is said before the model is read
    from triptych.capabilities import HasPosterior, require
    from triptych.pretrained import stamp

    weights = stamp(folder_of(options.run))
    model = load_model(options.run, options.model)
    if options.observe:
        require(model, HasPosterior)
    context = context_of(model, options.given)
    if options.out is None:
        options = dataclasses.replace(options, out=usual_name(model))
        check_places(options)
    out = options.out
    settings = {"temperature": options.temperature, "seed": options.seed, "given": options.given,
                "observe": options.observe, "weights": weights}  # fmt: skip
    if len(temperatures) > 1:
        settings["n"] = n
    output = kind_of_output(out)(out, model, n * len(temperatures), settings, n if len(temperatures) > 1 else None)
    drawing = _Drawing(model, options, context, output)
    output.write(drawing.chunks(n, temperatures))
    if drawing.lost:
        notice(
            f"{drawing.lost} of {n * len(temperatures)} are not finite, which a picture cannot show: lower --temperature, "
            "or train further"
        )
    print(out)


class _Drawing:
    """Draws examples, and counts those that are not finite."""

    def __init__(self, model: Any, options: Sample, context: torch.Tensor | None, output: Output):
        self.model, self.options, self.context, self.output, self.lost = model, options, context, output, 0

    def chunks(self, n: int, temperatures: Sequence[float]) -> Iterator[tuple[int, torch.Tensor]]:
        """(number of the first, x), n at each temperature; those that the output has already are left out."""
        for row, temperature in enumerate(temperatures):
            for start in range(0, n, _CHUNK):
                count, first = min(_CHUNK, n - start), row * n + start
                if not self.output.has(first, first + count):
                    x = self._draw(count, temperature, start // _CHUNK)
                    self.lost += int((~x.isfinite()).flatten(1).any(1).sum())
                    yield first, x

    def _draw(self, count: int, temperature: float, chunk: int) -> torch.Tensor:
        """Examples of a chunk, whose noise has a seed of its own: temperatures share z, and a folder can go on anywhere."""
        import torch

        from triptych.randomness import noise_seed

        seed = self.options.seed
        generator = torch.Generator().manual_seed(noise_seed(seed, chunk, 0, 0) if chunk else seed)
        if not self.options.observe:
            return self.model.sample(count, context=self.context, temperature=temperature, generator=generator)
        z = self.model.sample_prior(count, temperature=temperature, generator=generator)
        return self.model.observe(z, self.context, generator=generator)


def parse_temperatures(text: str) -> list[float]:
    """0.5,1 -> [0.5, 1.0]."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or len(values) > _MOST_ROWS or not all(0 <= value <= 100 for value in values):
        raise TriptychError(f"--temperature should be a number from 0 to 100, or several as 0.25,0.5,1, got {text[:99]!r}")
    return values
