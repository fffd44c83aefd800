"""An edit beside what the model makes of the pictures without it: what an edit cannot mend is what is lost there.

Shapes: B pictures, k edits of each; stored (B, *E), x (B, *E) and z (B, L) of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from triptych.capabilities import Encodes, require
from triptych.core import GenerativeModel
from triptych.modes import in_eval_mode


class Shown(NamedTuple):
    """Edited pictures, and how far their reconstructions are off.

    Attributes:
        pictures: stored values, (B, k, *E), or (B, k + 2, *E) with original and reconstruction in front.
        rms: root mean square of reconstruction − original in stored values, 0 … 255 for pixels; (B,).
    """

    pictures: Tensor
    rms: Tensor


Change = Callable[[Tensor, Tensor], Tensor]  # x (B, *E) and its z -> edited (B, k, *E)


@torch.no_grad()
@in_eval_mode
def shown(
    model: GenerativeModel, stored: Tensor, change: Change, *, context: Tensor | None = None, beside: bool = False
) -> Shown:
    """Stored pictures edited, beside their reconstructions; each is encoded once for both.

    Args:
        change: x, z -> edited, in model coordinates.
        context: of a conditional model, what the pictures show, (B, K) or (1, K).
        beside: put original and reconstruction in front of the edits.

    >>> pair = shown(model, stored, lambda x, z: apply(model, x, {"smile": 1.5}, directions, z=z)[:, None])  # doctest: +SKIP
    """
    x, context = model.codec.centre(stored), model.check_context(context, len(stored))
    z = require(model, Encodes).encode(model.check_event(x), context)
    again, edited = model.codec.decode(model.decode(z, context)), change(x, z)
    pictures = model.codec.decode(edited.flatten(0, 1)).unflatten(0, edited.shape[:2])
    if beside:
        pictures = torch.cat([stored[:, None], again[:, None], pictures], dim=1)
    return Shown(pictures, (again.double() - stored.double()).square().flatten(1).mean(1).sqrt())
