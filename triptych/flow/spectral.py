"""A flow over principal components, from large to small variance.

A relative of WaveletFlow (Yu et al. 2020, arXiv 2010.13821), whose groups are the scales of a wavelet transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from triptych.bijections import (
    Affine,
    Autoregressive,
    Bijection,
    Chain,
    ContextAffine,
    Coupling,
    Dense,
    Flatten,
    ResidualDense,
    Spline,
    Whiten,
)
from triptych.bijections.whiten import MOST_CHANNELS
from triptych.errors import TriptychError, check_layers, check_size
from triptych.flow.flow import Flow, conditional_end, read_as

GROUPS = (16, 16, 32, 64, 128, 256, 512)
FLOOR = 0.4
"""The smallest scale of an affine coupling here, whose inverse multiplies by up to 1 / FLOOR: the likelihood loses nothing
by it."""


class SpectralFlow(Flow):
    """PCA of the whole event, then its components group after group, each group given the coarser ones.

        y = Λ^(−½) Uᵀ (x − m) = (y_1, …, y_n),   z_i = f_i((y_i − μ_i) / σ_i; t_i),   μ_i, σ_i linear in t_i(y_1, …, y_{i−1})

    m, U and Λ are fitted, not trained (`Whiten`, with held-out variances). t_i is a residual perceptron; f_i couples halves
    of the group, with networks that see the other half and t_i: by splines in the first groups, where shapes are far from
    Gaussian, by affine maps in those that follow, not at all in those beyond. At the start of training the model is the
    Gaussian of the data. It encodes in one pass, and decodes group after group.

    Args:
        event_shape: any; D values, at least 2.
        groups: sizes of the groups; what D has beyond them is the last, and sizes beyond D are left out.
        width: of each t_i.
        depth: residual blocks in each t_i.
        couplings: of each group that has any.
        coupling_width: of the couplings' networks.
        splines: how many groups are coupled by splines.
        coupled: how many groups are coupled at all.
        rank: principal components that are kept apart; the rest shares one variance. None keeps all up to D = 4,096, and
            beyond as many as `groups` name.
        noise: on what each t_i sees in training mode, in standard deviations of the components (`Autoregressive`): only in
            eval mode is the model exact then.
        reading: "dequantise" for 8-bit values, "none" for floats, "auto" by the shape: pictures are 8-bit.
        bits: depth at which pixels are read.
        context_dim: length of the context, 0 for none; all networks see it.

    Raises:
        TriptychError: for sizes that cannot be.

    >>> import torch
    >>> model = SpectralFlow((3, 4, 4), groups=(4, 8), width=16)
    >>> x = torch.rand(64, 3, 4, 4)
    >>> model.initialize(x)
    >>> z = model.eval().encode(x)
    >>> z.shape, torch.allclose(model.decode(z), x, atol=1e-5), model.log_prob(x).shape
    (torch.Size([64, 48]), True, torch.Size([64]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        groups: Sequence[int] = GROUPS,
        width: int = 512,
        depth: int = 1,
        couplings: int = 4,
        coupling_width: int = 128,
        splines: int = 3,
        coupled: int = 5,
        rank: int | None = None,
        noise: float = 0.0,
        reading: Literal["auto", "dequantise", "none"] = "auto",
        bits: int = 8,
        context_dim: int = 0,
    ):
        shape, size = tuple(event_shape), math.prod(event_shape)
        check_layers("groups", groups)
        sides = {"width": width, "depth": depth, "couplings": couplings, "coupling_width": coupling_width}
        for name, value in sides.items():
            check_size(name, value, 8_192)
        if size < 2:
            raise TriptychError(f"event_shape {shape} has one value, which has nothing to couple with: give at least 2")
        sizes = clipped(groups, size)
        if rank is None and size > MOST_CHANNELS:
            rank = min(sum(groups), size - 1)
        parts: list[Bijection] = []
        trunks = []
        for i, group in enumerate(sizes):
            told = width if i else context_dim
            kind = "spline" if i < splines else "affine"
            parts.append(_group(group, coupling_width, couplings if i < coupled and group > 1 else 0, kind, told))
            if i:
                trunks.append(ResidualDense(sum(sizes[:i]), None, width, depth, context_dim))
        chain = [Flatten(shape), Whiten(size, rank=rank), Autoregressive(sizes, parts, trunks, noise)]
        chain += conditional_end(shape, context_dim)
        super().__init__(shape, Chain(chain), read_as(reading, bits, shape), context_dim=context_dim)


def clipped(groups: Sequence[int], size: int) -> tuple[int, ...]:
    """The groups of `size` values: as many as there are values for, and the rest as one more.

    >>> clipped((16, 32), 100), clipped((16, 32), 20), clipped((16, 32), 48)
    ((16, 32, 52), (16, 4), (16, 32))
    """
    sizes: list[int] = []
    for group in (*groups, size):
        sizes.append(min(group, size - sum(sizes)))
    return tuple(s for s in sizes if s)


def _group(size: int, width: int, couplings: int, kind: str, told: int) -> Bijection:
    """μ and σ by what the group is told, then couplings of halves that take turns."""
    half = size // 2
    layers: list[Bijection] = [ContextAffine((size,), told)] if told else []
    for k in range(couplings):
        passing, changed = (size - half, half) if k % 2 else (half, size - half)
        transform = Spline() if kind == "spline" else Affine(FLOOR)
        net = Dense(passing, transform.outputs * changed, (width, width), told)
        layers.append(Coupling(net, transform, half, flip=k % 2 == 1))
    return Chain(layers)
