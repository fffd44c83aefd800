"""Rational-quadratic splines as a coupling's transform (Durkan et al. 2019, "Neural Spline Flows", arXiv 1906.04032).

Shapes: b, image (B, C_b, *S) · h (B, outputs · C_b, *S) · knots (B, bins + 1, C_b, *S)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.bijections.coupling import Transform
from triptych.errors import check_range, check_size

_LEAST = 1e-3  # of a bin's width and height, in units of the mean one, and of a slope


class Spline(Transform):
    """A monotone rational-quadratic spline of each value on [−bound, bound], the identity outside (section 3.1).

        image = y_k + (y_{k+1} − y_k) (s ξ² + δ_k ξ (1 − ξ)) / (s + (δ_{k+1} + δ_k − 2 s) ξ (1 − ξ))

    with ξ = (b − x_k) / (x_{k+1} − x_k) in bin k and s the slope between its ends. h gives softmaxed widths and heights of
    the bins and the inner knots' slopes δ; the outer ones' are 1. h = 0 is the identity.

    Args:
        bins: K; 3 K − 1 values of h for each value of b.
        bound: of the interval. What is beyond passes unchanged.

    >>> b, h = torch.randn(4, 2), torch.randn(4, 23 * 2)
    >>> image, log_slope = Spline()(b, h)
    >>> torch.allclose(Spline().inverse(image, h), b, atol=1e-4), torch.allclose(Spline()(b, 0 * h)[0], b, atol=1e-5)
    (True, True)
    """

    def __init__(self, bins: int = 8, bound: float = 5.0):
        super().__init__()
        check_size("bins", bins, 256, least=2)
        check_range("bound", bound, 1e-3, 1e6)
        self.bins, self.bound, self.outputs = bins, bound, 3 * bins - 1

    def forward(self, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        x, y, slopes = self._knots(h)
        bin_ = _Bin.of(b.clamp(-self.bound, self.bound), x, x, y, slopes)
        xi = (b.clamp(-self.bound, self.bound) - bin_.x) / bin_.width
        image, log_slope = bin_.at(xi)
        inside = b.abs() < self.bound
        return torch.where(inside, image, b), torch.where(inside, log_slope, 0.0)

    def inverse(self, image: Tensor, h: Tensor) -> Tensor:
        x, y, slopes = self._knots(h)
        clamped = image.clamp(-self.bound, self.bound)
        bin_ = _Bin.of(clamped, y, x, y, slopes)
        return torch.where(image.abs() < self.bound, bin_.x + bin_.width * bin_.xi(clamped), image)

    def _knots(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x and y of the knots and their slopes."""
        widths, heights, slopes = h.unflatten(1, (self.outputs, -1)).split([self.bins, self.bins, self.bins - 1], 1)
        slopes = _LEAST + F.softplus(slopes + math.log(math.expm1(1 - _LEAST)))
        ends = torch.ones_like(slopes[:, :1])
        return self._placed(widths), self._placed(heights), torch.cat([ends, slopes, ends], 1)

    def _placed(self, sizes: Tensor) -> Tensor:
        """Knots from −bound to bound, whose distances are in proportion to the softmax."""
        shares = _LEAST / self.bins + (1 - _LEAST) * sizes.softmax(1)
        inner = self.bound * (2 * shares[:, :-1].cumsum(1) - 1)
        end = torch.full_like(inner[:, :1], self.bound)
        return torch.cat([-end, inner, end], 1)


class _Bin(NamedTuple):
    """The bin of each value: its lower left corner, its size, and the slopes at its ends."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, values: Tensor, knots: Tensor, x: Tensor, y: Tensor, slopes: Tensor) -> _Bin:
        """That in which the values (B, C_b, *S) lie, by the knots of their own axis."""
        k = (values[:, None] >= knots[:, 1:-1]).sum(1, keepdim=True)
        lower = [torch.take_along_dim(t, k, 1)[:, 0] for t in (x, y, slopes)]
        upper = [torch.take_along_dim(t, k + 1, 1)[:, 0] for t in (x, y, slopes)]
        return cls(lower[0], lower[1], upper[0] - lower[0], upper[1] - lower[1], lower[2], upper[2])

    def at(self, xi: Tensor) -> tuple[Tensor, Tensor]:
        """The image and the log-slope at ξ (eqs. 4 and 5)."""
        s, product = self.height / self.width, xi * (1 - xi)
        below = s + (self.right + self.left - 2 * s) * product
        image = self.y + self.height * (s * xi.square() + self.left * product) / below
        slope = self.right * xi.square() + 2 * s * product + self.left * (1 - xi).square()
        return image, 2 * (s.log() - below.log()) + slope.log()

    def xi(self, image: Tensor) -> Tensor:
        """ξ of an image: the root in [0, 1] of a quadratic (eqs. 6 to 8), in the form that does not cancel."""
        s, above = self.height / self.width, image - self.y
        bend = above * (self.right + self.left - 2 * s)
        a, b, c = self.height * (s - self.left) + bend, self.height * self.left - bend, -s * above
        return 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
