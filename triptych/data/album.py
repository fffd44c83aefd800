"""Pictures in files or table rows, not yet decoded: `Album` knows their names and attributes, and decodes them on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triptych.data.attributes import RawColumn
from triptych.data.pictures import Decoder, Encoded, all_grey
from triptych.data.splits import Skipped, Source
from triptych.data.stored import Options, find_cached, store
from triptych.errors import TriptychError


@dataclass
class Album:
    """One split of encoded pictures."""

    where: str
    """For messages: the folder, file or hub id."""
    count: int
    """The number of pictures."""
    read: Callable[[np.ndarray], Iterator[Encoded]]
    """The pictures at these sorted indices, one after the other, so that a set need not fit in memory."""
    key: Any
    """What identifies the pictures, for the cache."""
    columns: dict[str, RawColumn] = field(default_factory=dict)
    """Attributes as they were found, by name."""

    def rows(self, wanted: np.ndarray | None, options: Options, grey: bool) -> tuple[Source, np.ndarray, dict[int, Skipped]]:
        """Decodes all pictures or those `wanted`: the stored values, their indices here, and by index what was skipped."""
        key = ("album", self.key, None if wanted is None else wanted.tobytes(), options.size, grey)
        indices = np.arange(self.count) if wanted is None else wanted
        if cached := find_cached(key, options.budget):
            data, about = cached
            skipped = {int(index): Skipped(*what) for index, what in about["skipped"]}
        else:
            decoder = Decoder(grey, options.size)
            data = store(
                decoder.chunks(self.read(indices)), len(indices), key, options, lambda: {"skipped": decoder.skipped}
            )
            skipped = dict(decoder.skipped)
        self._report(skipped, len(indices), options)
        return data, np.setdiff1d(indices, list(skipped)), skipped

    def grey(self) -> bool:
        """Whether all of them are grey."""
        return all_grey(self.read(np.arange(self.count)))

    def _report(self, skipped: dict[int, Skipped], count: int, options: Options) -> None:
        """One notice about all pictures that could not be read; an error if there is no other."""
        if not skipped:
            return
        named = ", ".join(f"{one.name} ({one.reason})" for one in list(skipped.values())[:3])
        line = f"{len(skipped)} of {count} pictures in {self.where} cannot be read: {named}{', …' * (len(skipped) > 3)}"
        if len(skipped) == count:
            raise TriptychError(f"{line}; expected at least one readable picture: check or replace the files")
        options.notice(f"{line}; they are left out")
