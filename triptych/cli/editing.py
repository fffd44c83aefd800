"""`triptych edit`: pictures, or a folder of them, with attributes set, swept, conditioned otherwise, or parts filled in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from triptych.cli import facing, optimising, parse
from triptych.cli.options import Edit
from triptych.cli.sources import context_of, folder_of, load_editable, load_model, notice
from triptych.errors import TriptychError
from triptych.progress import begun

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.edit import Directions
    from triptych.edit.folder import Edited
    from triptych.edit.showing import Change, Shown


def edit(words: Sequence[str]) -> None:
    """Writes edited pictures, and says how far their reconstructions are off."""
    options = parse(Edit, words, "triptych edit")
    from triptych.edit.moving import strengths

    if not options.images:
        raise TriptychError("edit expects at least one picture file, or a folder of them")
    if sum(map(bool, (options.set, options.sweep, options.inpaint, options.given, options.optimise, options.recipe))) != 1:
        raise TriptychError(
            "edit expects one of --set name=value, --sweep name=low:high:count, --given name=value, --optimise probe.skops, "
            "--inpaint top and --recipe FILE"
        )
    if options.recipe and options.hold:
        raise TriptychError("--recipe says itself what is held: leave out --hold")
    if options.sweep:
        parse_sweep(options.sweep)
    strengths(_settings(options.set))
    into_folder = _is_folder(options)
    if options.face is not None:
        facing.check(options)
        model = load_editable(options.run, options.model)
        show = _editor(options, model, beside=True)
        facing.edit_faces(options, model, show, _settings_of(options) if into_folder else None)
    elif options.inpaint:
        if into_folder or options.triptych:
            raise TriptychError("--inpaint writes one picture: give picture files and --out whole.png, without --triptych")
        _inpaint(options)
    elif into_folder:
        _edit_folder(options)
    else:
        _edit_pictures(options)


def _is_folder(options: Edit) -> bool:
    """Whether a file is written for each picture; checked before any work."""
    from triptych.edit.folder import check_apart

    folder = next((source for source in options.images if source.is_dir()), None)
    if folder is None:
        return options.out.is_dir() or not options.out.suffix
    if options.out.suffix and not options.out.is_dir():
        raise TriptychError(f"the edits of the folder {folder} are a folder: give --out a folder's name, got {options.out}")
    check_apart(folder, options.out)
    return True


def _edit_pictures(options: Edit) -> None:
    import torch

    from triptych.edit.folder import batch_of
    from triptych.figures import read_picture, save

    if options.triptych and options.out.suffix.lower() == ".gif":
        raise TriptychError(f"--triptych is a strip, got {options.out}: give --out a name that ends in .png")
    model = load_editable(options.run, options.model)
    stored = torch.cat([read_picture(path, model.event_shape, model.codec.depth) for path in options.images])
    show = _editor(options, model)
    parts = [show(part) for part in stored.split(batch_of(model.event_shape))]
    pictures, rms = (torch.cat(found) for found in zip(*parts, strict=True))
    columns = pictures.shape[1] if pictures.shape[1] > 1 else None
    save(pictures.flatten(0, 1), options.out, columns=columns)
    for path, error in zip(options.images, rms.tolist(), strict=True):
        print(f"{path}: its reconstruction is off by {_error(error)}")
    print(options.out)


def _edit_folder(options: Edit) -> None:
    from triptych.edit import folder

    files = folder.files_of(options.images)
    targets = folder.targets_of(files, options.out, still=options.triptych)
    model = load_editable(options.run, options.model)
    edit, settings = _editor(options, model), _settings_of(options)
    left = folder.begin(files, targets, options.out, settings, overwrite=options.overwrite)
    done = folder.Edited(len(files) - len(left))
    try:
        with _watching(len(left)) as watch:
            for done in folder.edit_files(files, targets, left, edit, model.event_shape, model.codec.depth):
                watch(done)
    except KeyboardInterrupt:
        notice(f"\nstopped with {len(done.written) + done.there} of {len(files)} pictures there: the same command goes on")
        raise
    _report(options.out, done)


def _report(out: Path, done: Edited) -> None:
    """What was done, with the pictures that were left aside."""
    for why in done.broken.values():
        notice(f"left aside: {why}")
    count = len(done.written)
    said = [f"{count} picture{'s' * (count != 1)} edited", f"{done.there} there before" * (done.there > 0)]
    said.append(f"{len(done.broken)} left aside that cannot be read" * bool(done.broken))
    said.append(f"{count / max(done.seconds, 1e-9):.3g} per second" * (count > 0))
    print(f"{out}: {', '.join(filter(None, said))}")
    if done.written:
        worst = max(done.written, key=lambda name: done.written[name])
        mean = sum(done.written.values()) / count
        print(f"reconstructions are off by {_error(mean)} on average, at most by {done.written[worst]:.1f} ({worst})")


def _error(rms: float) -> str:
    return f"{rms:.1f} of 255 (RMS)"


def _editor(options: Edit, model: GenerativeModel, beside: bool | None = None) -> Callable[[Tensor], Shown]:
    """What edits stored pictures as the options say, everything in them checked.

    Args:
        beside: by default as --triptych says.
    """
    from triptych.edit.showing import shown

    context = context_of(model, options.known)
    kind = optimising.optimised if options.optimise else _condition if options.given else _move
    change = kind(options, model, context)
    return lambda stored: shown(
        model, stored, change, context=context, beside=options.triptych if beside is None else beside
    )


def _condition(options: Edit, model: GenerativeModel, context: Tensor | None) -> Change:
    from triptych.edit import change_context

    given = context_of(model, options.given)
    assert given is not None
    return lambda x, z: change_context(model, x, context, given, z=z)[:, None]


def _move(options: Edit, model: GenerativeModel, context: Tensor | None) -> Change:
    from triptych import edit as verbs

    folder = folder_of(options.run)
    asked = _asked(options)
    known, hold = asked.known, asked.hold
    if isinstance(model, verbs.Inverting) and model.encoder is None:
        notice(f"{folder} has no encoder to read coordinates by, they are rough: triptych directions {folder} learns one")
    if not options.sweep:
        values = asked.values
        _check_strengths(options, known, [values])
        return lambda x, z: verbs.apply(model, x, values, known, hold=hold, context=context, z=z)[:, None]
    name, steps = parse_sweep(options.sweep or "")
    _check_strengths(options, known, [{name: steps[0]}, {name: steps[-1]}])
    return lambda x, z: verbs.sweep(model, x, name, steps, known, hold=hold, context=context, z=z)


class _Asked(NamedTuple):
    """What an edit sets and holds, and the directions that it has for it."""

    known: Directions
    values: dict[str, Any]
    hold: list[str]


def _asked(options: Edit) -> _Asked:
    """By --set and --hold, or by a recipe, which is checked to be of the run's weights and directions."""
    from triptych.edit import Directions
    from triptych.edit.recipe import EditRecipe
    from triptych.pretrained import stamp

    folder = folder_of(options.run)
    if options.recipe is None:
        return _Asked(Directions.load(folder), _settings(options.set), _hold(options))
    recipe = EditRecipe.load(options.recipe)
    own = {*recipe.values, *recipe.hold} - {*recipe.added}
    known = Directions.load(folder) if own else Directions()
    return _Asked(recipe.directions(known, stamp(folder)), dict(recipe.values), [*recipe.hold])


