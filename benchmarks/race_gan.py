"""A round of `dcgan` against a plain hand-written loop of the same networks, losses and optimiser: 64×64, batch 64.

The plain loop is what tutorials have: both players draw fresh z, D's parameters collect gradients in G's step and are zeroed
afterwards, Adam as it comes. Rounds alternate in one process; medians. --share lets one generator pass serve both (ours).

    python benchmarks/race_gan.py       relativistic with R1 and R2 at every fourth step (the default), at every step; and
                                        non-saturating without penalty

A lazy penalty's rounds are timed four at a time, so that each time holds one with the penalty, in both loops.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from common import arguments, begin, write
from torch import Tensor

from triptych import families, recipes
from triptych.data import Split
from triptych.gan import GAN
from triptych.training.loop import train
from triptych.training.run import Run

GAMES = {
    "relativistic-r1r2 every 4": recipes.GANObjective(game="relativistic", penalty="r1r2", gamma=0.1, every=4),
    "relativistic-r1r2": recipes.GANObjective(game="relativistic", penalty="r1r2", gamma=1.0, every=1),
    "nonsaturating": recipes.GANObjective(game="nonsaturating", penalty="none"),
}


class Plain:
    """The loop by hand."""

    def __init__(self, model: GAN, data: Split, recipe: recipes.Recipe):
        self.model, self.data, self.game = model, data, recipe.objective
        self.penalising = self.game.penalising
        betas = recipe.training.momentum, recipe.training.beta2
        self.optimizer_d = torch.optim.Adam(model.discriminator.parameters(), recipe.training.rate, betas=betas)
        self.optimizer_g = torch.optim.Adam(model.generator.parameters(), recipe.training.rate, betas=betas)
        self.batch, self.steps = recipe.training.batch, 0

    def real(self) -> Tensor:
        return (self.data[torch.randint(len(self.data), (self.batch,)).numpy()].float() + 0.5) / 256

    def step(self) -> None:
        model, pairs = self.model, self.game.game == "relativistic"
        self.steps += 1
        penalised = self.game.penalty == "r1r2" and self.steps % self.penalising.every == 0
        x = self.real().requires_grad_(penalised)
        fake = model.decode(torch.randn(self.batch, model.latent_dim)).detach().requires_grad_(penalised)
        r, f = model.logits(x), model.logits(fake)
        loss = F.softplus(f - r).mean() if pairs else (F.softplus(-r) + F.softplus(f)).mean()
        if penalised:
            for logits, at in ((r, x), (f, fake)):
                (slope,) = torch.autograd.grad(logits.sum(), at, create_graph=True)
                loss = loss + self.penalising.every * self.penalising.gamma / 2 * slope.square().sum((1, 2, 3)).mean()
        self.optimizer_d.zero_grad()
        loss.backward()
        self.optimizer_d.step()
        f = model.logits(model.decode(torch.randn(self.batch, model.latent_dim)))
        loss = F.softplus(model.logits(self.real()) - f).mean() if pairs else F.softplus(-f).mean()
        self.optimizer_g.zero_grad()
        loss.backward()
        self.optimizer_g.step()


def timed(step: Callable[[], object], times: int) -> float:
    """Seconds of one step, the mean of so many."""
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) / times


def race(name: str, objective: recipes.GANObjective, rounds: int, width: int, batch: int) -> dict[str, float]:
    """Median milliseconds of a round of each side, in turns."""
    pixels = torch.randint(0, 256, (2048, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Split(pixels.numpy())
    times: dict[str, list[float]] = {"ours": [], "plain": [], "ours, shared": []}
    with tempfile.TemporaryDirectory() as folder:
        steps: dict[str, Callable[[], object]] = {}
        for side in ("ours", "ours, shared"):
            asked = recipes.Recipe(
                data="drawn",
                steps=10**6,
                model=recipes.DCGANModel(width=width),
                objective=dataclasses.replace(objective, share=side != "ours"),
                training=recipes.Training(batch=batch, rate=2e-4, momentum=0.0, beta2=0.99, save_every=10**9),
            )
            stream = train(Run.create(Path(folder) / side, asked, families.build(asked, data[:64])), data)
            steps[side] = stream.__next__
        torch.manual_seed(0)
        model = families.build(asked, data[:64])
        assert isinstance(model, GAN)
        steps["plain"] = Plain(model, data, asked).step
        for i in range(rounds + 2):
            for side in (*times,)[i % 3 :] + (*times,)[: i % 3]:
                took = timed(steps[side], objective.penalising.every)
                if i >= 2:
                    times[side].append(1e3 * took)
    found = {side: statistics.median(values) for side, values in times.items()}
    ratios = {f"plain / {side}": found["plain"] / found[side] for side in ("ours", "ours, shared")}
    paired = [p / o for p, o in zip(times["plain"], times["ours"], strict=True)]
    quartiles = statistics.quantiles(paired, n=4)
    print(name, found, ratios, flush=True)
    return found | ratios | {"paired_lower_quartile": quartiles[0], "paired_upper_quartile": quartiles[2]}


def main() -> None:
    parser = arguments(__doc__, "race_gan")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    options = parser.parse_args()
    out = begin(options)
    results = {name: race(name, GAMES[name], options.rounds, options.width, options.batch) for name in options.games}
    write(out, "race_gan", {"rounds": options.rounds, "width": options.width, "batch": options.batch, **results})


if __name__ == "__main__":
    main()
