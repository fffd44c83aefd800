"""The two-player game through the loop: what moves, what is kept, and what happens when things go wrong."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from resuming import interrupted_and_resumed

import triptych
from triptych import families, recipes, storage
from triptych.cli import main
from triptych.compose import SharpenedVAE
from triptych.data import Split
from triptych.data.batches import parse_augment
from triptych.errors import TriptychError
from triptych.gan import GAN, MLPDiscriminator, MLPGenerator
from triptych.gan.games import GAMES
from triptych.gan.penalties import ZeroCentred, zero_centred
from triptych.objectives.gan import DiscriminatorPlayer, GeneratorPlayer, Match
from triptych.objectives.sharpen import mixed_codes
from triptych.pretrained import initial_model
from triptych.randomness import seeded
from triptych.recipes import (
    DCGANModel,
    FlowObjective,
    GANModel,
    GANObjective,
    GlowModel,
    ProgressiveModel,
    Recipe,
    Training,
    VAEModel,
    VAEObjective,
)
from triptych.training import Run, optimisers
from triptych.training import loop as train
from triptych.training.recovery import report_bad_steps

MODELS = {"gan": GANModel(latent_dim=3, hidden=(12,)), "dcgan": DCGANModel(latent_dim=3, width=4)}
VECTORS = GANModel(latent_dim=1, net="mlp", hidden=(32, 32), prior="gaussian")


FLOAT32 = {"precision": "float32"}  # where what is compared would drown in bf16's rounding


def tiny(family="dcgan", steps=6, augment="", training=None, given="", **objective):
    settings = {"batch": 8, "rate": 1e-3, "log_every": 2, "save_every": 4, **(training or {})}
    model = MODELS[family] if isinstance(family, str) else family
    return Recipe(
        data="digits",
        augment=augment,
        given=given,
        steps=steps,
        model=model,
        objective=GANObjective(**objective),
        training=Training(**settings),
    )


def pixels(n=40, *event):
    g = torch.Generator().manual_seed(0)
    return Split(torch.randint(0, 256, (n, *(event or (1, 8, 8))), dtype=torch.uint8, generator=g).numpy())


def normal(n=2000, mean=2.0, std=0.5):
    return Split((mean + std * np.random.default_rng(0).standard_normal((n, 1))).astype(np.float32))


def labelled(n=40, *event):
    """Pictures with a class of three, and a continuous attribute of which the first values are unknown."""
    random, kind = np.random.default_rng(0), np.arange(n) % 3
    size = np.where(np.arange(n) < 5, np.nan, random.normal(3, 2, n))
    return Split(pixels(n, *event)[:].numpy(), {"kind": kind, "size": size}, {"kind": "class"})


def start(folder, recipe, data, **options):
    return Run.create(folder, recipe, families.build_for(recipe, data), **options)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def copies(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(before, module):
    return all(torch.equal(before[name], value) for name, value in module.state_dict().items())


# Every pair of values of two columns occurs in some line: game, penalty, every, share, augment, optimiser, family; but for
# Wasserstein's game without a penalty, which is refused.
_REFUSED = {"wgan", "none"}
_COLUMNS = (
    tuple(GAMES),
    ("none", "r1", "r1r2", "gp"),
    (1, 3),
    (False, True),
    ("", "diffaug", "ada"),
    ("adam", "sgd", "adamax"),
    ("gan", "dcgan"),
)


def _pairwise(columns):
    """Lines, greedily: each takes in as many pairs that no line has as it can."""
    possible = [line for line in itertools.product(*columns) if not set(line) >= _REFUSED]

    def pairs(line):
        return {(i, a, j, b) for (i, a), (j, b) in itertools.combinations(enumerate(line), 2)}

    def new(line):
        return missing & pairs(line)

    missing, lines = set().union(*map(pairs, possible)), []
    while missing:
        lines.append(max(possible, key=lambda line: len(new(line))))
        missing -= new(lines[-1])
    return lines


CASES = _pairwise(_COLUMNS)


def _recipe(case, **training):
    game, penalty, every, share, augment, optimizer, family = case
    return tiny(
        family, 6, augment, {"optimizer": optimizer, **training}, game=game, penalty=penalty, every=every, share=share
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(value) for value in case))
def test_every_pair_of_settings_trains_and_resumes_to_the_bit(tmp_path, case):
    data, recipe = pixels(), _recipe(case)
    whole = start(tmp_path / "whole", recipe, data)
    before = copies(whole.model.generator), copies(whole.model.discriminator)
    train.fit(whole, data)
    assert not same(before[0], whole.model.generator) and not same(before[1], whole.model.discriminator)
    lines = metrics(tmp_path / "whole")
    assert len(lines) == 3 and lines[-1]["bad_steps"] == 0
    for line in lines:
        seen = {k: v for k, v in line.items() if k != "penalty"}
        assert all(v is not None and np.isfinite(v) for v in seen.values()), line
        assert 0 <= line["d_accuracy"] <= 1 and "loss_generator" in line and "grad_norm_discriminator" in line
    broken = start(tmp_path / "broken", recipe, data)
    interrupted_and_resumed(broken, data, 5)
    for name in ("model.safetensors", "state/000000006/state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name


@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: "-".join(str(value) for value in case))
def test_each_player_moves_its_own_parameters_only(tmp_path, case, monkeypatch):
    data, recipe = pixels(), _recipe(case)
    run = start(tmp_path / "run", recipe, data)
    flags = [p.requires_grad for p in run.model.parameters()]
    played, original = [], train._play

    def play(run, name, batch, number):
        networks = {"discriminator": run.model.discriminator, "generator": run.model.generator}
        mine, other = networks[name], networks[{"discriminator": "generator", "generator": "discriminator"}[name]]
        before, others = copies(mine), copies(other)
        terms = original(run, name, batch, number)
        assert not same(before, mine) and same(others, other)
        assert all(p.grad is not None for p in mine.parameters())
        assert [p.requires_grad for p in run.model.parameters()] == flags
        played.append(name)
        return terms

    monkeypatch.setattr(train, "_play", play)
    list(itertools.islice(train.train(run, data), 3))
    assert played == ["discriminator", "generator"] * 3


def test_the_discriminator_is_frozen_while_the_generator_plays_and_gets_no_gradient(tmp_path):
    data = pixels()
    run = start(tmp_path / "run", tiny(game="relativistic"), data)
    asked, x = [], run.model.codec.encode(data[:8])
    run.model.discriminator.register_forward_hook(
        lambda module, *_: asked.append([p.requires_grad for p in module.parameters()])
    )
    run.players["generator"](x, 0).total.backward()
    assert asked and not any(flag for flags in asked for flag in flags)
    assert all(p.grad is None for p in run.model.discriminator.parameters())
    assert all(p.grad is not None for p in run.model.generator.parameters())
    asked.clear()
    run.model.zero_grad()
    run.players["discriminator"](x, 0).total.backward()
    assert all(flag for flags in asked for flag in flags)
    assert all(p.grad is None for p in run.model.generator.parameters())


def test_a_parameter_that_the_caller_froze_stays_frozen(tmp_path):
    data, recipe = pixels(), tiny()
    model = families.build(recipe, data[:4])
    first = next(model.discriminator.parameters()).requires_grad_(False)
    before = first.clone()
    run = Run.create(tmp_path / "run", recipe, model)
    train.fit(run, data)
    assert torch.equal(first, before) and not first.requires_grad


def test_a_players_loss_is_a_pure_function_of_batch_step_and_random_state(tmp_path):
    data = pixels()
    run = start(tmp_path / "run", tiny(penalty="r1r2", augment="diffaug"), data)
    x = run.model.codec.encode(data[:8])
    for player in run.players.values():
        totals = []
        for _ in range(2):
            with seeded(3, run.device):
                totals.append(player(x.clone(), 1).total.item())
        assert totals[0] == totals[1]


@pytest.mark.parametrize("kind", [GAN, SharpenedVAE])
def test_a_discriminator_is_kept_smooth_at_pictures_before_they_are_augmented(kind):
    """Where T triples contrast the slope of D(T(x)) is three times D's: R1 is nine times as large, also for a decoder."""
    torch.manual_seed(0)
    model, x = kind((1, 8, 8), latent_dim=3), torch.rand(4, 1, 8, 8).round()
    model.augmentation.become("diffaug")
    model.augmentation.forward = lambda x: 3 * x - 1
    codes = mixed_codes if kind is SharpenedVAE else None
    player = DiscriminatorPlayer(Match(model, GAMES["nonsaturating"], images=4, codes=codes), penalty=ZeroCentred(every=1))
    found = player(x, 0).terms["penalty"]
    shown = (3 * x - 1).requires_grad_()
    expected = 9 * zero_centred(model.logits(shown), shown).mean()
    torch.testing.assert_close(found, expected.detach())


