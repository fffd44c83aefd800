"""Bad steps: found without a synchronisation, skipped, named, and rolled back when they repeat.

A step is bad when its gradient's norm is not finite, or leaps far above its running mean. (The gradient, not the loss:
several processes share it, so that they agree; and a loss that is not finite has no finite gradient.) The
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
    """Running statistics of one player's steps: buffers, so that a checkpoint holds them.

    Attributes:
        norm: running mean of the gradient's norm over good steps.
        bad, streak: bad steps in all, and in a row up to now.
        last_bad_step: the newest one's, or -1; last_bad_norms: its gradient's norm for each parameter.
    """

    norm: Tensor
    bad: Tensor
    streak: Tensor
    last_bad_step: Tensor
    last_bad_norms: Tensor

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.register_buffer("norm", torch.zeros(()))
        self.register_buffer("bad", torch.zeros((), dtype=torch.long))
        self.register_buffer("streak", torch.zeros((), dtype=torch.long))
        self.register_buffer("last_bad_step", torch.full((), -1, dtype=torch.long))
        self.register_buffer("last_bad_norms", torch.zeros(parameters))

    @torch.no_grad()
    def judge(self, gradients: Sequence[Tensor | None], step: int) -> tuple[Tensor, Tensor]:
        """Whether the step (counted from 1) is bad, a 0/1 float tensor, and the gradient's norm; None counts as 0."""
        found = torch.stack(torch._foreach_norm([g for g in gradients if g is not None]))
        norms = found
        if len(found) < len(gradients):
            norms = found.new_zeros(len(gradients))
            norms[[i for i, g in enumerate(gradients) if g is not None]] = found
        norm = torch.linalg.vector_norm(norms)
        bad = norm.isfinite().logical_not_()
        if step > SETTLED:
            bad |= norm > SPIKE * self.norm
        self.norm.lerp_(torch.where(bad, self.norm, norm), _MEMORY)
        self.bad += bad
        self.streak.add_(1).mul_(bad)
        self.last_bad_step.masked_fill_(bad, step)
        torch.where(bad, norms, self.last_bad_norms, out=self.last_bad_norms)
        return bad.to(norm.dtype), norm

    def culprit(self) -> int:
        """Which parameter's gradient was at fault in the last bad step: the first not finite, else the largest."""
        broken = ~self.last_bad_norms.isfinite()
        return int(broken.int().argmax() if broken.any() else self.last_bad_norms.argmax())


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


def holder_of_nan(model: nn.Module) -> str | None:
    """The name of the first module that holds a weight that is not finite, or None."""
    return next((name.rpartition(".")[0] for name, p in model.named_parameters() if not p.isfinite().all()), None)


def first_broken_module(model: nn.Module, play: object) -> str | None:
    """The name of the module that holds a weight that is not finite, else of the first that puts out what is not, or None.

    Args:
        play: a callable that runs the model forward on the batch and noise of the bad step, which are pure functions of
            the step and can be had again.
    """
    if holder := holder_of_nan(model):
        return holder
    broken: list[str] = []

    def watch(name: str):
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if not broken and not _finite(output):
                broken.append(name)

        return hook

    # a module's hook is called after its children's: the innermost is named
    hooks = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if m is not model]
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]  # running averages have seen this batch already
    try:
        with torch.no_grad():
            play()  # type: ignore[operator]
    finally:
        for handle in hooks:
            handle.remove()
        for buffer, value in kept:
            buffer.copy_(value)
    return broken[0] if broken else None


def _finite(output: object) -> bool:
    """Whether a tensor, or every tensor in a tuple, is finite; anything else is."""
    if isinstance(output, tuple | list):
        return all(_finite(part) for part in output)
    return not isinstance(output, Tensor) or bool(output.isfinite().all())
