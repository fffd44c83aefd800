"""How noisy are the gradients that train an encoder? Pathwise against score function (AEVB, section 2.2).

(a) f(z) = ‖z − 1‖² under q = N(μ, σ² I), φ = (μ, log σ), at μ = 0, σ = 1, as the dimension D grows. Exactly known:
    the gradient is (−2, 2) for each coordinate, so ‖E g‖² = 8 D, and the pathwise trace is 16 D / draws.
(b) the encoder of a Bernoulli VAE (64 pixels, 200 tanh units, 20 latents) on scikit-learn's binarised digits, one fixed
    minibatch, before and after training: E_q[log p(x|z)] by each estimator, −KL exactly (the paper's L^B).

Noise is tr Cov(g), over R repetitions in 10 groups, whose spread gives its standard error; noise / signal divides it by
‖E g‖². All estimators have the same number of draws for an estimate.

    python benchmarks/gradient_variance.py [--out benchmarks/out/gradient_variance.json]
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from triptych.distributions.gradients import Gradient, GradientMoments, variance_of_gradients
from triptych.tour.bound import ESTIMATORS, quadratic

GROUPS = 10
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    start = time.perf_counter()
    settings = {"repetitions": arguments.repetitions, "draws": arguments.draws}
    result: dict[str, Any] = {
        "gaussian": list(gaussian(arguments.dimensions, **settings)),
        "vae": list(vae(arguments.steps, seed=arguments.seed, **settings)),
        "settings": vars(arguments) | {"out": str(arguments.out)},
        "seconds": round(time.perf_counter() - start, 1),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1))
    plot(result, arguments.out.with_suffix(".png"))
    print(table(result["gaussian"], "D"), table(result["vae"], "steps"), f"{result['seconds']} s", sep="\n\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Variance of pathwise and score-function gradients.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/gradient_variance.json"))
    parser.add_argument("--repetitions", type=int, default=400, help="R, estimates for each variance")
    parser.add_argument("--draws", type=int, default=5, help="draws of z for one estimate")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[1, 2, 10, 100, 1000])
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 100, 3000], help="training steps, increasing")
    parser.add_argument("--threads", type=int, default=1, help="more only get in each other's way at these sizes")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


# --- measuring ------------------------------------------------------------------------------------------------------
def measure(estimates: dict[str, Callable[[], Gradient]], repetitions: int) -> dict[str, list[GradientMoments]]:
    """The moments of each estimator, in groups of R / 10."""
    size = max(2, repetitions // GROUPS)
    return {
        name: [variance_of_gradients(estimate, repetitions=size) for _ in range(GROUPS)]
        for name, estimate in estimates.items()
    }


def rows(measured: dict[str, list[GradientMoments]], squared_norm: float, draws: int, **where: int) -> Iterable[Row]:
    reference, reference_error = mean_and_error([m.trace for m in measured["pathwise"]])
    for name, groups in measured.items():
        trace, error = mean_and_error([m.trace for m in groups])
        # Independent numerator and denominator: relative errors add in squares.
        ratio = trace / reference
        relative = math.hypot(error / trace, reference_error / reference) if name != "pathwise" else 0.0
        yield where | {
            "estimator": name,
            "trace": trace,
            "trace_stderr": error,
            "squared_norm": squared_norm,
            "noise_to_signal": trace / squared_norm,
            "ratio": ratio,
            "ratio_stderr": ratio * relative,
            "n": sum(m.repetitions for m in groups),
            "draws": draws,
        }


def mean_and_error(values: list[float]) -> tuple[float, float]:
    spread = torch.tensor(values, dtype=torch.float64)
    return spread.mean().item(), (spread.std() / math.sqrt(len(values))).item()


# --- (a) a quadratic ------------------------------------------------------------------------------------------------
def gaussian(dimensions: Sequence[int], *, repetitions: int, draws: int) -> Iterable[Row]:
    for d in dimensions:
        estimates = {name: quadratic(estimate, d, draws) for name, estimate in ESTIMATORS.items()}
        yield from rows(measure(estimates, repetitions), 8.0 * d, draws, D=d)


# --- (b) a VAE ------------------------------------------------------------------------------------------------------
def vae(steps: Sequence[int], *, repetitions: int, draws: int, seed: int) -> Iterable[Row]:
    # A generator of their own: the network and the minibatch do not change with the number of repetitions.
    rng = torch.Generator().manual_seed(seed)
    x = (torch.tensor(load_digits().data) > 7.5).float()
    encoder, decoder = network(64, 200, 40, rng), network(20, 200, 64, rng)
    batch, done = x[torch.randperm(len(x), generator=rng)[:100]], 0
    for target in steps:
        train(encoder, decoder, x, target - done, rng)
        done = target
        estimates = {name: elbo(estimate, encoder, decoder, batch, draws) for name, estimate in ESTIMATORS.items()}
        measured = measure(estimates, repetitions)
        # All three estimate one gradient; the least noisy of them says how long it is.
        norms = [m.squared_norm for m in measured["pathwise"]]
        yield from rows(measured, mean_and_error(norms)[0], draws, steps=target)


def network(inputs: int, hidden: int, outputs: int, rng: torch.Generator) -> Gradient:
    """Weights and biases of one tanh layer and a linear one."""
    shapes = ((inputs, hidden), (hidden,), (hidden, outputs), (outputs,))
    weights = (torch.randn(s, generator=rng) / math.sqrt(s[0]) if len(s) > 1 else torch.zeros(s) for s in shapes)
    return tuple(w.requires_grad_() for w in weights)


def apply(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    w1, b1, w2, b2 = weights
    return torch.tanh(x @ w1 + b1) @ w2 + b2


def posterior(x: Tensor, *encoder: Tensor) -> Normal:
    mu, log_sigma = apply(encoder, x).chunk(2, -1)
    return Normal(mu, log_sigma.exp())


def log_likelihood(decoder: Sequence[Tensor], x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z), (n, M, 20) -> (n, M) in nats, divided by M: the objective is a mean over the minibatch."""
    logits = apply(decoder, z)
    return -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1) / len(x)


