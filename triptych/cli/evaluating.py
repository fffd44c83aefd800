"""`triptych evaluate`: the figures of a run, or of several in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from triptych.cli import parse, tables
from triptych.cli.options import Evaluate
from triptych.cli.results import STDOUT, json_words, newest_step, write_result
from triptych.cli.sources import (
    Wanted,
    compare_training_data,
    folder_of,
    load_model,
    named_split,
    notice,
    read_wanted,
    wanted,
)
from triptych.errors import TriptychError
from triptych.progress import tracked

if TYPE_CHECKING:
    from triptych.core import Estimate, GenerativeModel
    from triptych.data import Split, Splits
    from triptych.evaluate.quality import Against, Quality

_SAMPLES = 1000
_TOLD_BY = 1000  # examples by which sets are told apart


@dataclass
class Measured:
    """A run, what it is measured on, and what was measured."""

    run: str
    model: GenerativeModel
    splits: Splits
    estimates: dict[str, Estimate] = field(default_factory=dict)
    quality: Quality | None = None

    def as_json(self) -> dict[str, Any]:
        """{measure: {value, stderr, n, …}}."""
        found: dict[str, Any] = {name: estimate._asdict() for name, estimate in self.estimates.items()}
        return found | (self.quality.as_json() if self.quality else {})


class Plan(NamedTuple):
    """How many samples are measured of each model, 0 for none, and which real examples they are compared with."""

    samples: int
    against: Against


def evaluate(words: Sequence[str]) -> None:
    """Prints the measures that the models' capabilities allow, and writes them as JSON."""
    options = parse(Evaluate, json_words(words), "triptych evaluate")
    if not options.runs:
        raise TriptychError(
            "evaluate expects a run, or several: triptych evaluate RUN (triptych evaluate --help tells more)"
        )
    runs = opened(options)
    plan = plan_of(options, runs)
    measure_all(runs, options, plan)
    if empty := [run for run in runs if not run.as_json()]:
        raise TriptychError(f"a {type(empty[0].model).__name__} is measured by its samples alone: leave out --samples 0")
    _report(runs, options)


def opened(options: Evaluate) -> list[Measured]:
    """The runs with their data, each named once, of one shape and with the same held-out examples.

    Raises:
        TriptychError: for others, before anything is measured.
    """
    if repeated := sorted({run for run in options.runs if options.runs.count(run) > 1}):
        raise TriptychError(f"expected each run once, got {repeated[0]} twice: name it once")
    _check_shapes(options.runs)
    runs = _loaded(options)
    _check_alike(runs, options)
    return runs


def _loaded(options: Evaluate) -> list[Measured]:
    """The runs with their data, each set read once."""
    from triptych.data.colours import shaped

    read: dict[Wanted, Splits] = {}
    runs = []
    for source in options.runs:
        model = load_model(source, options.model)
        key = wanted(source, model, options.data)
        if key not in read:
            read[key] = read_wanted(key)
        compare_training_data(source, read[key], key)
        splits = shaped(read[key], model.event_shape, key.data, notice)
        named_split(splits, options.split)
        runs.append(Measured(source, model, splits))
    return runs


def _check_shapes(runs: Sequence[str]) -> None:
    """Raises a `TriptychError` for runs of different shapes, before weights or data are read."""
    from triptych.pretrained import read_description

    shapes = {}
    for run in runs if len(runs) > 1 else ():
        stored = read_description(folder_of(run))
        shapes[run] = tuple(stored.get("event_shape") or stored["model"].get("event_shape", ()))
    for run, shape in shapes.items():
        if shape != shapes[runs[0]]:
            raise TriptychError(
                f"{runs[0]} makes {shapes[runs[0]]} and {run} {shape}: figures of different shapes are not comparable, "
                "evaluate them one by one"
            )


def _check_alike(runs: list[Measured], options: Evaluate) -> None:
    """Raises a `TriptychError` for runs whose figures would be of different things."""
    first = runs[0]
    for run in runs[1:]:
        ours, theirs = (_contents(r.splits[options.split]) for r in (first, run))
        if ours != theirs:
            remedy = "compare runs that were trained with one --seed" if options.data else "give both one set by --data DATA"
            raise TriptychError(
                f"{first.run} and {run.run} hold out different examples (split {options.split}): their figures are not "
                f"comparable; {remedy}, or evaluate them one by one"
            )


def _contents(split: Split) -> tuple[int, str]:
    from triptych.data import fixed_subset
    from triptych.evaluate.features import digest

    return len(split), digest(split[fixed_subset(len(split), _TOLD_BY)])


