"""Conditioners: the networks inside coupling layers, which are never inverted.

Shapes: x (B, C_in, *S), context (B, K), (B, K, *S) or None -> h (B, C_out, *S), for vectors, sequences and pictures.
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
from triptych.errors import TriptychError
from triptych.nets import he_, perceptron
from triptych.parts import Part

Tensors = tuple[Tensor, ...]

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_CONVOLVE = (F.linear, F.conv1d, F.conv2d)  # by the number of axes


class Conditioner(nn.Module, Part, ABC):
    """A network x (B, C_in, *S), context -> h (B, C_out, *S). Couplings take any module; this one has a precision.

    Attributes:
        bf16: whether it computes in bfloat16; h has the type of x all the same.
    """

    bf16: bool = False

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, C_in, *S), context (B, K) or None -> h (B, C_out, *S)."""
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


class ContextShift(nn.Module):
    """h + W c at every position, W from zero: zeros, which say "unknown", add nothing, and nor does no context.

    The context may have positions, the same as h, and each sees its own.

    Args:
        context_dim: K; 0 makes a module without parameters that returns h.
        channels: C of h.
    """

    weight: nn.Parameter | None

    def __init__(self, context_dim: int, channels: int):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.zeros(channels, context_dim)) if context_dim else None)

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        """h (B, C, *S), context (B, K), (B, K, *S) or None -> (B, C, *S)."""
        if self.weight is None or context is None:
            return h
        shift = F.linear(context.movedim(1, -1), self.weight).movedim(-1, 1)
        return h + (per_channel(shift, h) if shift.ndim == 2 else shift)


