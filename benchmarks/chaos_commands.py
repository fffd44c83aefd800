"""Command lines: wrong flags, types, bounds and places of every verb, streams that fail, and Ctrl-C at random moments."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chaos_checkpoints import _template
from chaos_kills import TRAIN
from chaos_process import Action, Case, Fault, Watch, command, faults_of, run


def _lines(text: str) -> list[list[str]]:
    """Words of command lines, which a bar divides, quoted as in a shell."""
    return [shlex.split(line) for line in text.split("|")]


_VALID: dict[str, list[str]] = {
    "train": [*TRAIN, "--out", "new"],
    "train --resume": ["train", "--resume", "run", "--steps", "6"],
    "train --init": ["train", "--init", "run", "--data", "digits", "--steps", "2", "--out", "new"],
    "sample": ["sample", "run", "--n", "2", "--seed", "1", "--temperature", "1", "--out", "s.png"],
    "evaluate": ["evaluate", "run", "--data", "digits", "--split", "test", "--k", "2", "--images", "4", "--hmc", "0"],
    "doctor": ["doctor", "run", "--samples", "4"],
    "score": ["score", "run", "face", "--k", "2", "--sheet", "2", "--out", "s.csv"],
    "directions": ["directions", "run", "--data", "digits", "--attributes", "label=1"],
    "edit": ["edit", "run", "face/000000.png", "--set", "pc1=+1", "--out", "e.png"],
    "edit --sweep": ["edit", "run", "face/000000.png", "--sweep", "pc1=-1:1:3", "--out", "e.gif"],
    "edit folder": ["edit", "run", "face", "--set", "pc1=1", "--out", "edited"],
    "mix": ["mix", "run", "face/000000.png", "face/000001.png", "--steps", "3", "--out", "m.png"],
    "list": ["list", "."],
}
_NUMBERS = ("-1", "0", "nan", "inf", "-inf", "1e400", "99999999999999999999", "", " ", "x", "0x10", "2.5", "1,", ",", "-0",
            "1_0", "٣", "--")  # fmt: skip
_WORDS = ("", " ", "a\nb", "x" * 300, "../..", "-", "--", "%s", "{0}", "a=b=c", ",", ",,,", "=", "☃", "\udcff", "pc1=nan",
          "pc1=1e999", "pc1=0:1:99999999", "pc1=::", "label=", "[bold]x", "None")  # fmt: skip
_PLACES = (
    *shlex.split("""
    '' ' ' missing missing/deeper face/000000.png face/000000.png/under empty notes.txt /dev/null loop fifo dangling zero
    /proc/self/mem run/recipe.json run/model.safetensors run/state run hf: hf:.. hf:../../x hf:a hf:a/b/c hf:a/b?x digits?
    faces?x=1 faces?smile:age=9 owner/name .
"""),
    "x" * 300,
    "\udcff",
    "a\nb",
)
_OUTPUTS = (*_PLACES, "/dev/full", "x" * 300 + ".png", "e.xyz", "e.PNG", ".png", "deep/er/e.png", "fifo.png", "loop.png",
            "outside.png", "\udcff.png", "run/metrics.jsonl", "run/out.png")  # fmt: skip
_FLAGS = _lines("""
    --nope | --nope 1 | --seed | --out | --set | --help=1 | extra words | -- | --no-cache | --seed 1 --seed 2 |
    --temprature 1 | --model os:system | --model nothing:here | --model : | --model missing | --given x=1 | --given '' |
    --json / | --json face | --json missing/deeper.json | --json run/recipe.json | --split x | --data '' | --resume run |
    --minutes -1 | --minutes nan | --minutes inf | --minutes 0 | --preset x | --track x | --training.rate nan |
    --training.rate -1 | --training.batch 0 | --training.save-every 0 | --training.ema 2 | --size 0 | --size 99999999 |
    --augment x | --model.hidden 0 | --model.hidden -5 | --model.latent-dim 0 | --model.latent-dim 999999999 |
    --training.log-every -3 | --training.precision x | --objective.beta nan | --seed -1 | --observe | --unsupervised 0 |
    --unsupervised -1 | --unsupervised 99999999 | --depth x | --hold x | --inpaint x | --triptych | --force | --overwrite |
    --known x | --draws 0 | --samples -1 | --samples 1 | --features x | --by x | --batch 0 | --batch 99999999999 |
    --trained-on missing
""")
_SAMPLE = ["sample", "run", "--out", "s.png"]
_STREAMS = ("closed", "pipe", "full", "ascii")
_OTHERS = [
    [],
    *_lines("""
    -h | --version | trian | '' | - | train | train vea | train --resume | train --init | tour --jobs 0 | tour --jobs x |
    tour --out face | edit run | mix run | sample | score run | evaluate | list missing | list notes.txt | doctor |
    train vae --out | mix run face/000000.png face/000000.png face/000000.png |
    edit run face/000000.png face/000000.png --set pc1=1 --set pc1=2 | train vae --steps 1 --minutes 1 --out new |
    train --resume run --out new | train --resume run --steps 1 | evaluate run run missing
