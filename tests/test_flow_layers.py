"""Every bijection × every property, in float64 and for shapes that hypothesis draws; then each layer against its own oracle.

Shapes: x (B, C, *S) a batch for a bijection built from (C, *S) · z whatever it makes of x · ladj (B,)
"""

import copy
import inspect
import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from cases import BIJECTIONS, NETS, perturbed
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import nn

from triptych import bijections, parts
from triptych.bijections import Additive, Affine, Bijection, FlowStep, FlowSteps
from triptych.bijections.gradients import net_gradients, record
from triptych.bijections.mixing import mix
from triptych.bijections.squeeze import check_levels, most_levels, squeezed
from triptych.errors import TriptychError
from triptych.flow.glow import LEAST, flow_steps

EXACT = {"atol": 1e-9, "rtol": 1e-9}
every_case = pytest.mark.parametrize("name", BIJECTIONS)
few = settings(max_examples=4, derandomize=True, deadline=None, phases=[Phase.generate])  # small already: nothing to shrink
drawn = given(data=st.data(), batch=st.integers(1, 3), seed=st.integers(0, 999))


def prepared(name, data, batch, seed, dtype=torch.float64):
    """A case's bijection for a drawn shape, initialised and not an identity, with data for it, the shape, and its context as
    a tuple: () where it has none."""
    case = BIJECTIONS[name]
    shape = data.draw(case.shapes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = case.build(shape).to(dtype)
        layer.initialize(case.draw(16, *shape, dtype=dtype), *context_of(name, 16, dtype))
        x = case.draw(batch, *shape, dtype=dtype)
        context = context_of(name, batch, dtype)
    return perturbed(layer, 0.15, seed).eval(), x, shape, context


def context_of(name, n, dtype=torch.float64):
    k = BIJECTIONS[name].context_dim
    return (torch.randn(n, k, dtype=dtype),) if k else ()


def differences(a, b):
    return max((u - v).abs().max().item() for u, v in zip(a, b, strict=True))


# every case × every property


@every_case
@few
@drawn
def test_inverse_both_ways(name, data, batch, seed):
    layer, x, _, c = prepared(name, data, batch, seed)
    z, _ = layer(x, *c)
    torch.testing.assert_close(layer.inverse(z, *c), x, **EXACT)
    with torch.no_grad():  # with cached matrices
        torch.testing.assert_close(layer.inverse(layer(x, *c)[0], *c), x, **EXACT)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        other = BIJECTIONS[name].draw_z(*z.shape, dtype=z.dtype)
    torch.testing.assert_close(layer(layer.inverse(other, *c), *c)[0], other, **EXACT)


@every_case
@few
@drawn
def test_ladj_is_that_of_the_jacobian(name, data, batch, seed):
    layer, x, _, c = prepared(name, data, batch, seed)
    first, c1, size = x[:1], [t[:1] for t in c], x[0].numel()
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, *c1)[0], first).reshape(size, size)
    with torch.no_grad():
        for ladj in (layer(first, *c1)[1], layer(x, *c)[1][:1]):
            torch.testing.assert_close(ladj, torch.linalg.slogdet(jacobian).logabsdet[None], **EXACT)


@every_case
@few
@drawn
def test_ladj_is_one_number_for_each_example(name, data, batch, seed):
    for dtype in (torch.float32, torch.float64):
        layer, x, _, c = prepared(name, data, batch, seed, dtype)
        z, ladj = layer(x, *c)
        assert ladj.shape == (batch,) and ladj.dtype == z.dtype == dtype
        assert z.shape[0] == batch and z.numel() == x.numel() and layer.inverse(z, *c).shape == x.shape


@every_case
@few
@drawn
def test_examples_are_independent(name, data, batch, seed):
    """An example's z depends neither on the others in its batch nor on how they lie in memory."""
    layer, x, _, c = prepared(name, data, batch, seed)
    z, ladj = layer(x, *c)
    alone = [layer(x[i : i + 1], *(t[i : i + 1] for t in c)) for i in range(batch)]
    torch.testing.assert_close(z, torch.cat([a[0] for a in alone]), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(ladj, torch.cat([a[1] for a in alone]), atol=1e-12, rtol=1e-12)
    turned, last = (t.transpose(0, -1).contiguous().transpose(0, -1) for t in (x, z))
    torch.testing.assert_close(layer(turned, *c), (z, ladj), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(layer.inverse(last, *c), layer.inverse(z, *c), atol=1e-12, rtol=1e-12)


@every_case
@settings(few, max_examples=2)
@drawn
def test_gradients_are_those_of_differences(name, data, batch, seed):
    """∂(z, ladj) and ∂f⁻¹ with respect to the data, the context and every parameter, along random directions."""
    layer, x, _, c = prepared(name, data, batch, seed)
    others = [*c, *layer.parameters()]
    for t in (x, *c):
        t.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x, *c), (x, *others), fast_mode=True)
    z = layer(x, *c)[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda z, *_: layer.inverse(z, *c), (z, *others), fast_mode=True)


