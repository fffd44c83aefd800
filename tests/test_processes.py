"""Two processes train one run: they agree, and only one of them writes."""

import json
import os
import subprocess
import sys

import pytest

import triptych

PROGRAM = """
import json, sys, torch
from triptych.cli import main
assert main(sys.argv[2:]) == 0
from triptych.training.processes import processes
state = processes()
with open(f"{sys.argv[1]}/rank{state.process_index}.json", "w") as file:
    json.dump([state.num_processes, state.process_index], file)
"""


FAMILIES = {
    # all three stages
    "vae": [
        *("--data", "digits", "--given", "label", "--model.prior", "gaussian"),
        *("--objective.sharpen", "8", "--objective.sharpen-width", "4"),
    ],
    # some pair of 32 is always ranked rightly, which is all that is asked: p rises by 32 / 3200 at each of 20 steps
    "dcgan": [
        *("--data", "digits", "--model.width", "4", "--augment", "ada"),
        *("--objective.ada-target=-1", "--objective.ada-images", "3200"),
    ],
    # 4×4 whole for two steps, then each level fades in for two and is whole for two: no step trains all layers
    "progressive": ["--data", "faces", "--size", "16", "--model.width", "4", "--model.images", "64"],
}


def launch(tmp_path, family, length=("--steps", "20")):
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    train = ["train", family, *FAMILIES[family], *length, "--training.save-every", "10", "--training.batch", "16"]
    options = ["--training.log-every", "5", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*words, str(tmp_path / "program.py"), str(tmp_path), *train, *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_make_one_run(tmp_path, family):
    done = launch(tmp_path, family)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1)] == [[2, 0], [2, 1]]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    if family == "dcgan":
        assert [line["ada_p"] for line in lines] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    model, state = triptych.load(tmp_path / "run"), json.loads((tmp_path / "run/state/000000020/state.json").read_text())
    assert model.event_shape == ((3, 16, 16) if model.grows else (1, 8, 8)) and state["step"] == 20
    assert model.sample(2).isfinite().all() and not any(line["bad_steps"] for line in lines)


def test_two_processes_plan_the_same_steps_and_save_at_the_same_time(tmp_path):
    """All that goes by the clock goes by the first one's: else they would wait for each other for ever."""
    by_clock = ("--training.save-minutes", "0.002")
    done = launch(tmp_path, "vae", ("--minutes", "0.1", "--objective.sharpen", "0.3", *by_clock))
    assert done.returncode == 0, done.stderr[-3000:]
    steps = json.loads((tmp_path / "run/recipe.json").read_text())["recipe"]["steps"]
    state = json.loads((tmp_path / f"run/state/{steps:09d}/state.json").read_text())
    assert state["step"] == steps and f"for {steps:,} steps" in done.stdout
    assert list((tmp_path / "run/samples").iterdir())
