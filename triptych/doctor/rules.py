"""The rules: each looks for one ailment in the records, and in what was found of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.doctor.history import ENOUGH, History
from triptych.doctor.periods import period
from triptych.doctor.remedies import remedy
from triptych.recipes import Recipe


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        name: of the ailment, or "healthy", or "no records".
        evidence: what was seen, in numbers.
        remedy: what to do.
    """

    name: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Finding:
    """What a rule saw, and the ways out of it, of which some may not apply to the run."""

    name: str
    evidence: str
    ways: Sequence[str]


def diagnose(history: History, samples: dict[str, float] | None = None, recipe: Recipe | None = None) -> list[Verdict]:
    """Verdicts, the gravest first; one of "healthy" where no rule applies, of "no records" where there is nothing to judge.

    Args:
        samples: what `examine` found of a few samples, by name.
        recipe: the run's own, so that no remedy is named which it has already, or which its family has not.
    """
    found = [finding for rule in _RULES if (finding := rule(history, samples or {}))]
    lines = len(history.lines)
    few = f"but the records are few ({lines}, up to step {history.last_step}): judge again after more steps"
    verdicts = [Verdict(f.name, f.evidence, _hedged(remedy(f.ways, recipe), history, few)) for f in found]
    if not verdicts and not lines:
        verdicts = [Verdict("no records", "metrics.jsonl holds none that can be judged", "train it first, or longer")]
    if not verdicts:
        seen = f"{lines} records show none of {', '.join(NAMES)}"
        verdicts = [Verdict("healthy", seen, few if history.is_short else "")]
    return [_noting_damage(verdict, history) for verdict in verdicts]


def _hedged(said: str, history: History, few: str) -> str:
    return f"{said}; {few}" if history.lines and history.is_short else said


def _noting_damage(verdict: Verdict, history: History) -> Verdict:
    if not history.damaged:
        return verdict
    skipped = f"{history.damaged} damaged line{'s' * (history.damaged > 1)} of metrics.jsonl skipped"
    return Verdict(verdict.name, f"{verdict.evidence} ({skipped})", verdict.remedy)


def _learning_rate(history: History, _samples: dict[str, float]) -> Finding | None:
    """Training was taken back, bad steps keep coming, or a loss is not finite, or ends far above its best."""
    seen = _taken_back(history) or _diverged(history) or next(filter(None, _diverged_players(history)), None)
    return Finding("learning rate too high", seen, _SLOWER) if seen else None


def _taken_back(history: History) -> str | None:
    rollbacks = history.values("rollbacks") if "rollbacks" in history else np.zeros(1)
    if times := int(np.nanmax(rollbacks)):
        return f"training was rolled back to its last good state, at half the rate, {times} time{'s' * (times > 1)}"
    bad = history.values("bad_steps")
    if len(bad) and bad[-1] >= max(3, BAD_SHARE * history.last_step):
        return f"{bad[-1]:.0f} steps of {history.last_step} were skipped as bad"
    return None


def _diverged(history: History) -> str | None:
    loss = history.values("loss")
    if not len(loss):
        return None
    if not np.isfinite(loss[-3:]).any():
        return "the loss is not finite any more"
    # a KL whose weight grows lifts a VAE's loss, a heavy one lowers its bound: what diverges has both worse
    if _rose(loss) and ("elbo" not in history or _rose(-history.values("elbo"))):
        return f"the loss was {np.nanmin(loss):.4g} at best and is {history.level('loss'):.4g}"
    return None


