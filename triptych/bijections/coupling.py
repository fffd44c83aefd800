"""Coupling layers: one part of the event passes, and says how the other part is transformed (NICE 3.1, RealNVP 3.2).

Shapes: a (B, C_a, *S) the part that passes, b (B, C_b, *S) the part that is transformed,
        h (B, outputs · C_b, *S) the network's output for a and the context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, per_channel, sum_event, zero_ladj
from triptych.bijections.conditioners import Conditioner
from triptych.errors import TriptychError
from triptych.parts import Part, call, check_output


class Transform(nn.Module, Part, ABC):
    """What a coupling does to each value of b, given h.

    Attributes:
        outputs: how many values of h each value of b takes.
    """

    outputs: int

    @abstractmethod
    def forward(self, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """b -> its image and log |∂image/∂b|, value by value; None in place of zeros where volume is preserved."""

    @abstractmethod
    def inverse(self, image: Tensor, h: Tensor) -> Tensor:
        """The image -> b."""


class StepTransform(Transform):
    """A transform with its gradient written by hand, from the image alone, which flow steps use in place of autograd.

    `do` and `undo` write to `out` where it is given, which may be their first argument. In flow steps channels come last,
    as matrix products leave them: b (B, P, C_b), h (B, P, outputs · C_b).
    """

    @abstractmethod
    def terms(self, h: Tensor, axis: int = -1) -> tuple[Tensor, ...]:
        """The numbers that h stands for; its parts lie side by side along `axis`."""

    @abstractmethod
    def do(self, b: Tensor, terms: tuple[Tensor, ...], out: Tensor | None = None) -> Tensor:
        """The image of b."""

    @abstractmethod
    def undo(self, image: Tensor, terms: tuple[Tensor, ...], out: Tensor | None = None) -> Tensor:
        """b of the image."""

    @abstractmethod
    def log_slope(self, terms: tuple[Tensor, ...]) -> Tensor | None:
        """log |∂image/∂b| of each value, or None in place of zeros."""

    @abstractmethod
    def gradients(self, image: Tensor, terms: tuple[Tensor, ...], grad: Tensor, grad_ladj: Tensor, out: Tensor) -> Tensor:
        """From the gradients with respect to the image and ladj (B, 1, 1), that with respect to h; in `out` that of b."""

    def forward(self, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor | None]:
        terms = self.terms(h, axis=1)
        return self.do(b, terms), self.log_slope(terms)

    def inverse(self, image: Tensor, h: Tensor) -> Tensor:
        return self.undo(image, self.terms(h, axis=1))


class Additive(StepTransform):
    """b + h (NICE, eq. 9): volume is preserved."""

    outputs = 1

    def terms(self, h: Tensor, axis: int = -1) -> tuple[Tensor, ...]:
        return (h,)

    def do(self, b: Tensor, terms: tuple[Tensor, ...], out: Tensor | None = None) -> Tensor:
        return torch.add(b, terms[0], out=out)

    def undo(self, image: Tensor, terms: tuple[Tensor, ...], out: Tensor | None = None) -> Tensor:
        return torch.sub(image, terms[0], out=out)

    def log_slope(self, terms: tuple[Tensor, ...]) -> None:
        return None

    def gradients(self, image: Tensor, terms: tuple[Tensor, ...], grad: Tensor, grad_ladj: Tensor, out: Tensor) -> Tensor:
        out.copy_(grad)
        return grad.contiguous()


class Affine(StepTransform):
    """(b + t) ⊙ s with s = f + (1 − f) σ(r + 2) and (t, r) = h: Glow's affine coupling, its scale bounded below by f.

    Without the bound σ may come as near to 0 as it likes, and the inverse multiplies by as much: samples explode while the
    likelihood looks fine. ladj = Σ log s.

    Args:
        floor: f, the smallest scale, at least 0 (the paper's) and below 1.
    """

    outputs = 2

    def __init__(self, floor: float = 0.05):
        super().__init__()
        if not 0 <= floor < 1:
            raise TriptychError(f"the smallest scale should be at least 0 and below 1, got {floor}")
        self.floor = floor

    def terms(self, h: Tensor, axis: int = -1) -> tuple[Tensor, ...]:
        """t, s, and q = σ(r + 2)."""
        t, r = h.chunk(2, axis)
        q = (r + 2).sigmoid_()
        return t, (q * (1 - self.floor)).add_(self.floor), q

    def do(self, b: Tensor, terms: tuple[Tensor, ...], out: Tensor | None = None) -> Tensor:
        t, s, _ = terms
        return torch.mul(torch.add(b, t, out=out), s, out=out)

    def undo(self, image: Tensor, terms: tuple[Tensor, ...], out: Tensor | None = None) -> Tensor:
        t, s, _ = terms
        return torch.sub(torch.div(image, s, out=out), t, out=out)

    def log_slope(self, terms: tuple[Tensor, ...]) -> Tensor:
        return terms[1].log()

    def gradients(self, image: Tensor, terms: tuple[Tensor, ...], grad: Tensor, grad_ladj: Tensor, out: Tensor) -> Tensor:
        _, s, q = terms
        grad_h = s.new_empty(*s.shape[:-1], 2 * s.shape[-1])
        grad_t, grad_r = grad_h.chunk(2, -1)
        torch.mul(grad, s, out=out)
        grad_t.copy_(out)
        grad_log_s = torch.addcmul(grad_ladj, grad, image)  # the image is (b + t) s
        torch.div(torch.ops.aten.sigmoid_backward(grad_log_s, q), s, out=grad_r)  # grad_log_s · q (1 − q) / s …
        grad_r.mul_(1 - self.floor)  # … · ∂s/∂q
        return grad_h


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

    def forward(self, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        t, log_s = self._terms(h)
        return b * log_s.exp() + t, log_s

    def inverse(self, image: Tensor, h: Tensor) -> Tensor:
        t, log_s = self._terms(h)
        return (image - t) * (-log_s).exp()

    def _terms(self, h: Tensor) -> tuple[Tensor, Tensor]:
        t, r = h.chunk(2, 1)
        return t, per_channel(self.g, r) * torch.tanh(r)


class Coupling(Bijection):
    """z_a = x_a, z_b = transform(x_b; net(x_a, c)): the Jacobian is triangular, whatever the network.

    Args:
        net: any module x_a (B, C_a, *S)[, context] -> h (B, outputs · C_b, *S), such as a `Conditioner`.
        transform: `Affine`, `Additive`, `TanhAffine` or a `Transform` of your own.
        split: how many channels come first; any number from 1 to C − 1.
        flip: False, and the first channels pass; True, and the others do.

    >>> from triptych.bijections import ConvNet
    >>> layer = Coupling(ConvNet((2, 4, 4), 6, width=8), Affine(), split=2)  # 2 channels pass, 3 are transformed
    >>> x = torch.randn(7, 5, 4, 4)
    >>> z, ladj = layer(x)
    >>> torch.equal(z[:, :2], x[:, :2]), torch.allclose(layer.inverse(z), x, atol=1e-6)
    (True, True)
    """

    def __init__(self, net: nn.Module, transform: Transform, split: int, flip: bool = False):
        super().__init__()
        if split < 1:
            raise TriptychError(f"split, how many channels come first, should be 1 to C − 1, got {split}")
        self.net, self.transform = net, transform
        self.split, self.flip = split, flip

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._divide(x)
        b, log_slope = self.transform(b, network_output(self.net, self.transform, a, b, context))
        return self._join(a, b), zero_ladj(x) if log_slope is None else sum_event(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        a, b = self._divide(z)
        return self._join(a, self.transform.inverse(b, network_output(self.net, self.transform, a, b, context)))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if isinstance(self.net, Conditioner):
            self.net.initialize(self._divide(x)[0], context)
        return self(x, context)[0]

    def _divide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x_a and x_b."""
        if self.split >= x.shape[1]:
            raise TriptychError(f"split={self.split} leaves none of {x.shape[1]} channels to couple with: use 1 to C − 1")
        first, rest = x.split([self.split, x.shape[1] - self.split], 1)
        return (rest, first) if self.flip else (first, rest)

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.flip else [a, b], 1)


