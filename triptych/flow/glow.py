"""Glow (Kingma & Dhariwal 2018, arXiv 1807.03039)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from triptych.flow.bijection import Bijection, Chain
from triptych.flow.flow import Flow, check_choice, check_size
from triptych.flow.gradients import Memory
from triptych.flow.layers.actnorm import ActNorm
from triptych.flow.layers.dequantise import DEQUANTISATIONS, dequantiser
from triptych.flow.layers.split import Split
from triptych.flow.layers.squeeze import Squeeze, check_levels, squeezed
from triptych.flow.multiscale import MultiScale
from triptych.flow.steps import FlowSteps


class Glow(Flow):
    """Glow: L scales of squeeze, K flow steps and split, for pictures, sequences and vectors of any channel count.

        log p(x) = log N(z; 0, I) + Σ over steps of |S| (Σ log s_actnorm + Σ log |s_1×1|) + Σ log s_coupling

    The prior is learned as in the released code: what leaves at a split has a mean and scale that depend on what stays,
    and what is left at the end has a mean and scale a channel (an actnorm). Both are layers here, so that z is N(0, I).

    Args:
        event_shape: (D,), (C, T) or (C, H, W).
        levels: L, scales. Each halves every side, so sides must be divisible by 2^L; a vector has half of its features leave
            after each scale but the last. 0: one scale at full size, for sides that are odd.
        depth: K, flow steps in each scale.
        width: hidden channels of the couplings' networks (512 in the paper).
        permutation: "invertible" (1×1 convolution by LU), "plain" (1×1 with log |det W| computed), "shuffle", "reverse".
        coupling: "affine" or "additive".
        memory: what training keeps: "full", "checkpoint" or "reversible" (`triptych.flow.FlowSteps`).
        reading: "dequantise" for 8-bit values, "none" for floats, "auto" by the shape: pictures are 8-bit.
        bits: depth at which pixels are read (5 for the paper's faces).
        dequantisation: "uniform", or "variational": learned noise (`VariationalDequantisation`), for 8-bit values only.

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
    ):
        arguments: dict[str, Any] = {k: v for k, v in locals().items() if k not in ("self", "event_shape", "__class__")}
        super().__init__(event_shape, reading, bits, arguments)
        check_choice("dequantisation", dequantisation, DEQUANTISATIONS)
        check_size("width", width, 65_536)
        alone = len(self.event_shape) == 1 or self.event_shape[0] == 1  # has nothing to couple before a squeeze
        check_levels(self.event_shape, levels, least=int(alone))
        scales = _scales(self.event_shape, levels, (depth, width, permutation, coupling, memory))
        first = dequantiser(dequantisation, self.event_shape, self.codec)
        self.bijection = Chain([*first, scales]) if first else scales

    def heed_drift(self, bound: float) -> bool:
        """Goes over to checkpoints in every scale whose inversion drifted past `bound`; says whether any did now."""
        return any([steps.heed_drift(bound) for steps in self.modules() if isinstance(steps, FlowSteps)])  # noqa: C419 - all are asked


def _scales(shape: tuple[int, ...], levels: int, settings: tuple[Any, ...]) -> MultiScale:
    scales: list[Bijection] = []
    splits: list[Split] = []
    for level in range(max(1, levels)):
        parts: list[Bijection] = []
        if levels and len(shape) > 1:
            parts.append(Squeeze())
            shape = squeezed(shape)
        parts.append(FlowSteps(shape, *settings))
        if level < levels - 1:
            splits.append(Split(shape))
        else:
            parts.append(ActNorm(shape[0]))
        scales.append(Chain(parts))
        if level < levels - 1:
            shape = (splits[-1].kept, *shape[1:])
    return MultiScale(scales, splits, shape)
