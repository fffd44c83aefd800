"""Layers of generators and discriminators.

Shapes: B batch, C channels, H × W picture; h (B, C, H, W).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.nets import he_

GAIN = 8.0
"""Of the context by which generators modulate, so that a class is learned in hundreds of steps, not thousands: a modulation
starts at zero, and Adam moves its weights by about the rate a step, so that an input of 1 is little beside z, whose many
numbers move a layer together."""


class MinibatchStddev(nn.Module):
    """h (B, C, H, W) -> (B, C + 1, H, W): appends how much the examples of a group differ (Karras et al. 2018, section 3).

    The standard deviation over the group at each place, averaged over places: D then
    sees when samples are all alike. Groups have `group_size(B, group)` examples; example b is in group b mod (B / size). A
    group of one says nothing: such batches can be judged, but not learned from.
    """

    def __init__(self, group: int = 4):
        super().__init__()
        self.group = group

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, H, W) -> (B, C + 1, H, W)."""
        batch, _, height, width = h.shape
        size = group_size(batch, self.group)
        grouped = exact(h).reshape(size, -1, *h.shape[1:])  # (size, B / size, C, H, W)
        variance = (grouped - grouped.mean(0)).square().mean(0)
        spread = (variance + 1e-8).sqrt().mean((1, 2, 3))  # (B / size,); the square root's slope stays finite
        plane = spread.repeat(size).to(h.dtype).view(-1, 1, 1, 1).expand(batch, 1, height, width)
        return torch.cat([h, plane], 1)


def group_size(batch: int, group: int) -> int:
    """The largest size ≤ `group` that divides a batch, at least 1.

    >>> [group_size(batch, 4) for batch in (64, 6, 2, 5)]
    [4, 3, 2, 1]
    """
    return max((n for n in range(1, min(group, batch) + 1) if batch % n == 0), default=1)


class PixelNorm(nn.Module):
    """h / √(mean_c h² + 10⁻⁸): each pixel's features scaled to unit mean square (Karras et al. 2018, section 4.2)."""

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, …) -> the same shape."""
        mean_square = exact(h).square().mean(1, keepdim=True)
        return h * (mean_square + 1e-8).rsqrt().to(h.dtype)


class SafeBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that normalises a single value by its running averages, and keeps NaN out of them."""

    averaged_buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")
    running_mean: Tensor
    running_var: Tensor

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, H, W) -> the same shape."""
        mean, var, training = self.running_mean.clone(), self.running_var.clone(), self.training
        training = training and h.shape[0] * h.shape[2] * h.shape[3] > 1
        out = F.batch_norm(h, mean, var, self.weight, self.bias, training, self.momentum or 0.1, self.eps)
        if training:  # a minibatch that is not finite is skipped by the optimiser: it should leave no trace here either
            sound = mean.isfinite() & var.isfinite()
            self.running_mean.copy_(torch.where(sound, mean, self.running_mean))
            self.running_var.copy_(torch.where(sound, var, self.running_var))
        return out


class Halve(nn.Module):
    """A 4×4 stride-2 convolution to ⌈H/2⌉ × ⌈W/2⌉: odd sides get a row or column of zeros first."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = he_(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, H, W) -> (B, outputs, ⌈H/2⌉, ⌈W/2⌉)."""
        return self.conv(F.pad(h, (0, h.shape[3] % 2, 0, h.shape[2] % 2)))


class Equalised(nn.Module):
    """A linear layer, or a convolution that keeps the size, with an equalised learning rate.

    Weights ~ N(0, 1), times √(2 / fan_in) when used: Adam moves every weight by about the rate; scaling at run time makes
    that the same share of each layer's spread (Karras et al. 2018, section 4.1).

    Args:
        kernel: the sides of a convolution's kernel; () for a linear layer.
        gain: √2 before a (leaky) ReLU, 1 for linear layers.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, ...] = (), gain: float = math.sqrt(2)):
        super().__init__()
        layout = torch.channels_last if kernel else torch.contiguous_format
        weight = torch.randn(outputs, inputs, *kernel).contiguous(memory_format=layout)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(weight[0].numel())

    def forward(self, h: Tensor) -> Tensor:
        """h (B, inputs) or (B, inputs, H, W) -> the same with `outputs` in their place."""
        weight = self.weight * self.scale
        if weight.ndim == 2:
            return F.linear(h, weight, self.bias)
        return F.conv2d(h, weight, self.bias, padding=weight.shape[-1] // 2)


class Projection(nn.Module):
    """logit + ⟨V c, h⟩: how a discriminator judges whether features h fit a context (Miyato & Koyama 2018).

    V starts at zero, so that the judge is blind to the context at first. Without a context (K = 0) it has no parameters.

    Shapes: logits (B,) · h (B, features) · context (B, K), or None, which is as zeros

    >>> Projection(3, 8)(torch.zeros(2), torch.ones(2, 8), torch.eye(2, 3)).shape
    torch.Size([2])
    """

    def __init__(self, context_dim: int, features: int):
        super().__init__()
        self.map = nn.Linear(context_dim, features, bias=False) if context_dim else None
        if self.map is not None:
            nn.init.zeros_(self.map.weight)

    def forward(self, logits: Tensor, h: Tensor, context: Tensor | None = None) -> Tensor:
        """logits (B,), features h (B, features), context (B, K) -> logits (B,)."""
        if self.map is None or context is None:
            return logits
        return logits + (self.map(context) * h).sum(1)


def along_sphere(centre: Tensor, h: Tensor, share: float) -> Tensor:
    """h turned towards `centre` by 1 − share of the angle between them, at every pixel: (B, C, …) -> unit vectors.

    What pixel normalisation leaves of features is their direction: on a straight line between two, it would undo most of
    the way. sin((1 − t) θ)/sin θ · ĉ + sin(t θ)/sin θ · ĥ, θ the angle (Shoemake 1985).

    >>> along_sphere(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    a, b = F.normalize(centre, dim=1).expand_as(h), F.normalize(h, dim=1)
    # 2 atan2 keeps its precision for small angles and near π, where acos has none
    angle = 2 * torch.atan2((a - b).norm(dim=1, keepdim=True), (a + b).norm(dim=1, keepdim=True))
    sine = angle.sin()
    turned = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / sine.clamp(min=_NEARLY)
    return torch.where(sine > _NEARLY, turned, F.normalize(torch.lerp(a, b, share), dim=1))


_NEARLY = 1e-4  # sine of an angle below which the arc is its chord


def exact(h: Tensor) -> Tensor:
    """h in float32 or better."""
    return h.to(torch.promote_types(h.dtype, torch.float32))
