"""z by optimisation: what it finds, what it leaves alone, and the models that are edited through it."""

import functools

import numpy as np
import pytest
import torch
from cases import MODELS, perturbed

import triptych
from triptych import edit, storage
from triptych.checkpoint import save_model, stamp
from triptych.core import Encodes
from triptych.edit import inversion
from triptych.edit.inversion import Inverting, invert, is_outdated, learn_encoder, load_encoder, psnr, save_encoder
from triptych.errors import TriptychError

SHOWN = ("gan-conv", "gan-vector", "vae-conv-logistic", "vae-mlp-vector", "glow-colour", "nice-vector-gaussian")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def conv_gan(latent_dim=6):
    torch.manual_seed(0)
    return triptych.GAN((1, 16, 16), latent_dim, width=8, norm="pixel")


@functools.cache
def taught():
    """A small GAN and an encoder that has learned to invert it."""
    model, losses = conv_gan(), []
    encoder = learn_encoder(model, steps=300, batch=32, width=8, progress=lambda step, loss: losses.append((step, loss)))
    return model, encoder, losses


def drawn(model, n, seed=1):
    z = torch.randn(n, model.latent_dim, generator=seeded(seed))
    with torch.no_grad():
        return z, model.eval().decode(z)


def errors(model, z, x):
    with torch.no_grad():
        return (model.decode(z) - x).square().flatten(1).mean(1)


def test_pictures_of_a_random_generator_are_found_again():
    model = conv_gan()
    _, x = drawn(model, 6)
    z = invert(model, x, steps=250, restarts=4, generator=seeded())
    with torch.no_grad():
        found = psnr(model.decode(z), x)
    assert z.shape == (6, 6) and not z.requires_grad and found.min() > 35, found


@pytest.mark.parametrize("name", SHOWN)
def test_every_family_is_inverted(name):
    torch.manual_seed(0)
    model = MODELS[name].model().eval()
    _, x = drawn(model, 4)
    before = errors(model, torch.randn(4, model.latent_dim, generator=seeded()), x)
    after = errors(model, invert(model, x, steps=120, restarts=2, prior=0.0, generator=seeded()), x)
    assert (after < 0.5 * before).all(), (before, after)


def test_more_restarts_find_better_ones():
    """Each datum's start of one restart is among those of four: what is found is seldom worse, and better on average."""
    model = conv_gan(latent_dim=3)
    _, x = drawn(model, 12)
    one, eight = (errors(model, invert(model, x, steps=160, restarts=r, generator=seeded()), x) for r in (1, 8))
    assert eight.mean() <= one.mean() and eight.max() <= one.max()
    assert (eight <= one + 1e-4).float().mean() > 0.8


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_still_try_every_start(steps):
    """The answer is never worse than the best of the starts: none is dropped before it was tried."""
    model = conv_gan()
    _, x = drawn(model, 5)
    starts = torch.randn(8, 5, 6, generator=seeded())
    best = torch.stack([errors(model, z, x) for z in starts]).amin(0)
    found = errors(model, invert(model, x, steps=steps, restarts=8, generator=seeded()), x)
    assert (found <= best + 1e-6).all()


@pytest.mark.parametrize("restarts", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_watch_sees_every_step_and_errors_that_never_rise(restarts, steps):
    model = triptych.GAN((4,), 2, hidden=(8,))
    _, x = drawn(model, 3)
    seen = []
    z = invert(
        model,
        x,
        steps=steps,
        restarts=restarts,
        generator=seeded(),
        watch=lambda step, error: seen.append((step, error.clone())),
    )
    assert [step for step, _ in seen] == list(range(1, steps + 1))
    curve = torch.stack([error for _, error in seen])
    assert curve.shape == (steps, 3) and (curve.diff(dim=0) <= 0).all()
    torch.testing.assert_close(errors(model, z, x), curve[-1])


def test_the_encoders_answer_is_a_start():
    model = conv_gan()
    z, x = drawn(model, 4)

    class Knows(torch.nn.Module):
        def forward(self, _):
            return z

    found = invert(model, x, steps=1, restarts=4, encoder=Knows(), generator=seeded())
    torch.testing.assert_close(found, z)
    model, encoder, _ = taught()
    _, x = drawn(model, 8)
    without, with_ = (
        errors(model, invert(model, x, steps=10, restarts=2, encoder=e, generator=seeded()), x) for e in (None, encoder)
    )
    assert with_.mean() < without.mean()


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_but_z_is_touched(name):
    torch.manual_seed(0)
    model = MODELS[name].model().train()
    _, x = drawn(model, 3)
    model.train()
    frozen = next(model.parameters()).requires_grad_(False)
    modes, flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    kept = [torch.randn_like(p) for p in model.parameters()]
    for p, g in zip(model.parameters(), kept, strict=True):
        p.grad = g.clone() if p.requires_grad else None
    state, asked = torch.get_rng_state(), x.clone()
    a = invert(model, x, steps=4, restarts=2, generator=seeded(5))
    with torch.no_grad():
        b = invert(model, x, steps=4, restarts=2, generator=seeded(5))
    assert torch.equal(a, b) and torch.equal(x, asked) and not x.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes and [p.requires_grad for p in model.parameters()] == flags
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert frozen.grad is None
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), kept, strict=True) if p.requires_grad)


