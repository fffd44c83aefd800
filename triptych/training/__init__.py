"""Training: the loop, the run directory, and what watches over both.

run           a run: model, players, optimisers and files
loop          rounds of the game: train, fit
planning      how long it takes, and how many steps fit into a time
pace          checkpoints by the clock
average       the moving average of the weights
validation    the best of the averaged weights, by examples that are not learned from
checkpoint    the folders in state/: step, rollbacks, …; weights and moments
state         what a checkpoint holds of a run, and whether it fits
metrics       metrics.jsonl and trackers
health        bad steps are detected and skipped
recovery      bad steps are named, and the last good state is restored
optimisers    update rules and schedules
"""

from triptych.training.loop import Round, fit, train
from triptych.training.planning import Plan, plan, plan_minutes
from triptych.training.run import Run

__all__ = ["Plan", "Round", "Run", "fit", "plan", "plan_minutes", "train"]
