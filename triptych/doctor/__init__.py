"""What is wrong with a training, in plain words: verdicts with their evidence and a remedy, from the run's own records.

It reads metrics.jsonl (`history`) and, where a model and data are given, a few samples (`samples`). A verdict is a rule with
a threshold, named beside it (`rules`), with those remedies that the run has not got already (`remedies`). Where nothing is
found the run is called healthy, which says no more than that none of the rules applies.
"""

from triptych.doctor.history import ENOUGH, History
from triptych.doctor.rules import NAMES, Verdict, diagnose
from triptych.doctor.samples import COMPARABLE, examine

__all__ = ["COMPARABLE", "ENOUGH", "NAMES", "History", "Verdict", "diagnose", "examine"]
