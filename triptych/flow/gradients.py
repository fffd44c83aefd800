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
from typing import Literal

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
    if memory == "reversible":
        learned = [p for coupling in couplings for p in coupling.net.learned()]
        x, ladj = _Reversible.apply(couplings, places, drift, x, weight, bias, *learned)
    else:
        ladjs = []
        for coupling, w, b in zip(couplings, weight.unbind(0), bias.unbind(0), strict=True):
            x, ladj = _Step.apply(coupling, places, memory == "full", x, w, b, *coupling.net.learned())
            ladjs.append(ladj)
        ladj = torch.stack(ladjs).sum(0)
    return _events(x, places), ladj


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


class _Step(torch.autograd.Function):
    """One step; all is kept by `save_for_backward`, which lets go of it as the gradient passes, for the next to use."""

    @staticmethod
    def forward(ctx, coupling, places, everything, x, weight, bias, *learned):
        z, ladj, recorded, terms = _forward(coupling, places, _affine(x, weight, bias))
        ctx.coupling, ctx.places, ctx.sizes = coupling, places, (len(learned), len(recorded))
        ctx.save_for_backward(x, z, weight, *learned, *((*recorded, *terms) if everything else ()))
        return z, ladj

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_ladj):
        x, z, weight, *saved = ctx.saved_tensors
        learned, recorded = ctx.sizes
        kept = tuple(saved[learned:])
        record, terms = (kept[:recorded], kept[recorded:]) if kept else _again(ctx.coupling, ctx.places, z)
        by_y, by_net = _backward(ctx.coupling, ctx.places, z, record, terms, grad, grad_ladj)
        rows = by_y.flatten(0, 1)
        return None, None, None, (rows @ weight).view_as(x), rows.T @ x.flatten(0, 1), rows.sum(0), *by_net


class _Reversible(torch.autograd.Function):
    """All steps; the last output is all that is kept."""

    @staticmethod
    def forward(ctx, couplings, places, drift, x, weight, bias, *learned):
        z, ladjs = x, []
        for coupling, w, b in zip(couplings, weight, bias, strict=True):
            z, ladj, *_ = _forward(coupling, places, _affine(z, w, b))
            ladjs.append(ladj)
        ctx.couplings, ctx.places, ctx.drift = couplings, places, drift
        ctx.save_for_backward(z, weight, bias, x[:1].clone(), *learned)
        return z, torch.stack(ladjs).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_ladj):
        z, weight, bias, sample, *_learned = ctx.saved_tensors  # refuses parameters that were changed meanwhile
        inverse = torch.linalg.inv_ex(weight.double())[0].to(weight.dtype)
        offset = -(inverse @ bias[..., None])[..., 0]
        by_weight, by_bias = torch.empty_like(weight), torch.empty_like(bias)
        by_learned: list[Sequence[Tensor]] = []
        for k in range(len(ctx.couplings) - 1, -1, -1):
            coupling = ctx.couplings[k]
            recorded, terms = _again(coupling, ctx.places, z)
            by_y, by_net = _backward(coupling, ctx.places, z, recorded, terms, grad, grad_ladj)
            by_learned.append(by_net)
            del recorded
            y, rows = z.clone(), by_y.flatten(0, 1)
            _by_hand(coupling).undo_(y[..., coupling.split :], terms)
            z = _affine(y, inverse[k], offset[k])
            torch.mm(rows.T, z.flatten(0, 1), out=by_weight[k])
            torch.sum(rows, 0, out=by_bias[k])
            grad = (rows @ weight[k]).view_as(z)
        _note_drift(ctx.drift, z[:1], sample)
        return None, None, None, grad, by_weight, by_bias, *(g for group in reversed(by_learned) for g in group)


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
