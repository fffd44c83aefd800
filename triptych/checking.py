"""Arguments, checked against their annotations where a public function or class takes them.

`guard(__name__)` at the end of a room's `__init__` checks what the room exports; inside the rooms calls go unchecked. Each
annotation says what its argument may be, and this file alone what that means:

    Tensor                  a tensor of at least one number, none NaN; not infinite but where a function may take scores
    int, float              a whole, a finite number, no truth value; within `BOUNDS`, by the argument's name
    Literal, a class        one of the choices, an instance
    Sequence, Mapping, …    a container of these; in a mapping NaN is a value that is not known, or was measured

What passes, and does not fit together all the same (shapes, ranks, lengths), is one line that names the shapes.
"""

from __future__ import annotations

import collections.abc as abc
import functools
import inspect
import sys
import types
from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from triptych.errors import TriptychError, check_range, check_size, within_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BOUNDS: dict[str, tuple[float, float]] = {
    "batch": (1, 1e6),
    "batch_size": (1, 1e9),
    "bits": (1, 16),
    "blocks": (0, 1_000),
    "chains": (1, 65_536),
    "channels": (1, 1e9),
    "columns": (1, 65_536),
    "components": (1, 65_536),
    "context_dim": (0, 65_536),
    "couplings": (0, 1_000),
    "count": (0, 1e9),
    "depth": (0, 65_536),
    "dims": (1, 1e12),
    "draws": (1, 1e6),
    "folds": (2, 1_000),
    "hmc": (0, 1e6),
    "images": (0, 1e9),
    "inputs": (1, 1e9),
    "k": (1, 1e6),
    "keep": (0, 1e9),
    "latent_dim": (1, 1e6),
    "levels": (0, 64),
    "n": (1, 1e9),
    "outputs": (1, 1e9),
    "pairs": (1, 1e6),
    "patches": (1, 1e6),
    "projections": (1, 1e6),
    "rate": (1e-12, 1e3),
    "resamples": (1, 1e6),
    "restarts": (1, 1e4),
    "samples": (1, 1e6),
    "seed": (0, 2**63 - 1),
    "steps": (0, 1e12),
    "temperature": (0, 100),
    "width": (1, 65_536),
}
"""What a number may be that is called so, ends included; a function may ask for less."""
_NOT_FITTING = (RuntimeError, ValueError, IndexError, TypeError, KeyError, ArithmeticError, AttributeError, AssertionError)
# what the numbers of a tensor may be, in words
_FINITE, _NO_NAN, _ANY, _OWN = ", none infinite or NaN", ", none NaN", "", "whatever the function itself allows"
_CONTAINERS = (abc.Sequence, abc.Iterable, list, tuple, abc.Collection)
F = TypeVar("F", bound=Callable[..., Any])


def guard(module: str, infinite: Collection[str] = (), unknown: Collection[str] = (), own: Collection[str] = ()) -> None:
    """Puts `checked` round every function that a module exports, and round how its classes are made.

    Args:
        infinite: functions whose tensors may be infinite, such as log-likelihoods.
        unknown: functions whose tensors may hold anything, since they read a part of them.
        own: functions and classes that look at their arguments themselves.
    """
    room, said = vars(sys.modules[module]), {_OWN: own, _ANY: unknown, _NO_NAN: infinite}
    for name in room["__all__"]:
        found = room.get(name)
        if inspect.isclass(found) and issubclass(found, Exception):
            continue
        if inspect.isclass(found) and "__init__" in vars(found):
            if not hasattr(found.__init__, "__wrapped__"):
                how = _OWN if name in own else _FINITE
                setattr(found, "__init__", checked(vars(found)["__init__"], name, how))  # noqa: B010  # a class takes it so
        elif inspect.isfunction(found):
            room[name] = checked(found, name, next((values for values, names in said.items() if name in names), _FINITE))


