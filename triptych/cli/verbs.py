"""What is done with a trained run: sample, directions, edit, mix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.cli import parse
from triptych.cli.options import Edit, LearnDirections, Mix, Sample
from triptych.cli.sources import (
    check_positive,
    check_seed,
    context_of,
    encoding,
    folder_of,
    load_editable,
    load_model,
    load_splits,
    named_split,
    notice,
    split_context,
)
from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch

    from triptych.core import GenerativeModel
    from triptych.data import Split
    from triptych.edit import Directions


def sample(words: Sequence[str]) -> None:
    """Writes new examples as a picture or an array."""
    options = parse(Sample, words, "triptych sample")
    temperatures = parse_temperatures(options.temperature)
    n = (64 if len(temperatures) == 1 else 8) if options.n is None else options.n
    if not 1 <= n * len(temperatures) <= _MOST_SAMPLES:
        raise TriptychError(f"--n should be 1 to {_MOST_SAMPLES // len(temperatures)}, got {n}")
    check_seed(options.seed)
    import torch

    from triptych.core import HasPosterior, require

    model = load_model(options.run, options.model)
    if options.observe:
        require(model, HasPosterior)
    context = context_of(model, options.given)
    rows = [_draw(model, n, temperature, options, context) for temperature in temperatures]
    _write_data(model, torch.cat(rows), options.out, columns=n if len(rows) > 1 else None)


def _draw(model: Any, n: int, temperature: float, options: Sample, context: torch.Tensor | None) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(options.seed)  # afresh for each temperature: they share z
    if not options.observe:
        return model.sample(n, context=context, temperature=temperature, generator=generator)
    z = model.sample_prior(n, temperature=temperature, generator=generator)
    return torch.cat([model.observe(part, context, generator=generator) for part in z.split(256)])


def directions(words: Sequence[str]) -> None:
    """Learns directions, judges them on held-out examples, prints and stores them."""
    options = parse(LearnDirections, words, "triptych directions")
    from triptych import storage
    from triptych.data.splits import fixed_subset
    from triptych.edit import judge, learn_directions, unsupervised_directions
    from triptych.edit.learning import check_attributes, check_components
    from triptych.pretrained import stamp

    folder = folder_of(options.run)
    weights = stamp(folder)  # before they are read: should a training replace them meanwhile, what is learned is outdated
    model = load_model(options.run, options.model)
    splits = load_splits(options.run, model, options.data)
    train, test = (named_split(splits, name) for name in ("train", "test"))
    train, test = (split.take(fixed_subset(len(split), _MOST_CODES)) for split in (train, test))
    attributes = _attributes(train, options.data or options.run, needed=options.unsupervised is None)
    names = _names(options.attributes, attributes)
    if options.attributes is None and options.unsupervised is None:
        names = [name for name in names if _can_be_learned(name, attributes, len(train))] or names
    if options.unsupervised is not None:  # what cannot work is said before an encoder is learned
        check_components(options.unsupervised, len(train), model.latent_dim)
    else:
        check_attributes(attributes, names, len(train))
    stored, held_out = train[:], test[:]
    context, held_context = split_context(model, train), split_context(model, test)
    model = encoding(model, folder, stored, weights, context)
    if options.unsupervised is not None:
        found = unsupervised_directions(model, stored, options.unsupervised, context=context)
    else:
        found = learn_directions(model, stored, attributes, method=options.method, names=names, context=context)
    found = judge(model, found, held_out, _attributes(test, "", needed=False), context=held_context)
    found.save(folder, weights)
    _print_directions(found)
    if options.json:
        storage.write_json(options.json, {name: {"kind": d.kind, "range": d.range, **d.judged} for name, d in found.items()})


def _can_be_learned(name: str, attributes: Mapping[str, Any], n: int) -> bool:
    """Whether a direction can be learned of an attribute that nobody named; if not, it is skipped and said."""
    from triptych.edit.learning import check_attributes

    try:
        check_attributes(attributes, [name], n)
    except TriptychError as error:
        notice(f"skipped: {error}")
        return False
    return True


def edit(words: Sequence[str]) -> None:
    """Writes pictures with attributes set, swept, conditioned otherwise, or parts filled in."""
    options = parse(Edit, words, "triptych edit")
    if not options.images:
        raise TriptychError("edit expects at least one picture file")
    if sum(map(bool, (options.set, options.sweep, options.inpaint, options.given))) != 1:
        raise TriptychError(
            "edit expects one of --set name=value, --sweep name=low:high:count, --given name=value and --inpaint top"
        )
    if options.inpaint:
        _inpaint(options)
        return
    import torch

    from triptych import edit as verbs
    from triptych.figures import read_picture, save

    model = load_editable(options.run, options.model)
    context, given = context_of(model, options.known), context_of(model, options.given)
    stored = torch.cat([read_picture(path, model.event_shape) for path in options.images])
    x, hold = model.codec.centre(stored), [h for h in (options.hold or "").split(",") if h]
    if given is not None:
        save(model.codec.decode(verbs.change_context(model, x, context, given)), options.out)
        print(options.out)
        return
    folder = folder_of(options.run)
    known = verbs.Directions.load(folder)
    if isinstance(model, verbs.Inverting) and model.encoder is None:
        notice(f"{folder} has no encoder to read coordinates by, they are rough: triptych directions {folder} learns one")
    if options.set:
        edited = verbs.apply(model, x, _settings(options.set), known, hold=hold, context=context)
        save(model.codec.decode(edited), options.out)
    else:
        name, values = parse_sweep(options.sweep or "")
        moved = verbs.sweep(model, x, name, values, known, hold=hold, context=context)
        save(model.codec.decode(moved.flatten(0, 1)), options.out, columns=len(values))
    print(options.out)


def _inpaint(options: Edit) -> None:
    check_positive(steps=options.steps)
    check_seed(options.seed)
    import torch

    from triptych import edit as verbs
    from triptych.figures import read_picture, save

    model = load_model(options.run, options.model)
    stored = torch.cat([read_picture(path, model.event_shape) for path in options.images])
    generator = torch.Generator().manual_seed(options.seed)
    hidden = verbs.mask(options.inpaint or "", model.event_shape, generator)
    x, context = model.codec.centre(stored), context_of(model, options.known)
    filled = verbs.inpaint(model, x, hidden, steps=options.steps, context=context, generator=generator)
    before = stored.masked_fill(hidden, 128)
    after = torch.where(hidden, model.codec.decode(filled), stored)
    save(torch.stack([before, after], dim=1).flatten(0, 1), options.out, columns=2)
    print(options.out)


def mix(words: Sequence[str]) -> None:
    """Writes a walk between two pictures, or a square between four."""
    options = parse(Mix, words, "triptych mix")
    if len(options.images) not in (2, 4):
        raise TriptychError(f"mix expects two pictures (a walk) or four (a square), got {len(options.images)}")
    import torch

    from triptych.edit import interpolate, manifold
    from triptych.figures import read_picture, save

    model = load_editable(options.run, options.model)
    x = torch.cat([model.codec.centre(read_picture(path, model.event_shape)) for path in options.images])
    context = context_of(model, options.known)
    if len(x) == 2:
        mixed = interpolate(model, x[:1], x[1:], 9 if options.steps is None else options.steps, context=context)
    else:
        mixed = manifold(model, x, 8 if options.steps is None else options.steps, context=context)
    save(model.codec.decode(mixed.flatten(0, 1)), options.out, columns=mixed.shape[1])
    print(options.out)


_MOST_SAMPLES = 100_000
_MOST_CODES = 20_000  # data that directions are learned from: more changes little


def parse_temperatures(text: str) -> list[float]:
    """0.5,1 -> [0.5, 1.0]."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 <= value < math.inf for value in values):
        raise TriptychError(f"--temperature should be a number of 0 or more, or several as 0.25,0.5,1, got {text!r}")
    return values


