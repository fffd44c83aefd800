"""Attributes read from examples by a network that knows no model: the judge of edits that a model cannot talk into anything.

Shapes: n examples; stored (n, *E), as a split gives them.

An exact model that reads its own edits reads back what it wrote, bent or not: encode(decode(h)) = h. So where edits of
different depths, or of different models, are compared, one reader reads them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from triptych import storage
from triptych.core import Codec
from triptych.errors import TriptychError, check_size, unknown
from triptych.evaluate.features import centred, descend, reading_of
from triptych.nets import encoder_network
from triptych.randomness import seeded

# of the examples, from which coordinates are calibrated: the network has not learned them
_KEPT, _FEWEST = 0.1, 50
_HIDDEN = (256, 256)  # of the network's last layers
_READABLE = 0.1  # slope of reading against attribute, below which an attribute is not read


class Reader:
    """Coordinates of attributes as `Direction` has them: −1 and +1 for the classes' means, else the attribute's own value.

    Args:
        net: x (B, *E), pictures in [−1, 1], -> (B, A).
        lines: of each attribute that is read: its column, and a reading's intercept and slope against the coordinate.
        values: how floats are read before the network sees them; None: as they are.
        shape: what `learn_reader` built its network with (event_shape, width, outputs), for saving and loading.
    """

    def __init__(
        self,
        net: nn.Module,
        lines: Mapping[str, tuple[int, float, float]],
        values: Codec | None = None,
        shape: Mapping[str, Any] | None = None,
    ):
        self.net, self.lines, self.values = net.eval(), dict(lines), values
        self.shape = {name: shape[name] for name in ("event_shape", "width", "outputs")} if shape else {}

    @torch.no_grad()
    def read(self, stored: Tensor, batch: int = 500) -> Tensor:
        """What the network says of stored values, (n, A)."""
        return torch.cat([self.net(centred(part.cpu(), self.values)) for part in stored.split(batch)])

    def __call__(self, stored: Tensor, batch: int = 500) -> dict[str, Tensor]:
        """The coordinates of stored values by name, each (n,)."""
        read = self.read(stored, batch)
        return {name: (read[:, i] - intercept) / slope for name, (i, intercept, slope) in self.lines.items()}

    def save(self, path: Path) -> None:
        """Writes path.safetensors, the network's weights, and path.json, its shape and lines; what `load` reads.

        Raises:
            TriptychError: for a network of one's own, and a reader of floats.
        """
        if not self.shape or self.values is not None:
            raise TriptychError(
                "a reader that learn_reader has learned from pictures is saved: keep other networks yourself"
            )
        weights = self.net.state_dict()
        storage.write_tensors(path.with_suffix(".safetensors"), weights)
        storage.write_json(path.with_suffix(".json"), {**self.shape, "lines": self.lines})

    @classmethod
    def load(cls, path: Path) -> Reader:
        """What `save` wrote.

        Raises:
            TriptychError: where files are missing or damaged.
        """
        said = storage.read_json(path.with_suffix(".json"))
        net = encoder_network(tuple(said["event_shape"]), said["width"], said["outputs"], _HIDDEN)
        storage.load_weights(net, storage.read_tensors(path.with_suffix(".safetensors")), path)
        return cls(net, {name: (int(i), float(a), float(b)) for name, (i, a, b) in said["lines"].items()}, shape=said)

    def score(self, *names: str) -> Callable[[Tensor], Tensor]:
        """Coordinates of pictures x (B, *E) in [0, 1], with their gradient: f for `optimise` of one name, (B,), else (B, k).

        Raises:
            TriptychError: for a name that is not read, and a reader of floats.
        """
        if self.values is not None:
            raise TriptychError("a reader of floats scores stored values: call it with them")
        for name in names:
            if name not in self.lines:
                raise unknown("attribute", name, self.lines)
        columns, intercepts, slopes = zip(*(self.lines[name] for name in names), strict=True)

        def f(x: Tensor) -> Tensor:
            read = self.net(2 * x - 1)[:, list(columns)]
            found = (read - torch.tensor(intercepts).to(read)) / torch.tensor(slopes).to(read)
            return found[:, 0] if len(names) == 1 else found

        return f


def learn_reader(
    stored: Tensor,
    attributes: Mapping[str, Tensor | np.ndarray],
    *,
    names: Sequence[str] | None = None,
    steps: int = 1500,
    batch: int = 64,
    width: int = 16,
    seed: int = 0,
) -> Reader:
    """A network that reads attributes, learned from all but a tenth of the examples (or 50, or half), calibrated on those.

    An attribute that it cannot read there is left out.

    Args:
        attributes: values (n,) by name, NaN where unknown; two distinct values make a binary one.
        names: which to read; all by default.

    Raises:
        TriptychError: where none can be read.

    >>> reader = learn_reader(train[:], train.attributes)  # doctest: +SKIP
    """
    check_size("steps", steps, 2**31)
    check_size("batch", batch)
    target = {name: _coordinate(attributes[name]) for name in (attributes if names is None else names)}
    order = torch.randperm(len(stored), generator=torch.Generator().manual_seed(seed))
    count = min(max(_FEWEST, int(_KEPT * len(order))), len(order) // 2)
    kept, rest = order.tensor_split([count])
    reading, values = reading_of(stored[rest]), torch.stack([*target.values()], 1)
    mean, std = values[rest].nanmean(0), _std(values[rest])
    scaled, known = ((values - mean) / std).nan_to_num(0.0), values.isfinite()
    with seeded(seed):
        net = encoder_network(tuple(stored.shape[1:]), width, len(target), _HIDDEN)

        def loss() -> Tensor:
            rows = rest[torch.randint(len(rest), (batch,))]
            return ((net(centred(stored[rows], reading)) - scaled[rows]).square() * known[rows]).mean()

        for _ in descend(net.parameters(), loss, steps, 2e-3, "learning to read attributes"):
            pass
    read = Reader(net, {}, reading).read
    shape = {"event_shape": list(stored.shape[1:]), "width": width, "outputs": len(target)}
    return Reader(net, _lines(read(stored[kept]), {name: a[kept] for name, a in target.items()}), reading, shape)


def _lines(read: Tensor, target: Mapping[str, Tensor]) -> dict[str, tuple[int, float, float]]:
    """Readings regressed on coordinates, which do not shrink so towards their mean."""
    lines = {}
    for i, (name, a) in enumerate(target.items()):
        known = a.isfinite()
        a, r = a[known], read[known, i]
        spread = float(a.var(correction=0)) if len(a) > 1 else 0.0
        slope = float(((r - r.mean()) * (a - a.mean())).mean()) / spread if spread > 0 else 0.0
        if slope * spread**0.5 > _READABLE:
            lines[name] = (i, float(r.mean() - slope * a.mean()), slope)
    if not lines:
        raise TriptychError(
            f"no attribute ({', '.join(target)}) can be read from these examples: more are needed, or others"
        )
    return lines


def _coordinate(a: Tensor | np.ndarray) -> Tensor:
    """The coordinate that a direction gives a known value: −1 and +1 for a binary attribute's."""
    values = torch.as_tensor(np.asarray(a), dtype=torch.float32)
    known = values[values.isfinite()].unique()
    return (values - known.mean()) / (known[1] - known[0]) * 2 if len(known) == 2 else values


def _std(values: Tensor) -> Tensor:
    mean = values.nanmean(0)
    return (values - mean).square().nanmean(0).sqrt().clamp(min=1e-6)
