"""Several models on one page: their figures in tables, and their pictures side by side, from the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from triptych.capabilities import Encodes, HasDensity
from triptych.core import Estimate, GenerativeModel
from triptych.evaluate import Quality
from triptych.progress import duration
from triptych.report.blocks import Block, Details, Points, Text
from triptych.report.charts import Chart, Series
from triptych.report.measures import MEASURES, Group, measure
from triptych.report.numbers import Number
from triptych.report.page import Page, Section
from triptych.report.tables import Cell, Table


class Training(NamedTuple):
    """What a run's records say of how a model came about; None where they do not say it.

    Attributes:
        data: what it was trained on.
        steps, of: how many steps it has had, of how many.
        seconds: how long they took.
        bytes: of the file of its weights.
    """

    data: str | None = None
    steps: int | None = None
    of: int | None = None
    seconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that is compared, and what was measured of it."""

    name: str
    """Of its column."""
    model: GenerativeModel
    """Itself."""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """What `triptych.evaluate.evaluate` measures."""
    quality: Quality | None = None
    """What `triptych.evaluate.sample_quality` measures."""
    speeds: Mapping[str, Estimate] = field(default_factory=dict)
    """Examples a second, of `speed.speeds`."""
    training: Training = field(default_factory=Training)
    """Of its run."""
    k: int = 1
    """Draws of the bound, where its likelihood is one."""

    @property
    def measures(self) -> dict[str, Estimate]:
        """All by name."""
        return {**self.estimates, **(self.quality.measures if self.quality else {})}

    @property
    def kind(self) -> str:
        """What its likelihood is."""
        if not isinstance(self.model, HasDensity):
            return "none: it cannot score an example"
        bound = "exact" if self.model.bound == "exact" else f"a bound, {self.k:,} draws"
        of = "mass of the stored values" if self.model.measure == "mass" else "density"
        noise = ", with noise in each pixel's bin" if self.model.codec.noisy else ""
        return f"{bound}; {of}{noise}"

    @property
    def encoding(self) -> str:
        """How it finds the codes of an example."""
        if not isinstance(self.model, Encodes):
            return "by inversion"
        return "exactly" if isinstance(self.model, HasDensity) and self.model.bound == "exact" else "by an encoder"


def page(
    candidates: Sequence[Candidate],
    pictures: Sequence[Section],
    *,
    title: str,
    lead: str,
    marked: Mapping[str, str],
    cares: Sequence[str],
    how: Sequence[str],
    footer: str = "",
) -> Page:
    """The report.

    Args:
        pictures: sections of what they make.
        marked: measures whose figures are not comparable here, and why.
        cares: what has to be kept in mind, a sentence each.
        how: what was measured how, a paragraph each.
    """
    kept = [Points(tuple(cares))] if cares else []
    figures = Section("figures", "The figures", (), tuple(_tables(candidates, marked)))
    careful = Section("care", "What to keep in mind", (), (*kept, *_withheld(candidates, marked)))
    measured = Section("how", "How this was measured", tuple(how))
    sections = [figures, *([careful] if careful.blocks else []), *pictures, measured]
    return Page(title, lead, tuple(sections), footer)


def _tables(candidates: Sequence[Candidate], marked: Mapping[str, str]) -> list[Block]:
    found: list[Block] = [_group(candidates, "likelihood", "Likelihood of held-out examples", marked)]
    found.append(_group(candidates, "codes", "Codes and what they give back", marked))
    if any(c.quality for c in candidates):
        found += [_group(candidates, "samples", "Samples against real examples", marked), _balance(candidates)]
    return [*(b for b in found if not isinstance(b, Table) or b.rows), _costs(candidates)]


def _group(candidates: Sequence[Candidate], group: Group, caption: str, marked: Mapping[str, str]) -> Table:
    rows: list[list[Cell]] = []
    heads = ["measure", *(c.name for c in candidates)]
    floor = next((c.quality.floor for c in candidates if c.quality), {}) if group == "samples" else {}
    if group == "likelihood":
        rows.append(["kind", *(c.kind for c in candidates)])
    if group == "codes":
        rows.append(["codes are found", *(c.encoding for c in candidates)])
    for name in _names(candidates, group):
        if name not in marked:
            cells = [_cell(c.measures.get(name)) for c in candidates]
            rows.append([measure(name, group).head, *cells, *([_cell(floor.get(name))] if floor else [])])
    return Table([*heads, *(["real data"] if floor else [])], rows, caption, _note(candidates, group))


