"""Claims 12 and 13: temperature, few data, and codes for other tasks."""

from __future__ import annotations

from triptych.report import Beside, Block, Chart, Frames, Number, Series, Table
from triptych.tour.claim import FAILS, HOLDS, Claim, Numbers, Outcome, Rows, above, number, percent
from triptych.tour.codes import LABELS
from triptych.tour.place import Place
from triptych.tour.recorded import recorded, source
from triptych.tour.settings import COUNTS, FEW

TEMPERED = {"vae": "VAE + flow prior", "gan": "GAN", "spectral": "spectral flow"}
CODES = {"pixels": "raw pixels", "vae": "z of the VAE", "gan": "z of the GAN’s encoder"}
_COLD = 0.7


def _temperatures(place: Place) -> Numbers:
    said = place.numbers("temperatures")
    return {
        f"{name} {measure} T={t:g}": number(row[measure])
        for name in TEMPERED
        for t, row in zip(said["temperatures"], said[name], strict=True)
        for measure in ("fid", "precision", "recall")
    }


def _judge_temperatures(numbers: Numbers) -> tuple[Outcome, str]:
    def pair(name: str, measure: str) -> tuple[Number, Number]:
        return numbers[f"{name} {measure} T={_COLD:g}"], numbers[f"{name} {measure} T=1"]

    def change(name: str, measure: str) -> float:
        cold, whole = pair(name, measure)
        return cold.value - whole.value

    def agrees(name: str) -> bool:
        (precise, precise_at_1), (recalled, recalled_at_1) = pair(name, "precision"), pair(name, "recall")
        return above(precise, precise_at_1) and above(recalled_at_1, recalled)

    others = [title for name, title in TEMPERED.items() if not agrees(name)]
    said = "; ".join(
        f"{title}: precision {change(name, 'precision'):+.2f}, recall {change(name, 'recall'):+.2f}".replace("-", "−")
        for name, title in TEMPERED.items()
    )
    left = f" Not by more than twice the errors, or not at all: {', '.join(others)}." if others else ""
    return (FAILS if others else HOLDS), f"From T = 1 to {_COLD}, {said}.{left}"


def _show_temperatures(place: Place, numbers: Numbers) -> list[Block]:
    said, pictures = place.numbers("temperatures"), place.pictures("temperatures")
    ts = said["temperatures"]
    shown = {name: pictures[name].unflatten(0, (len(ts), -1)) for name in TEMPERED}
    rows = [list(shown[name][:, i]) for name in TEMPERED for i in range(2)]
    labels = [title if i == 0 else "" for title in TEMPERED.values() for i in range(2)]
    slider = Frames(
        rows,
        labels,
        [f"T = {t:g}" for t in ts],
        ts,
        "Samples from the same noise at several temperatures",
        "The same noise, more or less of it.",
        name="temperature",
        start=ts.index(1.0),
    )
    charts = [
        Chart(
            [
                Series(
                    title,
                    ts,
                    [numbers[f"{name} {measure} T={t:g}"].value for t in ts],
                    [numbers[f"{name} {measure} T={t:g}"].stderr or 0.0 for t in ts],
                )
                for name, title in TEMPERED.items()
            ],
            "temperature",
            measure,
            f"{measure} by temperature",
        )
        for measure in ("precision", "recall")
    ]
    return [slider, Beside(charts)]


def _probes(place: Place) -> Numbers:
    said = place.numbers("probes")
    return {
        f"{name} {labels} labels": Number(row["accuracy"], row["stderr"], said["repeated"])
        for name in CODES
        for labels, row in zip(said["labels"], said[name], strict=True)
    }


def _judge_probes(numbers: Numbers) -> tuple[Outcome, str]:
    found = {n: (numbers[f"vae {n} labels"], numbers[f"pixels {n} labels"]) for n in LABELS if f"vae {n} labels" in numbers}
    holds = all(above(z, pixels) for n, (z, pixels) in found.items() if n <= 100)
    said = "; ".join(
        f"with {n:,} labels for {percent(z.value)} from the VAE’s z and for {percent(pixels.value)} from raw pixels"
        for n, (z, pixels) in found.items()
    )
    return (HOLDS if holds else FAILS), f"A linear probe is right {said}."


