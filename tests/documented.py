"""What the pages show: commands, files and names, read from their text."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_COMMAND = re.compile(r"(?:^|[ ;])(python (?=benchmarks/\w+\.py)|triptych (?=[a-z]))(.*)")
_FILE = re.compile(r"(?:triptych|tests|benchmarks|examples|docs)/[\w/]+\.(?:py|sh|ipynb|md)")
_NAMED = re.compile(r"`(triptych/[\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in blocks and inline code, without comments; what stands for a value is given one."""
    lines = [line for kind, block in _FENCE.findall(text) if kind in ("", "sh") for line in block.splitlines()]
    prose = _FENCE.sub("", text)
    lines += [line for line in prose.splitlines() if line.startswith("    ")]
    lines += [" ".join(code.split()) for code in _CODE.findall(prose)]
    for line in lines:
        for part in line.split("; "):
            if found := _COMMAND.search(part):
                yield list(_words(found[1] + re.sub(r"<[^>]*>", "X", found[2])))


def _words(line: str) -> Iterator[str]:
    before = ""
    for word in shlex.split(line, comments=True):
        word = word.strip("[]").removesuffix("…") or {"--data": "faces", "train": "vae"}.get(before, "")
        word = {"T": "0.7"}.get(word, word)
        if word:
            yield word
        before = word


def files(text: str) -> set[str]:
    """Paths of the repository that are named in inline code."""
    return {path for code in _CODE.findall(_FENCE.sub("", text)) for path in _FILE.findall(code)}


def names(text: str) -> set[tuple[str, str]]:
    """(file, name) of every name that is said to stand in a file."""
    return {(file, x) for file, listed in _NAMED.findall(text) for x in _CODE.findall(listed)}
