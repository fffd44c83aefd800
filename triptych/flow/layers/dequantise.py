"""Variational dequantisation (Ho et al. 2019, Flow++, arXiv 1902.00275, section 3.1), as a bijection.

Shapes: x (B, C, *S) pixels in [0, 1) = (v + u) / n, of n = 2^bits levels;
        v (B, C, *S) the level, u in [0, 1) the noise, ε = logit(u), both (B, C, *S)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.codec import Codec
from triptych.errors import TriptychError
from triptych.flow.bijection import Bijection, sum_event
from triptych.flow.conditioners import ConvNet
from triptych.flow.layers.coupling import TanhAffine, checkerboard

DEQUANTISATIONS = ("uniform", "variational")

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
        steps: couplings; at least 2, so that all values are moved.
        width: hidden channels of their networks.

    >>> layer = VariationalDequantisation((3, 4, 4), bits=8)
    >>> x = torch.rand(2, 3, 4, 4)
    >>> moved, ladj = layer(x)
    >>> torch.equal((256 * moved).floor(), (256 * x).floor()), torch.allclose(layer.inverse(moved), x, atol=1e-6)
    (True, True)
    """

    def __init__(self, shape: Sequence[int], bits: int, steps: int = 4, width: int = 32):
        super().__init__()
        if steps < 2:
            raise TriptychError(f"variational dequantisation takes at least 2 couplings to move all values, got {steps}")
        self.levels = 2**bits
        self.steps = nn.ModuleList(_NoiseCoupling(shape, width, flip=k % 2 == 1) for k in range(steps))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        v, u = self.level_and_noise(x)
        epsilon = _logit(u)
        total = -_log_slope(epsilon)
        context = self._centred(v)
        for step in self.steps:
            epsilon, ladj = step(epsilon, context)
            total = total + ladj
        u = _MARGIN + (1 - 2 * _MARGIN) * epsilon.sigmoid()
        shrink = u[0].numel() * math.log1p(-2 * _MARGIN)
        return (v + u) / self.levels, total + _log_slope(epsilon) + shrink

    def inverse(self, z: Tensor) -> Tensor:
        v, u = self.level_and_noise(z)
        epsilon = _logit((u - _MARGIN) / (1 - 2 * _MARGIN))
        context = self._centred(v)
        for step in reversed(self.steps):
            epsilon = step.inverse(epsilon, context)  # type: ignore[operator]
        return (v + _off_ends(epsilon.sigmoid())) / self.levels

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        v, u = self.level_and_noise(x)
        epsilon = _logit(u)
        for step in self.steps:
            epsilon = step.initialize(epsilon, self._centred(v))  # type: ignore[operator]
        return self(x)[0]

    def level_and_noise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """v = floor(n x), a constant for gradients, and u = n x − v: exact, since n is a power of 2."""
        scaled = x * self.levels
        v = scaled.detach().floor()
        return v, scaled - v

    def _centred(self, v: Tensor) -> Tensor:
        return (v + 0.5) / self.levels - 0.5


class _NoiseCoupling(nn.Module):
    """A checkerboard coupling of ε, whose network also sees every pixel's level."""

    def __init__(self, shape: Sequence[int], width: int, flip: bool):
        super().__init__()
        channels, *places = shape
        self.flip = flip
        self.transform = TanhAffine(channels)
        self.net = ConvNet((2 * channels, *places), 2 * channels, width)

    def forward(self, epsilon: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        mask = checkerboard(epsilon, self.flip)
        moved, ladj = self.transform(epsilon, self.net(_seen(epsilon, mask, context)), 1 - mask)
        return torch.where(mask.bool(), epsilon, moved), ladj

    def inverse(self, epsilon: Tensor, context: Tensor) -> Tensor:
        mask = checkerboard(epsilon, self.flip)
        moved = self.transform.inverse(epsilon, self.net(_seen(epsilon, mask, context)))
        return torch.where(mask.bool(), epsilon, moved)

    def initialize(self, epsilon: Tensor, context: Tensor) -> Tensor:
        self.net.initialize(_seen(epsilon, checkerboard(epsilon, self.flip), context))
        return self(epsilon, context)[0]


def dequantiser(kind: str, shape: Sequence[int], codec: Codec) -> list[Bijection]:
    """The layers that a flow begins with: none for the codec's own uniform noise."""
    if kind == "uniform":
        return []
    if codec.reading != "dequantise":
        raise TriptychError(
            'dequantisation="variational" moves the noise within 8-bit levels, and this flow reads floats as they are: use '
            '"uniform", or reading="dequantise" for 8-bit values'
        )
    return [VariationalDequantisation(shape, codec.bits)]


def _seen(epsilon: Tensor, mask: Tensor, context: Tensor) -> Tensor:
    """What a network sees of ε: the noise itself, since near a level's ends ε comes back from x′ with large errors."""
    return torch.cat([(epsilon.sigmoid() - 0.5) * mask, context], 1)


def _off_ends(u: Tensor) -> Tensor:
    hair = _HAIR * torch.finfo(u.dtype).eps
    return u.clamp(hair, 1 - hair)


def _logit(u: Tensor) -> Tensor:
    u = _off_ends(u)
    return u.log() - (-u).log1p()


def _log_slope(epsilon: Tensor) -> Tensor:
    """Σ log ∂σ(ε)/∂ε, (B,)."""
    return sum_event(-F.softplus(epsilon) - F.softplus(-epsilon))
