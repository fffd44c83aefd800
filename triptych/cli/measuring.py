"""What is measured of a trained run: evaluate, score, doctor."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Doctor, Evaluate, Score
from triptych.cli.sources import (
    check_positive,
    check_seed,
    context_of,
    load_model,
    load_splits,
    named_split,
    notice,
    split_context,
)
from triptych.errors import TriptychError

if TYPE_CHECKING:
    from triptych.core import Estimate, GenerativeModel
    from triptych.data import Split, Splits
    from triptych.evaluate.quality import Quality
    from triptych.recipes import Recipe


def evaluate(words: Sequence[str]) -> None:
    """Prints the measures that the model's capabilities allow, and writes them as JSON."""
    options = parse(Evaluate, words, "triptych evaluate")
    check_positive(k=options.k, draws=options.draws, images=options.images, hmc=options.hmc + 1)
    check_seed(options.seed)
    from triptych import storage
    from triptych.evaluate import evaluate as measure

    model = load_model(options.run, options.model)
    splits = load_splits(options.run, model, options.data)
    split = named_split(splits, options.split)
    drawn = _samples(options, model, split)
    numbers = {"k": options.k, "draws": options.draws, "images": options.images, "hmc": options.hmc}
    results = measure(model, split, **numbers, seed=options.seed)
    stored: dict[str, Any] = {name: estimate._asdict() for name, estimate in results.items()}
    if results:
        _print_estimates(results, f"{options.run} on {options.split}")
    if drawn:
        quality = _quality(options, model, splits, drawn)
        against = f"{quality.n} samples of {options.run} against {quality.held_out} held-out examples"
        _print_quality(quality, f"{against}, by {quality.features}")
        stored |= quality.as_json()
    if not stored:
        raise TriptychError(f"a {type(model).__name__} is measured by its samples alone: leave out --samples 0")
    if options.json:
        storage.write_json(options.json, stored)


def score(words: Sequence[str]) -> None:
    """Writes the log-likelihood of each example; of a conditional model, given its attributes and without them."""
    options = parse(Score, words, "triptych score")
    check_positive(k=options.k)
    check_seed(options.seed)
    import torch

    from triptych import storage
    from triptych.evaluate.likelihood import log_likelihoods

    if not options.data:
        raise TriptychError("score expects a run and data: triptych score RUN DATA")
    model = load_model(options.run, options.model)
    splits, asked = load_splits(options.run, model, options.data), context_of(model, options.given)
    noise = torch.Generator(model.device).manual_seed(options.seed)
    rows: list[list[Any]] = []
    for name in [options.split] if options.split else splits:
        split = named_split(splits, name)
        context = split_context(model, split) if asked is None else asked
        found = log_likelihoods(model, split[:], context=context, k=options.k, generator=noise)
        if context is not None:
            alone = log_likelihoods(model, split[:], k=options.k, generator=noise)
            found |= {f"{column}_unconditional": values for column, values in alone.items()}
        columns = ["split", "example", *found]
        rows += [[name, i, *(f"{v:.6g}" for v in row)] for i, row in enumerate(zip(*found.values(), strict=True))]
    lines = "".join(",".join(map(str, row)) + "\n" for row in [columns, *rows])
    storage.write_file(options.out, lambda p: p.write_text(lines, encoding="utf-8"))
    print(options.out)


def _samples(options: Evaluate, model: GenerativeModel, split: Split) -> int:
    """How many samples are measured: some where they are asked for or nothing else can be; checked before any work."""
    from triptych.capabilities import HasDensity
    from triptych.evaluate.quality import FEWEST, check_counts

    if options.samples == 0 or (options.samples is None and isinstance(model, HasDensity)):
        return 0
    if options.split == "train":
        raise TriptychError("samples are compared with data that were held out: leave out --split train, or --samples")
    n = options.samples if options.samples is not None else max(FEWEST, min(_SAMPLES, len(split)))
    check_counts(n, len(split))
    return n


def _quality(options: Evaluate, model: GenerativeModel, splits: Splits, n: int) -> Quality:
    from triptych.evaluate import features, sample_quality

    test, train = splits[options.split], splits["train"]
    if options.features == "learned":
        notice("learning features from the training data, less those that real data's own measures are taken from")
    seen = features(options.features, train, keep=n, download=options.download)
    return sample_quality(model, test, train, seen, n=n, temperature=options.temperature, seed=options.seed)


_SAMPLES = 1000


def doctor(words: Sequence[str]) -> None:
    """Prints what is wrong with a training, from its records and a few samples."""
    options = parse(Doctor, words, "triptych doctor")
    if options.samples < 0 or options.samples == 1:
        raise TriptychError(f"--samples should be 0, or 2 or more to be compared with one another, got {options.samples}")
    from triptych import storage
    from triptych.doctor import History, diagnose, examine

    history, found = History.of(Path(options.run)), None
    if options.samples:
        model = load_model(str(options.run), options.model)
        splits = load_splits(str(options.run), model, options.data)
        try:
            found = examine(model, splits, options.samples)
        except TriptychError as error:  # of a model that is ill itself: the records still say why
            notice(f"its samples could not be looked at: {error}")
    verdicts = diagnose(history, found, _recipe(Path(options.run)))
    for verdict in verdicts:
        print(verdict)
    if options.json:
        storage.write_json(options.json, {"verdicts": [dataclasses.asdict(v) for v in verdicts], "samples": found or {}})


def _recipe(run: Path) -> Recipe | None:
    """The run's own, if it can be read: records are judged without it too."""
    from triptych.pretrained import read_recipe

    with contextlib.suppress(TriptychError):
        return read_recipe(run)
    return None


def _print_quality(quality: Quality, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("measure", "value", "± stderr", "n", "real data's own", title=title, caption=_remarks(quality))
    for name, estimate in quality.measures.items():
        floor = quality.floor.get(name)
        own = "" if floor is None else f"{floor.value:.4g}"
        table.add_row(name, f"{estimate.value:.4g}", f"{estimate.stderr:.2g}", str(estimate.n), own)
    Console().print(table)


def _remarks(quality: Quality) -> str:
    """What the table cannot be read without."""
    remarks = []
    if quality.held_out < quality.n:
        remarks.append("shares and biases go with both counts: compare at equal ones")
    if not quality.floor:
        remarks.append("too few training examples for real data's own")
    if quality.scales is not None:
        number, taps = quality.scales
        scales = f"{number} scale{'s' * (number > 1)}" + (" of 5" if number < 5 else "")
        remarks.append(f"ms_ssim: {scales}, a window of {taps}, as the size allows")
    if not math.isfinite(quality.measures["nearest_ratio"].value):
        remarks.append("nearest_ratio: every sample is itself a held-out example, so that it says nothing")
    return "\n".join(remarks)


def _print_estimates(results: dict[str, Estimate], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    caption = "bits_per_dim is an upper bound on the code length" if "bits_per_dim" in results else None
    table = Table("measure", "value", "± stderr", "n", title=title, caption=caption)
    for name, estimate in results.items():
        value = f"{estimate.value:.1e}" if 0 < abs(estimate.value) < 1e-3 else f"{estimate.value:.4f}"
        stderr = "" if math.isnan(estimate.stderr) else f"{estimate.stderr:.4f}"
        table.add_row(name, value, stderr, str(estimate.n))
    Console().print(table)
