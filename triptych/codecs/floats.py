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

_NOISE = math.sqrt(3.0)  # half the width of a constant feature's noise, of variance 1
NEAR, LEAST, MOST = 1.0, 0.5, 2.0  # |mean| and spread of features that gain nothing by being standardised


class Floats(Codec):
    """x = (v − mean) / scale, each feature of the leading axis with its own; by default v itself.

        log p(v) = log p(x) − Σ log scale

    `fit` sets both from training data: mean 0 and variance 1 in each feature, unless all are near that already.

    A feature with a single value in training data has no density: x is then that value's noise u ~ U(−√3, √3), whose
    density 1/(2√3) is taken out of log p(v), so that it is, as for dequantised pixels, a bound on the log-likelihood of the
    other features; `decode` gives the value itself.

    Args:
        mean, scale: one number for each feature (column, channel) of the leading axis of an event; scale above 0. None: as
            `fit` sets them, and until then 0 and 1.

    Attributes:
        constant: features in which `fit` saw a single value. They keep unit scale.

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
        scale = _unit_where_constant(std)
        constant = scale != std
        near = (mean.abs() <= NEAR) & (std >= LEAST) & (std <= MOST)
        if (near | constant).all():  # the others are read as they are
            if not constant.any():
                return
            mean, scale = torch.where(constant, mean, 0.0), torch.ones_like(scale)
        self.constant = tuple(constant.nonzero().flatten().tolist())
        self._set(mean.tolist(), scale.tolist())

    def fitted(self) -> dict[str, list[float]]:
        if self._mean is None or self._scale is None:
            return {}
        constant = {"constant": list(self.constant)} if self.constant else {}
        return {"mean": self._mean.tolist(), "scale": self._scale.tolist(), **constant}

    def restore(self, fitted: Mapping[str, Sequence[float]]) -> None:
        if fitted:
            self._set(fitted["mean"], fitted["scale"])
            self.constant = tuple(int(i) for i in fitted.get("constant", ()) if 0 <= i < len(fitted["mean"]))

    @property
    def noisy(self) -> bool:
        """Whether there are constant features, whose noise is drawn afresh."""
        return bool(self.constant)

    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(v − mean) / scale, with noise in constant features."""
        x = self.centre(stored)
        if self.constant:
            u = torch.rand(x[:, self.constant].shape, generator=generator, device=x.device, dtype=x.dtype)
            x[:, self.constant] += (2 * u - 1) * _NOISE
        return x

    def centre(self, stored: Tensor) -> Tensor:
        values = self.check(stored)
        if self._mean is None:
            return values
        high, low, scale = self._columns(values)
        return ((values - high) - low) / scale

    def decode(self, x: Tensor) -> Tensor:
        if not x.isfinite().all():
            raise not_finite("outputs")
        if self._mean is None:
            return x
        high, low, scale = self._columns(x)
        stored = (x * scale + low) + high
        if self.constant:
            stored[:, self.constant] = high[list(self.constant)]
        return stored

    def check(self, stored: Tensor) -> Tensor:
        if not stored.is_floating_point():
            raise TriptychError(f"this model reads floats, got {stored.dtype}: convert them first")
        if not stored.isfinite().all():
            raise TriptychError("the data hold NaN or infinity: remove or impute those values first")
        return stored

    def log_scale(self, event_shape: Sequence[int]) -> float:
        if self._scale is None:
            return 0.0
        noise = len(self.constant) * math.log(2 * _NOISE)  # which log p(x) holds, at density 1 / (2√3)
        return (self._scale.log().sum().item() - noise) * math.prod(event_shape[1:])

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
                f"{', '.join(shown)}{more}: the same in every example; samples keep it, and likelihoods leave it out"
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
