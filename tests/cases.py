"""Every public model, by name: a new one is a line here, and then has every property tested."""

from collections.abc import Callable
from typing import NamedTuple

import torch

import triptych
from triptych.core import GenerativeModel


class Case(NamedTuple):
    """A small model and stored data that it can read."""

    model: Callable[[], GenerativeModel]
    stored: Callable[[int], torch.Tensor]


def _pixels(*event: int):
    return lambda n: torch.randint(0, 256, (n, *event), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def _floats(*event: int):
    return lambda n: torch.randn(n, *event, generator=torch.Generator().manual_seed(n))


MODELS: dict[str, Case] = {
    "vae-mlp-bernoulli": Case(lambda: triptych.VAE((1, 6, 5), 3, hidden=(16,)), _pixels(1, 6, 5)),
    "vae-mlp-gaussian": Case(
        lambda: triptych.VAE((1, 6, 5), 3, hidden=(16, 8), likelihood="gaussian", scale="output"), _pixels(1, 6, 5)
    ),
    "vae-mlp-vector": Case(lambda: triptych.VAE((7,), 2, hidden=(16,), likelihood="gaussian", mean="linear"), _floats(7)),
    "vae-mlp-sequence": Case(
        lambda: triptych.VAE((2, 9), 2, hidden=(16,), likelihood="gaussian", mean="linear"), _floats(2, 9)
    ),
    "vae-conv-logistic": Case(
        lambda: triptych.VAE((3, 11, 8), 4, net="conv", width=4, blocks=1, likelihood="logistic"), _pixels(3, 11, 8)
    ),
    "vae-conv-gaussian": Case(
        lambda: triptych.VAE((2, 5, 17), 4, net="conv", width=4, likelihood="gaussian"), _pixels(2, 5, 17)
    ),
    "vae-conv-logistic-output": Case(
        lambda: triptych.VAE((1, 9, 9), 4, net="conv", width=4, likelihood="logistic", scale="output", bits=5),
        _pixels(1, 9, 9),
    ),
}
