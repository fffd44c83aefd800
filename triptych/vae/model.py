"""The variational autoencoder: q(z|x), p(x|z) and p(z) = N(0, I).

Shapes: B batch, L latent_dim, K importance draws, E event_shape.
    x (B, *E) · mu, log_sigma, z (B, L) · h (B, outputs, *E) the decoder's raw outputs
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from triptych.codec import Codec
from triptych.core import Encodes, GenerativeModel, HasDensity, standard_normal
from triptych.errors import TriptychError
from triptych.nets import MLP, ConvDecoder, ConvEncoder
from triptych.vae.likelihoods import Bernoulli, check_binary, likelihood

LOG_2PI = math.log(2 * math.pi)


class VAE(GenerativeModel, Encodes, HasDensity):
    """A variational autoencoder with a diagonal Gaussian posterior (Kingma & Welling 2013, arXiv 1312.6114).

        log p(x) ≥ E_q(z|x)[log p(x|z)] − KL(q(z|x) ‖ N(0, I)),   q(z|x) = N(μ(x), diag σ²(x))

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        latent_dim: L.
        net: "mlp" (the paper's), "conv" (pictures of any size), or "auto": conv for pictures with colour or sides
            above 28, mlp otherwise.
        hidden: the perceptron's hidden layers in the encoder, mirrored in the decoder.
        activation: the perceptron's: tanh, relu, silu or gelu.
        width, blocks: the convolutional nets' first channel count, and residual blocks at each level.
        likelihood: "bernoulli", "gaussian" or "logistic" (discretised).
        scale: of the last two: "shared" by channel, or "output" by the network for each value.
        mean: of the Gaussian: "sigmoid" for pictures, "linear" for other data.
        bits: depth at which pixels are read.

    Raises:
        TriptychError: for a combination that cannot work; the message says what would.

    >>> model = VAE((1, 28, 28), latent_dim=20, hidden=(500,))
    >>> x = torch.bernoulli(torch.full((2, 1, 28, 28), 0.5))
    >>> model.encode(x).shape, model.decode(torch.zeros(2, 20)).shape, model.log_prob(x, k=5).shape
    (torch.Size([2, 20]), torch.Size([2, 1, 28, 28]), torch.Size([2]))
    """

    bound: Literal["exact", "lower"] = "lower"

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = 20,
        net: Literal["auto", "mlp", "conv"] = "auto",
        hidden: Sequence[int] = (500,),
        activation: str = "tanh",
        width: int = 32,
        blocks: int = 0,
        likelihood: Literal["bernoulli", "gaussian", "logistic"] = "bernoulli",
        scale: Literal["shared", "output"] = "shared",
        mean: Literal["sigmoid", "linear"] = "sigmoid",
        bits: int = 8,
    ):
        arguments: dict[str, Any] = {k: v for k, v in locals().items() if k not in ("self", "event_shape", "__class__")}
        arguments["hidden"] = list(hidden)
        _check_sizes(hidden=min(hidden, default=1), width=width)
        if len(hidden) > _MOST_LAYERS or not 0 <= blocks <= _MOST_LAYERS:
            raise TriptychError(f"hidden layers and blocks should be 0 to {_MOST_LAYERS}, got {len(hidden)} and {blocks}")
        chosen = _likelihood(likelihood, event_shape, scale, mean, bits)
        super().__init__(event_shape, latent_dim, Codec(chosen.reading, bits), arguments)
        self.likelihood = chosen
        self.net = _net(net, self.event_shape)
        self.encoder, self.decoder = self._networks(tuple(hidden), activation, width, blocks)

    def _networks(self, hidden: tuple[int, ...], activation: str, width: int, blocks: int) -> tuple[nn.Module, nn.Module]:
        outputs = self.likelihood.outputs
        if self.net == "mlp":
            values = outputs * math.prod(self.event_shape)
            return (
                MLP(self.event_shape, hidden, 2 * self.latent_dim, activation),
                MLP((self.latent_dim,), hidden[::-1], values, activation),
            )
        channels = outputs * self.event_shape[0]
        return (
            ConvEncoder(self.event_shape, width, 2 * self.latent_dim, blocks),
            ConvDecoder(self.latent_dim, self.event_shape, width, channels, blocks),
        )

    @property
    def measure(self) -> Literal["density", "mass"]:  # type: ignore[override]
        return self.likelihood.measure

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """q(z|x): the mean and log σ, each (B, L)."""
        with self.networks():
            h = self.encoder(_centred(self.check_event(x), self.codec))
        mu, log_sigma = h.to(x.dtype).chunk(2, dim=1)
        return mu, log_sigma

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean, (B, L)."""
        return self.posterior(x)[0]

    def outputs(self, z: Tensor) -> Tensor:
        """The decoder's raw outputs h (B, outputs, *E)."""
        with self.networks():
            h = self.decoder(self.check_latent(z))
        return h.to(z.dtype).view(len(z), self.likelihood.outputs, *self.event_shape)

    def decode(self, z: Tensor) -> Tensor:
        """E[x|z], (B, *E)."""
        return self.likelihood.mean(self.outputs(z))

    @torch.no_grad()
    def observe(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A draw x ~ p(x|z), (B, *E): the picture with the model's own noise."""
        return self.likelihood.observe(self.outputs(z), generator)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), (B,) nats."""
        return self.likelihood.log_prob(x, self.outputs(z))

    def log_likelihoods(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) for z (K, B, L), K codes for each datum: (K, B) nats."""
        if len(z) == 1:
            return self.log_likelihood(x, z[0])[None]
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)  # (K·B, *E)
        return self.log_likelihood(repeated, z.flatten(0, 1)).view(len(z), -1)

    def log_terms(self, x: Tensor, k: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """log p(x|z), log p(z) and log q(z|x) of K draws z = μ + σ ⊙ ε, each (K, B) nats."""
        mu, log_sigma = self.posterior(x)
        epsilon = standard_normal(k, *mu.shape, generator=generator, device=mu.device)
        z = mu + log_sigma.exp() * epsilon
        return self.log_likelihoods(x, z), log_normal(z), log_normal(epsilon) - log_sigma.sum(-1)

    def log_prob(self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """The importance-weighted bound log 1/K Σ w, (B,) nats, tighter with k (Burda et al. 2016, arXiv 1509.00519).

        Memory stays bounded whatever k is: draws are taken in chunks and summed in float64.
        """
        if k < 1:
            raise TriptychError(f"log_prob wants k ≥ 1 draws, got {k}")
        if isinstance(self.likelihood, Bernoulli):
            check_binary(x)
        chunk = max(1, _CHUNK_VALUES // max(1, x.numel()))
        total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        for start in range(0, k, chunk):
            log_px, log_pz, log_qz = self.log_terms(x, min(chunk, k - start), generator)
            log_w = log_px + log_pz - log_qz
            total = torch.logaddexp(total, log_w.double().logsumexp(0))
        return (total - math.log(k)).to(x.dtype)


_MOST_LAYERS = 64  # a recipe from elsewhere shall not make us build a million modules
_CHUNK_VALUES = 2**23  # pictures' values decoded at once by log_prob: 32 MB in float32 an activation


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) over the last axis, in nats."""
    return -0.5 * (z.square() + LOG_2PI).sum(-1)


def _net(net: str, event_shape: tuple[int, ...]) -> str:
    if net not in ("auto", "mlp", "conv"):
        raise TriptychError(f"net should be auto, mlp or conv, got {net!r}")
    if net == "conv" and len(event_shape) != 3:
        raise TriptychError(f"conv nets take pictures (C, H, W), got {event_shape}: choose net=mlp")
    if net == "auto":
        picture = len(event_shape) == 3 and (event_shape[0] > 1 or max(event_shape[1:]) > 28)
        return "conv" if picture else "mlp"
    return net


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise TriptychError(f"{name} should be at least 1, got {size}")


def _likelihood(name: str, event_shape: Sequence[int], scale: Any, mean: Any, bits: int) -> Any:
    if mean == "linear" and name != "gaussian":
        raise TriptychError(f"a linear mean is the Gaussian's: with likelihood={name} leave mean=sigmoid")
    return likelihood(name, event_shape, scale, mean, bits)


def _centred(x: Tensor, codec: Codec) -> Tensor:
    """What the encoder sees: pictures moved from [0, 1] to [−1, 1], other data as they are."""
    return x if codec.reading in ("none", "binarise") else x * 2 - 1
