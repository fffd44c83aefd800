"""What is done with a trained run: sample, directions, edit, mix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from triptych.cli import parse
from triptych.cli.sources import check_positive, check_seed, encoding, folder_of, load_editable, load_model, load_split
from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch

    from triptych.core import GenerativeModel
    from triptych.data import Split
    from triptych.edit import Directions


@dataclass(frozen=True)
class Sample:
    """Draw new data from a run."""

    run: tyro.conf.Positional[str]
    """A run folder or hub id."""
    n: int | None = None
    """How many; by default 64, or 8 at each temperature where there are several."""
    temperature: str = "1"
    """Multiplies z: below 1 more typical, above 1 more unusual; several, as 0.25,0.5,0.7,1, a row for each of the same z."""
    seed: int = 0
    """Of z."""
    observe: bool = False
    """Draw from p(x|z) instead of showing its mean (VAE)."""
    out: Path = Path("samples.png")
    """A picture (.png, .jpg, .gif), or .npy for the values themselves."""


@dataclass(frozen=True)
class LearnDirections:
    """Learn edit directions, judge them on held-out data, and store them in the run."""

    run: tyro.conf.Positional[str]
    """A run folder."""
    data: str | None = None
    """Where the attributes are; by default what the run was trained on."""
    attributes: str | None = None
    """Names joined by commas; by default all."""
    unsupervised: int | None = None
    """Instead: this many principal components of the codes."""
    method: Literal["joint", "means", "regression"] = "joint"
    """How: joint holds the other attributes still, means is the difference of means, regression a logistic one."""
    json: Path | None = None
    """Also write what was measured here."""


@dataclass(frozen=True)
class Edit:
    """Change attributes of pictures, or fill in a part of them."""

    run: tyro.conf.Positional[str]
    """A run folder or hub id; --set and --sweep need the directions that triptych directions has stored there."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Picture files."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """name=1.5 sets the attribute, name=+1.5 adds to it (a minus sets: name=+-1.5 subtracts); can be repeated."""
    sweep: str | None = None
    """name=low:high:count, a strip, or a GIF where --out ends in .gif."""
    hold: str | None = None
    """Attributes, joined by commas, whose reading shall not change."""
    inpaint: str | None = None
    """Hides a part and fills it in by the model's density (flows): top, bottom, left, right, odd, even, middle-horizontal,
    middle-vertical, random-75 or random-90."""
    steps: int = 500
    """Of --inpaint: more fill in better."""
    seed: int = 0
    """Of --inpaint: the noise, and the places of a random mask."""
    out: Path = Path("edited.png")
    """The picture to write: the edited one itself, several as a grid, a sweep as a strip for each; with --inpaint a row for
    each, the picture with its hidden part grey, then filled in."""


@dataclass(frozen=True)
class Mix:
    """Walk in z from one picture to another, or span a surface through four."""

    run: tyro.conf.Positional[str]
    """A run folder or hub id."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Two picture files, the first and the last of a walk; or four, which are blended by two angles, all the way round."""
    steps: int | None = None
    """Pictures of a walk, 9 by default; with four files, of each side of the square, 8 (multiples of 4 show all four)."""
    out: Path = Path("mix.png")
    """A strip, a square for four pictures, or a GIF where it ends in .gif."""


def sample(words: Sequence[str]) -> None:
    options = parse(Sample, words, "triptych sample")
    temperatures = parse_temperatures(options.temperature)
    n = (64 if len(temperatures) == 1 else 8) if options.n is None else options.n
    if not 1 <= n * len(temperatures) <= _MOST_SAMPLES:
        raise TriptychError(f"--n should be 1 to {_MOST_SAMPLES // len(temperatures)}, got {n}")
    check_seed(options.seed)
    import torch

    model = load_model(options.run)
    if options.observe and not hasattr(type(model), "observe"):
        raise TriptychError(f"--observe draws from p(x|z), a {type(model).__name__} has none: leave it out")
    rows = [_draw(model, n, temperature, options.seed, options.observe) for temperature in temperatures]
    _write_data(model, torch.cat(rows), options.out, columns=n if len(rows) > 1 else None)


def _draw(model: GenerativeModel, n: int, temperature: float, seed: int, observe: bool) -> torch.Tensor:
    import torch

    from triptych.core import standard_normal

    generator = torch.Generator().manual_seed(seed)  # afresh for each temperature: they share z
    if not observe:
        return model.sample(n, temperature=temperature, generator=generator)
    z = temperature * standard_normal(n, model.latent_dim, generator=generator)
    return torch.cat([model.observe(part, generator) for part in z.split(256)])  # type: ignore[operator]


