"""Claims 1, 2 and 6: the bound, reconstructions, and the gradient that makes a VAE possible."""

from __future__ import annotations

from triptych import figures
from triptych.report import Block, Chart, Number, Series, Strip, Table, Wipe
from triptych.tour.claim import FAILS, HOLDS, Claim, Numbers, Outcome, Rows, bare, number, percent, sure
from triptych.tour.place import Place
from triptych.tour.recorded import recorded, source


def _bound(place: Place) -> Numbers:
    said = place.numbers("bound")
    found = {
        f"{what} {prior}": number(said[prior][what], "nats")
        for prior in ("normal", "flow")
        for what in ("elbo", "tight", "gap")
    }
    return found | {f"gain {what}": number(said["gain"][what], "nats") for what in ("elbo", "tight")}


def _judge_bound(numbers: Numbers) -> tuple[Outcome, str]:
    gap, gain = numbers["gap normal"], numbers["gain elbo"]
    holds = sure(gap) and sure(gain)
    return (HOLDS if holds else FAILS), (
        f"The bound lies **{gap}** below a tighter estimate of the same faces’ log-likelihood. A flow in the prior’s "
        f"place raises the bound by **{gain}**, with the same encoder and decoder."
    )


def _show_bound(place: Place, numbers: Numbers) -> list[Block]:
    said = place.numbers("bound")
    names = {"normal": "N(0, I)", "flow": "a flow"}
    least = said["normal"]["bounds"][0]
    curves = [Series(names[prior], said[prior]["k"], [b - least for b in said[prior]["bounds"]]) for prior in names]
    rows: Rows = [
        [names[prior], *(bare(numbers[f"{what} {prior}"]) for what in ("elbo", "tight", "gap"))] for prior in names
    ]
    digits: Rows = [
        ["N(0, I)", bare(recorded("mnist elbo normal")), bare(recorded("mnist tight normal"))],
        ["a flow that learns with it", bare(recorded("mnist elbo flow")), bare(recorded("mnist tight flow"))],
    ]
    return [
        Chart(
            curves,
            "draws of z for each face, k",
            "nats",
            x_log=True,
            alt="The bound rises with the number of draws, and lies higher with a flow as prior",
            caption="Each point is a bound, in nats above the ELBO with N(0, I). What lies between k = 1 and the right end "
            "is what the ELBO gives away.",
        ),
        Table(["p(z)", "ELBO", f"k = {said['flow']['draws']}", "gap"], rows, "log p(x) of held-out faces, in nats"),
        Table(["p(z)", "ELBO", "k = 500"], digits, "The same of MNIST, longer trained", source("mnist elbo flow")),
    ]


def _reconstruction(place: Place) -> Numbers:
    rows = {name: place.numbers(f"row-{name}") for name in ("vae", "sharp", "gan", "spectral", "glow")}
    found = {f"rmse {name}": number(row["reconstruction"]) for name, row in rows.items()}
    found["bytes spectral"] = number(rows["spectral"]["density"]["bytes_recovered"])
    return found | {
        f"{key} moves": Number(value, unit="of its range", digits=2) for key, value in rows["vae"]["share"].items()
    }


def _judge_reconstruction(numbers: Numbers) -> tuple[Outcome, str]:
    vae, flow = numbers["rmse vae"], numbers["rmse spectral"]
    moves = {name.removesuffix(" moves"): n.value for name, n in numbers.items() if name.endswith(" moves")}
    one = all(value > 0.5 for value in moves.values())
    holds = vae.value > 100 * flow.value and one
    said = ", ".join(f"{name} by {percent(value)}" for name, value in moves.items())
    return (HOLDS if holds else FAILS), (
        f"What a VAE decodes from its own code is off by **{vae.shown}** of the range of a pixel, a flow by "
        f"**{flow.shown}**: {percent(numbers['bytes spectral'].value)} of its bytes come back. The VAE’s one encoder "
        f"serves every slider: it moves {said} of what the labels say."
    )


def _show_reconstruction(place: Place, numbers: Numbers) -> list[Block]:
    names = {"vae": "VAE", "sharp": "sharpened VAE", "gan": "GAN + encoder", "spectral": "spectral flow", "glow": "Glow"}
    data = place.data.test[:8]
    rows = [data, *(place.pictures(f"row-{name}")["again"] for name in names)]
    table: Rows = [[title, numbers[f"rmse {name}"]] for name, title in names.items()]
    sheet, again = (figures.grid(x[:6], columns=3) for x in (data, place.pictures("row-vae")["again"]))
    return [
        Wipe(
            sheet,
            again,
            ("held out", "what the VAE makes of it"),
            "Six held-out faces",
            "Move the line: left of it the faces, right of it what the VAE decodes from its codes of them.",
        ),
        Strip(
            [list(row) for row in rows],
            ["held-out faces", *names.values()],
            [],
            "Held-out faces and what comes back",
            "Held-out faces, encoded and decoded. Look at the eyes, the rims of the glasses, the earrings.",
        ),
        Table(["", "root mean square error"], table, "What is lost, in units of the range of a pixel"),
    ]


