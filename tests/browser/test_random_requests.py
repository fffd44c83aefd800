"""Some hundreds of random requests to every route, valid and invalid: never a 500, and what comes back is what is described.

`python benchmarks/studio_load.py RUN --random 10000` sends more.
"""

import subprocess
import sys
from pathlib import Path

import httpx2


def test_no_request_is_a_server_error(address, tmp_path):
    tool = Path(sys.executable).parent / "schemathesis"
    words = [str(tool), "run", f"{address}openapi.json", "--max-examples", "20", "--mode", "all", "--phases", "fuzzing"]
    words += ["--checks", "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"]
    words += ["--request-timeout", "30", "--suppress-health-check", "all", "--no-color", "--seed", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert httpx2.get(f"{address}api/health").json()["status"] == "ok"
