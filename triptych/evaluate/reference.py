"""What scores are judged against, learned once and kept in the run: blunter densities, and statistics of held-out data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from triptych import storage
from triptych.core import GenerativeModel
from triptych.data import Split, fixed_subset
from triptych.errors import TriptychError
from triptych.evaluate.gaussian import Gaussian
from triptych.evaluate.local import Local
from triptych.evaluate.measure import context_of
from triptych.evaluate.scoring import bits_of, scores, shared_noise, statistics
from triptych.progress import tracked

FILE = "reference.safetensors"
_VERSION = 2  # of what `statistics` measures: raise it when it measures otherwise, and references are learned again
FEWEST = 50  # held-out examples whose statistics say something; a smaller split is not used
_MOST, _FITTED, _LOCAL, _AT_ONCE = 2_000, 5_000, 1_000, 256
_BLUNT = {"gaussian": Gaussian, "local": Local}


@dataclass(frozen=True)
class Reference:
    """What normal data look like to a model."""

    blunt: Mapping[str, Gaussian | Local]
    """Blunter densities, fitted to the training split: "gaussian", and "local" where positions mean something."""
    held_out: Mapping[str, Tensor]
    """`statistics` of m held-out examples by name, (m,) each."""

    @property
    def n(self) -> int:
        """m, how many held-out examples there are."""
        return len(next(iter(self.held_out.values())))

    def scores(self, model: GenerativeModel, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Anomaly scores by name of `statistics` of n examples, (n,) each, the default first: see `scoring.scores`."""
        bits = bits_of(model, self.held_out)
        dims = math.prod(model.event_shape)
        added = 0.0 if bits is None else model.codec.added_bits(model.measure)
        return scores(found, self.held_out, dims, added)

    def save(self, folder: Path, stamp: str) -> None:
        """Writes reference.safetensors into a run, stamped with what it belongs to."""
        tensors = {f"{kind}.{name}": v for kind, density in self.blunt.items() for name, v in density._asdict().items()}
        tensors |= {f"held_out.{name}": value for name, value in self.held_out.items()}
        storage.write_tensors(folder / FILE, tensors, f"{stamp} {_VERSION}")

    @classmethod
    def load(cls, folder: Path, stamp: str) -> Reference | None:
        """The run's own, or None where it has none that belongs to the same."""
        path = folder / FILE
        if not path.is_file() or storage.read_stamp(path) != f"{stamp} {_VERSION}":
            return None
        kept: dict[str, dict[str, Tensor]] = {}
        for name, value in storage.read_tensors(path).items():
            kind, _, field = name.partition(".")
            kept.setdefault(kind, {})[field] = value
        try:
            held_out = kept.pop("held_out")
            return cls({kind: _BLUNT[kind](**fields) for kind, fields in kept.items()}, held_out)
        except (KeyError, TypeError) as error:
            raise TriptychError(f"{path} does not hold a reference ({error}): delete it, it is learned again") from error


def learn_reference(
    model: GenerativeModel,
    train: Split,
    held_out: Split,
    *,
    k: int = 10,
    seed: int = 0,
) -> Reference:
    """The blunter densities of up to 5,000 training examples, and the statistics of up to 2,000 held-out ones.

    Examples that a model was trained on are likelier to it than new ones; held-out ones are what normal is. Where there
    are fewer than 50 of them, training examples take their place, which the blunter densities are then not fitted to; the
    model itself knows them, so that normal data look somewhat less normal.

    Args:
        k, seed: of `statistics`, and of all that is scored later.

    >>> reference = learn_reference(model, photos.train, photos.test)  # doctest: +SKIP
    """
    few = len(held_out) < FEWEST
    if few and len(train) < 4:
        raise TriptychError(
            f"scores are judged against examples of the training set: expected at least 4 of them, got {len(train)}"
        )
    known = train if few else held_out
    rows = fixed_subset(len(known), min(_MOST, len(known) // 2) if few else _MOST)
    fitted = np.setdiff1d(np.arange(len(train)), rows) if few else np.arange(len(train))
    x = shared_noise(model, model.codec.as_learned, train[fitted[fixed_subset(len(fitted), _FITTED)]], seed)
    blunt: dict[str, Gaussian | Local] = {"gaussian": Gaussian.of(x)}
    if len(model.event_shape) > 1:
        blunt["local"] = Local.of(x[:_LOCAL])
    parts = []
    starts = range(0, len(rows), _AT_ONCE)
    for start in tracked(starts, "scoring held-out examples", len(starts)):
        some = rows[start : start + _AT_ONCE]
        told = context_of(model, known, some)
        parts.append(statistics(model, known[some], context=told, blunt=blunt, k=k, seed=seed))
    return Reference(blunt, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})
