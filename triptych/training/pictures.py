"""The pictures that a run draws while it trains: samples of the averaged model, always of the same z."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from triptych import figures
from triptych.modes import evaluating

if TYPE_CHECKING:
    from triptych.training.run import Run


def picture_of(run: Run) -> Path:
    """Where the picture of the run's step is: samples/step-N.png."""
    return run.folder / "samples" / f"step-{run.step:09d}.png"


def is_drawn(run: Run) -> bool:
    """Whether a picture is drawn at the run's step, whatever the clock says."""
    every = run.recipe.training.sample_every or run.recipe.training.save_every
    return run.step == run.recipe.steps or run.step % every == 0


def draw_samples(run: Run) -> None:
    """64 examples from the averaged model, where they can be shown."""
    if not run.is_main:
        return
    run.average.copy_unaveraged()
    model, generator = run.averaged, torch.Generator().manual_seed(run.recipe.seed)
    with evaluating(model):
        pictures = model.codec.show(model.sample(64, generator=generator), model.event_shape)
    if pictures is not None:
        figures.save(pictures, picture_of(run))
