"""Sharpened decoders: who moves what in which stage, what is shown to the discriminator, drift, and resuming to the bit."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resuming import interrupted_and_resumed

import triptych
from triptych import compose, families
from triptych.cli import main
from triptych.compose import SharpenedVAE
from triptych.data import Split
from triptych.errors import TriptychError
from triptych.gan import MLPDiscriminator
from triptych.gan.games import GAMES
from triptych.objectives.gan import DiscriminatorPlayer, Match
from triptych.objectives.player import Loss
from triptych.objectives.sharpen import STEP, DecoderPlayer, known, mixed_codes
from triptych.objectives.vae import VAEPlayer
from triptych.randomness import seeded
from triptych.training import Run, fit
from triptych.vae import VAE, Gaussian

STEPS, PRIOR, SHARPEN = 24, 4, 12
FIRST = STEPS - SHARPEN


def recipe(augment="", steps=STEPS, training=None, **objective):
    plain = families.preset("vae", "faces")
    model = dataclasses.replace(plain.model, latent_dim=3, width=4, prior="gaussian")
    chosen = {"prior_steps": PRIOR, "sharpen": SHARPEN, "sharpen_width": 4} | objective
    loop = dataclasses.replace(plain.training, **{"batch": 8, "log_every": 2, "save_every": 6} | (training or {}))
    return dataclasses.replace(
        plain,
        data="faces",
        size=None,
        augment=augment,
        steps=steps,
        model=model,
        objective=dataclasses.replace(plain.objective, **chosen),
        training=loop,
    )


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (60, 1, 1, 1)) + random.integers(-20, 20, (60, 3, 8, 8))
    return Split(pictures.clip(0, 255).astype(np.uint8), {"smile": random.normal(size=60)})


def started(folder, data, asked):
    return Run.create(folder, asked, families.build_for(asked, data))


def weights(folder, step=STEPS):
    return (folder / "model.safetensors").read_bytes(), (folder / f"state/{step:09d}/state.safetensors").read_bytes()


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def players(model=None, **settings):
    model = SharpenedVAE((5,), 2) if model is None else model
    match = Match(model, GAMES["relativistic"], images=8, codes=mixed_codes)
    return DecoderPlayer(match, **settings), DiscriminatorPlayer(match)


def test_encoder_and_prior_stay_while_the_decoder_is_sharpened(tmp_path, data):
    run = started(tmp_path / "run", data, recipe())
    before, moved = {n: p.clone() for n, p in run.model.named_parameters()}, {}

    def watch(round_, _numbers):
        moved[round_.step] = {n.split(".")[0] for n, p in run.model.named_parameters() if not torch.equal(p, before[n])}
        before.update({n: p.clone() for n, p in run.model.named_parameters()})

    fit(run, data, watch=watch, notice=lambda line: None)
    for step, parts in moved.items():
        vae, prior = {"encoder", "decoder", "likelihood"}, {"prior"}
        game = {"decoder", "likelihood", "discriminator"}
        left = {FIRST - PRIOR + 1: vae, FIRST + 1: prior}.get(step, set())  # become their averages as the next stage begins
        assert parts - left == (vae if step <= FIRST - PRIOR else prior if step <= FIRST else game) - left, step
    lines = metrics(tmp_path / "run")
    assert {"drift", "weight", "log_likelihood", "d_accuracy", "loss_decoder"} <= lines[-1].keys()
    assert all(v is not None for k, v in lines[-1].items() if k != "penalty")


@pytest.mark.parametrize("augment", ["", "diffaug", "ada"])
@pytest.mark.parametrize("stop", [FIRST, FIRST + 7])
def test_a_run_resumed_while_sharpening_equals_an_uninterrupted_one(tmp_path, data, augment, stop):
    asked = recipe(augment)
    whole = started(tmp_path / "whole", data, asked)
    assert whole.model.augmentation.kind == (augment or "none")
    fit(whole, data, notice=lambda line: None)
    interrupted_and_resumed(started(tmp_path / "cut", data, asked), data, stop)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_trained_vae_is_sharpened_and_loaded_with_its_discriminator(tmp_path, data, capsys):
    np.save(tmp_path / "data.npy", data[:].numpy())
    words = ["--data", str(tmp_path / "data.npy"), "--training.batch", "8"]
    plain = [*words, "--steps", "6", "--model.net", "conv", "--model.width", "4", "--model.latent-dim", "3"]
    main(["train", "vae", *plain, "--out", str(tmp_path / "vae")])
    sharpen = ["--steps", "4", "--objective.sharpen", "4", "--objective.sharpen-width", "4"]
    main(["train", "--init", str(tmp_path / "vae"), *sharpen, "--out", str(tmp_path / "sharp"), *words])
    before, after = triptych.load(tmp_path / "vae"), triptych.load(tmp_path / "sharp")
    assert type(before) is VAE and type(after) is SharpenedVAE
    x = after.codec.encode(data[:4])
    z = after.encode(x)
    assert torch.equal(before.encode(x), z) and not torch.equal(before.decode(z), after.decode(z))
    assert after.log_prob(x).isfinite().all() and after.sample(2).shape == (2, 3, 8, 8)
    card = (tmp_path / "sharp/README.md").read_text()
    assert not after.plain_error.isnan() and "its bound on log p(x) holds, but is weaker" in card
    again = [*sharpen, "--out", str(tmp_path / "more"), *words]
    main(["train", "--init", str(tmp_path / "sharp"), *again])
    more = triptych.load(tmp_path / "more")
    assert torch.equal(more.encode(x), after.encode(x)) and not torch.equal(more.logits(x), after.logits(x))


def test_a_model_of_ones_own_is_sharpened_too_unless_its_methods_would_be_lost(tmp_path, data):
    class Mine(VAE):
        pass

    made = families.build_for(recipe(), data, lambda shape: VAE(shape, 2, likelihood=Gaussian(shape)))
    assert type(made) is SharpenedVAE and made.likelihood.outputs == 1
    with pytest.raises(TriptychError, match="got a Mine"):
        families.build_for(recipe(), data, Mine)


def test_a_conditional_vae_keeps_its_conditions(tmp_path, data):
    run = started(tmp_path / "run", data, dataclasses.replace(recipe(), given="smile"))
    fit(run, data, notice=lambda line: None)
    model = triptych.load(tmp_path / "run")
    assert list(model.conditions.names) == ["smile"] and "mismatch" in metrics(tmp_path / "run")[-1]
    assert model.sample(2, context=torch.ones(1, model.context_dim)).isfinite().all()


def test_half_of_the_codes_are_of_the_posterior_and_half_of_the_prior():
    model = SharpenedVAE((4,), 2)
    x = torch.randn(401, 4)
    mu, log_sigma = model.posterior(x)
    with seeded(0):
        z = mixed_codes(model, x)
    assert len(z) == 401 and known(x) == 201 and not z.requires_grad
    epsilon = (z[:201] - mu[:201]) / log_sigma[:201].exp()
    for noise in (epsilon, z[201:]):
        assert noise.mean().abs() < 0.25 and (noise.std() - 1).abs() < 0.15
    assert len(mixed_codes(model, x[:1])) == 1


def test_a_learned_prior_gives_the_codes_that_a_game_shows():
    prior = compose.gaussian_prior(2)
    prior.fit(torch.randn(200, 2) * 0.01 + 5)
    model = SharpenedVAE((4,), 2, prior=prior)
    drawn = Match(model, GAMES["relativistic"], images=1).codes(model, torch.zeros(8, 4), None)
    assert drawn.shape == (8, 2) and (drawn - 5).abs().max() < 1
    assert (mixed_codes(model, torch.zeros(8, 4))[4:] - 5).abs().max() < 1


def test_the_decoder_minimises_the_games_loss_and_the_weighted_likelihood():
    decoder, _ = players(weight=0.7)
    model, x = decoder.model, torch.randn(6, 5)
    decoder.begin(lambda n: (x, None))
    with seeded(1):
        loss = decoder(x, 0)
    with seeded(1):
        z = mixed_codes(model, x)
    h = model.outputs(z)
    game = torch.nn.functional.softplus(model.logits(x) - model.logits(model.likelihood.mean(h))).mean()
    nll = -model.likelihood.log_prob(x[:3], h[:3]).mean() / 5
    assert torch.allclose(loss.total, game + 0.7 * nll, rtol=1e-5)
    loss.total.backward()
    assert all(p.grad is not None for p in model.generator.parameters())
    assert all(p.grad is None for part in (model.encoder, model.discriminator) for p in part.parameters())


def test_the_error_before_sharpening_is_that_of_draws_from_the_posterior():
    decoder, _ = players()
    model, x = decoder.model, torch.randn(900, 5)
    assert decoder.begin(lambda n: (x[:n], None)) == {}
    mu, log_sigma = model.posterior(x)
    errors = torch.stack([
        (model.decode(mu + log_sigma.exp() * torch.randn_like(mu)) - x).square().mean() for _ in range(50)
    ])  # fmt: skip
    assert model.plain_error.item() == pytest.approx(errors.mean().item(), rel=0.1)
    plain = model.plain_error.clone()
    decoder.begin(lambda n: (3 * x[:n], None))  # sharpening that goes on still counts from the plain decoder
    assert torch.equal(model.plain_error, plain)
    VAEPlayer(model).begin(lambda n: (x[:n], None))  # and taught as a plain one's, it is one
    assert model.plain_error.isnan() and not model.remarks()


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 30), st.floats(1, 10), st.floats(0.01, 10))
def test_the_likelihood_counts_more_while_drift_is_past_its_bound_and_never_less_than_asked(error, bound, weight):
    decoder, _ = players(SharpenedVAE((2,), 1, discriminator=MLPDiscriminator((2,), (4,))), bound=bound, weight=weight)
    model, least = decoder.model, math.log(weight)
    model.plain_error.fill_(0.5)
    model.log_weight.fill_(least)
    for _ in range(60):
        drift, before = model.drift.item(), model.log_weight.item()
        decoder._watch(torch.tensor(error * 0.5))
        assert model.drift.item() == pytest.approx(drift + 0.05 * (error - drift), rel=1e-3)
        moved = before + STEP * (model.drift.item() - bound)
        assert model.log_weight.item() == pytest.approx(min(max(moved, least), least + 7), abs=1e-4)
    decoder._watch(torch.tensor(torch.nan))
    assert model.drift.isfinite()
    assert ("drifts from its encoder" in decoder.inspect().remarks.get("drift", "")) == (model.drift.item() > bound)
    assert (decoder.problem() is not None) == (model.drift.item() > 2 * bound)


def test_a_replay_leaves_the_weight_alone():
    decoder, _ = players()
    decoder.begin(lambda n: (torch.randn(20, 5), None))
    before = {n: b.clone() for n, b in decoder.model.named_buffers()}
    with torch.no_grad():
        assert isinstance(decoder(torch.randn(4, 5), 0), Loss)
    assert all(torch.equal(b, before[n]) for n, b in decoder.model.named_buffers())


def test_a_decoder_that_drifts_is_rolled_back_and_given_up_in_words(tmp_path):
    grey = Split(
        np.random.default_rng(0).integers(118, 138, (40, 3, 8, 8)).astype(np.uint8)
    )  # nearly what a new decoder says
    lines, asked = [], recipe(sharpen_rate=30.0, sharpen_weight=1e-9)
    run = started(tmp_path / "run", grey, asked)
    with pytest.raises(TriptychError, match=r"does not recover .* the decoder has drifted from its encoder"):
        fit(run, grey, notice=lines.append)
    assert sum("rolled back to step" in line for line in lines) == 3
    assert Run.resume(tmp_path / "run").step == FIRST


def test_dequantisation_is_not_shown_to_the_discriminator():
    model = SharpenedVAE((3, 8, 8), 2, likelihood=Gaussian((3, 8, 8)))
    stored = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(model.reals(model.codec.encode(stored)), model.codec.centre(stored))
    model = SharpenedVAE((3, 8, 8), 2)
    x = model.codec.encode(stored)
    assert model.reals(x) is x


def test_the_average_is_of_everything_but_the_discriminator():
    model = SharpenedVAE((5,), 2)
    mapped = {id(p) for p in model.mapping().parameters()}
    judge = {id(p) for p in model.discriminator.parameters()}
    assert mapped | judge == {id(p) for p in model.parameters()} and not mapped & judge


def test_options_reach_their_places(data):
    asked = recipe("diffaug", sharpen_rate=0.01, sharpen_weight=0.5, sharpen_bound=3.0, sharpen_width=6)
    model = families.build_for(asked, data)
    assert model.discriminator.arguments["width"] == 6
    found = families.players(asked, model)
    assert list(found) == ["vae", "prior", "discriminator", "decoder"] and model.augmentation.kind == "diffaug"
    for name in ("discriminator", "decoder"):
        assert found[name].span == (FIRST, None) and found[name].loop.rate == 0.01 and found[name].loop.momentum == 0
    assert (found["decoder"].weight, found["decoder"].bound) == (0.5, 3.0)
    assert list(families.players(recipe(sharpen=STEPS, prior_steps=0), model)) == ["discriminator", "decoder"]


def test_what_cannot_be_sharpened_is_refused_in_words(data):
    with pytest.raises(TriptychError, match="sharpen are some of the run's 24 steps, got 25"):
        families.players(recipe(sharpen=25), families.build_for(recipe(), data))
    with pytest.raises(TriptychError, match="for what a discriminator sees"):
        recipe("diffaug", sharpen=0)
    with pytest.raises(TriptychError, match="groups"):
        families.players(recipe(training={"batch": 7}), families.build_for(recipe(), data))
