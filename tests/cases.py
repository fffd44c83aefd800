"""Every public model and bijection, by name: a new one is a line here, and then has every property tested.

Shapes: a batch x (B, *shape), shape one of (D,), (C, T), (C, H, W).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

import triptych
from triptych import flow
from triptych.core import GenerativeModel
from triptych.flow import Additive, Affine, Bijection, CheckerboardCoupling, Coupling, FlowStep, FlowSteps, TanhAffine
from triptych.flow.layers.coupling import Transform

Shape = tuple[int, ...]


class Case(NamedTuple):
    """A small model and stored data that it can read."""

    model: Callable[[], GenerativeModel]
    stored: Callable[[int], Tensor]


class BijectionCase(NamedTuple):
    """A bijection for events of a shape, the shapes that it is tried on, and how an x or z is drawn."""

    build: Callable[[Shape], Bijection]
    shapes: st.SearchStrategy[Shape]
    draw: Callable[..., Tensor] = torch.randn
    draw_z: Callable[..., Tensor] = torch.randn


def _pixels(*event: int):
    return lambda n: torch.randint(0, 256, (n, *event), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def _floats(*event: int):
    return lambda n: torch.randn(n, *event, generator=torch.Generator().manual_seed(n))


def perturbed(module: torch.nn.Module, scale: float = 0.1, seed: int = 0) -> torch.nn.Module:
    """The module itself, each parameter moved by noise: what starts from zero is no identity any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator).to(p.dtype))
    return module


def _initialised(build: Callable[[], GenerativeModel], stored: Callable[[int], Tensor]) -> Case:
    """A flow that has seen a first batch, and is no identity."""

    def model() -> GenerativeModel:
        made = build()
        made.initialize(made.codec.encode(stored(16), torch.Generator().manual_seed(0)))
        return perturbed(made, 0.03)

    return Case(model, stored)


