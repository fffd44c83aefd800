"""Every ailment provoked on purpose and named, borders by histories made up, and no false alarms on healthy runs."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from cases import MODELS
from test_gan_training import pixels, start, tiny

import triptych
from triptych import families, storage
from triptych.cli import main
from triptych.codecs import BinCentres, Floats
from triptych.core import GenerativeModel
from triptych.data import Split, Splits
from triptych.doctor import ENOUGH, NAMES, RULES, Column, History, as_numbers, diagnose, examine
from triptych.doctor.diagnosis import remedy
from triptych.errors import TriptychError
from triptych.objectives.gan import DiscriminatorPlayer, GeneratorPlayer
from triptych.recipes import (
    DCGANModel,
    FlowObjective,
    GANModel,
    GANObjective,
    GlowModel,
    Recipe,
    Training,
    VAEModel,
    VAEObjective,
)
from triptych.training import loop as train
from triptych.training.run import Run


def names(history, samples=()):
    return [verdict.name for verdict in diagnose(history, dict(samples))]


def history(n=40, **columns):
    """Lines of a run; a column is a number for all lines, or one for each."""
    return History(
        [
            {
                "step": 10 * (i + 1),
                "bad_steps": 0,
                **{k: v if np.isscalar(v) or v is None else v[i] for k, v in columns.items()},
            }
            for i in range(n)
        ]
    )


def blobs(n, side=8, seed=0):
    """Pictures with something to learn: a bright square somewhere on a dark ground."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 30, (n, 1, side, side), dtype=np.uint8)
    for picture, (y, x) in zip(pictures, random.integers(0, side - 3, (n, 2)), strict=True):
        picture[0, y : y + 4, x : x + 4] += 180
    return Split(pictures)


def splits(n=300, held_out=80):
    return Splits(train=blobs(n), test=blobs(held_out, seed=1))


def trained(folder, recipe, data, spoil=None):
    run = start(folder, recipe, data)
    if spoil:
        spoil(run)
    train.fit(run, data, notice=lambda line: None)
    return History.of(folder), run.averaged


def gan(steps=60, model=None, objective=None, **training):
    settings = {"batch": 16, "rate": 1e-3, "momentum": 0.0, "beta2": 0.99, "log_every": 5, "save_every": 1000, **training}
    return Recipe(
        data="digits",
        steps=steps,
        model=model or DCGANModel(latent_dim=4, width=8),
        objective=objective or GANObjective(),
        training=Training(**settings),
    )


def vae(steps=60, latent_dim=2, hidden=(32,), objective=None, **training):
    settings = {"batch": 32, "rate": 2e-3, "log_every": 5, "save_every": 1000, **training}
    model = VAEModel(latent_dim=latent_dim, net="mlp", hidden=hidden, activation="silu")
    return Recipe(
        data="digits", steps=steps, model=model, objective=objective or VAEObjective(), training=Training(**settings)
    )


def glow(steps=40, **training):
    settings = {"batch": 16, "rate": 1e-3, "log_every": 4, "save_every": 1000, **training}
    model = GlowModel(levels=1, depth=2, width=8)
    return Recipe(data="digits", steps=steps, model=model, objective=FlowObjective(), training=Training(**settings))


# --- real runs that are ill


def still(monkeypatch, name):
    """A player that never learns: its loss has no slope."""
    kind = {"generator": GeneratorPlayer, "discriminator": DiscriminatorPlayer}[name]
    original = kind.forward

    def forward(self, x, step, *context):
        loss = original(self, x, step, *context)
        return loss._replace(total=loss.total * 0)

    monkeypatch.setattr(kind, "forward", forward)


def test_a_frozen_generator_is_a_discriminator_that_wins(tmp_path, monkeypatch):
    still(monkeypatch, "generator")
    found, _ = trained(tmp_path / "run", gan(120, rate=3e-3), blobs(300))
    assert "discriminator winning" in names(found)


def test_a_discriminator_that_says_the_reverse_is_a_generator_that_wins(tmp_path, monkeypatch):
    first, _ = trained(tmp_path / "first", gan(60), blobs(300))
    assert "generator winning" not in names(first)
    model = triptych.load(tmp_path / "first")
    with torch.no_grad():
        model.discriminator.head.weight.neg_()
        model.discriminator.head.bias.neg_()
    still(monkeypatch, "discriminator")
    run = Run.create(tmp_path / "second", gan(40), model)
    train.fit(run, blobs(300))
    assert "generator winning" in names(History.of(tmp_path / "second"))


