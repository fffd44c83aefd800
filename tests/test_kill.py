"""kill -9 at random moments of a real training process: what resumes equals an uninterrupted run to the bit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

STEPS = 400
COMMAND = [sys.executable, "-m", "triptych", "train"]


def arguments(folder):
    return [
        "vae", "--data", "digits", "--steps", str(STEPS), "--model.hidden", "16", "--model.latent-dim", "2",
        "--training.save-every", "7", "--training.log-every", "5", "--training.sample-every", "100",
        "--out", str(folder),
    ]  # fmt: skip


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run_until(folder, words, moment):
    """Runs the command, and kills it `moment` seconds after its first checkpoint; whether it had ended by itself."""
    process = subprocess.Popen([*COMMAND, *words], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while not list((folder / "state").glob("0*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(moment)
    ended = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert not ended or process.returncode == 0, errors.decode()
    return ended


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, seed):
    subprocess.run([*COMMAND, *arguments(tmp_path / "whole")], check=True, capture_output=True, env=environment())
    moments, folder = random.Random(seed), tmp_path / "killed"
    ended = run_until(folder, arguments(folder), moments.uniform(0, 0.6))
    for _ in range(2):
        if not ended:
            ended = run_until(folder, ["--resume", str(folder)], 4 + moments.uniform(0, 1.0))
    if not ended:
        subprocess.run([*COMMAND, "--resume", str(folder)], check=True, capture_output=True, env=environment())
    for name in ("model.safetensors", f"state/{STEPS:09d}/state.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