def _rose(values: np.ndarray) -> bool:
    """Whether the last quarter is far above the lowest, in units of the changes between records."""
    values = values[np.isfinite(values)]
    if len(values) < ENOUGH:
        return False
    best, change = values.min(), np.median(np.abs(np.diff(values)))
    return bool(np.median(values[-max(3, len(values) // 4) :]) > best + max(DIVERGED * change, 0.1 * abs(best)))


def _diverged_players(history: History) -> list[str | None]:
    """Of each player of a game, in words, or None.

    A player's loss goes up when the other gains, and Wasserstein's has no zero. So what diverges is a loss whose size, and
    whose gradient, are ten times what they were in the quarter where they were least; or a gradient a hundred times so.
    """
    return [_diverged_player(history, name) for name in history.players()]


def _diverged_player(history: History, name: str) -> str | None:
    loss, norm = (history.values(f"{kind}_{name}") for kind in ("loss", "grad_norm"))
    if not np.isfinite(loss[-3:]).any():
        return f"the {name}'s loss is not finite any more"
    if not len(norm):
        norm = loss
    if len(norm[-3:]) and not np.isfinite(norm[-3:]).any():
        return f"the {name}'s gradient is not finite any more"
    (before, after), (least, last) = (_quarters(np.abs(values)) for values in (loss, norm))
    if (after > MANYFOLD * max(before, 1) and last > MANYFOLD * max(least, 1)) or last > MANYFOLD**2 * max(least, 1):
        grew = f"|loss| was {before:.3g} in its lowest quarter and is {after:.3g}, its gradient {least:.3g} and {last:.3g}"
        return f"the {name}'s {grew}"
    return None


def _quarters(values: np.ndarray) -> tuple[float, float]:
    """The least median of the first three quarters, and the median of the last; (0, 0) of few values."""
    values = values[np.isfinite(values)]
    if len(values) < ENOUGH:
        return 0.0, 0.0
    *before, last = (float(np.median(part)) for part in np.array_split(values, 4))
    return min(before), last


BAD_SHARE = 0.01  # of all steps
DIVERGED = 10.0  # median changes between records that a loss may end above its best
MANYFOLD = 10.0  # times their least, in units of at least 1, that a player's loss and gradient may end at
_SLOWER = ("lower --training.rate", "lengthen --training.rate-warmup", "set --training.clip")


def _posterior_collapse(history: History, samples: dict[str, float]) -> Finding | None:
    if "kl" not in history:
        return None
    kl, active = history.level("kl"), samples.get("active_units")
    if not kl <= COLLAPSED_KL and (active is None or active > 0):
        return None
    seen = f"KL(q ‖ p) is {kl:.3g} nats" + ("" if active is None else f", {active:.0f} latent dimensions are used")
    ways = (
        "lower --objective.beta",
        "set --objective.warmup",
        "set --objective.free-bits",
        "a decoder that can do less by itself",
    )
    return Finding("posterior collapse", seen, ways)


COLLAPSED_KL = 0.1  # nats in all: less than a seventh of a bit is told about a datum


def _exploding(history: History, _samples: dict[str, float]) -> Finding | None:
    reach = history.values("sample_range")
    unit = history.level("data_range") if "data_range" in history else 1.0
    if not len(reach) or reach[-1] <= EXPLODED * unit:
        return None
    seen = f"reach {reach[-1]:.3g}, the data {unit:.3g}" if math.isfinite(reach[-1]) else "are not finite"
    ways = ("train longer at a lower --training.rate", "set --training.clip", "choose --model.coupling additive")
    return Finding("exploding scale", f"samples at temperature 1 {seen}", ways)


EXPLODED = 100.0  # times the data's range


def _discriminator_wins(history: History, _samples: dict[str, float]) -> Finding | None:
    if "d_accuracy" not in history or not history.level("d_accuracy") >= WON:
        return None
    slack = history.level("value") if "value" in history else math.nan
    # it may rank nearly all pairs, but not be sure of them: a small edge is how a GAN learns. Above 0 only Wasserstein's V
    # can be, whose critic should be as good as it can.
    if not SURE <= slack <= 0:
        return None
    seen = f"D tells {history.level('d_accuracy'):.1%} of the pairs apart, V(D, G) is {slack:.3g} nats of at most 0"
    ways = ("set --objective.penalty r1r2", "raise --objective.gamma", "set --augment ada for few data", "a wider generator")
    return Finding("discriminator winning", seen, ways)


WON, SURE = 0.99, -0.05  # share of pairs in the right order; V, whose optimum for D is 0


def _generator_wins(history: History, _samples: dict[str, float]) -> Finding | None:
    if "d_accuracy" not in history or not history.level("d_accuracy") <= LOST:
        return None
    if len(history.values("value")) and not np.isfinite(history.late("value")).any():
        return None  # verdicts that are NaN rank no pair rightly
    seen = f"D ranks only {history.level('d_accuracy'):.1%} of the pairs rightly, worse than chance"
    ways = (
        "give D more --objective.plays",
        "lower --objective.gamma",
        "more --model.width",
        "choose --model.net maxout",
        "a discriminator that can do more",
    )
    return Finding("generator winning", seen, ways)


LOST = 0.4


def _mode_collapse(history: History, samples: dict[str, float]) -> Finding | None:
    ratio = samples.get("spread_ratio")
    if ratio is None and "spread_ratio" in history:
        ratio = history.level("spread_ratio")
    few, active = samples.get("distinct_outputs", math.inf), samples.get("active_units", math.inf)
    if ratio is not None and ratio <= COLLAPSED_SPREAD:
        seen = f"samples differ from one another {ratio:.0%} as much as data do"
    elif few <= FEW_OUTPUTS and active > 1:
        seen = f"samples repeat one another as if there were about {few:.0f} of them in all"
    else:
        return None
    if _posterior_collapse(history, samples):  # of which a VAE's samples are alike
        return None
    return Finding("mode collapse", seen, _LIKELIER if "kl" in history else _MORE_VARIED)


_MORE_VARIED = (
    "set --objective.game relativistic with --objective.penalty r1r2",
    "set --model.stddev-group (4, say)",
    "raise --objective.gamma",
    "a longer z (--model.latent-dim)",
)
_LIKELIER = ("train longer", "lower --objective.beta", "a decoder that can do more")  # a VAE that knows only the mean


COLLAPSED_SPREAD = 0.3  # of the data's standard deviation, averaged over values
FEW_OUTPUTS = 11.0  # a line of one latent dimension has 12 such


def _oscillation(history: History, _samples: dict[str, float]) -> Finding | None:
    """The game's value goes round: a strong period in the second half of the history, three times or more, and no decay."""
    if "value" not in history:
        return None
    values = history.values("value")
    values = values[len(values) // 2 :]
    if len(values) < 3 * ENOUGH or not np.isfinite(values).all():
        return None
    swing, lag, strength = period(values)
    if swing < SWING or strength < PERIODIC:
        return None
    seen = f"V(D, G) swings by ±{swing:.2g} nats about every {lag} records (autocorrelation {strength:.2f})"
    ways = ("set --objective.penalty r1r2", "raise --objective.gamma", "lower --training.momentum")
    return Finding("oscillation", seen, ways)


SWING, PERIODIC = 0.2, 0.5  # nats; autocorrelation at the period


def _memorising(_history: History, samples: dict[str, float]) -> Finding | None:
    ratio, gap, share = samples.get("nearest_ratio"), samples.get("nll_gap"), samples.get("copied")
    if share is not None and share > COPIED_SHARE:
        seen = f"{share:.0%} of the samples are next to a single training datum"
    elif ratio is not None and not math.isfinite(ratio):
        return Finding("memorising", "every sample is itself a held-out datum", _HOLD_OUT)
    elif ratio is not None and ratio < COPIED:
        seen = f"samples are {ratio:.2f} times as far from training data as from held-out data"
    elif gap is not None and gap > OVERFITTED:
        seen = f"held-out data cost {gap:.1f} standard deviations more nats than training data"
    else:
        return None
    return Finding("memorising", seen, ("stop earlier", "use more data", "set --augment flip,shift", "set --augment ada"))


COPIED, COPIED_SHARE = 0.8, 0.3  # novel samples have 1; and as many as held-out data have
_HOLD_OUT = (
    "hold out data that are not in the training data and that the model never saw: triptych doctor RUN --data DATA",
)
OVERFITTED = 2.0  # standard deviations of the training data's own nats


def _too_early(history: History, samples: dict[str, float]) -> Finding | None:
    """The networks have not grown to the end, or a single player's loss still falls by more than it scatters."""
    if seen := _not_grown(samples):
        return Finding(
            "stopped too early", seen, ("go on: triptych train --resume RUN --steps MORE", "fewer --model.images")
        )
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
    return Finding("stopped too early", seen, ("go on: triptych train --resume RUN --steps MORE",))


def _not_grown(samples: dict[str, float]) -> str | None:
    side, full, alpha = (samples.get(name, 1.0) for name in ("side", "full_side", "alpha"))
    if side >= full and alpha >= 1:
        return None
    fading = "" if alpha >= 1 else f", its newest layer counts {alpha:.0%}"
    return f"it has grown to {side:.0f} × {side:.0f} of {full:.0f} × {full:.0f}{fading}"


STILL_FALLING = 0.1  # of the whole fall, in the last quarter

Rule = Callable[[History, dict[str, float]], Finding | None]
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
