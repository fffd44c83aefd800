"""One table of all kinds, apart and composed: equal CPU seconds of one core, measured by the same features and judge.

    python benchmarks/hinge.py --data faces --kinds vae,gan --seconds 300 --seed 0      what is done already is skipped
    python benchmarks/hinge.py --data celeba10k --kinds all --seconds 900
    python benchmarks/hinge.py --data celeba10k --size 64 --kinds vae-sharp --seconds 2700
    python benchmarks/hinge.py --data celeba10k --kinds all --seconds 900 --examples 100      few data
    python benchmarks/hinge.py --table                                                  the results so far, as markdown

Each kind runs in a process of its own on one thread. How many steps the seconds give is measured first, by two short
trainings, and kept, so that a run that was killed goes on as it began. Results: a JSON for each, a sheet of 64 samples, a
strip of smiles.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import altered, arguments, begin, begun, changes, lengths, trained, write
from hinge_measures import FEATURE_STEPS, SAMPLES, learned_features, of_codes, of_samples
from hinge_table import print_table
from judging import READER_STEPS, SMILE, reader_of

from triptych import families, recipes
from triptych.data import Split, Splits, load
from triptych.errors import TriptychError
from triptych.training.loop import fit


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        title: in the table.
        family: of its recipe, whose preset for the data is taken.
        changes: to that recipe, as `common.altered` reads them.
        shares: settings that are a share of the run's steps, such as a stage's.
    """

    title: str
    family: str
    changes: tuple[str, ...] = ()
    shares: tuple[tuple[str, float], ...] = ()


KINDS: dict[str, Kind] = {
    "vae": Kind("VAE", "vae", ("model.prior=normal",)),
    "vae-prior": Kind("VAE + prior", "vae", ("model.prior=flow",)),
    "vae-sharp": Kind("VAE + prior, sharpened", "vae", ("model.prior=flow",), (("objective.sharpen", 0.1),)),
    "gan": Kind("GAN", "dcgan"),
    "gan-encoder": Kind("GAN + encoder", "dcgan", ("model.encoder=true",)),
    "glow": Kind("Glow", "glow", ("model.whiten=none", "model.positions=false")),
    "glow-whitened": Kind("Glow + whitening", "glow", ("model.whiten=zca", "model.positions=true")),
    "spectral": Kind("spectral flow", "spectral"),
}


