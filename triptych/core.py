"""What the families share: a map from z ~ N(0, I) to data, and the capabilities a model may add to it.

Shapes: B batch, L latent_dim, E = event_shape (1 to 3 dimensions: (D,), (C, T) or (C, H, W)).
    z  (B, L)    always flat, prior N(0, I)
    x  (B, *E)   model coordinates; images live in [0, 1]
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from triptych.codec import Codec
from triptych.errors import TriptychError


class Estimate(NamedTuple):
    """A measured number: value ± stderr over n independent data.

    >>> Estimate.of(torch.tensor([1.0, 2.0, 3.0]))
    Estimate(value=2.0, stderr=0.57735..., n=3)
    """

    value: float
    stderr: float
    n: int

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """The mean of `values` (n,) with the standard error s / √n (NaN for n = 1, where s is unknown)."""
        n, values = len(values), values.double()
        spread = values.std().item() if n > 1 else float("nan")
        return cls(values.mean().item(), spread / n**0.5, n)

    def scaled(self, factor: float, offset: float = 0.0) -> Estimate:
        """The estimate of factor · value + offset."""
        return Estimate(self.value * factor + offset, self.stderr * abs(factor), self.n)


def standard_normal(
    *shape: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """ε ~ N(0, I) of `shape`, drawn where the generator lives and moved to `device`: a seed means the same on each."""
    source = generator.device if generator is not None else device
    return torch.randn(*shape, generator=generator, device=source).to(device)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; outside every module has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradient by the module's parameters inside; what passes through it has its own."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_()


class GenerativeModel(nn.Module, ModelHubMixin, ABC):
    """A map from z ~ N(0, I) to data.

    Subclasses pass `arguments`, the keywords they were built with: they are what a checkpoint stores beside the weights.

    Attributes:
        event_shape: one datum in model coordinates, 1 to 3 dimensions.
        latent_dim: length of the flat z.
        codec: how stored values become x, and back.
        bf16: whether the networks compute in bfloat16; everything around them (likelihoods, priors, sums) does not.
        grows: whether a step of training may leave some parameters without a gradient; several processes then look for them.
    """

    bf16: bool = False
    grows: bool = False

    def __init__(self, event_shape: Sequence[int], latent_dim: int, codec: Codec, arguments: dict[str, Any]):
        super().__init__()
        self._hub_mixin_config = None  # recipe.json holds the configuration: the mixin shall not write a second one
        self.event_shape = _checked_shape(event_shape)
        self.latent_dim = _checked_latent(latent_dim)
        self.codec = codec
        self.arguments = arguments

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """z (B, L) -> x (B, *E)."""

    def begin(self) -> None:
        """A new training starts from these weights: for models that depend on how long they were trained."""

    def mapping(self) -> nn.Module:
        """What makes data of z, whose weights training averages: all of it, but for a GAN, which has an opponent too."""
        return self

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """n data x = decode(T·ε), ε ~ N(0, I): (n, *E)."""
        if n < 1 or not 0 <= temperature < math.inf:
            raise TriptychError(f"sample wants n ≥ 1 and temperature ≥ 0, got n={n}, temperature={temperature}")
        z = temperature * standard_normal(n, self.latent_dim, generator=generator, device=self.device)
        return torch.cat([self.decode(part) for part in z.split(_AT_ONCE)])

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def networks(self) -> torch.autocast:
        """The context in which subclasses run their networks: bfloat16 inside where `bf16` asks for it, and only there."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def check_event(self, x: Tensor) -> Tensor:
        """x itself if it is a batch (B, *E), else a `TriptychError` that names both shapes."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise TriptychError(
                f"this {type(self).__name__} takes (B, {', '.join(map(str, self.event_shape))}), got {tuple(x.shape)}: "
                "resize or reshape the data (--size on the command line)"
            )
        return x

    def check_latent(self, z: Tensor) -> Tensor:
        """z itself if it is (B, L), else a `TriptychError` that names both shapes."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise TriptychError(f"z should be (B, {self.latent_dim}), got {tuple(z.shape)}: z is flat for every family")
        return z

    def _save_pretrained(self, save_directory: Path) -> None:
        from triptych.checkpoint import save_model

        save_model(self, Path(save_directory))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, revision: str | None = None, **options: Any) -> GenerativeModel:
        from triptych.checkpoint import load

        download = {k: options.get(k) for k in ("cache_dir", "force_download", "local_files_only", "token")}
        model = load(model_id, revision=revision, **{k: v for k, v in download.items() if v is not None})
        if not isinstance(model, cls):
            raise TriptychError(f"{model_id} holds a {type(model).__name__}, not a {cls.__name__}: use triptych.load")
        return model


_AT_ONCE = 256  # data decoded together by `sample`, whatever n is: memory stays bounded


class Encodes(ABC):
    """x -> z. Exact for a flow, the posterior mean for a VAE."""

    instead: ClassVar[str] = "has no encoder: use triptych.edit.invert, which finds z by optimisation"

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """x (B, *E) -> z (B, L)."""


class HasDensity(ABC):
    """log p(x), exactly or as a lower bound.

    Attributes:
        bound: "exact", or "lower" where `log_prob` is a bound that tightens with k.
        measure: "density" (nats per unit volume of model coordinates; bits/dim adds the bit depth) or "mass".
    """

    instead: ClassVar[str] = "has no density: use triptych.evaluate's sample-quality measures"
    bound: Literal["exact", "lower"]
    measure: Literal["density", "mass"]

    @abstractmethod
    def log_prob(self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """log p(x) in nats, (B,); k draws for a bound."""


Capability = TypeVar("Capability", Encodes, HasDensity)


def require(model: nn.Module, capability: type[Capability]) -> Capability:
    """The model, if it has the capability; else a `TriptychError` that names the alternative."""
    if not isinstance(model, capability):
        raise TriptychError(f"a {type(model).__name__} {capability.instead}")
    return model


def _checked_shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(s) for s in event_shape)
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise TriptychError(f"event_shape should be (D,), (C, T) or (C, H, W) with sizes ≥ 1, got {tuple(event_shape)}")
    return shape


def _checked_latent(latent_dim: int) -> int:
    if latent_dim < 1:
        raise TriptychError(f"latent_dim should be at least 1, got {latent_dim}")
    return int(latent_dim)