@every_case
@few
@drawn
def test_every_parameter_has_a_gradient(name, data, batch, seed):
    layer, x, _, c = prepared(name, data, batch, seed)
    for t in (x, *c):
        t.requires_grad_()
    z, ladj = layer(x, *c)
    weights = torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(seed))
    ((z * weights).sum() + ladj.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (x, *c, *layer.parameters()))


@pytest.mark.parametrize("name", [name for name, case in BIJECTIONS.items() if case.context_dim])
@few
@drawn
def test_an_unknown_context_is_zeros_and_a_known_one_counts(name, data, batch, seed):
    layer, x, _, (context,) = prepared(name, data, batch, seed)
    unknown = layer(x, torch.zeros_like(context))
    torch.testing.assert_close(layer(x), unknown, atol=1e-12, rtol=1e-12)
    assert differences(layer(x, context), unknown) > 1e-6


@every_case
@few
@drawn
def test_state_makes_a_twin(name, data, batch, seed):
    """A state_dict into a fresh instance, in place or assigned to one without memory, and a deep copy: the same map."""
    layer, x, shape, c = prepared(name, data, batch, seed)
    layer.inverse(layer(x, *c)[0].detach(), *c)
    fresh = BIJECTIONS[name].build(shape).double()
    fresh.load_state_dict(layer.state_dict())
    with torch.device("meta"):
        assigned = BIJECTIONS[name].build(shape)
    assigned.load_state_dict(layer.state_dict(), assign=True)
    twins = fresh.eval(), assigned.eval(), copy.deepcopy(layer)
    for twin in twins:
        with torch.no_grad():
            torch.testing.assert_close(twin(x, *c), layer(x, *c), atol=1e-12, rtol=1e-12)
            torch.testing.assert_close(twin.inverse(layer(x, *c)[0], *c), x, **EXACT)
    before = layer(x, *c)
    perturbed(twins[2], 0.5)
    assert differences(layer(x, *c), before) == 0
    assert not {p.data_ptr() for p in layer.parameters()} & {p.data_ptr() for p in twins[2].parameters()}


@every_case
@settings(few, max_examples=1)
@drawn
def test_a_description_makes_a_twin(name, data, batch, seed):
    """The tree of types and arguments that a checkpoint stores, with the weights."""
    layer, x, _, c = prepared(name, data, batch, seed)
    types = {name: getattr(bijections, name) for name in bijections.__all__}
    twin = parts.build(json.loads(json.dumps(parts.describe(layer))), types).double()
    twin.load_state_dict(layer.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(x, *c), layer(x, *c), atol=0, rtol=0)


