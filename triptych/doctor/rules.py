"""The rules, one row each: what to look for in a run's records and in what was found of samples, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from triptych.doctor.columns import from_numbers
from triptych.doctor.history import ENOUGH, History

Samples = Mapping[str, float]

BAD_SHARE = 0.01  # of all steps
DIVERGED = 10.0  # median changes between records that a loss may end above its best
MANYFOLD = 10.0  # times their least, in units of at least 1, that a player's loss and gradient may end at
COLLAPSED_KL = 0.1  # nats in all: less than a seventh of a bit is encoded of an example
EXPLODED = 100.0  # times the data's range
WON, SURE = 0.99, -0.05  # share of pairs in the right order; V, whose optimum for D is 0
LOST = 0.4
COLLAPSED_SPREAD = 0.3  # of the data's standard deviation, averaged over values
FEW_OUTPUTS = 11.0  # a line of one latent dimension has 12 such
SWING, PERIODIC = 0.2, 0.5  # nats; autocorrelation at the period
COPIED, COPIED_SHARE = 0.8, 0.3  # new samples have 1; and as many as held-out data have
OVERFITTED = 2.0  # standard deviations of the training data's own nats
FAR = 0.5  # standard deviations of a column's data: a mean alone, without any spread, is 0.8 off
STILL_FALLING = 0.1  # of the whole fall, in the last quarter
TOLD_APART = 0.99  # held-out accuracy of a classifier of samples and data: it hardly errs


class Rule(NamedTuple):
    """One row.

    Attributes:
        name: of what is wrong; where several rows share it, the first that applies counts.
        find: (records, samples) -> the evidence in words and numbers, or None.
        remedies: what to do; those that a run follows already are left out (`diagnosis`).
        needs: names of numbers, of which records or samples hold one where the rule has something to look at: a flow has
            no discriminator that could win.
    """

    name: str
    find: Callable[[History, Samples], str | None]
    remedies: tuple[str, ...]
    needs: tuple[str, ...]

    def looks(self, history: History, samples: Samples) -> bool:
        """Whether there is something to look at."""
        measured = {name.partition(" of ")[0] for name in samples}  # of each column, for tables
        return any(name in history or name in measured for name in self.needs)


def _learning_rate(history: History, _samples: Samples) -> str | None:
    """Training was rolled back, bad steps recur, or a loss is not finite, or ends far above its best."""
    players = (_diverged_player(history, name) for name in history.players())
    return _rolled_back(history) or _diverged(history) or next(filter(None, players), None)


def _rolled_back(history: History) -> str | None:
    if times := int(np.nanmax(history.values("rollbacks"), initial=0)):
        return f"training was rolled back to its last good state, at half the rate, {times} time{'s' * (times > 1)}"
    bad = history.values("bad_steps")
    recurs = len(bad) and bad[-1] >= max(3, BAD_SHARE * history.last_step)
    return f"{bad[-1]:.0f} steps of {history.last_step} were skipped as bad" if recurs else None


def _diverged(history: History) -> str | None:
    loss = history.values("loss")
    if len(loss) and not np.isfinite(loss[-3:]).any():
        return "the loss is no longer finite"
    # a growing weight of the KL raises a VAE's loss, a large one lowers its bound: in a divergence both get worse
    worse = _rose(loss) and ("elbo" not in history or _rose(-history.values("elbo")))
    return f"the loss was {np.nanmin(loss):.4g} at best and is {history.level('loss'):.4g}" if worse else None


def _rose(values: np.ndarray) -> bool:
    """Whether the last quarter is far above the lowest, in units of the changes between records."""
    values = values[np.isfinite(values)]
    if len(values) < ENOUGH:
        return False
    best, change = values.min(), np.median(np.abs(np.diff(values)))
    return bool(np.median(values[-max(3, len(values) // 4) :]) > best + max(DIVERGED * change, 0.1 * abs(best)))


def _diverged_player(history: History, name: str) -> str | None:
    """Evidence that a player's loss and gradient are ten times their size in the lowest quarter, or its gradient a hundred.

    A rising loss alone is not: a player's loss rises when the other gains, and Wasserstein's has no zero.
    """
    loss, norm = (history.values(f"{kind}_{name}") for kind in ("loss", "grad_norm"))
    norm = norm if len(norm) else loss
    for what, values in (("loss", loss), ("gradient", norm)):
        if len(values) and not np.isfinite(values[-3:]).any():
            return f"the {name}'s {what} is no longer finite"
    (before, after), (least, last) = (_quarters(np.abs(values)) for values in (loss, norm))
    growth, norm_growth = after / max(before, 1), last / max(least, 1)
    if not (min(growth, norm_growth) > MANYFOLD or norm_growth > MANYFOLD**2):
        return None
    grew = f"|loss| was {before:.3g} in its lowest quarter and is {after:.3g}, its gradient {least:.3g} and {last:.3g}"
    return f"the {name}'s {grew}"


def _quarters(values: np.ndarray) -> tuple[float, float]:
    """The least median of the first three quarters, and the median of the last; (0, 0) for few values."""
    values = values[np.isfinite(values)]
    medians = [float(np.median(part)) for part in np.array_split(values, 4)] if len(values) >= ENOUGH else [0.0, 0.0]
    return min(medians[:-1]), medians[-1]


def _posterior_collapse(history: History, samples: Samples) -> str | None:
    kl, active = history.level("kl"), samples.get("active_units")
    if not (kl <= COLLAPSED_KL or ("kl" in history and active == 0)):
        return None
    return f"KL(q ‖ p) is {kl:.3g} nats" + ("" if active is None else f", {active:.0f} latent dimensions are used")


def _exploding(history: History, _samples: Samples) -> str | None:
    reach, unit = history.values("sample_range"), history.level("data_range") if "data_range" in history else 1.0
    if not len(reach) or reach[-1] <= EXPLODED * unit:
        return None
    seen = f"reach {reach[-1]:.3g}, the data {unit:.3g}" if math.isfinite(reach[-1]) else "are not finite"
    return f"samples at temperature 1 {seen}"


def _discriminator_wins(history: History, _samples: Samples) -> str | None:
    accuracy, slack = history.level("d_accuracy"), history.level("value")
    # it may rank nearly all pairs, but not be sure of them: a small edge is how a GAN learns. Above 0 only Wasserstein's V
    # can be, whose critic should be as good as it can.
    if not (accuracy >= WON and SURE <= slack <= 0):
        return None
    return f"D tells {accuracy:.1%} of the pairs apart, V(D, G) is {slack:.3g} nats of at most 0"


def _generator_wins(history: History, _samples: Samples) -> str | None:
    accuracy, value = history.level("d_accuracy"), history.late("value")
    # logits that are NaN rank no pair rightly
    if not accuracy <= LOST or (len(value) and not np.isfinite(value).any()):
        return None
    return f"D ranks only {accuracy:.1%} of the pairs rightly, worse than chance"


def _mode_collapse(history: History, samples: Samples) -> str | None:
    ratio = samples.get("spread_ratio", history.level("spread_ratio"))
    few, active = samples.get("distinct_outputs", math.inf), samples.get("active_units", math.inf)
    if _posterior_collapse(history, samples):  # which makes a VAE's samples alike
        return None
    if ratio <= COLLAPSED_SPREAD:
        return f"samples differ from one another {ratio:.0%} as much as data do"
    repeats = few <= FEW_OUTPUTS and active > 1
    return f"samples repeat one another as if there were about {few:.0f} of them in all" if repeats else None


def _collapse_without_bound(history: History, samples: Samples) -> str | None:
    return None if "kl" in history else _mode_collapse(history, samples)


def _oscillation(history: History, _samples: Samples) -> str | None:
    """The game's value is periodic: strongly so in the second half of the history, three times or more, without decay."""
    values = history.values("value")
    values = values[len(values) // 2 :]
    if len(values) < 3 * ENOUGH or not np.isfinite(values).all():
        return None
    swing, lag, strength = period(values)
    if swing < SWING or strength < PERIODIC:
        return None
    return f"V(D, G) swings by ±{swing:.2g} nats about every {lag} records (autocorrelation {strength:.2f})"


def period(values: np.ndarray) -> tuple[float, int, float]:
    """Amplitude, the lag at which the autocorrelation of ranks peaks after it was negative, and its height there.

    Ranks, because V's turning points may be sharp. The height is limited to the depth before it, and the lag to a third of
    the values: the autocorrelation of noise rises by chance too, but seldom as far as it fell, and seldom so soon.
    """
    time = np.arange(len(values))
    detrended, ranks = (x - np.polyval(np.polyfit(time, x, 1), time) for x in (values, values.argsort().argsort()))
    swing = math.sqrt(2) * float(detrended.std())
    if swing < 1e-6:
        return 0.0, 0, 0.0
    lags = range(1, len(values) // 3 + 1)
    auto = np.asarray([(ranks[:-lag] * ranks[lag:]).mean() / (ranks**2).mean() for lag in lags])
    below = np.flatnonzero(auto < 0)
    if not len(below) or below[0] + 1 >= len(auto):
        return swing, 0, 0.0
    top = int(below[0] + auto[below[0] :].argmax())
    return swing, top + 1, float(min(auto[top], -auto[: top + 1].min()))


def _far_columns(_history: History, samples: Samples) -> str | None:
    """Columns whose samples are surely far from the data's: the whole distribution, of which mean and spread are a part."""
    far = [c for c in from_numbers(samples) if c.distance.value - 2 * c.distance.stderr > FAR]
    return f"samples are off in {'; '.join(map(str, far))}" if far else None


def _copies(_history: History, samples: Samples) -> str | None:
    share = samples.get("copied", 0.0)
    return f"{share:.0%} of the samples are next to a single training example" if share > COPIED_SHARE else None


def _held_out_copies(_history: History, samples: Samples) -> str | None:
    finite = math.isfinite(samples.get("nearest_ratio", 1.0))
    return None if finite else "every sample is itself a held-out example"


def _nearer_to_training_data(_history: History, samples: Samples) -> str | None:
    ratio, gap = samples.get("nearest_ratio", 1.0), samples.get("nll_gap", 0.0)
    if ratio < COPIED:
        return f"samples are {ratio:.2f} times as far from training data as from held-out data"
    return f"held-out data cost {gap:.1f} standard deviations more nats than training data" if gap > OVERFITTED else None


def _not_grown(_history: History, samples: Samples) -> str | None:
    side, full, alpha = (samples.get(name, 1.0) for name in ("side", "full_side", "alpha"))
    fading = "" if alpha >= 1 else f", its newest layer counts {alpha:.0%}"
    short = side < full or alpha < 1
    return f"it has grown to {side:.0f} × {side:.0f} of {full:.0f} × {full:.0f}{fading}" if short else None


def _told_apart(_history: History, samples: Samples) -> str | None:
    accuracy = samples.get("told_apart", 0.0)
    said = f"a classifier tells samples from held-out data with an accuracy of {accuracy:.1%}"
    return said if accuracy >= TOLD_APART else None


def _still_falling(history: History, _samples: Samples) -> str | None:
    """A single player's loss still falls by more than it scatters."""
    loss, late = history.values("loss"), history.late("loss")
    if len(loss) < ENOUGH or not np.isfinite(late).all():
        return None
    whole, time = np.nanmax(loss[1:]) - np.nanmin(loss), np.linspace(0, 1, len(late))
    slope, start = np.polyfit(time, late, 1)
    fall, scatter = -float(slope), float(np.std(late - (start + slope * time)))
    if whole <= 0 or fall < max(STILL_FALLING * whole, 2 * scatter):
        return None
    return f"the loss fell by {fall:.3g} in the last quarter of the run, {fall / whole:.0%} of its whole fall"


_CONTINUE = "continue: triptych train --resume RUN --minutes MORE"
_MORE_DATA = (
    "set --training.validation (0.1, say)",
    "stop earlier",
    "use more data",
    "set --augment flip,shift",
    "set --augment ada",
)

_VARIETY, _COPIES = ("spread_ratio", "distinct_outputs"), ("copied", "nearest_ratio")

RULES = (
    Rule("learning rate too high", _learning_rate,
         ("lower --training.rate", "lengthen --training.rate-warmup", "set --training.clip"),
         ("loss", "loss_discriminator", "loss_generator", "bad_steps")),
    Rule("exploding scale", _exploding,
         ("train longer at a lower --training.rate", "set --training.clip", "choose --model.coupling additive"),
         ("sample_range",)),
    Rule("posterior collapse", _posterior_collapse,
         ("lower --objective.beta", "set --objective.warmup", "set --objective.free-bits", "use a weaker decoder"),
         ("kl",)),
    Rule("mode collapse", _collapse_without_bound,
         ("set --objective.game relativistic with --objective.penalty r1r2", "set --model.stddev-group (4, say)",
          "raise --objective.gamma", "use a longer z (--model.latent-dim)"), _VARIETY),
    Rule("mode collapse", _mode_collapse,  # of a VAE, which has learned only the mean
         ("train longer", "lower --objective.beta", "use a stronger decoder"), _VARIETY),
    Rule("discriminator winning", _discriminator_wins,
         ("set --objective.penalty r1r2", "raise --objective.gamma", "set --augment ada for few data",
          "use a wider generator"), ("d_accuracy",)),
    Rule("generator winning", _generator_wins,
         ("raise --objective.plays", "lower --objective.gamma", "raise --model.width", "choose --model.net maxout",
          "use a stronger discriminator"), ("d_accuracy",)),
    Rule("oscillation", _oscillation,
         ("set --objective.penalty r1r2", "raise --objective.gamma", "lower --training.momentum"), ("value",)),
    Rule("columns far off", _far_columns,
         ("train longer", "lower --training.rate", "train it anew if it is of a version that did not standardise floats"),
         ("distance",)),
    Rule("memorising", _copies, _MORE_DATA, _COPIES),
    Rule("memorising", _held_out_copies,
         ("hold out examples that the model has never seen: triptych doctor RUN --data DATA",), _COPIES),
    Rule("memorising", _nearer_to_training_data, _MORE_DATA, (*_COPIES, "nll_gap")),
    Rule("stopped too early", _not_grown, (_CONTINUE, "lower --model.images"), ("alpha",)),
    Rule("stopped too early", _still_falling, (_CONTINUE,), ("loss",)),
    Rule("samples unlike data", _told_apart, (_CONTINUE, "use wider networks"), ("told_apart",)),
)  # fmt: skip
"""All rules, the gravest first."""

NAMES = tuple(dict.fromkeys(rule.name for rule in RULES))
"""What the doctor can find, the gravest first."""
