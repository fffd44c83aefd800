"""NICE on MNIST with the paper's network: test log-likelihood in nats against epochs, beside the paper's 1980.50.

Four additive couplings of 5×1000 ReLU and a logistic prior (section 5.1). The density is of x in [0, 1]^784
with noise U(0, 1/256), over all 10,000 test images, always the same noise. The paper trains for 1500 epochs and keeps what
does best on validation data; here the curve shows where training got to, and training data beside it what is overfitting.

    TRIPTYCH_DATA=… python benchmarks/nice.py --seconds 3600      trains for an hour (resumable), then draws
    TRIPTYCH_DATA=… python benchmarks/nice.py --steps 9000        30 epochs of 300 steps
    TRIPTYCH_DATA=… python benchmarks/nice.py --bf16              networks in bfloat16, evaluation in float32

It writes nice.json, nice.png (the curve; its points are in run/curve.json), samples.png, manifold.png (of four test digits;
RealNVP, eq. 19), and inpainting.png (NICE, figure 6): in each row a mask, for each digit what is seen and what is filled in.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from common import arguments, begin, write
from race_flow import keep, kept

from triptych import edit, evaluate, families, figures, recipes
from triptych.core import GenerativeModel
from triptych.data import Split, load
from triptych.data.splits import fixed_subset
from triptych.training.loop import fit
from triptych.training.run import Run

PAPER = 1980.50  # nats, section 5.1
TRAINING_IMAGES = 2000  # that the curve shows beside the test images


class TimeIsUp(KeyboardInterrupt):
    """What `fit` saves upon: the seconds asked for are over."""


class Curve:
    """Watches `fit`: a point every so many epochs (of `epoch` steps), and the training clock without evaluation's time.

    A run that goes on after a kill has the points and the clock of the checkpoint that it goes on from.
    """

    def __init__(self, run: Run, data: dict[str, torch.Tensor], epoch: float, every: float, limit: float | None):
        self.run, self.data, self.epoch, self.limit = run, data, epoch, limit
        self.every = max(1, round(every * epoch))
        self.path = run.folder / "curve.json"
        stored = kept(self.path, {"points": [], "clock": {}})
        self.points = [p for p in stored["points"] if p["step"] <= run.step]
        self.clock = {step: s for step, s in stored["clock"].items() if int(step) <= run.step}
        self.seconds = max(self.clock.values(), default=0.0)
        self.since = time.perf_counter()
        if not self.points:
            self.add()

    def __call__(self, step: Any, numbers: dict[str, float | None]) -> None:
        self.pause()
        if step.step % self.every == 0:
            self.add()
            print(f"{step.step} steps, {self.seconds:.0f} s: {self.said()}", flush=True)
        if self.run.saved_step == step.step:
            self.keep()
        if self.limit is not None and self.seconds >= self.limit and step.step < self.run.recipe.steps:
            raise TimeIsUp
        self.since = time.perf_counter()

    def pause(self) -> None:
        self.seconds += time.perf_counter() - self.since

    def add(self) -> None:
        """Evaluates the model as it is now."""
        scores = {name: log_likelihood(self.run.averaged, stored) for name, stored in self.data.items()}
        self.points.append({"step": self.run.step, "epochs": self.run.step / self.epoch, "seconds": self.seconds, **scores})
        self.keep()
        self.since = time.perf_counter()

    def keep(self) -> None:
        self.clock[str(self.run.step)] = self.seconds
        keep(self.path, {"points": self.points, "clock": self.clock})

    def said(self) -> str:
        return ", ".join(f"{name} {self.points[-1][name]['value']:.2f}" for name in self.data) + " nats"


def log_likelihood(model: GenerativeModel, stored: torch.Tensor) -> dict[str, Any]:
    """log p(x) in nats, mean and standard error, in float32 and always with the same noise."""
    training, bf16 = model.training, model.bf16
    model.eval()
    model.bf16 = False
    try:
        noise = torch.Generator().manual_seed(0)
        return evaluate.importance_nll(model, stored, k=1, generator=noise, batch=500).scaled(-1.0)._asdict()
    finally:
        model.bf16 = bf16
        model.train(training)


def learn(options: argparse.Namespace, train: Split, test: torch.Tensor) -> tuple[Run, Curve]:
    """The run in the folder, trained to its steps or for its seconds: begun, gone on with, or found done."""
    recipe, folder = asked(options), options.out / ("run_bf16" if options.bf16 else "run")
    if (folder / "state").is_dir() and any((folder / "state").iterdir()):
        run = Run.resume(folder, steps=recipe.steps)
    else:
        model = families.build(recipe, families.first_batch(train))
        run = Run.create(folder, recipe, model, overwrite=(folder / "recipe.json").exists())
    data = {"test": test, "train": train[fixed_subset(len(train), TRAINING_IMAGES)]}
    curve = Curve(run, data, len(train) / recipe.training.batch, options.every, options.seconds)
    if run.step < recipe.steps and (options.seconds is None or curve.seconds < options.seconds):
        curve.since = time.perf_counter()
        try:
            fit(run, train, watch=curve)
        except TimeIsUp:
            run.finish()
        except KeyboardInterrupt:
            curve.keep()
            raise
    if curve.points[-1]["step"] != run.step:
        curve.add()
    return run, curve


def asked(options: argparse.Namespace) -> recipes.Recipe:
    """The paper's preset, with what the command line changes."""
    recipe = families.preset("nice", "paper-mnist")
    changes: dict[str, Any] = {"precision": "bf16"} if options.bf16 else {}
    changes |= {name: getattr(options, name) for name in ("batch", "rate", "ema") if getattr(options, name) is not None}
    model = dataclasses.replace(recipe.model, hidden=tuple(options.hidden)) if options.hidden else recipe.model
    training = dataclasses.replace(recipe.training, **changes)
    return dataclasses.replace(recipe, steps=options.steps or recipe.steps, model=model, training=training)


