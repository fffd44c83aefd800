"""Floats: vectors, sequences and whatever else is not a picture, read as they are or standardised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from triptych.core import Codec
from triptych.errors import TriptychError


class Floats(Codec):
    """x = (v − mean) / scale, each feature of the leading axis with its own; by default v itself.

    Log-likelihoods are of x: a density of v is lower by Σ log scale.

    Args:
        mean, scale: one number for each feature (channel) of the leading axis of an event; scale above 0.

    >>> Floats((10.0,), (2.0,)).encode(torch.tensor([[14.0]]))
    tensor([[2.]])
    """

    name: ClassVar[str] = "none"
    is_picture: ClassVar[bool] = False
    centred: ClassVar[bool] = False

    def __init__(self, mean: Sequence[float] | None = None, scale: Sequence[float] | None = None):
        if (mean is None) != (scale is None) or (scale is not None and not all(s > 0 for s in scale)):
            raise TriptychError(f"mean and scale should be given together, each scale above 0, got {mean!r} and {scale!r}")
        self.mean, self.scale = mean, scale

    @classmethod
    def standardising(cls, stored: Tensor) -> Floats:
        """The codec by which these data (n, *E) have mean 0 and variance 1 in each feature; constant ones keep theirs."""
        axes = [0, *range(2, stored.ndim)]
        std = stored.double().std(axes, correction=0)
        return cls(stored.double().mean(axes).tolist(), torch.where(std > 0, std, 1.0).tolist())

    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        values = self.check(stored)
        return values if self.mean is None else (values - self._of(self.mean, values)) / self._of(self.scale, values)

    def centre(self, stored: Tensor) -> Tensor:
        return self.encode(stored)

    def decode(self, x: Tensor) -> Tensor:
        return x if self.mean is None else x * self._of(self.scale, x) + self._of(self.mean, x)

    def check(self, stored: Tensor) -> Tensor:
        if not stored.is_floating_point():
            raise TriptychError(f"this model reads floats as they are, got {stored.dtype}: convert them first")
        if not stored.isfinite().all():
            raise TriptychError("the data hold NaN or infinity: remove or impute those values first")
        return stored

    @staticmethod
    def _of(numbers: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(numbers, dtype=like.dtype, device=like.device).view(-1, *(1,) * (like.ndim - 2))