class CheckerboardCoupling(Bijection):
    """Positions whose coordinates have an odd sum pass, the others are transformed (RealNVP, figure 3); or the reverse.

    z = m ⊙ x + (1 − m) ⊙ transform(x; net(m ⊙ x, c)).

    Args:
        net: any module (B, C, *S)[, context] -> (B, outputs · C, *S), such as a `Conditioner`.
        transform: as of `Coupling`.
        flip: the even ones pass.
    """

    def __init__(self, net: nn.Module, transform: Transform, flip: bool = False):
        super().__init__()
        self.net, self.transform, self.flip = net, transform, flip

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mask = checkerboard(x, self.flip)
        b, log_slope = self.transform(x, network_output(self.net, self.transform, x * mask, x, context))
        ladj = zero_ladj(x) if log_slope is None else sum_event(log_slope * (1 - mask))
        return torch.where(mask.bool(), x, b), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        mask = checkerboard(z, self.flip)
        h = network_output(self.net, self.transform, z * mask, z, context)
        return torch.where(mask.bool(), z, self.transform.inverse(z, h))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if isinstance(self.net, Conditioner):
            self.net.initialize(x * checkerboard(x, self.flip), context)
        return self(x, context)[0]


def network_output(net: nn.Module, transform: Transform, a: Tensor, b: Tensor, context: Tensor | None) -> Tensor:
    """h = net(a, c), if it has a value for each that the transform of b takes: others would broadcast, and ladj be wrong."""
    return check_output(net, "a coupling's network", call(net, a, context), coupling_shape(transform, b))


def coupling_shape(transform: Transform, b: Tensor) -> tuple[int, ...]:
    """The shape of h (B, outputs · C_b, *S)."""
    return (len(b), transform.outputs * b.shape[1], *b.shape[2:])


def checkerboard(x: Tensor, flip: bool = False) -> Tensor:
    """1 where a position's coordinates add up to an odd number (flip: even), else 0: (1, 1, *S), or (1, D) of a vector."""
    shape = x.shape[2:] if x.ndim > 2 else x.shape[1:]
    total: Tensor = torch.zeros((), dtype=torch.long, device=x.device)
    for axis, size in enumerate(shape):
        steps = torch.arange(size, device=x.device)
        total = total + steps.view(-1, *(1,) * (len(shape) - axis - 1))
    mask = ((total + flip) % 2).to(x.dtype)
    return mask.view(1, *(1,) * (x.ndim - 1 - len(shape)), *shape)
