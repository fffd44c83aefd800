"""The processes that train a run together, and what places its parts on their devices."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs

from triptych.errors import TriptychError


def processes() -> PartialState:
    """The processes of this run: on a machine without an accelerator they communicate by gloo."""
    return PartialState(cpu=not torch.accelerator.is_available())


def accelerator(folder: Path, grows: bool, trackers: tuple[str, ...]) -> Accelerator:
    """What prepares players and optimisers for this process's device, and sends numbers to the trackers.

    Raises:
        TriptychError: for several processes that do not know of each other.
    """
    made = Accelerator(
        cpu=processes().device.type == "cpu",
        mixed_precision="no",  # networks enter autocast themselves; log-determinants and sums stay in float32
        log_with=list(trackers) or None,
        project_dir=folder if trackers else None,
        # a walk through the graph at every step: only for those that need it
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)] if grows else [],
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != made.num_processes:
        raise TriptychError(f"{started} processes run, accelerate sees {made.num_processes}: start them with torchrun")
    return made
