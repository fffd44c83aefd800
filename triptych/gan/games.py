"""What each side of the game minimises, as functions of the discriminator's logits, and what theory says about best play.

D(x) = σ(logit). Every loss is a value for each example, for the caller to average.

Shapes: B batch, N grid points.
    real, fake    (B,)   logits of data x and of samples G(z)
    log_p, log_q  (N,)   log densities in nats, −∞ where the density is 0

Game          D minimises                    G minimises
minimax       softplus(−r) + softplus(f)     −softplus(f)       Goodfellow et al. 2014, eq. 1
nonsaturating softplus(−r) + softplus(f)     softplus(−f)       the same, section 3
wgan          f − r                          −f                 Arjovsky et al. 2017, arXiv 1701.07875
relativistic  softplus(f − r)                softplus(r − f)    Jolicoeur-Martineau 2019, arXiv 1807.00734

With both of Mescheder et al.'s penalties the last is R3GAN's game (Huang et al. 2024, arXiv 2501.05441).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.errors import TriptychError

Side = Callable[[Tensor, Tensor], Tensor]  # logits of real and fake examples (B,) -> what one side minimises, (B,)


@dataclass(frozen=True)
class Game:
    """One loss for each side, of logits real and fake: see `GAMES`.

    Attributes:
        discriminator: what D minimises, (B,).
        generator: what G minimises, (B,); `real` is ignored, and may be None, unless the game `pairs`.
        pairs: whether the generator's loss compares with real data: where it does not, their logits need not be computed.
        shift_free: whether a constant added to D changes no gradient of either side: then a logit's sign says nothing, and
            σ(logit) is not a probability.
    """

    discriminator: Side
    generator: Callable[[Tensor | None, Tensor], Tensor]
    pairs: bool = False
    shift_free: bool = False

    def confidence(self, real: Tensor, fake: Tensor) -> Tensor:
        """How sure D is of training data, a scalar from −1 to 1: the measure of overfitting that ada follows.

        E sign D(x) (r_t of Karras et al. 2020, arXiv 2006.06676, section 3), or E sign(D(x) − D(G(z))) where the game is
        `shift_free`: the share of pairs ranked rightly, less that of the others.

        >>> real, fake = torch.tensor([9.0, 7.0]), torch.tensor([8.0, 5.0])
        >>> GAMES["nonsaturating"].confidence(real, fake), GAMES["relativistic"].confidence(real, fake)
        (tensor(1.), tensor(1.))
        >>> real, fake = real - 9.5, fake - 9.5
        >>> GAMES["nonsaturating"].confidence(real, fake), GAMES["relativistic"].confidence(real, fake)
        (tensor(-1.), tensor(1.))
        """
        return (paired(real, fake) - fake if self.shift_free else real).detach().float().sign().mean()

    def confident_as(self, r: float) -> float:
        """The `confidence` of a D whose E sign D(x) is r once its logits are shifted best: see `among_pairs`."""
        return among_pairs(r) if self.shift_free else r


def value(real: Tensor, fake: Tensor) -> Tensor:
    """log D(x) + log(1 − D(G(z))) of each pair, (B,) nats: its mean is V(D, G), −log 4 at the equilibrium (eq. 1).

    >>> value(torch.zeros(2), torch.zeros(2))
    tensor([-1.3863, -1.3863])
    """
    return -F.softplus(-paired(real, fake)) - F.softplus(fake)


def paired(real: Tensor | None, fake: Tensor) -> Tensor:
    """`real` itself if it has the shape of `fake`: broadcasting would silently compare each with all."""
    if real is None or real.shape != fake.shape:
        got = None if real is None else tuple(real.shape)
        raise TriptychError(
            f"real and fake examples should have one shape, got {got} and {tuple(fake.shape)}: "
            "draw one sample for each example"
        )
    return real


GAMES: dict[str, Game] = {
    # both sides play for V: G's slope vanishes while D is sure
    "minimax": Game(lambda real, fake: -value(real, fake), lambda real, fake: -F.softplus(fake)),
    # G maximises log D(G(z)) instead: the same fixed point, with strong gradients early on
    "nonsaturating": Game(lambda real, fake: -value(real, fake), lambda real, fake: F.softplus(-fake)),
    # the earth mover's distance once |D(x) − D(y)| ≤ |x − y|: to be played with a gradient penalty
    "wgan": Game(lambda real, fake: fake - paired(real, fake), lambda real, fake: -fake, shift_free=True),
    # each fake example is measured against a real one, so that no mode can be dropped for free
    "relativistic": Game(
        lambda real, fake: F.softplus(fake - paired(real, fake)),
        lambda real, fake: F.softplus(paired(real, fake) - fake),
        pairs=True,
        shift_free=True,
    ),
}


def among_pairs(r: float) -> float:
    """E sign(D(x) − D(G(z))) where E sign D(x) = r = −E sign D(G(z)), of logits normal with one spread.

    A share (1 + r) / 2 of the data above 0 means that their mean is s = Φ⁻¹((1 + r) / 2) spreads above it; the samples'
    is as far below. A difference is then N(2s, 2) in spreads, above 0 with probability Φ(√2 s); the result is 2 Φ(√2 s) − 1.

    Args:
        r: above −1 and below 1.

    >>> round(among_pairs(0.6), 3)  # 80 % of the data on their side of 0: 88 % of the pairs ranked rightly
    0.766
    """
    normal = NormalDist()
    return 2 * normal.cdf(math.sqrt(2) * normal.inv_cdf((1 + r) / 2)) - 1


def optimal_discriminator(log_p: Tensor, log_p_g: Tensor) -> Tensor:
    """D* = p / (p + p_g) as a logit, log p − log p_g (proposition 1); where neither has density D* is free, and ½ here.

    >>> optimal_discriminator(torch.tensor([0.75]).log(), torch.tensor([0.25]).log()).sigmoid()
    tensor([0.7500])
    """
    neither = log_p.isneginf() & log_p_g.isneginf()
    return torch.where(neither, 0.0, log_p - log_p_g)


def criterion(log_p: Tensor, log_p_g: Tensor, spacing: float) -> Tensor:
    """C(G) = max_D V(D, G) = ∫ p log D* + p_g log(1 − D*), a scalar in nats (eq. 4), of densities on a grid.

    By theorem 1 it is −log 4 + 2 JSD(p ‖ p_g), and so −log 4 at best.

    Args:
        log_p, log_p_g: log densities at the grid's points, of one shape.
        spacing: the length that a point stands for, or the area on a grid in the plane.

    >>> log_p = torch.full((100,), 0.01, dtype=torch.float64).log()
    >>> criterion(log_p, log_p, 1.0), -2 * math.log(2)
    (tensor(-1.3863, dtype=torch.float64), -1.38629...)
    """
    logit = optimal_discriminator(log_p, log_p_g)
    return spacing * (_weighted(log_p, F.logsigmoid(logit)) + _weighted(log_p_g, F.logsigmoid(-logit)))


def jensen_shannon(log_p: Tensor, log_q: Tensor, spacing: float) -> Tensor:
    """JSD = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, a scalar in nats from 0 to log 2, of densities on a grid.

    Args:
        log_p, log_q: log densities at the grid's points, of one shape.
        spacing: the length that a point stands for, or the area on a grid in the plane.

    >>> jensen_shannon(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log(), 1.0)  # nothing shared: log 2
    tensor(0.6931)
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * spacing * (_weighted(log_p, log_p - log_m) + _weighted(log_q, log_q - log_m))


def _weighted(log_p: Tensor, values: Tensor) -> Tensor:
    """Σ p · values over the points with p > 0: elsewhere a value may be infinite or NaN."""
    return torch.where(log_p.isneginf(), 0.0, log_p.exp() * values).sum()
