"""Coupling layers: one part of the event passes, and says how the other part is transformed (NICE 3.1, RealNVP 3.2).

Shapes: a (B, C_a, *S) the part that passes, b (B, C_b, *S) the part that is changed,
        h (B, outputs · C_b, *S) what the conditioner makes of a.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from triptych.errors import TriptychError
from triptych.flow.bijection import Bijection, by_channel, no_change, sum_event
from triptych.flow.conditioners import Conditioner


class Transform(nn.Module, ABC):
    """What a coupling does to b, given h.

    Attributes:
        outputs: how many values of h each value of b takes.
    """

    outputs: int

    @abstractmethod
    def forward(self, b: Tensor, h: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """b -> its image and ladj (B,); `where` (0 or 1) says which values count."""

    @abstractmethod
    def inverse(self, b: Tensor, h: Tensor) -> Tensor:
        """The way back."""


class StepTransform(Transform):
    """A transform with its gradient by hand, for flow steps: in place, and from the image alone.

    These work on rows, channels at the end: b (B, |S|, C_b), h (B, |S|, outputs · C_b), as matrix products leave them.
    """

    @abstractmethod
    def terms(self, h: Tensor, axis: int = -1) -> tuple[Tensor, ...]:
        """What h means; its parts lie side by side along `axis`."""

    @abstractmethod
    def do_(self, b: Tensor, terms: tuple[Tensor, ...]) -> Tensor:
        """Changes b in place; returns ladj (B,)."""

    @abstractmethod
    def undo_(self, b: Tensor, terms: tuple[Tensor, ...]) -> None:
        """Takes the change of b back, in place."""

    @abstractmethod
    def gradients(self, image: Tensor, terms: tuple[Tensor, ...], grad: Tensor, grad_ladj: Tensor, out: Tensor) -> Tensor:
        """The gradient by h, and into `out` that by b, from those by the image and by ladj (B, 1, 1)."""


class Additive(StepTransform):
    """b + h (NICE, eq. 9): volume is kept."""

    outputs = 1

    def forward(self, b: Tensor, h: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return b + h, no_change(b)

    def inverse(self, b: Tensor, h: Tensor) -> Tensor:
        return b - h

    def terms(self, h: Tensor, axis: int = -1) -> tuple[Tensor, ...]:
        return (h,)

    def do_(self, b: Tensor, terms: tuple[Tensor, ...]) -> Tensor:
        return no_change(b.add_(terms[0]))

    def undo_(self, b: Tensor, terms: tuple[Tensor, ...]) -> None:
        b.sub_(terms[0])

    def gradients(self, image: Tensor, terms: tuple[Tensor, ...], grad: Tensor, grad_ladj: Tensor, out: Tensor) -> Tensor:
        out.copy_(grad)
        return grad.contiguous()


class Affine(StepTransform):
    """(b + t) ⊙ s with s = f + (1 − f) σ(r + 2) and (t, r) = h: Glow's affine coupling, its scale bounded below by f.

    Without the bound σ may come as near to 0 as it likes, and the way back multiplies by as much: samples explode
    while the likelihood looks fine. ladj = Σ log s.

    Args:
        floor: f, the smallest scale, at least 0 (the paper's) and below 1.
    """

    outputs = 2

    def __init__(self, floor: float = 0.05):
        super().__init__()
        if not 0 <= floor < 1:
            raise TriptychError(f"the smallest scale should be at least 0 and below 1, got {floor}")
        self.floor = floor

    def forward(self, b: Tensor, h: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t, s, _ = self.terms(h, axis=1)
        log_s = s.log()
        return (b + t) * s, sum_event(log_s if where is None else log_s * where)

    def inverse(self, b: Tensor, h: Tensor) -> Tensor:
        t, s, _ = self.terms(h, axis=1)
        return b / s - t

    def terms(self, h: Tensor, axis: int = -1) -> tuple[Tensor, ...]:
        """t, s, and σ(r + 2)."""
        t, r = h.chunk(2, axis)
        q = (r + 2).sigmoid_()
        return t, (q * (1 - self.floor)).add_(self.floor), q

    def do_(self, b: Tensor, terms: tuple[Tensor, ...]) -> Tensor:
        t, s, _ = terms
        b.add_(t).mul_(s)
        return s.log().sum((1, 2))

    def undo_(self, b: Tensor, terms: tuple[Tensor, ...]) -> None:
        t, s, _ = terms
        b.div_(s).sub_(t)

    def gradients(self, image: Tensor, terms: tuple[Tensor, ...], grad: Tensor, grad_ladj: Tensor, out: Tensor) -> Tensor:
        _, s, q = terms
        by_h = s.new_empty(*s.shape[:-1], 2 * s.shape[-1])
        by_t, by_r = by_h.chunk(2, -1)
        torch.mul(grad, s, out=out)
        by_t.copy_(out)
        by_log_s = torch.addcmul(grad_ladj, grad, image)  # the image is (b + t) s
        torch.div(torch.ops.aten.sigmoid_backward(by_log_s, q), s, out=by_r)  # by_log_s · q (1 − q) / s …
        by_r.mul_(1 - self.floor)  # … · ∂s/∂q
        return by_h


class TanhAffine(Transform):
    """b ⊙ exp(g ⊙ tanh(r)) + t with (t, r) = h: RealNVP's, its scale a tanh times a learned factor (section 4.1).

    ladj = Σ g tanh(r). |g| bounds every log-scale, so that neither direction can explode while g is tame.

    Args:
        channels: of b; g is one number for each.
    """

    outputs = 2

    def __init__(self, channels: int):
        super().__init__()
        self.g = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, b: Tensor, h: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t, log_s = self.terms(h)
        return b * log_s.exp() + t, sum_event(log_s if where is None else log_s * where)

    def inverse(self, b: Tensor, h: Tensor) -> Tensor:
        t, log_s = self.terms(h)
        return (b - t) * (-log_s).exp()

    def terms(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """t and log s."""
        t, r = h.chunk(2, 1)
        return t, by_channel(self.g, r) * torch.tanh(r)


class Coupling(Bijection):
    """z_a = x_a, z_b = transform(x_b; net(x_a)): the Jacobian is triangular, whatever the net.

    Args:
        net: conditioner, x_a (B, C_a, *S) -> h (B, outputs · C_b, *S).
        transform: `Affine` or `Additive`.
        split: C_a, how many of the first channels pass; any number from 1 to C − 1.
        flip: the first `split` channels are changed by the others instead.

    >>> from triptych.flow.conditioners import ConvNet
    >>> layer = Coupling(ConvNet((2, 4, 4), 6, width=8), Affine(), split=2)  # 2 channels pass, 3 are changed
    >>> x = torch.randn(7, 5, 4, 4)
    >>> z, ladj = layer(x)
    >>> torch.equal(z[:, :2], x[:, :2]), torch.allclose(layer.inverse(z), x, atol=1e-6)
    (True, True)
    """

    def __init__(self, net: Conditioner, transform: Transform, split: int, flip: bool = False):
        super().__init__()
        if split < 1:
            raise TriptychError(f"split, how many channels come first, should be 1 to C − 1, got {split}")
        self.net, self.transform = net, transform
        self.split, self.flip = split, flip

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x_a and x_b."""
        if self.split >= x.shape[1]:
            raise TriptychError(f"split={self.split} leaves none of {x.shape[1]} channels to couple with: use 1 to C − 1")
        first, rest = x.split([self.split, x.shape[1] - self.split], 1)
        return (rest, first) if self.flip else (first, rest)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.flip else [a, b], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.parts(x)
        b, ladj = self.transform(b, self._terms(a, b))
        return self.join(a, b), ladj

    def inverse(self, z: Tensor) -> Tensor:
        a, b = self.parts(z)
        return self.join(a, self.transform.inverse(b, self._terms(a, b)))

    def _terms(self, a: Tensor, b: Tensor) -> Tensor:
        """h; one value of it for many of b would broadcast, and be counted once in ladj."""
        return _checked(self.net(a), self.transform, b)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        self.net.initialize(self.parts(x)[0])
        return self(x)[0]


class CheckerboardCoupling(Bijection):
    """Positions whose coordinates add up to an odd number pass, the others are changed (RealNVP, figure 3); or the reverse.

    z = m ⊙ x + (1 − m) ⊙ transform(x; net(m ⊙ x)).

    Args:
        net: conditioner, (B, C, *S) -> (B, outputs · C, *S).
        transform: `Affine` or `Additive`.
        flip: the even ones pass.
    """

    def __init__(self, net: Conditioner, transform: Transform, flip: bool = False):
        super().__init__()
        self.net, self.transform, self.flip = net, transform, flip

    def mask(self, x: Tensor) -> Tensor:
        """1 where x passes, else 0: (1, 1, *S), or (1, D) of a vector, whose features are its positions."""
        return checkerboard(x, self.flip)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mask = self.mask(x)
        a = x * mask
        b, ladj = self.transform(x, _checked(self.net(a), self.transform, x), 1 - mask)
        return torch.where(mask.bool(), x, b), ladj

    def inverse(self, z: Tensor) -> Tensor:
        mask = self.mask(z)
        return torch.where(mask.bool(), z, self.transform.inverse(z, self.net(z * mask)))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        self.net.initialize(x * self.mask(x))
        return self(x)[0]


def _checked(h: Tensor, transform: Transform, b: Tensor) -> Tensor:
    expected = transform.outputs * b.shape[1]
    if h.shape[1] != expected:
        raise TriptychError(
            f"a coupling of {b.shape[1]} channels by {type(transform).__name__} takes {expected} outputs of its network, "
            f"got {h.shape[1]}"
        )
    return h


def checkerboard(x: Tensor, flip: bool = False) -> Tensor:
    """1 where a position's coordinates add up to an odd number (flip: even), else 0: (1, 1, *S), or (1, D) of a vector."""
    shape = x.shape[2:] if x.ndim > 2 else x.shape[1:]
    total: Tensor = torch.zeros((), dtype=torch.long, device=x.device)
    for axis, size in enumerate(shape):
        steps = torch.arange(size, device=x.device)
        total = total + steps.view(-1, *(1,) * (len(shape) - axis - 1))
    mask = ((total + flip) % 2).to(x.dtype)
    return mask.view(1, *(1,) * (x.ndim - 1 - len(shape)), *shape)
