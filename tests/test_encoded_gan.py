"""An encoder that is learned with a GAN: what each player moves, what a checkpoint holds, and what the model can do then."""

import dataclasses
import json

import pytest
import torch
from resuming import interrupted_and_resumed
from test_gan_training import copies, labelled, pixels, same, start, tiny

import triptych
from triptych import edit, families
from triptych.cli import main
from triptych.compose import DensityPrior, EncodedGAN
from triptych.errors import TriptychError
from triptych.gan import MLPDiscriminator, MLPGenerator
from triptych.gan.games import GAMES
from triptych.modes import evaluating
from triptych.nets import MLP
from triptych.objectives.encoder import EncoderPlayer, inversion_errors, relative_error
from triptych.objectives.gan import GeneratorPlayer, Match
from triptych.randomness import seeded
from triptych.recipes import DCGANModel
from triptych.training import fit

ENCODED = DCGANModel(latent_dim=3, width=4, encoder=True)


def encoded(seed=0):
    with seeded(seed):
        generator, discriminator = MLPGenerator(3, (5,), (16,), "linear"), MLPDiscriminator((5,), (16,))
        return EncodedGAN((5,), 3, generator=generator, discriminator=discriminator, encoder=MLP((5,), (64,), 3, "silu"))


def test_the_encoders_player_moves_the_encoder_alone():
    model = encoded()
    player = EncoderPlayer(model)
    assert {id(p) for p in player.parameters()} == {id(p) for p in model.encoder.parameters()}
    player(torch.randn(8, 5), 0).total.backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    assert all(
        p.grad is None and p.requires_grad for p in (*model.generator.parameters(), *model.discriminator.parameters())
    )


def test_the_encoder_learns_codes_of_samples_and_reconstructions_of_data():
    model = encoded()
    player, data = EncoderPlayer(model), encoded(1).decode(torch.randn(256, 3)).detach()
    optimizer = torch.optim.Adam(player.parameters(), 3e-3)
    errors = []
    for step in range(400):
        loss = player(data, step)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        errors.append(loss.terms)
    first, last = errors[0], errors[-1]
    assert last["code_error"] < 0.5 * first["code_error"] and last["reconstruction_error"] < first["reconstruction_error"]
    with evaluating(model), torch.no_grad():
        z = torch.randn(500, 3)
        assert (model.encode(model.decode(z)) - z).square().mean() < 0.5


def test_a_perfect_encoder_has_no_error():
    model = encoded()
    z = torch.randn(6, 3)
    with torch.no_grad():
        x = model.decode(z)
        codes, pictures = inversion_errors(model, lambda x, context: z[: len(x)], z, None, x)
    assert codes == 0 and pictures == 0
    x = torch.randn(1000, 4)
    torch.testing.assert_close(relative_error(x.mean().expand_as(x), x), torch.ones(()), atol=1e-3, rtol=0)


@pytest.mark.parametrize("prior", ["normal", "gaussian", "flow"])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, prior):
    recipe = tiny(dataclasses.replace(ENCODED, code_prior=prior), 8, prior_steps=3)
    data = pixels()
    fit(start(tmp_path / "whole", recipe, data), data)
    interrupted_and_resumed(start(tmp_path / "parts", recipe, data), data, 6)
    whole, parts = (triptych.load(tmp_path / name) for name in ("whole", "parts"))
    assert type(whole) is EncodedGAN and same(copies(whole), parts)
    assert isinstance(whole.prior, DensityPrior) == (prior != "normal")


def test_both_networks_are_averaged_and_the_discriminator_is_not(tmp_path):
    run = start(tmp_path / "run", tiny(ENCODED, 6, training={"ema": 0.9}), pixels())
    before = copies(run.model)
    fit(run, pixels())
    for name, part in {"generator": True, "encoder": True, "discriminator": False}.items():
        averaged, newest = getattr(run.averaged, name), getattr(run.model, name)
        assert same(copies(newest), averaged) != part, name
        assert not any(torch.equal(before[f"{name}.{k}"], v) for k, v in newest.state_dict().items()), name
    logged = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"loss_encoder", "code_error", "reconstruction_error"} <= set(logged)


def test_data_are_tied_to_their_codes_where_it_is_asked_for():
    model, x = encoded(), torch.randn(8, 5)
    gradients = []
    for tie in (0.0, 1.0):
        player = GeneratorPlayer(Match(model, GAMES["nonsaturating"], 8), tie)
        with seeded(3):
            loss = player(x, 0).total
        gradients.append(torch.autograd.grad(loss, tuple(model.generator.parameters())))
        assert all(p.grad is None for p in model.encoder.parameters())
    with torch.no_grad():
        z = model.encode(x)
    error = relative_error(model.decode(z), x)
    for free, tied, own in zip(*gradients, torch.autograd.grad(error, tuple(model.generator.parameters())), strict=True):
        torch.testing.assert_close(tied, free + own)


def test_what_needs_an_encoder_says_so(tmp_path):
    with pytest.raises(TriptychError, match=r"add --model\.encoder"):
        families.build_for(tiny(dataclasses.replace(ENCODED, encoder=False, code_prior="flow")), pixels())
    with pytest.raises(TriptychError, match=r"tie and prior_steps .* --model\.encoder"):
        families.build_for(tiny(dataclasses.replace(ENCODED, encoder=False), tie=1.0), pixels())
    with pytest.raises(TriptychError, match=r"the encoder .* should return"):
        EncodedGAN((5,), 3, encoder=MLP((5,), (4,), 2)).encode(torch.zeros(1, 5))


def test_it_is_conditional_too(tmp_path):
    run = start(tmp_path / "run", tiny(ENCODED, given="kind"), labelled())
    fit(run, labelled())
    model = triptych.load(tmp_path / "run")
    x, context = model.codec.centre(labelled()[:2]), torch.eye(2, model.context_dim)
    assert not torch.equal(model.encode(x, context), model.encode(x))


def test_it_edits_as_others_do(tmp_path, capsys):
    out, photo = tmp_path / "run", str(tmp_path / "photo.png")
    words = ["train", "dcgan", "--data", "digits", "--model.encoder", "--model.width", "4", "--model.latent-dim", "4"]
    assert main([*words, "--steps", "6", "--training.batch", "8", "--out", str(out)]) == 0
    assert main(["sample", str(out), "--n", "1", "--out", photo]) == 0
    assert main(["directions", str(out), "--unsupervised", "2"]) == 0
    assert main(["edit", str(out), photo, "--set", "pc1=1", "--out", str(tmp_path / "edited.png")]) == 0
    assert main(["mix", str(out), photo, photo, "--out", str(tmp_path / "mix.png")]) == 0
    assert "learning one" not in capsys.readouterr().err and not (out / "encoder.safetensors").exists()
    model = triptych.load(out)
    inverted = edit.Inverting(model, model.encoder, steps=4)
    assert inverted.encode(torch.rand(2, *model.event_shape)).shape == (2, 4)
