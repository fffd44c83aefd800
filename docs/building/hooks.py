"""What building the pages needs besides MkDocs: the reference, formulas, and a search that works from a disk.

Every room of the package that names what it exports (`__all__`) has a page, whose text is its docstrings, and every such name
is in it. A fence called `math` holds LaTeX, which becomes MathML while the page is built: browsers draw it, nothing is
loaded.
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
_MATH = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    """The rooms' pages stand first in the navigation's last section."""
    (section,) = (entry for entry in config.nav or [] if "Reference" in entry)
    section["Reference"] = [*map(_place, exports()), *section["Reference"]]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """A page for each room."""
    for room, names in exports().items():
        files.append(File.generated(config, _place(room), content=_page(room, names)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its formulas as MathML."""
    return _MATH.sub(lambda found: _mathml(found[1]), markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """The search index as a script beside its JSON, which is all that a page on a disk may read; and whether a name is missing.

    Raises:
        PluginError: for public names without a description.
    """
    site = Path(config.site_dir)
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    (site / "search" / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
    described = _described(site / "objects.inv")
    missing = [f"{room}.{name}" for room, names in exports().items() for name in names if not _found(room, name, described)]
    if missing:
        raise PluginError(f"public names without a docstring: {', '.join(missing)}")


def exports() -> dict[str, list[str]]:
    """What each room exports, by the room's name, read from the syntax trees."""
    found = {}
    for file in [PACKAGE / "__init__.py", *sorted(PACKAGE.glob("*/__init__.py"))]:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[".".join(file.relative_to(PACKAGE.parent).parent.parts)] = ast.literal_eval(node.value)
    return found


def _place(room: str) -> str:
    return f"api/{room.removeprefix('triptych.') if '.' in room else 'index'}.md"


def _page(room: str, names: list[str]) -> str:
    """The room's docstring and all that it exports; what is called as its own file is, and modules, are asked for by name."""
    folder = PACKAGE.parent.joinpath(*room.split("."))
    own = [f"{room}.{name}.{name}" for name in names if room != "triptych" and (folder / f"{name}.py").exists()]
    modules = [f"{room}.{name}" for name in names if room == "triptych" and (folder / f"{name}.py").exists()]
    members = "".join(f"\n::: {name}\n    options: {{heading_level: 2}}\n" for name in [*own, *modules])
    return f"::: {room}\n    options: {{show_root_full_path: true}}\n{members}"


def _described(inventory: Path) -> set[str]:
    """The names in a Sphinx inventory: four lines of text, then compressed ones, a name each."""
    packed = inventory.read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}


def _found(room: str, name: str, described: set[str]) -> bool:
    """Whether a name is described: under its own name, in the file that is called like it, or as a room with its own page."""
    own = f"{room}.{name}"
    return name == "__version__" or own in exports() or bool(described & {own, f"{own}.{name}"})


def _mathml(latex: str) -> str:
    return f'<div class="math">{convert(" ".join(latex.split()), display="block")}</div>'
