"""Flows as models: densities against quadrature and SciPy, what happens before data were seen, sizes that do not work."""

import copy
import math

import numpy as np
import pytest
import torch
from cases import perturbed
from scipy import stats

import triptych
from triptych import bijections
from triptych.bijections import FlowSteps
from triptych.bijections.squeeze import most_levels
from triptych.codecs import Dequantised, Floats
from triptych.errors import TriptychError
from triptych.flow import NICE, Flow, Glow, RealNVP, flow_health

SMALL = {
    "glow": lambda: Glow((2,), levels=1, depth=3, width=8),
    "glow-plain": lambda: Glow((2,), levels=1, depth=3, width=8, permutation="plain"),
    "glow-additive": lambda: Glow((2,), levels=1, depth=3, width=8, coupling="additive", permutation="reverse"),
    "glow-sequence": lambda: Glow((1, 2), levels=1, depth=2, width=8),
    "nice": lambda: NICE((2,), hidden=(8,)),
    "nice-gaussian": lambda: NICE((1, 2), hidden=(8,), prior="gaussian"),
    "realnvp": lambda: RealNVP((2,), levels=1, blocks=1, width=6),
    "realnvp-sequence": lambda: RealNVP((1, 2), levels=1, blocks=1, width=6, coupling="additive"),
}


