"""From a run's records, and what was found of samples, to verdicts, with remedies that the run does not follow already.

A remedy names its flags as one would type them: `--part.field value`, or `--part.field` where the remedy ends. One that
begins with "set" and has no value is for a field that is still 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from triptych.doctor.history import History
from triptych.doctor.rules import RULES, Rule
from triptych.recipes import Recipe


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        name: of what is wrong, or one of "healthy", "nothing amiss in the records" (samples were not looked at), "too early
            to say" and "no records".
        evidence: what was seen, in numbers.
        remedy: what to do.
    """

    name: str
    evidence: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}" + (f"; {self.remedy}" if self.remedy else "")


def diagnose(history: History, samples: Mapping[str, float] | None = None, recipe: Recipe | None = None) -> list[Verdict]:
    """Verdicts, the gravest first. Where no rule applies: "healthy", if there are records enough and samples were looked at.

    Args:
        samples: what `examine` found of a few samples, by name; None: they were not looked at.
        recipe: the run's own, so that no remedy is named which the run follows already, or which its family does not have.

    >>> [str(v) for v in diagnose(History([]))]
    ['no records: metrics.jsonl has none that can be judged; train it first, or longer']
    """
    found: dict[str, tuple[Rule, str]] = {}
    for rule in RULES:
        if rule.name not in found and (evidence := rule.find(history, samples or {})):
            found[rule.name] = (rule, evidence)
    few = f"{len(history.lines)}, up to step {history.last_step}"
    caution = (
        [f"but the records are few ({few}): judge again after more steps"] if history.lines and history.is_short else []
    )
    verdicts = [
        Verdict(name, evidence, "; ".join([remedy(rule.remedies, recipe), *caution]))
        for name, (rule, evidence) in found.items()
    ] or [_without_complaint(history, samples)]
    if not history.damaged:
        return verdicts
    skipped = f"{history.damaged} damaged line{'s' * (history.damaged > 1)} of metrics.jsonl skipped"
    return [replace(verdict, evidence=f"{verdict.evidence} ({skipped})") for verdict in verdicts]


def _without_complaint(history: History, samples: Mapping[str, float] | None) -> Verdict:
    """What can be said where no rule applies; only what could be seen is named."""
    count = f"{len(history.lines)} record{'s' * (len(history.lines) != 1)}"
    if not history.lines:
        return Verdict("no records", "metrics.jsonl has none that can be judged", "train it first, or longer")
    if history.is_short:
        return Verdict(
            "too early to say", f"{count}, up to step {history.last_step}, are few", "judge again after more steps"
        )
    looked_for = dict.fromkeys(rule.name for rule in RULES if rule.looks(history, samples or {}))
    evidence = f"{count} show none of {', '.join(looked_for)}"
    if samples is None:
        return Verdict("nothing amiss in the records", evidence, "triptych doctor RUN looks at samples too")
    return Verdict("healthy", evidence)


def remedy(remedies: Sequence[str], recipe: Recipe | None = None) -> str:
    """The remedies that apply to a run, in their order, as one phrase; all of them without a recipe.

    >>> remedy(["lower --training.rate", "set --training.clip"])
    'lower --training.rate, or set --training.clip'
    """
    named = [text for text in remedies if recipe is None or _applies(text, recipe)]
    *first, last = named or ["train it anew with another --seed"]
    return f"{', '.join(first)}, or {last}" if first else last


def _applies(text: str, recipe: Recipe) -> bool:
    """Whether the run has every field that is named, and at least one of them would change."""
    unset = text.startswith("set ")
    changes = [_changes(unset, part, field, value, recipe) for part, field, value in _FLAG.findall(text)]
    return None not in changes and (not changes or any(changes))


def _changes(unset: bool, part: str, field: str, value: str, recipe: Recipe) -> bool | None:
    """Whether the flag would change something; None if the field does not exist or has no effect."""
    if part == "augment":
        # where there is a discriminator, ada is for few data; elsewhere the other augmentations are
        if recipe.adversarial != (value == "ada"):
            return None
        names = {name.strip() for name in recipe.augment.split(",")}
        return recipe.differentiable == "none" if value == "ada" else not set(value.split(",")) <= names
    owner, field = getattr(recipe, part), field.replace("-", "_")
    if not hasattr(owner, field) or (field in _WITHOUT_EFFECT and _WITHOUT_EFFECT[field](recipe)):
        return None
    now = getattr(owner, field)
    return str(now) != value if value else not (unset and now)


_FLAG = re.compile(r"--(model|objective|training|augment)(?:\.([a-z0-9-]+))?(?: ([a-z0-9,]+))?")
_WITHOUT_EFFECT: dict[str, Callable[[Recipe], bool]] = {
    "gamma": lambda recipe: recipe.objective.penalty == "none",
    "beta": lambda recipe: recipe.objective.beta <= 1,
    "validation": lambda recipe: not recipe.has_likelihood,
    "momentum": lambda recipe: not recipe.training.momentum,
}
