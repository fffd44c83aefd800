"""Errors that are meant for a person, and the checks of arguments that raise them."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class TriptychError(Exception):
    """Something a user can mend: bad input, a missing file, a model asked for what it cannot do.

    The message is one line that says what was expected, what came, and what to do. The command line prints it without a
    traceback and exits with 2.
    """

    def __init__(self, message: str = ""):
        super().__init__(" ".join(message.split()))


class NotSupported(TriptychError, AttributeError):
    """A model was asked for a capability that it does not have; the message names the alternative.

    It is an `AttributeError` too, so that `hasattr(gan, "encode")` is False.
    """


OUT_OF_MEMORY = (
    "not enough memory: lower the number or the size of the examples, the batch, or the model's width and depth (on the "
    "command line --n, --size, --training.batch)"
)
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: Python's own, torch's on a CPU, or that of an accelerator.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"))
    True
    """
    said = str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(part in said for part in _NO_MEMORY))


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Turns memory that cannot be had, where a caller's numbers ask for it, into one line.

    >>> with within_memory():
    ...     raise MemoryError
    Traceback (most recent call last):
        ...
    triptych.errors.TriptychError: not enough memory: lower ...
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TriptychError(OUT_OF_MEMORY) from error


def not_finite(what: str) -> TriptychError:
    """The error for a model that computes NaN or infinity.

    >>> str(not_finite("weights (decoder.1.weight)"))[:55]
    "the model's weights (decoder.1.weight) are not finite: "
    """
    return TriptychError(
        f"the model's {what} are not finite: go on from a checkpoint before with triptych train --resume, or train it anew "
        "with a lower --training.rate"
    )


def unknown(what: str, name: object, known: Iterable[object], advice: str = "") -> TriptychError:
    """The error for a name that is not among the known ones: it offers the nearest, or else lists them all.

    >>> str(unknown("mask", "lefft", ["left", "right"]))
    "unknown mask 'lefft': did you mean left?"
    >>> str(unknown("mask", "x", ["left", "right"]))
    "unknown mask 'x': choose left or right"
    """
    names = [str(k) for k in known]
    near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {_either(near)}?"
    else:
        hint = f"choose {_either(names)}" if names else "none are known here"
    return TriptychError(f"unknown {what} {_short(name, 300)}: {hint}{advice}")


def _either(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def check_choice(name: str, value: object, choices: Iterable[Any]) -> None:
    """Raises a `TriptychError` for a value that is not among the choices, and names them.

    >>> check_choice("norm", "batch", ("pixel", "batch"))
    """
    choices = list(choices)
    if value not in choices:
        raise TriptychError(f"{name} should be one of {', '.join(map(str, choices))}, got {_short(value)}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises a `TriptychError` for a number outside [low, high].

    >>> check_range("drop", 0.5, 0, 0.99)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise TriptychError(f"{name} should be a number from {_plain(low)} to {_plain(high)}, got {_short(value)}")


def _plain(number: float) -> str:
    """A bound as a person writes it: 2^63 − 1, 1e+12, 65536, 0.5."""
    power = int(number + 1).bit_length() - 1
    if power > 30 and number + 1 == 2**power:
        return f"2^{power} − 1"
    return f"{number}" if isinstance(number, int) and number < 1e7 else f"{number:g}"


def _short(value: object, most: int = 60) -> str:
    said = " ".join(repr(value).split())
    return said if len(said) <= most else f"{said[:most]}…"


class Between(NamedTuple):
    """What a number may be, both ends included: written into its annotation, `Annotated[int, Between(1, 9)]`."""

    low: float
    high: float

    def check(self, name: str, value: Any) -> None:
        """Raises a `TriptychError` for a number outside of them."""
        check_range(name, value, self.low, self.high)


def check_size(name: str, value: int, most: int = 65_536, least: int = 1) -> None:
    """Raises a `TriptychError` for anything but a whole number from `least` to `most`.

    >>> check_size("width", 32)
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise TriptychError(f"{name} should be a whole number from {least} to {_plain(most)}, got {_short(value)}")


def check_layers(name: str, sizes: Iterable[int], most: int = 64) -> None:
    """Raises a `TriptychError` unless `sizes` are up to `most` layer sizes from 1 to 65,536.

    >>> check_layers("hidden", (500, 500))
    """
    sizes = list(sizes)
    if len(sizes) > most:
        raise TriptychError(f"{name} should be up to {most} layers, got {len(sizes)}")
    for size in sizes:
        check_size(f"each size in {name}", size)
