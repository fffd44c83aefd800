"""Many picture files edited into a folder: in batches, under their own names, going on where an earlier call stopped.

Shapes: B pictures of a batch, k columns of each written picture; stored (B, C, H, W).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych import folders, storage
from triptych.data.listing import listed
from triptych.edit.showing import Shown
from triptych.errors import TriptychError
from triptych.figures import is_writable, read_pictures, save
from triptych.opening import exists

RECORD = "edits.json"
"""What an output folder keeps of the settings by which its pictures were made."""
_VALUES = 2**20  # of a batch: memory stays bounded for large pictures
_MOST = 64  # pictures of a batch
_WRITERS = 8


@dataclass
class Edited:
    """What `edit_files` has done.

    Attributes:
        written: root mean square error of each reconstruction, 0 … 255, by the picture's name.
        there: how many were there already.
        broken: why a picture could not be read, by its name.
        seconds: from the first batch on.
    """

    there: int
    written: dict[str, float] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def batch_of(event_shape: Sequence[int]) -> int:
    """How many pictures are edited at once.

    >>> batch_of((3, 32, 32)), batch_of((3, 512, 512))
    (64, 1)
    """
    return max(1, min(_MOST, _VALUES // math.prod(event_shape)))


def files_of(sources: Sequence[Path]) -> dict[str, Path]:
    """Picture files by the name that each keeps: of one folder with its subfolders', or as they are given.

    Raises:
        TriptychError: for a folder without pictures or beside other sources, and for two files of one name.
    """
    if len(sources) == 1 and sources[0].is_dir():
        names = listed(sources[0]).pictures
        if not names:
            raise TriptychError(f"{sources[0]} holds no pictures: name a folder of jpg, png or webp files")
        return {name: sources[0] / name for name in names}
    if folder := next((source for source in sources if source.is_dir()), None):
        raise TriptychError(f"edit expects one folder, or picture files, got {folder} beside others: edit it alone")
    found = {source.name: source for source in sources}
    if len(found) < len(sources):
        raise TriptychError("two of the files have one name, under which both would be written: edit their folder, or one")
    return found


def targets_of(files: Mapping[str, Path], out: Path, *, still: bool = False) -> dict[str, Path]:
    """Where each file's edit is written: under its own name, with .png behind it where its format cannot be written.

    Args:
        still: a GIF cannot be, as it would play what should stand side by side.

    Raises:
        TriptychError: where a file would be written over one that is read, or over another.
    """
    kept = {name: is_writable(name) and not (still and name.lower().endswith(".gif")) for name in files}
    found = {name: out / (name if keeps else f"{name}.png") for name, keeps in kept.items()}
    read = {path.resolve() for path in files.values()}
    for name, path in found.items():
        if path.resolve() in read:
            raise TriptychError(f"{path} would be written over a picture that is read: choose another --out")
        if not kept[name] and f"{name}.png" in files:
            raise TriptychError(f"{name} and {name}.png would both be written as {path}: rename one")
    return found


def check_apart(source: Path, out: Path) -> None:
    """Raises a `TriptychError` for an output folder that is the input folder or lies in it: it would be read as input."""
    if out.resolve().is_relative_to(source.resolve()):
        raise TriptychError(
            f"--out {out} is the folder {source} itself or in it, and would be edited too: choose one outside"
        )


def begin(
    files: Mapping[str, Path],
    targets: Mapping[str, Path],
    out: Path,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> list[str]:
    """The names that are left to edit: those whose edit is not there yet, or is older than the picture itself.

    Args:
        out: keeps the settings in edits.json: a later call with the same ones goes on.
        settings: by which all pictures are edited, as JSON has them.
        overwrite: edit all of them anew, and whatever the settings were.

    Raises:
        TriptychError: where pictures there were edited with other settings, or were not written by this, unless `overwrite`.
    """
    settings = json.loads(json.dumps(settings))
    there = [path for path in targets.values() if exists(path)]
    if overwrite:  # what is there stays until its successor is: it is known by its age
        since = max([time.time(), *(path.stat().st_mtime for path in there)]) if there else 0.0
    else:
        _check_settings(out, settings, there)
        since = _since(out)
    storage.write_json(out / RECORD, {"settings": settings} | ({"since": since} if since else {}))
    folders.sweep(*{path.parent for path in targets.values()})
    return [name for name, path in targets.items() if not _is_done(path, files[name], since)]


def _since(out: Path) -> float:
    """The time up to which pictures in the folder are of other settings: of a call with `overwrite` that was cut short."""
    stored = storage.read_json(out / RECORD) if exists(out / RECORD) else {}
    since = stored.get("since", 0.0) if isinstance(stored, dict) else 0.0
    return float(since) if isinstance(since, int | float) else 0.0


def _check_settings(out: Path, settings: Mapping[str, Any], there: Sequence[Path]) -> None:
    if not (out / RECORD).exists():
        if there:
            raise TriptychError(f"{there[0]} exists and is not an edit of triptych: choose another --out, or --overwrite")
        return
    stored = storage.read_json(out / RECORD)
    before = stored.get("settings") if isinstance(stored, dict) else None
    if before == settings:
        return
    known = before if isinstance(before, dict) else {}
    key = next((key for key in {**known, **settings} if known.get(key) != settings.get(key)), "settings")
    raise TriptychError(
        f"{out} holds pictures edited with other settings ({key} was {known.get(key)!r}, is {settings.get(key)!r}): "
        "choose another --out, or --overwrite"
    )


def _is_done(target: Path, source: Path, since: float) -> bool:
    try:
        written = target.stat().st_mtime
        return written >= source.stat().st_mtime and written > since
    except OSError:  # not there, or a source that reading will say cannot be read
        return False


def edit_files(
    files: Mapping[str, Path],
    targets: Mapping[str, Path],
    left: Sequence[str],
    edit: Callable[[Tensor], Shown],
    event_shape: Sequence[int],
    depth: Sequence[float] = (),
) -> Iterator[Edited]:
    """Edits files and writes each, batch after batch; what has been done so far is yielded after each batch.

    A batch that was interrupted is edited whole again, so that each picture stands among the same ones, and what
    results is what an uninterrupted call writes.

    Args:
        files, targets: by name, of `files_of` and `targets_of`.
        left: the names that are left, of `begin`.
        edit: stored pictures (B, C, H, W) -> what is written of each.
        depth: of `Codec.depth`.

    Raises:
        TriptychError: where not one picture can be read, and for a file that cannot be written.
    """
    names, size, start = list(files), batch_of(event_shape), time.perf_counter()
    read = partial(read_pictures, event_shape=event_shape, depth=depth)
    done, wanted = Edited(len(files) - len(left)), set(left)
    for part in (names[i : i + size] for i in range(0, len(names), size)):
        if wanted.intersection(part):
            _edit_batch({name: files[name] for name in part}, targets, wanted, edit, read, done)
            done.seconds = time.perf_counter() - start
            yield done
    if len(done.broken) == len(files):
        raise TriptychError(f"none of {len(files)} pictures can be read: {next(iter(done.broken.values()))}")


def _edit_batch(
    files: Mapping[str, Path],
    targets: Mapping[str, Path],
    wanted: set[str],
    edit: Callable[[Tensor], Shown],
    read_all: Callable[[list[Path]], list[Tensor | TriptychError]],
    done: Edited,
) -> None:
    def found_in(names: list[str]) -> dict[str, Any]:
        return dict(zip(names, read_all([files[name] for name in names]), strict=True))

    read = found_in([name for name in files if name in wanted])
    done.broken |= {name: str(found) for name, found in read.items() if isinstance(found, TriptychError)}
    if done.broken.keys() >= read.keys():
        return
    read |= found_in([name for name in files if name not in wanted])
    stored = {name: read[name] for name in files if isinstance(read[name], Tensor)}
    found = edit(torch.cat([*stored.values()]))
    edits = {name: edited for name, edited in zip(stored, found.pictures, strict=True) if name in wanted}
    with ThreadPoolExecutor(_WRITERS) as pool:  # most of writing is waiting for the disk
        list(pool.map(lambda name: save(edits[name], targets[name], columns=len(edits[name])), edits))
    done.written |= {name: rms for name, rms in zip(stored, found.rms.tolist(), strict=True) if name in wanted}