def parse_sweep(text: str) -> tuple[str, list[float]]:
    """smile=-3:3:9 -> ("smile", nine values from −3 to 3)."""
    import numpy as np

    try:
        name, _, spread = text.rpartition("=")
        low, high, count = spread.split(":")
        values = np.linspace(float(low), float(high), int(count)).tolist()
    except ValueError:
        raise TriptychError(f"--sweep expects name=low:high:count such as smile=-3:3:9, got {text!r}") from None
    if not name or not 2 <= len(values) <= 200 or not np.isfinite(values).all():
        raise TriptychError(f"--sweep expects 2 to 200 finite values, got {text!r}")
    return name.strip(), values


def _settings(texts: Sequence[str]) -> dict[str, float | str | torch.Tensor]:
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")  # a name may hold an equals sign, a number cannot
        if not equals or not name.strip():
            raise TriptychError(f"--set expects name=value such as smile=1.5 or smile=+0.5, got {text!r}")
        if name.strip() in settings:
            raise TriptychError(f"--set {name.strip()} is given twice: give it once")
        settings[name.strip()] = value
    return settings


def _names(text: str | None, attributes: Mapping[str, object]) -> list[str]:
    """smile,age -> ["smile", "age"]; all attributes where none is named."""
    return list(attributes) if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _attributes(split: Split, data: str, needed: bool = True) -> dict[str, Any]:
    """Binary and continuous attributes; class labels are not an axis."""
    found = {name: a for name, a in split.attributes.items() if split.kinds[name] != "class"}
    if needed and not found:
        classes = f" (only classes: {', '.join(split.attributes)})" if split.attributes else ""
        raise TriptychError(
            f"{data} has no binary or continuous attributes{classes}: add 0/1 or number columns to its metadata.csv, "
            "or use --unsupervised 8"
        )
    return found


def _print_directions(found: Directions) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("direction", "kind", "held-out", "range", "leaks most to (share of its spread)")
    for name, d in found.items():
        quality = "accuracy" if "accuracy" in d.judged else "r2"
        held_out = f"{quality} {d.judged[quality]:.3f}" if d.judged.get(quality) is not None else ""
        worst = sorted(d.judged["leakage"].items(), key=lambda item: -abs(item[1]))[:2]
        leaks = ", ".join(f"{other} {change:+.0%}" for other, change in worst)
        table.add_row(name, d.kind, held_out, f"{d.range[0]:.2f} … {d.range[1]:.2f}", leaks)
    Console().print(table)


def _write_data(model: GenerativeModel, x: torch.Tensor, out: Path, columns: int | None = None) -> None:
    import numpy as np

    from triptych import storage
    from triptych.figures import save

    lost = int((~x.isfinite()).flatten(1).any(1).sum())
    if lost:
        notice(f"{lost} of {len(x)} are not finite, which a picture cannot show: lower --temperature, or train further")
    stored = model.codec.decode(x)
    if out.suffix == ".npy":

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, stored.cpu().numpy(), allow_pickle=False)

        storage.write_file(out, write)
    elif (pictures := model.codec.show(x, model.event_shape)) is not None:
        save(pictures, out, columns=columns)
    else:
        raise TriptychError(f"data of shape {model.event_shape} are not 8-bit pictures: give --out a name that ends in .npy")
    print(out)
