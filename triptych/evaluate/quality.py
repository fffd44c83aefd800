"""How good samples are: distances of sets, with the features, the counts, error bars and the score of real data themselves.

Shapes: stored (n, *E), as a split gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from triptych.core import Estimate, GenerativeModel
from triptych.data import Split, fixed_subset
from triptych.errors import TriptychError, unknown
from triptych.evaluate.distances import frechet_distance, kernel_distance
from triptych.evaluate.features import Features, Pixels, digest, reading_of
from triptych.evaluate.measure import context_of
from triptych.evaluate.neighbours import LOOKED_AMONG, copied, nearest_ratio, precision_recall, two_sample_test
from triptych.evaluate.sliced import TAP, sliced_wasserstein
from triptych.evaluate.spread import difference
from triptych.evaluate.structure import Scales, diversity, scales_of
from triptych.modes import in_eval_mode

FEWEST = 50  # samples, or real examples, below which a distance of sets says more about chance than about the model
Against = Literal["held-out", "training"]
"""Which real examples samples are compared with."""
MOST = 50_000  # samples whose distances to one another are measured: the number of published figures


@dataclass(frozen=True)
class Quality:
    """Measures of a set of samples, each beside its floor: the score of other real examples in their place.

    Attributes:
        features: the name of the features.
        n, held_out: how many samples, and how many real examples they were compared with.
        against: whether those were held out, or are training examples, which a model that copies them matches best.
        measures, floor: estimates by name; samples at the floor cannot be told from data by that measure.
        temperature: of the samples.
        reference: a digest of the real examples.
        scales: of ms_ssim, with its window; None for data that are not pictures.
        others: how many other real examples the floor is of: n wherever there are so many. Fewer score worse by measures
            with a bias (fid, swd, precision …), so that a perfect model can be beyond the floor.
    """

    features: str
    n: int
    held_out: int
    measures: dict[str, Estimate]
    floor: dict[str, Estimate]
    temperature: float = 1.0
    reference: str = ""
    scales: Scales | None = None
    against: Against = "held-out"
    others: int = 0

    def compare(self, other: Quality, measure: str) -> Estimate:
        """The difference of a measure, `other`'s less this one's, with its standard error over draws of data and samples.

        Both met the same real data, whose chance is in both measures and not in their difference: it is the spread of the
        differences of what each example, or half of them, does to either (`spread.difference`), up to 1.4 times less than of
        two independent measures.

        Raises:
            TriptychError: unless both were measured by the same features, against the same real data, with the same counts
                and temperature: nothing else is comparable.
        """
        theirs = other.circumstances()
        for what, mine in self.circumstances().items():
            if mine != theirs[what]:
                raise TriptychError(f"these are not comparable: {what} {mine} and {theirs[what]}; measure both alike")
        if measure not in self.measures or measure not in other.measures:
            raise unknown("measure", measure, [name for name in self.measures if name in other.measures])
        return difference(self.measures[measure], other.measures[measure])

    def circumstances(self) -> dict[str, str | float]:
        """What must be equal where two measures are compared: features, counts, reference and temperature."""
        counts = {"samples": self.n, "held_out": self.held_out, "against": self.against}
        return {"features": self.features, **counts, "reference": self.reference, "temperature": self.temperature}

    def as_json(self) -> dict[str, Any]:
        """{measure: {value, stderr, n, features, samples, held_out, against, reference, temperature, floor, floor_stderr,
        floor_n, floor_samples}}; held_out counts the real examples, whichever they are against, floor_samples those in the
        samples' place.

        ms_ssim also has its scales and window, without which it is not comparable with another's.
        """
        found = {name: {**estimate._asdict(), **self.circumstances()} for name, estimate in self.measures.items()}
        for name, floor in self.floor.items():
            found[name] |= {"floor": floor.value, "floor_stderr": floor.stderr, "floor_n": floor.n}
            found[name]["floor_samples"] = self.others
        if self.scales is not None:
            found["ms_ssim"] |= {"scales": self.scales.number, "window": self.scales.taps}
        return found


def check_counts(n: int, real: int, against: Against = "held-out") -> None:
    """Raises a `TriptychError` for so few samples, or real examples, that chance decides; and for too many samples."""
    if n < FEWEST:
        raise TriptychError(f"sample quality needs at least {FEWEST} samples, got {n}: below that it is chance")
    if n > MOST:
        raise TriptychError(f"sample quality takes at most {MOST} samples, got {n}: ask for {MOST}")
    if real < FEWEST:
        advice = f"such as a folder of {10 * FEWEST} pictures (--data DATA), or with training examples (--split train)"
        if against == "training":
            advice = "since below that it is chance (--data DATA)"
        raise TriptychError(
            f"sample quality needs at least {FEWEST} {against} examples, got {real}: measure on a data set with more, "
            + advice
        )


@in_eval_mode
def sample_quality(
    model: GenerativeModel,
    test: Split,
    train: Split,
    features: Features,
    *,
    n: int = 1000,
    temperature: float = 1.0,
    seed: int = 0,
    against: Against = "held-out",
    like: Quality | None = None,
) -> Quality:
    """Measures of n samples against as many held-out examples, or all there are where they are fewer.

    The floor has n training examples in the samples' place, of those that the features were not fitted to
    (`Features.unseen`): to a network, examples that it was trained on are unlike new ones. Where they are fewer, held-out
    ones that the samples are not compared with make them up; where those are not enough either, `Quality.others` says how
    many there are; under 50, the floor is left out. nearest_ratio takes the training ones, which the model was trained on.
    Shares and biases depend on both counts: compare at equal ones. A conditional model draws its samples given the real
    examples' attributes.

    Few held-out examples say little: with against="training" the samples are compared with training examples, those that
    the features were not fitted to where they are 50 or more, and the floor is that of the held-out ones. Most measures
    then prefer a model that only repeats its training data, and nearest_ratio is left out.

    fid           Fréchet distance of the features (FID, where these are Inception's; frechet_efficientnet by those features)
    kid           kernel distance of them (kernel_efficientnet); precision, recall, density, coverage: of balls to the 3rd
                  neighbour
    c2st_…        accuracy of telling samples from data: ½ is the best
    swd, swd_…    sliced Wasserstein distance × 10³ of 500 of the pictures (of the features, for other data)
    ms_ssim       of pairs of those samples: above the floor's it means less variety; its scales depend on the size
    nearest_ratio of distances by features to training and to held-out data: 1 for new samples, less for copies; not
                  finite where every sample is itself a held-out example
    copied        share of samples that are next to a single training example of 10,000, by raw values: 0 for new ones

    Args:
        like: of another model, measured with these examples, features and counts: its floor is this one's too, and is not
            measured again.

    Raises:
        TriptychError: for fewer than 50 samples or real examples, for more than 50,000 samples, and for a `like` that was
            measured otherwise.
    """
    check_counts(n, len(test if against == "held-out" else train), against)
    compared, other = _sides(test, train, features, against)
    rows = fixed_subset(len(compared), n)
    real, known = compared[rows], other[fixed_subset(len(other), n)]
    stand_in = _made_up(known, compared, rows, n)
    noise = torch.Generator().manual_seed(seed)
    context = context_of(model, compared, np.resize(rows, n))
    fake = model.codec.decode(model.sample(n, context=context, temperature=temperature, generator=noise)).cpu()
    seen_real, seen_known, seen_fake = (features(stored) for stored in (real, known, fake))
    measures = _measures(features, seen_real, seen_fake, real, fake)
    reference, others = digest(real), len(stand_in) if len(stand_in) >= FEWEST else 0
    floor = _floor(features, real, seen_real, seen_known, stand_in) if like is None else like.floor
    mine = (features.name, n, reference, others, against)
    if like is not None and (like.features, like.n, like.reference, like.others, like.against) != mine:
        raise TriptychError("like was measured with other features, examples or counts: leave it out")
    if against == "held-out":
        measures["nearest_ratio"] = nearest_ratio(seen_fake, seen_known, seen_real, generator=noise)
    if len(train) > 2:
        held_out = real if against == "held-out" else known
        among = train[fixed_subset(len(train), LOOKED_AMONG)]
        by_value = Pixels(reading_of(train))
        measures["copied"] = copied(*(by_value(stored) for stored in (fake, held_out, among)))
    scales = scales_of(*real.shape[2:]) if _has_patches(real) else None
    return Quality(features.name, n, len(real), measures, floor, temperature, reference, scales, against, others)


def _sides(test: Split, train: Split, features: Features, against: Against) -> tuple[Split, Split]:
    """What samples are compared with, and what stands in their place for the floor."""
    rows = features.unseen(train)
    unseen = train if len(rows) == len(train) else train.take(rows)
    if against == "held-out":
        return test, unseen
    return unseen if len(unseen) >= FEWEST else train, test


def _made_up(known: Tensor, compared: Split, rows: np.ndarray, n: int) -> Tensor:
    """`known`, made up to n by what is compared without being among these rows, as far as that goes."""
    left = np.setdiff1d(np.arange(len(compared)), rows)
    if len(known) >= n or not len(left):
        return known
    return torch.cat([known, compared[left[fixed_subset(len(left), n - len(known))]]])


def _floor(features: Features, real: Tensor, seen_real: Tensor, seen_known: Tensor, stand_in: Tensor) -> dict[str, Estimate]:
    """What other real examples score in the samples' place; nothing where they are too few."""
    if len(stand_in) < FEWEST:
        return {}
    more = stand_in[len(seen_known) :]
    seen = torch.cat([seen_known, features(more)]) if len(more) else seen_known
    return _measures(features, seen_real, seen, real, stand_in)


def _measures(features: Features, real: Tensor, fake: Tensor, stored: Tensor, drawn: Tensor) -> dict[str, Estimate]:
    """The measures that compare features (n, d), or the pictures themselves."""
    noise = torch.Generator().manual_seed(0)
    found = {features.frechet: frechet_distance(real, fake), features.kernel: kernel_distance(real, fake)}
    found |= precision_recall(real, fake)
    found |= two_sample_test(real, fake, generator=noise)
    if not _has_patches(stored):
        return found | sliced_wasserstein(real, fake, generator=noise)
    x, y = (pictures[:_SLICED].float() / 255 for pictures in (stored, drawn))
    return found | sliced_wasserstein(x, y, generator=noise) | {"ms_ssim": diversity(y, generator=noise)}


def _has_patches(stored: Tensor) -> bool:
    """Whether these are pictures whose patches can be compared."""
    return stored.ndim == 4 and not stored.is_floating_point() and min(stored.shape[2:]) >= TAP


_SLICED = 500  # pictures whose patches are sorted: 128 patches each, along 512 directions, at every scale
