"""`triptych edit --face`: a face in a photograph, aligned as the run's data are, edited, and pasted back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from triptych.cli.options import Edit
from triptych.cli.sources import folder_of, kept_if_possible, notice
from triptych.errors import TriptychError
from triptych.progress import begun

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.edit import Alignment
    from triptych.edit.choosing import Which
    from triptych.edit.showing import Shown

_PICTURES = 300  # of the training set that tell how it is aligned
_FINE = 128  # pixels of a side that eyes are looked for in


class Facing(NamedTuple):
    """What edits the faces of photographs.

    Attributes:
        alignment: of the faces in the training data; None: the centre is edited, which needs none.
        show: stored pictures -> original, reconstruction and edit side by side.
    """

    model: GenerativeModel
    which: Which
    alignment: Alignment | None
    show: Callable[[Tensor], Shown]

    def __call__(self, path: Path, target: Path) -> float:
        """Writes the photograph with the edited face; returns how far the reconstruction of the face is off."""
        from triptych import edit

        photograph = edit.read_photograph(path)
        channels, *size = self.model.event_shape
        faces = [] if self.which == "centre" else edit.find_faces(photograph.pixels)
        height, width = photograph.pixels.shape[1:]
        chosen = edit.choose(faces, self.which, self.alignment, (height, width), (size[0], size[1]))
        shown = self.show(edit.align(photograph.pixels, chosen.placed, channels))
        _, again, edited = shown.pictures[0].split(1)
        photograph.save(edit.paste_back(photograph.pixels, chosen.placed, again, edited), target)
        if self.which != "centre":
            notice(f"{path}: {_said(len(faces), chosen.number)}")
        return float(shown.rms)


def check(options: Edit) -> None:
    """Refuses what --face does not go with, before any work."""
    from triptych.edit.choosing import parse_which

    if options.sweep or options.inpaint or options.triptych:
        raise TriptychError("--face writes whole photographs, edited once each: leave out --sweep, --inpaint and --triptych")
    if options.out.suffix.lower() == ".gif":
        raise TriptychError(f"--face writes photographs, got {options.out}: give --out a name that ends in .png")
    parse_which(options.face or "")


def edit_faces(options: Edit, model: GenerativeModel, show: Callable[[Tensor], Shown], into: dict[str, Any] | None) -> None:
    """Each photograph with the chosen face edited, in --out.

    Args:
        into: where --out is a folder, the settings that it keeps; None where it is a file.
    """
    from triptych.edit.choosing import parse_which

    shape = model.event_shape
    if not (model.codec.is_picture and len(shape) == 3 and shape[0] in (1, 3)):
        raise TriptychError(f"--face needs a model of pictures, this one's examples are of shape {shape}: leave it out")
    which = parse_which(options.face or "")
    facing = Facing(model, which, None if which == "centre" else alignment_of(options.run, model), show)
    if into is not None:
        _into_folder(options, facing, into)
        return
    if len(options.images) != 1:
        raise TriptychError(
            f"--face writes a file for each photograph, got {len(options.images)}: give --out a folder's name"
        )
    error = facing(options.images[0], options.out)
    print(f"{options.images[0]}: the reconstruction of the face is off by {error:.1f} of 255 (RMS)")
    print(options.out)


def _into_folder(options: Edit, facing: Facing, settings: dict[str, Any]) -> None:
    """A file for each; photographs that cannot be read, or show no face, are said and left aside."""
    from triptych.edit import folder

    files = folder.files_of(options.images)
    targets = folder.targets_of(files, options.out, still=True)
    eyes = facing.alignment and [*facing.alignment.left, *facing.alignment.right]
    settings = settings | {"face": options.face, "alignment": eyes}
    left = folder.begin(files, targets, options.out, settings, overwrite=options.overwrite)
    done = sum(1 for _ in _edited(facing, {name: (files[name], targets[name]) for name in left}))
    there, aside = len(files) - len(left), len(left) - done
    said = [f"{done} photograph{'s' * (done != 1)} edited", f"{there} there before" * (there > 0)]
    print(f"{options.out}: {', '.join(filter(None, [*said, f'{aside} left aside' * (aside > 0)]))}")
    if aside == len(files):
        raise TriptychError("not one of the photographs could be edited: the lines above say why")


def _edited(facing: Facing, places: dict[str, tuple[Path, Path]]) -> Iterator[str]:
    with begun("editing", len(places)) as task:
        for number, (name, (source, target)) in enumerate(places.items(), 1):
            try:
                facing(source, target)
                yield name
            except TriptychError as error:  # the others are edited all the same
                notice(f"left aside: {source}: {error}")
            task.update(number)


def alignment_of(source: str, model: GenerativeModel) -> Alignment:
    """Where the run's training data have the eyes: kept in the run, known of the data by name, or measured on them now."""
    from triptych.edit import Alignment, known_alignment, measure_alignment
    from triptych.pretrained import read_recipe

    folder, (height, width) = folder_of(source), model.event_shape[1:]
    if (kept := Alignment.load(folder)) is not None:
        return kept
    recipe = read_recipe(folder)
    if recipe is None:
        raise TriptychError(f"{source} does not say what it was trained on, nor how that has its faces: use --face centre")
    if (known := known_alignment(recipe.data, (height, width))) is not None:
        return known
    from triptych.data import load

    notice(f"finding out where the faces of {recipe.data} have their eyes, which is kept in the run")
    times = -(-_FINE // min(height, width))
    splits = load(recipe.data, size=(times * height, times * width), seed=recipe.seed, held_out=recipe.held_out)
    pictures = splits.train.take(_PICTURES)[:]
    found = measure_alignment(pictures)
    with kept_if_possible("the alignment"):
        found.save(folder)
    return found


def _said(count: int, number: int | None) -> str:
    found = "one face" if count == 1 else f"{count or 'no'} faces"
    which = "its centre is edited" if number is None else f"number {number} is edited, the largest being 1"
    return f"{found} found, {which}"
