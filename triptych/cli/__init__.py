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
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, get_args, get_type_hints

from triptych.cli import terminal
from triptych.cli.places import check_places
from triptych.errors import OUT_OF_MEMORY, Between, TriptychError, is_out_of_memory, unknown
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
    "compare": (
        "triptych.cli.comparing",
        "runs side by side on one page: every figure, and pictures from the same seeds",
    ),
    "mix": ("triptych.cli.verbs", "walk from one picture to another, or span a square between four"),
    "list": ("triptych.cli.listing", "the runs below a folder, with data, step, main figures and disk used"),
    "studio": ("triptych.cli.serving", "the same verbs in the browser, with sliders, and as a REST API"),
    "tour": (
        "triptych.cli.tour",
        "train all families on the embedded faces, and measure what each can do: a report, in minutes",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 2 for bad input, 130 after Ctrl-C, 141 where nobody reads the output."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words
    words = [w for w in words if w != "--traceback"]
    with terminal.writable(), terminal.interruptible() as asked:
        try:
            code = _run(words, asked, traceback)
            terminal.flush()
            return code
        except SystemExit:
            terminal.flush()
            raise
        except BrokenPipeError:
            terminal.abandon()
            return 141
        except OSError:  # of an output that cannot be written, which `_run` has said
            if traceback:
                raise
            terminal.abandon()
            return 2


def _run(words: list[str], asked: list[int], traceback: bool) -> int:
    """The exit code of a command, whose failures are a line.

    Args:
        asked: holds the signals that have asked the command to stop.
    """
    try:
        with shown():
            _dispatch(words)
            terminal.flush()
            return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        is_explained = isinstance(error, TriptychError | OSError) or is_out_of_memory(error)
        if is_explained and not traceback:
            said = _fail(_sentence(error))
            return 130 if asked else said
        if is_explained or not asked:
            raise
        return 130  # what a library makes of an interrupt, such as an import that failed


def _sentence(error: Exception) -> str:
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, OSError):  # that no reader or writer has explained
        reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
        return f"{error.filename}: {reason}" if error.filename else reason
    return str(error)


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return
    if words[0] == "--version":
        import triptych

        print(f"triptych {triptych.__version__}")
        return
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    module = importlib.import_module(COMMANDS[command][0])
    if _NO_CACHE not in rest:
        getattr(module, command)(rest)
        return
    from triptych.data.stored import uncached

    with uncached():
        getattr(module, command)([word for word in rest if word != _NO_CACHE])


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
    """The command's options from its words, by tyro, whose boxed errors become one line; numbers are in their bounds.

    Args:
        known_only: returns the options, and the words that they do not know.
    """
    import tyro

    cli: Any = partial(tyro.cli, kind, args=list(arguments), prog=prog, return_unknown_args=known_only)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = cli()
    except SystemExit as stop:
        if not stop.code:
            raise
        raise TriptychError(_one_line(_boxed(cli), prog)) from None
    _check_bounds(kind, found[0] if known_only else found)
    check_places(found)
    return found


def _check_bounds(kind: type, options: Any) -> None:
    """Raises for a number outside of the bounds that its annotation names."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        value = getattr(options, name, None)
        for part in (hint, *get_args(hint)):
            for bounds in getattr(part, "__metadata__", ()):
                if isinstance(bounds, Between) and value is not None:
                    bounds.check(f"--{name.replace('_', '-')}", value)


def _boxed(cli: Callable[[], Any]) -> str:
    """What tyro says against the words, in lines that are not broken at the terminal's width."""
    said, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            cli()
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({} if before is None else {"COLUMNS": before})
    return said.getvalue()


# what tyro and Python say of a word, and how a person would
_PLAINER = (
    (r"no type matching (?:\{None\}\|)?(\S+) could be instantiated from \[(.*?)\]\..*", r"expected \1, got \2"),
    (r"invalid literal for int\(\) with base 10: ", "expected a whole number, got "),
    (r"could not convert string to float: ", "expected a number, got "),
)


def _one_line(boxed: str, prog: str) -> str:
    """The first sentences of tyro's box, without the frame, and the colours that it has on a terminal."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", boxed)
    text = [re.sub(r"[╭╮╰╯│─]|[-+]{5,}|^\||\|$", " ", line).strip() for line in plain.splitlines()]
    body = [line for line in text[1:] if line and not line.startswith(("For full helptext", "Argument helptext"))]
    said = " ".join(body[:2] if body[0].startswith("Error parsing") else body[:3])
    for pattern, words in _PLAINER:
        said = re.sub(pattern, words, said)
    return f"{said} ({prog} --help tells more)"


def _fail(message: str) -> int:
    plain = "".join(c if c.isprintable() else " " if c.isspace() else f"\\x{ord(c):02x}" for c in message)
    print(f"triptych: {' '.join(plain.split())}", file=sys.stderr)
    return 2
