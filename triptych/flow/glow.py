"""Glow (Kingma & Dhariwal 2018, arXiv 1807.03039)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from triptych.bijections import (
    ActNorm,
    Additive,
    Affine,
    Bijection,
    Chain,
    ConvNet,
    FactorOut,
    FlowStep,
    FlowSteps,
    Invertible1x1,
    InvertibleLU,
    Mixing,
    MultiScale,
    Permutation,
    Squeeze,
    StepTransform,
)
from triptych.bijections.gradients import Memory
from triptych.bijections.squeeze import check_levels, most_levels, squeezed
from triptych.errors import TriptychError, check_choice, check_size
from triptych.flow.flow import Flow, conditional_end, dequantiser, read_as, whitener

_PERMUTATIONS: dict[str, Callable[[int], Mixing]] = {
    "invertible": InvertibleLU,
    "plain": Invertible1x1,
    "shuffle": Permutation.shuffle,
    "reverse": Permutation.reverse,
}
_COUPLINGS: dict[str, Callable[[float], StepTransform]] = {"affine": Affine, "additive": lambda _floor: Additive()}
_MOST_STEPS = 512  # bounds what a recipe from elsewhere can ask for
LEAST = 12.0
"""K affine couplings together multiply by e⁻¹² at the least, each by e^(−12/K): so that however deep a flow is, their
inverse is bounded by one number. It trades range against safety. On Fashion-MNIST (K = 16, width 64, 400 steps of 64) a
total of e⁻⁶ gave 4.43 bits/dim and samples up to 4.6, e⁻¹² 4.28 and 12, e⁻²⁴ 4.38 and 55 (1,600 after 100 steps)."""


class Glow(Flow):
    """Glow: L scales of squeeze, K flow steps and split, for pictures, sequences and vectors of any channel count.

        log p(x) = log N(z; 0, I) + Σ over steps of |S| (Σ log s_actnorm + Σ log |s_1×1|) + Σ log s_coupling

    The prior is learned as in the released code: what leaves at a split has a mean and scale that depend on what stays,
    and what remains at the end has a mean and scale for each channel (an actnorm). Both are layers here, so that z is
    N(0, I). With a context every network sees it, and z passes a last affine map that depends on it (`ContextAffine`).

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        levels: L, scales. Each halves every side, so sides must be divisible by 2^L; a vector has half of its features leave
            after each scale but the last. 0: one scale at full size, for sides that are odd.
        depth: K, flow steps in each scale.
        width: hidden channels of the couplings' networks (512 in the paper).
        permutation: "invertible" (1×1 convolution by LU), "plain" (1×1 with log |det W| computed), "shuffle", "reverse".
        coupling: "affine" or "additive".
        memory: what training keeps: "full", "checkpoint" or "reversible" (`triptych.bijections.FlowSteps`).
        reading: "dequantise" for 8-bit values, "none" for floats, "auto" by the shape: pictures are 8-bit.
        bits: depth at which pixels are read (5 for the paper's faces).
        dequantisation: "uniform", or "variational": learned noise (`VariationalDequantisation`), for 8-bit values only.
        context_dim: length of the context, 0 for none.
        whiten: "zca" or "pca" begins with a whitening of the whole event, fitted to the data that `initialize` sees
            (`triptych.bijections.Whiten`; beyond 4,096 values of its 512 largest components); "none" is the paper's.
        positions: whether each scale begins with an actnorm of each position's own, and the networks have biases of each
            position's own, for data that are aligned; the paper's have not.
        rank: components of that whitening with a variance of their own, the others sharing one; None keeps all that it can.

    Raises:
        TriptychError: where a size does not divide; the message names the largest number of levels that works.

    >>> import torch
    >>> model = Glow((3, 8, 8), levels=2, depth=2, width=16)
    >>> x = torch.rand(4, 3, 8, 8)
    >>> model.initialize(x)
    >>> z = model.encode(x)
    >>> z.shape, torch.allclose(model.decode(z), x, atol=1e-5), model.log_prob(x).shape
    (torch.Size([4, 192]), True, torch.Size([4]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        levels: int = 3,
        depth: int = 32,
        width: int = 512,
        permutation: Literal["invertible", "plain", "shuffle", "reverse"] = "invertible",
        coupling: Literal["affine", "additive"] = "affine",
        memory: Memory = "full",
        reading: Literal["auto", "dequantise", "none"] = "auto",
        bits: int = 8,
        dequantisation: Literal["uniform", "variational"] = "uniform",
        context_dim: int = 0,
        whiten: Literal["none", "pca", "zca"] = "none",
        positions: bool = False,
        rank: int | None = None,
    ):
        shape, codec = tuple(event_shape), read_as(reading, bits, event_shape)
        check_size("width", width)
        if rank is not None and whiten == "none":
            raise TriptychError("a rank is of the whitening: choose whiten=zca or pca with it")
        # one channel has nothing to couple before a squeeze
        check_levels(shape, levels, most_levels(shape), least=int(len(shape) == 1 or shape[0] == 1))
        here, scales, splits = shape, [], []
        for level in range(max(1, levels)):
            start: list[Bijection] = [Squeeze()] if levels and len(shape) > 1 else []
            here = squeezed(here) if start else here
            start += [ActNorm(here)] if positions else []
            steps = flow_steps(here, depth, width, permutation, coupling, memory, context_dim, positions)
            if level < levels - 1:
                scales.append(Chain([*start, steps]))
                splits.append(FactorOut(here, context_dim=context_dim, positions=positions))
                here = (splits[-1].kept, *here[1:])
        scales.append(Chain([*start, steps, ActNorm(here if positions else here[0])]))
        first = [*dequantiser(dequantisation, shape, codec, context_dim), *whitener(whiten, shape, rank)]
        parts = [*first, MultiScale(scales, splits, here), *conditional_end(shape, context_dim)]
        super().__init__(shape, Chain(parts) if len(parts) > 1 else parts[0], codec, context_dim=context_dim)


def flow_steps(
    shape: Sequence[int],
    depth: int,
    width: int,
    permutation: str = "invertible",
    coupling: str = "affine",
    memory: Memory = "full",
    context_dim: int = 0,
    positions: bool = False,
) -> FlowSteps:
    """Glow's steps of one scale, for events (C, *S), C ≥ 2; the other arguments are those of `Glow`.

    >>> len(flow_steps((4, 8, 8), depth=3, width=16).steps)
    3
    """
    check_size("depth", depth, _MOST_STEPS)
    check_choice("permutation", permutation, _PERMUTATIONS)
    check_choice("coupling", coupling, _COUPLINGS)
    channels, *places = shape
    if channels < 2:
        raise TriptychError("a flow step couples channels with each other, there is one: squeeze, or give at least 2")
    first, steps = channels // 2, []
    for _ in range(depth):
        transform = _COUPLINGS[coupling](math.exp(-LEAST / depth))
        outputs = transform.outputs * (channels - first)
        net = ConvNet((first, *places), outputs, width, context_dim=context_dim, positions=positions)
        steps.append(FlowStep(net, transform, _PERMUTATIONS[permutation](channels)))
    return FlowSteps(steps, memory)