def directions(words: Sequence[str]) -> None:
    options = parse(LearnDirections, words, "triptych directions")
    from triptych import storage
    from triptych.checkpoint import stamp
    from triptych.edit import judge, learn_directions, unsupervised_directions
    from triptych.edit.learning import check_attributes, check_components
    from triptych.evaluate.measure import some

    folder = folder_of(options.run)
    weights = stamp(folder)  # before they are read: should a training replace them meanwhile, what is learned is outdated
    model = load_model(options.run)
    train = load_split(options.run, model, options.data, "train")
    test = load_split(options.run, model, options.data, "test")
    train, test = (split.take(some(len(split), _MOST_CODES)) for split in (train, test))
    attributes = _attributes(train, options.data or options.run, needed=options.unsupervised is None)
    names = _names(options.attributes, attributes)
    if options.unsupervised is not None:  # what cannot work is said before an encoder is learned
        check_components(options.unsupervised, len(train), model.latent_dim)
    else:
        check_attributes(attributes, names, len(train))
    stored, held_out = train[:], test[:]
    model = encoding(model, folder, stored, weights)
    if options.unsupervised is not None:
        found = unsupervised_directions(model, stored, options.unsupervised)
    else:
        found = learn_directions(model, stored, attributes, method=options.method, names=names)
    found = judge(model, found, held_out, _attributes(test, "", needed=False))
    found.save(folder, weights)
    _print_directions(found)
    if options.json:
        storage.write_json(options.json, {name: {"kind": d.kind, "range": d.range, **d.judged} for name, d in found.items()})


def edit(words: Sequence[str]) -> None:
    options = parse(Edit, words, "triptych edit")
    if not options.images:
        raise TriptychError("edit wants at least one picture file")
    if sum(map(bool, (options.set, options.sweep, options.inpaint))) != 1:
        raise TriptychError("edit wants one of --set name=value, --sweep name=low:high:count and --inpaint top")
    if options.inpaint:
        _inpaint(options)
        return
    import torch

    from triptych import edit as verbs
    from triptych.cli.training import notice
    from triptych.report import read_picture, save

    folder = folder_of(options.run)
    known = verbs.Directions.load(folder)
    model = load_editable(options.run)
    if isinstance(model, verbs.Inverting) and model.encoder is None:
        notice(f"{folder} has no encoder to read coordinates by, they are rough: triptych directions {folder} learns one")
    stored = torch.cat([read_picture(path, model) for path in options.images])
    x, hold = model.codec.centre(stored), [h for h in (options.hold or "").split(",") if h]
    if options.set:
        edited = verbs.apply(model, x, _settings(options.set), known, hold=hold)
        save(model.codec.decode(edited), options.out)
    else:
        name, values = parse_sweep(options.sweep or "")
        moved = verbs.sweep(model, x, name, values, known, hold=hold)
        save(model.codec.decode(moved.flatten(0, 1)), options.out, columns=len(values))
    print(options.out)


def _inpaint(options: Edit) -> None:
    check_positive(steps=options.steps)
    check_seed(options.seed)
    import torch

    from triptych import edit as verbs
    from triptych.report import read_picture, save

    model = load_model(options.run)
    stored = torch.cat([read_picture(path, model) for path in options.images])
    generator = torch.Generator().manual_seed(options.seed)
    hidden = verbs.mask(options.inpaint or "", model.event_shape, generator)
    filled = verbs.inpaint(model, model.codec.centre(stored), hidden, steps=options.steps, generator=generator)
    before = stored.masked_fill(hidden, 128)
    after = torch.where(hidden, model.codec.decode(filled), stored)
    save(torch.stack([before, after], dim=1).flatten(0, 1), options.out, columns=2)
    print(options.out)


def mix(words: Sequence[str]) -> None:
    options = parse(Mix, words, "triptych mix")
    if len(options.images) not in (2, 4):
        raise TriptychError(f"mix wants two pictures (a walk) or four (a square), got {len(options.images)}")
    import torch

    from triptych.edit import interpolate, manifold
    from triptych.report import read_picture, save

    model = load_editable(options.run)
    x = torch.cat([model.codec.centre(read_picture(path, model)) for path in options.images])
    if len(x) == 2:
        mixed = interpolate(model, x[:1], x[1:], 9 if options.steps is None else options.steps)
    else:
        mixed = manifold(model, x, 8 if options.steps is None else options.steps)
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
        raise TriptychError(f"--sweep wants name=low:high:count such as smile=-3:3:9, got {text!r}") from None
    if not name or not 2 <= len(values) <= 200 or not np.isfinite(values).all():
        raise TriptychError(f"--sweep wants 2 to 200 finite values, got {text!r}")
    return name.strip(), values


def _settings(texts: Sequence[str]) -> dict[str, float | str | torch.Tensor]:
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")  # a name may hold an equals sign, a number cannot
        if not equals or not name.strip():
            raise TriptychError(f"--set wants name=value such as smile=1.5 or smile=+0.5, got {text!r}")
        if name.strip() in settings:
            raise TriptychError(f"--set {name.strip()} is given twice: give it once")
        settings[name.strip()] = value
    return settings


def _names(text: str | None, attributes: Mapping[str, object]) -> list[str]:
    """smile,age -> ["smile", "age"]; all attributes where none is named."""
    return list(attributes) if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _attributes(split: Split, data: str, needed: bool = True) -> dict[str, Any]:
    """Binary and continuous attributes; class labels are no axis."""
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
    from triptych.cli.training import notice
    from triptych.report import is_picture, save

    lost = int((~x.isfinite()).flatten(1).any(1).sum())
    if lost:
        notice(f"{lost} of {len(x)} are not finite, which a picture cannot show: lower --temperature, or train further")
    stored = model.codec.decode(x)
    if out.suffix == ".npy":

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, stored.cpu().numpy(), allow_pickle=False)

        storage.write_file(out, write)
    elif is_picture(model.event_shape) and not stored.is_floating_point():
        save(stored, out, columns=columns)
    else:
        raise TriptychError(f"data of shape {model.event_shape} are no 8-bit pictures: give --out a name that ends in .npy")
    print(out)