def test_lazy_penalties_come_at_their_steps_at_their_weight(tmp_path):
    data = pixels()
    run = start(tmp_path / "run", tiny(penalty="r1", every=3, gamma=2.0), data)
    x, player = run.model.codec.encode(data[:8]), run.players["discriminator"]
    for step in range(4):
        with seeded(0, run.device):
            loss = player(x.clone(), step)
        assert ("penalty" in loss.terms) == (step == 2)
        penalty = loss.terms.get("penalty", torch.zeros(()))
        assert loss.total.item() == pytest.approx((-loss.terms["value"] + 6.0 * penalty).item(), rel=1e-5)


def test_the_logs_round_steps_show_a_lazy_penalty(tmp_path):
    data, recipe = pixels(), tiny(penalty="r1r2", steps=9, training={"log_every": 4})
    train.fit(start(tmp_path / "run", recipe, data), data)
    assert recipe.objective.penalising.every == 4
    assert [(line["step"], "penalty" in line) for line in metrics(tmp_path / "run")] == [(4, True), (8, True), (9, False)]


def test_what_a_penalty_weighs_follows_the_penalty_unless_it_is_said():
    """Also where a preset's penalty is changed, as by --objective.penalty."""
    dcgan, progressive = (families.preset(family).objective for family in ("dcgan", "progressive"))
    assert dcgan.penalising == (0.1, 4) and progressive.penalising == (10.0, 1)
    changed = dataclasses.replace(dcgan, game="wgan", penalty="gp")
    assert changed.penalising == (10.0, 1)
    assert dataclasses.replace(progressive, penalty="r1").penalising == (0.1, 4)
    assert dataclasses.replace(changed, gamma=0.1, every=4).penalising == (0.1, 4)
    assert dataclasses.replace(changed, gamma=1.0).penalising == (1.0, 1)
    restored = families.from_json(recipes.to_json(dataclasses.replace(families.preset("dcgan"), objective=changed)))
    assert restored.objective.penalising == (10.0, 1)


