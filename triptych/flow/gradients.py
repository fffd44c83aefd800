"""Flow steps with their gradient by hand, and a choice of what is kept for it.

    full         every activation
    checkpoint   each step's input; the network is called again going back
    reversible   the last output only; going back, a step's input follows from its output (Gomez et al. 2017,
                 arXiv 1707.04585)

All three are one algorithm. The half that passes a coupling is the same in its output, so one call of the network on it
gives h, which undoes the other half, and is what the gradient flows back through. First derivatives only: for
second ones, call the steps one by one.

Shapes: K steps; x, z (B, C, *S) outside, rows (B, P, C) of the P = |S| positions inside; weight (K, C, C), bias (K, C) of
the folded actnorms and 1×1 convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from triptych.flow.layers.coupling import Coupling, StepTransform

Memory = Literal["full", "checkpoint", "reversible"]
Tensors = tuple[Tensor, ...]


def couple(
    couplings: Sequence[Coupling], weight: Tensor, bias: Tensor, x: Tensor, memory: Memory, drift: Tensor
) -> tuple[Tensor, Tensor]:
    """z and the couplings' ladj (B,) of x -> coupling(W x + b), K times.

    Args:
        couplings: K of them, whose first channels pass, with a `StepTransform`.
        drift: a number that "reversible" raises to max |x̂ − x| / max |x| over the first datum, x̂ being the input as the
            way back gave it.
    """
    x, places = _rows(x), x.shape[2:]
    back = _Back(weight.detach(), bias.detach(), x[:1].detach().clone(), drift) if memory == "reversible" else None
    ladjs = []
    for k, (coupling, w, b) in enumerate(zip(couplings, weight.unbind(0), bias.unbind(0), strict=True)):
        x, ladj = _Step.apply(_Part(k, coupling, places, memory == "full", back), x, w, b, *coupling.net.learned())
        ladjs.append(ladj)
    return _events(x, places), torch.stack(ladjs).sum(0)


def evaluate(couplings: Sequence[Coupling], weight: Tensor, bias: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """What `couple` gives, without gradients: nothing is kept, and the networks are called as modules."""
    z, places, ladjs = _rows(x), x.shape[2:], []
    for coupling, w, b in zip(couplings, weight.unbind(0), bias.unbind(0), strict=True):
        z = _affine(z, w, b)
        ladjs.append(_by_hand(coupling).do_(z[..., coupling.split :], _terms(coupling, places, z)))
    return _events(z, places), torch.stack(ladjs).sum(0)


def invert(couplings: Sequence[Coupling], weight: Tensor, bias: Tensor, z: Tensor) -> Tensor:
    """x of z, without gradients; weight and bias are those of the inverse affine maps."""
    y, places = _rows(z).clone(), z.shape[2:]
    for coupling, w, b in zip(reversed(couplings), reversed(weight.unbind(0)), reversed(bias.unbind(0)), strict=True):
        _by_hand(coupling).undo_(y[..., coupling.split :], _terms(coupling, places, y))
        y = _affine(y, w, b)
    return _events(y, places)


def _terms(coupling: Coupling, places: Sequence[int], y: Tensor) -> Tensors:
    return _by_hand(coupling).terms(_rows(coupling.net(_events(y[..., : coupling.split], places))))


class _Part(NamedTuple):
    """A step, and what is kept for its gradient."""

    k: int
    coupling: Coupling
    places: Sequence[int]
    everything: bool
    back: _Back | None  # where inputs follow from outputs


class _Step(torch.autograd.Function):
    """One step; all is kept by `save_for_backward`, which lets go of it as the gradient passes, for the next to use."""

    @staticmethod
    def forward(ctx, part, x, weight, bias, *learned):
        z, ladj, recorded, terms = _forward(part.coupling, part.places, _affine(x, weight, bias))
        ctx.part, ctx.sizes = part, (len(learned), len(recorded))
        if part.back is None:
            ends: Tensors = (x, z)
        else:
            ends = (z,) if part.k == part.back.last else ()
        ctx.ends = len(ends)
        ctx.save_for_backward(*ends, weight, *learned, *((*recorded, *terms) if part.everything else ()))
        return z, ladj

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_ladj):
        part = ctx.part
        ends, (weight, *saved) = ctx.saved_tensors[: ctx.ends], ctx.saved_tensors[ctx.ends :]
        learned, recorded = ctx.sizes
        kept = tuple(saved[learned:])
        z = ends[-1] if ends else part.back.z
        record, terms = (kept[:recorded], kept[recorded:]) if kept else _again(part.coupling, part.places, z)
        by_y, by_net = _backward(part.coupling, part.places, z, record, terms, grad, grad_ladj)
        del record, kept
        x = ends[0] if part.back is None else part.back.undo(part.k, part.coupling, z, terms)
        rows = by_y.flatten(0, 1)
        return None, (rows @ weight).view_as(x), rows.T @ x.flatten(0, 1), rows.sum(0), *by_net


class _Back:
    """The way back of a reversible flow: each step's backward hands its input, found again, to the one before.

    Steps go back one after the other, since the gradient passes through all of them. (One function of all K steps would
    hold a scale's gradients until its end, among which large activations come and go: the heap falls to pieces, and grew
    by as much again.)
    """

    def __init__(self, weight: Tensor, bias: Tensor, first: Tensor, drift: Tensor):
        self.weight, self.bias, self.first, self.drift = weight, bias, first, drift
        self.last = len(weight) - 1
        self.z: Tensor | None = None  # the output of the step that is next to go back

    def undo(self, k: int, coupling: Coupling, z: Tensor, terms: Tensors) -> Tensor:
        """Step k's input."""
        if k == self.last:
            self.inverse = torch.linalg.inv_ex(self.weight.double())[0].to(self.weight.dtype)
            self.offset = -(self.inverse @ self.bias[..., None])[..., 0]
        y = z.clone()
        _by_hand(coupling).undo_(y[..., coupling.split :], terms)
        x = _affine(y, self.inverse[k], self.offset[k])
        self.z = x if k else None
        if k == 0:
            _note_drift(self.drift, x[:1], self.first)
        return x


