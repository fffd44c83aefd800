"""The families, one row each: configuration, builder, objective, players, presets and help text.

Adding a family is a row here and its folder; everything else asks this table. Torch is imported only when a model is built.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from triptych.errors import TriptychError, unknown
from triptych.recipes import flow, gan, vae
from triptych.recipes.recipe import Recipe, Training, restored

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.codecs import Conditions
    from triptych.core import GenerativeModel
    from triptych.data import Split
    from triptych.objectives.player import Player


@dataclass(frozen=True, eq=False)
class Family:
    """One family of models.

    Attributes:
        name: what the command line and recipe.json call it.
        help: a sentence for `--help`.
        model, objective: the dataclasses that configure its networks and its training game.
        build: (recipe, stored values (B, *E), context_dim) -> a model whose weights come from torch's random state.
        players: (recipe, model, processes) -> the players of its game by name, in the order in which they play.
        side: (H, W) -> the side of the square pictures that it takes of such; None for families that take any size.
        complete: (recipe, model) -> the model with what its game needs besides, such as a discriminator that sharpens a VAE.
        presets: recipes by name; "default" is one of them. Those called paper-… are chosen by their own name only.
    """

    name: str
    help: str
    model: type
    objective: type
    build: Callable[[Recipe, Tensor, int], GenerativeModel]
    players: Callable[[Recipe, GenerativeModel, int], dict[str, Player]]
    presets: Mapping[str, Recipe]
    complete: Callable[[Recipe, Any], Any] = lambda recipe, model: model
    side: Callable[[tuple[int, ...]], int] | None = None


_ROWS = (
    Family("vae", "Train a variational autoencoder (Kingma & Welling 2013).",
           vae.VAEModel, vae.VAEObjective, vae.build, vae.players, vae.PRESETS, vae.complete),
    Family("gan", "Train a generative adversarial network of perceptrons (Goodfellow et al. 2014).",
           gan.GANModel, gan.GANObjective, gan.build_gan, gan.players, gan.GAN_PRESETS),
    Family("dcgan", "Train a convolutional generative adversarial network, for pictures of any size.",
           gan.DCGANModel, gan.GANObjective, gan.build_dcgan, gan.players, gan.DCGAN_PRESETS),
    Family("progressive", "Train a progressively grown generative adversarial network (Karras et al. 2018).",
           gan.ProgressiveModel, gan.GANObjective, gan.build_progressive, gan.players, gan.PROGRESSIVE_PRESETS,
           side=gan.progressive_side),
    Family("nice", "Train NICE, a flow of additive couplings (Dinh, Krueger & Bengio 2014).",
           flow.NICEModel, flow.FlowObjective, flow.nice, flow.players, flow.NICE_PRESETS),
    Family("realnvp", "Train RealNVP, a flow of masked affine couplings (Dinh, Sohl-Dickstein & Bengio 2016).",
           flow.RealNVPModel, flow.FlowObjective, flow.realnvp, flow.players, flow.REALNVP_PRESETS),
    Family("glow", "Train Glow, a flow with invertible 1×1 convolutions (Kingma & Dhariwal 2018).",
           flow.GlowModel, flow.FlowObjective, flow.glow, flow.players, flow.GLOW_PRESETS),
    Family("spectral", "Train a flow over the principal components of whole examples, from large to small variance.",
           flow.SpectralModel, flow.FlowObjective, flow.spectral, flow.players, flow.SPECTRAL_PRESETS),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = MappingProxyType({row.name: row for row in _ROWS})


def family(name: str) -> Family:
    """The family called `name`; an unknown one raises a `TriptychError` with the nearest."""
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    return FAMILIES[name]


def preset(name: str, called: str | None = None, data: str | None = None) -> Recipe:
    """A family's preset by its name; without one, that made for the data (never a paper's own), else the default.

    >>> preset("vae", data="mnist").model.hidden, preset("glow", data="faces?size=16").model.positions
    ((500,), True)
    """
    presets = family(name).presets
    if called is None:
        kind = (data or "").partition("?")[0]  # faces?hair_length:beard=-0.9 are faces
        made_for = (r for n, r in presets.items() if n != "default" and not n.startswith("paper-") and r.data == kind)
        return next(made_for, presets["default"])
    if called not in presets:
        raise unknown(f"preset of {name}", called, presets)
    return presets[called]


def from_json(stored: Any) -> Recipe:
    """The recipe of `recipes.to_json`, checked: an unknown family and unknown or missing fields are named."""
    if not isinstance(stored, dict):
        raise TriptychError(f"the training recipe should be an object, is {type(stored).__name__}: damaged or foreign")
    stored = dict(stored)
    stored.setdefault("held_out", "position")  # as earlier versions did it
    name = stored.pop("family", None)
    if not isinstance(name, str) or name not in FAMILIES:
        raise TriptychError(f"the recipe names family {name!r}; this version knows {', '.join(FAMILIES)}")
    row = FAMILIES[name]
    correlate = stored.pop("correlate", [])  # of earlier versions, where it was a field of its own
    if not isinstance(correlate, list) or not all(isinstance(pair, str) for pair in correlate):
        raise TriptychError(f"the recipe's correlate should be a list of texts, is {correlate!r:.60}: damaged or foreign")
    if correlate:
        pairs = (pair.rsplit(":", 1) for pair in correlate)
        stored["data"] = f"{stored['data']}?{'&'.join('='.join(pair) for pair in pairs)}"
    parts = {
        "model": restored(row.model, stored.pop("model", {})),
        "objective": restored(row.objective, stored.pop("objective", {})),
        "training": restored(Training, stored.pop("training", {})),
    }
    return restored(Recipe, stored | parts)


def build(
    recipe: Recipe, batch: Tensor, conditions: Conditions | None = None, context: Tensor | None = None
) -> GenerativeModel:
    """A model for stored values shaped and typed like `batch` (B, *E), its weights drawn from the recipe's seed.

    What depends on data (actnorm, the scale of floats) is set from this batch, which should be a fair sample: see
    `first_batch`.

    Args:
        conditions, context: what the model is given, and the batch's own (B, K).

    Raises:
        TriptychError: where the model cannot read such data; the message says what could.
    """
    from triptych.randomness import seeded

    with seeded(recipe.seed):
        made = family(recipe.family).build(recipe, batch, 0 if conditions is None else conditions.dim)
        made.codec.fit([batch])
        return _initialised(recipe, made, conditions, lambda examples: (batch, context))


def _initialised(
    recipe: Recipe,
    model: GenerativeModel,
    conditions: Conditions | None,
    look: Callable[[int], tuple[Tensor, Tensor | None]],
) -> GenerativeModel:
    """The model with what its game needs besides and its conditions, initialised from stored values (n, *E) and contexts."""
    model = family(recipe.family).complete(recipe, model)
    model.conditions = conditions
    stored, context = look(model.examples)
    model.initialize(model.codec.encode(stored), context)
    return model


def build_for(recipe: Recipe, split: Split, factory: Callable[[tuple[int, ...]], GenerativeModel] | None = None) -> Any:
    """The recipe's model for the data of a split, given the attributes that the recipe names.

    Args:
        factory: a user's own model in place of the recipe's: event_shape -> model. Its codec reads as it did.

    Raises:
        TriptychError: for an attribute that the split does not have, and for a factory whose model does not fit the data.
    """
    from triptych.codecs import Conditions
    from triptych.randomness import seeded

    conditions = None
    if names := recipe.conditions:
        conditions = Conditions.of(names, split.attributes, split.kinds, split.classes)
    dim = 0 if conditions is None else conditions.dim
    if factory is None:
        _check_memory(recipe, split, dim)
    split, _ = recipe.parts(split)
    with seeded(recipe.seed):
        if factory is None:
            model = family(recipe.family).build(recipe, first_batch(split), dim)
            model.codec.fit(split.parts())
        else:
            model = own_model(factory, split.event_shape, dim)
        model.codec.depth = split.depth
        if model.context_dim != dim:
            raise TriptychError(f"the model takes a context of {model.context_dim} numbers, --given makes {dim}: "
                                f"build it with context_dim={dim}")  # fmt: skip
        return _initialised(recipe, model, conditions, partial(first_examples, recipe, split, conditions))


def _check_memory(recipe: Recipe, split: Split, context_dim: int) -> None:
    """Raises a `TriptychError` for a model that this machine cannot hold, laid out without memory first, and a minibatch."""
    import torch

    batch = first_batch(split)
    with torch.device("meta"):
        model = family(recipe.family).build(recipe, batch, context_dim)
    weights, memory = sum(p.numel() for p in model.parameters()), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 4 * _COPIES * weights > memory:
        raise TriptychError(
            f"the recipe asks for {weights:.1e} weights, whose training takes {4 * _COPIES * weights / 2**30:,.0f} GiB; "
            f"this machine has {memory / 2**30:,.0f}: lower the model's width, depth or layers, or --size"
        )
    numbers = recipe.training.batch * math.prod(split.event_shape)
    if 4 * _COPIES * numbers > memory:
        raise TriptychError(
            f"a minibatch of {recipe.training.batch} examples takes {4 * _COPIES * numbers / 2**30:,.0f} GiB at the least; "
            f"this machine has {memory / 2**30:,.0f}: lower --training.batch, or --size"
        )


_COPIES = 3  # at the least: weights, their average and their gradient; examples, what is made of them, and its gradient


def first_examples(
    recipe: Recipe, split: Split, conditions: Conditions | None, examples: int
) -> tuple[Tensor, Tensor | None]:
    """Stored values (n, *E) and context (n, K), or None, to set from what depends on data: always the same, from all over
    the split, and changed as training will see them, since flipped pictures have another covariance.

    Args:
        examples: wanted; fewer of larger ones (`first_rows`).
    """
    import numpy as np
    import torch

    from triptych.data.batches import parse_augment

    rows = first_rows(split, examples)
    stored, random = split[rows].numpy(), np.random.default_rng(recipe.seed)
    for change in parse_augment(recipe.augment, split):
        stored = change(stored, random)
    context = None
    if conditions is not None:
        context = conditions.of_data(split.attributes, split.kinds, split.classes, len(split))[rows]
    return torch.from_numpy(np.ascontiguousarray(stored)), context


def continued(recipe: Recipe, model: GenerativeModel) -> GenerativeModel:
    """A trained model with what the recipe's game needs besides; new weights are drawn from the recipe's seed."""
    from triptych.randomness import seeded

    with seeded(recipe.seed):
        return family(recipe.family).complete(recipe, model).train()


def own_model(factory: Callable[..., Any], event_shape: tuple[int, ...], context_dim: int = 0) -> GenerativeModel:
    """factory(event_shape), or factory(event_shape, context_dim=…) if it takes that, if it is a model of such data."""
    from triptych.core import GenerativeModel

    name = getattr(factory, "__name__", type(factory).__name__)
    try:
        takes = "context_dim" in inspect.signature(factory).parameters
        model = factory(event_shape, **({"context_dim": context_dim} if takes else {}))
    except Exception as error:  # a user's own code may raise anything
        raise TriptychError(f"{name}({event_shape}) does not make a model: {type(error).__name__}: {error}") from error
    if not isinstance(model, GenerativeModel):
        raise TriptychError(
            f"a model is a triptych.core.GenerativeModel, got {type(model).__name__}: return one, such as a VAE"
        )
    if model.event_shape != event_shape:
        raise TriptychError(f"the data are {event_shape}, the model is for {model.event_shape}: build it for its argument")
    return model


def players(recipe: Recipe, model: GenerativeModel, processes: int = 1) -> dict[str, Player]:
    """The players of the recipe's game on so many processes, by name, in the order in which they play."""
    return family(recipe.family).players(recipe, model, processes)


def first_rows(split: Split, most: int = 256) -> Any:
    """Rows of a split to build a model with: always the same, from all over it, fewer of larger examples.

    The first examples of a sorted set are not a fair sample.
    """
    from triptych.core import first_size
    from triptych.data.splits import fixed_subset

    return fixed_subset(len(split), first_size(most, math.prod(split.event_shape)))


def first_batch(split: Split, most: int = 256) -> Tensor:
    """The stored values (B, *E) of `first_rows`."""
    return split[first_rows(split, most)]
