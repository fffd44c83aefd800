"""A flow edited at any depth: what moves are its activations h_k after k layers, decoded exactly by inverting those layers.

Shapes: B batch, D values of an event and of every h_k, E event_shape; x (B, *E), h (B, D), flat with what was factored out.

h_0 is x itself, and the last depth is z. In between lie codes that are as exact as z, in which attributes may be straighter:
each layer bends what the one before has left, and likelihood asks for a normal z, not for straight attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triptych.capabilities import Encodes, Layered, require
from triptych.core import GenerativeModel
from triptych.edit.directions import Directions
from triptych.errors import TriptychError
from triptych.pretrained import save_model
from triptych.progress import tracked


class AtDepth(GenerativeModel, Encodes):
    """A flow whose z is h_k, so that everything that learns, moves and reads codes does so at depth k.

    Its samples are the whole flow's, and so is what `save_pretrained` writes.

    Args:
        model: with invertible layers.
        depth: k, from 0 (x itself) to `model.count_layers()` (z).

    Raises:
        TriptychError: for a depth that the model has not, and a model without such layers.

    >>> import torch, triptych
    >>> flow = triptych.Glow((3, 8, 8), levels=2, depth=2, width=16)
    >>> x = torch.rand(4, 3, 8, 8)
    >>> flow.initialize(x)
    >>> middle = AtDepth(flow, 3)
    >>> h = middle.encode(x)
    >>> h.shape, torch.allclose(middle.decode(h), x, atol=1e-5), flow.count_layers()
    (torch.Size([4, 192]), True, 8)
    """

    def __init__(self, model: GenerativeModel, depth: int):
        super().__init__(model.event_shape, model.latent_dim, model.codec, context_dim=model.context_dim)
        self.part = require(model, Layered).truncated(depth)
        self.model, self.depth = model, depth
        self.conditions = model.conditions

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """h_k (B, D) -> x, by the inverse of the first k layers."""
        return self.part.decode(z, context)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x -> h_k, (B, D)."""
        return self.part.encode(x, context)

    def sample(self, n: int, **settings: Any) -> Tensor:
        """The whole model's."""
        return self.model.sample(n, **settings)

    def sample_prior(self, n: int, **settings: Any) -> Tensor:
        """h_k of the whole model's samples, (n, D): codes at a depth have no density of their own to draw from."""
        with torch.no_grad():
            return self.part.encode(self.model.sample(n, **settings))

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.model, Path(save_directory))


def at_depth(model: GenerativeModel, depth: int | None) -> GenerativeModel:
    """The model as it is edited at a depth: an `AtDepth`, or for None the model whose z moves."""
    whole = model.model if isinstance(model, AtDepth) else model
    if depth is None:
        return whole
    return model if isinstance(model, AtDepth) and model.depth == depth else AtDepth(whole, depth)


def depth_of(model: GenerativeModel) -> int | None:
    """The depth at which a model's codes lie; None where they are its z."""
    return model.depth if isinstance(model, AtDepth) else None


def fitting(model: GenerativeModel, directions: Directions) -> GenerativeModel:
    """The model at the depth that directions move, checked to have as many dimensions."""
    found = at_depth(model, directions.depth)
    directions.check(found.latent_dim)
    return found


def learn_at_depths(
    model: GenerativeModel, learn: Callable[[GenerativeModel], Directions], depths: Iterable[int] | None = None
) -> dict[int, Directions]:
    """Directions at each depth, to be compared by `straightness`.

    Args:
        learn: model -> judged directions of its codes. Let one `Reader` judge them all: what an exact model reads of its own
            edits says nothing.
        depths: by default z, and an eighth, a quarter and a half of the way to it: early layers differ most.
    """
    last = require(model, Layered).count_layers()
    chosen = sorted({max(1, round(share * last)) for share in _SHARES}) if depths is None else list(depths)
    return {depth: learn(AtDepth(model, depth)) for depth in tracked(chosen, "learning directions at depths", len(chosen))}


_SHARES = (1 / 8, 1 / 4, 1 / 2, 1)


class Straightness(NamedTuple):
    """What judged directions do, averaged over those that the judge can read.

    Attributes:
        share: of the way that an edit should go.
        leakage: the worst of each, in spreads of the other attribute.
        ratio: (leakage + 0.01) / share of each: less is straighter, and where nothing leaks, what moves more.
    """

    share: float
    leakage: float
    ratio: float


def straightness(directions: Directions) -> Straightness:
    """How straight attributes are where these directions were learned.

    Raises:
        TriptychError: unless they were judged, by something that reads at least one of them.
    """
    effects = []
    for judged in (d.judged for d in directions.values() if "share" in d.judged):
        share, leakage = judged["share"], max(map(abs, judged["leakage"].values()), default=0.0)
        effects.append((share, leakage, (leakage + _CHANCE) / max(share, _LEAST)))
    if not effects:
        raise TriptychError("straightness is measured of judged directions whose attributes can be read: judge them first")
    return Straightness(*(sum(values) / len(effects) for values in zip(*effects, strict=True)))


def straightest(found: Mapping[int, Directions]) -> int:
    """The depth whose directions leak least for what they move."""
    return min(found, key=lambda depth: straightness(found[depth]).ratio)


_LEAST = 1e-3  # share, below which a direction moves nothing
_CHANCE = 0.01  # leakage, in spreads, that says nothing
