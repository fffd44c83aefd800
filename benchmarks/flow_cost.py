"""What a Glow costs, against how much work it is: time and memory of a training step, the 1×1's share, torch.compile.

    python benchmarks/flow_cost.py                    all three
    python benchmarks/flow_cost.py --only cost        step time and working memory over K, width, side and batch: cost.png
    python benchmarks/flow_cost.py --only share       what the 1×1 convolution takes of a step: LU, plain, shuffle, reverse
    python benchmarks/flow_cost.py --only compile     a flow step compiled once and repeated, against eager
    python benchmarks/flow_cost.py --point '{"K": 32}' --memory reversible      one point alone, as JSON

The baseline is a Glow of 3×32×32, 3 levels of K = 8 steps, width 64, batch 16, affine couplings and 1×1 by LU; one of the
four is varied at a time. A point is a process of its own: three steps for the peak of resident memory, then steps for the
median time. Points and parts that were measured are kept in points.json, share.json and compile.json, and not measured again
(--again does).
"""

# Shapes: x (B, 3, side, side); K steps in each of 3 levels.

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, begin, write
from race_flow import keep, kept
from torch import Tensor

from triptych.bijections import FlowStep, FlowSteps
from triptych.bijections.mixing import mix
from triptych.bijections.steps import fuse
from triptych.flow import Glow

BASELINE = {"K": 8, "width": 64, "side": 32, "batch": 16}
VALUES = {"K": (2, 4, 8, 16, 32), "width": (32, 64, 128, 256), "side": (16, 32, 64), "batch": (4, 8, 16, 32, 64)}
MODES = ("full", "reversible")
LEVELS = 3
SECONDS, FEWEST, MOST = 5.0, 5, 50  # a point is timed for so long, or so many steps


def glow(point: dict[str, int], **settings: Any) -> tuple[Glow, Tensor]:
    """A model in training, initialised, and the batch that it was initialised by."""
    torch.manual_seed(0)
    x = torch.rand(point["batch"], 3, point["side"], point["side"])
    model = Glow(x.shape[1:], levels=LEVELS, depth=point["K"], width=point["width"], **settings)
    model.initialize(x)
    return model.train(), x


def stepper(model: Glow, x: Tensor) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimizer.step()

    return step, optimizer


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median, the quartiles and the ends: how far a measurement is to be trusted."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    ends = {"min": float(min(values)), "max": float(max(values))}
    return {"median": median, "lower_quartile": low, "upper_quartile": high, **ends, "n": len(values)}


# Cost against work.


def measured(point: dict[str, int], memory: str) -> dict[str, Any]:
    """Working memory of three steps, which warm up, and the time of those that follow."""
    model, x = glow(point, memory=memory)
    step, optimizer = stepper(model, x)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is set back to what is held now
    for _ in range(3):
        step()
    peak = status("VmHWM")
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    state = sum(v.nbytes for slots in optimizer.state.values() for v in slots.values() if isinstance(v, Tensor))
    sizes = {"before": before, "peak": peak, "gradients": gradients, "optimizer": state}
    sizes["working"] = peak - before - gradients - state
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < 1000 * SECONDS and len(times) < MOST):
        times.append(timed(step))
    learnt = sum(p.numel() for p in model.parameters())
    return {f"{k}_mb": v / 1e6 for k, v in sizes.items()} | {"step_ms": quartiles(times), "parameters": learnt}


def status(field: str) -> int:
    """Bytes of this process as /proc counts them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Every point of every axis, full and reversible; the figure; and how time and memory grow."""
    path = options.out / "points.json"
    points: dict[str, Any] = {} if options.again else kept(path, {})
    curves: dict[str, Any] = {}
    for axis, values in VALUES.items():
        for memory in MODES:
            found = []
            for value in values:
                point = BASELINE | {axis: value}
                key = f"{memory} {json.dumps(point)} threads={options.threads}"
                if key not in points:
                    points[key] = apart(options, point, memory)
                    keep(path, points)
                    shown = f"{points[key]['step_ms']['median']:.1f} ms, {points[key]['working_mb']:.1f} MB"
                    print(f"{memory} {axis}={value}: {shown}", flush=True)
                found.append(points[key])
            curves[f"{axis} {memory}"] = {
                "values": list(values),
                "step_ms": [p["step_ms"]["median"] for p in found],
                "working_mb": [p["working_mb"] for p in found],
            }
    draw(curves, options.out / "cost.png")
    return {"baseline": BASELINE | {"levels": LEVELS}, "curves": curves, "exponents": exponents(curves)}