def test_a_generator_without_z_is_a_mode_collapse(tmp_path):
    def deafen(run):
        with torch.no_grad():
            run.model.generator.stem.weight.zero_()
            run.averaged.generator.stem.weight.zero_()
        run.model.generator.stem.weight.register_hook(torch.zeros_like)

    found, model = trained(tmp_path / "run", gan(40), blobs(300), deafen)
    assert "mode collapse" in names(found)
    assert names(found, examine(model, splits(), 60))[0] == "mode collapse"
    assert examine(model, splits(), 60)["spread_ratio"] < 0.01


@pytest.mark.parametrize("how", ["beta", "deaf decoder"])
def test_a_posterior_collapse(tmp_path, how):
    def deafen(run):
        for model in (run.model, run.averaged):
            first = next(module for module in model.decoder if isinstance(module, torch.nn.Linear))
            torch.nn.init.zeros_(first.weight)
            if first.weight.requires_grad:
                first.weight.register_hook(torch.zeros_like)

    objective = VAEObjective(beta=500.0) if how == "beta" else VAEObjective()
    found, model = trained(
        tmp_path / "run",
        vae(300, objective=objective, rate=1e-2, log_every=20),
        blobs(300),
        None if how == "beta" else deafen,
    )
    seen = names(found, examine(model, splits(), 60))
    assert "posterior collapse" in names(found) and "posterior collapse" in seen
    assert "mode collapse" not in seen and "learning rate too high" not in seen


@pytest.mark.parametrize("family", ["vae", "glow", "glow, singular", "dcgan"])
def test_a_huge_rate(tmp_path, family):
    recipe = {
        "vae": vae(150, rate=30.0, optimizer="sgd", ema=0.0),
        "glow": glow(60, rate=3.0, decay="constant", ema=0.0),
        "glow, singular": glow(40, rate=1.0, decay="constant"),
        "dcgan": gan(150, rate=900.0, optimizer="sgd", momentum=0.9, ema=0.0),
    }[family]
    try:
        found, _ = trained(tmp_path / "run", recipe, blobs(200))
    except TriptychError as error:  # it gave up: the records say why
        assert "\n" not in str(error) and "rate" in str(error)
        found = History.of(tmp_path / "run")
    assert names(found)[0] == "learning rate too high"
    assert names(found, examine(triptych.load(tmp_path / "run"), splits(200), 40))[0] == "learning rate too high"


def test_a_model_that_draws_nothing_is_judged_by_its_records(tmp_path, capsys):
    trained(tmp_path / "run", glow(12), blobs(100))
    model = triptych.load(tmp_path / "run")
    with torch.no_grad():
        model.bijection.scales[0].parts[1].steps[0].actnorm.shift[0] = math.nan
    storage.write_tensors(tmp_path / "run" / "model.safetensors", model.state_dict())
    assert main(["doctor", str(tmp_path / "run"), "--data", "digits"]) == 0
    said = capsys.readouterr()
    assert "healthy" not in said.out
    assert "could not be looked at" in said.err and "steps.0.actnorm.shift) are not finite" in said.err


