"""Whether an exact model is exact in float32: what comes back from z.

Shapes: stored (n, *E), as a split gives them; context (n, K) or (1, K), or None for "unknown"; results over n examples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from triptych.core import Estimate, GenerativeModel
from triptych.evaluate.latent import reconstructions

WORST = 1e-3  # the fraction of all values that lies beyond the reported percentile


@torch.no_grad()
def round_trip(
    model: GenerativeModel, stored: Tensor, *, context: Tensor | None = None, batch: int = 100
) -> dict[str, Estimate]:
    """|decode(encode(x)) − x| over all values of n examples, encoded without noise as editing does, in model coordinates.

    Returns:
        round_trip_p999  its 99.9th percentile; round_trip_max its largest; neither has a standard error (NaN)
        bytes_recovered  for pixels: the share of stored values that come back as they were, at the codec's depth
    """
    codec, worst, recovered = model.codec, torch.zeros(0), []
    beyond = math.ceil(WORST * len(stored) * math.prod(model.event_shape))
    for x, x_hat in reconstructions(model, stored, context=context, batch=batch):
        errors = (x_hat - x).abs().nan_to_num(nan=math.inf).flatten().cpu()
        worst = torch.cat([worst, errors])
        worst = worst.topk(min(beyond, len(worst))).values  # only the worst are held
        if codec.is_picture:
            same = (codec.decode(x_hat) == codec.decode(x)) & x_hat.isfinite()
            recovered.append(same.flatten(1).double().mean(1).cpu())
    n = len(stored)
    found = {name: Estimate(worst[i].item(), math.nan, n) for name, i in (("round_trip_p999", -1), ("round_trip_max", 0))}
    return found | ({"bytes_recovered": Estimate.of(torch.cat(recovered))} if recovered else {})
