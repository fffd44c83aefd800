"""Reads commands (JSON lists of words) and says which of them would not be understood; none does its work.

Run as a script, in a process of its own: a command's arguments are parsed by its own parser, and there it ends.
"""

import argparse
import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import triptych.cli as cli
from triptych.families import FAMILIES

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


class Understood(BaseException):
    """Raised when the arguments have been parsed."""


def parse(kind, words, prog, *, known_only=False):
    """As the command line's own, and then it ends; what `--resume RUN` does not know belongs to the family of the run."""
    found = understood(kind, words, prog, known_only=known_only)
    if known_only and found[1]:
        families(found[1], prog)
    raise Understood


def families(words, prog):
    from triptych.cli.options import train_options

    for family in FAMILIES.values():
        with contextlib.suppress(cli.TriptychError):
            understood(train_options(family), words, prog)
            return
    raise cli.TriptychError(f"no family knows {words}")


def parse_args(self, *arguments, **options):
    parsed(self, *arguments, **options)
    raise Understood


understood, parsed = cli.parse, argparse.ArgumentParser.parse_args


def run(words):
    if words[0] == "triptych" and len(words) == 2:
        assert words[1] in cli.COMMANDS
    elif words[0] == "triptych":
        cli._dispatch(words[1:])
    else:
        sys.argv = [words[1], *words[2:]]
        runpy.run_path(str(BENCHMARKS / Path(words[1]).name), run_name="__main__")
        raise AssertionError("it parses no arguments")


def complaint(words):
    """Why the command is not understood, or None."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run(words)
    except Understood:
        return None
    except SystemExit as stop:
        return said.getvalue() if stop.code else None  # --help ends so, with 0
    except Exception as error:  # whatever it is, it is what the command would say
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":  # not where pytest looks for doctests: what is replaced here would be so for all tests
    cli.parse, cli.check_places, argparse.ArgumentParser.parse_args = parse, lambda options: None, parse_args
    sys.path.insert(0, str(BENCHMARKS))
    for line in sys.stdin:
        if reason := complaint(words := json.loads(line)):
            print(" ".join(words), "->", reason.strip(), flush=True)
