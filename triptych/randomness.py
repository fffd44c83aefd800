"""Random numbers: noise that means the same on each device, and torch's functions that draw, given generators for a while.

Torch has one random state for all threads of a process. What draws inside `seeded` draws from generators of its own: it is
the same whatever other threads draw meanwhile, a second training among them, and torch's own state is left alone.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


def standard_normal(
    *shape: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """ε ~ N(0, I) of `shape`, drawn where the generator lives and moved to `device`: a seed means the same on each."""
    source = generator.device if generator is not None else device
    return torch.randn(*shape, generator=generator, device=source).to(device)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, what this thread draws comes from generators seeded by `seed`, one for the CPU and one for `device`.

    Calls of torch that draw and name no generator are given one: those of this package, of torch's own layers and
    initialisations, and of a user's modules alike.

    >>> with seeded(0):
    ...     inside = torch.rand(2)
    >>> torch.equal(inside, torch.rand(2, generator=torch.Generator().manual_seed(0)))
    True
    """
    device = torch.device(device)
    homes = {"cpu": torch.device("cpu")} | ({} if device.type == "meta" else {device.type: device})
    generators = {kind: torch.Generator(home).manual_seed(seed) for kind, home in homes.items()}
    mode = getattr(_THREAD, "mode", None)
    if mode is None:
        with _Seeded(generators) as _THREAD.mode:
            try:
                yield
            finally:
                _THREAD.mode = None
        return
    before, mode.generators = mode.generators, generators  # one inside another: a call is given one generator
    try:
        yield
    finally:
        mode.generators = before


_THREAD = threading.local()


class _Seeded(TorchFunctionMode):
    """Gives generators to the calls of this thread that draw."""

    def __init__(self, generators: dict[str, torch.Generator]) -> None:
        super().__init__()
        self.generators = generators

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _DRAWS:  # a hundred calls of a small model's step: nothing else is done for them
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        generator = None if kwargs.get("generator") is not None else self.generators.get(_place(args, kwargs))
        return func(*args, **kwargs) if generator is None else _DRAWS[func](func, generator, args, kwargs)


