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
    from torch import Tensor

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
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
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
        return np.asarray([v if isinstance(v, int | float) else math.nan for v in found], dtype=np.float64)

    def late(self, name: str) -> np.ndarray:
        """The last quarter of them, at least three."""
        values = self.values(name)
        return values[-max(3, len(values) // 4) :]

    def level(self, name: str) -> float:
        """The median of the last quarter; NaN where none of it was finite."""
        late = self.late(name)
        return float(np.median(late[np.isfinite(late)])) if np.isfinite(late).any() else math.nan


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
        copied         share of samples that are far nearer to one training datum than to all others, above held-out data's
        nearest_ratio  distance of samples to training data over that to as many held-out data, by raw values; not finite
                       where every sample is itself a held-out datum
        active_units   latent dimensions that a VAE uses
        nll_gap        what held-out data cost above training data, in nats over the spread of the training data's

    Args:
        n: samples, at least 2, and data of either kind; fewer where there are fewer.
    """
    import torch

    from triptych.core import HasDensity, evaluating
    from triptych.evaluate import Pixels, active_units, importance_nll, nearest_ratio
    from triptych.evaluate.latent import codes
    from triptych.evaluate.measure import some
    from triptych.vae import VAE

    train, test = (splits[name][some(len(splits[name]), n)] for name in ("train", "test"))
    noise = torch.Generator().manual_seed(seed)
    with evaluating(model):
        samples = model.codec.decode(model.sample(n, generator=noise))
        fake, real, held_out = (Pixels()(stored) for stored in (samples, train, test))
        spread, data_spread = (x.std(0, correction=0).mean() for x in (fake, real))
        found = {"spread_ratio": (spread / data_spread.clamp(min=1e-12)).item()}
        repeated = len(real.unique(dim=0)) < len(real) / 2  # where data repeat, a sample that is one is no copy
        if fake.isfinite().all() and min(len(real), len(held_out)) >= COMPARABLE and fake.shape[1] > 1 and not repeated:
            found["nearest_ratio"] = nearest_ratio(fake, real, held_out, generator=noise).value
        if fake.isfinite().all() and len(splits["train"]) > 2:
            known_all = Pixels()(splits["train"][some(len(splits["train"]), _MOST)])
            found["copied"] = _stuck(fake, known_all) - _stuck(held_out, known_all)
        if isinstance(model, VAE):
            found["active_units"] = active_units(codes(model, train)).value
        if isinstance(model, HasDensity):
            known, new = (importance_nll(model, stored, k=1, generator=noise) for stored in (train, test))
            found["nll_gap"] = (new.value - known.value) / max(known.stderr * n**0.5, 1e-12)
    return found


COMPARABLE = 30  # data of either kind below which their distances to samples say little
_MOST = 10_000  # training data that samples are looked for among


def _stuck(x: Tensor, known: Tensor) -> float:
    """The share of x (n, d) that is less than a third as far from its nearest known datum as from the next one.

    The rule is Yoon et al.'s (2023) for memorised samples. It sees copies among any number of data, of which as many as
    are held out would hardly hold the ones that were copied.
    """
    from triptych.evaluate.neighbours import nearest_training

    distances, _ = nearest_training(x, known, count=2)
    return float((distances[:, 0] < distances[:, 1] / 3).double().mean())


def _learning_rate(history: History, _samples: dict[str, float]) -> Verdict | None:
    """Training was taken back, bad steps keep coming, or the loss is not finite, or ends far above its best."""
    if "rollbacks" in history and (times := int(np.nanmax(history.values("rollbacks")))):
        seen = f"training was rolled back to its last good state, at half the rate, {times} time{'s' * (times > 1)}"
        return Verdict("learning rate too high", seen, _SLOWER)
    bad = history.values("bad_steps")
    last = history.lines[-1]["step"] if history.lines else 0
    if len(bad) and bad[-1] >= max(3, BAD_SHARE * float(last or 0)):
        return Verdict("learning rate too high", f"{bad[-1]:.0f} steps of {last} were skipped as bad", _SLOWER)
    loss = history.values("loss")
    if not len(loss):
        return None
    if not np.isfinite(loss[-3:]).any():
        return Verdict("learning rate too high", "the loss is not finite any more", _SLOWER)
    # a KL whose weight grows lifts a VAE's loss, a heavy one lowers its bound: what diverges has both worse
    if _rose(loss) and ("elbo" not in history or _rose(-history.values("elbo"))):
        seen = f"the loss was {np.nanmin(loss):.4g} at best and is {history.level('loss'):.4g}"
        return Verdict("learning rate too high", seen, _SLOWER)
    return None


def _rose(values: np.ndarray) -> bool:
    """Whether the last quarter is far above the lowest, in units of the changes between records."""
    values = values[np.isfinite(values)]
    if len(values) < ENOUGH:
        return False
    best, change = values.min(), np.median(np.abs(np.diff(values)))
    return bool(np.median(values[-max(3, len(values) // 4) :]) > best + max(DIVERGED * change, 0.1 * abs(best)))


BAD_SHARE = 0.01  # of all steps
DIVERGED = 10.0  # median changes between records that a loss may end above its best
_SLOWER = "lower --training.rate, lengthen --training.rate-warmup, or set --training.clip"


def _posterior_collapse(history: History, samples: dict[str, float]) -> Verdict | None:
    if "kl" not in history:
        return None
    kl, active = history.level("kl"), samples.get("active_units")
    if not kl <= COLLAPSED_KL and (active is None or active > 0):
        return None
    seen = f"KL(q ‖ p) is {kl:.3g} nats" + ("" if active is None else f", {active:.0f} latent dimensions are used")
    return Verdict(
        "posterior collapse",
        seen,
        "set --objective.warmup or --objective.free-bits, or a decoder that can do less by itself",
    )


COLLAPSED_KL = 0.1  # nats in all: less than a seventh of a bit is told about a datum


def _exploding(history: History, _samples: dict[str, float]) -> Verdict | None:
    reach = history.values("sample_range")
    unit = history.level("data_range") if "data_range" in history else 1.0
    if not len(reach) or reach[-1] <= EXPLODED * unit:
        return None
    seen = f"reach {reach[-1]:.3g}, the data {unit:.3g}" if math.isfinite(reach[-1]) else "are not finite"
    return Verdict(
        "exploding scale",
        f"samples at temperature 1 {seen}",
        "train longer at a lower --training.rate with --training.clip, or choose --model.coupling additive",
    )


EXPLODED = 100.0  # times the data's range


def _discriminator_wins(history: History, _samples: dict[str, float]) -> Verdict | None:
    if "d_accuracy" not in history or not history.level("d_accuracy") >= WON:
        return None
    slack = history.level("value") if "value" in history else math.nan
    # it may rank nearly all pairs, but not be sure of them: a small edge is how a GAN learns. Above 0 only Wasserstein's V
    # can be, whose critic should be as good as it can.
    if not SURE <= slack <= 0:
        return None
    seen = f"D tells {history.level('d_accuracy'):.1%} of the pairs apart, V(D, G) is {slack:.3g} nats of at most 0"
    return Verdict(
        "discriminator winning",
        seen,
        "strengthen --objective.penalty r1r2 or --objective.gamma, set --augment ada for few data, or widen the generator",
    )


WON, SURE = 0.99, -0.05  # share of pairs in the right order; V, whose optimum for D is 0


def _generator_wins(history: History, _samples: dict[str, float]) -> Verdict | None:
    if "d_accuracy" not in history or not history.level("d_accuracy") <= LOST:
        return None
    seen = f"D ranks only {history.level('d_accuracy'):.1%} of the pairs rightly, worse than chance"
    remedy = "give D more --objective.plays, less --objective.gamma, or more --model.width"
    return Verdict("generator winning", seen, remedy)


LOST = 0.4


def _mode_collapse(history: History, samples: dict[str, float]) -> Verdict | None:
    ratio = samples.get("spread_ratio")
    if ratio is None and "spread_ratio" in history:
        ratio = history.level("spread_ratio")
    if ratio is None or not ratio <= COLLAPSED_SPREAD:
        return None
    if _posterior_collapse(history, samples):  # of which a VAE's samples are alike
        return None
    return Verdict(
        "mode collapse",
        f"samples differ from one another {ratio:.0%} as much as data do",
        "use --objective.game relativistic with --objective.penalty r1r2, --model.stddev-group 4, or a longer z",
    )


COLLAPSED_SPREAD = 0.3  # of the data's standard deviation, averaged over values


def _oscillation(history: History, _samples: dict[str, float]) -> Verdict | None:
    """The game's value goes round: a strong period in the second half of the history, three times or more, and no decay."""
    if "value" not in history:
        return None
    values = history.values("value")
    values = values[len(values) // 2 :]
    if len(values) < 3 * ENOUGH or not np.isfinite(values).all():
        return None
    swing, period, strength = _period(values)
    if swing < SWING or strength < PERIODIC:
        return None
    seen = f"V(D, G) swings by ±{swing:.2g} nats about every {period} records (autocorrelation {strength:.2f})"
    remedy = "strengthen --objective.gamma with penalty r1 or r1r2, and lower --training.momentum"
    return Verdict("oscillation", seen, remedy)


SWING, PERIODIC = 0.2, 0.5  # nats; autocorrelation at the period


def _period(values: np.ndarray) -> tuple[float, int, float]:
    """Amplitude, the lag at which the autocorrelation of ranks comes back after it was negative, and its height there.

    Ranks, because V's turns may be sharp dips. The height is no more than the depth before, and a third of the values the
    longest lag: noise comes back by chance, but seldom as high as it fell, and seldom so soon.
    """
    swing = math.sqrt(2) * float(_detrended(values).std())
    if swing < 1e-6:
        return 0.0, 0, 0.0
    ranks = _detrended(values.argsort().argsort().astype(np.float64))
    lags = range(1, len(values) // 3 + 1)
    auto = np.asarray([(ranks[:-lag] * ranks[lag:]).mean() / (ranks**2).mean() for lag in lags])
    below = np.flatnonzero(auto < 0)
    if not len(below) or below[0] + 1 >= len(auto):
        return swing, 0, 0.0
    top = int(below[0] + auto[below[0] :].argmax())
    return swing, top + 1, float(min(auto[top], -auto[: top + 1].min()))


def _detrended(values: np.ndarray) -> np.ndarray:
    time = np.arange(len(values))
    return values - np.polyval(np.polyfit(time, values, 1), time)


def _memorising(_history: History, samples: dict[str, float]) -> Verdict | None:
    ratio, gap, copied = samples.get("nearest_ratio"), samples.get("nll_gap"), samples.get("copied")
    if copied is not None and copied > COPIED_SHARE:
        seen = f"{copied:.0%} of the samples are next to a single training datum"
    elif ratio is not None and not math.isfinite(ratio):
        return Verdict("memorising", "every sample is itself a held-out datum", _HOLD_OUT)
    elif ratio is not None and ratio < COPIED:
        seen = f"samples are {ratio:.2f} times as far from training data as from held-out data"
    elif gap is not None and gap > OVERFITTED:
        seen = f"held-out data cost {gap:.1f} standard deviations more nats than training data"
    else:
        return None
    return Verdict("memorising", seen, "stop earlier, use more data, or --augment flip,shift (a GAN: --augment ada)")


COPIED, COPIED_SHARE = 0.8, 0.3  # novel samples have 1; and as many as held-out data have
_HOLD_OUT = "hold out data that are not in the training data and that the model never saw: triptych doctor RUN --data DATA"
OVERFITTED = 2.0  # standard deviations of the training data's own nats


def _too_early(history: History, _samples: dict[str, float]) -> Verdict | None:
    """The loss of a single player still falls at the end by more than it scatters."""
    loss, late = history.values("loss"), history.late("loss")
    if len(loss) < ENOUGH or not np.isfinite(late).all():
        return None
    whole, time = np.nanmax(loss[1:]) - np.nanmin(loss), np.linspace(0, 1, len(late))
    if whole <= 0:
        return None
    slope, start = np.polyfit(time, late, 1)
    fall, scatter = -float(slope), float(np.std(late - (start + slope * time)))
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