def _gradients(place: Place) -> Numbers:
    said = place.numbers("gradients")
    found = {f"ratio {name}": Number(value, n=said["repetitions"], digits=1) for name, value in said["ratio"].items()}
    return found | {
        f"{name} D={d}": Number(value)
        for name, row in said["quadratic"].items()
        for d, value in zip(said["dimensions"], row, strict=True)
    }


def _judge_gradients(numbers: Numbers) -> tuple[Outcome, str]:
    naive, better = numbers["ratio score function"].value, numbers["ratio score function, baseline"].value
    return (HOLDS if naive > 10 else FAILS), (
        f"On the VAE trained here the naive gradient has **{naive:,.0f} times** the variance of the reparameterised "
        f"one, and **{better:,.0f} times** with the other draws’ mean as baseline."
    )


def _show_gradients(place: Place, numbers: Numbers) -> list[Block]:
    said = place.numbers("gradients")
    series = [Series(name, said["dimensions"], row) for name, row in said["quadratic"].items()]
    rows: Rows = [
        ["this VAE, its decoder on 8 faces", *(numbers[f"ratio score function{end}"] for end in ("", ", baseline"))],
        ["a VAE of digits, its encoder", recorded("gradient ratio naive"), recorded("gradient ratio baseline")],
    ]
    return [
        Chart(
            series,
            "dimension of z",
            "noise / signal",
            x_log=True,
            y_log=True,
            alt="Noise of the naive gradient grows with the dimension, that of the pathwise one does not",
            caption="tr Cov(g) / |E g|², of five draws an estimate, for E|z − 1|² under N(0, I).",
        ),
        Table(
            ["variance over the pathwise one’s", "naive", "less the other draws’ mean"],
            rows,
            note=f"Recorded figures: {source('gradient ratio naive')}",
        ),
    ]


CLAIMS = (
    Claim(
        1,
        "A VAE knows only a bound",
        "A VAE cannot say how probable a picture is. It maximises a lower bound, the ELBO, and the distance to the "
        "truth is how badly its simple posterior fits the real one. Drawing many z and weighing them gives a bound as "
        "tight as one has patience for; so the gap can be measured.",
        "The mean of log w, and log of the mean of w over many draws (Burda et al. 2016), of the same held-out faces and "
        "the same draws of z; the learned prior is taken out of the trained model and N(0, I) put in its place",
        _bound,
        _judge_bound,
        _show_bound,
        "Never compare a VAE’s ELBO with a flow’s likelihood without saying which is which. And let "
        "a flow learn where the codes really lie: it costs a short stage at the end of training, and nothing is "
        "retrained.",
    ),
    Claim(
        2,
        "A VAE’s reconstructions lose detail, a flow’s do not",
        "A VAE squeezes 3,072 numbers through 32, so something must go; a flow is a bijection, so nothing can. The "
        "essay wonders whether each slider then needs an encoder of its own. It does not: one encoder gives one code, "
        "and every attribute is a direction in it.",
        "`triptych.evaluate.reconstruction_error` and `round_trip` on held-out faces; directions by "
        "`triptych.edit.learn_directions`, read by a network that never saw a model",
        _reconstruction,
        _judge_reconstruction,
        _show_reconstruction,
        "To change a photograph and keep the person, use a flow. To change a face and forgive a "
        "little blur, a VAE will do, whose code is a hundred times smaller; how cleanly each moves is claim 3.",
    ),
    Claim(
        6,
        "Reparameterise, or drown in noise",
        "To train the encoder one needs the gradient of an average over the distribution that is being changed. "
        "Written naively it multiplies a score by a reward and “exhibits very high variance”; written as z = μ + σε "
        "it flows through the decoder.",
        "`triptych.distributions.gradients.variance_of_gradients`: repeated estimates of the same gradient, five draws each",
        _gradients,
        _judge_gradients,
        _show_gradients,
        "The trick is why VAEs train at all. Where z is discrete, and it does not apply, expect to "
        "need many more draws or a better baseline.",
    ),
)
