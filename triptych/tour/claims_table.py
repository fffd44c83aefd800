"""Claims 15 and 16: all in one table, and families alone against families composed."""

from __future__ import annotations

import dataclasses
from typing import Any

from triptych.report import Block, Chart, Figure, Number, Series, Table
from triptych.tour.claim import FAILS, HOLDS, Claim, Numbers, Outcome, Rows, number
from triptych.tour.parts import rows_of, titles
from triptych.tour.place import Place
from triptych.tour.recorded import recorded, source

_LOWER = ("fid", "c2st", "bits", "reconstruction", "drags", "seconds")
_COLUMNS = {
    "fid": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "c2st": "told apart, nearest",
    "bits": "bits/dim",
    "reconstruction": "reconstruction",
    "moves": "smile moves",
    "drags": "drags",
    "seconds": "64 samples, s",
    "megabytes": "MB",
}
TRAINED = ("vae", "normal", "sharp", "gan", "spectral", "glow")
HINGES = (("VAE", "VAE + prior"), ("GAN", "GAN + encoder"), ("Glow", "Glow + whitening"))


def _row(row: dict[str, Any]) -> dict[str, Number]:
    samples, density = row["samples"], row["density"]
    found = {
        key: number(samples[name])
        for key, name in (("fid", "fid"), ("precision", "precision"), ("recall", "recall"), ("c2st", "c2st_1nn"))
    }
    if "bits_per_dim" in density:
        found["bits"] = number(density["bits_per_dim"])
    if "reconstruction" in row:
        found["reconstruction"] = number(row["reconstruction"])
        found["moves"] = Number(row["share"]["smile"], digits=2)
        found["drags"] = Number(abs(row["leakage"]["smile"]), digits=2)
    return found | {"seconds": Number(row["sample_64"], digits=3), "megabytes": Number(row["megabytes"], digits=1)}


def _table(place: Place) -> Numbers:
    return {
        f"{name} {key}": value
        for name in rows_of(place.settings)
        for key, value in _row(place.numbers(f"row-{name}")).items()
    }


def best(numbers: Numbers, key: str) -> str:
    """The model of the tour that is best by a column."""
    known = {name: numbers[f"{name} {key}"].value for name in TRAINED if f"{name} {key}" in numbers}
    return (min if key in _LOWER else max)(known, key=lambda name: known[name])


def _judge_table(numbers: Numbers) -> tuple[Outcome, str]:
    keys = ("fid", "bits", "reconstruction", "drags", "seconds")
    names = {
        "vae": "VAE + prior",
        "normal": "VAE, N(0, I)",
        "sharp": "sharpened VAE",
        "gan": "GAN",
        "spectral": "spectral flow",
        "glow": "Glow",
    }
    leaders = {key: best(numbers, key) for key in keys}
    words = {
        "fid": "samples",
        "bits": "likelihood",
        "reconstruction": "reconstruction",
        "drags": "edits that drag least",
        "seconds": "speed",
    }
    said = ", ".join(f"{words[key]}: {names[leader]}" for key, leader in leaders.items())
    return (HOLDS if len(set(leaders.values())) > 1 else FAILS), f"No family leads everywhere. First in {said}."


def _show_table(place: Place, numbers: Numbers) -> list[Block]:
    names = titles(place.settings)
    rows: Rows = [[names[name], *(_cell(numbers, f"{name} {key}") for key in _COLUMNS)] for name in rows_of(place.settings)]
    floor = place.numbers("floor")
    real = {"fid": "fid", "precision": "precision", "recall": "recall", "c2st": "c2st_1nn"}
    rows.append(
        [
            "real faces in their place",
            *(_uncounted(number(floor[real[key]])) if key in real and real[key] in floor else "" for key in _COLUMNS),
        ]
    )
    sheets = [
        Figure(_sheet(place, name), f"Samples of the {names[name]}", names[name])
        for name in rows_of(place.settings)
        if place.pictures(f"row-{name}")
    ]
    return [
        Table(
            ["", *_COLUMNS.values()],
            rows,
            "Every model of the tour, measured alike",
            "Lower is better but for precision, recall and “moves”. Told apart: how often a nearest neighbour tells "
            "samples from faces, ½ is best. A VAE’s bits/dim is a bound; the GAN’s codes are those of its encoder. "
            f"{place.settings.samples:,} samples, likelihoods of {place.settings.scored // 2} held-out faces, "
            f"reconstructions of {place.settings.scored}; one thread.",
        ),
        *sheets,
    ]