def plan_of(options: Evaluate, runs: list[Measured], *, always: bool = False) -> Plan:
    """Samples are measured where they are asked for or nothing else can be, or `always`; checked before any work."""
    from triptych.capabilities import HasDensity
    from triptych.evaluate.quality import FEWEST, check_counts

    dense = not always and all(isinstance(run.model, HasDensity) for run in runs)
    if options.samples == 0 or (options.samples is None and dense):
        return Plan(0, "held-out")
    splits = runs[0].splits
    few = len(splits[options.split]) < FEWEST
    against: Against = "training" if few or options.split == "train" else "held-out"
    real = splits["train"] if against == "training" else splits[options.split]
    n = options.samples if options.samples is not None else max(FEWEST, min(_SAMPLES, len(real)))
    check_counts(n, len(real), against)
    if few and options.split != "train":
        notice(
            f"only {len(splits[options.split])} examples are held out, {FEWEST} are needed: samples are compared with "
            "training examples instead, which a model that copies them matches best"
        )
    return Plan(n, against)


def measure_all(runs: list[Measured], options: Evaluate, plan: Plan) -> None:
    """Measures every run alike."""
    for run in tracked(runs, "measuring", len(runs)):
        _measure(run, options)
    if plan.samples:
        _compare_samples(runs, options, plan)


def _measure(run: Measured, options: Evaluate) -> None:
    """What needs no samples."""
    from triptych.evaluate import evaluate as measure

    numbers = {"k": options.k, "draws": options.draws, "images": options.images, "hmc": options.hmc}
    run.estimates = measure(run.model, run.splits[options.split], **numbers, seed=options.seed)


def _compare_samples(runs: list[Measured], options: Evaluate, plan: Plan) -> None:
    """Samples of all runs by the same features, against the same real examples."""
    from triptych.evaluate import features, sample_quality

    splits = runs[0].splits
    test, train = splits[options.split], splits["train"]
    if plan.against == "training":
        test = splits["test"]
    seen = features(options.features, train, keep=plan.samples, download=options.download, notice=notice)
    how: dict[str, Any] = {"n": plan.samples, "temperature": options.temperature, "seed": options.seed}
    for run in tracked(runs, "comparing samples", len(runs)):
        run.quality = sample_quality(run.model, test, train, seen, **how, against=plan.against, like=runs[0].quality)


def _report(runs: list[Measured], options: Evaluate) -> None:
    """Prints one run's tables, or one table of several; writes and keeps the figures."""
    marked = not_comparable(runs)
    if options.json != STDOUT:
        _print(runs, options, marked)
    if options.data is None:
        for run in runs:
            _keep(run, options)
    if options.json and len(runs) == 1:
        write_result(options.json, runs[0].as_json())
    elif options.json:
        write_result(options.json, {"runs": {run.run: run.as_json() for run in runs}, "not_comparable": marked})


def _print(runs: list[Measured], options: Evaluate, marked: dict[str, str]) -> None:
    if len(runs) > 1:
        tables.print_runs(runs, options.split, marked)
        return
    (run,) = runs
    if run.estimates:
        tables.print_estimates(run.estimates, f"{run.run} on {options.split}")
    if run.quality:
        tables.print_quality(run.quality, f"{run.quality.n} samples of {run.run}")


def not_comparable(runs: list[Measured]) -> dict[str, str]:
    """Measures of several runs that are of different things, and why: likelihoods of pixels that are read otherwise."""
    readings = {run.run: f"{run.model.codec.name} at {run.model.codec.bits} bits" for run in runs if "nll" in run.estimates}
    found: dict[str, str] = {}
    names = [name for run in runs for name in run.estimates]
    if len(set(readings.values())) > 1:
        why = "pixels are read otherwise: " + ", ".join(f"{run} {reading}" for run, reading in readings.items())
        found |= {name: why for name in names if name in _LIKELIHOODS}
    depths = {run.run: run.model.codec.bits for run in runs if "bits_per_dim" in run.estimates}
    if len(set(depths.values())) > 1:
        why = "of other depths: " + ", ".join(f"{run} {bits} bits" for run, bits in depths.items())
        found |= {name: why for name in names if name.startswith("bits_per_dim")}
    return found


def _keep(run: Measured, options: Evaluate) -> None:
    """The figures on the run's own data, in the run, for `triptych list`."""
    from triptych import storage

    folder = Path(run.run)
    if not folder.is_dir():
        return  # of the hub
    kept = {"step": newest_step(folder), "split": options.split, "measures": run.as_json()}
    try:
        storage.write_json(folder / "evaluation.json", kept)
    except TriptychError as error:
        notice(f"the figures are not kept in the run: {error}")


_LIKELIHOODS = ("elbo", "log_likelihood", "nll", "nll_unconditional", "log_marginal_hmc", "kl")
