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
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.data import Split
    from triptych.edit import Directions, Reader

_MOST_CODES = 20_000  # data that directions are learned from: more changes little
_SWEPT, _COMPARED = 4_000, 8  # the same, and attributes, where they are learned at one depth after another


def directions(words: Sequence[str]) -> None:
    """Learns directions, judges them on held-out examples, prints and stores them."""
    options = parse(LearnDirections, words, "triptych directions")
    from triptych import storage
    from triptych.edit import depth
    from triptych.pretrained import stamp

    folder = folder_of(options.run)
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
    found.save(folder, weights)
    _print(found)
    if options.json:
        storage.write_json(options.json, {name: {"kind": d.kind, "range": d.range, **d.judged} for name, d in found.items()})


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
        if not options.depth.isdecimal():
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
            names = [name for name in self.attributes if _can_be_learned(name, self.attributes, len(self.stored))]
            reader = learn_reader(self.stored, self.attributes, names=names)
            if not reader.lines.keys() & set(self.names):
                raise TriptychError(f"{', '.join(self.names)} cannot be read from these examples: more are needed")
            return reader
        except TriptychError as error:
            notice(f"edits are read by the model itself: {error}")
            return None

    def short(self, reader: Reader) -> _Lesson:
        """The same with fewer training examples, and the first few attributes that are read."""
        few = {name: a[:_SWEPT] for name, a in self.attributes.items()}
        names = [name for name in self.names if name in reader.lines]
        names = [name for name in names if _can_be_learned(name, few, len(self.stored[:_SWEPT]))][:_COMPARED]
        context = None if self.context is None else self.context[:_SWEPT]
        return dataclasses.replace(self, names=names, stored=self.stored[:_SWEPT], attributes=few, context=context)


def _lesson(options: LearnDirections, model: GenerativeModel) -> _Lesson:
    from triptych.edit.learning import check_attributes, check_components

    splits = load_splits(options.run, model, options.data)
    train, test = (named_split(splits, name) for name in ("train", "test"))
    train, test = (split.take(_MOST_CODES) for split in (train, test))
    attributes = _attributes(train, options.data or options.run, needed=options.unsupervised is None)
    names = _names(options.attributes, attributes)
    if options.attributes is None and options.unsupervised is None:
        names = [name for name in names if _can_be_learned(name, attributes, len(train))] or names
    if options.unsupervised is not None:  # what cannot work is said before an encoder is learned
        check_components(options.unsupervised, len(train), model.latent_dim)
    else:
        check_attributes(attributes, names, len(train))
    contexts = (split_context(model, split) for split in (train, test))
    truth = _attributes(test, "", needed=False)
    return _Lesson(options, names, train[:], attributes, next(contexts), test[:], truth, next(contexts))


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


def _can_be_learned(name: str, attributes: Mapping[str, Any], n: int) -> bool:
    """Whether a direction can be learned of an attribute that nobody named; if not, it is skipped and said."""
    from triptych.edit.learning import check_attributes

    try:
        check_attributes(attributes, [name], n)
    except TriptychError as error:
        notice(f"skipped: {error}")
        return False
    return True


def _names(text: str | None, attributes: Mapping[str, object]) -> list[str]:
    """smile,age -> ["smile", "age"]; all attributes where none is named."""
    return list(attributes) if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _attributes(split: Split, data: str, needed: bool = True) -> dict[str, Any]:
    """Binary and continuous attributes; class labels are not an axis."""
    found = {name: a for name, a in split.attributes.items() if split.kinds[name] != "class"}
    if needed and not found:
        classes = f" (only classes: {', '.join(split.attributes)})" if split.attributes else ""
        raise TriptychError(
            f"{data} has no binary or continuous attributes{classes}: add 0/1 or number columns to its metadata.csv, "
            "or use --unsupervised 8"
        )
    return found


def _print(found: Directions) -> None:
    from rich.console import Console
    from rich.table import Table

    title = None if found.depth is None else f"at depth {found.depth}"
    table = Table("direction", "kind", "held-out", "range", "leaks most to (share of its spread)", title=title)
    for name, d in found.items():
        quality = "accuracy" if "accuracy" in d.judged else "r2"
        held_out = f"{quality} {d.judged[quality]:.3f}" if d.judged.get(quality) is not None else ""
        worst = sorted(d.judged["leakage"].items(), key=lambda item: -abs(item[1]))[:2]
        leaks = ", ".join(f"{other} {change:+.0%}" for other, change in worst)
        table.add_row(name, d.kind, held_out, f"{d.range[0]:.2f} … {d.range[1]:.2f}", leaks)
    Console().print(table)
