"""Writing so that a kill or a full disk at any moment leaves the last good file; reading so that damage is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from triptych import folders
from triptych.errors import TriptychError
from triptych.opening import regular, understood, writable

LARGEST_JSON = 2**24  # bytes; a recipe has a few thousand, and the scales of a wide table: what is larger is not ours
_STAMP = "weights"
_ADVICE = "free space or choose another place"


@contextlib.contextmanager
def explained(what: str, advice: str = _ADVICE) -> Iterator[None]:
    """Turns a failing write (a full disk, no permission) into one line; what was there before is still there."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise TriptychError(f"cannot write {what}: {reason}; {advice}") from error


@contextlib.contextmanager
def _readable(path: Path, kind: str, advice: str) -> Iterator[None]:
    """Turns a failing read into one line that tells a missing file from a damaged one."""
    _check_there(path)
    try:
        with understood(path):
            yield
    except (SafetensorError, ValueError, RecursionError) as error:
        raise TriptychError(f"{path} is damaged or no {kind} file ({error}): {advice}") from error


def _check_there(path: Path) -> None:
    try:
        regular(path)
    except TriptychError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise TriptychError(f"{path} is missing: {path.parent} is not a triptych run, or is damaged") from error
        raise


@contextlib.contextmanager
def replacing(path: Path, advice: str = _ADVICE, *, over: bool = True) -> Iterator[Path]:
    """A temporary name for a file or folder that becomes `path` when the block ends well, flushed: all of it, or nothing.

    A folder takes the place of one that is there as `folders.replace` says. Where `path` is a link its target is replaced,
    and the link stays.

    Args:
        over: whether a folder that holds anything is replaced.
    """
    with explained(str(path), advice):
        path = writable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = folders.temporary(path)
        try:
            folders.writing.add(temporary)
            yield temporary
            if path.is_file():
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            for written in [*temporary.glob("*"), temporary]:
                _flush(written)
            folders.replace(temporary, path) if over and temporary.is_dir() else temporary.replace(path)
            _flush(path.parent)
        finally:
            folders.remove(temporary)
            folders.writing.discard(temporary)


def write_file(path: Path, write: Callable[[Path], object], advice: str = _ADVICE) -> None:
    """Calls write(temporary), flushes it to the disk, and renames it to `path`: all of it, or nothing."""
    with replacing(path, advice) as temporary:
        write(temporary)


@contextlib.contextmanager
def write_folder(path: Path, *, over: bool = True) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, flushed, in place of a folder that is there."""
    with replacing(path, over=over) as temporary:
        temporary.mkdir()
        yield temporary


def write_bytes(path: Path, content: bytes, advice: str = _ADVICE) -> None:
    """Writes a file's content: all of it, or nothing.

    What libraries encode should be encoded into memory and come here: some write to a file's descriptor themselves, and
    do not see that a full disk has taken a part only.
    """
    write_file(path, lambda temporary: temporary.write_bytes(content), advice)


def write_json(path: Path, value: Any) -> None:
    """JSON, indented; numbers that are not finite become null, which JSON has in their place."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    write_file(path, lambda p: p.write_text(json.dumps(finite, indent=2) + "\n", encoding="utf-8"))


def read_json(path: Path) -> Any:
    """The JSON in a file that is expected to be small."""
    with _readable(path, "JSON", "the run is damaged or foreign"):
        if path.stat().st_size > LARGEST_JSON:
            raise TriptychError(f"{path} is larger than {LARGEST_JSON >> 20} MiB: not a file that triptych wrote")
        return json.loads(path.read_text(encoding="utf-8"))


def write_tensors(path: Path, tensors: dict[str, Tensor], stamp: str | None = None) -> None:
    """Safetensors; every tensor is made contiguous and its own. A `stamp` says what they belong to: see `read_stamp`."""
    # through Python's own writing: safetensors' makes files that nobody else may read, whatever the umask
    write_file(path, lambda p: p.write_bytes(as_bytes(tensors, stamp)))


def as_bytes(tensors: dict[str, Tensor], stamp: str | None = None) -> bytes:
    """What `write_tensors` writes."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return save(plain, None if stamp is None else {_STAMP: stamp})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    with _readable(path, "safetensors", "restore it from a copy"):
        return load_file(path)


def read_stamp(path: Path) -> str | None:
    """What `write_tensors` stamped a file with."""
    with _readable(path, "safetensors", "restore it from a copy"), safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(_STAMP)


def digest_of_tensors(path: Path, most: int | None = None) -> str:
    """`digest` of a safetensors file, once its header fits its length: a file that was only made long is not read.

    Args:
        most: bytes that it may have.
    """
    with _readable(path, "safetensors", "restore it from a copy"), safe_open(path, "pt"):
        if most is not None and path.stat().st_size > most:
            raise TriptychError(f"{path} is larger than {most >> 20} MiB: not a file that triptych wrote for this run")
        return digest(path)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with understood(path), regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_names(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: Path, advice: str = "use matching files"
) -> None:
    """Raises a `TriptychError` that names the first tensor whose name, type or shape is not the expected one."""
    wanted, got = ({k: f"{v.dtype} {tuple(v.shape)}" for k, v in found.items()} for found in (expected, tensors))
    _check_same(wanted, got, source, advice)


def check_header(expected: Mapping[str, Tensor], path: Path, source: Path) -> None:
    """The same of the names and shapes that a safetensors file promises, of which nothing else is read."""
    with _readable(path, "safetensors", "restore it from a copy"), safe_open(path, "pt") as file:
        promised = {name: f"{tuple(file.get_slice(name).get_shape())}" for name in file.keys()}  # noqa: SIM118  # no mapping
    _check_same({name: f"{tuple(v.shape)}" for name, v in expected.items()}, promised, source, "use matching files")


def _check_same(wanted: dict[str, str], got: dict[str, str], source: Path, advice: str) -> None:
    for name in sorted(wanted | got):
        if wanted.get(name) != got.get(name):
            difference = f"{name} should be {wanted.get(name, 'absent')}, is {got.get(name, 'absent')}"
            raise TriptychError(f"{source} does not fit its recipe: {difference}; {advice}")


def read_weights(module: torch.nn.Module, path: Path, source: Path | None = None) -> None:
    """`load_weights` of a safetensors file, whose sizes are compared with the module's before it is read.

    Args:
        source: what a message names; by default the file.
    """
    source = path if source is None else source
    check_header(module.state_dict(), path, source)
    load_weights(module, read_tensors(path), source)


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Puts the tensors into the module, which may be on the meta device; what does not fit is named in one line."""
    own = module.state_dict()
    check_names(own, tensors, source)
    module.load_state_dict({k: _laid_out(v, own[k]) for k, v in tensors.items()}, assign=True)


def _laid_out(weight: Tensor, own: Tensor) -> Tensor:
    """A copy in memory of its own, aligned as torch's own is and with the strides that the module gave it.

    Inside a file's buffer, or with other strides (of one channel two layouts are the same), sums may round otherwise.
    """
    return torch.empty_like(own, dtype=weight.dtype, device=weight.device, requires_grad=False).copy_(weight)


def _flush(path: Path) -> None:
    """fsync of a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
