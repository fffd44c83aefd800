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
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from triptych.bijections.bijection import zero_ladj
from triptych.bijections.conditioners import ConvNet, Tensors
from triptych.bijections.coupling import Coupling
from triptych.bijections.mixing import Affines
from triptych.parts import call

Memory = Literal["full", "checkpoint", "reversible"]


def couple(
    couplings: Sequence[Coupling], maps: Affines, x: Tensor, context: Tensor | None, memory: Memory, drift: Tensor
) -> tuple[Tensor, Tensor]:
    """z and the couplings' ladj (B,) of x -> coupling(W x + b, context), K times. Without gradients nothing is kept.

    Args:
        couplings: K of them, whose first channels pass, with a `StepTransform`.
        drift: a number that "reversible" raises to max |x̂ − x| / max |x| over the first example, where x̂ is the input as
            the backward pass recovers it.
    """
    z, places, ladjs = _rows(x), x.shape[2:], []
    inverse = _Inverse(maps, z[:1].detach().clone(), drift) if memory == "reversible" else None
    for k, (coupling, weight, bias) in enumerate(zip(couplings, maps.weight, maps.bias, strict=True)):
        step = _Step(coupling, places)
        if torch.is_grad_enabled():
            how = step, k, memory == "full", inverse
            learned = coupling.net.learned() if type(coupling.net) is ConvNet else coupling.net.parameters()
            z, ladj = _Differentiable.apply(how, z, weight, bias, context, *learned)
        else:
            z, ladj, *_ = step.run(z, weight, bias, context)
        ladjs.append(ladj)
    return _events(z, places), torch.stack(ladjs).sum(0)


def invert(couplings: Sequence[Coupling], maps: Affines, z: Tensor, context: Tensor | None) -> Tensor:
    """x of z, without gradients; the maps are the inverse ones."""
    y, places = _rows(z).clone(), z.shape[2:]
    for coupling, weight, bias in zip(reversed(couplings), maps.weight.flip(0), maps.bias.flip(0), strict=True):
        step = _Step(coupling, places)
        step.undo_(y, step.terms(y, context)[0])
        y = _affine(y, weight, bias)
    return _events(y, places)


def record(net: nn.Module, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensors]:
    """h = net(x, context), and what `net_gradients` needs: by the network's own hand, or by autograd. Called without it."""
    if type(net) is ConvNet:
        return net.record(x, context)
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()  # a copy: the caller goes on to change what x is a part of
        context = None if context is None else context.detach().requires_grad_()
        h = call(net, x, context)
    return h.detach(), (h, x) if context is None else (h, x, context)


def net_gradients(net: nn.Module, recorded: Tensors, grad: Tensor) -> tuple[Tensor, Tensor | None, Sequence[Tensor | None]]:
    """From the gradient with respect to h, those with respect to x, the context, and each of the network's parameters."""
    if type(net) is ConvNet:
        return net.gradients(recorded, grad)
    h, *inputs = recorded
    trained = [p for p in net.parameters() if p.requires_grad]
    # a graph may be asked again, an input unused
    found = torch.autograd.grad(h, [*inputs, *trained], grad, retain_graph=True, materialize_grads=True)
    by_parameter = dict(zip(trained, found[len(inputs) :], strict=True))
    return found[0], found[1] if len(inputs) > 1 else None, [by_parameter.get(p) for p in net.parameters()]


class _Step(NamedTuple):
    """A step on rows, whose coupling is for events (B, C, *S) with `places` S."""

    coupling: Coupling
    places: Sequence[int]

    def run(
        self, x: Tensor, weight: Tensor, bias: Tensor, context: Tensor | None, recording: bool = False
    ) -> tuple[Tensor, Tensor, Tensors, Tensors]:
        """z and ladj (B,), and what `terms` returns."""
        z = _affine(x, weight, bias)
        terms, recorded = self.terms(z, context, recording)
        b, transform = z[..., self.coupling.split :], self.coupling.transform
        transform.do(b, terms, out=b)
        log_slope = transform.log_slope(terms)
        return z, zero_ladj(b) if log_slope is None else log_slope.sum((1, 2)), terms, recorded

    def terms(self, y: Tensor, context: Tensor | None, recording: bool = False) -> tuple[Tensors, Tensors]:
        """The transform's terms and the network's record, from the coupling's input or output: what passes is in both."""
        a, b = self.coupling.divide(_events(y, self.places))
        h, recorded = record(self.coupling.net, a, context) if recording else (call(self.coupling.net, a, context), ())
        return self.coupling.transform.terms(_rows(self.coupling.checked(h, b))), recorded

    def undo_(self, z: Tensor, terms: Tensors) -> None:
        """Undoes the transform of its half of z, in place."""
        b = z[..., self.coupling.split :]
        self.coupling.transform.undo(b, terms, out=b)


