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
    there = {
        name for path in (ROOT / "tests").glob("*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 15
    assert named <= there, named - there


PROBES = {
    "import pickle; pickle.loads(pickle.dumps(os.getcwd))": "pickle.find_class",
    "open('../elsewhere', 'w')": "open",
    "os.symlink('../..', 'up'); open('up/elsewhere', 'w')": "open",
    "os.rename('mine', '../elsewhere')": "os.rename",
    "os.system('true')": "os.system",
    "open('mine', 'a').write('x'); os.rename('mine', 'other'); os.remove('other')": "",
}


@pytest.mark.parametrize("code", PROBES)
def test_the_watch_sees_what_is_outside(code, tmp_path):
    """In a process that has not imported torch: what a command does to the world is seen, and stopped."""
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
os.environ["TRIPTYCH_CACHE"] = {str(tmp_path / "cache")!r}
from pathlib import Path
from chaos_process import run
place = Path({str(tmp_path / "case" / "place")!r})
place.mkdir(parents=True)
(place / "mine").write_text("mine")
ended = run(lambda: exec({code!r}), place)
print("|".join(ended.outside))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(PROBES[code]) and bool(done.stdout.strip()) == bool(PROBES[code])
    assert not list(tmp_path.glob("elsewhere")) and not (tmp_path / "case" / "elsewhere").exists()
