"""What is wrong with a training, in plain words: verdicts with their evidence and a remedy, from the run's own records.

It reads metrics.jsonl and, where a model and data are given, a few samples. A verdict is a rule with a threshold, named
beside it; where nothing is found the run is called healthy, which says no more than that none of the rules applies.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triptych.errors import TriptychError

if TYPE_CHECKING:
    from triptych.core import GenerativeModel
    from triptych.data import Splits


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        name: of the ailment, or "healthy".
        evidence: what was seen, in numbers.
        remedy: what to do.
    """

    name: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}" + (f"; {self.remedy}" if self.remedy else "")


class History:
    """The numbers of metrics.jsonl by name, over the lines that hold them."""

    def __init__(self, lines: Sequence[dict[str, float | None]]):
        self.lines = [line for line in lines if "step" in line]

    @classmethod
    def of(cls, folder: Path) -> History:
        """That of a run; a last line that a kill cut short is passed over."""
        path = folder / "metrics.jsonl"
        if not path.is_file():
            raise TriptychError(f"{folder} has no metrics.jsonl: give the folder of a run that has trained")
        lines = []
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return cls([line for line in lines if isinstance(line, dict)])

    def __contains__(self, name: str) -> bool:
        return any(line.get(name) is not None for line in self.lines)

    def values(self, name: str) -> np.ndarray:
        """(T,), NaN where a number was not finite; lines without it are left out."""
        found = [line[name] for line in self.lines if name in line]
        return np.asarray([math.nan if v is None else v for v in found], dtype=np.float64)

    def late(self, name: str) -> np.ndarray:
        """The last quarter of them, at least three."""
        values = self.values(name)
        return values[-max(3, len(values) // 4) :]

    def level(self, name: str) -> float:
        """The median of the last quarter."""
        return float(np.nanmedian(self.late(name)))


ENOUGH = 8  # lines of history below which trends say nothing


def diagnose(history: History, samples: dict[str, float] | None = None) -> list[Verdict]:
    """Verdicts, the gravest first; one of "healthy" where no rule applies.

    Args:
        samples: what `examine` found of a few samples, by name.
    """
    found = [verdict for rule in _RULES if (verdict := rule(history, samples or {}))]
    if found:
        return found
    lines = len(history.lines)
    seen = f"{lines} records show none of {', '.join(NAMES)}"
    return [Verdict("healthy", seen, "" if lines >= ENOUGH else "but they are few: judge again after more steps")]


def examine(model: GenerativeModel, splits: Splits, n: int = 200, seed: int = 0) -> dict[str, float]:
    """What a few samples and data tell, numbers by name, for `diagnose`.

        spread_ratio   mean standard deviation of samples over that of data, value by value
        nearest_ratio  distance of samples to training data over that to as many held-out data, by raw values
        active_units   latent dimensions that a VAE uses
        nll_gap        what held-out data cost above training data, in nats over the spread of the training data's

    Args:
        n: samples, and data of either kind; fewer where there are fewer.
    """
    import torch

    from triptych.core import HasDensity, evaluating
    from triptych.evaluate import Pixels, active_units, importance_nll, nearest_ratio
    from triptych.evaluate.latent import codes
    from triptych.evaluate.measure import some
    from triptych.vae import VAE

    n = min(n, len(splits["train"]), len(splits["test"]))
    train, test = (splits[name][some(len(splits[name]), n)] for name in ("train", "test"))
    noise = torch.Generator().manual_seed(seed)
    with evaluating(model):
        samples = model.codec.decode(model.sample(n, generator=noise))
        fake, real, held_out = (Pixels()(stored) for stored in (samples, train, test))
        found = {"spread_ratio": (fake.std(0).mean() / real.std(0).mean().clamp(min=1e-12)).item()}
        if fake.isfinite().all():
            found["nearest_ratio"] = nearest_ratio(fake, real, held_out, generator=noise).value
        if isinstance(model, VAE):
            found["active_units"] = active_units(codes(model, train)).value
        if isinstance(model, HasDensity):
            known, new = (importance_nll(model, stored, k=1, generator=noise) for stored in (train, test))
            found["nll_gap"] = (new.value - known.value) / max(known.stderr * n**0.5, 1e-12)
    return found


def _learning_rate(history: History, _samples: dict[str, float]) -> Verdict | None:
    """Bad steps keep coming, or the loss is not finite, or ends far above its best."""
    bad = history.values("bad_steps")
    last = history.lines[-1]["step"] if history.lines else 0
    if len(bad) and bad[-1] >= max(3, BAD_SHARE * float(last or 0)):
        return Verdict("learning rate too high", f"{bad[-1]:.0f} steps of {last} were skipped as bad", _SLOWER)
    if "loss" not in history:
        return None
    loss = history.values("loss")
    if not np.isfinite(loss[-3:]).all():
        return Verdict("learning rate too high", "the loss is not finite any more", _SLOWER)
    best, spread = np.nanmin(loss), np.nanmedian(np.abs(np.diff(loss))) if len(loss) > 1 else 0.0
    if len(loss) >= ENOUGH and history.level("loss") > best + max(DIVERGED * spread, 0.1 * abs(best)):
        seen = f"the loss was {best:.4g} at best and is {history.level('loss'):.4g}"
        return Verdict("learning rate too high", seen, _SLOWER)
    return None


BAD_SHARE = 0.01  # of all steps
DIVERGED = 10.0  # median changes between records that a loss may end above its best
_SLOWER = "lower --training.rate, lengthen --training.rate-warmup, or set --training.clip"


def _posterior_collapse(history: History, samples: dict[str, float]) -> Verdict | None:
    if "kl" not in history:
        return None
    kl, active = history.level("kl"), samples.get("active_units")
    if kl > COLLAPSED_KL and (active is None or active > 0):
        return None
    seen = f"KL(q ‖ p) is {kl:.3g} nats" + ("" if active is None else f", {active:.0f} latent dimensions are used")
    return Verdict(
        "posterior collapse",
        seen,
        "set --objective.warmup or --objective.free-bits, or a decoder that can do less by itself",
    )


COLLAPSED_KL = 0.1  # nats in all: less than a seventh of a bit is told about a datum


def _exploding(history: History, _samples: dict[str, float]) -> Verdict | None:
    if "sample_range" not in history:
        return None
    reach = history.values("sample_range")
    last = reach[-1]
    if math.isfinite(last) and last <= EXPLODED:
        return None
    return Verdict(
        "exploding scale",
        f"samples at temperature 1 reach {last:.3g}",
        "train longer at a lower --training.rate with --training.clip, or choose --model.coupling additive",
    )


EXPLODED = 100.0  # in model coordinates: a hundred times a picture's range


def _discriminator_wins(history: History, _samples: dict[str, float]) -> Verdict | None:
    if "d_accuracy" not in history or history.level("d_accuracy") < WON:
        return None
    slack = history.level("value") if "value" in history else math.nan
    if slack < SURE:  # it ranks nearly all pairs, but is not sure of them: a small edge is how a GAN learns
        return None
    seen = f"D tells {history.level('d_accuracy'):.1%} of the pairs apart, V(D, G) is {slack:.3g} nats of at most 0"
    return Verdict(
        "discriminator winning",
        seen,
        "strengthen --objective.penalty r1r2 or --objective.gamma, set --augment ada for few data, or widen the generator",
    )


WON, SURE = 0.99, -0.05  # share of pairs in the right order; V, whose optimum for D is 0


def _generator_wins(history: History, _samples: dict[str, float]) -> Verdict | None:
    if "d_accuracy" not in history or history.level("d_accuracy") > LOST:
        return None
    seen = f"D ranks only {history.level('d_accuracy'):.1%} of the pairs rightly, worse than chance"
    remedy = "give D more --objective.plays, less --objective.gamma, or more --model.width"
    return Verdict("generator winning", seen, remedy)


LOST = 0.4


def _mode_collapse(history: History, samples: dict[str, float]) -> Verdict | None:
    ratio = samples.get("spread_ratio")
    if ratio is None and "spread_ratio" in history:
        ratio = history.level("spread_ratio")
    if ratio is None or ratio > COLLAPSED_SPREAD:
        return None
    return Verdict(
        "mode collapse",
        f"samples differ from one another {ratio:.0%} as much as data do",
        "use --objective.game relativistic with --objective.penalty r1r2, --model.stddev-group 4, or a longer z",
    )


COLLAPSED_SPREAD = 0.3  # of the data's standard deviation, averaged over values


def _oscillation(history: History, _samples: dict[str, float]) -> Verdict | None:
    """The game's value goes round: a strong period in the second half of the history, and no decay."""
    if "value" not in history:
        return None
    values = history.values("value")
    values = values[len(values) // 2 :]
    if len(values) < 2 * ENOUGH or not np.isfinite(values).all():
        return None
    swing, period, strength = _period(values)
    if swing < SWING or strength < PERIODIC:
        return None
    seen = f"V(D, G) swings by ±{swing:.2g} nats about every {period} records (autocorrelation {strength:.2f})"
    remedy = "strengthen --objective.gamma with penalty r1 or r1r2, and lower --training.momentum"
    return Verdict("oscillation", seen, remedy)


SWING, PERIODIC = 0.2, 0.5  # nats; autocorrelation at the period


def _period(values: np.ndarray) -> tuple[float, int, float]:
    """Amplitude, the lag of the first return after the autocorrelation was negative, and its height there."""
    centred = values - np.polyval(np.polyfit(np.arange(len(values)), values, 1), np.arange(len(values)))
    power = float((centred**2).mean())
    if power < 1e-12:
        return 0.0, 0, 0.0
    lags = range(1, len(values) // 2 + 1)
    auto = np.asarray([(centred[:-lag] * centred[lag:]).mean() / power for lag in lags])
    below = np.flatnonzero(auto < 0)
    if not len(below) or below[0] + 1 >= len(auto):
        return math.sqrt(2 * power), 0, 0.0
    after = auto[below[0] :]
    return math.sqrt(2 * power), int(below[0] + after.argmax() + 1), float(after.max())


def _memorising(_history: History, samples: dict[str, float]) -> Verdict | None:
    ratio, gap = samples.get("nearest_ratio"), samples.get("nll_gap")
    if ratio is not None and ratio < COPIED:
        seen = f"samples are {ratio:.2f} times as far from training data as from held-out data"
    elif gap is not None and gap > OVERFITTED:
        seen = f"held-out data cost {gap:.1f} standard deviations more nats than training data"
    else:
        return None
    return Verdict("memorising", seen, "stop earlier, use more data, or --augment flip,shift (a GAN: --augment ada)")


COPIED, OVERFITTED = 0.8, 2.0  # novel samples have 1; standard deviations of the training data's own nats


def _too_early(history: History, _samples: dict[str, float]) -> Verdict | None:
    """The loss of a single player still falls at the end by more than it scatters."""
    if "loss" not in history or len(history.values("loss")) < ENOUGH:
        return None
    loss = history.values("loss")
    whole, late = np.nanmax(loss[1:]) - np.nanmin(loss), history.late("loss")
    if not np.isfinite(late).all() or whole <= 0:
        return None
    slope, _ = np.polyfit(np.linspace(0, 1, len(late)), late, 1)
    scatter = float(
        np.std(late - np.polyval(np.polyfit(np.linspace(0, 1, len(late)), late, 1), np.linspace(0, 1, len(late))))
    )
    fall = -float(slope)
    if fall < STILL_FALLING * whole or fall < 2 * scatter:
        return None
    seen = f"the loss fell by {fall:.3g} in the last quarter of the run, {fall / whole:.0%} of all that it fell"
    return Verdict("stopped too early", seen, "go on: triptych train --resume RUN --steps MORE")


STILL_FALLING = 0.1  # of the whole fall, in the last quarter

Rule = Callable[[History, dict[str, float]], Verdict | None]
_RULES: list[Rule] = [
    _learning_rate,
    _exploding,
    _posterior_collapse,
    _mode_collapse,
    _discriminator_wins,
    _generator_wins,
    _oscillation,
    _memorising,
    _too_early,
]
NAMES = (
    "learning rate too high",
    "exploding scale",
    "posterior collapse",
    "mode collapse",
    "discriminator winning",
    "generator winning",
    "oscillation",
    "memorising",
    "stopped too early",
)