def kl(q: Normal) -> Tensor:
    """KL(q ‖ N(0, I)) in nats, a mean over the minibatch (AEVB, appendix B)."""
    return (q.loc.square() + q.scale.square() - 1 - 2 * q.scale.log()).sum() / (2 * len(q.loc))


def elbo(
    estimate: Callable[..., Gradient], encoder: Gradient, decoder: Gradient, x: Tensor, draws: int
) -> Callable[[], Gradient]:
    """Estimates of the bound's gradient in the encoder's weights."""
    fixed = tuple(w.detach() for w in decoder)
    of_kl = torch.autograd.grad(kl(posterior(x, *encoder)), encoder)

    def once() -> Gradient:
        reconstruction = estimate(lambda *w: posterior(x, *w), encoder, lambda z: log_likelihood(fixed, x, z), n=draws)
        return tuple(r - k for r, k in zip(reconstruction, of_kl, strict=True))

    return once


def train(encoder: Gradient, decoder: Gradient, x: Tensor, steps: int, rng: torch.Generator) -> None:
    optimiser = torch.optim.Adam([*encoder, *decoder], lr=1e-3)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (100,), generator=rng)]
        q = posterior(batch, *encoder)
        z = q.loc + q.scale * torch.randn(1, *q.loc.shape, generator=rng)
        loss = kl(q) - log_likelihood(decoder, batch, z).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


# --- showing --------------------------------------------------------------------------------------------------------
def table(measured: list[Row], key: str) -> str:
    head = f"{key:>6}  {'estimator':<26}{'tr Cov':>10} ± {'stderr':<9}{'noise/signal':>13}{'ratio':>11} ± stderr"
    lines = [
        f"{r[key]:>6}  {r['estimator']:<26}{r['trace']:>10.4g} ± {r['trace_stderr']:<9.2g}"
        f"{r['noise_to_signal']:>13.4g}{r['ratio']:>11.4g} ± {r['ratio_stderr']:.2g}"
        for r in measured
    ]
    return "\n".join([head, *lines])


def plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=False)
    for name, marker in zip(ESTIMATORS, "osD", strict=True):
        by_d = [r for r in result["gaussian"] if r["estimator"] == name]
        left.loglog([r["D"] for r in by_d], [r["noise_to_signal"] for r in by_d], marker=marker, label=name)
        by_step = [r for r in result["vae"] if r["estimator"] == name]
        right.semilogy([str(r["steps"]) for r in by_step], [r["noise_to_signal"] for r in by_step], marker=marker)
    left.set(title="‖z − 1‖² under N(0, I)", xlabel="dimension D", ylabel="gradient noise / signal")
    right.set(title="encoder of a VAE, binarised digits", xlabel="training steps", ylabel="gradient noise / signal")
    left.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