def main() -> None:
    parser = arguments(__doc__, "hinge")
    parser.add_argument("--data", choices=tuple(SMILE), default="faces")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--kinds", default="all", help=f"joined by commas, of {', '.join(KINDS)}; or all")
    parser.add_argument("--seconds", type=int, default=300, help="of one core, for training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, help="train on so many of the training examples")
    changes(parser, "of the recipe, such as model.width=32; needs --label")
    parser.add_argument("--label", default="", help="what such a run is called beside its kind")
    parser.add_argument(
        "--brief", action="store_true", help="samples and likelihood alone are measured, no edits: to tune by"
    )
    lengths(parser, n=SAMPLES, feature_steps=FEATURE_STEPS, reader_steps=READER_STEPS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.threads = 1
    out = begin(options)
    if options.change and not options.label:
        parser.error("--change needs --label, by which its results are told from those of the preset")
    if options.table:
        print_table(out, {name: kind.title for name, kind in KINDS.items()})
        return
    kinds = list(KINDS) if options.kinds == "all" else options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown kinds {', '.join(sorted(unknown))}: there are {', '.join(KINDS)}")
    if options.in_process:
        run_one(out, options, kinds[0])
    else:
        run_all(out, options, kinds)


def run_all(out: Path, options: argparse.Namespace, kinds: list[str]) -> None:
    """Each kind that has no result yet, in a process of its own: memory and threads are then its own."""
    shared(out, options, load(options.data, size=options.size))
    for kind in kinds:
        if finished(out / f"{name_of(options, kind)}.json", options.brief):
            print(f"{name_of(options, kind)}: done before")
            continue
        words = [f"--{word.replace('_', '-')}={getattr(options, word)}" for word in _PASSED]
        words += [f"--examples={options.examples}"] if options.examples else []
        words += [f"--change={change}" for change in options.change] + ["--brief"] * options.brief
        command = [sys.executable, __file__, *words, f"--kinds={kind}", "--in-process"]
        if code := subprocess.call(command, env={**os.environ, "OMP_NUM_THREADS": "1"}):
            print(f"{name_of(options, kind)}: ended with {code}, go on with the next", flush=True)


_PASSED = ("data", "size", "seconds", "seed", "out", "label", "n", "feature_steps", "reader_steps")


def finished(path: Path, brief: bool) -> bool:
    """Whether there are results, of edits too unless they are to be brief."""
    return path.exists() and (brief or "smile" in json.loads(path.read_text()))


def name_of(options: argparse.Namespace, kind: str) -> str:
    few = f"_n{options.examples}" if options.examples else ""
    label = f"+{options.label}" if options.label else ""
    return f"{options.data}{options.size}_{kind}{label}_{options.seconds}s_seed{options.seed}{few}"


def shared(out: Path, options: argparse.Namespace, splits: Splits) -> tuple[Any, Any]:
    """The features and the judge of a data set, learned once: every figure in its tables is by these. Brief ones need no
    judge: None."""
    features = learned_features(out, options.data, splits.train, options.feature_steps)
    return features, None if options.brief else reader_of(out, options.data, splits, options.reader_steps)


def run_one(out: Path, options: argparse.Namespace, kind: str) -> None:
    splits, name = load(options.data, size=options.size), name_of(options, kind)
    train = splits.train
    if options.examples:
        train = train.take(options.examples)
    try:
        plan = planned(out, name, options, KINDS[kind], train)
    except TriptychError as error:
        raise SystemExit(f"{name}: {error}") from error
    recipe = families.from_json(plan["recipe"])
    run = accounted(out / f"{name}.plan.json", plan, lambda: trained(out / name, recipe, train)[0])
    results = {"data": options.data, "size": options.size, "kind": kind, "seconds": options.seconds, "seed": options.seed}
    results |= {"label": options.label, "examples": len(train), "steps": recipe.steps, "recipe": plan["recipe"]}
    results |= {"training_cpu_seconds": plan["spent"], "training_peak_megabytes": plan["peak"]}
    features, reader = shared(out, options, splits)
    splits, whole = Splits(splits | {"train": train}), splits.train
    before = out / f"{name}.json"
    known = finished(before, brief=True)
    if known:
        results |= json.loads(before.read_text())
    else:
        results |= of_samples(out, name, run, splits, whole, features, options.n)
    if not options.brief:
        results |= of_codes(out, name, run, splits, options.data, reader)
    write(out, name, results)


def accounted(path: Path, plan: dict[str, Any], work: Callable[[], Any]) -> Any:
    """What work() returns; the CPU seconds that it takes, over resumptions, and the largest memory are added to the plan."""
    start = time.process_time()
    try:
        return work()
    finally:
        plan["spent"] += time.process_time() - start
        plan["peak"] = max(plan["peak"], peak_megabytes())
        path.write_text(json.dumps(plan))


def peak_megabytes() -> float:
    """The largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def planned(out: Path, name: str, options: argparse.Namespace, kind: Kind, train: Split) -> dict[str, Any]:
    """The recipe with the steps that the seconds give, measured once and kept."""
    path = out / f"{name}.plan.json"
    if path.exists():
        return json.loads(path.read_text())
    recipe = recipe_of(options, kind)
    steps, timed = affordable(out / f"{name}.probe", recipe, kind, train, options.seconds)
    decided = lasting(recipe, kind, steps).decided(len(train), train.is_image)
    if decided != lasting(recipe, kind, steps):  # so many steps with so few examples are augmented, which takes time
        recipe = decided
        steps, timed = affordable(out / f"{name}.probe", recipe, kind, train, options.seconds)
    plan = {"recipe": recipes.to_json(lasting(recipe, kind, steps)), "timed": timed, "spent": 0.0, "peak": 0.0}
    path.write_text(json.dumps(plan))
    return plan


def recipe_of(options: argparse.Namespace, kind: Kind) -> recipes.Recipe:
    recipe = families.preset(kind.family, data=options.data)
    recipe = dataclasses.replace(recipe, data=options.data, size=options.size, seed=options.seed)
    return altered(recipe, [*kind.changes, *options.change])


def lasting(recipe: recipes.Recipe, kind: Kind, steps: int) -> recipes.Recipe:
    """The recipe with its steps, and what is a share of them."""
    return altered(recipe, [f"steps={steps}", *(f"{field}={max(1, round(share * steps))}" for field, share in kind.shares)])


def affordable(
    folder: Path, recipe: recipes.Recipe, kind: Kind, train: Split, seconds: float
) -> tuple[int, dict[str, float]]:
    """Steps that take so many CPU seconds: seconds = building + fixed + rate · steps, by two short trainings of all stages.

    One before them, not counted, pays for what a process does once. Building is timed apart: where a covariance is fitted it
    takes as long as hundreds of steps, and never quite the same.
    """
    built, spent = [], []
    for steps in (_PROBES[0], *_PROBES):
        start = time.process_time()
        run = begun(folder, lasting(recipe, kind, steps), train)
        built.append(time.process_time() - start)
        fit(run, train)
        spent.append(time.process_time() - start - built[-1])
        shutil.rmtree(folder)
    building, (_, less, more) = min(built), spent
    rate = max(more - less, 0.1 * more) / (_PROBES[1] - _PROBES[0])
    fixed = building + max(0.0, less - rate * _PROBES[0])
    return max(1, int((seconds - fixed) / rate)), {"cpu_seconds_per_step": rate, "fixed": fixed}


_PROBES = (20, 100)


if __name__ == "__main__":
    main()
