"""Claim 11: how many bytes a training step of Glow keeps for its gradient, by depth and by way of keeping them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from triptych.flow import Glow
from triptych.progress import tracked
from triptych.randomness import seeded
from triptych.tour.place import Place

DEPTHS = (2, 4, 8, 16, 32)
WAYS = ("full", "checkpoint", "reversible")
_BATCH, _WIDTH = 8, 32


def measure_memory(place: Place) -> None:
    """The megabytes that autograd holds between the loss and its gradient, counted tensor by tensor."""
    x = place.data.train[:_BATCH].float() / 256
    kept: dict[str, list[float]] = {way: [] for way in WAYS}
    for depth in tracked(DEPTHS, "counting what gradients need", len(DEPTHS)):
        for way in WAYS:
            kept[way].append(kept_bytes(x, depth, way) / 1e6)
    place.keep("memory", {"depths": DEPTHS, "megabytes": kept, "batch": _BATCH, "width": _WIDTH, "n": len(x)})


def kept_bytes(x: Tensor, depth: int, way: str, levels: int = 2) -> int:
    """Bytes of the storages that are saved for the gradient of −log p(x), those of parameters and of x not counted."""
    with seeded(0):
        model = Glow(tuple(x.shape[1:]), levels=levels, depth=depth, width=_WIDTH, memory=way)  # type: ignore[arg-type]
        model.initialize(x)
    model.train()
    known = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers(), x)}
    found: dict[int, int] = {}
    held: list[Any] = []  # storages stay alive, so that none is counted at another's address

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
            held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = -model.log_prob(x).mean()
    del loss
    return sum(found.values())