def _glow(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _initialised(lambda: triptych.Glow(shape, **{"depth": 2, "width": 6, **settings}), stored(*shape))


def _nice(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _initialised(lambda: triptych.NICE(shape, **{"hidden": (8, 8), **settings}), stored(*shape))


def _realnvp(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _initialised(lambda: triptych.RealNVP(shape, **{"blocks": 1, "width": 4, **settings}), stored(*shape))


MODELS: dict[str, Case] = {
    "vae-mlp-bernoulli": Case(lambda: triptych.VAE((1, 6, 5), 3, hidden=(16,)), _pixels(1, 6, 5)),
    "vae-mlp-gaussian": Case(
        lambda: triptych.VAE((1, 6, 5), 3, hidden=(16, 8), likelihood="gaussian", scale="output"), _pixels(1, 6, 5)
    ),
    "vae-mlp-vector": Case(lambda: triptych.VAE((7,), 2, hidden=(16,), likelihood="gaussian", mean="linear"), _floats(7)),
    "vae-mlp-sequence": Case(
        lambda: triptych.VAE((2, 9), 2, hidden=(16,), likelihood="gaussian", mean="linear"), _floats(2, 9)
    ),
    "vae-conv-logistic": Case(
        lambda: triptych.VAE((3, 11, 8), 4, net="conv", width=4, blocks=1, likelihood="logistic"), _pixels(3, 11, 8)
    ),
    "vae-conv-gaussian": Case(
        lambda: triptych.VAE((2, 5, 17), 4, net="conv", width=4, likelihood="gaussian"), _pixels(2, 5, 17)
    ),
    "vae-conv-logistic-output": Case(
        lambda: triptych.VAE((1, 9, 9), 4, net="conv", width=4, likelihood="logistic", scale="output", bits=5),
        _pixels(1, 9, 9),
    ),
    "gan-maxout": Case(
        lambda: triptych.GAN((1, 6, 5), 3, net="maxout", hidden=(16,), maxout=(8,), prior="uniform"), _pixels(1, 6, 5)
    ),
    "gan-vector": Case(lambda: triptych.GAN((7,), 3, hidden=(16, 8)), _floats(7)),
    "gan-sequence": Case(lambda: triptych.GAN((2, 9), 2, net="mlp", hidden=(16,)), _floats(2, 9)),
    "gan-conv": Case(lambda: triptych.GAN((3, 11, 8), 4, width=4), _pixels(3, 11, 8)),
    "gan-conv-batch-norm-5-bits": Case(
        lambda: triptych.GAN((2, 5, 17), 4, net="conv", width=4, norm="batch", bits=5, blocks=1), _pixels(2, 5, 17)
    ),
    "gan-progressive": Case(lambda: triptych.ProgressiveGAN((3, 8, 8), 4, width=6, images=10), _pixels(3, 8, 8)),
    "gan-progressive-whole": Case(lambda: triptych.ProgressiveGAN((1, 16, 16), 4, width=4, images=0), _pixels(1, 16, 16)),
    "glow-colour": _glow((3, 8, 8), _pixels, levels=3),
    "glow-grey-reversible": _glow((1, 12, 4), _pixels, levels=2, memory="reversible"),
    "glow-odd-sides": _glow((3, 5, 7), _pixels, levels=0),
    "glow-5-bits-plain": _glow((2, 4, 6), _pixels, levels=1, bits=5, permutation="plain"),
    "glow-additive-shuffle": _glow((3, 4, 4), _pixels, levels=2, coupling="additive", permutation="shuffle"),
    "glow-sequence-reverse": _glow((3, 12), _floats, levels=2, permutation="reverse", memory="checkpoint"),
    "glow-vector": _glow((11,), _floats, levels=3),
    "glow-variational": _glow((1, 4, 4), _pixels, levels=1, dequantisation="variational"),
    "nice-pixels": _nice((1, 5, 5), _pixels),
    "nice-vector-gaussian": _nice((7,), _floats, prior="gaussian", couplings=3),
    "nice-sequence": _nice((2, 6), _floats),
    "realnvp-colour": _realnvp((3, 8, 4), _pixels, levels=2),
    "realnvp-odd-sides-5-bits": _realnvp((1, 7, 5), _pixels, levels=1, bits=5),
    "realnvp-sequence-additive": _realnvp((3, 8), _floats, coupling="additive"),
    "realnvp-vector": _realnvp((9,), _floats),
    "realnvp-variational": _realnvp((1, 4, 4), _pixels, dequantisation="variational"),
}


def _sizes(least: int, most: int, channels: int, even: bool, axes: int) -> st.SearchStrategy[Shape]:
    side = st.integers(1, 2).map(lambda n: 2 * n) if even else st.integers(1, 4)
    places = st.tuples(*[side] * axes)
    return st.tuples(st.integers(least, most).map(lambda c: c * channels), places).map(lambda s: (s[0], *s[1]))


def vector(least: int = 1, most: int = 9, of: int = 1) -> st.SearchStrategy[Shape]:
    """(D,), D a multiple of `of`."""
    return _sizes(least, most, of, False, 0)


def sequence(least: int = 1, even: bool = False, of: int = 1) -> st.SearchStrategy[Shape]:
    """(C, T)."""
    return _sizes(least, max(least, 4), of, even, 1)


def picture(least: int = 1, even: bool = False, of: int = 1) -> st.SearchStrategy[Shape]:
    """(C, H, W)."""
    return _sizes(least, max(least, 3), of, even, 2).filter(lambda s: s[0] * s[1] * s[2] <= 40)


def anything(least: int = 1) -> st.SearchStrategy[Shape]:
    return vector(least) | sequence(least) | picture(least)


def _of_8_levels(*shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Dequantised values, their noise clear of a level's ends."""
    return (torch.randint(0, 8, shape) + 0.05 + 0.9 * torch.rand(*shape, dtype=dtype)) / 8


NETS: dict[str, Callable[[Shape, int], flow.Conditioner]] = {
    "conv": lambda shape, outputs: flow.ConvNet(shape, outputs, 4),
    "mlp": lambda shape, outputs: flow.MLP(shape[0], outputs, (5, 4)),
    "resnet": lambda shape, outputs: flow.ResNet(shape, outputs, 4, 1),
}


def _transform(kind: Callable[..., Transform], changed: int) -> Transform:
    return kind(changed) if kind is TanhAffine else kind()


def _coupling(transform=Affine, flip: bool = False, split: float = 0.5, net: str = "conv") -> Callable[[Shape], Bijection]:
    """A coupling of which a share `split` of the channels comes first, at least one on either side."""

    def build(shape: Shape) -> Coupling:
        first = min(max(1, int(split * shape[0])), shape[0] - 1)
        passing, changed = (shape[0] - first, first) if flip else (first, shape[0] - first)
        change = _transform(transform, changed)
        return Coupling(NETS[net]((passing, *shape[1:]), change.outputs * changed), change, first, flip)

    return build


def _checkerboard(transform=Affine, flip: bool = False, net: str = "conv") -> Callable[[Shape], Bijection]:
    def build(shape: Shape) -> CheckerboardCoupling:
        change = _transform(transform, shape[0])
        return CheckerboardCoupling(NETS[net](shape, change.outputs * shape[0]), change, flip)

    return build


def _step(permutation: str, coupling: str) -> Callable[[Shape], Bijection]:
    return lambda shape: FlowStep(shape, 4, permutation, coupling)


def _steps(permutation: str, coupling: str, memory="full", depth: int = 3) -> Callable[[Shape], Bijection]:
    return lambda shape: FlowSteps(shape, depth, 4, permutation, coupling, memory)


def _chain(shape: Shape) -> Bijection:
    return flow.Chain([flow.ActNorm(shape[0]), flow.InvertibleLU(shape[0]), _coupling()(shape), flow.Scale(shape[0])])


def _multiscale(shape: Shape) -> Bijection:
    """Three scales, squeezed between: a picture's or sequence's sides must divide by 8, a vector is halved."""
    scales, splits = [], []
    for _ in range(2):
        shape = flow.layers.squeeze.squeezed(shape) if len(shape) > 1 else shape
        scales.append(flow.Chain([flow.Squeeze(), FlowSteps(shape, 1, 4)]))
        splits.append(flow.Split(shape))
        shape = (splits[-1].kept, *shape[1:])
    return flow.MultiScale([*scales, flow.ActNorm(shape[0])], splits, shape)


BIJECTIONS: dict[str, BijectionCase] = {
    "actnorm": BijectionCase(lambda s: flow.ActNorm(s[0]), anything()),
    "invertible-lu": BijectionCase(lambda s: flow.InvertibleLU(s[0]), anything()),
    "invertible-1x1": BijectionCase(lambda s: flow.Invertible1x1(s[0]), anything()),
    "permutation-shuffle": BijectionCase(lambda s: flow.Permutation.shuffle(s[0]), anything()),
    "permutation-reverse": BijectionCase(lambda s: flow.Permutation.reverse(s[0]), anything()),
    "coupling-vector": BijectionCase(_coupling(), vector(2)),
    "coupling-vector-flip-one-first": BijectionCase(_coupling(flip=True, split=0), vector(2)),
    "coupling-vector-mlp": BijectionCase(_coupling(net="mlp", split=0.3), vector(2)),
    "coupling-vector-mlp-additive-flip": BijectionCase(_coupling(Additive, True, 0.7, "mlp"), vector(2)),
    "coupling-sequence": BijectionCase(_coupling(split=0.3), sequence(2)),
    "coupling-sequence-additive-flip": BijectionCase(_coupling(Additive, True), sequence(2)),
    "coupling-picture": BijectionCase(_coupling(), picture(2)),
    "coupling-picture-flip": BijectionCase(_coupling(flip=True, split=0.3), picture(2)),
    "coupling-picture-additive-one-last": BijectionCase(_coupling(Additive, split=1), picture(2)),
    "coupling-no-floor": BijectionCase(_coupling(lambda: Affine(0.0)), anything(2)),
    "checkerboard-vector-mlp": BijectionCase(_checkerboard(net="mlp"), vector(2)),
    "checkerboard-vector-additive-flip": BijectionCase(_checkerboard(Additive, True), vector(2)),
    "checkerboard-sequence-flip": BijectionCase(_checkerboard(flip=True), sequence()),
    "checkerboard-picture": BijectionCase(_checkerboard(), picture()),
    "checkerboard-picture-flip": BijectionCase(_checkerboard(flip=True), picture()),
    "checkerboard-picture-additive": BijectionCase(_checkerboard(Additive), picture()),
    "coupling-tanh": BijectionCase(_coupling(TanhAffine), anything(2)),
    "coupling-tanh-resnet-flip": BijectionCase(_coupling(TanhAffine, True, net="resnet"), anything(2)),
    "checkerboard-tanh-resnet": BijectionCase(_checkerboard(TanhAffine, net="resnet"), anything(2)),
    "batchnorm": BijectionCase(lambda s: flow.BatchNorm(s[0]), anything()),
    "flatten": BijectionCase(lambda s: flow.Flatten(s), anything()),
    "variational-dequantisation": BijectionCase(
        lambda s: flow.VariationalDequantisation(s, 3, 3, 4), anything(), _of_8_levels, _of_8_levels
    ),
    "squeeze-vector": BijectionCase(lambda s: flow.Squeeze(), vector()),
    "squeeze-sequence": BijectionCase(lambda s: flow.Squeeze(), sequence(even=True)),
    "squeeze-picture": BijectionCase(lambda s: flow.Squeeze(), picture(even=True)),
    "split": BijectionCase(lambda s: flow.Split(s), anything(2)),
    "scale": BijectionCase(lambda s: flow.Scale(s[0]), anything()),
    "logit": BijectionCase(lambda s: flow.Logit(), anything(), torch.rand),
    "logit-small-alpha": BijectionCase(lambda s: flow.Logit(1e-3), anything(), torch.rand),
    "logistic-to-normal": BijectionCase(lambda s: flow.LogisticToNormal(), anything()),
    "chain": BijectionCase(_chain, anything(2)),
    "multiscale-vector": BijectionCase(_multiscale, vector(4)),
    "multiscale-sequence": BijectionCase(_multiscale, st.tuples(st.integers(1, 3), st.just(8))),
    "multiscale-picture": BijectionCase(_multiscale, st.sampled_from([(1, 4, 8), (1, 8, 4), (2, 4, 4)])),
    "steps-checkpoint": BijectionCase(_steps("invertible", "affine", "checkpoint"), anything(2)),
    "steps-reversible": BijectionCase(_steps("invertible", "affine", "reversible"), anything(2)),
    "steps-reversible-additive": BijectionCase(_steps("plain", "additive", "reversible"), anything(2)),
}
for _permutation in ("invertible", "plain", "shuffle", "reverse"):
    for _kind in ("affine", "additive"):
        BIJECTIONS[f"step-{_permutation}-{_kind}"] = BijectionCase(_step(_permutation, _kind), anything(2))
        BIJECTIONS[f"steps-{_permutation}-{_kind}"] = BijectionCase(_steps(_permutation, _kind), anything(2))
