"""What a recipe says of each family's model and objective. The sentence under a field is also its `--help` text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


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


@dataclass(frozen=True)
class GANModel:
    """The 2014 paper's networks: a perceptron that generates, and one of maxout units that judges."""

    latent_dim: int = 100
    """Length of z."""
    net: Literal["maxout", "mlp"] = "maxout"
    """The discriminator: the paper's maxout units with dropout, or leaky ReLUs, as many as the generator has."""
    hidden: tuple[int, ...] = (1200, 1200)
    """Hidden layers of the generator."""
    prior: Literal["uniform", "gaussian"] = "uniform"
    """What the generator's network is given: z through Φ, uniform on ±√3 as in the paper, or z itself."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class DCGANModel:
    """Convolutional networks for pictures of any size and channel count."""

    latent_dim: int = 64
    """Length of z."""
    width: int = 32
    """Channels at full size; they double at each level, up to 8 times."""
    blocks: int = 0
    """Residual blocks at each level."""
    norm: Literal["none", "batch", "pixel"] = "pixel"
    """Normalisation in the generator; the discriminator never has any."""
    stddev_group: int = 4
    """Data that share a minibatch standard deviation, by which the discriminator sees a collapse; 0 leaves it out."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class ProgressiveModel:
    """Networks that grow from 4 × 4, for square pictures with sides of a power of two."""

    latent_dim: int = 64
    """Length of z (the paper: 512)."""
    width: int = 32
    """Most channels (the paper: 512); above 32 × 32 they halve at each level."""
    images: int | None = None
    """Real pictures of each phase, in which a level fades in or is trained whole (the paper: 600,000); 0 never grows.
    Without a number the steps are shared equally, and the last phase trains the full size."""
    stddev_group: int = 4
    """Data that share a minibatch standard deviation; 0 leaves it out."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class GANObjective:
    """The game between generator and discriminator."""

    game: Literal["nonsaturating", "minimax", "wgan", "relativistic"] = "nonsaturating"
    """Whose losses: the 2014 paper's two, Wasserstein's, or relativistic on pairs of data and samples."""
    plays: int = 1
    """Minibatches of the discriminator to one of the generator (the paper's k)."""
    penalty: Literal["none", "r1", "r1r2", "gp"] = "none"
    """On the discriminator's gradient: at data (r1), at samples too (r1r2), or towards 1 between the two (gp)."""
    gamma: float | None = None
    """Weight of the penalty; without a number what suits it: r1 and r1r2 0.1, gp the paper's λ, 10."""
    every: int | None = None
    """Steps between penalties, whose weight grows as much (lazy regularisation); they cost as much as the rest. Without a
    number 4 for r1 and r1r2, 1 for gp."""
    discriminator_weight: float = 1.0
    """Factor on the discriminator's loss (the 2014 paper's code: ½)."""
    drift: float = 0.0
    """Weight of D(x)², which keeps Wasserstein's game from drifting (Karras et al. 2018: 0.001)."""
    share: bool = False
    """One pass of the generator serves both players: faster, but they no longer draw their own z."""
    ada_target: float | None = None
    """Of --augment ada: how sure of its data D should be, from -1 to 1; without a number E sign D(x) = 0.6 as in the paper,
    or where only differences count (wgan, relativistic) as much in E sign(D(x) - D(G(z))), 0.77."""
    ada_images: int | None = None
    """Of --augment ada: real pictures seen while its probability goes from 0 to 1; without a number a tenth of the run's, at
    most the paper's 500,000."""

    @property
    def penalising(self) -> Penalising:
        """The penalty's weight and the steps between two, with what suits the penalty where a recipe says nothing.

        >>> GANObjective(penalty="gp").penalising, GANObjective(penalty="r1", gamma=1.0).penalising
        (Penalising(gamma=10.0, every=1), Penalising(gamma=1.0, every=4))
        """
        usual = _PENALISING[self.penalty]
        return Penalising(
            usual.gamma if self.gamma is None else self.gamma, usual.every if self.every is None else self.every
        )


class Penalising(NamedTuple):
    """How much the discriminator's penalty weighs, and every how many steps it is taken."""

    gamma: float
    every: int


# r1 and r1r2 as measured by benchmarks/games.py: at every fourth step a third more steps fit into the same time. gp as
# Gulrajani et al. 2017
_PENALISING = {
    "none": Penalising(0.0, 1),
    "r1": Penalising(0.1, 4),
    "r1r2": Penalising(0.1, 4),
    "gp": Penalising(10.0, 1),
}