def checked(function: F, name: str, values: str = _FINITE, fit: bool = True) -> F:
    """The function, whose arguments are looked at before it runs.

    Args:
        values: what the numbers of its tensors may be.
        fit: whether what it raises means that its arguments do not fit together.

    Raises:
        TriptychError: for an argument that its annotation does not allow, for arguments that do not fit together, and for
            memory that cannot be had.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TriptychError(f"{name}: {error}; see help({name})") from None
        hints = {} if values == _OWN else _hints(function)
        for key, value in given.items():
            if key in hints and signature.parameters[key].kind not in _SEVERAL:
                check_argument(key, value, hints[key], values)
        try:
            with within_memory():
                return function(*args, **kwargs)
        except _NOT_FITTING as error:
            if not fit or _is_anothers(error) or any(inspect.isfunction(value) for value in given.values()):
                raise
            shapes = ", ".join(f"{key} {said}" for key, value in given.items() if (said := _shape(value)))
            reason = " ".join(str(error).split()).partition(" The above")[0][:160] or type(error).__name__
            raise TriptychError(
                f"{name}: its arguments do not fit together ({shapes or 'none has a shape'}): {reason}"
            ) from error

    return call  # type: ignore[return-value]


_SEVERAL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_anothers(error: BaseException) -> bool:
    """Whether an error says itself what is to be done: our own, a capability that is lacking, or memory's."""
    # torch says "not implemented for" of a dtype
    lacking = isinstance(error, NotImplementedError) and "not implemented for" not in str(error)
    return isinstance(error, TriptychError) or lacking or "memory" in str(error).lower()


def check_argument(name: str, value: Any, hint: Any, values: str = _FINITE) -> None:
    """Raises a `TriptychError` unless an argument is what its annotation says, within the `BOUNDS` of its name."""
    problem = _problem(value, hint, values)
    if problem:
        raise TriptychError(f"{name} should be {problem}, got {described(value)}")
    if name in BOUNDS and isinstance(value, Real):
        low, high = BOUNDS[name]
        if isinstance(value, Integral) and low == int(low):  # NumPy's are too
            check_size(name, int(value), int(high), int(low))
        else:
            check_range(name, float(value), low, high)


def check_numbers(values: Tensor, dtype: torch.dtype | None, symbol: Literal["x", "z"], look: bool) -> Tensor:
    """The tensor itself, if it is of a model's dtype and, where one is to look, finite; else a `TriptychError`."""
    what = {"x": "the data", "z": "the codes"}[symbol]
    if dtype is not None and values.dtype != dtype:
        convert = f"convert one, such as {symbol}.to({dtype})"
        read = "stored values become model coordinates by x=model.codec.encode(stored)"
        advice = convert if values.is_floating_point() or symbol == "z" else read
        raise TriptychError(f"{what} are {values.dtype}, the model is {dtype}: {advice}")
    if look and not values.isfinite().all():
        raise TriptychError(f"{what} hold NaN or infinity: remove or impute those values first")
    return values


