"""Signs that a flow goes wrong while its likelihood looks fine: round trips, samples, scales, condition numbers.

Shapes: x (B, *E); K mixing layers of C channels, W (K, C, C).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections import ActNorm, BatchNorm, Conditioner, FlowSteps, Mixing, Scale
from triptych.bijections.actnorm import LOG_SCALE_RATE
from triptych.errors import TriptychError
from triptych.flow.flow import Flow
from triptych.modes import in_eval_mode
from triptych.randomness import seeded


@torch.no_grad()
@in_eval_mode
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
    first, generator = None if context is None else context[:1], torch.Generator().manual_seed(0)
    bf16 = [m for m in model.modules() if isinstance(m, Conditioner) and m.bf16]
    with seeded(0, model.device):
        model.bf16 = False
        try:
            found = {
                "round_trip": _largest(lambda: model.decode(model.encode(x, context), context) - x),
                "sample_range": _largest(lambda: model.sample(samples, context=first, generator=generator)),
                **_scales(model),
                **_condition(model),
            }
        finally:
            for conditioner in bf16:
                conditioner.bf16 = True
    drifts = [m.drift for m in model.modules() if isinstance(m, FlowSteps) and m.memory == "reversible"]
    return found | ({"drift": torch.stack(drifts).max().item()} if drifts else {})


def most_extreme(found: dict[str, float | str]) -> str:
    """The layer that `flow_health` found to be furthest from harmless, in words."""
    signs = {"scale_min": -1, "scale_max": 1, "condition": 1}
    strain = {k: sign * math.log(max(v, 1e-300)) for k, sign in signs.items() if isinstance(v := found.get(k), float)}
    if not strain:
        return "no single layer stands out"
    worst = max(strain, key=strain.__getitem__)
    does = "has condition number" if worst == "condition" else "multiplies a channel by"
    return f"the most extreme layer is {found[worst + '_layer']}, which {does} {found[worst]:.3g}"


def _largest(compute: Callable[[], Tensor]) -> float:
    try:
        largest = compute().abs().max().item()
    except TriptychError:  # not finite, or a singular matrix, which has no inverse
        return math.inf
    return largest if math.isfinite(largest) else math.inf


_LOG_SCALES: dict[type, Callable[[Any], Tensor]] = {  # log of the factors (C,) by which layers multiply channels
    ActNorm: lambda layer: LOG_SCALE_RATE * layer.log_scale,
    Scale: lambda layer: layer.log_s,
    BatchNorm: lambda layer: -0.5 * (layer.var + layer.epsilon).log(),
}


def _scales(model: nn.Module) -> dict[str, float | str]:
    layers = {name: layer for name, layer in model.named_modules() if type(layer) in _LOG_SCALES}
    if not layers:
        return {}
    logs = torch.stack([torch.stack(_LOG_SCALES[type(layer)](layer).aminmax()) for layer in layers.values()])
    low, high = logs.exp().nan_to_num(nan=torch.inf).T.tolist()
    return _named("scale_min", min(zip(low, layers, strict=True))) | _named("scale_max", max(zip(high, layers, strict=True)))


def _condition(model: nn.Module) -> dict[str, float | str]:
    """The worst condition number of the mixing layers; those of one kind and size are decomposed together."""
    alike: dict[tuple[type[Mixing], int], dict[str, Mixing]] = defaultdict(dict)
    for name, layer in model.named_modules():
        if isinstance(layer, Mixing) and next(layer.parameters(), None) is not None:  # else a permutation
            alike[type(layer), layer.channels][name] = layer
    found: list[tuple[float, str]] = []
    for (kind, _), layers in alike.items():
        weight = kind.matrices([*layers.values()])[0].double()
        finite = weight.isfinite().all(-1).all(-1)
        ratios = torch.linalg.cond(weight.nan_to_num(0, 0, 0)).masked_fill(~finite, math.inf)
        found += zip(ratios.tolist(), layers, strict=True)
    return _named("condition", max(found)) if found else {}


def _named(key: str, found: tuple[float, str]) -> dict[str, float | str]:
    return {key: found[0], f"{key}_layer": found[1]}
