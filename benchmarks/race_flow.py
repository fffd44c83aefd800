"""Glow's training step, sampling and memory: triptych against normflows 1.7.3, FrEIA 0.2 and nflows 0.14.

Everybody has one shape: 3×32×32 data, 3 levels of K steps (actnorm, 1×1, affine coupling by 3×3 → 128, 1×1 → 128, 3×3),
batch 16, fused Adam, float32. FrEIA's 1×1 is a fixed rotation, so it does less. Beside them the floor: the coupling networks
alone on inputs held ready, no flow around them. A measurement is a process of its own; the sides take turns in a round.

    python benchmarks/race_flow.py                                     five rounds at K=8 and 32: medians and their ratios
    python benchmarks/race_flow.py --memory                            what a training step holds beside the parameters
    python benchmarks/race_flow.py --side ours --depth 8               one side alone (what the rounds call)

Rounds and memory are kept and gone on from.
"""

# Shapes: x (B, C, H, W); a level's scale (c, h, w) is what its steps see, after the squeeze.

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import resource
import statistics
import subprocess
import sys
import time
import venv
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
PEERS = ["normflows==1.7.3", "FrEIA==0.2", "nflows==0.14"]
PEER_NEEDS = [["torch==2.13.0"], ["numpy", "scipy", "tqdm", "matplotlib"]]
BATCH, WARM_UP, REPEATS = 16, 3, 3


class Shape(NamedTuple):
    """Of a Glow: the data's (C, H, W), levels, K steps in each, and the coupling networks' width W."""

    event: tuple[int, int, int]
    levels: int
    depth: int
    width: int

    def scales(self) -> list[tuple[int, int, int]]:
        """(c, h, w) inside each level: a squeeze makes 4c of c, and half of them leave after each level but the last."""
        (c, h, w), scales = self.event, []
        for _ in range(self.levels):
            c, h, w = 4 * c, h // 2, w // 2
            scales.append((c, h, w))
            c //= 2
        return scales


def raced(depth: int) -> Shape:
    return Shape((3, 32, 32), levels=3, depth=depth, width=128)


@dataclass(frozen=True)
class Flow:
    """What a measurement calls of a side's model."""

    model: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Any]
    ready: Callable[[Tensor], Any] | None = None  # sets actnorm from a batch; None: the first log_prob does

    def gradients(self, x: Tensor) -> None:
        (-self.log_prob(x).mean()).backward()

    def initialize(self, x: Tensor) -> None:
        with torch.no_grad():
            (self.ready or self.log_prob)(x)


