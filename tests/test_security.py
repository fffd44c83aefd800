"""The threat model names tests that exist; the benchmark that looks for what it misses sees what it should."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_threat_model_names_tests_that_exist():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")))
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py")]
    there = {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert len(named) > 15
    assert named <= there, named - there


def watched(tmp_path, code, watch=""):
    """What `benchmarks/chaos_process.py` prints of code that runs under its watch, in a process without torch."""
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
os.environ["TRIPTYCH_CACHE"] = {str(tmp_path / "cache")!r}
from pathlib import Path
from chaos_process import Watch, run
place = Path({str(tmp_path / "case" / "place")!r})
place.mkdir(parents=True)
(place / "mine").write_text("a text")
ended = run(lambda: exec({code!r}), place, Watch({watch}))
print("|".join(ended.outside) or ended.code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PROBES = {
    "import pickle; pickle.loads(pickle.dumps(os.getcwd))": "pickle.find_class",
    "open('../elsewhere', 'w')": "open",
    "os.symlink('../..', 'up'); open('up/elsewhere', 'w')": "open",
    "os.rename('mine', '../elsewhere')": "os.rename",
    "os.system('true')": "os.system",
    "open('mine', 'a').write('x'); os.rename('mine', 'other'); os.remove('other')": "0",
}


@pytest.mark.parametrize("code", PROBES)
def test_the_watch_sees_what_is_outside(code, tmp_path):
    assert watched(tmp_path, code).startswith(PROBES[code])
    assert not [*tmp_path.glob("elsewhere"), *(tmp_path / "case").glob("elsewhere")]


@pytest.mark.parametrize(
    ("watch", "left"),
    [
        ("kill_at=1", {"mine": "a text"}),
        ("kill_at=2", {"mine": "a text", "new": "longer text"}),
        ("kill_at=2, half=True", {"mine": "a text", "new": "longe"}),
        ("kill_at=3", {"mine": "a text", "new": "longer text"}),
        ("kill_at=4", {"mine": "longer text"}),
    ],
)
def test_a_kill_comes_before_its_event(watch, left, tmp_path):
    """The events: new is opened, flushed, renamed, and mine removed."""
    write = (
        "f = open('new', 'w'); f.write('longer text'); f.flush(); os.fsync(f); os.rename('new', 'mine'); os.remove('mine')"
    )
    assert watched(tmp_path, write, watch) == "-9"
    assert {path.name: path.read_text() for path in (tmp_path / "case" / "place").iterdir()} == left
