"""From a recipe and data to a model whose weights the recipe's seed decides."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from triptych.errors import TriptychError
from triptych.recipes.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.data import Split


def build(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    """A model for stored values shaped and typed like `batch` (B, *E), its weights drawn from the recipe's seed.

    What a flow initialises by data (actnorm) is set from this batch, which should be a fair sample: see `first_batch`.

    Raises:
        TriptychError: where the model cannot read such data; the message says what could.
    """
    import torch

    from triptych.flow import Flow

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = blank(recipe, batch)
        if isinstance(model, Flow):
            model.initialize(model.codec.encode(batch))
        return model


def blank(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    """The model before it has seen data; weights come from torch's random state."""
    return _MODELS[recipe.family](recipe, batch)


def first_batch(data: Split, most: int = 256) -> Tensor:
    """A sample of the split to build a model with: always the same, from all over it, fewer of larger data.

    The first data of a sorted set are no sample.
    """
    from triptych.evaluate.measure import some

    room = max(16, _VALUES // math.prod(data.event_shape))
    return data[some(len(data), min(most, room))]


_VALUES = 256 * 3 * 32 * 32  # of a first batch: activations of larger pictures would fill the memory


def _vae(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    from triptych.vae import VAE

    pixels = not batch.is_floating_point()
    settings = dataclasses.asdict(recipe.model)
    if settings["likelihood"] == "auto":
        settings["likelihood"] = _natural_likelihood(batch) if pixels else "gaussian"
    if settings["mean"] == "auto":
        settings["mean"] = "sigmoid" if pixels else "linear"
    if not pixels and settings["mean"] != "linear":
        raise TriptychError(
            "the data are floats, this recipe reads pixels: choose --model.likelihood gaussian --model.mean linear"
        )
    if pixels and settings["mean"] == "linear":
        raise TriptychError("the data are 8-bit pictures, a linear mean is for floats: choose --model.mean sigmoid")
    return VAE(tuple(batch.shape[1:]), **settings)


def _gan(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    from triptych.gan import GAN

    settings = {"net": "conv", **dataclasses.asdict(recipe.model)}
    return GAN(tuple(batch.shape[1:]), **settings, reading="none" if batch.is_floating_point() else "centre")


def _progressive(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    from triptych.gan import ProgressiveGAN

    if batch.is_floating_point():
        raise TriptychError("a progressive GAN is for 8-bit pictures, the data are floats: train a gan instead")
    shape, settings = tuple(batch.shape[1:]), dataclasses.asdict(recipe.model)
    if settings["images"] is None:
        # one phase at 4 × 4, then two at each level
        phases = 2 * max(0, math.frexp(shape[-1])[1] - 3) + 1
        settings["images"] = max(1, recipe.steps * recipe.training.batch * recipe.objective.plays // phases)
    return ProgressiveGAN(shape, **settings)


def _nice(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    from triptych.flow import NICE

    return NICE(tuple(batch.shape[1:]), **_flow_settings(recipe, batch))


def _realnvp(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    from triptych.flow import RealNVP
    from triptych.flow.realnvp import most_scales

    shape = tuple(batch.shape[1:])
    return RealNVP(shape, **_flow_settings(recipe, batch, levels=max(1, most_scales(shape))))


def _glow(recipe: Recipe, batch: Tensor) -> GenerativeModel:
    from triptych.flow import Glow
    from triptych.flow.layers.squeeze import most_levels

    shape = tuple(batch.shape[1:])
    return Glow(shape, **_flow_settings(recipe, batch, levels=most_levels(shape)))


def _flow_settings(recipe: Recipe, batch: Tensor, **most: int) -> dict[str, Any]:
    """The model's part of a recipe as a flow's arguments: the reading by the data, levels by the most the size allows."""
    settings = dataclasses.asdict(recipe.model)
    pixels = not batch.is_floating_point()
    if not pixels and settings.get("dequantisation", "uniform") != "uniform":
        raise TriptychError("the data are floats, which have no bins to fill: choose --model.dequantisation uniform")
    if "levels" in settings and settings["levels"] is None:
        settings["levels"] = min(_LEVELS, most["levels"])
    return {**settings, "reading": "dequantise" if pixels else "none"}


_LEVELS = 3  # scales where a recipe names none: Glow's number at 32×32

_MODELS = {
    "vae": _vae,
    "gan": _gan,
    "dcgan": _gan,
    "progressive": _progressive,
    "nice": _nice,
    "realnvp": _realnvp,
    "glow": _glow,
}


def _natural_likelihood(batch: Tensor) -> str:
    """Bernoulli for black-and-white or small grey pictures, as in the paper; the discretised logistic for the rest."""
    grey = batch.ndim < 4 or batch.shape[1] == 1
    return "bernoulli" if grey and max(batch.shape[2:], default=0) <= 28 else "logistic"
