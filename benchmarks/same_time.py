"""Equal seconds of training on Fashion-MNIST: triptych's Glow and normflows' of the same shape, test bits/dim against time.

28×28, two levels of 16 steps, width 96, batch 64, fused Adam at 1e-3 with 100 steps of warm-up and a cosine of the time,
no average of weights, for both. The clock counts drawing, dequantising and stepping, and never evaluation. Both sides run at
once, on one thread each: what else the machine does befalls both alike.

    TRIPTYCH_DATA=… python benchmarks/same_time.py                 eight minutes, then same_time.json and same_time.png
    TRIPTYCH_DATA=… python benchmarks/same_time.py --side ours     one side alone, its curve as JSON
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from race_flow import HERE, Flow, Shape, adam, counted, measure, normflows, ours
from torch import Tensor

SHAPE = Shape((1, 28, 28), levels=2, depth=16, width=96)
SIDES = {"ours": ours, "normflows": normflows}


def pictures(data: str, part: str) -> Tensor:
    """uint8 (N, 1, 28, 28) from the IDX files of a data set beside the others."""
    path = Path(os.environ.get("TRIPTYCH_DATA", ".")) / data / f"{part}-images-idx3-ubyte.gz"
    if not path.exists():
        raise SystemExit(f"no {part} pictures of {data}: set TRIPTYCH_DATA to the folder that holds {data}/{path.name}")
    return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())[16:]), dtype=torch.uint8).view(-1, 1, 28, 28)


def dequantised(v: Tensor, u: Tensor) -> Tensor:
    """(v + u) / 256 with u ~ U[0, 1): bits per dimension of this density bound the picture's (Theis et al. 2016)."""
    return (v + u) / 256


def bits_per_dim(flow: Flow, x: Tensor) -> dict[str, float]:
    """−log₂ p(x) / D + 8 over the rows of x, in float32, with its standard error."""
    model, bf16 = flow.model, getattr(flow.model, "bf16", None)
    model.eval()
    if bf16:
        model.bf16 = False
    with torch.no_grad():
        nats = torch.cat([-flow.log_prob(batch) for batch in x.split(250)]).double()
    if bf16:
        model.bf16 = bf16
    model.train()
    bits = nats / (math.log(2) * x[0].numel()) + 8
    return {"bits_per_dim": bits.mean().item(), "stderr": bits.std().item() / math.sqrt(len(bits)), "n": len(bits)}


def rate_at(step: int, fraction: float) -> float:
    """1e-3, warmed up over 100 steps and falling by a cosine of the time gone to 2 %."""
    return 1e-3 * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0))))


@dataclass
class Learning:
    """Training by a plain loop; `seconds` counts what a step needs, and never evaluation."""

    flow: Flow
    data: Tensor
    batch: int = 64
    seconds: float = 0.0
    steps: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        self.optimizer = adam(self.flow.model, 1e-3)

    def step(self, total: float) -> None:
        """One step of `total` seconds' worth; without a finite loss it changes nothing, and is counted."""
        start = time.perf_counter()
        v = self.data[torch.randint(len(self.data), (self.batch,))]
        x = dequantised(v, torch.rand(v.shape))
        if self.steps == 0:
            self.flow.initialize(x)
        self.optimizer.param_groups[0]["lr"] = rate_at(self.steps, self.seconds / total)
        self.optimizer.zero_grad()
        loss = -self.flow.log_prob(x).mean()
        if torch.isfinite(loss):
            loss.backward()
            self.optimizer.step()
        else:
            self.skipped += 1
        self.steps += 1
        self.seconds += time.perf_counter() - start


def learnt(side: str, total: float, data: str, every: float, bf16: bool) -> dict[str, Any]:
    """The curve of test bits per dimension over seconds of training, and the end's on the whole test set."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    flow = ours(SHAPE, bf16=bf16) if side == "ours" else normflows(SHAPE)
    flow.model.train()
    learning, v = Learning(flow, pictures(data, "train")), pictures(data, "t10k")
    noise = torch.Generator().manual_seed(1)
    test = dequantised(v, torch.rand(v.shape, generator=noise))
    few = test[torch.randperm(len(test), generator=noise)[:1000]]
    curve: dict[str, Any] = {"seconds": [], "bits_per_dim": []}
    while learning.seconds < total:
        learning.step(total)
        if learning.seconds >= every * (len(curve["seconds"]) + 1):
            curve["seconds"].append(learning.seconds)
            curve["bits_per_dim"].append(bits_per_dim(flow, few)["bits_per_dim"])
            print(f"{side} {learning.seconds:.0f} s {curve['bits_per_dim'][-1]:.3f} bits/dim", file=sys.stderr, flush=True)
    final = bits_per_dim(flow, test)
    curve |= {"final": final["bits_per_dim"], "stderr": final["stderr"], "n": final["n"], "bf16": bf16}
    return curve | {"steps": learning.steps, "skipped": learning.skipped} | counted(flow.model)


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides for the same seconds, side by side."""
    arguments = ["--seconds", str(options.seconds), "--data", options.data, "--every", str(options.every)]

    def learn(side: str) -> dict[str, Any]:
        bf16 = ["--bf16"] if options.bf16 and side == "ours" else []
        return measure(options, side, *arguments, *bf16, script=__file__, chatter=True)

    with ThreadPoolExecutor() as pool:
        results = dict(zip(SIDES, pool.map(learn, SIDES), strict=True))
    return results | {"normflows_less_ours": results["normflows"]["final"] - results["ours"]["final"]}


def draw(results: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for side, label in (("ours", "triptych"), ("normflows", "normflows")):
        axes.plot(results[side]["seconds"], results[side]["bits_per_dim"], label=label)
    axes.set(xlabel="seconds of training", ylabel="test bits/dim (1,000 pictures)", ylim=(None, 7.5))
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", choices=SIDES, help="measure one side alone and print JSON")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--data", default="fashion-mnist", help="a folder of IDX files under $TRIPTYCH_DATA")
    parser.add_argument("--every", type=float, default=30.0, help="seconds of training between evaluations")
    parser.add_argument("--bf16", action="store_true", help="ours with bfloat16 networks")
    parser.add_argument("--out", type=Path, default=HERE / "out" / "same_time")
    parser.add_argument("--peers", type=Path, default=HERE / "out" / "race_flow" / "peers", help="the peers' environment")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(learnt(options.side, options.seconds, options.data, options.every, options.bf16)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    from common import write

    results = compared(options)
    draw(results, options.out / "same_time.png")
    write(options.out, "same_time", results)


if __name__ == "__main__":
    main()