def test_the_command_names_no_remedy_that_the_run_has(tmp_path, capsys):
    recipe = gan(12, objective=GANObjective(game="relativistic", penalty="r1r2"))
    trained(tmp_path / "run", recipe, blobs(100))
    with (tmp_path / "run" / "metrics.jsonl").open("w") as records:
        records.writelines(json.dumps({"step": 10 * i, "spread_ratio": 0.01}) + "\n" for i in range(1, 20))
    assert main(["doctor", str(tmp_path / "run"), "--samples", "0"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("mode collapse") and "--objective.gamma" in said
    assert "relativistic" not in said and "stddev-group" not in said
    assert main(["doctor", str(tmp_path / "run"), "--samples", "1"]) == 2
    assert "0, or 2 or more" in capsys.readouterr().err


def test_an_exploding_scale(tmp_path):
    def blow_up(run):
        with torch.no_grad():
            for model in (run.model, run.averaged):
                model.bijection.scales[0].parts[1].steps[0].actnorm.log_scale[0] = -6.0

    found, _ = trained(tmp_path / "run", glow(12, rate=1e-6), blobs(100), blow_up)
    assert "exploding scale" in names(found)


class Replay(GenerativeModel):
    """A model that returns stored pictures, with a little noise."""

    def __init__(self, pictures, noise=0.0):
        codec = BinCentres()
        super().__init__(tuple(pictures.shape[1:]), 2, codec)
        self.x, self.noise, self.weight = codec.centre(pictures), noise, torch.nn.Parameter(torch.zeros(1))

    def decode(self, z, context=None):
        rows = (torch.special.ndtr(z[:, 0]) * len(self.x)).long().clamp(max=len(self.x) - 1)
        return self.x[rows] + self.noise * z[:, 1, None, None, None]


@pytest.mark.parametrize("known", [100, 1500])
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_copies_of_training_data_are_memorising(known, noise):
    """Also where the training data are many more than the held-out ones, which as many would hardly hold the copies."""
    data = splits(known, 60)
    found = examine(Replay(data["train"][:], noise), data, 100)
    assert names(history(loss=1.0), found) == ["memorising"]
    assert names(history(loss=1.0), examine(Replay(blobs(1500, seed=2)[:], noise), data, 100)) == ["healthy"]


def test_samples_that_a_classifier_tells_from_data_are_not_healthy():
    data = splits(600, 80)
    new = blobs(1500, seed=2)[:]
    for stored, expected in ((new, "healthy"), (255 - new, "samples unlike data")):
        assert names(history(loss=1.0), examine(Replay(stored), data, 80)) == [expected]


@pytest.mark.parametrize("known", ["others", "the same"])
def test_copies_of_held_out_data_are_said_in_words(known):
    """Though their distance to held-out data, which others are divided by, is 0."""
    data = blobs(80, seed=1)
    both = Splits(train=data if known == "the same" else blobs(80), test=data)
    found = examine(Replay(data[:]), both, 80)
    assert not math.isfinite(found["nearest_ratio"])
    (verdict,) = [v for v in diagnose(history(loss=1.0), found) if v.name == "memorising"]
    assert "held-out example" in verdict.evidence and "hold out" in verdict.remedy


def test_data_that_repeat_are_not_copies():
    few = Split(np.random.default_rng(0).integers(0, 2, (100, 1, 1, 2), np.uint8))  # four values in all
    found = examine(Replay(few[:]), Splits(train=few, test=few), 80)
    assert names(history(loss=1.0), found) == ["healthy"]


def test_a_flow_that_learned_few_data_by_heart(tmp_path):
    few = Splits(train=blobs(12), test=blobs(60, seed=1))
    found, model = trained(tmp_path / "run", glow(250, rate=3e-3, decay="constant", ema=0.9), few["train"])
    assert "memorising" in names(found, examine(model, few, 60))


def test_a_run_that_stopped_too_early(tmp_path):
    found, _ = trained(tmp_path / "run", vae(60, decay="constant", rate=1e-3), blobs(300))
    assert names(found) == ["stopped too early"]


def test_an_oscillation_without_a_penalty(tmp_path):
    """Mescheder's Dirac-GAN: one number against a slope goes round for ever, and stands still where r1 holds it."""
    values = {}
    for gamma in (0.0, 0.5):
        theta, psi, seen = 1.5, 1.5, []
        for _ in range(2400):  # V = log σ(ψθ) + log ½; θ goes down it, then ψ up
            theta -= 0.1 * psi / (1 + math.exp(psi * theta))
            psi += 0.1 * (theta / (1 + math.exp(psi * theta)) - 2 * gamma * psi)
            seen.append(-math.log1p(math.exp(-psi * theta)) - math.log(2))
        values[gamma] = seen[::20]
    assert names(history(120, value=values[0.0], d_accuracy=0.5)) == ["oscillation"]
    assert names(history(120, value=values[0.5], d_accuracy=0.5)) == ["healthy"]


@pytest.mark.parametrize("noise", [0.0, 0.005])
@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_a_model_of_few_outputs_is_a_mode_collapse(count, noise):
    """Though these differ from one another as much as data do."""
    data = splits(600, 80)
    some = np.random.default_rng(3).permutation(80)[:count]
    found = examine(Replay(data["test"][some], noise), data, 200)
    assert count == 2 or found["spread_ratio"] > 0.5
    assert 0.7 * count < found["distinct_outputs"] < 1.2 * count
    (verdict,) = [v for v in diagnose(history(loss=1.0), found) if v.name == "mode collapse"]
    assert "samples" in verdict.evidence and verdict.remedy


def test_smooth_samples_on_a_surface_are_not_a_mode_collapse():
    """A VAE's means may lie far nearer to one another than data, whose noise they lack."""

    class Surface(GenerativeModel):
        def __init__(self):
            super().__init__((1, 8, 8), 2, Floats())
            self.weight, self.axes = torch.nn.Parameter(torch.zeros(1)), torch.randn(2, 64)

        def decode(self, z, context=None):
            return (z @ self.axes).view(-1, 1, 8, 8)

    model, random = Surface(), np.random.default_rng(0)
    z = torch.as_tensor(random.normal(size=(400, 2)), dtype=torch.float32)
    noisy = (model.decode(z).numpy() + 2 * random.normal(size=(400, 1, 8, 8))).astype(np.float32)
    found = examine(model, Splits(train=Split(noisy[:300]), test=Split(noisy[300:])), 200)
    assert found["distinct_outputs"] > 50 and "mode collapse" not in names(history(loss=1.0), found)


@pytest.mark.parametrize("how", ["loss and gradient", "gradient", "not finite"])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_game_that_diverges(player, how):
    growth = np.exp(np.linspace(0, 12, 40))
    sides = {f"{kind}_{name}": 1.0 for kind in ("loss", "grad_norm") for name in ("discriminator", "generator")}
    worse = {f"loss_{player}": -growth, f"grad_norm_{player}": growth}
    if how == "gradient":
        del worse[f"loss_{player}"]
    if how == "not finite":
        worse = {f"loss_{player}": [*[1.0] * 36, *[None] * 4]}
    (verdict,) = diagnose(history(**sides | worse, value=-1.0, d_accuracy=0.6))
    assert verdict.name == "learning rate too high" and player in verdict.evidence


@pytest.mark.parametrize(
    "loss, norm",
    [
        (np.linspace(0.02, 0.5, 40), np.linspace(0.2, 4, 40)),  # a discriminator that was sure of itself at first
        (np.linspace(-0.1, 50, 40), np.full(40, 3.0)),  # Wasserstein's has no zero
        (2 + np.sin(np.arange(40)), 5 + np.sin(np.arange(40))),
    ],
)
def test_a_game_that_moves_does_not_diverge(loss, norm):
    assert names(history(loss_discriminator=loss, grad_norm_discriminator=norm)) == ["healthy"]


def test_a_game_without_a_number_is_not_a_victory():
    """Comparisons with NaN are all false, so that D seems to rank no pair rightly."""
    lost = {"loss_discriminator": None, "loss_generator": None, "value": None, "d_accuracy": 0.0}
    assert names(history(12, **lost)) == ["learning rate too high"]


def test_networks_that_have_not_grown_stopped_too_early(tmp_path):
    recipe = families.preset("progressive")
    model = triptych.ProgressiveGAN((1, 8, 8), latent_dim=4, width=4, images=100)
    for shown, grown in ((50, "4 × 4 of 8 × 8"), (150, "counts 50%"), (250, None)):
        model.grow(shown)
        found = examine(model, splits(), 40)
        assert found["full_side"] == 8
        early = [v for v in diagnose(history(loss_generator=1.0), found, recipe) if v.name == "stopped too early"]
        assert [grown in v.evidence and "--resume" in v.remedy and "--model.images" in v.remedy for v in early] == [
            True for _ in range(grown is not None)
        ]


# --- healthy runs


@pytest.mark.parametrize("family", ["vae", "glow", "dcgan", "gan"])
def test_healthy_runs_are_called_healthy(tmp_path, family):
    recipe = {
        "vae": vae(600, log_every=20),
        "glow": glow(300, log_every=10, rate=2e-3),
        "dcgan": gan(
            200, objective=GANObjective(game="relativistic", penalty="r1r2"), log_every=10, decay="cosine", rate=2e-3
        ),
        "gan": gan(
            200,
            GANModel(latent_dim=8, hidden=(64, 64), net="mlp", prior="gaussian"),
            GANObjective(game="relativistic", penalty="r1r2"),
            log_every=10,
        ),
    }[family]
    data = splits()
    found, model = trained(tmp_path / "run", recipe, data["train"])
    seen = examine(model, data, 100)
    assert names(found, seen) == (["healthy"] if seen["told_apart"] < 0.99 else ["samples unlike data"]), diagnose(
        found, seen
    )
    assert [verdict.name for verdict in diagnose(found)] == ["nothing amiss in the records"]
    looked_for = diagnose(found)[0].evidence
    assert [name in looked_for for name in ("posterior collapse", "exploding scale", "discriminator winning")] == [
        family == "vae", family == "glow", "gan" in family
    ]  # fmt: skip
    assert "memorising" not in looked_for  # which only samples show


# --- borders, by histories made up


def test_validation_is_a_remedy_of_what_has_a_likelihood():
    recipe = families.preset("vae")
    validated = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, validation=0.1))
    said = [
        diagnose(history(loss=1.0), {"nearest_ratio": 0.1}, r)[0].remedy
        for r in (recipe, validated, families.preset("dcgan"))
    ]
    assert ["--training.validation" in text for text in said] == [True, False, False]


