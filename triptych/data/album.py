"""Pictures in files or table rows, not decoded yet: `Album` knows their names and attributes, and reads the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triptych.data.attributes import Raw
from triptych.data.pictures import Decoder, Encoded, all_grey
from triptych.data.splits import Skipped, Source
from triptych.data.stored import Reading, gather, kept
from triptych.errors import TriptychError

Skips = list[tuple[int, Skipped]]


@dataclass
class Album:
    """One split of encoded pictures."""

    where: str
    """For messages: the folder, file or hub id."""
    count: int
    read: Callable[[np.ndarray], Iterator[Encoded]]
    """The pictures at these sorted indices, one after the other, so that a set need not fit in memory."""
    key: Any
    """What identifies the pictures, for the cache."""
    columns: dict[str, Raw] = field(default_factory=dict)

    def rows(self, wanted: np.ndarray | None, reading: Reading, grey: bool) -> tuple[Source, np.ndarray, Skips]:
        """Decode (all, or those `wanted`): the data, the indices that they had here, and what could not be read."""
        key = ("album", self.key, None if wanted is None else wanted.tobytes(), reading.size, grey)
        indices = np.arange(self.count) if wanted is None else wanted
        found = kept(key, reading.budget)
        if found is None:
            decoder = Decoder(grey, reading.size)
            data = gather(decoder.chunks(self.read(indices)), len(indices), key, reading, lambda: _about(decoder))
            about = _about(decoder)
        else:
            data, about = found
        skipped: Skips = [(int(index), Skipped(*what)) for index, what in about["skipped"]]
        self._tell(skipped, len(indices), reading)
        return data, np.setdiff1d(indices, [index for index, _ in skipped]), skipped

    def grey(self) -> bool:
        """Whether all of them are grey."""
        return all_grey(self.read(np.arange(self.count)))

    def _tell(self, skipped: Skips, count: int, reading: Reading) -> None:
        """One notice for all that could not be read; an error when that is every one."""
        if not skipped:
            return
        named = ", ".join(f"{one.name} ({one.reason})" for _, one in skipped[:3])
        said = f"{len(skipped)} of {count} pictures in {self.where} cannot be read: {named}{', …' * (len(skipped) > 3)}"
        if len(skipped) == count:
            raise TriptychError(f"{said}; expected at least one picture that can, so check or replace the files")
        reading.notice(f"{said}; they are left out")


def _about(decoder: Decoder) -> dict[str, Any]:
    return {"skipped": [[index, list(what)] for index, what in decoder.skipped]}
