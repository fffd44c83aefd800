"""Players with spans: a run as a series of stages, resumed to the bit, each player with an average of its own."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from resuming import interrupted_and_resumed

from triptych import compose, families
from triptych.data import load
from triptych.errors import TriptychError
from triptych.objectives.player import Span
from triptych.objectives.prior import PriorPlayer
from triptych.training import Run, fit
from triptych.vae import VAE, Gaussian

STEPS, ALONE = 30, 20


def recipe(prior="flow", **objective):
    plain = families.preset("vae", "mnist")
    model = dataclasses.replace(plain.model, latent_dim=3, hidden=(16,), prior=prior, components=4)
    settings = {"prior_fit": "after", "prior_steps": STEPS - ALONE, **objective}
    chosen = dataclasses.replace(plain.objective, **settings)
    training = dataclasses.replace(plain.training, batch=20, log_every=5, save_every=10)
    return dataclasses.replace(plain, data="digits", steps=STEPS, model=model, objective=chosen, training=training)


@pytest.fixture(scope="module")
def data():
    return load("digits").train


def started(folder, data, **settings):
    asked = recipe(**settings)
    return Run.create(folder, asked, families.build_for(asked, data))


def weights(folder, step=STEPS):
    return (folder / "model.safetensors").read_bytes(), (folder / f"state/{step:09d}/state.safetensors").read_bytes()


@given(st.integers(0, 9), st.none() | st.integers(0, 12), st.integers(0, 15))
def test_a_span_counts_the_rounds_that_it_holds(first, last, step):
    span = Span(first, last)
    held = [s for s in range(20) if span.holds(s)]
    assert held == [s for s in range(20) if first <= s and (last is None or s < last)]
    assert span.played(step) == len([s for s in held if s < step])


def test_stages_follow_each_other_and_own_their_parts(tmp_path, data):
    run = started(tmp_path / "run", data)
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    moved = {}

    def watch(round_, _numbers):
        moved[round_.step] = {n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])}
        before.update({n: p.clone() for n, p in run.model.named_parameters()})

    fit(run, data, watch=watch, notice=lambda line: None)
    assert all(not any(n.startswith("prior.") for n in moved[step]) for step in range(1, ALONE + 1))
    # with the first round of the prior the others' weights become their averages, once
    assert all(moved[step] and all(n.startswith("prior.") for n in moved[step]) for step in range(ALONE + 2, STEPS + 1))
    assert run.minibatches(STEPS) == STEPS


@pytest.mark.parametrize("stop", [5, ALONE - 1, ALONE, ALONE + 3])
def test_a_run_resumed_in_any_stage_equals_an_uninterrupted_one(tmp_path, data, stop):
    fit(started(tmp_path / "whole", data), data, notice=lambda line: None)
    interrupted_and_resumed(started(tmp_path / "cut", data), data, stop)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_stage_builds_on_the_averages_of_the_one_before(tmp_path, data):
    """Which stay what they are, as nothing moves those weights any more."""
    run, averaged = started(tmp_path / "run", data), {}

    def watch(round_, _numbers):
        if round_.step == ALONE:
            averaged.update({n: p.clone() for n, p in run.averaged.encoder.named_parameters()})
            assert not all(torch.equal(p, averaged[n]) for n, p in run.model.encoder.named_parameters())

    fit(run, data, watch=watch, notice=lambda line: None)
    for encoder in (run.model.encoder, run.averaged.encoder):
        assert all(torch.equal(p, averaged[n]) for n, p in encoder.named_parameters())


def test_the_average_of_a_later_player_begins_with_it(tmp_path, data):
    run = started(tmp_path / "run", data)
    fit(run, data, notice=lambda line: None)
    assert {0, ALONE} == set(run.average._groups)
    averages, newest = run.average._groups[ALONE]
    assert len(averages) == len(list(run.model.prior.parameters()))
    t = STEPS - ALONE - 1
    assert run.average.decay > (1 + t) / (10 + t)  # nine steps: the average has hardly a memory of its start
    assert all(torch.allclose(a, w, atol=0.1) for a, w in zip(averages, newest, strict=True))


def test_the_rate_falls_over_each_players_own_span(tmp_path, data):
    run = started(tmp_path / "run", data)
    rates = {name: [] for name in run.players}

    def watch(round_, _numbers):
        (name,) = run.playing(round_.step - 1)
        rates[name].append(run.optimizers[name].param_groups[0]["lr"])

    fit(run, data, watch=watch, notice=lambda line: None)
    for name, seen in rates.items():
        whole, end = run.loop(name).rate, run.loop(name).rate_end
        assert len(seen) == (ALONE if name == "vae" else STEPS - ALONE)
        assert seen[0] == pytest.approx(whole) and seen[-1] == pytest.approx(whole * end)


def test_a_prior_fitted_afterwards_raises_the_bound_and_is_saved(tmp_path, data):
    from triptych import load as load_run
    from triptych.evaluate import elbo

    asked = recipe()
    asked = dataclasses.replace(asked, steps=300, objective=dataclasses.replace(asked.objective, prior_steps=60))
    run = Run.create(tmp_path / "run", asked, families.build_for(asked, data))
    fit(run, data, notice=lambda line: None)
    model, stored = load_run(tmp_path / "run"), data[:200]
    found = elbo(model, stored, draws=20)["elbo"].value
    model.prior = VAE((1, 8, 8), 3).prior  # N(0, I)
    assert found > elbo(model, stored, draws=20)["elbo"].value


def test_a_prior_learns_jointly_where_that_is_asked_for(tmp_path, data):
    run = started(tmp_path / "run", data, prior="mixture", prior_fit="jointly")
    assert list(run.players) == ["vae"]
    start = run.model.prior.mu.clone()
    fit(run, data, notice=lambda line: None)
    assert not torch.equal(run.model.prior.mu, start)


def test_unused_dimensions_and_few_examples_are_remarked_upon():
    model = VAE((6,), 3, likelihood=Gaussian((6,), mean="linear"), prior=compose.flow_prior(3, 1, 4))
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
        model.encoder[-1].bias.zero_()
    remarks = PriorPlayer(model).begin(lambda n: (torch.randn(5, 6), None))
    assert "3 of 3 dimensions" in remarks["unused"] and any("5 examples are few for 3" in line for line in remarks.values())
    assert model.prior.log_prob(torch.zeros(1, 3)).isfinite().all()


def test_what_cannot_be_fitted_afterwards_is_refused():
    with pytest.raises(TriptychError, match="learns with its VAE"):
        PriorPlayer(VAE((6,), 2, prior=compose.VampPrior(2, (6,), 3)))
    with pytest.raises(TriptychError, match="prior_steps"):
        families.players(dataclasses.replace(recipe(), steps=5), VAE((6,), 2, prior=compose.flow_prior(2, 1, 4)))


def test_a_prior_that_was_fitted_goes_on_where_its_encoder_stays(tmp_path, data):
    run = started(tmp_path / "run", data)
    fit(run, data, notice=lambda line: None)
    asked = dataclasses.replace(recipe(prior_steps=4), steps=4)
    again = Run.create(tmp_path / "again", asked, run.model)
    before = {name: p.clone() for name, p in again.model.prior.named_parameters()}
    fit(again, data, notice=lambda line: None)
    moved = [(p - before[name]).abs().max().item() for name, p in again.model.prior.named_parameters()]
    assert 0 < max(moved) < 0.1  # four steps of gradients, and nothing set anew


def test_a_longer_run_may_have_a_stage_that_the_shorter_one_had_not(tmp_path, data):
    asked = dataclasses.replace(recipe(prior_steps=4), steps=4)
    run = Run.create(tmp_path / "run", asked, families.build_for(asked, data))
    fit(run, data, notice=lambda line: None)
    assert set(run.players) == {"prior"}
    longer = Run.resume(tmp_path / "run", steps=10)
    fit(longer, data, notice=lambda line: None)
    assert set(longer.players) == {"vae", "prior"} and longer.step == 10


def test_a_run_with_other_steps_than_before_begins_the_stages_that_it_has_not_begun(tmp_path, data):
    """Cut in the VAE's stage and ended soon, its prior is fitted at once; gone on with, it is fitted anew after the VAE."""
    run = started(tmp_path / "run", data)

    def interrupt(round_, _numbers):
        if round_.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(run, data, watch=interrupt, notice=lambda line: None)
    shorter = Run.resume(tmp_path / "run", steps=STEPS - ALONE + 8)  # the prior's stage would have begun at 8
    assert set(shorter.begun) == {"vae"}
    fit(shorter, data, notice=lambda line: None)
    assert shorter.begun == {"vae": 0, "prior": 15} and shorter.model.prior.ready
    longer = Run.resume(tmp_path / "run", steps=STEPS + 10)
    assert set(longer.begun) == {"vae"}
    fit(longer, data, notice=lambda line: None)
    assert longer.begun == {"vae": 0, "prior": ALONE + 10}