def test_every_name_has_a_rule_and_every_rule_a_name():
    ill = {
        "learning rate too high": (history(bad_steps=9, loss=1.0), {}),
        "exploding scale": (history(sample_range=1e5, loss=1.0), {}),
        "posterior collapse": (history(kl=0.01, loss=1.0), {}),
        "mode collapse": (history(spread_ratio=0.1), {}),
        "discriminator winning": (history(d_accuracy=1.0, value=-0.001), {}),
        "generator winning": (history(d_accuracy=0.2, value=-2.0), {}),
        "oscillation": (history(60, value=[math.sin(i) for i in range(60)]), {}),
        "columns far off": (history(loss=1.0), as_numbers([Column.of("rent", np.ones((40, 1)), np.full((40, 1), 9.0))])),
        "memorising": (history(loss=1.0), {"nearest_ratio": 0.1}),
        "stopped too early": (history(loss=[-i for i in range(40)]), {}),
        "samples unlike data": (history(loss=1.0), {"told_apart": 1.0}),
    }
    assert tuple(ill) == NAMES == tuple(dict.fromkeys(rule.name for rule in RULES))
    for name, (records, samples) in ill.items():
        assert names(records, samples) == [name]
        (verdict,) = diagnose(records, samples)
        assert any(rule.looks(records, samples) for rule in RULES if rule.name == name)
        assert verdict.evidence and verdict.remedy and "\n" not in str(verdict) and str(verdict).startswith(name)


