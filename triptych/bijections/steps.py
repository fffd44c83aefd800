"""Glow's flow steps, K in a row: actnorm, invertible 1×1 convolution, coupling (Glow, figure 2a).

Actnorm and 1×1 are both affine in each position's channels, so that a step computes them as one matrix product,
y = W (s ⊙ (x + shift)) = (W diag(s)) x + W (s ⊙ shift); the K small matrices are put together at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from triptych.bijections.actnorm import ActNorm, stacked
from triptych.bijections.bijection import Bijection, NotInvertible, all_finite, positions
from triptych.bijections.coupling import Coupling, StepTransform, Transform
from triptych.bijections.gradients import Memory, couple, evaluate, invert
from triptych.bijections.mixing import NOT_FINITE, Mixing, inverses, mix
from triptych.errors import TriptychError, check_choice


class Fused(NamedTuple):
    """Actnorm and mixing of K steps as one affine map each: y = W x + b."""

    weight: Tensor  # (K, C, C)
    bias: Tensor  # (K, C)
    log_det: Tensor  # (K,), at one position

    def inverted(self, steps: Sequence[FlowStep]) -> Fused:
        """x = W⁻¹ y − W⁻¹ b of those steps; where there is no inverse, the error names the layer at fault."""
        weight, useless = inverses(self.weight)
        useless |= ~self.bias.isfinite().all(1)
        if useless.any():
            raise _not_invertible(steps[int(useless.int().argmax())])
        return Fused(weight, -(weight @ self.bias[..., None])[..., 0], -self.log_det)


class FlowStep(Bijection):
    """Actnorm, then a channel mixing, then a coupling of the first half of the channels with the rest.

    Args:
        net: the coupling's network, any module x_a (B, C_a, *S)[, context] -> h (B, outputs · C_b, *S), C_a = ⌊C/2⌋.
        transform: of the coupling, such as `Affine()`.
        mixing: of C ≥ 2 channels, such as `InvertibleLU(C)`.

    >>> from triptych.bijections import Affine, ConvNet, InvertibleLU
    >>> step = FlowStep(ConvNet((2, 4, 4), 4, width=8), Affine(), InvertibleLU(4))
    >>> step.initialize(torch.randn(8, 4, 4, 4)).shape
    torch.Size([8, 4, 4, 4])
    """

    def __init__(self, net: nn.Module, transform: Transform, mixing: Mixing):
        super().__init__()
        if mixing.channels < 2:
            raise TriptychError("a flow step couples channels with each other, there is one: squeeze, or give at least 2")
        self.actnorm = ActNorm(mixing.channels)
        self.mixing = mixing
        self.coupling = Coupling(net, transform, mixing.channels // 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weight, bias, log_det = fuse([self])
        z, ladj = self.coupling(mix(x, weight[0], bias[0]), context)
        return z, ladj + positions(x) * log_det[0]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        weight, bias, _ = fuse([self]).inverted([self])
        return mix(self.coupling.inverse(z, context), weight[0], bias[0])

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.coupling.initialize(self.mixing(self.actnorm.initialize(x))[0], context)


def fuse(steps: Sequence[FlowStep]) -> Fused:
    """W (diag(s) x + s ⊙ shift) of each step, differentiable with respect to the steps' parameters."""
    log_scale, shift = stacked([step.actnorm for step in steps])
    mixing, log_det = type(steps[0].mixing).matrices([step.mixing for step in steps])
    weight = mixing.to(shift.dtype) * log_scale.exp()[:, None, :]
    return Fused(weight, (weight @ shift[..., None])[..., 0], log_det.to(shift.dtype) + log_scale.sum(1))


def _not_invertible(step: FlowStep) -> NotInvertible:
    """Which of the two fused layers has no inverse: the first that holds NaN, or a mixing that by itself has none, else the
    actnorm's scales."""
    if not all_finite(step.actnorm):
        return NotInvertible(step.actnorm, NOT_FINITE)
    if problem := step.mixing.problem():
        return NotInvertible(step.mixing, problem)
    log_scale = stacked([step.actnorm])[0].flatten()
    extreme = log_scale[log_scale.abs().argmax()].exp().item()
    return NotInvertible(step.actnorm, f"it multiplies a channel by {extreme:.3g}")


