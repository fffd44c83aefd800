"""Bad steps: found without a synchronisation, skipped, named, and rolled back when they repeat.

A step is bad when its loss or its gradient's norm is not finite, or the norm leaps far above its running mean. The
verdict stays on the device as a 0/1 tensor, which the fused optimisers take as `found_inf` and then leave weights and
moments alone; it is read only when the log is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

SPIKE = 100.0  # times the running mean of the gradient's norm: far outside what a healthy run shows
SETTLED = 100  # steps before that mean means anything
_MEMORY = 0.02  # weight of the newest norm in the running mean


class Health(nn.Module):
    """Running statistics of one player's steps: buffers, so that a checkpoint holds them."""

    norm: Tensor
    good: Tensor
    bad: Tensor
    streak: Tensor
    last_bad_step: Tensor
    last_bad_parameter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("norm", torch.zeros(()))
        for name in ("good", "bad", "streak"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))
        for name in ("last_bad_step", "last_bad_parameter"):
            self.register_buffer(name, torch.full((), -1, dtype=torch.long))

    @torch.no_grad()
    def judge(self, loss: Tensor, gradients: Sequence[Tensor], step: int) -> tuple[Tensor, Tensor]:
        """Whether the step is bad (a 0/1 float tensor), and the gradient's norm."""
        norms = torch.stack(torch._foreach_norm(gradients))
        norm = torch.linalg.vector_norm(norms)
        broken = ~(norm.isfinite() & loss.isfinite())
        bad = broken | ((self.good >= SETTLED) & (norm > SPIKE * self.norm))
        self._remember(bad, norm, norms, step)
        return bad.to(norm.dtype), norm

    def _remember(self, bad: Tensor, norm: Tensor, norms: Tensor, step: int) -> None:
        weight = torch.where(self.good == 0, 1.0, _MEMORY)
        self.norm.copy_(torch.where(bad, self.norm, self.norm + weight * (norm - self.norm)))
        self.good.add_(~bad)
        self.bad.add_(bad)
        self.streak.copy_(torch.where(bad, self.streak + 1, 0))
        # the first parameter that is not finite, else the one with the largest gradient
        first = torch.where(norms.isfinite().all(), norms.argmax(), (~norms.isfinite()).int().argmax())
        self.last_bad_parameter.copy_(torch.where(bad, first, self.last_bad_parameter))
        self.last_bad_step.masked_fill_(bad, step)


def skip_if(bad: Tensor, optimizer: Optimizer, gradients: Sequence[Tensor]) -> None:
    """Makes the optimiser's next step leave everything alone where bad is 1.

    Fused optimisers take the flag itself; the others are masked: their gradient becomes 0, which moves weights only by
    what momentum they carry.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        return
    for gradient in gradients:
        gradient.masked_fill_(bad.bool(), 0.0)


def clip(gradients: Iterable[Tensor], norm: Tensor, largest: float) -> None:
    """Scales the gradients so that their norm is at most `largest`."""
    torch._foreach_mul_(list(gradients), (largest / (norm + 1e-6)).clamp(max=1.0))


def first_broken_module(model: nn.Module, play: object) -> str | None:
    """The name of the first module whose output is not finite while `play()` runs, or None.

    Args:
        play: a callable that runs the model forward on the batch and noise of the bad step, which are pure functions of
            the step and can be had again.
    """
    broken: list[str] = []

    def watch(name: str):
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if not broken and isinstance(output, Tensor) and not output.isfinite().all():
                broken.append(name)

        return hook

    hooks = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if not list(m.children())]
    try:
        with torch.no_grad():
            play()  # type: ignore[operator]
    finally:
        for handle in hooks:
            handle.remove()
    return broken[0] if broken else None
