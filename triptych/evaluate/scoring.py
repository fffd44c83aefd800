"""Scores of single examples: how unlike the training data each is, by several statistics of it and by them together.

Each example's statistics depend on that example alone: noise is drawn once from the seed and shared by all, so that the
order of examples, and with which others they come, changes nothing.

Shapes: stored (n, *E), as a split gives them; context (n, K) or (1, K), or None; D values in an event; results (n,) float64.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from triptych.capabilities import Encodes, HasDensity, HasPosterior
from triptych.core import GenerativeModel
from triptych.errors import TriptychError, check_size
from triptych.evaluate.compression import complexity
from triptych.evaluate.latent import batches
from triptych.evaluate.likelihood import known
from triptych.modes import in_eval_mode
from triptych.vae.estimators import log_terms


class Density(Protocol):
    """Anything with the log-likelihood of examples in model coordinates: (n, *E) -> (n,) nats."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of each, in nats."""


SCORES = ("joint", "likelihood", "complexity", "ratio", "typicality", "reconstruction")
"""Scores by name, the default first; of each, larger is less normal."""


@torch.no_grad()
@in_eval_mode
def statistics(
    model: GenerativeModel,
    stored: Tensor,
    *,
    context: Tensor | None = None,
    blunt: Mapping[str, Density] | None = None,
    k: int = 10,
    seed: int = 0,
    batch: int = 128,
) -> dict[str, Tensor]:
    """What is measured of each example, as far as the model's capabilities and the data allow.

    Returns:
        log_prob        log p, or a lower bound, in nats of the stored values
        codec_bits      L(x), for pictures: see `complexity`; of what the model reads of them
        gaussian, local log p(x) of the two blunter densities, in nats, of x as the model learned it (`Codec.as_learned`)
        reconstruction  root mean square of decode(encode(x)) − x of the same x, of models that do not encode exactly

    Args:
        context: of a conditional model.
        blunt: densities by name that are measured besides, as `learn_reference` fits them.
        k: draws of z of a lower bound.
        seed: of the noise.
    """
    check_size("k", k, 2**31)
    parts = [_measured(model, part, c, blunt or {}, k, seed) for part, c in batches(model, stored, context, batch)]
    return {name: torch.cat([part[name] for part in parts]).double().cpu() for name in (parts[0] if parts else ())}


def _measured(
    model: GenerativeModel, stored: Tensor, context: Tensor | None, blunt: Mapping[str, Density], k: int, seed: int
) -> dict[str, Tensor]:
    codec = model.codec
    x, seen = shared_noise(model, codec.encode, stored, seed), shared_noise(model, codec.as_learned, stored, seed)
    found, spread = {}, codec.log_scale(model.event_shape)  # densities are of stored values
    if isinstance(model, HasDensity):
        found["log_prob"] = known(_log_prob(model, x, context, k, seed)) - spread
    if stored.dtype == torch.uint8:
        found["codec_bits"] = complexity(codec.decode(x))
    found |= {name: density.log_prob(seen) - spread for name, density in blunt.items()}
    if isinstance(model, Encodes) and not (isinstance(model, HasDensity) and model.bound == "exact"):
        error = model.decode(model.encode(seen, context), context) - seen
        found["reconstruction"] = known(error.flatten(1).square().mean(1).sqrt(), "reconstructions")
    return found


def shared_noise(
    model: GenerativeModel, read: Callable[[Tensor, torch.Generator], Tensor], stored: Tensor, seed: int
) -> Tensor:
    """x as one of the codec's ways of reading makes it, each example with the same noise."""
    noise = torch.Generator(model.device)
    return torch.cat([read(example[None], noise.manual_seed(seed)) for example in stored.to(model.device)])


