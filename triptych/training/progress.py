"""Progress of a training, for whoever wants to see it: a bar in a terminal, lines elsewhere (notebooks, log files)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triptych.training.loop import Round, Watch
from triptych.training.run import Run

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY = 30.0
"""Seconds between lines where there is no terminal."""
_SHOWN = (
    "loss",
    "elbo",
    "kl",
    "prior_nll",
    "bits_per_dim",
    "nll",
    "round_trip",
    "d_accuracy",
    "spread_ratio",
    "drift",
    "bad_steps",
)


class Bar:
    """A bar with the newest numbers; nothing where nobody watches (no terminal)."""

    def __init__(self, run: Run, console: Console | None = None):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = console or Console(stderr=True)
        self.run = run
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            disable=not (console.is_terminal and run.is_main),
        )

    def __enter__(self) -> Watch:
        self.bar.start()
        task = self.bar.add_task("training", total=self.run.recipe.steps, completed=self.run.step, numbers="")

        def watch(step: Round, numbers: Mapping[str, float | None]) -> None:
            self.bar.update(task, completed=step.step, numbers=_written(numbers))

        return watch

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


class Lines:
    """A line with the newest numbers every `LINE_EVERY` seconds, and at the end, on standard error."""

    def __init__(self, run: Run):
        self.run = run

    def __enter__(self) -> Watch:
        last, total = time.monotonic(), self.run.recipe.steps

        def watch(step: Round, numbers: Mapping[str, float | None]) -> None:
            nonlocal last
            if self.run.is_main and (step.step == total or time.monotonic() - last >= LINE_EVERY):
                last = time.monotonic()
                print(f"step {step.step} of {total}  {_written(numbers)}", file=sys.stderr, flush=True)

        return watch

    def __exit__(self, *_: object) -> None:
        pass


def shown(run: Run) -> Bar | Lines:
    """A bar in a terminal, lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    return Bar(run, console) if console.is_terminal else Lines(run)


def _written(numbers: Mapping[str, float | None]) -> str:
    return "  ".join(f"{k} {v:.4g}" for k, v in numbers.items() if k in _SHOWN and v is not None)
