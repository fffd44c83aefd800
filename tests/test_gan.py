"""The GAN's maths against oracles: torch's cross-entropy, SciPy's integrals and distributions, known gradients."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import nn

from triptych import codecs, gan
from triptych.capabilities import Encodes, HasDensity, require
from triptych.codecs import BinCentres, Dequantised, Floats
from triptych.core import StandardNormal
from triptych.edit import Inverting
from triptych.errors import TriptychError
from triptych.gan import (
    GAN,
    ConvDiscriminator,
    ConvGenerator,
    MaxoutDiscriminator,
    MaxoutGAN,
    MLPDiscriminator,
    MLPGenerator,
    ProgressiveGAN,
    games,
    layers,
    networks,
    penalties,
)
from triptych.gan.augment import Augmentation, _cutout, _quarter_turns, _resampled, _translation, ada_step
from triptych.gan.games import GAMES
from triptych.gan.layers import group_size
from triptych.gan.networks import uniform_prior
from triptych.modes import evaluating
from triptych.parts import build as built
from triptych.parts import describe
from triptych.randomness import seeded

PARTS = {name: getattr(room, name) for room in (codecs, gan) for name in room.__all__} | {"StandardNormal": StandardNormal}


# --- the pair -----------------------------------------------------------------------------------------------------------
def conv(shape, k=0, norm="pixel", blocks=0, group=4, codec=None):
    codec = codec or BinCentres()
    output = "sigmoid" if codec.is_picture else "linear"
    generator = ConvGenerator(5, shape, 4, norm, output, blocks, context_dim=k)
    discriminator = ConvDiscriminator(shape, 4, group, blocks, centre=codec.centred, context_dim=k)
    return GAN(shape, 5, generator=generator, discriminator=discriminator, codec=codec, context_dim=k)


def mlp(shape, k=0, hidden=(16,), codec=None, uniform=False):
    codec = codec or Floats()
    output = "sigmoid" if codec.is_picture else "linear"
    generator = MLPGenerator(5, shape, hidden, output, uniform=uniform, context_dim=k)
    discriminator = MLPDiscriminator(shape, hidden[::-1], centre=codec.centred, context_dim=k)
    return GAN(shape, 5, generator=generator, discriminator=discriminator, codec=codec, context_dim=k)


def maxout(shape, k=0, **settings):
    return MaxoutGAN(shape, 5, (16,), **{"maxout": (12, 12), **settings}, context_dim=k)


PAIRS = {
    "conv-grey-28": lambda k: conv((1, 28, 28), k, "batch"),
    "conv-colour-odd": lambda k: conv((3, 33, 20), k, blocks=1),
    "conv-5x7": lambda k: conv((2, 5, 7), k, "none", group=0),
    "conv-1x1": lambda k: conv((4, 1, 1), k, "batch"),
    "conv-flat": lambda k: conv((1, 2, 19), k, "batch", codec=Floats()),
    "auto-8x8": lambda k: GAN((3, 8, 8), 5, context_dim=k),
    "auto-5x7": lambda k: GAN((1, 5, 7), 5, context_dim=k, codec=Dequantised()),
    "maxout-grey": lambda k: maxout((1, 6, 5), k),
    "maxout-no-dropout": lambda k: maxout((4, 3, 3), k, drop_input=0, drop=0, maxout=(8,), pieces=2),
    "mlp-vector": lambda k: mlp((2,), k, (16, 8)),
    "mlp-one-number": lambda k: mlp((1,), k),
    "mlp-no-hidden": lambda k: mlp((3,), k, ()),
    "mlp-sequence": lambda k: mlp((2, 9), k),
    "mlp-uniform": lambda k: mlp((1, 6, 5), k, codec=BinCentres(), uniform=True),
}
CONTEXTS = [None, 3]
each = pytest.mark.parametrize("name", PAIRS)
conditions = pytest.mark.parametrize("k", CONTEXTS)


def build(name: str, k: int | None = None) -> GAN:
    torch.manual_seed(0)
    return PAIRS[name](k or 0)


def contexts(k: int | None, n: int) -> torch.Tensor | None:
    """One-hot contexts (n, k), or None."""
    return None if k is None else torch.eye(k)[torch.arange(n) % k]


def woken(model):
    """With what starts at zero moved away from it."""
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    return model


@each
@conditions
@pytest.mark.parametrize("batch", [1, 6])
def test_shapes_and_ranges(name, k, batch):
    model, context = build(name, k), contexts(k, batch)
    x = model.decode(torch.randn(batch, 5), context)
    assert x.shape == (batch, *model.event_shape)
    assert x.dtype == torch.float32
    assert model.logits(x, context).shape == (batch,)
    assert x.isfinite().all() and model.logits(x, context).isfinite().all()
    if model.codec.is_picture:
        assert x.min() >= 0 and x.max() <= 1


@each
@conditions
def test_gradients_reach_every_parameter(name, k):
    model, context = build(name, k), contexts(k, 8)
    if k is not None:
        woken(model)
    fake = model.decode(torch.randn(8, 5), context)
    GAMES["nonsaturating"].generator(None, model.logits(fake, context)).mean().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, key


@each
@conditions
def test_penalties_reach_every_weight_of_the_discriminator(name, k):
    model, context = build(name, k), contexts(k, 4)
    x = torch.rand(4, *model.event_shape).requires_grad_()
    judge = lambda x: model.logits(x, context)  # noqa: E731
    total = penalties.zero_centred(judge(x), x) + penalties.gradient_penalty(judge, x, torch.rand_like(x))
    total.mean().backward()
    for key, p in model.discriminator.named_parameters():
        if p.ndim > 1:
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, key


@each
@conditions
def test_a_description_and_weights_rebuild_the_model(name, k):
    model, context = woken(build(name, k)), contexts(k, 3)
    model.decode(torch.randn(4, 5))  # running averages move
    with torch.device("meta"):
        rebuilt = built(json.loads(json.dumps(describe(model))), PARTS)
    rebuilt.load_state_dict(model.state_dict(), assign=True)
    z = torch.randn(3, 5)
    with evaluating(model), evaluating(rebuilt):
        x = model.decode(z, context)
        assert torch.equal(x, rebuilt.decode(z, context))
        assert torch.equal(model.logits(x, context), rebuilt.logits(x, context))


@pytest.mark.parametrize("name", ["conv-grey-28", "conv-colour-odd", "maxout-grey", "mlp-vector"])
@conditions
def test_bf16_stays_near_and_gives_float32(name, k):
    model, context = build(name, k).eval(), contexts(k, 4)
    z = torch.randn(4, 5)
    x = model.decode(z, context)
    logits = model.logits(x, context)
    model.bf16 = True
    assert model.decode(z, context).dtype == model.logits(x, context).dtype == torch.float32
    torch.testing.assert_close(model.decode(z, context), x, atol=0.05, rtol=0.05)
    torch.testing.assert_close(model.logits(x, context), logits, atol=0.05, rtol=0.05)
    if isinstance(model.generator, ConvGenerator):
        assert model.decode(z, context).unique().numel() > 257  # no banding: the sigmoid is in float32


def test_float64_is_kept():
    model = build("conv-colour-odd").double()
    x = model.decode(torch.randn(2, 5, dtype=torch.float64))
    assert x.dtype == model.logits(x).dtype == torch.float64


def test_a_gan_is_a_gan():
    model = build("auto-8x8")
    assert model.mapping() is model.generator and model.growth() == {}
    assert isinstance(model.generator, ConvGenerator) and isinstance(model.discriminator, ConvDiscriminator)
    assert isinstance(build("auto-5x7").generator, MLPGenerator) and isinstance(model.codec, BinCentres)
    assert isinstance(GAN((5,)).codec, Floats)
    assert model.sample(3).shape == (3, 3, 8, 8)
    for capability, words in ((Encodes, "invert"), (HasDensity, "sample-quality")):
        with pytest.raises(TriptychError, match=words):
            require(model, capability)


def test_a_users_own_networks_are_a_gan():
    class Own(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.linear = nn.Linear(inputs, outputs)

        def forward(self, h, context=None):
            return self.linear(h if context is None else torch.cat([h, context], 1)).squeeze(1)

    model = GAN((4,), 3, generator=Own(3, 4), discriminator=Own(4, 1))
    assert model.sample(5).shape == (5, 4) and model.logits(torch.zeros(5, 4)).shape == (5,)
    assert describe(model)["arguments"]["generator"] == {"own": "Own"}
    told = GAN((4,), 3, generator=Own(5, 4), discriminator=Own(6, 1), context_dim=2)
    x = told.sample(5, context=torch.ones(1, 2))
    assert x.shape == (5, 4) and told.logits(x, torch.ones(5, 2)).shape == (5,)


# --- context ------------------------------------------------------------------------------------------------------------
@each
def test_without_a_context_nothing_is_created_and_with_one_it_begins_unused(name):
    """The same weights are drawn first, and modulation and projection start at zero: D and a convolutional G are blind."""
    plain, told = build(name), build(name, 3)
    assert not {key for key in plain.state_dict() if "modulations" in key or "projection" in key}
    x = torch.rand(6, *plain.event_shape)
    with evaluating(told):
        assert torch.equal(told.logits(x), told.logits(x, contexts(3, 6)))
        if isinstance(told.generator, ConvGenerator):
            z = torch.randn(6, 5)
            with evaluating(plain):
                assert torch.equal(told.decode(z, contexts(3, 6)), plain.decode(z))


@each
def test_both_networks_see_the_context_and_unknown_is_zeros(name):
    model, z = woken(build(name, 3)).eval(), torch.randn(6, 5)
    x = model.decode(z, contexts(3, 6))
    assert (x - model.decode(z, contexts(3, 6).roll(1, 1))).abs().flatten(1).amax(1).min() > 1e-4
    assert not torch.allclose(model.logits(x, contexts(3, 6)), model.logits(x, contexts(3, 6).roll(1, 1)), atol=1e-5)
    for unknown in (torch.zeros(6, 3), torch.zeros(1, 3)):
        assert torch.equal(model.decode(z), model.decode(z, unknown))
        assert torch.equal(model.logits(x), model.logits(x, unknown))


def test_the_projection_is_miyato_and_koyamas(generator):
    """D(x, c) − D(x) is linear in c: what V c gives in the features' inner product."""
    model = woken(conv((1, 8, 8), 3, group=0)).double()
    x, c = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.randn(4, 3, generator=generator, dtype=torch.float64)
    h = model.discriminator.trunk(x * 2 - 1).flatten(1)
    expected = torch.einsum("bf,fk,bk->b", h, model.discriminator.projection.map.weight, c)
    torch.testing.assert_close(model.logits(x, c) - model.logits(x), expected)


