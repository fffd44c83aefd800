"""Training: the loop, the run directory, and what watches over both.

run           a run: model, players, optimisers and files
loop          rounds of the game: train, fit
average       the moving average of the weights
checkpoint    the folders in state/: step, rollbacks, …; weights and moments
metrics       metrics.jsonl and trackers
health        bad steps are detected and skipped
recovery      bad steps are named, and the last good state is restored
optimisers    update rules and schedules
"""

from triptych.training.loop import Round, fit, train
from triptych.training.run import Run

__all__ = ["Round", "Run", "fit", "train"]
