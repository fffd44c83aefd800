"""`tour`: everything in its order, from an empty folder to a report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from triptych import folders
from triptych.progress import duration
from triptych.tour.parts import parts_of
from triptych.tour.place import Place
from triptych.tour.reporting import report
from triptych.tour.schedule import Part, left, run
from triptych.tour.settings import QUICK, Settings
from triptych.vae import VAE

REFERENCE = 0.39
"""CPU seconds of `_probe` where parts cost what they say: it took 1.0 s on a core where they cost 2.57 times as much."""
MINUTES = {"quick": 8.0, "full": 150.0}
"""Most minutes that a tour should take on two cores."""
_LEAST, _LOST = 0.2, 0.9  # smallest share of the steps; share of the cores' time that is work
_JOBS = 4  # processes where nobody says how many: each takes up to a gigabyte


def tour(
    out: str | Path,
    *,
    settings: Settings = QUICK,
    jobs: int | None = None,
    minutes: float | None = None,
    anew: bool = False,
    notice: Callable[[str], object] = print,
) -> Path:
    """Trains and measures what is left of a tour, and writes its report.

    Args:
        out: its folder; a tour there goes on where it was stopped.
        settings: how large it is.
        jobs: parts done at once, each by a process of one thread; by default as many as cores, up to 4; 1: in this process.
        minutes: that a new tour may take: on slower machines trainings have fewer steps; by default 8, a full one 150.
        anew: removes the tour that is there.
        notice: called with lines for a person.

    Returns:
        the report's path.

    Raises:
        TriptychError: for a folder that holds something else, and where another process is at this tour.
    """
    start, jobs = time.perf_counter(), jobs or min(_JOBS, os.cpu_count() or 1)
    place, parts = Place(Path(out), settings), parts_of(settings)
    place.found()
    with folders.claimed(place.folder):
        _begin(place, parts, jobs, minutes, anew, notice)
        notice(_foretold(place, parts, jobs))
        try:
            run(place, parts, jobs)
        finally:
            place.add_seconds(time.perf_counter() - start)
        return report(place)


def _begin(
    place: Place, parts: Sequence[Part], jobs: int, minutes: float | None, anew: bool, notice: Callable[[str], object]
) -> None:
    """A new tour, of as many steps as fit into its minutes, or the one that was begun."""
    scale, slowness, new = 1.0, 1.0, anew or not place.begun
    wanted = MINUTES.get(place.asked.name) if minutes is None else minutes
    if new and wanted is not None:
        slowness = slow()
        scale = affordable(parts, min(jobs, os.cpu_count() or 1), slowness, wanted)
    place.begin(anew, scale, slowness)
    if not new and minutes is not None and left(place, parts):
        notice(f"the tour in {place.folder} goes on with the steps that it began with: --anew begins one of {minutes:g} min")


def affordable(parts: Sequence[Part], jobs: int, slowness: float, minutes: float) -> float:
    """The share of the trainings' steps that a machine so many times as slow does in so many minutes.

    >>> affordable(parts_of(QUICK), jobs=2, slowness=1.0, minutes=60.0)
    1.0
    """
    budget = 60 * minutes * jobs * _LOST / slowness
    shares = [step / 100 for step in range(round(100 * _LEAST), 101)]
    return max((share for share in shares if cost(parts, share) <= budget), default=_LEAST)


def cost(parts: Iterable[Part], share: float) -> float:
    """CPU seconds on the machine of the record, where trainings have a share of their steps."""
    return sum(part.costs(share) for part in parts)


def _foretold(place: Place, parts: list[Part], jobs: int) -> str:
    """How much there is to do, in words."""
    waiting, scale = left(place, parts), place.plan["scale"]
    seconds = cost(waiting, scale) * place.plan["slowness"] / min(jobs, os.cpu_count() or 1) / _LOST
    before = len(parts) - len(waiting)
    done = f", {before} of {len(parts)} parts are done already" if before else f", {len(parts)} parts"
    why = "which is the least" if scale == _LEAST else "to be done in time"
    fewer = "" if scale == 1 else f"; trainings have {scale:.0%} of their steps, {why}"
    if not waiting:
        return f"the tour in {place.folder} was done before: its report is written again (--anew measures again)"
    return f"a tour into {place.folder}: about {duration(seconds)} with {jobs} at once{done}{fewer}"


def slow() -> float:
    """How many times as long as on the machine of the record convolutions take here, of one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the parts have
    try:
        return max(0.25, min(_probe(), _probe()) / REFERENCE)
    finally:
        torch.set_num_threads(threads)


def _probe(steps: int = 5) -> float:
    """CPU seconds of forward and backward passes of a VAE, as trainings have; what the first pays for is not counted."""
    model, x = VAE((3, 32, 32), 32), torch.zeros(32, 3, 32, 32)

    def step() -> None:
        model.decode(model.encode(x)).square().mean().backward()

    step()
    start = time.process_time()
    for _ in range(steps):
        step()
    return time.process_time() - start
