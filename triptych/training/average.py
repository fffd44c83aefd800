"""The moving average of a model's weights, which evaluation, sampling and editing use.

Modules declare, by class attributes, what becomes of their buffers:

    averaged_buffers    averaged with the weights: statistics that belong to the weights they were measured with
    training_buffers    left alone: they describe the training, not the model
    all others          copied
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from triptych.core import GenerativeModel


class MovingAverage:
    """θ̄ ← θ̄ + (1 − d)(θ − θ̄) with d = min(decay, (1 + t) / (10 + t)): a short run does not keep its initial weights.

    The weights are those of `model.mapping()`; what is outside it (a GAN's discriminator) is copied.

    Args:
        model: the model in training.
        decay: from 0, the newest weights, to just below 1.

    Attributes:
        model: a copy of the model in eval mode, with averaged weights.

    >>> from triptych import NICE
    >>> trained = NICE((4,), hidden=(8,))
    >>> average = MovingAverage(trained, decay=0.999)
    >>> average.update(step=0)
    >>> average.is_finite()
    True
    """

    def __init__(self, model: GenerativeModel, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        # listed once: walking a module's tree at every step costs as much as a small layer
        self._averages, self._copies = _state(self.model)
        self._weights, self._others = _state(model)
        self._begun: dict[int, int] = {}  # of weights by id, the step from which t counts where that is not 0
        self._groups = self._grouped()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after `step` rounds, counted from 0."""
        for begun, (averages, weights) in self._groups.items():
            t = step - begun
            decay = min(self.decay, (1 + t) / (10 + t))
            torch._foreach_lerp_(averages, weights, 1 - decay)

    def begin(self, module: nn.Module, step: int) -> None:
        """From `step` on t counts anew for the module's weights: their next average is nearly the newest of them."""
        own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        self._begun |= {id(weight): step for weight in self._weights if id(weight) in own}
        self._groups = self._grouped()

    @torch.no_grad()
    def settle(self, module: nn.Module) -> None:
        """The module's weights, and statistics that are averaged, become their averages, as nothing moves them any more."""
        own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        for average, weight in zip(self._averages, self._weights, strict=True):
            if id(weight) in own:
                weight.copy_(average)

    def _grouped(self) -> dict[int, tuple[list[Tensor], list[Tensor]]]:
        """Averages and weights by the step from which they count."""
        groups: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for average, weight in zip(self._averages, self._weights, strict=True):
            averages, weights = groups.setdefault(self._begun.get(id(weight), 0), ([], []))
            averages.append(average)
            weights.append(weight)
        return groups

    @torch.no_grad()
    def copy_unaveraged(self) -> None:
        """Copies what is not averaged from the model in training."""
        for copied, current in zip(self._copies, self._others, strict=True):
            copied.copy_(current)

    def is_finite(self) -> bool:
        """Whether every average is finite, and the newest statistics are."""
        return all(bool(tensor.isfinite().all()) for tensor in (*self._averages, *self._weights))


def _state(model: GenerativeModel) -> tuple[list[Tensor], list[Tensor]]:
    """What is averaged, and what is copied."""
    mapping = model.mapping()
    statistics = [getattr(m, name) for m in mapping.modules() for name in _averaged_buffers(m)]
    averaged = [*mapping.parameters(), *(s for s in statistics if s is not None)]
    training = [getattr(m, name) for m in model.modules() for name in getattr(m, "training_buffers", ())]
    left_out = {id(tensor) for tensor in (*averaged, *training)}
    return averaged, [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in left_out]


def _averaged_buffers(module: nn.Module) -> tuple[str, ...]:
    """What the module declares; torch's own normalisations, which declare nothing, have a running mean and variance."""
    return getattr(module, "averaged_buffers", ("running_mean", "running_var") if isinstance(module, _NormBase) else ())
