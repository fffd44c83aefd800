"""Batch normalisation as a bijection (RealNVP, section 3.7 and appendix E).

Shapes: x, z (B, C, *S) · mean, var (C,) · ladj (B,)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from triptych.bijections.actnorm import CONSTANT, Initialised, check_batch
from triptych.bijections.bijection import per_channel, same_ladj
from triptych.errors import check_range


class BatchNorm(Initialised):
    """z = (x − μ̃) / √(σ̃² + ε), each channel with its own; ladj = −½ |S| Σ_c log(σ̃²_c + ε).

    In training μ̃ and σ̃² are the averages that run over the minibatches, this one with them, and gradients pass through
    this minibatch's part alone (appendix E), which is steadier than its own statistics where minibatches are small:

        μ̃ ← ρ μ̃ + (1 − ρ) mean(x),   σ̃² ← ρ σ̃² + (1 − ρ) var(x)

    In eval mode, and in `inverse` always, they are the averages as they stand: then it is an affine map, exactly
    invertible, and what it does to an example does not depend on the rest of the batch. `initialize` sets the averages to a
    first batch's statistics; a constant channel keeps its scale. Any other use before that raises a `TriptychError`.

    Args:
        channels: C.
        rho: ρ, how much of the running average stays; 0 is plain batch normalisation.
        epsilon: ε, 1e-4 as in the released code.

    >>> layer = BatchNorm(3)
    >>> z = layer.initialize(5 + 2 * torch.randn(8, 3, 4, 4))
    >>> round(z.mean().abs().item(), 3), round(z.std().item(), 2)
    (0.0, 1.0)
    >>> x = torch.randn(2, 3, 4, 4)
    >>> torch.allclose(layer.eval().inverse(layer(x)[0]), x, atol=1e-5)
    True
    """

    averaged_buffers = ("mean", "var")  # go with the weights when those are averaged
    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, rho: float = 0.9, epsilon: float = 1e-4):
        super().__init__()
        check_range("rho", rho, 0, 1)
        self.rho, self.epsilon = rho, epsilon
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale, shift = self.coefficients(x)
        z = torch.addcmul(per_channel(shift, x), x, per_channel(scale, x))
        return z, same_ladj(scale.log().sum(), x)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) with z = scale ⊙ x + shift; in training the averages are updated by x first."""
        self.check_ready()
        mean, var = self.update(*_Statistics.apply(x)) if self.training else (self.mean, self.var)
        scale = (var + self.epsilon).rsqrt()
        return scale, -mean * scale

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        self.check_ready()
        return z * per_channel((self.var + self.epsilon).sqrt(), z) + per_channel(self.mean, z)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.start(x)
        return (x - per_channel(self.mean, x)) * per_channel((self.var + self.epsilon).rsqrt(), x)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Sets the averages to the statistics of x."""
        check_batch(x, "BatchNorm")
        mean, var = statistics(x)
        self.mean.copy_(mean)
        self.var.copy_(torch.where(var > CONSTANT**2, var, torch.ones_like(var)))
        self.mark()

    def update(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The averages updated by a minibatch's statistics, through whose part alone gradients pass; the buffers are set."""
        mean = self.rho * self.mean + (1 - self.rho) * mean
        var = self.rho * self.var + (1 - self.rho) * var
        with torch.no_grad():  # a minibatch that is not finite is skipped by the optimiser: it should not stay here either
            sound = mean.isfinite() & var.isfinite()
            self.mean.copy_(torch.where(sound, mean, self.mean))
            self.var.copy_(torch.where(sound, var, self.var))
        return mean, var


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of each channel over examples and positions, in float32 or better."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.ndim > 2:
        var, mean = torch.var_mean(exact, [0, *range(2, x.ndim)], correction=0)
        return mean, var
    mean = exact.mean(0)  # torch.var_mean walks down a column number by number, as slow as the layers around it
    return mean, (exact - mean).square_().mean(0)


class _Statistics(torch.autograd.Function):
    """`statistics` with one pass over x for the gradient."""

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = statistics(x)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        n = x.numel() // len(mean)
        slope = 2 * grad_var / n  # ∂var/∂x = 2 (x − mean) / n
        offset = grad_mean / n - slope * mean
        return torch.addcmul(per_channel(offset, x), x, per_channel(slope, x)).to(x.dtype)
