"""What the measurements share: where they write, which machine they ran on, and training that goes on after a kill."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from triptych import families, recipes
from triptych.data import Split
from triptych.training.loop import fit
from triptych.training.run import Run

OUT = Path(__file__).parent / "out"


def arguments(description: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with --out (a folder of its own under benchmarks/out) and --threads, those of $OMP_NUM_THREADS or all."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT / name)
    threads = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else os.cpu_count()
    parser.add_argument("--threads", type=int, default=threads)
    return parser


def changes(parser: argparse.ArgumentParser, told: str = "of the recipe, such as model.width=32") -> None:
    """--change, as often as one likes: what `altered` reads."""
    parser.add_argument("--change", action="append", default=[], help=told)


_LENGTHS = {
    "n": "how many samples, or held-out examples, are measured",
    "feature_steps": "of the features by which samples are measured",
    "reader_steps": "of the judge, which reads pictures",
    "teacher_steps": "of the network that stands for a person or a scorer",
}


def lengths(parser: argparse.ArgumentParser, **defaults: int) -> None:
    """Options for the lengths that every figure of the record has in common, so that a run in small can have others."""
    for name, default in defaults.items():
        told = f"{_LENGTHS[name]}; {default:,} for the record"
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=told)


def begin(options: argparse.Namespace) -> Path:
    """Sets threads, flushes subnormals before the first parallel operation, and makes the folder."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    return options.out


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def write(folder: Path, name: str, results: dict[str, Any]) -> None:
    """results and the machine as JSON, and on the screen."""
    (folder / f"{name}.json").write_text(json.dumps({**results, "machine": machine()}, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def altered(recipe: recipes.Recipe, changes: Sequence[str]) -> recipes.Recipe:
    """The recipe with changes such as `steps=100` and `objective.gamma=0.1`; values are read as JSON, else as words."""
    stored = recipes.to_json(recipe)
    for change in changes:
        name, _, word = change.partition("=")
        *parts, field = name.split(".")
        place = stored
        for part in parts:
            place = place[part]
        try:
            place[field] = json.loads(word)
        except json.JSONDecodeError:
            place[field] = word
    return families.from_json(stored)


def trained(folder: Path, recipe: recipes.Recipe, data: Split) -> tuple[Run, float]:
    """The run in `folder`, trained to the recipe's end: begun, gone on with after a kill, or found done.

    The second value is the seconds of training in all, kept in the folder over resumptions.
    """
    clock = folder / "seconds.json"
    run = begun(folder, recipe, data)
    before = json.loads(clock.read_text()) if clock.exists() else 0.0
    if run.step < recipe.steps:
        start = time.perf_counter()
        try:
            fit(run, data, watch=_Said(run))
        finally:
            before += time.perf_counter() - start
            clock.write_text(json.dumps(before))
    return run, before


def begun(folder: Path, recipe: recipes.Recipe, data: Split) -> Run:
    """The run in `folder`, where it had come to or still to be trained."""
    if (folder / "state").is_dir() and any((folder / "state").iterdir()):
        return Run.resume(folder, steps=recipe.steps)
    recipe = recipe.decided(len(data), data.is_image)
    return Run.create(folder, recipe, families.build_for(recipe, data), overwrite=(folder / "recipe.json").exists())


_SHOWN = ("loss", "elbo", "kl", "bits_per_dim", "steps_per_s")


class _Said:
    """A line every now and then, for a log."""

    def __init__(self, run: Run):
        self.run, self.last = run, time.monotonic()

    def __call__(self, step: Any, numbers: dict[str, float]) -> None:
        if time.monotonic() - self.last > 20:
            self.last = time.monotonic()
            shown = {k: round(v, 4) for k, v in numbers.items() if k in _SHOWN}
            print(f"{self.run.folder.name} {step.step}/{self.run.recipe.steps} {shown}", flush=True)
