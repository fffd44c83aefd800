"""The optimal perturbation for a task, against the attribute's direction; and a picture for each viewer.

    python benchmarks/perturbation.py                      the drawn faces, a VAE trained by the preset for 3,900 steps
    python benchmarks/perturbation.py --run RUN            a run of yours

A score that is raised may be raised in ways that nobody sees, so two networks read every picture: the one that is
optimised, and a judge that has seen other faces and is never optimised.

1. The smile of 64 held-out faces, moved by the same |Δz| along its direction, and by `edit.optimise`.
2. Simulated viewers: a profile of six numbers, of which three say how much smile, age and hair a viewer likes best. A
   viewer's score of a picture is minus the squared distance of its readings from those. 200 viewers are learned from, 200
   others score: the seed face, the best single picture for all, the one that `edit.fit_perturbation` makes for each, and,
   as a bound, the one that is optimised for each alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import arguments, begin, lengths, trained, write
from judging import READER_STEPS, kept_reader, reader_of

from triptych import edit, families, load
from triptych.core import GenerativeModel
from triptych.data import Split, Splits
from triptych.data import load as load_data
from triptych.tour.edits import RADII, raised
from triptych.tour.viewers import pleased


def main() -> None:
    parser = arguments(__doc__, "perturbation")
    parser.add_argument("--run", help="a run on the drawn faces; by default one is trained here")
    parser.add_argument("--steps", type=int, default=3900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faces", type=int, default=64, help="whose smile is moved")
    parser.add_argument("--viewers", type=int, default=200, help="to learn from, and as many others")
    parser.add_argument("--fit-steps", type=int, default=400, help="of the map from profiles to pictures")
    lengths(parser, reader_steps=READER_STEPS, teacher_steps=1500)
    options = parser.parse_args()
    out, splits = begin(options), load_data("faces")
    model = load(options.run) if options.run else trained_vae(out, splits.train, options)
    judge = reader_of(out, "faces", splits, options.reader_steps)
    few = splits.train.take(9000)
    teacher = partial(edit.learn_reader, few[:], few.attributes, steps=options.teacher_steps, seed=options.seed + 1)
    reader = kept_reader(out / f"reader_{options.seed}_{options.teacher_steps}", teacher)
    parts = {
        "smile": partial(smiles, model, splits, reader, judge, options.faces),
        "viewers": partial(viewers, model, splits, reader, judge, options),
    }
    results = {name: kept(out / f"{name}_{options.seed}.json", work) for name, work in parts.items()}
    write(out, "perturbation", results)
    print(table(results))


def kept(path: Path, work: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
    """What the work found, done once."""
    if not path.exists():
        path.write_text(json.dumps(work()))
    return json.loads(path.read_text())


def trained_vae(out: Path, data: Split, options: argparse.Namespace) -> GenerativeModel:
    import dataclasses

    recipe = dataclasses.replace(families.preset("vae", data="faces"), steps=options.steps, data="faces", seed=options.seed)
    return trained(out / "vae", recipe, data)[0].averaged.eval()


def smiles(
    model: GenerativeModel, splits: Splits, reader: edit.Reader, judge: edit.Reader, faces: int
) -> dict[str, list[float]]:
    """Rise of the smile by both readings, mean and standard error over faces: by the direction, optimised, and the gain."""
    few = splits.train.take(9000)
    found = edit.learn_directions(model, few[:], few.attributes, names=["smile"])["smile"]
    x = model.codec.centre(splits.test[:faces])
    rises, _ = raised(model, x, found, reader, judge, steps=100)
    return {
        f"{name}, {radius}": [*rise["own"], *rise["judge"]]
        for name, of_radii in rises.items()
        for radius, rise in zip(RADII, of_radii, strict=True)
    }


def viewers(
    model: GenerativeModel, splits: Splits, reader: edit.Reader, judge: edit.Reader, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Mean score of the new viewers by both readings, and its standard error."""
    scores = pleased(model, splits.test[:], reader, judge, options.viewers, steps=options.fit_steps, seed=options.seed)
    return {name: [v for score in pair for v in (score.value, score.stderr)] for name, pair in scores.items()}


def table(results: dict[str, dict[str, list[float]]]) -> str:
    lines = []
    for name, rows in results.items():
        lines += [f"| {name} | by the network that is optimised | by the judge |", "|---|---|---|"]
        lines += [f"| {row} | {a:.2f} ± {b:.2f} | {c:.2f} ± {d:.2f} |" for row, (a, b, c, d) in rows.items()] + [""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
