"""`load`: from the name of a data set to its splits."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.attributes import Column, RawColumn, encode_tables
from triptych.data.faces import ATTRIBUTES, Faces, parse_distribution
from triptych.data.files import Part, read_file
from triptych.data.folder import read_folder
from triptych.data.hub import DOWNLOADS, read_hub
from triptych.data.pictures import all_grey, parse_size
from triptych.data.splits import Split, Splits
from triptych.data.stored import BUDGET, Options
from triptych.errors import TriptychError, unknown

NAMES = ("faces", "digits", "mnist", "fashion-mnist", "cifar10", "celeba")
"""Sets that are embedded or can be downloaded; folders under $TRIPTYCH_DATA add theirs."""
SPLITS = ("train", "valid", "test")
"""Names of splits, in the order in which `load` returns them."""
HELD_OUT = 10
"""One example in so many is held out if a set comes without a test split."""
FACES = 20_000
"""Training examples of the drawn set, unless `n` says otherwise."""
FACES_BUDGET = 2**30
"""Bytes of drawn faces that are kept in memory; more are drawn on demand."""
_TEST_FACES = 10**9  # test faces are counted from here: far from any training face

_log = logging.getLogger("triptych.data")


def load(
    name: str | Path,
    *,
    size: int | str | tuple[int, int] | None = None,
    seed: int = 0,
    n: int | None = None,
    budget: int = BUDGET,
    notice: Callable[[str], None] | None = None,
) -> Splits:
    """Loads a data set by name, path or hub id: its splits "train", "test" and, where there is one, "valid".

    `name` is `faces` (drawn, embedded), `digits` (scikit-learn's, 0..16 scaled to 0..255 as round(255 v / 16)), a path
    (an npy, npz, parquet or IDX file, a folder of pictures or of such files), a folder under $TRIPTYCH_DATA, a set that
    can be downloaded (mnist, fashion-mnist, cifar10, celeba), or `hf:owner/name`; looked for in this order. After
    `faces` and a question mark may follow how their attributes are distributed, as in
    `faces?hair_length:beard=-0.9&smile=-2:2`: correlations of pairs, and ranges; see `triptych.data.faces`.

    A set without a test split gets one, round(N / 10) examples drawn without replacement by `seed` alone; the rest is
    "train". Use one seed for one study, or test examples leak into training.

    Args:
        size: in pixels; the shorter side is resized to it (antialiased) and the centre cropped to size × size, or (H, W),
            also as text, "28,20". Rows of H·W bytes become pictures of H × W.
        seed: of what is drawn for `faces`; elsewhere of what is held out and which `n` are kept.
        n: how many training examples to keep; the test split is whole, except for `faces`, which draws n and n / 10.
        budget: bytes of a split that may be in memory; a larger one is read from disk as needed.
        notice: called with a line for what a user should know (pictures skipped); by default logger `triptych.data` warns.

    Raises:
        TriptychError: with what was expected, what came, and what to do; for an unknown name, with the nearest known ones.

    >>> [(name, len(split), split.event_shape) for name, split in load("digits").items()]
    [('train', 1617, (1, 8, 8)), ('test', 180, (1, 8, 8))]
    """
    options = Options(parse_size(size), budget, notice or _log.warning)
    if n is not None and n < 1:
        raise TriptychError(f"expected n of at least 1, got {n}: omit it for all examples")
    base, _, distribution = str(name).partition("?")
    if base in ("faces", "digits") and Path(base).exists():
        options.notice(f"{base} is the embedded set; write ./{base} for the folder or file here")
    if base == "faces":
        return _faces(options, seed, n or FACES, distribution)
    return _splits(_find(str(name)), options, seed, n)


def _find(name: str) -> dict[str, Part]:
    """The parts behind a name, looked for in the documented order."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return {"train": Array.of(pixels, name, name, {"label": RawColumn(digits.target, tuple("0123456789"))})}
    if name.startswith("hf:"):
        return read_hub(name[3:])
    variable = os.environ.get("TRIPTYCH_DATA")
    root = Path(variable or os.devnull).expanduser()
    for path in (Path(name).expanduser(), root / name):
        if name and path.exists():
            try:
                return read_folder(path) if path.is_dir() else {"train": read_file(path)}
            except PermissionError as error:
                raise TriptychError(f"{error.filename or path} may not be read: change its permissions") from None
    tried = f"looked for {name} here and " + (f"in $TRIPTYCH_DATA ({variable})" if variable else "$TRIPTYCH_DATA is not set")
    if name in DOWNLOADS:
        try:
            return read_hub(DOWNLOADS[name])
        except TriptychError as error:
            raise TriptychError(f"{tried}, and then: {error}") from None
    folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    advice = f" ({tried}; a folder, a file or hf:owner/name will do as well)"
    raise unknown("data set", name, dict.fromkeys([*NAMES, *folders]), advice)


def _faces(options: Options, seed: int, count: int, distribution: str) -> Splits:
    height, width = options.size or (32, 32)
    if height != width:
        raise TriptychError(f"faces are square: expected one size, got {height}×{width}; give --size {min(height, width)}")
    correlate, ranges = parse_distribution(distribution)
    kinds = {name: attribute.kind for name, attribute in ATTRIBUTES.items()}
    splits = {}
    for name, n, start in (("train", count, 0), ("test", max(1, count // 10), _TEST_FACES)):
        faces = Faces(n, height, seed=seed, start=start, correlate=correlate, ranges=ranges)
        fits = np.prod(faces.shape) <= min(FACES_BUDGET, options.budget)
        splits[name] = Split(faces[:] if fits else faces, faces.attributes, kinds)
    return Splits(**splits)


def _splits(found: dict[str, Part], options: Options, seed: int, n: int | None) -> Splits:
    """Reads the parts, holds out examples if a test split is missing, keeps `n` for training."""
    where = next(iter(found.values())).where
    if "train" not in found:
        raise TriptychError(
            f"{where}: expected training data, got only {', '.join(found)}; add a train split, or "
            "name the file or folder of one split itself"
        )
    parts = {name: found[name] for name in SPLITS if name in found}
    for part in parts.values():
        if part.count == 0:
            raise TriptychError(f"{part.where}: expected at least one example, got none: add some, or name another set")
    grey = all(all_grey(part.read(np.arange(part.count))) for part in parts.values() if isinstance(part, Album))
    tables, counts = zip(*((part.columns, part.count) for part in parts.values()), strict=True)
    attributes = encode_tables(tables, counts, options.notice)
    chosen = {name: {name: np.arange(part.count)} for name, part in parts.items()}
    chosen["train"] = _choose(counts[0], "test" not in parts, seed, n, where)
    splits: dict[str, Split] = {}
    for (name, part), columns in zip(parts.items(), attributes, strict=True):
        splits |= _read_part(part, chosen[name], columns, options, grey)
    shapes = {name: split.event_shape for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise TriptychError(f"expected splits of one shape, got {got}: give --size to resize and crop the pictures")
    return Splits(**{name: splits[name] for name in SPLITS if name in splits})


def _choose(count: int, held_out: bool, seed: int, n: int | None, where: str) -> dict[str, np.ndarray]:
    """The rows that are trained on, and those of a test split if one is held out."""
    chosen = dict(zip(("train", "test"), hold_out(count, seed, where) if held_out else [np.arange(count)], strict=False))
    train = chosen["train"]
    if n is not None and n > len(train):
        raise TriptychError(f"{where}: expected n of at most {len(train)}, all training examples, got {n}: omit n for all")
    if n is not None:
        chosen["train"] = train[np.sort(np.random.default_rng([seed % 2**64, 1]).permutation(len(train))[:n])]
    return chosen


def hold_out(count: int, seed: int, where: str = "the set") -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training examples and of the tenth that is held out, both sorted; a pure function of its arguments.

    Args:
        where: what an error calls the set.

    Raises:
        TriptychError: for fewer than 2 examples.

    >>> train, test = hold_out(20, seed=0)
    >>> len(train), len(test), len(set(train) | set(test))
    (18, 2, 20)
    """
    if count < 2:
        raise TriptychError(f"{where}: expected at least 2 examples, to train on and to test on, got {count}")
    order = np.random.default_rng([seed % 2**64, 0]).permutation(count)
    held_out = max(1, round(count / HELD_OUT))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _read_part(
    part: Part, chosen: dict[str, np.ndarray], columns: dict[str, Column], options: Options, grey: bool
) -> dict[str, Split]:
    """Reads the chosen rows of a part once, and divides them among its splits."""
    data, indices, skipped = part.rows(np.sort(np.concatenate(list(chosen.values()))), options, grey)
    whole = Split(
        data,
        {name: column.values[indices] for name, column in columns.items()},
        {name: column.kind for name, column in columns.items()},
        {name: column.classes for name, column in columns.items() if column.classes},
        names=tuple(part.names[i] for i in indices) if isinstance(part, Album) and part.names else (),
    )
    splits = {}
    for name, rows in chosen.items():
        split = whole if len(rows) == part.count else whole.take(np.isin(indices, rows))
        unread = tuple(skipped[index] for index in rows.tolist() if index in skipped)
        splits[name] = dataclasses.replace(split, skipped=unread)
    return splits
