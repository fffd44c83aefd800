"""z by optimisation: what it finds, what it leaves alone, and the models that are edited through it."""

import copy
import functools
import io
import math
import re

import numpy as np
import pytest
import torch
from cases import MODELS, perturbed

import triptych
from triptych import edit, progress, storage
from triptych.capabilities import Encodes
from triptych.codecs import Floats
from triptych.core import GenerativeModel
from triptych.edit import inversion
from triptych.edit.inversion import (
    Inverting,
    coordinate_model,
    invert,
    is_outdated,
    learn_encoder,
    load_encoder,
    psnr,
    save_encoder,
)
from triptych.errors import TriptychError
from triptych.gan import ConvDiscriminator, ConvGenerator, MLPDiscriminator, MLPGenerator
from triptych.pretrained import save_model, stamp

SHOWN = ("gan-conv", "gan-vector", "vae-conv-logistic", "vae-mlp-vector", "glow-colour", "nice-vector-gaussian")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def conv_gan(latent_dim=6, context_dim=0):
    torch.manual_seed(0)
    shape = (1, 16, 16)
    generator = ConvGenerator(latent_dim, shape, 8, "pixel", context_dim=context_dim)  # untrained, and yet of some contrast
    discriminator = ConvDiscriminator(shape, 8, centre=True, context_dim=context_dim)
    return triptych.GAN(shape, latent_dim, generator=generator, discriminator=discriminator, context_dim=context_dim)


def vector_gan(dim, latent_dim, hidden=8, kind=triptych.GAN):
    generator = MLPGenerator(latent_dim, (dim,), (hidden,), "linear")
    return kind((dim,), latent_dim, generator=generator, discriminator=MLPDiscriminator((dim,), (hidden,)))


@functools.cache
def taught():
    """A small GAN and an encoder that has learned to invert it."""
    model, said = conv_gan(), io.StringIO()
    with progress.shown(said, every=0):
        encoder = learn_encoder(model, steps=300, batch=32, width=8)
    return (
        model,
        encoder,
        re.findall(r"^learning an encoder: step (\d+) of 300, loss ([\d.]+)", said.getvalue(), re.MULTILINE),
    )


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
    """Each example's start of one restart is among those of four: what is found is seldom worse, and better on average."""
    model = conv_gan(latent_dim=3)
    _, x = drawn(model, 12)
    one, eight = (errors(model, invert(model, x, steps=160, restarts=r, generator=seeded()), x) for r in (1, 8))
    assert eight.mean() <= one.mean() and eight.max() <= one.max()
    assert (eight <= one + 1e-4).float().mean() > 0.8


@pytest.mark.parametrize("prior", [0.0, 1e-4, 0.1, 10.0])
@pytest.mark.parametrize("encoded", [False, True])
def test_what_is_found_has_the_lowest_objective(prior, encoded):
    """Lower than the starts', and than at z₀, from which a strong prior lets nothing go."""
    model, encoder, _ = taught()
    _, x = drawn(model, 6)
    with torch.no_grad():
        centre = encoder(x) if encoded else torch.zeros(6, 6)
    z = invert(model, x, steps=200, restarts=4, prior=prior, encoder=encoder if encoded else None, generator=seeded())
    objective = lambda z: errors(model, z, x) + prior * (z - centre).square().mean(1)  # noqa: E731
    for other in (centre, z + 0.1, 0.9 * z + 0.1 * centre, *torch.randn(4, 6, 6, generator=seeded())):
        assert (objective(z) <= objective(other) + 1e-4).all()
    distance = (z - centre).square().mean(1)
    assert prior < 10 or distance.max() < 0.01


def test_a_strong_prior_is_part_of_what_is_best():
    """The lowest error lies far from 0, where this objective is high."""
    torch.manual_seed(0)
    model = vector_gan(4, 6, 16).eval()
    with torch.no_grad():
        x = model.decode(3 * torch.randn(6, 6, generator=seeded(1)))
    z = invert(model, x, steps=200, restarts=4, prior=10.0, generator=seeded())
    assert (errors(model, z, x) + 10 * z.square().mean(1) <= errors(model, torch.zeros(6, 6), x)).all()


