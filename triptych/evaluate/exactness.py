"""Whether an exact model is exact in float32: what comes back from z.

Shapes: stored (n, *E), as a split gives them; results over n data.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from triptych.core import Encodes, Estimate, GenerativeModel, require

WORST = 1e-3  # the part of all values that lies beyond the percentile that is given


@torch.no_grad()
def round_trip(model: GenerativeModel, stored: Tensor, *, batch: int = 100) -> dict[str, Estimate]:
    """|decode(encode(x)) − x| over all values of n data, encoded without noise as editing does, in model coordinates.

    Returns:
        round_trip_p999  its 99.9th percentile; round_trip_max its largest; neither has a standard error (NaN)
        bytes_recovered  for pixels: the share of stored values that come back as they were, at the codec's depth
    """
    encoder, codec = require(model, Encodes), model.codec
    worst = torch.zeros(0)
    beyond = math.ceil(WORST * len(stored) * math.prod(model.event_shape))
    recovered = []
    for part in stored.split(batch):
        x = codec.centre(model.check_event(part).to(model.device))
        again = model.decode(encoder.encode(x))
        errors = (again - x).abs().nan_to_num(nan=math.inf).flatten().cpu()
        worst = torch.cat([worst, errors])
        worst = worst.topk(min(beyond, len(worst))).values  # of all data only the worst are held
        if codec.reading != "none":
            same = (codec.decode(again) == codec.decode(x)) & again.isfinite()
            recovered.append(same.flatten(1).double().mean(1).cpu())
    n = len(stored)
    found = {name: Estimate(worst[i].item(), math.nan, n) for name, i in (("round_trip_p999", -1), ("round_trip_max", 0))}
    return found | ({"bytes_recovered": Estimate.of(torch.cat(recovered))} if recovered else {})
