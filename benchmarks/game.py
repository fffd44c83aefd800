"""The adversarial game where all can be known: the 1-D picture of Goodfellow et al. 2014 (figure 1), and modes in the plane.

    python benchmarks/game.py                  1-D: p_g and D against p and D*, as a GIF, with JSD and |D − D*| by the step
    python benchmarks/game.py --modes ring     8 Gaussians on a circle; or grid, 25: modes found, high-quality share

In 1-D densities are those of 100,000 samples, smoothed by a Gaussian of 0.05 on a grid, p convolved with the same; D is
read at the grid's points. D plays --plays minibatches to G's one, so that it stays near D* = p / (p + p_g). A mode is found
when samples come within 3 standard deviations of its centre, at least one in 1,000; samples that come so near to any are of
high quality (Srivastava et al. 2017, VEEGAN).
"""

# Shapes: x (n, 1) or (n, 2); grid (N,).

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, begin, write
from PIL import Image
from torch import Tensor

from triptych import families, recipes
from triptych.data import Split
from triptych.tour.game import GRID, log_p, look, mixture
from triptych.training.loop import train
from triptych.training.run import Run

STD = 0.05  # of each mode in the plane


def recipe(options: argparse.Namespace) -> recipes.Recipe:
    training = recipes.Training(
        batch=options.batch, rate=options.rate, momentum=0.0, beta2=0.99, decay="cosine", rate_end=0.01, ema=options.ema,
        save_every=10**9, log_every=200, sample_every=10**9,
    )  # fmt: skip
    game = recipes.GANObjective(
        game=options.game, plays=options.plays, penalty=options.penalty, gamma=options.gamma, every=1
    )
    model = recipes.GANModel(latent_dim=options.latent, net="mlp", hidden=(options.width,) * options.depth, prior="gaussian")
    return recipes.Recipe(data="drawn", steps=options.steps, model=model, objective=game, training=training)


def one_dimension(options: argparse.Namespace, out: Path) -> None:
    data, log_real = Split(mixture(100_000, 0)), log_p()
    asked = recipe(options)
    frames: list[Image.Image] = []
    looks = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", asked, families.build(asked, data[:256]))
        for stage in train(run, data):
            if stage.step % options.every == 0 or stage.step in (1, 50, 100):
                found = look(run, log_real)
                frames.append(frame(found, log_real.exp()))
                looks.append({k: v for k, v in found.items() if k != "curves"})
                print(looks[-1], flush=True)
    frames[0].save(out / "one_dimension.gif", save_all=True, append_images=frames[1:], duration=250, loop=0)
    frames[-1].save(out / "one_dimension.png")
    settled = [found["d_error"] for found in looks if found["step"] >= 100]
    write(out, "one_dimension", {
        "recipe": recipes.to_json(asked), "jsd": looks[-1]["jsd"], "d_from_half": looks[-1]["d_from_half"],
        "d_error_mean": float(np.mean(settled)), "d_error_worst": float(np.max(settled)), "looks": looks,
    })  # fmt: skip


def frame(found: dict[str, Any], p: Tensor) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    p_g, d, best = found["curves"]
    for y, style, name in ((p, "k:", "p"), (p_g, "g-", "p_g"), (best, "c--", "D*"), (d, "b-", "D")):
        axes.plot(GRID, y, style, label=name)
    title = f"step {found['step']}: JSD {found['jsd']:.4f}, |D − D*| {found['d_error']:.3f}"
    axes.set(xlim=(-5, 5), ylim=(0, 1.05), title=title)
    axes.legend(loc="upper right", frameon=False)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def centres(kind: str) -> np.ndarray:
    if kind == "ring":
        angles = np.arange(8) * (2 * np.pi / 8)
        return 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    side = np.arange(-4, 5, 2.0)
    return np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def drawn(run: Run, n: int, seed: int) -> Tensor:
    """Samples in the data's own coordinates, (n, 2)."""
    model = run.averaged.eval()
    return model.codec.decode(model.sample(n, generator=torch.Generator().manual_seed(seed)))


def modes(options: argparse.Namespace, out: Path) -> None:
    where = centres(options.modes)
    random = np.random.default_rng(0)
    x = where[random.integers(len(where), size=100_000)] + STD * random.standard_normal((100_000, 2))
    data = Split(x.astype(np.float32))
    asked = recipe(options)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", asked, families.build(asked, data[:256]))
        history = []
        for stage in train(run, data):
            if stage.step % options.every == 0 or stage.step == asked.steps:
                history.append({"step": stage.step} | counted(run, where))
                print(history[-1], flush=True)
        samples = drawn(run, 2000, 2)
    draw(samples, where, out / f"{options.modes}.png")
    write(out, options.modes, {"recipe": recipes.to_json(asked), **history[-1], "of": len(where), "history": history})


def counted(run: Run, where: np.ndarray, n: int = 10_000) -> dict[str, float]:
    samples = drawn(run, n, 1)
    distance, mode = torch.cdist(samples, torch.as_tensor(where, dtype=torch.float32)).min(1)
    good = distance < 3 * STD
    hits = torch.bincount(mode[good], minlength=len(where))
    share = hits[hits > 0] / max(1, int(hits.sum()))
    kl = (share * (share * len(where)).log()).sum().item()
    return {"modes": int((hits >= n / 1000).sum()), "high_quality": good.float().mean().item(), "kl_to_uniform": kl}


def draw(samples: Tensor, where: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*samples.T, s=2, alpha=0.4)
    axes.scatter(*where.T, marker="x", color="k")
    axes.set(aspect="equal")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = arguments(__doc__, "game")
    parser.add_argument("--modes", choices=("ring", "grid"))
    line = {
        "steps": 1500, "plays": 10, "every": 50, "rate": 1e-3, "latent": 4, "width": 64, "depth": 2, "game": "nonsaturating",
        "penalty": "none", "gamma": 0.0, "batch": 256, "ema": 0.99,
    }  # fmt: skip
    plane = line | {
        "steps": 12_000, "plays": 1, "every": 1000, "rate": 5e-4, "latent": 2, "width": 256, "depth": 5,
        "game": "relativistic", "penalty": "r1r2", "gamma": 0.1,
    }  # fmt: skip
    for name, value in line.items():
        parser.add_argument(f"--{name}", type=type(value))
    options = parser.parse_args()
    for name, value in (plane if options.modes else line).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    out = begin(options)
    (modes if options.modes else one_dimension)(options, out)


if __name__ == "__main__":
    main()