class FlowSteps(Bijection):
    """K flow steps of one scale, with a choice of what training keeps in memory.

    "full" keeps every activation; "checkpoint" each step's input, and computes the step again for its gradient;
    "reversible" only the last output: in the backward pass each step's input is computed by inverting it, with the same call
    of its network that gives the gradient (`triptych.bijections.gradients`). Gradients agree; the inversion's drift is
    measured (`drift`), and past a bound `limit_drift` changes to checkpoints.

    Args:
        steps: K steps of the same channels and kind of mixing, whose transforms are `StepTransform`s. (A `Chain` takes steps
            of any kind, and leaves their gradients to autograd.)
        memory: "full", "checkpoint" or "reversible".

    >>> from triptych.bijections import Affine, ConvNet, InvertibleLU
    >>> steps = FlowSteps([FlowStep(ConvNet((2,), 4, 8), Affine(), InvertibleLU(4)) for _ in range(3)], "reversible")
    >>> x = torch.randn(8, 4)
    >>> torch.allclose(steps.inverse(steps.initialize(x)), x, atol=1e-5)
    True
    """

    training_buffers = ("drift",)  # says how training goes: neither averaged with the weights nor copied to their average
    steps: Sequence[FlowStep]
    drift: Tensor

    def __init__(self, steps: Iterable[FlowStep], memory: Memory = "full"):
        super().__init__()
        check_choice("memory", memory, get_args(Memory))
        self.steps = nn.ModuleList(_checked(list(steps)))  # type: ignore[assignment]
        self.memory: Memory = memory
        self._chosen: Memory = memory
        self.register_buffer("drift", torch.zeros(()))
        self._kept: tuple[object, dict[bool, Fused]] | None = None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        couplings = [step.coupling for step in self.steps]
        if torch.is_grad_enabled():
            self._kept = None  # an optimiser may follow, and a fused one does not count versions
            weight, bias, log_det = fuse(self.steps)
            drift = self.drift if self.training else self.drift.clone()  # the gradient of a score says nothing of training
            z, ladj = couple(couplings, weight, bias, x, context, self.memory, drift)
        else:
            weight, bias, log_det = self._fused()
            z, ladj = evaluate(couplings, weight, bias, x, context)
        return z, ladj + positions(x) * log_det.sum()

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if not torch.is_grad_enabled():
            weight, bias, _ = self._fused(inverted=True)
            return invert([step.coupling for step in self.steps], weight, bias, z, context)
        weight, bias, _ = fuse(self.steps).inverted(self.steps)
        for k in range(len(self.steps) - 1, -1, -1):
            z = mix(self.steps[k].coupling.inverse(z, context), weight[k], bias[k])
        return z

    def train(self, mode: bool = True) -> FlowSteps:
        self._kept = None
        return super().train(mode)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for step in self.steps:
            x = step.initialize(x, context)
        return x

    def limit_drift(self, bound: float) -> bool:
        """Changes to checkpoints if the inversion has drifted past `bound`; returns whether it did so now.

        `drift` becomes infinite, by which a saved state says that this has happened: see `follow_buffers`.
        """
        if self.memory != "reversible" or float(self.drift) <= bound:
            return False
        self.memory = "checkpoint"
        self.drift.fill_(torch.inf)
        return True

    def follow_buffers(self) -> None:
        """Makes `memory` agree with the buffers, after a saved state has been put in place."""
        changed = self._chosen == "reversible" and bool(self.drift.isinf())
        self.memory = "checkpoint" if changed else self._chosen

    def _fused(self, inverted: bool = False) -> Fused:
        """The matrices, or their inverses, kept until a parameter changes: `_version` counts what is done in place (an
        average of weights, say), the address tells of moves. Nothing is kept where versions are not counted: by fused
        optimisers, hence in training, and for inference tensors. (Nor do changes through `.data` count: eval() forgets.)"""
        parameters = [p for step in self.steps for m in (step.actnorm, step.mixing) for p in m.parameters()]
        if self.training or any(p.grad is not None or p.is_inference() for p in parameters):
            self._kept = None
            return self._computed(inverted)
        key = tuple((p.data_ptr(), p._version) for p in parameters)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, {}
        kept = self._kept[1]
        if inverted not in kept:
            kept[inverted] = self._computed(inverted)
        return kept[inverted]

    def _computed(self, inverted: bool) -> Fused:
        fused = fuse(self.steps)
        return fused.inverted(self.steps) if inverted else fused


def _checked(steps: list[FlowStep]) -> list[FlowStep]:
    """The steps themselves, if their matrices can be computed together and their gradients by hand."""
    if not steps or len({(type(step.mixing), step.mixing.channels) for step in steps}) > 1:
        raise TriptychError(
            "FlowSteps expects one or more steps of the same channels and kind of mixing: use Chain for others"
        )
    for step in steps:
        transform = step.coupling.transform
        if not isinstance(transform, StepTransform) or next(transform.parameters(), None) is not None:
            raise TriptychError(
                f"FlowSteps computes gradients by hand, which {type(transform).__name__} has not: use Affine, Additive or a "
                "StepTransform without parameters, or a Chain of the steps"
            )
    return steps
