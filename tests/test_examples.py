"""The examples run as they stand, only shorter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("name, arguments", [("smile.py", ["--steps", "3", "--faces", "300"])])
def test_example(name, arguments, tmp_path):
    out = tmp_path / "out.png"
    words = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 1000


def test_every_example_is_run():
    assert {p.name for p in EXAMPLES.glob("*.py")} == {"smile.py"}
