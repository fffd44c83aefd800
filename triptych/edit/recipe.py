"""An edit as a small JSON file, which the studio writes and `triptych edit --recipe` replays.

It holds what decides the edit besides the picture: which weights, the coordinates that are set and held, and a fingerprint
of the run's directions that move them. A direction that the run does not have, taught in the studio, is held whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import tensor

from triptych import storage
from triptych.edit.directions import Direction, DirectionKind, Directions
from triptych.errors import TriptychError

_FORMAT = 1
_KINDS = ("binary", "continuous", "unsupervised")


@dataclass(frozen=True)
class EditRecipe:
    """An edit that can be replayed.

    Attributes:
        weights: `pretrained.stamp` of the model's.
        values: coordinates that are set, by name, in their order.
        hold: names whose coordinate must not change.
        fingerprint: `Directions.fingerprint` of the run's own directions among them; "" for none.
        added: directions that the run does not hold.
    """

    weights: str
    values: Mapping[str, float]
    hold: tuple[str, ...] = ()
    fingerprint: str = ""
    added: Directions = field(default_factory=Directions)

    @classmethod
    def of(
        cls,
        weights: str,
        values: Mapping[str, float],
        hold: Sequence[str],
        directions: Directions,
        added: Mapping[str, Direction] | None = None,
    ) -> EditRecipe:
        """The recipe of an edit by these directions, of which `added` are not the run's own."""
        own = _own(values, hold, added or {})
        printed = directions.fingerprint(own) if own else ""
        return cls(weights, dict(values), tuple(hold), printed, Directions(added or {}))

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        held = {"format": _FORMAT, "weights": self.weights, "set": dict(self.values), "hold": [*self.hold]}
        return held | {"fingerprint": self.fingerprint, "directions": {n: _plain(d) for n, d in self.added.items()}}

    @classmethod
    def load(cls, path: Path) -> EditRecipe:
        """The recipe in a file.

        Raises:
            TriptychError: for a file that is missing, damaged or not a recipe.
        """
        stored = storage.read_json(path)
        try:
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']!r}, this version knows {_FORMAT}")
            values = {str(name): _finite(value) for name, value in stored["set"].items()}
            added = Directions({str(name): _restored(str(name), d) for name, d in stored["directions"].items()})
            hold = tuple(str(name) for name in stored["hold"])
            return cls(str(stored["weights"]), values, hold, str(stored["fingerprint"]), added)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise TriptychError(f"{path} is not an edit's recipe ({error}): save one in triptych studio") from error

    def directions(self, known: Directions, weights: str) -> Directions:
        """The directions that replay the edit: the run's own, with those of the recipe.

        Args:
            known, weights: what the run holds now.

        Raises:
            TriptychError: where the run's weights or directions are others than those that the recipe was made with.
        """
        if weights != self.weights:
            raise TriptychError("the recipe is of other weights than this run holds: name the run that it was made with")
        own = _own(self.values, self.hold, self.added)
        if own and known.fingerprint(own) != self.fingerprint:
            raise TriptychError(
                f"the run's directions {', '.join(own)} were learned anew since this recipe was saved: save it again"
            )
        return Directions({**known, **self.added})


def _own(values: Mapping[str, float], hold: Sequence[str], added: Mapping[str, Direction]) -> list[str]:
    return sorted({*values, *hold} - {*added})


def _plain(d: Direction) -> dict[str, Any]:
    vectors = {"normal": d.normal.tolist(), "step": d.step.tolist()}
    return {"kind": d.kind, "offset": d.offset, "scale": d.scale, "range": [*d.range], "depth": d.depth, **vectors}


def _restored(name: str, stored: Mapping[str, Any]) -> Direction:
    if stored["kind"] not in _KINDS:
        raise ValueError(f"direction {name} is of kind {stored['kind']!r}")
    normal, step = (tensor([_finite(v) for v in stored[key]]) for key in ("normal", "step"))
    low, high = map(_finite, stored["range"])
    depth, scale = stored["depth"], _finite(stored["scale"])
    if scale == 0 or not (depth is None or isinstance(depth, int)):
        raise ValueError(f"direction {name} has scale {scale} and depth {depth!r}")
    kind = cast("DirectionKind", stored["kind"])
    return Direction(name, kind, normal, _finite(stored["offset"]), scale, step, (low, high), depth=depth)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number
