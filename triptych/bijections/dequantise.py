"""Variational dequantisation (Ho et al. 2019, Flow++, arXiv 1902.00275, section 3.1), as a bijection.

Shapes: x (B, C, *S) pixels in [0, 1) = (v + u) / n, of n = 2^bits levels;
        v (B, C, *S) the level, u in [0, 1) the noise, ε = logit(u), both (B, C, *S)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, per_channel, sum_event
from triptych.bijections.conditioners import ConvNet
from triptych.bijections.coupling import CheckerboardCoupling, TanhAffine
from triptych.errors import TriptychError

_HAIR = 2**8  # keeps u off 0 and 1 by so many of its type's ε: 2⁻¹⁵ in float32, where 255 + u and 1 − u are still exact
_MARGIN = 2**-10  # keeps u′ off a level's ends by more than what float32 loses on the way through a flow and back


class VariationalDequantisation(Bijection):
    """x = (v + u) / n -> x′ = (v + u′) / n: the noise u is moved within its level v, as the model likes it best.

        ε = logit(u),   ε′ = f(ε; v) by affine checkerboard couplings,   u′ = m + (1 − 2m) σ(ε′),   ladj = Σ log ∂u′/∂u

    With u uniform, as the codec draws it, u′ has the density q(u′ | v) = 1 / |∂u′/∂u|, so that the expectation of
    log p(x′) + ladj is the variational bound E_q[log p(v, u′) − log q(u′ | v)] ≤ log P(v), learned with the
    rest of the flow. Where a model likes uniform noise best it is uniform: the couplings start as the identity.

    The margin m = 2⁻¹⁰ holds u′ away from the level's ends, so that what float32 loses in the flow behind (up to m/n in x′)
    cannot make a pixel the next one: floor(n x) is v after encode and decode. It costs at most −log₂(1 − 2m) = 0.003
    bits/dim, which ladj counts. On the way back an x′ in the margin, which a sample may have, takes the nearest u.

    Args:
        shape: (C, *S) of x.
        bits: log₂ n.
        couplings: at least 2, so that all values are moved.
        width: hidden channels of their networks.
        context_dim: K; the networks see the context beside the levels.

    >>> layer = VariationalDequantisation((3, 4, 4), bits=8)
    >>> x = torch.rand(2, 3, 4, 4)
    >>> moved, ladj = layer(x)
    >>> torch.equal((256 * moved).floor(), (256 * x).floor()), torch.allclose(layer.inverse(moved), x, atol=1e-6)
    (True, True)
    """

    def __init__(self, shape: Sequence[int], bits: int, couplings: int = 4, width: int = 32, context_dim: int = 0):
        super().__init__()
        if couplings < 2:
            raise TriptychError(f"variational dequantisation needs at least 2 couplings to move all values, got {couplings}")
        self.levels, self.context_dim = 2**bits, context_dim
        self.steps: Any = nn.ModuleList(_coupling(shape, width, context_dim, flip=k % 2 == 1) for k in range(couplings))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v, u = self._level_and_noise(x)
        epsilon = _logit(u)
        total = -_log_slope(epsilon)
        seen = self._seen(v, context)
        for step in self.steps:
            epsilon, ladj = step(epsilon, seen)
            total = total + ladj
        u = _MARGIN + (1 - 2 * _MARGIN) * epsilon.sigmoid()
        shrink = u[0].numel() * math.log1p(-2 * _MARGIN)
        return (v + u) / self.levels, total + _log_slope(epsilon) + shrink

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        v, u = self._level_and_noise(z)
        epsilon = _logit((u - _MARGIN) / (1 - 2 * _MARGIN))
        seen = self._seen(v, context)
        for step in reversed(self.steps):
            epsilon = step.inverse(epsilon, seen)
        return (v + _off_ends(epsilon.sigmoid())) / self.levels

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        v, u = self._level_and_noise(x)
        epsilon, seen = _logit(u), self._seen(v, context)
        for step in self.steps:
            epsilon = step.initialize(epsilon, seen)
        return self(x, context)[0]

    def _level_and_noise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """v = floor(n x), a constant for gradients, and u = n x − v: exact, since n is a power of 2."""
        scaled = x * self.levels
        v = scaled.detach().floor()
        return v, scaled - v

    def _seen(self, v: Tensor, context: Tensor | None) -> Tensor:
        """What the networks are told at each position: its levels, centred, and the context: (B, C + K, *S)."""
        levels = (v + 0.5) / self.levels - 0.5
        if not self.context_dim:
            return levels
        context = v.new_zeros(len(v), self.context_dim) if context is None else context
        return torch.cat([levels, per_channel(context, v).expand(-1, -1, *v.shape[2:])], 1)


class _NoiseNet(ConvNet):
    """A network that sees, beside its context at each position, the noise σ(ε): ε itself comes back from x′ with large
    errors near a level's ends."""

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().compute(self._beside(x, context))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.standardise(self._beside(x, context))
        return self(x, context)

    def _beside(self, epsilon: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        return torch.cat([epsilon.sigmoid() - 0.5, context], 1)  # 0 where a checkerboard hides ε


def _coupling(shape: Sequence[int], width: int, context_dim: int, flip: bool) -> CheckerboardCoupling:
    channels, *places = shape
    transform = TanhAffine(channels)
    net = _NoiseNet((2 * channels + context_dim, *places), 2 * channels, width)
    return CheckerboardCoupling(net, transform, flip)


def _off_ends(u: Tensor) -> Tensor:
    hair = _HAIR * torch.finfo(u.dtype).eps
    return u.clamp(hair, 1 - hair)


def _logit(u: Tensor) -> Tensor:
    u = _off_ends(u)
    return u.log() - (-u).log1p()


def _log_slope(epsilon: Tensor) -> Tensor:
    """Σ log ∂σ(ε)/∂ε, (B,)."""
    return sum_event(-F.softplus(epsilon) - F.softplus(-epsilon))