@pytest.mark.parametrize("rate", [1e-3, 0.1])
def test_one_step_is_a_step(rate):
    """Adam's first step is rate · sign(gradient): the state after the last step is tried too."""
    model = conv_gan()
    _, x = drawn(model, 5)
    start = torch.randn(1, 5, 6, generator=seeded())[0].requires_grad_()
    (slope,) = torch.autograd.grad((model.decode(start) - x).square().flatten(1).mean(1).sum(), start)
    found = invert(model, x, steps=1, restarts=1, prior=0.0, rate=rate, generator=seeded())
    stepped, before = (start - rate * slope.sign()).detach(), errors(model, start.detach(), x)
    better = errors(model, stepped, x) < before
    torch.testing.assert_close(found[better], stepped[better], atol=1e-4, rtol=1e-3)  # eps
    assert better.any() and (errors(model, found, x)[better] < before[better]).all()


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
def test_watch_sees_every_step_and_the_error_of_the_best(restarts, steps):
    model = vector_gan(4, 2)
    _, x = drawn(model, 3)
    seen = []
    z = invert(
        model,
        x,
        steps=steps,
        restarts=restarts,
        prior=0.0,
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
    torch.testing.assert_close(found, z)  # nothing is better
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


def test_an_example_does_not_depend_on_its_neighbours():
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


def test_the_more_prior_the_nearer_to_the_encoders_answer():
    model, encoder, _ = taught()
    torch.manual_seed(0)
    x = torch.rand(8, 1, 16, 16)  # out of the generator's reach: there is something to weigh
    with torch.no_grad():
        answer = encoder(x)
    found = [invert(model, x, steps=150, restarts=1, encoder=encoder, prior=p) for p in (0.0, 1e-3, 1e-2, 0.1, 10.0)]
    distances = torch.stack([(z - answer).square().mean() for z in found])
    misses = torch.stack([errors(model, z, x).mean() for z in found])
    assert (distances.diff() < 0).all() and distances[-1] < 1e-3 < distances[0], distances
    assert (misses.diff() > -1e-3).all() and misses[-1] > misses[0], misses
    default = (invert(model, x, steps=150, restarts=1, encoder=encoder) - answer).square().mean()
    assert distances[2] < default < distances[1]


def broken(module):
    module = copy.deepcopy(module)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(float("nan"))
    return module


BAD = {
    "another shape": (lambda m, x: invert(m, x[:, :, 1:]), "takes"),
    "not finite": (lambda m, x: invert(m, x * float("nan")), "NaN or infinity"),
    "no steps": (lambda m, x: invert(m, x, steps=0), "steps should be"),
    "no restarts": (lambda m, x: invert(m, x, restarts=0), "restarts should be"),
    "a context for none": (lambda m, x: invert(m, x, context=torch.ones(2, 3)), "leave the context out"),
    "no rate": (lambda m, x: invert(m, x, rate=-1), "rate should be"),
    "a rate of nothing": (lambda m, x: invert(m, x, rate=0), "rate should be"),
    "a rate that is not a number": (lambda m, x: invert(m, x, rate=float("nan")), "rate should be"),
    "a prior that is not a number": (lambda m, x: invert(m, x, prior=float("nan")), "prior should be"),
    "an endless prior": (lambda m, x: invert(m, x, prior=float("inf")), "prior should be"),
    "a prior below 0": (lambda m, x: invert(m, x, prior=-1e-4), "prior should be"),
    "a broken model": (lambda m, x: invert(broken(m), x, steps=3), "2 of 2 examples have no z"),
    "a broken model, by an encoder": (lambda m, x: Inverting(broken(m), taught()[1]).encode(x), "checkpoint"),
    "a broken encoder": (lambda m, x: invert(m, x, steps=3, encoder=broken(taught()[1])), "the encoder's answer"),
    "a broken encoder alone": (lambda m, x: Inverting(m, broken(taught()[1]), steps=0).encode(x), "learn it again"),
    "no steps to learn": (lambda m, x: learn_encoder(m, steps=0), "steps should be"),
    "no data to learn": (lambda m, x: learn_encoder(m, batch=0), "batch should be"),
    "neither": (lambda m, x: Inverting(m, steps=0), "needs an encoder"),
    "float data for pixels": (lambda m, x: learn_encoder(m, data=x, steps=1, batch=2, width=4), "uint8"),
}


def test_one_example_without_z_is_counted_and_one_start_without_is_passed_over():
    class Half(triptych.GAN):
        """Nothing finite comes of a z whose first value is above 0."""

        def decode(self, z, context=None):
            return super().decode(z, context) + torch.where(z[:, :1] > 0, math.nan, 0.0)

    torch.manual_seed(0)
    model = vector_gan(4, 2, kind=Half)
    x = torch.rand(6, 4)
    first = torch.randn(1, 6, 2, generator=seeded())[0, :, 0]
    with pytest.raises(TriptychError, match=rf"{int((first > 0).sum())} of 6 examples have no z"):
        invert(model, x, steps=5, restarts=1, generator=seeded())
    z = invert(model, x, steps=5, restarts=12, generator=seeded())
    assert z.isfinite().all() and (z[:, 0] <= 0).all()


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
    assert [int(step) for step, _ in losses] == list(range(1, 300)) and float(losses[-1][1]) < float(losses[0][1])
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
    model = triptych.GAN(event, 3, generator=MLPGenerator(3, event, (8,)))
    assert load_encoder(model, tmp_path) is None
    encoder = learn_encoder(model, steps=2, batch=4)
    save_encoder(encoder, tmp_path)
    loaded, (_, x) = load_encoder(model, tmp_path), drawn(model, 3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), encoder(x), atol=1e-6, rtol=1e-5)
    assert not loaded.training and loaded(x).shape == (3, 3)


