"""Learned priors p(z): what a VAE's codes are distributed as, in place of N(0, I).

A VAE's codes of data, z ~ q(z) = E_x q(z|x), are not N(0, I), and samples decode(z), z ~ N(0, I), pay for the difference
(the "holes" of Rezende & Viola 2018, arXiv 1810.00597). A p(z) fitted to q(z) closes it, and raises the bound by
KL(q(z) ‖ N(0, I)) − KL(q(z) ‖ p(z)), as E_x KL(q(z|x) ‖ p(z)) = I(x; z) + KL(q(z) ‖ p(z)) (Hoffman & Johnson 2016).

Shapes: B batch, L latent_dim, K components, E event_shape. z (B, L) · log p(z) (B,) nats
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triptych.bijections import Bijection, Chain, InvertibleLU, Whiten
from triptych.bijections.actnorm import SeesData
from triptych.capabilities import HasDensity, HasPosterior
from triptych.core import GenerativeModel, Prior, StandardNormal
from triptych.errors import TriptychError, check_size
from triptych.flow import Flow
from triptych.flow.glow import flow_steps
from triptych.randomness import standard_normal
from triptych.vae.posteriors import Noise, NormalNoise, noise_of


class DensityPrior(SeesData, Prior):
    """p(z) by any model of vectors with a density; N(0, I) until `fit` has seen codes.

    Args:
        density: a model of vectors (L,), such as a `Flow`.

    >>> prior = gaussian_prior(2)
    >>> z = torch.randn(500, 2) @ torch.tensor([[3.0, 0.0], [1.0, 0.1]])
    >>> before = prior.log_prob(z).mean()
    >>> prior.fit(z)
    >>> bool(prior.log_prob(z).mean() > before), prior.sample(4).shape
    (True, torch.Size([4, 2]))
    """

    def __init__(self, density: GenerativeModel):
        super().__init__()
        if not isinstance(density, HasDensity) or len(density.event_shape) != 1 or density.context_dim:
            raise TriptychError(
                f"density should be a model of vectors (L,) with a density and no context, got a {type(density).__name__} "
                f"of {getattr(density, 'event_shape', 'no event shape')}: triptych.compose.flow_prior(L) builds one"
            )
        self.density: Any = density
        self.latent_dim = density.event_shape[0]

    def log_prob(self, z: Tensor) -> Tensor:
        return self.density.log_prob(z) if self.ready else StandardNormal().log_prob(z)

    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        if self.ready:
            return self.density.sample(n, temperature=temperature, generator=generator)
        return temperature * standard_normal(n, self.latent_dim, generator=generator, device=self.initialised.device)

    @torch.no_grad()
    def fit(self, z: Tensor, x: Tensor | None = None) -> None:
        """Initialises the density from codes z (n, L), once: what was learned since would be lost.

        Raises:
            TriptychError: where it was fitted before.
        """
        if self.ready:
            raise TriptychError("this prior is fitted already: gradients go on from there; to begin anew, build a new one")
        self.density.initialize(z)
        self.mark()


def gaussian_prior(latent_dim: int) -> DensityPrior:
    """N(m, Σ) with the codes' own mean and covariance, set in closed form; gradients refine a linear map behind it.

    >>> gaussian_prior(3).latent_dim
    3
    """
    return DensityPrior(Flow((latent_dim,), Chain([Whiten(latent_dim), InvertibleLU(latent_dim)])))


def flow_prior(latent_dim: int, depth: int = 8, width: int = 128) -> DensityPrior:
    """A flow: the codes whitened, then flow steps as Glow's on vectors (a prior as in Huang et al. 2017, arXiv 1704.06170).

    Args:
        depth: flow steps.
        width: hidden units of their networks.

    >>> flow_prior(5, depth=2, width=8).latent_dim
    5
    """
    if latent_dim == 1:  # has nothing to couple with
        return gaussian_prior(1)
    layers: list[Bijection] = [Whiten(latent_dim), flow_steps((latent_dim,), depth, width)]
    return DensityPrior(Flow((latent_dim,), Chain(layers)))


class _Components(SeesData, Prior):
    """log p(z) = log Σ_k w_k p_k(z): components with locations μ_k and scales σ_k, z = μ_k + σ_k ⊙ ε."""

    @abstractmethod
    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """log w (K,), μ and log σ (K, L)."""

    @property
    def noise(self) -> Noise:
        """Of ε."""
        return NormalNoise()

    def log_prob(self, z: Tensor) -> Tensor:
        log_w, mu, log_sigma = self.components()
        epsilon = (z[:, None] - mu) * (-log_sigma).exp()  # (B, K, L)
        return (log_w + self.noise.log_prob(epsilon) - log_sigma.sum(1)).logsumexp(1)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        log_w, mu, log_sigma = self.components()
        drawn_on = mu.device if generator is None else generator.device
        k = torch.multinomial(log_w.exp().to(drawn_on), n, replacement=True, generator=generator).to(mu.device)
        epsilon = self.noise.draw(n, self.latent_dim, generator=generator, device=mu.device)
        return mu[k] + temperature * log_sigma[k].exp() * epsilon


class MixturePrior(_Components):
    """A mixture of K Gaussians with diagonal covariances; `fit` starts the means at k-means' centres of the codes.

    Args:
        latent_dim: L.
        components: K.

    >>> prior = MixturePrior(2, components=3)
    >>> prior.fit(torch.randn(100, 2))
    >>> prior.log_prob(torch.zeros(4, 2)).shape, prior.sample(5).shape
    (torch.Size([4]), torch.Size([5, 2]))
    """

    def __init__(self, latent_dim: int, components: int = 100):
        super().__init__()
        check_size("latent_dim", latent_dim, 2**31)
        check_size("components", components, 65_536)
        self.latent_dim = latent_dim
        self.logits = nn.Parameter(torch.zeros(components))
        self.mu = nn.Parameter(0.1 * torch.randn(components, latent_dim))
        self.log_sigma = nn.Parameter(torch.zeros(components, latent_dim))

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.logits.log_softmax(0), self.mu, self.log_sigma

    @torch.no_grad()
    def fit(self, z: Tensor, x: Tensor | None = None) -> None:
        from sklearn.cluster import KMeans

        if not z.isfinite().all():
            raise TriptychError("the codes hold NaN or infinity: no prior can be fitted to them")
        clusters = min(len(self.mu), len(z))
        found = KMeans(clusters, n_init=1, max_iter=20, random_state=0).fit(z.double().cpu().numpy())
        centres = torch.from_numpy(found.cluster_centers_).to(self.mu)
        owner = torch.from_numpy(found.labels_).long().to(z.device)
        within = (z - centres[owner]).square().mean(0).clamp(min=1e-6)  # shared: a small cluster's own would be too small
        # components beyond the codes start beside a centre: two in one place would stay together
        index = torch.arange(len(self.mu), device=z.device)
        again, beside = index % clusters, 0.5 * (index >= clusters)[:, None]
        self.mu.copy_(centres[again] + beside * within.sqrt() * torch.randn_like(self.mu))
        self.log_sigma.copy_(0.5 * within.log().expand_as(self.log_sigma))
        self.logits.copy_((torch.bincount(owner, minlength=clusters) + 1.0).log()[again])
        self.mark()


class VampPrior(_Components):
    """p(z) = 1/K Σ_k q(z|u_k), with learned pseudo-inputs u_k (Tomczak & Welling 2018, arXiv 1705.07120, eq. 9).

    It learns with its VAE, whose posterior it uses, and cannot be fitted afterwards. Pseudo-inputs start at noise around ½;
    `fit` puts them on examples.

    Args:
        latent_dim: L.
        event_shape: E, of the VAE's x.
        components: K (the paper: 500).

    >>> from triptych import VAE
    >>> model = VAE((6,), 2, prior=VampPrior(2, (6,), components=5))
    >>> model.prior.log_prob(torch.zeros(4, 2)).shape, model.sample(3).shape
    (torch.Size([4]), torch.Size([3, 6]))
    """

    alone = False

    def __init__(self, latent_dim: int, event_shape: Sequence[int], components: int = 100):
        super().__init__()
        check_size("components", components, 65_536)
        self.latent_dim = latent_dim
        self.pseudo_inputs = nn.Parameter(0.5 + 0.01 * torch.randn(components, *event_shape))
        self._model: list[HasPosterior] = []  # in a list, which does not register it: the model holds this prior

    def attach(self, model: HasPosterior) -> None:
        self._model = [model]

    @torch.no_grad()
    def fit(self, z: Tensor, x: Tensor | None = None) -> None:
        """Puts the pseudo-inputs on examples x (n, *E), repeated where they are fewer than K; without any they stay."""
        if x is None:
            return
        rows = torch.arange(len(self.pseudo_inputs), device=x.device) % len(x)
        self.pseudo_inputs.copy_(x[rows])
        self.mark()

    @property
    def noise(self) -> Noise:
        return noise_of(self._attached())

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        mu, log_sigma = self._attached().posterior(self.pseudo_inputs)
        return mu.new_full((len(mu),), -math.log(len(mu))), mu, log_sigma

    def _attached(self) -> HasPosterior:
        if not self._model:
            raise TriptychError("a VampPrior is made of a VAE's posterior: give it to one, VAE(…, prior=…)")
        return self._model[0]
