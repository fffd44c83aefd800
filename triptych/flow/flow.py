"""A flow: a bijection to a flat z ~ N(0, I), and so exact encode, decode, log-likelihood and samples.

Shapes: B batch, L = D = prod(event_shape): a flow keeps every dimension.
    x (B, *E) · z (B, L) · context (B, K) or None · ladj (B,)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from triptych.bijections import (
    Bijection,
    Chain,
    Conditioner,
    ContextAffine,
    Flatten,
    FlowSteps,
    NotInvertible,
    Unflatten,
    Whiten,
)
from triptych.bijections.actnorm import Initialised
from triptych.bijections.bijection import sum_event, wanted
from triptych.bijections.dequantise import VariationalDequantisation
from triptych.bijections.whiten import MOST_CHANNELS
from triptych.capabilities import Encodes, HasDensity, Layered
from triptych.checking import check_argument
from triptych.codecs import Dequantised, Floats
from triptych.core import LOG_2PI, Codec, GenerativeModel
from triptych.errors import TriptychError, check_choice, check_size
from triptych.parts import check_part


class Flow(GenerativeModel, Encodes, HasDensity, Layered):
    """log p(x | c) = log N(f(x; c); 0, I) + log |det ∂f/∂x|, exactly; x = f⁻¹(z; c).

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        bijection: f, x (B, *E) -> z (B, L): any `Bijection`, ended by a `Flatten` where it keeps positions.
        codec: how stored values become x; None dequantises pictures (C, H, W), which are 8-bit, and reads other data as they
            are.
        context_dim: K, of a conditional model.

    Before scoring or sampling, `initialize` must have seen a batch, if some layer depends on data.

    >>> from triptych.bijections import ActNorm, Affine, Chain, Coupling, Dense, InvertibleLU
    >>> coupling = Coupling(Dense(2, 4, hidden=(16,)), Affine(), split=2)
    >>> model = Flow((4,), Chain([ActNorm(4), InvertibleLU(4), coupling]))
    >>> x = torch.randn(8, 4)
    >>> model.initialize(x)
    >>> torch.allclose(model.decode(model.encode(x)), x, atol=1e-5), model.log_prob(x).shape
    (True, torch.Size([8]))
    """

    bound: Literal["exact", "lower"] = "exact"
    measure: Literal["density", "mass"] = "density"

    def __init__(
        self, event_shape: Sequence[int], bijection: Bijection, codec: Codec | None = None, *, context_dim: int = 0
    ):
        codec = read_as("auto", 8, event_shape) if codec is None else codec
        super().__init__(event_shape, math.prod(event_shape), codec, context_dim=context_dim)
        self.bijection = check_part(bijection, "a flow's bijection", kind=Bijection)

    @property
    def examples(self) -> int:  # type: ignore[override]
        """How many `initialize` should see: the most that one of its layers asks for."""
        return wanted(self.bijection)

    @property
    def bf16(self) -> bool:
        """Whether the conditioners compute in bfloat16; scales, log-determinants and 1×1 convolutions never do."""
        return any(m.bf16 for m in self.modules() if isinstance(m, Conditioner))

    @bf16.setter
    def bf16(self, value: bool) -> None:
        for module in self.modules():
            if isinstance(module, Conditioner):
                module.bf16 = value

    def latent(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z (B, L) and ladj (B,). Outside of training, values that are not finite raise a `TriptychError`, here as in z."""
        context = self.check_context(context, len(self.check_coordinates(x)))
        with torch.autocast(x.device.type, enabled=False):  # the networks enter their own
            z, ladj = self.bijection(x, context)
        if tuple(z.shape) != (len(x), self.latent_dim):
            raise TriptychError(
                f"a flow's bijection ({type(self.bijection).__name__}) should return z ({len(x)}, {self.latent_dim}), got "
                f"{tuple(z.shape)}: end it with Flatten{tuple(z.shape[1:])}"
            )
        if tuple(ladj.shape) != (len(x),):
            raise TriptychError(
                f"a flow's bijection ({type(self.bijection).__name__}) should return ladj ({len(x)},) beside z, "
                f"got {tuple(ladj.shape)}"
            )
        if self._looks() and not (sum_event(z.square()) + ladj).isfinite().all():  # z² may pass float32 where z does not
            raise TriptychError(f"log p of these data is not finite: {self._why_not_finite()}")
        return z, ladj

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """z = f(x; c), (B, L): decode returns x again."""
        return self.latent(x, context)[0]

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """x = f⁻¹(z; c), (B, *E)."""
        context = self.check_context(context, len(self.check_latent(z)))
        with torch.autocast(z.device.type, enabled=False):
            try:
                return self.bijection.inverse(z, context)
            except NotInvertible as error:
                name = next(name for name, module in self.named_modules() if module is error.layer)
                raise NotInvertible(error.layer, error.problem, f"layer {name}") from error

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, k: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p(x | c), (B,) nats of density in model coordinates; exact, whatever k."""
        check_argument("k", k, int)
        z, ladj = self.latent(x, context)
        return ladj - 0.5 * (sum_event(z.square()) + self.latent_dim * LOG_2PI)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Sets what depends on data (actnorm, running averages) from a first batch in model coordinates, once.

        Raises:
            TriptychError: where that has been done: it would undo what was learned since.
        """
        self.check_coordinates(x, look=True)  # in training too: what it sets would stay
        if any(layer.ready for layer in self.modules() if isinstance(layer, Initialised)):
            raise TriptychError("this flow is initialised already: to begin anew, build a new one")
        self.bijection.initialize(x, self.check_context(context, len(x)))

    def count_layers(self) -> int:
        """How many invertible layers there are from x to z: flow steps, splits, squeezes, single bijections."""
        return self.bijection.count_layers()

    def truncated(self, layers: int) -> Flow:
        """The first `layers` layers as a flow of their own, x -> h (B, D), flat with what was factored out.

        Its parameters are this flow's. What it leaves is not normal: sample and score by the whole flow.
        """
        check_size("layers", layers, self.count_layers(), least=0)
        part = self.bijection.truncated(layers, self.event_shape)
        shape = part.image_shape(self.event_shape)
        flat = part if len(shape) == 1 else Chain([part, Flatten(shape)])
        head = Flow(self.event_shape, flat, self.codec, context_dim=self.context_dim)
        head.conditions = self.conditions
        return head.train(self.training)

    def limit_drift(self, bound: float) -> bool:
        """Changes to checkpoints where a reversible inversion has drifted past `bound`; returns whether any did so now."""
        changed = [steps.limit_drift(bound) for steps in self.modules() if isinstance(steps, FlowSteps)]
        return any(changed)

    def _why_not_finite(self) -> str:
        for name, parameter in self.named_parameters():
            if not parameter.isfinite().all():
                return f"layer {name.rpartition('.')[0]} holds NaN or infinity, restore an earlier checkpoint"
        return (
            "they are far outside of what the model is for (pixels belong in [0, 1]: model.codec.encode), or a layer has "
            "become singular: triptych.flow.flow_health names it"
        )