@pytest.mark.parametrize("share", [False, True])
def test_k_plays_to_one_each_with_a_minibatch_of_its_own(tmp_path, monkeypatch, share):
    data, recipe = pixels(64), tiny(plays=3, share=share, steps=5)
    whole, seen, original = start(tmp_path / "whole", recipe, data), [], train._play

    def play(run, name, batch, number):
        seen.append((name, number, batch.stored.numpy().tobytes()))
        return original(run, name, batch, number)

    monkeypatch.setattr(train, "_play", play)
    train.fit(whole, data)
    assert [name for name, _, _ in seen] == (["discriminator"] * 3 + ["generator"]) * 5
    assert [number for _, number, _ in seen[:4]] == [0, 1, 2, 3]
    assert len({batch for _, _, batch in seen[:4]}) == 4
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 3)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "broken" / "model.safetensors"
    ).read_bytes()


def test_a_shared_pass_is_forgotten_after_it_served(tmp_path):
    data = pixels()
    run = start(tmp_path / "run", tiny(share=True), data)
    passes = []
    run.model.generator.register_forward_hook(lambda *_: passes.append(1))
    next(train.train(run, data))
    assert len(passes) == 1 and run.players["discriminator"].match.shared is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_momentum_grows_linearly_also_over_a_resume(tmp_path, optimizer):
    data = pixels()
    recipe = tiny("gan", 9, training={"optimizer": optimizer, "momentum": 0.5, "momentum_end": 0.7})
    assert [optimisers.momentum_at(s, 9, recipe.training) for s in (0, 4, 8, 99)] == pytest.approx([0.5, 0.6, 0.7, 0.7])
    whole = start(tmp_path / "whole", recipe, data)
    train.fit(whole, data)
    for optimiser in whole.optimizers.values():
        (group,) = optimiser.param_groups
        assert (group["betas"][0] if optimizer == "adam" else group["momentum"]) == pytest.approx(0.7)
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 5)
    for name in ("model.safetensors", "state/000000009/state.safetensors", "state/000000009/state.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name


def test_without_an_end_momentum_stays():
    assert optimisers.momentum_at(5, 9, Training(momentum=0.3)) == 0.3
    assert optimisers.rate_at(8, 9, Training(rate=2.0, decay="exponential", rate_end=0.25)) == pytest.approx(0.5)
    rates = [optimisers.rate_at(s, 5, Training(rate=1.0, decay="exponential", rate_end=0.0625)) for s in range(5)]
    assert rates == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625])


