"""Flows: NICE, RealNVP, Glow and SpectralFlow. Their configurations, how each becomes a model and a game, and presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from triptych.errors import TriptychError
from triptych.recipes.recipe import Recipe, Training

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.objectives.player import Player


@dataclass(frozen=True)
class NICEModel:
    """A stack of additive couplings."""

    family: ClassVar[str] = "nice"

    couplings: int = 4
    """Coupling layers, which change odd and even values in turn."""
    hidden: tuple[int, ...] = (500, 500, 500)
    """Hidden layers of each coupling's network (the paper: five of 1000)."""
    prior: Literal["logistic", "gaussian"] = "logistic"
    """Prior of each latent value; the logistic one is mapped to z ~ N(0, I)."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class RealNVPModel:
    """Scales of couplings with checkerboard and channel masks."""

    family: ClassVar[str] = "realnvp"

    levels: int | None = None
    """Scales, each but the last of which halves every side; without a number, as many as the size allows, up to 3."""
    blocks: int = 2
    """Residual blocks of each coupling's network (the paper: 4, and 8 for CIFAR-10)."""
    width: int = 32
    """Channels of those networks at full size."""
    coupling: Literal["affine", "additive"] = "affine"
    """What a coupling does: scale and shift, or shift alone."""
    dequantisation: Literal["uniform", "variational"] = "uniform"
    """Noise that fills a pixel's bin: uniform, or learned (a bound on the likelihood of the bin)."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class GlowModel:
    """Scales of flow steps: actnorm, invertible 1×1 convolution, coupling."""

    family: ClassVar[str] = "glow"

    levels: int | None = None
    """Scales, each of which halves every side; without a number, as many as the size allows, up to 3."""
    depth: int = 8
    """Flow steps in each scale (the paper: 32)."""
    width: int = 64
    """Channels of the couplings' networks (the paper: 512)."""
    permutation: Literal["invertible", "plain", "shuffle", "reverse"] = "invertible"
    """How channels are mixed: 1×1 convolution by LU, the same by a plain matrix, a fixed random order, or reversed."""
    coupling: Literal["affine", "additive"] = "affine"
    """What a coupling does: scale and shift, or shift alone."""
    memory: Literal["full", "checkpoint", "reversible"] = "full"
    """What training keeps: all activations, each step's input, or the last output alone (steps are inverted going back)."""
    dequantisation: Literal["uniform", "variational"] = "uniform"
    """Noise that fills a pixel's bin: uniform, or learned (a bound on the likelihood of the bin)."""
    bits: int = 8
    """Bit depth at which pixels are read (the paper's faces: 5)."""
    whiten: Literal["none", "pca", "zca"] = "none"
    """Begins with a whitening of the whole picture that is fitted to the data: along its principal components, or by the
    least change (zca, which keeps neighbours neighbours). The paper has none."""
    positions: bool = False
    """Parameters of each position's own, for pictures that are aligned: an actnorm in each scale, the networks' biases."""
    rank: int | None = None
    """Components of the whitening with a variance of their own, the others sharing one: all take a matrix of as many rows
    and columns as an example has values. Without a number all of up to 4,096 values, and 512 of more."""


