"""Which split, and which class, a file's place in a folder means.

>>> placed(["chest/train/ill/1.png", "chest/train/well/2.png", "chest/test/ill/3.png", "chest/notes/4.png"])
Placed(splits=['train', 'train', 'test', None], classes=['ill', 'well', 'ill', None], divided=True)
>>> placed(["cat/1.png", "dog/2.png"])
Placed(splits=['train', 'train'], classes=['cat', 'dog'], divided=False)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence, Set
from pathlib import PurePosixPath
from typing import NamedTuple

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "t10k", "holdout", "heldout", "privatetest"), "test"),
    **dict.fromkeys(("valid", "val", "validation", "validating", "dev", "eval", "evaluation", "publictest"), "valid"),
}
"""Words in names of files and folders, and the split that each means."""
_DEEPEST = 3  # levels of folders among which splits are looked for
_JOINED = re.compile("(?:set|list|lists|split|ids|files|data|images|imgs)$")  # trainset, testlist01
_FILLERS = frozenset(["set", "sets", "images", "image", "imgs", "img", "data", "dataset", "pictures", "photos", "folder"])


class Placed(NamedTuple):
    """For each file its split (None: beside the splits) and its class (None: unknown), and whether there are splits."""

    splits: list[str | None]
    classes: list[str | None]
    divided: bool


class Named(NamedTuple):
    """The split that a name means, and what else it says: trainA, seg_train; nothing for train2017 or train_images."""

    split: str
    rest: str


def named(name: str) -> Named | None:
    """What a folder's name means as that of a split.

    >>> named("training_set"), named("seg_train"), named("val2017"), named("trainer"), named("train-or-test")
    (Named(split='train', rest=''), Named(split='train', rest='seg'), Named(split='valid', rest=''), None, None)
    """
    parted = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    if split := SPLIT_NAMES.get("".join(parted)):
        return Named(split, "")
    words = [_plain(word) for word in parted if word]
    meant = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    if len(meant) != 1:
        return None
    return Named(meant.pop(), " ".join(word for word in words if word and word not in (*SPLIT_NAMES, *_FILLERS)))


def _plain(word: str) -> str:
    """Without a number, or a word such as "set" or "list", that is written together with the name of a split; nothing of a
    number alone."""
    if word in SPLIT_NAMES:
        return word
    short = _JOINED.sub("", word.rstrip("0123456789"))
    return short if not short or short in SPLIT_NAMES else word


def split_word(name: str) -> str | None:
    """The split that a whole name means.

    >>> split_word("training_set"), split_word("Val"), split_word("trainer"), split_word("test-images")
    ('train', 'valid', None, 'test')
    """
    found = named(name)
    return found.split if found and not found.rest else None


def split_in(name: str) -> str | None:
    """The split that a word in a file's name means: train-00000-of-00002.parquet, t10k-images-idx3-ubyte.

    >>> split_in("t10k-images-idx3-ubyte.gz"), split_in("letters_train.npy"), split_in("trainer.npy")
    ('test', 'train', None)
    """
    words = map(_plain, re.split(r"[^a-z0-9]", name.lower()))
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def placed(names: Sequence[str]) -> Placed:
    """The split and class of each relative name, by its folders.

    Folders at one level are splits where two of them have different splits' names, alike in what else they say, or all
    folders there have one: "train" among other vehicles is a class. What lies beside them belongs to no split. A class is
    what the names of such splits say besides (trainA), or the first folder below, whose names differ.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    parted = (_divided({f[level] for f in folders if len(f) > level}) for level in range(_DEEPEST))
    level, found = next(((level, found) for level, found in enumerate(parted) if found), (0, None))
    if found is None:
        return Placed(["train"] * len(names), _classes(folders), False)
    meant = [found.get(f[level]) if len(f) > level else None for f in folders]
    below = [_besides(f, level, its.rest) for f, its in zip(folders, meant, strict=True) if its]
    inside = iter(_classes(below))
    return Placed([its and its.split for its in meant], [next(inside) if its else None for its in meant], True)


def _besides(folders: tuple[str, ...], level: int, rest: str) -> tuple[str, ...]:
    """A file's folders without that of its split, and without one of the same name in it (seg_train/seg_train)."""
    inner = folders[level + 1 :]
    return (rest, *folders[:level], *inner[inner[:1] == (folders[level],) :])


def _divided(folders: Set[str]) -> dict[str, Named]:
    """Those folders at one level that are splits, and what each means; none if the level does not tell splits."""
    meant = {folder: its for folder in folders if (its := named(folder))}
    splits: dict[str, set[str]] = {}
    for its in meant.values():
        splits.setdefault(its.rest, set()).add(its.split)
    whole = {rest for rest, found in splits.items() if len(found) > 1}
    if not whole and len(meant) == len(folders) and set(splits) == {""}:
        whole = {""}
    return {folder: its for folder, its in meant.items() if its.rest in whole}


def _classes(folders: Sequence[tuple[str, ...]]) -> list[str | None]:
    """The first level of folders whose names differ, in which nine files in ten lie; None for a stray one beside them.

    Unicode is compared in its composed form: an archive from another system has "é" as two characters.
    """
    for level in range(max(map(len, folders), default=0)):
        names = [unicodedata.normalize("NFC", folder[level]) if len(folder) > level else None for folder in folders]
        if len(set(names) - {None}) > 1 and names.count(None) * 10 <= len(names):
            return names
    return [None] * len(folders)
