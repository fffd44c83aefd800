"""Channel mixing: the invertible 1×1 convolution (Glow, section 3.2), and the fixed permutations that it generalises.

All are z = W x at every position, ladj = |S| · log |det W|; they differ in what W is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, NotInvertible, all_finite, same_ladj, zero_ladj
from triptych.errors import TriptychError


def mix(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b over the channels of x (B, C, *S): one matrix product, for which positions are rows."""
    return F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)


def inverses(weight: Tensor) -> tuple[Tensor, Tensor]:
    """W⁻¹ (K, C, C), computed in float64, and which of them (K,) are useless: W is singular or not finite."""
    inverse, info = torch.linalg.inv_ex(weight.double())
    useful = (info == 0) & (inverse.abs().amax((-2, -1)) <= _SINGULAR)  # NaN is not
    return inverse.to(weight.dtype), ~useful


_SINGULAR = 1e12  # an entry of W⁻¹ beyond this leaves nothing of float32's precision


class Affines(NamedTuple):
    """K affine maps of channels, y = W x + b at every position."""

    weight: Tensor  # (K, C, C)
    bias: Tensor  # (K, C)
    log_det: Tensor  # (K,), at one position

    def inverted(self) -> tuple[Affines, Tensor]:
        """x = W⁻¹ y − W⁻¹ b, and which of them (K,) are useless."""
        weight, useless = inverses(self.weight)
        inverse = Affines(weight, -(weight @ self.bias[..., None])[..., 0], -self.log_det)
        return inverse, useless | ~self.bias.isfinite().all(1)


class Mixing(Bijection):
    """z = W x at every position.

    Attributes:
        channels: C.
    """

    channels: int

    @classmethod
    @abstractmethod
    def matrices(cls, layers: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """W (K, C, C) and log |det W| (K,) of K layers at once: many small matrices cost what one does."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weight, log_det = self.matrices([self])
        return mix(x, weight[0]), same_ladj(log_det[0], x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        weight, useless = inverses(self.matrices([self])[0])
        if useless.any():
            raise NotInvertible(self, self.problem() or SINGULAR)
        return mix(z, weight[0])

    def problem(self) -> str | None:
        """Why this layer cannot be inverted, or None."""
        if not all_finite(self):
            return NOT_FINITE
        return SINGULAR if inverses(self.matrices([self])[0])[1].any() else None


NOT_FINITE, SINGULAR = "it holds NaN or infinity", "its matrix is singular"


class Permutation(Mixing):
    """z_c = x_{order(c)}: a fixed order of the channels; volume is preserved.

    Args:
        order: each of 0 to C − 1 once.

    >>> Permutation([2, 0, 1])(torch.tensor([[10.0, 11.0, 12.0]]))[0]
    tensor([[12., 10., 11.]])
    """

    order: Tensor

    def __init__(self, order: Sequence[int] | Tensor):
        super().__init__()
        order = torch.as_tensor(order)
        if not order.is_meta and not torch.equal(order.sort().values, torch.arange(len(order), device=order.device)):
            raise TriptychError(f"an order should contain each of 0 to {len(order) - 1} once, got {order.tolist()}")
        self.channels = len(order)
        self.register_buffer("order", order)

    @classmethod
    def reverse(cls, channels: int) -> Permutation:
        """RealNVP's: the last channel first."""
        return cls(torch.arange(channels - 1, -1, -1))

    @classmethod
    def shuffle(cls, channels: int) -> Permutation:
        """A random order, drawn once from torch's random state."""
        return cls(torch.randperm(channels))

    @classmethod
    def matrices(cls, layers: Sequence[Any]) -> tuple[Tensor, Tensor]:
        order = torch.stack([layer.order for layer in layers])
        weight = F.one_hot(order, order.shape[1]).to(torch.get_default_dtype())
        return weight, weight.new_zeros(len(layers))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x[:, self.order], zero_ladj(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z[:, self.order.argsort()]


class InvertibleLU(Mixing):
    """The invertible 1×1 convolution as W = P L (U + diag(s)), log |det W| = Σ log |s| (Glow, eqs. 10 and 11).

    P is a fixed permutation, L unit lower and U strictly upper triangular; s keeps its signs, and log |s| is what is
    learned, so W can never become singular. It starts as a random rotation.

    Args:
        channels: C.

    >>> layer = InvertibleLU(4)
    >>> x = torch.randn(2, 4, 3, 3)
    >>> z, ladj = layer(x)
    >>> torch.allclose(layer.inverse(z), x, atol=1e-5), ladj.abs().max().item() < 1e-4
    (True, True)
    """

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        order, lower, upper = torch.linalg.lu(_rotation(channels))
        s = upper.diagonal()
        self.register_buffer("order", order.argmax(1))  # row i of W is row order(i) of L (U + diag(s))
        self.register_buffer("sign", s.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_s = nn.Parameter(s.abs().log())

    @classmethod
    def matrices(cls, layers: Sequence[Any]) -> tuple[Tensor, Tensor]:
        order, sign, log_s, lower, upper = (
            torch.stack([getattr(layer, name) for layer in layers]) for name in ("order", "sign", "log_s", "lower", "upper")
        )
        unit = torch.eye(log_s.shape[1], dtype=log_s.dtype, device=log_s.device)
        product = (lower.tril(-1) + unit) @ (upper.triu(1) + torch.diag_embed(sign * log_s.exp()))
        return torch.take_along_dim(product, order[..., None], dim=1), log_s.sum(1)


class Invertible1x1(Mixing):
    """The invertible 1×1 convolution with a plain matrix W; log |det W| costs O(C³) (Glow, eq. 9).

    Args:
        channels: C.

    >>> layer, x = Invertible1x1(4), torch.randn(2, 4, 3, 3)
    >>> z, ladj = layer(x)
    >>> torch.allclose(layer.inverse(z), x, atol=1e-5), ladj.abs().max().item() < 1e-4  # it starts as a rotation
    (True, True)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(_rotation(channels))

    @classmethod
    def matrices(cls, layers: Sequence[Any]) -> tuple[Tensor, Tensor]:
        weight = torch.stack([layer.weight for layer in layers])
        return weight, torch.linalg.slogdet(weight).logabsdet


def _rotation(channels: int) -> Tensor:
    """A random orthogonal matrix, Haar-distributed: the Q of a Gaussian matrix, with signs that R's diagonal gives."""
    q, r = torch.linalg.qr(torch.randn(channels, channels))
    return q * r.diagonal().sign()
