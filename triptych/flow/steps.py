"""Glow's flow steps, K in a row: actnorm, invertible 1×1 convolution, coupling (Glow, figure 2a).

Actnorm and 1×1 are both affine in each position's channels, so that a step computes them as one matrix product,
y = W (s ⊙ (x + shift)) = (W diag(s)) x + W (s ⊙ shift); the K small matrices are put together at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from triptych.errors import TriptychError
from triptych.flow.bijection import Bijection, NoWayBack, all_finite, positions
from triptych.flow.conditioners import ConvNet
from triptych.flow.flow import check_choice, check_size
from triptych.flow.gradients import Memory, couple, evaluate, invert
from triptych.flow.layers.actnorm import ActNorm, stacked
from triptych.flow.layers.coupling import Additive, Affine, Coupling, StepTransform
from triptych.flow.layers.mixing import NOT_FINITE, Invertible1x1, InvertibleLU, Mixing, Permutation, inverses, mix

PERMUTATIONS: dict[str, Any] = {
    "invertible": InvertibleLU,
    "plain": Invertible1x1,
    "shuffle": Permutation.shuffle,
    "reverse": Permutation.reverse,
}
COUPLINGS: dict[str, Callable[[float], StepTransform]] = {"affine": Affine, "additive": lambda _floor: Additive()}
_MOST_STEPS = 512  # a recipe from elsewhere shall not make us build a million modules
LEAST = 12.0
"""K affine couplings together multiply by e⁻¹² at the least, each by e^(−12/K): so that however deep a flow is, their way
back is bounded by one number. It trades range against safety. On Fashion-MNIST (K = 16, width 64, 400 steps of 64) a
total of e⁻⁶ gave 4.43 bits/dim and samples up to 4.6, e⁻¹² 4.28 and 12, e⁻²⁴ 4.38 and 55 (1,600 after 100 steps)."""


class Folded(NamedTuple):
    """Actnorm and mixing of K steps as one affine map each: y = W x + b."""

    weight: Tensor  # (K, C, C)
    bias: Tensor  # (K, C)
    log_det: Tensor  # (K,), at one position

    def inverted(self, steps: Sequence[FlowStep]) -> Folded:
        """x = W⁻¹ y − W⁻¹ b of those steps; the layer at fault is named where there is none."""
        weight, lost = inverses(self.weight)
        lost |= ~self.bias.isfinite().all(1)
        if lost.any():
            raise _culprit(steps[int(lost.int().argmax())])
        return Folded(weight, -(weight @ self.bias[..., None])[..., 0], -self.log_det)


class FlowStep(Bijection):
    """Actnorm, then a channel mixing, then a coupling.

    Args:
        shape: (C, *S), C ≥ 2.
        width: of the coupling's network.
        permutation: "invertible" (1×1 by LU), "plain" (1×1 by a plain matrix), "shuffle" or "reverse".
        coupling: "affine" or "additive".
        floor: the smallest scale of an affine coupling.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        permutation: str = "invertible",
        coupling: str = "affine",
        floor: float = 0.05,
    ):
        super().__init__()
        channels, *places = shape
        if channels < 2:
            raise TriptychError("a flow step couples channels with each other, one has none: squeeze, or give at least 2")
        check_choice("permutation", permutation, PERMUTATIONS)
        check_choice("coupling", coupling, COUPLINGS)
        kept = channels // 2
        transform = COUPLINGS[coupling](floor)
        net = ConvNet((kept, *places), transform.outputs * (channels - kept), width)
        self.actnorm = ActNorm(channels)
        self.mixing: Mixing = PERMUTATIONS[permutation](channels)
        self.coupling = Coupling(net, transform, kept)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias, log_det = fold([self])
        z, ladj = self.couple(x, weight[0], bias[0])
        return z, ladj + positions(x) * log_det[0]

    def couple(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The step, given its actnorm and mixing as W and b; ladj is the coupling's alone."""
        return self.coupling(mix(x, weight, bias))

    def inverse(self, z: Tensor) -> Tensor:
        weight, bias, _ = fold([self]).inverted([self])
        return mix(self.coupling.inverse(z), weight[0], bias[0])

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        return self.coupling.initialize(self.mixing(self.actnorm.initialize(x))[0])


def fold(steps: Sequence[FlowStep]) -> Folded:
    """W (diag(s) x + s ⊙ shift) of each step, differentiable by the steps' parameters."""
    log_scale, shift = stacked([step.actnorm for step in steps])
    mixing, log_det = type(steps[0].mixing).matrices([step.mixing for step in steps])
    weight = mixing.to(shift.dtype) * log_scale.exp()[:, None, :]
    return Folded(weight, (weight @ shift[..., None])[..., 0], log_det.to(shift.dtype) + log_scale.sum(1))


def _culprit(step: FlowStep) -> NoWayBack:
    """Which of the two layers that were folded leaves no way back: the first that holds NaN, or a mixing that by itself has
    none, else the actnorm's scales."""
    if not all_finite(step.actnorm):
        return NoWayBack(step.actnorm, NOT_FINITE)
    if what := step.mixing.flaw():
        return NoWayBack(step.mixing, what)
    log_scale = stacked([step.actnorm])[0].flatten()
    extreme = log_scale[log_scale.abs().argmax()].exp().item()
    return NoWayBack(step.actnorm, f"it multiplies a channel by {extreme:.3g}")


class FlowSteps(Bijection):
    """K flow steps of one scale, with a choice of what training keeps in memory.

    "full" keeps every activation; "checkpoint" each step's input, and computes the step again for its gradient;
    "reversible" only the last output: going back, each step's input is computed by inverting it, with the same call of
    its network that gives the gradient (`triptych.flow.gradients`). Gradients agree; the inversion's drift is measured
    (`drift`), and past a bound `heed_drift` goes over to checkpoints.

    Args:
        shape: (C, *S) of x.
        depth: K.
        width, permutation, coupling: of each `FlowStep`.
        memory: "full", "checkpoint" or "reversible".
    """

    about_training = ("drift",)  # a buffer that says how training goes: an average of weights has none
    steps: Sequence[FlowStep]
    drift: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        depth: int,
        width: int,
        permutation: str = "invertible",
        coupling: str = "affine",
        memory: Memory = "full",
    ):
        super().__init__()
        check_size("depth", depth, _MOST_STEPS)
        check_choice("memory", memory, get_args(Memory))
        floor = math.exp(-LEAST / depth)
        steps = [FlowStep(shape, width, permutation, coupling, floor) for _ in range(depth)]
        self.steps = nn.ModuleList(steps)  # type: ignore[assignment]
        self.memory: Memory = memory
        self._asked: Memory = memory
        self.register_buffer("drift", torch.zeros(()))
        self._kept: tuple[object, dict[bool, Folded]] | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled():
            return self._evaluate(x)
        self._kept = None  # an optimiser may follow, and a fused one does not count versions
        weight, bias, log_det = fold(self.steps)
        drift = self.drift if self.training else self.drift.clone()  # a score's gradient is no training
        z, ladj = couple([step.coupling for step in self.steps], weight, bias, x, self.memory, drift)
        return z, ladj + positions(x) * log_det.sum()

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias, log_det = self._folded()
        z, ladj = evaluate([step.coupling for step in self.steps], weight, bias, x)
        return z, ladj + positions(x) * log_det.sum()

    def inverse(self, z: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            weight, bias, _ = self._folded(inverted=True)
            return invert([step.coupling for step in self.steps], weight, bias, z)
        folded = fold(self.steps).inverted(self.steps)
        for k in range(len(self.steps) - 1, -1, -1):
            y = self.steps[k].coupling.inverse(z)
            z = mix(y, folded.weight[k], folded.bias[k])
        return z

    def train(self, mode: bool = True) -> FlowSteps:
        self._kept = None
        return super().train(mode)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step.initialize(x)
        return x

    def heed_drift(self, bound: float) -> bool:
        """Goes over to checkpoints if the inversion has drifted past `bound`; says whether it did so now.

        `drift` becomes infinite, which is how a saved state says that this has happened: see `settle`.
        """
        if self.memory != "reversible" or float(self.drift) <= bound:
            return False
        self.memory = "checkpoint"
        self.drift.fill_(torch.inf)
        return True

    def settle(self) -> None:
        """Makes `memory` what the buffers say, after a state has been put in place."""
        gone_over = self._asked == "reversible" and bool(self.drift.isinf())
        self.memory = "checkpoint" if gone_over else self._asked

    def _folded(self, inverted: bool = False) -> Folded:
        """The matrices, or their inverses, kept until a parameter changes: `_version` counts what is done in place (an
        average of weights, say), the address tells of moves. Nothing is kept where versions are not counted: by fused
        optimisers, hence in training, and for inference tensors. (Nor do changes through `.data` count: eval() forgets.)"""
        parts = [p for step in self.steps for m in (step.actnorm, step.mixing) for p in m.parameters()]
        if self.training or any(p.grad is not None or p.is_inference() for p in parts):
            self._kept = None
            return _either(self.steps, inverted)
        key = tuple((p.data_ptr(), p._version) for p in parts)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, {}
        kept = self._kept[1]
        if inverted not in kept:
            kept[inverted] = _either(self.steps, inverted)
        return kept[inverted]


def _either(steps: Sequence[FlowStep], inverted: bool) -> Folded:
    folded = fold(steps)
    return folded.inverted(steps) if inverted else folded