def test_an_encoder_of_other_weights_is_none(tmp_path):
    model = vector_gan(5, 3)
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
    model = vector_gan(5, 3)
    save_encoder(learn_encoder(model, steps=1, batch=2), tmp_path)
    with pytest.raises(TriptychError, match=r"encoder\.safetensors does not fit") as foreign:
        load_encoder(vector_gan(5, 4), tmp_path)
    content = (tmp_path / inversion.FILE).read_bytes()
    (tmp_path / inversion.FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(TriptychError, match=r"encoder\.safetensors is damaged") as damaged:
        load_encoder(model, tmp_path)
    assert all("\n" not in str(e.value) for e in (foreign, damaged))


# --- context


@functools.cache
def taught_with_context():
    """A generator that depends on a context of two numbers, and an encoder of it."""
    model = perturbed(conv_gan(4, 2))
    context = torch.eye(2)[torch.arange(40) % 2]
    return model, learn_encoder(model, context=context, steps=200, batch=32, width=8)


def test_inversion_given_a_context_finds_z_for_that_context():
    model, encoder = taught_with_context()
    z, context = torch.randn(6, 4, generator=seeded(1)), torch.eye(2)[torch.arange(6) % 2]
    with torch.no_grad():
        x = model.eval().decode(z, context)
        assert (x - model.decode(z, context.roll(1, 1))).square().mean() > 1e-3
    for options in ({"restarts": 4}, {"restarts": 1, "encoder": encoder}):
        found = invert(model, x, context=context, steps=200, generator=seeded(), **options)
        with torch.no_grad():
            assert psnr(model.decode(found, context), x).mean() > 30
            other = invert(model, x, context=context.roll(1, 1), steps=200, generator=seeded(), **options)
            assert psnr(model.decode(other, context.roll(1, 1)), x).mean() < psnr(model.decode(found, context), x).mean()
    one = invert(model, x[:2], context=context[:1], steps=3, restarts=2, generator=seeded())
    assert torch.equal(one, invert(model, x[:2], context=context[:1].repeat(2, 1), steps=3, restarts=2, generator=seeded()))
    unknown = invert(model, x, steps=3, restarts=2, generator=seeded())
    assert torch.equal(unknown, invert(model, x, context=torch.zeros(6, 2), steps=3, restarts=2, generator=seeded()))


def test_an_encoder_is_told_the_context_too(tmp_path, monkeypatch):
    model, encoder = taught_with_context()
    x = model.sample(3, context=torch.ones(1, 2), generator=seeded())
    with torch.no_grad():
        assert not torch.equal(encoder(x, torch.ones(3, 2)), encoder(x, torch.zeros(3, 2)))
    save_encoder(encoder, tmp_path)
    loaded = load_encoder(model, tmp_path, width=8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x, torch.ones(3, 2)), encoder(x, torch.ones(3, 2)), atol=1e-6, rtol=1e-5)
    for steps in (0, 5):
        inverted = Inverting(model, encoder, steps=steps)
        codes = inverted.encode(x, torch.ones(1, 2))
        assert codes.shape == (3, 4) and not torch.equal(codes, inverted.encode(x))
        monkeypatch.setattr(inversion, "_AT_ONCE", 2)
        torch.testing.assert_close(inverted.encode(x, torch.ones(3, 2)), codes, atol=1e-4, rtol=1e-3)
        changed = inverted.decode(codes, torch.tensor([[0.0, 1.0]]))
        assert changed.shape == x.shape and not torch.allclose(changed, x)


