"""Directions with a calibrated coordinate, and how they are kept.

Shapes: B batch, L latent_dim; z (B, L), normal and step (L,).

A direction reads a coordinate and moves it:

    c(z) = (n·z − m) / s,        z' = z + δ·v  with  n·v = s,  so that  c(z') = c(z) + δ

For a binary label c = −1 and +1 are the class means, for a continuous one c is the attribute's own value, for an
unsupervised one it counts standard deviations. The joint method has them where the other attributes are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor, tensor

from triptych import folders, onboard, storage
from triptych.errors import TriptychError, unknown
from triptych.opening import exists
from triptych.pretrained import stamp

DirectionKind = Literal["binary", "continuous", "unsupervised"]
Anchors: TypeAlias = tuple[tuple[float, float], tuple[float, float]]  # two values of c, each with the n·z where it belongs
FILE = "directions"
_VECTORS = ("normal", "step")


@dataclass(frozen=True)
class Direction:
    """One direction of the latent space.

    Attributes:
        normal: n, reads the coordinate; (L,).
        offset, scale: m and s.
        step: v, what is added to z to raise c by 1; (L,).
        range: the coordinate's training range (1st and 99th percentile of c over the training codes); of a binary attribute
            wider than from class to class, by its noise.
        threshold: of a binary attribute, the value halfway between its two.
        judged: measures on held-out data, by name; see `triptych.edit.judge`.
        depth: of the activations of a flow that it moves (`triptych.edit.AtDepth`); None: it moves z.
    """

    name: str
    kind: DirectionKind
    normal: Tensor
    offset: float
    scale: float
    step: Tensor
    range: tuple[float, float] = (-1.0, 1.0)
    threshold: float = 0.5
    judged: dict[str, Any] = field(default_factory=dict)
    depth: int | None = None

    def coordinate(self, z: Tensor) -> Tensor:
        """c(z) = (n·z − m) / s: (B, L) -> (B,)."""
        return (z @ self.normal.to(z) - self.offset) / self.scale


class Directions(dict[str, Direction]):
    """Directions by name, in the order in which they were learned; an unknown name is a `TriptychError`.

    >>> smile = Direction("smile", "continuous", tensor([1.0, 0.0]), offset=0.0, scale=2.0, step=tensor([2.0, 0.0]))
    >>> known = Directions(smile=smile)
    >>> known.coordinates(tensor([[3.0, 5.0]]))
    {'smile': tensor([1.5000])}
    """

    def __missing__(self, name: str) -> Direction:
        raise unknown("direction", name, self)

    @property
    def depth(self) -> int | None:
        """The depth at which they all move codes, None where that is z.

        Raises:
            TriptychError: where they move codes of several depths, which have no coordinates in common.
        """
        depths = dict.fromkeys(d.depth for d in self.values())
        if len(depths) > 1:
            shown = ", ".join("z" if depth is None else str(depth) for depth in depths)
            raise TriptychError(f"directions {', '.join(self)} move codes of several depths ({shown}): learn them at one")
        return next(iter(depths), None)

    def at(self, depth: int | None) -> Directions:
        """The same directions, said to move activations of that depth."""
        return Directions({name: dataclasses.replace(d, depth=depth) for name, d in self.items()})

    def by_depth(self, names: Iterable[str]) -> dict[int | None, Directions]:
        """Those that are named, apart by the depth at which they move codes, in the order of the names."""
        found: dict[int | None, Directions] = {}
        for name in names:
            found.setdefault(self[name].depth, Directions())[name] = self[name]
        return found

    def coordinates(self, z: Tensor) -> dict[str, Tensor]:
        """Every direction's c(z), each (B,)."""
        return {name: direction.coordinate(z) for name, direction in self.items()}

    def fingerprint(self, names: Iterable[str]) -> str:
        """SHA-256 of what these move and read, in hexadecimal: the same for directions that edit alike."""
        found = hashlib.sha256()
        for direction in (self[name] for name in names):
            numbers = (direction.name, direction.offset, direction.scale, direction.depth)
            found.update(repr(numbers).encode())
            for vector in (direction.normal, direction.step):
                found.update(vector.detach().cpu().float().numpy().tobytes())
        return found.hexdigest()

    def save(self, folder: Path, weights: str | None = None) -> None:
        """Writes directions.json and the vectors beside it into a run.

        The vectors' file is called by what it holds, and the other names it: writing that makes both the run's at once.

        Args:
            weights: `pretrained.stamp` of the weights whose z they move, taken before they were learned, for a training may
                go on meanwhile; by default of those that the run holds now.
        """
        tensors = {f"{name}.{key}": getattr(d, key) for name, d in self.items() for key in _VECTORS}
        plain = ("kind", "offset", "scale", "range", "threshold", "judged", "depth")
        described = {name: {key: getattr(d, key) for key in plain} for name, d in self.items()}
        vectors = storage.as_bytes(tensors)
        digest = hashlib.sha256(vectors).hexdigest()
        named = _vectors(folder, digest)
        storage.write_file(named, lambda path: path.write_bytes(vectors))
        belongs = {"weights": stamp(folder) if weights is None else weights, "vectors": digest}
        storage.write_json(folder / f"{FILE}.json", {**belongs, "directions": described})
        for left in folder.glob(f"{FILE}*.safetensors"):
            if left != named:
                left.unlink(missing_ok=True)
        folders.sweep(folder)  # what a kill has left half written of either

    @classmethod
    def load(cls, folder: str | Path, weights: str | None = None) -> Directions:
        """The directions of a run, or of a model on board.

        Args:
            folder: of the run, or a name of `triptych.onboard.names`.
            weights: `pretrained.stamp` of the weights that they should be of; by default of those that the run holds now.
        """
        folder = Path(folder)
        folder = folder if exists(folder) else onboard.folder_of(folder) or folder
        if not (folder / f"{FILE}.json").exists():
            raise TriptychError(f"{folder} has no directions yet: triptych directions {folder} --data DATA learns them")
        stored = storage.read_json(folder / f"{FILE}.json")
        try:
            vectors = _vectors(folder, str(stored["vectors"]))
            tensors = storage.read_tensors(vectors)
            if stored["vectors"] != storage.digest(vectors):
                raise ValueError("of other vectors")
            if stored.get("weights", "") != (stamp(folder) if weights is None else weights):
                raise TriptychError(
                    f"the directions in {folder} are of other weights than model.safetensors holds now: "
                    f"triptych directions {folder} learns them again"
                )
            older = {"depth": stored.get("depth")}  # earlier versions kept one for all of them
            return cls({name: _restored(name, older | d, tensors) for name, d in stored["directions"].items()})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise TriptychError(f"{folder}/{FILE}.json does not fit its tensors ({error}): learn them again") from error

    def check(self, latent_dim: int) -> None:
        """Raises a `TriptychError` unless they belong to a latent space of that many dimensions."""
        for name, d in self.items():
            if d.normal.shape != (latent_dim,) or d.step.shape != (latent_dim,):
                raise TriptychError(
                    f"direction {name} is of {d.normal.numel()} dimensions, the model's z of {latent_dim}: learn it again"
                )


