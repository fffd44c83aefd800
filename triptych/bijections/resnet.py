"""RealNVP's conditioner: a residual network with weight and batch normalisation (section 4.1, appendix E).

Shapes: x (B, C_in, *S) -> h (B, C_out, *S); inside, `width` maps at the same positions, for vectors, sequences and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrizations import weight_norm

from triptych.bijections.batchnorm import BatchNorm, statistics
from triptych.bijections.bijection import per_channel
from triptych.bijections.conditioners import Conditioner, ContextShift, from_zero, wide
from triptych.nets import he_


class ResNet(Conditioner):
    """h₀ = conv(x), h_k = h_{k−1} + conv(a(conv(a(h_{k−1})))), h = W a(Σ_k skip_k(h_k)) with a = ReLU of a batch norm.

    Convolutions are 3×3, skips 1×1, all but W weight-normed, g v / ‖v‖ for each output, from He's initial weights (Salimans
    & Kingma 2016, arXiv 1602.07868); W starts at zero, so that a coupling starts as the identity.
    On a sequence convolutions are over 3 neighbours; on a vector all layers are linear. A context is added to h₀ and to h,
    by linear maps from zero.

    The batch norm is the bijection's (`triptych.bijections.BatchNorm`) with a gain and bias, rather than torch's: its
    running averages are the paper's for small minibatches, it takes events of any dimension, and in eval mode an example's h
    does not depend on its batch. `initialize` sets the averages from a first batch.

    Args:
        shape: (C_in, *S) of x.
        outputs: C_out.
        width: maps inside.
        depth: residual blocks.
        context_dim: K.

    >>> net = ResNet((2, 5, 7), 6, width=8, depth=2)
    >>> x = torch.randn(3, 2, 5, 7)
    >>> net.initialize(x).shape, net(x).shape
    (torch.Size([3, 6, 5, 7]), torch.Size([3, 6, 5, 7]))
    """

    def __init__(self, shape: Sequence[int], outputs: int, width: int = 32, depth: int = 4, context_dim: int = 0):
        super().__init__()
        dims = len(shape) - 1
        self.first = weight_norm(he_(wide(dims, shape[0], width)))
        self.blocks = nn.ModuleList(_Block(dims, width) for _ in range(depth))
        self.skips = nn.ModuleList(weight_norm(he_(nn.Linear(width, width))) for _ in range(depth + 1))
        self.activation = _Activation(width)
        self.last = from_zero(nn.Linear(width, outputs))
        self.context_in, self.context_out = ContextShift(context_dim, width), ContextShift(context_dim, outputs)

    def compute(self, x: Tensor, context: Tensor | None = None, first: bool = False) -> Tensor:
        """h; `first` says that this batch sets the norms' averages."""
        if x.ndim == 4:  # weight norm's W is laid out channels first, so the picture has to say what is wanted
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.context_in(self.first(x), context)
        total = _at_each(self.skips[0], h)
        for block, skip in zip(self.blocks, list(self.skips)[1:], strict=True):
            h = block(h, first)
            total = total + _at_each(skip, h)
        return self.context_out(_at_each(self.last, self.activation(total, first)), context)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        with self.precision(x):
            return self.compute(x, context, first=True).to(x.dtype)


class _Block(nn.Module):
    """h + conv(a(conv(a(h)))): activations before convolutions, so that the sum passes untouched."""

    def __init__(self, dims: int, width: int):
        super().__init__()
        self.activations = nn.ModuleList(_Activation(width) for _ in range(2))
        self.convolutions = nn.ModuleList(weight_norm(he_(wide(dims, width, width))) for _ in range(2))

    def forward(self, h: Tensor, first: bool) -> Tensor:
        change = h
        for activation, convolution in zip(self.activations, self.convolutions, strict=True):
            change = convolution(activation(change, first))
        return h + change


class _Activation(nn.Module):
    """ReLU(gain ⊙ batchnorm(h) + bias); `first` says that this batch sets the norm's averages."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = BatchNorm(width)
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor, first: bool) -> Tensor:
        if first:
            self.norm.start(h)
        if h.ndim == 2 and self.training:
            return _NormalisedReLU.apply(h, self.gain, self.bias, self.norm)
        scale, shift = self.norm.coefficients(h)  # with the gain and bias one affine map, not two
        scale, shift = self.gain * scale, self.gain * shift + self.bias
        return torch.addcmul(per_channel(shift, h), h, per_channel(scale, h)).to(h.dtype).relu_()


class _NormalisedReLU(torch.autograd.Function):
    """The activation of vectors in training, with its gradient by hand: on a few hundred numbers each of some 50 operations
    costs more to call than to compute. Pictures keep autograd's, whose sums are in another order."""

    @staticmethod
    def forward(ctx, h: Tensor, gain: Tensor, bias: Tensor, norm: BatchNorm) -> Tensor:
        norm.check_ready()
        batch_mean, batch_var = statistics(h)
        mean, var = norm.update(batch_mean, batch_var)
        scale = (var + norm.epsilon).rsqrt()
        factor = gain * scale
        y = torch.addcmul(torch.addcmul(bias, mean, factor, value=-1), h, factor).to(h.dtype).relu_()
        ctx.rho = norm.rho
        ctx.save_for_backward(h, y, batch_mean, mean, scale, factor, gain)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        h, y, batch_mean, mean, scale, factor, gain = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0).to(mean.dtype)
        grad_bias = grad.sum(0)
        grad_factor = (grad * h).sum(0).addcmul_(mean, grad_bias, value=-1)
        share = (1 - ctx.rho) / len(h)  # of this minibatch in μ̃ and σ̃²
        slope = grad_factor * gain * scale.pow(3) * -share  # 2 · ∂/∂σ̃² · share
        offset = factor * grad_bias * -share - slope * batch_mean
        grad_h = torch.addcmul(offset, h, slope).addcmul_(grad, factor).to(h.dtype)
        return grad_h, grad_factor * scale, grad_bias, None


def _at_each(layer: nn.Module, h: Tensor) -> Tensor:
    """A linear layer at every position: a 1×1 convolution as one matrix product."""
    return layer(h.movedim(1, -1)).movedim(-1, 1)
