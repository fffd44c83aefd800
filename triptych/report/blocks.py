"""What a section is made of: pictures alone, in rows, under a slider, one over another; blocks side by side, or folded away.

A block of one's own is a subclass of `Block`: it says its HTML, whose text it escapes by `markup.inline`, and its figures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from triptych.errors import TriptychError
from triptych.report.markup import Names, inline, plain
from triptych.report.pictures import Picture, check_alt, image


class Block(ABC):
    """A part of a section."""

    @abstractmethod
    def html(self, names: Names) -> str:
        """The block as HTML; ids come from `names`."""

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """What the block shows in numbers and words, for JSON; {"kind": …, …}."""


def captioned(content: str, caption: str, classes: str) -> str:
    """A `figure` of HTML and a caption with markup."""
    said = f"<figcaption>{inline(caption)}</figcaption>" if caption else ""
    return f'<figure class="{classes}">{content}{said}</figure>'


@dataclass(frozen=True, eq=False)
class Figure(Block):
    """One picture.

    >>> import torch
    >>> Figure(torch.zeros(1, 8, 8, dtype=torch.uint8), "a black square", "Nothing **yet**.").data()
    {'kind': 'figure', 'alt': 'a black square', 'caption': 'Nothing yet.'}
    """

    picture: Picture
    """Stored values (C, H, W), a Pillow picture or PNG bytes."""
    alt: str
    """What it shows, for those who cannot see it."""
    caption: str = ""
    """Below it, with markup."""

    def __post_init__(self) -> None:
        check_alt(self.alt)

    def html(self, names: Names) -> str:
        """The picture over its caption."""
        return captioned(image(self.picture, self.alt), self.caption, "picture")

    def data(self) -> dict[str, Any]:
        """Its words."""
        return {"kind": "figure", "alt": self.alt, "caption": plain(self.caption)}


@dataclass(frozen=True, eq=False)
class Strip(Block):
    """Rows of pictures, a label for each row and each column.

    >>> import torch
    >>> black = torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> Strip([[black, black]], ["VAE"], ["before", "after"], "two black squares").data()["columns"]
    ['before', 'after']
    """

    rows: Sequence[Sequence[Picture]]
    """Pictures, as many in each row."""
    row_labels: Sequence[str]
    """One for each row; "" for a single row that needs none."""
    column_labels: Sequence[str]
    """One for each column; empty: none."""
    alt: str
    """What the whole shows; each picture adds its row and column."""
    caption: str = ""
    """Below it, with markup."""

    def __post_init__(self) -> None:
        check_rows(self.rows, self.row_labels, self.column_labels, self.alt)

    def html(self, names: Names) -> str:
        """A table of pictures."""
        table = picture_table(self.rows, self.row_labels, self.column_labels, self.alt)
        return captioned(table, self.caption, "strip")

    def data(self) -> dict[str, Any]:
        """Its words."""
        said = {"rows": list(self.row_labels), "columns": list(self.column_labels)}
        return {"kind": "strip", "alt": self.alt, "caption": plain(self.caption), **said}


@dataclass(frozen=True, eq=False)
class Frames(Block):
    """A strip whose columns are the places of a slider: every row, such as a model, shows the same column at once.

    Without JavaScript and in print it is the strip.

    >>> import torch
    >>> black, white = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.full((1, 8, 8), 255, dtype=torch.uint8)
    >>> Frames([[black, white]], ["VAE"], ["−1", "+1"], [-1, 1], "black to white", name="smile").data()["values"]
    [-1, 1]
    """

    rows: Sequence[Sequence[Picture]]
    """The frames of each row."""
    row_labels: Sequence[str]
    """One for each row; "" for a single row that needs none."""
    labels: Sequence[str]
    """One for each place of the slider, as it is shown."""
    values: Sequence[float]
    """The number at each place, in rising order."""
    alt: str
    """What the whole shows."""
    caption: str = ""
    """Below it, with markup."""
    name: str = "place"
    """What the slider moves, such as smile or temperature."""
    start: int | None = None
    """The place that is shown first, counted from 0; None: the middle."""

    def __post_init__(self) -> None:
        check_rows(self.rows, self.row_labels, self.labels, self.alt)
        if len(self.labels) < 2 or len(self.values) != len(self.labels):
            raise TriptychError(
                f"a slider needs two places or more, and a value and a label for each, got {len(self.labels)} labels and "
                f"{len(self.values)} values"
            )
        if self.start is not None and not 0 <= self.start < len(self.labels):
            raise TriptychError(f"start should be a place from 0 to {len(self.labels) - 1}, got {self.start}")

    def html(self, names: Names) -> str:
        """The strip, and a slider that JavaScript reveals."""
        name, start = names("frames"), len(self.labels) // 2 if self.start is None else self.start
        slider = (
            f'<p class="slider" hidden><label for="{name}">{inline(self.name)}</label>'
            f'<input type="range" id="{name}" min="0" max="{len(self.labels) - 1}" value="{start}" step="1">'
            f'<output for="{name}"></output></p>'
        )
        table = picture_table(self.rows, self.row_labels, self.labels, self.alt)
        return captioned(table + slider, self.caption, "strip frames")

    def data(self) -> dict[str, Any]:
        """Its words, and the values."""
        said = {"name": self.name, "rows": list(self.row_labels), "columns": list(self.labels), "values": list(self.values)}
        return {"kind": "frames", "alt": self.alt, "caption": plain(self.caption), **said}


@dataclass(frozen=True, eq=False)
class Wipe(Block):
    """Two pictures of one size, one over the other, with a line between them that is moved.

    Without JavaScript and in print they stand side by side.

    >>> import torch
    >>> black = torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> Wipe(black, black, ("original", "reconstruction"), "the same square twice").data()["labels"]
    ['original', 'reconstruction']
    """

    before: Picture
    """Shown left of the line."""
    after: Picture
    """Shown right of it."""
    labels: tuple[str, str]
    """Of both."""
    alt: str
    """What both show."""
    caption: str = ""
    """Below them, with markup."""

    def __post_init__(self) -> None:
        check_alt(self.alt)

    def html(self, names: Names) -> str:
        """Both pictures, and a slider that JavaScript reveals."""
        name, (before, after) = names("wipe"), self.labels
        sides = "".join(
            f'<span class="side">{image(picture, f"{self.alt}: {label}")}<span class="label">{inline(label)}</span></span>'
            for picture, label in ((self.before, before), (self.after, after))
        )
        slider = (
            f'<p class="slider" hidden><label for="{name}">{inline(before)} | {inline(after)}</label>'
            f'<input type="range" id="{name}" min="0" max="100" value="50" step="1"></p>'
        )
        return captioned(f'<span class="sides">{sides}</span>{slider}', self.caption, "wipe")

    def data(self) -> dict[str, Any]:
        """Its words."""
        return {"kind": "wipe", "alt": self.alt, "caption": plain(self.caption), "labels": list(self.labels)}


@dataclass(frozen=True, eq=False)
class Beside(Block):
    """Blocks side by side where the page is wide enough, else below one another."""

    blocks: Sequence[Block]
    """Two or more of about one size."""

    def html(self, names: Names) -> str:
        """A row that wraps."""
        return f'<div class="beside">{"".join(block.html(names) for block in self.blocks)}</div>'

    def data(self) -> dict[str, Any]:
        """The blocks'."""
        return {"kind": "beside", "blocks": [block.data() for block in self.blocks]}


