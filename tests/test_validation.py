"""Validation: of each stage the averaged weights remain that suit examples best which it did not learn from."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from triptych import VAE, families, storage
from triptych.compose import flow_prior
from triptych.data import Split, load
from triptych.data.splits import divided
from triptych.errors import TriptychError
from triptych.evaluate import bits_per_dim
from triptych.training.loop import fit, train
from triptych.training.planning import plan_minutes
from triptych.training.run import Run
from triptych.training.starting import _undecided
from triptych.vae import Gaussian


def states_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


DATA = load("faces", size=16, n=60)


def recipe_of(family, steps, **training):
    recipe = families.preset(family, data="faces")
    spectral = {"groups": (8, 16), "width": 32, "coupling_width": 16, "couplings": 2}
    small = {"vae": {"width": 8, "latent_dim": 4}, "spectral": spectral}[family]
    loop = dataclasses.replace(recipe.training, batch=16, rate=3e-3, ema=0.5, save_every=10, log_every=10, **training)
    return dataclasses.replace(recipe, size=16, steps=steps, model=dataclasses.replace(recipe.model, **small), training=loop)


def begun(folder, recipe, data=DATA.train):
    return Run.create(folder, recipe, families.build_for(recipe, data))


@pytest.mark.parametrize("family", ["vae", "spectral"])
def test_the_best_of_the_averaged_weights_remain(tmp_path, family):
    """By a list of all that were looked at, and a loss computed here."""
    run = begun(tmp_path / "run", recipe_of(family, 60, validation=0.2))
    held_out = divided(DATA.train, 0.2)[1]
    name, player = next((n, p) for n, p in run.validation.players.items() if n in ("vae", "flow"))
    seen = {}
    for played in train(run, DATA.train):
        last = player.span.played(run.recipe.steps)
        loss = run.validation.numbers.get(f"validation_{name}")
        if played.step <= last and loss not in [old for old, _ in seen.values()]:
            seen[played.step] = (loss, {k: v.clone() for k, v in player.state_dict().items()})
    run.finish()
    best = min(seen, key=lambda step: seen[step][0])
    assert all(torch.equal(v, seen[best][1][k]) for k, v in player.state_dict().items())
    if family == "spectral":  # which learns so few faces by heart
        rest = divided(DATA.train, 0.2)[0]
        last = begun(tmp_path / "last", recipe_of(family, 60, validation=0.0), rest)
        fit(last, rest, notice=lambda line: None)
        kept, lost = (bits_per_dim(r.averaged, held_out[:], generator=torch.Generator().manual_seed(0)) for r in (run, last))
        assert best < 60 and kept.value < lost.value - 1
    assert not any(p.training for p in run.averaged.modules())


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path):
    recipe = recipe_of("vae", 60, validation=0.2)
    whole = begun(tmp_path / "whole", recipe)
    fit(whole, DATA.train, notice=lambda line: None)
    begun(tmp_path / "stopped", recipe)
    for stop in (20, 45, 60):
        run = Run.resume(tmp_path / "stopped")
        for played in train(run, DATA.train):
            if played.step == stop:
                break
        run.save()
    assert states_equal(whole.averaged.state_dict(), run.averaged.state_dict())
    assert run.validation.losses == whole.validation.losses


def test_what_is_written_on_the_way_has_the_best_weights_so_far(tmp_path):
    run = begun(tmp_path / "run", recipe_of("spectral", 110, validation=0.2))
    for played in train(run, DATA.train):
        if played.step == 100:
            break
    run.save()
    newest = {k: v.clone() for k, v in run.averaged.state_dict().items()}
    written = storage.read_tensors(tmp_path / "run" / "model.safetensors")
    best = run.validation.state()
    assert run.validation.losses["flow"][1] < 100
    assert all(torch.equal(written[k], best[f"best.flow.weights.model.{k}"]) for k in written)
    assert states_equal(newest, run.averaged.state_dict()), "the training goes on from what it had"


def test_a_sharpened_decoder_stays_sharpened(tmp_path):
    """The stages after it move what the VAE's stage left: its best weights are not put back."""
    recipe = recipe_of("vae", 30, validation=0.2)
    recipe = dataclasses.replace(recipe, objective=dataclasses.replace(recipe.objective, sharpen=10, sharpen_width=8))
    run, decoders = begun(tmp_path / "run", recipe), []
    for played in train(run, DATA.train):
        decoders.append({f"decoder.{k}": v.clone() for k, v in run.averaged.decoder.state_dict().items()})
        if played.step == 25:
            run.save()
            written = storage.read_tensors(tmp_path / "run" / "model.safetensors")
            assert all(torch.equal(written[k], v) for k, v in decoders[-1].items())
    assert states_equal(decoders[14], decoders[19]) and not states_equal(decoders[19], decoders[29])


def test_a_stage_that_begins_anew_is_judged_anew(tmp_path):
    run = begun(tmp_path / "run", recipe_of("vae", 30, validation=0.2))
    fit(run, DATA.train, notice=lambda line: None)
    assert set(run.validation.losses) == {"prior"}
    longer = Run.resume(tmp_path / "run", steps=90)
    assert longer.validation.losses == {} and longer.players["prior"].span.first == 60
    fit(longer, DATA.train, notice=lambda line: None)
    assert set(longer.validation.losses) == {"prior"}