def _problem(value: Any, hint: Any, values: str = _FINITE) -> str:
    """What was expected, in words; empty where the value is that."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        problems = [_problem(value, part, values) for part in inner]
        return "" if "" in problems else " or ".join(dict.fromkeys(problems))
    if origin is Literal:
        return "" if any(value == choice for choice in inner) else f"one of {', '.join(map(str, inner))}"
    if hint is Any:
        return ""
    if hint is None or hint is type(None):
        return "" if value is None else "None"
    if hint in (int, float):
        return _number(value, hint)
    if _is_tensor_type(hint):
        return _tensor(value, values)
    if origin in (abc.Mapping, dict):
        return _mapping(value, inner)
    if origin in _CONTAINERS or hint in _CONTAINERS:
        return _container(value, origin or hint, inner, values)
    if origin in (abc.Callable, type) or hint is Callable:
        return "" if callable(value) else "a function"
    if hint is np.ndarray:  # what numpy makes one of
        return "" if _shape(value) or (isinstance(value, abc.Sequence) and not isinstance(value, str)) else "an array"
    kind = origin or hint
    if not inspect.isclass(kind) or getattr(kind, "_is_protocol", False):
        return ""
    return "" if isinstance(value, kind) else _named(kind)


def _number(value: Any, hint: type) -> str:
    wanted = "a whole number" if hint is int else "a finite number"
    kind = Integral if hint is int else Real
    return "" if isinstance(value, kind) and not isinstance(value, bool) and abs(value) < float("inf") else wanted  # type: ignore[operator]


def _tensor(value: Any, values: str) -> str:
    import torch

    wanted = f"a tensor of at least one number{values}"
    if not isinstance(value, torch.Tensor) or not value.numel():
        return wanted
    if value.is_complex():
        return "a tensor of real numbers"
    if values == _ANY or not value.is_floating_point():
        return ""
    good = value.isfinite() if values == _FINITE else ~value.isnan()
    return "" if bool(good.all()) else wanted


def _mapping(value: Any, inner: tuple[Any, ...]) -> str:
    if not isinstance(value, abc.Mapping):
        return "a mapping, such as a dictionary"
    if inner and inner[0] is str and not all(isinstance(key, str) for key in value):
        return "a mapping whose keys are names"
    return next((f"a mapping to {problem}" for one in value.values() if (problem := _loosely(one, inner[1:]))), "")


def _loosely(value: Any, hints: tuple[Any, ...]) -> str:
    """Arrays of a mapping hold NaN where a value is not known, and records hold what was measured, finite or not."""
    if not hints or isinstance(value, np.ndarray | float) or (_is_tensor_type(type(value)) and value.numel()):
        return ""
    return _problem(value, hints[0])


def _container(value: Any, kind: Any, inner: tuple[Any, ...], values: str) -> str:
    if kind is tuple and not isinstance(value, abc.Sequence):
        return "a tuple"
    if (isinstance(value, str | bytes) and str not in inner) or not isinstance(value, abc.Iterable):
        return f"several of: {_problem(None, inner[0], values) or 'values'}" if inner else "a sequence"
    if _shape(value):  # an array in place of a list, such as torch.linspace(-1, 1, 9)
        array: Any = value
        if array.ndim != 1:
            return f"several of: {_problem(None, inner[0], values) or 'values'}" if inner else "a sequence"
        if getattr(array, "is_meta", False):  # laid out without memory: its numbers are not there
            return ""
        value = array.tolist()
    if not isinstance(value, abc.Sequence) or not inner:
        return ""
    hints = [inner[0]] * len(value) if len(inner) == 1 or inner[-1] is ... else list(inner)
    if len(hints) != len(value):
        return f"{len(hints)} values"
    return next(
        (f"several of: {p}" for one, hint in zip(value, hints, strict=True) if (p := _problem(one, hint, values))), ""
    )


def _is_tensor_type(kind: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and kind is getattr(torch, "Tensor", None)


def _named(kind: type) -> str:
    return {"Module": "a torch.nn.Module", "str": "text", "Path": "a path", "bool": "True or False"}.get(
        kind.__name__, f"a {kind.__name__}"
    )


def described(value: Any) -> str:
    """What came, in a few words.

    >>> described(float("nan")), described("text"), described(np.zeros((2, 3)))
    ('nan', "'text'", 'ndarray (2, 3)')
    """
    if shape := _shape(value):
        return f"{type(value).__name__} {shape}" + _holes(value)
    if value is None or isinstance(value, str | int | float):
        said = repr(value)
        return said if len(said) <= 60 else f"{said[:60]}…"
    return f"a {type(value).__name__}"


def _holes(value: Any) -> str:
    if _is_tensor_type(type(value)) and value.is_floating_point() and (bad := int((~value.isfinite()).sum())):
        return f" with {bad} not finite"
    return ""


def _shape(value: Any) -> str:
    """The shape of an array or tensor, in words; empty for what has none."""
    array = isinstance(value, np.ndarray) or _is_tensor_type(type(value))
    return str(tuple(value.shape)) if array else ""


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations by name; those that name what only a type checker imports are left out."""
    try:
        return get_type_hints(function)
    except NameError:
        return {name: hint for name in inspect.signature(function).parameters if (hint := _hint(function, name)) is not None}


def _hint(function: Callable[..., Any], name: str) -> Any:
    import torch

    text = function.__annotations__.get(name)
    try:
        return eval(text, {**function.__globals__, "torch": torch}) if isinstance(text, str) else text  # our own annotations
    except NameError:
        return None
