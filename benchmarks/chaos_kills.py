"""Kills of every verb that writes, at every write event and at random moments, and what the next start must lead to."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from chaos_process import Action, Case, Ended, Fault, Watch, command, faults_of, run

TRAIN = ["train", "vae", "--data", "digits", "--steps", "4", "--model.hidden", "4", "--model.latent-dim", "2",
         "--model.prior", "normal", "--training.batch", "8", "--training.save-every", "2", "--training.sample-every", "4",
         "--training.log-every", "2"]  # fmt: skip
SEED = ["--seed", "1"]
_LEARN = ["directions", "run", "--attributes", "label=0,label=1"]
_END = ("run/model.safetensors", "run/state/000000004/state.safetensors", "run/metrics.jsonl")
_LONGER = ("run/model.safetensors", "run/state/000000006/state.safetensors", "run/metrics.jsonl")
_DIRECTIONS = ("run/directions.json", "run/directions.safetensors")


class Next(NamedTuple):
    """A command that comes after a kill, and which of the known results it may end with."""

    action: Action
    ends: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """One verb that writes.

    Attributes:
        before: commands that make what is there, in folder "run" and beside it.
        action: what is killed.
        again: the starts after the kill, given the folder; each must work. By default the same.
        files: what must be the same to the bit in the end, folders with all that they hold.
        single: files that a kill leaves as they were or as they become.
    """

    name: str
    before: tuple[tuple[str, ...], ...]
    action: Action
    files: tuple[str, ...]
    again: Callable[[Path], list[Next]] | None = None
    single: tuple[str, ...] = ()


def _resumed_or_anew(place: Path) -> list[Next]:
    """A training that was killed goes on; before it has a run, the same command begins it."""
    begun = (place / "run").exists()
    return [Next(command(["train", "--resume", "run"] if begun else [*TRAIN, "--out", "run"]), ("after",))]


def _old_or_new(place: Path) -> list[Next]:
    """What is replaced is there until its successor is; then the same command works."""
    overwrite = [*TRAIN, *SEED, "--overwrite", "--out", "run"]
    return [Next(command(["train", "--resume", "run"]), ("before", "after")), Next(command(overwrite), ("after",))]


def _rolled_back() -> int:
    from triptych.training.recovery import roll_back
    from triptych.training.run import Run

    roll_back(Run.resume("run"), "asked for by the benchmark", print)
    return 0


def _with_or_without(place: Path) -> list[Next]:
    """A rollback has happened or not, and the training goes on either way."""
    return [Next(command(["train", "--resume", "run"]), ("without", "with"))]


def _usable(name: str, place: Path) -> list[Next]:
    edit = ["edit", "run", "face/000000.png", "--set", f"{name}=+1", "--out", "moved.png"]
    return [Next(command(edit), ()), Next(command(_LEARN), ("after",))]


_RUN = (*TRAIN, "--out", "run")
_FACES = ("sample", "run", "--n", "3", "--out", "face/")
_PCS = ("directions", "run", "--unsupervised", "2")
_EDIT = ("--set", "pc1=+1")


def _scenes() -> list[Scene]:
    sheet, other = ["sample", "run", "--n", "4", "--out"], ["--seed", "1"]
    return [
        Scene("train", (), command(_RUN), _END, _resumed_or_anew),
        Scene("resume", (_RUN,), command(["train", "--resume", "run", "--steps", "6"]), _LONGER),
        Scene("overwrite", (_RUN,), command([*TRAIN, *SEED, "--overwrite", "--out", "run"]), _END, _old_or_new),
        Scene("rollback", (_RUN,), _rolled_back, _END, _with_or_without),
        Scene("rollback to the start", ((*_RUN, "--training.save-every", "100"),), _rolled_back, _END[:2], _with_or_without),
        Scene("directions", (_RUN, _FACES), command(_LEARN), _DIRECTIONS),
        Scene("directions again", (_RUN, _FACES, _PCS), command(_LEARN), _DIRECTIONS, partial(_usable, "pc1")),
        *(
            Scene(f"sample {suffix}", (_RUN, (*sheet, f"s{suffix}")), command([*sheet, f"s{suffix}", *other]),
                  (f"s{suffix}",), single=(f"s{suffix}",))
            for suffix in (".png", ".gif", ".jpg", ".npy", ".npz")
        ),
        Scene("sample folder", (_RUN,), command([*sheet, "new/"]), ("new",)),
        Scene("edit in place", (_RUN, _FACES, _PCS),
              command(["edit", "run", "face/000000.png", *_EDIT, "--out", "face/000000.png"]), (), lambda place: [],
              single=("face/000000.png",)),
        Scene("edit gif",
              (_RUN, _FACES, _PCS, ("edit", "run", "face/000000.png", "--sweep", "pc1=-1:1:3", "--out", "e.gif")),
              command(["edit", "run", "face/000001.png", "--sweep", "pc1=-2:2:5", "--out", "e.gif"]), ("e.gif",),
              single=("e.gif",)),
        Scene("edit folder", (_RUN, _FACES, _PCS), command(["edit", "run", "face", *_EDIT, "--out", "edited"]),
              tuple(f"edited/{i:06}.png" for i in range(3))),
        Scene("mix", (_RUN, _FACES, ("mix", "run", "face/000000.png", "face/000001.png", "--out", "m.png")),
              command(["mix", "run", "face/000001.png", "face/000002.png", "--out", "m.png"]), ("m.png",),
              single=("m.png",)),
        Scene("score", (_RUN, _FACES, ("score", "run", "face", "--out", "s.csv")),
              command(["score", "run", "digits", "--split", "test", "--out", "s.csv"]), ("s.csv", "s.png"),
              single=("s.csv", "s.png")),
    ]  # fmt: skip


def preparations(root: Path) -> list[Callable[[], _Known]]:
    """What plays each scene uninterrupted, once for all."""
    return [partial(_known, scene, root / "scenes" / scene.name.replace(" ", "-")) for scene in _scenes()]


def cases(root: Path, seed: int, quick: bool) -> list[Case]:
    """Of each scene a kill at every write event, and 100 at random moments of all of them."""
    found, scenes = [], [prepared() for prepared in preparations(root)]
    for known in scenes:
        events = known.told["events"]
        chosen = range(1, len(events) + 1)
        for k in chosen[:: max(1, len(chosen) // 3)] if quick else chosen:
            what = f"{known.scene.name} at event {k} of {len(events)}, {events[k - 1]}"
            found.append(Case(what, partial(_killed, known, Watch(kill_at=k))))
            if events[k - 1].startswith("fsync") and Path(events[k - 1]).suffix:
                found.append(Case(what + ", half written", partial(_killed, known, Watch(kill_at=k, half=True))))
    draw = random.Random(seed)
    for i in range(10 if quick else 100):
        known = scenes[i % len(scenes)] if quick else draw.choice(scenes)
        moment = draw.uniform(0, known.told["seconds"])
        found.append(Case(f"{known.scene.name} at random {i}", partial(_killed, known, Watch(kill_after=moment))))
    return found


class _Known(NamedTuple):
    """A scene with what is there before it, and what an uninterrupted play of it leads to.

    Attributes:
        told: events; seconds; ends: digests of the files by what led to them; single: digests of the single files before
            and after.
    """

    scene: Scene
    template: Path
    told: dict


def _known(scene: Scene, folder: Path) -> _Known:
    """Plays the scene uninterrupted, once for all; kept in the folder."""
    template, told = folder / "before", folder / "told.json"
    if told.exists():
        return _Known(scene, template, json.loads(told.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    template.mkdir(parents=True)
    for words in scene.before:
        _must(run(command(words), template), " ".join(words))
    after = _copied(template, folder / "after")
    ended = _must(run(scene.action, after), scene.name)
    ends = {"before": _digests(template, scene.files), "after": _digests(after, scene.files)}
    single = {name: [_digest(template / name), _digest(after / name)] for name in scene.single}
    if scene.again is _with_or_without:
        for name, place in (("with", after), ("without", _copied(template, folder / "without"))):
            _must(run(command(["train", "--resume", "run"]), place), f"{scene.name}, {name}")
            ends[name] = _digests(place, scene.files)
    told.write_text(json.dumps({"events": ended.events, "seconds": ended.seconds, "ends": ends, "single": single}))
    return _Known(scene, template, json.loads(told.read_text()))


def _must(ended: Ended, what: str) -> Ended:
    if ended.code:
        raise RuntimeError(f"{what} should work uninterrupted, but exits {ended.code}: {ended.err[-2000:]}")
    return ended


def _copied(template: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(template, place, symlinks=True))


def _killed(known: _Known, watch: Watch, place: Path) -> list[Fault]:
    """Kills the scene once, looks at what is left, and starts again."""
    scene, found = known.scene, []
    _copied(known.template, place)
    run(scene.action, place, watch)
    for name, (old, new) in known.told["single"].items():
        left = _digest(place / name)
        if left not in (old, new):
            found.append(Fault("lost" if left is None else "unequal", f"{name} after the kill is neither old nor new"))
    again = [Next(scene.action, ("after",))] if scene.again is None else scene.again(place)
    for i, (action, ends) in enumerate(again):
        found += faults_of(run(action, place), f"start {i + 1} after the kill", codes=(0,))
        if not found and ends and _digests(place, scene.files) not in [known.told["ends"][end] for end in ends]:
            found.append(Fault("unequal", f"start {i + 1} after the kill leads to other files than {' or '.join(ends)}"))
    if (place / "run").is_dir() and again and (left := [p for p in (place / "run").rglob(".*") if p.name != ".lock"]):
        found.append(Fault("unequal", f"{left[0].name} is left in the run"))
    return found


def _digests(place: Path, names: Sequence[str]) -> dict[str, str | None]:
    return {name: _digest(place / name) for name in names}


def _digest(path: Path) -> str | None:
    """Of a file, or of all in a folder; of metrics without the speed; None where there is nothing."""
    if path.is_dir():
        parts = [f"{p.relative_to(path)} {_digest(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if not path.exists():
        return None
    if path.suffix == ".jsonl":
        lines = [
            {k: v for k, v in json.loads(line).items() if k in ("step", "loss")} for line in path.open(encoding="utf-8")
        ]
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()
