"""What the families share: a map from codes z ~ p(z) to data, and the capabilities that a model may add to it.

Shapes: B batch, L latent_dim, K context_dim, E = event_shape (1 to 3 dimensions: (D,), (C, T) or (C, H, W)).
    z        (B, L)    always flat; N(0, I) unless its prior is learned
    x        (B, *E)   model coordinates; images live in [0, 1]
    context  (B, K)    what a conditional model is told, zeros where it is unknown; None without a condition
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from triptych.capabilities import Encodes, HasDensity, HasPosterior, Layered
from triptych.checking import check_argument, check_numbers
from triptych.errors import NotSupported, TriptychError, check_size, within_memory
from triptych.modes import in_eval_mode
from triptych.parts import Part
from triptych.randomness import standard_normal

LOG_2PI = math.log(2 * math.pi)


class Estimate(NamedTuple):
    """A measured number: value ± stderr over n independent examples.

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


class Codec(Part, ABC):
    """How stored values are read as model coordinates, and written back; see `triptych.codecs` for the ways there are.

    Attributes:
        name: of the way of reading, for cards and messages.
        is_picture: whether stored values are 8-bit pixels, in [0, 1] in model coordinates.
        centred: whether networks should see 2x − 1, in [−1, 1], rather than x.
        bits, depth: at which pixels are read; how they came of deeper values, by a shift or a range of floats.
    """

    name: ClassVar[str]
    is_picture: ClassVar[bool] = True
    centred: ClassVar[bool] = True
    bits: int = 8
    depth: tuple[float, ...] = ()

    @abstractmethod
    def encode(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Stored values -> x for training and scoring, with fresh noise where this way of reading has any."""

    @abstractmethod
    def centre(self, stored: Tensor) -> Tensor:
        """Stored values -> x without noise, for editing."""

    def as_learned(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Stored values -> x of the kind that a model learned from, for measures of codes and reconstructions: `centre`, or
        a draw where x never takes the value at the centre, as when it is binarised."""
        return self.centre(stored)

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """x -> stored values; an edited picture may leave [0, 1] and is clamped."""

    @abstractmethod
    def check(self, stored: Tensor) -> Tensor:
        """The stored values themselves if this codec can read them, else a `TriptychError`."""

    def project(self, x: Tensor) -> Tensor:
        """x moved into the range that data have: [0, 1] for pictures, everything for floats."""
        return x.clamp(0, 1) if self.is_picture else x

    @property
    def noisy(self) -> bool:
        """Whether `encode` spreads a stored value over x, so that a density may be averaged over draws of it."""
        return False

    def added_bits(self, measure: Literal["density", "mass"]) -> float:
        """What −log p(x) / (D ln 2) lacks to be bits per dimension of the stored values: the bit depth for a density.

        Raises:
            TriptychError: where the stored values are not pixels, or are binarised: report nats instead.
        """
        raise TriptychError(f"bits/dim needs a model of 8-bit pixels, this one reads {self.name!r}: report nats instead")

    def fit(self, stored: Iterable[Tensor]) -> None:
        """Sets what depends on data, once, from training data in parts (n, *E): the scale of floats, nothing of pixels."""

    def fitted(self) -> dict[str, list[float]]:
        """What `fit` set, for a checkpoint; {} where it set nothing."""
        return {}

    def restore(self, fitted: Mapping[str, Sequence[float]]) -> None:
        """What a checkpoint holds of `fitted`, set again."""

    def log_scale(self, event_shape: Sequence[int]) -> float:
        """log |det ∂v/∂x| of floats v, in nats: log p(v) = log p(x) − log_scale; 0 for pixels, which are read as x."""
        return 0.0

    def remarks(self, event_shape: Sequence[int], columns: Sequence[str] = ()) -> dict[str, str]:
        """What a person should know of how these data are read, by what it is about."""
        return {}

    def show(self, x: Tensor, event_shape: Sequence[int]) -> Tensor | None:
        """Pictures uint8 (B, C, H, W) of what x is, for reports and sample sheets; None if it cannot be shown as one."""
        return None


class StandardNormal(Part, nn.Module):
    """p(z) = N(0, I), the prior of every model whose prior is not learned.

    >>> StandardNormal().log_prob(torch.zeros(2, 3))
    tensor([-2.7568, -2.7568])
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; 0, I) over the last axis, in nats: (…, L) -> (…)."""
        return -0.5 * (z.square() + LOG_2PI).sum(-1)


class Prior(nn.Module, Part, ABC):
    """p(z) of vectors (L,) that is learned; `triptych.compose` has several. A model of vectors with a density is one too.

    Attributes:
        latent_dim: L.
        alone: whether it can learn from codes alone, after the model whose codes they are.
    """

    latent_dim: int
    alone: ClassVar[bool] = True

    @property
    def ready(self) -> bool:
        """Whether it has been fitted: training then goes on from what it is."""
        return False

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats: (B, L) -> (B,)."""

    @abstractmethod
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """z ~ p(z), (n, L); the temperature multiplies the noise that z is made of."""

    def fit(self, z: Tensor, x: Tensor | None = None) -> None:
        """Sets what can be set at once from codes z (n, L), and from the examples x (n, *E) whose codes they are where those
        are known; the rest is learned by gradients of `log_prob`."""

    def attach(self, model: HasPosterior) -> None:
        """Called by a model that it becomes the prior of: for priors made of its posterior."""


class GenerativeModel(nn.Module, ModelHubMixin, Part, ABC):
    """A map from codes z ~ p(z) to data.

    Attributes:
        event_shape: one example in model coordinates, 1 to 3 dimensions.
        latent_dim: length of the flat z.
        context_dim: length of the context, 0 without a condition.
        prior: p(z): `StandardNormal`, a learned `Prior`, or any model of vectors (L,) with a density.
        codec: how stored values become x, and back.
        conditions: how attributes become the context (`triptych.codecs.Conditions`); None where nothing says it.
        bf16: whether the networks compute in bfloat16; everything around them (likelihoods, priors, sums) does not.
        examples: how many `initialize` should see (`first_size`).
        truncates: whether a temperature acts in `truncated_decode`, and not on the prior's noise.
        grows: whether a step of training may leave some parameters without a gradient; several processes then look for them.
    """

    bf16: bool = False
    grows: bool = False
    examples: int = 256
    truncates: bool = False

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        codec: Codec,
        *,
        context_dim: int = 0,
        prior: nn.Module | None = None,
    ):
        super().__init__()
        self._hub_mixin_config = None  # recipe.json holds the configuration: the mixin must not write a second one
        self.event_shape = _checked_shape(event_shape)
        check_size("latent_dim", latent_dim, 2**31)
        check_size("context_dim", context_dim, 65_536, least=0)
        self.latent_dim, self.context_dim, self.codec = latent_dim, context_dim, codec
        self.conditions: Any = None
        self.prior = StandardNormal() if prior is None else _checked_prior(prior, latent_dim)

    @abstractmethod
    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z (B, L) -> x (B, *E)."""

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Sets what depends on data from a first batch x (B, *E), once; most models have nothing of the kind."""

    def begin(self) -> None:
        """A new training starts from these weights: for models that depend on how long they were trained."""

    def mapping(self) -> nn.Module:
        """What makes data of z, whose weights training averages: all of it, except for a GAN, which has an opponent too."""
        return self

    def remarks(self) -> list[str]:
        """What a person should know of this model besides what is known of its kind, a sentence each: for its card."""
        return []

    def growth(self) -> dict[str, float]:
        """How far a model that grows has grown, numbers by name: side, full_side, alpha; {} for others."""
        return {}

    @torch.no_grad()
    @in_eval_mode
    @within_memory()
    def sample(
        self,
        n: int,
        *,
        context: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """n examples x = decode(z), z ~ p(z) with its noise multiplied by the temperature, or truncated by it: (n, *E).

        Args:
            context: (n, K), or (1, K) for all.
        """
        _check_sampling(n, temperature, generator)
        z = self.sample_prior(n, temperature=1.0 if self.truncates else temperature, generator=generator)
        parts = in_parts(z, self.check_context(context, n))
        return torch.cat([self.truncated_decode(z, c, temperature) for z, c in parts])

    def truncated_decode(self, z: Tensor, context: Tensor | None, temperature: float) -> Tensor:
        """decode(z), with what else than the prior's noise a temperature acts on: nothing for most models."""
        return self.decode(z, context)

    @torch.no_grad()
    @in_eval_mode
    @within_memory()
    def sample_prior(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """z ~ p(z), (n, L); the temperature acts on the noise that z is made of."""
        _check_sampling(n, temperature, generator)
        if isinstance(self.prior, StandardNormal):
            return temperature * standard_normal(n, self.latent_dim, generator=generator, device=self.device)
        return self.prior.sample(n, temperature=temperature, generator=generator).to(self.device)  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def networks(self) -> torch.autocast:
        """The context manager in which models run their networks: bfloat16 where `bf16` asks for it, and only there."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def check_event(self, x: Tensor) -> Tensor:
        """x itself if it is a batch (B, *E), else a `TriptychError` that names both shapes."""
        if not isinstance(x, Tensor):
            raise TriptychError(f"expected a tensor (B, *E), got {x!r:.60}: triptych.read(path, model) makes one of files")
        if tuple(x.shape[1:]) != self.event_shape:
            raise TriptychError(
                f"this {type(self).__name__} takes (B, {', '.join(map(str, self.event_shape))}), got {tuple(x.shape)}: "
                "resize or reshape the data (--size on the command line)"
            )
        return x

    def check_coordinates(self, x: Tensor, *, look: bool = False) -> Tensor:
        """x itself if it is a batch (B, *E) of the model's dtype, finite outside of training, or where one is to `look`."""
        return check_numbers(self.check_event(x), self._dtype, "x", look or self._looks())

    def check_latent(self, z: Tensor) -> Tensor:
        """z itself if it is (B, L), of the model's dtype and outside of training finite, else a `TriptychError`."""
        if not isinstance(z, Tensor) or z.ndim != 2 or z.shape[1] != self.latent_dim:
            got = tuple(z.shape) if isinstance(z, Tensor) else f"{z!r:.60}"
            raise TriptychError(f"z should be (B, {self.latent_dim}), got {got}: z is flat for every family")
        # a z that is being optimised may leave the range of floats: whoever optimises it passes over it
        return check_numbers(z, self._dtype, "z", self._looks() and not z.requires_grad)

    @property
    def _dtype(self) -> torch.dtype | None:
        return next((p.dtype for p in self.parameters()), None)

    def _looks(self) -> bool:
        """Whether to look at values, which costs a synchronisation: the training loop looks for itself."""
        return not self.training and not torch.compiler.is_compiling()

    def check_context(self, context: Tensor | None, n: int) -> Tensor | None:
        """The context of n examples, (n, K): given, given once for all, or zeros, which stand for "unknown"; None if K = 0.

        Raises:
            TriptychError: for a context that the model does not take, or of another width or number.
        """
        if not self.context_dim:
            if context is not None:
                raise TriptychError(f"this {type(self).__name__} was trained without a condition: leave the context out")
            return None
        if context is None:
            return next(self.parameters(), torch.zeros(())).new_zeros(n, self.context_dim)
        if not isinstance(context, Tensor) or not (self.training or context.isfinite().all()):
            raise TriptychError(f"context should be a tensor of finite numbers, got {context!r:.60}")
        if context.ndim != 2 or context.shape[1] != self.context_dim or len(context) not in (1, n):
            raise TriptychError(f"context should be ({n}, {self.context_dim}) or (1, {self.context_dim}), got "
                                f"{tuple(context.shape)}: model.conditions.encode makes it from attributes")  # fmt: skip
        return context.to(next(self.parameters(), context)).expand(n, -1)

    def __getattr__(self, name: str) -> Any:
        for capability in (Encodes, HasDensity, HasPosterior, Layered):
            if name in capability.__abstractmethods__ and not isinstance(self, capability):
                raise NotSupported(f"a {type(self).__name__} {capability.instead}")
        return super().__getattr__(name)

    def _save_pretrained(self, save_directory: Path) -> None:
        _files().save_model(self, Path(save_directory))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, revision: str | None = None, **options: Any) -> GenerativeModel:
        download = {k: options.get(k) for k in ("cache_dir", "force_download", "local_files_only", "token")}
        given = {k: v for k, v in options.items() if isinstance(v, nn.Module | Part)}
        model = _files().load(model_id, revision=revision, **{k: v for k, v in download.items() if v is not None}, **given)
        if not isinstance(model, cls):
            raise TriptychError(f"{model_id} holds a {type(model).__name__}, not a {cls.__name__}: use triptych.load")
        return model


def _files() -> Any:
    """`triptych.pretrained`, which stands above this file and knows every type: resolved when a hub method is called."""
    return importlib.import_module("triptych.pretrained")


def first_size(examples: int, size: int) -> int:
    """How many examples of `size` numbers each a model is initialised from that asks for so many: fewer of those that are
    larger than 3×32×32, since they and their activations would fill the memory, but 16 at least.

    >>> first_size(256, 784), first_size(256, 3 * 64 * 64), first_size(20_000, 3 * 64 * 64)
    (256, 64, 5000)
    """
    return min(examples, max(16, examples * (3 * 32 * 32) // size))


_AT_ONCE = 256  # examples that a model takes together, whatever n is: memory stays bounded


def in_parts(rows: Tensor, context: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    """Codes or examples (n, …) and their context (n, K), or None, in parts that a model takes at once."""
    parts = rows.split(_AT_ONCE)
    return [*zip(parts, [None] * len(parts) if context is None else context.split(_AT_ONCE), strict=True)]


def _check_sampling(n: int, temperature: float, generator: torch.Generator | None) -> None:
    """Raises a `TriptychError` for what cannot be sampled."""
    check_argument("n", n, int)
    check_argument("temperature", temperature, float)
    check_argument("generator", generator, torch.Generator | None)


def _checked_shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    if isinstance(event_shape, int | str):
        raise TriptychError(f"event_shape should be a tuple such as (3, 32, 32), got {event_shape!r}")
    shape = tuple(int(s) for s in event_shape)
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise TriptychError(f"event_shape should be (D,), (C, T) or (C, H, W) with sizes ≥ 1, got {tuple(event_shape)}")
    return shape


def _checked_prior(prior: nn.Module, latent_dim: int) -> nn.Module:
    if isinstance(prior, StandardNormal) or (isinstance(prior, Prior) and prior.latent_dim == latent_dim):
        return prior
    fits = isinstance(prior, GenerativeModel) and prior.event_shape == (latent_dim,) and not prior.context_dim
    if not (fits and isinstance(prior, HasDensity)):
        shape = getattr(prior, "event_shape", getattr(prior, "latent_dim", "no event shape"))
        raise TriptychError(
            f"prior should be a triptych.core.Prior of {latent_dim} dimensions, or a model of vectors ({latent_dim},) with "
            f"a density and no context, such as triptych.NICE(({latent_dim},)), got a {type(prior).__name__} of {shape}"
        )
    return prior
