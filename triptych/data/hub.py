"""Data sets from the Hugging Face hub, through `datasets` (imported only when one is asked for)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.album import Album
from triptych.data.arrays import Array
from triptych.data.attributes import RawColumn
from triptych.data.formats.columnar import IMAGE_COLUMNS, of_columns
from triptych.data.layout import SPLIT_NAMES
from triptych.data.pictures import Encoded, one_line
from triptych.errors import TriptychError
from triptych.opening import exists

DOWNLOADS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "celeba": "flwrlabs/celeba",
}
"""The hub ids of sets that have a name here."""
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.-]+)?", re.ASCII)


def read_hub(name: str) -> dict[str, Album | Array]:
    """The splits of `owner/name`, or `owner/name:config`, on the hub, downloaded if they are not in its cache.

    Raises:
        TriptychError: for a hub that cannot be reached, an unknown name, and a set without pictures.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise TriptychError(f"expected hf:owner/name, or hf:owner/name:config, got hf:{name[:99]}: give a path without hf:")
    repository, _, config = name.partition(":")
    if exists(repository):
        raise TriptychError(f"{repository} lies here, and would be read in the hub's place: give ./{repository}")
    import datasets

    try:
        loaded = datasets.load_dataset(repository, *([config] if config else []))
    except Exception as error:  # network, hub and datasets raise many kinds
        raise TriptychError(
            f"cannot get {name} from the Hugging Face hub ({one_line(error)}): check the name and the connection, "
            "or download its files and give their folder"
        ) from None
    return _parts(f"hf:{name}", loaded)


def read_saved(folder: Path) -> dict[str, Album | Array]:
    """A folder that `datasets` wrote by `save_to_disk`."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # broken files make it raise nearly anything
        raise TriptychError(
            f"{folder}: expected a set saved by datasets, but it cannot be read ({one_line(error)}): save it again"
        ) from None
    return _parts(str(folder), loaded)


def _parts(where: str, loaded: Any) -> dict[str, Album | Array]:
    tables = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    return {SPLIT_NAMES.get(split, split): _part(where, table) for split, table in tables.items()}


def _part(where: str, table: Any) -> Album | Array:
    import datasets

    images = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        columns = {name: _column(table, name) for name in table.features}
        return of_columns(where, columns, (where, getattr(table, "_fingerprint", None), len(table)))
    image = next((name for name in IMAGE_COLUMNS if name in images), images[0])
    encoded = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    simple = (datasets.Value, datasets.ClassLabel)
    plain = [name for name, feature in table.features.items() if isinstance(feature, simple)]
    columns = {name: RawColumn(list(table[name]), tuple(getattr(table.features[name], "names", ()))) for name in plain}

    def read(wanted: np.ndarray) -> Iterator[Encoded]:
        for index in wanted.tolist():
            cell = encoded[index][image]
            cell = cell or {"path": None, "bytes": None}
            yield Encoded(index, cell.get("path") or f"row {index}", cell["bytes"])

    first = next((cell for cell in encoded[:100][image] if cell), None)
    if first is not None and first["bytes"] is None:  # a row may say any path
        raise TriptychError(f"{where} names files in place of pictures: download its files and give their folder")
    return Album(where, len(table), read, columns)


def _column(table: Any, name: str) -> RawColumn:
    """Numbers and words, with class names; lists of numbers, which may be the examples, as an array (N, …)."""
    import datasets

    feature = table.features[name]
    if isinstance(feature, datasets.Value | datasets.ClassLabel):
        return RawColumn(np.asarray(table[name]), tuple(getattr(feature, "names", ())))
    stacked = np.asarray(table.with_format("numpy")[name][:])
    return RawColumn(list(table[name]) if stacked.dtype == object else stacked)
