"""In which mode modules and threads compute: eval mode where something is measured, parameters without gradients, and
subnormal numbers as zeros."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")


def flush_subnormals() -> None:
    """Subnormal numbers are zeros in this thread, and in those that it starts: before its first parallel operation, since a
    flush after the pool of workers exists misses them."""
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # NumPy before 2.4 looks once for the smallest number, and warns where it finds a zero
    torch.set_flush_denormal(True)


class _Shared:
    """What a block of code sets on parts for as long as it runs, also where several threads run such blocks at once: the
    first that comes sets it, the last that leaves puts back what was there."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collection of garbage may come here again
        self._held: dict[int, tuple[int, Any]] = {}  # by the part's address: how many hold it, and what was there before

    @contextlib.contextmanager
    def held(self, parts: list[Any], name: str, change: Callable[[], object]) -> Iterator[None]:
        """Inside, `change` has been made to the attribute `name` of each part."""
        counted = []  # a change that raises leaves no count behind
        try:
            with self._lock:
                for part in parts:
                    count, before = self._held.get(id(part), (0, getattr(part, name)))
                    self._held[id(part)] = count + 1, before
                    counted.append(part)
                change()
            yield
        finally:
            with self._lock:
                for part in counted:
                    count, before = self._held.pop(id(part))
                    if count > 1:
                        self._held[id(part)] = count - 1, before
                    else:
                        setattr(part, name, before)


_evaluated, _frozen = _Shared(), _Shared()


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Eval mode inside; outside, once no thread is inside any more, every module has the mode that it had."""
    parts = list({id(part): part for module in modules for part in module.modules()}.values())
    with _evaluated.held(parts, "training", lambda: [module.eval() for module in modules]):
        yield


def in_eval_mode(function: Callable[P, R]) -> Callable[P, R]:
    """The function with every module among its arguments in eval mode while it runs.

    What measures, samples or edits must not teach a batch norm from its data, nor drop units: a decorator of every public
    function of the kind, and of a model's own methods.

    >>> layer = nn.Dropout(0.5)
    >>> in_eval_mode(lambda module: module.training)(layer), layer.training
    (False, True)
    """

    @functools.wraps(function)
    def evaluated(*args: P.args, **kwargs: P.kwargs) -> R:
        with evaluating(*(value for value in (*args, *kwargs.values()) if isinstance(value, nn.Module))):
            return function(*args, **kwargs)

    return evaluated


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradient with respect to the module's parameters inside; what passes through it has its own."""
    parameters = list(module.parameters())
    with _frozen.held(parameters, "requires_grad", lambda: module.requires_grad_(False)):
        yield
