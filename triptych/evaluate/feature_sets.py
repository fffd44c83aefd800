"""`features`: a set of features by its name; learned ones are kept in the cache, so that they are learned once.

The cache is `features/` in $TRIPTYCH_CACHE, or ~/.cache/triptych: a safetensors file for each training set and each way of
learning. A file's stamp is the features' name, which has a digest of their weights, so that damage is noticed. The files
used longest ago are removed when all together are over a limit; deleting the folder is always safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from triptych import storage
from triptych.data import Split, fixed_subset
from triptych.data.stored import cache_root, keeping, least_used
from triptych.errors import TriptychError, unknown
from triptych.evaluate.efficientnet import EfficientNet, weights_file
from triptych.evaluate.features import (
    INCEPTION,
    KEPT,
    Features,
    Inception,
    Learned,
    Pixels,
    blank_network,
    kept_out,
    learn_features,
    reading_of,
)

NAMES = ("learned", "pixels", "efficientnet", "inception")
"""What features are called on the command line, and by `features`."""
CACHED = 256 * 2**20
"""Bytes of learned features that are kept."""
_INCEPTION_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/" + INCEPTION
_VERSION = 1  # of the way in which features are learned: raise it when the same data would give others
_LOOKED_AT = 1000  # rows of data on disk that tell one set from another


def features(
    name: str,
    train: Split,
    *,
    steps: int = 600,
    seed: int = 0,
    keep: int = KEPT,
    download: bool = False,
    cache: bool = True,
    notice: Callable[[str], None] | None = None,
) -> Features:
    """The features called learned, pixels, efficientnet or inception.

    Args:
        train: what "learned" is trained on: to predict the split's classes where it has them, else its attributes, else to
            remove noise.
        steps, seed, keep: of that training, as in `learn_features`.
        download: whether Inception's weights (91 MB) may be fetched.
        cache: whether learned features are read from the cache where they were learned before, and kept there.
        notice: called with a line for what a user should know: that features are being learned, or cannot be kept.

    Raises:
        TriptychError: for another name, and where a published network's weights are missing: the message says what to do.
    """
    if name == "pixels":
        return Pixels(reading_of(train))
    if name == "learned":
        return _learned(train, steps, seed, keep, cache and keeping(), notice or (lambda line: None))
    if name == "efficientnet":
        return EfficientNet(weights_file())
    if name == "inception":
        return Inception(_inception_file(download))
    raise unknown("set of features called", name, NAMES)


def _learned(train: Split, steps: int, seed: int, keep: int, cache: bool, notice: Callable[[str], None]) -> Learned:
    """Features from the cache, or learned and put there."""
    folder = cache_root() / "features"
    how = (_VERSION, torch.__version__, _contents(train), steps, seed, keep)
    path = folder / f"{hashlib.sha256(repr(how).encode()).hexdigest()[:32]}.safetensors"
    if cache and path.exists():
        try:
            return _read(path, train, keep)
        except TriptychError as error:
            notice(f"features that were kept are left aside: {error}")
    notice(
        f"learning features from {len(train):,} training examples, less those that real data's own measures are taken from"
    )
    found = learn_features(train, steps=steps, seed=seed, keep=keep)
    if cache:
        try:
            storage.write_tensors(path, dict(found.net.state_dict()), stamp=found.name)
            _trim(folder, CACHED)
        except TriptychError as error:  # they serve this time
            notice(f"learned features are not kept for another time: {error}")
    return found


def _read(path: Path, train: Split, keep: int) -> Learned:
    """The features in a file, which should be those that its stamp names."""
    net, name = blank_network(train.event_shape), storage.read_stamp(path) or ""
    storage.read_weights(net, path)
    taught, known = name.split("-")[1] if name.count("-") == 2 else "", kept_out(train, keep)
    learners = train.take(np.setdiff1d(np.arange(len(train)), known.rows)) if len(known.rows) else train
    found = Learned(net, taught, known, reading_of(learners))
    if found.name != name:
        raise TriptychError(f"{path} is damaged: it should hold {name or 'features'}, holds {found.name}")
    with contextlib.suppress(OSError):
        os.utime(path)  # used just now
    return found


def _trim(folder: Path, limit: int) -> None:
    """Removes the files used longest ago, until those that are left are at most `limit` bytes together."""
    found = []
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError):  # another process may have removed it
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    for path in least_used(found, limit):
        path.unlink(missing_ok=True)


def _contents(split: Split) -> str:
    """A digest of all that features are learned from: values (on disk, of a fixed part) and attributes."""
    said = hashlib.sha256(f"{len(split)} {split.event_shape} {split.data.dtype}".encode())
    rows = np.arange(len(split)) if split.in_memory else fixed_subset(len(split), _LOOKED_AT)
    for part in np.array_split(rows, max(1, len(rows) // _LOOKED_AT)):
        said.update(split[part].numpy().tobytes())
    for name, values in sorted(split.attributes.items()):
        said.update(f"{name} {split.kinds[name]}".encode() + values.tobytes())
    return said.hexdigest()


def _inception_file(download: bool) -> Path:
    """The weights' file: the one that TRIPTYCH_INCEPTION names, or one in torch's cache."""
    named = os.environ.get("TRIPTYCH_INCEPTION")
    path = Path(named) if named else Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION
    if not path.is_file() and download:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(_INCEPTION_URL, str(path))
        except OSError as error:
            raise TriptychError(f"Inception's weights could not be fetched ({error}): use learned or pixels") from error
    if not path.is_file():
        raise TriptychError(
            f"Inception's weights are not at {path}: put {INCEPTION} (StyleGAN2-ADA's TorchScript) there, name it in "
            "TRIPTYCH_INCEPTION, or use the features learned or pixels"
        )
    return path
