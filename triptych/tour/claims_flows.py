"""Claims 9, 10 and 11: a flow is exact, mixes its channels, and needs little memory."""

from __future__ import annotations

from triptych.report import Block, Chart, Number, Series, Table
from triptych.tour.claim import FAILS, HOLDS, RECORDED, Claim, Numbers, Outcome, Rows, above, number, percent, signed
from triptych.tour.parts import rows_of, titles
from triptych.tour.place import Place
from triptych.tour.recorded import recorded, source
from triptych.tour.settings import MIXING

FLOWS = ("spectral", "glow")
COUPLINGS, PERMUTATIONS = ("additive", "affine"), ("invertible", "shuffle", "reverse")


def _exact(place: Place) -> Numbers:
    said = place.numbers("exactness")
    found = {
        "log-determinant error": Number(said["error"], unit="nats"),
        "log-determinant": Number(said["autograd"], unit="nats"),
    }
    for name in FLOWS:
        density = place.numbers(f"row-{name}")["density"]
        found[f"round trip {name}"] = Number(density["round_trip_max"]["value"], n=density["round_trip_max"]["n"])
        found[f"bytes {name}"] = number(density["bytes_recovered"])
        found[f"bits {name}"] = number(density["bits_per_dim"], "bits/dim")
    return found


def _judge_exact(numbers: Numbers) -> tuple[Outcome, str]:
    error, whole = numbers["log-determinant error"], numbers["log-determinant"].value
    trip = numbers["round trip spectral"]
    holds = error.value < 1e-6 * max(1.0, abs(whole)) and numbers["bytes spectral"].value > 0.999999 and trip.value < 1e-2
    return (HOLDS if holds else FAILS), (
        f"The log-determinant that the flow adds up differs from that of the whole Jacobian by **{error.shown} nats** "
        f"of {whole:,.0f}. There and back no value of a face is off by more than **{trip.shown}**, and "
        f"{percent(numbers['bytes spectral'].value)} of the bytes return. The density is exact; for 8-bit pixels it bounds "
        f"the code length by **{numbers['bits spectral']}**."
    )


def _show_exact(place: Place, numbers: Numbers) -> list[Block]:
    dimensions = place.numbers("exactness")["dimensions"]
    rows: Rows = [
        [titles(place.settings)[name], numbers[f"round trip {name}"], numbers[f"bytes {name}"], numbers[f"bits {name}"]]
        for name in FLOWS
    ]
    return [
        Table(
            ["", "largest error there and back", "bytes recovered", "bits/dim"],
            rows,
            "Held-out faces through a flow",
            f"The log-determinant was compared on one face, {dimensions:,} × {dimensions:,}, in float64; the test "
            f"suite does the same for every layer to {recorded('exact error').shown} nats ({source('exact error')}). "
            "Bits/dim of 8-bit pixels bound the code length from above, for the pixels are spread over their bins.",
        ),
    ]


def _mixing(place: Place) -> Numbers:
    def bits(coupling: str, how: str) -> Number:
        said = place.numbers(f"other-mixing-{coupling}-{how}")
        return number(said["bits"], "bits/dim") if said else recorded(f"ablation {coupling} {how}")

    return {f"{coupling} {how}": bits(coupling, how) for coupling, how in MIXING}


def _judge_mixing(numbers: Numbers) -> tuple[Outcome, str]:
    rivals = {c: min((numbers[f"{c} {p}"] for p in PERMUTATIONS[1:]), key=lambda n: n.value) for c in COUPLINGS}
    gains = {c: rival.value - numbers[f"{c} invertible"].value for c, rival in rivals.items()}
    holds = all(above(rivals[c], numbers[f"{c} invertible"]) for c in COUPLINGS)
    affine, additive = numbers["affine invertible"], numbers["additive invertible"]
    apart = above(affine, additive) or above(additive, affine)
    quoted = any(n.recorded for n in numbers.values())
    return ((RECORDED if quoted else HOLDS) if holds else FAILS), (
        f"A learned 1×1 convolution is better than the better of shuffle and reversal by "
        f"**{signed(round(gains['affine'], 2))} bits/dim** with affine couplings and by "
        f"{signed(round(gains['additive'], 2))} with additive ones. Affine against additive: {affine.shown} and "
        f"{additive.shown}, which is {'more than' if apart else 'within'} twice their errors."
    )


def _show_mixing(place: Place, numbers: Numbers) -> list[Block]:
    names = {"invertible": "learned 1×1", "shuffle": "shuffle", "reverse": "reversal"}
    series = [
        Series(
            coupling,
            [names[p] for p in PERMUTATIONS],
            [numbers[f"{coupling} {p}"].value for p in PERMUTATIONS],
            [numbers[f"{coupling} {p}"].stderr or 0.0 for p in PERMUTATIONS],
            recorded=numbers[f"{coupling} invertible"].recorded,
        )
        for coupling in COUPLINGS
    ]
    recorded_ones = "the bars’ tips are spreads over three seeds. CIFAR-10, 4,000 pictures, 90 s of one core a run."
    measured = "the bars’ tips are standard errors over faces. A small Glow of the drawn faces for each."
    return [
        Chart(
            series,
            "how channels are mixed",
            "test bits/dim",
            "Bits per dimension by the mixing of channels",
            f"Lower is better; {recorded_ones if series[0].recorded else measured}",
            kind="scatter",
        ),
    ]


