"""`triptych directions`: what moves attributes, learned, judged on held-out examples and stored in the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from triptych.cli import parse
from triptych.cli.lessons import Lesson, lesson_of
from triptych.cli.options import LearnDirections
from triptych.cli.presenting import check_strips, draw_strips, print_table
from triptych.cli.sources import encoding, folder_of, load_model, notice
from triptych.errors import TriptychError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.edit import Directions, Reader


def directions(words: Sequence[str]) -> None:
    """Learns directions, judges them on held-out examples, prints, draws and stores them."""
    options = parse(LearnDirections, words, "triptych directions")
    from triptych import folders, storage

    _check(options)
    folder = folder_of(options.run)
    with folders.claimed(folder):
        found = _learn(options, folder)
    if options.json:
        told = {name: {"kind": d.kind, "range": d.range, "depth": d.depth, **d.judged} for name, d in found.items()}
        storage.write_json(options.json, told)


def _check(options: LearnDirections) -> None:
    """Raises for options that do not go together, before any work."""
    asked = {
        "--attributes": options.attributes is not None,
        "--unsupervised": options.unsupervised is not None,
        "--piles": options.piles is not None,
        "--words": bool(options.words),
    }
    if len(chosen := [option for option, there in asked.items() if there]) > 1:
        raise TriptychError(f"{' and '.join(chosen)} ask for different directions: give one of them, then the other")
    if options.piles and len(options.name) != 1:
        raise TriptychError(f"--piles needs one --name for what the first folder shows, got {len(options.name)}")
    _check_words(options)
    _check_names(options.name or options.words)
    blind = options.unsupervised is not None
    allowed = ("pca", "jacobian") if blind else () if options.piles else ("joint", "means", "regression")
    if options.method is not None and options.method not in allowed:
        of = f"expected {' or '.join(allowed)}" if allowed else "leave it out: piles are learned by their means"
        raise TriptychError(f"--method {options.method} {'with' if blind else 'without'} --unsupervised: {of}")


def _check_words(options: LearnDirections) -> None:
    count = len(options.words)
    if not count:
        if options.against or options.scorer or (options.name and not options.piles):
            raise TriptychError("--against and --scorer belong to --words, and --name to --piles or --words: give those too")
        return
    if options.scorer is None:
        raise TriptychError("--words needs --scorer my_package:make_scorer, which reads pictures against texts")
    if len(options.against) not in (1, count):
        raise TriptychError(f'--words needs --against, such as "a face": one, or {count}, got {len(options.against)}')
    if options.name and len(options.name) != count:
        raise TriptychError(f"expected a --name for each of {count} --words, or none, got {len(options.name)}")


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise TriptychError(f"expected different names, got {name!r} twice: give each of --words a --name of its own")
        if not name.strip() or "," in name or "=" in name:
            raise TriptychError(f"{name!r} cannot be a direction's name, as commands use , and =: give it another by --name")


def _learn(options: LearnDirections, folder: Path) -> Directions:
    """Learns what is asked for, and stores it in the run beside what that holds."""
    from triptych.edit import Directions
    from triptych.pretrained import stamp

    weights = stamp(folder)  # before they are read: should a training replace them meanwhile, what is learned is outdated
    model = load_model(options.run, options.model)
    if options.strips:
        check_strips(model, options.strips)
    learn = _by_piles if options.piles else _by_data
    kept = _stored(folder, weights)
    found = learn(options, model, folder, weights, kept)
    Directions({**kept, **found.directions}).save(folder, weights)
    print_table(found.directions)
    if options.strips:
        draw_strips(found.model, found.directions, found.stored, options.strips, found.context)
        print(options.strips)
    if others := [name for name in kept if name not in found.directions]:
        print(f"stored before and kept: {', '.join(others)}")
    return found.directions


class _Found(NamedTuple):
    """Directions, the model that they edit, and pictures to show them on, with their context."""

    directions: Directions
    model: GenerativeModel
    stored: Tensor
    context: Tensor | None = None


def _by_data(options: LearnDirections, model: GenerativeModel, folder: Path, weights: str, kept: Directions) -> _Found:
    """From attributes of data, from words that are read in them, or without either."""
    from triptych.edit import depth

    asked = _asked(options, model)
    lesson = lesson_of(options, model)
    model = encoding(model, folder, lesson.stored, weights, lesson.context)
    reader = None if asked is None else lesson.reader()
    if asked == "auto":
        chosen = None if reader is None else _straightest(lesson.short(reader), model, reader)
    else:
        chosen = None if asked is None else int(asked)
    labelled = not options.words and options.unsupervised is None
    found = lesson.learn(depth.at_depth(model, chosen), reader, None if labelled else _of_depth(kept, chosen))
    return _Found(found, model, lesson.held_out, lesson.held_context)


def _by_piles(options: LearnDirections, model: GenerativeModel, folder: Path, weights: str, kept: Directions) -> _Found:
    """From two folders of pictures, at the depth that is asked for, or that of what the run holds."""
    import torch

    from triptych.edit import Directions, depth, learn_from_piles
    from triptych.edit.piles import check_piles

    assert options.piles is not None
    asked, (name,) = _asked(options, model), options.name
    if asked == "auto":
        raise TriptychError("--depth auto compares depths by attributes: with --piles give a number, or z")
    chosen = int(asked) if asked else None if options.depth == "z" else next((d.depth for d in kept.values()), None)
    beside = _of_depth(Directions({other: d for other, d in kept.items() if other != name}), chosen)
    piles = [_pictures(path, model) for path in options.piles]
    check_piles(name, len(piles[0]), len(piles[1]))
    stored = torch.cat(piles)
    model = encoding(model, folder, stored, weights)
    direction = learn_from_piles(depth.at_depth(model, chosen), piles[0], piles[1], name, beside=beside)
    return _Found(Directions({name: direction}), model, stored)


def _pictures(folder: Path, model: GenerativeModel) -> Tensor:
    """All pictures of a folder, stored, (n, C, H, W); those that cannot be read are said and left aside."""
    import torch

    from triptych.edit.folder import files_of
    from triptych.figures import read_pictures

    if not folder.is_dir():
        raise TriptychError(f"--piles expects two folders of pictures, got {folder}")
    read = read_pictures([*files_of([folder]).values()], model.event_shape, model.codec.depth)
    for problem in (found for found in read if isinstance(found, TriptychError)):
        notice(f"left aside: {problem}")
    if not (stored := [found for found in read if not isinstance(found, TriptychError)]):
        raise TriptychError(f"none of the {len(read)} pictures in {folder} can be read")
    return torch.cat(stored)


def _of_depth(known: Directions, depth: int | None) -> Directions:
    """Those that move the same codes."""
    from triptych.edit import Directions

    return Directions({name: d for name, d in known.items() if d.depth == depth})


def _stored(folder: Path, weights: str) -> Directions:
    """What the run holds of the same weights, which stays beside what is learned; what is of others or damaged is said."""
    from triptych.edit import Directions
    from triptych.edit.directions import FILE

    if not (folder / f"{FILE}.json").exists():
        return Directions()
    try:
        return Directions.load(folder, weights)
    except TriptychError as error:
        notice(f"what was stored is replaced: {error}")
        return Directions()


def _asked(options: LearnDirections, model: GenerativeModel) -> str | None:
    """The depth that is asked for, a number, "auto" or None for z; checked before any work."""
    from triptych.capabilities import Layered, require
    from triptych.errors import check_size

    if options.depth is None:
        blind = options.unsupervised is not None or options.piles is not None
        return "auto" if isinstance(model, Layered) and not blind else None
    if options.depth == "z":
        return None
    last = require(model, Layered).count_layers()
    if options.depth == "auto" and options.unsupervised is not None:
        raise TriptychError(f"--depth auto compares depths by attributes: with --unsupervised name one, 0 to {last}")
    if options.depth != "auto":
        if not options.depth.isdecimal() or len(options.depth) > 9:
            raise TriptychError(f"--depth should be auto, z or a number from 0 (the data) to {last}, got {options.depth!r}")
        check_size("--depth", int(options.depth), last, least=0)
    return options.depth


def _straightest(lesson: Lesson, model: GenerativeModel, reader: Reader) -> int | None:
    """The depth where directions leak least for what they move, with a table of all that were tried; None without any."""
    from rich.console import Console
    from rich.table import Table

    from triptych.edit import learn_at_depths, straightest, straightness

    if not lesson.names:
        return None
    notice(f"learning directions from {len(lesson.stored)} examples at one depth after another")
    found = learn_at_depths(model, lambda part: lesson.learn(part, reader))
    best = straightest(found)
    table = Table("depth", "moves, share of the way", "worst leakage, mean", "leakage by share", title="z is the last depth")
    for depth, known in found.items():
        measured = straightness(known)
        mark = " *" if depth == best else ""
        table.add_row(f"{depth}{mark}", f"{measured.share:.0%}", f"{measured.leakage:.0%}", f"{measured.ratio:.3f}")
    Console().print(table)
    return best
