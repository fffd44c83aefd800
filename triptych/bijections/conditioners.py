"""Conditioners: the networks inside coupling layers, which are never inverted.

Shapes: x (B, C_in, *S), context (B, K) or None -> h (B, C_out, *S), for vectors, sequences and pictures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.bijections.bijection import per_channel
from triptych.bijections.context import ContextShift
from triptych.errors import TriptychError
from triptych.nets import perceptron
from triptych.parts import Part

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_CONVOLVE = {1: F.conv1d, 2: F.conv2d}


class Conditioner(nn.Module, Part, ABC):
    """A network x (B, C_in, *S), context -> h (B, C_out, *S). Couplings take any module; this one has a precision.

    Attributes:
        bf16: whether it computes in bfloat16; h has the type of x all the same.
    """

    bf16: bool = False

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        with self.precision(x):
            h = self.compute(x, context)
        return h.to(x.dtype)

    @abstractmethod
    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """h, in whatever precision is set."""

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Sets what depends on a first batch; returns h."""
        return self(x, context)

    def precision(self, x: Tensor) -> AbstractContextManager[object]:
        """The context manager in which it computes: bfloat16 where `bf16` asks for it."""
        return torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext()


class HandWritten(Conditioner):
    """A conditioner with its gradients written by hand, which flow steps use in place of autograd."""

    @abstractmethod
    def record(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """h, and what `gradients` needs; called without autograd."""

    @abstractmethod
    def gradients(self, recorded: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, Tensor | None, Sequence[Tensor | None]]:
        """From the gradient with respect to h, those with respect to x, the context, and each of `learned()`."""

    @abstractmethod
    def learned(self) -> list[Any]:
        """The parameters with respect to which `gradients` differentiates, in its order."""


class ConvNet(HandWritten):
    """Glow's (section 3.3): 3×3 -> width, ReLU, 1×1 -> width, ReLU, 3×3 from zero.

    On a vector the three are linear layers. `initialize` scales the first two so that a first batch gives them outputs of
    mean 0 and variance 1, as the actnorm inside the released code's network does, which costs nothing afterwards. (The code
    also multiplies the outputs by a learned exp(3 · logs), which the paper does not say and this does not do.) A context is
    added before the first ReLU and to the outputs, by linear maps from zero.

    Inputs are clamped to ±bound. Behind an actnorm they have variance 1, so that data hardly feel it; but the network's
    answers to a draw from the prior that leaves what training saw would grow from step to step (16 steps a scale,
    photographs of faces, 200 steps of training: samples up to 1e24 without this, 1e6 with it, 5 with a floor of 0.7 in
    `Affine` too).

    Args:
        shape: (C_in, *S) of x.
        outputs: C_out.
        width: hidden channels.
        bound: largest magnitude of the inputs.
        context_dim: K.

    >>> ConvNet((2, 5, 7), 6, width=8)(torch.randn(3, 2, 5, 7)).shape
    torch.Size([3, 6, 5, 7])
    """

    def __init__(self, shape: Sequence[int], outputs: int, width: int, bound: float = 3.0, context_dim: int = 0):
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
        self.context_in, self.context_out = ContextShift(context_dim, width), ContextShift(context_dim, outputs)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = _layer(x.clamp(-self.bound, self.bound), self.first.weight, self.first.bias)
        h = self.context_in(h, context).relu_()
        h = _layer(h, self.hidden.weight, self.hidden.bias).relu_()
        return self.context_out(_layer(h, self.last.weight, self.last.bias), context)

    def learned(self) -> list[Any]:
        layers = [p for layer in (self.first, self.hidden, self.last) for p in (layer.weight, layer.bias)]
        return layers + [shift.weight for shift in (self.context_in, self.context_out) if shift.weight is not None]

    def record(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        values: Sequence[Tensor] = [x.clamp(-self.bound, self.bound), *self.learned()]
        if context is not None and self.context_in.weight is not None:
            values = [*values, context]
        if self.bf16:
            values = [t.to(torch.bfloat16) for t in values]
        inputs, w1, b1, w2, b2, w3, b3, *told = values
        h1 = _layer(inputs, w1, b1)
        h1 = (_shifted(h1, told[2], told[0]) if len(told) == 3 else h1).relu_()
        h2 = _layer(h1, w2, b2).relu_()
        h = _layer(h2, w3, b3)
        h = _shifted(h, told[2], told[1]) if len(told) == 3 else h
        return h.to(x.dtype), (inputs, h1, h2, w1, w2, w3, *told)

    def gradients(self, recorded: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, Tensor | None, Sequence[Tensor | None]]:
        """By hand, which spares memory traffic and calls: ReLU is undone in place, a small 1×1 is a matrix product."""
        x, h1, h2, w1, w2, w3, *told = recorded
        grad_h = grad.to(x.dtype)
        grad_h2, *last = _layer_gradients(grad_h, h2, w3)
        grad_h1, *hidden = _layer_gradients(_relu_gradient(grad_h2, h2), h1, w2)
        grad_h1 = _relu_gradient(grad_h1, h1)
        grad_x, *first = _layer_gradients(grad_h1, x, w1)
        learned = [*first, *hidden, *last]
        grad_context = None
        if len(told) == 3:
            grad_context, *shifts = _shift_gradients(grad_h1, grad_h, *told)
            learned += shifts
        if self.bf16:
            grad_x, *learned = (g.to(grad.dtype) for g in (grad_x, *learned))
            grad_context = None if grad_context is None else grad_context.to(grad.dtype)
        grad_x = torch.ops.aten.hardtanh_backward(grad_x, x, -self.bound, self.bound)
        return grad_x, grad_context, [*learned, *[None] * (len(self.learned()) - len(learned))]

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.standardise(x)
        return self(x, context)

    def standardise(self, x: Tensor) -> None:
        """Scales the first two layers so that their outputs for x have mean 0 and variance 1."""
        h = _standardised(self.first, self.first(x.clamp(-self.bound, self.bound)), 1)
        _standardised(self.hidden, self.hidden(h.relu_().movedim(1, -1)), -1)


class Dense(Conditioner):
    """Linear layers with ReLU between them, the last from zero, for vectors; NICE's has 5 hidden layers of 1000.

    A context is added before the first ReLU and to the outputs, by linear maps from zero.

    Args:
        inputs, outputs: sizes.
        hidden: sizes of the hidden layers.
        context_dim: K.

    >>> Dense(3, 2, hidden=(8, 8))(torch.randn(5, 3))
    tensor([[0., 0.],...
    """

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int], context_dim: int = 0):
        super().__init__()
        self.layers = perceptron([inputs, *hidden, outputs], lambda: nn.ReLU(inplace=True))
        *others, last = self.layers
        for layer in others:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.context_in = ContextShift(context_dim, [*hidden, outputs][0])
        self.context_out = ContextShift(context_dim, outputs)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        first, *others = self.layers
        h = self.context_in(first(x), context)
        for layer in others:
            h = layer(h)
        return self.context_out(h, context)