def _memory(place: Place) -> Numbers:
    said = place.numbers("memory")
    found = {}
    for way, megabytes in said["megabytes"].items():
        for depth, value in zip(said["depths"], megabytes, strict=True):
            found[f"{way} K={depth}"] = Number(value, unit="MB", digits=1)
    for name in rows_of(place.settings):
        row = place.numbers(f"row-{name}")
        found[f"sample {name}"] = Number(64 / max(row["sample_64"], 1e-9), unit="a second", digits=0)
        if row.get("encode_64"):
            found[f"encode {name}"] = Number(64 / max(row["encode_64"], 1e-9), unit="a second", digits=0)
    return found


def _judge_memory(numbers: Numbers) -> tuple[Outcome, str]:
    full, lean = (
        numbers["full K=16"].value / numbers["full K=2"].value,
        numbers["reversible K=16"].value / numbers["reversible K=2"].value,
    )
    holds = lean < 0.5 * full
    return (HOLDS if holds else FAILS), (
        f"From 2 to 16 steps a scale, what a gradient needs grows **{full:.1f} times** if activations are kept, and "
        f"**{lean:.1f} times** if the flow is inverted on the way back: {numbers['full K=16']} and "
        f"{numbers['reversible K=16']}. One core draws {numbers['sample vae'].value:,.0f} faces a second from the VAE, "
        f"{numbers['sample gan'].value:,.0f} from the GAN, {numbers['sample spectral'].value:,.0f} and "
        f"{numbers['sample glow'].value:,.0f} from the flows."
    )


def _show_memory(place: Place, numbers: Numbers) -> list[Block]:
    said, names = place.numbers("memory"), titles(place.settings)
    chart = Chart(
        [Series(way, said["depths"], megabytes) for way, megabytes in said["megabytes"].items()],
        "flow steps in each of two scales, K",
        "MB kept for the gradient",
        "Memory kept for a gradient by depth",
        f"Counted tensor by tensor; {said['batch']} faces, width {said['width']}.",
        x_log=True,
    )
    speeds = Table(
        ["", "samples", "encodes"],
        [[names[n], numbers[f"sample {n}"], numbers.get(f"encode {n}", "")] for n in rows_of(place.settings)],
        "Faces a second of one core",
        "In batches of 64. A GAN’s encoder is the network that was learned for it.",
    )
    peers = Table(
        ["K = 32, a training step", "working memory"],
        [
            [name, recorded(f"memory {name}")]
            for name in ("full", "checkpoint", "reversible", "normflows", "FrEIA", "nflows")
        ],
        "",
        f"{source('memory full')}",
    )
    return [chart, speeds, peers]


CLAIMS = (
    Claim(
        9,
        "A flow is exact",
        "Every layer of a flow can be undone, and the volume it gives or takes is known: so the likelihood is a "
        "number and not a bound, encoding is inference, and an edit changes only what is edited.",
        "The trained spectral flow: `log_prob`’s log-determinant against `slogdet` of the whole Jacobian by automatic "
        "differentiation; `triptych.evaluate.round_trip` and `bits_per_dim`",
        _exact,
        _judge_exact,
        _show_exact,
        "For anomaly scores, compression or a scientific density, this is the family whose number "
        "needs no footnote but one: it is a density of dequantised pixels.",
    ),
    Claim(
        10,
        "Learn how to mix channels",
        "Between couplings a flow must let its halves meet. RealNVP reverses channels, a shuffle is a fixed random "
        "order; Glow learns a 1×1 convolution, a permutation’s generalisation, with LU to keep its determinant cheap.",
        f"Recorded: {source('ablation affine invertible')}; a full tour trains a small Glow of the faces for each",
        _mixing,
        _judge_mixing,
        _show_mixing,
        "Take the learned 1×1. It costs a few per cent of a step. Whether the couplings are affine "
        "matters less at this length than one would think.",
    ),
    Claim(
        11,
        "A flow’s gradient needs no memory of its depth",
        "Because each layer can be inverted, the way back can recompute what the way there forgot. The essay adds "
        "that training, inference and synthesis parallelise.",
        "The storages that autograd holds between a loss and its gradient; CPU seconds of `sample(64)` and `encode` "
        "on one core",
        _memory,
        _judge_memory,
        _show_memory,
        '`memory="reversible"` trains deep flows in what a shallow one needs, at about one and a half times the time.',
    ),
)
