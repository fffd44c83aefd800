"""Claims 7 and 8: the game settles, and a GAN invents."""

from __future__ import annotations

from typing import Any

from triptych.report import Beside, Block, Chart, Number, Series, Strip, Table
from triptych.tour.claim import FAILS, HOLDS, Claim, Numbers, Outcome, Rows, number, percent
from triptych.tour.game import LONG, PLAYS
from triptych.tour.parts import rows_of, titles
from triptych.tour.place import Place
from triptych.tour.recorded import recorded, source
from triptych.tour.settings import COUNTS, FEW

ENDS = ("JSD(p, p_g)", "mean |D − D*|", "mean |D − ½| at the end")


def _game(place: Place) -> Numbers:
    games = place.numbers("game")["games"]
    return {f"k={plays} {name}": value for plays in PLAYS for name, value in _ended(games[str(plays)]).items()}


def _ended(said: dict[str, Any]) -> dict[str, Number]:
    """Where a game's second half stood, and where it ended: as many columns as `ENDS`."""
    half = len(said["d_error"]) // 2
    return {
        "divergence": Number(said["jsd"][-1], unit="nats", digits=4),
        "D from optimal": Number(sum(said["d_error"][half:]) / len(said["d_error"][half:]), digits=3),
        "D from half": Number(said["d_from_half"][-1], digits=3),
    }


def _judge_game(numbers: Numbers) -> tuple[Outcome, str]:
    one, many = PLAYS
    holds = numbers[f"k={many} D from half"].value < 0.1 and numbers[f"k={many} divergence"].value < 0.05
    better = min(PLAYS, key=lambda k: numbers[f"k={k} D from optimal"].value)
    return (HOLDS if holds else FAILS), (
        f"At the end D is **{numbers[f'k={many} D from half'].shown}** from ½ on average, and p_g has a divergence of "
        f"**{numbers[f'k={many} divergence']}** from p, with {many} minibatches of D to one of G (with {one}: "
        f"{numbers[f'k={one} D from half'].shown} and {numbers[f'k={one} divergence']}). D stays nearer to its optimum "
        f"with k = {better}."
    )


def _show_game(place: Place, numbers: Numbers) -> list[Block]:
    said = place.numbers("game")
    games, last = said["games"], said["games"][str(PLAYS[-1])]
    end = Chart(
        [
            Series("p", said["grid"], said["p"]),
            Series("p_g", said["grid"], last["p_g"]),
            Series("D", said["grid"], last["d"]),
            Series("D*, the best", said["grid"], last["best"]),
        ],
        "x",
        "density, and D",
        "At the end p_g lies on p and D near one half",
        "The end of the game with k = " + str(PLAYS[-1]) + ".",
        lines=(("½", 0.5),),
    )
    curves = Chart(
        [Series(f"k = {k}", games[str(k)]["minibatches"], games[str(k)]["d_error"]) for k in PLAYS],
        "minibatches of both players",
        "|D − D*|",
        "How far D is from its optimum while the game goes on",
        "The same minibatches in all, shared differently by the players.",
    )
    rows: Rows = [[f"k = {k}", *_ended(games[str(k)]).values()] for k in PLAYS]
    quoted = "long" not in games
    if quoted:
        rows.append(["k = 10, 1,500 rounds", *(recorded(f"game {what}") for what in ("jsd", "d error", "d from half"))])
    else:
        title = f"k = {LONG}, {place.settings.long_game:,} rounds"
        rows.append([title, *_ended(games["long"]).values()])
    note = f"Recorded figures: {source('game jsd')}" if quoted else ""
    table = Table(["", *ENDS], rows, note=note)
    return [Beside([end, curves]), table]


def _invention(place: Place) -> Numbers:
    found = {}
    for name in rows_of(place.settings):
        row = place.numbers(f"row-{name}")
        found[f"ratio {name}"] = number(row["samples"]["nearest_ratio"])
        found[f"copied {name}"] = number(row["samples"]["copied"])
    said = place.numbers("inversion")
    found["inversion"] = number(said["points"][-1]["psnr"], "dB")
    found["inversion seconds"] = Number(said["points"][-1]["cpu_seconds"] / said["n"], unit="s a face", digits=2)
    found["encoder"] = number(said["encoder"], "dB")
    return found