@dataclass(frozen=True, eq=False)
class Details(Block):
    """Blocks that are folded away under a line."""

    summary: str
    """The line, with markup."""
    blocks: Sequence[Block]
    """What opens below it."""

    def html(self, names: Names) -> str:
        """A disclosure."""
        inner = "".join(block.html(names) for block in self.blocks)
        return f"<details><summary>{inline(self.summary)}</summary>{inner}</details>"

    def data(self) -> dict[str, Any]:
        """The blocks'."""
        return {"kind": "details", "summary": plain(self.summary), "blocks": [block.data() for block in self.blocks]}


@dataclass(frozen=True, eq=False)
class Text(Block):
    """A paragraph between other blocks."""

    text: str
    """With markup."""

    def html(self, names: Names) -> str:
        """The paragraph."""
        return f"<p>{inline(self.text)}</p>"

    def data(self) -> dict[str, Any]:
        """Its words."""
        return {"kind": "text", "text": plain(self.text)}


@dataclass(frozen=True, eq=False)
class Points(Block):
    """A list of sentences."""

    texts: Sequence[str]
    """Each with markup."""

    def html(self, names: Names) -> str:
        """The list."""
        return f'<ul class="points">{"".join(f"<li>{inline(text)}</li>" for text in self.texts)}</ul>'

    def data(self) -> dict[str, Any]:
        """Its words."""
        return {"kind": "points", "texts": [plain(text) for text in self.texts]}


def check_rows(rows: Sequence[Sequence[Picture]], row_labels: Sequence[str], column_labels: Sequence[str], alt: str) -> None:
    """Raises a `TriptychError` unless rows have one length, and each row and column its label."""
    check_alt(alt)
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1 or lengths == [0]:
        raise TriptychError(f"expected rows of equally many pictures, got {[len(row) for row in rows]}")
    if len(row_labels) != len(rows) or (column_labels and len(column_labels) != lengths[0]):
        raise TriptychError(
            f"expected {len(rows)} row labels and {lengths[0]} column labels, got {len(row_labels)} and {len(column_labels)}"
        )


def picture_table(
    rows: Sequence[Sequence[Picture]], row_labels: Sequence[str], column_labels: Sequence[str], alt: str
) -> str:
    """A table of pictures that scrolls inside its own box."""
    labelled = any(row_labels)
    corner = "<td></td>" if labelled else ""
    titles = "".join(header(label, "col") for label in column_labels)
    head = f"<thead><tr>{corner}{titles}</tr></thead>" if titles else ""
    body = ""
    for label, pictures in zip(row_labels, rows, strict=True):
        first = header(label, "row") if labelled else ""
        columns = column_labels or [""] * len(pictures)
        cells = "".join(
            f"<td>{image(picture, _said(alt, label, column), _IN_ROWS)}</td>"
            for picture, column in zip(pictures, columns, strict=True)
        )
        body += f"<tr>{first}{cells}</tr>"
    return scrolling(f"<table>{head}<tbody>{body}</tbody></table>", alt)


def _said(alt: str, row: str, column: str) -> str:
    """The alternative text of one picture of a strip."""
    return f"{alt}: {place}" if (place := ", ".join(filter(None, map(plain, (row, column))))) else alt


_IN_ROWS = 144  # pixels that a picture in a row is enlarged to, at most


def header(label: str, scope: Literal["row", "col"]) -> str:
    """A heading of a row or column; a mere cell where there is nothing to say.

    >>> header("VAE", "col"), header("", "row")
    ('<th scope="col">VAE</th>', '<td></td>')
    """
    return f'<th scope="{scope}">{inline(label)}</th>' if label.strip() else "<td></td>"


def scrolling(table: str, label: str) -> str:
    """A box that scrolls sideways, by the keyboard too, where its table is wider than the page."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(plain(label))}">{table}</div>'
