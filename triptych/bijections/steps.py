"""Glow's flow steps, K in a row: actnorm, invertible 1×1 convolution, coupling (Glow, figure 2a).

Actnorm and 1×1 are both affine in each position's channels, so that a step computes them as one matrix product,
y = W (s ⊙ (x + shift)) = (W diag(s)) x + W (s ⊙ shift); the K small matrices are put together at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from triptych.bijections.actnorm import LOG_SCALE_RATE, ActNorm
from triptych.bijections.bijection import Bijection, Chain, NotInvertible, all_finite, positions
from triptych.bijections.coupling import Coupling, StepTransform, Transform
from triptych.bijections.gradients import Memory, couple, invert
from triptych.bijections.mixing import NOT_FINITE, Affines, Mixing, mix
from triptych.errors import TriptychError, check_choice


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
        weight, bias, _ = inverted([self])
        return mix(self.coupling.inverse(z, context), weight[0], bias[0])

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.coupling.initialize(self.mixing(self.actnorm.initialize(x))[0], context)


def fuse(steps: Sequence[FlowStep]) -> Affines:
    """Actnorm and mixing of each step, W (diag(s) x + s ⊙ shift), differentiable with respect to the steps' parameters."""
    for step in steps:
        step.actnorm.check_ready()
    log_scale = LOG_SCALE_RATE * torch.stack([step.actnorm.log_scale for step in steps])
    shift = torch.stack([step.actnorm.shift for step in steps])
    mixing, log_det = type(steps[0].mixing).matrices([step.mixing for step in steps])
    weight = mixing.to(shift.dtype) * log_scale.exp()[:, None, :]
    return Affines(weight, (weight @ shift[..., None])[..., 0], log_det.to(shift.dtype) + log_scale.sum(1))


def inverted(steps: Sequence[FlowStep]) -> Affines:
    """The inverse of `fuse`. If it does not exist, the error names the layer at fault: of the first such step the layer that
    holds NaN, or a mixing that by itself has no inverse, else the actnorm's scales."""
    inverse, useless = fuse(steps).inverted()
    if not useless.any():
        return inverse
    step = steps[int(useless.int().argmax())]
    if not all_finite(step.actnorm):
        raise NotInvertible(step.actnorm, NOT_FINITE)
    if problem := step.mixing.problem():
        raise NotInvertible(step.mixing, problem)
    log_scale = LOG_SCALE_RATE * step.actnorm.log_scale
    extreme = log_scale[log_scale.abs().argmax()].exp().item()
    raise NotInvertible(step.actnorm, f"it multiplies a channel by {extreme:.3g}")


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
    drift: Tensor

    def __init__(self, steps: Iterable[FlowStep], memory: Memory = "full"):
        super().__init__()
        check_choice("memory", memory, get_args(Memory))
        steps = list(steps)
        if len({(type(step.mixing), step.mixing.channels) for step in steps}) != 1:
            raise TriptychError("FlowSteps expects one or more steps alike in channels and mixing: use Chain for others")
        for transform in (step.coupling.transform for step in steps):
            if not isinstance(transform, StepTransform) or any(True for _ in transform.parameters()):
                raise TriptychError(
                    f"FlowSteps computes gradients by hand, which {type(transform).__name__} has not: use Affine, Additive "
                    "or a StepTransform without parameters, or a Chain of the steps"
                )
        self.steps: Any = nn.ModuleList(steps)
        self.memory = self._chosen = memory
        self.register_buffer("drift", torch.zeros(()))
        self._kept: dict[object, tuple[object, Affines]] = {}

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        fused = self._fused()
        drift = self.drift if self.training else self.drift.clone()  # the gradient of a score says nothing of training
        z, ladj = couple([step.coupling for step in self.steps], fused, x, context, self.memory, drift)
        return z, ladj + positions(x) * fused.log_det.sum()

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        maps = self._fused(inverted)
        if not torch.is_grad_enabled():
            return invert([step.coupling for step in self.steps], maps, z, context)
        for step, weight, bias in zip(reversed(self.steps), maps.weight.flip(0), maps.bias.flip(0), strict=True):
            z = mix(step.coupling.inverse(z, context), weight, bias)
        return z

    def train(self, mode: bool = True) -> FlowSteps:
        """Sets the mode, and forgets the matrices that were kept."""
        self._kept = {}
        return super().train(mode)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for step in self.steps:
            x = step.initialize(x, context)
        return x

    def count_layers(self) -> int:
        return len(self.steps)

    def truncated(self, layers: int, shape: Sequence[int]) -> Bijection:
        return FlowSteps(self.steps[:layers], self.memory) if layers else Chain([])

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

    def _fused(self, made: Callable[[Sequence[FlowStep]], Affines] = fuse) -> Affines:
        """The maps, or their inverses, kept until a parameter changes: `_version` counts what is done in place (an average
        of weights, say), the address tells of moves. Nothing is kept where there are gradients, since an optimiser may
        follow, and where versions are not counted: by fused optimisers, hence in training, and for inference tensors. (Nor
        do changes through `.data` count: eval() forgets.)"""
        layers = [] if torch.is_grad_enabled() or self.training else [m for s in self.steps for m in (s.actnorm, s.mixing)]
        parameters = [p for layer in layers for p in layer.parameters()]
        if not layers or any(p.grad is not None or p.is_inference() for p in parameters):
            self._kept = {}
            return made(self.steps)
        key = [(p.data_ptr(), p._version) for p in parameters]
        kept = self._kept.get(made)  # read once: another thread may forget it meanwhile
        if kept is None or kept[0] != key:
            kept = self._kept[made] = key, made(self.steps)
        return kept[1]
