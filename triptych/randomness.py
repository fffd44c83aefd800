"""Random numbers: noise that means the same on each device, and torch's random state set for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


def standard_normal(
    *shape: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """ε ~ N(0, I) of `shape`, drawn where the generator lives and moved to `device`: a seed means the same on each."""
    source = generator.device if generator is not None else device
    return torch.randn(*shape, generator=generator, device=source).to(device)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Torch's random state, on the CPU and on `device`, set to `seed` inside, and as it was outside."""
    # not torch.manual_seed: without a GPU it queues a seeding, with a stack trace, for each kind of device at every call
    device = torch.device(device)
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


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
