"""`load`: from what a person calls a set to its splits."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.album import Album
from triptych.data.arrays import Array, array_of
from triptych.data.attributes import Raw, together
from triptych.data.files import Part, read_file
from triptych.data.pictures import parse_size
from triptych.data.splits import Kind, Split, Splits
from triptych.data.stored import BUDGET, Reading
from triptych.errors import TriptychError

NAMES = ("faces", "digits", "mnist", "fashion-mnist", "frey", "cifar10", "celeba")
"""Sets that have a name of their own; folders under $TRIPTYCH_DATA add theirs."""
HELD_OUT = 10
"""One datum in so many is held out where a set comes without a test split."""
FACES = 20_000
FACES_BUDGET = 2**30
_TEST_FACES = 10**9  # test faces are counted from here: far from any training face

_log = logging.getLogger("triptych.data")


def load(
    name: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    n: int | None = None,
    correlate: Any = None,
    ranges: Any = None,
    budget: int = BUDGET,
    notice: Callable[[str], None] | None = None,
) -> Splits:
    """Load a data set by name, path or hub id: its splits "train", "test" and, where there is one, "valid".

    `name` is `faces` (drawn, embedded), `digits` (scikit-learn's, 0..16 scaled to 0..255 as round(255 v / 16)), a path
    (an npy, npz, parquet or IDX file, a folder of pictures or of such files), a folder under $TRIPTYCH_DATA, a set that
    can be downloaded (mnist, fashion-mnist, cifar10, celeba), or `hf:owner/name`; looked for in this order.

    A set without a test split gets one, round(N / 10) data drawn without replacement by `seed` alone; the rest is
    "train". Use one seed for one study, or test data leak into training.

    Args:
        size: pixels; the shorter side is resized to it (antialiased) and the centre cropped to size × size, or (H, W).
        seed: for `faces`, what is drawn; elsewhere, what is held out and which `n` are kept.
        n: how many training data to keep; the test split is whole, but for `faces`, which draws n and n / 10.
        correlate, ranges: for `faces`, how attributes go together and between what; see `triptych.data.faces`.
        budget: bytes of a split that may lie in memory; a larger one is read from disk as it is needed.
        notice: called with a line for what a person should know (pictures skipped); else logger `triptych.data` warns.

    Raises TriptychError: what was expected, what came, and what to do; for an unknown name, the nearest known.
    >>> [(name, len(split), split.event_shape) for name, split in load("digits").items()]
    [('train', 1617, (1, 8, 8)), ('test', 180, (1, 8, 8))]
    """
    reading = Reading(parse_size(size), budget, notice or _log.warning)
    _check_count(n)
    name = str(name)
    if name == "faces":
        return _faces(reading, seed, n, correlate, ranges)
    if correlate is not None or ranges is not None:
        raise TriptychError(f"correlate and ranges are for the drawn set faces, got {name}; leave them out")
    return _finish(_find(name, reading), reading, seed, n)


def _check_count(n: int | None) -> None:
    if n is not None and n < 1:
        raise TriptychError(f"expected n of at least 1, got {n}; leave it out for all")


def _find(name: str, reading: Reading) -> dict[str, Part]:
    """The parts behind a name, in the documented order."""
    from triptych.data import hub

    if name == "digits":
        _warn_of_folder(name, reading)
        return {"train": _digits()}
    if name.startswith("hf:"):
        return hub.read_hub(name[3:])
    path = _on_disk(name)
    if path is not None:
        parts = _read_path(path)
        return {split: _fold_frey(part) for split, part in parts.items()} if name == "frey" else parts
    if name in hub.DOWNLOADS:
        return _download(name)
    raise TriptychError(_not_found(name))


def _warn_of_folder(name: str, reading: Reading) -> None:
    if Path(name).exists():
        reading.notice(f"{name} is the embedded set; write ./{name} for the folder or file here")


def _on_disk(name: str) -> Path | None:
    """An existing path, here or under $TRIPTYCH_DATA."""
    root = os.environ.get("TRIPTYCH_DATA")
    paths = [Path(name).expanduser(), *([Path(root).expanduser() / name] if root and name else [])]
    return next((path for path in paths if name and path.exists()), None)


def _read_path(path: Path) -> dict[str, Part]:
    from triptych.data.folder import read_folder

    try:
        return read_folder(path) if path.is_dir() else {"train": read_file(path)}
    except PermissionError as error:
        raise TriptychError(f"{error.filename or path} may not be read; change its permissions") from None


def _download(name: str) -> dict[str, Part]:
    from triptych.data import hub

    try:
        return hub.read_hub(hub.DOWNLOADS[name])
    except TriptychError as error:
        raise TriptychError(f"{_looked_for(name)}, and then: {error}") from None


def _looked_for(name: str) -> str:
    root = os.environ.get("TRIPTYCH_DATA")
    return f"looked for {name} here and " + (f"in $TRIPTYCH_DATA ({root})" if root else "$TRIPTYCH_DATA is not set")


def _not_found(name: str) -> str:
    root = Path(os.environ.get("TRIPTYCH_DATA") or os.devnull)
    folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    known = list(dict.fromkeys([*NAMES, *folders]))
    near = difflib.get_close_matches(name.lower(), known, 3, 0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"known names: {', '.join(known)}"
    if name == "frey":
        advice = "save its pictures as frey/frey.npy, uint8 (1965, 28, 20), and set TRIPTYCH_DATA to the folder above"
    return f"there is no data set {name!r}: {_looked_for(name)}; {advice}" + (
        "" if name == "frey" else " (or give a folder, a file, or hf:owner/name)"
    )


def _digits() -> Array:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return array_of(pixels, "digits", "digits", {"label": Raw(digits.target, tuple("0123456789"))})


def _fold_frey(part: Part) -> Part:
    """The frames as pictures, where they were saved as rows of 560."""
    if not isinstance(part, Array) or part.shape[1:] != (560,):
        return part
    chunks = part.chunks
    folded = replace(part, shape=(part.count, 28, 20), chunks=lambda: (rows.reshape(-1, 28, 20) for rows in chunks()))
    return replace(folded, mapped=None)


def _faces(reading: Reading, seed: int, n: int | None, correlate: Any, ranges: Any) -> Splits:
    from triptych.data.faces import ATTRIBUTES, Faces

    _warn_of_folder("faces", reading)
    count, size = n or FACES, reading.size or (32, 32)
    if size[0] != size[1]:
        raise TriptychError(f"faces are square: expected one size, got {size[0]}×{size[1]}; give --size {min(size)}")
    draw = partial(Faces, size=size[0], seed=seed, correlate=correlate, ranges=ranges)
    parts = {"train": draw(count), "test": draw(max(1, count // 10), start=_TEST_FACES)}
    limit = min(FACES_BUDGET, reading.budget)
    kinds: dict[str, Kind] = {name: attribute.kind for name, attribute in ATTRIBUTES.items()}
    drawn = {name: faces[:] if np.prod(faces.shape) <= limit else faces for name, faces in parts.items()}
    return Splits(**{name: Split(drawn[name], dict(faces.attributes), dict(kinds)) for name, faces in parts.items()})


def _finish(parts: dict[str, Part], reading: Reading, seed: int, n: int | None) -> Splits:
    """Read the parts, hold some of it out if there is no test split, keep `n`."""
    empty = [part.where for part in parts.values() if part.count == 0]
    if empty:
        raise TriptychError(f"{empty[0]}: expected at least one datum, got none; add some or name another set")
    grey = all(part.grey() for part in parts.values() if isinstance(part, Album))
    tables, counts = zip(*((part.columns, part.count) for part in parts.values()), strict=True)
    columns = together(tables, counts, reading.notice)
    plans = _plans(parts, seed, n)
    splits: dict[str, Split] = {}
    for (name, part), attributes in zip(parts.items(), columns, strict=True):
        splits.update(_read_part(part, plans[name], attributes, reading, grey))
    _same_event(splits)
    return Splits(**{name: splits[name] for name in ("train", "valid", "test") if name in splits})


def _plans(parts: dict[str, Part], seed: int, n: int | None) -> dict[str, dict[str, np.ndarray]]:
    """For each part, the splits that it is read into and the rows of each."""
    plans = {name: {name: np.arange(part.count)} for name, part in parts.items()}
    if "test" not in parts:
        train, test = hold_out(parts["train"].count, seed, parts["train"].where)
        plans["train"] = {"train": train, "test": test}
    train = plans["train"]["train"]
    if n is not None and n > len(train):
        raise TriptychError(
            f"{parts['train'].where}: expected n of at most {len(train)}, the training data there are, "
            f"got {n}; leave n out for all"
        )
    if n is not None and n < len(train):
        chosen = np.random.default_rng([seed % 2**64, 1]).permutation(len(train))[:n]
        plans["train"]["train"] = train[np.sort(chosen)]
    return plans


def hold_out(count: int, seed: int, where: str = "the set") -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training data and of the tenth that is held out, both sorted; a pure function of its arguments.

    >>> train, test = hold_out(20, seed=0)
    >>> len(train), len(test), len(set(train) | set(test))
    (18, 2, 20)
    """
    if count < 2:
        raise TriptychError(f"{where}: expected at least 2 data, to train on and to test on, got {count}")
    order = np.random.default_rng([seed % 2**64, 0]).permutation(count)
    held = max(1, round(count / HELD_OUT))
    return np.sort(order[held:]), np.sort(order[:held])


def _read_part(
    part: Part, plan: dict[str, np.ndarray], columns: dict[str, Any], reading: Reading, grey: bool
) -> dict[str, Split]:
    """Read what the plan needs of a part once, and deal it out."""
    wanted = np.sort(np.concatenate(list(plan.values())))
    data, kept, skipped = part.rows(None if len(wanted) == part.count else wanted, reading, grey)
    whole = Split(
        data,
        {name: column.values[kept] for name, column in columns.items()},
        {name: column.kind for name, column in columns.items()},
        {name: column.names for name, column in columns.items() if column.names},
    )
    splits = {
        name: whole if len(rows) == part.count else whole.take(np.flatnonzero(np.isin(kept, rows)))
        for name, rows in plan.items()
    }
    for index, what in skipped:
        next(splits[name] for name, rows in plan.items() if index in rows).skipped.append(what)
    return splits


def _same_event(splits: dict[str, Split]) -> None:
    shapes = {name: split.event_shape for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise TriptychError(
            f"expected splits of one shape, got {', '.join(f'{n} {s}' for n, s in shapes.items())}; "
            "give --size to resize and crop the pictures"
        )
