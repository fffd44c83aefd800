"""Training in one call, for a program or a notebook: data of any kind in, a trained model out.

It decides what `triptych train` decides, by the same functions (`triptych.training.starting`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.core import GenerativeModel
from triptych.data.memory import summary
from triptych.data.splits import Split, Splits
from triptych.errors import TriptychError
from triptych.pretrained import own_whole
from triptych.progress import shown
from triptych.recipes import Recipe
from triptych.training.loop import Watch, fit
from triptych.training.planning import Plan
from triptych.training.processes import processes
from triptych.training.run import Run
from triptych.training.starting import Factory, check_place, data_of, depth_of, prepared, recipe_for, recipe_of, start

Model = Mapping[str, Any] | GenerativeModel | Factory
"""Settings of the family's model by name, or a user's own model, or a function of the event shape that makes one."""
_log = logging.getLogger("triptych.training")


def train(
    family: str | Recipe,
    data: Any,
    *,
    out: str | Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    size: int | str | tuple[int, int] | None = None,
    preset: str | None = None,
    init: str | Path | None = None,
    given: str | Sequence[str] | None = None,
    augment: str | Sequence[str] | None = None,
    model: Any = None,
    objective: Any = None,
    training: Any = None,
    overwrite: bool = False,
    track: Sequence[str] = (),
    progress: bool | Watch = False,
) -> GenerativeModel:
    """A model trained on the data, with averaged weights, in eval mode on the CPU: what `triptych.load(out)` gives.

    What is left out is what `triptych train FAMILY --data DATA` takes. Nothing is printed: what a person should know
    (pictures skipped, bad steps) goes to loggers below `triptych`, as warnings.

    Args:
        family: vae, gan, dcgan, progressive, nice, realnvp, glow or spectral; or a whole `Recipe`, in place of a preset.
        data: what `triptych.data.load` takes (a name, a path, an array, a tensor, a list of picture files, a pandas
            DataFrame, a torch Dataset, …); without a test split about a tenth is held out. Or the splits that it returned,
            of which "train" is used; or one `Split`, which is used whole.
        out: the run's folder, for every verb of the command line. Without it the run is kept in a temporary folder, which is
            removed at the end: what remains is the model (`model.save_pretrained(folder)` saves it).
        steps, seed, size: as on the command line; minutes: that it may take, in place of steps.
        preset: by name; by default the one made for the data, where these are named, else the family's.
        init: a run folder or hub id whose model is trained on.
        given: attributes that the model is conditioned on; augment: augmentations. Names, or text joined by commas.
        model: settings of the family's model, such as {"latent_dim": 16}, or a dataclass of them; or your own model, which
            is trained in place, or a function (event_shape) -> model.
        objective, training: settings of the game and of the loop, as {"rate": 1e-3}, or a dataclass of them.
        overwrite: replace the run in `out`.
        track: "tensorboard", "wandb": needs `out`.
        progress: True shows a bar in a terminal, a line every half minute elsewhere; or a function, called after each round
            with it and the newest logged numbers.

    Raises:
        TriptychError: for whatever the command line refuses, with the same message.
        KeyboardInterrupt: after saving, where `out` is given; `resume` goes on.

    >>> import numpy as np
    >>> pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    >>> model = train("vae", pictures, steps=2, model={"latent_dim": 4})
    >>> model.sample(3).shape
    torch.Size([3, 1, 8, 8])
    """
    chosen = {"steps": steps, "seed": seed, "size": size, "given": _joined(given), "augment": _joined(augment),
              "objective": objective, "training": training}  # fmt: skip
    if steps is not None and minutes is not None:
        raise TriptychError("minutes decides the number of steps: leave out steps, or minutes")
    factory = _factory(model)
    said = {name: value for name, value in chosen.items() if value is not None} | {"data": summary(data)}
    said |= {"model": model} if factory is None and model is not None else {}
    recipe = recipe_for(family, said, called=preset, init=init)
    with _folder(out, track) as folder:
        check_place(folder, overwrite)
        split, recipe = _training_split(recipe, data, size, init, factory)
        options: dict[str, Any] = {"overwrite": overwrite, "trackers": tuple(track), "minutes": minutes}
        options["foresee"] = progress is True
        run, plan = start(recipe, split, folder, notice=_log.warning, init=init, factory=factory, **options)
        return _trained(run, split, progress, plan)


def resume(
    out: str | Path,
    data: Any = None,
    *,
    steps: int | None = None,
    model: GenerativeModel | Factory | None = None,
    track: Sequence[str] = (),
    progress: bool | Watch = False,
) -> GenerativeModel:
    """The model of a run that goes on from its newest checkpoint: on a CPU, to the bit what it would have become.

    Args:
        out: the run's folder.
        data: what the run was trained on, where that was in memory; else it is read again.
        steps: what the run's steps become, to make it longer.
        model: your own model, or what makes it, of a run that was trained with one.
        track, progress: as those of `train`.

    Raises:
        TriptychError: for a folder that is not a run, and for data of another size.

    >>> model = resume("runs/me", steps=10_000)  # doctest: +SKIP
    """
    factory = _factory(model)
    own = {} if factory is None else own_whole(Path(out), factory)
    recipe = recipe_of(out)
    data = recipe.data if data is None else data
    if not isinstance(data, Split | Splits):
        data = data_of(recipe, None, data, depth=depth_of(out))
    split, _ = _training_split(recipe, data, None, None, None)
    run = Run.resume(out, trackers=tuple(track), steps=steps, given=own)
    return _trained(run, split, progress)


def _joined(names: str | Sequence[str] | None) -> str | None:
    return names if names is None or isinstance(names, str) else ",".join(names)


def _factory(model: Any) -> Factory | None:
    """What makes a user's own model; None for settings of the family's."""
    if isinstance(model, GenerativeModel):
        return lambda event_shape: model
    return model if callable(model) else None


@contextlib.contextmanager
def _folder(out: str | Path | None, track: Sequence[str]) -> Iterator[Path]:
    """The run's folder, which is a temporary one unless it is named."""
    if out is not None:
        yield Path(out)
        return
    if track or processes().num_processes > 1:
        raise TriptychError("trackers and several processes need a folder that stays: give out=")
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        yield Path(folder) / "run"


def _training_split(
    recipe: Recipe, data: Any, size: int | str | tuple[int, int] | None, init: str | Path | None, factory: Factory | None
) -> tuple[Split, Recipe]:
    """What is trained on, and the recipe without a size where the data were loaded before."""
    if not isinstance(data, Split | Splits):
        recipe, splits = prepared(recipe, None, data, init, factory)
        return splits["train"], recipe
    if size is not None:
        raise TriptychError("these data are loaded: give size to triptych.data.load, and leave it out here")
    if isinstance(data, Splits) and "train" not in data:
        raise TriptychError(f"expected a training split, got {', '.join(data) or 'no splits'}: give the split that is meant")
    return data["train"] if isinstance(data, Splits) else data, dataclasses.replace(recipe, size=None)


def _trained(run: Run, split: Split, progress: bool | Watch, plan: Plan | None = None) -> GenerativeModel:
    """Trains to the last step, watched by whoever wants to."""
    watch = progress if callable(progress) else None
    with shown() if progress is True else contextlib.nullcontext():
        fit(run, split, notice=_log.warning, watch=watch, left=None if plan is None else plan.left)
    return run.averaged.requires_grad_().cpu().eval()
