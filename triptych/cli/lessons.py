"""What `triptych directions` learns from: attributes of data, words that a scorer reads in them, or the data alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from triptych.cli.options import LearnDirections
from triptych.cli.sources import load_splits, named_split, notice, own_factory, split_context
from triptych.errors import TriptychError

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.data import Split
    from triptych.edit import Directions, Reader, Words
    from triptych.edit.axes import Classes

_MOST_CODES = 20_000  # data that directions are learned from: more changes little
_MOST_CLASSES = 20  # of an attribute, the most frequent ones
_SWEPT, _COMPARED = 4_000, 8  # the same, and attributes, where they are learned at one depth after another


@dataclass(frozen=True)
class Lesson:
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

    def learn(self, model: GenerativeModel, reader: Reader | None = None, beside: Directions | None = None) -> Directions:
        """Judged directions of the model's codes, with what they do to those beside them."""
        from triptych.edit import judge, learn_directions, unsupervised_directions

        count, method = self.options.unsupervised, self.options.method
        if count is not None:
            by: Any = method or "pca"
            found = unsupervised_directions(model, self.stored, count, method=by, context=self.context)
        else:
            known, way = self.attributes, cast("Any", method or "joint")
            found = learn_directions(model, self.stored, known, method=way, names=self.names, context=self.context)
        return judge(model, found, self.held_out, self.truth, context=self.held_context, reader=reader, beside=beside)

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

    def short(self, reader: Reader) -> Lesson:
        """The same with fewer training examples, and the first few attributes that are read."""
        from triptych.edit.learning import problems

        few = {name: a[:_SWEPT] for name, a in self.attributes.items()}
        unclear = problems(few, few)
        names = [name for name in self.names if name in reader.lines and name not in unclear][:_COMPARED]
        context = None if self.context is None else self.context[:_SWEPT]
        return dataclasses.replace(self, names=names, stored=self.stored[:_SWEPT], attributes=few, context=context)


def lesson_of(options: LearnDirections, model: GenerativeModel) -> Lesson:
    """What the options ask for, read, with what cannot be learned or judged left out and said."""
    from triptych.edit import axes, class_names
    from triptych.edit.learning import problems
    from triptych.edit.unsupervised import check_components

    splits = load_splits(options.run, model, options.data)
    train, test = (named_split(splits, name) for name in ("train", "test"))
    train, test = (split.take(_MOST_CODES) for split in (train, test))
    contexts = [split_context(model, split) for split in (train, test)]
    if options.words:
        said = words_of(options, train)
        return Lesson(options, [*said.texts], train[:], said.known, contexts[0], test[:], said(test[:]), contexts[1])
    classes = class_names(train)
    attributes, truth = axes(train, classes), axes(test, classes)
    if options.unsupervised is not None:  # what cannot work is said before an encoder is learned
        check_components(options.unsupervised, len(train), model.latent_dim)
        names = [name for name in attributes if name not in _rare(classes)]
    else:
        names = _names(options, attributes, truth, classes, len(train))
    useless = problems(attributes, attributes).keys() | (_rare(classes) - set(names))
    attributes, truth = ({n: a for n, a in known.items() if n not in useless} for known in (attributes, truth))
    return Lesson(options, names, train[:], attributes, contexts[0], test[:], truth, contexts[1])


def words_of(options: LearnDirections, train: Split) -> Words:
    """The attributes that --words and --against ask for, read by --scorer."""
    from triptych.edit import Words

    assert options.scorer is not None
    names = options.name or options.words
    scorer = own_factory(options.scorer, "--scorer", "my_package:make_scorer")()
    against = options.against * len(options.words) if len(options.against) == 1 else options.against
    pairs = zip(options.words, against, strict=True)
    return Words(scorer, dict(zip(names, pairs, strict=True)), train[:])


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
