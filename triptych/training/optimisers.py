"""Optimisers and their schedules by the recipe, and their state as it is stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from triptych.recipes import Training


def make(training: Training, player: nn.Module, device: torch.device) -> Optimizer:
    """The recipe's update rule for a player's parameters, fused where the device allows it.

    >>> make(Training(rate=0.01), nn.Linear(2, 1), torch.device("cpu")).defaults["lr"]
    0.01
    """
    parameters = [p for p in player.parameters() if p.requires_grad]
    betas, fused = (training.momentum, training.beta2), device.type in ("cpu", "cuda")
    rules: dict[str, Callable[..., Optimizer]] = {
        "adam": partial(torch.optim.Adam, betas=betas, fused=fused),
        "adamw": partial(torch.optim.AdamW, betas=betas, fused=fused),
        "adamax": partial(torch.optim.Adamax, betas=betas),
        "adagrad": partial(torch.optim.Adagrad, fused=device.type == "cpu"),
        "sgd": partial(torch.optim.SGD, momentum=training.momentum, fused=fused),
    }
    optimizer = rules[training.optimizer](parameters, lr=training.rate, weight_decay=training.weight_decay)
    if training.optimizer == "sgd" and (training.momentum or training.momentum_end):
        for p in parameters:  # the fused one starts from uninitialised memory where its first step is a bad one
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def schedule(optimizer: Optimizer, training: Training, step: int, steps: int, scale: float) -> None:
    """Sets the optimiser's rate, multiplied by `scale`, and momentum to those of `step`."""
    (group,) = optimizer.param_groups
    group["lr"] = rate_at(step, steps, training) * scale
    momentum = momentum_at(step, steps, training)
    if "betas" in group:
        group["betas"] = (momentum, group["betas"][1])
    elif "momentum" in group:
        group["momentum"] = momentum


def rate_at(step: int, steps: int, training: Training) -> float:
    """The learning rate at `step` of `steps`: linear warm-up, then decay to rate · rate_end, or none (constant).

    A pure function of the step, so that resuming is starting at a step.

    >>> rate_at(0, 10, Training(rate=1.0, decay="constant"))
    1.0
    """
    warm = min(1.0, (step + 1) / training.rate_warmup) if training.rate_warmup else 1.0
    progress = min(1.0, step / max(1, steps - 1))
    if training.decay == "exponential":
        return training.rate * warm * training.rate_end**progress
    shape = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return training.rate * warm * (training.rate_end + (1 - training.rate_end) * shape[training.decay])


def momentum_at(step: int, steps: int, training: Training) -> float:
    """The momentum at `step` of `steps`, moving linearly from `momentum` to `momentum_end`.

    >>> momentum_at(5, 11, Training(momentum=0.5, momentum_end=0.75))
    0.625
    """
    end = training.momentum if training.momentum_end is None else training.momentum_end
    return training.momentum + (end - training.momentum) * min(1.0, step / max(1, steps - 1))


def state(optimizer: Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers, by "index.slot", the index being the parameter's; its settings are the recipe's."""
    stored = optimizer.state_dict()["state"]
    found = {f"{index}.{slot}": v for index, slots in stored.items() for slot, v in slots.items() if v is not None}
    return {key: torch.as_tensor(value) for key, value in found.items()}


def load(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores what an optimiser remembers from tensors by "index.slot", which `foreign.check_tensors` has let through.

    Files keep no strides, and fused optimisers pair moments with parameters by their place in memory: a moment gets the
    strides of its parameter.
    """
    optimizer.state.clear()
    parameters = optimizer.param_groups[0]["params"]
    for key, value in tensors.items():
        index, slot = key.split(".", 1)
        parameter = parameters[int(index)]
        moment = value.shape == parameter.shape and slot != "step"
        place = torch.empty_like(parameter, requires_grad=False) if moment else torch.empty((), device=_home(optimizer))
        optimizer.state[parameter][slot] = place.copy_(value)


def _home(optimizer: Optimizer) -> torch.device:
    """Where an optimiser counts the steps of its parameters: fused ones beside them, the others on the CPU."""
    return optimizer.param_groups[0]["params"][0].device if optimizer.defaults.get("fused") else torch.device("cpu")