@pytest.mark.parametrize(
    "columns, samples",
    [
        ({"loss": [5 * 0.8**i for i in range(40)], "kl": 3.0}, {"active_units": 2.0, "nll_gap": 0.3, "nearest_ratio": 0.95}),
        ({"loss": 1.0, "bad_steps": 2}, {}),
        ({"d_accuracy": 1.0, "value": -0.4}, {}),  # it ranks all pairs, and is not sure
        ({"d_accuracy": 1.0, "value": 3.0}, {}),  # Wasserstein's critic is meant to be good
        ({"d_accuracy": 0.5, "value": -1.38, "spread_ratio": 0.9}, {"spread_ratio": 0.8, "copied": 0.02}),
        ({"sample_range": 20_000.0, "data_range": 5000.0, "loss": 1.0}, {}),
        ({"loss": [*[-1.0] * 5, *[0.2 * i for i in range(20)], *[4.0] * 15],  # a KL whose weight grows
          "elbo": [*[-9.0 + 0.1 * i for i in range(40)]], "kl": 4.0}, {}),
        ({"d_accuracy": None, "value": None, "spread_ratio": None, "kl": None, "elbo": None}, {}),
        ({"loss": [math.nan, *[1.0] * 39], "kl": [*[2.0] * 25, *[None] * 14, 2.0]}, {"spread_ratio": math.nan}),
    ],
)  # fmt: skip
def test_what_is_not_an_ailment(columns, samples):
    assert names(history(**columns), samples) == ["healthy"]


@pytest.mark.parametrize(
    "columns, expected",
    [
        ({"loss": [*[1.0] * 36, *[None] * 4]}, "learning rate too high"),
        ({"loss": None, "bad_steps": 0}, "learning rate too high"),
        ({"loss": [*[1 + 0.01 * (i % 2) for i in range(25)], *[9.0] * 15]}, "learning rate too high"),
        ({"sample_range": None, "loss": 1.0}, "exploding scale"),  # infinity is written as null
        ({"sample_range": [*[1.0] * 39, None], "loss": 1.0}, "exploding scale"),
    ],
)
def test_numbers_that_are_not_finite_are_seen(columns, expected):
    assert names(history(**columns)) == [expected]


