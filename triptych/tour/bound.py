"""Claims 1 and 6: what a VAE's bound loses, what a learned prior adds, and the noise of the gradients that train it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from triptych.core import Estimate, StandardNormal
from triptych.distributions.gradients import Gradient, GradientMoments, pathwise, score_function, variance_of_gradients
from triptych.progress import tracked
from triptych.tour.place import Place
from triptych.vae.estimators import draw

ESTIMATORS: dict[str, Callable[..., Gradient]] = {
    "pathwise": pathwise,
    "score function": score_function,
    "score function, baseline": lambda *args, **kwargs: score_function(*args, baseline="leave-one-out", **kwargs),
}
"""Of ∇φ E_q[f(z)]: reparameterised, naive, and naive less the mean of the other draws."""
_AT_ONCE = 10  # draws of each face that are decoded together
DIMENSIONS = (1, 10, 100, 1000)


@torch.no_grad()
def measure_bound(place: Place) -> None:
    """ELBO and importance-weighted estimates of the same faces and draws, with the learned prior and with N(0, I)."""
    model, settings = place.model("vae"), place.settings
    noise = torch.Generator().manual_seed(0)
    x = model.codec.encode(place.data.test[: settings.scored], noise)
    weights: dict[str, list[Tensor]] = {"flow": [], "normal": []}
    plain = StandardNormal()
    for _ in tracked(range(settings.draws // _AT_ONCE), "weighing draws", settings.draws // _AT_ONCE):
        q = draw(model, x, draws=_AT_ONCE, generator=noise)  # type: ignore[arg-type]
        log_px = model.log_likelihoods(x, q.z)
        log_q = Normal(q.mu, q.log_sigma.exp()).log_prob(q.z).sum(-1)
        weights["flow"].append((log_px + model.log_prior(q.z) - log_q).double())
        weights["normal"].append((log_px + plain.log_prob(q.z) - log_q).double())
    flow, normal = (torch.cat(weights[prior]) for prior in ("flow", "normal"))
    gain = {"elbo": Estimate.of((flow - normal).mean(0)), "tight": Estimate.of(_weighted(flow) - _weighted(normal))}
    place.keep("bound", {"flow": _bounds(flow), "normal": _bounds(normal), "gain": gain, "n": len(x)})


def _bounds(log_w: Tensor) -> dict[str, Any]:
    """log_w (S, B) -> the ELBO, the estimate of all draws, their gap, and the estimates by the number of draws."""
    elbo, tight = log_w.mean(0), _weighted(log_w)
    ks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= len(log_w)]
    curve = [_averaged(log_w, k) for k in ks]
    return {
        "elbo": Estimate.of(elbo),
        "tight": Estimate.of(tight),
        "gap": Estimate.of(tight - elbo),
        "draws": len(log_w),
        "k": ks,
        "bounds": curve,
    }


def _weighted(log_w: Tensor) -> Tensor:
    """log 1/k Σ w (Burda et al. 2016)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def _averaged(log_w: Tensor, k: int) -> float:
    """The bound with k draws, averaged over as many groups of them as there are."""
    groups = log_w[: len(log_w) // k * k].view(-1, k, log_w.shape[1])
    return float((groups.logsumexp(1) - math.log(k)).mean())


def measure_gradients(place: Place) -> None:
    """The noise of three estimators of one gradient: of a quadratic by its dimension, and of the VAE's bound."""
    repetitions = place.settings.repetitions
    by_dimension = {
        name: [_noise(quadratic(estimate, d), repetitions, 8.0 * d) for d in DIMENSIONS]
        for name, estimate in ESTIMATORS.items()
    }
    measured = {
        name: variance_of_gradients(_of_vae(place, estimate), repetitions=repetitions)
        for name, estimate in tracked(ESTIMATORS.items(), "estimating gradients", len(ESTIMATORS))
    }
    least = measured["pathwise"]
    ratios = {name: m.trace / least.trace for name, m in measured.items()}
    place.keep("gradients", {
        "dimensions": DIMENSIONS, "quadratic": by_dimension, "ratio": ratios, "repetitions": repetitions,
        "noise_to_signal": {name: m.trace / max(least.squared_norm, 1e-30) for name, m in measured.items()},
    })  # fmt: skip


def quadratic(estimate: Callable[..., Gradient], d: int, draws: int = 5) -> Callable[[], Gradient]:
    """Estimates of the gradient of E|z − 1|² under N(μ, σ² I) at μ = 0, σ = 1, whose squared norm is 8 D."""
    phi = (torch.zeros(d), torch.zeros(d))

    def q(mu: Tensor, log_sigma: Tensor) -> Normal:
        return Normal(mu, log_sigma.exp())

    return lambda: estimate(q, phi, lambda z: (z - 1).square().sum(-1), n=draws)


def _noise(estimate: Callable[[], Gradient], repetitions: int, squared_norm: float) -> float:
    moments: GradientMoments = variance_of_gradients(estimate, repetitions=repetitions)
    return moments.trace / squared_norm


def _of_vae(place: Place, estimate: Callable[..., Gradient], faces: int = 8, draws: int = 5) -> Callable[[], Gradient]:
    """Estimates of the gradient of E_q log p(x|z) by the posterior's μ and log σ of some held-out faces."""
    model = place.model("vae")
    x = model.codec.encode(place.data.test[:faces], torch.Generator().manual_seed(0))
    with torch.no_grad():
        phi = model.posterior(x)
    model.requires_grad_(False)

    def q(mu: Tensor, log_sigma: Tensor) -> Normal:
        return Normal(mu, log_sigma.exp())

    return lambda: estimate(q, phi, lambda z: model.log_likelihoods(x, z), n=draws)
