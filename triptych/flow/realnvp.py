"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2016, arXiv 1605.08803)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from triptych.bijections import (
    Additive,
    BatchNorm,
    Bijection,
    Chain,
    CheckerboardCoupling,
    Coupling,
    FactorOut,
    Logit,
    MultiScale,
    ResNet,
    Squeeze,
    TanhAffine,
)
from triptych.bijections.squeeze import check_levels, most_levels, squeezed
from triptych.errors import check_choice, check_size
from triptych.flow.flow import Flow, conditional_end, dequantiser, read_as


class RealNVP(Flow):
    """RealNVP: couplings by checkerboard and by channel at several scales, for pictures, sequences and vectors.

        log p(x) = log N(z; 0, I) + Σ log |logit′| + Σ over couplings of (Σ g tanh(r) − ½ |S| Σ_c log(σ̃²_c + ε))

    Section 3.6: a scale is 3 checkerboard couplings, a squeeze, 3 channel couplings, and half of the channels leave as
    they are, N(0, I); the last scale is 4 checkerboard couplings. The parts of a coupling take turns, and a batch norm
    follows each. Pixels first pass logit(α + (1 − 2α) x), α = 0.05; floats do not.

    Args:
        event_shape: (D,), (C, T) or (C, H, W). Of a vector the checkerboard is odd and even features, and the squeeze none.
        levels: scales; all but the last halve every side, so sides must be divisible by 2^(levels − 1), and the last one
            have at least 2 positions to couple. 1: full size only, for sides that are odd.
        blocks: residual blocks in each coupling's network (8 for the paper's CIFAR-10).
        width: maps in them at the first checkerboards (64 for CIFAR-10), doubled with each squeeze.
        coupling: "affine" or "additive".
        reading: "dequantise" for 8-bit values, "none" for floats, "auto" by the shape: pictures are 8-bit.
        bits: depth at which pixels are read.
        dequantisation: "uniform", or "variational": learned noise (`VariationalDequantisation`), for 8-bit values only.
        widen: whether the width doubles with each scale; None: with each squeeze, so not for vectors, which have none.
        context_dim: length of the context, 0 for none; the couplings' networks see it, and z passes a last affine map that
            depends on it (`ContextAffine`).

    Raises:
        TriptychError: where a size does not divide; the message names the largest number of levels that works.

    >>> import torch
    >>> model = RealNVP((3, 8, 8), levels=2, blocks=1, width=8)
    >>> x = torch.rand(4, 3, 8, 8)
    >>> model.initialize(x)
    >>> z = model.eval().encode(x)
    >>> z.shape, torch.allclose(model.decode(z), x, atol=1e-5), model.log_prob(x).shape
    (torch.Size([4, 192]), True, torch.Size([4]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        levels: int = 2,
        blocks: int = 4,
        width: int = 32,
        coupling: Literal["affine", "additive"] = "affine",
        reading: Literal["auto", "dequantise", "none"] = "auto",
        bits: int = 8,
        dequantisation: Literal["uniform", "variational"] = "uniform",
        widen: bool | None = None,
        context_dim: int = 0,
    ):
        shape, codec = tuple(event_shape), read_as(reading, bits, event_shape)
        check_choice("coupling", coupling, ("affine", "additive"))
        check_size("blocks", blocks, 64)
        check_size("width", width, 8_192)
        check_levels(shape, levels, most_scales(shape), least=1, unhalved=1)
        parts = dequantiser(dequantisation, shape, codec, context_dim)
        if codec.is_picture:
            parts.append(Logit())
        factor = 2 if (len(shape) > 1 if widen is None else widen) else 1

        net = partial(ResNet, depth=blocks, context_dim=context_dim)
        couplings = partial(_couplings, affine=coupling == "affine", net=net)
        here, scales, splits = shape, [], []
        for _ in range(levels - 1):
            by_position = couplings(3, here, width)
            here, width = squeezed(here), factor * width
            scales.append(Chain([*by_position, Squeeze(), *couplings(3, here, width, split=here[0] // 2)]))
            splits.append(FactorOut(here, learned=False))
            here = (splits[-1].kept, *here[1:])
        scales.append(Chain(couplings(4, here, width)))
        parts += [MultiScale(scales, splits, here), *conditional_end(shape, context_dim)]
        super().__init__(shape, Chain(parts), codec, context_dim=context_dim)


def _couplings(
    n: int, shape: tuple[int, ...], width: int, split: int = 0, *, affine: bool, net: Callable[..., ResNet]
) -> list[Bijection]:
    """n couplings, each with its batch norm, whose parts take turns: by a checkerboard, or after a squeeze by channels, of
    which `split` come first. A squeeze puts the upper row of each 2×2 block into the first half of the channels: no split
    that a checkerboard made."""
    layers: list[Bijection] = []
    for flip in (k % 2 == 1 for k in range(n)):
        first, rest = (split, shape[0] - split) if split else (shape[0], shape[0])
        passing, changed = (rest, first) if flip else (first, rest)
        transform = TanhAffine(changed) if affine else Additive()
        made = net((passing, *shape[1:]), transform.outputs * changed, width)
        layers.append(Coupling(made, transform, split, flip) if split else CheckerboardCoupling(made, transform, flip))
        layers.append(BatchNorm(shape[0]))
    return layers


def most_scales(shape: tuple[int, ...]) -> int:
    """The largest number of scales: one more than squeezes, each of which must leave 2 positions (of a vector, features)."""
    if len(shape) == 1:
        return most_levels(shape)
    squeezes, places = most_levels(shape), shape[1:]
    return 1 + squeezes - (math.prod(places) == 2 ** (squeezes * len(places)))
