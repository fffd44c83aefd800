"""Activation normalisation (Glow, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection
from triptych.errors import TriptychError

LOG_SCALE_RATE = 3.0  # as in Glow's released code: log-scales learn three times as fast as the rest
CONSTANT = 1e-4  # a channel whose spread is below this is constant: dividing by it would blow noise up


class SeesData(nn.Module):
    """A module that data set, with a flag that says whether they have.

    The flag is a uint8 buffer, so that it is saved, copied and sent to other processes with the weights, and it is read from
    the device once, into a Python bool.
    """

    initialised: Tensor
    _ready: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("initialised", torch.zeros((), dtype=torch.uint8))

    @property
    def ready(self) -> bool:
        """Whether data have been seen."""
        if not self._ready:
            self._ready = bool(self.initialised)
        return self._ready

    def forget(self) -> None:
        """Lets data set the layer anew."""
        self._ready = False
        self.initialised.zero_()

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._ready = False
        super()._load_from_state_dict(*arguments, **options)

    def mark(self) -> None:
        """Says that data have been seen."""
        self.initialised.fill_(1)


class Initialised(SeesData, Bijection):
    """A bijection that a first batch of data sets."""

    def check_ready(self) -> None:
        """Raises a `TriptychError` if no data have been seen."""
        if not self.ready:
            raise TriptychError(f"this {type(self).__name__} has not seen data yet: call initialize(x) of the flow first")


def check_batch(x: Tensor, who: str) -> None:
    """Raises a `TriptychError` for a batch from which the statistics of each channel cannot be computed."""
    if not x.isfinite().all():
        raise TriptychError(f"{who} is initialised from a batch with NaN or infinity: remove such examples first")
    if x.numel() // max(1, x.shape[1]) < 2:
        raise TriptychError(f"{who} is initialised from statistics, which one example does not have: give at least 2")


def channel_statistics(x: Tensor, who: str, positions: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each channel of a first batch, or (C, *S) of each of its positions; the deviation
    of what is constant is given as 1."""
    check_batch(x.flatten(1) if positions else x, who)
    axes = [0] if positions else [0, *range(2, x.ndim)]
    std = x.std(axes, correction=0)
    return x.mean(axes), torch.where(std > CONSTANT, std, torch.ones_like(std))


class ActNorm(Initialised):
    """z = (x + shift) ⊙ exp(3 · log_scale), each channel with its own; ladj = |S| Σ_c 3 · log_scale_c.

    `initialize` sets both so that the first batch's z has mean 0 and variance 1 in every channel; a constant channel keeps
    its scale. Any other use before that raises a `TriptychError`.

    Args:
        channels: C; or the event's shape (C, *S), and each channel has a shift and a scale of its own at each position,
            for data that are aligned: ladj = Σ_{c,p} 3 · log_scale_{c,p}.

    >>> layer = ActNorm(3)
    >>> z = layer.initialize(5 + 2 * torch.randn(8, 3, 4, 4))
    >>> round(z.mean().abs().item(), 4), round(z.std().item(), 2)
    (0.0, 1.0)
    >>> ActNorm((3, 4, 4)).shift.shape
    torch.Size([3, 4, 4])
    """

    def __init__(self, channels: int | Sequence[int]):
        super().__init__()
        shape = (channels,) if isinstance(channels, int) else tuple(channels)
        self.shift = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.check_ready()
        log_scale = LOG_SCALE_RATE * self.log_scale
        z = (x + _over(x, self.shift)) * _over(x, log_scale.exp())
        return z, (math.prod(x.shape[1:]) // log_scale.numel() * log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        self.check_ready()
        scale = (-LOG_SCALE_RATE * self.log_scale).exp()
        return z * _over(z, scale) - _over(z, self.shift)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        mean, std = channel_statistics(x, "ActNorm", positions=self.shift.ndim > 1)
        self.shift.copy_(-mean)
        self.log_scale.copy_(-std.log() / LOG_SCALE_RATE)
        self.mark()
        return self(x)[0]


def _over(x: Tensor, values: Tensor) -> Tensor:
    """Values (C,) or (C, *S), shaped to broadcast over x (B, C, *S)."""
    return values.view(*values.shape, *(1,) * (x.ndim - 1 - values.ndim))
