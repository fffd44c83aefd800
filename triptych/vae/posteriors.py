"""q(z|x): z = μ(x) + σ(x) ⊙ ε, and which noise ε is, independent in each dimension.

    log q(z|x) = Σ_j log p_ε(ε_j) − log σ_j(x)

Shapes: S draws, B batch, L latent_dim. epsilon, z (S, B, L) · mu, log_sigma (B, L)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.distributions import Distribution, Laplace

from triptych.capabilities import HasPosterior
from triptych.core import LOG_2PI
from triptych.distributions import Logistic
from triptych.parts import Part
from triptych.randomness import standard_normal

ACTIVE = 0.01  # variance of the posterior mean over data above which a dimension is active (Burda et al. 2016, section 5)


class Noise(Part, ABC):
    """The noise ε of a reparameterised posterior: of location 0 and scale 1 in each dimension.

    A family of one's own is a subclass that gives its standard distribution, which needs `icdf` and `log_prob`.

    >>> LaplaceNoise().draw(5, 2, 3, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([5, 2, 3])
    """

    @abstractmethod
    def distribution(self) -> Distribution:
        """The distribution of one ε: on all reals, with location 0 and scale 1."""

    def draw(
        self, *shape: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """ε of `shape`, drawn where the generator lives and moved to `device`."""
        u = torch.rand(*shape, generator=generator, device=generator.device if generator is not None else device)
        return self.distribution().icdf(u.clamp(_LEAST, 1 - _LEAST).to(device))

    def log_prob(self, epsilon: Tensor) -> Tensor:
        """log p(ε) over the last axis, in nats."""
        return self.distribution().log_prob(epsilon).sum(-1)


_LEAST = 2.0**-24  # of a float32 u, so that ε stays finite


class NormalNoise(Noise):
    """ε ~ N(0, 1): the diagonal Gaussian posterior, whose KL to N(0, I) has a closed form.

    >>> NormalNoise().log_prob(torch.zeros(2, 3))
    tensor([-2.7568, -2.7568])
    """

    def distribution(self) -> Distribution:
        return torch.distributions.Normal(0.0, 1.0)

    def draw(
        self, *shape: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        return standard_normal(*shape, generator=generator, device=device)

    def log_prob(self, epsilon: Tensor) -> Tensor:
        return -0.5 * (epsilon.square() + LOG_2PI).sum(-1)


class LaplaceNoise(Noise):
    """ε with density ½ e^−|ε|: heavier tails than the Gaussian's.

    >>> LaplaceNoise().log_prob(torch.zeros(1, 2))
    tensor([-1.3863])
    """

    def distribution(self) -> Distribution:
        return Laplace(0.0, 1.0)


class LogisticNoise(Noise):
    """ε with density e^−ε / (1 + e^−ε)².

    >>> LogisticNoise().log_prob(torch.zeros(1, 2))
    tensor([-2.7726])
    """

    def distribution(self) -> Distribution:
        return Logistic(0.0, 1.0)


def noise_of(model: HasPosterior) -> Noise:
    """The noise of a model's posterior z = μ + σ ⊙ ε: the Gaussian's unless the model says otherwise."""
    return getattr(model, "noise", NormalNoise())