def read_as(reading: str, bits: int, event_shape: Sequence[int]) -> Codec:
    """The codec of a published flow: "dequantise", "none" (floats), or "auto", by which pictures are 8-bit pixels."""
    check_choice("reading", reading, ("auto", "dequantise", "none"))
    pixels = reading == "dequantise" or (reading == "auto" and len(event_shape) == 3)
    return Dequantised(bits) if pixels else Floats()


def dequantiser(kind: str, shape: Sequence[int], codec: Codec, context_dim: int) -> list[Bijection]:
    """The layers that a flow begins with: none for the codec's own uniform noise, or a `VariationalDequantisation`."""
    check_choice("dequantisation", kind, ("uniform", "variational"))
    if kind == "variational" and not (codec.noisy and codec.is_picture):
        raise TriptychError(
            'dequantisation="variational" moves the noise within 8-bit levels, and this flow reads floats as they are: use '
            '"uniform", or reading="dequantise" for 8-bit values'
        )
    return [VariationalDequantisation(shape, codec.bits, context_dim=context_dim)] if kind == "variational" else []


def whitener(kind: str, shape: Sequence[int], rank: int | None = None) -> list[Bijection]:
    """The layers that whiten a whole event before a flow: none, or a `Whiten` of it as one vector.

    Args:
        rank: components with a variance of their own; None keeps all of up to 4,096, and 512 of more.
    """
    check_choice("whiten", kind, ("none", "pca", "zca"))
    if kind == "none":
        return []
    size = math.prod(shape)
    if rank is not None or size > MOST_CHANNELS:
        whiten = Whiten(size, kind, rank=_RANK if rank is None else rank)  # type: ignore[arg-type]
    else:
        whiten = Whiten(size, kind, places=shape[1:], reach=_REACH * max(shape[1:], default=0) or None)  # type: ignore[arg-type]
    return [whiten] if len(shape) == 1 else [Flatten(shape), whiten, Unflatten(shape)]


_RANK = 512  # components of events that are too large to keep all
_REACH = 0.25  # of the longest side


def conditional_end(event_shape: Sequence[int], context_dim: int) -> list[Bijection]:
    """The layers that a flow ends with: none, or where there is a context an affine map of z that depends on it."""
    return [ContextAffine((math.prod(event_shape),), context_dim)] if context_dim else []
