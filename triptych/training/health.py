"""Bad steps: detected without a synchronisation, skipped, named, and rolled back when they repeat.

A step is bad when its gradient's norm is not finite, or leaps far above its running mean. (The gradient, not the loss:
several processes share it, so that they agree; and a loss that is not finite has no finite gradient.) A player may take
steps of several kinds, such as those with a lazy penalty, whose weight is many times that of the rest: each kind has its
own mean. Leaps that last are a new level, which is accepted: a discriminator that has grown too steep is brought back by
the very penalties whose gradients leap. The verdict stays on the device as a 0/1 tensor, which the fused optimisers take
as `found_inf` and then leave weights and moments alone; it is read only when the log is written.

Shapes: P parameters of one player, K kinds of steps; a norm or verdict is a scalar ().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim import Optimizer

SPIKE = 100.0  # times the running mean of the gradient's norm: far outside what a healthy run shows
SETTLED = 100  # steps of a kind before their mean is meaningful
LASTING = 5  # leaps of a kind in a row that are skipped; what comes after them is the new level
_MEMORY = 0.02  # weight of the newest norm in the running mean


class Health(nn.Module):
    """Running statistics of one player's steps: buffers, so that a checkpoint holds them.

    Args:
        parameters: P, of how many the gradients are judged.
        kinds: K, of steps that are judged apart.

    Attributes:
        norm: running mean of the gradient's norm over good steps of each kind, (K,).
        seen, leaps: steps of each kind, and leaps in a row among them up to now, (K,).
        bad, streak: bad steps in all, and in a row up to now.
        last_bad_step: the newest bad step, or −1; last_bad_norms: its gradient's norm for each parameter, (P,).
        reported: how many of the bad steps have been reported.

    >>> bad, norm = Health(1).judge([torch.tensor([3.0, 4.0])], step=1)
    >>> bad.item(), norm.item()
    (0.0, 5.0)
    """

    norm: Tensor
    seen: Tensor
    leaps: Tensor
    bad: Tensor
    streak: Tensor
    last_bad_step: Tensor
    last_bad_norms: Tensor

    def __init__(self, parameters: int, kinds: int = 1) -> None:
        super().__init__()
        self.register_buffer("norm", torch.zeros(kinds))
        self.register_buffer("seen", torch.zeros(kinds, dtype=torch.long))
        self.register_buffer("leaps", torch.zeros(kinds, dtype=torch.long))
        self.register_buffer("bad", torch.zeros((), dtype=torch.long))
        self.register_buffer("streak", torch.zeros((), dtype=torch.long))
        self.register_buffer("last_bad_step", torch.full((), -1, dtype=torch.long))
        self.register_buffer("last_bad_norms", torch.zeros(parameters))
        self.reported = 0

    def upgraded(self, buffers: dict[str, Tensor]) -> dict[str, Tensor]:
        """The buffers of a checkpoint; those of earlier versions judged all kinds of steps as one."""
        if buffers.get("norm", self.norm).ndim:
            return buffers
        mean = buffers["norm"].expand(self.norm.shape)
        return buffers | {"norm": mean, "seen": torch.full_like(self.seen, SETTLED), "leaps": torch.zeros_like(self.leaps)}

    def restore(self, buffers: dict[str, Tensor]) -> None:
        """Takes the buffers of a checkpoint."""
        self.load_state_dict(self.upgraded(buffers))
        self.reported = int(self.bad)

    @torch.no_grad()
    def judge(self, gradients: Sequence[Tensor | None], step: int, kind: int = 0) -> tuple[Tensor, Tensor]:
        """Whether the step (counted from 1) is bad, a 0/1 float tensor, and the gradient's norm; None counts as 0.

        Args:
            kind: 0 … K − 1, which of the player's kinds of steps it is.
        """
        none = self.norm.new_zeros(())
        norms = torch.stack(torch._foreach_norm([none if g is None else g for g in gradients]))
        norm = torch.linalg.vector_norm(norms)
        mean, seen, leaps = self.norm[kind], self.seen[kind], self.leaps[kind]
        leapt = norm.isfinite() & (norm > SPIKE * mean) & (seen >= SETTLED)
        leaps.add_(1).mul_(leapt)
        lasting = leaps > LASTING
        bad = norm.isfinite().logical_not_() | (leapt & ~lasting)
        mean.lerp_(torch.where(bad, mean, norm), torch.where(lasting, 1.0, _MEMORY))
        seen.add_(1)
        self.bad += bad
        self.streak.add_(1).mul_(bad)
        self.last_bad_step.masked_fill_(bad, step)
        torch.where(bad, norms, self.last_bad_norms, out=self.last_bad_norms)
        return bad.to(norm.dtype), norm

    def culprit(self) -> int:
        """Index of the parameter to blame for the last bad step: the first whose norm is not finite, else the largest."""
        broken = ~self.last_bad_norms.isfinite()
        return int(broken.int().argmax() if broken.any() else self.last_bad_norms.argmax())


def skip_if(bad: Tensor, optimizer: Optimizer, gradients: Sequence[Tensor]) -> None:
    """Makes the optimiser's next step leave everything alone where `bad` is 1.

    Fused optimisers take the flag itself; the others are masked: their gradient becomes 0, which moves weights only by
    what momentum they carry.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        return
    for gradient in gradients:
        gradient.masked_fill_(bad.bool(), 0.0)


def broken_layer(model: nn.Module) -> str | None:
    """The name of the first module that holds a weight that is not finite, or None."""
    return next((name.rpartition(".")[0] for name, p in model.named_parameters() if not p.isfinite().all()), None)


def first_broken_module(model: nn.Module, play: Callable[[], object]) -> str | None:
    """The first module that holds a weight that is not finite, else the first whose output is not, by name; or None.

    Args:
        play: runs the model forward on the batch and noise of the bad step, which are pure functions of the step.
    """
    if layer := broken_layer(model):
        return layer
    names = {module: name for name, module in model.named_modules() if module is not model}
    broken: list[str] = []

    def watch(module: nn.Module, _inputs: object, output: object) -> None:
        if module in names and not broken and not _finite(output):
            broken.append(names[module])

    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]  # running averages have seen this batch already
    try:
        # a module's hook is called after those of the modules inside it: the innermost is named
        with torch.no_grad(), register_module_forward_hook(watch):
            play()
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
    return broken[0] if broken else None


def _finite(output: object) -> bool:
    """Whether a tensor, or every tensor in a tuple, is finite; True for anything else."""
    if isinstance(output, tuple | list):
        return all(_finite(part) for part in output)
    return not isinstance(output, Tensor) or bool(output.isfinite().all())
