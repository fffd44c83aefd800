"""Figures as tables in a terminal: of one run, of several side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.core import Estimate
    from triptych.evaluate.quality import Quality


def print_estimates(results: Mapping[str, Estimate], title: str) -> None:
    """Likelihoods and what else needs no samples."""
    caption = "bits_per_dim is an upper bound on the code length" if "bits_per_dim" in results else None
    rows = [(name, _value(e), "" if math.isnan(e.stderr) else f"{e.stderr:.4f}", str(e.n)) for name, e in results.items()]
    _print(("measure", "value", "± stderr", "n"), rows, title, caption)


def print_quality(quality: Quality, title: str) -> None:
    """Measures of samples, beside what real data score in their place.

    Args:
        title: whose samples; what they are compared with and by is added.
    """
    rows = [
        (name, f"{e.value:.4g}", f"{e.stderr:.2g}", str(e.n), _floor(quality, name)) for name, e in quality.measures.items()
    ]
    columns = ("measure", "value", "± stderr", "n", _own(quality))
    _print(columns, rows, f"{title} {_against(quality)}", "\n".join(remarks(quality)))


def print_runs(runs: Sequence[Any], split: str, marked: Mapping[str, str]) -> None:
    """One table of several runs (`evaluating.Measured`): a row for each measure, a column for each run.

    Args:
        marked: measures that are not comparable, and why.
    """
    quality = runs[0].quality
    found = [{**run.estimates, **(run.quality.measures if run.quality else {})} for run in runs]
    names = list(dict.fromkeys(name for measures in found for name in measures))
    rows = []
    for name in names:
        counts = sorted({str(measures[name].n) for measures in found if name in measures})
        cells = [_cell(measures.get(name)) for measures in found]
        own = [_floor(quality, name)] if quality else []
        rows.append((name + " *" * (name in marked), *cells, *own, ", ".join(counts)))
    columns = ("measure", *(run.run for run in runs), *([_own(quality)] if quality else []), "n")
    said = [f"* not comparable: {why}" for why in dict.fromkeys(marked.values())]
    title = f"on {split}" + (f"; {quality.n} samples {_against(quality)}" if quality else "")
    _print(columns, rows, title, "\n".join([*said, *(remarks(quality) if quality else [])]))


def remarks(quality: Quality) -> list[str]:
    """What a table of a quality cannot be read without."""
    found = []
    if quality.against == "training":
        found.append("against training data: a model that copies them scores best")
    if quality.held_out < quality.n:
        found.append("shares and biases go with both counts: compare at equal ones")
    if not quality.floor:
        found.append("too few other examples for real data's own")
    elif quality.others < quality.n:
        found.append(
            f"real data's own is of {quality.others} examples in the place of {quality.n} samples: fewer score worse, so "
            "that a perfect model may score better than data"
        )
    if quality.scales is not None:
        number, taps = quality.scales
        scales = f"{number} scale{'s' * (number > 1)}" + (" of 5" if number < 5 else "")
        found.append(f"ms_ssim: {scales}, a window of {taps}, as the size allows")
    ratio = quality.measures.get("nearest_ratio")
    if ratio is not None and not math.isfinite(ratio.value):
        found.append("nearest_ratio: every sample is itself a held-out example, so that it says nothing")
    return found


def _against(quality: Quality) -> str:
    return f"against {quality.held_out} {quality.against} examples, by {quality.features}"


def _own(quality: Quality) -> str:
    """The head of the floor's column, with its count where that is not the samples'."""
    return "real data's own" + (f" (of {quality.others})" if 0 < quality.others < quality.n else "")


def _floor(quality: Quality, name: str) -> str:
    floor = quality.floor.get(name)
    return "" if floor is None else f"{floor.value:.4g}"


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    stderr = "" if math.isnan(estimate.stderr) else f" ± {estimate.stderr:.2g}"
    return f"{estimate.value:.5g}{stderr}"


def _value(estimate: Estimate) -> str:
    return f"{estimate.value:.1e}" if 0 < abs(estimate.value) < 1e-3 else f"{estimate.value:.4f}"


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, caption: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), caption=Text(caption) if caption else None)
    for column in columns:
        table.add_column(Text(column))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # a name may hold what rich would read as a style
    Console().print(table)