def test_a_progressive_gan_sees_the_context_at_every_size():
    torch.manual_seed(0)
    model = ProgressiveGAN((1, 16, 16), 5, width=4, images=10, context_dim=3)
    z, context = torch.randn(6, 5), contexts(3, 6)
    assert torch.equal(model.decode(z, context), model.decode(z))
    woken(model)
    for shown in (0, 15, 25, 100):
        model.grow(shown)
        x = model.draw(z, context)
        assert not torch.allclose(x, model.draw(z)) and not torch.allclose(model.logits(x, context), model.logits(x))
        assert model.decode(z, context).shape == (6, 1, 16, 16)
        assert model.growth()["side"] == x.shape[-1] and model.growth()["full_side"] == 16


def test_initial_ranges_are_the_papers():
    model = MaxoutGAN((1, 28, 28))
    for network, spread in ((model.generator, 0.05), (model.discriminator, 0.005)):
        weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Linear)])
        assert 0.99 * spread < weights.abs().max() <= spread
        assert weights.std().item() == pytest.approx(spread / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("norm", ["batch", "pixel", "none"])
def test_signals_start_at_a_sound_scale(norm):
    torch.manual_seed(0)
    shape = (3, 64, 64)
    model = GAN(shape, generator=ConvGenerator(64, shape, 8, norm), discriminator=ConvDiscriminator(shape, 8, centre=True))
    x = model.decode(torch.randn(16, 64))
    assert 0.03 < x.std(0).mean() < 0.4
    assert model.logits(x).abs().max() < 1
    assert model.logits(x).std() > 1e-4


def test_maxout_is_the_largest_piece(generator):
    layer, x = networks.Maxout(7, 4, pieces=3), torch.randn(5, 7, generator=generator)
    pieces = (x @ layer.affine.weight.T + layer.affine.bias).view(5, 4, 3)
    torch.testing.assert_close(layer(x), pieces.max(2).values)


def test_dropout_keeps_what_the_paper_keeps():
    model = MaxoutDiscriminator((10_000,), (5000,), pieces=1)
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.2, 0.5]
    x = torch.ones(1, 10_000)
    assert model.layers[:2](x).count_nonzero().item() == pytest.approx(8000, abs=200)
    assert torch.equal(model.eval()(x), model(x))