def apart(options: argparse.Namespace, point: dict[str, int], memory: str) -> dict[str, Any]:
    """One point in a process of its own."""
    command = [sys.executable, __file__, "--point", json.dumps(point), "--memory", memory]
    command += ["--threads", str(options.threads), "--out", str(options.out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{memory} {point} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def exponents(curves: dict[str, Any]) -> dict[str, dict[str, float]]:
    """d log cost / d log value between the two largest values: 1 is proportional (a side's square is the work: 2)."""
    results = {}
    for name, curve in curves.items():
        work = np.log(curve["values"][-1] / curve["values"][-2])
        grown = {what: max(curve[what][-1], 1e-9) / max(curve[what][-2], 1e-9) for what in ("step_ms", "working_mb")}
        results[name] = {what: float(np.log(ratio) / work) for what, ratio in grown.items()}
    return results


def draw(curves: dict[str, Any], path: Path) -> None:
    """Four columns, an axis each; time above, memory below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6), layout="constrained")
    panels = figure.subplots(2, len(VALUES), sharey="row")
    for row, (what, label) in zip(
        panels, {"step_ms": "step (ms)", "working_mb": "working memory (MB)"}.items(), strict=True
    ):
        row[0].set_ylabel(label)
        for panel, (axis, values) in zip(row, VALUES.items(), strict=True):
            for memory in MODES:
                panel.plot(values, curves[f"{axis} {memory}"][what], "o-", label=memory)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xticks(values, [str(v) for v in values])
            panel.set_xlabel(axis)
            panel.grid(alpha=0.3)
    panels[0][0].legend(frameon=False)
    figure.savefig(path, dpi=130)


# The 1×1's share of a step.

PERMUTATIONS = ("invertible", "plain", "shuffle", "reverse")


def share(options: argparse.Namespace) -> dict[str, Any]:
    """At each width: step times of the four in turns, what the 1×1 adds in pairs, and its pieces alone.

    All four multiply by a matrix at each position (a permutation's is fixed), so that their difference is what it takes to
    make W and log |det W| and to learn them, while "product" is that multiplication, there and back.
    """
    results: dict[str, Any] = {}
    for width in options.widths:
        point = BASELINE | {"K": options.depth, "width": width}
        models = {p: glow(point, permutation=p) for p in PERMUTATIONS}
        calls = {p: stepper(model, x)[0] for p, (model, x) in models.items()}
        steps = alternately(calls, options.rounds)
        folds = alternately({p: folding(model) for p, (model, _) in models.items()}, 5 * options.rounds)
        product = [timed(products(*models["invertible"])) for _ in range(options.rounds)]
        whole = statistics.median(steps["invertible"])
        results[f"W={width}"] = {
            "K": options.depth,
            "step_ms": {p: quartiles(times) for p, times in steps.items()},
            "share_by_difference": {
                f"{p} less {q}": quartiles([(a - b) / a for a, b in zip(steps[p], steps[q], strict=True)])
                for p, q in (
                    ("invertible", "reverse"),
                    ("invertible", "shuffle"),
                    ("plain", "reverse"),
                    ("plain", "invertible"),
                )
            },
            "fold_ms": {p: quartiles(times) for p, times in folds.items()},
            "fold_share": {p: statistics.median(t) / statistics.median(steps[p]) for p, t in folds.items()},
            "product_ms": quartiles(product),
            "product_share": statistics.median(product) / whole,
        }
        print(f"W={width}: {json.dumps(results[f'W={width}']['fold_share'])}", flush=True)
    return results


def alternately(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Times of each, in rounds that each goes through once, whoever is first changing; two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for i in range(-2, rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            ms = timed(calls[name])
            if i >= 0:
                times[name].append(ms)
    return times


def scales(model: Glow) -> list[FlowSteps]:
    return [module for module in model.modules() if isinstance(module, FlowSteps)]


def folding(model: Glow) -> Callable[[], None]:
    """All of a model's matrices put together, and the gradients by what they are made of."""
    stacks = scales(model)

    def call() -> None:
        model.zero_grad()
        for stack in stacks:
            folded = fuse(stack.steps)
            torch.autograd.backward([folded.weight.sum() + folded.bias.sum() + folded.log_det.sum()])

    return call


def products(model: Glow, x: Tensor) -> Callable[[], None]:
    """The K products W x + b of every scale, and their gradients by x and W, as a training step computes them."""
    held: list[tuple[Tensor, Tensor, Tensor]] = []
    hooks = [
        stack.register_forward_pre_hook(lambda m, given: held.append((given[0], *fuse(m.steps)[:2])))
        for stack in scales(model)
    ]
    with torch.no_grad():
        model.log_prob(x)
    for hook in hooks:
        hook.remove()

    def call() -> None:
        with torch.no_grad():
            for entered, weight, bias in held:
                for w, b in zip(weight, bias, strict=True):
                    z = mix(entered, w, b)
                    rows, columns = (t.movedim(1, -1).reshape(-1, t.shape[1]) for t in (z, entered))
                    torch.mm(rows.T, columns)
                    mix(z, w.T)

    call()
    return call


# torch.compile of a repeated step.


def call_step(step: FlowStep, x: Tensor) -> tuple[Tensor, Tensor]:
    """A step by plain autograd."""
    return step(x)


def repeated() -> tuple[FlowSteps, Tensor]:
    """K steps in training that are no identity, and what enters them."""
    torch.manual_seed(0)
    x = torch.rand(BASELINE["batch"], 12, 16, 16)  # what the first level's steps see
    # as a step's output is, channels last and in need of a gradient: another layout would be a graph of its own
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    stack = FlowSteps(x.shape[1:], BASELINE["K"], BASELINE["width"])
    stack.initialize(x.detach())
    with torch.no_grad():
        for p in stack.parameters():
            p.add_(0.02 * torch.randn_like(p))  # couplings begin as constants, whose gradients would be zero
    return stack.train(), x


def compiled(options: argparse.Namespace) -> dict[str, Any]:
    """One flow step compiled, and K of its shape run through it: graph breaks, recompiles, time and agreement."""
    import torch._dynamo as dynamo
    from torch._inductor.utils import fresh_cache

    stack, x = repeated()
    explained = dynamo.explain(call_step)(stack.steps[0], x)
    dynamo.reset()
    dynamo.utils.counters.clear()
    once = torch.compile(call_step, fullgraph=True)
    with fresh_cache():  # or the time would be that of finding what an earlier run compiled
        seconds = timed(lambda: backward(stack, x, once)) / 1000
    results: dict[str, Any] = {
        "graph_breaks": explained.graph_break_count,
        "break_reasons": [str(reason.reason) for reason in explained.break_reasons],
        "compile_seconds": seconds,
    }
    stats = dynamo.utils.counters["stats"]
    results |= {"graphs": stats["unique_graphs"], "recompiles": max(0, stats["unique_graphs"] - 1)}
    results["agreement"] = agreement(stack, x, once)
    calls = {
        "eager": lambda: backward(stack, x, call_step),
        "compiled": lambda: backward(stack, x, once),
        "by_hand": lambda: by_hand(stack, x),
    }
    times = alternately(calls, 3 * options.rounds)
    results["forward_backward_ms"] = {name: quartiles(t) for name, t in times.items()}
    for other in ("eager", "by_hand"):
        ratio = quartiles([a / b for a, b in zip(times[other], times["compiled"], strict=True)])
        results[f"{other}_over_compiled"] = ratio
    results["recompiles_in_all"] = max(0, dynamo.utils.counters["stats"]["unique_graphs"] - 1)
    return results | {"shape": list(x.shape), "K": BASELINE["K"], "width": BASELINE["width"]}


def loss_of(z: Tensor, ladj: Tensor) -> Tensor:
    return 0.5 * z.square().sum() - ladj.sum()


def backward(stack: FlowSteps, x: Tensor, call: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    """Forward and backward through every step, one call each; the loss."""
    stack.zero_grad()
    x.grad = None
    z, total = x, x.new_zeros(len(x))
    for step in stack.steps:
        z, ladj = call(step, z)
        total = total + ladj
    loss = loss_of(z, total)
    loss.backward()
    return loss.detach()


def by_hand(stack: FlowSteps, x: Tensor) -> None:
    """The same through the gradient written by hand, which is what training runs."""
    stack.zero_grad()
    x.grad = None
    loss_of(*stack(x)).backward()


def agreement(stack: FlowSteps, x: Tensor, once: Callable[..., Any]) -> dict[str, float]:
    """Largest relative difference of the loss and of any parameter's gradient from the eager step's."""
    eager_loss = backward(stack, x, call_step)
    eager = [p.grad.clone() for p in stack.parameters() if p.grad is not None]
    loss = backward(stack, x, once)
    found = [p.grad for p in stack.parameters() if p.grad is not None]
    errors = [((f - e).norm() / e.norm().clamp_min(1e-12)).item() for f, e in zip(found, eager, strict=True)]
    return {"loss": ((loss - eager_loss) / eager_loss).abs().item(), "gradients": max(errors)}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"cost": cost, "share": share, "compile": compiled}


def main() -> None:
    parser = arguments(__doc__, "flow_cost")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--again", action="store_true", help="measure what is kept once more")
    parser.add_argument("--rounds", type=int, default=12, help="of --only share, and thrice of compile")
    parser.add_argument("--depth", type=int, default=32, help="K, of share")
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 32], help="of share")
    parser.add_argument("--point", type=json.loads, metavar="JSON", help="measure this alone and print JSON")
    parser.add_argument("--memory", choices=MODES, default="full", help="of --point")
    options = parser.parse_args()
    if options.point is not None:
        begin(options)
        print(json.dumps(measured(BASELINE | options.point, options.memory)))
        return
    out = begin(options)
    for name in [options.only] if options.only else PARTS:
        if options.again or name == "cost" or not (out / f"{name}.json").exists():
            write(out, name, PARTS[name](options))
        else:
            print(f"{out / name}.json is kept: --again measures it once more")


if __name__ == "__main__":
    main()
