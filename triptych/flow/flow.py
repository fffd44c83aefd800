"""What all flows share: a bijection to a flat z ~ N(0, I), and so exact encode, decode, log-likelihood and samples.

Shapes: B batch, L = D = prod(event_shape): a flow keeps every dimension.
    x (B, *E) · z (B, L) · ladj (B,)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from triptych.codec import Codec
from triptych.core import Encodes, GenerativeModel, HasDensity
from triptych.errors import TriptychError
from triptych.flow.bijection import Bijection, NoWayBack, sum_event
from triptych.flow.conditioners import Conditioner
from triptych.flow.layers.actnorm import Initialised

LOG_2PI = math.log(2 * math.pi)


class Flow(GenerativeModel, Encodes, HasDensity):
    """log p(x) = log N(f(x); 0, I) + log |det ∂f/∂x|, exactly; x = f⁻¹(z).

    Subclasses set `bijection`, x (B, *E) -> z (B, L). Before scoring or sampling, `initialize` must have seen a batch.
    """

    bound: Literal["exact", "lower"] = "exact"
    measure: Literal["density", "mass"] = "density"
    bijection: Bijection

    def __init__(self, event_shape: Sequence[int], reading: str, bits: int, arguments: dict[str, Any]):
        codec = Codec(check_reading(reading, event_shape), bits)
        super().__init__(event_shape, math.prod(event_shape), codec, arguments)

    @property
    def bf16(self) -> bool:
        """Whether the conditioners compute in bfloat16; scales, log-determinants and 1×1 convolutions never do."""
        return any(m.bf16 for m in self.modules() if isinstance(m, Conditioner))

    @bf16.setter
    def bf16(self, value: bool) -> None:
        for module in self.modules():
            if isinstance(module, Conditioner):
                module.bf16 = value

    def latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, L) and ladj (B,). Outside of training, data that are not finite are refused, and so is what is not of z."""
        self._check_values(self.check_event(x), "the data", "x")
        with torch.autocast(x.device.type, enabled=False):  # the networks enter their own
            z, ladj = self.bijection(x)
        if self._careful() and not (sum_event(z.square()) + ladj).isfinite().all():  # z² may pass float32 where z does not
            raise TriptychError(f"log p of these data is not finite: {self._why_not_finite()}")
        return z, ladj

    def _why_not_finite(self) -> str:
        for name, parameter in self.named_parameters():
            if not parameter.isfinite().all():
                return f"layer {name.rpartition('.')[0]} holds NaN or infinity, restore an earlier checkpoint"
        return (
            "they are far outside of what the model is for (pixels belong into [0, 1]: model.codec.encode), or a layer has "
            "become singular: triptych.flow.watch.flow_health names it"
        )

    def _careful(self) -> bool:
        """Whether to look at values, which costs a synchronisation: the training loop looks for itself."""
        return not self.training and not torch.compiler.is_compiling()

    def _check_values(self, values: Tensor, what: str, symbol: str) -> Tensor:
        own = next(self.parameters()).dtype
        if not values.is_floating_point():
            raise TriptychError(
                f"{what} are {values.dtype}, stored values it seems: give {symbol}=model.codec.encode(stored)"
            )
        if values.dtype != own:
            raise TriptychError(f"{what} are {values.dtype}, the model is {own}: convert one, such as {symbol}.to({own})")
        if self._careful() and not values.isfinite().all():
            raise TriptychError(f"{what} hold NaN or infinity: remove or impute those values first")
        return values

    def encode(self, x: Tensor) -> Tensor:
        """z = f(x), (B, L): decode gives x back."""
        return self.latent(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """x = f⁻¹(z), (B, *E)."""
        self._check_values(self.check_latent(z), "the codes", "z")
        with torch.autocast(z.device.type, enabled=False):
            try:
                return self.bijection.inverse(z)
            except NoWayBack as error:
                name = next(name for name, module in self.named_modules() if module is error.layer)
                raise NoWayBack(error.layer, error.what, f"layer {name}") from error

    def log_prob(self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """log p(x), (B,) nats of density in model coordinates; exact, whatever k."""
        if k < 1:
            raise TriptychError(f"log_prob wants k ≥ 1 draws, got {k}")
        z, ladj = self.latent(x)
        return ladj - 0.5 * (sum_event(z.square()) + self.latent_dim * LOG_2PI)

    def heed_drift(self, bound: float) -> bool:
        """Gives up what is inexact beyond `bound`; says whether it did now. Only Glow's reversible mode has any."""
        return False

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Sets what depends on data (actnorm, running averages) from a first batch in model coordinates, once.

        Raises:
            TriptychError: where that has been done: it would undo what was learned since.
        """
        self._check_values(self.check_event(x), "the data", "x")
        if not x.isfinite().all():  # in training too: what it sets would stay
            raise TriptychError("the first batch holds NaN or infinity: remove or impute those values first")
        if any(layer.ready for layer in self.modules() if isinstance(layer, Initialised)):
            raise TriptychError("this flow is initialised already: to begin anew, build a new one")
        self.bijection.initialize(x)


def check_reading(reading: str, event_shape: Sequence[int]) -> Any:
    """Pixels of pictures are dequantised, other data read as they are, unless told otherwise."""
    if reading == "auto":
        return "dequantise" if len(event_shape) == 3 else "none"
    if reading not in ("dequantise", "none"):
        raise TriptychError(f"a flow reads data as dequantise (8-bit values) or none (floats), got {reading!r}")
    return reading


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuses what is not among the choices, naming them."""
    if value not in choices:
        raise TriptychError(f"{name} should be one of {', '.join(choices)}, got {value!r}")


def check_size(name: str, value: int, most: int, least: int = 1) -> None:
    """Refuses a size that is no whole number of `least` to `most`."""
    if not isinstance(value, int) or not least <= value <= most:
        raise TriptychError(f"{name} should be {least} to {most}, a whole number, got {value!r}")
