"""The command line: the library's verbs in a terminal.

Errors are one line and exit 2; `--traceback` shows where they came from. Ctrl-C saves, says how to go on, and exits 130.
Torch is imported only by the verb that needs it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from triptych.errors import TriptychError, unknown
from triptych.progress import shown

T = TypeVar("T")

COMMANDS = {
    "train": ("triptych.cli.training", "train a model on a data set, resume a run, or fine-tune one"),
    "evaluate": ("triptych.cli.evaluating", "likelihoods, bits/dim, latent measures, sample quality, with n and error bars"),
    "doctor": ("triptych.cli.measuring", "what is wrong with a training, with evidence and a remedy"),
    "sample": ("triptych.cli.sampling", "draw new examples, of a conditional model under --given smile=1,glasses=yes"),
    "score": (
        "triptych.cli.scoring",
        "how unlike the training data each example is, as a CSV; the least likely as a sheet",
    ),
    "directions": ("triptych.cli.directing", "learn, judge and store edit directions"),
    "edit": (
        "triptych.cli.editing",
        "change attributes of pictures or a folder: --set smile=1.5; --sweep; --inpaint left",
    ),
    "mix": ("triptych.cli.verbs", "walk from one picture to another, or span a square between four"),
    "list": ("triptych.cli.listing", "the runs below a folder, with data, step, main figures and disk used"),
    "studio": ("triptych.cli.serving", "the same verbs in the browser, with sliders, and as a REST API"),
    "tour": ("triptych.cli.tour", "train on the embedded faces, score, sample and smile, in minutes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words
    words = [w for w in words if w != "--traceback"]
    previous = _terminate_like_ctrl_c()
    try:
        with shown():
            return _dispatch(words)
    except TriptychError as error:
        if traceback:
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 1
    except MemoryError:
        return _fail("not enough memory: lower --training.batch, --size or the model's width")
    finally:
        _restore(previous)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        import triptych

        print(f"triptych {triptych.__version__}")
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    module = importlib.import_module(COMMANDS[command][0])
    if _NO_CACHE not in rest:
        getattr(module, command)(rest)
        return 0
    from triptych.data.stored import uncached

    with uncached():
        getattr(module, command)([word for word in rest if word != _NO_CACHE])
    return 0


_NO_CACHE = "--no-cache"


def _usage() -> str:
    lines = ["usage: triptych COMMAND …    (triptych COMMAND --help tells more)", ""]
    lines += [f"  {name:<11} {sentence}" for name, (_, sentence) in COMMANDS.items()]
    lines += [
        "",
        "  --traceback  show where an error came from",
        "  --no-cache   decode pictures and learn features anew, and keep neither",
        "",
        "DATA is faces, digits, mnist, fashion-mnist, a folder under $TRIPTYCH_DATA, a folder of pictures",
        "(with an optional metadata.csv), a parquet, npz, npy or IDX file, or hf:owner/name.",
    ]
    return "\n".join(lines)


def parse(kind: type[T], arguments: Sequence[str], prog: str, *, known_only: bool = False) -> Any:
    """The command's options from its words, by tyro, whose boxed errors become one line.

    Args:
        known_only: returns the options, and the words that they do not know.
    """
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=list(arguments), prog=prog, return_unknown_args=known_only)  # type: ignore[call-overload]
    except SystemExit as stop:
        if not stop.code:
            raise
        raise TriptychError(_one_line(said.getvalue(), prog)) from None


def _one_line(boxed: str, prog: str) -> str:
    """The first sentences of tyro's box, without the frame, and the colours that it has on a terminal."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", boxed)
    text = [re.sub(r"[╭╮╰╯│─]", " ", line).strip() for line in plain.splitlines()]
    body = [line for line in text[1:] if line and not line.startswith(("For full helptext", "Argument helptext"))]
    return f"{' '.join(body[:3])} ({prog} --help tells more)"


def _fail(message: str) -> int:
    print(f"triptych: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _terminate_like_ctrl_c() -> Any:
    """SIGTERM (a scheduler's farewell) saves as Ctrl-C does; only a main thread may set handlers."""
    try:
        return signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:
        return None


def _restore(previous: Any) -> None:
    if previous is not None:
        signal.signal(signal.SIGTERM, previous)