def test_the_uniform_prior_has_scipys_quantiles():
    z = torch.linspace(-6, 6, 101, dtype=torch.float64)
    law = stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
    np.testing.assert_allclose(uniform_prior(z).numpy(), law.ppf(stats.norm.cdf(z.numpy())), rtol=1e-12, atol=1e-14)
    u = uniform_prior(torch.randn(20_000, generator=torch.Generator().manual_seed(3)))
    assert stats.kstest(u.numpy(), law.cdf).pvalue > 1e-3
    plain, mapped = (mlp((3,), uniform=uniform) for uniform in (False, True))
    mapped.load_state_dict(plain.state_dict())
    z = torch.randn(2, 5)
    torch.testing.assert_close(mapped.decode(z), plain.decode(uniform_prior(z)))


# --- layers -------------------------------------------------------------------------------------------------------------
def test_minibatch_stddev_against_numpy(generator):
    h = torch.randn(12, 3, 2, 5, generator=generator)
    out = layers.MinibatchStddev(4)(h)
    groups = h.numpy().reshape(4, 3, 3, 2, 5)  # example b is in group b mod 3
    expected = groups.std(0).mean((1, 2, 3))
    assert torch.equal(out[:, :3], h)
    np.testing.assert_allclose(out[:, 3, 1, 2].numpy(), expected[np.arange(12) % 3], rtol=1e-5)


