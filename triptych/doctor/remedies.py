"""What to do about a finding; only what the run does not do already is named.

A remedy names its flags as one would type them: `--part.field value`, or `--part.field` where the remedy ends. One that
begins with "set" and has no value is for a field that is still 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import MappingProxyType

from triptych.recipes import Recipe


def remedy(remedies: Sequence[str], recipe: Recipe | None = None) -> str:
    """The remedies that apply to a run, in their order, as one phrase; all of them without a recipe.

    >>> remedy(["lower --training.rate", "set --training.clip"])
    'lower --training.rate, or set --training.clip'
    """
    named = [text for text in remedies if recipe is None or _applies(text, recipe)]
    *first, last = named or ["train it anew with another --seed"]
    return f"{', '.join(first)}, or {last}" if first else last


def _applies(text: str, recipe: Recipe) -> bool:
    """Whether the run has every field that is named, and at least one of them would change."""
    unset = text.startswith("set ")
    changes = [_changes(unset, part, field, value, recipe) for part, field, value in _FLAG.findall(text)]
    return None not in changes and (not changes or any(changes))


def _changes(unset: bool, part: str, field: str, value: str, recipe: Recipe) -> bool | None:
    """Whether the flag would change something; None where there is no such field, or it has no effect."""
    if part == "augment":
        return _augments(value, recipe)
    owner, field = getattr(recipe, part), field.replace("-", "_")
    if not hasattr(owner, field) or (field in _WITHOUT_EFFECT and _WITHOUT_EFFECT[field](recipe)):
        return None
    now = getattr(owner, field)
    return str(now) != value if value else not (unset and now)


def _augments(value: str, recipe: Recipe) -> bool | None:
    """Where there is a discriminator, ada is for few data; elsewhere the other augmentations are."""
    adversarial = recipe.objective.adversarial
    if value == "ada":
        return recipe.differentiable == "none" if adversarial else None
    return None if adversarial else not set(value.split(",")) <= {name.strip() for name in recipe.augment.split(",")}


_FLAG = re.compile(r"--(model|objective|training|augment)(?:\.([a-z0-9-]+))?(?: ([a-z0-9,]+))?")
_WITHOUT_EFFECT: MappingProxyType[str, Callable[[Recipe], bool]] = MappingProxyType(
    {
        "gamma": lambda recipe: recipe.objective.penalty == "none",
        "beta": lambda recipe: recipe.objective.beta <= 1,
        "momentum": lambda recipe: not recipe.training.momentum,
    }
)