def _judge_invention(numbers: Numbers) -> tuple[Outcome, str]:
    ratio, copied = numbers["ratio gan"], numbers["copied gan"]
    holds = ratio.value > 0.95 and copied.value < 0.02
    return (HOLDS if holds else FAILS), (
        f"The GAN’s samples are as near to training faces as to held-out ones (ratio **{ratio}**, 1 is new, 0 a copy), "
        f"and {percent(max(0.0, copied.value))} are copies. It has no encoder: finding z by search gives "
        f"{numbers['inversion']} at {numbers['inversion seconds']} of one core; an encoder learned afterwards answers "
        f"at once, with {numbers['encoder']}."
    )


def _show_invention(place: Place, numbers: Numbers) -> list[Block]:
    pictures = place.pictures("row-gan")
    names = titles(place.settings)
    rows: Rows = [[names[name], numbers[f"ratio {name}"], numbers[f"copied {name}"]] for name in rows_of(place.settings)]
    rows += _of_a_hundred(place)
    board = place.pictures("row-faces-gan")
    shown = [list(pictures["samples"][:8]), list(pictures["nearest"][:8])]
    labels = ["samples", "nearest training faces"]
    if board:
        shown += [list(board["samples"][:8]), list(board["nearest"][:8])]
        labels += ["samples, on board", "nearest training faces"]
    found = place.pictures("inversion")
    back = [list(found[key]) for key in ("data", "found", "answered")]
    return [
        Strip(
            shown,
            labels,
            [],
            "Samples of the GAN over the training faces that are nearest to them",
            "People who were never drawn, over the training faces nearest by pixels.",
        ),
        Table(
            ["samples of", "distance to training over held-out faces", "copies"],
            rows,
            "Do the samples remember?",
            f"Recorded figures: {source('nearest GAN 100')}",
        ),
        Strip(
            back,
            ["held-out faces", "z by search", "z by an encoder"],
            [],
            "Held-out faces, and what the GAN makes of the z that was found for them",
            "A GAN asked for somebody it did not invent.",
        ),
    ]


def _of_a_hundred(place: Place) -> Rows:
    """Models that have seen a hundred pictures: the tour's, or recorded ones of clothes."""
    own = {title: place.numbers(f"other-few-{family}-{COUNTS[0]}") for family, title in FEW.items()}
    if all(own.values()):
        return [
            [
                f"{title}, {COUNTS[0]} faces, by pixels",
                *(number(said["samples"][key]) for key in ("nearest_ratio", "copied")),
            ]
            for title, said in own.items()
        ]
    return [[f"{name}, 100 pictures of clothes", recorded(f"nearest {name} 100"), ""] for name in ("VAE", "GAN", "Glow")]


CLAIMS = (
    Claim(
        7,
        "The game settles where D says ½",
        "Two players, the discriminator with k steps to the generator’s one, fresh noise each time. In theory the "
        "generator’s density becomes the data’s, and then nobody can tell: D = ½ everywhere.",
        "A mixture of two Gaussians in one dimension, where p, p_g and the best discriminator D* = p / (p + p_g) are "
        "known; densities of 50,000 samples",
        _game,
        _judge_game,
        _show_game,
        "A healthy GAN ends undecided: watch D’s accuracy and not the losses. Too weak a D misleads "
        "G, and a better balance costs minibatches that G does not get.",
    ),
    Claim(
        8,
        "A GAN invents, and cannot look back",
        "The generator never sees a datum, only a critic’s opinion, which the essay suggests may keep it from "
        "learning by heart. What comes out should be new. The price: it has no way from a picture to its code.",
        "`triptych.evaluate.nearest_ratio` and `copied` (at half the side) of the samples; `triptych.edit.invert` from "
        "draws on held-out faces, and `learn_encoder`",
        _invention,
        _judge_invention,
        _show_invention,
        "With thousands of examples none of the three copies. With a hundred, the GAN does drift "
        "towards them: seeing data at second hand does not protect it. If you need codes, learn an encoder beside it.",
    ),
)
