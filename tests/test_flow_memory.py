"""What flow steps keep for their gradients, and that the gradients do not depend on it."""

import copy
import gc
import math

import pytest
import torch
from cases import perturbed

from triptych.bijections import FlowSteps
from triptych.flow import Glow
from triptych.flow.glow import flow_steps

MODES = ("full", "checkpoint", "reversible")
SHAPES = [(5,), (4, 3), (3, 4, 2)]


def steps_of(
    shape,
    memory="full",
    permutation="invertible",
    coupling="affine",
    depth=3,
    width=6,
    dtype=torch.float64,
    context_dim=0,
    positions=False,
):
    """Initialised steps that are not an identity, and a batch for them."""
    torch.manual_seed(0)
    steps = flow_steps(shape, depth, width, permutation, coupling, memory, context_dim, positions).to(dtype)
    x = torch.randn(7, *shape, dtype=dtype)
    steps.initialize(x)
    return perturbed(steps, 0.15), x


def one_by_one(steps, x, context=None):
    """The same map by plain autograd: each step's layers in a row."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for step in steps.steps:
        for layer in (step.actnorm, step.mixing, step.coupling):
            x, ladj = layer(x, context)
            total = total + ladj
    return x, total


def loss_of(z, ladj):
    weights = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view(z.shape)
    return (weights * z + 0.1 * z.square()).sum() - (ladj * torch.linspace(1, 2, len(ladj), dtype=ladj.dtype)).sum()


def gradients(steps, x, use=None):
    """With respect to the input and every parameter that is trained."""
    x = x.clone().requires_grad_()
    learned = [p for p in steps.parameters() if p.requires_grad]
    return torch.autograd.grad(loss_of(*(use or steps)(x)), [x, *learned])


def relative(a, b):
    return max(((u - v).abs().max() / v.abs().max().clamp_min(1e-3)).item() for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("coupling", ["affine", "additive"])
@pytest.mark.parametrize("permutation", ["invertible", "plain", "shuffle", "reverse"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_do_not_depend_on_memory(shape, permutation, coupling, memory):
    steps, x = steps_of(shape, memory, permutation, coupling)
    truth = gradients(steps, x, lambda x: one_by_one(steps, x))
    assert all(g.abs().max() > 0 for g in truth)
    torch.testing.assert_close(gradients(steps, x), truth, atol=1e-9, rtol=1e-9)
    assert relative(gradients(copy.deepcopy(steps).float(), x.float()), truth) < 1e-3


@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 2)], ids=str)
def test_gradients_with_respect_to_the_biases_of_positions(shape, memory):
    steps, x = steps_of(shape, memory, positions=True)
    names = [name for name, _ in steps.named_parameters()]
    assert sum("position" in name for name in names) == 6
    truth = gradients(steps, x, lambda x: one_by_one(steps, x))
    assert all(g.abs().max() > 0 for g in truth)
    torch.testing.assert_close(gradients(steps, x), truth, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("made", ["given", "network"])
@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("coupling", ["affine", "additive"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_with_respect_to_the_context_and_its_maps(shape, coupling, memory, made):
    """Those of autograd, also where a network made the context, and where it is one example's for all."""
    steps, x = steps_of(shape, memory, coupling=coupling, context_dim=4, positions=coupling == "affine")
    for p in steps.parameters():
        assert p.abs().max() > 0
    embedding = torch.nn.Linear(2, 4).double()
    seen = torch.randn(7 if made == "given" else 1, 4 if made == "given" else 2, dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    sources = [x, seen, *(embedding.parameters() if made == "network" else ()), *steps.parameters()]

    def found(use):
        context = seen if made == "given" else embedding(seen).expand(7, -1)
        return torch.autograd.grad(loss_of(*use(x, context)), sources)

    truth = found(lambda x, c: one_by_one(steps, x, c))
    assert all(g.abs().max() > 0 for g in truth)
    torch.testing.assert_close(found(steps), truth, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 2)], ids=str)
