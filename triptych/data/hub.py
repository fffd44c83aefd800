"""Data sets from the Hugging Face hub, through `datasets` (imported only when one is asked for)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from triptych.data.album import Album
from triptych.data.attributes import RawColumn
from triptych.data.files import IMAGE_COLUMNS, Part
from triptych.data.folder import SPLIT_NAMES
from triptych.data.pictures import Encoded, one_line
from triptych.errors import TriptychError

DOWNLOADS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "celeba": "flwrlabs/celeba",
}
"""The hub ids of sets that have a name here."""


def read_hub(name: str) -> dict[str, Part]:
    """The splits of `owner/name`, or `owner/name:config`, on the hub, downloaded if they are not in its cache.

    Raises:
        TriptychError: for a hub that cannot be reached, an unknown name, and a set without pictures.
    """
    import datasets

    repository, _, config = name.partition(":")
    try:
        loaded = datasets.load_dataset(repository, *([config] if config else []))
    except Exception as error:  # network, hub and datasets raise many kinds
        raise TriptychError(
            f"cannot get {name} from the Hugging Face hub ({one_line(error)}): check the name and the connection, "
            "or download its files and give their folder"
        ) from None
    tables = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    return {SPLIT_NAMES.get(split, split): _album(f"hf:{name}", table) for split, table in tables.items()}


def _album(where: str, table: Any) -> Album:
    import datasets

    images = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        got = ", ".join(table.features)
        raise TriptychError(f"{where}: expected a column of pictures, got {got}: choose a set of pictures")
    image = next((name for name in IMAGE_COLUMNS if name in images), images[0])
    encoded = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    simple = (datasets.Value, datasets.ClassLabel)
    plain = [name for name, feature in table.features.items() if isinstance(feature, simple)]
    columns = {name: RawColumn(list(table[name]), tuple(getattr(table.features[name], "names", ()))) for name in plain}

    def read(wanted: np.ndarray) -> Iterator[Encoded]:
        for index in wanted.tolist():
            cell = encoded[index][image]
            yield Encoded(index, cell.get("path") or f"row {index}", cell["bytes"] or cell.get("path"))

    return Album(where, len(table), read, (where, getattr(table, "_fingerprint", None), len(table)), columns)
