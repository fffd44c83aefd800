"""The runs that the studio knows, found again when it is asked: new ones, newer weights, and those that did not load."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import TriptychError, unknown
from triptych.pretrained import local_folder
from triptych.runs import runs_below
from triptych.studio.limits import NAME, Limits
from triptych.studio.problems import Gone
from triptych.studio.served import Served, load_served

_RESTED = 3.0  # seconds between two looks at the disk
_FILES = ("recipe.json", "model.safetensors", "directions.json", "encoder.safetensors", "alignment.json")
Marks = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Broken:
    """A run whose model did not load.

    Attributes:
        problem: why, in a sentence.
    """

    id: str
    folder: Path
    problem: str


class Registry:
    """Models by id, and the folders of their runs.

    Args:
        sources: run folders, folders in which runs lie, names of models on board, or hub ids.

    Raises:
        TriptychError: for a source that is neither.
    """

    def __init__(self, sources: Sequence[str | Path], limits: Limits | None = None):
        self.limits = limits or Limits()
        self._roots = [_root(source) for source in sources]
        self._ids: dict[Path, str] = {}
        self._found: dict[str, Served | Broken] = {}
        self._marks: dict[str, Marks] = {}
        self._lock, self._looked = threading.Lock(), -_RESTED
        self.refresh()

    def refresh(self) -> None:
        """Looks at the disk again, at most every few seconds; models whose files have changed are loaded anew."""
        with self._lock:
            if time.monotonic() - self._looked < _RESTED:
                return
            for folder in (folder for root in self._roots for folder in _runs(root)):
                self._look(self._id(folder), folder)
            self._looked = time.monotonic()

    def _look(self, name: str, folder: Path) -> None:
        marks = _marks(folder)
        if self._marks.get(name) == marks:
            return
        before, self._marks[name] = self._found.get(name), marks
        try:
            self._found[name] = load_served(name, folder, self.limits)
        except Exception as error:  # whatever a foreign folder holds, the other models serve
            self._found[name] = Broken(name, folder, _said(folder, error))
        if isinstance(before, Served):
            before.worker.close()

    def _id(self, folder: Path) -> str:
        if folder not in self._ids:
            plain = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name or "run")[: NAME - 5] or "run"
            taken, number, name = set(self._ids.values()), 2, plain
            while name in taken:
                name, number = f"{plain}-{number}", number + 1
            self._ids[folder] = name
        return self._ids[folder]

    @property
    def served(self) -> list[Served]:
        """The models that loaded."""
        return [found for found in self._found.values() if isinstance(found, Served)]

    @property
    def broken(self) -> list[Broken]:
        """Those that did not."""
        return [found for found in self._found.values() if isinstance(found, Broken)]

    @property
    def folders(self) -> dict[str, Path]:
        """The folder of every run by id, whether its model loads or not."""
        return {name: found.folder for name, found in self._found.items()}

    def model(self, name: str) -> Served:
        """A model by its id.

        Raises:
            Gone: for an unknown id, and for a model that did not load, with the reason.
        """
        found = self._found.get(name)
        if isinstance(found, Broken):
            raise Gone(f"the model {name} did not load: {found.problem}")
        if found is None:
            raise Gone(str(unknown("model", name[:NAME], self._found)))
        return found

    def close(self) -> None:
        """Ends the threads of all models."""
        for found in self.served:
            found.worker.close()


def _root(source: str | Path) -> Path:
    """The folder that is meant, absolute."""
    folder = local_folder(source)
    if not folder.is_dir():
        raise TriptychError(f"{source} is not a folder: name a run, or a folder in which runs lie")
    return folder.resolve()


def _runs(root: Path) -> list[Path]:
    return [*runs_below(root)] or ([root] if (root / "model.safetensors").is_file() else [])


def _marks(folder: Path) -> Marks:
    """What changes when a model's files do."""
    found = []
    for name in _FILES:
        try:
            status = (folder / name).stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def _said(folder: Path, error: Exception) -> str:
    """Why a run does not load, in one line, without the folders above it."""
    if not (folder / "model.safetensors").exists():
        return "it has no checkpoint yet: it appears here once its training has saved one"
    sentence = " ".join(str(error).split()).replace(f"{folder.parent}/", "")
    return sentence if isinstance(error, TriptychError) else f"{type(error).__name__}: {sentence}"
