"""A flow's game: one player, which maximises the exact likelihood and watches that the flow stays invertible."""

from __future__ import annotations

import math

from torch import Tensor

from triptych.bijections import FlowSteps
from triptych.flow import Flow, flow_health, most_extreme
from triptych.objectives.player import Findings, Loss, Player

_LOOKED_AT = 8  # examples that `inspect` encodes and decodes
_ROUND_TRIP = 1e-3  # error from which on it is reported, in units of the largest value: a quarter of an 8-bit pixel's bin


class FlowPlayer(Player):
    """Minimises −log p(x | c) / (D ln 2): bits per dimension of pixels, once the bit depth is added.

    `inspect` looks at 8 examples of the newest batch.

    Args:
        model: what is trained.
        drift_bound: drift of the reversible inversion beyond which gradients are computed with checkpoints instead.
        sample_bound: values of samples at temperature 1 beyond which there is a remark, in units of the largest of
            the data (1 for pixels).
    """

    def __init__(self, model: Flow, drift_bound: float = 1e-3, sample_bound: float = 10.0):
        super().__init__()
        self.model, self.drift_bound, self.sample_bound = model, drift_bound, sample_bound
        self._seen: tuple[Tensor, Tensor | None] | None = None
        self.follow_buffers()

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        kept = None if context is None else context[:_LOOKED_AT].detach().clone()
        self._seen = x[:_LOOKED_AT].detach().clone(), kept
        nll = -self.model.log_prob(x, context).mean()
        per_dimension = nll / (self.model.latent_dim * math.log(2))
        if not self.model.codec.is_picture:
            return Loss(per_dimension, {"nll": nll.detach()})
        bits = per_dimension + self.model.codec.added_bits(self.model.measure)
        return Loss(bits, {"bits_per_dim": bits.detach()})

    def inspect(self) -> Findings:
        if self._seen is None:
            return Findings({}, {})
        x, context = self._seen
        found = flow_health(self.model, x, context)
        unit = max(1.0, x.abs().max().item())
        remarks = self._remarks(found, unit)
        # Each process measures its own drift and may go over alone: gradients agree, so that modes may be mixed.
        if self.model.limit_drift(self.drift_bound):
            remarks["drift"] = (
                f"the reversible inversion drifted by {found['drift']:.1g}, past {self.drift_bound:g}: "
                "gradients are computed with checkpoints from now on"
            )
        numbers = {k: v for k, v in found.items() if isinstance(v, float)}
        return Findings(numbers | {"data_range": unit}, remarks)

    def follow_buffers(self) -> None:
        for module in self.model.modules():
            if isinstance(module, FlowSteps):
                module.follow_buffers()

    def _remarks(self, found: dict[str, float | str], unit: float) -> dict[str, str]:
        remarks = {}
        if not found["round_trip"] <= _ROUND_TRIP * unit:  # type: ignore[operator]
            remarks["round_trip"] = f"decode(encode(x)) is off by {found['round_trip']:.3g}: {most_extreme(found)}"
        if not found["sample_range"] <= self.sample_bound * unit:  # type: ignore[operator]
            limit = f"past {self.sample_bound * unit:.3g}"
            remarks["sample_range"] = f"samples reach {found['sample_range']:.3g}, {limit}: {most_extreme(found)}"
        return remarks
