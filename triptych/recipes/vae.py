"""Variational autoencoders: their configuration, how it becomes a model and a game, and presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from triptych.errors import TriptychError, check_choice
from triptych.recipes.priors import build_prior, prior_player, prior_steps
from triptych.recipes.recipe import Recipe, Training

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.objectives.player import Player, Span


@dataclass(frozen=True)
class VAEModel:
    """The two networks and the likelihood of a VAE."""

    family: ClassVar[str] = "vae"

    latent_dim: int = 32
    """Length of z."""
    net: Literal["auto", "mlp", "conv"] = "auto"
    """The networks: mlp (the paper's), conv (pictures of any size), or auto, by the data."""
    hidden: tuple[int, ...] = (500,)
    """Hidden layers of the mlp's encoder, mirrored in its decoder."""
    activation: Literal["tanh", "relu", "silu", "gelu"] = "tanh"
    """Activation of the mlp."""
    width: int = 32
    """First channel count of the conv nets; it doubles at each level, up to 8 times."""
    blocks: int = 0
    """Residual blocks at each level of the conv nets."""
    likelihood: Literal["auto", "bernoulli", "gaussian", "logistic"] = "auto"
    """p(x|z): bernoulli (black and white), gaussian (a density), logistic (8-bit pixels), or auto, by the data."""
    scale: Literal["shared", "output"] = "shared"
    """Scale of the gaussian or logistic: one number for each channel, or an output of the network for each value."""
    mean: Literal["auto", "sigmoid", "linear"] = "auto"
    """Mean of the gaussian: sigmoid for pictures, linear for other data, or auto, by the data."""
    bits: int = 8
    """Bit depth at which pixels are read."""
    prior: Literal["normal", "gaussian", "flow", "mixture", "vamp"] = "normal"
    """p(z): normal, N(0, I); gaussian, with the codes' mean and covariance; flow; mixture, of Gaussians; vamp, of the
    posteriors of learned pseudo-inputs."""
    components: int = 100
    """Components of a mixture or vamp prior."""


@dataclass(frozen=True)
class VAEObjective:
    """Which bound a VAE maximises."""

    estimator: Literal["B", "A", "k", "score"] = "B"
    """The bound: B (closed-form KL), A (all by sampling), k (importance-weighted), score (the naive gradient)."""
    draws: int = 1
    """Draws of z for each example: the paper's L, or k of the importance-weighted bound."""
    beta: float = 1.0
    """Weight of the KL."""
    warmup: int = 0
    """Steps over which the KL's weight grows from 0 to beta."""
    free_bits: float = 0.0
    """Nats below which the KL of a latent dimension is not reduced further (estimator B)."""
    prior_fit: Literal["after", "jointly"] = "after"
    """When a learned prior learns: after the rest, from its codes (until then the bound is N(0, I)'s), or with it."""
    prior_steps: int | None = None
    """Steps after the VAE's in which the prior alone learns; without a number a third of both (for a gaussian: one)."""
    sharpen: float = 0
    """Last steps of the run, or below 1 the share of them, in which a discriminator sharpens the decoder; encoder and prior
    stay as they are."""
    sharpen_rate: float = 5e-4
    """The highest learning rate of decoder and discriminator then."""
    sharpen_width: int = 24
    """Channels of the discriminator at full size (of pictures)."""
    sharpen_weight: float = 0.3
    """Weight of each dimension's log p(x|z) beside the game."""
    sharpen_bound: float = 2.0
    """How many times the squared error of the plain VAE's reconstructions is too much: log p(x|z) then counts more."""

    def __post_init__(self) -> None:
        if self.free_bits and self.estimator != "B":
            raise TriptychError("free_bits floor the closed-form KL: they need --objective.estimator B")

    def judged(self, steps: int) -> int:
        """Those of the last steps, in which a discriminator sharpens the decoder.

        >>> [VAEObjective(sharpen=said).judged(9000) for said in (0, 0.5, 3000)]
        [0, 4500, 3000]
        """
        return int(self.sharpen if self.sharpen >= 1 else self.sharpen * steps)


def build(recipe: Recipe, batch: Tensor, context_dim: int = 0) -> GenerativeModel:
    """A VAE for stored values like `batch` (B, *E); what is "auto" is decided by the data."""
    from triptych.vae import defaults

    pixels, shape = not batch.is_floating_point(), tuple(batch.shape[1:])
    settings = dataclasses.asdict(recipe.model)
    if settings["likelihood"] == "auto":
        drawing = defaults.small_grey(shape) and defaults.nearly_binary(batch)
        settings["likelihood"] = ("bernoulli" if drawing else "logistic") if pixels else "gaussian"
    if settings["mean"] == "auto":
        settings["mean"] = "sigmoid" if pixels else "linear"
    if not pixels and settings["mean"] != "linear":
        raise TriptychError(
            "the data are floats, this recipe reads pixels: choose --model.likelihood gaussian --model.mean linear"
        )
    if pixels and settings["mean"] == "linear":
        raise TriptychError("the data are 8-bit pictures, a linear mean is for floats: choose --model.mean sigmoid")
    return from_numbers(shape, **settings, context_dim=context_dim)


def from_numbers(
    event_shape: tuple[int, ...],
    latent_dim: int = 20,
    net: str = "auto",
    hidden: Sequence[int] = (500,),
    activation: str = "tanh",
    width: int = 32,
    blocks: int = 0,
    likelihood: str = "bernoulli",
    scale: Literal["shared", "output"] = "shared",
    mean: Literal["sigmoid", "linear"] = "sigmoid",
    bits: int = 8,
    prior: str = "normal",
    components: int = 100,
    context_dim: int = 0,
) -> GenerativeModel:
    """The VAE that `VAEModel`'s numbers and strings describe; its arguments are those of checkpoints of format 1."""
    from triptych.vae import VAE, Bernoulli, DiscretisedLogistic, Gaussian, defaults

    check_choice("net", net, ("auto", "mlp", "conv"))
    check_choice("likelihood", likelihood, ("bernoulli", "gaussian", "logistic"))
    if mean == "linear" and likelihood != "gaussian":
        raise TriptychError(f"a linear mean is the Gaussian's: with likelihood={likelihood} leave mean=sigmoid")
    if net == "conv" and len(event_shape) != 3:
        raise TriptychError(f"conv nets take pictures (C, H, W), got {event_shape}: choose net=mlp")
    part = {
        "bernoulli": lambda: Bernoulli(bits),
        "gaussian": lambda: Gaussian(event_shape, scale, mean, bits),
        "logistic": lambda: DiscretisedLogistic(event_shape, scale, bits),
    }[likelihood]()
    networks: Any
    if net == "conv" or (net == "auto" and defaults.suited_to_convolutions(event_shape)):
        networks = partial(defaults.convolutions, width=width, blocks=blocks)
    else:
        networks = partial(defaults.perceptrons, hidden=hidden, activation=activation)
    encoder, decoder = networks(event_shape, latent_dim, part, context_dim=context_dim)
    parts: dict[str, Any] = {"encoder": encoder, "decoder": decoder, "likelihood": part}
    parts["prior"] = build_prior(prior, event_shape, latent_dim, components)
    return VAE(event_shape, latent_dim, **parts, context_dim=context_dim)


def players(recipe: Recipe, model: Any, processes: int = 1) -> dict[str, Player]:
    """The stages of a run: a player that maximises a bound; one that fits a prior which is not learned jointly; two that
    sharpen the decoder. Stages without steps are left out."""
    from triptych.capabilities import HasPosterior, require
    from triptych.core import Prior
    from triptych.objectives.player import Span
    from triptych.objectives.vae import VAEPlayer
    from triptych.vae.estimators import bound_a, bound_b, bound_k, score_function
    from triptych.vae.schedules import kl_weight

    require(model, HasPosterior)
    objective = recipe.objective
    bounds: dict[str, Any] = {
        "A": bound_a,
        "B": partial(bound_b, floor=objective.free_bits),
        "k": bound_k,
        "score": score_function,
    }
    bound = partial(bounds[objective.estimator], draws=objective.draws)
    weight = partial(kl_weight, beta=objective.beta, warmup=objective.warmup)
    sharpened = objective.judged(recipe.steps)
    plain = recipe.steps - sharpened
    if plain < 0:
        raise TriptychError(
            f"sharpen are some of the run's {recipe.steps} steps, got {sharpened}: raise --steps, or give a share below 1"
        )
    after = objective.prior_fit == "after" and isinstance(model.prior, Prior)
    alone = plain - (prior_steps(recipe, recipe.model.prior, plain) if after else 0)
    found: dict[str, Player] = {}
    if alone:
        found["vae"] = VAEPlayer(model, bound, weight, own_prior=not after, span=Span(0, alone))
    if alone < plain:
        found["prior"] = prior_player(recipe, model, Span(alone, plain), recipe.model.prior)
    return found | (_sharpening(recipe, model, Span(plain), processes) if sharpened else {})


def complete(recipe: Recipe, model: Any) -> Any:
    """A VAE with what its game needs: a discriminator, from torch's random state, where its decoder is to be sharpened."""
    if not recipe.objective.sharpen:
        return model
    from triptych.compose import SharpenedVAE
    from triptych.gan.model import default_discriminator
    from triptych.vae import VAE

    if isinstance(model, SharpenedVAE) or not isinstance(model, VAE):
        return SharpenedVAE.of(model)
    width = recipe.objective.sharpen_width
    return SharpenedVAE.of(
        model, default_discriminator(model.event_shape, model.codec, width=width, context_dim=model.context_dim)
    )


def _sharpening(recipe: Recipe, model: Any, span: Span, processes: int) -> dict[str, Player]:
    """Discriminator and decoder, by the game that is best for GANs of so few steps: see `triptych.recipes.gan`."""
    from triptych.gan.augment import ada_step
    from triptych.gan.games import GAMES
    from triptych.gan.penalties import ZeroCentred
    from triptych.objectives.gan import DiscriminatorPlayer, Match, check_match
    from triptych.objectives.sharpen import DecoderPlayer, mixed_codes

    objective, batch = recipe.objective, recipe.training.batch
    game, penalty, shown = GAMES["relativistic"], ZeroCentred(samples=True), batch * processes
    check_match(model, game, penalty, batch)
    model.augmentation.become(recipe.differentiable)
    match = Match(model, game, images=shown, codes=mixed_codes)
    loop = dataclasses.replace(recipe.training, **_SHARPENING, rate=objective.sharpen_rate)
    step = ada_step(shown, shown * objective.judged(recipe.steps))
    return {
        "discriminator": DiscriminatorPlayer(match, penalty=penalty, ada_step=step, span=span, loop=loop),
        "decoder": DecoderPlayer(match, objective.sharpen_weight, objective.sharpen_bound, span=span, loop=loop),
    }


# as the convolutional GANs' presets
_SHARPENING: dict[str, Any] = {
    "optimizer": "adam", "momentum": 0.0, "momentum_end": None, "beta2": 0.99, "weight_decay": 0.0, "clip": 0.0,
    "rate_warmup": 0, "decay": "cosine", "rate_end": 0.1,
}  # fmt: skip

_recipe = partial(Recipe, objective=VAEObjective(), training=Training(batch=64, rate=1e-3, rate_warmup=200))

PRESETS: dict[str, Recipe] = {
    "default": _recipe(VAEModel(prior="flow")),
    "mnist": _recipe(
        # a flow that learns with the rest: 3.3 nats better than one that is fitted afterwards
        # silu where the paper has tanh: 6.5 nats better after five epochs
        VAEModel(latent_dim=20, net="mlp", hidden=(500,), activation="silu", likelihood="bernoulli", prior="flow"),
        objective=VAEObjective(prior_fit="jointly"),
        data="mnist",
        steps=25_000,
        training=Training(batch=100, rate=2e-3, save_every=2000),
    ),
    "frey": _recipe(
        VAEModel(latent_dim=10, net="mlp", hidden=(200,), likelihood="gaussian", scale="output", mean="sigmoid"),
        data="frey",
        steps=40_000,
        training=Training(batch=100, rate=5e-4, save_every=2000),
    ),
    "faces": _recipe(
        VAEModel(net="conv", width=24, likelihood="logistic", prior="flow"),
        data="faces",
        size=32,
        steps=10_000,
        # in 100 seconds of one core a smile moves 80 % at this rate, 14 % at half of it in minibatches of 64
        training=Training(batch=32, rate=2e-3, rate_warmup=200),
    ),
    "celeba": _recipe(
        VAEModel(latent_dim=128, net="conv", width=24, likelihood="logistic", prior="flow"),
        data="celeba10k",
        size=64,
        augment="flip",
        steps=15_000,
        training=Training(batch=32, rate=3e-3, rate_warmup=200),
    ),
}
