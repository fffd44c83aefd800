"""Writing so that a kill or a full disk at any moment leaves the last good file; reading so that damage is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from triptych.errors import TriptychError

LARGEST_JSON = 2**20  # bytes; a recipe has a few thousand: what is larger was not written by us


@contextlib.contextmanager
def explained(what: str, advice: str = "free space or choose another place") -> Iterator[None]:
    """Turns a failing write (a full disk, no permission) into one line; what was there before is still there."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise TriptychError(f"cannot write {what}: {reason}; {advice}") from error


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write(temporary), flushes it to the disk, and renames it to `path`: all of it, or nothing."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    with explained(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, flushed; `path` must not exist yet."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    with explained(str(path)):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.iterdir():
                _flush(file)
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sweep(*folders: Path) -> None:
    """Removes what a kill left half written: our own temporary names, nothing else."""
    for folder in folders:
        for left in folder.glob(".*.tmp*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def write_json(path: Path, value: Any) -> None:
    """JSON, indented; numbers that are not finite become null, which JSON has in their place."""
    text = json.dumps(_finite(value), indent=2, allow_nan=False) + "\n"
    write_file(path, lambda p: p.write_text(text, encoding="utf-8"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """The JSON in a file that is expected to be small."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise TriptychError(f"{path} is larger than 1 MB: not a file that triptych wrote")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TriptychError(f"{path} is missing: {path.parent} is not a triptych run, or is damaged") from error
    except (ValueError, OSError, RecursionError) as error:
        raise TriptychError(f"{path} cannot be read as JSON ({error}): the run is damaged or foreign") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], stamp: str | None = None) -> None:
    """Safetensors; every tensor is made contiguous and its own. A `stamp` says what they belong to: see `read_stamp`."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    # through Python's own writing: safetensors' makes files that nobody else may read, whatever the umask
    write_file(path, lambda p: p.write_bytes(save(plain, None if stamp is None else {_STAMP: stamp})))


def read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise TriptychError(f"{path} is missing: {path.parent} is not a triptych run, or is damaged") from error
    except (SafetensorError, OSError) as error:
        raise TriptychError(f"{path} is damaged or no safetensors file ({error}): restore it from a copy") from error


def read_stamp(path: Path) -> str | None:
    """What `write_tensors` stamped a file with."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(_STAMP)
    except (SafetensorError, OSError) as error:
        raise TriptychError(f"{path} is damaged or no safetensors file ({error}): restore it from a copy") from error


_STAMP = "weights"


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Puts the tensors into the module, which may be on the meta device; what does not fit is named in one line."""
    own = module.state_dict()
    expected = {k: f"{v.dtype} {tuple(v.shape)}" for k, v in own.items()}
    got = {k: f"{v.dtype} {tuple(v.shape)}" for k, v in tensors.items()}
    if expected != got:
        raise TriptychError(f"{source} does not fit its recipe: {_first_difference(expected, got)}; use matching files")
    module.load_state_dict({k: _laid_out(v, own[k]) for k, v in tensors.items()}, assign=True)


def _laid_out(weight: Tensor, own: Tensor) -> Tensor:
    """A copy in memory of its own, aligned as torch's own is and with the strides that the module gave it.

    Inside a file's buffer, or with other strides (of one channel two layouts are the same), sums may round otherwise.
    """
    return torch.empty_like(own, dtype=weight.dtype, device=weight.device, requires_grad=False).copy_(weight)


def _first_difference(expected: dict[str, Any], got: dict[str, Any]) -> str:
    for name in sorted(expected | got):
        if expected.get(name) != got.get(name):
            return f"{name} should be {expected.get(name, 'absent')}, is {got.get(name, 'absent')}"
    return "no difference"


def _flush(path: Path) -> None:
    """fsync of a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
