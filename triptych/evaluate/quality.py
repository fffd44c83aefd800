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
from triptych.evaluate.features import Features, Pixels
from triptych.evaluate.measure import digest, some
from triptych.evaluate.neighbours import nearest_ratio, precision_recall, two_sample_test
from triptych.evaluate.repeats import LOOKED_AMONG, copied
from triptych.evaluate.sliced import TAP, sliced_wasserstein
from triptych.evaluate.structure import Scales, diversity, scales_of

if TYPE_CHECKING:
    from triptych.data import Split

FEWEST = 50  # samples, or real data, below which a distance of sets says more of chance than of the model
MOST = 50_000  # samples whose distances to one another are measured: what published figures take


@dataclass(frozen=True)
class Quality:
    """Measures of a set of samples, each beside its floor: what as many real data, not those compared with, score.

    Attributes:
        features: the name of what was compared by.
        n, held_out: samples, and real data that they were compared with.
        measures, floor: estimates by name; a measure at its floor cannot be told from data.
        temperature: of the samples.
        reference: a digest of the real data.
        scales: those of ms_ssim, and its window; None where there are no pictures.
    """

    features: str
    n: int
    held_out: int
    measures: dict[str, Estimate]
    floor: dict[str, Estimate]
    temperature: float = 1.0
    reference: str = ""
    scales: Scales | None = None

    def compare(self, other: Quality, measure: str) -> Estimate:
        """How much more `other` has of a measure than this, with the standard error of the difference.

        Raises:
            TriptychError: unless both were measured by the same features, against the same real data, with the same counts
                and temperature: nothing else is comparable.
        """
        for what, mine, its in zip(_ALIKE, self._conditions(), other._conditions(), strict=True):
            if mine != its:
                raise TriptychError(f"these are not comparable: {what} {mine} and {its}; measure both alike")
        for quality in (self, other):
            if measure not in quality.measures:
                raise TriptychError(f"there is no measure {measure!r}: choose {', '.join(quality.measures)}")
        a, b = self.measures[measure], other.measures[measure]
        return Estimate(b.value - a.value, (a.stderr**2 + b.stderr**2) ** 0.5, min(a.n, b.n))

    def _conditions(self) -> tuple[str | float, ...]:
        return self.features, self.n, self.held_out, self.reference, self.temperature

    def as_json(self) -> dict[str, Any]:
        """{measure: {value, stderr, n, features, samples, held_out, reference, temperature, floor, floor_stderr, floor_n}}.

        ms_ssim also has its scales and window, without which it is not comparable with another's.
        """
        shared = {
            "features": self.features,
            "samples": self.n,
            "held_out": self.held_out,
            "reference": self.reference,
            "temperature": self.temperature,
        }
        found = {name: {**estimate._asdict(), **shared} for name, estimate in self.measures.items()}
        for name, floor in self.floor.items():
            found[name] |= {"floor": floor.value, "floor_stderr": floor.stderr, "floor_n": floor.n}
        if self.scales is not None:
            found["ms_ssim"] |= {"scales": self.scales.number, "window": self.scales.taps}
        return found


_ALIKE = ("features", "n", "held-out data", "reference data", "temperature")


def check_counts(n: int, held_out: int) -> None:
    """Raises a `TriptychError` where so few samples, or real data, would be compared that chance decides; or too many."""
    if n < FEWEST:
        raise TriptychError(f"sample quality wants at least {FEWEST} samples, got {n}: below that it is chance")
    if n > MOST:
        raise TriptychError(f"sample quality takes at most {MOST} samples, got {n}: ask for {MOST}")
    if held_out < FEWEST:
        raise TriptychError(
            f"{held_out} held-out data, {FEWEST} are needed: measure on a set of the kind that holds out more, as a folder "
            f"of {10 * FEWEST} does (--data DATA)"
        )


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
    """Measures of n samples against as many held-out data, or all there are where they are fewer.

    The floor has as many training data in the samples' place, of those that the features were not fitted to
    (`Features.unseen`): to a network, data that it learned from are unlike fresh ones. Where fewer than 50 are left there is
    none. nearest_ratio takes the same ones, which the model did learn from. Shares and biases go with both counts: compare
    at equal ones.

    fid           Fréchet distance of the features (FID, where these are Inception's)
    kid           kernel distance of them; precision, recall, density, coverage: of balls to the 3rd neighbour
    c2st_…        accuracy of telling them apart: ½ is the best
    swd, swd_…    sliced Wasserstein distance × 10³ of 500 of the pictures (of features, where data are none)
    ms_ssim       of pairs of those samples: beside the floor's, above it means less variety; its scales depend on the size
    nearest_ratio of distances by features to training and to held-out data: 1 for novel samples, less for copies; not
                  finite where every sample is itself a held-out datum
    copied        share of samples that are next to a single training datum of 10,000, by raw values: 0 for novel ones

    Raises:
        TriptychError: for fewer than 50 samples or held-out data, for more than 50,000 samples: the message says how many.
    """
    check_counts(n, len(test))
    rows = features.unseen(train)
    real, known = test[some(len(test), n)], train[rows[some(len(rows), n)]]
    noise = torch.Generator().manual_seed(seed)
    with evaluating(model):
        fake = model.codec.decode(model.sample(n, temperature=temperature, generator=noise)).cpu()
    seen = {name: features(stored) for name, stored in (("real", real), ("known", known), ("fake", fake))}
    measures = _measures(seen["real"], seen["fake"], real, fake)
    floor = _measures(seen["real"], seen["known"], real, known) if len(known) >= FEWEST else {}
    measures["nearest_ratio"] = nearest_ratio(seen["fake"], seen["known"], seen["real"], generator=noise)
    if len(train) > 2:
        among = train[some(len(train), LOOKED_AMONG)]
        measures["copied"] = copied(*(Pixels()(stored) for stored in (fake, real, among)))
    scales = scales_of(*real.shape[2:]) if _pictures(real) else None
    return Quality(features.name, n, len(real), measures, floor, temperature, digest(real), scales)


def _measures(real: Tensor, fake: Tensor, stored: Tensor, drawn: Tensor) -> dict[str, Estimate]:
    """All that compare features (n, d), or the pictures themselves."""
    noise = torch.Generator().manual_seed(0)
    found = {"fid": frechet_distance(real, fake), "kid": kernel_distance(real, fake)}
    found |= precision_recall(real, fake)
    found |= two_sample_test(real, fake, generator=noise)
    if not _pictures(stored):
        return found | sliced_wasserstein(real, fake, generator=noise)
    x, y = (pictures[:_SLICED].float() / 255 for pictures in (stored, drawn))
    return found | sliced_wasserstein(x, y, generator=noise) | {"ms_ssim": diversity(y, generator=noise)}


def _pictures(stored: Tensor) -> bool:
    """Whether patches can be compared."""
    return stored.ndim == 4 and not stored.is_floating_point() and min(stored.shape[2:]) >= TAP


_SLICED = 500  # pictures whose patches are sorted: 128 patches each, along 512 directions, at every scale
