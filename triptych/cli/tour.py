"""`triptych tour`: the whole argument, measured on the reader's own machine, in one report."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from triptych.cli import parse
from triptych.cli.options import Tour


def tour(words: Sequence[str]) -> None:
    """Trains, measures, and writes a report, whose path is the last line."""
    options = parse(Tour, words, "triptych tour")
    from triptych import progress
    from triptych.tour import FULL, QUICK
    from triptych.tour import tour as toured

    settings = FULL if options.full else QUICK
    out = options.out or Path("tour-full" if options.full else "tour")
    with progress.shown():
        path = toured(out, settings=settings, jobs=options.jobs, minutes=options.minutes, anew=options.anew)
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    print(path)