def network(c_in: int, c_out: int, width: int) -> nn.Sequential:
    """The coupling network of every side that takes one from its user; the last layer begins at zero, as Glow's does."""
    last = nn.Conv2d(width, c_out, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    first, middle = nn.Conv2d(c_in, width, 3, padding=1), nn.Conv2d(width, width, 1)
    return nn.Sequential(first, nn.ReLU(inplace=True), middle, nn.ReLU(inplace=True), last)


def ours(shape: Shape, memory: str = "full", bf16: bool = False) -> Flow:
    import triptych

    model = triptych.Glow(shape.event, levels=shape.levels, depth=shape.depth, width=shape.width, memory=memory)
    model.bf16 = bf16
    return Flow(model, model.log_prob, model.sample, model.initialize)


def normflows(shape: Shape) -> Flow:
    """Its GlowBlock (coupling, 1×1 by LU, actnorm) and MultiscaleFlow, which lists levels from the deepest."""
    import normflows as nf

    base, merges, flows = [], [], []
    for i, (c, h, w) in enumerate(reversed(shape.scales())):
        flows.append([*(nf.flows.GlowBlock(c, shape.width) for _ in range(shape.depth)), nf.flows.Squeeze()])
        base.append(nf.distributions.GlowBase((c if i == 0 else c // 2, h, w)))
        if i > 0:
            merges.append(nf.flows.Merge())
    model = nf.MultiscaleFlow(base, flows, merges, class_cond=False)
    return Flow(model, lambda x: model.log_prob(x, None), model.sample)


def freia(shape: Shape) -> Flow:
    """Its AllInOneBlock: coupling, a learnt scale and shift, and a rotation that stays as drawn."""
    from FrEIA.framework import GraphINN, InputNode, Node, OutputNode
    from FrEIA.modules import AllInOneBlock, IRevNetDownsampling, Split

    block = {"subnet_constructor": lambda c_in, c_out: network(c_in, c_out, shape.width), "permute_soft": True}
    nodes, outputs, latents = [InputNode(*shape.event)], [], []
    last: Any = nodes[0]
    for i, (c, h, w) in enumerate(shape.scales()):
        for module, settings in [(IRevNetDownsampling, {}), *[(AllInOneBlock, block)] * shape.depth]:
            nodes.append(last := Node(last, module, settings))
        if i + 1 < shape.levels:
            nodes.append(split := Node(last, Split, {}))
            outputs.append(OutputNode(split.out1))
            last = split.out0
        latents.append((c if i + 1 == shape.levels else c // 2, h, w))
    model = GraphINN([*nodes, *outputs, OutputNode(last)])

    def log_prob(x: Tensor) -> Tensor:
        z, ladj = model(x)
        return sum(-0.5 * (part.square() + math.log(2 * math.pi)).flatten(1).sum(1) for part in z) + ladj

    return Flow(model, log_prob, lambda n: model([torch.randn(n, *s) for s in latents], rev=True, jac=False)[0])


def nflows(shape: Shape) -> Flow:
    """Its ActNorm, OneByOneConvolution (LU, its inverse kept when not training) and AffineCouplingTransform."""
    from nflows import transforms
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow as Flows
    from nflows.utils import create_mid_split_binary_mask

    class Network(nn.Module):
        def __init__(self, c_in: int, c_out: int) -> None:
            super().__init__()
            self.net = network(c_in, c_out, shape.width)

        def forward(self, x: Tensor, context: None = None) -> Tensor:
            return self.net(x)

    def step(c: int) -> list[nn.Module]:
        coupling = transforms.AffineCouplingTransform(create_mid_split_binary_mask(c), Network)
        return [transforms.ActNorm(c), transforms.OneByOneConvolution(c, using_cache=True), coupling]

    multiscale = transforms.MultiscaleCompositeTransform(shape.levels)
    for scale in shape.scales():
        steps = [layer for _ in range(shape.depth) for layer in step(scale[0])]
        multiscale.add_transform(transforms.CompositeTransform([transforms.SqueezeTransform(), *steps]), scale)
    model = Flows(multiscale, StandardNormal([math.prod(shape.event)]))
    return Flow(model, model.log_prob, model.sample)


class Floor:
    """The coupling networks alone, channels last: every input and every output's gradient is held ready."""

    def __init__(self, shape: Shape, bf16: bool = False):
        scales = [scale for scale in shape.scales() for _ in range(shape.depth)]
        self.model = nn.ModuleList(network(c // 2, c, shape.width) for c, _, _ in scales)
        self.model.to(memory_format=torch.channels_last)
        self.inputs = [_held(c // 2, h, w).requires_grad_() for c, h, w in scales]
        self.outputs_grad = [_held(c, h, w).to(torch.bfloat16 if bf16 else torch.float32) for c, h, w in scales]
        self.bf16 = bf16

    def gradients(self, _: Tensor) -> None:
        for x in self.inputs:
            x.grad = None
        torch.autograd.backward(self.sample(), self.outputs_grad)

    def sample(self, _: int = BATCH) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return [net(x) for net, x in zip(self.model, self.inputs, strict=True)]

    def initialize(self, _: Tensor) -> None:
        """Nothing: there is no actnorm."""


def _held(*chw: int) -> Tensor:
    return torch.randn(BATCH, *chw).contiguous(memory_format=torch.channels_last)


SIDES: dict[str, Callable[[Shape], Any]] = {
    "ours": ours,
    "ours_bf16": lambda shape: ours(shape, bf16=True),
    "normflows": normflows,
    "freia": freia,
    "nflows": nflows,
    "floor": Floor,
    "floor_bf16": lambda shape: Floor(shape, bf16=True),
}
THEIRS = ("normflows", "freia", "nflows")
MODES = {
    "ours_full": ours,
    "ours_checkpoint": lambda shape: ours(shape, "checkpoint"),
    "ours_reversible": lambda shape: ours(shape, "reversible"),
}


# One measurement, in a process of its own.


def prepared(side: str, depth: int) -> tuple[Any, torch.optim.Optimizer, Tensor]:
    """The side's model in training, its optimizer, and a batch held ready."""
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    flow, x = (SIDES | MODES)[side](raced(depth)), torch.rand(BATCH, 3, 32, 32)
    flow.model.train()
    flow.initialize(x)
    return flow, adam(flow.model, 1e-4), x


def adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate, fused=True)


def stepper(flow: Any, optimizer: torch.optim.Optimizer, x: Tensor) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        flow.gradients(x)
        optimizer.step()

    return step


def median_ms(call: Callable[[], Any], times: int) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def timed(side: str, depth: int) -> dict[str, float]:
    """Median milliseconds of a training step, and of drawing a batch (of one forward pass, for the floors)."""
    flow, optimizer, x = prepared(side, depth)
    steps, draws = (12, 8) if depth <= 8 else (6, 4)
    step = stepper(flow, optimizer, x)
    median_ms(step, WARM_UP)
    result = {"step_ms": median_ms(step, steps)}
    flow.model.eval()
    with torch.no_grad():
        median_ms(lambda: flow.sample(BATCH), 2)
        result["sample_ms"] = median_ms(lambda: flow.sample(BATCH), draws)
    return result | counted(flow.model)


def counted(model: nn.Module) -> dict[str, int]:
    """Learnt parameters in all, and in convolutions and linear layers: no side's invertible 1×1 is one of these."""
    networks = [p for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) for p in m.parameters()]
    learnt = [p for p in model.parameters() if p.requires_grad]
    return {"parameters": sum(p.numel() for p in learnt), "coupling_parameters": sum(p.numel() for p in networks)}


def held(side: str, depth: int) -> dict[str, Any]:
    """MB a training step holds beside parameters, gradients and the optimizer's state: three steps' peak less those."""
    flow, optimizer, x = prepared(side, depth)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, reset = _status("VmRSS"), _reset_peak()
    step = stepper(flow, optimizer, x)
    for _ in range(3):
        step()
    peak = _status("VmHWM") if reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    grads = sum(p.grad.nbytes for p in flow.model.parameters() if p.grad is not None)
    state = sum(v.nbytes for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
    sizes = {"before": before, "peak": peak, "gradients": grads, "optimizer": state}
    sizes["working"] = peak - before - grads - state
    return {f"{k}_mb": v / 1e6 for k, v in sizes.items()} | {"peak_reset": reset, "step_ms": median_ms(step, 5)}


def _status(field: str) -> int:
    """Bytes of this process as /proc counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def _reset_peak() -> bool:
    """Whether the peak was set back to what is held now; where that is not allowed the process's whole life counts."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


# Many measurements, one after the other.


def peer_python(folder: Path) -> Path:
    """The interpreter of the peers' own environment in `folder`, made once."""
    python = folder / "bin" / "python"
    if not python.exists() or ((folder / ".begun").exists() and not (folder / ".installed").exists()):
        venv.create(folder, with_pip=True, clear=True)
        (folder / ".begun").touch()
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        for needs in PEER_NEEDS:
            subprocess.run([*pip, *needs], check=True)
        subprocess.run([*pip, "--no-deps", *PEERS], check=True)
        (folder / ".installed").touch()
    return python


def measure(
    options: argparse.Namespace, side: str, *arguments: str, script: str = __file__, chatter: bool = False
) -> dict[str, Any]:
    """The JSON that one side prints last, in a process of its own and without what it says besides."""
    python = peer_python(options.peers) if side in THEIRS else sys.executable
    command = [str(python), script, "--side", side, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=None if chatter else subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{(done.stderr or '')[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def kept(path: Path, default: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else default


def keep(path: Path, value: Any) -> None:
    """Written beside and moved, so that a kill leaves the old file or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)


def race(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds at each depth, in which each side goes once; a round begun and not ended is run again."""
    path = options.out / "rounds.json"
    rounds = kept(path, [])
    for i in range(options.rounds):
        for depth in options.depths:
            if any(r["round"] == i and r["depth"] == depth for r in rounds):
                continue
            order = [*SIDES][i % len(SIDES) :] + [*SIDES][: i % len(SIDES)]
            sides = {}
            for side in order:
                sides[side] = measure(options, side, "--depth", str(depth))
                shown = f"{sides[side]['step_ms']:.1f} ms a step, {sides[side]['sample_ms']:.1f} ms a batch drawn"
                print(f"round {i + 1} K={depth} {side} {shown}", flush=True)
            rounds.append({"round": i, "depth": depth, "sides": sides})
            keep(path, rounds)
    return {f"K={depth}": compared([r["sides"] for r in rounds if r["depth"] == depth]) for depth in options.depths}


RATIOS = {  # who is over whom, and in what; "peers": the fastest of them
    "train": ("peers", "ours", "step_ms"),
    "train_bf16": ("peers", "ours_bf16", "step_ms"),
    "sample": ("peers", "ours", "sample_ms"),
    "sample_bf16": ("peers", "ours_bf16", "sample_ms"),
    "ours_over_floor": ("ours", "floor", "step_ms"),
    "ours_over_floor_bf16": ("ours_bf16", "floor_bf16", "step_ms"),
    "sample_over_floor": ("ours", "floor", "sample_ms"),
}


def compared(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over rounds and their ratios; and the same ratio within each round, which the machine's moods disturb less."""

    def of(times: dict[str, Any], who: str, what: str) -> float:
        return min(times[side][what] for side in (THEIRS if who == "peers" else (who,)))

    medians = {
        side: {what: statistics.median(r[side][what] for r in rounds) for what in ("step_ms", "sample_ms")} for side in SIDES
    }
    ratios = {}
    for name, (over, under, what) in RATIOS.items():
        paired = [of(r, over, what) / of(r, under, what) for r in rounds]
        ratios[name] = {
            "of_medians": of(medians, over, what) / of(medians, under, what),
            "paired": {"median": statistics.median(paired), "min": min(paired), "max": max(paired)},
        }
    counts = ("parameters", "coupling_parameters")
    shapes = {side: {count: rounds[0][side][count] for count in counts} for side in SIDES}
    return {"rounds": len(rounds), "medians": medians, "ratios": ratios, "shapes": shapes}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Working memory of each side at K=32, and of our reversible flow as K grows."""
    path = options.out / "held.json"
    sizes = kept(path, {})
    wanted = [(side, 32) for side in (*MODES, *THEIRS)] + [("ours_reversible", depth) for depth in (8, 16, 64)]
    print("| side | K | working MB | peak MB | ms a step |\n|---|---|---|---|---|")
    for side, depth in wanted:
        key = f"{side} K={depth}"
        while len(sizes.setdefault(key, [])) < REPEATS:
            sizes[key].append(measure(options, side, "--depth", str(depth), "--memory"))
            keep(path, sizes)
        s = medians(sizes[key])
        print(f"| {side} | {depth} | {s['working_mb']:.1f} | {s['peak_mb']:.1f} | {s['step_ms']:.0f} |", flush=True)
    found = {key: medians(processes) for key, processes in sizes.items()}
    leanest = min(THEIRS, key=lambda side: found[f"{side} K=32"]["working_mb"])
    ratio = found["ours_reversible K=32"]["working_mb"] / found[f"{leanest} K=32"]["working_mb"]
    return {"medians": found, "leanest_peer": leanest, "reversible_over_leanest_peer": ratio, "processes": sizes}


def medians(processes: list[dict[str, float]]) -> dict[str, float]:
    """Of several processes: where the heap falls differs from one to the next by a factor of two."""
    return {name: statistics.median(p[name] for p in processes) for name in processes[0]}


def alone(options: argparse.Namespace) -> dict[str, Any]:
    """One side's measurement."""
    return (held if options.memory else timed)(options.side, options.depth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", choices=[*SIDES, *MODES], help="measure one side alone and print JSON")
    parser.add_argument("--depth", type=int, default=8, help="K, of --side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--memory", action="store_true", help="measure working memory, not time")
    parser.add_argument("--out", type=Path, default=HERE / "out" / "race_flow")
    parser.add_argument("--peers", type=Path, help="an environment that has the peers; one is made under --out otherwise")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(alone(options)))
        return
    options.peers = options.peers or options.out / "peers"
    options.out.mkdir(parents=True, exist_ok=True)
    from common import write

    name, run = ("memory", memory) if options.memory else ("race_flow", race)
    write(options.out, name, run(options))


if __name__ == "__main__":
    main()