class PositionShift(nn.Module):
    """h + b, b of each position's own and from zero: by it a convolution learns where in the picture it is.

    Args:
        shape: (C, *S) of h; None makes a module without parameters that returns h.
    """

    bias: nn.Parameter | None  # (*S, C): channels last, as a convolution leaves h, or the sum takes as long as a convolution

    def __init__(self, shape: Sequence[int] | None):
        super().__init__()
        bias = None if shape is None else nn.Parameter(torch.zeros(*shape[1:], shape[0]))
        self.register_parameter("bias", bias)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, *S) -> (B, C, *S)."""
        return h if self.bias is None else h + self.bias.to(h.dtype).movedim(-1, 0)


class ConvNet(Conditioner):
    """Glow's (section 3.3): 3×3 -> width, ReLU, 1×1 -> width, ReLU, 3×3 from zero.

    On a vector the three are linear layers. `initialize` scales the first two so that a first batch gives them outputs of
    mean 0 and variance 1, as the actnorm inside the released code's network does, which costs nothing afterwards. (The code
    also multiplies the outputs by a learned exp(3 · logs), which the paper does not say and this does not do.) A context is
    added before the first ReLU and to the outputs, by linear maps from zero; so are `positions`, biases of each position's
    own. Its gradients are written by hand too, which flow steps use in place of autograd.

    Inputs are clamped to ±bound. Behind an actnorm they have variance 1, so that data are hardly affected; but the network's
    answers to a draw from the prior that leaves what training saw would grow from step to step (16 steps a scale,
    photographs of faces, 200 steps of training: samples up to 1e24 without this, 1e6 with it, 5 with a floor of 0.7 in
    `Affine` too).

    Args:
        shape: (C_in, *S) of x.
        outputs: C_out.
        width: hidden channels.
        bound: largest magnitude of the inputs.
        context_dim: K.
        positions: whether there are biases for each position, for data that are aligned; a vector has no positions.

    >>> ConvNet((2, 5, 7), 6, width=8)(torch.randn(3, 2, 5, 7)).shape
    torch.Size([3, 6, 5, 7])
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        width: int,
        bound: float = 3.0,
        context_dim: int = 0,
        positions: bool = False,
    ):
        super().__init__()
        self.bound = bound
        (channels, *places), dims = shape, len(shape) - 1
        self.first = wide(dims, channels, width)
        self.hidden = nn.Linear(width, width)  # a 1×1 convolution: a matrix product over positions
        self.last = from_zero(wide(dims, width, outputs))
        for layer in (self.first, self.hidden):
            nn.init.normal_(layer.weight, std=0.05)
            nn.init.zeros_(layer.bias)
        self.context_in, self.context_out = ContextShift(context_dim, width), ContextShift(context_dim, outputs)
        at_each = positions and dims > 0
        self.position_in, self.position_out = (
            PositionShift((size, *places) if at_each else None) for size in (width, outputs)
        )

    def inputs(self, x: Tensor, context: Tensor | None) -> Tensor:
        """What the first layer sees of x."""
        return x.clamp(-self.bound, self.bound)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.record(x, context)[0]

    def record(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensors]:
        """h, and what `gradients` needs."""
        inputs = self.inputs(x, context)
        with self.precision(x):
            h1 = self.position_in(self.context_in(self.first(inputs), context)).relu_()
            h2 = _CONVOLVE[x.ndim - 2](h1, per_channel(self.hidden.weight, x), self.hidden.bias).relu_()
            h = self.position_out(self.context_out(self.last(h2), context))
        told = [] if context is None or self.context_in.weight is None else [context.to(h1.dtype)]
        return h.to(x.dtype), (inputs.to(h1.dtype), h1, h2, *told)

    def learned(self) -> list[Tensor]:
        """`parameters()` in its order, without its walk through the modules, which costs as much as a small layer."""
        layers = (self.first, self.hidden, self.last)
        further = (self.context_in.weight, self.context_out.weight, self.position_in.bias, self.position_out.bias)
        return [p for layer in layers for p in (layer.weight, layer.bias)] + [p for p in further if p is not None]

    def gradients(self, recorded: Tensors, grad: Tensor) -> tuple[Tensor, Tensor | None, Sequence[Tensor | None]]:
        """From the gradient with respect to h, those with respect to x, the context, and each of `parameters()`.

        By hand, which spares memory traffic and calls: ReLU is undone in place, a small 1×1 is a matrix product.
        """
        x, h1, h2, *told = recorded
        w1, w2, w3 = (layer.weight.to(x.dtype) for layer in (self.first, self.hidden, self.last))
        grad_h = grad.to(x.dtype)
        grad_h2, *last = _layer_gradients(grad_h, h2, w3)
        grad_h1, *hidden = _layer_gradients(_relu_gradient(grad_h2, h2), h1, w2)
        grad_h1 = _relu_gradient(grad_h1, h1)
        grad_x, *first = _layer_gradients(grad_h1, x, w1)
        grad_x = torch.ops.aten.hardtanh_backward(grad_x, x, -self.bound, self.bound)
        grad_context, maps = self._context_gradients(told, grad_h1, grad_h)
        shifts = [] if self.position_in.bias is None else [g.movedim(1, -1).sum(0) for g in (grad_h1, grad_h)]
        grads: list[Any] = [grad_x, grad_context, *first, *hidden, *last, *maps, *shifts]
        if x.dtype != grad.dtype:
            grads = [g if g is None else g.to(grad.dtype) for g in grads]
        return grads[0], grads[1], grads[2:]

    def _context_gradients(self, told: Sequence[Tensor], grad_h1: Tensor, grad_h: Tensor) -> tuple[Tensor | None, list[Any]]:
        """Gradients with respect to the context that was told, if any, and to the maps of it, if there are any."""
        maps = [w for w in (self.context_in.weight, self.context_out.weight) if w is not None]
        if not told:
            return None, [None] * len(maps)
        context, shared = told[0], told[0].ndim < grad_h.ndim  # one context for all positions
        at_in, at_out = (g.sum(tuple(range(2, g.ndim))) if shared else g for g in (grad_h1, grad_h))
        seen, at_in, at_out = (t.movedim(1, -1).flatten(0, -2) for t in (context, at_in, at_out))
        to_in, to_out = (w.to(grad_h.dtype) for w in maps)
        grad = (at_in @ to_in + at_out @ to_out).view_as(context.movedim(1, -1)).movedim(-1, 1)
        return grad, [at_in.T @ seen, at_out.T @ seen]

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = _standardised(self.first, self.first(self.inputs(x, context)).movedim(1, -1))
        _standardised(self.hidden, self.hidden(h.relu_()))
        return self(x, context)


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
        *others, last = (layer for layer in self.layers if isinstance(layer, nn.Linear))
        for layer in others:
            he_(layer)
        from_zero(last)
        self.context_in = ContextShift(context_dim, [*hidden, outputs][0])
        self.context_out = ContextShift(context_dim, outputs)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.context_in(self.layers[0](x), context)
        return self.context_out(self.layers[1:](h), context)


