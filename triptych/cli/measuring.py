"""What is measured of a trained run besides its figures: score, doctor."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Doctor, Score
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
    from triptych.recipes import Recipe


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


def doctor(words: Sequence[str]) -> None:
    """Prints what is wrong with a training, from its records and a few samples."""
    options = parse(Doctor, words, "triptych doctor")
    if options.samples < 0 or options.samples == 1:
        raise TriptychError(f"--samples should be 0, or 2 or more to be compared with one another, got {options.samples}")
    from triptych import storage
    from triptych.doctor import History, diagnose, examine

    history, found, looked_at = History.of(Path(options.run)), {}, True
    if options.samples:
        model = load_model(str(options.run), options.model)
        splits = load_splits(str(options.run), model, options.data)
        try:
            found = examine(model, splits, options.samples)
        except TriptychError as error:  # of a model that is ill itself: the records still say why
            looked_at = False
            notice(f"its samples could not be looked at: {error}")
    verdicts = diagnose(history, found, _recipe(Path(options.run)))
    verdicts = [verdict for verdict in verdicts if looked_at or verdict.name != "healthy"]
    for verdict in verdicts:
        print(verdict)
    if options.json:
        storage.write_json(options.json, {"verdicts": [dataclasses.asdict(v) for v in verdicts], "samples": found})


def _recipe(run: Path) -> Recipe | None:
    """The run's own, if it can be read: records are judged without it too."""
    from triptych.pretrained import read_recipe

    with contextlib.suppress(TriptychError):
        return read_recipe(run)
    return None
