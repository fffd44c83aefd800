"""At which depth a flow is edited best: the smile's share of its range and what it drags, read by an independent judge.

python benchmarks/depths.py                                  a Glow of the drawn faces, nine depths
python benchmarks/depths.py --data celeba10k --size 32       of photographs
python benchmarks/depths.py --run RUN --data faces           a run that was trained before
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch
from common import arguments, begin, lengths, trained, write
from judging import READER_STEPS, SMILE, reader_of, smile_of

import triptych
from triptych import edit, families, figures
from triptych.core import GenerativeModel
from triptych.data import Splits, load
from triptych.evaluate.likelihood import bits_per_dim

VALUES = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]


def main() -> None:
    parser = arguments(__doc__, "depths")
    parser.add_argument("--data", choices=tuple(SMILE), default="faces")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--family", default="glow")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--depths", default=None, help="numbers joined by commas; by default nine, evenly spaced")
    lengths(parser, reader_steps=READER_STEPS)
    options = parser.parse_args()
    out = begin(options)
    splits = load(options.data, size=options.size)
    name = f"{options.run.name if options.run else options.family}_{options.data}_{options.size}"
    if options.run:
        model = triptych.load(options.run)
    else:
        recipe = families.preset(options.family, data=options.data)
        training = dataclasses.replace(recipe.training, precision="bf16")
        recipe = dataclasses.replace(recipe, data=options.data, size=options.size, steps=options.steps, training=training)
        model = trained(out / name, recipe, splits.train)[0].averaged.eval()
    measure(out, name, model, options, splits)


def measure(out: Path, name: str, model: GenerativeModel, options, splits: Splits) -> None:
    """A row for each depth, and a strip of six held-out faces."""
    rows: dict[int, dict] = {}
    reader = reader_of(out, options.data, splits, options.reader_steps)

    def learn(part: edit.AtDepth) -> edit.Directions:
        start = time.process_time()
        found, rows[part.depth] = smile_of(part, options.data, splits.train, splits.test, reader)
        rows[part.depth] |= likelihood(part, found) | {"cpu_seconds": time.process_time() - start}
        print(part.depth, {k: round(v, 4) if isinstance(v, float) else v for k, v in rows[part.depth].items()}, flush=True)
        return found

    def likelihood(part: edit.AtDepth, found: edit.Directions) -> dict[str, float]:
        """Bits per dimension, by the whole flow, of pictures whose smile was set to either end."""
        x = model.codec.centre(splits.test[:100])
        ends = edit.sweep(part, x, SMILE[options.data], [-1.0, 1.0], found)
        moved = model.codec.decode(ends.flatten(0, 1))
        noise = torch.Generator().manual_seed(0)
        return {"bits_per_dim_moved": bits_per_dim(model, moved, generator=noise).value}

    last = model.count_layers()
    chosen = (
        [int(k) for k in options.depths.split(",")] if options.depths else sorted({round(i * last / 8) for i in range(9)})
    )
    x = model.codec.centre(splits.test[:6])
    for depth, found in edit.learn_at_depths(model, learn, chosen).items():
        strip = edit.sweep(model, x, SMILE[options.data], VALUES, found)
        figures.save(model.codec.decode(strip.flatten(0, 1)), out / f"{name}_{depth}.png", columns=len(VALUES))
    plain = bits_per_dim(model, splits.test[:100], generator=torch.Generator().manual_seed(0)).value
    write(out, name, {"layers": max(rows), "bits_per_dim": plain, "n": 256, "depths": rows})


if __name__ == "__main__":
    main()
