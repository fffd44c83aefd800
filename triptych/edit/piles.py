"""A direction from a person's two piles of pictures, judged by pictures that it was not learned from.

Every picture is read by a direction that was learned without it (five folds); what is kept is learned from all, by the
difference of means, which fewer examples suffice for than for any other method.

Shapes: n pictures of both piles; stored (n, *E), a (n,): 1 in the first pile, 0 in the second.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from triptych.core import GenerativeModel
from triptych.edit.depth import fitting
from triptych.edit.directions import Direction, Directions
from triptych.edit.inversion import coordinate_model
from triptych.edit.judging import judge
from triptych.edit.learning import FEWEST, learn_directions
from triptych.edit.worth import of_classes
from triptych.errors import TriptychError
from triptych.evaluate.latent import codes
from triptych.modes import in_eval_mode

FOLDS = 5
LEAST = -(-FEWEST * FOLDS // (FOLDS - 1))
"""Pictures of each pile, so that every fold leaves enough to learn from."""


@in_eval_mode
def learn_from_piles(
    model: GenerativeModel,
    shown: Tensor,
    lacking: Tensor,
    name: str,
    *,
    beside: Directions | None = None,
    context: Tensor | None = None,
) -> Direction:
    """The direction from the second pile to the first: c is −1 and +1 where their means lie.

    Args:
        shown, lacking: stored pictures with and without what the name says, (n, *E) each.
        beside: directions of the same codes, of which is measured what the new one drags along.
        context: of a conditional model, what all pictures show, (1, K).

    Returns:
        A direction whose `judged` has accuracy, stderr, majority and auc by pictures that each fold had not seen, and what
        `judge` measures by moving the pictures themselves.

    Raises:
        TriptychError: for fewer than 13 pictures in a pile, and a name that is empty or one of `beside`.

    >>> import triptych
    >>> vae, bright, dark = triptych.VAE((4,), 2), torch.rand(20, 4) + 1, torch.rand(20, 4) - 1
    >>> found = learn_from_piles(vae, bright, dark, "bright")
    >>> found.kind, found.judged["n"], found.judged["majority"]
    ('binary', 40, 0.5)
    """
    check_piles(name, len(shown), len(lacking), beside)
    stored = torch.cat([shown, lacking])
    a = torch.cat([torch.ones(len(shown)), torch.zeros(len(lacking))])
    model = model if not beside else fitting(model, beside)
    read, reader = torch.zeros(len(a)), coordinate_model(model)
    for fold in range(FOLDS):
        out = torch.arange(len(a)) % FOLDS == fold
        learned = _between(model, stored[~out], a[~out], name, context)
        read[out] = learned.coordinate(codes(reader, stored[out], context=context))
    direction = _between(model, stored, a, name, context)
    (direction,) = judge(model, Directions({name: direction}), stored, {}, context=context, beside=beside).values()
    return dataclasses.replace(direction, judged=direction.judged | of_classes(read.double(), a > 0))


def check_piles(name: str, shown: int, lacking: int, beside: Directions | None = None) -> None:
    """Raises a `TriptychError` for piles of so many pictures that are too small, and for a name that cannot be given."""
    if not name.strip():
        raise TriptychError("expected a name for what the first pile shows, got spaces")
    if "," in name or "=" in name:
        raise TriptychError(f"a direction's name has no comma and no =, which --set puts between them: got {name!r:.60}")
    if name in (beside or {}):
        raise TriptychError(f"there is a direction {name} already: choose another name")
    for what, count in (("with", shown), ("without", lacking)):
        if count < LEAST:
            raise TriptychError(f"the pile {what} {name} has {count} pictures: {LEAST} are needed to learn and to judge by")


def _between(model: GenerativeModel, stored: Tensor, a: Tensor, name: str, context: Tensor | None) -> Direction:
    return learn_directions(model, stored, {name: a}, method="means", context=context)[name]