def _check_strengths(options: Edit, known: Directions, asked: Sequence[dict[str, Any]]) -> None:
    """Refuses directions that are worthless, unless --force, and warns of strengths far out."""
    from triptych import edit as verbs

    names = dict.fromkeys(name for values in asked for name in values)
    if not options.force:
        verbs.refuse_worthless(known, names)
    for values in asked:
        for sentence in verbs.far_out(known, values):
            notice(sentence)


def _settings_of(options: Edit) -> dict[str, Any]:
    """All that decides what an edited picture looks like, as a folder of them keeps it."""
    from triptych import storage
    from triptych.edit import inversion
    from triptych.pretrained import stamp

    folder = folder_of(options.run)
    asked = None if options.given else _asked(options)
    moved = [] if asked is None else [*asked.values, *asked.hold]
    if options.sweep:
        moved.append(parse_sweep(options.sweep)[0])
    names = sorted({*moved})
    encoder = folder / inversion.FILE
    return {
        "pictures": str(options.images[0].resolve() if options.images[0].is_dir() else options.images[0].parent.resolve()),
        "weights": stamp(folder),
        "encoder": storage.digest(encoder) if encoder.is_file() else None,
        "directions": asked.known.fingerprint(names) if asked and names else None,
        "set": {} if asked is None else asked.values,
        "sweep": options.sweep,
        "hold": _hold(options) if asked is None else asked.hold,
        "given": options.given,
        "known": options.known,
        "triptych": options.triptych,
    } | (optimising.settings(options) if options.optimise else {})


def _hold(options: Edit) -> list[str]:
    return [name.strip() for name in (options.hold or "").split(",") if name.strip()]


@contextlib.contextmanager
def _watching(total: int) -> Iterator[Callable[[Edited], None]]:
    """Shows how far an edit of many pictures has come."""
    with begun("editing", total) as task:
        yield lambda done: task.update(len(done.written) + len(done.broken))


def _inpaint(options: Edit) -> None:
    steps = 500 if options.steps is None else options.steps
    import torch

    from triptych import edit as verbs
    from triptych.figures import read_picture, save

    model = load_model(options.run, options.model)
    stored = torch.cat([read_picture(path, model.event_shape, model.codec.depth) for path in options.images])
    generator = torch.Generator().manual_seed(options.seed)
    hidden = verbs.mask(options.inpaint or "", model.event_shape, generator)
    x, context = model.codec.centre(stored), context_of(model, options.known)
    filled = verbs.inpaint(model, x, hidden, steps=steps, context=context, generator=generator)
    before = stored.masked_fill(hidden, 128)
    after = torch.where(hidden, model.codec.decode(filled), stored)
    save(torch.stack([before, after], dim=1).flatten(0, 1), options.out, columns=2)
    print(options.out)


def parse_sweep(text: str) -> tuple[str, list[float]]:
    """smile=-3:3:9 -> ("smile", nine values from −3 to 3)."""
    import numpy as np

    from triptych.edit.moving import FARTHEST

    try:
        name, _, spread = text.rpartition("=")
        low, high, count = spread.split(":")
        ends, steps = (float(low), float(high)), int(count)
    except ValueError:
        raise TriptychError(f"--sweep expects name=low:high:count such as smile=-3:3:9, got {text[:99]!r}") from None
    if not name or not 2 <= steps <= 200 or not all(abs(end) < FARTHEST for end in ends):
        raise TriptychError(f"--sweep expects 2 to 200 values within ±{FARTHEST:g}, got {text[:99]!r}")
    return name.strip(), np.linspace(*ends, steps).tolist()


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")  # a name may hold an equals sign, a number cannot
        if not equals or not name.strip():
            raise TriptychError(f"--set expects name=value such as smile=1.5 or smile=+0.5, got {text!r}")
        if name.strip() in settings:
            raise TriptychError(f"--set {name.strip()} is given twice: give it once")
        settings[name.strip()] = value
    return settings
