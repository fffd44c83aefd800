"""What every sampler shares: parameters, noise that never reaches an end of (0, 1), and one interface.

Shapes: a sampler has a batch shape B* (its parameters, broadcast) and an event shape E* (empty for a scalar law);
`sample(shape)` gives (*shape, *B, *E) and `log_prob` takes that back to (*shape, *B), in nats.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from numbers import Real
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from triptych.errors import TriptychError

# A tensor or a number when given, a tensor once held: a dataclass has no way to write that down.
Parameter: TypeAlias = Any


def open_uniform(
    shape: Sequence[int], *, dtype: torch.dtype, device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """ε ~ U(0, 1) with both ends left out, in any floating dtype: (*shape,).

    `torch.rand` returns exactly 0 once in 2²⁴ float32 draws, whose logarithm is −∞. Here u = (2k + 1) / 2ᵐ with
    k uniform and m the bits of the significand: every u and every 1 − u is exact, and none is 0 or 1.

    >>> u = open_uniform((4,), dtype=torch.float32, device=torch.device("cpu"))
    >>> bool(((u > 0) & (u < 1)).all())
    True
    """
    levels = round(1 / torch.finfo(dtype).eps)
    k = torch.randint(levels, tuple(shape), device=device, generator=generator)
    # Odd numbers below 2ᵐ fit the significand, so neither the conversion nor the division rounds.
    return (2 * k + 1).to(dtype) / (2 * levels)


def finite_exp(log_x: Tensor, dtype: torch.dtype) -> Tensor:
    """exp(log_x) in `dtype`, kept off 0 and off ∞, with headroom for a scale of up to 2¹⁶ to multiply it.

    Same shape as `log_x`. Where it is held back the gradient is zero.

    >>> finite_exp(torch.tensor([-1e4, 0.0]), torch.float32)[1].item()
    1.0
    """
    limits = torch.finfo(dtype)
    bound = math.log(limits.max) - 16 * math.log(2)
    # Cast last: log_x may be in float64, whose digits are worth keeping through exp.
    return log_x.clamp_max(bound).exp().to(dtype).clamp_min(limits.tiny)


def _common(values: Sequence[Any]) -> tuple[torch.dtype, torch.device]:
    """The dtype and device that hold all the parameters: the widest floating tensor's, else torch's default."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    floating = [value.dtype for value in tensors if value.is_floating_point()]
    dtype = reduce(torch.promote_types, floating) if floating else torch.get_default_dtype()
    return dtype, tensors[0].device if tensors else torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Sampler(ABC):
    """z = g(ε, φ), ε ~ p(ε) fixed: a law whose draws are differentiable in its parameters φ (AEVB, section 2.4).

    Parameters are numbers or tensors; they broadcast, and give the dtype and the device. They are checked once, here.

    Errors: `TriptychError` where a parameter is outside its domain or is not finite.

    >>> from triptych.vae.reparameterisation import Gaussian
    >>> mu = torch.zeros(3, requires_grad=True)
    >>> z = Gaussian(mu, 0.5).sample((2,))
    >>> z.sum().backward()
    >>> z.shape, mu.grad
    (torch.Size([2, 3]), tensor([2., 2., 2.]))
    """

    _positive: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        held = self._given()
        dtype, device = _common(list(held.values()))
        for name, value in held.items():
            tensor = torch.as_tensor(value, device=device).to(dtype)
            self._require(name, tensor, tensor.isfinite(), "finite values")
            object.__setattr__(self, name, tensor)
        self._check()

    def _given(self) -> dict[str, Any]:
        """The parameters as they came, by name."""
        law, given = type(self).__name__, {f.name: getattr(self, f.name) for f in fields(self) if f.type is Parameter}
        for name, value in given.items():
            if not isinstance(value, Tensor | Real):
                got = type(value).__name__
                raise TriptychError(f"{law}: expected a number or a tensor for {name}, got {got}; use torch.tensor")
        return given

    def _check(self) -> None:
        """What a law asks of its parameters beyond being finite."""
        for name in self._positive:
            self._require(name, getattr(self, name), getattr(self, name) > 0, "values above 0")

    def _require(self, name: str, value: Tensor, good: Tensor, expected: str, fix: str = "") -> None:
        if bool(good.all()):
            return
        bad = value.expand(good.shape)[~good].flatten()[0].item()
        fix = fix or f"map the network's output there, as softplus or exp do, or correct {name}"
        raise TriptychError(f"{type(self).__name__}: expected {expected} for {name}, got {bad:g}; {fix}")

    def _ordered(self, low: str, high: str) -> None:
        a, b = getattr(self, low), getattr(self, high)
        self._require(high, b, b > a, f"values above {low}", f"swap them, or widen the interval [{low}, {high}]")

    def _parameters(self) -> list[Tensor]:
        return [getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)]

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the parameters, broadcast together, less the event's dimensions."""
        return torch.broadcast_shapes(*(p.shape for p in self._parameters()))

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of parameters and draws."""
        return self._parameters()[0].dtype

    @property
    def device(self) -> torch.device:
        """The device of parameters and draws."""
        return self._parameters()[0].device

    def _uniform(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return open_uniform(shape, dtype=self.dtype, device=self.device, generator=generator)

    def _normal(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return torch.randn(tuple(shape), dtype=self.dtype, device=self.device, generator=generator)

    @abstractmethod
    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """g(ε, φ) for fresh ε: (*shape, *B, *E), differentiable in every real parameter."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x; φ) in nats, −∞ off the support: (*shape, *B, *E) -> (*shape, *B)."""
        inside = self._inside(x)
        # An impossible x is swapped for a possible one first, else its NaN gradient survives the second `where`.
        log_p = self._log_density(torch.where(inside, x, self._interior()))
        return torch.where(inside, log_p, -math.inf)

    @abstractmethod
    def _log_density(self, x: Tensor) -> Tensor:
        """log p(x; φ) for x on the support."""

    def _inside(self, x: Tensor) -> Tensor:
        """Whether x is on the support: the whole line, unless a law says otherwise."""
        return ~x.isnan()

    def _interior(self) -> Tensor:
        """Some point of the support."""
        return torch.ones((), dtype=self.dtype, device=self.device)


class PositiveSampler(Sampler):
    """A law on [0, ∞)."""

    def _inside(self, x: Tensor) -> Tensor:
        return x >= 0


class InverseCDF(Sampler):
    """ε ~ U(0, 1) and g = F⁻¹(ε; φ)."""

    def sample(self, shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        return self.icdf(self._uniform((*shape, *self.batch_shape), generator))

    @abstractmethod
    def icdf(self, u: Tensor) -> Tensor:
        """F⁻¹(u; φ) for u in (0, 1), broadcast with the parameters."""