def _log_prob(model: GenerativeModel, x: Tensor, context: Tensor | None, k: int, seed: int) -> Tensor:
    assert isinstance(model, HasDensity)
    noise = torch.Generator(model.device).manual_seed(seed)
    if isinstance(model, HasPosterior):
        log_w = []
        for start in range(0, k, _DRAWS):
            log_px, log_pz, log_qz = log_terms(model, x, context, min(_DRAWS, k - start), noise, shared=True)
            log_w.append((log_px + log_pz - log_qz).double())
        return torch.cat(log_w).logsumexp(0) - math.log(k)
    if model.bound == "exact":
        return model.log_prob(x, context)
    contexts = [None] * len(x) if context is None else context.split(1)  # one by one: their noise is drawn inside
    pairs = zip(x.split(1), contexts, strict=True)
    return torch.cat([model.log_prob(one, c, k=k, generator=noise.manual_seed(seed)) for one, c in pairs])


_DRAWS = 10  # of z decoded at once: memory is that of so many batches


def bits_of(model: GenerativeModel, found: Mapping[str, Tensor]) -> Tensor | None:
    """Bits per dimension of the stored pixels; None where a model has no density, or no pixels."""
    if "log_prob" in found and isinstance(model, HasDensity):
        with contextlib.suppress(TriptychError):  # only pixels have bits per dimension
            added = model.codec.added_bits(model.measure)
            return -found["log_prob"] / (math.prod(model.event_shape) * math.log(2)) + added
    return None


def scores(
    found: Mapping[str, Tensor], held_out: Mapping[str, Tensor], dims: int, added_bits: float = 0.0
) -> dict[str, Tensor]:
    """Anomaly scores of `statistics`, by name; larger is less normal. A pure function, in bits per dimension where it can.

        likelihood      −log₂ p(x) / D
        complexity      (−log₂ p(x) − L(x)) / D                  Serrà et al. 2020
        ratio           (log₂ p₀(x) − log₂ p(x)) / D             Ren et al. 2019; p₀ is the local density, else the gaussian
        typicality      |−log₂ p(x) − H| / D                     Nalisnick et al. 2019, for a batch of one
        reconstruction  root mean square error, in model coordinates
        joint           √((s − m)ᵀ Σ⁻¹ (s − m)) of all statistics s, with held-out mean m and covariance Σ: density of states
                        (Morningstar et al. 2021) by a Gaussian

    Args:
        found: of n examples.
        held_out: of the same model, of m held-out examples that are normal.
        dims: D.
        added_bits: of `Codec.added_bits`, where p is a density of pixels.

    >>> s = {"log_prob": torch.tensor([0.0, -3.0])}
    >>> scores(s, {"log_prob": torch.tensor([-3.0, -3.1, -2.9])}, dims=1)["joint"].argmax().item()
    0
    """
    unit = dims * math.log(2)
    made = {"joint": joint(found, held_out)}
    if "log_prob" in found:
        made["likelihood"] = added_bits - found["log_prob"] / unit
        made["typicality"] = (found["log_prob"] - held_out["log_prob"].mean()).abs() / unit
        if "codec_bits" in found:
            made["complexity"] = made["likelihood"] - found["codec_bits"] / dims
        if blunt := next((name for name in ("local", "gaussian") if name in found), None):
            made["ratio"] = (found[blunt] - found["log_prob"]) / unit
    if "reconstruction" in found:
        made["reconstruction"] = found["reconstruction"]
    return {name: made[name].nan_to_num(nan=math.inf, posinf=math.inf) for name in SCORES if name in made}


def joint(found: Mapping[str, Tensor], held_out: Mapping[str, Tensor]) -> Tensor:
    """The Mahalanobis distance of an example's statistics from those of held-out data, (n,)."""
    names = [name for name in held_out if name in found]
    values, known = (torch.stack([table[name].double() for name in names], 1) for table in (found, held_out))
    known = known[known.isfinite().all(1)]
    mean, spread = known.mean(0), known.std(0, correction=0).clamp_min(1e-9)
    known, values = (known - mean) / spread, (values - mean) / spread
    covariance = known.T @ known / len(known) + _RIDGE * torch.eye(len(names), dtype=torch.float64)
    return (values * torch.linalg.solve(covariance, values.T).T).sum(1).clamp_min(0).sqrt()


_RIDGE = 1e-3  # of a statistic's variance: two that say the same do not make their rounding count