def test_a_datum_does_not_depend_on_its_neighbours():
    """Given its own starts: alone, or among others, what is found is the same but for rounding."""
    model = conv_gan()
    z, x = drawn(model, 3)
    start = z + 0.3

    class Near(torch.nn.Module):
        def __init__(self, rows):
            super().__init__()
            self.rows = rows

        def forward(self, _):
            return start[self.rows]

    together = invert(model, x, steps=30, restarts=1, encoder=Near([0, 1, 2]), generator=seeded())
    for i in range(3):
        alone = invert(model, x[i : i + 1], steps=30, restarts=1, encoder=Near([i]), generator=seeded())
        torch.testing.assert_close(alone[0], together[i], atol=1e-3, rtol=1e-2)


def test_the_prior_holds_z_where_the_model_was_trained():
    torch.manual_seed(0)
    model = triptych.GAN((4,), 8, hidden=(16,))
    x = 50 * torch.ones(2, 4)
    free, held = (invert(model, x, steps=100, prior=p, generator=seeded()).norm(dim=1).mean() for p in (0.0, 1e6))
    assert held < free


BAD = {
    "another shape": (lambda m, x: invert(m, x[:, :, 1:]), "takes"),
    "not finite": (lambda m, x: invert(m, x * float("nan")), "NaN or infinity"),
    "no steps": (lambda m, x: invert(m, x, steps=0), "at least 1 step"),
    "no restarts": (lambda m, x: invert(m, x, restarts=0), "1 restart"),
    "no steps to learn": (lambda m, x: learn_encoder(m, steps=0), "at least 1 step"),
    "no data to learn": (lambda m, x: learn_encoder(m, batch=0), "in a batch"),
    "neither": (lambda m, x: Inverting(m, steps=0), "wants an encoder"),
    "float data for pixels": (lambda m, x: learn_encoder(m, data=x, steps=1, batch=2, width=4), "uint8"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_work_is_said_in_one_line(name):
    model = conv_gan()
    make, expected = BAD[name]
    with pytest.raises(TriptychError, match=expected) as error:
        make(model, drawn(model, 2)[1])
    assert "\n" not in str(error.value) and model.training is False
    assert all(p.requires_grad for p in model.parameters())


def test_psnr_against_numbers():
    x = torch.zeros(2, 1, 4, 4)
    assert psnr(x, x + 0.1).tolist() == pytest.approx([20.0, 20.0]) and psnr(x, x)[0] == float("inf")


# --- encoders


def test_an_encoder_learns():
    _, encoder, losses = taught()
    assert [step for step, _ in losses] == [100, 200, 300] and losses[-1][1] < losses[0][1]
    assert not encoder.training and next(encoder.parameters()).requires_grad


@pytest.mark.parametrize("with_data", [False, True])
def test_learning_an_encoder_is_repeatable_and_touches_nothing_else(with_data):
    model = perturbed(conv_gan()).train()
    stored = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8, generator=seeded()) if with_data else None
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    a, b, c = (learn_encoder(model, data=stored, steps=3, batch=4, width=4, seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("event", [(1, 16, 16), (5,), (2, 6), (3, 2, 9)])
def test_an_encoder_is_saved_and_loaded(tmp_path, event):
    torch.manual_seed(0)
    model = triptych.GAN(event, 3, net="mlp", hidden=(8,))
    assert load_encoder(model, tmp_path) is None
    encoder = learn_encoder(model, steps=2, batch=4)
    save_encoder(encoder, tmp_path)
    loaded, (_, x) = load_encoder(model, tmp_path), drawn(model, 3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), encoder(x), atol=1e-6, rtol=1e-5)
    assert not loaded.training and loaded(x).shape == (3, 3)


def test_an_encoder_of_other_weights_is_none(tmp_path):
    model = triptych.GAN((5,), 3, hidden=(8,))
    encoder = learn_encoder(model, steps=1, batch=2)
    save_model(model, tmp_path)
    before = stamp(tmp_path)
    save_encoder(encoder, tmp_path)
    assert load_encoder(model, tmp_path) is not None and not is_outdated(tmp_path)
    save_model(perturbed(model), tmp_path)
    assert load_encoder(model, tmp_path) is None and is_outdated(tmp_path)
    save_encoder(encoder, tmp_path, before)  # learned while the weights were replaced
    assert load_encoder(model, tmp_path) is None
    storage.write_tensors(tmp_path / inversion.FILE, encoder.state_dict())  # nothing says of which weights it is
    assert load_encoder(model, tmp_path) is None


def test_a_damaged_or_foreign_encoder_is_named(tmp_path):
    model = triptych.GAN((5,), 3, hidden=(8,))
    save_encoder(learn_encoder(model, steps=1, batch=2), tmp_path)
    with pytest.raises(TriptychError, match=r"encoder\.safetensors does not fit") as foreign:
        load_encoder(triptych.GAN((5,), 4, hidden=(8,)), tmp_path)
    content = (tmp_path / inversion.FILE).read_bytes()
    (tmp_path / inversion.FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(TriptychError, match=r"encoder\.safetensors is damaged") as damaged:
        load_encoder(model, tmp_path)
    assert all("\n" not in str(e.value) for e in (foreign, damaged))


# --- editing through it


@pytest.fixture(scope="module", params=["search", "encoder alone", "both"])
def inverting(request):
    model, encoder, _ = taught()
    how = {"search": (None, 40), "encoder alone": (encoder, 0), "both": (encoder, 20)}[request.param]
    return Inverting(model, how[0], steps=how[1], restarts=2)


def test_an_inverting_model_is_a_model_with_an_encoder(inverting):
    assert isinstance(inverting, Encodes) and inverting.event_shape == (1, 16, 16) and inverting.latent_dim == 6
    z, x = drawn(inverting, 5)
    found = inverting.encode(x)
    assert torch.equal(found, inverting.encode(x)) and found.shape == z.shape
    assert torch.equal(inverting.decode(z), inverting.model.decode(z))
    assert torch.equal(inverting.sample(2, generator=seeded()), inverting.model.sample(2, generator=seeded()))
    assert errors(inverting, found.detach(), x).mean() < errors(inverting, z.roll(1, 0), x).mean()
    with pytest.raises(TriptychError, match="takes"):
        inverting.encode(x[:, :, 1:])


def test_edits_work_through_inversion(inverting):
    _, x = drawn(inverting, 40)
    stored = inverting.codec.decode(x)
    brightness = stored.float().flatten(1).mean(1)
    known = edit.learn_directions(inverting, stored, {"bright": brightness.numpy()}, method="means")
    judged = edit.judge(inverting, known, stored, {"bright": brightness.numpy()})
    assert inverting.encoder is None or judged["bright"].judged["r2"] > 0
    few = x[:3]
    for moved in (
        edit.apply(inverting, few, {"bright": "+20"}, known),
        edit.sweep(inverting, few, "bright", [100.0, 140.0], known).flatten(0, 1),
        edit.interpolate(inverting, few[:1], few[1:2], 4).flatten(0, 1),
        edit.manifold(inverting, x[:4], 4).flatten(0, 1),
    ):
        assert moved.shape[1:] == (1, 16, 16) and moved.isfinite().all() and not moved.requires_grad
    brighter = edit.apply(inverting, few, {"bright": "+20"}, known)
    assert (brighter.mean((1, 2, 3)) > edit.apply(inverting, few, {"bright": "-20"}, known).mean((1, 2, 3))).all()
    names = edit.unsupervised_directions(inverting, stored, 2)
    assert len(names) == 2 and np.isfinite(names["pc1"].range).all()