@pytest.mark.parametrize("n", [32, 48, 60, 100, 400])
@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_noise_is_not_an_oscillation(n, memory):
    alarms, random = 0, np.random.default_rng(n)
    for _ in range(100):
        values = [0.0]
        for noise in random.normal(0, 1, n - 1):
            values.append(memory * values[-1] + noise)
        alarms += "oscillation" in names(history(n, value=values))
    assert alarms <= 5


@pytest.mark.parametrize("periods", [4, 7, 11])
def test_a_noisy_oscillation_is_found(periods):
    found, random = 0, np.random.default_rng(0)
    for _ in range(50):
        values = np.sin(2 * np.pi * (2 * periods * np.arange(100) / 100 + random.random())) + random.normal(0, 0.2, 100)
        found += "oscillation" in names(history(100, value=values - 1.4))
    assert found >= 48


@pytest.mark.parametrize("n", [1, 2, 3, ENOUGH - 1])
def test_few_records_are_called_few(n):
    records = history(n, loss=list(range(n, 0, -1)), value=-1.0, d_accuracy=0.6, sample_range=1.0, kl=2.0, elbo=-1.0)
    for samples in (None, {}, {"nll_gap": 0.1}):
        (verdict,) = diagnose(records, samples)
        assert verdict.name == "too early to say" and "few" in verdict.evidence


def test_verdicts_of_few_records_say_so():
    for n, each in ((3, 10), (12, 1)):  # few lines, or few steps
        records = History([{"step": each * (i + 1), "d_accuracy": 0.2, "value": -2.0} for i in range(n)])
        (verdict,) = diagnose(records)
        assert verdict.name == "generator winning" and f"few ({n}, up to step {each * n})" in verdict.remedy
    assert "few" not in str(diagnose(history(d_accuracy=0.2, value=-2.0))[0])


def test_no_records_are_not_healthy():
    assert names(History([])) == ["no records"]
    assert names(History([]), {"nearest_ratio": 0.1}) == ["memorising"]


# --- remedies


def test_remedies_are_those_that_the_run_does_not_follow_already():
    collapsed = {"spread_ratio": 0.1}

    def said(recipe, samples=collapsed, **columns):
        return diagnose(history(**columns), samples, recipe)[0].remedy

    assert "relativistic" in said(None) and "stddev-group" in said(None)
    assert "stddev-group" not in said(families.preset("gan")) and "relativistic" in said(families.preset("gan"))
    default = said(families.preset("dcgan"))
    assert "relativistic" not in default and "stddev-group" not in default and "--objective.gamma" in default
    without = gan(model=DCGANModel(stddev_group=0), objective=GANObjective(game="minimax", penalty="none"))
    assert "stddev-group" in said(without) and "gamma" not in said(without)
    copies = {"nearest_ratio": 0.1}
    assert "ada" in said(families.preset("dcgan"), copies) and "flip,shift" not in said(families.preset("dcgan"), copies)
    assert "ada" not in said(families.preset("vae"), copies) and "flip,shift" in said(families.preset("vae"), copies)
    clipped = vae(clip=1.0)
    assert "--training.clip" not in said(clipped, {}, bad_steps=50) and "--training.rate" in said(clipped, {}, bad_steps=50)


def test_every_flag_of_a_remedy_is_one(tmp_path):
    """For each family: what is named exists."""
    ill = [
        (history(bad_steps=9, kl=0.01, sample_range=1e5), {"spread_ratio": 0.1, "nearest_ratio": 0.1}),
        (history(d_accuracy=1.0, value=-0.001), {}),
        (history(d_accuracy=0.2, value=-2.0), {}),
        (history(60, value=[math.sin(i) for i in range(60)]), {}),
    ]
    for family in families.FAMILIES:
        recipe = families.preset(family)
        for records, samples in ill:
            for verdict in diagnose(records, samples, recipe):
                assert verdict.remedy
                for part, field in re.findall(r"--(model|objective|training)\.([a-z0-9-]+)", verdict.remedy):
                    assert hasattr(getattr(recipe, part), field.replace("-", "_")), (family, verdict.remedy)
    assert remedy(["set --training.clip"], vae(clip=1.0)) == "train it anew with another --seed"


