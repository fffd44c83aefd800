"""`triptych compare`: several runs on one page."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.evaluating import Measured, Plan, measure_all, not_comparable, opened, plan_of
from triptych.cli.options import Compare
from triptych.cli.results import json_words, write_result
from triptych.cli.sources import folder_of, notice, split_context
from triptych.errors import TriptychError

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import Estimate
    from triptych.data import Split
    from triptych.edit import Directions
    from triptych.recipes import Recipe
    from triptych.report.comparison import Candidate, Training
    from triptych.report.gallery import Shown
    from triptych.report.page import Section

_PICTURED = 8  # held-out examples that are reconstructed
_TIMED = 32  # examples at a time, whose sampling and encoding is timed


def compare(words: Sequence[str]) -> None:
    """Measures the runs alike, and writes the page and its figures."""
    options = parse(Compare, json_words(words), "triptych compare")
    if len(options.runs) < 2:
        raise TriptychError("compare expects two runs or more: triptych compare RUN RUN (triptych evaluate measures one)")
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise TriptychError(f"--out expects a name that ends in .html, got {str(options.out)!r}")
    if options.json is not None and options.json.absolute() == options.out.with_suffix(".json").absolute():
        raise TriptychError(f"{options.json} holds the page's own figures: give --json another name")
    from triptych.report import comparable, write

    runs = opened(options)
    names = short_names([run.run for run in runs])
    comparable.check_models([run.run for run in runs], [run.model for run in runs])
    cares = _cares(runs, names, options)
    plan = plan_of(options, runs, always=True)
    measure_all(runs, options, plan)
    compared = _Comparison(runs, names, options, plan, cares)
    found = compared.page()
    write(found, options.out)
    if options.json:
        write_result(options.json, compared.as_json())
    print(options.out)


def short_names(runs: Sequence[str]) -> list[str]:
    """The ends of the runs' paths, as long as they need to be to differ.

    >>> short_names(["runs/faces/vae", "runs/faces/glow"]), short_names(["a/vae", "b/vae"])
    (['vae', 'glow'], ['a/vae', 'b/vae'])
    """
    parts = [Path(run).absolute().parts if Path(run).exists() else Path(run).parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(runs)


def _cares(runs: Sequence[Measured], names: Sequence[str], options: Compare) -> list[str]:
    """What has to be kept in mind, a sentence each.

    Raises:
        TriptychError: for a run that was trained on what it is measured on.
    """
    from triptych.pretrained import read_recipe
    from triptych.training.checkpoint import progress_of

    found, trained, hidden = [], {}, []
    for run, name in zip(runs, names, strict=True):
        folder = folder_of(run.run)
        recipe, progress = read_recipe(folder), progress_of(folder)
        trained[name] = None if recipe is None else recipe.data
        train = _training_data(run, recipe, options)
        if train is None:
            hidden.append(name)
        elif options.split != "train":
            found += _seen(run, name, train, options)
        if recipe is not None and progress is not None and progress.step < recipe.steps:
            found.append(f"**{name}** is not finished: {progress.step:,} of {recipe.steps:,} steps.")
    if hidden:
        found.append(
            f"Whether {', '.join(hidden)} learned held-out examples is not known: their training data are not here."
        )
    if options.split == "train":
        found.append("All is measured on **training examples**, which a model may have learned by heart.")
    if len(set(trained.values())) > 1:
        said = ", ".join(f"{name} on {data or 'data that it does not name'}" for name, data in trained.items())
        found.append(f"The runs were **trained on different data** ({said}): a difference may be the data's.")
    return found


def _seen(run: Measured, name: str, train: Split, options: Compare) -> list[str]:
    """What to say of a run that knows a few of the held-out examples; one that was trained on them is refused."""
    from triptych.report.comparable import check_unseen, seen_before

    share = seen_before(run.splits[options.split], train)
    check_unseen(run.run, options.data or "its data", share)
    return [f"**{name}** was trained on {share:.1%} of the held-out examples, which the set holds twice."] if share else []


def _training_data(run: Measured, recipe: Recipe | None, options: Compare) -> Split | None:
    """What a run was trained on, in the model's shape; None where that cannot be had."""
    from triptych.cli.sources import load_splits

    if recipe is None:
        return None
    if options.data in (None, recipe.data):
        return run.splits["train"]
    with contextlib.suppress(TriptychError):  # data that are gone, or are no longer what they were: the page says so
        return load_splits(run.run, run.model, None)["train"]
    return None