@pytest.mark.parametrize(("batch", "group", "size"), [(8, 4, 4), (6, 4, 3), (7, 4, 1), (1, 4, 1), (3, 8, 3), (2, 1, 1)])
def test_minibatch_stddev_takes_the_largest_divisor(batch, group, size, generator):
    h = torch.randn(batch, 2, 3, 3, generator=generator)
    groups = h.view(size, batch // size, -1)
    assert group_size(batch, group) == size
    expected = (groups.var(0, correction=0) + 1e-8).sqrt().mean(1).repeat(size)
    torch.testing.assert_close(layers.MinibatchStddev(group)(h)[:, 2, 0, 0], expected)


def test_minibatch_stddev_of_a_batch_of_one_picture_is_nothing():
    h = torch.randn(1, 2, 3, 3).expand(8, 2, 3, 3).clone().requires_grad_()
    out = layers.MinibatchStddev(4)(h)
    assert out[:, 2].abs().max() <= 1.001e-4  # √ε of the paper's code
    out.sum().backward()
    assert h.grad.isfinite().all()


def test_pixel_norm_has_unit_mean_square(generator):
    out = layers.PixelNorm()(7 * torch.randn(2, 6, 3, 4, generator=generator))
    torch.testing.assert_close(out.square().mean(1), torch.ones(2, 3, 4))


def test_batch_norm_is_torchs_and_keeps_nan_out(generator):
    own, torchs, h = layers.SafeBatchNorm2d(3), nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5, generator=generator)
    torch.testing.assert_close(own(h), torchs(h))
    torch.testing.assert_close(own.running_var, torchs.running_var)
    before = own.running_mean.clone()
    own(h * math.nan)
    assert torch.equal(own.running_mean, before)
    assert own.averaged_buffers == ("running_mean", "running_var")
    one = torch.randn(1, 3, 1, 1)
    torch.testing.assert_close(own(one), own.eval()(one))


# --- games --------------------------------------------------------------------------------------------------------------
logit_pairs = st.tuples(st.floats(-30, 30), st.floats(-30, 30))


@settings(deadline=None)
@given(logit_pairs)
def test_losses_against_cross_entropy(pair):
    r, f = (torch.tensor([v], dtype=torch.float64) for v in pair)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    bce = F.binary_cross_entropy_with_logits
    # softplus is linear above 20, where it is off by e⁻²⁰ = 2e-9
    close = lambda a, b: torch.testing.assert_close(a.squeeze(), b, atol=3e-9, rtol=1e-10)  # noqa: E731
    for name in ("minimax", "nonsaturating"):
        close(GAMES[name].discriminator(r, f), bce(r, one) + bce(f, zero))
    close(GAMES["minimax"].generator(None, f), -bce(f, zero))
    close(GAMES["nonsaturating"].generator(None, f), bce(f, one))
    close(GAMES["relativistic"].discriminator(r, f), bce(r - f, one))
    close(GAMES["relativistic"].generator(r, f), bce(f - r, one))
    close(GAMES["wgan"].discriminator(r, f), (f - r).squeeze())
    close(GAMES["wgan"].generator(None, f), -f.squeeze())
    close(games.value(r, f), -bce(r, one) - bce(f, zero))


@pytest.mark.parametrize("name", GAMES)
def test_games_are_finite_far_out_and_give_a_value_for_each_example(name):
    r = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    f = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    game = GAMES[name]
    losses = game.discriminator(r, f), game.generator(r, f)
    assert all(loss.shape == (3,) and loss.isfinite().all() for loss in losses)
    assert all(g.isfinite().all() for g in torch.autograd.grad(sum(losses).sum(), (r, f)))
    with pytest.raises(TriptychError, match="one sample for each"):
        game.discriminator(r, f[:1])
    if game.pairs:
        with pytest.raises(TriptychError, match="one shape"):
            game.generator(None, f)


@pytest.mark.parametrize("name", GAMES)
def test_the_generator_is_drawn_where_the_discriminator_says_real(name):
    f, r = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    (down,) = torch.autograd.grad(GAMES[name].generator(r, f).sum(), f)
    assert down < 0
    grad_real, grad_fake = torch.autograd.grad(GAMES[name].discriminator(r, f).sum(), (r, f))
    assert grad_real < 0 < grad_fake


@pytest.mark.parametrize("name", GAMES)
def test_a_game_is_shift_free_where_a_constant_changes_no_gradient(name, generator):
    game, logits = GAMES[name], torch.randn(2, 16, generator=generator, dtype=torch.float64)

    def slopes(shift):
        r, f = (logits + shift).clone().requires_grad_().unbind()
        r.retain_grad(), f.retain_grad()
        sides = game.discriminator(r, f).sum(), game.generator(r, f).sum()
        return torch.stack([torch.stack(torch.autograd.grad(side, (r, f), materialize_grads=True)) for side in sides])

    same = torch.allclose(slopes(0.0), slopes(5.0)) and torch.allclose(slopes(0.0), slopes(-5.0))
    assert same == game.shift_free
    confidence = {game.confidence(*(logits + shift)).item() for shift in (-5.0, 0.0, 5.0)}
    assert len(confidence) == (1 if game.shift_free else 3)


