"""What is wrong with a training, in plain words: verdicts with their evidence and a remedy, from the run's own records.

It reads metrics.jsonl (`history`) and, where a model and data are given, examines a few samples (`samples`). A verdict is a
rule that applies (`rules`, one table), with those remedies that the run does not follow already (`diagnosis`). Where no rule
applies a run with records enough, whose samples were looked at, is called healthy, which says no more than what it names.
"""

from triptych.checking import guard
from triptych.doctor.columns import Column, as_numbers, compare_columns
from triptych.doctor.diagnosis import Verdict, diagnose
from triptych.doctor.history import ENOUGH, History
from triptych.doctor.rules import NAMES, RULES, Rule
from triptych.doctor.samples import COMPARABLE, examine

__all__ = [
    "COMPARABLE",
    "ENOUGH",
    "NAMES",
    "RULES",
    "Column",
    "History",
    "Rule",
    "Verdict",
    "as_numbers",
    "compare_columns",
    "diagnose",
    "examine",
]

guard(__name__)
