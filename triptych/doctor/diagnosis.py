"""From a run's records, and what was found of samples, to verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from triptych.doctor.history import History
from triptych.doctor.remedies import remedy
from triptych.doctor.rules import NAMES, RULES, Rule
from triptych.recipes import Recipe


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        name: of what is wrong, or "healthy", or "no records".
        evidence: what was seen, in numbers.
        remedy: what to do.
    """

    name: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}" + (f"; {self.remedy}" if self.remedy else "")


def diagnose(history: History, samples: Mapping[str, float] | None = None, recipe: Recipe | None = None) -> list[Verdict]:
    """Verdicts, the gravest first; "healthy" where no rule applies, "no records" where there is nothing to judge.

    Args:
        samples: what `examine` found of a few samples, by name.
        recipe: the run's own, so that no remedy is named which the run follows already, or which its family does not have.

    >>> [str(v) for v in diagnose(History([]))]
    ['no records: metrics.jsonl has none that can be judged; train it first, or longer']
    """
    found: dict[str, tuple[Rule, str]] = {}
    for rule in RULES:
        if rule.name not in found and (evidence := rule.find(history, samples or {})):
            found[rule.name] = (rule, evidence)
    verdicts = [
        Verdict(name, evidence, _with_caution(remedy(rule.remedies, recipe), history))
        for name, (rule, evidence) in found.items()
    ]
    return [_noting_damage(verdict, history) for verdict in verdicts or [_nothing_found(history)]]


def _nothing_found(history: History) -> Verdict:
    if not history.lines:
        return Verdict("no records", "metrics.jsonl has none that can be judged", "train it first, or longer")
    seen = f"{len(history.lines)} records show none of {', '.join(NAMES)}"
    return Verdict("healthy", seen, _few(history) if history.is_short else "")


def _with_caution(text: str, history: History) -> str:
    return f"{text}; {_few(history)}" if history.lines and history.is_short else text


def _few(history: History) -> str:
    lines, step = len(history.lines), history.last_step
    return f"but the records are few ({lines}, up to step {step}): judge again after more steps"


def _noting_damage(verdict: Verdict, history: History) -> Verdict:
    if not history.damaged:
        return verdict
    skipped = f"{history.damaged} damaged line{'s' * (history.damaged > 1)} of metrics.jsonl skipped"
    return replace(verdict, evidence=f"{verdict.evidence} ({skipped})")
