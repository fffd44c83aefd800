"""A tour's folder: what its parts have measured, and the data, models, judge and features that they share.

OUT/plan.json            the settings, and the version of the package, that the tour was begun with
OUT/vae, OUT/gan, …      the models: runs, for every verb of the command line
OUT/parts/NAME.json      what a part has measured, .safetensors its pictures (uint8)
OUT/report.html, .json   the report
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import triptych
from triptych import edit, evaluate, folders, storage
from triptych.capabilities import Encodes
from triptych.core import Estimate, GenerativeModel, StandardNormal
from triptych.data import Splits, load
from triptych.edit.inversion import load_encoder
from triptych.errors import TriptychError
from triptych.evaluate.features import Features
from triptych.onboard import folder_of
from triptych.tour.settings import Settings
from triptych.version import __version__

ON_BOARD = {
    "faces-vae": "VAE + flow prior",
    "faces-gan": "GAN",
    "faces-spectral": "spectral flow",
    "faces-glow": "Glow, whitened",
}
"""Models that come with the package, trained for longer than a tour takes."""
_MARK = ".triptych-tour"  # says that a folder was made by a tour


class Place:
    """The folder of a tour, and what lies there.

    Args:
        folder: where; `begin` makes it.
        settings: of the tour, as asked for; `Place.settings` are those that the machine has time for, once it has begun.
    """

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self.asked, self.settings = folder, settings, settings
        self._models: dict[str, GenerativeModel] = {}

    @classmethod
    def of(cls, folder: Path) -> Place:
        """The folder of a tour that was begun, with its settings."""
        found = cls(folder, Settings.from_json(storage.read_json(folder / "plan.json")["settings"]))
        found.settings = found.asked.scaled(found.scale)
        return found

    def found(self) -> None:
        """Makes the folder, unless it is there.

        Raises:
            TriptychError: for a folder that holds something other than a tour.
        """
        mark = self.folder / _MARK
        if self.folder.exists() and (not self.folder.is_dir() or (any(self.folder.iterdir()) and not mark.exists())):
            raise TriptychError(f"{self.folder} holds something other than a tour: choose another --out")
        with storage.explained(str(self.folder), "choose another --out"):
            self.folder.mkdir(parents=True, exist_ok=True)
            mark.touch()

    def begin(self, anew: bool, scale: float, slowness: float = 1.0) -> None:
        """Begins a tour in the folder, or goes on with the one there, whose share and slowness are its own.

        Args:
            anew: whether an earlier tour is removed.
            scale: the share of the trainings' steps of a tour that begins now.
            slowness: how many times as long as on the machine of the record it takes.

        Raises:
            TriptychError: for a tour of other settings, or of another version of the package.
        """
        mine = {"settings": self.asked.to_json(), "version": __version__}
        if anew or not self.begun:  # without a plan there may be what an earlier version left
            self._clear()
            storage.write_json(self._plan, mine | {"scale": scale, "slowness": slowness, "seconds": 0.0})
        if {key: self.plan.get(key) for key in mine} != mine:
            raise TriptychError(
                f"{self.folder} holds a tour of other settings or of another version: choose another --out, or --anew, "
                "which removes that one"
            )
        self.settings = self.asked.scaled(self.scale)

    def _clear(self) -> None:
        """Removes what a tour writes, by name, and nothing else."""
        for name in (*self.settings.trained, "parts"):
            if (self.folder / name).is_dir():
                folders.discard(self.folder / name)
        files = [self.folder / name for name in ("plan.json", "report.html", "report.json", "claims.json")]
        for path in (*files, *self.folder.glob(".*.seconds")):  # the last: what trainings have taken
            path.unlink(missing_ok=True)

    @property
    def _plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def begun(self) -> bool:
        """Whether a tour was begun here."""
        return self._plan.exists()

    @property
    def plan(self) -> dict[str, Any]:
        """What the tour was begun with."""
        return storage.read_json(self._plan)

    @property
    def scale(self) -> float:
        """The share of the settings' steps that the trainings of this tour have."""
        return float(self.plan["scale"])

    def add_seconds(self, seconds: float) -> None:
        """Counts the time of a stretch, from a start to where it was stopped or done."""
        storage.write_json(self._plan, self.plan | {"seconds": self.plan["seconds"] + seconds})

    def is_done(self, part: str) -> bool:
        """Whether a part's results are kept."""
        return self._results(part).exists()

    def keep(self, part: str, numbers: Mapping[str, Any], pictures: Mapping[str, Tensor] | None = None) -> None:
        """Keeps a part's results: the pictures first, so that numbers say that all is there."""
        self._results(part).parent.mkdir(exist_ok=True)
        if pictures:
            storage.write_tensors(self._results(part).with_suffix(".safetensors"), {k: v.cpu() for k, v in pictures.items()})
        storage.write_json(self._results(part), plain(numbers))

    def numbers(self, part: str) -> dict[str, Any]:
        """What a part has measured; {} where it was not run."""
        return storage.read_json(self._results(part)) if self.is_done(part) else {}

    def pictures(self, part: str) -> dict[str, Tensor]:
        """A part's pictures, uint8 (n, C, H, W) by name; {} where it has none."""
        path = self._results(part).with_suffix(".safetensors")
        return storage.read_tensors(path) if self.is_done(part) and path.exists() else {}

    def _results(self, part: str) -> Path:
        return self.folder / "parts" / f"{part}.json"

    @cached_property
    def data(self) -> Splits:
        """The drawn faces."""
        return load("faces", size=self.settings.size, n=self.settings.examples)

    @cached_property
    def lessons(self) -> tuple[Tensor, dict[str, Any]]:
        """The training faces that directions are learned from, and their attributes."""
        few = self.data.train.take(self.settings.lessons)
        return few[:], dict(few.attributes)

    @cached_property
    def judge(self) -> edit.Reader:
        """The network that reads attributes: it has seen other faces than the models, and never a model."""
        return edit.Reader.load(self.folder / "parts" / "judge-network")

    @cached_property
    def features(self) -> Features:
        """What samples are compared by."""
        return evaluate.features("learned", self.data.train, steps=self.settings.feature_steps)

    def model(self, name: str) -> GenerativeModel:
        """A model of the tour, or on board, as it edits: a GAN with its encoder.

        "normal" is the VAE with N(0, I) in its learned prior's place.
        """
        if name not in self._models:
            self._models[name] = self._loaded(name)
        return self._models[name]

    def _loaded(self, name: str) -> GenerativeModel:
        if name == "normal":
            plain = self._loaded("vae")
            plain.prior = StandardNormal()
            return plain
        folder = onboard(name) if name in ON_BOARD else self.folder / name
        assert folder is not None
        model = triptych.load(folder)
        encoder = None if isinstance(model, Encodes) else load_encoder(model, folder)
        return model if encoder is None else edit.Inverting(model, encoder, steps=0)


def onboard(name: str) -> Path | None:
    """The folder of a model that comes with the package; None where this installation has none of that name."""
    return folder_of(name)


def plain(value: Any) -> Any:
    """Estimates and numbers as JSON has them; what is not finite is null."""
    if isinstance(value, Estimate):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@torch.no_grad()
def cpu_seconds(work: Callable[[], Any], times: int = 3) -> float:
    """CPU seconds of a call without gradients: the median over a few, after one that is not counted."""
    work()
    spent = []
    for _ in range(times):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)
