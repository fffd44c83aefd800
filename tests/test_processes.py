"""Two processes train one run: they agree, and only one of them writes."""

import json
import os
import subprocess
import sys

from safetensors.torch import load_file

import triptych


def test_two_processes_make_one_run(tmp_path):
    out = tmp_path / "run"
    words = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
             "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
             "-m", "triptych", "train", "vae", "--data", "digits", "--steps", "20", "--training.save-every", "10",
             "--training.log-every", "5", "--training.batch", "16", "--out", str(out)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert triptych.load(out).event_shape == (1, 8, 8)
    assert all(t.isfinite().all() for t in load_file(out / "model.safetensors").values())
