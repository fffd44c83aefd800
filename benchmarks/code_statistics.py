"""What the code looks like in figures, and which room imports which: read from the syntax trees, nothing is imported.

python benchmarks/code_statistics.py                                        a markdown table for triptych/
python benchmarks/code_statistics.py --against ../old/triptych              two trees side by side
python benchmarks/code_statistics.py --graph docs/figures/imports.svg       the imports between rooms (.md: as mermaid)

Definitions. A line of code is not blank, a comment or part of a docstring. The length of a function is the lines of code of
its body, functions inside it included; they count as functions too, lambdas do not. A one-call helper is a function or
method with a private name that is used once in its file, by a call, and imported nowhere. A public name is a class, a
function, or a method of a public class, without an underscore in front; a method that overrides one with a docstring needs
none. Imports are counted wherever they stand, also inside functions. A room is a module or package at the top of the tree,
but for its `__init__` and `__main__`.
"""

from __future__ import annotations

import argparse
import ast
import io
import math
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Import:
    """One imported module of the same tree: by which module, and where in it."""

    importer: str
    imported: str
    in_function: bool
    for_types: bool


class File:
    """A parsed file.

    Attributes:
        name: of the module, such as triptych.data.splits.
    """

    def __init__(self, path: Path, root: Path):
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        parts = path.relative_to(root.parent).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)

    @cached_property
    def code(self) -> set[int]:
        """The numbers of the lines of code."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        lines = {n for t in tokens if t.type not in LAYOUT for n in range(t.start[0], t.end[0] + 1)}
        lines -= {n for n, line in enumerate(self.text.splitlines(), 1) if not line.strip()}
        strings = [node for node in ast.walk(self.tree) if isinstance(node, ast.Expr) and is_text(node.value)]
        return lines - {n for node in strings for n in range(node.lineno, node.end_lineno + 1)}

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions and methods, nested ones included."""
        return [node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS)]

    def length(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        """Lines of code of a function's body."""
        return len(self.code & set(range(function.body[0].lineno, function.end_lineno + 1)))

    def helpers(self) -> list[str]:
        """Private functions and methods that are used once here, by a call."""
        nodes = list(ast.walk(self.tree))
        uses = Counter(used_name(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute))
        calls = {used_name(node.func) for node in nodes if isinstance(node, ast.Call)}
        private = [f.name for f in self.functions if f.name.startswith("_") and not f.name.startswith("__")]
        return [name for name in private if uses[name] == 1 and name in calls]

    def imports(self, modules: set[str]) -> Iterator[Import]:
        """Imports of these modules."""
        for node, in_function, for_types in statements(self.tree):
            for name in imported_names(node, self.name.split(".") + ["__init__"] * self.is_package):
                parent = name.rpartition(".")[0]
                module = name if name in modules else parent
                if module in modules and module != self.name:
                    yield Import(self.name, module, in_function, for_types)


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def used_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def statements(node: ast.AST, in_function: bool = False, for_types: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    """All nodes below, each with whether it is inside a function and under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        inside = in_function or isinstance(child, FUNCTIONS)
        types = for_types or (isinstance(child, ast.If) and used_name(child.test) == "TYPE_CHECKING")
        yield child, inside, types
        yield from statements(child, inside, types)


def imported_names(node: ast.AST, importer: list[str]) -> list[str]:
    """The full names that a node imports: of modules, or of what is in them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = importer[: -node.level] if node.level else []
    prefix = ".".join(base + ([node.module] if node.module else []))
    return [f"{prefix}.{alias.name}" for alias in node.names]


class Tree:
    """A package's files and the imports between them."""

    def __init__(self, root: Path):
        self.root = root
        self.files = [File(path, root) for path in sorted(root.rglob("*.py"))]
        modules = {file.name for file in self.files}
        self.imports = [found for file in self.files for found in file.imports(modules)]

    def statistics(self) -> dict[str, str]:
        """The figures by what they are called."""
        lengths = sorted(file.length(function) for file in self.files for function in file.functions)
        lines = {file.name: len(file.text.splitlines()) for file in self.files}
        largest = max(lines, key=lines.__getitem__)
        helpers, missing = self.helpers(), self.undocumented()
        return {
            "files": f"{len(self.files)}",
            "lines of code": f"{sum(len(file.code) for file in self.files):,}",
            "functions": f"{len(lengths):,}",
            "function length, median": f"{quantile(lengths, 0.5)}",
            "function length, 90th percentile": f"{quantile(lengths, 0.9)}",
            "function length, maximum": f"{lengths[-1]}",
            "functions over 40 lines": f"{sum(length > 40 for length in lengths)}",
            "largest file, lines": f"{lines[largest]} ({largest})",
            "files over 400 lines": f"{sum(count > 400 for count in lines.values())}",
            "one-call private helpers": f"{len(helpers)} ({len(helpers) / len(lengths):.0%} of functions)",
            "public names without a docstring": f"{len(missing)}",
            "imports inside functions": f"{self.inside_functions()}",
            "… of the package itself": f"{len({i for i in self.imports if i.in_function})}",
            "files in import cycles": self.cycles(types=False),
            "… with imports for types": self.cycles(types=True),
        }

    def helpers(self) -> list[str]:
        """One-call private helpers, by module and name."""
        taken = {name for file in self.files for node in ast.walk(file.tree) for name in imported_names(node, [])}
        return [name for file in self.files for own in file.helpers() if (name := f"{file.name}.{own}") not in taken]

    def undocumented(self) -> list[str]:
        """Public names without a docstring, by module."""
        documented: dict[str, set[str]] = {}
        bases: dict[str, list[str]] = {}
        for node in (node for file in self.files for node in ast.walk(file.tree) if isinstance(node, ast.ClassDef)):
            documented.setdefault(node.name, set()).update(f.name for f in public(node) if ast.get_docstring(f))
            bases[node.name] = [
                used_name(getattr(base, "value", base) if isinstance(base, ast.Subscript) else base) for base in node.bases
            ]
        return [f"{file.name}.{name}" for file in self.files for name in missing_docstrings(file.tree, documented, bases)]

    def inside_functions(self) -> int:
        found = (s for file in self.files for s in statements(file.tree))
        return sum(isinstance(node, ast.Import | ast.ImportFrom) and inside for node, inside, _ in found)

    def cycles(self, types: bool) -> str:
        """How many files hang together in circles, by circle."""
        pairs = {(i.importer, i.imported) for i in self.imports if types or not i.for_types}
        return " + ".join(str(len(group)) for group in strongly_connected(graph_of(pairs))) or "0"

    def rooms(self) -> tuple[dict[str, list[str]], set[tuple[str, str]]]:
        """Imports between rooms, and those of them that are for types only."""
        pairs, real = set(), set()
        for found in self.imports:
            a, b = (f"{name}.__init__".split(".")[1] for name in (found.importer, found.imported))
            if a != b and not {a, b} & {"__init__", "__main__"}:
                pairs.add((a, b))
                real |= set() if found.for_types else {(a, b)}
        return graph_of(pairs), pairs - real


def graph_of(pairs: set[tuple[str, str]]) -> dict[str, list[str]]:
    """Sorted successors by node."""
    return {node: sorted(b for a, b in pairs if a == node) for node in sorted({n for pair in pairs for n in pair})}


def quantile(values: list[int], share: float) -> int:
    """The smallest of the sorted values that at least this share does not exceed."""
    return values[math.ceil(share * len(values)) - 1]


def public(node: ast.ClassDef | ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [f for f in node.body if isinstance(f, FUNCTIONS) and not f.name.startswith("_")]


def missing_docstrings(tree: ast.Module, documented: dict[str, set[str]], bases: dict[str, list[str]]) -> Iterator[str]:
    yield from (f.name for f in public(tree) if not ast.get_docstring(f))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.name
            inherited = set().union(*(documented.get(name, set()) for name in ancestors(node.name, bases)))
            yield from (
                f"{node.name}.{f.name}" for f in public(node) if not ast.get_docstring(f) and f.name not in inherited
            )


def ancestors(name: str, bases: dict[str, list[str]]) -> set[str]:
    """The names of a class and of all its bases."""
    return reachable(name, {**{b: [] for bs in bases.values() for b in bs}, **bases}) | {name}


def reachable(start: str, graph: dict[str, list[str]]) -> set[str]:
    """What can be reached from a node in one or more steps."""
    seen: set[str] = set()
    todo = list(graph[start]) if start in graph else []
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += graph[node]
    return seen


def strongly_connected(graph: dict[str, list[str]]) -> list[set[str]]:
    """Groups of two or more nodes that reach one another, the largest first."""
    below = {node: reachable(node, graph) for node in graph}
    groups = {frozenset({b for b in below[a] if a in below[b]}) for a in graph if a in below[a]}
    return sorted((set(group) for group in groups), key=lambda group: (-len(group), min(group)))


def levels(graph: dict[str, list[str]]) -> list[list[str]]:
    """Rooms by floor, from those that import nothing upwards; rooms in a circle share a floor."""
    below = {name: reachable(name, graph) for name in graph}
    floor: dict[str, int] = {}
    for name in sorted(graph, key=lambda name: (len(below[name] | {name}), name)):  # what lies below has fewer below it
        circle = {other for other in below[name] if name in below[other]} | {name}
        floor[name] = max((floor[b] + 1 for n in circle for b in graph[n] if b not in circle), default=0)
    return [sorted(n for n in floor if floor[n] == i) for i in range(max(floor.values()) + 1)]


def is_implied(a: str, b: str, graph: dict[str, list[str]]) -> bool:
    """Whether a imports b by way of another room as well."""
    return any(b in reachable(c, graph) for c in graph[a] if c != b and a not in reachable(c, graph))


def mermaid(graph: dict[str, list[str]], types: set[tuple[str, str]]) -> str:
    """The graph for markdown; dotted arrows are imports for types."""
    arrows = [f"  {a} {'-.->' if (a, b) in types else '-->'} {b}" for a in graph for b in graph[a]]
    return "\n".join(["```mermaid", "graph TD", *arrows, "```"]) + "\n"


ROW, GAP, HEIGHT, MARGIN = 64, 26, 28, 20


def svg(graph: dict[str, list[str]], types: set[tuple[str, str]], title: str) -> str:
    """The graph drawn, each room above all that it imports.

    Dark arrows are the imports that no other path implies, pale ones the rest, dashed ones for types only; red ones close a
    circle.
    """
    rows = ordered(levels(graph)[::-1], graph)
    widths = {name: 22 + 8 * len(name) for row in rows for name in row}
    width = max(7 * len(title), *(sum(widths[name] + GAP for name in row) for row in rows)) + 2 * MARGIN
    places = {}
    for i, row in enumerate(rows):
        x = (width - sum(widths[name] + GAP for name in row) + GAP) / 2
        for name in row:
            places[name] = (x + widths[name] / 2, MARGIN + 30 + i * ROW)
            x += widths[name] + GAP
    arrows = [arrow(a, b, places, graph, (a, b) in types) for a in graph for b in graph[a]]
    boxes = [box(name, x, y, widths[name]) for name, (x, y) in places.items()]
    height = MARGIN + 30 + len(rows) * ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    text = f'<text x="{MARGIN}" y="{MARGIN}" font-family="sans-serif" font-size="13">{escape(title)}</text>'
    heads = [HEAD.format(*colour) for colour in COLOURS.items()]
    return "\n".join(
        [head, *heads, f'<rect width="{width}" height="{height}" fill="white"/>', text, *sorted(arrows), *boxes, "</svg>\n"]
    )


COLOURS = {"pale": "#c4ccd4", "dark": "#33475b", "red": "#d62728"}
HEAD = (
    '<marker id="{}" markerWidth="7" markerHeight="6" refX="6" refY="3" orient="auto">'
    '<path d="M0,0 L7,3 L0,6 z" fill="{}"/></marker>'
)


def ordered(rows: list[list[str]], graph: dict[str, list[str]]) -> list[list[str]]:
    """The same rows, each sorted by the mean place of its rooms' neighbours, to cross fewer arrows."""
    near = {n: set(graph[n]) | {m for m in graph if n in graph[m]} for n in graph}
    for _ in range(8):
        place = {n: (i + 0.5) / len(row) for row in rows for i, n in enumerate(row)}
        rows = [sorted(row, key=lambda n: (sum(place[m] for m in near[n]) / max(1, len(near[n])), n)) for row in rows]
    return rows


def arrow(a: str, b: str, places: dict[str, tuple[float, float]], graph: dict[str, list[str]], for_types: bool) -> str:
    (x0, y0), (x1, y1) = places[a], places[b]
    colour = "red" if a in reachable(b, graph) else "pale" if is_implied(a, b, graph) else "dark"
    start, end = y0 + HEIGHT, y1 if y1 > y0 else y1 + HEIGHT  # on one floor: an arc from below to below
    bend = (end - start) / 2
    turns = (start + bend, end - bend) if y1 > y0 else (start + 24, end + 24)
    dash = ' stroke-dasharray="4 3"' if for_types else ""
    order = ("pale", "dark", "red").index(colour)
    return (
        f'<path data-order="{order}" d="M{x0:.1f},{start:.1f} C{x0:.1f},{turns[0]:.1f} {x1:.1f},{turns[1]:.1f} '
        f'{x1:.1f},{end:.1f}" fill="none" stroke="{COLOURS[colour]}" stroke-width="1.2" marker-end="url(#{colour})"{dash}>'
        f"<title>{a} imports {b}</title></path>"
    )


def box(name: str, x: float, y: float, width: float) -> str:
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y}" width="{width}" height="{HEIGHT}" rx="6" fill="#eef3f8" stroke="#33475b"/>'
        f'<text x="{x:.1f}" y="{y + 19}" text-anchor="middle" font-family="monospace" font-size="13">{name}</text>'
    )


def table(trees: list[Tree]) -> str:
    """The figures as markdown, a column for each tree."""
    columns = [tree.statistics() for tree in trees]
    lines = ["| | " + " | ".join(f"`{tree.root}`" for tree in trees) + " |", "|---|" + "---:|" * len(trees)]
    lines += [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).parent.parent / "triptych")
    parser.add_argument("--against", type=Path, help="another tree, for a second column")
    parser.add_argument("--graph", type=Path, help="file for the imports between rooms, .svg or .md")
    parser.add_argument("--list", action="store_true", help="name the one-call helpers and what lacks a docstring")
    options = parser.parse_args()
    tree = Tree(options.tree)
    print(table([tree] + ([Tree(options.against)] if options.against else [])))
    if options.list:
        print("\none-call helpers:", *tree.helpers(), "\nwithout a docstring:", *tree.undocumented(), sep="\n")
    if options.graph:
        graph, types = tree.rooms()
        title = f"{tree.root.name}: imports between rooms, each above what it imports"
        options.graph.parent.mkdir(parents=True, exist_ok=True)
        options.graph.write_text(mermaid(graph, types) if options.graph.suffix == ".md" else svg(graph, types, title))


if __name__ == "__main__":
    main()
