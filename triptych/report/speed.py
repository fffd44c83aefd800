"""How fast a model is, and how large: what a comparison says of cost."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from triptych.capabilities import Encodes
from triptych.core import Estimate, GenerativeModel
from triptych.modes import in_eval_mode


@torch.no_grad()
@in_eval_mode
def speeds(model: GenerativeModel, x: Tensor, *, context: Tensor | None = None, repeats: int = 5) -> dict[str, Estimate]:
    """Examples a second, sampled and, where the model encodes, encoded, as many at a time as x has; on this machine.

    Args:
        x: (B, *E) in model coordinates.
        context: of a conditional model, (B, K) or (1, K).
        repeats: measured calls, after one that warms up: n of the estimates, whose errors say how steady the machine is.

    >>> from triptych.vae import VAE
    >>> sorted(speeds(VAE((4,), 2), torch.zeros(8, 4), repeats=2))
    ['encoded', 'sampled']
    """
    noise = torch.Generator(model.device).manual_seed(0)
    found = {"sampled": _rate(lambda: model.sample(len(x), context=context, generator=noise), len(x), repeats)}
    if isinstance(model, Encodes):
        encoder, x = model, model.check_event(x).to(model.device)
        given = model.check_context(context, len(x))
        found["encoded"] = _rate(lambda: encoder.encode(x, given), len(x), repeats)
    return found


def _rate(work: Callable[[], Tensor], count: int, repeats: int) -> Estimate:
    work()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        work().sum().item()  # waits for an accelerator
        rates.append(count / (time.perf_counter() - start))
    return Estimate.of(torch.tensor(rates))