@dataclass(frozen=True)
class SpectralModel:
    """Principal components of the whole example in groups, each given those of larger variance."""

    family: ClassVar[str] = "spectral"

    groups: tuple[int, ...] = (16, 16, 32, 64, 128, 256, 512)
    """Sizes of the groups, from large to small variance; all other components are one more group."""
    width: int = 512
    """Hidden units of each group's trunk, which sees the groups before it."""
    depth: int = 1
    """Residual blocks of each trunk."""
    couplings: int = 4
    """Couplings of each group that has any."""
    coupling_width: int = 128
    """Hidden units of the couplings' networks."""
    splines: int = 3
    """How many groups are coupled by splines, those after them by affine maps."""
    coupled: int = 5
    """How many groups are coupled at all; those after them are Gaussian, given the groups before."""
    rank: int | None = None
    """Components that are kept apart, the rest sharing one variance; without a number all of up to 4,096, and of more as
    many as the groups name."""
    noise: float = 0.0
    """On what a group is told of those before it, in training alone, in standard deviations: samples of drawn faces are
    then twice as near to data, for 2 to 3 % of the bits."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class FlowObjective:
    """The exact likelihood, and what is watched while it is maximised."""

    drift_bound: float = 1e-3
    """Drift of the reversible inversion beyond which gradients are computed with checkpoints instead."""
    sample_bound: float = 10.0
    """Values of samples at temperature 1 beyond which training warns, in units of the data's largest (1 for pixels)."""

    def judged(self, steps: int) -> int:
        """A flow has no discriminator."""
        return 0