@pytest.mark.parametrize("r", [-0.5, 0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(("spread", "shift"), [(1.0, 0.0), (4.0, 50.0)])
def test_what_ada_aims_at_is_worth_the_same_in_every_game(r, spread, shift):
    """Logits with the share (1 + r) / 2 of data, and of samples, on their side of the middle: all games agree on D."""
    random = np.random.default_rng(0)
    mean = stats.norm.ppf((1 + r) / 2) * spread
    real, fake = (torch.from_numpy(m + spread * random.standard_normal(400_000)) for m in (mean, -mean))
    for game in GAMES.values():
        seen = (shift if game.shift_free else 0.0) + torch.stack([real, fake])
        assert game.confidence(*seen).item() == pytest.approx(game.confident_as(r), abs=0.01)


def _grid(points=20_001):
    x = torch.linspace(-20, 20, points, dtype=torch.float64)
    return x, (x[1] - x[0]).item()


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (1.0, 1.0), (-2.0, 0.5), (9.0, 0.3)])
def test_theorem_1_against_scipys_quadrature(mean, scale):
    x, spacing = _grid()
    p, q = stats.norm(0, 1), stats.norm(mean, scale)
    log_p, log_q = (torch.from_numpy(law.logpdf(x.numpy())) for law in (p, q))

    def pointwise(t):
        a, b = p.pdf(t), q.pdf(t)
        return a * math.log(a / (a + b)) + b * math.log(b / (a + b)) if a > 0 and b > 0 else 0.0

    oracle = integrate.quad(pointwise, -20, 20, points=[0, mean], limit=500, epsabs=1e-11)[0]
    c = games.criterion(log_p, log_q, spacing).item()
    assert c == pytest.approx(oracle, abs=1e-8)
    assert c == pytest.approx(-math.log(4) + 2 * games.jensen_shannon(log_p, log_q, spacing).item(), abs=1e-10)
    best = games.optimal_discriminator(log_p, log_q)
    np.testing.assert_allclose(best.sigmoid().numpy(), p.pdf(x) / (p.pdf(x) + q.pdf(x)), atol=1e-12)
    for other in (best + 0.1, best * 0.9, torch.zeros_like(best)):  # no D does better than D*
        played = spacing * (log_p.exp() * F.logsigmoid(other) + log_q.exp() * F.logsigmoid(-other)).sum()
        assert played.item() <= c + 1e-12


def test_densities_that_share_nothing():
    log_p = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0]).log()
    log_q = torch.tensor([0.0, 0.0, 0.25, 0.75, 0.0]).log()
    assert games.jensen_shannon(log_p, log_q, 1.0).item() == pytest.approx(math.log(2))
    assert games.criterion(log_p, log_q, 1.0).item() == pytest.approx(0.0)
    assert games.optimal_discriminator(log_p, log_q).tolist() == [math.inf, math.inf, -math.inf, -math.inf, 0.0]


# --- penalties ----------------------------------------------------------------------------------------------------------
def _quadratic(generator):
    """D(x) = ½ xᵀA x + bᵀx with ∇D = A x + b, A symmetric and learnable."""
    a = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    a = (a + a.T).requires_grad_()
    b = torch.randn(4, generator=generator, dtype=torch.float64)
    return a, b, lambda x: 0.5 * torch.einsum("bi,ij,bj->b", x, a, x) + x @ b


def test_zero_centred_on_a_quadratic(generator):
    a, b, discriminator = _quadratic(generator)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_()
    penalty = penalties.zero_centred(discriminator(x), x)
    torch.testing.assert_close(penalty, 0.5 * (x @ a + b).square().sum(1))
    (grad_a,) = torch.autograd.grad(penalty.sum(), a)
    moved = (a + 1e-6 * torch.eye(4, dtype=torch.float64)).detach()
    slope = (0.5 * (x @ moved + b).square().sum() - penalty.sum()) / 1e-6
    assert grad_a.trace().item() == pytest.approx(slope.item(), rel=1e-4)


def test_gradient_penalty_on_a_quadratic(generator):
    a, b, discriminator = _quadratic(generator)
    real, fake = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.manual_seed(5)
    penalty = penalties.gradient_penalty(discriminator, real, fake, target=2.0)
    torch.manual_seed(5)
    between = real + torch.rand(6, 1, dtype=torch.float64) * (fake - real)
    torch.testing.assert_close(penalty, ((between @ a + b).norm(dim=1) - 2).square())
    assert torch.autograd.grad(penalty.sum(), a)[0].isfinite().all()


def test_zero_centred_against_finite_differences_of_a_network():
    model = conv((1, 5, 4), group=0).double()
    x = torch.rand(2, 1, 5, 4, dtype=torch.float64).requires_grad_()
    penalty, step = penalties.zero_centred(model.logits(x), x), 1e-6
    places = step * torch.eye(20, dtype=torch.float64).view(20, 1, 5, 4)
    with torch.no_grad():
        slopes = [(model.logits(d + places) - model.logits(d - places)) / (2 * step) for d in x]
    torch.testing.assert_close(penalty, torch.stack([0.5 * s.square().sum() for s in slopes]), rtol=1e-5, atol=1e-12)


def test_a_discriminator_without_slope_gives_finite_gradients():
    weight = torch.zeros(3, requires_grad=True)
    penalty = penalties.gradient_penalty(lambda x: (x * weight).sum(1), torch.zeros(2, 3), torch.ones(2, 3))
    assert torch.equal(penalty, torch.ones(2))
    assert torch.autograd.grad(penalty.sum(), weight)[0].isfinite().all()