def wide(dims: int, inputs: int, outputs: int) -> Any:
    """A convolution over 3 neighbours on each axis, weights channels last; a linear layer for vectors."""
    if dims == 0:
        return nn.Linear(inputs, outputs)
    if dims not in _CONVOLUTIONS:
        raise TriptychError(f"events should be (D,), (C, T) or (C, H, W), got {dims} axes beside the channels")
    layer = _CONVOLUTIONS[dims](inputs, outputs, 3, padding=1)
    return layer.to(memory_format=torch.channels_last) if dims == 2 else layer  # type: ignore[call-overload]


def _standardised(layer: Any, h: Tensor, axis: int) -> Tensor:
    """Scales a layer whose output was h so that its output has mean 0 and variance 1 in every channel; returns that."""
    axes = [a for a in range(h.ndim) if a != axis % h.ndim]
    mean, std = h.mean(axes), h.std(axes, correction=0)
    scale = torch.where(std > 1e-6, std, torch.ones_like(std)).reciprocal()
    layer.weight.mul_(scale.view(-1, *(1,) * (layer.weight.ndim - 1)))
    layer.bias.sub_(mean).mul_(scale)
    moved = h.movedim(axis, 1)
    return (moved - per_channel(mean, moved)).mul_(per_channel(scale, moved)).movedim(1, axis)


def _layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer for vectors; a convolution that keeps the size, 1×1 for a matrix, for sequences and pictures."""
    if x.ndim == 2:
        return F.linear(x, weight, bias)
    if weight.ndim == 2:
        weight = weight.view(*weight.shape, *(1,) * (x.ndim - 2))
    return _CONVOLVE[x.ndim - 2](x, weight, bias, padding=weight.shape[-1] // 2)


def _layer_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `_layer` with respect to its input, weight and bias."""
    if x.ndim == 2:
        return grad @ weight, grad.T @ x, grad.sum(0)
    if weight.ndim == 2 and x.numel() < _FEW:
        rows, entered = grad.movedim(1, -1).reshape(-1, len(weight)), x.movedim(1, -1).reshape(-1, weight.shape[1])
        grad_x = (rows @ weight).view(*grad.movedim(1, -1).shape[:-1], -1).movedim(-1, 1)
        return grad_x, rows.T @ entered, rows.sum(0)
    kernel = weight if weight.ndim > 2 else weight.view(*weight.shape, *(1,) * (x.ndim - 2))
    ones, zeros, padding = [1] * (x.ndim - 2), [0] * (x.ndim - 2), [kernel.shape[-1] // 2] * (x.ndim - 2)
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad, x, kernel, [len(weight)], ones, padding, ones, False, zeros, 1, [True, True, True]
    )
    return grad_x, grad_weight.view(weight.shape) if weight.ndim == 2 else grad_weight, grad_bias


_FEW = 2**18  # values below which a matrix product's start costs less than a convolution's (measured on two cores)


def _relu_gradient(grad: Tensor, h: Tensor) -> Tensor:
    """grad where h > 0, else 0, in place."""
    return torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)


def _shifted(h: Tensor, context: Tensor, weight: Tensor) -> Tensor:
    """h + W c at every position, in place."""
    return h.add_(per_channel(F.linear(context, weight), h))


def _shift_gradients(
    grad_in: Tensor, grad_out: Tensor, weight_in: Tensor, weight_out: Tensor, context: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to the context and both of its maps, from those with respect to what they are added to."""
    at_in, at_out = (g.sum(tuple(range(2, g.ndim))) if g.ndim > 2 else g for g in (grad_in, grad_out))
    return at_in @ weight_in + at_out @ weight_out, at_in.T @ context, at_out.T @ context