class ResidualDense(Conditioner):
    """h₀ = W x, h_k = h_{k−1} + V_k a(U_k a(h_{k−1})), h = W′ a(h_depth) with a = SiLU, for vectors.

    V_k start at zero, so that at first the network is shallow, whatever its depth. A context is added to h₀, by a linear map
    from zero.

    Args:
        inputs, outputs: sizes; outputs=None returns a(h_depth), of `width` numbers.
        width: of h_k.
        depth: residual blocks.
        context_dim: K.

    >>> ResidualDense(3, None, width=8, depth=2)(torch.randn(5, 3)).shape, ResidualDense(3, 4)(torch.randn(5, 3)).shape
    (torch.Size([5, 8]), torch.Size([5, 4]))
    """

    def __init__(self, inputs: int, outputs: int | None, width: int = 256, depth: int = 2, context_dim: int = 0):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), he_(nn.Linear(width, width)), nn.SiLU(), from_zero(nn.Linear(width, width)))
            for _ in range(depth)
        )
        self.last = nn.Identity() if outputs is None else from_zero(nn.Linear(width, outputs))
        self.context_in = ContextShift(context_dim, width)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.context_in(self.first(x), context)
        for block in self.blocks:
            h = h + block(h)
        return self.last(F.silu(h))


def wide(dims: int, inputs: int, outputs: int) -> Any:
    """A convolution over 3 neighbours on each axis, weights channels last; a linear layer for vectors."""
    if dims == 0:
        return nn.Linear(inputs, outputs)
    if dims not in _CONVOLUTIONS:
        raise TriptychError(f"events should be (D,), (C, T) or (C, H, W), got {dims} axes beside the channels")
    layer = _CONVOLUTIONS[dims](inputs, outputs, 3, padding=1)
    return layer.to(memory_format=torch.channels_last) if dims == 2 else layer  # type: ignore[call-overload]


def from_zero(layer: Any) -> Any:
    """The layer itself, its weight and bias set to zero: a coupling that it ends starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _standardised(layer: Any, h: Tensor) -> Tensor:
    """Scales a layer whose output was h (…, C) so that it has mean 0 and variance 1 in every channel; returns that."""
    axes = tuple(range(h.ndim - 1))
    mean, std = h.mean(axes), h.std(axes, correction=0)
    scale = torch.where(std > 1e-6, std, torch.ones_like(std)).reciprocal()
    layer.weight.mul_(scale.view(-1, *(1,) * (layer.weight.ndim - 1)))
    layer.bias.sub_(mean).mul_(scale)
    return (h - mean).mul_(scale)


def _layer_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> Tensors:
    """Gradients of a layer with respect to its input, weight and bias: linear, a convolution that keeps the size, or 1×1."""
    if x.ndim == 2:
        return grad @ weight, grad.T @ x, grad.sum(0)
    if weight.ndim == 2 and x.numel() < _FEW:
        grad = grad.movedim(1, -1)
        rows, entered = grad.reshape(-1, len(weight)), x.movedim(1, -1).reshape(-1, weight.shape[1])
        return (rows @ weight).view(*grad.shape[:-1], -1).movedim(-1, 1), rows.T @ entered, rows.sum(0)
    kernel = per_channel(weight, x) if weight.ndim == 2 else weight
    ones, zeros, padding = ([n] * (x.ndim - 2) for n in (1, 0, kernel.shape[-1] // 2))
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad, x, kernel, [len(weight)], ones, padding, ones, False, zeros, 1, [True, True, True]
    )
    return grad_x, grad_weight.view(weight.shape), grad_bias


_FEW = 2**18  # values below which a matrix product's start costs less than a convolution's (measured on two cores)


def _relu_gradient(grad: Tensor, h: Tensor) -> Tensor:
    """grad where h > 0, else 0, in place."""
    return torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)
