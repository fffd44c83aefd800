"""Every public model and bijection, by name: a new one is a line here, and then has every property tested.

Shapes: a batch x (B, *shape), shape one of (D,), (C, T), (C, H, W).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from triptych import bijections
from triptych.bijections import Additive, Affine, Bijection, CheckerboardCoupling, Coupling, Spline, TanhAffine, Transform
from triptych.bijections.squeeze import squeezed
from triptych.codecs import BinCentres
from triptych.compose import EncodedGAN, SharpenedVAE, gaussian_prior
from triptych.core import GenerativeModel
from triptych.flow import NICE, Flow, Glow, RealNVP, SpectralFlow
from triptych.flow.glow import flow_steps
from triptych.gan import (
    GAN,
    ConvDiscriminator,
    ConvGenerator,
    MaxoutGAN,
    MLPDiscriminator,
    MLPGenerator,
    ProgressiveGAN,
)
from triptych.nets import ConvEncoder
from triptych.vae import VAE, Bernoulli, DiscretisedLogistic, Gaussian, Likelihood
from triptych.vae.defaults import convolutions, default_likelihood, perceptrons

Shape = tuple[int, ...]
K = 3  # numbers in the context of conditional cases


class Case(NamedTuple):
    """A small model and stored data that it can read."""

    model: Callable[[], GenerativeModel]
    stored: Callable[[int], Tensor]


class BijectionCase(NamedTuple):
    """A bijection for events of a shape, the shapes that it is tried on, how x and z are drawn, its context's length."""

    build: Callable[[Shape], Bijection]
    shapes: st.SearchStrategy[Shape]
    draw: Callable[..., Tensor] = torch.randn
    draw_z: Callable[..., Tensor] = torch.randn
    context_dim: int = 0


