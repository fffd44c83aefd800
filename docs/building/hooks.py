"""What building the pages needs besides MkDocs: the reference, formulas, and a search that works from a disk.

Every room of the package that names what it exports (`__all__`) has a page, whose text is its docstrings, and every such
name is in it. A fence called `math` holds LaTeX, which becomes MathML while the page is built: browsers draw it, nothing is
loaded. Commands whose comments would not fit beside them have them above.
"""

from __future__ import annotations

import ast
import re
import zlib
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parents[2] / "triptych"
_FOREIGN = re.compile(r'<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)="(?:https?:)?//[^"]*"')
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMENTED = re.compile(r"^(\S.*?) {2,}(# .*)$", re.MULTILINE)
_WIDTH = 92  # characters of a line of code that a page shows


def on_config(config: MkDocsConfig) -> None:
    """The rooms' pages stand first in the navigation's last section."""
    (section,) = (entry for entry in config.nav or [] if "Reference" in entry)
    section["Reference"] = [*({room: _place(room)} for room in exports()), *section["Reference"]]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """A page for each room."""
    for room, names in exports().items():
        files.append(File.generated(config, _place(room), content=_page(room, names)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its formulas as MathML, and with commands that can be read whole."""
    return _FENCE.sub(_shown, markdown)


def _shown(fence: re.Match[str]) -> str:
    kind, block = fence.groups()
    if kind == "math":
        return _mathml(block)
    if kind or max(map(len, block.splitlines()), default=0) <= _WIDTH:
        return fence[0]
    return "```\n" + _COMMENTED.sub(r"\2\n\1", block) + "```"


def on_post_build(config: MkDocsConfig) -> None:
    """The search index as a script beside its JSON, which is all that a page on a disk may read; and what must not be.

    Raises:
        PluginError: for public names without a description, and for what a page would load from elsewhere.
    """
    site = Path(config.site_dir)
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    (site / "search" / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
    foreign = {x for page in site.rglob("*.html") for x in _FOREIGN.findall(page.read_text(encoding="utf-8"))}
    if foreign:
        raise PluginError(f"pages load from elsewhere: {', '.join(sorted(foreign))}")
    described = _described(site / "objects.inv")
    described |= {*exports(), "triptych.__version__"}  # rooms have pages of their own
    missing = [
        f"{room}.{name}"
        for room, names in exports().items()
        for name in names
        if not described & {f"{room}.{name}", _alike(room, names).get(name)}
    ]
    if missing:
        raise PluginError(f"public names without a docstring: {', '.join(missing)}")


def exports() -> dict[str, list[str]]:
    """What each room exports, by the room's name, read from the syntax trees."""
    rooms = {}
    for file in [PACKAGE / "__init__.py", *sorted(PACKAGE.glob("*/__init__.py"))]:
        for node in _parsed(file).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                rooms[".".join(file.relative_to(PACKAGE.parent).parent.parts)] = ast.literal_eval(node.value)
    return rooms


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _place(room: str) -> str:
    return f"api/{room.removeprefix('triptych.') if '.' in room else 'index'}.md"


def _page(room: str, names: list[str]) -> str:
    """The room's docstring and all that it exports: what is called as a file of the room, by its home."""
    alike = "".join(f"\n::: {place}\n    options: {{heading_level: 2}}\n" for place in _alike(room, names).values())
    return f"::: {room}\n    options: {{show_root_full_path: true}}\n{alike}"


def _alike(room: str, names: list[str]) -> dict[str, str]:
    """Where those names are defined that are also a file's in the room: in the file that the room imports them from."""
    folder = PACKAGE.parent.joinpath(*room.split("."))
    homes = {
        alias.name: f"{node.module}.{alias.name}"
        for node in _parsed(folder / "__init__.py").body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return {name: homes.get(name, f"{room}.{name}") for name in names if (folder / f"{name}.py").exists()}


def _described(inventory: Path) -> set[str]:
    """The names in a Sphinx inventory: four lines of text, then compressed ones, a name each."""
    packed = inventory.read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}


def _mathml(latex: str) -> str:
    latex = re.sub(r"\\(log|det) ", r"\\\1\\, ", latex)  # the converter leaves no space after a function's name
    return f'<div class="math">{convert(" ".join(latex.split()), display="block")}</div>'
