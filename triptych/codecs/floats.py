"""Floats: vectors, sequences and whatever else is not a picture, read as they are or standardised.

Shapes: stored and x (B, C, …), C features: columns of a vector, channels of the rest. mean, scale (C,)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from triptych.core import Codec
from triptych.errors import TriptychError, not_finite

NEAR, LEAST, MOST = 1.0, 0.5, 2.0  # |mean| and spread of features that gain nothing by being standardised


class Floats(Codec):
    """x = (v − mean) / scale, each feature of the leading axis with its own; by default v itself.

        log p(v) = log p(x) − Σ log scale

    `fit` sets both from training data: mean 0 and variance 1 in each feature, unless all are near that already.

    Args:
        mean, scale: one number for each feature (column, channel) of the leading axis of an event; scale above 0. None: as
            `fit` sets them, and until then 0 and 1.

    Attributes:
        constant: features in which `fit` saw a single value. They keep unit scale. Not saved.

    >>> codec = Floats((10.0,), (2.0,))
    >>> codec.encode(torch.tensor([[14.0]])), round(codec.log_scale((1,)), 4)
    (tensor([[2.]]), 0.6931)
    """

    name: ClassVar[str] = "none"
    is_picture: ClassVar[bool] = False
    centred: ClassVar[bool] = False

    def __init__(self, mean: Sequence[float] | None = None, scale: Sequence[float] | None = None):
        self.constant: tuple[int, ...] = ()
        self._mean: Tensor | None = None
        self._scale: Tensor | None = None
        if mean is not None or scale is not None:
            self._set(mean, scale)

    @classmethod
    def standardising(cls, stored: Tensor) -> Floats:
        """The codec by which these data (n, *E) have mean 0 and variance 1 in each feature; constant ones are not scaled."""
        mean, std = moments([stored])
        return cls(mean.tolist(), _unit_where_constant(std).tolist())

    def fit(self, stored: Iterable[Tensor]) -> None:
        """Standardises by these data, given in parts (n, *E), unless it does already or every feature is near unit scale.

        Near is |mean| ≤ 1 with a spread from ½ to 2, or of 0: such values are read as they are, bit by bit.
        """
        if self._mean is not None:
            return
        mean, std = moments(stored)
        near = (mean.abs() <= NEAR) & (((std >= LEAST) & (std <= MOST)) | (std == 0))
        if near.all():
            return
        scale = _unit_where_constant(std)
        self.constant = tuple((scale != std).nonzero().flatten().tolist())
        self._set(mean.tolist(), scale.tolist())

    def fitted(self) -> dict[str, list[float]]:
        if self._mean is None or self._scale is None:
            return {}
        return {"mean": self._mean.tolist(), "scale": self._scale.tolist()}

    def restore(self, fitted: Mapping[str, Sequence[float]]) -> None:
        if fitted:
            self._set(fitted["mean"], fitted["scale"])

    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        values = self.check(stored)
        if self._mean is None:
            return values
        high, low, scale = self._columns(values)
        return ((values - high) - low) / scale

    def centre(self, stored: Tensor) -> Tensor:
        return self.encode(stored)

    def decode(self, x: Tensor) -> Tensor:
        if not x.isfinite().all():
            raise not_finite("outputs")
        if self._mean is None:
            return x
        high, low, scale = self._columns(x)
        return (x * scale + low) + high

    def check(self, stored: Tensor) -> Tensor:
        if not stored.is_floating_point():
            raise TriptychError(f"this model reads floats, got {stored.dtype}: convert them first")
        if not stored.isfinite().all():
            raise TriptychError("the data hold NaN or infinity: remove or impute those values first")
        return stored

    def log_scale(self, event_shape: Sequence[int]) -> float:
        return 0.0 if self._scale is None else self._scale.log().sum().item() * math.prod(event_shape[1:])

    def remarks(self, event_shape: Sequence[int], columns: Sequence[str] = ()) -> dict[str, str]:
        if self._mean is None or self._scale is None:
            return {}
        kind = "column" if len(event_shape) == 1 else "channel"
        ends = [f"{v.min():.3g} … {v.max():.3g}" for v in (self._scale, self._mean)]
        said = {"scale": f"values are standardised inside the model: spread {ends[0]} around {ends[1]} by {kind}"}
        if self.constant:
            shown = [f"{feature_name(i, event_shape, columns)} ({self._mean[i]:g})" for i in self.constant[:5]]
            more = f" and {len(self.constant) - 5} more" if len(self.constant) > 5 else ""
            said["constant"] = (
                f"{', '.join(shown)}{more}: the same in every example, kept at unit scale; likelihoods have no bound there: "
                "leave such values out to compare them"
            )
        return said

    def _set(self, mean: Any, scale: Any) -> None:
        """Both as tensors (C,), on the CPU wherever else a model is laid out."""
        numbers = [] if mean is None or scale is None else [*mean, *scale]
        whole = numbers and len(mean) == len(scale) and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
        if not whole or min(scale) <= 0:
            raise TriptychError(
                "mean and scale should be as many finite numbers, given together, each scale above 0, "
                f"got {mean!r:.60} and {scale!r:.60}"
            )
        self._mean, self._scale = (torch.tensor(n, dtype=torch.float64, device="cpu") for n in (mean, scale))

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """mean = high + low and scale, shaped to go with values (B, C, …).

        The mean's rounding to float32 would be a large part of a small spread around it. Subtracted in two parts it costs
        nothing, as in float64, which some accelerators do not have.
        """
        assert self._mean is not None and self._scale is not None
        high = self._mean.to(like.dtype)
        numbers = (high, self._mean - high.double(), self._scale)
        high, low, scale = (n.to(like.dtype).to(like.device).view(-1, *(1,) * (like.ndim - 2)) for n in numbers)
        return high, low, scale


def _unit_where_constant(std: Tensor) -> Tensor:
    """The spreads (C,), 1 in place of those of a single value, and of those that float32 does not hold as a scale."""
    return torch.where(std < torch.finfo(torch.float32).tiny, 1.0, std)


def moments(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (C,) over data that come in parts (n, C, …), in float64.

    A feature with a single value has a spread of exactly 0.

    >>> moments([torch.tensor([[1e6, 7.0]]), torch.tensor([[1e6 + 1, 7.0]])])
    (tensor([1.0000e+06, 7.0000e+00], dtype=torch.float64), tensor([0.5000, 0.0000], dtype=torch.float64))
    """
    count, first, total, squares = 0, None, torch.zeros(()), torch.zeros(())
    for part in parts:
        values = part.detach().cpu().double().movedim(1, -1).flatten(0, -2)  # (n · positions, C)
        first = values[0].clone() if first is None else first
        values = values - first  # else squares of a large mean would hide a small spread
        count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
    if first is None:
        raise TriptychError("data to standardise by should hold at least one example, got none")
    mean = total / count
    return first + mean, (squares / count - mean.square()).clamp(min=0).sqrt()


def feature_name(index: int, event_shape: Sequence[int], columns: Sequence[str] = ()) -> str:
    """What a feature of the leading axis is called: by its column's name, where that is known; counted from 1.

    >>> feature_name(1, (3,), ("age", "income", "rent")), feature_name(1, (3,)), feature_name(0, (2, 9))
    ('income', 'column 2', 'channel 1')
    """
    if len(columns) == event_shape[0]:
        return columns[index]
    return f"{'column' if len(event_shape) == 1 else 'channel'} {index + 1}"