def _show_probes(place: Place, numbers: Numbers) -> list[Block]:
    said = place.numbers("probes")
    chart = Chart(
        [
            Series(
                title,
                said["labels"],
                [numbers[f"{name} {n} labels"].value for n in said["labels"]],
                [numbers[f"{name} {n} labels"].stderr or 0.0 for n in said["labels"]],
            )
            for name, title in CODES.items()
        ],
        "labelled faces",
        "accuracy on held-out faces",
        "Accuracy of a linear probe by the number of labels",
        f"Mean over {', '.join(said['tasks'])}, each above or below its middle, and over {said['repeated']} draws.",
        x_log=True,
        lines=(("chance", 0.5),),
    )
    return [chart, _few(place)] if _has_few(place) else [chart, _few_recorded(), _remembered()]


def _has_few(place: Place) -> bool:
    """Whether this tour's models learned from few faces, as a full one's do."""
    return f"few-{next(iter(FEW))}-{COUNTS[0]}" in place.settings.others


def _few(place: Place) -> Table:
    """Samples and likelihoods of models that learned from few faces."""
    known = {(f, n): place.numbers(f"other-few-{f}-{n}") for f in FEW for n in COUNTS}
    rows: Rows = [
        [f"{title}, Fréchet distance", *(number(known[f, n]["samples"]["fid"]) for n in COUNTS)] for f, title in FEW.items()
    ]
    for f, title in FEW.items():
        for what, key in (("training", "bits_seen"), ("held-out", "bits")):
            if key in known[f, COUNTS[0]]:
                rows.append([f"{title}, bits/dim of {what} faces", *(number(known[f, n][key]) for n in COUNTS)])
    return Table(["faces to learn from", *(f"{n:,}" for n in COUNTS)], rows, "Learning from few")


def _few_recorded() -> Table:
    """Samples of models that learned from few photographs."""
    counts = (100, 1000, 9000)
    return Table(
        ["photographs to learn from", *(f"{n:,}" for n in counts)],
        [
            ["GAN, Fréchet distance", *(recorded(f"few gan {n}") for n in counts)],
            ["… recall", *(recorded(f"few gan {n} recall") for n in counts)],
        ],
        "Learning from few",
        f"As many real photographs have {recorded('few real').shown}. {source('few gan 100')}",
    )


def _remembered() -> Table:
    """What densities say of data that they learned from, and of others, recorded."""
    ns = (100, 1000, 10_000)
    return Table(
        ["pictures of clothes to learn from", *(f"{n:,}" for n in ns)],
        [
            [f"{name}, bits/dim of {what} data", *(recorded(f"bits {name} {n} {key}") for n in ns)]
            for name in ("VAE", "Glow")
            for what, key in (("training", "training"), ("held-out", "held out"))
        ],
        "What a density remembers",
        source("bits VAE 100 training"),
    )


CLAIMS = (
    Claim(
        12,
        "Temperature trades variety for quality",
        "Shrink the noise that a sample is made of and it moves towards what is typical: prettier, and more alike. "
        "One number that every family has.",
        "Samples of each model at six temperatures against as many held-out faces: precision, the share of samples "
        "among the real; recall, the share of the real among samples (`triptych.evaluate.precision_recall`)",
        _temperatures,
        _judge_temperatures,
        _show_temperatures,
        "Show people samples at 0.7 to 0.85, and measure at 1: a model is only as varied as it is at 1.",
    ),
    Claim(
        13,
        "Codes carry over to other tasks, and little data can do",
        "The essay hopes that such models learn from few examples, and that their codes serve other work. If z has "
        "made attributes simple, a straight cut through it needs few labels.",
        "Logistic regression on codes and on raw pixels, with 10, 100 and 1,000 labelled faces, on held-out ones; ± is over "
        "five draws of the labelled faces",
        _probes,
        _judge_probes,
        _show_probes,
        "Where labels are dear and pictures cheap, train on the pictures and label a hundred. With "
        "a hundred pictures in all, a density learns them by heart: compare its training and its held-out bits.",
    ),
)