def test_an_encoder_learns_from_data_with_their_contexts():
    model, _ = taught_with_context()
    stored = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8, generator=seeded())
    for context in (torch.randn(20, 2, generator=seeded()), torch.ones(1, 2), None):
        assert learn_encoder(model, data=stored, context=context, steps=2, batch=4, width=4)(
            torch.zeros(2, 1, 16, 16), torch.zeros(2, 2)
        ).shape == (2, 4)
    with pytest.raises(TriptychError, match=r"context should be .20, 2."):
        learn_encoder(model, data=stored, context=torch.ones(19, 2), steps=1)


def test_coordinates_of_an_inverted_model_are_read_given_the_context():
    """By the encoder, which is told it too."""
    model, encoder = taught_with_context()
    context = torch.randn(40, 2, generator=seeded(2))
    x = model.sample(40, context=context, generator=seeded())
    stored, inverted = model.codec.decode(x), Inverting(model, encoder, steps=3)
    known = {"a": stored.float().mean((1, 2, 3)).numpy()}
    found = edit.learn_directions(inverted, stored, known, method="means", context=context)
    assert not torch.equal(found["a"].normal, edit.learn_directions(inverted, stored, known, method="means")["a"].normal)
    with torch.no_grad():
        z = encoder(model.codec.centre(stored), context)
    torch.testing.assert_close(found["a"].coordinate(z).mean().item(), known["a"].mean().item(), atol=0.1, rtol=0)
    judged = edit.judge(inverted, found, stored, known, context=context)["a"].judged
    assert judged["r2"] != edit.judge(inverted, found, stored, known)["a"].judged["r2"]


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


@pytest.mark.parametrize("with_encoder", [False, True])
def test_what_an_inverting_model_saves_can_be_loaded(tmp_path, with_encoder):
    """The model itself, and beside it the encoder."""
    model = conv_gan()
    encoder = learn_encoder(model, steps=2, batch=4) if with_encoder else None
    Inverting(model, encoder).save_pretrained(tmp_path)
    loaded, (_, x) = triptych.load(tmp_path), drawn(model, 2)
    assert type(loaded) is triptych.GAN
    assert torch.equal(loaded.sample(2, generator=seeded()), model.eval().sample(2, generator=seeded()))
    found = load_encoder(loaded, tmp_path)
    assert (found is not None) == with_encoder
    if encoder is not None:
        with torch.no_grad():
            torch.testing.assert_close(found(x), encoder(x), atol=1e-6, rtol=1e-5)


