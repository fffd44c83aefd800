"""A checkpoint's tensors and numbers, compared with those of a fresh run before anything takes them.

Fused optimisers read and write their moments by the parameter's length and type, whatever a file says of them: moments of
another shape would be memory that is not theirs. So names, shapes, types and ranges are those of the run that the recipe
makes; learning rates, decays and every other setting come from the recipe alone.

    weights.NAME, average.NAME       the model's state
    health.PLAYER.NAME               the statistics of its steps
    best.PLAYER.weights.NAME         the best of the averaged weights, and beside them .loss and .step (`validation`)
    optimizer.PLAYER.INDEX.SLOT      all of the rule's slots for a parameter, or none: it has not been updated yet
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from triptych import storage
from triptych.errors import TriptychError
from triptych.recipes import Training
from triptych.training import optimisers

REMEDY = "delete it to go on from the checkpoint before, or start a new run with --init"


class Slot(NamedTuple):
    """What an update rule keeps for each parameter: shaped and typed like it, or a number."""

    moment: bool
    like: Tensor


def slots(training: Training, device: torch.device) -> dict[str, Slot]:
    """The slots of a rule by name, read off a step of a scratch parameter.

    >>> found = slots(Training(), torch.device("cpu"))
    >>> {name: slot.moment for name, slot in found.items()}
    {'step': False, 'exp_avg': True, 'exp_avg_sq': True}
    """
    weight = nn.Parameter(torch.zeros(3, 2, device=device))
    optimizer = optimisers.make(training, nn.ParameterList([weight]), device)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    kept = {name: value for name, value in optimizer.state[weight].items() if value is not None}
    return {name: Slot(value.shape == weight.shape, value) for name, value in kept.items()}


def check_tensors(
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    optimizers: Mapping[str, Optimizer],
    known: Mapping[str, Mapping[str, Slot]],
    finite: Container[str],
    source: Path,
) -> None:
    """Raises a `TriptychError` that names the first tensor that a fresh run would not have.

    Args:
        tensors: of the checkpoint; state: of a fresh run, all but its optimisers'.
        optimizers: of each player, by its name, and `known`, what their rules keep.
        finite: the weights and averages that are parameters; a buffer may be infinite, such as a mask.
        source: the checkpoint's folder.
    """
    expected = dict(state)
    for name, optimizer in optimizers.items():
        for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
            prefix = f"optimizer.{name}.{index}."
            if any(f"{prefix}{slot}" in tensors for slot in known[name]):
                own = known[name].items()
                expected |= {f"{prefix}{slot}": parameter if kind.moment else kind.like for slot, kind in own}
    storage.check_names(expected, tensors, source, REMEDY)
    for name, value in tensors.items():
        if problem := next(_problems(name, value, finite), None):
            raise TriptychError(f"{source} is damaged or foreign: {name} {problem}; {REMEDY}")


def _problems(name: str, value: Tensor, finite: Container[str]) -> Iterator[str]:
    """What is wrong with a tensor's values."""
    section, *_, last = name.split(".")
    # the gradients of bad steps are as they come
    numbers = name in finite or section == "optimizer" or (section == "health" and last != "last_bad_norms")
    if numbers and value.is_floating_point() and not value.isfinite().all():
        yield "holds NaN or infinity"
    low, high = _RANGES.get((section, last), (-math.inf, math.inf))
    if bool((value < low).any() or (value > high).any()):
        yield f"should be from {low:g} to {high:g}"


_MOST_STEPS = 1e12  # as many as a recipe may ask for
_COUNTS = ("seen", "leaps", "bad", "streak")
_RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("optimizer", "step"): (0, _MOST_STEPS),
    # sums and maxima of squares and absolute values
    **{("optimizer", name): (0, math.inf) for name in ("exp_avg_sq", "exp_inf", "sum")},
    ("best", "step"): (0, _MOST_STEPS),
    ("health", "norm"): (0, math.inf),
    **{("health", name): (0, _MOST_STEPS) for name in _COUNTS},
    ("health", "last_bad_step"): (-1, _MOST_STEPS),
}
"""What the numbers of a slot or a statistic may be, ends included."""
