"""Pictures in files or table rows, not yet decoded: `Album` knows their names and attributes, and decodes them on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from triptych.data import holding
from triptych.data.attributes import RawColumn
from triptych.data.pictures import Encoded, Survey, decoded
from triptych.data.splits import Skipped, Source
from triptych.data.stored import Options, keep
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
    columns: dict[str, RawColumn] = field(default_factory=dict)
    """Attributes as they were found, by name."""
    aside: tuple[str, ...] = ()
    """What lies beside the pictures and was not read, and why."""
    divided: str = ""
    """How splits were told apart, where they came with the data: by folders, by files."""
    places: np.ndarray | None = None
    """Of a part of a set, where its examples stood in that, (N,)."""
    names: tuple[str, ...] = ()
    """The files of a folder, relative to it; () for rows of a table."""

    @cached_property
    def prints(self) -> np.ndarray:
        """Fingerprints of the encoded pictures (N,)."""
        return holding.of_contents(picture.content for picture in self.read(np.arange(self.count)))

    copies: ClassVar[bool] = False  # equal pictures are held out together: testing on a copy would measure memory

    def part(self, rows: np.ndarray) -> Album:
        """The pictures at these indices as an album of their own."""

        def read(wanted: np.ndarray) -> Iterator[Encoded]:
            chosen = rows[wanted]
            return (one._replace(row=int(i)) for i, one in zip(wanted, self.read(chosen), strict=True))

        columns = {name: raw._replace(values=[raw.values[i] for i in rows]) for name, raw in self.columns.items()}
        names = tuple(self.names[i] for i in rows) if self.names else ()
        return Album(self.where, len(rows), read, columns, self.aside, self.divided, rows, names)

    def rows(self, wanted: np.ndarray, options: Options, survey: Survey) -> tuple[Source, np.ndarray, dict[int, Skipped]]:
        """Decodes the pictures at these sorted indices: the stored values, their indices, and by index what was skipped.

        Raises:
            TriptychError: if none of them can be read; a notice is enough about some.
        """
        key = ("album", self.prints[wanted].tobytes(), options.size, survey.grey, survey.depth)
        unread: list[tuple[int, Skipped]] = []
        chunks = decoded(self.read(wanted), survey, options.size, unread)

        def about() -> dict[str, Any]:
            return {"skipped": [(int(np.searchsorted(wanted, row)), what) for row, what in unread]}

        data, noted = keep(chunks, len(wanted), key, options, about, costly=True)
        skipped = {int(wanted[at]): Skipped(*what) for at, what in noted["skipped"]}
        if skipped:
            named = ", ".join(f"{one.name} ({one.reason})" for one in list(skipped.values())[:3])
            some = f"{named}{', …' * (len(skipped) > 3)}"
            line = f"{len(skipped)} of {len(wanted)} pictures in {self.where} cannot be read: {some}"
            if len(skipped) == len(wanted):
                raise TriptychError(f"{line}; expected at least one readable picture: check or replace the files")
            options.notice(f"{line}; they are left out")
        return data, np.setdiff1d(wanted, list(skipped)), skipped
