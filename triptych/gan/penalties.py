"""What keeps a discriminator smooth, so that the game converges: penalties on its gradient, differentiable once more.

D sees examples through an augmentation T. R1 and R2 are ½ |∇_x D(T(x))|², at x before it, as in the code of ADA (Karras et
al. 2020, arXiv 2006.06676) and of R3GAN (Huang et al. 2024, arXiv 2501.05441). WGAN-GP's slope is that of D itself, between
what it is shown.

Gradients are in the units of x: in [0, 1] for pictures. Papers that use [−1, 1] see half the slope, and so a quarter of its
square: their weight γ on ½|∇D|² is γ / 4 here.

Shapes: B batch, E event shape.
    x, real, fake (B, *E) · logits (B,) · penalties (B,)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from triptych.errors import TriptychError
from triptych.gan.games import paired

Judge = Callable[[Tensor], Tensor]  # x (B, *E) -> logits (B,)
Change = Callable[[Tensor], Tensor]  # x (B, *E) -> T(x) (B, *E), as D is shown it


def unchanged(x: Tensor) -> Tensor:
    """x itself: no augmentation."""
    return x


class Verdicts(NamedTuple):
    """D's logits of real and fake examples, (B,) each, the penalty's mean, a scalar, and the real examples as D saw them."""

    real: Tensor
    fake: Tensor
    penalty: Tensor
    shown: Tensor


@dataclass(frozen=True)
class Penalty:
    """How a discriminator's gradient is penalised: not at all here, in some way by the subclasses.

    Attributes:
        weight: of the penalty in D's loss.
        every: steps between two penalties, whose weight grows as much (lazy regularisation).
    """

    weight: float = 0.0
    every: int = 1

    def due(self, step: int) -> bool:
        """Whether D is penalised at `step`: the last of every so many, so that the log, at round numbers, shows it."""
        return (step + 1) % self.every == 0

    def judge(self, judge: Judge, real: Tensor, fake: Tensor, change: Change = unchanged) -> Verdicts:
        """Logits of real and fake examples (B, *E), both without a graph, shown through T = change, and the penalty."""
        shown, shown_fake = change(real), change(fake)
        return Verdicts(judge(shown), judge(shown_fake), real.new_zeros(()), shown)


@dataclass(frozen=True)
class ZeroCentred(Penalty):
    """½ |∇D(T(x))|² at real examples: R1; with `samples` at fake ones too: R1 and R2 (Mescheder et al. 2018).

    >>> ZeroCentred().judge(lambda x: x.sum(1), torch.zeros(2, 3), torch.zeros(2, 3)).penalty
    tensor(1.5000)
    """

    weight: float = 0.1
    every: int = 4
    samples: bool = False

    def judge(self, judge: Judge, real: Tensor, fake: Tensor, change: Change = unchanged) -> Verdicts:
        real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_(self.samples)
        verdicts = super().judge(judge, real, fake, change)
        penalty = verdicts.penalty + zero_centred(verdicts.real, real).mean()
        if self.samples:
            penalty = penalty + zero_centred(verdicts.fake, fake).mean()
        return verdicts._replace(penalty=penalty)


@dataclass(frozen=True)
class TowardsSlope(Penalty):
    """(|∇D| − slope)² / slope² between real and fake examples as they are shown: WGAN-GP, Wasserstein's game with a penalty.

    Attributes:
        slope: 1 in Gulrajani et al. 2017, whose pictures lie in [−1, 1]: 2 for pictures in [0, 1].
    """

    weight: float = 10.0
    slope: float = 1.0

    def judge(self, judge: Judge, real: Tensor, fake: Tensor, change: Change = unchanged) -> Verdicts:
        real, fake = change(real), change(fake)
        verdicts = super().judge(judge, real, fake)
        penalty = gradient_penalty(judge, real, fake, target=self.slope).mean() / self.slope**2
        return verdicts._replace(penalty=penalty)


def zero_centred(logits: Tensor, x: Tensor) -> Tensor:
    """½ |∇_x D(x)|², (B,): R1 on real examples, R2 on samples (Mescheder et al. 2018, arXiv 1801.04406, eq. 9 and 10).

    Args:
        logits: D(x), computed from x after `x.requires_grad_()`.
        x: real examples, or samples detached from the generator.

    Raises:
        TriptychError: when x does not require its gradient.

    >>> x = torch.tensor([[3.0, 4.0]]).requires_grad_()
    >>> zero_centred(x.square().sum(1), x)  # ∇ = 2x, so 2 · 25
    tensor([50.], grad_fn=<MulBackward0>)
    """
    return 0.5 * _gradient(logits, x).square().sum(1)


def gradient_penalty(discriminator: Judge, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    """(|∇ D(x̂)| − target)², (B,), x̂ = x + u (G(z) − x), u ~ U[0, 1) (Gulrajani et al. 2017, arXiv 1704.00028, eq. 3).

    Args:
        discriminator: x (B, *E) -> logits (B,); without batch normalisation, which would mix the examples' gradients.
        real, fake: as many of each; no gradient flows to them. u comes from torch's random state.

    Raises:
        TriptychError: for shapes that differ.

    >>> gradient_penalty(lambda x: 3 * x[:, 0], torch.zeros(2, 4), torch.ones(2, 4))
    tensor([4., 4.])
    """
    real = paired(real, fake)
    u = torch.rand(len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
    between = torch.lerp(real.detach(), fake.detach(), u).requires_grad_()
    # vector_norm, for its gradient at 0 is 0: a square root's is infinite, and one dead unit would spoil the step
    length = torch.linalg.vector_norm(_gradient(discriminator(between), between), dim=1)
    return (length - target).square()


def _gradient(logits: Tensor, x: Tensor) -> Tensor:
    """∇_x Σ D(x), flat (B, D): each example's own gradient, as D scores each by itself (but see `MinibatchStddev`)."""
    if not x.requires_grad or not logits.requires_grad:
        raise TriptychError("a penalty needs D's gradient: compute the logits from x after x.requires_grad_(), with grad on")
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.flatten(1)
