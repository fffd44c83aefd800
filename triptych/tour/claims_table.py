"""Claims 15 and 16: all in one table, and families alone against families composed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from triptych.report import Block, Chart, Figure, Number, Series, Table
from triptych.tour.claim import FAILS, HOLDS, Claim, Numbers, Outcome, Rows, above, number
from triptych.tour.parts import rows_of, titles
from triptych.tour.place import Place
from triptych.tour.recorded import recorded, source
from triptych.tour.settings import Trained

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
HINGES = {
    "a flow as the VAE’s prior": ("VAE", "VAE + prior"),
    "a sharpened decoder": ("VAE + prior", "VAE + prior, sharpened"),
    "a whitening before Glow": ("Glow", "Glow + whitening"),
}
"""Alone and composed, as recorded; an encoder gives a GAN codes, not better samples."""
HERE = {
    "a flow as the VAE’s prior": ("alone-vae", "vae"),
    "a sharpened decoder": ("longer-vae", "sharp"),
    "a whitening before Glow": ("alone-glow", "glow"),
}
"""The hinges that a tour's own models measure, at equal budgets: a quick tour the first alone."""
DATA = ("faces", "photographs")


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
    settings = place.settings
    measured = {name: f"row-{name}" for name in TRAINED} | {name: f"other-{name}" for name in _alone(settings.others)}
    found = {f"{name} fid": number(place.numbers(part)["samples"]["fid"]) for name, part in measured.items()}
    for name in (*settings.models, *_alone(settings.others)):
        found[f"{name} seconds"] = Number(place.numbers(name)["cpu_seconds"], unit="s", digits=0)
    return found | {f"{data} {kind} fid": recorded(f"{data} {kind} fid") for data in DATA for kind in _kinds()}


def _alone(others: Mapping[str, Trained]) -> dict[str, Trained]:
    """The models that composed ones are compared with."""
    return {name: others[name] for name, _ in HERE.values() if name in others}


def _kinds() -> list[str]:
    """What is recorded, each once."""
    return list(dict.fromkeys([*(kind for pair in HINGES.values() for kind in pair), "GAN"]))


def _paying(numbers: Numbers) -> dict[str, list[bool]]:
    """Whether what is composed has the smaller distance, in each comparison of each hinge."""
    here = {hinge: pair for hinge, pair in HERE.items() if f"{pair[0]} fid" in numbers}
    pairs = {
        hinge: [*([here[hinge]] if hinge in here else []), *((f"{data} {alone}", f"{data} {composed}") for data in DATA)]
        for hinge, (alone, composed) in HINGES.items()
    }
    return {
        hinge: [above(numbers[f"{alone} fid"], numbers[f"{composed} fid"]) for alone, composed in compared]
        for hinge, compared in pairs.items()
    }


def _judge_together(numbers: Numbers) -> tuple[Outcome, str]:
    paying = _paying(numbers)
    won, compared = sum(map(sum, paying.values())), sum(map(len, paying.values()))
    groups = {
        "Pays": [hinge for hinge, wins in paying.items() if all(wins)],
        "Pays now and then": [hinge for hinge, wins in paying.items() if any(wins) and not all(wins)],
        "Does not pay in the time that it had": [hinge for hinge, wins in paying.items() if not any(wins)],
    }
    said = " ".join(f"{title}: {', '.join(hinges)}." for title, hinges in groups.items() if hinges)
    here = paying["a flow as the VAE’s prior"][0]  # this tour's own weights decide, where the record agrees
    return (HOLDS if here and 2 * won > compared else FAILS), (
        f"Composed, a model has the smaller Fréchet distance in **{won} of {compared}** comparisons at equal budgets, "
        f"{compared - len(HINGES) * len(DATA)} of this tour and {len(HINGES) * len(DATA)} recorded. {said} Here a VAE with "
        f"N(0, I) is at **{numbers['alone-vae fid']}** after {numbers['alone-vae seconds']} of one core, and at "
        f"**{numbers['vae fid']}** where some of {numbers['vae seconds']} went into a flow as its prior; sharpened, "
        f"that one is at {numbers['sharp fid']}."
    )


def _show_together(place: Place, numbers: Numbers) -> list[Block]:
    kinds, names = _kinds(), titles(place.settings)
    series = [Series(data, kinds, [numbers[f"{data} {kind} fid"].value for kind in kinds], recorded=True) for data in DATA]
    fid = {name: _uncounted(numbers[f"{name} fid"]) for name in (*TRAINED, *_alone(place.settings.others))}
    rows: Rows = [
        [
            f"{hinge} ({names[other]} → {names[own]})",
            fid[other],
            numbers[f"{other} seconds"],
            fid[own],
            numbers[f"{own} seconds"],
        ]
        for hinge, (other, own) in HERE.items()
        if other in fid
    ]
    rows += [
        ["the same VAE, N(0, I) put in the flow’s place", fid["normal"], "", fid["vae"], ""],
        ["the same VAE, then sharpened", fid["vae"], "", fid["sharp"], numbers["sharp seconds"]],
    ]
    return [
        Table(
            ["hinge", "alone", "its seconds", "together", "their seconds"],
            rows,
            "In this tour: Fréchet distances, and seconds of one core",
            "The first rows spend as much time on either side, “longer” and “sharpened” both beyond the VAE with its prior. "
            "In the last two rows weights are shared: the time is what the composed one takes beyond the other. "
            f"{place.settings.samples:,} samples.",
        ),
        Chart(
            series,
            "",
            "Fréchet distance",
            "Families alone and composed after the same 300 seconds",
            f"Lower is better; each bar a run of its own. {source('faces VAE fid')}; the others {source('faces GAN fid')}",
            kind="bar",
        ),
    ]


CLAIMS = (
    Claim(
        15,
        "Everything in one table",
        "Three families, three strengths: the essay reads three papers one after another. Here they stand side by "
        "side, on the same faces, by the same features and the same judge.",
        "`frechet_distance`, `precision_recall`, `two_sample_test` and `evaluate` of `triptych.evaluate`, "
        "`triptych.edit.judge`, on held-out faces; ± is one standard error",
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
        "The tour’s own models, the VAE alone for as long as with its prior; recorded: each kind after 300 seconds of one "
        "core, the composition’s time included",
        _together,
        _judge_together,
        _show_together,
        "Begin with the prior. Sharpen a decoder once the VAE stands: within a few minutes in all, the VAE itself "
        "needs the time. An encoder gives a GAN codes of pictures, not better samples.",
    ),
)