def nice(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """NICE for stored values like `batch` (B, *E)."""
    from triptych.flow import NICE

    return NICE(tuple(batch.shape[1:]), **_settings(recipe, batch), context_dim=context_dim)


def realnvp(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """RealNVP for stored values like `batch` (B, *E); without a number of levels, the most that the size allows, up to 3."""
    from triptych.flow import RealNVP
    from triptych.flow.realnvp import most_scales

    shape = tuple(batch.shape[1:])
    return RealNVP(shape, **_settings(recipe, batch, most=max(1, most_scales(shape))), context_dim=context_dim)


def glow(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """Glow for stored values like `batch` (B, *E); without a number of levels, the most that the size allows, up to 3."""
    from triptych.bijections.squeeze import most_levels
    from triptych.flow import Glow

    shape = tuple(batch.shape[1:])
    return Glow(shape, **_settings(recipe, batch, most=most_levels(shape)), context_dim=context_dim)


def spectral(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """SpectralFlow for stored values like `batch` (B, *E)."""
    from triptych.flow import SpectralFlow

    return SpectralFlow(tuple(batch.shape[1:]), **_settings(recipe, batch), context_dim=context_dim)


def _settings(recipe: Recipe, batch: Tensor, most: int = 0) -> dict[str, Any]:
    """The model's part of a recipe as a flow's arguments, the reading and the levels decided by the data."""
    settings = dataclasses.asdict(recipe.model)
    pixels = not batch.is_floating_point()
    if not pixels and settings.get("dequantisation", "uniform") != "uniform":
        raise TriptychError("the data are floats, which have no bins to fill: choose --model.dequantisation uniform")
    if "levels" in settings and settings["levels"] is None:
        settings["levels"] = min(_LEVELS, most)
    return {**settings, "reading": "dequantise" if pixels else "none"}


_LEVELS = 3  # scales where a recipe names none: Glow's number at 32×32


def players(recipe: Recipe, model: Any, processes: int = 1) -> dict[str, Player]:
    """The one player of maximum likelihood."""
    from triptych.flow import Flow
    from triptych.objectives.flow import FlowPlayer

    if not isinstance(model, Flow):
        raise TriptychError(f"a {type(model).__name__} is not a flow: train it as its own family")
    return {"flow": FlowPlayer(model, recipe.objective.drift_bound, recipe.objective.sample_bound)}


_DENSE = Training(batch=100, rate=1e-3, rate_warmup=200, clip=50.0, save_every=2000)
_PAPER_REALNVP = Training(batch=64, rate=1e-3, decay="constant", clip=100.0, save_every=5000)
_recipe = partial(Recipe, objective=FlowObjective(), training=Training(batch=32, rate=1e-3, rate_warmup=200, clip=50.0))


def _paper_glow(data: str, size: int | None, batch: int, model: GlowModel, augment: str = "") -> Recipe:
    training = Training(
        batch=batch, optimizer="adamax", rate=1e-3, rate_warmup=1000, decay="constant", ema=0.9999, save_every=5000
    )
    return _recipe(model, data=data, size=size, augment=augment, steps=500_000, training=training)


NICE_PRESETS: dict[str, Recipe] = {
    "default": _recipe(NICEModel()),
    "faces": _recipe(NICEModel(), data="faces", size=32),
    "mnist": _recipe(NICEModel(), data="mnist", steps=20_000, training=_DENSE),
    "fashion-mnist": _recipe(NICEModel(), data="fashion-mnist", steps=20_000, training=_DENSE),
    # section 5.1. Its Adam has β₂ = .01, which forgets the second moment at once and was hardly meant: .999 here.
    # It names no batch size; the steps are 1500 epochs of 200.
    "paper-mnist": _recipe(
        NICEModel(hidden=(1000,) * 5),
        data="mnist",
        steps=450_000,
        training=Training(batch=200, rate=1e-3, decay="constant", ema=0.0, save_every=5000),
    ),
}

REALNVP_PRESETS: dict[str, Recipe] = {
    "default": _recipe(RealNVPModel()),
    "faces": _recipe(RealNVPModel(), data="faces", size=32),
    "mnist": _recipe(RealNVPModel(width=24), data="mnist"),
    "fashion-mnist": _recipe(RealNVPModel(width=24), data="fashion-mnist"),
    "celeba": _recipe(RealNVPModel(), data="celeba10k", size=32, augment="flip"),
    "cifar10-4k": _recipe(RealNVPModel(), data="cifar10-4k", augment="flip"),
    # section 4.1: batch 64, Adam; CIFAR-10 is downscaled once, others down to 4 × 4. The released code clips at 100;
    # the paper's penalty on weight-norm scales alone (5e-5) is left out
    "paper-cifar10": _recipe(
        RealNVPModel(levels=2, blocks=8, width=64), data="cifar10", augment="flip", steps=500_000, training=_PAPER_REALNVP
    ),
    "paper-imagenet32": _recipe(
        RealNVPModel(levels=4, blocks=4, width=32), data="imagenet32", steps=500_000, training=_PAPER_REALNVP
    ),
}

_ALIGNED = GlowModel(whiten="zca", positions=True)  # of pictures in which a position means something: benchmarks/hinge.py
GLOW_PRESETS: dict[str, Recipe] = {
    "default": _recipe(GlowModel()),
    "faces": _recipe(_ALIGNED, data="faces", size=32),
    "mnist": _recipe(GlowModel(), data="mnist"),
    "fashion-mnist": _recipe(GlowModel(), data="fashion-mnist"),
    "celeba": _recipe(_ALIGNED, data="celeba10k", size=32, augment="flip"),
    "cifar10-4k": _recipe(GlowModel(), data="cifar10-4k", augment="flip"),
    # the appendix's table of levels, depth, coupling and batch; Adamax as in the released code
    "paper-cifar10": _paper_glow("cifar10", None, 512, GlowModel(levels=3, depth=32, width=512), augment="flip,shift"),
    "paper-imagenet32": _paper_glow("imagenet32", None, 512, GlowModel(levels=3, depth=48, width=512)),
    "paper-imagenet64": _paper_glow("imagenet64", None, 128, GlowModel(levels=4, depth=48, width=512)),
    "paper-celeba": _paper_glow(
        "celeba", 256, 40, GlowModel(levels=6, depth=32, width=512, coupling="additive", memory="reversible", bits=5), "flip"
    ),
}

# a strong decay: of thousands of examples a trunk learns hundreds of components by heart
_SPECTRAL = Training(batch=128, optimizer="adamw", rate=3e-3, weight_decay=1.0, rate_warmup=200, clip=1.0)
SPECTRAL_PRESETS: dict[str, Recipe] = {
    "default": _recipe(SpectralModel(noise=0.2), training=_SPECTRAL),
    "faces": _recipe(SpectralModel(noise=0.2), data="faces", size=32, training=_SPECTRAL),
    "celeba": _recipe(SpectralModel(noise=0.2), data="celeba10k", size=32, training=_SPECTRAL),
}
