"""Tables of numbers and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

from triptych.errors import TriptychError
from triptych.report.blocks import Block, header, scrolling
from triptych.report.markup import Names, inline, plain
from triptych.report.numbers import Number

Cell: TypeAlias = str | Number
"""Words with markup, or a number."""


@dataclass(frozen=True, eq=False)
class Table(Block):
    """Rows of cells; the first cell of a row is its name. What all numbers of a row were measured on is said once.

    >>> table = Table(["measure", "VAE"], [["bits/dim", Number(3.5, 0.02, n=500)]], "Likelihoods")
    >>> table.data()["rows"][0]
    {'measure': 'bits/dim', 'VAE': {'value': 3.5, 'stderr': 0.02, 'n': 500}}
    """

    columns: Sequence[str]
    """The head."""
    rows: Sequence[Sequence[Cell]]
    """As many cells as columns in each."""
    caption: str = ""
    """Above it, with markup."""
    note: str = ""
    """Below it, with markup: what the table cannot be read without."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise TriptychError(f"expected {len(self.columns)} cells in every row, got {len(row)}: {row!r:.80}")
        if len(set(self.columns)) < len(self.columns):
            raise TriptychError(f"expected columns of different names, got {', '.join(self.columns)}")

    def html(self, names: Names) -> str:
        """The table in a box of its own, which scrolls."""
        head = "".join(header(name, "col") for name in self.columns)
        body = "".join(_row(row) for row in self.rows)
        caption = f"<figcaption>{inline(self.caption)}</figcaption>" if self.caption else ""
        note = f'<p class="note">{inline(self.note)}</p>' if self.note else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        box = scrolling(table, self.caption or ", ".join(self.columns))
        return f'<figure class="numbers">{caption}{box}{note}</figure>'

    def data(self) -> dict[str, Any]:
        """{"rows": [{column: number or words}]}."""
        rows = [
            {
                name: cell.data() if isinstance(cell, Number) else plain(cell)
                for name, cell in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return {"kind": "table", "caption": plain(self.caption), "note": plain(self.note), "rows": rows}


def _row(row: Sequence[Cell]) -> str:
    counts = {cell.n for cell in row if isinstance(cell, Number)}
    shared = counts.pop() if len(counts) == 1 else None
    first = _words(row[0]) if isinstance(row[0], str) else number(row[0], shared is None)
    said = f' <small class="n">n = {shared:,}</small>' if shared is not None else ""
    cells = "".join(
        f'<td class="number">{number(cell, shared is None)}</td>' if isinstance(cell, Number) else f"<td>{_words(cell)}</td>"
        for cell in row[1:]
    )
    return f'<tr><th scope="row">{first}{said}</th>{cells}</tr>'


def _words(cell: str) -> str:
    return inline(cell)


def number(cell: Number, count: bool) -> str:
    """A number as HTML.

    Args:
        count: whether to say what it was measured on.
    """
    said = f'<span class="value">{escape(cell.shown)}</span>'
    if cell.error:
        said += f' <span class="error">± {escape(cell.error)}</span>'
    if cell.unit:
        said += f' <span class="unit">{escape(cell.unit)}</span>'
    if count and cell.n is not None:
        said += f' <small class="n">n = {cell.n:,}</small>'
    return said + (' <small class="tag">recorded</small>' if cell.recorded else "")
