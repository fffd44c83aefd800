"""Pixels: 8-bit values read at a bit depth, dequantised, at bin centres, or binarised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from triptych.core import Codec
from triptych.errors import TriptychError, check_size, not_finite

_BELOW_ONE = 1 - 2**-16  # the largest u that 255 + u holds in float32: v + u never rounds up to the next bin


class Pixels(Codec):
    """What all readings of 8-bit pixels share.

    Args:
        bits: depth at which they are read, 1 to 8: the lowest 8 − bits are dropped.
    """

    def __init__(self, bits: int = 8):
        check_size("bits", bits, 8)
        self.bits = bits

    @property
    def levels(self) -> int:
        """2^bits."""
        return 2**self.bits

    def fitted(self) -> dict[str, list[float]]:
        """The depth of the training set's values, where these had more than eight bits."""
        return {"depth": list(self.depth)} if self.depth else {}

    def restore(self, fitted: Mapping[str, Sequence[float]]) -> None:
        """Sets it again."""
        self.depth = tuple(fitted.get("depth", ()))

    def centre(self, stored: Tensor) -> Tensor:
        """The bin's centre (v + ½) / 2^bits."""
        return self._bins(self.check(stored)).add_(0.5).div_(self.levels)

    def decode(self, x: Tensor) -> Tensor:
        """The level that x lies in, spread over 0 … 255: (B, *E) uint8."""
        unit = _known(x).clamp(0, 1)
        level = unit.mul(self.levels).floor().clamp(max=self.levels - 1)
        return level.mul(255 / (self.levels - 1)).round().to(torch.uint8)

    def check(self, stored: Tensor) -> Tensor:
        """The stored values themselves if they are uint8."""
        if stored.dtype != torch.uint8:
            raise TriptychError(
                f"this model reads 8-bit pixels ({self.name}), got {stored.dtype}: give uint8 values 0 … 255"
            )
        return stored

    def added_bits(self, measure: Literal["density", "mass"]) -> float:
        """The bit depth for a density, 0 for a mass."""
        return self.bits if measure == "density" else 0

    def show(self, x: Tensor, event_shape: Sequence[int]) -> Tensor | None:
        """The pictures themselves, where they have 1, 3 or 4 channels and at least 4 × 4 pixels."""
        shown = len(event_shape) == 3 and event_shape[0] in (1, 3, 4) and min(event_shape[1:]) >= 4
        return self.decode(x) if shown else None

    def _bins(self, values: Tensor) -> Tensor:
        return (values >> (8 - self.bits)).float()


def _known(x: Tensor) -> Tensor:
    """x without its graph, if none of it is NaN: infinity is black or white, as any value out of range."""
    if x.isnan().any():
        raise not_finite("outputs")
    return x.detach()


class Dequantised(Pixels):
    """x = (v + u) / 2^bits, u ~ U[0, 1): for densities (Theis et al. 2016).

    >>> x = Dequantised().encode(torch.tensor([[0, 255]], dtype=torch.uint8))
    >>> (x * 256).floor()
    tensor([[  0., 255.]])
    """

    name: ClassVar[str] = "dequantise"

    @property
    def noisy(self) -> bool:
        """True: u is drawn afresh."""
        return True

    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(v + u) / 2^bits, (B, *E)."""
        values = self.check(stored)
        u = torch.rand(values.shape, generator=generator, device=values.device)
        return u.clamp_(max=_BELOW_ONE).add_(self._bins(values)).div_(self.levels)


class BinCentres(Pixels):
    """x = (v + ½) / 2^bits: for masses over bins, and for models without a density.

    >>> codec = BinCentres()
    >>> codec.decode(codec.encode(torch.tensor([[0, 7, 255]], dtype=torch.uint8)))
    tensor([[  0,   7, 255]], dtype=torch.uint8)
    """

    name: ClassVar[str] = "centre"

    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The bin's centre, (B, *E)."""
        return self.centre(stored)


class Binarised(Pixels):
    """x = 1 with probability v / 255, else 0, drawn afresh each time: for the Bernoulli likelihood.

    >>> Binarised().encode(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[0., 1.]])
    """

    name: ClassVar[str] = "binarise"
    centred: ClassVar[bool] = False

    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Zeros and ones, (B, *E)."""
        values = self.check(stored)
        # r uniform on 0 … 254 is below v with probability v / 255 exactly: a black-and-white picture stays itself
        r = torch.randint(0, 255, values.shape, dtype=torch.uint8, generator=generator, device=values.device)
        return r.lt(values).float()

    def centre(self, stored: Tensor) -> Tensor:
        """The draw's mean, v / 255."""
        return self.check(stored).float() / 255

    def as_learned(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Zeros and ones, (B, *E): a grey picture is nothing that the model was shown."""
        return self.encode(stored, generator)

    def decode(self, x: Tensor) -> Tensor:
        """x as grey values 0 … 255, (B, *E) uint8."""
        return _known(x).clamp(0, 1).mul(255).round().to(torch.uint8)

    def added_bits(self, measure: Literal["density", "mass"]) -> float:
        """Binarised pixels have no bits/dim: raises."""
        return super(Pixels, self).added_bits(measure)