class _Comparison:
    """The runs as they stand on the page."""

    def __init__(self, runs: list[Measured], names: list[str], options: Compare, plan: Plan, cares: list[str]):
        from triptych.data import fixed_subset

        self.runs, self.names, self.options, self.plan, self.cares = runs, names, options, plan, cares
        self.test = runs[0].splits[options.split]
        self.rows = fixed_subset(len(self.test), max(_PICTURED, _TIMED))
        self.marked = {name: self._named(why) for name, why in not_comparable(runs).items()}
        self.shown = [self._shown(run, name) for run, name in zip(runs, names, strict=True)]
        self.candidates = [self._candidate(run, name) for run, name in zip(runs, names, strict=True)]

    def _named(self, sentence: str) -> str:
        """A sentence with the names of the page in the place of the runs' paths."""
        for run, name in sorted(zip(self.options.runs, self.names, strict=True), key=lambda pair: -len(pair[0])):
            sentence = sentence.replace(run, name)
        return sentence

    def page(self) -> Any:
        """The whole page."""
        from triptych.report import comparison
        from triptych.report.gallery import can_show

        pictures = self._pictures() if can_show(self.runs[0].model) else []
        data, count = self._data(), len(self.runs)
        lead = (
            f"{', '.join(self.names)}: {count} models measured alike on the {len(self.test):,} examples of "
            f"**{data}** ({self.options.split}), with the same examples, features, numbers of samples and seeds."
        )
        return comparison.page(
            self.candidates,
            pictures,
            title=f"{count} models of {data}",
            lead=lead,
            marked=self.marked,
            cares=[*self.cares, *self._remarks()],
            how=self._how(),
            footer=self._footer(),
        )

    def as_json(self) -> dict[str, Any]:
        """What `evaluate` writes of several runs, with speeds and what to keep in mind."""
        from triptych.report.markup import plain

        runs = {
            run.run: run.as_json()
            | {f"{name}_per_s": e._asdict() for name, e in c.speeds.items()}
            | {"training": c.training._asdict(), "parameters": sum(p.numel() for p in run.model.parameters())}
            for run, c in zip(self.runs, self.candidates, strict=True)
        }
        return {
            "runs": runs,
            "not_comparable": self.marked,
            "care": [plain(care) for care in [*self.cares, *self._remarks()]],
        }

    def _data(self) -> str:
        from triptych.pretrained import read_recipe

        recipe = read_recipe(folder_of(self.runs[0].run))
        return Path(self.options.data or (recipe.data if recipe else "the data")).name

    def _stored(self, run: Measured, count: int) -> tuple[Tensor, Tensor | None]:
        """Held-out examples as a model reads them, and what it is given of them."""
        rows = self.rows[:count]
        split = run.splits[self.options.split]
        context = split_context(run.model, split)
        return run.model.codec.centre(split[rows]).to(run.model.device), None if context is None else context[rows]

    def _shown(self, run: Measured, name: str) -> Shown:
        """A model with the codes of a few held-out examples."""
        from triptych.capabilities import Encodes
        from triptych.evaluate.latent import codes
        from triptych.report.gallery import Shown

        x, context = self._stored(run, _PICTURED)
        model, note = run.model, ""
        if not isinstance(model, Encodes):
            found = self._inverting(run)
            if found is None:
                return Shown(name, model, context=context)
            model, note = found
        stored = run.splits[self.options.split][self.rows[:_PICTURED]]
        z = codes(model, stored, context=context)
        if note:
            run.estimates["inversion_rmse"] = _error(run, x, z, context)
        return Shown(name, run.model, model, z, context, note)

    def _inverting(self, run: Measured) -> tuple[Any, str] | None:
        """A model that does not encode with what finds its codes, and how; None where nothing does."""
        from triptych.edit.inversion import Inverting, load_encoder

        encoder, steps = load_encoder(run.model, folder_of(run.run)), self.options.inversions
        if not steps:
            return None if encoder is None else (Inverting(run.model, encoder, steps=0), "by an encoder learned after it")
        notice(f"{run.run} does not encode: finding the codes of {_PICTURED} examples by inversion")
        return Inverting(run.model, encoder, steps=steps), "by inversion"

    def _candidate(self, run: Measured, name: str) -> Candidate:
        from triptych.capabilities import Encodes
        from triptych.data import fixed_subset
        from triptych.evaluate import reconstruction_error
        from triptych.evaluate.measure import context_of
        from triptych.report.comparison import Candidate
        from triptych.report.speed import speeds

        x, context = self._stored(run, _TIMED)
        if isinstance(run.model, Encodes) and "reconstruction_rmse" not in run.estimates:
            split = run.splits[self.options.split]
            rows = fixed_subset(len(split), self.options.images)
            given = context_of(run.model, split, rows)
            run.estimates["reconstruction_rmse"] = reconstruction_error(run.model, split[rows], context=given)
        notice(f"{name}: how fast it is")
        fast = speeds(run.model, x, context=context)
        return Candidate(name, run.model, run.estimates, run.quality, fast, _training(run.run), self.options.k)

    def _pictures(self) -> list[Section]:
        from triptych.report import gallery
        from triptych.report.page import Section

        x, _ = self._stored(self.runs[0], _PICTURED)
        found = [Section("samples", "Samples", (), tuple(gallery.samples(self.shown, self.options.seed)))]
        if any(one.z is not None for one in self.shown):
            found.append(Section("reconstructions", "Reconstructions", (), (gallery.reconstructions(self.shown, x),)))
            found.append(Section("between", "Between two examples", (), (gallery.interpolations(self.shown, x),)))
        encoding = [run for run, one in zip(self.runs, self.shown, strict=True) if one.encodes is not None]
        directions = {self.names[self.runs.index(run)]: d for run in encoding if (d := _directions(run))}
        if shared := gallery.shared_names(list(directions.values())):
            text = (
                "A direction's coordinate counts alike in all models: of a binary attribute −1 and +1 are the class means."
            )
            blocks = tuple(gallery.edits(self.shown, directions, name, x) for name in shared)
            found.append(Section("edits", "Edits", (text,), (gallery.effects(directions, shared), *blocks)))
        return found

    def _remarks(self) -> list[str]:
        from triptych.cli.tables import remarks

        quality = self.runs[0].quality
        found = [] if quality is None else [f"{line}." for line in remarks(quality)]
        if quality is not None and quality.n < 1000:
            found.append(
                f"Samples are few ({quality.n:,}): distances of sets are biased upwards by that, all of them alike."
            )
        if quality is not None and quality.features.startswith("learned"):
            found.append(
                "Features were **learned on this training set**: distances are comparable here, not with published FIDs."
            )
        if self.options.inversions and any("inversion_rmse" in run.estimates for run in self.runs):
            found.append(f"Models that do not encode are inverted, for {_PICTURED} examples alone: `edit.invert`.")
        return found

    def _how(self) -> list[str]:
        o = self.options
        return [
            f"`triptych compare` with {o.images:,} examples for likelihoods, {o.k:,} draws of a bound, "
            f"{self.plan.samples:,} samples, seed {o.seed}. Each measure is what `triptych evaluate` calls so.",
            f"Speeds: {_TIMED} examples at a time, five calls after one that warms up.",
        ]

    def _footer(self) -> str:
        import torch

        import triptych

        threads = torch.get_num_threads()
        versions = f"triptych {triptych.__version__}, torch {torch.__version__}"
        return f"{versions}, {threads} thread{'s' * (threads > 1)}, {time.strftime('%Y-%m-%d')}."