def test_adas_p_is_kept_over_a_resume(tmp_path):
    data, recipe = pixels(), tiny(augment="ada", steps=8, game="relativistic", ada_target=-1.0, ada_images=160)
    whole = start(tmp_path / "whole", recipe, data)
    train.fit(whole, data)
    assert whole.model.augmentation.p.item() == pytest.approx(8 * 8 / 160)  # some pair is always in order
    line = metrics(tmp_path / "whole")[-1]
    assert line["ada_p"] == pytest.approx(0.4) and -1 < line["ada_confidence"] <= 1
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 5)
    states = [storage.read_tensors(tmp_path / run / "state/000000008/state.safetensors") for run in ("whole", "broken")]
    assert states[0]["weights.augmentation.p"].item() == pytest.approx(0.4)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("game", ["wgan", "relativistic"])
def test_adas_p_does_not_hang_on_a_constant_that_the_game_ignores(tmp_path, game):
    """±5 on every logit leaves such a game's losses as they are: p and what is logged go the same way."""
    data, seen = pixels(), []
    recipe = tiny(augment="ada", steps=12, game=game, penalty="gp", ada_target=0.0, ada_images=160, training=FLOAT32)
    for shift in (-5.0, 0.0, 5.0):
        run = start(tmp_path / f"{shift}", recipe, data)
        with torch.no_grad():
            list(run.model.discriminator.parameters())[-1].add_(shift)
        rounds = list(train.train(run, data))
        seen.append([[r.terms[k].item() for k in ("ada_p", "ada_confidence", "d_margin")] for r in rounds])
        assert not {"d_real", "d_fake"} & set(rounds[-1].terms)
    assert len({p for p, *_ in seen[0]}) > 2
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], atol=1e-3)


def test_adas_p_moves_by_what_a_recipe_says():
    def moved(processes=1, **settings):
        recipe = tiny(augment="ada", **{"steps": 100, **settings})
        model = families.build(recipe, pixels()[:4])
        return families.players(recipe, model, processes)["discriminator"].ada_step

    assert moved() == moved(processes=2) == pytest.approx(1 / 10)
    assert moved(plays=5) == pytest.approx(1 / 50)
    assert moved(steps=10**6) == pytest.approx(8 / 500_000) and moved(2, steps=10**6) == pytest.approx(16 / 500_000)
    assert moved(ada_images=1600) == pytest.approx(8 / 1600) and moved(4, ada_images=1600) == pytest.approx(32 / 1600)


