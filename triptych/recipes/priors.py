"""Learned priors of codes, by name, and the stage of a run in which they are fitted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from triptych.errors import TriptychError, check_choice
from triptych.recipes.recipe import Recipe

if TYPE_CHECKING:
    from triptych.core import Prior
    from triptych.objectives.player import Span
    from triptych.objectives.prior import PriorPlayer

# of a prior fitted to codes: a small network that sees clean data, without the warm-up of the networks before it
_TRAINING: dict[str, Any] = {"optimizer": "adam", "rate": 4e-3, "momentum": 0.9, "beta2": 0.999,
                             "rate_warmup": 0, "decay": "cosine", "rate_end": 0.02, "clip": 10.0}  # fmt: skip


def build_prior(name: str, event_shape: tuple[int, ...], latent_dim: int, components: int = 100) -> Prior | None:
    """The prior of that name, of codes (L,) of events (*E); None for N(0, I)."""
    from triptych import compose

    made: dict[str, Any] = {
        "normal": lambda: None,
        "gaussian": lambda: compose.gaussian_prior(latent_dim),
        "flow": lambda: compose.flow_prior(latent_dim),
        "mixture": lambda: compose.MixturePrior(latent_dim, components),
        "vamp": lambda: compose.VampPrior(latent_dim, event_shape, components),
    }
    check_choice("prior", name, made)
    return made[name]()


def prior_steps(recipe: Recipe, name: str, most: int, share: float = 1 / 3) -> int:
    """Steps in which the prior of that name alone learns, of so many that it shares with the players before it.

    Args:
        share: of these steps, where the recipe does not say how many (one for a gaussian); one at least is left to others.

    Raises:
        TriptychError: where more are said.
    """
    said = recipe.objective.prior_steps
    if said is None:
        said = min(max(most - 1, 0), 1 if name == "gaussian" else max(1, int(most * share)))
    if said > most:
        raise TriptychError(f"prior_steps are some of the {most} steps before any sharpening, got {said}: raise --steps")
    return said


def prior_player(recipe: Recipe, model: Any, span: Span, name: str) -> PriorPlayer:
    """The player who fits the model's prior, if it is that of the name one that can begin anew, in that span."""
    from triptych import parts
    from triptych.objectives.prior import PriorPlayer

    def anew() -> Any:
        return build_prior(name, model.event_shape, model.latent_dim, getattr(recipe.model, "components", 100))

    fresh = parts.describe(anew()) == parts.describe(model.prior)
    loop = dataclasses.replace(recipe.training, **_TRAINING)
    return PriorPlayer(model, span, loop=loop, anew=anew if fresh else None)