def _error(run: Measured, x: Tensor, z: Tensor, context: Tensor | None) -> Estimate:
    """Root mean square of decode(z) − x for each example."""
    import torch

    from triptych.core import Estimate

    with torch.no_grad():
        again = run.model.decode(z.to(x.device), run.model.check_context(context, len(x)))
    return Estimate.of((again - x).flatten(1).square().mean(1).sqrt().double().cpu())


def _directions(run: Measured) -> Directions | None:
    """A run's directions; None where it has none, or they are of other weights."""
    from triptych.edit import Directions

    with contextlib.suppress(TriptychError):  # the page then shows no edits of this run
        return Directions.load(folder_of(run.run))
    return None


def _training(run: str) -> Training:
    """What the run's records say."""
    from triptych.pretrained import read_recipe
    from triptych.report.comparison import Training
    from triptych.training.checkpoint import progress_of

    folder = folder_of(run)
    recipe, progress = read_recipe(folder), progress_of(folder)
    size = (folder / "model.safetensors").stat().st_size
    data = None if recipe is None else Path(recipe.data).name
    steps = None if progress is None else progress.step
    return Training(data, steps, None if recipe is None else recipe.steps, _seconds(folder), size)


def _seconds(folder: Path) -> float | None:
    """How long the steps took, by the speeds in metrics.jsonl; None without records."""
    from triptych.doctor import History

    try:
        history = History.of(folder)
    except TriptychError:
        return None  # a model that was saved without a training: its time is not known
    total, before = 0.0, 0.0
    for line in history.lines:
        step, speed = line["step"], line.get("steps_per_s")
        if isinstance(speed, int | float) and speed > 0 and math.isfinite(speed):
            total += (step - before) / speed
        before = step
    return total or None
