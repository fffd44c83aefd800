"""Optimisers by the recipe, and their state as it is stored."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from triptych.recipes import Training


def make(training: Training, player: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's update rule for what a player owns; fused where the device can."""
    parameters = [p for p in player.parameters() if p.requires_grad]
    common: dict[str, Any] = {"lr": training.rate, "weight_decay": training.weight_decay}
    adam = {**common, "betas": (training.momentum, training.beta2), "fused": device.type in ("cpu", "cuda")}
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, **adam)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **adam)
    if training.optimizer == "adamax":
        return torch.optim.Adamax(parameters, **common, betas=(training.momentum, training.beta2))
    if training.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, **common, fused=device.type == "cpu")
    optimizer = torch.optim.SGD(parameters, **common, momentum=training.momentum, fused=device.type in ("cpu", "cuda"))
    if training.momentum or training.momentum_end:
        for parameter in parameters:  # the fused one starts from memory as it finds it, where its first step is a bad one
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def stored_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Tensors by "index.slot" as an optimiser's `state`, by the parameter's index."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, slot = key.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    return state


def lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Gives every moment its parameter's strides, which files do not keep: fused optimisers pair them by place in memory."""
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter, requires_grad=False, dtype=value.dtype).copy_(value)
