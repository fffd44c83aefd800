"""What the pages promise is there: commands that are understood, files and names, two clicks from the front page."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys

import pytest
from documented import PAGES, ROOT, commands, files, name, names

TEXTS = {name(page): page.read_text(encoding="utf-8") for page in PAGES}
RECORD = [page for page in TEXTS if page.startswith("docs/record/")]
SMOKE = runpy.run_path(str(ROOT / "benchmarks/smoke.py"))
BENCHMARKS = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "parse_args(" in path.read_text()}
FAMILIES = ("docs/vae.md", "docs/gan.md", "docs/flow.md", "docs/composing.md")


def test_every_command_is_understood():
    """Those of all pages and of `make bench-smoke`, and --help of the other benchmarks: parsed, and no further."""
    small = SMOKE["SMALL"] | SMOKE["FROM_DATA"]
    shown = {tuple(words) for text in TEXTS.values() for words in commands(text)}
    shown |= {("python", f"benchmarks/{script}.py", *words.split()) for script, words in small.items()}
    left = {f"benchmarks/{name}.py" for name in BENCHMARKS} - {words[1] for words in shown}
    shown |= {("python", path, "--help") for path in left}
    assert len(shown) > 150
    lines = "\n".join(json.dumps(words) for words in sorted(shown))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = [sys.executable, str(ROOT / "tests/parse_documented.py")]
    done = subprocess.run(script, input=lines, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_benchmark_has_a_small_form():
    """Or a reason for having none; pages cite no other benchmark that is a command."""
    small, left = SMOKE["SMALL"] | SMOKE["FROM_DATA"], SMOKE["LEFT_OUT"]
    assert BENCHMARKS - {"smoke"} == small.keys() | left.keys() and not small.keys() & left.keys()
    assert SMOKE["WRITES"].keys() <= small.keys()


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_names_exist(page):
    assert [file for file in files(TEXTS[page]) if not (ROOT / file).exists()] == []
    assert [pair for pair in names(TEXTS[page]) if pair[1] not in _defined(pair[0])] == []


def _defined(file):
    """Names of classes, functions and values of a file, and of the methods of its classes as Class.method."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {ast.unparse(target) for target in targets}
    return found


def test_a_familys_page_leads_from_equations_to_names():
    for page in FAMILIES:
        assert "```math" in TEXTS[page] and len(names(TEXTS[page])) >= 8, page


@pytest.mark.parametrize("page", RECORD)
def test_every_section_of_the_record_has_its_command(page):
    sections = re.split(r"^## ", TEXTS[page], flags=re.MULTILINE)[1:]
    told = re.compile(r"(benchmarks|tests)/\w+\.py|`?(make|triptych) [a-z]|    python ")
    assert [section.splitlines()[0] for section in sections if not told.search(section)] == []


def test_every_figure_of_the_summary_has_its_command():
    rows = [line for line in TEXTS["docs/results.md"].splitlines() if line.startswith("| [")]
    assert len(rows) > 25
    assert [row for row in rows if not re.search(r"`(python|make|tests/)|the same", row.split("|")[-2])] == []


@pytest.mark.parametrize("page", ["docs/vae.md", "docs/gan.md", "docs/flow.md", "README.md"])
def test_every_measured_figure_of_a_page_has_its_command(page):
    section = re.split(r"^## (?:Measured|What is measured)$", TEXTS[page], flags=re.MULTILINE)[1].split("\n## ")[0]
    rows = re.findall(r"^\|(?! ---|---| *\|).*$", section, re.MULTILINE)
    assert [row for row in rows[1:] if not re.search(r"`(python|make|tests/)[^`]*` \|$", row)] == []


def test_two_clicks_answer_three_questions():
    front = TEXTS["docs/index.md"]
    assert all(f"]({page}.md)" in front for page in ("which", "own-photographs", "trust"))


def test_every_make_target_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in TEXTS.items():
        assert set(re.findall(r"`make ([\w-]+)`", text)) <= targets, page


def test_the_journey_is_that_of_the_example():
    """The commands of the script stand on the page, but for how long and how many."""
    page = [" ".join(words) for words in commands(TEXTS["docs/own-photographs.md"])]
    script = (ROOT / "examples/journey.sh").read_text()
    for line in re.findall(r"^triptych .*", script, re.MULTILINE):
        verb, run = line.split()[1:3]
        assert any(shown.startswith(f"triptych {verb} {run}") for shown in page), line