def draw(model: GenerativeModel, test: torch.Tensor, out: Path, steps: int, digits: int = 6) -> None:
    """Samples, the manifold of four test digits, and the ten masks of figure 6."""
    generator = torch.Generator().manual_seed(0)
    figures.save(model.codec.decode(model.sample(100, generator=generator)), out / "samples.png", columns=10)
    x = model.codec.centre(test[fixed_subset(len(test), max(4, digits))])
    with torch.no_grad():
        sheet = edit.manifold(model, x[:4], 12)
    figures.save(model.codec.decode(sheet.flatten(0, 1)), out / "manifold.png", columns=12)
    x = x[:digits]
    hidden = torch.stack([edit.mask(name, model.event_shape, generator=generator) for name in edit.MASKS])
    rows, masks = x.repeat(len(hidden), *(1,) * (x.ndim - 1)), hidden.repeat_interleave(digits, 0)
    filled = edit.inpaint(model, rows, masks, steps=steps, generator=generator)
    seen = torch.where(masks, 0.5, rows)
    pairs = torch.stack([seen, filled], 1).flatten(0, 1)  # (masks · digits · 2, C, H, W)
    figures.save(model.codec.decode(pairs), out / "inpainting.png", columns=2 * digits)


def results_of(run: Run, curve: Curve) -> dict[str, Any]:
    last, best = curve.points[-1], max(curve.points, key=lambda p: p["test"]["value"])
    return {
        "log_likelihood_test": last["test"],
        "log_likelihood_train": last["train"],
        "paper": PAPER,
        "less_paper": last["test"]["value"] - PAPER,
        "highest_test": {k: best[k] for k in ("step", "epochs", "test")},
        "epochs": last["epochs"],
        "steps": run.step,
        "training_seconds": curve.seconds,
        "precision": run.recipe.training.precision,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "recipe": json.loads(json.dumps(recipes.to_json(run.recipe))),
    }


def figure(points: list[dict[str, Any]], path: Path) -> None:
    """The curve without its start, which is thousands of nats below."""
    shown = points[1:] or points
    epochs = [p["epochs"] for p in shown]
    lines = {f"{name} images": (epochs, [p[name]["value"] for p in shown]) for name in ("test", "train")}
    lines[f"the paper ({PAPER:.2f})"] = ([0, epochs[-1]], [PAPER, PAPER])
    low = min(PAPER, *(p[name]["value"] for p in shown[len(shown) // 4 :] for name in ("test", "train")))
    high = max(PAPER, *(value for _, values in lines.values() for value in values))
    axes = {"xlabel": "epochs", "ylabel": "log p(x) (nats, x in [0, 1])", "title": "NICE on MNIST"}
    figures.curves(lines, path, ylim=(low - 50, high + 50), **axes)


def main() -> None:
    parser = arguments(__doc__, "nice")
    parser.add_argument("--steps", type=int, help="in all; the preset's otherwise")
    parser.add_argument("--seconds", type=float, help="of training in all, evaluation left out; the steps' end otherwise")
    parser.add_argument("--every", type=float, default=1.0, metavar="EPOCHS", help="between evaluations")
    parser.add_argument("--bf16", action="store_true", help="networks in bfloat16, in a run of its own")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--ema", type=float, help="decay of the weights' average; the preset has none, as the paper")
    parser.add_argument("--hidden", type=int, nargs="+", help="other layers than the paper's, to try the script")
    parser.add_argument("--images", type=int, help="test images, all of them otherwise")
    parser.add_argument("--fill", type=int, default=1000, metavar="STEPS", help="of inpainting")
    options = parser.parse_args()
    out = begin(options)
    splits = load("mnist")
    test = splits.test[: options.images or len(splits.test)]
    run, curve = learn(options, splits.train, test)
    name = "nice_bf16" if options.bf16 else "nice"
    figure(curve.points, out / f"{name}.png")
    write(out, name, results_of(run, curve))
    model = run.averaged.eval()
    model.bf16 = False
    draw(model, test, out / "bf16" if options.bf16 else out, options.fill)


if __name__ == "__main__":
    main()