# --- records


def test_records_that_a_kill_cut_short_are_read_as_far_as_they_go(tmp_path):
    lines = "".join(json.dumps({"step": i, "loss": 1.0, "kl": 0.001}) + "\n" for i in range(1, 20))
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 20, "lo')
    assert len(History.of(tmp_path).lines) == 19 and names(History.of(tmp_path)) == ["posterior collapse"]
    for content in (b"", b"\xff\xfe\x00junk", b"[1, 2]\n3\nnull\n", b'{"step": 1, "loss": "much"}\n'):
        (tmp_path / "metrics.jsonl").write_bytes(content)
        assert len(diagnose(History.of(tmp_path))) == 1


def test_a_damaged_line_costs_itself_alone(tmp_path):
    lines = [json.dumps({"step": 10 * i, "loss": 1.0, "kl": 0.001}) for i in range(1, 20)]
    lines[7], lines[9] = lines[7][:11], "3"
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (verdict,) = diagnose(History.of(tmp_path))
    assert len(History.of(tmp_path).lines) == 17
    assert verdict.name == "posterior collapse" and "2 damaged lines of metrics.jsonl skipped" in verdict.evidence


def test_a_folder_without_records_is_one_line(tmp_path):
    with pytest.raises(TriptychError, match=r"no metrics\.jsonl.*give") as error:
        History.of(tmp_path)
    assert "\n" not in str(error.value)


# --- samples


def test_a_gap_of_likelihoods_is_in_deviations_of_the_examples_that_there_are():
    """Not of as many as were asked for."""
    case = MODELS["glow-vector"]
    stored, model = case.stored(24), case.model()
    few = Splits(train=Split(stored[:12].numpy()), test=Split(stored[12:].numpy()))
    with torch.no_grad():
        new, known = (-model.log_prob(x).double() for x in (stored[12:], stored[:12]))
    for n in (12, 200):
        found = examine(model, few, n)["nll_gap"]
        assert found == pytest.approx(((new.mean() - known.mean()) / known.std()).item(), rel=1e-5)


def test_what_is_examined_depends_on_the_family():
    data = splits()
    vae_ = families.build(vae(), data["train"][:16])
    of_all = {"spread_ratio", "distinct_outputs", "nearest_ratio", "copied", "told_apart"}
    assert set(examine(vae_, data, 40)) == of_all | {"active_units", "nll_gap"}
    assert set(examine(families.build(glow(), data["train"][:16]), data, 40)) == of_all | {"nll_gap"}
    model = families.build(gan(), data["train"][:16])
    before = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state(), model.training
    assert set(examine(model, data, 40)) == of_all
    assert examine(model, data, 40) == examine(model, data, 40)
    assert set(examine(model, data, 9)) == {"copied"}  # of so few the spread is chance
    with pytest.raises(TriptychError, match=r"number of samples should be a whole number from 2 .* got 1"):
        examine(model, data, 1)
    assert all(torch.equal(v, before[0][k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before[1]) and model.training is before[2]


@pytest.mark.parametrize("held_out", [1, 2, 5])
def test_few_held_out_data_raise_no_alarm(held_out):
    data = splits(40, held_out)
    found = examine(Replay(blobs(1500, seed=2)[:]), data, 50)
    assert "nearest_ratio" not in found and names(history(loss=1.0), found) == ["healthy"]
    assert names(history(loss=1.0), examine(Replay(data["train"][:]), data, 50)) == ["memorising"]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_novel_vectors_are_not_memorised(width):
    class Normal(GenerativeModel):
        def __init__(self):
            super().__init__((width,), width, Floats())
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def decode(self, z, context=None):
            return z

    random = np.random.default_rng(0)
    for _ in range(5):
        train_, test = (Split(random.normal(size=(n, width)).astype(np.float32)) for n in (400, 60))
        data = Splits(train=train_, test=test)
        assert names(history(loss=1.0), examine(Normal(), data)) == ["healthy"]


def test_a_batch_of_one_is_not_a_collapse(tmp_path):
    data = pixels(12)
    recipe = tiny(DCGANModel(latent_dim=3, width=4, stddev_group=0), training={"batch": 1})
    train.fit(start(tmp_path / "run", recipe, data), data)
    assert "mode collapse" not in names(History.of(tmp_path / "run"))
