"""RealNVP's conditioner: a residual network with weight and batch normalisation (section 4.1, appendix E).

Shapes: x (B, C_in, *S) -> h (B, C_out, *S); inside, `width` maps at the same positions, for vectors, sequences and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from triptych.flow.bijection import by_channel
from triptych.flow.conditioners import Conditioner, wide
from triptych.flow.layers.batchnorm import BatchNorm


class ResNet(Conditioner):
    """h₀ = conv(x), h_k = h_{k−1} + conv(a(conv(a(h_{k−1})))), h = W a(Σ_k skip_k(h_k)) with a = ReLU of a batch norm.

    Convolutions are 3×3, skips 1×1, all but W weight-normed; W starts at zero, so that a coupling starts as the identity.
    On a sequence convolutions are over 3 neighbours; on a vector all layers are linear.

    The batch norm is the bijection's (`triptych.flow.BatchNorm`) with a gain and bias, rather than torch's: its running
    averages are the paper's for small minibatches, it takes events of any dimension, and in eval mode a datum's h does
    not depend on its batch. `initialize` sets the averages from a first batch.

    Args:
        shape: (C_in, *S) of x.
        outputs: C_out.
        width: maps inside.
        blocks: residual blocks.

    >>> net = ResNet((2, 5, 7), 6, width=8, blocks=2)
    >>> x = torch.randn(3, 2, 5, 7)
    >>> net.initialize(x).shape, net(x).shape
    (torch.Size([3, 6, 5, 7]), torch.Size([3, 6, 5, 7]))
    """

    def __init__(self, shape: Sequence[int], outputs: int, width: int = 32, blocks: int = 4):
        super().__init__()
        dims = len(shape) - 1
        self.first = _weight_normed(wide(dims, shape[0], width))
        self.blocks = nn.ModuleList(_Block(dims, width) for _ in range(blocks))
        self.skips = nn.ModuleList(_weight_normed(nn.Linear(width, width)) for _ in range(blocks + 1))
        self.activation = _Activation(width)
        self.last = nn.Linear(width, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def compute(self, x: Tensor) -> Tensor:
        return self._through(x, first=False)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        with self._precision(x):
            return self._through(x, first=True).to(x.dtype)

    def _through(self, x: Tensor, first: bool) -> Tensor:
        if x.ndim == 4:  # weight norm's W is laid out channels first, so the picture has to say what is wanted
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.first(x)
        total = _at_each(self.skips[0], h)
        for block, skip in zip(self.blocks, list(self.skips)[1:], strict=True):
            h = block(h, first)
            total = total + _at_each(skip, h)
        return _at_each(self.last, self.activation(total, first))


class _Block(nn.Module):
    """h + conv(a(conv(a(h)))): activations before convolutions, so that the sum passes untouched."""

    def __init__(self, dims: int, width: int):
        super().__init__()
        self.activations = nn.ModuleList(_Activation(width) for _ in range(2))
        self.convolutions = nn.ModuleList(_weight_normed(wide(dims, width, width)) for _ in range(2))

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
        scale, shift = self.norm.coefficients(h)  # with the gain and bias one affine map, not two
        scale, shift = self.gain * scale, self.gain * shift + self.bias
        return torch.addcmul(by_channel(shift, h), h, by_channel(scale, h)).to(h.dtype).relu_()


def _at_each(layer: nn.Module, h: Tensor) -> Tensor:
    """A linear layer at every position: a 1×1 convolution as one matrix product."""
    return layer(h.movedim(1, -1)).movedim(-1, 1)


def _weight_normed(layer: nn.Module) -> nn.Module:
    """W = g v / ‖v‖ for each output, from He's initial weights (Salimans & Kingma 2016, arXiv 1602.07868)."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return weight_norm(layer)
