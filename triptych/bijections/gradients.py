"""Flow steps with gradients written by hand, and a choice of what is kept for them.

    full         every activation
    checkpoint   each step's input; the network is called again in the backward pass
    reversible   the last output only; in the backward pass a step's input follows from its output (Gomez et al. 2017,
                 arXiv 1707.04585)

All three are one algorithm. The half that passes a coupling is the same in its output, so one call of the network on it
gives h, which undoes the other half, and is what the gradient flows back through. First derivatives only: for
second ones, call the steps one by one.

Shapes: K steps; x, z (B, C, *S) outside, rows (B, P, C) of the P = |S| positions inside; weight (K, C, C), bias (K, C) of
the fused actnorms and 1×1 convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from triptych.bijections.bijection import zero_ladj
from triptych.bijections.conditioners import HandWritten
from triptych.bijections.coupling import Coupling, StepTransform
from triptych.parts import call, check_output

Memory = Literal["full", "checkpoint", "reversible"]
Tensors = tuple[Tensor, ...]


def couple(
    couplings: Sequence[Coupling],
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    context: Tensor | None,
    memory: Memory,
    drift: Tensor,
) -> tuple[Tensor, Tensor]:
    """z and the couplings' ladj (B,) of x -> coupling(W x + b, context), K times.

    Args:
        couplings: K of them, whose first channels pass, with a `StepTransform`.
        drift: a number that "reversible" raises to max |x̂ − x| / max |x| over the first example, where x̂ is the input as
            the backward pass recovers it.
    """
    x, places = _rows(x), x.shape[2:]
    inverse = _Inverse(weight.detach(), bias.detach(), x[:1].detach().clone(), drift) if memory == "reversible" else None
    ladjs = []
    for k, (coupling, w, b) in enumerate(zip(couplings, weight.unbind(0), bias.unbind(0), strict=True)):
        step = _StepOf(k, coupling, places, memory == "full", inverse)
        x, ladj = _Step.apply(step, x, w, b, context, *learned(coupling.net))
        ladjs.append(ladj)
    return _events(x, places), torch.stack(ladjs).sum(0)


def evaluate(
    couplings: Sequence[Coupling], weight: Tensor, bias: Tensor, x: Tensor, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The results of `couple` without gradients: nothing is kept, and the networks are called as modules."""
    z, places, ladjs = _rows(x), x.shape[2:], []
    for coupling, w, b in zip(couplings, weight.unbind(0), bias.unbind(0), strict=True):
        z = _affine(z, w, b)
        ladjs.append(_transform_(coupling, z, _terms(coupling, places, z, context)))
    return _events(z, places), torch.stack(ladjs).sum(0)


def invert(couplings: Sequence[Coupling], weight: Tensor, bias: Tensor, z: Tensor, context: Tensor | None) -> Tensor:
    """x of z, without gradients; weight and bias are those of the inverse affine maps."""
    y, places = _rows(z).clone(), z.shape[2:]
    for coupling, w, b in zip(reversed(couplings), reversed(weight.unbind(0)), reversed(bias.unbind(0)), strict=True):
        _undo_(coupling, y, _terms(coupling, places, y, context))
        y = _affine(y, w, b)
    return _events(y, places)


def learned(net: nn.Module) -> list[Any]:
    """The parameters with respect to which `net_gradients` differentiates, in its order."""
    return net.learned() if isinstance(net, HandWritten) else list(net.parameters())


def record(net: nn.Module, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensors]:
    """h = net(x, context), and what `net_gradients` needs: by the network's own hand, or by autograd. Called without it."""
    if isinstance(net, HandWritten):
        return net.record(x, context)
    with torch.enable_grad():
        inputs = [x.detach().clone().requires_grad_()]  # a copy: the caller goes on to change what x is a part of
        if context is not None:
            inputs.append(context.detach().requires_grad_())
        h = call(net, inputs[0], inputs[1] if context is not None else None)
    return h.detach(), (h, *inputs)


def net_gradients(net: nn.Module, recorded: Tensors, grad: Tensor) -> tuple[Tensor, Tensor | None, Sequence[Tensor | None]]:
    """From the gradient with respect to h, those with respect to x, the context, and each of `learned(net)`."""
    if isinstance(net, HandWritten):
        return net.gradients(recorded, grad)
    h, *inputs = recorded
    trained = [p for p in net.parameters() if p.requires_grad]
    options = {"retain_graph": True, "materialize_grads": True}  # a graph may be asked again, an input unused
    found = torch.autograd.grad(h, [*inputs, *trained], grad, **options)
    by_parameter = dict(zip(trained, found[len(inputs) :], strict=True))
    return found[0], found[1] if len(inputs) > 1 else None, [by_parameter.get(p) for p in net.parameters()]


class _StepOf(NamedTuple):
    """Which step it is, and what is kept for its gradient."""

    k: int
    coupling: Coupling
    places: Sequence[int]
    everything: bool
    inverse: _Inverse | None  # where inputs follow from outputs


