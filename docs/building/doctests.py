"""Docstrings as the pages show them: examples (`>>>`) and aligned columns are code, not prose."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_COLUMNS = re.compile(r"\S {2,}\S")  # two blanks inside a line: columns that were aligned by hand


class Doctests(Extension):
    """Fences every paragraph of a docstring that is an example or a table."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The docstring with fences around examples and tables; what is indented anyway is left as it is."""
    return "\n\n".join(_fenced(paragraph) for paragraph in re.split(r"\n[ \t]*\n", text))


def _fenced(paragraph: str) -> str:
    lines = paragraph.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(">>> ")), None)
    if first is not None:
        said = [*lines[:first], ""] if first else []
        return "\n".join([*said, "```pycon", *lines[first:], "```"])
    aligned = [line for line in lines if _COLUMNS.search(line)]
    if not paragraph.startswith((" ", "\t")) and len(lines) > 1 and len(aligned) > len(lines) / 2:
        return "\n".join(["```text", *lines, "```"])
    return paragraph
