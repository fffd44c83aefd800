"""`triptych score`: how unlike the training data each example is, as a table, with the least likely as a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Score
from triptych.cli.rows import writing
from triptych.cli.sources import (
    context_of,
    encoding,
    folder_of,
    kept_if_possible,
    load_model,
    load_splits,
    named_split,
    notice,
    split_context,
)
from triptych.errors import TriptychError
from triptych.progress import begun

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.data import Split, Splits
    from triptych.evaluate import Reference

_AT_ONCE = 512  # examples scored and written together
_CODES = 20_000  # training examples that an encoder learns from


def score(words: Sequence[str]) -> None:
    """Writes the scores of each example, a sheet of the least likely, and prints a summary of each split."""
    options = parse(Score, words, "triptych score")
    if not options.data:
        raise TriptychError("score expects a run and data: triptych score RUN DATA")
    from triptych import storage

    with writing(options.out) as table:
        judge = _judge(options)
        splits = _splits(options, judge.model)
        wanted = [options.split] if options.split else list(splits)
        summaries, least = {}, _Least(options.sheet)
        for name in wanted:
            seen = _Seen()
            for columns in judge.scored(name, named_split(splits, name)):
                table.add(columns)
                seen.add(columns)
                least.add(columns)
            summaries[name] = judge.summary(seen)
            print(_sentence(name, summaries[name], options.by))
    print(options.out)
    _write_sheet(options, splits, least)
    if options.json:
        said = {"by": options.by, "held_out": judge.reference.n, "least_likely": least.rows}
        storage.write_json(options.json, {**said, "splits": summaries})


@dataclass(frozen=True)
class _Judge:
    """A model and what its scores are judged against.

    Attributes:
        normal: scores of the held-out examples, for p-values.
        asked: the context that --given says.
    """

    options: Score
    model: GenerativeModel
    reference: Reference
    normal: Mapping[str, Tensor]
    asked: Tensor | None

    def scored(self, name: str, split: Split) -> Iterator[dict[str, Any]]:
        """Columns of the split's examples by name, some hundred examples at a time."""
        whole = self.options.batch or 1
        step = max(1, _AT_ONCE // whole) * whole  # of whole batches
        told = split_context(self.model, split) if self.asked is None else self.asked
        with begun(f"scoring {name}", len(split)) as task:
            for start in range(0, len(split), step):
                rows = slice(start, min(start + step, len(split)))
                context = told if told is None or len(told) == 1 else told[rows]
                files: dict[str, Any] = {"file_name": list(split.names[rows])} if split.names else {}
                if not files and split.rows is not None:
                    files = {"row": (split.rows[rows] + 1).tolist()}
                numbers = {"split": [name] * (rows.stop - start), "example": list(range(start, rows.stop)), **files}
                yield numbers | self._columns(split[rows], context)
                task.update(rows.stop)

    def _columns(self, stored: Tensor, context: Tensor | None) -> dict[str, Any]:
        from triptych.evaluate import p_values, statistics

        k, seed = self.options.k, self.options.seed
        found = statistics(self.model, stored, context=context, blunt=self.reference.blunt, k=k, seed=seed)
        made = self.reference.scores(self.model, found)
        main = made[self.options.by]
        columns = {"score": main, "p_value": p_values(main, self.normal[self.options.by])}
        columns |= made | found | self._bits(found)
        if context is not None and "log_prob" in found:
            alone = {"log_prob": statistics(self.model, stored, k=k, seed=seed)["log_prob"]}
            columns |= {f"{name}_unconditional": values for name, values in (alone | self._bits(alone)).items()}
        if self.options.batch and "log_prob" in found:
            columns |= self._batches(found["log_prob"], self.options.batch)
        return columns

    def _bits(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from triptych.evaluate.scoring import bits_of

        bits = bits_of(self.model, found)
        return {} if bits is None else {"bits_per_dim": bits}

    def _batches(self, log_prob: Tensor, size: int) -> dict[str, Tensor]:
        """The typicality of each `size` examples, and its p-value, in the rows of all of them."""
        import torch

        from triptych.evaluate import typicality

        parts = log_prob.split(size)
        found = [typicality(-part, -self.reference.held_out["log_prob"]) for part in parts]
        lengths = torch.tensor([len(part) for part in parts])
        values, ps = (torch.tensor(column, dtype=torch.float64) for column in zip(*(f[:2] for f in found), strict=True))
        return {"batch_typicality": values.repeat_interleave(lengths), "batch_p": ps.repeat_interleave(lengths)}

    def summary(self, seen: _Seen) -> dict[str, Any]:
        """Means with n and standard errors, the share of examples with p ≤ 0.05, and the typicality of all as a batch."""
        import torch

        from triptych.core import Estimate
        from triptych.evaluate import typicality
        from triptych.evaluate.spread import share_of

        values = {name: torch.cat(parts) for name, parts in seen.values.items()}
        summary: dict[str, Any] = {name: Estimate.of(v)._asdict() for name, v in values.items() if name != "p_value"}
        if len(values["p_value"]) == 1:
            summary["p_value"] = values["p_value"].item()
        summary["unusual"] = share_of(values["p_value"] <= 0.05)._asdict()
        if "log_prob" in values:
            summary["typicality"] = typicality(-values["log_prob"], -self.reference.held_out["log_prob"])._asdict()
        return summary


def _judge(options: Score) -> _Judge:
    """The model, with an encoder where it has neither that nor a density, and its reference: the run's, or learned now."""
    from triptych.capabilities import Encodes, HasDensity
    from triptych.data import fixed_subset
    from triptych.edit.inversion import coordinate_model
    from triptych.evaluate import Reference
    from triptych.pretrained import read_recipe, stamp

    folder = folder_of(options.run)
    weights = stamp(folder)  # before they are read: should a training replace them meanwhile, what is learned is outdated
    model = load_model(options.run, options.model)
    asked = context_of(model, options.given)
    recipe = read_recipe(folder)
    trained_on = options.trained_on or ("" if recipe is None else recipe.data)
    belongs = f"{weights} {options.k} {options.seed} {trained_on}"
    blind = not isinstance(model, Encodes | HasDensity)
    reference = Reference.load(folder, belongs)
    if blind or reference is None:
        splits = _training_data(options, model)
        if blind:
            train = splits["train"].take(fixed_subset(len(splits["train"]), _CODES))
            model = coordinate_model(encoding(model, folder, train[:], weights, split_context(model, train)))
        if reference is None:
            reference = _learned(options, model, splits)
            with kept_if_possible("the reference"):
                reference.save(folder, belongs)
    normal = reference.scores(model, reference.held_out)
    if options.by not in normal:
        has = f"a {type(model).__name__}" if not blind else "a model without a density"
        raise TriptychError(f"{has} of such data has no score by {options.by}: choose --by {' or '.join(normal)}")
    return _Judge(options, model, reference, normal, asked)


def _learned(options: Score, model: GenerativeModel, splits: Splits) -> Reference:
    from triptych.evaluate import learn_reference

    notice("scoring held-out training data, against which examples are judged; this is kept in the run")
    held_out = splits["valid" if "valid" in splits else "test"]
    return learn_reference(model, splits["train"], held_out, k=options.k, seed=options.seed)


def _training_data(options: Score, model: GenerativeModel) -> Splits:
    try:
        return load_splits(options.run, model, options.trained_on)
    except TriptychError as error:
        if options.trained_on:
            raise
        why = str(error).rstrip(".")
        raise TriptychError(
            f"scores are judged against the run's training data, which are not found: {why}; name them by --trained-on"
        ) from error


def _splits(options: Score, model: GenerativeModel) -> Splits:
    """The data's splits, or a picture file as one."""
    from triptych.data import Split, Splits
    from triptych.data.pictures import SUFFIXES
    from triptych.figures import read_picture

    path = Path(options.data).expanduser()
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return Splits(file=Split(read_picture(path, model.event_shape, model.codec.depth).numpy(), names=(path.name,)))
    return load_splits(options.run, model, options.data)


class _Seen:
    """A split's columns of numbers that its summary is made of."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}

    def add(self, columns: Mapping[str, Any]) -> None:
        for name in ("score", "p_value", "log_prob", "bits_per_dim", "reconstruction"):
            if name in columns:
                self.values.setdefault(name, []).append(columns[name])


class _Least:
    """The `count` examples with the highest scores so far."""

    def __init__(self, count: int):
        self.count = count
        self.rows: list[dict[str, Any]] = []

    def add(self, columns: Mapping[str, Any]) -> None:
        kept = [name for name in ("split", "example", "file_name", "row", "score", "p_value") if name in columns]
        values = [columns[name] if isinstance(columns[name], list) else columns[name].tolist() for name in kept]
        rows = [dict(zip(kept, row, strict=True)) for row in zip(*values, strict=True)]
        self.rows = sorted([*self.rows, *rows], key=lambda row: -row["score"])[: self.count]


def _write_sheet(options: Score, splits: Mapping[str, Split], least: _Least) -> None:
    """The least likely in order, from the upper left; nothing where data are not pictures."""
    import torch

    from triptych.figures import save

    shape = next(iter(splits.values())).event_shape
    shown = all(split.is_image for split in splits.values()) and shape[0] in (1, 3, 4)
    if not least.rows or not shown:
        return
    pictures = torch.stack([splits[row["split"]][row["example"]] for row in least.rows])
    path = options.out.with_suffix(".png")
    save(pictures, path)
    print(path)


def _sentence(name: str, summary: Mapping[str, Any], by: str) -> str:
    """What a person should know of a split."""
    main = summary["score"]
    if main["n"] == 1:
        p = f"p = {summary['p_value']:.2g}: so many of the held-out training examples look as odd or odder"
        return f"{name}: score by {by} {main['value']:.4g}, {p}"
    said = [f"{name}: {main['n']:,} examples, score by {by} {main['value']:.4g}"]
    said += [
        f"{key} {summary[key]['value']:.4g}" for key in ("log_prob", "bits_per_dim", "reconstruction") if key in summary
    ]
    said.append(f"p ≤ 0.05 for {summary['unusual']['value']:.1%}")
    if "typicality" in summary:
        batch = summary["typicality"]
        said.append(f"as a batch {batch['value']:.4g} nats from typical (p = {batch['p']:.2g})")
    return ", ".join(said)
