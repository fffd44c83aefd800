"""Where new examples go: a contact sheet, an array, a table, or a folder with a file for each.

Examples come in chunks, and all but a sheet is written as they come, so that memory does not grow with their number.
Everything is written under another name and renamed when it is complete; a folder goes on where it was left.
"""

from __future__ import annotations

import math
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from triptych.errors import TriptychError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from triptych.core import GenerativeModel

SHEETS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_LARGEST_SHEET = 2**26  # pixels: more are written to a folder or an array
_ABOUT = "samples.json"


def kind_of_output(out: str) -> type[Output]:
    """The kind of output that a name stands for: by its suffix in any case; a name without one is a folder.

    Raises:
        TriptychError: for a suffix that none is written with.

    >>> kind_of_output("s.NPY").__name__, kind_of_output("new/").__name__
    ('Npy', 'Folder')
    """
    path, suffix = Path(out), Path(out).suffix.lower()
    if out.endswith(("/", os.sep)) or path.is_dir() or not suffix:
        return Folder
    kinds: dict[str, type[Output]] = {".npy": Npy, ".npz": Npz, ".csv": Csv, **dict.fromkeys(SHEETS, Sheet)}
    if suffix not in kinds:
        raise TriptychError(
            f"--out {out}: give a name that ends in .png, .jpg or .gif (a sheet of pictures), in .npy, .npz or .csv (the "
            "values), or in / (a folder, with a file for each)"
        )
    return kinds[suffix]


def usual_name(model: GenerativeModel) -> str:
    """Where examples go if nothing is said: a sheet of pictures, a table of vectors, else an array."""
    if shows(model):
        return "samples.png"
    return "samples.csv" if len(model.event_shape) == 1 else "samples.npy"


def shows(model: GenerativeModel) -> bool:
    """Whether the model's examples can be shown as pictures."""
    import torch

    return model.codec.show(torch.zeros(1, *model.event_shape), model.event_shape) is not None


class Output(ABC):
    """One file or folder of `count` examples; made before anything is drawn, so that what cannot be is said at once.

    Args:
        settings: what the examples are drawn by, by name: the same settings give the same examples.
        columns: of a sheet; by default about as many as rows.
    """

    def __init__(self, out: str, model: GenerativeModel, count: int, settings: dict[str, Any], columns: int | None = None):
        self.path, self.model, self.count, self.settings, self.columns = Path(out), model, count, settings, columns
        self.check()

    def check(self) -> None:
        """Raises a `TriptychError` where these examples cannot go there."""
        if self.path.is_dir():
            raise TriptychError(f"{self.path} is a folder: give --out the name of a file")

    def has(self, start: int, stop: int) -> bool:
        """Whether these examples are there already, from an earlier call."""
        return False

    @abstractmethod
    def write(self, chunks: Iterator[tuple[int, torch.Tensor]]) -> None:
        """Writes all: chunks are (number of the first, x (k, *E) in model coordinates)."""

    def stored(self, x: torch.Tensor) -> np.ndarray:
        """x as stored values."""
        return self.model.codec.decode(x).cpu().numpy()


class Sheet(Output):
    """One picture of all of them, or a GIF that plays them."""

    def check(self) -> None:
        super().check()
        from triptych.figures import LEGIBLE

        shape = self.model.event_shape
        if not shows(self.model):
            also = ".npy, .npz or .csv" if len(shape) == 1 else ".npy or .npz, or a folder/"
            raise TriptychError(f"data of shape {shape} are not 8-bit pictures: give --out a name that ends in {also}")
        if self.count * math.prod(max(side, LEGIBLE) for side in shape[1:]) > _LARGEST_SHEET:
            raise TriptychError(f"{self.count:,} pictures are too many for one sheet: give --out a folder/ or a .npy file")

    def write(self, chunks: Iterator[tuple[int, torch.Tensor]]) -> None:
        import torch

        from triptych.figures import save

        shown = [self.model.codec.show(x, self.model.event_shape) for _, x in chunks]
        save(torch.cat([pictures for pictures in shown if pictures is not None]), self.path, columns=self.columns)


