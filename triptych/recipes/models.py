"""What a recipe says of each family's model and objective. The sentence under a field is also its `--help` text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class VAEModel:
    """The two networks and the likelihood of a VAE."""

    latent_dim: int = 20
    """Length of z."""
    net: Literal["auto", "mlp", "conv"] = "auto"
    """mlp (the paper's), conv (pictures of any size), or auto by the data."""
    hidden: tuple[int, ...] = (500,)
    """Hidden layers of the mlp's encoder, mirrored in its decoder."""
    activation: Literal["tanh", "relu", "silu", "gelu"] = "tanh"
    """Of the mlp."""
    width: int = 32
    """First channel count of the conv nets; it doubles at each level, up to 8 times."""
    blocks: int = 0
    """Residual blocks at each level of the conv nets."""
    likelihood: Literal["auto", "bernoulli", "gaussian", "logistic"] = "auto"
    """p(x|z): bernoulli (black and white), gaussian (a density), logistic (8-bit pixels), or auto by the data."""
    scale: Literal["shared", "output"] = "shared"
    """Scale of the gaussian or logistic: one number a channel, or put out by the network for every value."""
    mean: Literal["auto", "sigmoid", "linear"] = "auto"
    """Of the gaussian: sigmoid for pictures, linear for other data."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class VAEObjective:
    """Which bound a VAE maximises."""

    estimator: Literal["B", "A", "k", "score"] = "B"
    """B (closed-form KL), A (all by sampling), k (importance-weighted), score (the naive gradient, for comparison)."""
    draws: int = 1
    """Draws of z for each datum: the paper's L, or k of the importance-weighted bound."""
    beta: float = 1.0
    """Weight of the KL."""
    warmup: int = 0
    """Steps over which the KL's weight grows from 0 to beta."""
    free_bits: float = 0.0
    """Nats below which no latent dimension's KL is pressed (estimator B)."""


@dataclass(frozen=True)
class NICEModel:
    """A stack of additive couplings."""

    couplings: int = 4
    """Coupling layers, which change odd and even values in turn."""
    hidden: tuple[int, ...] = (500, 500, 500)
    """Hidden layers of each coupling's network (the paper: five of 1000)."""
    prior: Literal["logistic", "gaussian"] = "logistic"
    """Of each latent value; the logistic one is mapped to z ~ N(0, I)."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class RealNVPModel:
    """Scales of couplings with checkerboard and channel masks."""

    levels: int | None = None
    """Scales, each but the last of which halves every side; without a number, the most the size allows, up to 3."""
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

    levels: int | None = None
    """Scales, each of which halves every side; without a number, the most the size allows, up to 3."""
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


@dataclass(frozen=True)
class FlowObjective:
    """The exact likelihood, and what is watched while it is maximised."""

    drift_bound: float = 1e-3
    """Drift of the reversible inversion beyond which gradients are computed with checkpoints instead."""
    sample_bound: float = 10.0
    """Values of samples at temperature 1 beyond which training warns, in units of the data's largest (1 for pixels)."""