"""),
]


def cases(root: Path, seed: int, quick: bool) -> list[Case]:
    """400: misuse, streams, interruptions; a tenth of each if quick."""
    template, draw = _template(root, "vae"), random.Random(seed)
    lines = [*_OTHERS, *(_misused(draw) for _ in range(242 - len(_OTHERS)))]
    found = [Case(f"{i} {_shown(words)}", partial(_misuse, template, words)) for i, words in enumerate(lines)]
    starting = [["--help"], ["--version"], ["list", "."], ["train", "vae", "--help"], ["trian"], _SAMPLE]
    streams = [*((words, True) for words in starting), *((words, False) for words in _VALID.values())]
    for (words, fresh), stream in itertools.product(streams, _STREAMS):
        found.append(Case(f"stdout {stream}: {_shown(words)}", partial(_stream, template, words, stream, fresh)))
    for i in range(40):
        words = draw.choice([_SAMPLE, ["list", "."], _VALID["train --resume"]])
        moment = draw.uniform(0, 20) if draw.random() < 0.5 else draw.uniform(0, 3)  # of a slow machine, and a fast one
        found.append(
            Case(f"Ctrl-C {i} while starting {_shown(words)}", partial(_interrupted, template, words, moment, True))
        )
    for i in range(42):
        words = draw.choice(list(_VALID.values()))
        found.append(
            Case(f"Ctrl-C {i} in {_shown(words)}", partial(_interrupted, template, words, draw.uniform(0, 1.5), False))
        )
    return found[::8] if quick else found


def _shown(words: Sequence[str]) -> str:
    return " ".join(ascii(word)[1:-1] for word in words)[:100].replace("/", "-")


def _misused(draw: random.Random) -> list[str]:
    """A valid line with one or two things wrong."""
    words = list(draw.choice(list(_VALID.values())))
    for _ in range(draw.choice([1, 1, 2])):
        kind, place = draw.choice(["value", "value", "place", "flag"]), draw.randrange(1, len(words))
        before = words[place - 1]
        if kind == "flag":
            words += draw.choice(_FLAGS)
        elif before == "--out":
            words[place] = draw.choice(_OUTPUTS)
        elif kind == "place" or not before.startswith("--"):
            words[place] = draw.choice(_PLACES) if not words[place].startswith("--") else draw.choice(_FLAGS)[0]
        else:
            words[place] = draw.choice(_NUMBERS if re.fullmatch(r"[-+\d.]+", words[place]) else _WORDS)
    return words


def _ready(template: Path, place: Path) -> None:
    """A run, pictures, and some things that are not what they seem."""
    shutil.rmtree(place)
    shutil.copytree(template, place)
    (place / "empty").mkdir()
    (place / "notes.txt").write_text("not a run")
    (place.parent / "kept.png").write_bytes((place / "face" / "000000.png").read_bytes())
    for name in ("fifo", "fifo.png"):
        os.mkfifo(place / name)
    links = {
        "loop": "loop",
        "loop.png": "loop.png",
        "dangling": "nowhere",
        "zero": "/dev/zero",
        "outside.png": "../kept.png",
    }
    for name, target in links.items():
        (place / name).symlink_to(target)


def _misuse(template: Path, words: Sequence[str], place: Path) -> list[Fault]:
    _ready(template, place)
    ended = run(command(words), place)
    found = [fault for fault in faults_of(ended, _shown(words)) if not _asked_for(fault, words)]
    kept = ("recipe.json", "model.safetensors", "metrics.jsonl") if words[:1] not in (["train"], ["tour"]) else ()
    changed = [name for name in kept if not _same(template / "run" / name, place / "run" / name)]
    found += [Fault("lost", f"{_shown(words)}: run/{name} was written over") for name in changed]
    if not os.path.lexists(place / "face" / "000001.png"):
        found.append(Fault("lost", f"{_shown(words)}: a picture is gone"))
    return found


def _asked_for(fault: Fault, words: Sequence[str]) -> bool:
    """Whether a write outside is to a place that the command line itself names, the link's target or the home folder."""
    return fault.kind == "outside" and ("kept.png" in fault.detail and "outside.png" in words)


def _same(old: Path, new: Path) -> bool:
    return new.is_file() and hashlib.sha256(old.read_bytes()).digest() == hashlib.sha256(new.read_bytes()).digest()


def _fresh(words: Sequence[str], ascii_only: bool = False) -> Action:
    """The command in an interpreter of its own, which replaces the fork."""

    def start() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        package = str(Path(sys.modules["triptych"].__file__ or "").parents[1])
        environment = {**os.environ, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"}
        if ascii_only:
            environment |= {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
        os.execve(sys.executable, [sys.executable, "-m", "triptych", *words], environment)

    return start


def _stream(template: Path, words: Sequence[str], stream: str, fresh: bool, place: Path) -> list[Fault]:
    """Output that cannot be written ends a command with one line, or silently."""
    _ready(template, place)
    ended = run(_fresh(words, stream == "ascii") if fresh else command(words), place, Watch(stdout=stream))
    return faults_of(
        ended,
        f"stdout {stream}: {_shown(words)}",
        codes=(0, 2) if stream in ("ascii", "closed") else (0, 1, 2, 128 + signal.SIGPIPE),
    )


def _interrupted(template: Path, words: Sequence[str], moment: float, fresh: bool, place: Path) -> list[Fault]:
    """Ctrl-C ends a command without a traceback, and a training can go on."""
    _ready(template, place)
    ended = run(_fresh(words) if fresh else command(words), place, Watch(interrupt_after=moment))
    what = f"Ctrl-C after {moment:.2f} s in {_shown(words)}"
    found = faults_of(ended, what, codes=(0, 130, -signal.SIGINT))
    if fresh and f"{os.sep}triptych{os.sep}" not in ended.err:  # while Python itself starts, before the package's first line
        found = [fault for fault in found if fault.kind != "traced back"]
    if words[:1] == ["train"]:
        run_of = "new" if (place / "new").exists() else "run"
        found += faults_of(run(command(["train", "--resume", run_of]), place), f"{what}, then --resume {run_of}", codes=(0,))
    return found