@every_case
@few
@drawn
def test_initialize_returns_what_forward_returns(name, data, batch, seed):
    """So that the next layer is initialised by what it will see."""
    layer, _, shape, _ = prepared(name, data, batch, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = BIJECTIONS[name].draw(16, *shape, dtype=torch.float64)
        c = context_of(name, 16)
    torch.testing.assert_close(layer.initialize(first, *c), layer(first, *c)[0].detach(), atol=1e-10, rtol=1e-10)


def public(kind):
    found = {getattr(bijections, name) for name in bijections.__all__}
    return {c for c in found if issubclass(c, kind) and not inspect.isabstract(c)}


@settings(few, max_examples=1)
@given(data=st.data())
def test_every_public_layer_has_a_case(data):
    """Bijections as cases of their own; conditioners and transforms inside some case."""
    built = [case.build(data.draw(case.shapes)) for case in BIJECTIONS.values()]
    assert public(Bijection) - {type(layer) for layer in built} == set()
    inside = {type(m) for layer in built for m in layer.modules()}
    assert public(nn.Module) - inside == set()


# activation normalisation


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 5)])
def test_actnorm_standardises_its_first_batch(shape, generator):
    x = (5 + 3 * torch.randn(20, *shape, generator=generator)).double()
    layer = bijections.ActNorm(3).double()
    z = layer.initialize(x)
    by_channel = z.movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(by_channel.mean(0), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(by_channel.std(0, correction=0), torch.ones(3).double(), atol=1e-12, rtol=0)
    spread = x.movedim(1, -1).reshape(-1, 3).std(0, correction=0)
    places = math.prod(shape[1:])
    torch.testing.assert_close(layer(x)[1], (-places * spread.log().sum()).expand(20), **EXACT)


def uninitialised():
    yield bijections.ActNorm(4), torch.randn(3, 4)
    yield flow_steps((4, 2, 2), 1, 4).steps[0], torch.randn(3, 4, 2, 2)
    yield flow_steps((4, 2, 2), 2, 4), torch.randn(3, 4, 2, 2)


def test_using_it_before_data_raises():
    for layer, x in uninitialised():
        for use in (layer, layer.inverse, torch.no_grad()(layer), torch.no_grad()(layer.inverse)):
            with pytest.raises(TriptychError, match=r"has not seen data yet: call initialize"):
                use(x)


def test_initialised_is_copied_saved_and_not_set_again():
    for layer, x in uninitialised():
        empty = copy.deepcopy(layer)
        layer.initialize(7 + 3 * x)
        for twin in (copy.deepcopy(layer), copy.deepcopy(empty)):
            twin.load_state_dict(layer.state_dict())
            torch.testing.assert_close(twin(x)[0], layer(x)[0], atol=0, rtol=0)  # of these data, not initialised by them
        flags = [b for name, b in layer.named_buffers() if name.endswith("initialised")]
        assert flags and all(b.dtype == torch.uint8 and b.item() == 1 for b in flags)
        with pytest.raises(TriptychError, match="has not seen data yet"):
            empty(x)  # the copy of before stays without


def test_a_constant_channel_is_safe():
    x = torch.randn(8, 3, 4)
    x[:, 1] = 7.0
    layer = bijections.ActNorm(3)
    z = layer.initialize(x)
    assert layer.log_scale[1] == 0 and z[:, 1].abs().max() < 1e-5 and z.isfinite().all()
    torch.testing.assert_close(layer.inverse(z), x, atol=1e-5, rtol=0)
    net = bijections.ConvNet((3, 4), 2, 5)
    assert net.initialize(torch.zeros(8, 3, 4)).isfinite().all() and all(p.isfinite().all() for p in net.parameters())


def test_batches_without_statistics_are_refused():
    layer = bijections.ActNorm(3)
    with pytest.raises(TriptychError, match="one example does not have"):
        layer.initialize(torch.randn(1, 3))
    bad = torch.randn(8, 3)
    for value in (math.nan, math.inf):
        bad[3, 1] = value
        with pytest.raises(TriptychError, match="NaN or infinity"):
            layer.initialize(bad)
    assert not layer.ready and (layer.log_scale == 0).all()
    layer.initialize(torch.randn(1, 3, 4))  # one picture has positions enough


@pytest.mark.parametrize("shape", [(3,), (3, 6), (3, 5, 4)])
def test_a_first_batch_standardises_inside_the_network(shape):
    """What the released code's actnorms inside the network do: means 0 and variances 1 before both ReLUs."""
    x = 1 + 2 * torch.randn(40, *shape).double()
    net = bijections.ConvNet(shape, 4, 7).double()
    net.initialize(x)
    x = x.clamp(-net.bound, net.bound)
    first = net.first(x).movedim(1, -1)
    for h in (first, net.hidden(first.relu())):
        rows = h.reshape(-1, 7)
        torch.testing.assert_close(rows.mean(0), torch.zeros(7).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(rows.std(0, correction=0), torch.ones(7).double(), atol=1e-9, rtol=0)


def test_what_is_far_out_is_answered_as_what_is_at_the_bound():
    """A draw that left what training saw must not be answered ever more wildly."""
    torch.manual_seed(0)
    net = perturbed(bijections.ConvNet((2, 4, 4), 4, width=7, bound=3.0), 0.3)
    x = 100 * torch.randn(5, 2, 4, 4)
    torch.testing.assert_close(net(x), net(x.clamp(-3, 3)))


@pytest.mark.parametrize("depth", [1, 4, 32])
def test_couplings_together_shrink_by_a_bounded_factor(depth):
    steps = flow_steps((4,), depth, width=4)
    assert math.prod(step.coupling.transform.floor for step in steps.steps) == pytest.approx(math.exp(-LEAST))


# channel mixing


@pytest.mark.parametrize("channels", [1, 2, 5, 12, 48])
def test_lu_is_a_rotation_at_first_and_what_scipy_makes_of_it(channels):
    torch.manual_seed(channels)
    layer = bijections.InvertibleLU(channels).double()
    weight = layer.matrices([layer])[0][0].detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(channels).double(), atol=1e-5, rtol=0)
    _, lower, upper = scipy.linalg.lu(weight.numpy(), p_indices=True)
    np.testing.assert_allclose(np.tril(layer.lower.detach(), -1), np.tril(lower, -1), atol=1e-5)
    np.testing.assert_allclose(np.triu(layer.upper.detach(), 1), np.triu(upper, 1), atol=1e-5)
    np.testing.assert_allclose((layer.sign * layer.log_s.exp()).detach(), upper.diagonal(), atol=1e-5)


def test_lu_by_scipy_puts_any_parameters_together():
    torch.manual_seed(0)
    layer = perturbed(bijections.InvertibleLU(6).double(), 0.7)
    with torch.no_grad():
        layer.lower.add_(torch.randn(6, 6))  # what lies above the diagonal is not looked at
    unit, s = np.eye(6), (layer.sign * layer.log_s.exp()).detach().numpy()
    product = (np.tril(layer.lower.detach(), -1) + unit) @ (np.triu(layer.upper.detach(), 1) + np.diag(s))
    (weight,), (log_det,) = layer.matrices([layer])
    np.testing.assert_allclose(weight.detach(), product[layer.order.numpy()], atol=1e-12)
    sign, expected = np.linalg.slogdet(weight.detach().numpy())
    assert log_det.item() == pytest.approx(expected, abs=1e-12) and sign != 0


def test_rotations_are_haar_distributed():
    """Every entry of the first row is a coordinate of a uniform point on the sphere, x² ~ Beta(½, (C − 1)/2)."""
    torch.manual_seed(0)
    weights = torch.stack([bijections.Invertible1x1(4).weight.detach() for _ in range(400)]).double()
    torch.testing.assert_close(weights @ weights.mT, torch.eye(4).double().expand(400, 4, 4), atol=1e-5, rtol=0)
    for entry in (weights[:, 0, 0], weights[:, 2, 2], weights[:, 3, 1]):
        assert stats.kstest(entry.square(), stats.beta(0.5, 1.5).cdf).pvalue > 1e-3
        assert stats.binomtest(int((entry > 0).sum()), 400).pvalue > 1e-3
    assert stats.binomtest(int((torch.linalg.det(weights) > 0).sum()), 400).pvalue > 1e-3


def test_a_singular_matrix_is_named():
    layer = bijections.Invertible1x1(3)
    rows = {"its matrix is singular": torch.zeros(3), "its matrix is": layer.weight.detach()[1].clone()}
    for what, row in {**rows, "it holds NaN or infinity": torch.full((3,), math.nan)}.items():
        with torch.no_grad():
            layer.weight[0] = row
        with pytest.raises(TriptychError, match=rf"Invertible1x1: {what}.*cannot be inverted.*earlier checkpoint"):
            layer.inverse(torch.randn(2, 3))
    steps = flow_steps((4,), 2, 4, "plain")
    steps.initialize(torch.randn(8, 4))
    with torch.no_grad():
        steps.steps[1].mixing.weight[0] = 0
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, pytest.raises(TriptychError, match="Invertible1x1: its matrix is singular"):
            steps.inverse(torch.randn(2, 4))


def test_permutations_move_channels():
    x = torch.randn(2, 5, 3)
    assert torch.equal(bijections.Permutation.reverse(5)(x)[0], x.flip(1))
    shuffle = bijections.Permutation.shuffle(5)
    assert sorted(shuffle.order.tolist()) == list(range(5))
    assert torch.equal(shuffle(x)[0], torch.stack([x[:, c] for c in shuffle.order], 1))
    assert torch.equal(mix(x, shuffle.matrices([shuffle])[0][0]), shuffle(x)[0])


# couplings


@pytest.mark.parametrize(
    "transform",
    [Additive(), Affine(), Affine(0.0), Affine(0.5)],
    ids=lambda t: f"{type(t).__name__}{getattr(t, 'floor', '')}",
)
def test_gradients_by_hand_agree_with_autograd(transform, generator):
    """What flow steps use in place of `forward` and autograd: from the image alone, in place."""
    b, h = (
        torch.randn(3, c, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for c in (2, 2 * transform.outputs)
    )
    image, log_slope = transform(b, h)
    ladj = torch.zeros(3, dtype=torch.float64) if log_slope is None else log_slope.flatten(1).sum(1)
    grad, grad_ladj = torch.randn(image.shape, generator=generator).double(), torch.randn(3, generator=generator).double()
    truth = torch.autograd.grad((image * grad).sum() + (ladj * grad_ladj).sum(), (b, h))
    with torch.no_grad():
        rows = [t.movedim(1, -1).contiguous() for t in (b, h, image, grad, *truth)]  # channels at the end
        b, h, image, grad, grad_b, grad_h = rows
        terms = transform.terms(h)
        changed = b.clone()
        transform.do(changed, terms, out=changed)
        torch.testing.assert_close(changed, image, atol=1e-12, rtol=1e-12)
        by_hand = transform.gradients(changed, terms, grad, grad_ladj[:, None, None])
        torch.testing.assert_close(by_hand, (grad_b, grad_h), atol=1e-12, rtol=1e-12)
        transform.undo(changed, terms, out=changed)
        torch.testing.assert_close(changed, b, atol=1e-12, rtol=1e-12)


def test_affine_is_the_formula(generator):
    b, h = torch.randn(3, 2, generator=generator).double(), torch.randn(3, 4, generator=generator).double()
    t, s = h[:, :2].numpy(), 0.05 + 0.95 * special.expit(h[:, 2:].numpy() + 2)
    z, log_slope = Affine()(b, h)
    np.testing.assert_allclose(z, (b.numpy() + t) * s, rtol=1e-12)
    np.testing.assert_allclose(log_slope, np.log(s), rtol=1e-12)


def test_the_floor_keeps_the_way_back_short():
    r = torch.tensor([[0.0, 0.0, -1e4, 1e4]])
    b = torch.ones(1, 2)
    z, log_slope = Affine(0.1)(b, r)
    torch.testing.assert_close(z, torch.tensor([[0.1, 1.0]]))
    assert log_slope.sum().item() == pytest.approx(math.log(0.1))
    for floor in (-0.1, 1.0, 2):
        with pytest.raises(TriptychError, match=f"at least 0 and below 1, got {floor}"):
            Affine(floor)


@pytest.mark.parametrize("flip", [False, True])
def test_a_coupling_changes_its_part_only(flip, generator):
    layer = perturbed(bijections.Coupling(bijections.Dense(*((3, 4) if flip else (2, 6)), [5]), Affine(), 2, flip), 0.5)
    x = torch.randn(4, 5, generator=generator)
    z = layer(x)[0]
    passing, changed = (slice(2, 5), slice(0, 2)) if flip else (slice(0, 2), slice(2, 5))
    assert torch.equal(z[:, passing], x[:, passing]) and (z[:, changed] != x[:, changed]).all()


@pytest.mark.parametrize("flip", [False, True])
def test_a_checkerboard_passes_odd_positions(flip, generator):
    """RealNVP, figure 3; the flipped one the even."""
    layer = perturbed(bijections.CheckerboardCoupling(bijections.ConvNet((2, 3, 4), 4, 5), Affine(), flip), 0.5)
    x = torch.randn(2, 2, 3, 4, generator=generator)
    z = layer(x)[0]
    odd = torch.tensor([[(i + j) % 2 == (0 if flip else 1) for j in range(4)] for i in range(3)])
    assert torch.equal(z[..., odd], x[..., odd]) and (z[..., ~odd] != x[..., ~odd]).all()


class PlainNet(nn.Module):
    """A user's network: not a conditioner, and knows of no triptych."""

    def __init__(self, shape, outputs, context_dim=0):
        super().__init__()
        self.inner, self.told = nn.Linear(shape[0], outputs), nn.Linear(context_dim, outputs) if context_dim else None

    def forward(self, x, context=None):
        h = self.inner(x.movedim(1, -1)).movedim(-1, 1).tanh()
        return h if context is None else h * self.told(context).view(*h.shape[:2], *(1,) * (h.ndim - 2))


@pytest.mark.parametrize("context_dim", [0, 3])
@pytest.mark.parametrize("net", [*NETS, "plain"])
@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("frozen", [False, True])
def test_hand_written_gradients_of_networks_are_those_of_autograd(net, shape, frozen, context_dim):
    if net in ("dense", "residual") and len(shape) > 1:
        shape = (math.prod(shape),)
    torch.manual_seed(0)
    made = (NETS | {"plain": PlainNet})[net](shape, 4, context_dim).double()
    x = torch.randn(6, *shape, dtype=torch.float64)
    c = [torch.randn(6, context_dim, dtype=torch.float64)] if context_dim else []
    if net != "plain":
        made.initialize(x, *c)
    perturbed(made, 0.3).eval()
    for p in list(made.parameters())[1::2] if frozen else []:
        p.requires_grad_(False)
    for t in (x, *c):
        t.requires_grad_()
    with torch.no_grad():
        h, recorded = record(made, x, c[0] if c else None)
    plain = made(x, *c)
    torch.testing.assert_close(h, plain, atol=1e-12, rtol=1e-12)
    grad = torch.randn_like(h)
    trained = [p for p in made.parameters() if p.requires_grad]
    truth = torch.autograd.grad(plain, [x, *c, *trained], grad)
    for _ in range(2):  # a graph that is retained is asked again
        with torch.no_grad():
            grad_x, grad_context, grads = net_gradients(made, recorded, grad)
        by_parameter = {id(p): g for p, g in zip(made.parameters(), grads, strict=True)}  # a frozen one's is not looked at
        told = [grad_context] if c else []
        torch.testing.assert_close((grad_x, *told, *(by_parameter[id(p)] for p in trained)), truth, **EXACT)


@pytest.mark.parametrize("dtype, error", [(torch.float64, 1e-12), (torch.bfloat16, 0.05)])
def test_a_vectors_activation_is_a_sequences(dtype, error):
    """The one has its gradient written by hand, the other autograd's: outputs, running averages and gradients agree."""
    torch.manual_seed(0)
    h = (2 + 3 * torch.randn(20, 5)).to(dtype).requires_grad_()
    fused = perturbed(bijections.ResNet((5,), 2, width=5, depth=1).activation, 0.3)
    fused(h.detach(), True)
    fused = fused.double() if dtype == torch.float64 else fused
    plain, grad = copy.deepcopy(fused), torch.randn(20, 5).to(dtype)
    found, expected = fused(h, False), plain(h[..., None], False)[..., 0]
    assert found.dtype == dtype and fused.training
    torch.testing.assert_close(found, expected, atol=error, rtol=error)
    torch.testing.assert_close(fused.state_dict(), plain.state_dict(), atol=1e-6, rtol=1e-6)
    found = torch.autograd.grad(found, [h, *fused.parameters()], grad)
    expected = torch.autograd.grad(expected, [h, *plain.parameters()], grad)
    torch.testing.assert_close(found, expected, atol=error, rtol=error)


# squeeze and split


def test_squeeze_by_counting(generator):
    x = torch.randn(2, 3, 4, 6, generator=generator)
    z = bijections.Squeeze()(x)[0]
    assert z.shape == (2, 12, 2, 3) == (2, *squeezed((3, 4, 6)))
    for i, j, c in np.ndindex(2, 2, 3):
        assert torch.equal(z[:, (i * 2 + j) * 3 + c], x[:, c, i::2, j::2])
    sequence = torch.randn(2, 3, 8, generator=generator)
    z = bijections.Squeeze()(sequence)[0]
    assert z.shape == (2, 6, 4) == (2, *squeezed((3, 8)))
    for i, c in np.ndindex(2, 3):
        assert torch.equal(z[:, i * 3 + c], sequence[:, c, i::2])


@given(
    shape=st.lists(st.integers(1, 200), min_size=0, max_size=2).flatmap(
        lambda places: st.integers(1, 70).map(lambda c: (c, *places))
    )
)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_the_largest_number_of_levels_is_named(shape):
    most = most_levels(shape)
    if len(shape) > 1:
        assert all(p % 2**most == 0 for p in shape[1:]) and any(p % 2 ** (most + 1) for p in shape[1:])
    else:
        assert shape[0] <= 2**most < 2 * shape[0]  # ⌈C/2⌉ stay, and 2 can be coupled
    for level in range(most + 1):
        check_levels(shape, level, most)
    with pytest.raises(TriptychError, match=f"use levels={most}"):
        check_levels(shape, most + 1, most)
    for wrong in (-1, None, 1.0):
        with pytest.raises(TriptychError, match=f"levels should be 0 to {most} .*got {wrong!r}"):
            check_levels(shape, wrong, most)
    if most == 0:
        with pytest.raises(
            TriptychError, match=r"cannot be halved even once|one (feature|position) has nothing to couple with"
        ):
            check_levels(shape, 1, most, least=1)


def test_a_split_leaves_the_standardised_residual(generator):
    layer = perturbed(bijections.FactorOut((5, 2, 2)).double(), 0.3)
    x = torch.randn(3, 5, 2, 2, generator=generator).double()
    z, ladj = layer(x)
    x1, x2 = x[:, :3], x[:, 3:]
    mu, log_sigma = layer.transform.moments(layer.net(x1))
    assert layer.kept == 3 and layer.factored == (2, 2, 2) and torch.equal(z[:, :3], x1)
    normal = torch.distributions.Normal(mu, log_sigma.exp())
    standard = torch.distributions.Normal(0.0, 1.0)
    by_prior = normal.log_prob(x2).flatten(1).sum(1)
    torch.testing.assert_close(standard.log_prob(z[:, 3:]).flatten(1).sum(1) + ladj, by_prior, **EXACT)


def test_the_scale_of_what_leaves_is_bounded():
    layer = perturbed(bijections.FactorOut((4,)), 1e4)
    _, log_sigma = layer.transform.moments(layer.net(torch.randn(50, 2)))
    assert 3.99 < log_sigma.abs().max() <= 4


# pointwise


def test_logistic_to_normal_is_scipys():
    h = torch.linspace(-12, 12, 97, dtype=torch.float64).view(1, -1)
    z, ladj = bijections.LogisticToNormal()(h)
    expected = -np.sign(h.numpy()) * stats.norm.ppf(stats.logistic.cdf(-h.abs().numpy()))
    np.testing.assert_allclose(z, expected, atol=1e-12)
    np.testing.assert_allclose(ladj, (stats.logistic.logpdf(h.numpy()) - stats.norm.logpdf(expected)).sum(1), rtol=1e-9)
    prior = stats.norm.logpdf(z.numpy()).sum() + ladj.item()
    assert prior == pytest.approx(stats.logistic.logpdf(h.numpy()).sum(), rel=1e-12)  # NICE's prior, after all


@pytest.mark.parametrize("dtype, error", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_logistic_to_normal_far_out(dtype, error):
    h = torch.tensor([[-1e4, -200, -30, -3, -1e-3, 1e-3, 3, 30, 200, 1e4]], dtype=dtype)
    layer = bijections.LogisticToNormal()
    z, ladj = layer(h)
    truth = -np.sign(h.numpy()) * special.ndtri_exp(stats.logistic.logcdf(-h.abs().double().numpy()))
    np.testing.assert_allclose(z, truth, rtol=100 * error if dtype == torch.float64 else error)
    torch.testing.assert_close(layer.inverse(z), h, rtol=1e-6 if dtype == torch.float64 else 1e-5, atol=1e-7)
    assert z.isfinite().all() and ladj.isfinite().all()
    h.requires_grad_()
    z, ladj = layer(h)
    (z.sum() + ladj.sum()).backward()
    assert h.grad.isfinite().all()


def test_logistic_to_normal_has_its_gradient_at_zero():
    """dz/dh = p_logistic(0) / N(0) there, and 1 over it on the way back."""
    slope = 0.25 * math.sqrt(2 * math.pi)
    layer, zero = bijections.LogisticToNormal(), torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    (there,) = torch.autograd.grad(layer(zero)[0].sum(), zero)
    (back,) = torch.autograd.grad(layer.inverse(zero).sum(), zero)
    assert (there.item(), back.item()) == pytest.approx((slope, 1 / slope))
    assert torch.autograd.gradcheck(lambda h: layer(h), torch.randn(2, 3, dtype=torch.float64, requires_grad=True))


def test_logit_ends_are_finite():
    x = torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.float64)
    z, ladj = bijections.Logit()(x)
    np.testing.assert_allclose(z[0], special.logit([0.05, 0.95, 0.5]), atol=1e-12)
    assert ladj.isfinite().all()


# flow steps


@pytest.mark.parametrize("permutation", ["invertible", "plain", "shuffle", "reverse"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 2, 4)], ids=str)
def test_the_folded_step_is_its_layers_one_by_one(permutation, shape):
    torch.manual_seed(0)
    x = torch.randn(6, *shape, dtype=torch.float64)
    steps = flow_steps(shape, 3, 4, permutation).double()
    steps.initialize(x)
    perturbed(steps, 0.2)
    z, ladj = x, torch.zeros(6, dtype=torch.float64)
    for step in steps.steps:
        before = z
        for layer in (step.actnorm, step.mixing, step.coupling):
            z, change = layer(z)
            ladj = ladj + change
        torch.testing.assert_close(step(before)[0], z, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(steps(x), (z, ladj), atol=1e-12, rtol=1e-12)
    for step in reversed(steps.steps):
        for layer in (step.coupling, step.mixing, step.actnorm):
            z = layer.inverse(z)
    torch.testing.assert_close(z, x, **EXACT)


def _optimise(steps, x, **options):
    optimizer = torch.optim.Adam(steps.parameters(), lr=0.1, **options)
    z, ladj = steps(x)
    (z.square().sum() - ladj.sum()).backward()
    optimizer.step()
    return steps


def _average(steps, _):
    with torch.no_grad():
        torch._foreach_lerp_(list(steps.parameters()), [p + 0.1 for p in steps.parameters()], 0.5)
    return steps


def _assign(steps, _):
    steps.load_state_dict({n: b + 0.1 if b.is_floating_point() else b for n, b in steps.state_dict().items()}, assign=True)
    return steps


def _load(steps, _):
    steps.load_state_dict({n: b + 0.1 if b.is_floating_point() else b for n, b in steps.state_dict().items()})
    return steps


def _initialise_again(steps, x):
    steps.initialize(3 * x + 1)
    return steps


CHANGES = {
    "optimiser": _optimise,
    "fused optimiser": lambda steps, x: _optimise(steps, x, fused=True),
    "foreach optimiser": lambda steps, x: _optimise(steps, x, foreach=True),
    "average": _average,
    "assign": _assign,
    "load": _load,
    "initialize": _initialise_again,
    "copy": lambda steps, _: perturbed(copy.deepcopy(steps), 0.2),
    "there and back in precision": lambda steps, _: perturbed(steps.float().double(), 0.2),
    "in place": lambda steps, _: perturbed(steps, 0.2),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("permutation", ["invertible", "shuffle"])
def test_kept_matrices_follow_the_parameters(change, permutation):
    torch.manual_seed(0)
    x = torch.randn(16, 4, dtype=torch.float64)
    steps = flow_steps((4,), 2, 4, permutation).double()
    steps.initialize(x)
    with torch.no_grad():
        before = steps(x)[0], steps.inverse(x)
    changed = CHANGES[change](steps, x)
    with torch.no_grad():
        kept = changed(x)[0], changed.inverse(x)
    fresh = changed(x)[0].detach(), changed.inverse(x).detach()  # with gradients nothing is kept
    torch.testing.assert_close(kept, fresh, **EXACT)
    assert min(differences([a], [b]) for a, b in zip(before, fresh, strict=True)) > 1e-3  # the change was one


def test_kept_matrices_are_kept():
    steps = flow_steps((4,), 2, 4)
    steps.initialize(torch.randn(8, 4))
    steps.eval()
    with torch.no_grad():
        steps(torch.randn(2, 4))
        (kept,) = steps._kept.values()
        steps.inverse(torch.randn(2, 4))
        steps(torch.randn(2, 4))
        assert len(steps._kept) == 2 and any(each is kept for each in steps._kept.values())
        assert steps.double()(torch.randn(2, 4).double())[0].dtype == torch.float64


# mistakes in putting layers together: never a wrong number in silence


STEP = (4, 4, 4)


def steps_with(net=None, transform=None, memory="full"):
    net = net or bijections.ConvNet((2, 4, 4), 4, 8)
    return FlowSteps([FlowStep(net, transform or Affine(), bijections.InvertibleLU(4))], memory)


@pytest.mark.parametrize("memory", ["full", "checkpoint", "reversible"])
def test_a_step_of_a_users_network(memory):
    torch.manual_seed(0)
    steps = steps_with(PlainNet((2, 4, 4), 4, 3), memory=memory).double()
    x, context = torch.randn(6, *STEP).double(), torch.randn(6, 3).double().requires_grad_()
    steps.initialize(x, context)
    z, ladj = steps(x, context)
    plain = steps.steps[0](x, context)
    torch.testing.assert_close((z, ladj), plain, atol=1e-12, rtol=1e-12)
    found, truth = (
        torch.autograd.grad(z.square().sum() - ladj.sum(), [context, *steps.parameters()]) for z, ladj in ((z, ladj), plain)
    )
    torch.testing.assert_close(found, truth, **EXACT)


@pytest.mark.parametrize(
    "use, message",
    [
        (
            lambda x: bijections.Coupling(bijections.ConvNet((2, 4, 4), 2, 8), Affine(), 2)(x),
            r"a coupling's network \(ConvNet\) should return \(2, 6, 4, 4\), got \(2, 2, 4, 4\)",
        ),
        (
            lambda x: bijections.Coupling(bijections.ConvNet((2, 4, 4), 1, 8), Additive(), 2).inverse(x),
            r"return \(2, 3, 4, 4\)",
        ),
        (
            lambda x: bijections.CheckerboardCoupling(bijections.ConvNet((5, 4, 4), 2, 8), bijections.TanhAffine(5))(x),
            r"return \(2, 10, 4, 4\)",
        ),
        (lambda x: bijections.Coupling(nn.Flatten(), Affine(), 2)(x), r"network \(Flatten\) should .* got \(2, 32\)"),
        (lambda x: steps_with(bijections.ConvNet((2, 4, 4), 2, 8)).initialize(x[:, :4]), r"return \(2, 4, 4, 4\)"),
        (lambda x: steps_with(transform=bijections.TanhAffine(2)), "TanhAffine has not: use Affine"),
        (lambda x: FlowSteps([]), "one or more steps"),
        (
            lambda x: bijections.Coupling(bijections.ConvNet((5, 4, 4), 6, 8), Affine(), 5)(x),
            "leaves none of 5 channels",
        ),
        (
            lambda x: bijections.Coupling(bijections.ConvNet((5, 4, 4), 6, 8), Affine(), 0),
            "split should be a whole number from 1",
        ),
        (lambda x: bijections.Squeeze()(x[:, :, :3]), "3×4 cannot be halved"),
        (lambda x: bijections.Squeeze().inverse(x), "a multiple of 4 channels, got 5"),
        (lambda x: bijections.Permutation([0, 0, 1]), "each of 0 to 2 once"),
        (lambda x: bijections.Logit(0.5), "below ½"),
        (lambda x: bijections.Scale(5).initialize(x[:1, :, :1, :1]), "give at least 2"),
        (lambda x: flow_steps((1, 4, 4), 1, 8), "squeeze, or give at least 2"),
        (lambda x: FlowStep(nn.Identity(), Affine(), bijections.InvertibleLU(1)), "squeeze, or give at least 2"),
        (lambda x: flow_steps((4,), 1, 8, permutation="rotate"), "permutation should be one of"),
        (lambda x: flow_steps((4,), 0, 8), "depth should be a whole number from 1 to"),
        (lambda x: flow_steps((4,), 1, 8, memory="revers"), "memory should be one of"),
    ],
)
def test_layers_that_do_not_fit_say_so(use, message, generator):
    with pytest.raises(TriptychError, match=message):
        use(torch.rand(2, 5, 4, 4, generator=generator))
