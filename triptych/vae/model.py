"""The variational autoencoder: q(z|x), p(x|z) and p(z), each given a context c where there is one.

Shapes: B batch, L latent_dim, S draws, K context_dim, E event_shape.
    x (B, *E) · mu, log_sigma (B, L) · z (B, L) or (S, B, L) · h (B, outputs, *E) the decoder's raw outputs · context (B, K)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from triptych.capabilities import Encodes, HasDensity, HasPosterior
from triptych.checking import check_argument
from triptych.core import GenerativeModel, Prior
from triptych.parts import call, check_output, check_part
from triptych.vae.defaults import LATENT_DIM, convolutions, default_likelihood, perceptrons, suited_to_convolutions
from triptych.vae.estimators import draw, log_terms
from triptych.vae.likelihoods import Likelihood
from triptych.vae.posteriors import Noise, NormalNoise


class VAE(GenerativeModel, Encodes, HasDensity, HasPosterior):
    """A variational autoencoder (Kingma & Welling 2013, arXiv 1312.6114), of any networks.

        log p(x|c) ≥ E_q(z|x,c)[log p(x|z,c)] − KL(q(z|x,c) ‖ p(z)),   q(z|x,c) = N(μ(x,c), diag σ²(x,c))

    Any part but the event's shape may be left out; `triptych.vae.defaults` says what is taken then.

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        latent_dim: L.
        encoder: a module x (B, *E) -> (B, 2 L), μ and log σ; with a context, (x, context) -> (B, 2 L).
        decoder: a module z (B, L) -> anything that views as (B, likelihood.outputs, *E); with a context, of (z, context).
        likelihood: p(x|z), which also says how stored values are read: see `triptych.vae.likelihoods`.
        prior: p(z): None for N(0, I), a learned one of `triptych.compose`, or a model of vectors (L,) with a density.
        posterior: the noise ε of q(z|x): z = μ + σ ⊙ ε; None for the Gaussian's: see `triptych.vae.posteriors`.
        context_dim: K; 0 without a condition.

    Raises:
        TriptychError: for a part that cannot be called as it should, or whose outputs have another shape than expected.

    >>> model = VAE((1, 28, 28), latent_dim=20)
    >>> x = torch.bernoulli(torch.full((2, 1, 28, 28), 0.5))
    >>> model.encode(x).shape, model.decode(torch.zeros(2, 20)).shape, model.log_prob(x, k=5).shape
    (torch.Size([2, 20]), torch.Size([2, 1, 28, 28]), torch.Size([2]))
    >>> model = VAE((6,), 2, encoder=nn.Linear(6, 4), decoder=nn.Linear(2, 6))
    >>> model.sample(3).shape
    torch.Size([3, 6])
    """

    bound: Literal["exact", "lower"] = "lower"

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = LATENT_DIM,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        likelihood: Likelihood | None = None,
        prior: nn.Module | None = None,
        posterior: Noise | None = None,
        context_dim: int = 0,
    ):
        likelihood = default_likelihood(event_shape) if likelihood is None else likelihood
        check_part(likelihood, "the likelihood", kind=Likelihood)
        super().__init__(event_shape, latent_dim, likelihood.codec, context_dim=context_dim, prior=prior)
        noise = NormalNoise() if posterior is None else check_part(posterior, "the posterior", kind=Noise)
        self.likelihood, self.noise = likelihood, noise
        if isinstance(self.prior, Prior):
            self.prior.attach(self)
        if encoder is None or decoder is None:
            build = convolutions if suited_to_convolutions(event_shape) else perceptrons
            networks = build(self.event_shape, latent_dim, likelihood, context_dim=context_dim)
            encoder = networks[0] if encoder is None else encoder
            decoder = networks[1] if decoder is None else decoder
        told = ("context",) if context_dim else ()
        self.encoder = check_part(encoder, "the encoder", "x", *told)
        self.decoder = check_part(decoder, "the decoder", "z", *told)

    @property
    def measure(self) -> Literal["density", "mass"]:  # type: ignore[override]
        """The likelihood's: a density over x, or a mass."""
        return self.likelihood.measure

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Initialises a flow that is the prior from the codes of a first batch x (B, *E); a `Prior` is fitted later."""
        if isinstance(self.prior, GenerativeModel):
            self.prior.initialize(draw(self, x, context).z[0])

    def posterior(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """q(z|x): the mean and log σ, each (B, L)."""
        context = self.check_context(context, len(self.check_coordinates(x)))
        with self.networks():
            h = call(self.encoder, x, context)
        h = check_output(self.encoder, "the encoder", h, (len(x), 2 * self.latent_dim))
        mu, log_sigma = h.to(x.dtype).chunk(2, dim=1)
        return mu, log_sigma

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The posterior mean, (B, L)."""
        return self.posterior(x, context)[0]

    def outputs(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The decoder's raw outputs h (B, outputs, *E)."""
        context = self.check_context(context, len(self.check_latent(z)))
        with self.networks():
            h = call(self.decoder, z, context)
        expected = (len(z), self.likelihood.outputs, *self.event_shape)
        if not isinstance(h, Tensor) or len(h) != len(z) or h.numel() != math.prod(expected):
            check_output(self.decoder, "the decoder", h, expected)
        return h.to(z.dtype).reshape(expected)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """E[x|z], (B, *E)."""
        return self.likelihood.mean(self.outputs(z, context))

    @torch.no_grad()
    def observe(self, z: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """A draw x ~ p(x|z), (B, *E): the picture with the model's own noise."""
        return self.likelihood.observe(self.outputs(z, context), generator)

    def log_likelihoods(self, x: Tensor, z: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(x|z) for z (S, B, L), S codes for each example: (S, B) nats."""
        draws, context = len(z), self.check_context(context, len(x))
        repeated = x.expand(draws, *x.shape).flatten(0, 1)  # (S·B, *E)
        context = None if context is None else context.repeat(draws, 1)
        return self.likelihood.log_prob(repeated, self.outputs(z.flatten(0, 1), context)).view(draws, -1)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, k: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """The importance-weighted bound log 1/k Σ w, (B,) nats, tighter with k (Burda et al. 2016, arXiv 1509.00519).

        Memory stays bounded whatever k is: draws are taken in chunks and summed in float64.
        """
        check_argument("k", k, int)
        self.likelihood.check(self.check_coordinates(x))
        chunk = max(1, _CHUNK_VALUES // max(1, x.numel()))
        total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        for start in range(0, k, chunk):
            log_px, log_pz, log_qz = log_terms(self, x, context, min(chunk, k - start), generator)
            log_w = log_px + log_pz - log_qz
            total = torch.logaddexp(total, log_w.double().logsumexp(0))
        return (total - math.log(k)).to(x.dtype)


_CHUNK_VALUES = 2**23  # pictures' values decoded at once by log_prob: 32 MB in float32 an activation