def _place(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The kind of device that a call draws on: that of its first tensor, else the one it names or the default."""
    tensor = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    place = tensor.device if tensor is not None else kwargs.get("device") or torch.get_default_device()
    return torch.device(place).type


def _given(func: Any, generator: torch.Generator, args: Any, kwargs: Any) -> Any:
    """A call that takes a generator."""
    return func(*args, **{**kwargs, "generator": generator})


def _filled(fill: str) -> Callable[..., Tensor]:
    """torch.rand_like and its kin, which earlier versions of torch give no generator: empty_like, filled."""

    def draw(_func: Any, generator: torch.Generator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        own = {"input", "low", "high", "requires_grad", "generator"}
        like, *bounds = [*args, *(kwargs[name] for name in ("input", "low", "high") if name in kwargs)]
        plain = {name: value for name, value in kwargs.items() if name not in own}
        filled: Tensor = getattr(torch.empty_like(like, **plain), fill)(*bounds, generator=generator)
        return filled.requires_grad_(kwargs.get("requires_grad", False))

    return draw


def _dropout(func: Any, generator: torch.Generator, args: Any, kwargs: Any) -> Any:
    """x · m / (1 − p), m ~ Bernoulli(1 − p): torch's own, on a generator."""
    bound = _DROPOUT.bind(*args, **kwargs)
    bound.apply_defaults()
    x, p, training, inplace = bound.args
    if inplace or not training or not 0 < p < 1:
        return _whole(func, generator, args, kwargs)
    return x * torch.empty_like(x).bernoulli_(1 - p, generator=generator).div_(1 - p)


def _whole(func: Any, generator: torch.Generator, args: Any, kwargs: Any) -> Any:
    """A call that takes no generator: the operations that it is made of are given it, in this thread alone."""
    with _Operations(generator):
        return func(*args, **kwargs)


class _Operations(TorchDispatchMode):
    """Gives a generator to the operations of this thread that draw."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if func is torch.ops.aten.native_dropout.default:
            return _native_dropout(self.generator, *args, **kwargs)
        given = _taking_generator(func)
        if given is None:
            return _in_its_state(func, self.generator, args, kwargs)
        return given(*args, **{**kwargs, "generator": self.generator})


@functools.cache
def _taking_generator(func: Any) -> Any:
    """The operation itself, or the overload of the same arguments, that takes a generator; None where none does."""
    others = (getattr(func.overloadpacket, name) for name in func.overloadpacket.overloads())
    own = _arguments(func) - {"generator"}
    return next((f for f in (func, *others) if _arguments(f) == own | {"generator"}), None)


def _arguments(func: Any) -> set[str]:
    return {argument.name for argument in func._schema.arguments}


def _native_dropout(generator: torch.Generator, x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """(x · m / (1 − p), m), m ~ Bernoulli(1 − p)."""
    if train is False or not x.numel():
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - p, generator=generator)
    return x * kept * (1 / (1 - p) if p < 1 else 0.0), kept


def _in_its_state(func: Any, generator: torch.Generator, args: Any, kwargs: Any) -> Any:
    """An operation without a generator, such as a GPU's fused attention with dropout: torch's own in the state of ours.

    One thread after the other; one that draws on the same GPU outside of `seeded` would be seen. No operation on a CPU
    comes here (`tests/test_randomness.py`).
    """
    own = torch.default_generator
    if generator.device.type == "cuda":
        own = torch.cuda.default_generators[generator.device.index or 0]
    with _ONE_AT_A_TIME:
        before = own.get_state()
        own.set_state(generator.get_state())
        try:
            return func(*args, **kwargs)
        finally:
            generator.set_state(own.get_state())
            own.set_state(before)


_ONE_AT_A_TIME = threading.Lock()
_DROPOUT = inspect.signature(F.dropout)

_DRAWS: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            *(getattr(torch, name) for name in ("rand", "randn", "randint", "randperm", "normal", "bernoulli")),
            *(getattr(torch, name) for name in ("multinomial", "poisson", "binomial")),
            *(getattr(torch, name) for name in ("_standard_gamma", "_sample_dirichlet")),
            *(getattr(Tensor, name) for name in ("uniform_", "normal_", "random_", "bernoulli_", "exponential_")),
            *(getattr(Tensor, name) for name in ("geometric_", "cauchy_", "log_normal_", "bernoulli", "multinomial")),
            nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_,
        ),
        _given,
    ),
    torch.rand_like: _filled("uniform_"),
    torch.randn_like: _filled("normal_"),
    torch.randint_like: _filled("random_"),
    F.dropout: _dropout,
    **dict.fromkeys(
        (
            torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout, torch.rrelu,
            torch.dropout_, torch.feature_dropout_, torch.alpha_dropout_, torch.feature_alpha_dropout_, torch.rrelu_,
            torch.native_dropout, torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu,
            torch.svd_lowrank, torch.pca_lowrank,
            F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, F.rrelu, F.gumbel_softmax,
            F.fractional_max_pool2d, F.fractional_max_pool2d_with_indices, F.fractional_max_pool3d,
            F.fractional_max_pool3d_with_indices, F.multi_head_attention_forward, F.scaled_dot_product_attention,
        ),
        _whole,
    ),
}  # fmt: skip
"""The functions of torch that draw, with how each is given a generator. Python functions that call others hide these."""


def noise_seed(seed: int, step: int, rank: int, play: int) -> int:
    """A seed for the noise of one play: a 63-bit hash (splitmix64's finaliser) of its coordinates.

    >>> noise_seed(0, 1, 0, 0) != noise_seed(0, 0, 1, 0)
    True
    """
    mixed = 0
    for part in (seed, step, rank, play):
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        mixed ^= mixed >> 31
    return mixed >> 1


_MASK = 2**64 - 1
