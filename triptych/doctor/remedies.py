"""What to do, of which only that is said which the run has not got already.

A way out names its flags as one would type them: `--part.field value`, or `--part.field` where the way ends. What begins
with "set" and has no value is for a field that is 0 yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from triptych.recipes import GANObjective, Recipe


def remedy(ways: Sequence[str], recipe: Recipe | None = None) -> str:
    """The ways out that apply, in their order, as one phrase; all of them without a recipe.

    >>> remedy(["lower --training.rate", "set --training.clip"])
    'lower --training.rate, or set --training.clip'
    """
    *first, last = [way for way in ways if recipe is None or _applies(way, recipe)] or ["train it anew with another --seed"]
    return f"{', '.join(first)}, or {last}" if first else last


def _applies(way: str, recipe: Recipe) -> bool:
    """Whether the run has every field that is named, and something about them would change."""
    absent = way.startswith("set ")
    flags = [_change(absent, part, field, value, recipe) for part, field, value in _FLAG.findall(way)]
    return None not in flags and (not flags or any(flags))


def _change(absent: bool, part: str, field: str, value: str, recipe: Recipe) -> bool | None:
    """Whether the flag would change something; None where there is no such field, or it does nothing."""
    if part == "augment":
        return _augments(value, recipe)
    owner, field = getattr(recipe, part), field.replace("-", "_")
    if not hasattr(owner, field) or _POINTLESS.get(field, _never)(recipe):
        return None
    now = getattr(owner, field)
    return str(now) != value if value else not (absent and now)


def _augments(value: str, recipe: Recipe) -> bool | None:
    """A GAN of few data has augmentations of its own, which others have not."""
    adversarial = isinstance(recipe.objective, GANObjective)
    if value == "ada":
        return recipe.differentiable == "none" if adversarial else None
    return None if adversarial else not set(value.split(",")) <= {name.strip() for name in recipe.augment.split(",")}


def _never(_recipe: Recipe) -> bool:
    return False


_FLAG = re.compile(r"--(model|objective|training|augment)(?:\.([a-z0-9-]+))?(?: ([a-z0-9,]+))?")
_POINTLESS: dict[str, Callable[[Any], bool]] = {  # what would change nothing
    "gamma": lambda recipe: recipe.objective.penalty == "none",
    "beta": lambda recipe: recipe.objective.beta <= 1,
    "momentum": lambda recipe: not recipe.training.momentum,
}
