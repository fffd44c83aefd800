"""Activation normalisation (Glow, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, per_channel, positions, same_ladj
from triptych.errors import TriptychError

LOG_SCALE_RATE = 3.0  # as in Glow's released code: log-scales learn three times as fast as the rest
CONSTANT = 1e-4  # a channel whose spread is below this is constant: dividing by it would blow noise up


class Initialised:
    """A flag that a checkpoint stores: whether data-dependent parameters have been set.

    It is a uint8 buffer, so that it is saved, copied and sent to other processes with the weights, and it is read from the
    device once, into a Python bool.
    """

    initialised: Tensor
    _ready: bool = False

    @property
    def ready(self) -> bool:
        if not self._ready:
            self._ready = bool(self.initialised)
        return self._ready

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._ready = False
        super()._load_from_state_dict(*arguments, **options)  # type: ignore[misc]

    def check_ready(self) -> None:
        if not self.ready:
            raise TriptychError(
                f"this {type(self).__name__} has not seen data yet: call initialize(x) of the flow with a batch first "
                "(triptych.recipes.build does)"
            )

    def mark_ready(self) -> None:
        self.initialised.fill_(1)
        self._ready = True


def check_batch(x: Tensor, who: str) -> None:
    """Raises a `TriptychError` for a batch from which the statistics of each channel cannot be computed."""
    if not x.isfinite().all():
        raise TriptychError(f"{who} is initialised from a batch with NaN or infinity: remove such examples first")
    if x.numel() // max(1, x.shape[1]) < 2:
        raise TriptychError(f"{who} is initialised from statistics, which one example does not have: give at least 2")


class ActNorm(Initialised, Bijection):
    """z = (x + shift) ⊙ exp(3 · log_scale), each channel with its own; ladj = |S| Σ_c 3 · log_scale_c.

    `initialize` sets both so that the first batch's z has mean 0 and variance 1 in every channel; a constant channel keeps
    its scale. Any other use before that raises a `TriptychError`.

    Args:
        channels: C.

    >>> layer = ActNorm(3)
    >>> z = layer.initialize(5 + 2 * torch.randn(8, 3, 4, 4))
    >>> round(z.mean().abs().item(), 4), round(z.std().item(), 2)
    (0.0, 1.0)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.uint8))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.check_ready()
        log_scale = LOG_SCALE_RATE * self.log_scale
        z = (x + per_channel(self.shift, x)) * per_channel(log_scale.exp(), x)
        return z, same_ladj(log_scale.sum(), x, positions(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        self.check_ready()
        scale = (-LOG_SCALE_RATE * self.log_scale).exp()
        return z * per_channel(scale, z) - per_channel(self.shift, z)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        check_batch(x, "ActNorm")
        axes = [0, *range(2, x.ndim)]
        mean, std = x.mean(axes), x.std(axes, correction=0)
        self.shift.copy_(-mean)
        scale = torch.where(std > CONSTANT, std, torch.ones_like(std))
        self.log_scale.copy_(-scale.log() / LOG_SCALE_RATE)
        self.mark_ready()
        return self(x)[0]


def stacked(layers: Sequence[ActNorm]) -> tuple[Tensor, Tensor]:
    """Log-scales (K, C), the factor 3 included, and shifts (K, C) of K ActNorms."""
    for layer in layers:
        layer.check_ready()
    return LOG_SCALE_RATE * torch.stack([n.log_scale for n in layers]), torch.stack([n.shift for n in layers])