def test_a_replayed_step_leaves_adas_p_as_it_is(tmp_path):
    data = pixels()
    run = start(tmp_path / "run", tiny(augment="ada", ada_target=-1.0, game="relativistic"), data)
    x = run.model.codec.encode(data[:8])
    with torch.no_grad():
        run.players["discriminator"](x, 0)
    assert run.model.augmentation.p.item() == 0
    run.players["discriminator"](x, 0)
    assert run.model.augmentation.p.item() > 0


# --- what goes wrong


def _poison(run, name):
    """Makes one weight of a player's network NaN, as a fault of memory would."""
    network = {"generator": run.model.generator, "discriminator": run.model.discriminator}[name]
    with torch.no_grad():
        last = list(network.parameters())[-2]
        last[(0,) * last.ndim] = float("nan")


@pytest.mark.parametrize("penalty", ["none", "r1r2", "gp"])
@pytest.mark.parametrize("name", ["discriminator", "generator"])
def test_nan_in_either_players_weights_is_named_and_rolled_back(tmp_path, monkeypatch, name, penalty):
    data, said = pixels(), []
    recipe = tiny(steps=60, penalty=penalty, share=penalty == "gp", training={"log_every": 10, "save_every": 30})
    run = start(tmp_path / "run", recipe, data)
    update, done = run.update_average, []

    def update_and_poison():
        update()
        if run.step == 4 and not done:
            done.append(1)
            _poison(run, name)

    monkeypatch.setattr(run, "update_average", update_and_poison)
    train.fit(run, data, notice=said.append)
    assert run.step == 60 and run.progress.rollbacks == 1 and any("rolled back to step 0" in line for line in said), said
    told = [line for line in said if f"of the {name} skipped" in line]
    assert told and "layer own." in told[0], said
    assert all("\n" not in line and "penalty needs" not in line for line in said)
    assert all(p.isfinite().all() for p in run.model.parameters())


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamax"])
@pytest.mark.parametrize("bad", [0, 2])
def test_a_nan_batch_of_the_discriminator_is_skipped(tmp_path, monkeypatch, optimizer, bad):
    """Weights, moments and ada's p go on as if the play had not been."""
    data, said = pixels(), []
    recipe = tiny(steps=6, augment="ada", training={"optimizer": optimizer, "momentum": 0.5})
    run = start(tmp_path / "run", recipe, data)
    monkeypatch.setattr(run.model, "reals", lambda x: x * float("nan") if run.step == bad else x)
    before = copies(run.model.discriminator)
    rounds = train.train(run, data)
    for _ in range(bad + 1):
        kept = copies(run.model.discriminator)
        next(rounds)
    assert int(run.health["discriminator"].bad) == 1 and int(run.health["generator"].bad) == 0
    assert same(kept, run.model.discriminator) or optimizer == "adamax"  # masked: what momentum it carries moves it
    report_bad_steps(run, data, said.append)
    assert said and "1 bad step of the discriminator skipped, the last at step" in said[0]
    list(rounds)
    assert not same(before, run.model.discriminator)
    assert all(v.isfinite().all() for v in run.model.state_dict().values()), "a bad step left something behind"
    assert max((copies(run.model.discriminator)[k] - before[k]).abs().max() for k in before) < 1


def test_nan_data_are_refused_in_one_line(tmp_path):
    data, recipe = normal(40), tiny(VECTORS)
    run = start(tmp_path / "run", recipe, data)
    data.data[:, 0] = np.nan
    with pytest.raises(TriptychError, match="NaN") as error:
        train.fit(run, data)
    assert "\n" not in str(error.value)


# --- what a run keeps


