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


NOTEBOOKS = {
    "own_pictures.ipynb": ("STEPS, PICTURES = 3, 300", "smiling.png"),
    "three_families.ipynb": ("FACES, SAMPLES = 30, 30", "smiles.png"),
}
"""The parameters that they are run with, and a picture that they write."""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name, tmp_path):
    """The code cells in their order, with smaller numbers in the cell tagged "parameters"; it holds no outputs."""
    cells = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1
    parameters, written = NOTEBOOKS[name]
    tagged[0]["source"] = [parameters]
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    words = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / written).stat().st_size > 100


def test_the_journey_of_a_practitioner(tmp_path, monkeypatch, capfd):
    """From a folder in two classes to edits, scores and a comparison, by the commands alone: the script runs as it stands,
    and the words of its commands are then obeyed by one process, which imports torch once."""
    from triptych.cli import main

    said, shim = tmp_path / "said", tmp_path / "bin" / "triptych"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> "{said}"\nprintf "\\n" >> "{said}"\n')
    shim.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent), "PATH": path}
    words = ["sh", str(EXAMPLES / "journey.sh"), str(tmp_path / "here"), "8", "300"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    here = tmp_path / "here"
    monkeypatch.chdir(here)
    calls = [line.split("\0")[:-1] for line in said.read_text().splitlines()]
    assert [call[0] for call in calls] == ["train", "train", "directions", "edit", "score", "sample", "list", "evaluate"]
    assert [main(call) for call in calls] == [0] * len(calls)
    assert len(list((here / "smiling").rglob("*.png"))) == len(list((here / "photos/not_smiling").iterdir())) > 100
    assert (here / "scores.csv").stat().st_size > 1000 and (here / "new.png").exists()
    told = capfd.readouterr()
    assert "attribute smiling (binary)" in told.err and "runs/gan" in told.out


def test_every_example_is_run():
    assert {p.name for p in EXAMPLES.iterdir() if p.is_file()} == {"journey.sh", "smile.py", *NOTEBOOKS}
