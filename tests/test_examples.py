"""The examples run as they stand, only shorter."""

import json
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


@pytest.mark.parametrize("name, parameters", [("own_pictures.ipynb", "STEPS, PICTURES = 3, 300")])
def test_notebook(name, parameters, tmp_path):
    """The code cells in their order, with smaller numbers in the cell tagged "parameters"; it holds no outputs."""
    cells = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1
    tagged[0]["source"] = [parameters]
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    words = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "smiling.png").stat().st_size > 100


def test_the_journey_of_a_practitioner(tmp_path):
    """From a folder in two classes to edits, scores and a comparison, by the commands alone."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent), "PATH": path}
    words = ["sh", str(EXAMPLES / "journey.sh"), str(tmp_path / "here"), "8", "600"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    here = tmp_path / "here"
    assert len(list((here / "smiling").rglob("*.png"))) == len(list((here / "photos/not_smiling").iterdir())) > 100
    assert (here / "scores.csv").stat().st_size > 1000 and (here / "new.png").exists()
    assert "attribute smiling (binary)" in done.stderr and "runs/gan" in done.stdout


def test_every_example_is_run():
    assert {p.name for p in EXAMPLES.iterdir() if p.is_file()} == {"journey.sh", "smile.py", "own_pictures.ipynb"}