@pytest.mark.parametrize("damage", ["shape", "loss", "name"])
def test_foreign_best_weights_are_refused(tmp_path, damage):
    run = begun(tmp_path / "run", recipe_of("spectral", 20, validation=0.2))
    fit(run, DATA.train, notice=lambda line: None)
    state = tmp_path / "run" / "state" / "000000020"
    tensors = storage.read_tensors(state / "state.safetensors")
    name = next(k for k in tensors if k.startswith("best.flow.weights.") and tensors[k].is_floating_point())
    if damage == "shape":
        tensors[name] = torch.zeros(7)
    elif damage == "loss":
        tensors["best.flow.loss"] = torch.tensor(float("nan"), dtype=torch.float64)
    else:
        tensors["best.flow.weights.more"] = torch.zeros(2)
    storage.write_tensors(state / "state.safetensors", tensors)
    said = storage.read_json(state / "state.json")
    storage.write_json(state / "state.json", said | {"sha256": storage.digest(state / "state.safetensors")})
    with pytest.raises(TriptychError, match=r"damaged or foreign|does not fit its recipe"):
        Run.resume(tmp_path / "run")


def test_examples_are_kept_out_where_each_of_few_is_seen_often():
    recipe = recipe_of("vae", 1000)
    assert [recipe.decided(n, True).training.validation for n in (19, 20, 160, 161)] == [None, 0.1, 0.1, None]
    long = recipe_of("vae", 1_000_000)
    assert [long.decided(n, True).training.validation for n in (19_999, 20_000)] == [0.1, None]
    assert recipe_of("vae", 1000, validation=0.0).decided(20, True).training.validation == 0.0
    assert families.preset("dcgan").decided(100, True).training.validation is None
    with pytest.raises(TriptychError, match="likelihoods"):
        gan = families.preset("dcgan")
        dataclasses.replace(gan, training=dataclasses.replace(gan.training, validation=0.1))


@pytest.mark.parametrize(
    "n, share, kept", [(100, 0.1, 10), (4, 0.1, 0), (2, 0.9, 1), (1, 0.9, 0), (9000, 0.9, 500), (7, 0, 0)]
)
def test_parts_share_no_example_and_lose_none(n, share, kept):
    split = Split(np.arange(float(n))[:, None], {"a": np.arange(n)})
    seen, held_out = divided(split, share)
    assert (0 if held_out is None else len(held_out)) == kept
    parts = [seen] if held_out is None else [seen, held_out]
    values = np.concatenate([part[:].numpy().ravel() for part in parts])
    assert sorted(values.tolist()) == list(range(n))
    assert all(np.array_equal(part[:].numpy().ravel(), part.attributes["a"]) for part in parts)


def test_a_conditional_model_is_validated_as_it_is_told(tmp_path):
    recipe = dataclasses.replace(recipe_of("spectral", 12, validation=0.2), given="smile")
    run = begun(tmp_path / "run", recipe)
    fit(run, DATA.train, notice=lambda line: None)
    assert np.isfinite(run.validation.losses["flow"][0])


def test_a_few_odd_examples_do_not_decide(tmp_path):
    """Far off in one held-out row: the median over parts does not see it."""
    losses = []
    for odd in (0.0, 1e4):
        x = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
        row = np.random.default_rng(1).permutation(400)[0]  # the first that is kept out
        x[row, 0] += odd
        data = Split(x)
        held_out = divided(data, 0.1)[1]
        assert (abs(held_out[:].numpy()).max() > 1e3) == bool(odd)
        recipe = dataclasses.replace(families.preset("realnvp", data="moons"), steps=60)
        recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, validation=0.1))
        run = Run.create(tmp_path / f"run{odd}", recipe, families.build_for(recipe, data))
        fit(run, data, notice=lambda line: None)
        losses.append(run.validation.losses["flow"])
    assert min(step for _, step in losses) > 8 and losses[0][0] == pytest.approx(losses[1][0], rel=0.1)


def test_minutes_and_init_decide_anew():
    recipe = recipe_of("vae", 1000)
    found = plan_minutes(
        0.15, dataclasses.replace(recipe, steps=10**6), lambda r: families.build_for(r, DATA.train), DATA.train
    )
    assert found.recipe == found.recipe.decided(len(DATA.train), True)
    assert (found.recipe.training.validation == 0.1) == (found.recipe.times_seen(len(DATA.train)) >= 100)
    assert _undecided(recipe_of("vae", 1000, validation=0.1)).training.validation is None


def test_where_a_discriminator_sees_all_steps_nothing_is_kept_out():
    recipe = recipe_of("vae", 1000)
    sharp = dataclasses.replace(recipe, objective=dataclasses.replace(recipe.objective, sharpen=1000))
    assert sharp.decided(60, True).training.validation is None


def test_statistics_stay_with_the_best_weights(tmp_path):
    """Batch norm's, while the prior learns after the VAE."""
    torch.manual_seed(0)
    x = torch.randn(60, 6)
    encoder, decoder = (
        nn.Sequential(nn.Linear(a, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, b)) for a, b in ((6, 4), (2, 6))
    )
    recipe = recipe_of("vae", 60, validation=0.2)
    recipe = dataclasses.replace(recipe, size=None)
    data = Split(x.numpy())
    model = VAE((6,), 2, encoder=encoder, decoder=decoder, likelihood=Gaussian((6,), mean="linear"), prior=flow_prior(2))
    model.codec.fit(data.parts())
    run = Run.create(tmp_path / "run", recipe, model)
    for played in train(run, data):
        if played.step == 41:
            after = {k: v.clone() for k, v in run.averaged.state_dict().items() if not k.startswith("prior")}
    run.finish()
    assert states_equal(after, {k: v for k, v in run.averaged.state_dict().items() if not k.startswith("prior")})