class _Differentiable(torch.autograd.Function):
    """One step; all is kept by `save_for_backward`, which lets go of it as the gradient passes, for the next to use."""

    @staticmethod
    def forward(ctx, how, x, weight, bias, context, *parameters):
        step, k, everything, inverse = how
        z, ladj, *kept = step.run(x, weight, bias, context, recording=everything)
        terms, recorded = kept if everything else ((), ())
        ends = (z, x)[: 2 if inverse is None else int(k == inverse.last)]
        ctx.how, ctx.sizes = how, (len(ends), 2, len(terms), len(recorded))
        ctx.save_for_backward(*ends, weight, context, *terms, *recorded, *parameters)
        return z, ladj

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_ladj):
        (step, k, _, inverse), saved = ctx.how, iter(ctx.saved_tensors)
        ends, (weight, context), terms, recorded = (tuple(islice(saved, n)) for n in ctx.sizes)
        z = ends[0] if ends else inverse.z
        if not recorded:
            terms, recorded = step.terms(z, context, recording=True)
        net, transform, split = step.coupling.net, step.coupling.transform, step.coupling.split
        (_, b), (grad_a, grad_b) = (t.tensor_split((split,), -1) for t in (z, grad))
        grad_b, grad_h = transform.gradients(b, terms, grad_b, grad_ladj[:, None, None])
        grad_input, grad_context, grads = net_gradients(net, recorded, _events(grad_h, step.places))
        rows = torch.cat([grad_a + _rows(grad_input), grad_b], -1).flatten(0, 1)
        del recorded
        x = ends[1] if inverse is None else inverse.undo(k, step, z, terms)
        return None, (rows @ weight).view_as(x), rows.T @ x.flatten(0, 1), rows.sum(0), grad_context, *grads


class _Inverse:
    """The inversion of a reversible flow: each step's backward pass hands its input, found again, to the step before.

    Steps go back one after the other, since the gradient passes through all of them. (One function of all K steps would
    hold a scale's gradients until its end, among which large activations come and go: the heap fragments, and grew by as
    much again.)
    """

    def __init__(self, maps: Affines, first: Tensor, drift: Tensor):
        self.maps, self.first, self.drift = Affines(*(t.detach() for t in maps)), first, drift
        self.last = len(maps.weight) - 1
        self.z: Tensor | None = None  # the output of the step whose backward pass is next

    def undo(self, k: int, step: _Step, z: Tensor, terms: Tensors) -> Tensor:
        """Step k's input."""
        if k == self.last:
            self.weight, self.bias, _ = self.maps.inverted()[0]
        y = z.clone()
        step.undo_(y, terms)
        x = _affine(y, self.weight[k], self.bias[k])
        self.z = x if k else None
        if k == 0:  # the flow's input: an example that is not finite itself says nothing of the drift
            error = (x[:1] - self.first).abs().max() / self.first.abs().max().clamp_min(1e-12)
            error = torch.where(self.first.isfinite().all(), error.nan_to_num(nan=torch.inf), 0.0)
            self.drift.copy_(torch.maximum(self.drift, error.to(self.drift.dtype)))
        return x


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b of rows (B, P, C)."""
    return torch.addmm(bias, x.flatten(0, 1), weight.T).view(*x.shape[:-1], len(weight))


def _rows(x: Tensor) -> Tensor:
    """(B, C, *S) -> (B, P, C): a view, if channels are last in memory."""
    return x.movedim(1, -1).reshape(len(x), math.prod(x.shape[2:]), x.shape[1])


def _events(rows: Tensor, places: Sequence[int]) -> Tensor:
    """(B, P, C) -> (B, C, *S), channels last in memory."""
    return rows.view(len(rows), *places, rows.shape[-1]).movedim(-1, 1) if places else rows[:, 0]
