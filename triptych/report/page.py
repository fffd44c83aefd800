"""A page as data, and as one HTML file that needs nothing else: no library, no network, readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from triptych import storage
from triptych.errors import TriptychError, check_choice
from triptych.report.blocks import Block
from triptych.report.markup import Names, check_anchor, inline, links, plain

Outcome = Literal["holds", "does not hold here", "recorded"]
_OUTCOMES: dict[str, tuple[str, str]] = {
    "holds": ("yes", "✓"),
    "does not hold here": ("no", "✕"),
    "recorded": ("kept", "◦"),
}

_OWN = ("top", "contents")  # ids of the page's own parts


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, and how that was found.

    >>> Verdict("holds", "The bound is 3.1 nats below.", "triptych evaluate RUN --k 1000").holds
    'holds'
    """

    holds: Outcome
    """holds, does not hold here, or recorded: measured earlier, elsewhere."""
    sentence: str
    """What was found, with its number, with markup."""
    how: str
    """How it was measured: a command or a method, with markup."""

    def __post_init__(self) -> None:
        check_choice("holds", self.holds, _OUTCOMES)

    def html(self) -> str:
        """A box of its own."""
        kind, _ = _OUTCOMES[self.holds]
        return (
            f'<div class="verdict {kind}"><p>{self.badge()} {inline(self.sentence)}</p>'
            f'<p class="how">Measured by: {inline(self.how)}</p></div>'
        )

    def badge(self) -> str:
        """The outcome alone."""
        kind, sign = _OUTCOMES[self.holds]
        said = f'<span aria-hidden="true">{sign}</span> <span class="word">{self.holds}</span>'
        return f'<span class="badge {kind}">{said}</span>'

    def data(self) -> dict[str, str]:
        """The verdict for JSON."""
        return {"holds": self.holds, "sentence": plain(self.sentence), "how": plain(self.how)}


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a page, with what it claims, shows and finds.

    >>> Section("exact", "A flow is exact", ("Its round trip is `1e-6`.",)).data()["text"]
    ['Its round trip is 1e-6.']
    """

    anchor: str
    """Its address inside the page: small letters, digits and hyphens."""
    title: str
    """Its heading, with markup."""
    text: tuple[str, ...] = ()
    """Paragraphs with markup, before the blocks."""
    blocks: tuple[Block, ...] = ()
    """Figures, tables, charts."""
    verdict: Verdict | None = None
    """What was found; shown in the contents too."""

    def __post_init__(self) -> None:
        check_anchor(self.anchor)

    def html(self, names: Names) -> str:
        """A `section` under its heading."""
        text = "".join(f"<p>{inline(paragraph)}</p>" for paragraph in self.text)
        verdict = self.verdict.html() if self.verdict else ""
        blocks = "".join(block.html(names) for block in self.blocks)
        title = f'<h2 id="{self.anchor}"><a href="#{self.anchor}">{inline(plain(self.title))}</a></h2>'
        return f'<section aria-labelledby="{self.anchor}">{title}{text}{verdict}{blocks}</section>'

    def data(self) -> dict[str, Any]:
        """The section for JSON."""
        said: dict[str, Any] = {"anchor": self.anchor, "title": plain(self.title), "text": [plain(t) for t in self.text]}
        return (
            said
            | {"blocks": [block.data() for block in self.blocks]}
            | ({"verdict": self.verdict.data()} if self.verdict else {})
        )


@dataclass(frozen=True, eq=False)
class Page:
    """A report.

    >>> page = Page("A tour", "Three families.", (Section("exact", "A flow is exact"),))
    >>> page.html()[:15], page.json()["sections"][0]["title"]
    ('<!doctype html>', 'A flow is exact')
    """

    title: str
    """At the head, and of the window."""
    lead: str
    """What the page is, in a few sentences with markup."""
    sections: tuple[Section, ...]
    """In order, of different anchors, none of them top or contents."""
    footer: str = ""
    """Versions, machine, time, with markup."""
    counted: bool = True
    """Whether the contents count the sections; False where titles have numbers of their own."""

    def __post_init__(self) -> None:
        anchors = [section.anchor for section in self.sections]
        if repeated := sorted({a for a in anchors if anchors.count(a) > 1}):
            raise TriptychError(f"expected sections of different anchors, got {repeated[0]!r} twice: rename one")
        if own := [anchor for anchor in anchors if anchor in _OWN]:
            raise TriptychError(f"the page itself has an anchor {own[0]!r}: name the section otherwise")

    def html(self) -> str:
        """The whole page.

        Raises:
            TriptychError: for a link to an anchor that no section has.
        """
        style, script = _asset("page.css"), _asset("page.js")
        names = Names((*_OWN, *(s.anchor for s in self.sections)))
        sections = "".join(section.html(names) for section in self.sections)
        self._check_links()
        policy = (
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        )
        head = (
            f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><meta name="generator" content="triptych">'
            f'<title>{escape(plain(self.title))}</title><link rel="icon" href="data:,"><style>{style}</style>'
        )
        body = (
            f'<a class="skip" href="#contents">Skip to the text</a><header id="top"><h1>{inline(self.title)}</h1>'
            f'<p class="lead">{inline(self.lead)}</p></header>{self._contents()}<main id="contents" tabindex="-1">{sections}'
            f"</main><footer><p>{inline(self.footer)}</p></footer><script>{script}</script>"
        )
        return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'

    def json(self) -> dict[str, Any]:
        """The same figures and words, for programs."""
        said = {"title": plain(self.title), "lead": plain(self.lead), "footer": plain(self.footer)}
        return said | {"sections": [section.data() for section in self.sections]}

    def _contents(self) -> str:
        rows = "".join(
            f'<li><a href="#{s.anchor}">{inline(plain(s.title))}</a>{s.verdict.badge() if s.verdict else ""}</li>'
            for s in self.sections
        )
        kind = "" if self.counted else ' class="uncounted"'
        return f'<nav aria-label="Contents"><ol{kind}>{rows}</ol></nav>' if len(self.sections) > 1 else ""

    def _check_links(self) -> None:
        known = {section.anchor for section in self.sections}
        for anchor in links(" ".join(_words([self.lead, self.footer, *(s.__dict__ for s in self.sections)]))):
            if anchor not in known:
                raise TriptychError(
                    f"a link goes to #{anchor}, which no section has: sections are {', '.join(sorted(known))}"
                )


def write(page: Page, path: Path) -> None:
    """Writes the page, and its figures as JSON beside it: report.html and report.json, each all of it or nothing.

    Raises:
        TriptychError: for a name that does not end in .html, and a place that cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise TriptychError(f"a report is written under a name that ends in .html, got {path.name!r}")
    content = page.html().encode("utf-8", "replace")
    storage.write_json(path.with_suffix(".json"), page.json())
    storage.write_bytes(path, content)


def _words(value: Any) -> Iterator[str]:
    """Every text in a section, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (word for part in value.values() for word in _words(part))
    elif isinstance(value, list | tuple):
        yield from (word for part in value for word in _words(part))
    elif isinstance(value, Block | Verdict):
        yield from _words(value.__dict__)


@cache
def _asset(name: str) -> str:
    return (resources.files("triptych.report") / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
