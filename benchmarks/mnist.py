"""MNIST, 784-500-20, Bernoulli with fresh binarisation: the bound after ten minutes of training on two cores, and below it.

TRIPTYCH_DATA=… python benchmarks/mnist.py              trains (resumable), then scores
TRIPTYCH_DATA=… python benchmarks/mnist.py --manifold   the paper's 2-D manifold (figure 4)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from common import altered, arguments, begin, trained, write

from triptych import evaluate, families, figures
from triptych.data import load
from triptych.data.splits import fixed_subset
from triptych.evaluate import latent

PAPER = ("model.prior=normal", "objective.prior_fit=after")  # p(z) = N(0, I); `priors.py` compares learned ones


def score(out: Path, steps: int | None, rate: float | None, activation: str | None) -> None:
    splits = load("mnist")
    recipe = altered(families.preset("vae", "mnist"), ["steps=50000", *PAPER])
    recipe = dataclasses.replace(recipe, steps=steps or recipe.steps)
    if rate:
        recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, rate=rate))
    if activation:
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, activation=activation))
    run, seconds = trained(out / "run", recipe, splits.train)
    model, generator = run.averaged.eval(), torch.Generator().manual_seed(0)
    test = splits.test[:]
    results = {"training_seconds": seconds, "steps": run.step, "epochs": run.step * recipe.training.batch / 60_000}
    results |= {k: v._asdict() for k, v in evaluate.elbo(model, test, draws=10, generator=generator).items()}
    few = splits.test[fixed_subset(len(test), 500)]
    results["nll_k1000"] = evaluate.importance_nll(model, few, k=1000, generator=generator)._asdict()
    results["elbo_same_500"] = evaluate.elbo(model, few, draws=100, generator=generator)["elbo"]._asdict()
    results["active_units"] = evaluate.active_units(latent.codes(model, test, read=latent.as_learned(model)))._asdict()
    figures.save(model.codec.decode(model.sample(100, generator=generator)), out / "samples.png")
    write(out, "mnist", results)


def manifold(out: Path, steps: int, side: int = 20) -> None:
    """A two-dimensional z on a grid of the unit square taken through the Gaussian's inverse CDF (appendix A)."""
    recipe = altered(families.preset("vae", "mnist"), ["steps=50000", *PAPER])
    recipe = dataclasses.replace(recipe, steps=steps, model=dataclasses.replace(recipe.model, latent_dim=2))
    splits = load("mnist")
    run, seconds = trained(out / "manifold", recipe, splits.train)
    model = run.averaged.eval()
    u = (torch.arange(side) + 0.5) / side
    z = torch.special.ndtri(torch.cartesian_prod(u, u))
    with torch.no_grad():
        figures.save(model.codec.decode(model.decode(z)), out / "manifold.png", columns=side)
    generator = torch.Generator().manual_seed(0)
    results = {k: v._asdict() for k, v in evaluate.elbo(model, splits.test[:], draws=10, generator=generator).items()}
    results["nll_k1000"] = evaluate.importance_nll(
        model, splits.test[fixed_subset(10_000, 20)], k=1000, generator=generator
    )._asdict()
    hmc = evaluate.marginal_log_likelihood(model, splits.test[fixed_subset(10_000, 20)], generator=generator)
    write(out, "manifold", results | {"log_marginal_hmc": hmc._asdict(), "steps": run.step, "training_seconds": seconds})


def main() -> None:
    parser = arguments(__doc__, "mnist")
    parser.add_argument("--manifold", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--activation", choices=("tanh", "relu", "silu", "gelu"))
    options = parser.parse_args()
    out = begin(options)
    if options.manifold:
        manifold(out, options.steps or 10_000)
    else:
        score(out, options.steps, options.rate, options.activation)


if __name__ == "__main__":
    main()
