"""Which split, and which class, a file's place in a folder means.

>>> placed(["chest/train/ill/1.png", "chest/train/well/2.png", "chest/test/ill/3.png", "chest/notes/4.png"])
Placed(splits=['train', 'train', 'test', None], classes=['ill', 'well', 'ill', None], divided=True)
>>> placed(["cat/1.png", "dog/2.png"])
Placed(splits=['train', 'train'], classes=['cat', 'dog'], divided=False)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "t10k"), "test"),
    **dict.fromkeys(("valid", "val", "validation", "validating", "dev"), "valid"),
}
"""Words in names of files and folders, and the split that each means."""
_DEEPEST = 3  # levels of folders among which splits are looked for


class Placed(NamedTuple):
    """For each file its split (None: beside the splits) and its class (None: unknown), and whether there are splits."""

    splits: list[str | None]
    classes: list[str | None]
    divided: bool


def split_word(name: str) -> str | None:
    """The split that a folder's whole name means.

    >>> split_word("training_set"), split_word("Val"), split_word("trainer"), split_word("test-images")
    ('train', 'valid', None, 'test')
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    words = [word.removesuffix("set") if word != "set" else "" for word in words]
    rest = [word for word in words if word not in ("", "images", "image", "data", "imgs")]
    return SPLIT_NAMES.get(rest[0]) if len(rest) == 1 else None


def split_in(name: str) -> str | None:
    """The split that a word in a file's name means: train-00000-of-00002.parquet, t10k-images-idx3-ubyte.

    >>> split_in("t10k-images-idx3-ubyte.gz"), split_in("letters_train.npy"), split_in("trainer.npy")
    ('test', 'train', None)
    """
    words = re.split(r"[^a-z0-9]", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def placed(names: Sequence[str]) -> Placed:
    """The split and class of each relative name, by its folders.

    Folders at one level are splits where two of them have different splits' names, or all folders there have one: "train"
    among other vehicles is a class. What lies beside them belongs to no split. A class is the first folder below, whose
    names differ.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    level = next((level for level in range(_DEEPEST) if _are_splits([f[level] for f in folders if len(f) > level])), None)
    if level is None:
        return Placed(["train"] * len(names), _classes(folders), False)
    splits = [split_word(f[level]) if len(f) > level else None for f in folders]
    below = [f[:level] + f[level + 1 :] for f in folders]
    inside = iter(_classes([b for b, split in zip(below, splits, strict=True) if split]))
    return Placed(splits, [next(inside) if split else None for split in splits], True)


def _are_splits(folders: Sequence[str]) -> bool:
    different = set(folders)
    meant = [split_word(folder) for folder in different]
    return bool(different) and (None not in meant or len(set(meant) - {None}) > 1)


def _classes(folders: Sequence[tuple[str, ...]]) -> list[str | None]:
    """The first level of folders, in which every file lies, whose names differ."""
    depth = min(map(len, folders), default=0)
    for level in range(depth):
        names: list[str | None] = [folder[level] for folder in folders]
        if len(set(names)) > 1:
            return names
    return [None] * len(folders)
