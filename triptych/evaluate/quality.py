"""How good samples are: distances of sets, with the features, the counts, error bars and what real data score themselves.

Shapes: stored (n, *E), as a split gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from triptych.core import Estimate, GenerativeModel, evaluating
from triptych.errors import TriptychError
from triptych.evaluate.distances import frechet_distance, kernel_distance
from triptych.evaluate.features import Features
from triptych.evaluate.measure import some
from triptych.evaluate.neighbours import nearest_ratio, precision_recall, two_sample_test
from triptych.evaluate.sliced import sliced_wasserstein
from triptych.evaluate.structure import diversity

if TYPE_CHECKING:
    from triptych.data import Split

FEWEST = 50  # samples below which a distance of sets says more of chance than of the model


@dataclass(frozen=True)
class Quality:
    """Measures of a set of samples, each beside its floor: what as many real data, not those compared with, score.

    Attributes:
        features: the name of what was compared by.
        n: samples, and real data that they were compared with.
        measures, floor: estimates by name; a measure at its floor cannot be told from data.
    """

    features: str
    n: int
    measures: dict[str, Estimate]
    floor: dict[str, Estimate]

    def compare(self, other: Quality, measure: str) -> Estimate:
        """How much more `other` has of a measure than this, with the standard error of the difference.

        Raises:
            TriptychError: unless both were measured by the same features with the same n: nothing else is comparable.
        """
        for what, mine, its in (("features", self.features, other.features), ("n", self.n, other.n)):
            if mine != its:
                raise TriptychError(f"these are not comparable: {what} {mine} and {its}; measure both alike")
        for quality in (self, other):
            if measure not in quality.measures:
                raise TriptychError(f"there is no measure {measure!r}: choose {', '.join(quality.measures)}")
        a, b = self.measures[measure], other.measures[measure]
        return Estimate(b.value - a.value, (a.stderr**2 + b.stderr**2) ** 0.5, min(a.n, b.n))

    def as_json(self) -> dict[str, Any]:
        """{measure: {value, stderr, n, floor, floor_stderr, features}}."""
        return {
            name: {
                **estimate._asdict(),
                "features": self.features,
                **({"floor": self.floor[name].value, "floor_stderr": self.floor[name].stderr} if name in self.floor else {}),
            }
            for name, estimate in self.measures.items()
        }


def sample_quality(
    model: GenerativeModel,
    test: Split,
    train: Split,
    features: Features,
    *,
    n: int = 1000,
    temperature: float = 1.0,
    seed: int = 0,
) -> Quality:
    """Measures of n samples against n held-out data; the floor has n training data in the samples' place.

    fid           Fréchet distance of the features (FID, where these are Inception's)
    kid           kernel distance of them; precision, recall, density, coverage: of balls to the 3rd neighbour
    c2st_…        accuracy of telling them apart: ½ is the best
    swd, swd_…    sliced Wasserstein distance × 10³ of 500 of the pictures (of features, where data are none)
    ms_ssim       of pairs of samples: beside the floor's, above it means less variety
    nearest_ratio of distances by features to training and to held-out data: 1 for novel samples, less for copies; not
                  finite where every sample is itself a held-out datum

    Raises:
        TriptychError: for fewer than 50 samples, and where a split has fewer than n data: the message says how many.
    """
    n_real = min(len(test), len(train))
    if n < FEWEST:
        raise TriptychError(f"sample quality wants at least {FEWEST} samples, got {n}: below that it is chance")
    if n_real < n:
        raise TriptychError(
            f"{n} samples are compared with as many held-out data and training data, there are {n_real}: ask for {n_real}"
        )
    real, known = test[some(len(test), n)], train[some(len(train), n)]
    noise = torch.Generator().manual_seed(seed)
    with evaluating(model):
        fake = model.codec.decode(model.sample(n, temperature=temperature, generator=noise)).cpu()
    seen = {name: features(stored) for name, stored in (("real", real), ("known", known), ("fake", fake))}
    measures = _measures(seen["real"], seen["fake"], real, fake)
    floor = _measures(seen["real"], seen["known"], real, known)
    measures["nearest_ratio"] = nearest_ratio(seen["fake"], seen["known"], seen["real"], generator=noise)
    return Quality(features.name, n, measures, floor)


def _measures(real: Tensor, fake: Tensor, stored: Tensor, drawn: Tensor) -> dict[str, Estimate]:
    """All that compare features (n, d), or the pictures themselves."""
    noise = torch.Generator().manual_seed(0)
    found = {"fid": frechet_distance(real, fake), "kid": kernel_distance(real, fake)}
    found |= precision_recall(real, fake)
    found |= two_sample_test(real, fake, generator=noise)
    picture = stored.ndim == 4 and not stored.is_floating_point() and min(stored.shape[2:]) >= 7
    if not picture:
        return found | sliced_wasserstein(real, fake, generator=noise)
    x, y = (pictures[:_SLICED].float() / 255 for pictures in (stored, drawn))
    return found | sliced_wasserstein(x, y, generator=noise) | {"ms_ssim": diversity(y, generator=noise)}


_SLICED = 500  # pictures whose patches are sorted: 128 patches each, along 512 directions, at every scale
