"""`triptych directions`: what moves attributes, learned, judged on held-out examples and stored in the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import LearnDirections
from triptych.cli.sources import encoding, folder_of, load_model, load_splits, named_split, notice, split_context
from triptych.errors import TriptychError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.edit import Direction, Directions, Reader
    from triptych.edit.axes import Classes

_MOST_CODES = 20_000  # data that directions are learned from: more changes little
_MOST_CLASSES = 20  # of an attribute, the most frequent ones
_SWEPT, _COMPARED = 4_000, 8  # the same, and attributes, where they are learned at one depth after another


def directions(words: Sequence[str]) -> None:
    """Learns directions, judges them on held-out examples, prints and stores them."""
    options = parse(LearnDirections, words, "triptych directions")
    from triptych import folders, storage

    folder = folder_of(options.run)
    with folders.claimed(folder):
        found = _learn(options, folder)
    if options.json:
        storage.write_json(options.json, {name: {"kind": d.kind, "range": d.range, **d.judged} for name, d in found.items()})


def _learn(options: LearnDirections, folder: Path) -> Directions:
    """Learns what is asked for, and stores it in the run beside what that holds."""
    from triptych.edit import Directions, depth
    from triptych.pretrained import stamp

    weights = stamp(folder)  # before they are read: should a training replace them meanwhile, what is learned is outdated
    model = load_model(options.run, options.model)
    asked = _asked(options, model)
    lesson = _lesson(options, model)
    model = encoding(model, folder, lesson.stored, weights, lesson.context)
    reader = None if asked is None else lesson.reader()
    if asked == "auto":
        chosen = None if reader is None else _straightest(lesson.short(reader), model, reader)
    else:
        chosen = None if asked is None else int(asked)
    found = lesson.learn(depth.at_depth(model, chosen), reader)
    kept = _stored(folder, weights)
    Directions({**kept, **found}).save(folder, weights)
    _print(found)
    if others := [name for name in kept if name not in found]:
        print(f"stored before and kept: {', '.join(others)}")
    return found


def _stored(folder: Path, weights: str) -> Directions:
    """What the run holds of the same weights, which stays beside what is learned; what is of others or damaged is said."""
    from triptych.edit import Directions
    from triptych.edit.directions import FILE

    if not (folder / f"{FILE}.json").exists():
        return Directions()
    try:
        return Directions.load(folder, weights)
    except TriptychError as error:
        notice(f"what was stored is replaced: {error}")
        return Directions()


def _asked(options: LearnDirections, model: GenerativeModel) -> str | None:
    """The depth that is asked for, a number, "auto" or None for z; checked before any work."""
    from triptych.capabilities import Layered, require
    from triptych.errors import check_size

    if options.depth is None:
        return "auto" if isinstance(model, Layered) and options.unsupervised is None else None
    if options.depth == "z":
        return None
    last = require(model, Layered).count_layers()
    if options.depth == "auto" and options.unsupervised is not None:
        raise TriptychError(f"--depth auto compares depths by attributes: with --unsupervised name one, 0 to {last}")
    if options.depth != "auto":
        if not options.depth.isdecimal() or len(options.depth) > 9:
            raise TriptychError(f"--depth should be auto, z or a number from 0 (the data) to {last}, got {options.depth!r}")
        check_size("--depth", int(options.depth), last, least=0)
    return options.depth


@dataclass(frozen=True)
class _Lesson:
    """What directions are learned from, and what they are judged on.

    Attributes:
        stored, attributes, context: of training examples.
        held_out, truth, held_context: the same of held-out ones.
        names: of the attributes to learn.
    """

    options: LearnDirections
    names: Sequence[str]
    stored: Tensor
    attributes: Mapping[str, Any]
    context: Tensor | None
    held_out: Tensor
    truth: Mapping[str, Any]
    held_context: Tensor | None

    def learn(self, model: GenerativeModel, reader: Reader | None = None) -> Directions:
        """Judged directions of the model's codes."""
        from triptych.edit import judge, learn_directions, unsupervised_directions

        count, method = self.options.unsupervised, self.options.method
        if count is not None:
            found = unsupervised_directions(model, self.stored, count, context=self.context)
        else:
            known = self.attributes
            found = learn_directions(model, self.stored, known, method=method, names=self.names, context=self.context)
        return judge(model, found, self.held_out, self.truth, context=self.held_context, reader=reader)

    def reader(self) -> Reader | None:
        """The judge of edits at a depth; None where no attribute can be read, which is said."""
        from triptych.edit import learn_reader

        if not self.attributes:
            return None
        notice("learning to read attributes from the data: an exact model that reads its own edits reads what it wrote")
        try:
            # all of them, not only those that are moved: the others are what an edit may drag along
            reader = learn_reader(self.stored, self.attributes)
            if not reader.lines.keys() & set(self.names):
                raise TriptychError(f"{', '.join(self.names)} cannot be read from these examples: more are needed")
            return reader
        except TriptychError as error:
            notice(f"edits are read by the model itself: {error}")
            return None

    def short(self, reader: Reader) -> _Lesson:
        """The same with fewer training examples, and the first few attributes that are read."""
        from triptych.edit.learning import problems

        few = {name: a[:_SWEPT] for name, a in self.attributes.items()}
        unclear = problems(few, few)
        names = [name for name in self.names if name in reader.lines and name not in unclear][:_COMPARED]
        context = None if self.context is None else self.context[:_SWEPT]
        return dataclasses.replace(self, names=names, stored=self.stored[:_SWEPT], attributes=few, context=context)


