"""A density that knows no shapes: each value given its neighbours before it, linearly, with one noise for all positions.

Shapes: x (n, C, H, W) or (n, C, T) model coordinates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS, _SIDE = 2, 2  # of the neighbourhood: two rows above, two values to either side
_SEEN = (_ROWS + 1, 2 * _SIDE + 1)
_LEAST = 1 / 512  # of a scale: half a pixel's bin
_AT_ONCE = 64


class Local(NamedTuple):
    """Π p(x_i | neighbours before i), each a Laplace distribution about a linear prediction, fitted by least squares.

    What it finds likely is smooth, whatever it shows. A likelihood ratio with it leaves what a model knows beyond its
    neighbourhoods (local and whole models: Zhang, Zhang & McDonagh 2021).

    Attributes:
        kernel: of a causal convolution (C, C, 3, 5).
        bias: (C,).
        scale: b of the Laplace distributions, (C,).
    """

    kernel: Tensor
    bias: Tensor
    scale: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Local:
        """Fitted to x.

        >>> Local.of(torch.rand(20, 3, 8, 8)).kernel.shape
        torch.Size([3, 3, 3, 5])
        """
        pictures = _pictures(x)
        gram = torch.stack([_gram(part) for part in pictures.split(_AT_ONCE)]).sum(0)
        gram.diagonal().add_(1e-6 * gram.diagonal().mean())
        channels, size = pictures.shape[1], _SEEN[0] * _SEEN[1]
        kernel, bias = torch.zeros(channels, channels * size), torch.zeros(channels)
        for c in range(channels):
            before = _before(c, channels)
            found = torch.linalg.solve(gram[before][:, before], gram[before, c * size + _ROWS * _SEEN[1] + _SIDE])
            kernel[c, before[:-1]], bias[c] = found[:-1].float(), found[-1].float()
        kernel = kernel.view(channels, channels, *_SEEN)
        errors = [_residuals(part, kernel, bias).abs().double().mean((0, 2, 3)) for part in pictures.split(_AT_ONCE)]
        return cls(kernel, bias, torch.stack(errors).mean(0).clamp_min(_LEAST))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n,), float64.

        >>> x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> bool(Local.of(x).log_prob(torch.full((1, 1, 8, 8), 0.5)) > Local.of(x).log_prob(x[:1]))
        True
        """
        b = self.scale[:, None, None]
        errors = (_residuals(part, self.kernel, self.bias).abs().double() for part in _pictures(x).split(_AT_ONCE))
        return torch.cat([(-e / b - (2 * b).log()).sum((1, 2, 3)) for e in errors])


def _pictures(x: Tensor) -> Tensor:
    """On the CPU, a sequence as a picture of one row."""
    x = x.detach().cpu().float()
    return x[:, :, None] if x.ndim == 3 else x


def _padded(x: Tensor) -> Tensor:
    return F.pad(x, (_SIDE, _SIDE, _ROWS, 0))


def _gram(x: Tensor) -> Tensor:
    """Σ u uᵀ over all positions, u their neighbourhoods and a one: (15 C + 1, 15 C + 1)."""
    rows = F.unfold(_padded(x), _SEEN).transpose(1, 2).flatten(0, 1).double()
    rows = F.pad(rows, (0, 1), value=1.0)
    return rows.T @ rows


def _before(channel: int, channels: int) -> Tensor:
    """Which of a neighbourhood's values, and the one, come before a channel's value at its place, channel after channel."""
    before = torch.ones(channels, *_SEEN, dtype=torch.bool)
    before[:, _ROWS, _SIDE:] = False
    before[:channel, _ROWS, _SIDE] = True
    return torch.cat([before.flatten().nonzero()[:, 0], torch.tensor([before.numel()])])


def _residuals(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return x - F.conv2d(_padded(x), kernel, bias)