def ready(build, scale=0.15, n=64):
    """A flow of few dimensions in float64 that has seen correlated data and is not an identity."""
    torch.manual_seed(0)
    model = build().double()
    x = torch.randn(n, *model.event_shape, dtype=torch.float64)
    model.initialize(x * 0.8 + 0.3)
    return perturbed(model, scale).eval()


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_density_integrates_to_one(name):
    """By quadrature: Σ p(x) dx over a grid, and its first moments are those of samples."""
    model = ready(SMALL[name], 0.1)
    samples = model.decode(torch.randn(20_000, 2, dtype=torch.float64)).flatten(1)
    low, high = (samples.mean(0) + side * 1.5 * (samples - samples.mean(0)).abs().amax(0) for side in (-1, 1))
    axes = [torch.linspace(a, b, 351, dtype=torch.float64) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    grid = torch.cartesian_prod(*axes)
    log_p = torch.cat([model.log_prob(part.view(-1, *model.event_shape)) for part in grid.split(20_000)])
    p = log_p.exp() * (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    assert p.sum().item() == pytest.approx(1, abs=1e-3)
    error = 5 * samples.std(0) / len(samples) ** 0.5
    assert ((p[:, None] * grid).sum(0) - samples.mean(0)).abs().lt(error).all()
    assert (samples - model.encode(samples.view(-1, *model.event_shape))).abs().max() > 0.1  # not an identity


AFFINE = {
    "vector": lambda: Glow((5,), levels=2, depth=2, width=4),
    "sequence": lambda: Glow((2, 4), levels=2, depth=2, width=4, permutation="plain"),
    "picture": lambda: Glow((1, 4, 2), levels=1, depth=3, width=4, reading="none"),
    "checkpoint": lambda: Glow((4,), levels=1, depth=2, width=4, memory="checkpoint", permutation="shuffle"),
}


@pytest.mark.parametrize("name", AFFINE)
@torch.no_grad()
def test_an_affine_flow_is_scipys_normal(name):
    """Networks that answer with constants leave x = A z + c, so that p is N(c, A Aᵀ)."""
    model = ready(AFFINE[name], 0.2)
    for parameter_name, p in model.named_parameters():
        if parameter_name.endswith(("last.weight", "net.layer.weight")):
            p.zero_()
    size = model.latent_dim
    c = model.decode(torch.zeros(1, size, dtype=torch.float64)).flatten()
    a = (model.decode(torch.eye(size, dtype=torch.float64)).flatten(1) - c).T
    x = torch.randn(50, *model.event_shape, dtype=torch.float64)
    truth = stats.multivariate_normal(c.numpy(), (a @ a.T).numpy()).logpdf(x.flatten(1).numpy())
    np.testing.assert_allclose(model.log_prob(x).numpy(), truth, atol=1e-8)
    assert (a - torch.eye(size)).abs().max() > 0.1


def test_nice_has_the_logistic_prior():
    """Without couplings' networks, log p(x) = Σ log p_logistic(s ⊙ x) + Σ log s (NICE, eq. 3)."""
    model = NICE((6,), hidden=(4,)).double().eval()
    model.initialize(torch.randn(8, 6).double())
    scale = next(m for m in model.modules() if type(m).__name__ == "Scale")
    with torch.no_grad():
        scale.log_s.copy_(torch.randn(6))
        order = model.bijection.parts[1].order
        x = torch.randn(5, 6, dtype=torch.float64)
        s = scale.log_s.exp().numpy()
        truth = stats.logistic.logpdf(x[:, order].numpy() * s).sum(1) + np.log(s).sum()
        np.testing.assert_allclose(model.log_prob(x), truth, rtol=1e-9)


# before data were seen


UNSEEN = {
    "glow": lambda: Glow((3, 4, 4), levels=1, depth=2, width=4),
    "realnvp": lambda: RealNVP((3, 4, 4), levels=1, blocks=1, width=4),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_nothing_works_before_data_were_seen(name, tmp_path):
    model = UNSEEN[name]().eval()
    model.save_pretrained(tmp_path / "m")
    loaded, x = triptych.load(tmp_path / "m"), torch.rand(4, 3, 4, 4)
    for each in (model, loaded, copy.deepcopy(model)):
        for use in (lambda m: m.sample(2), lambda m: m.log_prob(x), lambda m: m.encode(x)):
            with pytest.raises(TriptychError, match="has not seen data yet: call initialize"):
                use(each)
    loaded.initialize(x)
    loaded.save_pretrained(tmp_path / "n")
    again = triptych.load(tmp_path / "n")
    with torch.no_grad():
        torch.testing.assert_close(again.log_prob(x), loaded.log_prob(x))
        assert again.sample(2).shape == (2, 3, 4, 4)


def test_a_first_batch_is_checked():
    model = UNSEEN["glow"]()
    with pytest.raises(TriptychError, match="takes"):
        model.initialize(torch.rand(4, 3, 4, 5))
    x = torch.rand(4, 3, 4, 4)
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(TriptychError, match="NaN or infinity"):
        model.initialize(x)
    with pytest.raises(TriptychError, match="has not seen data yet"):
        model.sample(1)
    vector = Glow((4,), levels=1, depth=1, width=4)
    with pytest.raises(TriptychError, match="give at least 2"):
        vector.initialize(torch.randn(1, 4))
    for mode in (True, False):
        model = UNSEEN["glow"]().train(mode)
        model.initialize(torch.rand(4, 3, 4, 4))
        assert model.training is mode
    with pytest.raises(TriptychError, match="initialised already"):
        model.initialize(torch.rand(4, 3, 4, 4))


def made(name):
    model = {**UNSEEN, "nice": lambda: NICE((3, 4, 4), hidden=(8,))}[name]()
    model.initialize(model.codec.encode(torch.randint(0, 256, (16, *model.event_shape), dtype=torch.uint8)))
    return model.eval()


@pytest.mark.parametrize("name", ["glow", "nice", "realnvp"])
def test_what_is_no_x_is_refused_in_words(name):
    model = made(name)
    pixels = torch.randint(0, 256, (2, *model.event_shape), dtype=torch.uint8)
    for call in (model.encode, model.log_prob):
        with pytest.raises(TriptychError, match=r"stored values .*codec\.encode"):
            call(pixels)
        with pytest.raises(TriptychError, match=r"are torch\.float64, the model is torch\.float32"):
            call(pixels.double() / 256)
    with pytest.raises(TriptychError, match="the codes hold NaN"):
        model.decode(torch.full((1, model.latent_dim), torch.nan))
    with pytest.raises(TriptychError, match="temperature should be"):
        model.sample(1, temperature=math.inf)
    if name == "realnvp":
        with pytest.raises(TriptychError, match=r"not finite.*pixels belong in"):
            model.log_prob(2 * model.codec.encode(pixels))


def test_a_singular_layer_is_no_silent_infinity():
    model = Glow((3, 4, 4), levels=1, depth=2, width=4, permutation="plain")
    x = torch.rand(8, 3, 4, 4)
    model.initialize(x)
    with torch.no_grad():
        model.bijection.scales[0].parts[1].steps[0].mixing.weight[0] = 0
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, pytest.raises(TriptychError, match="singular"):
            model.eval().log_prob(x)


@pytest.mark.parametrize(
    "layer, parameter, value, what",
    [
        ("actnorm", "shift", math.nan, "it holds NaN or infinity"),
        ("actnorm", "log_scale", math.inf, "it holds NaN or infinity"),
        ("actnorm", "log_scale", -20.0, "it multiplies a channel by 8.76e-27"),
        ("actnorm", "log_scale", 40.0, "it multiplies a channel by inf"),
        ("mixing", "lower", math.nan, "it holds NaN or infinity"),
        ("mixing", "log_s", -40.0, "its matrix is singular"),
    ],
)
def test_the_layer_without_a_way_back_is_named(layer, parameter, value, what):
    """Though an actnorm and the 1×1 after it are computed as one matrix; the first one of several."""
    model = Glow((3, 8, 8), levels=2, depth=3, width=4)
    x = torch.rand(8, 3, 8, 8)
    model.initialize(x)
    for scale, step in ((1, 2), (1, 1)):
        sick = model.bijection.scales[scale].parts[1].steps[step].get_submodule(layer)
        with torch.no_grad():
            sick.get_parameter(parameter)[:2] = value
    name = "bijection.scales.1.parts.1.steps.1." + layer
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, pytest.raises(TriptychError, match=f"layer {name}: {what}, so it cannot be inverted") as error:
            model.eval().decode(torch.zeros(1, model.latent_dim))
        assert "\n" not in str(error.value)
    if not math.isfinite(value):
        with pytest.raises(TriptychError, match=f"layer {name} holds NaN or infinity"):
            model.log_prob(x)


def test_autocast_outside_changes_nothing():
    model = made("glow")
    x = torch.rand(3, *model.event_shape)
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.log_prob(x)
    assert torch.equal(inside, model.log_prob(x))


def test_matrices_are_fresh_after_a_fused_optimiser():
    """It counts no versions, and by the time of the evaluation its gradients may be gone."""
    model = made("glow")
    x = torch.rand(8, *model.event_shape)
    with torch.no_grad():
        model.log_prob(x)
    optimizer = torch.optim.Adam(model.train().parameters(), 1e-2, fused=True)
    for _ in range(3):
        (-model.log_prob(x).mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    truth = model.eval().log_prob(x)
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(x), truth.detach())


def test_an_untrained_state_takes_the_flag_back():
    model = made("glow")
    model.load_state_dict(UNSEEN["glow"]().state_dict())
    with pytest.raises(TriptychError, match="has not seen data yet"):
        model.sample(1)


def test_a_look_leaves_every_modules_mode():
    model = made("realnvp").train()
    frozen = [m for m in model.modules() if isinstance(m, bijections.BatchNorm)][:2]
    for layer in frozen:
        layer.eval()
    flow_health(model, torch.rand(2, *model.event_shape))
    assert model.training and not any(layer.training for layer in frozen)


# conditional flows, and flows of any bijection


CONDITIONAL = {
    "glow": lambda k: Glow((3, 4, 4), levels=2, depth=2, width=6, context_dim=k),
    "glow-variational": lambda k: Glow((1, 4, 4), 1, 2, 6, dequantisation="variational", context_dim=k),
    "glow-vector": lambda k: Glow((5,), levels=2, depth=2, width=6, memory="reversible", context_dim=k),
    "nice": lambda k: NICE((6,), hidden=(8,), context_dim=k),
    "realnvp": lambda k: RealNVP((1, 4, 4), blocks=1, width=4, context_dim=k),
}


def conditional(name, scale=0.05):
    torch.manual_seed(0)
    model = CONDITIONAL[name](3).double()
    model.initialize(torch.rand(16, *model.event_shape).double(), torch.randn(16, 3))
    return perturbed(model, scale).eval(), torch.rand(4, *model.event_shape).double(), torch.randn(4, 3).double()


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_flows_change_variables(name):
    """log p(x | c) = log N(z; 0, I) + log |det ∂z/∂x|, which depends on c; back with the same c, and no other."""
    model, x, context = conditional(name)
    z, log_p = model.encode(x, context), model.log_prob(x, context)
    size = model.latent_dim
    for i in range(2):
        one = context[i : i + 1]
        j = torch.autograd.functional.jacobian(lambda x: model.encode(x, one), x[i : i + 1]).reshape(size, size)  # noqa: B023
        expected = torch.linalg.slogdet(j).logabsdet - 0.5 * (z[i].square() + math.log(2 * math.pi)).sum()
        torch.testing.assert_close(log_p[i], expected, atol=1e-8, rtol=1e-9)
    torch.testing.assert_close(model.decode(z, context), x, atol=1e-9, rtol=1e-9)
    assert (model.decode(z, -context) - x).abs().max() > 1e-5
    assert (model.log_prob(x, -context) - log_p).abs().min() > 1e-3


@pytest.mark.parametrize("name", CONDITIONAL)
def test_contexts_of_conditional_flows(name):
    model, x, context = conditional(name)
    torch.testing.assert_close(model.log_prob(x), model.log_prob(x, torch.zeros(1, 3)), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(model.encode(x, context[:1]), model.encode(x, context[:1].expand(4, -1)))
    with pytest.raises(TriptychError, match=r"context should be \(4, 3\)"):
        model.encode(x, torch.zeros(4, 2))
    with pytest.raises(TriptychError, match="trained without a condition"):
        CONDITIONAL[name](0).double().encode(x, context)
    health = flow_health(model, x, context)
    assert health["round_trip"] < 1e-8


@pytest.mark.parametrize("name", CONDITIONAL)
def test_unconditional_flows_have_nothing_of_a_context(name):
    torch.manual_seed(0)
    plain = CONDITIONAL[name](0).state_dict()
    torch.manual_seed(0)
    told = CONDITIONAL[name](3).state_dict()
    assert not [key for key in plain if "context" in key] and len(told) > len(plain)


def test_training_uses_the_context():
    """Two classes of vectors a distance apart: told which, a flow is better by about ln 2, and tells them apart."""
    torch.manual_seed(0)
    y = torch.randint(0, 2, (512, 1)).float() * 2 - 1
    x = torch.randn(512, 2) + 3 * y
    model = Glow((2,), levels=1, depth=2, width=8, context_dim=1)
    model.initialize(x, y)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2, fused=True)
    for _ in range(150):
        optimizer.zero_grad()
        shown = y * (torch.rand(512, 1) > 0.2)  # unknown for some
        (-model.log_prob(x, shown).mean()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        given, unknown, wrong = (model.log_prob(x, c).mean().item() for c in (y, torch.zeros_like(y), -y))
        assert given > unknown + 0.3 and unknown > wrong + 1
        samples = model.sample(200, context=torch.ones(1, 1), generator=torch.Generator().manual_seed(0))
    assert (samples.mean(1) > 0).float().mean() > 0.95


class Mirror(bijections.Bijection):
    """A user's own: z = −x."""

    def forward(self, x, context=None):
        return -x, x.new_zeros(len(x))

    def inverse(self, z, context=None):
        return -z


class Attention(bijections.Conditioner):
    """A user's own conditioner: self-attention over positions."""

    def __init__(self, channels, outputs):
        super().__init__()
        self.attend = torch.nn.MultiheadAttention(channels, 1, batch_first=True)
        self.last = torch.nn.Linear(channels, outputs)

    def compute(self, x, context=None):
        rows = x.flatten(2).mT
        return self.last(self.attend(rows, rows, rows)[0]).mT.unflatten(2, x.shape[2:])


def test_a_flow_of_parts():
    torch.manual_seed(0)
    step = bijections.FlowStep(Attention(2, 4), bijections.Affine(), bijections.InvertibleLU(4))
    model = Flow((4, 2, 2), bijections.Chain([step, Mirror(), bijections.Flatten((4, 2, 2))]))
    assert isinstance(model.codec, Dequantised) and isinstance(Flow((4,), Mirror()).codec, Floats)
    x = torch.rand(8, 4, 2, 2)
    model.initialize(x)
    perturbed(model.double().eval(), 0.2)
    x = x.double()
    torch.testing.assert_close(model.decode(model.encode(x)), x, atol=1e-9, rtol=1e-9)
    model.bf16 = True
    assert step.coupling.net.bf16 and model.float().sample(2).shape == (2, 4, 2, 2)


def test_a_bijection_that_does_not_flatten_says_so():
    model = Flow((4, 2, 2), bijections.Chain([bijections.ActNorm(4)]))
    x = torch.rand(8, 4, 2, 2)
    model.initialize(x)
    with pytest.raises(TriptychError, match=r"return z \(8, 16\), got \(8, 4, 2, 2\): end it with Flatten\(4, 2, 2\)"):
        model.encode(x)


def test_training_lets_bad_data_through_to_the_loss():
    """So that a bad step is skipped and named by the loop, without a synchronisation here."""
    model = UNSEEN["glow"]()
    x = torch.rand(4, 3, 4, 4)
    model.initialize(x)
    x[0, 0, 0, 0] = torch.nan
    log_p = model.train().log_prob(x)
    assert log_p[0].isnan() and log_p[1:].isfinite().all()


# settings


@pytest.mark.parametrize(
    "shape, settings, message",
    [
        ((3, 12, 6), {"levels": 3}, r"levels=3, but 12×6 positions can be halved 1 time: use levels=1 or fewer"),
        ((3, 24, 16), {"levels": 4}, r"use levels=3 or fewer"),
        ((2, 6), {"levels": 2}, r"use levels=1 or fewer"),
        ((9,), {"levels": 5}, r"9 features can be halved 4 times: use levels=4 or fewer"),
        ((1,), {"levels": 1}, r"one feature has nothing to couple with"),
        ((8,), {"levels": 0}, r"levels should be 1 to 3"),
        ((1, 5, 5), {"levels": 0}, r"5×5 cannot be halved even once: resize or pad the data to 6,6, or use realnvp"),
        ((1, 8, 8), {"levels": 0}, r"levels should be 1 to 3"),
        ((3, 4, 4), {"levels": -1}, r"levels should be .*0 to"),
        (
            (3, 4, 4),
            {"levels": 1, "permutation": "rotate"},
            r"permutation should be one of invertible, plain, shuffle, reverse",
        ),
        ((3, 4, 4), {"levels": 1, "coupling": "spline"}, r"coupling should be one of affine, additive"),
        ((3, 4, 4), {"levels": 1, "memory": "none"}, r"memory should be one of full, checkpoint, reversible"),
        ((3, 4, 4), {"levels": 1, "depth": 0}, r"depth should be a whole number from 1 to"),
        ((3, 4, 4), {"levels": 1, "width": 0}, r"width should be a whole number from 1 to"),
        ((3, 4, 4), {"levels": 1, "reading": "binarise"}, r"reading should be one of auto, dequantise, none"),
        ((4,), {"levels": 1, "dequantisation": "variational"}, r"reads floats as they are"),
    ],
)
def test_settings_that_cannot_work(shape, settings, message):
    with pytest.raises(TriptychError, match=message):
        Glow(shape, **{"depth": 1, "width": 4, **settings})


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: NICE((1,)), "has one value: give at least 2"),
        (lambda: NICE((4,), couplings=1), "couplings should be a whole number from 2 to"),
        (lambda: NICE((4,), prior="cauchy"), "prior should be one of logistic, gaussian"),
        (lambda: NICE((4,), hidden=()), "hidden"),
        (lambda: RealNVP((3, 6, 6), levels=3), "use levels=2"),
        (lambda: RealNVP((1,)), "one feature has nothing to couple with"),
        (lambda: RealNVP((3, 4, 4), blocks=0), "blocks should be a whole number from 1 to"),
    ],
)
def test_settings_that_cannot_work_elsewhere(build, message):
    with pytest.raises(TriptychError, match=message):
        build()


def test_glow_is_what_its_arguments_say():
    model = Glow((3, 16, 8), levels=3, depth=4, width=8, permutation="shuffle", coupling="additive")
    scales = [m for m in model.modules() if isinstance(m, FlowSteps)]
    assert [len(s.steps) for s in scales] == [4, 4, 4]
    assert [len(s.steps[0].actnorm.shift) for s in scales] == [12, 24, 48]
    assert {type(s.steps[0].mixing).__name__ for s in scales} == {"Permutation"}
    assert {type(s.steps[0].coupling.transform).__name__ for s in scales} == {"Additive"}


def test_initialize_standardises_every_channel_of_a_glow():
    """Of its first batch z has mean 0 and variance 1 in what is left at the end."""
    torch.manual_seed(0)
    model = Glow((3, 8, 8), levels=2, depth=3, width=8, reading="none")
    x = 5 + 3 * torch.randn(32, 3, 8, 8)
    model.initialize(x)
    with torch.no_grad():
        z = model.encode(x)[:, -24 * 4 :].view(32, 24, 4)
    torch.testing.assert_close(z.mean((0, 2)), torch.zeros(24), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2), correction=0), torch.ones(24), atol=1e-4, rtol=0)