def _forward(coupling: Coupling, places: Sequence[int], y: Tensor) -> tuple[Tensor, Tensor, Tensors, Tensors]:
    """The coupling of y, which is overwritten: z, ladj, the network's record, the transform's terms."""
    recorded, terms = _again(coupling, places, y)
    ladj = _by_hand(coupling).do_(y[..., coupling.split :], terms)
    return y, ladj, recorded, terms


def _again(coupling: Coupling, places: Sequence[int], y: Tensor) -> tuple[Tensors, Tensors]:
    """The network's record and the transform's terms, from a coupling's input or output: what passes is in both."""
    h, recorded = coupling.net.record(_events(y[..., : coupling.split], places))
    return recorded, _by_hand(coupling).terms(_rows(h))


def _backward(
    coupling: Coupling, places: Sequence[int], z: Tensor, recorded: Tensors, terms: Tensors, grad: Tensor, grad_ladj: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """The gradient by a coupling's input, and by its network's parameters."""
    (_, b), (by_a, by_b) = (t.tensor_split((coupling.split,), -1) for t in (z, grad))
    by_y = torch.empty_like(grad)
    start, rest = by_y.tensor_split((coupling.split,), -1)
    by_h = _by_hand(coupling).gradients(b, terms, by_b, grad_ladj[:, None, None], rest)
    by_input, by_net = coupling.net.gradients(recorded, _events(by_h, places))
    torch.add(by_a, _rows(by_input), out=start)
    return by_y, by_net


def _by_hand(coupling: Coupling) -> StepTransform:
    assert isinstance(coupling.transform, StepTransform) and not coupling.flip
    return coupling.transform


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b of rows (B, P, C)."""
    return torch.addmm(bias, x.flatten(0, 1), weight.T).view(*x.shape[:-1], len(weight))


def _rows(x: Tensor) -> Tensor:
    """(B, C, *S) -> (B, P, C): a view, if channels are last in memory."""
    return x.movedim(1, -1).reshape(len(x), math.prod(x.shape[2:]), x.shape[1])


def _events(rows: Tensor, places: Sequence[int]) -> Tensor:
    """(B, P, C) -> (B, C, *S), channels last in memory."""
    return rows.view(len(rows), *places, rows.shape[-1]).movedim(-1, 1) if places else rows[:, 0]


def _note_drift(drift: Tensor, again: Tensor, first: Tensor) -> None:
    """Raises `drift` to the relative error of the first datum; data that are not finite themselves say nothing."""
    error = (again - first).abs().max() / first.abs().max().clamp_min(1e-12)
    error = torch.where(first.isfinite().all(), error.nan_to_num(nan=torch.inf), 0.0)
    drift.copy_(torch.maximum(drift, error.to(drift.dtype)))
