"""Variational dequantisation (Ho et al. 2019, Flow++, arXiv 1902.00275, section 3.1), as a bijection.

Shapes: x (B, C, *S) pixels in [0, 1) = (v + u) / n, of n = 2^bits levels;
        v (B, C, *S) the level, u in [0, 1) the noise, ε = logit(u), both (B, C, *S)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, per_channel, sum_event
from triptych.bijections.conditioners import ConvNet
from triptych.bijections.coupling import CheckerboardCoupling, TanhAffine
from triptych.bijections.pointwise import log_logistic, logit
from triptych.errors import check_size

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
        check_size("couplings", couplings, least=2)
        self.levels, self.context_dim = 2**bits, context_dim
        self.steps: Any = nn.ModuleList(_coupling(shape, width, context_dim, flip=k % 2 == 1) for k in range(couplings))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v, u, seen = self._level_and_noise(x, context)
        epsilon = logit(_off_ends(u))  # log ∂σ(ε)/∂ε is a logistic variable's log p(ε)
        total = -sum_event(log_logistic(epsilon))
        for step in self.steps:
            epsilon, ladj = step(epsilon, seen)
            total = total + ladj
        u = _MARGIN + (1 - 2 * _MARGIN) * epsilon.sigmoid()
        shrink = u[0].numel() * math.log1p(-2 * _MARGIN)
        return (v + u) / self.levels, total + sum_event(log_logistic(epsilon)) + shrink

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        v, u, seen = self._level_and_noise(z, context)
        epsilon = logit(_off_ends((u - _MARGIN) / (1 - 2 * _MARGIN)))
        for step in reversed(self.steps):
            epsilon = step.inverse(epsilon, seen)
        return (v + _off_ends(epsilon.sigmoid())) / self.levels

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        _, u, seen = self._level_and_noise(x, context)
        epsilon = logit(_off_ends(u))
        for step in self.steps:
            epsilon = step.initialize(epsilon, seen)
        return self(x, context)[0]

    def _level_and_noise(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """v = floor(n x), a constant for gradients; u = n x − v, exact, since n is a power of 2; and what the networks are
        told at each position: its levels, centred, and the context, (B, C + K, *S)."""
        scaled = x * self.levels
        v = scaled.detach().floor()
        seen = (v + 0.5) / self.levels - 0.5
        if self.context_dim:
            context = v.new_zeros(len(v), self.context_dim) if context is None else context
            seen = torch.cat([seen, per_channel(context, v).expand(-1, -1, *v.shape[2:])], 1)
        return v, scaled - v, seen


class _NoiseNet(ConvNet):
    """A network that sees, beside its context at each position, the noise σ(ε): ε itself comes back from x′ with large
    errors near a level's ends."""

    def inputs(self, x: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        return super().inputs(torch.cat([x.sigmoid() - 0.5, context], 1), None)  # 0 where a checkerboard hides ε


def _coupling(shape: Sequence[int], width: int, context_dim: int, flip: bool) -> CheckerboardCoupling:
    channels, *places = shape
    net = _NoiseNet((2 * channels + context_dim, *places), 2 * channels, width)
    step = CheckerboardCoupling(net, TanhAffine(channels), flip)
    del step.net  # comes after the transform: a saved optimiser counts parameters in this order
    step.net = net
    return step


def _off_ends(u: Tensor) -> Tensor:
    hair = _HAIR * torch.finfo(u.dtype).eps
    return u.clamp(hair, 1 - hair)
