"""Text as HTML: **bold**, `code` and [a link](#anchor) inside the page are the whole markup, everything else is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from triptych.errors import TriptychError

ANCHOR = re.compile(r"[a-z][a-z0-9-]*")
_MARKUP = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\[([^\]]+)\]\(#([a-z][a-z0-9-]*)\)")


def inline(text: str) -> str:
    """Plain text, or text with the markup, as HTML.

    >>> inline("a **bold** claim: `x < y`, see [the table](#table)")
    'a <strong>bold</strong> claim: <code>x &lt; y</code>, see <a href="#table">the table</a>'
    >>> inline("<script>")
    '&lt;script&gt;'
    """
    parts, end = [], 0
    for found in _MARKUP.finditer(text):
        parts += [escape(text[end : found.start()]), _element(found)]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


def plain(text: str) -> str:
    """The same text without its markup, for places that hold no elements.

    >>> plain("a **bold** `x`")
    'a bold x'
    """
    return _MARKUP.sub(lambda found: plain(found[2]) if found[2] else found[1] or found[3], text)


def _element(found: re.Match[str]) -> str:
    code, bold, link, anchor = found.groups()
    if code:
        return f"<code>{escape(code)}</code>"
    if bold:
        return f"<strong>{inline(bold)}</strong>"
    return f'<a href="#{anchor}">{inline(link)}</a>'


def element(name: str, content: str, attributes: Mapping[str, str | None] | None = None) -> str:
    """An element with content that is HTML already; attributes that are None are left out.

    >>> element("p", "a &lt; b", {"class": 'the "first"', "id": None})
    '<p class="the &quot;first&quot;">a &lt; b</p>'
    """
    said = "".join(f' {key}="{escape(value)}"' for key, value in (attributes or {}).items() if value is not None)
    return f"<{name}{said}>{content}</{name}>"


def check_anchor(anchor: str) -> None:
    """Raises a `TriptychError` for what cannot be an anchor.

    >>> check_anchor("exact-likelihood")
    """
    if not ANCHOR.fullmatch(anchor):
        raise TriptychError(
            f"an anchor should be small letters, digits and hyphens, got {anchor!r}: name it like exact-likelihood"
        )


class Names:
    """Ids that are unique in one page, given as they are asked for.

    >>> names = Names(("table",))
    >>> names("table"), names("frames"), names("frames")
    ('table-2', 'frames', 'frames-2')
    """

    def __init__(self, taken: tuple[str, ...] = ()):
        self._taken = set(taken)

    def __call__(self, stem: str) -> str:
        """The stem, or the stem with the first number that is free."""
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return name


def links(text: str) -> list[str]:
    """The anchors that a text links to.

    >>> links("see [the table](#table)")
    ['table']
    """
    return [found[4] for found in _MARKUP.finditer(text) if found[4]]