class Npy(Output):
    """An array of stored values, (n, *E)."""

    def write(self, chunks: Iterator[tuple[int, torch.Tensor]]) -> None:
        from triptych import storage

        def write(path: Path) -> None:
            with path.open("wb") as file:
                self._stream(file, chunks)

        storage.write_file(self.path, write)

    def _stream(self, file: IO[bytes], chunks: Iterator[tuple[int, torch.Tensor]]) -> None:
        """The npy format: a header, then the rows."""
        import numpy as np

        for start, x in chunks:
            values = np.ascontiguousarray(self.stored(x))
            if start == 0:
                shape = (self.count, *values.shape[1:])
                header = {"descr": values.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(values.data)


class Npz(Npy):
    """The same as the array `x` of an archive, which `triptych.data.load` reads."""

    def write(self, chunks: Iterator[tuple[int, torch.Tensor]]) -> None:
        from triptych import storage

        def write(path: Path) -> None:
            archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
            with archive, archive.open("x.npy", "w", force_zip64=True) as file:
                self._stream(file, chunks)

        storage.write_file(self.path, write)


class Csv(Output):
    """A row for each vector, under x0, x1, …"""

    def check(self) -> None:
        super().check()
        if len(self.model.event_shape) != 1:
            raise TriptychError(
                f"a CSV holds vectors, the model makes {self.model.event_shape}: give --out a name that ends in .npy or .npz"
            )

    def write(self, chunks: Iterator[tuple[int, torch.Tensor]]) -> None:
        from triptych import storage

        def write(path: Path) -> None:
            with path.open("w", encoding="utf-8") as file:
                file.write(",".join(f"x{i}" for i in range(self.model.event_shape[0])) + "\n")
                for _, x in chunks:
                    # nine digits give back the same float32
                    file.writelines(",".join(f"{v:.9g}" for v in row) + "\n" for row in self.stored(x).tolist())

        storage.write_file(self.path, write)


class Folder(Output):
    """000000.png, 000001.png, …, or an .npy file for each that is not a picture; samples.json says how they were drawn.

    A folder of the same settings goes on: files that are there are kept.
    """

    def check(self) -> None:
        from triptych import folders, storage

        if self.path.is_file():
            raise TriptychError(f"{self.path} is a file: give --out the name of a folder, or a suffix such as .npy")
        self.suffix, held = ".png" if shows(self.model) else ".npy", set()
        if self.path.is_dir():
            folders.sweep(self.path)
            held = {path.name for path in self.path.iterdir()}
        if held and _ABOUT not in held:
            raise TriptychError(
                f"{self.path} holds other files, such as {min(held)}: give --out a new folder, or an empty one"
            )
        if held and (drawn := storage.read_json(self.path / _ABOUT)) != self.settings:
            drawn = drawn if isinstance(drawn, dict) else {}
            which = next((name for name in self.settings if drawn.get(name) != self.settings[name]), "the run")
            raise TriptychError(
                f"{self.path} holds examples that were drawn otherwise ({which} {drawn.get(which)!s:.40}, not "
                f"{self.settings.get(which)!s:.40}): give --out a new folder"
            )
        self.held = held

    def has(self, start: int, stop: int) -> bool:
        return all(self._name(i) in self.held for i in range(start, stop))

    def write(self, chunks: Iterator[tuple[int, torch.Tensor]]) -> None:
        from triptych import storage

        storage.write_json(self.path / _ABOUT, self.settings)
        for start, x in chunks:
            for i, example in enumerate(self._examples(x), start):
                if self._name(i) not in self.held:
                    storage.write_bytes(self.path / self._name(i), example)

    def _name(self, i: int) -> str:
        return f"{i:06d}{self.suffix}"

    def _examples(self, x: torch.Tensor) -> Iterator[bytes]:
        """The content of each example's file."""
        import numpy as np

        from triptych.examples import npy
        from triptych.figures import encoded, image

        pictures = self.model.codec.show(x, self.model.event_shape)
        if pictures is not None:
            yield from (encoded(image(p, enlarge=False)) for p in pictures)
        else:
            yield from (npy(np.ascontiguousarray(v)) for v in self.stored(x))
