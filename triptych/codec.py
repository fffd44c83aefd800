"""Stored values <-> model coordinates. The one place that knows a range.

    stored  uint8 (B, *E), or float32 for data that are no pictures
    x       float32 (B, *E), images in [0, 1]

Reading       x of a pixel v with b bits                      for
dequantise    (v + u) / 2^b, u ~ U[0, 1)                      densities (Gaussian likelihood, flows)
centre        (v + ½) / 2^b                                   masses over bins (discretised logistic), GANs
binarise      1 with probability v / 255, else 0, afresh      Bernoulli
none          v itself, any real                              vectors, sequences
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from triptych.errors import TriptychError

if TYPE_CHECKING:
    from triptych.core import Estimate, GenerativeModel

Reading = Literal["dequantise", "centre", "binarise", "none"]

_BELOW_ONE = 1 - 2**-16  # the largest u that 255 + u holds in float32: v + u never rounds up to the next bin


@dataclass(frozen=True)
class Codec:
    """How stored values are read as model coordinates, and written back.

    >>> codec = Codec("centre")
    >>> codec.decode(codec.encode(torch.tensor([[0, 7, 255]], dtype=torch.uint8)))
    tensor([[  0,   7, 255]], dtype=torch.uint8)
    """

    reading: Reading
    bits: int = 8

    def __post_init__(self) -> None:
        if self.reading not in get_args(Reading):
            raise TriptychError(f"reading should be one of {', '.join(get_args(Reading))}, got {self.reading!r}")
        if not 1 <= self.bits <= 8:
            raise TriptychError(f"bits should be 1 to 8, got {self.bits}")

    @property
    def levels(self) -> int:
        return 2**self.bits

    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x for training and scoring, with fresh noise where the reading has any (u, or the binarisation's draw)."""
        values = self.check(stored)
        if self.reading == "none":
            return values
        if self.reading == "centre":
            return self._bins(values).add_(0.5).div_(self.levels)
        if self.reading == "binarise":
            # r uniform on 0 … 254 is below v with probability v / 255 exactly: a black-and-white picture stays itself
            r = torch.randint(0, 255, values.shape, dtype=torch.uint8, generator=generator, device=values.device)
            return r.lt(values).float()
        u = torch.rand(values.shape, generator=generator, device=values.device)
        return u.clamp_(max=_BELOW_ONE).add_(self._bins(values)).div_(self.levels)

    def centre(self, stored: Tensor) -> Tensor:
        """x without noise, for editing: the bin's centre, or the mean v / 255 of the binarisation."""
        values = self.check(stored)
        if self.reading == "none":
            return values
        if self.reading == "binarise":
            return values.float() / 255
        return self._bins(values).add_(0.5).div_(self.levels)

    def decode(self, x: Tensor) -> Tensor:
        """Model coordinates -> stored values. Pictures are clamped to [0, 1]: an edited one may leave the range."""
        if self.reading == "none":
            return x
        unit = x.detach().nan_to_num(0.0).clamp(0, 1)
        if self.reading == "binarise":
            return unit.mul(255).round().to(torch.uint8)
        level = unit.mul(self.levels).floor().clamp(max=self.levels - 1)
        return level.mul(255 / (self.levels - 1)).round().to(torch.uint8)

    def check(self, stored: Tensor) -> Tensor:
        """The stored values themselves if this codec can read them, else a `TriptychError`."""
        if self.reading == "none":
            if not stored.is_floating_point():
                raise TriptychError(f"this model reads floats as they are, got {stored.dtype}: convert them first")
            if not stored.isfinite().all():
                raise TriptychError("the data hold NaN or infinity: remove or impute those values first")
        elif stored.dtype != torch.uint8:
            raise TriptychError(
                f"this model reads 8-bit pixels ({self.reading}), got {stored.dtype}: give uint8 values 0 … 255"
            )
        return stored

    def _bins(self, values: Tensor) -> Tensor:
        return (values >> (8 - self.bits)).float()


def bits_per_dim(
    model: GenerativeModel, pixels: Tensor, *, k: int = 1, generator: torch.Generator | None = None, batch: int = 128
) -> Estimate:
    """Bits per dimension of stored pixels: −log p(x) / (D ln 2), plus the bit depth where p is a density.

    Lower is better. It is an upper bound on the true code length whenever log p is a lower bound, and for dequantised
    pixels always, a flow's included (Theis et al. 2016, eq. 2); `k` draws tighten either (`negative_log_prob`).

    Args:
        pixels: uint8 (n, *E).
        k: draws per datum: of the model's own bound, or of the dequantisation's noise.
    Raises:
        TriptychError: for a model without density, and for data that are not pixels or are binarised on the way in.
    """
    from triptych.core import Estimate

    _check_pixels(model)
    nats = list(negative_log_prob(model, pixels, k=k, generator=generator, batch=batch))
    return as_bits_per_dim(model, Estimate.of(torch.cat(nats)))


@torch.no_grad()
def negative_log_prob(
    model: GenerativeModel, stored: Tensor, *, k: int = 1, generator: torch.Generator | None = None, batch: int = 128
) -> Iterator[Tensor]:
    """−log p(x) in nats of stored data, in parts of up to `batch` data, float64.

    A lower bound takes its own k draws. A density that is exact at x, but not at the pixel, whose bin x was drawn from, is
    averaged over k draws of that noise: −log 1/k Σ p((v + u_i) / 2^b), which falls towards −log of the bin's mean density
    (eq. 2 of Theis et al. 2016 is k = 1; Burda et al. 2016 for k). Without noise k changes nothing, and costs nothing.
    """
    from triptych.core import HasDensity, require

    density = require(model, HasDensity)
    if k < 1:
        raise TriptychError(f"a likelihood takes k ≥ 1 draws, got {k}")
    exact = density.bound == "exact"
    times = k if exact and model.codec.reading == "dequantise" else 1
    for part in stored.split(batch):
        values = model.check_event(part).to(model.device)
        total: Tensor | None = None
        for _ in range(times):  # one after another: memory is that of one
            x = model.codec.encode(values, generator)
            log_p = density.log_prob(x, k=1 if exact else k, generator=generator).double()
            total = log_p if total is None else torch.logaddexp(total, log_p)
        assert total is not None
        yield (math.log(times) - total).cpu()


def as_bits_per_dim(model: GenerativeModel, nll: Estimate) -> Estimate:
    """Nats of −log p(x) per datum in model coordinates -> bits per dimension of the stored pixels."""
    from triptych.core import HasDensity, require

    _check_pixels(model)
    depth = model.codec.bits if require(model, HasDensity).measure == "density" else 0
    return nll.scaled(1 / (math.prod(model.event_shape) * math.log(2)), depth)


def _check_pixels(model: GenerativeModel) -> None:
    if model.codec.reading in ("none", "binarise"):
        raise TriptychError(
            f"bits/dim of 8-bit pixels needs a model of pixels; this one reads data as {model.codec.reading!r}: "
            "report its log-likelihood in nats"
        )
