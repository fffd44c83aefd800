"""MNIST with the adversarial nets of Goodfellow et al. 2014, and the score of their table 1.

    TRIPTYCH_DATA=… python benchmarks/paper_gan.py                      the mnist preset (resumable)
    TRIPTYCH_DATA=… python benchmarks/paper_gan.py --vae RUN --flow RUN and other families' samples by the same windows

Gaussian Parzen windows on 10,000 samples, σ by validation on the last 1,000 training pictures, which stand for the paper's
validation set (the networks do see them), over all 10,000 test pictures. Real pictures in the samples' place, and
the same mixed two by two, say how much the score can be believed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from common import arguments, begin, lengths, trained, write
from torch import Tensor

import triptych
from triptych import evaluate, families, figures, recipes
from triptych.core import GenerativeModel
from triptych.data import Split, load
from triptych.data.splits import fixed_subset


def drawn(model: GenerativeModel, n: int, seed: int = 0) -> Tensor:
    """n stored pictures."""
    noise = torch.Generator().manual_seed(seed)
    return torch.cat([model.codec.decode(model.sample(min(1000, n - i), generator=noise)) for i in range(0, n, 1000)])


def score(samples: Tensor, valid: Tensor, test: Tensor) -> dict[str, float]:
    found = evaluate.parzen_log_likelihood(*(x.float() / 255 for x in (samples, valid, test)))
    return {**found.estimate._asdict(), "sigma": found.sigma}


def beside_nearest(samples: Tensor, train: Split, path: Path) -> None:
    """The rightmost column of the paper's figure 2, for every sample: under each the training picture nearest to it."""
    pixels, known = evaluate.Pixels(), train[:]
    _, nearest = evaluate.nearest_training(pixels(samples), pixels(known))
    figures.save(torch.cat([samples, known[nearest[:, 0]]]), path, columns=len(samples))


@torch.no_grad()
def lines(model: GenerativeModel, path: Path, rows: int = 6, columns: int = 11) -> None:
    """Figure 3: straight lines between two points of z."""
    a, b = torch.randn(2, rows, 1, model.latent_dim, generator=torch.Generator().manual_seed(3))
    z = torch.lerp(a, b, torch.linspace(0, 1, columns)[:, None])
    figures.save(model.codec.decode(model.decode(z.flatten(0, 1))), path, columns=columns)


def main() -> None:
    parser = arguments(__doc__, "paper_gan")
    parser.add_argument("--steps", type=int, default=30_000)
    lengths(parser, n=10_000)
    for name in ("vae", "flow"):
        parser.add_argument(f"--{name}", help="a run on mnist")
    options = parser.parse_args()
    out = begin(options)
    splits = load("mnist")
    recipe = dataclasses.replace(families.preset("gan", "mnist"), steps=options.steps)
    run, seconds = trained(out / "run", recipe, splits.train)
    gan = run.averaged.eval()
    train, valid, test = splits.train[:-1000], splits.train[-1000:], splits.test[:]
    models = {"gan": gan} | {n: triptych.load(getattr(options, n)) for n in ("vae", "flow") if getattr(options, n)}
    results: dict = {"steps": run.step, "training_seconds": seconds, "recipe": recipes.to_json(recipe)}
    for name, model in models.items():
        samples = drawn(model, options.n)
        results[name] = score(samples, valid, test)
        figures.save(samples[:100], out / f"{name}.png")
        beside_nearest(samples[:12], splits.train, out / f"{name}_nearest.png")
        print(name, results[name], flush=True)
    real = train[fixed_subset(len(train), options.n)]
    results["training pictures"] = score(real, valid, test)
    results["training pictures, means of two"] = score(_means(real), valid, test)
    lines(gan, out / "lines.png")
    write(out, "paper_gan", results)


def _means(stored: Tensor) -> Tensor:
    """Each picture mixed with its nearest other: no digits that anyone wrote, yet nearer to all others."""
    flat = stored.flatten(1).float() / 255
    _, nearest = evaluate.nearest_training(flat, flat, count=2)
    return ((stored.float() + stored[nearest[:, 1]].float()) / 2).round().to(torch.uint8)


if __name__ == "__main__":
    main()