@pytest.mark.parametrize(
    ("penalty", "at_x"), [(penalties.ZeroCentred(samples=True), True), (penalties.TowardsSlope(), False)]
)
def test_r1_and_r2_are_at_the_picture_before_augmentation(generator, penalty, at_x):
    """Of D(T(x)) with T(x) = S x + t, ∇ = Sᵀ(A T(x) + b); a slope to be 1 everywhere is D's own, at what it is shown."""
    a, b, discriminator = _quadratic(generator)
    s, t = torch.diag(torch.tensor([0.0, 3.0, 1.0, -1.0], dtype=torch.float64)), 0.3
    real, fake = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    with seeded(0):
        found = penalty.judge(discriminator, real, fake, lambda x: x @ s + t)
    with seeded(0):
        u = torch.rand(6, 1, dtype=torch.float64)
    shown, shown_fake = real @ s + t, fake @ s + t
    torch.testing.assert_close(found.shown, shown)
    torch.testing.assert_close(found.real, discriminator(shown))
    slopes = [(x @ a + b) @ s for x in (shown, shown_fake)] if at_x else [torch.lerp(shown, shown_fake, u) @ a + b]
    expected = [0.5 * g.square().sum(1) if at_x else (g.norm(dim=1) - 1).square() for g in slopes]
    torch.testing.assert_close(found.penalty, sum(p.mean() for p in expected))
    assert not real.requires_grad and not fake.requires_grad


def test_penalties_say_what_they_miss():
    x = torch.zeros(2, 3)
    with pytest.raises(TriptychError, match="requires_grad_"):
        penalties.zero_centred(x.sum(1), x)
    with pytest.raises(TriptychError, match="one shape"):
        penalties.gradient_penalty(lambda x: x.sum(1), x, x[:1])


# --- augmentation -------------------------------------------------------------------------------------------------------
KINDS = pytest.mark.parametrize("kind", ["diffaug", "ada"])
PICTURES = pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12), (2, 5, 7), (4, 1, 1)])


@KINDS
@PICTURES
def test_augmentation_keeps_the_shape_and_passes_gradients(kind, shape):
    torch.manual_seed(1)
    augmentation = Augmentation(shape, kind, p=0.8)
    x = torch.rand(16, *shape).requires_grad_()
    y = augmentation(x)
    assert y.shape == x.shape and y.isfinite().all()
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert slope.isfinite().all() and slope.abs().sum() > 0
    (second,) = torch.autograd.grad(slope.square().sum(), x)
    assert second.isfinite().all() and second.abs().sum() > 0
    assert not torch.equal(y, x)


@KINDS
@PICTURES
def test_at_p_0_nothing_changes_and_one_example_suffices(kind, shape):
    x = torch.rand(5, *shape)
    assert torch.equal(Augmentation(shape, kind, p=0.0)(x), x)
    assert torch.equal(Augmentation(shape, "none")(x), x)
    assert Augmentation(shape, kind, p=1.0)(x[:1]).shape == (1, *shape)


@KINDS
def test_augmentation_is_affine_and_repeats_with_the_random_state(kind):
    augmentation, (a, b) = Augmentation((3, 9, 9), kind, p=0.7), torch.rand(2, 8, 3, 9, 9, dtype=torch.float64)

    def drawn(x):
        torch.manual_seed(2)
        return augmentation(x)

    torch.testing.assert_close(drawn(0.3 * a + 0.7 * b), 0.3 * drawn(a) + 0.7 * drawn(b))
    assert torch.equal(drawn(a), drawn(a))


def test_ada_changes_an_example_with_probability_p():
    torch.manual_seed(0)
    x = torch.rand(4000, 1, 4, 4)
    augmentation = Augmentation((1, 4, 4), "ada", p=0.3)
    augmentation._moved = lambda x: x  # the colours alone: of grey pictures two changes, so 1 − 0.7²
    changed = (augmentation(x) != x).flatten(1).any(1).float().mean().item()
    assert changed == pytest.approx(0.51, abs=0.04)


def test_translation_moves_whole_pixels_and_keeps_what_stays():
    torch.manual_seed(0)
    x = torch.rand(200, 2, 16, 8)
    moved, seen = _translation(x), set()
    padded = F.pad(x, (1, 1, 2, 2), value=0.5)
    for before, after in zip(padded, moved, strict=True):
        found = [
            (i, j) for i in range(5) for j in range(3) if torch.equal(before[:, i : i + 16, j : j + 8], after)
        ]  # every shift of up to an eighth of a side
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 15


def test_cutout_is_grey_on_half_the_sides_at_most():
    torch.manual_seed(0)
    x = 1 + torch.rand(300, 1, 8, 6)
    cut = _cutout(x)
    hole = cut == 0.5
    assert torch.equal(cut[~hole], x[~hole])
    sizes = hole.flatten(1).sum(1)
    assert sizes.max() == 4 * 3 and sizes.min() >= 1
    rows, cols = hole.any(3)[:, 0].sum(1), hole.any(2)[:, 0].sum(1)
    assert torch.equal(sizes, rows * cols)  # a rectangle