def _lesson(options: LearnDirections, model: GenerativeModel) -> _Lesson:
    from triptych.edit import axes, class_names
    from triptych.edit.learning import check_components, problems

    splits = load_splits(options.run, model, options.data)
    train, test = (named_split(splits, name) for name in ("train", "test"))
    train, test = (split.take(_MOST_CODES) for split in (train, test))
    classes = class_names(train)
    attributes, truth = axes(train, classes), axes(test, classes)
    if options.unsupervised is not None:  # what cannot work is said before an encoder is learned
        check_components(options.unsupervised, len(train), model.latent_dim)
        names = [name for name in attributes if name not in _rare(classes)]
    else:
        names = _names(options, attributes, truth, classes, len(train))
    useless = problems(attributes, attributes).keys() | (_rare(classes) - set(names))
    attributes, truth = ({n: a for n, a in known.items() if n not in useless} for known in (attributes, truth))
    contexts = (split_context(model, split) for split in (train, test))
    return _Lesson(options, names, train[:], attributes, next(contexts), test[:], truth, next(contexts))


def _names(
    options: LearnDirections, attributes: Mapping[str, Any], truth: Mapping[str, Any], classes: Classes, n: int
) -> list[str]:
    """The axes to learn: those that are asked for, or all but rare classes, without those that cannot be learned or judged.

    A class attribute's name stands for its classes.
    """
    from triptych.edit.learning import judgeable, learnable

    if not attributes:
        raise TriptychError(
            f"{options.data or options.run} has no attributes to learn directions of: add 0/1, number or class columns, "
            "in a metadata.csv beside pictures, in a table one of words or called label; or use --unsupervised 8"
        )
    rare = _rare(classes)
    if options.attributes is None:
        asked = [name for name in attributes if name not in rare]
        if rare:
            notice(
                f"left aside: classes that are rarer than {_MOST_CLASSES} others ({len(rare)}); --attributes can name them"
            )
    else:
        words = [name.strip() for name in options.attributes.split(",") if name.strip()]
        of = {word: [name for name in attributes if name.startswith(f"{word}=") and name not in rare] for word in words}
        asked = [name for word in words for name in (of[word] if word in classes else [word])]
    return judgeable(truth, learnable(attributes, asked, n, notice), notice)


def _rare(classes: Classes) -> set[str]:
    """Axes of classes beyond the most frequent of each attribute."""
    return {f"{name}={label}" for name, labels in classes.items() for label in [*labels.values()][_MOST_CLASSES:]}


def _straightest(lesson: _Lesson, model: GenerativeModel, reader: Reader) -> int | None:
    """The depth where directions leak least for what they move, with a table of all that were tried; None without any."""
    from rich.console import Console
    from rich.table import Table

    from triptych.edit import learn_at_depths, straightest, straightness

    if not lesson.names:
        return None
    notice(f"learning directions from {len(lesson.stored)} examples at one depth after another")
    found = learn_at_depths(model, lambda part: lesson.learn(part, reader))
    best = straightest(found)
    table = Table("depth", "moves, share of the way", "worst leakage, mean", "leakage by share", title="z is the last depth")
    for depth, known in found.items():
        measured = straightness(known)
        mark = " *" if depth == best else ""
        table.add_row(f"{depth}{mark}", f"{measured.share:.0%}", f"{measured.leakage:.0%}", f"{measured.ratio:.3f}")
    Console().print(table)
    return best


def _print(found: Directions) -> None:
    from rich.console import Console
    from rich.table import Table

    title = None if found.depth is None else f"at depth {found.depth}"
    table = Table("direction", "held-out", "range", "leaks most to, in its spreads", title=title, caption=_caption(found))
    for name, d in found.items():
        worst = sorted(d.judged["leakage"].items(), key=lambda item: -abs(item[1]))[:2]
        leaks = ", ".join(f"{other} {change:+.0%}" for other, change in worst)
        table.add_row(name, _quality(d), f"{d.range[0]:.2f} … {d.range[1]:.2f}", leaks)
    Console().print(table)


def _quality(direction: Direction) -> str:
    """What a direction reads of held-out data, with the majority's share, and whether that is more than chance."""
    from triptych.edit.worth import why_worthless

    judged = direction.judged
    if "worthless" not in judged:
        return "not judged" if direction.kind != "unsupervised" else ""
    measure = "r2" if direction.kind == "continuous" else "accuracy"
    majority = f" (majority {judged['majority']:.3f})" if "majority" in judged else ""
    verdict = {True: "worthless: ", False: "", None: "too few to tell: "}[judged["worthless"]]
    against = "correlation" if direction.kind == "continuous" else "auc"
    known = judged.get(against) is not None
    chance = f"{judged[against]:.2f} (chance {judged['chance']:g} ± {judged['chance_stderr']:.2f})" if known else "unknown"
    against_chance = why_worthless(judged) or f"{against} {chance}"
    return f"{measure} {judged[measure]:.3f} ± {judged['stderr']:.3f}{majority}\n{verdict}{against_chance}"


def _caption(found: Directions) -> str | None:
    worthless = [name for name, d in found.items() if d.judged.get("worthless")]
    return f"worthless on held-out data, edit refuses without --force: {', '.join(worthless)}" if worthless else None