def _vectors(folder: Path, digest: str) -> Path:
    """The file of vectors with that digest; earlier versions had one name for all."""
    named = folder / f"{FILE}-{digest[:16]}.safetensors"
    return named if named.exists() or not (folder / f"{FILE}.safetensors").exists() else folder / f"{FILE}.safetensors"


def _restored(name: str, stored: dict[str, Any], tensors: dict[str, Tensor]) -> Direction:
    low, high = map(float, stored["range"])
    offset, scale, threshold = (float(stored[key]) for key in ("offset", "scale", "threshold"))
    if not math.isfinite(offset + scale + threshold) or scale == 0:
        raise ValueError(f"{name} has offset {offset}, scale {scale} and threshold {threshold}")
    normal, step = (tensors[f"{name}.{key}"] for key in _VECTORS)
    depth = None if stored["depth"] is None else operator.index(stored["depth"])
    return Direction(name, stored["kind"], normal, offset, scale, step, (low, high), threshold, stored["judged"], depth)


def calibrated(name: str, kind: DirectionKind, normal: Tensor, step: Tensor, anchors: Anchors, z: Tensor) -> Direction:
    """A direction whose c takes the anchors' values where n·z is theirs, with v scaled to n·v = s.

    Args:
        normal, step: n and v, of any length and, for v, any sign that does not oppose n.
        z: training codes, for the range of c.
    """
    (low, low_mean), (high, high_mean) = anchors
    scale = (high_mean - low_mean) / (high - low)
    slope = float(normal @ step)
    if not abs(scale) > 1e-12 or not abs(slope) > 1e-12:
        raise TriptychError(f"{name} leaves no trace in this model's z: it cannot be made a direction")
    direction = Direction(name, kind, normal, low_mean - scale * low, scale, step * (scale / slope))
    least, most = direction.coordinate(z).quantile(tensor([0.01, 0.99])).tolist()
    return dataclasses.replace(direction, range=(least, most))