def test_quarter_turns_and_flips_are_torchs():
    torch.manual_seed(0)
    x = torch.rand(64, 2, 5, 5)
    turns = _quarter_turns(x)
    eye, still = torch.eye(2).expand(64, 2, 2), torch.zeros(64, 2, 1)
    known = [torch.linalg.matrix_power(turns.new_tensor([[0.0, -1.0], [1.0, 0.0]]), k) for k in range(4)]
    for before, after, turn in zip(x, _resampled(x, turns, eye, still), turns, strict=True):
        (k,) = [k for k in range(4) if torch.equal(known[k], turn)]
        assert any(torch.equal(after, torch.rot90(before, s * k, (1, 2))) for s in (1, -1))
    flipped = _resampled(x, torch.diag(torch.tensor([1.0, -1.0])).expand(64, 2, 2), eye, still)
    assert torch.equal(flipped, x.flip(3))


def test_resampling_is_bilinear_as_torchs():
    torch.manual_seed(0)
    x, side = torch.rand(6, 3, 9, 9, dtype=torch.float64), 9
    matrices = torch.eye(2, dtype=torch.float64) + 0.3 * torch.randn(6, 2, 2, dtype=torch.float64)
    shift = torch.randn(6, 2, 1, dtype=torch.float64)
    ours = _resampled(x, torch.eye(2, dtype=torch.float64), matrices, shift)
    theta = torch.cat([matrices.flip(1, 2), shift.flip(1) * 2 / side], 2)  # torch counts (column, row), sides as 2
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    torchs = F.grid_sample(x - 0.5, grid, align_corners=False) + 0.5
    torch.testing.assert_close(ours, torchs)


def test_adas_p_follows_the_discriminators_confidence():
    augmentation = Augmentation((3, 8, 8), "ada")
    confident, unsure, broken = torch.tensor(0.61), torch.tensor(0.59), torch.tensor(math.nan)
    augmentation.adapt(confident, 0.1)
    augmentation.adapt(broken, 0.1)
    assert augmentation.p.item() == pytest.approx(0.1)
    augmentation.adapt(unsure, 0.1)
    assert augmentation.p.item() == pytest.approx(0.0)
    augmentation.adapt(unsure, 0.1)
    assert augmentation.p.item() == 0.0
    augmentation.adapt(unsure, 0.1, target=0.5)
    assert augmentation.p.item() == pytest.approx(0.1)
    for _ in range(20):
        augmentation.adapt(confident, 0.1)
    assert augmentation.p.item() == pytest.approx(0.8)
    diffaug = Augmentation((3, 8, 8), "diffaug")
    diffaug.adapt(unsure, 0.1)
    assert diffaug.p.item() == 1.0


def test_adas_p_takes_a_tenth_of_the_run_but_no_more_than_the_papers_pictures():
    assert ada_step(8, 8 * 100) == pytest.approx(1 / 10) and ada_step(16, 16 * 100) == pytest.approx(1 / 10)
    assert ada_step(8, 8 * 10**6) == pytest.approx(8 / 500_000)
    assert ada_step(8, 800, images=1600) == pytest.approx(8 / 1600)


def test_an_augmentation_becomes_another():
    augmentation = Augmentation((1, 8, 8))
    augmentation.become("ada", p=0.5)
    augmentation.become("ada")
    assert (augmentation.kind, augmentation.p.item()) == ("ada", 0.5)  # trained on, it keeps its p
    augmentation.become("diffaug")
    assert augmentation.p.item() == 1.0
    augmentation.become("none")
    assert augmentation.p.item() == 0.0


def test_p_is_saved_and_is_not_averaged():
    model = build("auto-8x8")
    model.augmentation.become("ada")
    assert "augmentation.p" in model.state_dict()
    assert model.augmentation.training_buffers == ("p",)
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(model.eval().logits(x), build("auto-8x8").eval().logits(x))