def _pixels(*event: int):
    return lambda n: torch.randint(0, 256, (n, *event), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def _floats(*event: int):
    return lambda n: torch.randn(n, *event, generator=torch.Generator().manual_seed(n))


def perturbed(module: torch.nn.Module, scale: float = 0.1, seed: int = 0) -> torch.nn.Module:
    """The module itself, each parameter moved by noise: what starts at zero is not an identity any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator).to(p.dtype))
    return module


def _initialised(build: Callable[[], GenerativeModel], stored: Callable[[int], Tensor]) -> Case:
    """A flow that has seen a first batch, and is not an identity."""

    def model() -> GenerativeModel:
        made = build()
        made.initialize(made.codec.encode(stored(16), torch.Generator().manual_seed(0)))
        return perturbed(made, 0.03)

    return Case(model, stored)


def _flow(kind: Callable[..., Flow], shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _initialised(lambda: kind(shape, **settings), stored(*shape))


def _glow(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _flow(Glow, shape, stored, **{"depth": 2, "width": 6, **settings})


def _nice(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _flow(NICE, shape, stored, **{"hidden": (8, 8), **settings})


def _realnvp(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _flow(RealNVP, shape, stored, **{"blocks": 1, "width": 4, **settings})


def _spectral(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], **settings) -> Case:
    return _flow(
        SpectralFlow,
        shape,
        stored,
        **{"groups": (4, 3), "width": 8, "coupling_width": 8, "couplings": 2, "splines": 1, **settings},
    )


def _flow_of_parts(context_dim: int = 0) -> Flow:
    net = bijections.Dense(3, 8, (8,), context_dim)
    parts = [bijections.ActNorm(7), Coupling(net, Affine(), 3), bijections.Invertible1x1(7)]
    return Flow((7,), bijections.Chain(parts), context_dim=context_dim)


def _vae(
    shape: Shape,
    latent_dim: int,
    likelihood: Callable[[], Likelihood],
    stored: Callable[..., Callable[[int], Tensor]],
    networks: Callable[..., tuple[torch.nn.Module, torch.nn.Module]] = perceptrons,
    context_dim: int = 0,
    **settings,
) -> Case:
    def model() -> VAE:
        made = likelihood()
        encoder, decoder = networks(shape, latent_dim, made, context_dim=context_dim, **settings)
        return VAE(shape, latent_dim, encoder=encoder, decoder=decoder, likelihood=made, context_dim=context_dim)

    return Case(model, stored(*shape))


def _sharpened(shape: Shape, stored, context_dim: int = 0, prior: Callable[[], nn.Module] | None = None) -> Case:
    def model() -> SharpenedVAE:
        likelihood, pictures = default_likelihood(shape), len(shape) == 3
        build = partial(convolutions, width=4) if pictures else perceptrons
        encoder, decoder = build(shape, 3, likelihood, context_dim=context_dim)
        judge = ConvDiscriminator(shape, 4, context_dim=context_dim) if pictures else MLPDiscriminator(shape, (8,))
        parts = {"encoder": encoder, "decoder": decoder, "likelihood": likelihood, "discriminator": judge}
        return SharpenedVAE(shape, 3, **parts, prior=prior and prior(), context_dim=context_dim)

    return Case(model, stored(*shape))


def _dense_gan(shape: Shape, latent_dim: int, hidden: tuple[int, ...], context_dim: int = 0) -> Case:
    def model() -> GAN:
        generator = MLPGenerator(latent_dim, shape, hidden, "linear", context_dim=context_dim)
        discriminator = MLPDiscriminator(shape, hidden, context_dim=context_dim)
        return GAN(shape, latent_dim, generator=generator, discriminator=discriminator, context_dim=context_dim)

    return Case(model, _floats(*shape))


def _encoded_gan(shape: Shape, stored: Callable[..., Callable[[int], Tensor]], context_dim: int = 0, prior=None) -> Case:
    def model() -> EncodedGAN:
        networks = {}
        if len(shape) > 1:
            networks = {
                "generator": ConvGenerator(4, shape, 4, context_dim=context_dim),
                "discriminator": ConvDiscriminator(shape, 4, centre=True, context_dim=context_dim),
                "encoder": ConvEncoder(shape, 4, 4, context_dim=context_dim),
            }
        return EncodedGAN(shape, 4, **networks, context_dim=context_dim, prior=prior and prior())

    return Case(model, stored(*shape))


def _conv_gan(shape: Shape, bits: int = 8, context_dim: int = 0, **settings) -> Case:
    def model() -> GAN:
        generator = ConvGenerator(4, shape, 4, **settings, context_dim=context_dim)
        blocks = settings.get("blocks", 0)
        discriminator = ConvDiscriminator(shape, 4, blocks=blocks, centre=True, context_dim=context_dim)
        parts = {"generator": generator, "discriminator": discriminator}
        return GAN(shape, 4, **parts, codec=BinCentres(bits), context_dim=context_dim)

    return Case(model, _pixels(*shape))


MODELS: dict[str, Case] = {
    "vae-mlp-bernoulli": _vae((1, 6, 5), 3, Bernoulli, _pixels, hidden=(16,)),
    "vae-mlp-gaussian": _vae((1, 6, 5), 3, lambda: Gaussian((1, 6, 5), "output"), _pixels, hidden=(16, 8)),
    "vae-mlp-vector": _vae((7,), 2, lambda: Gaussian((7,), mean="linear"), _floats, hidden=(16,)),
    "vae-mlp-sequence": _vae((2, 9), 2, lambda: Gaussian((2, 9), mean="linear"), _floats, hidden=(16,)),
    "vae-conv-logistic": _vae(
        (3, 11, 8), 4, lambda: DiscretisedLogistic((3, 11, 8)), _pixels, convolutions, width=4, blocks=1
    ),
    "vae-conv-gaussian": _vae((2, 5, 17), 4, lambda: Gaussian((2, 5, 17)), _pixels, convolutions, width=4),
    "vae-conv-logistic-output": _vae(
        (1, 9, 9), 4, lambda: DiscretisedLogistic((1, 9, 9), "output", bits=5), _pixels, convolutions, width=4
    ),
    "vae-mlp-conditional": _vae((1, 6, 5), 3, Bernoulli, _pixels, context_dim=K, hidden=(16,)),
    "vae-conv-conditional": _vae(
        (3, 9, 8), 4, lambda: DiscretisedLogistic((3, 9, 8)), _pixels, convolutions, context_dim=K, width=4
    ),
    "sharpened-conv": _sharpened((3, 11, 8), _pixels),
    "sharpened-vector-learned-prior": _sharpened((7,), _floats, prior=lambda: gaussian_prior(3)),
    "sharpened-conditional": _sharpened((3, 9, 8), _pixels, context_dim=K),
    "gan-maxout": Case(lambda: MaxoutGAN((1, 6, 5), 3, (16,), (8,)), _pixels(1, 6, 5)),
    "gan-vector": _dense_gan((7,), 3, (16, 8)),
    "gan-sequence": _dense_gan((2, 9), 2, (16,)),
    "gan-conv": _conv_gan((3, 11, 8)),
    "gan-conv-batch-norm-5-bits": _conv_gan((2, 5, 17), bits=5, norm="batch", blocks=1),
    "gan-conv-pixel-norm": _conv_gan((3, 8, 8), norm="pixel"),
    "gan-conditional-vector": _dense_gan((7,), 3, (16, 8), context_dim=K),
    "gan-conditional-conv": _conv_gan((3, 9, 8), context_dim=K),
    "gan-encoded-vector": _encoded_gan((7,), _floats),
    "gan-encoded-conv": _encoded_gan((3, 9, 8), _pixels, prior=lambda: gaussian_prior(4)),
    "gan-encoded-conditional": _encoded_gan((1, 8, 8), _pixels, context_dim=K),
    "gan-progressive": Case(lambda: ProgressiveGAN((3, 8, 8), 4, width=6, images=10), _pixels(3, 8, 8)),
    "gan-progressive-whole": Case(lambda: ProgressiveGAN((1, 16, 16), 4, width=4, images=0), _pixels(1, 16, 16)),
    "gan-progressive-conditional": Case(
        lambda: ProgressiveGAN((3, 8, 8), 4, width=6, images=10, context_dim=K), _pixels(3, 8, 8)
    ),
    "flow-of-parts": _initialised(_flow_of_parts, _floats(7)),
    "flow-of-parts-conditional": _initialised(lambda: _flow_of_parts(K), _floats(7)),
    "glow-colour": _glow((3, 8, 8), _pixels, levels=3),
    "glow-grey-reversible": _glow((1, 12, 4), _pixels, levels=2, memory="reversible"),
    "glow-odd-sides": _glow((3, 5, 7), _pixels, levels=0),
    "glow-5-bits-plain": _glow((2, 4, 6), _pixels, levels=1, bits=5, permutation="plain"),
    "glow-additive-shuffle": _glow((3, 4, 4), _pixels, levels=2, coupling="additive", permutation="shuffle"),
    "glow-sequence-reverse": _glow((3, 12), _floats, levels=2, permutation="reverse", memory="checkpoint"),
    "glow-vector": _glow((11,), _floats, levels=3),
    "glow-variational": _glow((1, 4, 4), _pixels, levels=1, dequantisation="variational"),
    "glow-whitened-by-position": _glow((1, 4, 4), _pixels, levels=2, whiten="zca", positions=True),
    "glow-whitened-low-rank": _glow((1, 4, 4), _pixels, levels=1, whiten="zca", rank=5),
    "glow-whitened-vector": _glow((7,), _floats, levels=1, whiten="pca"),
    "glow-positions-conditional": _glow((3, 12), _floats, levels=1, positions=True, memory="reversible", context_dim=K),
    "glow-conditional": _glow((3, 4, 4), _pixels, levels=2, context_dim=K),
    "glow-conditional-variational": _glow((1, 4, 4), _pixels, levels=1, dequantisation="variational", context_dim=K),
    "nice-pixels": _nice((1, 5, 5), _pixels),
    "nice-vector-gaussian": _nice((7,), _floats, prior="gaussian", couplings=3),
    "nice-sequence": _nice((2, 6), _floats),
    "nice-conditional": _nice((1, 5, 5), _pixels, context_dim=K),
    "realnvp-colour": _realnvp((3, 8, 4), _pixels, levels=2),
    "realnvp-odd-sides-5-bits": _realnvp((1, 7, 5), _pixels, levels=1, bits=5),
    "realnvp-sequence-additive": _realnvp((3, 8), _floats, coupling="additive"),
    "realnvp-vector": _realnvp((9,), _floats),
    "realnvp-variational": _realnvp((1, 4, 4), _pixels, dequantisation="variational"),
    "spectral-colour": _spectral((3, 4, 5), _pixels, coupled=2),
    "spectral-grey-low-rank-5-bits": _spectral((1, 7, 5), _pixels, rank=9, bits=5),
    "spectral-sequence": _spectral((2, 5), _floats),
    "spectral-vector": _spectral((2,), _floats),
    "spectral-conditional": _spectral((1, 4, 4), _pixels, context_dim=K),
    "realnvp-conditional": _realnvp((1, 4, 4), _pixels, context_dim=K),
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


NETS: dict[str, Callable[..., bijections.Conditioner]] = {
    "conv": lambda shape, outputs, context_dim=0: bijections.ConvNet(shape, outputs, 4, context_dim=context_dim),
    "dense": lambda shape, outputs, context_dim=0: bijections.Dense(shape[0], outputs, (5, 4), context_dim),
    "resnet": lambda shape, outputs, context_dim=0: bijections.ResNet(shape, outputs, 4, 1, context_dim),
    "residual": lambda shape, outputs, context_dim=0: bijections.ResidualDense(shape[0], outputs, 5, 2, context_dim),
}


def _transform(kind: Callable[..., Transform], changed: int) -> Transform:
    return kind(changed) if kind is TanhAffine else kind()


def _coupling(transform=Affine, flip=False, split=0.5, net="conv", context_dim=0) -> Callable[[Shape], Bijection]:
    """A coupling of which a share `split` of the channels comes first, at least one on either side."""

    def build(shape: Shape) -> Coupling:
        first = min(max(1, int(split * shape[0])), shape[0] - 1)
        passing, changed = (shape[0] - first, first) if flip else (first, shape[0] - first)
        change = _transform(transform, changed)
        network = NETS[net]((passing, *shape[1:]), change.outputs * changed, context_dim)
        return Coupling(network, change, first, flip)

    return build


def _checkerboard(transform=Affine, flip=False, net="conv", context_dim=0) -> Callable[[Shape], Bijection]:
    def build(shape: Shape) -> CheckerboardCoupling:
        change = _transform(transform, shape[0])
        return CheckerboardCoupling(NETS[net](shape, change.outputs * shape[0], context_dim), change, flip)

    return build


def _steps(permutation="invertible", coupling="affine", memory="full", depth=3, context_dim=0, positions=False):
    return lambda shape: flow_steps(shape, depth, 4, permutation, coupling, memory, context_dim, positions)


def _step(permutation="invertible", coupling="affine", context_dim=0) -> Callable[[Shape], Bijection]:
    return lambda shape: flow_steps(shape, 1, 4, permutation, coupling, context_dim=context_dim).steps[0]


def _chain(shape: Shape) -> Bijection:
    mixing = bijections.InvertibleLU(shape[0])
    return bijections.Chain([bijections.ActNorm(shape[0]), mixing, _coupling()(shape), bijections.Scale(shape[0])])


def _autoregressive(context_dim: int = 0) -> Callable[[Shape], Bijection]:
    """Three groups, of which one has one feature and one a coupling."""

    def build(shape: Shape) -> Bijection:
        sizes = (1, 2, shape[0] - 3)
        coupling = Coupling(NETS["dense"]((1,), 2, 6), Affine(), 1)
        first = bijections.ContextAffine((1,), context_dim) if context_dim else bijections.Scale(1)
        parts = [first, coupling, bijections.ContextAffine((sizes[2],), 6)]
        trunks = [bijections.ResidualDense(n, None, 6, 1, context_dim) for n in (1, 3)]
        return bijections.Autoregressive(sizes, parts, trunks)

    return build


def _whiten(kind: str, low: bool = False) -> Callable[[Shape], Bijection]:
    return lambda shape: bijections.Whiten(shape[0], kind, (shape[0] + 1) // 2 if low else None)


def _whole(shape: Shape) -> Bijection:
    """The whole event as one vector, and back."""
    whiten = bijections.Whiten(math.prod(shape), "zca", places=shape[1:], reach=1.5)
    return bijections.Chain([bijections.Flatten(shape), whiten, bijections.Unflatten(shape)])


def _multiscale(context_dim: int = 0) -> Callable[[Shape], Bijection]:
    """Three scales, squeezed between: a picture's or sequence's sides must divide by 8, a vector is halved."""

    def build(shape: Shape) -> Bijection:
        scales, splits = [], []
        for _ in range(2):
            shape = squeezed(shape) if len(shape) > 1 else shape
            steps = flow_steps(shape, 1, 4, context_dim=context_dim)
            scales.append(bijections.Chain([bijections.Squeeze(), steps]))
            splits.append(bijections.FactorOut(shape, context_dim=context_dim))
            shape = (splits[-1].kept, *shape[1:])
        return bijections.MultiScale([*scales, bijections.ActNorm(shape[0])], splits, shape)

    return build


def _conditional(build: Callable[[Shape], Bijection], shapes: st.SearchStrategy[Shape], *draw) -> BijectionCase:
    return BijectionCase(build, shapes, *draw, context_dim=K)


BIJECTIONS: dict[str, BijectionCase] = {
    "actnorm": BijectionCase(lambda s: bijections.ActNorm(s[0]), anything()),
    "actnorm-positions": BijectionCase(lambda s: bijections.ActNorm(s), anything()),
    "invertible-lu": BijectionCase(lambda s: bijections.InvertibleLU(s[0]), anything()),
    "invertible-1x1": BijectionCase(lambda s: bijections.Invertible1x1(s[0]), anything()),
    "permutation-shuffle": BijectionCase(lambda s: bijections.Permutation.shuffle(s[0]), anything()),
    "permutation-reverse": BijectionCase(lambda s: bijections.Permutation.reverse(s[0]), anything()),
    "coupling-vector": BijectionCase(_coupling(), vector(2)),
    "coupling-vector-flip-one-first": BijectionCase(_coupling(flip=True, split=0), vector(2)),
    "coupling-vector-dense": BijectionCase(_coupling(net="dense", split=0.3), vector(2)),
    "coupling-vector-dense-additive-flip": BijectionCase(_coupling(Additive, True, 0.7, "dense"), vector(2)),
    "coupling-sequence": BijectionCase(_coupling(split=0.3), sequence(2)),
    "coupling-sequence-additive-flip": BijectionCase(_coupling(Additive, True), sequence(2)),
    "coupling-picture": BijectionCase(_coupling(), picture(2)),
    "coupling-picture-flip": BijectionCase(_coupling(flip=True, split=0.3), picture(2)),
    "coupling-picture-additive-one-last": BijectionCase(_coupling(Additive, split=1), picture(2)),
    "coupling-no-floor": BijectionCase(_coupling(lambda: Affine(0.0)), anything(2)),
    "checkerboard-vector-dense": BijectionCase(_checkerboard(net="dense"), vector(2)),
    "checkerboard-vector-additive-flip": BijectionCase(_checkerboard(Additive, True), vector(2)),
    "checkerboard-sequence-flip": BijectionCase(_checkerboard(flip=True), sequence()),
    "checkerboard-picture": BijectionCase(_checkerboard(), picture()),
    "checkerboard-picture-flip": BijectionCase(_checkerboard(flip=True), picture()),
    "checkerboard-picture-additive": BijectionCase(_checkerboard(Additive), picture()),
    "coupling-tanh": BijectionCase(_coupling(TanhAffine), anything(2)),
    "coupling-tanh-resnet-flip": BijectionCase(_coupling(TanhAffine, True, net="resnet"), anything(2)),
    "checkerboard-tanh-resnet": BijectionCase(_checkerboard(TanhAffine, net="resnet"), anything(2)),
    "coupling-spline": BijectionCase(_coupling(lambda: Spline(4, 2.0)), anything(2)),
    "coupling-spline-residual-flip": BijectionCase(_coupling(Spline, True, net="residual"), vector(2)),
    "checkerboard-spline": BijectionCase(_checkerboard(lambda: Spline(3)), anything(2)),
    "autoregressive": BijectionCase(_autoregressive(), vector(4)),
    "batchnorm": BijectionCase(lambda s: bijections.BatchNorm(s[0]), anything()),
    "whiten-pca": BijectionCase(_whiten("pca"), anything()),
    "whiten-zca": BijectionCase(_whiten("zca"), anything()),
    "whiten-pca-low-rank": BijectionCase(_whiten("pca", low=True), anything(2)),
    "whiten-zca-low-rank": BijectionCase(_whiten("zca", low=True), anything(2)),
    "unflatten": BijectionCase(lambda s: bijections.Unflatten((1, *s, 1)), vector()),
    "whiten-whole": BijectionCase(_whole, anything()),
    "flatten": BijectionCase(lambda s: bijections.Flatten(s), anything()),
    "variational-dequantisation": BijectionCase(
        lambda s: bijections.VariationalDequantisation(s, 3, 3, 4), anything(), _of_8_levels, _of_8_levels
    ),
    "squeeze-vector": BijectionCase(lambda s: bijections.Squeeze(), vector()),
    "squeeze-sequence": BijectionCase(lambda s: bijections.Squeeze(), sequence(even=True)),
    "squeeze-picture": BijectionCase(lambda s: bijections.Squeeze(), picture(even=True)),
    "factor-out": BijectionCase(lambda s: bijections.FactorOut(s), anything(2)),
    "factor-out-unlearned": BijectionCase(lambda s: bijections.FactorOut(s, learned=False), anything(2)),
    "scale": BijectionCase(lambda s: bijections.Scale(s[0]), anything()),
    "logit": BijectionCase(lambda s: bijections.Logit(), anything(), torch.rand),
    "logit-small-alpha": BijectionCase(lambda s: bijections.Logit(1e-3), anything(), torch.rand),
    "logistic-to-normal": BijectionCase(lambda s: bijections.LogisticToNormal(), anything()),
    "chain": BijectionCase(_chain, anything(2)),
    "multiscale-vector": BijectionCase(_multiscale(), vector(4)),
    "multiscale-sequence": BijectionCase(_multiscale(), st.tuples(st.integers(1, 3), st.just(8))),
    "multiscale-picture": BijectionCase(_multiscale(), st.sampled_from([(1, 4, 8), (1, 8, 4), (2, 4, 4)])),
    "steps-checkpoint": BijectionCase(_steps("invertible", "affine", "checkpoint"), anything(2)),
    "steps-reversible": BijectionCase(_steps("invertible", "affine", "reversible"), anything(2)),
    "steps-reversible-additive": BijectionCase(_steps("plain", "additive", "reversible"), anything(2)),
    "steps-positions": BijectionCase(_steps(positions=True), anything(2)),
    "steps-positions-reversible": BijectionCase(_steps(memory="reversible", positions=True), anything(2)),
    "factor-out-positions": BijectionCase(lambda s: bijections.FactorOut(s, positions=True), anything(2)),
    "conditional-steps-positions": _conditional(_steps(context_dim=K, positions=True), anything(2)),
    "conditional-affine": _conditional(lambda s: bijections.ContextAffine(s, K), anything()),
    "conditional-autoregressive": _conditional(_autoregressive(K), vector(4)),
    "conditional-coupling": _conditional(_coupling(context_dim=K), anything(2)),
    "conditional-coupling-dense": _conditional(_coupling(net="dense", context_dim=K), vector(2)),
    "conditional-checkerboard-resnet": _conditional(_checkerboard(TanhAffine, net="resnet", context_dim=K), anything(2)),
    "conditional-factor-out": _conditional(lambda s: bijections.FactorOut(s, context_dim=K), anything(2)),
    "conditional-multiscale": _conditional(_multiscale(K), st.sampled_from([(5,), (1, 8), (1, 4, 8)])),
    "conditional-dequantisation": _conditional(
        lambda s: bijections.VariationalDequantisation(s, 3, 3, 4, K), anything(), _of_8_levels, _of_8_levels
    ),
    "conditional-step": _conditional(_step(context_dim=K), anything(2)),
    "conditional-steps": _conditional(_steps(context_dim=K), anything(2)),
    "conditional-steps-checkpoint": _conditional(_steps(memory="checkpoint", context_dim=K), anything(2)),
    "conditional-steps-reversible": _conditional(_steps(memory="reversible", context_dim=K), anything(2)),
}
for _permutation in ("invertible", "plain", "shuffle", "reverse"):
    for _kind in ("affine", "additive"):
        BIJECTIONS[f"step-{_permutation}-{_kind}"] = BijectionCase(_step(_permutation, _kind), anything(2))
        BIJECTIONS[f"steps-{_permutation}-{_kind}"] = BijectionCase(_steps(_permutation, _kind), anything(2))
