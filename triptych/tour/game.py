"""Claim 7: the adversarial game in one dimension, where densities and the optimal discriminator are known.

p is a mixture of two Gaussians. Densities are those of 100,000 samples, smoothed by a Gaussian of 0.05 on a grid, p
convolved with the same; D is read at the grid's points.

Shapes: x (n, 1); grid (N,).
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych import families, recipes
from triptych.data import Split
from triptych.gan.games import jensen_shannon, optimal_discriminator
from triptych.progress import tracked
from triptych.tour.place import Place
from triptych.training.loop import train
from triptych.training.run import Run

GRID = torch.linspace(-6, 6, 1201)
SPACING = (GRID[1] - GRID[0]).item()
MEANS, STDS, WEIGHTS = torch.tensor([-1.5, 1.5]), torch.tensor([0.5, 0.8]), torch.tensor([0.4, 0.6])
PLAYS = (1, 5)
"""Minibatches of the discriminator to one of the generator, in the tour's games."""
LONG = 10
"""The same in a long game."""
_SMOOTH = 0.05
_MASS = 0.01  # density of p + p_g from which D is compared with D*
_LOOKS = 15


def log_p() -> Tensor:
    """log p on the grid, convolved with the smoothing."""
    std = (STDS**2 + _SMOOTH**2).sqrt()
    parts = -0.5 * ((GRID[:, None] - MEANS) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi) + WEIGHTS.log()
    return parts.logsumexp(1)


def log_density(x: Tensor) -> Tensor:
    """Of samples (n, 1): a histogram on the grid, smoothed."""
    counts = torch.histc(x.clamp(-6, 6), len(GRID), -6 - SPACING / 2, 6 + SPACING / 2)
    reach = torch.arange(-int(5 * _SMOOTH / SPACING), int(5 * _SMOOTH / SPACING) + 1) * SPACING
    kernel = torch.exp(-0.5 * (reach / _SMOOTH) ** 2)
    smooth = torch.nn.functional.conv1d(counts[None, None], (kernel / kernel.sum())[None, None], padding="same")[0, 0]
    return (smooth / (len(x) * SPACING)).clamp(min=0).log()


def mixture(n: int, seed: int) -> np.ndarray:
    """n draws of p, (n, 1) float32."""
    random = np.random.default_rng(seed)
    which = random.choice(len(MEANS), n, p=WEIGHTS.numpy())
    return (MEANS.numpy()[which] + STDS.numpy()[which] * random.standard_normal(n)).astype(np.float32)[:, None]


def recipe(steps: int, plays: int, width: int = 64) -> recipes.Recipe:
    """Perceptrons of two layers, the non-saturating game, no penalty."""
    training = recipes.Training(
        batch=256, rate=1e-3, momentum=0.0, beta2=0.99, decay="cosine", rate_end=0.01, ema=0.99,
        save_every=10**9, log_every=200, sample_every=10**9,
    )  # fmt: skip
    game = recipes.GANObjective(game="nonsaturating", plays=plays, penalty="none", every=1)
    model = recipes.GANModel(latent_dim=4, net="mlp", hidden=(width, width), prior="gaussian")
    return recipes.Recipe(data="drawn", steps=steps, model=model, objective=game, training=training)


def look(run: Run, log_real: Tensor, samples: int = 100_000) -> dict[str, Any]:
    """Where the game stands: densities, D on the grid, and how far both are from theory."""
    run.averaged.eval()
    x = run.averaged.sample(samples, generator=torch.Generator().manual_seed(1))
    log_fake = log_density(x[:, 0])
    with torch.no_grad():
        run.model.eval()
        d = run.model.logits(GRID[:, None]).sigmoid()
        run.model.train()
    best = optimal_discriminator(log_real, log_fake).sigmoid()
    where = (log_real.exp() + log_fake.exp()) > _MASS
    return {
        "step": run.step,
        "jsd": jensen_shannon(log_real, log_fake, SPACING).item(),
        "d_error": (d - best)[where].abs().mean().item(),
        "d_from_half": (d - 0.5)[where].abs().mean().item(),
        "curves": (log_fake.exp(), d, best),
    }


def measure_game(place: Place) -> None:
    """Games with few and with more minibatches of the discriminator, of equally many minibatches in all."""
    log_real, data = log_p(), Split(mixture(100_000, 0))
    games = {}
    for plays in PLAYS:
        steps = max(4, 2 * place.settings.rounds // (1 + plays))
        games[str(plays)] = _played(recipe(steps, plays), data, log_real)
    if place.settings.long_game:
        games["long"] = _played(recipe(place.settings.long_game, LONG), data, log_real)
    shown = slice(100, None, 10)
    place.keep("game", {"games": games, "grid": GRID[shown], "p": log_real.exp()[shown]})


def _played(asked: recipes.Recipe, data: Split, log_real: Tensor) -> dict[str, Any]:
    """A game's looks, its steps counted in minibatches of both players."""
    every, minibatches = max(1, asked.steps // _LOOKS), 1 + asked.objective.plays
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", asked, families.build(asked, data[:256]))
        rounds = tracked(train(run, data), "playing", asked.steps)
        looks = [look(run, log_real, 50_000) for stage in rounds if stage.step % every == 0 or stage.step == asked.steps]
    shown = slice(100, None, 10)
    p_g, d, best = (curve[shown] for curve in looks[-1]["curves"])
    said = {key: [seen[key] for seen in looks] for key in ("jsd", "d_error", "d_from_half")}
    return {**said, "minibatches": [minibatches * seen["step"] for seen in looks], "p_g": p_g, "d": d, "best": best}
