"""Conditioners: the networks inside coupling layers, which are never inverted.

Shapes: x (B, C_in, *S) -> h (B, C_out, *S), for vectors, sequences and pictures.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.flow.bijection import by_channel

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_CONVOLVE = {1: F.conv1d, 2: F.conv2d}


class Conditioner(nn.Module, ABC):
    """A network x (B, C_in, *S) -> h (B, C_out, *S).

    Attributes:
        bf16: whether it computes in bfloat16; what comes out is as precise as what went in, by type.
    """

    bf16: bool = False

    def forward(self, x: Tensor) -> Tensor:
        with self._precision(x):
            h = self.compute(x)
        return h.to(x.dtype)

    @abstractmethod
    def compute(self, x: Tensor) -> Tensor:
        """h, in whatever precision is set."""

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Sets what depends on a first batch; returns h."""
        return self(x)

    def record(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """h, and what `gradients` needs to go back from it; called without autograd, as `triptych.flow.gradients` does."""
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()  # a copy: the caller goes on to change what x is a part of
            h = self(x)
        return h.detach(), (x, h)

    def gradients(self, recorded: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """The gradient by x, and by each of `learned()`, from that by h."""
        x, h = recorded
        wanted = [p for p in self.learned() if p.requires_grad]
        by_x, *rest = torch.autograd.grad(h, [x, *wanted], grad, retain_graph=True)  # may be asked again
        found = dict(zip(wanted, rest, strict=True))
        return by_x, [found.get(p) for p in self.learned()]  # type: ignore[misc]

    def learned(self) -> list[nn.Parameter]:
        """The parameters that `gradients` gives gradients by, in its order."""
        return list(self.parameters())

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext()


class ConvNet(Conditioner):
    """Glow's (section 3.3): 3×3 -> width, ReLU, 1×1 -> width, ReLU, 3×3 from zero.

    On a vector the three are linear layers. `initialize` scales the first two so that a first batch gives them outputs of
    mean 0 and variance 1, as the actnorm inside the released code's network does, which costs nothing afterwards. (The code
    also multiplies the outputs by a learned exp(3 · logs), which the paper does not say and this does not do.)

    Inputs are clamped to ±bound. Behind an actnorm they have variance 1, so that data hardly feel it; but a draw from the
    prior that leaves what training saw would be answered ever more wildly, step upon step (16 steps a scale, photographs
    of faces, 200 steps of training: samples up to 1e24 without this, 1e6 with it, 5 with a floor of 0.7 in `Affine` too).

    Args:
        shape: (C_in, *S) of x.
        outputs: C_out.
        width: hidden channels.
        bound: of the inputs' size.

    >>> ConvNet((2, 5, 7), 6, width=8)(torch.randn(3, 2, 5, 7)).shape
    torch.Size([3, 6, 5, 7])
    """

    def __init__(self, shape: Sequence[int], outputs: int, width: int, bound: float = 3.0):
        super().__init__()
        self.bound = bound
        dims = len(shape) - 1
        self.first = wide(dims, shape[0], width)
        self.hidden = nn.Linear(width, width)  # a 1×1 convolution: a matrix product over positions
        self.last = wide(dims, width, outputs)
        nn.init.normal_(self.first.weight, std=0.05)
        nn.init.normal_(self.hidden.weight, std=0.05)
        nn.init.zeros_(self.last.weight)
        for layer in (self.first, self.hidden, self.last):
            nn.init.zeros_(layer.bias)

    def compute(self, x: Tensor) -> Tensor:
        h = _layer(x.clamp(-self.bound, self.bound), self.first.weight, self.first.bias).relu_()
        h = _layer(h, self.hidden.weight, self.hidden.bias).relu_()
        return _layer(h, self.last.weight, self.last.bias)

    def learned(self) -> list[Any]:
        return [p for layer in (self.first, self.hidden, self.last) for p in (layer.weight, layer.bias)]

    def record(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        weights: Sequence[Tensor] = self.learned()
        precision, x = x.dtype, x.clamp(-self.bound, self.bound)
        if self.bf16:
            x, *weights = (t.to(torch.bfloat16) for t in (x, *weights))
        w1, b1, w2, b2, w3, b3 = weights
        h1 = _layer(x, w1, b1).relu_()
        h2 = _layer(h1, w2, b2).relu_()
        return _layer(h2, w3, b3).to(precision), (x, h1, h2, w1, w2, w3)

    def gradients(self, recorded: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """By hand, which spares memory traffic and calls: ReLU is undone in place, a small 1×1 is a matrix product."""
        x, h1, h2, w1, w2, w3 = recorded
        by_h2, by_w3, by_b3 = _layer_gradients(grad.to(x.dtype), h2, w3)
        by_h1, by_w2, by_b2 = _layer_gradients(_relu_gradient(by_h2, h2), h1, w2)
        by_x, by_w1, by_b1 = _layer_gradients(_relu_gradient(by_h1, h1), x, w1)
        found: Sequence[Tensor] = (by_x, by_w1, by_b1, by_w2, by_b2, by_w3, by_b3)
        if self.bf16:
            found = [g.to(grad.dtype) for g in found]
        return torch.ops.aten.hardtanh_backward(found[0], x, -self.bound, self.bound), found[1:]

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        h = _standardise(self.first, self.first(x.clamp(-self.bound, self.bound)), 1)
        _standardise(self.hidden, self.hidden(h.relu_().movedim(1, -1)), -1)
        return self(x)


class MLP(Conditioner):
    """Linear layers with ReLU between them, for vectors; NICE's is of 5 hidden layers of 1000.

    Args:
        inputs, outputs: sizes.
        hidden: sizes of the hidden layers.
    """

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise([inputs, *hidden]):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        last = nn.Linear([inputs, *hidden][-1], outputs)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def compute(self, x: Tensor) -> Tensor:
        return self.layers(x)


def wide(dims: int, inputs: int, outputs: int) -> Any:
    """A convolution over 3 neighbours on each axis, weights channels last; a linear layer for vectors."""
    if dims == 0:
        return nn.Linear(inputs, outputs)
    layer = _CONVOLUTIONS[dims](inputs, outputs, 3, padding=1)
    return layer.to(memory_format=torch.channels_last) if dims == 2 else layer  # type: ignore[call-overload]


def _standardise(layer: Any, h: Tensor, axis: int) -> Tensor:
    """Scales a layer that put out h so that it puts out mean 0 and variance 1 in every channel; returns that."""
    axes = [a for a in range(h.ndim) if a != axis % h.ndim]
    mean, std = h.mean(axes), h.std(axes, correction=0)
    scale = torch.where(std > 1e-6, std, torch.ones_like(std)).reciprocal()
    layer.weight.mul_(scale.view(-1, *(1,) * (layer.weight.ndim - 1)))
    layer.bias.sub_(mean).mul_(scale)
    moved = h.movedim(axis, 1)
    return (moved - by_channel(mean, moved)).mul_(by_channel(scale, moved)).movedim(1, axis)


def _layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer for vectors; a convolution that keeps the size, 1×1 for a matrix, for sequences and pictures."""
    if x.ndim == 2:
        return F.linear(x, weight, bias)
    if weight.ndim == 2:
        weight = weight.view(*weight.shape, *(1,) * (x.ndim - 2))
    return _CONVOLVE[x.ndim - 2](x, weight, bias, padding=weight.shape[-1] // 2)


def _layer_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `_layer` by its input, weight and bias."""
    if x.ndim == 2:
        return grad @ weight, grad.T @ x, grad.sum(0)
    if weight.ndim == 2 and x.numel() < _FEW:
        rows, entered = grad.movedim(1, -1).reshape(-1, len(weight)), x.movedim(1, -1).reshape(-1, weight.shape[1])
        by_x = (rows @ weight).view(*grad.movedim(1, -1).shape[:-1], -1).movedim(-1, 1)
        return by_x, rows.T @ entered, rows.sum(0)
    kernel = weight if weight.ndim > 2 else weight.view(*weight.shape, *(1,) * (x.ndim - 2))
    ones, zeros, padding = [1] * (x.ndim - 2), [0] * (x.ndim - 2), [kernel.shape[-1] // 2] * (x.ndim - 2)
    by_x, by_weight, by_bias = torch.ops.aten.convolution_backward(
        grad, x, kernel, [len(weight)], ones, padding, ones, False, zeros, 1, [True, True, True]
    )
    return by_x, by_weight.view(weight.shape) if weight.ndim == 2 else by_weight, by_bias


_FEW = 2**18  # values below which a matrix product's start costs less than a convolution's (measured on two cores)


def _relu_gradient(grad: Tensor, h: Tensor) -> Tensor:
    """grad where h > 0, else 0, in place."""
    return torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)