# --- what a person is told ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ConvGenerator(5, (5,)), "take pictures .* use perceptrons"),
        (lambda: ConvGenerator(5, (1, 8, 8), norm="layer"), "norm should be one of .*, got 'layer'"),
        (lambda: ConvGenerator(5, (1, 8, 8), output="tanh"), "output should be one of sigmoid, linear"),
        (lambda: ConvGenerator(5, (1, 8, 8), width=0), "width should be a whole number from 1"),
        (lambda: ConvDiscriminator((1, 8, 8), stddev_group=-1), "stddev_group should be a whole number from 0"),
        (lambda: ConvDiscriminator((1, 8, 8), blocks=65), "blocks should be a whole number from 0 to 64"),
        (lambda: MaxoutGAN((1, 8, 8), drop=1.0), "drop should be a number from 0 to 0.99"),
        (lambda: MLPGenerator(5, (4,), hidden=(5, 0)), "each size in hidden should be"),
        (lambda: MLPDiscriminator((4,), hidden=(1,) * 65), "hidden should be up to 64 layers"),
        (lambda: GAN((4,)).augmentation.become("diffaug"), "got data read as floats"),
        (
            lambda: GAN((4, 8), codec=BinCentres()).augmentation.become("ada"),
            "augmentation changes pictures .* got .4, 8.: choose augment=none",
        ),
        (lambda: GAN((1, 8, 8)).augmentation.become("flip"), "augment should be one of none, diffaug, ada"),
        (lambda: GAN((1, 8, 8), codec=Floats()).augmentation.become("ada"), "got data read as floats: choose augment=none"),
        (lambda: Augmentation((1, 8, 8), "ada", p=1.5), "p, the probability"),
        (lambda: GAN((1, 8, 8)).logits(torch.zeros(2, 1, 8, 9)), "takes .B, 1, 8, 8."),
        (lambda: GAN((1, 8, 8)).decode(torch.zeros(2, 3)), "z should be"),
        (
            lambda: GAN((4,), 3, generator=nn.Linear(3, 5)).sample(2),
            r"the generator .Linear. should return .2, 4., got .2, 5.",
        ),
        (
            lambda: GAN((4,), discriminator=nn.Linear(4, 1)).logits(torch.zeros(2, 4)),
            r"the discriminator .Linear. should return .2,., got .2, 1.",
        ),
        (lambda: GAN((4,)).decode(torch.zeros(2, 64), torch.zeros(2, 3)), "without a condition: leave the context out"),
        (lambda: GAN((4,), context_dim=2).decode(torch.zeros(2, 64), torch.zeros(2, 3)), "context should be .2, 2."),
    ],
)
def test_a_bad_setting_is_named_in_one_line(make, expected):
    with pytest.raises(TriptychError, match=expected) as error:
        make()
    assert "\n" not in str(error.value)


def test_it_learns_a_gaussian():
    """R3GAN's game on N(2, 0.5²) in one dimension: mean and spread are found within a few hundred rounds."""
    torch.manual_seed(0)
    model, game = GAN((1,), latent_dim=1, generator=MLPGenerator(1, (1,), (32, 32), "linear"),
                      discriminator=MLPDiscriminator((1,), (32, 32))), GAMES["relativistic"]  # fmt: skip
    sides = [torch.optim.Adam(net.parameters(), 2e-3, betas=(0.0, 0.99)) for net in (model.generator, model.discriminator)]
    for _ in range(400):
        x, fake = 2 + 0.5 * torch.randn(128, 1), model.decode(torch.randn(128, 1))
        real, seen = x.clone().requires_grad_(), fake.detach().requires_grad_()
        r, f = model.logits(real), model.logits(seen)
        smooth = penalties.zero_centred(r, real) + penalties.zero_centred(f, seen)
        for side, loss in ((1, game.discriminator(r, f) + 0.1 * smooth), (0, None)):
            loss = game.generator(model.logits(x), model.logits(fake)) if loss is None else loss
            sides[side].zero_grad()
            loss.mean().backward()
            sides[side].step()
    samples = model.sample(4000, generator=torch.Generator().manual_seed(1))
    assert samples.mean().item() == pytest.approx(2.0, abs=0.15)
    assert samples.std().item() == pytest.approx(0.5, abs=0.15)


# --- temperature of generators that are not ours -------------------------------------------------------------------------
class OwnGenerator(nn.Module):
    """A linear generator of a user's, which normalises z or does not."""

    def __init__(self, normalises):
        super().__init__()
        self.layer, self.normalises = nn.Linear(5, 7), normalises

    def forward(self, z):
        return self.layer(F.normalize(z, dim=1) if self.normalises else z)


def test_a_temperature_that_would_change_nothing_is_refused():
    model = GAN((7,), 5, generator=OwnGenerator(True), discriminator=MLPDiscriminator((7,), (4,)))
    assert model.sample(3).shape == (3, 7)
    for temperature in (0.0, 0.5, 2.0):
        with pytest.raises(TriptychError, match=r"a temperature changes nothing here.*leave the temperature at 1"):
            model.sample(3, temperature=temperature)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_temperature_multiplies_the_z_of_a_generator_of_ones_own(wrapped):
    model = GAN((7,), 5, generator=OwnGenerator(False), discriminator=MLPDiscriminator((7,), (4,)))
    z = model.sample_prior(3, generator=torch.Generator().manual_seed(0))
    found = (Inverting(model) if wrapped else model).sample(3, temperature=0.5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, model.decode(0.5 * z))


def test_what_is_inverted_samples_as_it_did():
    model = conv((1, 8, 8))
    a, b = (m.sample(4, temperature=0.5, generator=torch.Generator().manual_seed(0)) for m in (model, Inverting(model)))
    assert torch.equal(a, b)


@given(st.floats(0, 1), st.floats(1e-6, math.pi - 1e-3))
def test_a_turn_along_the_sphere_is_a_share_of_the_angle(share, angle):
    basis = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0].T
    towards = math.cos(angle) * basis[0] + math.sin(angle) * basis[1]
    found = layers.along_sphere(3 * basis[:1], 0.1 * towards[None], share)
    expected = math.cos(share * angle) * basis[0] + math.sin(share * angle) * basis[1]
    torch.testing.assert_close(found[0], expected, atol=1e-8, rtol=0)
