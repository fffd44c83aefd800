"""The report of a tour: the sixteen claims, after what was trained and before how it was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from triptych import storage
from triptych.progress import duration
from triptych.report import Number, Page, Section, Strip, Table, Text, write
from triptych.report.blocks import Block
from triptych.tour.claim import HOLDS, Claim
from triptych.tour.claims import CLAIMS
from triptych.tour.parts import rows_of, titles
from triptych.tour.place import ON_BOARD, Place
from triptych.version import __version__

_SHOWN = 8
_FAMILIES = (
    "A **variational autoencoder** learns two maps at once, from a picture to a short code and back, and is honest "
    "about what it does not know. A **generative adversarial network** learns only the way back, from a critic’s "
    "opinion. A **flow** learns one map that can be undone. Each turns codes z ~ p(z) into data, so each can take "
    "another’s part: those are the hinges of a triptych.",
    "Everything below was trained and measured on this machine, on drawn faces whose eleven attributes are known "
    "exactly. A network of attributes that never saw a model judges all edits; one set of features compares all "
    "samples. Where a figure takes longer than this tour, an earlier one is quoted, with its command, and says "
    "<recorded>.",
)


def report(place: Place, claims: Sequence[Claim] = CLAIMS) -> Path:
    """Writes report.html, report.json (the page) and claims.json (the numbers that each claim was judged by)."""
    sections = [claim.section(place) for claim in claims]
    page = Page(
        "A tour of three families",
        _lead(sections),
        (_beginning(place), *sections, _end(place)),
        footer=f"triptych {__version__} · torch {torch.__version__} · Python {platform.python_version()} · {_machine()}",
        counted=False,
    )
    path = place.folder / "report.html"
    storage.write_json(place.folder / "claims.json", {"claims": [claim.data(place) for claim in claims]})
    write(page, path)
    return path


def _lead(sections: Sequence[Section]) -> str:
    holding = sum(section.verdict is not None and section.verdict.holds == HOLDS for section in sections)
    quoted = sum(section.verdict is not None and section.verdict.holds == "recorded" for section in sections)
    others = len(sections) - holding - quoted
    said = f"{holding} hold" + (f", {quoted} {'rests' if quoted == 1 else 'rest'} on recorded figures" if quoted else "")
    return (
        "What a VAE, a GAN and a normalizing flow can each do, what they are together, and how far to trust it. An "
        f"essay of 2018 made claims about them. Of the sixteen here, **{said}**"
        + (f", and **{others} {'does' if others == 1 else 'do'} not hold here**." if others else ".")
    )


def _beginning(place: Place) -> Section:
    """What was trained, and what comes out of it."""
    names = titles(place.settings)
    rows: list[list[str | Number]] = []
    for name, trained in place.settings.models.items():
        said = place.numbers(name)
        rows.append(
            [
                trained.title,
                Number(said["steps"]),
                Number(round(said["cpu_seconds"]), unit="s of one core"),
                Number(said["parameters"] / 1e6, unit="million", digits=2),
            ]
        )
    shown = [name for name in rows_of(place.settings) if name != "normal"]
    pictures = [list(place.pictures(f"row-{name}")["samples"][:_SHOWN]) for name in shown]
    table = Table(["trained here", "steps", "took", "parameters"], rows)
    strip = Strip(
        [list(place.data.test[:_SHOWN]), *pictures],
        ["real faces", *(names[n] for n in shown)],
        [],
        "Faces drawn by hand and by every model",
        "The first row is data; all others were made of noise.",
    )
    blocks: list[Block] = [strip, table]
    if not any(name in ON_BOARD for name in shown):
        blocks.append(Text("The models that come with the package, trained for longer, are not part of this installation."))
    text = tuple(paragraph.replace("<recorded>", "**recorded**") for paragraph in _FAMILIES)
    return Section("families", "Three families, one idea", text, tuple(blocks))


def _end(place: Place) -> Section:
    judge = place.numbers("judge")
    least = min(judge["r2"], key=lambda name: judge["r2"][name])
    text = (
        f"The faces are drawn, {place.settings.examples:,} to learn from and a tenth as many held out; all figures are "
        f"of held-out ones. The judge reads them with R² of at least {judge['r2'][least]:.2f} (its hardest: "
        f"{least.replace('_', ' ')}; n = {judge['n']:,}). ± is one standard error over examples; one seed of each "
        "training, so differences of a few hundredths between models mean little.",
        f"This tour is the {place.settings.name} one"
        + ("" if place.scale == 1 else _fewer(place.scale))
        + f"; it took {duration(place.plan['seconds'])}. `triptych tour --full` trains longer, and measures the mixing of "
        f"channels and learning from few faces too. The models are runs: `triptych studio {place.folder}` opens them, and "
        "every verb of `triptych` takes them.",
    )
    return Section("method", "How it was measured", text)


def _fewer(share: float) -> str:
    return f", with {share:.0%} of its steps and fewer examples in its measures, which is what this machine does in the time"


def _machine() -> str:
    cpu = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
        if cpu.exists()
        else []
    )
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor() or platform.machine()}"
