"""The adversarial pair: G(z), which is the model of the data, and D(x), which only training needs.

Shapes: B batch, L latent_dim, E event_shape.
    z (B, L) ~ N(0, I) · x (B, *E) · logits (B,), D(x) = σ(logit)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from triptych.codec import Codec, Reading
from triptych.errors import TriptychError
from triptych.gan.adversarial import Adversarial
from triptych.gan.augment import Augmentation
from triptych.gan.networks import (
    SLOPE,
    ConvDiscriminator,
    ConvGenerator,
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    Output,
)


class GAN(Adversarial):
    """A generative adversarial network (Goodfellow et al. 2014, arXiv 1406.2661).

        min_G max_D V(D, G) = E_x log D(x) + E_z log(1 − D(G(z)))

    It has neither encoder nor density. Pictures are read at the bin's centre: dequantisation's noise, D numbers independent
    of z, is nothing that G could make, and D would learn to tell the two apart by it. The discriminator is saved with the
    model, so that training can go on from it.

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        latent_dim: L, 100 in the paper.
        net: "maxout" (the paper's for MNIST), "conv" (pictures of any size), "mlp" (leaky ReLU, for small data), or
            "auto": conv for pictures with both sides at least 8, mlp otherwise.
        hidden: the perceptron's hidden layers in G; "mlp" mirrors them in D.
        maxout: "maxout" units of each of D's layers.
        pieces: linear pieces of each maxout unit.
        drop_input, drop: "maxout" dropout rates in D at the input and after each layer.
        width, blocks: the convolutional nets' first channel count, and residual blocks at each level.
        norm: of the convolutional G: "pixel", "batch" or "none". D has none.
        stddev_group: data that share a minibatch standard deviation in the convolutional D; 0 leaves it out.
        prior: what the generator is given: "gaussian" z itself, or "uniform" √3 (2Φ(z) − 1) ~ U(−√3, √3), the paper's.
        reading: "centre" or "dequantise" (8-bit values), "none" (floats: G's output is any real), "auto" by the shape:
            pictures are 8-bit.
        bits: depth at which pixels are read.

    Attributes:
        generator, discriminator: the two networks; train with one's parameters at a time.
        augmentation: what a training game shows pictures through, nothing until `become`; `logits` does not apply it.

    Raises:
        TriptychError: for settings that cannot work; the message says what would.

    >>> model = GAN((3, 16, 16), latent_dim=8, width=8)
    >>> x = model.decode(torch.randn(4, 8))
    >>> x.shape, model.logits(x).shape, bool(x.min() >= 0 and x.max() <= 1)
    (torch.Size([4, 3, 16, 16]), torch.Size([4]), True)
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int = 100,
        net: Literal["auto", "mlp", "maxout", "conv"] = "auto",
        hidden: Sequence[int] = (1200, 1200),
        maxout: Sequence[int] = (240, 240),
        pieces: int = 5,
        drop_input: float = 0.2,
        drop: float = 0.5,
        width: int = 32,
        blocks: int = 0,
        norm: Literal["pixel", "batch", "none"] = "pixel",
        stddev_group: int = 4,
        prior: Literal["gaussian", "uniform"] = "gaussian",
        reading: Literal["auto", "centre", "dequantise", "none"] = "auto",
        bits: int = 8,
    ):
        arguments: dict[str, Any] = {k: v for k, v in locals().items() if k not in ("self", "event_shape", "__class__")}
        arguments["hidden"], arguments["maxout"] = list(hidden), list(maxout)
        _check_choices(norm=(norm, ("pixel", "batch", "none")), prior=(prior, ("gaussian", "uniform")))
        _check_layers("hidden", hidden)
        _check_layers("maxout", maxout)
        _check_sizes(width=(width, 1, 65_536), pieces=(pieces, 1, 1024), blocks=(blocks, 0, _MOST_LAYERS))
        _check_sizes(stddev_group=(stddev_group, 0, 65_536), drop_input=(drop_input, 0, 0.99), drop=(drop, 0, 0.99))
        super().__init__(event_shape, latent_dim, Codec(_reading(reading, event_shape), bits), arguments)
        self.net = _net(net, self.event_shape)
        self.prior = prior
        self.generator, self.discriminator = self._pair(arguments)
        self.augmentation = Augmentation(self.event_shape, pixels=self.codec.reading != "none")

    def _pair(self, given: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
        shape, latent, hidden, width = self.event_shape, self.latent_dim, given["hidden"], given["width"]
        output: Output = "linear" if self.codec.reading == "none" else "sigmoid"
        if self.net == "conv":
            return (
                ConvGenerator(latent, shape, width, given["norm"], output, given["blocks"]),
                ConvDiscriminator(shape, width, given["stddev_group"], given["blocks"]),
            )
        if self.net == "maxout":
            rates = given["drop_input"], given["drop"]
            return (
                MLPGenerator(latent, shape, hidden, output),
                MaxoutDiscriminator(shape, given["maxout"], given["pieces"], *rates),
            )
        return MLPGenerator(latent, shape, hidden, output, SLOPE, None), MLPDiscriminator(shape, hidden[::-1])

    def decode(self, z: Tensor) -> Tensor:
        """G(z), (B, *E); pictures in [0, 1]."""
        code = self.check_latent(z) if self.prior == "gaussian" else uniform_prior(self.check_latent(z))
        with self.networks():
            x = self.generator(code)
        return x.to(z.dtype)

    def logits(self, x: Tensor) -> Tensor:
        # maxout nets see [0, 1] as in the paper; others what is centred, as their initialisation supposes
        centred = (
            self.check_event(x) if self.net == "maxout" or self.codec.reading == "none" else self.check_event(x) * 2 - 1
        )
        with self.networks():
            logits = self.discriminator(centred)
        return logits.to(x.dtype)


_MOST_LAYERS = 64  # a recipe from elsewhere shall not make us build without end


def uniform_prior(z: Tensor) -> Tensor:
    """z ~ N(0, I) -> √3 (2Φ(z) − 1) = √3 erf(z / √2) ~ U(−√3, √3), the paper's prior, of variance 1 too.

    >>> uniform_prior(torch.tensor([-9.0, 0.0, 9.0]))
    tensor([-1.7321,  0.0000,  1.7321])
    """
    return math.sqrt(3) * torch.erf(z / math.sqrt(2))


def _reading(reading: str, event_shape: Sequence[int]) -> Reading:
    if reading not in ("auto", "centre", "dequantise", "none"):
        raise TriptychError(f"a GAN reads pixels as centre or dequantise, and floats as none, got {reading!r}")
    if reading == "auto":
        return "centre" if len(event_shape) == 3 else "none"
    return reading  # type: ignore[return-value]


def _net(net: str, event_shape: tuple[int, ...]) -> str:
    _check_choices(net=(net, ("auto", "mlp", "maxout", "conv")))
    if net == "conv" and len(event_shape) != 3:
        raise TriptychError(f"conv nets take pictures (C, H, W), got {event_shape}: choose net=mlp")
    if net == "auto":
        return "conv" if len(event_shape) == 3 and min(event_shape[1:]) >= 8 else "mlp"
    return net


def _check_choices(**given: tuple[str, tuple[str, ...]]) -> None:
    for name, (choice, choices) in given.items():
        if choice not in choices:
            raise TriptychError(f"{name} should be one of {', '.join(choices)}, got {choice!r}")


def _check_sizes(**given: tuple[float, float, float]) -> None:
    for name, (size, least, most) in given.items():
        if not least <= size <= most:
            raise TriptychError(f"{name} should be {least} to {most}, got {size}")


def _check_layers(name: str, sizes: Sequence[int]) -> None:
    if len(sizes) > _MOST_LAYERS or min(sizes, default=1) < 1:
        raise TriptychError(f"{name} should be up to {_MOST_LAYERS} layers of at least 1 unit, got {tuple(sizes)}")
