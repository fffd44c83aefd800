"""A flow's game: one player, which maximises the exact likelihood and watches that the flow stays invertible."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from triptych.bijections import FlowSteps, Whiten
from triptych.flow import Flow, flow_health, most_extreme
from triptych.objectives.player import Findings, Look, Loss, Player

_LOOKED_AT = 8  # examples that `inspect` encodes and decodes
_ROUND_TRIP = 1e-3  # error from which on it is reported, in units of the largest value: a quarter of an 8-bit pixel's bin
_WHAT = {"round_trip": "decode(encode(x)) is off by", "sample_range": "samples reach"}


class FlowPlayer(Player):
    """Minimises −log p(x | c) / (D ln 2): bits per dimension of pixels, once the bit depth is added.

    `inspect` looks at 8 examples of the newest batch.

    Args:
        model: what is trained.
        drift_bound: drift of the reversible inversion beyond which gradients are computed with checkpoints instead.
        sample_bound: values of samples at temperature 1 beyond which there is a remark, in units of the largest of
            the data (1 for pixels).
    """

    validated = True

    def __init__(self, model: Flow, drift_bound: float = 1e-3, sample_bound: float = 10.0):
        super().__init__()
        self.model, self.drift_bound, self.sample_bound = model, drift_bound, sample_bound
        self._seen: list[Any] = []
        self.follow_buffers()

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        self._seen = [None if t is None else t[:_LOOKED_AT].detach().clone() for t in (x, context)]
        nll = self.model.codec.log_scale(self.model.event_shape) - self.model.log_prob(x, context).mean()
        per_dimension = nll / (self.model.latent_dim * math.log(2))
        if not self.model.codec.is_picture:
            return Loss(per_dimension, {"nll": nll.detach()})
        bits = per_dimension + self.model.codec.added_bits(self.model.measure)
        return Loss(bits, {"bits_per_dim": bits.detach()})

    def begin(self, look: Look) -> dict[str, str]:
        """Says where a whitening had few examples, or leaves components out."""
        return whitening_remarks(self.model)

    def inspect(self) -> Findings:
        if not self._seen:
            return Findings({}, {})
        x, context = self._seen
        found = flow_health(self.model, x, context)
        unit = max(1.0, x.abs().max().item())
        bounds = {"round_trip": _ROUND_TRIP * unit, "sample_range": self.sample_bound * unit}
        remarks = {
            key: f"{_WHAT[key]} {found[key]:.3g}, past {bound:.3g}: {most_extreme(found)}"
            for key, bound in bounds.items()
            if not found[key] <= bound
        }
        # Each process measures its own drift and may go over alone: gradients agree, so that modes may be mixed.
        if self.model.limit_drift(self.drift_bound):
            remarks["drift"] = (
                f"the reversible inversion drifted by {found['drift']:.1g}, past {self.drift_bound:g}: "
                "gradients are computed with checkpoints from now on"
            )
        return Findings({k: v for k, v in found.items() if isinstance(v, float)} | {"data_range": unit}, remarks)

    def follow_buffers(self) -> None:
        for module in self.model.modules():
            if isinstance(module, FlowSteps):
                module.follow_buffers()


def whitening_remarks(module: nn.Module) -> dict[str, str]:
    """Where a whitening in it had few examples, or leaves components out, by its name."""
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, Whiten)]
    return {f"whitening {name}": said for name, layer in layers if (said := layer.remark())}
