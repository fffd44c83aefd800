"""In which mode modules and threads compute: eval mode where something is measured, parameters without gradients, and
subnormal numbers as zeros."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

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


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Eval mode inside; outside every module has the mode that it had."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


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
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_()
