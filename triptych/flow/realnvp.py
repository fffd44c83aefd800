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
    Transform,
)
from triptych.bijections.squeeze import most_levels, squeezed
from triptych.errors import TriptychError, check_choice, check_size
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
        _check_levels(shape, levels)
        first = dequantiser(dequantisation, shape, codec, context_dim)
        if codec.is_picture:
            first.append(Logit())
        factor = 2 if (len(shape) > 1 if widen is None else widen) else 1
        scales = _scales(shape, levels, width, factor, coupling, partial(ResNet, depth=blocks, context_dim=context_dim))
        bijection = Chain([*first, scales, *conditional_end(shape, context_dim)])
        super().__init__(shape, bijection, codec, context_dim=context_dim)


_Network = Callable[[Sequence[int], int, int], ResNet]


def _scales(shape: tuple[int, ...], levels: int, width: int, factor: int, coupling: str, network: _Network) -> MultiScale:
    scales: list[Bijection] = []
    splits: list[FactorOut] = []
    for _ in range(levels - 1):
        parts = _checkerboards(3, shape, width, coupling, network)
        shape, width = squeezed(shape), factor * width
        scales.append(Chain([*parts, Squeeze(), *_by_channel(3, shape, width, coupling, network)]))
        splits.append(FactorOut(shape, learned=False))
        shape = (splits[-1].kept, *shape[1:])
    scales.append(Chain(_checkerboards(4, shape, width, coupling, network)))
    return MultiScale(scales, splits, shape)


def _checkerboards(n: int, shape: tuple[int, ...], width: int, coupling: str, network: _Network) -> list[Bijection]:
    """n checkerboard couplings, even and odd positions changed in turn, with their batch norms."""
    parts: list[Bijection] = []
    for k in range(n):
        transform = _transform(coupling, shape[0])
        net = network(shape, transform.outputs * shape[0], width)
        parts += [CheckerboardCoupling(net, transform, flip=k % 2 == 1), BatchNorm(shape[0])]
    return parts


def _by_channel(n: int, shape: tuple[int, ...], width: int, coupling: str, network: _Network) -> list[Bijection]:
    """n couplings of one half of the channels by the other, in turn, with their batch norms.

    A squeeze puts the upper row of each 2×2 block into the first half of the channels: no split that a checkerboard made."""
    half = shape[0] // 2
    parts: list[Bijection] = []
    for k in range(n):
        flip = k % 2 == 1
        passing, changed = (shape[0] - half, half) if flip else (half, shape[0] - half)
        transform = _transform(coupling, changed)
        net = network((passing, *shape[1:]), transform.outputs * changed, width)
        parts += [Coupling(net, transform, half, flip), BatchNorm(shape[0])]
    return parts


def _transform(coupling: str, channels: int) -> Transform:
    return TanhAffine(channels) if coupling == "affine" else Additive()


def most_scales(shape: tuple[int, ...]) -> int:
    """The largest number of scales: one more than squeezes, each of which must leave 2 positions (of a vector, features)."""
    if len(shape) == 1:
        return most_levels(shape)
    if math.prod(shape[1:]) < 2:
        return 0
    return 1 + sum(math.prod(shape[1:]) >> k * len(shape[1:]) >= 2 for k in range(1, most_levels(shape) + 1))


def _check_levels(shape: tuple[int, ...], levels: int) -> None:
    most = most_scales(shape)
    what = "features" if len(shape) == 1 else "positions"
    if most < 1:
        raise TriptychError(
            f"RealNVP couples {what} with each other, event_shape {shape} has one: reshape the data to have 2"
        )
    if not isinstance(levels, int) or levels < 1:
        raise TriptychError(f"levels should be 1 to {most}, got {levels!r}")
    if levels > most:
        size = "×".join(map(str, shape[1:])) or str(shape[0])
        halved = f"{size} {what} can be halved {most - 1} time{'s' * (most != 2)} with some left to couple"
        raise TriptychError(f"levels={levels}, but {halved}: use levels={most}{' or fewer' * (most > 1)}")
