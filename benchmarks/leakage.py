"""What every way of learning directions moves, drags along and changes of a person, through any models, by one judge.

    python benchmarks/leakage.py --models runs/vae runs/glow …                          of the drawn faces, 32×32
    python benchmarks/leakage.py --models faces-vae                                     a model by its name
    TRIPTYCH_DATA=… python benchmarks/leakage.py --data celeba10k --size 64 --models runs/celeba
    python benchmarks/leakage.py --table                                                the results so far, as markdown

The judge of drawn faces has seen faces of its own; that of photographs one half of the training split, directions the other.
It never sees a model. Every method's directions are calibrated by the labels of the same examples, whatever they were
learned from, so that all are set to the same values: from the 1st to the 99th percentile of an attribute, or from class to
class.

means, regression, joint    from the labels
pca, jacobian               of 32 directions without labels, for each attribute the one that follows it most
piles                       two piles of 64 pictures for each attribute: its upper and its lower third, or its classes
words                       a scorer that is another network's reading of attributes: "more smile" against "a picture"

A flow is edited at the depth where the same network finds the smile straightest, and in z if --z is given. Results are a
JSON for each model and method; what is there is kept.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, begin, lengths, write
from hinge_measures import encoding
from judging import IDENTITY, OTHERS, READER_STEPS, SMILE, kept_reader, reader_of
from torch import Tensor

import triptych
from triptych import edit
from triptych.capabilities import Layered
from triptych.core import GenerativeModel
from triptych.data import Split, Splits, load
from triptych.edit.directions import calibrated
from triptych.edit.inversion import coordinate_model
from triptych.edit.learning import alone
from triptych.evaluate.latent import codes

HELD_OUT, TAUGHT, BLIND, PILE = 1_000, 9_000, 32, 64
NAMES = {"celeba10k": ["Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair"]}


@dataclass(frozen=True)
class Lesson:
    """What directions are learned from, as arrays, and the codes of it.

    Attributes:
        stored, known: training examples and all their attributes; z: their codes.
        names: of the attributes that are edited.
        teacher: a network that reads attributes of pictures, learned from the same examples: the scorer of words.
    """

    model: GenerativeModel
    stored: Tensor
    known: Mapping[str, np.ndarray]
    z: Tensor
    names: Sequence[str]
    teacher: edit.Reader

    def labelled(self, method: Any) -> edit.Directions:
        return edit.learn_directions(self.model, self.stored, self.known, method=method, names=self.names)

    def blind(self, method: Any) -> edit.Directions:
        """Of directions without labels the one whose coordinate is most correlated with each attribute."""
        count = min(BLIND, self.model.latent_dim)
        every = [*edit.unsupervised_directions(self.model, self.stored, count, method=method).values()]
        read = torch.stack([d.coordinate(self.z) for d in every]).double()
        found = edit.Directions()
        for name in self.names:
            follows = torch.corrcoef(torch.cat([torch.as_tensor(self.known[name]).double()[None], read]))[0, 1:]
            found[name] = self.calibrated(name, every[int(follows.abs().argmax())])
        return found

    def piles(self) -> edit.Directions:
        """By a person who sorts 64 pictures with much of each attribute from 64 with little."""
        random, found = np.random.default_rng(0), edit.Directions()
        for name in self.names:
            low, high = np.quantile(self.known[name], [1 / 3, 2 / 3])
            sides = (self.known[name] >= high, self.known[name] <= low)
            if len(np.unique(self.known[name])) == 2:
                sides = (self.known[name] == self.known[name].max(), self.known[name] == self.known[name].min())
            shown, lacking = (self.stored[random.choice(np.flatnonzero(side), PILE, replace=False)] for side in sides)
            found[name] = self.calibrated(name, edit.learn_from_piles(self.model, shown, lacking, name))
        return found

    def words(self) -> edit.Directions:
        """By the difference of two texts' scores, all attributes at once."""
        names = [name for name in self.names if name in self.teacher.lines]
        words = edit.Words(self.score, {name: (f"more {name}", "a picture") for name in names}, self.stored)
        learned = edit.learn_directions(self.model, self.stored, words(self.stored))
        return edit.Directions({name: self.calibrated(name, learned[name]) for name in names})

    def score(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        """A scorer that knows the attributes' names: what the teacher reads of the one that a text holds, else 0."""
        read = self.teacher((pictures * 255).round().to(torch.uint8))
        return torch.stack([read.get(text.removeprefix("more "), torch.zeros(len(pictures))) for text in texts], 1)

    def calibrated(self, name: str, d: edit.Direction) -> edit.Direction:
        """The same direction, its coordinate in units of the attribute, by regression on it alone."""
        a = torch.as_tensor(self.known[name], dtype=torch.float32)
        kind = "binary" if len(a.unique()) == 2 else "continuous"
        found = calibrated(name, kind, d.normal, d.step, alone(self.z @ d.normal, a), self.z)
        threshold = float(a.min() + a.max()) / 2
        return dataclasses.replace(found, depth=d.depth, threshold=threshold if kind == "binary" else 0.5)


METHODS: dict[str, Callable[[Lesson], edit.Directions]] = {
    "means": lambda lesson: lesson.labelled("means"),
    "regression": lambda lesson: lesson.labelled("regression"),
    "joint": lambda lesson: lesson.labelled("joint"),
    "pca": lambda lesson: lesson.blind("pca"),
    "jacobian": lambda lesson: lesson.blind("jacobian"),
    "piles": Lesson.piles,
    "words": Lesson.words,
}


def main() -> None:
    parser = arguments(__doc__, "leakage")
    parser.add_argument("--models", nargs="*", default=[], help="run folders, or names that triptych.load knows")
    parser.add_argument("--data", choices=tuple(SMILE), default="faces")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--names", nargs="*", help="of the attributes that are edited; by default all, of photographs five")
    parser.add_argument("--examples", type=int, default=9_000, help="to learn from")
    parser.add_argument("--z", action="store_true", help="edit flows in z, not at the depth that is straightest")
    parser.add_argument("--depth", type=int, help="edit flows at this depth, without a search for the straightest")
    lengths(parser, reader_steps=READER_STEPS, teacher_steps=1500)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    out = begin(options)
    if not options.table:
        splits, judge = halves(out, options)
        few = splits.train.take(options.examples)
        teacher = teacher_of(out, options.data, splits.train.take(TAUGHT), options.teacher_steps)
        for source in options.models:
            measure(out, source, few, splits.test.take(HELD_OUT), judge, teacher, options)
    print(table(out))


def halves(out: Path, options: Any) -> tuple[Splits, edit.Reader]:
    """The data that directions are learned from and judged on, and the judge, which has seen other data."""
    splits = load(options.data, size=options.size)
    if options.data == "faces":
        return splits, reader_of(out, options.data, splits, options.reader_steps)
    half = len(splits.train) // 2
    seen, left = (splits.train.take(rows) for rows in (np.arange(half), np.arange(half, len(splits.train))))
    judge = reader_of(out, options.data, Splits(splits | {"train": seen}), options.reader_steps)
    return Splits(splits | {"train": left}), judge


def teacher_of(out: Path, data: str, few: Split, steps: int) -> edit.Reader:
    """A network that reads attributes, learned from examples that directions are learned from, and kept."""
    known = {name: a for name, a in few.attributes.items() if few.kinds[name] != "class"}
    path = out / f"teacher_{data}_{few.event_shape[-1]}_{steps}"
    return kept_reader(path, lambda: edit.learn_reader(few[:], known, steps=steps, seed=1))


def measure(out: Path, source: str, few: Split, test: Split, judge: edit.Reader, teacher: edit.Reader, options: Any) -> None:
    """Every method that has no result yet for the model."""
    name = f"{options.data}{options.size}_{Path(source).name}{'_z' if options.z else ''}"
    left = [method for method in options.methods if not (out / f"{name}_{method}.json").exists()]
    if not left:
        return
    model, _ = encoding(triptych.load(source).eval(), few)
    known = {n: a for n, a in few.attributes.items() if few.kinds[n] != "class"}
    names = options.names or NAMES.get(options.data, list(known))
    if options.depth is not None:
        model = edit.at_depth(model, options.depth)
    elif not options.z:
        model = at_its_depth(model, few, known, teacher, SMILE[options.data])
    lesson = Lesson(model, few[:], known, codes(coordinate_model(model), few[:]), names, teacher)
    for method in left:
        start = time.process_time()
        found = as_far(METHODS[method](lesson), known)
        found = edit.judge(model, found, test[:], test.attributes, reader=judge, identity=IDENTITY[options.data])
        results = {"data": options.data, "size": options.size, "model": Path(source).name, "method": method}
        results |= {"family": type(triptych.load(source)).__name__, "depth": found.depth}
        results |= {"examples": len(few), "n": min(len(test), 256)}
        results |= {"cpu_seconds": time.process_time() - start, "directions": {n: d.judged for n, d in found.items()}}
        write(out, f"{name}_{method}", results)


def as_far(found: edit.Directions, known: Mapping[str, np.ndarray]) -> edit.Directions:
    """The same directions, to be moved over the attributes' own ranges."""
    ranges = {name: tuple(np.quantile(known[name], [0.01, 0.99]).tolist()) for name in found}
    return edit.Directions({name: dataclasses.replace(d, range=ranges[name]) for name, d in found.items()})


def at_its_depth(
    model: GenerativeModel, few: Split, known: Mapping[str, np.ndarray], teacher: edit.Reader, name: str
) -> GenerativeModel:
    """A flow at the depth where the smile is straightest by the teacher; any other model as it is."""
    if not isinstance(model, Layered):
        return model
    part, values = few[:4000], {n: a[:4000] for n, a in known.items()}

    def learn(at: GenerativeModel) -> edit.Directions:
        return edit.judge(at, edit.learn_directions(at, part, values, names=[name]), part[:256], {}, reader=teacher)

    return edit.at_depth(model, edit.straightest(edit.learn_at_depths(model, learn)))


def table(out: Path) -> str:
    """All results in a folder: a row for each model and method, the smile first, then the mean of all attributes."""
    head = "| model | method | smile moves | leaks most | drift | safe | all: moves | leak | drift |"
    lines, last = [], ""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    found = [r for r in results if isinstance(r, dict) and "directions" in r]
    for r in sorted(found, key=lambda r: (r["data"], r["size"], r["model"], str(r["depth"]), [*METHODS].index(r["method"]))):
        if (kind := f"{r['data']} {r['size']}×{r['size']}") != last:
            lines, last = [*lines, "", f"**{kind}**", "", head, "|---" * 9 + "|"], kind
        lines.append(row(r))
    return "\n".join(lines)


def row(r: Mapping[str, Any]) -> str:
    depth = "" if r["depth"] is None else f", depth {r['depth']}"
    cells = [f"{r['model']} ({r['family']}{depth})", r["method"]]
    smile = r["directions"].get(SMILE[r["data"]])
    if smile is None:
        cells += ["–"] * 4
    else:
        leak, to, stderr = worst(smile, r["data"])
        cells += [f"{smile['share']:.1%} ± {smile['share_stderr']:.1%}", f"{leak:.1%} ± {stderr:.1%} {to}"]
        cells += [f"{smile['drift']:.1%} ± {smile['drift_stderr']:.1%}"]
        safe = smile.get("safe")
        cells += ["none" if safe is None else f"{safe[0]:.1f} … {safe[1]:.1f}"]
    every = [d for d in r["directions"].values() if "share" in d]
    columns = [d["share"] for d in every], [worst(d, r["data"])[0] for d in every], [d["drift"] for d in every]
    return "| " + " | ".join([*cells, *(f"{statistics.fmean(column):.1%}" for column in columns)]) + " |"


def worst(judged: Mapping[str, Any], data: str) -> tuple[float, str, float]:
    """The largest leakage to what it has nothing to do with, the attribute's name, and its standard error."""
    leaks = {name: value for name, value in judged["leakage"].items() if data == "faces" or name in OTHERS}
    to = max(leaks, key=lambda name: abs(leaks[name]))
    return abs(leaks[to]), to, judged["leakage_stderr"][to]


if __name__ == "__main__":
    main()
