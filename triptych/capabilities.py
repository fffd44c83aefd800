"""What a model may be able to do besides sampling, asked with isinstance: encode, score, give q(z|x), be cut into layers.

Shapes: B batch, S draws, L latent_dim, E event_shape, K context_dim. x (B, *E) · z (B, L) or (S, B, L) · context (B, K)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from triptych.errors import NotSupported


class Encodes(ABC):
    """x -> z. Exact for a flow, the posterior mean for a VAE."""

    instead: ClassVar[str] = "has no encoder: use triptych.edit.invert, which finds z by optimisation"

    @abstractmethod
    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, *E) -> z (B, L)."""


class HasDensity(ABC):
    """log p(x | context), exactly or as a lower bound.

    Attributes:
        bound: "exact", or "lower" where `log_prob` is a bound that tightens with k.
        measure: "density" (nats per unit volume of model coordinates; bits/dim adds the bit depth) or "mass".
    """

    instead: ClassVar[str] = "has no density: use triptych.evaluate's sample-quality measures"
    bound: Literal["exact", "lower"]
    measure: Literal["density", "mass"]

    @abstractmethod
    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, k: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p(x | context) in nats, (B,); k draws for a bound."""


class HasPosterior(ABC):
    """q(z | x), and the two factors of p(x, z): what a variational bound, and estimators of log p(x), are made of."""

    instead: ClassVar[str] = (
        "has no q(z|x), nor noise p(x|z) to draw from (observe): use a VAE, or encode(x) where there is an encoder"
    )
    prior: nn.Module

    @abstractmethod
    def posterior(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """μ and log σ of q(z | x), each (B, L)."""

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) in nats: (S, B, L) -> (S, B), or (B, L) -> (B,)."""
        return self.prior.log_prob(z.flatten(0, -2)).view(z.shape[:-1])  # type: ignore[operator]

    @abstractmethod
    def log_likelihoods(self, x: Tensor, z: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(x | z) in nats of S codes for each example: x (B, *E), z (S, B, L) -> (S, B)."""

    @abstractmethod
    def observe(self, z: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """A draw x ~ p(x | z), (B, *E): the picture with the model's own noise."""


class Layered(ABC):
    """x -> h_1 -> … -> z in invertible layers, so that data can be encoded to any depth and decoded from there exactly."""

    instead: ClassVar[str] = "has no invertible layers whose activations could be edited: edit its z, leave the depth out"

    @abstractmethod
    def count_layers(self) -> int:
        """How many layers there are: the depth of z."""

    @abstractmethod
    def truncated(self, layers: int) -> Any:
        """The first `layers` layers as a model that encodes, x -> h (B, D), and decodes; it shares the parameters."""


Capability = TypeVar("Capability", Encodes, HasDensity, HasPosterior, Layered)


def require(model: nn.Module, capability: type[Capability]) -> Capability:
    """The model, if it has the capability; else a `TriptychError` that names the alternative."""
    if not isinstance(model, capability):
        raise NotSupported(f"a {type(model).__name__} {capability.instead}")
    return model
