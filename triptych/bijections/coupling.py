"""Coupling layers: one part of the event passes, and says how the other part is transformed (NICE 3.1, RealNVP 3.2).

Shapes: a (B, C_a, *S) the part that passes, b (B, C_b, *S) the part that is transformed,
        h (B, outputs · C_b, *S) the network's output for a and the context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections.bijection import Bijection, per_channel, sum_event, zero_ladj
from triptych.bijections.conditioners import Conditioner, Tensors
from triptych.errors import TriptychError, check_size
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

    def terms(self, h: Tensor, axis: int = -1) -> Tensors:
        """The numbers that h stands for; its parts, where it has several, lie side by side along `axis`."""
        return (h,)

    @abstractmethod
    def do(self, b: Tensor, terms: Tensors, out: Tensor | None = None) -> Tensor:
        """The image of b."""

    @abstractmethod
    def undo(self, image: Tensor, terms: Tensors, out: Tensor | None = None) -> Tensor:
        """b of the image."""

    def log_slope(self, terms: Tensors) -> Tensor | None:
        """log |∂image/∂b| of each value, or None in place of zeros."""
        return None

    @abstractmethod
    def gradients(self, image: Tensor, terms: Tensors, grad: Tensor, grad_ladj: Tensor) -> tuple[Tensor, Tensor]:
        """From the gradients with respect to the image and ladj (B, 1, 1), those with respect to b and h."""

    def forward(self, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor | None]:
        terms = self.terms(h, axis=1)
        return self.do(b, terms), self.log_slope(terms)

    def inverse(self, image: Tensor, h: Tensor) -> Tensor:
        return self.undo(image, self.terms(h, axis=1))


class Additive(StepTransform):
    """b + h (NICE, eq. 9): volume is preserved.

    >>> b, h = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])
    >>> image, log_slope = Additive()(b, h)
    >>> image, log_slope, Additive().inverse(image, h)
    (tensor([[1.5000, 1.0000]]), None, tensor([[1., 2.]]))
    """

    outputs = 1

    def do(self, b: Tensor, terms: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.add(b, terms[0], out=out)

    def undo(self, image: Tensor, terms: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.sub(image, terms[0], out=out)

    def gradients(self, image: Tensor, terms: Tensors, grad: Tensor, grad_ladj: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad.contiguous()


class Affine(StepTransform):
    """(b + t) ⊙ s with s = f + (1 − f) σ(r + 2) and (t, r) = h: Glow's affine coupling, its scale bounded below by f.

    Without the bound σ may come as near to 0 as it likes, and the inverse multiplies by as much: samples explode while the
    likelihood looks fine. ladj = Σ log s.

    Args:
        floor: f, the smallest scale, at least 0 (the paper's) and below 1.

    >>> b, h = torch.randn(3, 2), torch.randn(3, 4)  # h: a shift and the logit of a scale for each value of b
    >>> image, log_s = Affine()(b, h)
    >>> torch.allclose(Affine().inverse(image, h), b, atol=1e-5), log_s.min().item() >= -3.0
    (True, True)
    """

    outputs = 2

    def __init__(self, floor: float = 0.05):
        super().__init__()
        if not 0 <= floor < 1:
            raise TriptychError(f"the smallest scale should be at least 0 and below 1, got {floor}")
        self.floor = floor

    def terms(self, h: Tensor, axis: int = -1) -> Tensors:
        """t, s, and q = σ(r + 2)."""
        t, r = h.chunk(2, axis)
        q = (r + 2).sigmoid_()
        return t, (q * (1 - self.floor)).add_(self.floor), q

    def do(self, b: Tensor, terms: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.mul(torch.add(b, terms[0], out=out), terms[1], out=out)

    def undo(self, image: Tensor, terms: Tensors, out: Tensor | None = None) -> Tensor:
        return torch.sub(torch.div(image, terms[1], out=out), terms[0], out=out)

    def log_slope(self, terms: Tensors) -> Tensor:
        return terms[1].log()

    def gradients(self, image: Tensor, terms: Tensors, grad: Tensor, grad_ladj: Tensor) -> tuple[Tensor, Tensor]:
        _, s, q = terms
        grad_b = grad * s  # and that of t
        grad_log_s = torch.addcmul(grad_ladj, grad, image)  # the image is (b + t) s
        grad_r = torch.ops.aten.sigmoid_backward(grad_log_s, q).div_(s).mul_(1 - self.floor)  # ∂s/∂r = (1 − f) q (1 − q)
        return grad_b, torch.cat([grad_b, grad_r], -1)


class TanhAffine(Transform):
    """b ⊙ exp(g ⊙ tanh(r)) + t with (t, r) = h: RealNVP's, its scale a tanh times a learned factor (section 4.1).

    ladj = Σ g tanh(r). |g| bounds every log-scale, so that neither direction can explode while g is tame.

    Args:
        channels: of b; g is one number for each.

    >>> transform, b, h = TanhAffine(2), torch.randn(3, 2), torch.randn(3, 4)
    >>> image, log_scale = transform(b, h)
    >>> torch.allclose(transform.inverse(image, h), b, atol=1e-5), log_scale.abs().max().item() <= 0.5  # |g|
    (True, True)
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


class _Coupling(Bijection):
    """What passes is in z as in x; the rest is transform(x; net(what passes, c)).

    The Jacobian is triangular, whatever the network.
    """

    transform: Any  # a `Transform`, in flow steps a `StepTransform`

    def __init__(self, net: nn.Module, transform: Transform, flip: bool = False):
        super().__init__()
        self.net, self.transform, self.flip = net, transform, flip

    @abstractmethod
    def divide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """a, what the network sees of x, and b, which is transformed."""

    @abstractmethod
    def join(self, x: Tensor, image: Tensor) -> Tensor:
        """z of the part of x that passes, and the image of b."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self.divide(x)
        image, log_slope = self.transform(b, self.output(a, b, context))
        return self.join(x, image), zero_ladj(x) if log_slope is None else sum_event(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        a, b = self.divide(z)
        return self.join(z, self.transform.inverse(b, self.output(a, b, context)))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if isinstance(self.net, Conditioner):
            self.net.initialize(self.divide(x)[0], context)
        return self(x, context)[0]

    def output(self, a: Tensor, b: Tensor, context: Tensor | None) -> Tensor:
        """h = net(a, c), (B, outputs · C_b, *S)."""
        return self.checked(call(self.net, a, context), b)

    def checked(self, h: object, b: Tensor) -> Tensor:
        """h, if it has a value for each that the transform of b takes: others would broadcast, and ladj be wrong."""
        expected = (len(b), self.transform.outputs * b.shape[1], *b.shape[2:])
        return check_output(self.net, "a coupling's network", h, expected)


class Coupling(_Coupling):
    """z_a = x_a, z_b = transform(x_b; net(x_a, c)), a and b being the first channels and the others, or the reverse.

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
        super().__init__(net, transform, flip)
        check_size("split", split)
        self.split = split

    def divide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.split >= x.shape[1]:
            raise TriptychError(f"split={self.split} leaves none of {x.shape[1]} channels to couple with: use 1 to C − 1")
        first, rest = x.tensor_split((self.split,), 1)
        return (rest, first) if self.flip else (first, rest)

    def join(self, x: Tensor, image: Tensor) -> Tensor:
        passing = self.divide(x)[0]
        return torch.cat([image, passing] if self.flip else [passing, image], 1)


class CheckerboardCoupling(_Coupling):
    """Positions whose coordinates have an odd sum pass, the others are transformed (RealNVP, figure 3); or the reverse.

    z = m ⊙ x + (1 − m) ⊙ transform(x; net(m ⊙ x, c)).

    Args:
        net: any module (B, C, *S)[, context] -> (B, outputs · C, *S), such as a `Conditioner`.
        transform: as of `Coupling`.
        flip: the even ones pass.

    >>> from triptych.bijections import ConvNet
    >>> layer = CheckerboardCoupling(ConvNet((1, 4, 4), 2, width=8), Affine())
    >>> x = torch.randn(7, 1, 4, 4)
    >>> z, ladj = layer(x)
    >>> z[0, 0, 0, 1] == x[0, 0, 0, 1], z[0, 0, 0, 0] == x[0, 0, 0, 0], torch.allclose(layer.inverse(z), x, atol=1e-6)
    (tensor(True), tensor(False), True)
    """

    def divide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * checkerboard(x, self.flip), x

    def join(self, x: Tensor, image: Tensor) -> Tensor:
        return torch.where(checkerboard(x, self.flip).bool(), x, image)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mask = checkerboard(x, self.flip)
        image, log_slope = self.transform(x, self.output(x * mask, x, context))
        ladj = zero_ladj(x) if log_slope is None else sum_event(log_slope * (1 - mask))
        return torch.where(mask.bool(), x, image), ladj


def checkerboard(x: Tensor, flip: bool = False) -> Tensor:
    """1 where a position's coordinates add up to an odd number (flip: even), else 0: (*S), or (D,) for vectors."""
    axes = [torch.arange(size, device=x.device) for size in x.shape[2:] or x.shape[1:]]
    coordinates: Any = torch.meshgrid(axes, indexing="ij")
    return ((sum(coordinates) + flip) % 2).to(x.dtype)