@pytest.mark.parametrize("norm", ["pixel", "batch"])
def test_a_run_holds_the_generators_average_and_the_current_discriminator(tmp_path, norm):
    data = pixels()
    recipe = tiny(dataclasses.replace(MODELS["dcgan"], norm=norm), training={"ema": 0.9, "rate": 1e-2})
    run = start(tmp_path / "run", recipe, data)
    expected = {k: v.clone() for k, v in run.model.generator.state_dict().items() if v.is_floating_point()}
    for round_ in train.train(run, data):
        decay = min(0.9, round_.step / (9 + round_.step))
        now = run.model.generator.state_dict()
        expected = {k: v * decay + now[k] * (1 - decay) for k, v in expected.items()}
    run.save()
    stored = storage.read_tensors(tmp_path / "run" / "model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(stored[f"generator.{name}"], value, atol=1e-5, rtol=1e-4)
    for name, value in run.model.discriminator.state_dict().items():
        assert torch.equal(stored[f"discriminator.{name}"], value)
    assert any(not torch.equal(stored[f"generator.{k}"], v) for k, v in run.model.generator.state_dict().items())
    loaded = triptych.load(tmp_path / "run")
    assert same(copies(run.averaged), loaded) and loaded.sample(2).shape == (2, 1, 8, 8)


def test_training_goes_on_from_a_gan_run(tmp_path):
    data = pixels()
    train.fit(start(tmp_path / "first", tiny(augment="ada"), data), data)
    model = initial_model(tmp_path / "first", (1, 8, 8))
    begun = copies(model)
    run = Run.create(tmp_path / "second", tiny(steps=3, augment="diffaug"), model)
    assert run.model.augmentation.p.item() == 1.0
    assert all(torch.equal(v, begun[k]) for k, v in run.model.state_dict().items() if k != "augmentation.p")
    train.fit(run, data)
    assert not same(begun, run.model)
    with pytest.raises(TriptychError, match="trained on"):
        initial_model(tmp_path / "first", (1, 9, 9))


@pytest.mark.parametrize("family", MODELS)
def test_fewer_data_than_a_batch_are_enough_and_it_is_said(tmp_path, family):
    data, recipe, said = pixels(3), tiny(family, game="relativistic", penalty="r1r2"), []
    train.fit(start(tmp_path / "run", recipe, data), data, notice=said.append)
    assert said == ["3 examples are fewer than the 8 of a minibatch: they are repeated to fill it"]
    assert metrics(tmp_path / "run")[-1]["bad_steps"] == 0


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("augment", ["", "diffaug", "ada"])
def test_a_batch_of_one_works_and_says_nothing_of_spread(tmp_path, share, augment):
    model = dataclasses.replace(MODELS["dcgan"], stddev_group=0)
    data, recipe = pixels(5), tiny(model, penalty="r1r2", share=share, augment=augment, training={"batch": 1})
    train.fit(start(tmp_path / "run", recipe, data), data)
    line = metrics(tmp_path / "run")[-1]
    assert line["bad_steps"] == 0 and line["spread_ratio"] is None and line["loss_generator"] is not None


BAD = {
    "diffaug for a vae": (lambda: Recipe(augment="diffaug", model=VAEModel(), objective=VAEObjective()), "discriminator"),
    "ada for a flow": (lambda: Recipe(augment="flip,ada", model=GlowModel(), objective=FlowObjective()), "discriminator"),
    "both": (lambda: tiny(augment="diffaug,ada"), "choose one"),
    "diffaug of vectors": (
        lambda: families.build(tiny(VECTORS, augment="diffaug"), normal(4)[:])
        and parse_augment("diffaug", normal(4)),
        "augment expects uint8 pictures",
    ),
    "unknown": (lambda: parse_augment("diffuse", pixels(4)), "diffuse"),
    "a game of no such name": (lambda: GANObjective(game="chess") and tiny(game="chess"), "game should be one of"),
    "no plays": (lambda: tiny(plays=0), "plays should be"),
    "a rate of 0 at once": (lambda: tiny(training={"decay": "exponential", "rate_end": 0.0}), "rate-end above 0"),
    "conv of vectors": (lambda: families.build(tiny("dcgan"), normal(4)[:]), "pictures"),
}  # fmt: skip


GROUPS = {
    "5": (5, 4, "--training.batch 8, or --model.stddev-group 0"),
    "1": (1, 4, "--training.batch 4"),
    "61": (61, 4, "--training.batch 64"),
    "7 in threes": (7, 3, "--training.batch 9"),
    "groups of one": (8, 1, "--model.stddev-group 4"),
}


@pytest.mark.parametrize("family", ["dcgan", "progressive"])
@pytest.mark.parametrize("name", GROUPS)
def test_a_batch_without_groups_for_the_deviation_is_refused(tmp_path, name, family):
    batch, group, expected = GROUPS[name]
    model = MODELS["dcgan"] if family == "dcgan" else ProgressiveModel(latent_dim=3, width=4)
    recipe = tiny(dataclasses.replace(model, stddev_group=group), training={"batch": batch})
    data = pixels()
    with pytest.raises(TriptychError, match=expected) as error:
        start(tmp_path / "run", recipe, data)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
    without = dataclasses.replace(recipe, model=dataclasses.replace(model, stddev_group=0))
    assert start(tmp_path / "run", without, data).model.logits(torch.rand(batch, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize("settings", [{"penalty": "none"}, {"penalty": "gp", "gamma": 0.0}])
def test_wassersteins_game_without_a_penalty_is_refused(tmp_path, settings):
    with pytest.raises(TriptychError, match=r"choose --objective\.penalty gp") as error:
        start(tmp_path / "run", tiny(game="wgan", drift=1e-3, **settings), pixels())
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_work_is_said_in_one_line(name):
    make, expected = BAD[name]
    with pytest.raises(TriptychError, match=expected) as error:
        make()
    assert "\n" not in str(error.value)


def test_augmenting_vectors_in_a_run_is_refused(tmp_path):
    data, recipe = normal(20), tiny(VECTORS, augment="diffaug")
    with pytest.raises(TriptychError, match="augment") as error:
        start(tmp_path / "run", recipe, data)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["vae", "glow"])
def test_the_command_line_refuses_a_gans_augmentation(tmp_path, capsys, family):
    words = ["train", family, "--data", "digits", "--augment", "diffaug", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("triptych: ") and said.count("\n") == 1 and "discriminator" in said


# --- context


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("settings", [{"penalty": "r1r2", "game": "relativistic"}, {"penalty": "gp", "game": "wgan"}])
def test_a_conditional_game_trains_and_resumes_to_the_bit(tmp_path, settings, share):
    data, recipe = labelled(), tiny(given="kind,size", augment="ada", share=share, **settings)
    whole = start(tmp_path / "whole", recipe, data)
    assert whole.model.context_dim == 5
    train.fit(whole, data)
    for network in (whole.model.generator, whole.model.discriminator):
        told = [p for name, p in network.named_parameters() if "modulations" in name or "projection" in name]
        assert told and all(p.abs().max() > 0 for p in told)
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 5)
    for name in ("model.safetensors", "state/000000006/state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name
    loaded = triptych.load(tmp_path / "whole")
    assert loaded.sample(2, context=loaded.conditions.parse("kind=1")).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("game", ["nonsaturating", "relativistic"])
def test_samples_are_drawn_and_judged_given_the_context_of_real_examples(monkeypatch, game, share):
    """Also the generator's, whose samples may be those that the discriminator drew for its own minibatch."""
    torch.manual_seed(0)
    model = GAN((4,), 3, context_dim=2)
    match = Match(model, GAMES[game], images=8, share=share)
    players = DiscriminatorPlayer(match), GeneratorPlayer(match)
    drawn, judged = [], []
    draw, logits = model.draw, model.logits
    monkeypatch.setattr(model, "draw", lambda z, context=None: drawn.append(context) or draw(z, context))
    monkeypatch.setattr(model, "logits", lambda x, context=None: judged.append(context) or logits(x, context))
    contexts = torch.randn(2, 8, 2).unbind()
    for player, context in zip(players, contexts, strict=True):
        player(torch.randn(8, 4), 0, context).total.backward()
    first, second = contexts
    fake = first if share else second
    assert [id(c) for c in drawn] == [id(first)] if share else [id(first), id(second)]
    expected = [first, first, first.roll(1, 0), fake] + ([second] if game == "relativistic" else [])
    assert all(torch.equal(a, b) for a, b in zip(judged, expected, strict=True))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_mismatch_is_a_game_with_the_contexts_of_other_examples(weight):
    torch.manual_seed(0)
    model, x, context = GAN((4,), 3, context_dim=2), torch.randn(8, 4), torch.randn(8, 2)
    with torch.no_grad():
        model.discriminator.projection.map.weight.normal_()
        real, mismatched = model.logits(x, context), model.logits(x, context.roll(1, 0))
    match = Match(model, GAMES["nonsaturating"], images=8)
    with seeded(0):
        without = DiscriminatorPlayer(match, weight=0.5, mismatch_weight=0.0)(x, 0, context)
    with seeded(0):
        loss = DiscriminatorPlayer(match, weight=0.5, mismatch_weight=weight)(x, 0, context)
    mismatch = GAMES["nonsaturating"].discriminator(real, mismatched).mean()
    torch.testing.assert_close(loss.total - without.total, 0.5 * weight * mismatch)
    assert ("mismatch" in loss.terms) == (weight > 0)
    assert "mismatch" not in DiscriminatorPlayer(Match(GAN((4,), 3), GAMES["wgan"], images=8))(x, 0).terms


# --- learning


def test_a_conditional_normal_distribution_is_learned_by_the_players():
    """N(±2, 0.3²) by a context of ±1, a tenth of it unknown: what is asked for is drawn, unknown as both."""
    torch.manual_seed(0)
    generator = MLPGenerator(1, (1,), (32, 32), "linear", context_dim=1)
    model = GAN((1,), 1, generator=generator, discriminator=MLPDiscriminator((1,), (32, 32), context_dim=1), context_dim=1)
    match = Match(model, GAMES["relativistic"], images=128)
    players = DiscriminatorPlayer(match, penalty=ZeroCentred(every=1, samples=True)), GeneratorPlayer(match)
    optimizers = [torch.optim.Adam(p.own.parameters(), 2e-3, betas=(0.0, 0.99)) for p in players]
    for step in range(400):
        for player, optimizer in zip(players, optimizers, strict=True):
            asked = torch.randint(2, (128, 1)) * 2.0 - 1
            loss = player(2 * asked + 0.3 * torch.randn(128, 1), step, asked * (torch.rand(128, 1) > 0.1))
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
    for asked in (-1.0, 1.0):
        x = model.sample(1000, context=torch.full((1, 1), asked))
        assert x.mean().item() == pytest.approx(2 * asked, abs=0.4)
        assert (x.sign() == asked).float().mean() > 0.98
    unknown = model.sample(1000).sign()
    assert abs(unknown.mean().item()) < 0.8


def test_a_normal_distribution_is_learned_by_the_loop(tmp_path):
    data = normal()
    training = {
        "batch": 64, "rate": 2e-3, "momentum": 0.0, "beta2": 0.99, "log_every": 100, "save_every": 800, "ema": 0.99,
    }  # fmt: skip
    recipe = tiny(VECTORS, 600, training=training, game="relativistic", penalty="r1r2", gamma=0.1)
    train.fit(start(tmp_path / "run", recipe, data), data)
    model = triptych.load(tmp_path / "run")
    samples = model.codec.decode(model.sample(4000, generator=torch.Generator().manual_seed(0)))
    assert samples.mean().item() == pytest.approx(2.0, abs=0.3)
    assert samples.std().item() == pytest.approx(0.5, abs=0.3)