def test_a_step_of_training_raises_the_likelihood():
    torch.manual_seed(0)
    for build in SMALL.values():
        model = build()
        x = torch.randn(256, *model.event_shape) * 0.5 + 2
        model.initialize(x)
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
        with torch.no_grad():
            before = model.eval().log_prob(x).mean()
        for _ in range(20):
            optimizer.zero_grad()
            (-model.train().log_prob(x).mean()).backward()
            optimizer.step()
        with torch.no_grad():  # also: nothing kept from before
            after = model.eval().log_prob(x).mean()
            assert after > before
            torch.testing.assert_close(model.decode(model.encode(x)), x, atol=1e-4, rtol=0)
        assert after.item() == pytest.approx(model.log_prob(x).mean().item(), abs=1e-4)


def test_a_likelihood_beyond_float32_is_no_silent_infinity():
    """z is finite there, its square is not."""
    model = UNSEEN["glow"]()
    x = torch.rand(4, 3, 4, 4)
    model.initialize(x)
    with pytest.raises(TriptychError, match="log p of these data is not finite"):
        model.eval().log_prob(1e30 * x)


@pytest.mark.parametrize("build", [*UNSEEN.values(), lambda: NICE((3, 4, 4), hidden=(8,))])
def test_a_first_batch_with_nan_is_refused(build):
    model, x = build(), torch.rand(4, 3, 4, 4)
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(TriptychError, match="NaN or infinity"):
        model.initialize(x)


@pytest.mark.parametrize("build", [*UNSEEN.values(), lambda: NICE((3, 4, 4), hidden=(8,))])
def test_no_data_have_no_likelihoods(build):
    """An empty batch is a batch: (0,) out, here and back."""
    model, x = build(), torch.rand(4, 3, 4, 4)
    model.initialize(x)
    assert model.eval().log_prob(x[:0]).shape == (0,)
    assert model.decode(model.encode(x[:0])).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("features", [2, 3, 5, 9])
def test_a_vector_takes_the_levels_that_are_named(features):
    most = most_levels((features,))
    model = Glow((features,), levels=most, depth=1, width=4).double()
    x = torch.rand(6, features, dtype=torch.float64)
    model.initialize(x)
    torch.testing.assert_close(model.decode(model.encode(x)), x, atol=1e-9, rtol=0)
