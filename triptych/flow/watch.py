"""Signs that a flow goes wrong while its likelihood looks fine: round trips, samples, scales, condition numbers.

Shapes: x (B, *E); K mixing layers of C channels, W (K, C, C).
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from triptych.bijections import ActNorm, BatchNorm, Conditioner, FlowSteps, Mixing, Scale
from triptych.bijections.actnorm import LOG_SCALE_RATE
from triptych.core import evaluating
from triptych.errors import TriptychError
from triptych.flow.flow import Flow
from triptych.randomness import seeded


@torch.no_grad()
def flow_health(model: Flow, x: Tensor, context: Tensor | None = None, *, samples: int = 8) -> dict[str, float | str]:
    """How far a flow is from not being invertible in float32. Nothing of the model is changed, nor torch's random state.

    Args:
        x: a few examples in model coordinates, (B, *E).
        context: theirs, (B, K), of a conditional model; samples are drawn with the first one's.
        samples: how many are drawn, at temperature 1, always from the same z.

    Returns:
        round_trip    max |f⁻¹(f(x)) − x|; infinite where f cannot be inverted
        sample_range  max |f⁻¹(z)| over the samples
        scale_min, scale_max    factors by which actnorms, batch norms and NICE's last layer multiply a channel
        condition     largest ratio of singular values of a 1×1 convolution
        drift         of the reversible mode's inversion, where it is in use (`FlowSteps.drift`)
        scale_min_layer, scale_max_layer, condition_layer    which layer that was

    >>> from triptych.flow import Glow
    >>> model = Glow((3, 4, 4), levels=1, depth=2, width=8)
    >>> model.initialize(torch.rand(8, 3, 4, 4))
    >>> found = flow_health(model, torch.rand(8, 3, 4, 4))
    >>> found["round_trip"] < 1e-4, round(found["condition"])  # 1×1 convolutions begin as rotations
    (True, 1)
    """
    with _as_evaluated(model):
        return {
            "round_trip": _round_trip(model, x, context),
            "sample_range": _sample_range(model, samples, None if context is None else context[:1]),
            **_scales(model),
            **_condition(model),
            **_drift(model),
        }


def most_extreme(found: dict[str, float | str]) -> str:
    """The layer that `flow_health` found to be furthest from harmless, in words."""
    strain = {
        "scale_min": ("multiplies a channel by", lambda v: -math.log(max(v, 1e-300))),
        "scale_max": ("multiplies a channel by", lambda v: math.log(max(v, 1e-300))),
        "condition": ("has condition number", lambda v: math.log(max(v, 1.0))),
    }
    known = {k: v for k in strain if isinstance(v := found.get(k), float)}
    if not known:
        return "no single layer stands out"
    worst = max(known, key=lambda k: strain[k][1](known[k]))
    return f"the most extreme layer is {found[worst + '_layer']}, which {strain[worst][0]} {known[worst]:.3g}"


@contextlib.contextmanager
def _as_evaluated(model: Flow) -> Iterator[None]:
    """Eval mode (running averages rest) and float32, as evaluation has it; torch's random state is as before at the end."""
    bf16 = [(m, m.bf16) for m in model.modules() if isinstance(m, Conditioner)]
    with seeded(0, model.device), evaluating(model):
        model.bf16 = False
        try:
            yield
        finally:
            for conditioner, value in bf16:
                conditioner.bf16 = value


def _round_trip(model: Flow, x: Tensor, context: Tensor | None) -> float:
    try:
        return _largest(model.decode(model.encode(x, context), context) - x)
    except TriptychError:  # not finite, or a singular matrix: there is no inverse
        return math.inf


def _sample_range(model: Flow, n: int, context: Tensor | None) -> float:
    try:
        return _largest(model.sample(n, context=context, generator=torch.Generator().manual_seed(0)))
    except TriptychError:
        return math.inf


def _largest(values: Tensor) -> float:
    largest = values.abs().max().item()
    return largest if math.isfinite(largest) else math.inf


def _scales(model: nn.Module) -> dict[str, float | str]:
    names, rows = [], []
    for name, layer in model.named_modules():
        log = _log_scales(layer)
        if log is not None:
            names.append(name)
            rows.append(torch.stack(log.aminmax()))
    if not rows:
        return {}
    low, high = torch.stack(rows).exp().nan_to_num(nan=torch.inf).unbind(1)
    return {
        "scale_min": low.min().item(),
        "scale_min_layer": names[int(low.argmin())],
        "scale_max": high.max().item(),
        "scale_max_layer": names[int(high.argmax())],
    }


def _log_scales(layer: nn.Module) -> Tensor | None:
    """log of the factors (C,) by which a layer multiplies channels, whatever passes through it."""
    if isinstance(layer, ActNorm):
        return LOG_SCALE_RATE * layer.log_scale
    if isinstance(layer, Scale):
        return layer.log_s
    if isinstance(layer, BatchNorm):
        return -0.5 * (layer.var + layer.epsilon).log()
    return None


def _condition(model: nn.Module) -> dict[str, float | str]:
    """The worst condition number of the mixing layers; those of one kind and size are decomposed together."""
    alike: dict[tuple[type[Mixing], int], list[tuple[str, Mixing]]] = defaultdict(list)
    for name, layer in model.named_modules():
        if isinstance(layer, Mixing) and next(layer.parameters(), None) is not None:  # else a permutation
            alike[type(layer), layer.channels].append((name, layer))
    found: list[tuple[float, str]] = []
    for (kind, _), group in alike.items():
        weight = kind.matrices([layer for _, layer in group])[0]
        found += zip(_conditions(weight), (name for name, _ in group), strict=True)
    if not found:
        return {}
    worst, name = max(found)
    return {"condition": worst, "condition_layer": name}


def _conditions(weight: Tensor) -> list[float]:
    """σ_max / σ_min of matrices (K, C, C); infinite for a singular one and for what is not finite."""
    finite = weight.isfinite().all(-1).all(-1)
    identity = torch.eye(weight.shape[-1], dtype=torch.float64, device=weight.device)
    sigma = torch.linalg.svdvals(torch.where(finite[:, None, None], weight.double(), identity))
    ratio = torch.where(finite, sigma[:, 0] / sigma[:, -1], torch.inf)
    return ratio.tolist()


def _drift(model: nn.Module) -> dict[str, float | str]:
    scales = [m.drift for m in model.modules() if isinstance(m, FlowSteps) and m.memory == "reversible"]
    return {"drift": torch.stack(scales).max().item()} if scales else {}
