"""The studio under load: many clients edit on loopback, for a while; latency, refusals and memory.

python benchmarks/studio_load.py RUN [--clients 50 --seconds 60]
python benchmarks/studio_load.py RUN --clients 1,5,10,25,50 --seconds 15       # latency against the number of clients
python benchmarks/studio_load.py RUN --random 10000              # random requests to every route (schemathesis)

Each client opens a picture and then sets a random strength of a random direction, one request after another, with a pause
of 50 ms, as a dragged slider has. The studio is a process of its own, and its memory is the kernel's count of what it holds.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, begin, write
from PIL import Image

ROOT = Path(__file__).parent.parent
_PAUSE = 0.05
ROUTES = 18


def start(run: str) -> tuple[subprocess.Popen[str], str]:
    """A studio of one run, and its address."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "triptych", "studio", run, "--port", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"studio: (http://\S+)/", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, found[1]
    raise SystemExit(f"triptych studio {run} did not start")


def memory(process: subprocess.Popen[str]) -> float:
    """MiB that a process holds."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def face(seed: int) -> bytes:
    """A picture of noise, as PNG."""
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(target, "PNG")
    return target.getvalue()


class Crowd:
    """Visitors who have all opened a picture before the first of them edits; their latencies and answers."""

    def __init__(self, url: str, clients: int, seconds: float):
        self.url, self.clients, self.seconds = url, clients, seconds
        self.took: list[float] = []
        self.answers: Counter[int] = Counter()

    async def run(self) -> dict[str, Any]:
        """What was measured of all of them together."""
        ready = asyncio.Barrier(self.clients)
        await asyncio.gather(*(self._visit(seed, ready) for seed in range(self.clients)))
        p50, p95, p99 = np.percentile(self.took, [50, 95, 99]).tolist()
        edits = len(self.took)
        each = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "edits": edits, "edits_per_s": edits / self.seconds}
        return each | {"answers": {str(status): n for status, n in self.answers.items()}}

    async def _visit(self, seed: int, ready: asyncio.Barrier) -> None:
        import httpx2

        async with httpx2.AsyncClient(base_url=self.url, timeout=120) as session:
            model = (await session.get("/api/models")).json()["models"][0]
            files = {"model": (None, model["id"]), "file": ("face.png", face(seed), "image/png")}
            while (opened := await session.post("/api/encode", files=files)).status_code == 503:
                await asyncio.sleep(float(opened.headers["retry-after"]))
            picture = opened.json()["picture"]
            await ready.wait()
            await self._drag(session, picture, model["directions"], random.Random(seed))

    async def _drag(self, session: Any, picture: str, directions: list[dict[str, Any]], chance: random.Random) -> None:
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            direction = chance.choice(directions)
            asked = {"picture": picture, "set": {direction["name"]: chance.uniform(*direction["range"])}}
            began = time.perf_counter()
            answer = await session.post("/api/edit", json=asked)
            self.answers[answer.status_code] += 1
            if answer.status_code == 200:
                self.took.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(float(answer.headers.get("retry-after", _PAUSE)))


def load(run: str, clients: list[int], seconds: float) -> dict[str, Any]:
    """Each number of clients in turn, against one studio."""
    process, url = start(run)
    try:
        asyncio.run(Crowd(url, 2, 5).run())  # its threads and caches are there
        found: dict[str, Any] = {}
        for n in clients:
            held = [memory(process)]
            watch = threading.Thread(target=_watch, args=(process, held, seconds), daemon=True)
            watch.start()
            found[str(n)] = asyncio.run(Crowd(url, n, seconds).run())
            watch.join()
            found[str(n)]["memory_mib"] = held
        return found
    finally:
        process.terminate()
        process.wait()


def _watch(process: subprocess.Popen[str], held: list[float], seconds: float) -> None:
    """Memory at each third of the time, to tell what grows from what a picture of each visitor takes."""
    for _ in range(3):
        time.sleep(seconds / 3)
        held.append(memory(process))


def attack(run: str, count: int, out: Path) -> dict[str, Any]:
    """At least `count` random requests to every route, valid and not, by schemathesis, seed after seed, as some routes have
    no more different ones: no answer may be a 500, nor take long."""
    process, url = start(run)
    try:
        before, began, lines, sent = memory(process), time.perf_counter(), [], 0
        for seed in range(20):
            said = _fuzzed(url, max(20, -(-(count - sent) // ROUTES)), seed, out)
            lines += [line.strip() for line in said.splitlines() if re.search(r"generated|passed|failed|Server error", line)]
            sent += sum(int(number.replace(",", "")) for number in re.findall(r"([\d,]+) generated", said))
            print(f"seed {seed}: {sent:,} requests, {time.perf_counter() - began:.0f} s", flush=True)
            if sent >= count or process.poll() is not None:
                break
        found = {"requests": sent, "said": lines, "seconds": time.perf_counter() - began}
        return found | {"memory_mib": [before, memory(process)], "alive": process.poll() is None}
    finally:
        process.terminate()
        process.wait()


def _fuzzed(url: str, examples: int, seed: int, out: Path) -> str:
    """What schemathesis says of random requests, `examples` at most to each route."""
    words = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json", "--max-examples",
             str(examples), "--mode", "all", "--phases", "fuzzing", "--checks", "not_a_server_error", "--seed", str(seed),
             "--request-timeout", "30", "--suppress-health-check", "all", "--no-color"]  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, cwd=out).stdout


def figure(found: dict[str, Any], path: Path) -> None:
    """Latency against the number of clients."""
    from triptych.figures import curves

    numbers = sorted(int(n) for n in found if n.isdigit())
    series = {name: (numbers, [found[str(n)][key] for n in numbers]) for name, key in (("p50", "p50_ms"), ("p95", "p95_ms"))}
    curves(series, path, xlabel="clients, each with a pause of 50 ms", ylabel="milliseconds for an edit", ylim=(0, None))


def main() -> None:
    parser = arguments(__doc__, "studio_load")
    parser.add_argument("run")
    parser.add_argument("--clients", default="50")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--random", type=int, default=0)
    options = parser.parse_args()
    out = begin(options)
    if options.random:
        write(out, "attack", attack(options.run, options.random, out))
        return
    clients = [int(n) for n in options.clients.split(",")]
    found = load(options.run, clients, options.seconds)
    write(out, f"load_{options.clients.replace(',', '_')}", found)
    if len(clients) > 1:
        figure(found, out / "studio_load.png")


if __name__ == "__main__":
    main()