class _Step(torch.autograd.Function):
    """One step; all is kept by `save_for_backward`, which lets go of it as the gradient passes, for the next to use."""

    @staticmethod
    def forward(ctx, step, x, weight, bias, context, *parameters):
        y = _affine(x, weight, bias)
        recorded, terms = _recorded(step.coupling, step.places, y, context)
        ladj = _transform_(step.coupling, y, terms)  # y is z now
        if step.inverse is None:
            ends: Tensors = (x, y)
        else:
            ends = (y,) if step.k == step.inverse.last else ()
        ctx.step, ctx.sizes = step, (len(ends), len(parameters), len(recorded))
        ctx.save_for_backward(*ends, weight, context, *parameters, *((*recorded, *terms) if step.everything else ()))
        return y, ladj

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_ladj):
        step, (n_ends, n_parameters, n_recorded) = ctx.step, ctx.sizes
        ends, (weight, context, *saved) = ctx.saved_tensors[:n_ends], ctx.saved_tensors[n_ends:]
        kept = tuple(saved[n_parameters:])
        z = ends[-1] if ends else step.inverse.z
        if kept:
            recorded, terms = kept[:n_recorded], kept[n_recorded:]
        else:
            recorded, terms = _recorded(step.coupling, step.places, z, context)
        grad_y, grad_context, grads = _backward(step.coupling, step.places, z, recorded, terms, grad, grad_ladj)
        del recorded, kept
        x = ends[0] if step.inverse is None else step.inverse.undo(step.k, step.coupling, z, terms)
        rows = grad_y.flatten(0, 1)
        return None, (rows @ weight).view_as(x), rows.T @ x.flatten(0, 1), rows.sum(0), grad_context, *grads


class _Inverse:
    """The inversion of a reversible flow: each step's backward pass hands its input, found again, to the step before.

    Steps go back one after the other, since the gradient passes through all of them. (One function of all K steps would
    hold a scale's gradients until its end, among which large activations come and go: the heap fragments, and grew by as
    much again.)
    """

    def __init__(self, weight: Tensor, bias: Tensor, first: Tensor, drift: Tensor):
        self.weight, self.bias, self.first, self.drift = weight, bias, first, drift
        self.last = len(weight) - 1
        self.z: Tensor | None = None  # the output of the step whose backward pass is next

    def undo(self, k: int, coupling: Coupling, z: Tensor, terms: Tensors) -> Tensor:
        """Step k's input."""
        if k == self.last:
            self.inverse = torch.linalg.inv_ex(self.weight.double())[0].to(self.weight.dtype)
            self.offset = -(self.inverse @ self.bias[..., None])[..., 0]
        y = z.clone()
        _undo_(coupling, y, terms)
        x = _affine(y, self.inverse[k], self.offset[k])
        self.z = x if k else None
        if k == 0:
            _note_drift(self.drift, x[:1], self.first)
        return x


def _recorded(coupling: Coupling, places: Sequence[int], y: Tensor, context: Tensor | None) -> tuple[Tensors, Tensors]:
    """The network's record and the transform's terms, from a coupling's input or output: what passes is in both."""
    h, recorded = record(coupling.net, _events(y[..., : coupling.split], places), context)
    return recorded, _by_hand(coupling).terms(_rows(_checked(coupling, places, y, h)))


def _terms(coupling: Coupling, places: Sequence[int], y: Tensor, context: Tensor | None) -> Tensors:
    h = call(coupling.net, _events(y[..., : coupling.split], places), context)
    return _by_hand(coupling).terms(_rows(_checked(coupling, places, y, h)))


def _checked(coupling: Coupling, places: Sequence[int], y: Tensor, h: object) -> Tensor:
    outputs = coupling.transform.outputs * (y.shape[-1] - coupling.split)
    return check_output(coupling.net, "a coupling's network", h, (len(y), outputs, *places))


def _transform_(coupling: Coupling, y: Tensor, terms: Tensors) -> Tensor:
    """Applies the transform to its half of y, in place; returns ladj (B,)."""
    b, transform = y[..., coupling.split :], _by_hand(coupling)
    transform.do(b, terms, out=b)
    log_slope = transform.log_slope(terms)
    return zero_ladj(b) if log_slope is None else log_slope.sum((1, 2))


def _undo_(coupling: Coupling, z: Tensor, terms: Tensors) -> None:
    """Undoes the transform of its half of z, in place."""
    b = z[..., coupling.split :]
    _by_hand(coupling).undo(b, terms, out=b)


def _backward(
    coupling: Coupling, places: Sequence[int], z: Tensor, recorded: Tensors, terms: Tensors, grad: Tensor, grad_ladj: Tensor
) -> tuple[Tensor, Tensor | None, Sequence[Tensor | None]]:
    """The gradients with respect to a coupling's input, the context, and its network's parameters."""
    (_, b), (grad_a, grad_b) = (t.tensor_split((coupling.split,), -1) for t in (z, grad))
    grad_y = torch.empty_like(grad)
    start, rest = grad_y.tensor_split((coupling.split,), -1)
    grad_h = _by_hand(coupling).gradients(b, terms, grad_b, grad_ladj[:, None, None], rest)
    grad_input, grad_context, grads = net_gradients(coupling.net, recorded, _events(grad_h, places))
    torch.add(grad_a, _rows(grad_input), out=start)
    return grad_y, grad_context, grads


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


def _note_drift(drift: Tensor, recovered: Tensor, first: Tensor) -> None:
    """Raises `drift` to the relative error of the first example; an example that is not finite itself says nothing."""
    error = (recovered - first).abs().max() / first.abs().max().clamp_min(1e-12)
    error = torch.where(first.isfinite().all(), error.nan_to_num(nan=torch.inf), 0.0)
    drift.copy_(torch.maximum(drift, error.to(drift.dtype)))
