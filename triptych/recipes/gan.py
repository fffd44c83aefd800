"""Adversarial networks: the 2014 perceptrons, convolutional and progressively grown ones. Their configurations, how each
becomes a model and a game, and presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from triptych.errors import TriptychError, check_choice
from triptych.recipes.priors import build_prior, prior_player, prior_steps
from triptych.recipes.recipe import Recipe, Training

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import Codec, GenerativeModel
    from triptych.objectives.player import Player


@dataclass(frozen=True)
class GANModel:
    """The 2014 paper's networks: a perceptron that generates, and one of maxout units that judges."""

    family: ClassVar[str] = "gan"

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

    family: ClassVar[str] = "dcgan"

    latent_dim: int = 64
    """Length of z."""
    width: int = 32
    """Channels at full size; they double at each level, up to 8 times."""
    blocks: int = 0
    """Residual blocks at each level."""
    norm: Literal["none", "batch", "pixel"] = "none"
    """Normalisation in the generator; the discriminator never has any."""
    stddev_group: int = 4
    """Examples that share a minibatch standard deviation, by which the discriminator sees a collapse; 0 leaves it out."""
    encoder: bool = False
    """Learn an encoder as a third player of the game, so that the model encodes and edits as others do."""
    code_prior: Literal["normal", "gaussian", "flow"] = "normal"
    """p(z) of samples: normal, N(0, I); gaussian or flow, fitted to the encoder's codes of data at the end of the run."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class ProgressiveModel:
    """Networks that grow from 4 × 4, for square pictures with sides of a power of two."""

    family: ClassVar[str] = "progressive"

    latent_dim: int = 64
    """Length of z (the paper: 512)."""
    width: int = 32
    """Largest number of channels (the paper: 512); above 32 × 32 they halve at each level."""
    images: int | None = None
    """Real pictures in each phase, in which a level fades in or is trained whole (the paper: 600,000); 0 starts at the full
    size. Without a number the phases share the steps equally, and the last one trains the full size."""
    stddev_group: int = 4
    """Examples that share a minibatch standard deviation; 0 leaves it out."""
    bits: int = 8
    """Bit depth at which pixels are read."""


@dataclass(frozen=True)
class GANObjective:
    """The game between generator and discriminator."""

    game: Literal["nonsaturating", "minimax", "wgan", "relativistic"] = "nonsaturating"
    """The losses: one of the 2014 paper's two, Wasserstein's, or the relativistic one on pairs of data and samples."""
    plays: int = 1
    """Minibatches of the discriminator to one of the generator (the paper's k)."""
    penalty: Literal["none", "r1", "r1r2", "gp"] = "none"
    """Penalty on the discriminator's gradient: at data (r1), at samples too (r1r2), or towards 1 between the two (gp)."""
    gamma: float | None = None
    """Weight of the penalty; without a number 0.1 for r1 and r1r2, and the paper's λ, 10, for gp."""
    every: int | None = None
    """Steps between penalties, whose weight grows in proportion (lazy regularisation): a penalty costs as much as the rest
    of a step. Without a number 4 for r1 and r1r2, 1 for gp."""
    discriminator_weight: float = 1.0
    """Factor on the discriminator's loss (the 2014 paper's code: ½)."""
    drift: float = 0.0
    """Weight of D(x)², which keeps Wasserstein's game from drifting (Karras et al. 2018: 0.001)."""
    mismatch: float = 1.0
    """Weight of real examples shown with the attributes of others, which D learns to reject (conditional models)."""
    share: bool = False
    """Let one pass of the generator serve both players: faster, but they no longer draw their own z."""
    tie: float = 0.0
    """Weight of the error of reconstructions of data in the generator's loss (models with an encoder); 0: samples alone."""
    prior_steps: int | None = None
    """Steps at the end of the run in which a prior of codes alone learns; without a number a tenth (for a gaussian: one)."""
    ada_target: float | None = None
    """How sure of its data D should be with --augment ada, from -1 to 1; without a number E sign D(x) = 0.6 as in the paper,
    or where only differences count (wgan, relativistic) the equivalent E sign(D(x) - D(G(z))) = 0.77."""
    ada_images: int | None = None
    """Real pictures seen while the probability of --augment ada goes from 0 to 1; without a number a tenth of the run's, at
    most the paper's 500,000."""

    def judged(self, steps: int) -> int:
        """All that it is shown, k minibatches a step."""
        return steps * self.plays

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


def build_gan(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """The perceptrons of 2014 for stored values like `batch` (B, *E)."""
    return _pair(recipe, batch, context_dim)


def build_dcgan(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """Convolutional networks for stored values like `batch` (B, *E)."""
    return _pair(recipe, batch, context_dim, net="conv")


def build_progressive(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """Growing networks for pictures like `batch` (B, *E); without a number of images, the steps are shared by the phases."""
    from triptych.gan import ProgressiveGAN

    if batch.is_floating_point():
        raise TriptychError("a progressive GAN is for 8-bit pictures, the data are floats: train a gan instead")
    shape, settings = tuple(batch.shape[1:]), dataclasses.asdict(recipe.model)
    if settings["images"] is None:
        # one phase at 4 × 4, then two at each level
        phases = 2 * max(0, math.frexp(shape[-1])[1] - 3) + 1
        settings["images"] = max(1, recipe.steps * recipe.training.batch * recipe.objective.plays // phases)
    return ProgressiveGAN(shape, **settings, context_dim=context_dim)


def progressive_side(size: tuple[int, ...]) -> int:
    """The side of growing networks for pictures of this height and width: the power of two at or below the shorter side.

    >>> progressive_side((40, 24)), progressive_side((8, 8)), progressive_side((3, 9))
    (16, 8, 4)
    """
    return max(4, 2 ** (min(size).bit_length() - 1))


def _pair(recipe: Recipe, batch: Tensor, context_dim: int, **net: str) -> GenerativeModel:
    objective = recipe.objective
    if (objective.tie or objective.prior_steps is not None) and not getattr(recipe.model, "encoder", False):
        raise TriptychError("tie and prior_steps are for a GAN that encodes: train dcgan with --model.encoder")
    reading = "none" if batch.is_floating_point() else "centre"
    settings = dataclasses.asdict(recipe.model) | net
    return from_numbers(tuple(batch.shape[1:]), **settings, reading=reading, context_dim=context_dim)


def from_numbers(
    event_shape: tuple[int, ...],
    latent_dim: int = 100,
    net: str = "auto",
    hidden: Sequence[int] = (1200, 1200),
    maxout: Sequence[int] = (240, 240),
    pieces: int = 5,
    drop_input: float = 0.2,
    drop: float = 0.5,
    width: int = 32,
    blocks: int = 0,
    norm: Literal["pixel", "batch", "none"] = "pixel",
    stddev_group: int = 4,
    prior: str = "gaussian",
    reading: str = "auto",
    bits: int = 8,
    encoder: bool = False,
    code_prior: str = "normal",
    context_dim: int = 0,
) -> GenerativeModel:
    """The GAN that the configurations' numbers and strings describe; its arguments are those of checkpoints of format 1."""
    from triptych.gan import MaxoutGAN

    check_choice("net", net, ("auto", "mlp", "maxout", "conv"))
    check_choice("prior", prior, ("gaussian", "uniform"))
    common: dict[str, Any] = {"codec": _codec(event_shape, reading, bits), "context_dim": context_dim}
    uniform = prior == "uniform"
    if net == "maxout":
        return MaxoutGAN(event_shape, latent_dim, hidden, maxout, pieces, drop_input, drop, uniform, **common)
    networks = _perceptrons(hidden)
    if _by_convolutions(net, event_shape):
        networks = _convolutions(width, blocks, norm, stddev_group)
    return _paired(event_shape, latent_dim, networks, uniform, width if encoder else None, code_prior, common)


def _perceptrons(hidden: Sequence[int]) -> tuple[Any, Any]:
    from triptych.gan import MLPDiscriminator, MLPGenerator

    return partial(MLPGenerator, hidden=hidden), partial(MLPDiscriminator, hidden=hidden[::-1])


def _convolutions(width: int, blocks: int, norm: Any, stddev_group: int) -> tuple[Any, Any]:
    from triptych.gan import ConvDiscriminator, ConvGenerator

    judge = partial(ConvDiscriminator, width=width, stddev_group=stddev_group, blocks=blocks)
    return partial(ConvGenerator, width=width, norm=norm, blocks=blocks), judge


def _paired(
    event_shape: tuple[int, ...],
    latent_dim: int,
    networks: tuple[Any, Any],
    uniform: bool,
    encoder: int | None,
    code_prior: str,
    common: dict[str, Any],
) -> GenerativeModel:
    """A GAN of a generator and a discriminator that are still to be made, with an encoder of so many channels, or none."""
    from triptych.compose import EncodedGAN
    from triptych.gan import GAN
    from triptych.nets import blank_encoder

    codec, context_dim = common["codec"], common["context_dim"]
    generator, discriminator = networks
    output = "sigmoid" if codec.is_picture else "linear"
    parts: dict[str, Any] = {
        "generator": generator(latent_dim, event_shape, output=output, uniform=uniform, context_dim=context_dim),
        "discriminator": discriminator(event_shape, centre=codec.centred, context_dim=context_dim),
    }
    if encoder is not None:
        parts["encoder"] = blank_encoder(event_shape, latent_dim, encoder, context_dim)
        parts["prior"] = build_prior(code_prior, event_shape, latent_dim)
        return EncodedGAN(event_shape, latent_dim, **parts, **common)
    if code_prior != "normal":
        raise TriptychError(f"a {code_prior} prior is fitted to an encoder's codes of data: add --model.encoder")
    return GAN(event_shape, latent_dim, **parts, **common)


def _by_convolutions(net: str, event_shape: tuple[int, ...]) -> bool:
    picture = len(event_shape) == 3
    if net == "conv" and not picture:
        raise TriptychError(f"conv nets take pictures (C, H, W), got {event_shape}: choose net=mlp")
    return net == "conv" or (net == "auto" and picture and min(event_shape[1:]) >= 8)


def _codec(event_shape: tuple[int, ...], reading: str, bits: int) -> Codec:
    from triptych.codecs import BinCentres, Dequantised, Floats

    check_choice("reading", reading, ("auto", "centre", "dequantise", "none"))
    if reading == "none" or (reading == "auto" and len(event_shape) != 3):
        return Floats()
    return Dequantised(bits) if reading == "dequantise" else BinCentres(bits)


def players(recipe: Recipe, model: Any, processes: int = 1) -> dict[str, Player]:
    """Discriminator and generator, in the order in which they play."""
    from triptych.gan import Adversarial
    from triptych.gan.augment import ada_step
    from triptych.gan.games import GAMES
    from triptych.gan.penalties import TowardsSlope, ZeroCentred
    from triptych.objectives.gan import DiscriminatorPlayer, GeneratorPlayer, Match, check_match

    if not isinstance(model, Adversarial):
        raise TriptychError(f"a {type(model).__name__} has no discriminator to play with: train it as its own family")
    objective, batch = recipe.objective, recipe.training.batch
    gamma, every = objective.penalising
    penalty = {
        "none": lambda: None,
        "r1": lambda: ZeroCentred(gamma, every),
        "r1r2": lambda: ZeroCentred(gamma, every, samples=True),
        # slopes are half as steep in the papers' [−1, 1], where their target is 1
        "gp": lambda: TowardsSlope(gamma, every, slope=2.0 if model.codec.is_picture else 1.0),
    }[objective.penalty]()
    game, shown = GAMES[objective.game], batch * objective.plays * processes
    check_match(model, game, penalty, batch)
    model.augmentation.become(recipe.differentiable)
    match = Match(model, game, images=shown, share=objective.share)
    discriminator = DiscriminatorPlayer(
        match,
        plays=objective.plays,
        weight=objective.discriminator_weight,
        penalty=penalty,
        drift_weight=objective.drift,
        mismatch_weight=objective.mismatch,
        ada_step=ada_step(batch * processes, shown * recipe.steps, objective.ada_images),
        ada_target=objective.ada_target,
    )
    both: dict[str, Player] = {"discriminator": discriminator, "generator": GeneratorPlayer(match, objective.tie)}
    return both | _encoding(recipe, model, both)


def _encoding(recipe: Recipe, model: Any, both: dict[str, Player]) -> dict[str, Player]:
    """Who learns to encode beside the game, and who fits a prior to the codes once that is over."""
    from triptych.compose import EncodedGAN
    from triptych.core import Prior
    from triptych.objectives.encoder import EncoderPlayer
    from triptych.objectives.player import Span

    if not isinstance(model, EncodedGAN):
        return {}
    others: dict[str, Player] = {"encoder": EncoderPlayer(model, loop=dataclasses.replace(recipe.training, **_ENCODER))}
    if isinstance(model.prior, Prior):
        name = getattr(recipe.model, "code_prior", "flow")
        first = recipe.steps - prior_steps(recipe, name, recipe.steps, share=1 / 10)
        for player in (*both.values(), others["encoder"]):
            player.span = Span(0, first)
        others["prior"] = prior_player(recipe, model, Span(first), name)
    return others


# of an encoder beside the game: it minimises, while the momenta of the game's players suit an equilibrium
_ENCODER: dict[str, Any] = {"optimizer": "adam", "rate": 1e-3, "momentum": 0.9, "beta2": 0.999, "clip": 0.0}

# Goodfellow et al. 2014: the rate falls by 1.000004 an update (0.61 after their 250 epochs), momentum grows meanwhile
_GAN_2014 = Training(
    batch=100, optimizer="sgd", rate=0.1, momentum=0.5, momentum_end=0.7, decay="exponential", rate_end=0.61
)
# small minibatches: of what one core can show, more and larger steps
_DCGAN = Training(batch=16, rate=1.5e-3, momentum=0.0, beta2=0.99, decay="cosine", rate_end=0.1, ema=0.99)
# Karras et al. 2018, appendix A.1; the gradient's target of 1 is for [−1, 1], as their λ
_PROGRESSIVE = Training(batch=16, rate=1e-3, momentum=0.0, beta2=0.99, decay="constant", ema=0.999)

_paper = partial(Recipe, GANModel(), GANObjective(discriminator_weight=0.5), training=_GAN_2014)
# what was best with the same time: benchmarks/games.py, hinge.py
_convolutional = partial(Recipe, objective=GANObjective(game="relativistic", penalty="r1r2", share=True), training=_DCGAN)
_growing = partial(Recipe, objective=GANObjective(game="wgan", penalty="gp", drift=1e-3), training=_PROGRESSIVE)

GAN_PRESETS: dict[str, Recipe] = {
    "default": _paper(),
    "mnist": _paper(data="mnist", steps=30_000),
    # section 5 and the released code, which plays the non-saturating game at half the discriminator's loss. Left out:
    # there the generator's last bias begins at the logits of the data's means, here at 0
    "paper-mnist": _paper(data="mnist", steps=125_000, training=dataclasses.replace(_GAN_2014, ema=0.0, save_every=5000)),
}

DCGAN_PRESETS: dict[str, Recipe] = {
    "default": _convolutional(DCGANModel()),
    "faces": _convolutional(DCGANModel(width=16), data="faces", size=32),
    "mnist": _convolutional(DCGANModel(width=16), data="mnist", steps=10_000),
    "celeba": _convolutional(DCGANModel(width=16), data="celeba10k", size=32, augment="flip", steps=10_000),
}

PROGRESSIVE_PRESETS: dict[str, Recipe] = {
    "default": _growing(ProgressiveModel(), steps=11_250),
    "faces": _growing(ProgressiveModel(), data="faces", size=64, steps=11_250),
    "celeba": _growing(ProgressiveModel(), data="celeba10k", size=64, augment="flip", steps=11_250),
    "paper-celeba": _growing(
        ProgressiveModel(latent_dim=512, width=512, images=600_000), data="celeba", size=128, augment="flip", steps=750_000
    ),
}
