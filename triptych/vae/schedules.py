"""The weight of the KL term: pure functions of the step, so that a resumed run continues where it was.

β (Higgins et al. 2017), warm-up (Bowman et al. 2016; Sønderby et al. 2016), free bits (Kingma et al. 2016, section C.8).
"""

from __future__ import annotations

from torch import Tensor


def kl_weight(step: int, *, beta: float = 1.0, warmup: int = 0) -> float:
    """β · min(1, (step + 1) / warmup): linear from near 0 to β over the first `warmup` steps.

    >>> [kl_weight(s, beta=2.0, warmup=4) for s in (0, 1, 3, 100)]
    [0.5, 1.0, 2.0, 2.0]
    """
    return beta * min(1.0, (step + 1) / warmup) if warmup else beta


def free_bits(kl: Tensor, floor: float) -> Tensor:
    """Σ_j max(λ, mean_b KL_j), spread over the batch: no dimension is pushed below λ nats.

    Args:
        kl: per example and dimension, (B, L) nats.
        floor: λ in nats for each dimension.
    Returns:
        (B,), whose mean is the objective's KL term; with floor = 0 it is kl.sum(1) itself.
    """
    if floor <= 0:
        return kl.sum(1)
    mean = kl.mean(0)  # (L,)
    above = (mean > floor).to(kl.dtype)
    return (kl * above).sum(1) + floor * (1 - above).sum()
