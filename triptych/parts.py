"""Parts: modules and codecs that remember what they were built with, so that a checkpoint can store how a model is made.

A model is a tree of parts. Its description is plain JSON, one object for each part:

    {"type": "VAE", "arguments": {"latent_dim": 20, "encoder": {"type": "MLP", "arguments": {…}}, …}}
    {"own": "MyEncoder"}          a user's module: its weights are in the checkpoint, the module itself is given on loading

Building from a description imports nothing that it names: types are looked up in a table that the library gives.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABCMeta
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from triptych.errors import TriptychError, unknown

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class PartType(ABCMeta):
    """The type of parts: calling it keeps the constructor's arguments, defaults included, as `arguments`."""

    @property
    def __signature__(cls) -> inspect.Signature:
        """The constructor's, which tools would not find behind `__call__`."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        part = super().__call__(*args, **kwargs)
        if "arguments" not in part.__dict__:
            signature = inspect.signature(cls.__init__)  # type: ignore[misc]
            bound = signature.bind(part, *args, **kwargs)
            bound.apply_defaults()
            named = [(n, v) for n, v in bound.arguments.items() if signature.parameters[n].kind not in _VARIADIC]
            object.__setattr__(part, "arguments", dict(named[1:]))
        return part


class Part(metaclass=PartType):
    """Something that a checkpoint can describe by its type and arguments.

    Attributes:
        arguments: what the constructor was called with, by name.
    """

    arguments: dict[str, Any]


def describe(part: object) -> dict[str, Any]:
    """A part as JSON: its type and arguments; parts inside are described as they are now, not as they were given.

    A user's own part, a subclass of one of the library's too, is described by its name alone.

    Raises:
        TriptychError: for an argument that JSON cannot hold.

    >>> from triptych.nets import MLP
    >>> describe(MLP((4,), (8,), 2))["type"]
    'MLP'
    """
    return _described(part, set())


def _described(part: object, seen: set[int]) -> dict[str, Any]:
    if isinstance(part, nn.Module) and id(part) in seen:
        raise TriptychError(
            f"a {type(part).__name__} stands in two places of the model, which a checkpoint cannot hold: give each its own"
        )
    seen.add(id(part))
    if not isinstance(part, Part) or not _is_ours(part):
        return {"own": type(part).__name__}
    arguments = {name: _plain(_current(part, name, value), seen, f"{type(part).__name__}.{name}")
                 for name, value in part.arguments.items()}  # fmt: skip
    return {"type": type(part).__name__, "arguments": arguments}


def _is_ours(part: object) -> bool:
    return type(part).__module__.startswith("triptych.")


def _current(part: Part, name: str, value: object) -> object:
    """What stands in the argument's place now: the module of its name, unless the argument was a number or a text."""
    module = getattr(part, "_modules", {}).get(name)
    if module is None and value is None:
        return part.__dict__.get(name)  # a codec, say, that was left out
    return value if module is None or isinstance(value, bool | int | float | str) else module


def _plain(value: object, seen: set[int], where: str) -> Any:
    if isinstance(value, nn.ModuleList):
        return [_described(part, seen) for part in value]
    if isinstance(value, Part | nn.Module):
        return _described(value, seen)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(v, seen, where) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v, seen, where) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: _plain(v, seen, where) for k, v in dataclasses.asdict(value).items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TriptychError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold: use numbers, text or parts")


def build(description: Any, types: Mapping[str, type], given: Mapping[str, Any] | None = None) -> Any:
    """The part of a description, its own weights not set.

    Args:
        types: what a description may name.
        given: a user's own modules by their place in the tree, such as {"encoder": module} or {"bijection.parts.0.net": …}.

    Raises:
        TriptychError: for a type that is not in the table, an own part that is not given, and a given one without a place.
    """
    given, places = dict(given or {}), dict(_places(description, ""))
    for name in given:
        if name not in places:
            raise unknown("part of the saved model", name, [place for place in places if place])
    missing = {place: own for place, own in places.items() if own and place not in given}
    if missing:
        again = ", ".join(f'"{place or "model"}": {own}(…)' for place, own in missing.items())
        raise TriptychError(
            f"the model was saved with parts of its user's ({', '.join(missing.values())}), give them again: "
            f"triptych.load(run, **{{{again}}}), or --model on the command line"
        )
    return _built(description, types, given, "")


def _places(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """The place of every part in a description, with the name of a user's own ("" for the library's)."""
    if isinstance(value, list):
        for i, v in enumerate(value):
            yield from _places(v, f"{place}.{i}")
    elif isinstance(value, dict):
        yield place, value["own"] if set(value) == {"own"} else ""
        arguments = value.get("arguments")
        for name, v in arguments.items() if isinstance(arguments, dict) else ():
            yield from _places(v, f"{place}.{name}" if place else name)


def _built(value: Any, types: Mapping[str, type], given: Mapping[str, Any], place: str) -> Any:
    if isinstance(value, list):
        return [_built(v, types, given, f"{place}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, dict) or place in given:
        return given.get(place, value)
    if set(value) != {"type", "arguments"}:
        return value
    if value["type"] not in types:
        raise unknown("part of type", value["type"], types)
    prefix = f"{place}." if place else ""
    return types[value["type"]](**{k: _built(v, types, given, prefix + k) for k, v in value["arguments"].items()})


def call(part: nn.Module, x: Tensor, context: Tensor | None) -> Any:
    """part(x), or part(x, context) where there is a context: parts of unconditional models need not know of any.

    Raises:
        TriptychError: where a user's own part cannot be called so, with what it was called with and what it said.
    """
    inputs = (x,) if context is None else (x, context)
    try:
        return part(*inputs)
    except (TypeError, RuntimeError) as error:
        if _is_ours(part):
            raise
        shapes = " and ".join(str(tuple(i.shape)) for i in inputs)
        reason = str(error).strip().partition("\n")[0]
        raise TriptychError(f"{type(part).__name__} cannot be called with {shapes}: {reason}") from error


def check_part(part: Any, what: str, *arguments: str, kind: type = nn.Module) -> Any:
    """The part itself if it is of its kind, and its forward takes the named arguments; else a `TriptychError`."""
    if not isinstance(part, kind):
        raise TriptychError(f"{what} should be a {kind.__module__.partition('.')[0]} {kind.__name__}, got {part!r:.60}")
    try:
        if arguments:
            inspect.signature(part.forward).bind(*arguments)  # type: ignore[attr-defined]
    except TypeError as error:
        wanted = f"forward({', '.join(arguments)})"
        raise TriptychError(f"{what} ({type(part).__name__}) should take {wanted}: {error}") from error
    return part


def check_output(part: nn.Module, what: str, output: object, expected: tuple[int, ...]) -> Tensor:
    """The output itself if it is a tensor of the expected shape, else a `TriptychError` that names the part and both."""
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if got != expected:
        raise TriptychError(f"{what} ({type(part).__name__}) should return {expected}, got {got}: change its last layer")
    return output  # type: ignore[return-value]