def _names(candidates: Sequence[Candidate], group: Group) -> list[str]:
    """Measures of a group that any of them has, in the order of the table of measures, then as they come."""
    had = dict.fromkeys(name for c in candidates for name in (c.estimates if group != "samples" else c.measures))
    samples = {name for c in candidates if c.quality for name in c.quality.measures}
    belonging = [n for n in had if measure(n, "samples" if n in samples else "codes").group == group]
    order = [*MEASURES]
    return sorted(belonging, key=lambda name: order.index(name) if name in order else len(order))


def _cell(estimate: Estimate | None) -> Cell:
    return "–" if estimate is None else Number.of(estimate)


def _note(candidates: Sequence[Candidate], group: Group) -> str:
    if group == "likelihood":
        return (
            "± is one standard error over examples. A lower bound on log p is an upper bound on bits per dimension; of "
            "dequantised pixels an exact density gives one too. Bits are added to densities only."
        )
    if group == "codes":
        return "Errors are root mean squares in model coordinates, where a picture's range is 1."
    quality = next(c.quality for c in candidates if c.quality)
    against = f"{quality.held_out:,} {quality.against} examples, by the features `{quality.features}`"
    return (
        f"{quality.n:,} samples at temperature {quality.temperature:g} against {against}; **real data** is what other real "
        "examples score in the samples' place."
    )


def _balance(candidates: Sequence[Candidate]) -> Block:
    """Precision and recall of each: what a single distance hides."""
    having = [c for c in candidates if c.quality and "precision" in c.quality.measures]
    names = [c.name for c in having]
    series = [
        Series(name, names, [c.measures[name].value for c in having], [c.measures[name].stderr for c in having])
        for name in ("precision", "recall")
    ]
    caption = "**Precision**: the share of samples that lie among real examples; **recall**: the other way round."
    return Chart(series, "", "share", "precision and recall of each model's samples", caption, "bar")


def _costs(candidates: Sequence[Candidate]) -> Table:
    def row(label: str, *cells: Cell) -> list[Cell]:
        return [label, *cells]

    rows = [
        row("parameters", *(Number(sum(p.numel() for p in c.model.parameters())) for c in candidates)),
        row("of which make data", *(Number(sum(p.numel() for p in c.model.mapping().parameters())) for c in candidates)),
        row("size of the weights' file", *(_megabytes(c.training.bytes) for c in candidates)),
        row("latent dimensions", *(Number(c.model.latent_dim) for c in candidates)),
        row("sampled a second ↑", *(_cell(c.speeds.get("sampled")) for c in candidates)),
        row("encoded a second ↑", *(_cell(c.speeds.get("encoded")) for c in candidates)),
        row("trained on", *(c.training.data or "–" for c in candidates)),
        row("steps of training", *(_count(c.training.steps) for c in candidates)),
        row("time of training", *("–" if c.training.seconds is None else duration(c.training.seconds) for c in candidates)),
    ]
    note = (
        "Speeds are of this machine while it compared; their ± says how steady it was. Times are from the runs' own records."
    )
    return Table(["measure", *(c.name for c in candidates)], rows, "Size, speed and training", note)


def _megabytes(size: int | None) -> Cell:
    return "–" if size is None else Number(size / 1e6, unit="MB", digits=2 if size < 1e6 else 1)


def _count(number: int | None) -> Cell:
    return "–" if number is None else Number(number)


def _withheld(candidates: Sequence[Candidate], marked: Mapping[str, str]) -> list[Block]:
    """Figures that do not belong side by side, folded away under the reason."""
    having = {name: why for name, why in marked.items() if any(name in c.measures for c in candidates)}
    if not having:
        return []
    columns = ["measure", *(c.name for c in candidates)]
    rows = [[measure(name).label, *(_cell(c.measures.get(name)) for c in candidates)] for name in having]
    reasons = "; ".join(dict.fromkeys(having.values()))
    table = Table(columns, rows, "Not comparable with one another", f"{reasons}: each stands for itself.")
    return [Text(f"Figures that are **not comparable** stand apart: {reasons}."), Details("these figures", [table])]
