"""NICE (Dinh, Krueger & Bengio 2014, arXiv 1410.8516)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from triptych.bijections import Additive, Bijection, Chain, Coupling, Dense, Flatten, LogisticToNormal, Permutation, Scale
from triptych.errors import TriptychError, check_choice, check_layers, check_size
from triptych.flow.flow import Flow, conditional_end, read_as

_MOST_COUPLINGS = 64  # bounds what a recipe from elsewhere can ask for


class NICE(Flow):
    """NICE: additive couplings of the odd and the even features, each part changed in turn, then a scale for each feature.

        h⁰ = (x_odd, x_even),   h^k: one part + m_k(the other),   h = exp(s) ⊙ h^K
        log p(x) = Σ_i [log p_H(h_i) + s_i],   log p_H(h) = −softplus(h) − softplus(−h)

    Sections 3.2, 3.3 and 5.1. The logistic prior is a layer here (`LogisticToNormal`), so that z is N(0, I) as for every
    model. Pixels are read in [0, 1] as in the paper, without its whitening. Couplings start as the identity.

    Args:
        event_shape: any; data are flattened, D ≥ 2 values. Features are counted from 1, so the first is odd.
        couplings: K, 4 in the paper; at least 2, or one part would never change.
        hidden: hidden layers of each m_k, ReLU; 5 of 1000 for the paper's MNIST.
        prior: "logistic" or "gaussian".
        reading: "dequantise" for 8-bit values, "none" for floats, "auto" by the shape: pictures are 8-bit.
        bits: depth at which pixels are read.
        context_dim: length of the context, 0 for none; the couplings' networks see it, and h passes an affine map that
            depends on it before the prior.

    Raises:
        TriptychError: for settings that cannot work; the message says what would.

    >>> import torch
    >>> model = NICE((1, 5, 5), hidden=(32, 32))
    >>> x = torch.rand(4, 1, 5, 5)
    >>> model.initialize(x)
    >>> z = model.encode(x)
    >>> z.shape, torch.allclose(model.decode(z), x, atol=1e-5), model.log_prob(x).shape
    (torch.Size([4, 25]), True, torch.Size([4]))
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        couplings: int = 4,
        hidden: Sequence[int] = (1000,) * 5,
        prior: Literal["logistic", "gaussian"] = "logistic",
        reading: Literal["auto", "dequantise", "none"] = "auto",
        bits: int = 8,
        context_dim: int = 0,
    ):
        shape, codec = tuple(event_shape), read_as(reading, bits, event_shape)
        check_choice("prior", prior, ("logistic", "gaussian"))
        check_size("couplings", couplings, _MOST_COUPLINGS, least=2)
        check_layers("hidden", hidden)
        check_size("the number of hidden layers", len(hidden))
        size = math.prod(shape)
        if size < 2:
            raise TriptychError(f"NICE couples two parts, event_shape {shape} has one value: give at least 2")
        odd, even = size - size // 2, size // 2
        parts: list[Bijection] = [Flatten(shape), Permutation([*range(0, size, 2), *range(1, size, 2)])]
        for k in range(couplings):
            inputs, outputs = (even, odd) if k % 2 else (odd, even)  # the first changes the even features by the odd ones
            parts.append(Coupling(Dense(inputs, outputs, hidden, context_dim), Additive(), odd, flip=k % 2 == 1))
        parts += [Scale(size), *conditional_end(shape, context_dim)]
        if prior == "logistic":
            parts.append(LogisticToNormal())
        super().__init__(shape, Chain(parts), codec, context_dim=context_dim)