def _cell(numbers: Numbers, name: str) -> Number | str:
    return _uncounted(numbers[name]) if name in numbers else "–"


def _uncounted(value: Number) -> Number:
    """Without n, which the table's note says once."""
    return dataclasses.replace(value, n=None)


def _sheet(place: Place, name: str) -> Any:
    from triptych import figures

    return figures.grid(place.pictures(f"row-{name}")["samples"][:32], columns=16)


def _together(place: Place) -> Numbers:
    found = {f"{name} fid": number(place.numbers(f"row-{name}")["samples"]["fid"]) for name in TRAINED}
    found |= {f"{name} seconds": Number(place.numbers(name)["cpu_seconds"], unit="s") for name in place.settings.models}
    for data in ("faces", "photographs"):
        for alone, composed in HINGES:
            found |= {f"{data} {kind} fid": recorded(f"{data} {kind} fid") for kind in (alone, composed)}
    return found


def _judge_together(numbers: Numbers) -> tuple[Outcome, str]:
    alone, composed = numbers["normal fid"], numbers["vae fid"]
    return (HOLDS if composed.value < alone.value else FAILS), (
        f"The same VAE’s samples go from a Fréchet distance of **{alone}** with N(0, I) to **{composed}** with a flow "
        f"as its prior. At equal budgets of 300 seconds, recorded: {numbers['faces VAE fid'].shown} alone, "
        f"{numbers['faces VAE + prior fid'].shown} together, and {numbers['photographs VAE fid'].shown} and "
        f"{numbers['photographs VAE + prior fid'].shown} on photographs."
    )


def _show_together(place: Place, numbers: Numbers) -> list[Block]:
    kinds = [kind for pair in HINGES for kind in pair]
    series = [
        Series(data, kinds, [numbers[f"{data} {kind} fid"].value for kind in kinds], recorded=True)
        for data in ("faces", "photographs")
    ]
    rows: Rows = [
        ["VAE with N(0, I) → with a flow as prior", numbers["normal fid"], numbers["vae fid"]],
        ["VAE + prior → its decoder sharpened", numbers["vae fid"], numbers["sharp fid"]],
    ]
    return [
        Table(
            ["hinge, Fréchet distance", "alone", "together"],
            rows,
            "In this tour",
            f"The first row is one set of weights: only the prior differs. The second adds {numbers['sharp seconds']} "
            "of training.",
        ),
        Chart(
            series,
            "",
            "Fréchet distance",
            "Families alone and composed after the same 300 seconds",
            f"Lower is better; each bar a run of its own. {source('faces VAE fid')}",
            kind="bar",
        ),
    ]


CLAIMS = (
    Claim(
        15,
        "Everything in one table",
        "Three families, three strengths: the essay reads three papers one after another. Here they stand side by "
        "side, on the same faces, by the same features and the same judge.",
        "`triptych.evaluate.sample_quality` and `evaluate`, `triptych.edit.judge`, on held-out faces; ± is one "
        "standard error",
        ("row-vae", "row-normal", "row-sharp", "row-gan", "row-spectral", "row-glow"),
        _table,
        _judge_table,
        _show_table,
        "For samples alone, a GAN or a VAE with a learned prior; for a likelihood, or pictures that "
        "must come back exactly, a flow; for edits, the VAE, or a flow at the right depth.",
    ),
    Claim(
        16,
        "Together they do better than alone",
        "A triptych has hinges. A flow learns where a VAE’s codes lie, a discriminator sharpens its decoder, an "
        "encoder gives a GAN its codes, a whitening gives Glow its start. Each is a part in another’s place.",
        "The tour’s own models; recorded: each kind after 300 seconds of one core, the composition’s time included",
        ("row-vae", "row-normal", "row-sharp", "row-gan", "row-spectral", "row-glow"),
        _together,
        _judge_together,
        _show_together,
        "The prior is the hinge that pays first. Sharpening pays late: give it a run of an hour, not of minutes.",
    ),
)
