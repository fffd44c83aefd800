"""`load`: from the name of a data set to its splits."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from triptych.data import holding
from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.attributes import Column, RawColumn, encode_tables
from triptych.data.faces import ATTRIBUTES, Faces, parse_distribution
from triptych.data.files import Part
from triptych.data.folder import read_path
from triptych.data.holding import by_position, digest
from triptych.data.hub import DOWNLOADS, read_hub
from triptych.data.labels import says_splits, split_meant
from triptych.data.memory import MARK, is_named, read_memory
from triptych.data.pictures import Depth, Survey, parse_size, surveyed
from triptych.data.splits import Split, Splits, counted
from triptych.data.stored import BUDGET, Options, keeping
from triptych.errors import TriptychError, unknown
from triptych.opening import at_home, exists, is_folder, understood

NAMES = ("faces", "digits", "mnist", "fashion-mnist", "cifar10", "celeba")
"""Sets that are embedded or can be downloaded; folders under $TRIPTYCH_DATA add theirs."""
SPLITS = ("train", "valid", "test")
"""Names of splits, in the order in which `load` returns them."""
HeldOutBy = Literal["content", "position"]
"""What decides which examples are held out of a set without a test split: what they are, or, in runs of earlier versions,
where they stood."""
FACES = 20_000
"""Training examples of the drawn set, unless `n` says otherwise."""
FACES_BUDGET = 2**30
"""Bytes of drawn faces that are kept in memory; more are drawn on demand."""
_TEST_FACES = 10**9  # test faces are counted from here: far from any training face

_log = logging.getLogger("triptych.data")


def load(
    name: str | Path | Any,
    *,
    size: int | str | tuple[int, int] | None = None,
    seed: int = 0,
    n: int | None = None,
    budget: int = BUDGET,
    cache: bool = True,
    held_out: HeldOutBy = "content",
    depth: Sequence[float] = (),
    notice: Callable[[str], None] | None = None,
) -> Splits:
    """Loads a data set by name, path or hub id, or from memory: its splits "train", "test" and, where there is one, "valid".

    `name` is `faces` (drawn, embedded), `digits` (scikit-learn's, 0..16 scaled to 0..255 as round(255 v / 16)), a path
    (a folder of pictures, an archive of one, or data files: see the guide), a folder under $TRIPTYCH_DATA, a set that
    can be downloaded (mnist, fashion-mnist, cifar10, celeba), or `hf:owner/name`; looked for in this order. After
    `faces` and a question mark may follow how their attributes are distributed, as in
    `faces?hair_length:beard=-0.9&smile=-2:2`: correlations of pairs, and ranges; see `triptych.data.faces`.

    Instead of a name may come what is in memory already: a numpy array or torch tensor, a list of picture files, Pillow
    pictures or arrays, a pandas DataFrame (with a column of picture files or bytes, or of numbers), a map-style
    `torch.utils.data.Dataset` whose items are a picture or (picture, label), or a dictionary of arrays, or of splits by
    name. They are copied unless they are over the budget, and checked as files are: see `triptych.data.memory`.

    Where only a "valid" split comes with training data, it is the test split: what is not trained on. A set without either
    gets one: about a tenth, each example by a hash of its content and `seed`; the rest is
    "train". So a set that grows keeps its parts, and equal pictures are in the same one. Use one seed for one study, or test
    examples leak into training. What was read, and what was left aside, says `Splits.summary`.

    Args:
        size: in pixels; the shorter side is resized to it (antialiased) and the centre cropped to size × size, or (H, W),
            also as text, "28,20". Rows of H·W bytes become pictures of H × W.
        seed: of what is drawn for `faces`; elsewhere of what is held out and which `n` are kept.
        n: how many training examples to keep; the test split is whole, except for `faces`, which draws n and n / 10.
        budget: bytes of a split that may be in memory; a larger one is read from disk as needed.
        cache: whether decoded pictures may be kept in the cache, and taken from there.
        held_out: "content" as above; "position" for the tenth that versions before held out.
        depth: of pixels of more than eight bits, as a `Split` or a model's codec has it; by default that of this set.
        notice: called with a line for what a user should know (pictures skipped); by default logger `triptych.data` warns.

    Raises:
        TriptychError: with what was expected, what came, and what to do; for an unknown name, with the nearest known ones.

    >>> [(name, len(split), split.event_shape) for name, split in load("digits").items()]
    [('train', 1607, (1, 8, 8)), ('test', 190, (1, 8, 8))]
    """
    options = Options(parse_size(size), budget, notice or _log.warning, cache and keeping())
    if n is not None and n < 1:
        raise TriptychError(f"expected n of at least 1, got {n}: omit it for all examples")
    shades = Depth.of(depth)
    if not is_named(name):
        with understood(f"the {type(name).__name__}"):
            return _splits(read_memory(name, budget), options, seed, n, held_out, shades)
    base, _, distribution = str(name).partition("?")
    if base in ("faces", "digits") and exists(base):
        options.notice(f"{base} is the embedded set; write ./{base} for the folder or file here")
    if base == "faces":
        return _faces(options, seed, n or FACES, distribution)
    with understood(str(name)):
        return _splits(_find(str(name)), options, seed, n, held_out, shades)


def _find(name: str) -> dict[str, Part]:
    """The parts behind a name, looked for in the documented order."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return {"train": Array.of(pixels, name, name, {"label": RawColumn(digits.target, tuple("0123456789"))})}
    if name.startswith(MARK):
        raise TriptychError(f"the data were given {name}: give them again in Python, or name a file or folder that has them")
    if name.startswith("hf:"):
        return read_hub(name[3:])
    variable = os.environ.get("TRIPTYCH_DATA")
    root = at_home(variable or os.devnull)
    for path in (at_home(name), root / name):
        if name and exists(path):
            return read_path(path)
    tried = f"looked for {name} here and " + (f"in $TRIPTYCH_DATA ({variable})" if variable else "$TRIPTYCH_DATA is not set")
    if name in DOWNLOADS:
        try:
            return read_hub(DOWNLOADS[name])
        except TriptychError as error:
            raise TriptychError(f"{tried}, and then: {error}") from None
    folders = sorted(path.name for path in root.iterdir() if is_folder(path)) if is_folder(root) else []
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


def _splits(
    found: dict[str, Part], options: Options, seed: int, n: int | None, by: HeldOutBy, depth: Depth | None
) -> Splits:
    """Reads the parts, holds out examples if a test split is missing, keeps `n` for training."""
    where = next(iter(found.values())).where
    if "train" not in found:
        raise TriptychError(
            f"{where}: expected training data, got only {', '.join(found)}; add a train split, or "
            "name the file or folder of one split itself"
        )
    found = _by_name(_divided(found))
    if by == "content" and "valid" in found and "test" not in found:
        found["test"] = found.pop("valid")
        by_what = next((part.divided for part in found.values() if part.divided), "")
        found["train"].divided = f"their valid, {by_what}".rstrip(", ")
        found = {"train": found["train"], **found}
    parts = {name: found[name] for name in SPLITS if name in found}
    for part in parts.values():
        if part.count == 0:
            raise TriptychError(f"{part.where}: expected at least one example, got none: add some, or name another set")
    survey = _surveyed(parts, depth)
    tables, counts = zip(*((part.columns, part.count) for part in parts.values()), strict=True)
    attributes = encode_tables(tables, counts, options.notice)
    chosen = {name: {name: np.arange(part.count)} for name, part in parts.items()}
    chosen["train"] = _choose(parts["train"], "test" not in parts, seed, n, by)
    splits: dict[str, Split] = {}
    for (name, part), columns in zip(parts.items(), attributes, strict=True):
        splits |= _read_part(part, chosen[name], columns, options, survey, seed)
    shapes = {name: split.event_shape for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise TriptychError(f"expected splits of one shape, got {got}: give --size to resize and crop the pictures")
    kept = digest(parts["train"].prints, chosen["train"]["train"])
    splits["train"] = dataclasses.replace(splits["train"], digest=kept)
    result = Splits(**{name: splits[name] for name in SPLITS if name in splits})
    result.origin = "" if "test" in parts else "a tenth held out"
    result.divided = "" if result.origin else next((part.divided for part in found.values() if part.divided), "as given")
    aside = [*(line for part in found.values() for line in part.aside), *_unused(found)]
    result.remarks = tuple(filter(None, [survey.describe(), *_copies(parts)])), tuple(aside)
    return result


def _copies(parts: dict[str, Part]) -> list[str]:
    """What published splits have in common, where equal examples are copies: figures on them measure memory."""
    known = set() if parts["train"].copies else set(parts["train"].prints.tolist())
    shared = {name: sum(one in known for one in part.prints.tolist()) for name, part in parts.items() if name != "train"}
    return [f"{counted(count, 'example')} of {name} in train too" for name, count in shared.items() if known and count]


def _divided(found: dict[str, Part]) -> dict[str, Part]:
    """One part whose columns say the split of each row, as its splits."""
    if set(found) != {"train"}:
        return found
    whole = found["train"]
    name = next((n for n, raw in whole.columns.items() if says_splits(n, _words(raw.values))), None)
    if name is None:
        return found
    meant = [split_meant(word, name) for word in _words(whole.columns[name].values)]
    if "train" not in meant:
        return found
    del whole.columns[name]
    splits = {split: np.array([i for i, its in enumerate(meant) if its == split]) for split in SPLITS if split in meant}
    whole.divided = f"by column {name}"
    return {split: whole.part(rows) for split, rows in splits.items()}


def _words(values: Any) -> list[str]:
    return ["" if value is None or value != value else str(value) for value in values]


def _by_name(found: dict[str, Part]) -> dict[str, Part]:
    """Tables of several splits with their columns in one order.

    Raises:
        TriptychError: where they have other columns.
    """
    tables = {name: part for name, part in found.items() if isinstance(part, Array) and part.names}
    if "train" not in tables:
        return found
    order = tables["train"].names
    for name, table in tables.items():
        if set(table.names) != set(order):
            other = ", ".join(sorted(set(table.names) ^ set(order))[:5])
            raise TriptychError(f"{table.where}: expected the columns of the training data, got others in {name}: {other}")
        if table.names != order:
            tables[name] = table.reordered(order)
    return found | tables


def _unused(found: dict[str, Part]) -> list[str]:
    return [f"split {name} ({part.count:,})" for name, part in found.items() if name not in SPLITS]


def _surveyed(parts: dict[str, Part], given: Depth | None) -> Survey:
    """What the headers of all pictures say together; the arrays of several splits get one range."""
    arrays = [part for part in parts.values() if isinstance(part, Array)]
    if len(arrays) > 1 and any(array.dtype != np.uint8 for array in arrays):
        ends = [array.extremes for array in arrays]
        for array in arrays:
            array.extremes = min(low for low, _ in ends), max(high for _, high in ends)
    if arrays:
        return Survey(depth=next(filter(None, (array.depth(given) for array in arrays)), None))
    albums = (part.read(np.arange(part.count)) for part in parts.values() if isinstance(part, Album))
    return surveyed(chain.from_iterable(albums), given)


def _choose(part: Part, hold_out: bool, seed: int, n: int | None, by: HeldOutBy) -> dict[str, np.ndarray]:
    """The rows that are trained on, and those of a test split if one is held out."""
    chosen = {"train": np.arange(part.count)}
    if hold_out:
        if by == "position":
            apart = by_position(part.count, seed, part.where)
        else:
            apart = holding.held_out(part.prints, seed, part.where, copies=part.copies)
        chosen = {"train": np.flatnonzero(~apart), "test": np.flatnonzero(apart)}
    train = chosen["train"]
    if n is not None and n > len(train):
        raise TriptychError(
            f"{part.where}: expected n of at most {len(train)}, all training examples, got {n}: omit n for all"
        )
    if n is not None:
        chosen["train"] = train[np.sort(np.random.default_rng([seed % 2**64, 1]).permutation(len(train))[:n])]
    return chosen


def _read_part(
    part: Part,
    chosen: dict[str, np.ndarray],
    columns: dict[str, Column],
    options: Options,
    survey: Survey,
    seed: int,
) -> dict[str, Split]:
    """Reads the chosen rows of a part once, and divides them among its splits.

    Where all that one of them was to get cannot be read, what can be is divided anew, also in `chosen`.
    """
    wanted = np.sort(np.concatenate(list(chosen.values())))
    data, indices, skipped = part.rows(wanted, options, survey)
    if len(chosen) > 1 and not all(np.isin(rows, indices).any() for rows in chosen.values()):
        apart = holding.held_out(part.prints[indices], seed, part.where, copies=part.copies)
        chosen |= {"train": np.setdiff1d(wanted, indices[apart]), "test": indices[apart]}
    whole = Split(
        data,
        {name: column.values[indices] for name, column in columns.items()},
        {name: column.kind for name, column in columns.items()},
        {name: column.classes for name, column in columns.items() if column.classes},
        columns=part.names if isinstance(part, Array) else (),
        names=tuple(part.names[i] for i in indices) if isinstance(part, Album) and part.names else (),
        rows=indices if part.places is None else part.places[indices],
        depth=survey.depth.numbers if survey.depth else (),
    )
    splits = {}
    for name, rows in chosen.items():
        split = whole if len(rows) == part.count else whole.take(np.isin(indices, rows))
        unread = tuple(skipped[index] for index in rows.tolist() if index in skipped)
        splits[name] = dataclasses.replace(split, skipped=unread)
    return splits
