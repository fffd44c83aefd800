"""Which game should `dcgan` play by default? Games and penalties, each with the same processor time.

    TRIPTYCH_DATA=… python benchmarks/games.py --threads 1 --data celeba10k    Fréchet distance by learned features
    python benchmarks/games.py --threads 1 --data faces --seconds 200 --seeds 0 1 2
    TRIPTYCH_DATA=… python benchmarks/games.py --threads 1 --data stacked      of 1,000 modes, those found

Every game trains the same networks with the same optimiser for --seconds (its steps are set by 20 timed ones, so that the
schedule ends with the time), once for each of --seeds. Quality is looked at --looks times: the last one counts, and how
far it is above the best says how steady the game was. Runs that are done are kept, and found again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from common import altered, arguments, begin, changes, lengths, write
from stacked import READER_STEPS, SAMPLES, TRIPLES, modes, reader, stack

from triptych import doctor, evaluate, families, figures, recipes
from triptych.data import Split, load
from triptych.errors import TriptychError
from triptych.training.loop import fit, train
from triptych.training.run import Run

_FREE = "objective.penalty=none"
GAMES = {
    "nonsaturating": ["objective.game=nonsaturating", _FREE],
    "nonsaturating, r1": ["objective.game=nonsaturating", "objective.penalty=r1", "objective.every=1"],
    "nonsaturating, r1r2": ["objective.game=nonsaturating", "objective.every=1"],
    "wgan-gp": ["objective.game=wgan", "objective.penalty=gp", "objective.gamma=10", "objective.drift=0.001"],
    "wgan-gp, 5 plays": [
        "objective.game=wgan", "objective.penalty=gp", "objective.gamma=10", "objective.drift=0.001", "objective.plays=5",
    ],
    "relativistic": [_FREE],
    "relativistic, r1r2": ["objective.every=1"],
    "relativistic, r1r2 every 4": ["objective.every=4"],
    "relativistic, r1r2 every 4, γ × 10": ["objective.every=4", "objective.gamma=1"],
    "relativistic, r1r2 every 4, γ / 10": ["objective.every=4", "objective.gamma=0.01"],
    "relativistic, r1r2 every 16": ["objective.every=16"],
}  # fmt: skip


def steps_within(seconds: float, recipe: recipes.Recipe, data: Split, folder: Path) -> int:
    """So many rounds as this machine plays in the time."""
    run = Run.create(folder, recipe, families.build(recipe, data[:64]), overwrite=True)
    rounds = train(run, data)
    for _ in range(4):
        next(rounds)
    start, count = time.process_time(), 4 * recipe.objective.penalising.every
    for _ in range(count):
        next(rounds)
    each = (time.process_time() - start) / count
    shutil.rmtree(folder)
    return max(50, round(seconds / each))


class Photos:
    """Fréchet and kernel distances and the rest, of 1,000 samples, by features learned from the attributes."""

    best, preset = "fid", "celeba"

    def __init__(self, out: Path, options: argparse.Namespace) -> None:
        splits, self.n = load(options.data, size=32), options.n or 1000
        self.preset = "faces" if options.data == "faces" else "celeba"
        self.train, self.test = splits.train, splits.test
        self.seen = evaluate.features("learned", splits.train, steps=options.feature_steps)

    def __call__(self, model: Any) -> dict[str, float]:
        quality = evaluate.sample_quality(model, self.test, self.train, self.seen, n=self.n)
        return {name: estimate.value for name, estimate in quality.measures.items()}


class Stacked:
    """Modes of 1,000, and the KL to uniform."""

    best, preset = "kl", "mnist"

    def __init__(self, out: Path, options: argparse.Namespace) -> None:
        mnist, self.n = load("mnist"), options.n or SAMPLES
        self.train = stack(mnist.train, TRIPLES)
        self.net = reader(mnist.train, out / "reader.safetensors", options.reader_steps)

    def __call__(self, model: Any) -> dict[str, float]:
        return modes(model, self.net, self.n)


def play(
    judge: Photos | Stacked, changes: list[str], seed: int, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """One game, trained to its end; what was found on the way, and what the doctor says of its history."""
    base = families.preset("dcgan", judge.preset)
    recipe = altered(base, [f"model.width={options.width}", f"seed={seed}", *options.change, *changes])
    steps = steps_within(options.seconds, recipe, judge.train, folder)
    recipe = altered(recipe, [f"steps={steps}", "training.log_every=10", f"training.save_every={steps}"])
    run = Run.create(folder, recipe, families.build(recipe, judge.train[:64]), overwrite=True)
    looks: list[dict[str, float]] = []
    at = [round(steps * (i + 1) / options.looks) for i in range(options.looks)]
    looking = 0.0

    def look(stage: Any, _numbers: dict[str, float | None]) -> None:
        nonlocal looking
        if stage.step in at:
            before = time.process_time()
            looks.append({"step": stage.step} | judge(run.averaged))
            print(folder.name, {k: round(v, 3) for k, v in looks[-1].items()}, flush=True)
            looking += time.process_time() - before

    start, failed = time.process_time(), ""
    try:
        fit(run, judge.train, watch=look)
    except TriptychError as error:  # a game that cannot be played to its end is a finding
        failed = str(error)
    seconds = time.process_time() - start - looking
    verdicts = [verdict.name for verdict in doctor.diagnose(doctor.History.of(folder))]
    noise = torch.Generator().manual_seed(0)
    figures.save(run.averaged.codec.decode(run.averaged.sample(64, generator=noise)), folder.with_suffix(".png"))
    return {"steps": steps, "seconds": seconds, "looks": looks, "verdicts": verdicts, "failed": failed}


def main() -> None:
    parser = arguments(__doc__, "games")
    parser.add_argument("--data", choices=("celeba10k", "faces", "stacked"), default="celeba10k")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--width", type=int, default=16)
    changes(parser, "of every game's recipe, such as training.batch=16")
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--n", type=int, help="how many samples are measured; for the record 1,000, of stacked ones 26,000")
    lengths(parser, feature_steps=1500, reader_steps=READER_STEPS)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    options = parser.parse_args()
    out = begin(options)
    judge = Stacked(out, options) if options.data == "stacked" else Photos(out, options)
    results: dict[str, Any] = {}
    for seed in options.seeds:
        for name in options.games:
            folder = out / f"{options.data}_{name.replace(', ', '_').replace(' ', '-').replace('/', 'by')}_{seed}"
            kept = folder.with_suffix(".json")
            if not kept.exists():
                kept.write_text(json.dumps(play(judge, GAMES[name], seed, options, folder)))
            results.setdefault(name, []).append(json.loads(kept.read_text()))
    write(out, options.data, {"measure": judge.best, "seconds": options.seconds, "samples": judge.n, "games": results})


if __name__ == "__main__":
    main()