class Tilted(GenerativeModel):
    """x = R z, without an encoder."""

    def __init__(self, dim=6):
        super().__init__((dim,), dim, Floats())
        self.rotation = torch.nn.Parameter(torch.linalg.qr(torch.randn(dim, dim, generator=seeded(3)))[0])

    def decode(self, z, context=None):
        return z @ self.rotation.T


class Askew(torch.nn.Module):
    """An encoder that is wrong by the same vector everywhere: what is learned of its answers allows for that."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return x @ self.model.rotation + 3


def test_coordinates_are_read_as_they_were_calibrated():
    """By the encoder, also where z is optimised: an absolute value is reached from the true start."""
    model = Tilted()
    z = torch.randn(2000, 6, generator=seeded())
    stored, known = model.decode(z).detach(), {"a": 5 + 2 * z[:, 0], "b": z[:, 1]}
    inverted = Inverting(model, Askew(model), steps=300)
    found = edit.learn_directions(inverted, stored, known)
    assert torch.equal(found["a"].normal, edit.learn_directions(coordinate_model(inverted), stored, known)["a"].normal)
    x, a = stored[:8], lambda x: 5 + 2 * (x @ model.rotation)[..., 0].detach()
    assert (found["a"].coordinate(inverted.encode(x)) - a(x)).abs().min() > 1  # the optimised z would mislead
    for edited in (
        edit.apply(inverted, x, {"a": 7.0, "b": "+1"}, found),
        edit.sweep(inverted, x, "a", [7.0, 7.0], found)[:, 1],
    ):
        torch.testing.assert_close(a(edited), torch.full((8,), 7.0), atol=0.1, rtol=0)
    torch.testing.assert_close(a(edit.apply(inverted, x, {"a": "+1"}, found)), a(x) + 1, atol=0.1, rtol=0)
    judged = edit.judge(inverted, found, stored[1000:], {n: v[1000:] for n, v in known.items()})
    assert judged["a"].judged["r2"] > 0.98 and abs(judged["a"].judged["leakage"]["b"]) < 0.1


def test_coordinates_are_read_by_the_encoder_alone_where_there_is_one():
    model, encoder, _ = taught()
    _, x = drawn(model, 3)
    both, search, alone = Inverting(model, encoder), Inverting(model), Inverting(model, encoder, steps=0)
    with torch.no_grad():
        torch.testing.assert_close(coordinate_model(both).encode(x), encoder(x))
    assert coordinate_model(search) is search and coordinate_model(alone) is alone and coordinate_model(model) is model


def test_many_examples_are_inverted_a_part_at_a_time(monkeypatch):
    model, encoder, _ = taught()
    _, x = drawn(model, 5)
    whole = Inverting(model, encoder, steps=5).encode(x)
    monkeypatch.setattr(inversion, "_AT_ONCE", 2)
    torch.testing.assert_close(Inverting(model, encoder, steps=5).encode(x), whole, atol=1e-4, rtol=1e-3)


def test_unknown_names_are_said_before_the_search(monkeypatch):
    model, encoder, _ = taught()
    _, x = drawn(model, 40)
    inverted, stored = Inverting(model, encoder, steps=3), model.codec.decode(x)
    known = edit.unsupervised_directions(inverted, stored, 2)
    monkeypatch.setattr(inversion, "invert", None)
    monkeypatch.setattr(inversion, "_answer", None)
    for work in (
        lambda: edit.apply(inverted, x, {"pc9": 1.0}, known),
        lambda: edit.apply(inverted, x, {"pc1": 1.0}, known, hold=["pc9"]),
        lambda: edit.sweep(inverted, x, "pc9", [0.0, 1.0], known),
        lambda: edit.unsupervised_directions(inverted, stored, 7),
        lambda: edit.learn_directions(inverted, stored, {"bright": np.arange(40)}, names=["brigth"]),
        lambda: edit.learn_directions(inverted, stored, {"bright": np.ones(40)}),
        lambda: edit.learn_directions(inverted, stored, {"bright": np.arange(40)}, names=[]),
    ):
        with pytest.raises(TriptychError):
            work()


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