def test_gradients_with_respect_to_a_context_with_positions(shape, memory):
    """Each position sees its own; one that is the same everywhere is the context without positions."""
    steps, x = steps_of(shape, memory, context_dim=4)
    seen = torch.randn(7, 4, *shape[1:], dtype=torch.float64, requires_grad=True)
    sources = [x.requires_grad_(), seen, *steps.parameters()]
    truth = torch.autograd.grad(loss_of(*one_by_one(steps, x, seen)), sources)
    assert all(g.abs().max() > 0 for g in truth)
    torch.testing.assert_close(torch.autograd.grad(loss_of(*steps(x, seen)), sources), truth, atol=1e-9, rtol=1e-9)
    same = torch.randn(7, 4, dtype=torch.float64)
    everywhere = same.view(7, 4, *(1,) * len(shape[1:])).expand(7, 4, *shape[1:])
    torch.testing.assert_close(steps(x, everywhere), steps(x, same), atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(steps.inverse(steps(x, seen)[0], seen), x, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("memory", MODES)
def test_conditional_steps_without_a_context(memory):
    """As with an unknown one; the context's maps have no gradient."""
    steps, x = steps_of((4, 3), memory, context_dim=2)
    loss_of(*steps(x)).backward()
    for name, p in steps.named_parameters():
        assert (p.grad is None) == ("context" in name)
    torch.testing.assert_close(steps(x), steps(x, torch.zeros(7, 2).double()), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("frozen", ["net", "actnorm", "mixing", "coupling.net.hidden", "weight", ""])
def test_frozen_parameters(memory, frozen):
    """Fine-tuning: what is frozen has no gradient, the rest has the same as ever."""
    steps, x = steps_of((4, 3), memory)
    for name, p in steps.named_parameters():
        p.requires_grad_(frozen not in name)
    torch.testing.assert_close(
        gradients(steps, x), gradients(steps, x, lambda x: one_by_one(steps, x)), atol=1e-9, rtol=1e-9
    )
    loss_of(*steps(x)).backward() if frozen else None  # data that need no gradient themselves
    for name, p in steps.named_parameters():
        assert (p.grad is not None) == (bool(frozen) and frozen not in name)


@pytest.mark.parametrize("memory", MODES)
def test_one_of_two_results_and_a_graph_used_twice(memory):
    steps, x = steps_of((4, 3), memory)
    x.requires_grad_()
    plain, made = one_by_one(steps, x), steps(x)
    for i in (0, 1):
        truth = torch.autograd.grad(plain[i].sum(), [x, *steps.parameters()], retain_graph=True, materialize_grads=True)
        for _ in range(2):
            found = torch.autograd.grad(made[i].sum(), [x, *steps.parameters()], retain_graph=True, materialize_grads=True)
            torch.testing.assert_close(found, truth, atol=1e-9, rtol=1e-9)


def test_second_derivatives_are_refused():
    """Never a wrong number in silence: first derivatives only, and the steps one by one for more."""
    for memory in MODES:
        steps, x = steps_of((4,), memory)
        x.requires_grad_()
        (first,) = torch.autograd.grad(loss_of(*steps(x)), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.square().sum().backward()
    (first,) = torch.autograd.grad(loss_of(*one_by_one(steps, x)), x, create_graph=True)
    first.square().sum().backward()
    assert x.grad.isfinite().all()


def _storages(tensors):
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.layout == torch.strided}


def held(steps, x):
    """Bytes that a forward pass keeps for its gradient, beside parameters: what autograd saves, and what Python holds."""
    gc.collect()
    before = _storages(o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        z, ladj = steps(x)
    after = _storages([*saved, *(o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter))])
    assert z.requires_grad and ladj.requires_grad
    return sum(size for where, size in after.items() if where not in before)


def test_reversible_keeps_no_activation():
    shape, batch, width = (4, 16, 16), 8, 16
    activation = 4 * batch * math.prod(shape)
    kept = {}
    for memory in MODES:
        for depth in (2, 8):
            steps, _ = steps_of(shape, memory, depth=depth, width=width, dtype=torch.float32)
            kept[memory, depth] = held(steps, torch.randn(batch, *shape))
    growth = {memory: (kept[memory, 8] - kept[memory, 2]) / 6 / activation for memory in MODES}
    assert growth["reversible"] < 0.1  # small matrices only, and what a step's ladj is
    assert 0.9 < growth["checkpoint"] < 2.1  # a step's input and output
    assert growth["full"] > 6  # two layers of 16 for 4 channels, and more


def test_nothing_is_kept_without_gradients():
    steps, x = steps_of((4, 16, 16), "full")
    with torch.no_grad():
        steps(x)  # the small matrices are kept from here on
    for p in steps.parameters():
        p.requires_grad_(False)
    gc.collect()
    before = _storages(o for o in gc.get_objects() if type(o) is torch.Tensor)
    z, ladj = steps(x)
    after = _storages(o for o in gc.get_objects() if type(o) is torch.Tensor)
    assert not z.requires_grad
    new = sum(size for where, size in after.items() if where not in before)
    assert new <= z.untyped_storage().nbytes() + ladj.untyped_storage().nbytes() + 4096


# drift


def _blurred(steps, log_s=-12.0):
    """A step that forgets: one channel multiplied by next to nothing, which float32 cannot take back."""
    with torch.no_grad():
        steps.steps[-1].mixing.log_s[0] = log_s
    return steps


def test_drift_is_measured_and_small():
    steps, x = steps_of((4, 3), "reversible", dtype=torch.float32)
    assert steps.drift.item() == 0
    gradients(steps, x)
    assert 0 < steps.drift.item() < 1e-4
    assert not steps.limit_drift(1e-3) and steps.memory == "reversible"
    _blurred(steps)
    gradients(steps, x)
    assert steps.drift.item() > 1e-3
    exact, x = steps_of((4, 3), "reversible")
    gradients(exact, x)
    assert 0 < exact.drift.item() < 1e-12
    for memory in ("full", "checkpoint"):
        other, x = steps_of((4, 3), memory, dtype=torch.float32)
        gradients(_blurred(other), x)
        assert other.drift.item() == 0 and not other.limit_drift(0.0)


def test_drift_past_the_bound_changes_to_checkpoints():
    torch.manual_seed(0)
    model = Glow((2, 4, 4), levels=2, depth=2, width=6, memory="reversible")
    x = torch.rand(8, 2, 4, 4)
    model.initialize(x)
    perturbed(model, 0.05)
    forgetful = [m for m in model.modules() if isinstance(m, FlowSteps)]
    (-model.log_prob(x).mean()).backward()
    assert not model.limit_drift(1e-3)
    _blurred(forgetful[1], -16.0)
    model.zero_grad()
    (-model.log_prob(x).mean()).backward()
    assert model.limit_drift(1e-3)
    assert [m.memory for m in forgetful] == ["reversible", "checkpoint"]
    assert not model.limit_drift(1e-3)  # now, not ever
    wrong = [p.grad.clone() for p in model.parameters()]
    full = copy.deepcopy(model)
    for steps in full.modules():
        if isinstance(steps, FlowSteps):
            steps.memory = "full"
    for each in (model, full):
        each.zero_grad()
        (-each.log_prob(x).mean()).backward()
    truth = [p.grad for p in full.parameters()]
    assert relative([p.grad for p in model.parameters()], truth) < 1e-3
    assert relative(wrong, truth) > 1e-3  # which is why


def test_having_changed_to_checkpoints_is_saved():
    steps, x = steps_of((4, 3), "reversible", dtype=torch.float32)
    gradients(_blurred(steps), x)
    assert steps.limit_drift(1e-3)
    again, _ = steps_of((4, 3), "reversible", dtype=torch.float32)
    again.load_state_dict(steps.state_dict())
    again.follow_buffers()
    assert again.memory == "checkpoint" and not again.limit_drift(1e-3)
    fresh, x = steps_of((4, 3), "reversible", dtype=torch.float32)
    again.load_state_dict(fresh.state_dict())
    again.follow_buffers()
    assert again.memory == "reversible"


def test_data_that_are_not_finite_are_no_drift():
    steps, x = steps_of((4, 3), "reversible", dtype=torch.float32)
    gradients(steps, x)
    before = steps.drift.item()
    x[0, 0, 0] = math.nan
    gradients(steps, x)
    assert steps.drift.item() == before


# bfloat16


@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("shape", [(3, 8, 8), (4, 8), (10,)], ids=str)
def test_bf16_inside_networks_only(shape, memory):
    torch.manual_seed(0)
    model = Glow(shape, levels=2, depth=4, width=16, memory=memory, reading="none")
    x = torch.rand(8, *shape)
    model.initialize(x)
    perturbed(model, 0.05)
    with torch.no_grad():
        plain = model.log_prob(x)
    assert not model.bf16
    model.bf16 = True
    assert model.bf16
    log_p = model.log_prob(x)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p, plain, atol=0.05 * model.latent_dim, rtol=0)
    (-log_p.mean()).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        assert not torch.equal(log_p, plain)  # it was in use
        z = model.encode(x)
        assert z.dtype == torch.float32
        error = (model.decode(z) - x).abs()  # float32's error may round an input to the next bfloat16, here and there
        assert error.max() < 1e-2 and error.mean() < 5e-4
    model.bf16 = False
    with torch.no_grad():
        assert torch.equal(model.log_prob(x), plain)


@pytest.mark.parametrize("context_dim", [0, 3])
def test_bf16_gradients_are_near(context_dim):
    steps, x = steps_of((4, 6, 6), "reversible", dtype=torch.float32, context_dim=context_dim)
    context = torch.randn(7, context_dim).requires_grad_() if context_dim else None

    def found_by(steps):
        found = torch.autograd.grad(loss_of(*steps(x, context)), [*steps.parameters(), *([context] if context_dim else [])])
        assert all(g.dtype == torch.float32 for g in found)
        return found

    truth = found_by(steps)
    for step in steps.steps:
        step.coupling.net.bf16 = True
    for memory in MODES:
        steps.memory = memory
        found = found_by(steps)
        flat, expected = (torch.cat([g.flatten() for g in gs]) for gs in (found, truth))
        assert 0 < (flat - expected).norm() / expected.norm() < 0.05
