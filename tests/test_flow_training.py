"""Flows in the loop: trained, watched, resumed to the bit, rolled back, scored, and used from the command line."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from resuming import interrupted_and_resumed

import triptych
from triptych import evaluate, families
from triptych.bijections import BatchNorm
from triptych.cli import main
from triptych.core import Estimate
from triptych.data import Split
from triptych.doctor import History, diagnose
from triptych.errors import TriptychError
from triptych.families import FAMILIES, players
from triptych.flow.watch import flow_health
from triptych.objectives.player import Player
from triptych.recipes import FlowObjective, GlowModel, NICEModel, RealNVPModel, Recipe, SpectralModel, Training
from triptych.training import Run
from triptych.training import loop as train
from triptych.training.health import first_broken_module
from triptych.training.recovery import ROLLBACKS

MODELS = {
    "nice": NICEModel(hidden=(16,)),
    "realnvp": RealNVPModel(levels=2, blocks=1, width=4),
    "glow": GlowModel(depth=2, width=8),
    "glow-variational": GlowModel(levels=1, depth=2, width=8, dequantisation="variational"),
    "glow-shuffle": GlowModel(depth=2, width=8, permutation="shuffle", coupling="additive"),
    "glow-reversible": GlowModel(depth=2, width=8, memory="reversible"),
    "spectral": SpectralModel(groups=(8, 8, 16), width=16, couplings=2, noise=0.2),
}


def tiny(name="glow", steps=12, **training):
    settings = {"batch": 8, "log_every": 4, "save_every": 5, "sample_every": 1000, **training}
    return Recipe(steps=steps, model=MODELS[name], objective=FlowObjective(), training=Training(**settings))


def pixels(n=64, *event):
    """Two kinds of smooth pictures, with noise."""
    random = np.random.default_rng(0)
    slope = np.linspace(0, 120, (event or (3, 8, 8))[-1]) * random.choice([-1, 1], n)[:, None, None, None]
    values = 128 + slope + random.normal(0, 12, (n, *(event or (3, 8, 8))))
    return Split(values.clip(0, 255).astype(np.uint8))


def floats(n=64, *event):
    """Random walks: neighbours are correlated."""
    steps = np.random.default_rng(0).normal(size=(n, *event)).astype(np.float32)
    return Split(steps.cumsum(-1) * 30 + 5)


def start(folder, recipe, data, **options):
    return Run.create(folder, recipe, families.build_for(recipe, data), **options)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "steps_per_s"} for line in lines]


# --- training


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("data", [pixels(), floats(64, 2, 8), floats(64, 6)], ids=["pixels", "sequences", "vectors"])
def test_every_flow_learns(tmp_path, name, data):
    recipe = tiny(name, steps=30, rate=3e-3)
    if not data.is_image:
        if name == "glow-variational":
            pytest.skip("floats have no bins")
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **levels(name, None)))
    run = start(tmp_path / "run", recipe, data)
    train.fit(run, data)
    lines = metrics(tmp_path / "run")
    assert lines[-1]["step"] == 30 and lines[-1]["loss"] < lines[0]["loss"] and lines[-1]["bad_steps"] == 0
    term = "bits_per_dim" if data.is_image else "nll"
    assert term in lines[-1] and {"round_trip", "sample_range"} <= set(lines[-1])
    if not data.is_image:
        assert lines[-1]["nll"] == pytest.approx(lines[-1]["loss"] * math.prod(data.event_shape) * math.log(2), rel=1e-5)
    again = triptych.load(tmp_path / "run")
    x = again.codec.encode(data[:4])
    unit = x.abs().max()
    torch.testing.assert_close(again.decode(again.encode(x)) / unit, x / unit, atol=1e-3, rtol=0)


def levels(name, value):
    return {} if name in ("nice", "spectral") else {"levels": value}


def test_the_loss_is_the_codecs_bits_per_dim():
    data, recipe = pixels(), tiny()
    model = families.build(recipe, data[:])
    (player,) = players(recipe, model).values()
    x = model.codec.encode(data[:16], torch.Generator().manual_seed(3))
    loss = player(x, 0)
    expected = evaluate.bits_per_dim(model, data[:16], generator=torch.Generator().manual_seed(3))
    assert loss.total.item() == pytest.approx(expected.value, rel=1e-6) == loss.terms["bits_per_dim"].item()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stop", [5, 7])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, name, stop):
    data, recipe = pixels(), tiny(name)
    train.fit(start(tmp_path / "whole", recipe, data), data)
    broken = start(tmp_path / "broken", recipe, data)
    interrupted_and_resumed(broken, data, stop)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "broken")


@pytest.mark.parametrize("name", MODELS)
def test_conditional_flows_resume_to_the_bit_and_use_their_condition(tmp_path, name):
    data = pixels()
    rising = data.data.mean((1, 2))[:, -1] > data.data.mean((1, 2))[:, 0]
    data = Split(data.data, {"rising": rising})
    recipe = dataclasses.replace(tiny(name, rate=1e-2), given="rising")
    train.fit(start(tmp_path / "whole", recipe, data), data)
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 7)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    model = triptych.load(tmp_path / "whole")
    x = model.codec.centre(data[:8])
    yes, no = (
        model.log_prob(x, model.conditions.parse(f"rising={w}"), generator=torch.Generator().manual_seed(0))
        for w in ("yes", "no")
    )
    assert not torch.equal(yes, no)


def test_the_fallback_to_checkpoints_is_said_once_and_survives_a_resume(tmp_path):
    data, said = pixels(), []
    recipe = dataclasses.replace(tiny("glow-reversible", steps=16), objective=FlowObjective(drift_bound=0.0))

    def modes(run):
        return {m.memory for m in run.model.modules() if hasattr(m, "memory")}

    def interrupt(step, _numbers):
        assert modes(run) == ({"reversible"} if step.step < 4 else {"checkpoint"})
        if step.step == 9:
            raise KeyboardInterrupt

    run = start(tmp_path / "whole", recipe, data)
    assert modes(run) == {"reversible"}
    train.fit(run, data)
    run = start(tmp_path / "broken", recipe, data)
    with pytest.raises(KeyboardInterrupt):
        train.fit(run, data, notice=said.append, watch=interrupt)
    assert sum("drifted" in line for line in said) == 1
    resumed = Run.resume(tmp_path / "broken")
    assert modes(resumed) == {"checkpoint"}
    train.fit(resumed, data, notice=said.append)
    assert sum("drifted" in line for line in said) == 1
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    assert [("drift" in line) for line in metrics(tmp_path / "whole")] == [True, False, False, False]


def test_before_the_first_log_a_resumed_run_is_still_reversible(tmp_path):
    """The drift is past the bound, but nothing has acted on it yet: an uninterrupted run would not have done so either."""
    data = pixels()
    recipe = dataclasses.replace(tiny("glow-reversible", steps=8), objective=FlowObjective(drift_bound=0.0))
    train.fit(start(tmp_path / "whole", recipe, data), data)
    run = start(tmp_path / "broken", recipe, data)

    def interrupt(step, _numbers):
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(run, data, watch=interrupt)
    resumed = Run.resume(tmp_path / "broken")
    assert {m.memory for m in resumed.model.modules() if hasattr(m, "memory")} == {"reversible"}
    train.fit(resumed, data)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")


@pytest.mark.parametrize("name", ["nice", "realnvp", "glow", "glow-reversible", "spectral"])
def test_nan_is_named_rolled_back_and_given_up(tmp_path, name):
    data, recipe = pixels(), tiny(name, steps=400, log_every=20, save_every=20)
    run, said = start(tmp_path / "run", recipe, data), []
    broken, parameter = list(run.model.named_parameters())[3]

    def poison(step, _numbers):
        if step.step >= 30:
            with torch.no_grad():
                parameter.fill_(float("nan"))

    with pytest.raises(TriptychError, match="does not recover") as error:
        train.fit(run, data, notice=said.append, watch=poison)
    assert f"layer model.{broken.rpartition('.')[0]} " in str(error.value)
    assert sum("rolled back" in line for line in said) == ROLLBACKS
    good = triptych.load(tmp_path / "run")
    assert all(p.isfinite().all() for p in good.state_dict().values())
    assert good.sample(2).isfinite().all()


@pytest.mark.parametrize("passing", [True, False])
@pytest.mark.parametrize("ema", [0.0, 0.999])
def test_weights_that_cannot_be_inverted_are_rolled_back(tmp_path, passing, ema):
    """They are finite, and so is log p: no step is bad, but nothing could be drawn from what would be saved."""
    data, recipe = pixels(), tiny("glow", steps=60, log_every=10, save_every=20, ema=ema)
    run, said, done = start(tmp_path / "run", recipe, data), [], []

    def squash(step, _numbers):
        if step.step == 30 and not (passing and done):
            done.append(1)
            with torch.no_grad():
                run.model.bijection.scales[0].parts[1].steps[1].mixing.log_s[0] = -40.0

    if passing:
        train.fit(run, data, notice=said.append, watch=squash)
        assert run.step == 60 and run.progress.rate_scale == 0.5
    else:
        with pytest.raises(TriptychError, match=r"does not recover .*scales\.0\.parts\.1\.steps\.1\.mixing: its matrix"):
            train.fit(run, data, notice=said.append, watch=squash)
    assert sum("rolled back to step 20" in line for line in said) == (1 if passing else ROLLBACKS)
    assert triptych.load(tmp_path / "run").sample(2).isfinite().all()
    first, *_ = diagnose(History.of(tmp_path / "run"))
    assert first.name == "learning rate too high" and "rolled back" in first.evidence
    assert all(line["bad_steps"] == 0 for line in metrics(tmp_path / "run"))


def test_a_broken_activation_names_its_network():
    """The weights are finite, the output of the network is not."""
    model = families.build(tiny("glow"), pixels()[:]).train()
    x = model.codec.encode(pixels()[:8])
    with torch.no_grad():
        model.bijection.scales[1].parts[1].steps[1].coupling.net.last.weight.fill_(3e38)
    named = first_broken_module(model, lambda: model.log_prob(x))
    assert named.startswith("bijection.scales.1.parts.1.steps.1.coupling.net")


def test_looking_for_the_culprit_leaves_running_averages_alone(tmp_path):
    model = families.build(tiny("realnvp"), pixels()[:]).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = model.codec.encode(pixels()[:8])
    assert first_broken_module(model, lambda: model.log_prob(x)) is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_fine_tuning_does_not_initialise_again(tmp_path):
    data = pixels()
    train.fit(start(tmp_path / "run", tiny(), data), data)
    from triptych.pretrained import initial_model

    model = initial_model(tmp_path / "run", (3, 8, 8))
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    run = Run.create(tmp_path / "tuned", tiny(steps=1), model)
    assert all(torch.equal(v, kept[k]) for k, v in run.model.state_dict().items())
    train.fit(run, pixels(40))


@pytest.mark.parametrize("name", MODELS)
def test_the_averaged_model_is_never_stale(tmp_path, name):
    """Inverses are kept until a parameter changes: what is sampled after every step is of the newest average."""
    data, recipe = pixels(), tiny(name, steps=5, rate=1e-2)
    run = start(tmp_path / "run", recipe, data)
    z = torch.randn(2, run.model.latent_dim, generator=torch.Generator().manual_seed(0))
    seen = []

    def look(_step, _numbers):
        fresh = type(run.averaged)(**run.averaged.arguments)
        fresh.load_state_dict(run.averaged.state_dict())
        with torch.no_grad():
            seen.append(run.averaged.decode(z))
            assert torch.equal(seen[-1], fresh.eval().decode(z))

    train.fit(run, data, watch=look)
    assert not torch.equal(seen[0], seen[-1])


def test_the_first_batch_is_a_spread_and_bounded():
    data = Split(np.arange(1000, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8), np.uint8))
    batch = families.first_batch(data)
    assert len(batch) == 256 and len(batch[:, 0, 0, 0].unique()) > 100
    assert torch.equal(batch, families.first_batch(data))
    assert len(families.first_batch(Split(np.zeros((40, 3, 256, 256), np.uint8)))) == 16


def test_building_is_a_function_of_the_seed():
    batch = pixels()[:]
    a, b, c = (families.build(dataclasses.replace(tiny(), seed=s), batch).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(
    "name, stored, message",
    [
        ("glow", torch.zeros(4, 1, 7, 7, dtype=torch.uint8), "cannot be halved even once"),
        ("glow", torch.zeros(4, 1), "one feature"),
        ("glow-variational", torch.zeros(4, 6), "dequantisation uniform"),
        ("nice", torch.zeros(4, 1), "at least 2"),
    ],
)
def test_data_that_a_flow_cannot_take_are_refused(name, stored, message):
    recipe = tiny(name)
    with pytest.raises(TriptychError, match=message):
        families.build(recipe, stored)


def test_levels_are_what_the_size_allows():
    for event, expected in (((3, 32, 32), 3), ((1, 28, 28), 2), ((3, 15, 15), 0), ((9,), 3)):
        model = families.build(tiny(), torch.rand(4, *event))
        assert model.arguments["levels"] == expected
    assert (
        families.build(
            Recipe(model=RealNVPModel(width=2, blocks=1), objective=FlowObjective()), torch.rand(4, 3, 15, 15)
        ).arguments["levels"]
        == 1
    )


# --- what is watched


def test_health_tells_where_it_hurts():
    model = families.build(tiny(), pixels()[:]).train()
    x = model.codec.encode(pixels()[:8])
    state = torch.get_rng_state()
    healthy = flow_health(model, x)
    assert torch.equal(state, torch.get_rng_state()) and model.training
    assert (
        healthy["round_trip"] < 1e-4 and healthy["sample_range"] < 10 and healthy["condition"] == pytest.approx(1, abs=0.01)
    )
    step = model.bijection.scales[0].parts[1].steps[1]
    with torch.no_grad():
        step.mixing.log_s[0] = 9.0
        step.actnorm.log_scale[2] = -5.0
    ill = flow_health(model, x)
    assert ill["condition_layer"] == "bijection.scales.0.parts.1.steps.1.mixing" and ill["condition"] > 1e3
    assert ill["scale_min_layer"] == "bijection.scales.0.parts.1.steps.1.actnorm"
    assert ill["scale_min"] == pytest.approx(math.exp(-15), rel=1e-3)
    with torch.no_grad():
        step.mixing.log_s.fill_(float("nan"))
    worst = flow_health(model, x)
    assert worst["round_trip"] == worst["sample_range"] == worst["condition"] == math.inf


def test_health_disturbs_no_running_average():
    model = families.build(tiny("realnvp"), pixels()[:]).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = flow_health(model, model.codec.encode(pixels()[:8]))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training and found["round_trip"] < 1e-3 and "condition" not in found


def test_each_remark_is_made_once_and_names_a_layer(tmp_path):
    data, said = pixels(), []
    run = start(tmp_path / "run", tiny(steps=20, rate=1e-6), data)
    with torch.no_grad():
        run.model.bijection.scales[0].parts[1].steps[0].actnorm.log_scale[0] = -6.0
    train.fit(run, data, notice=said.append)
    told = [line for line in said if "samples reach" in line]
    assert len(told) == 1 and told[0].startswith("step 4: ") and "scales.0.parts.1.steps.0.actnorm" in told[0], said


def test_watching_changes_nothing_of_the_training(tmp_path, monkeypatch):
    data, recipe = pixels(), tiny("realnvp")
    train.fit(start(tmp_path / "watched", recipe, data), data)
    alone = start(tmp_path / "alone", recipe, data)
    monkeypatch.setattr(type(alone.players["flow"]), "inspect", Player.inspect)
    train.fit(alone, data)
    assert weights(tmp_path / "watched") == weights(tmp_path / "alone")


# --- scores


def test_a_flow_is_scored_by_what_it_can_do():
    model, data = families.build(tiny(), pixels()[:]).eval(), pixels()
    found = evaluate.evaluate(model, data, images=20, draws=4)
    assert set(found) == {
        "nll", "bits_per_dim", "bits_per_dim_k4", "round_trip_p999", "round_trip_max", "bytes_recovered",
    }  # fmt: skip
    assert found["bits_per_dim_k4"].value < found["bits_per_dim"].value
    assert found["bytes_recovered"] == Estimate(1.0, 0.0, 20)
    assert 0 < found["round_trip_p999"].value <= found["round_trip_max"].value < 1e-4
    plain = evaluate.evaluate(families.build(tiny(), floats(32, 6)[:]), floats(32, 6), draws=4)
    assert set(plain) == {"nll", "round_trip_p999", "round_trip_max"}


def test_draws_of_the_noise_are_averaged_in_probability():
    """−log 1/k Σ p(x_i), against the same by hand; one draw is what it was."""
    model, stored = families.build(tiny(), pixels()[:]).eval(), pixels()[:6]
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        log_p = torch.stack([model.log_prob(model.codec.encode(stored, generator)) for _ in range(5)]).double()
    expected = -(log_p.logsumexp(0) - math.log(5)) / (192 * math.log(2)) + 8
    got = evaluate.bits_per_dim(model, stored, k=5, generator=torch.Generator().manual_seed(7))
    assert got.value == pytest.approx(expected.mean().item(), rel=1e-9)
    with pytest.raises(TriptychError, match="k should be"):
        evaluate.bits_per_dim(model, stored, k=0)


def test_a_flow_of_floats_is_passed_once_whatever_k(monkeypatch):
    model, stored, calls = families.build(tiny(), floats(32, 6)[:]).eval(), floats(32, 6)[:], []
    original = type(model).log_prob
    monkeypatch.setattr(type(model), "log_prob", lambda self, x, *c, **o: (calls.append(o), original(self, x, *c, **o))[1])
    a, b = evaluate.importance_nll(model, stored, k=1000), evaluate.importance_nll(model, stored)
    assert a == b and len(calls) == 2


# --- recipes


@pytest.mark.parametrize(
    "family, name", [(f, n) for f in ("nice", "realnvp", "glow", "spectral") for n in FAMILIES[f].presets]
)
def test_every_preset_builds(family, name):
    recipe = families.preset(family, name)
    side = {"paper-celeba": 256, "paper-imagenet64": 64, "mnist": 28, "fashion-mnist": 28, "paper-mnist": 28}.get(name, 32)
    batch = torch.zeros(2, 1 if side == 28 else 3, side, side, dtype=torch.uint8)
    with torch.device("meta"):
        model = FAMILIES[family].build(recipe, batch, 0)
    assert model.event_shape == batch.shape[1:] and model.codec.name == "dequantise"


def test_papers_presets_are_chosen_by_name_only():
    assert families.preset("glow", data="cifar10").model == GlowModel()
    assert families.preset("glow", "paper-cifar10").model.depth == 32
    assert families.preset("nice", data="mnist") == families.preset("nice", "mnist")


# --- the command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    rows, random = ["file_name,red"], np.random.default_rng(0)
    for i in range(40):
        picture = random.integers(0, 40, (16, 12, 3), dtype=np.uint8)
        picture[..., 0] += np.uint8(120 * (i % 2))
        Image.fromarray(picture).save(root / f"{i:02}.png")
        rows.append(f"{i:02}.png,{i % 2}")
    (root / "metadata.csv").write_text("\n".join(rows))
    return root


def test_the_main_job(folder, tmp_path, capsys):
    run, scores = str(tmp_path / "run"), tmp_path / "scores.json"
    words = ["train", "glow", "--data", str(folder), "--steps", "20", "--training.batch", "8", "--model.depth", "2"]
    assert main([*words, "--model.width", "8", "--training.log-every", "10", "--out", run]) == 0
    assert main(["evaluate", run, "--images", "4", "--draws", "3", "--json", str(scores)]) == 0
    numbers = json.loads(scores.read_text())
    assert {"nll", "bits_per_dim", "bits_per_dim_k3", "bytes_recovered", "round_trip_max"} <= set(numbers)
    assert numbers["round_trip_max"]["stderr"] is None and "upper bound" in capsys.readouterr().out
    assert main(["sample", run, "--n", "4", "--temperature", "0.7", "--out", str(tmp_path / "s.png")]) == 0
    assert main(["directions", run]) == 0
    pictures = [str(folder / "00.png"), str(folder / "01.png")]
    assert main(["edit", run, pictures[0], "--set", "red=1", "--out", str(tmp_path / "e.png")]) == 0
    assert main(["mix", run, *pictures, "--steps", "3", "--out", str(tmp_path / "m.png")]) == 0
    tuned = ["train", "--init", run, "--data", str(folder), "--steps", "2", "--out", str(tmp_path / "tuned")]
    assert main(tuned) == 0 and main(["train", "--resume", run, "--steps", "22"]) == 0


@pytest.mark.parametrize("family", ["nice", "realnvp", "glow", "spectral"])
def test_every_family_has_a_command_with_help(family, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", family, "--help"])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "--model.bits" in said and "--objective.sample-bound" in said and "type: ignore" not in said


def test_a_size_that_does_not_divide_is_one_line(folder, tmp_path, capsys):
    words = ["train", "glow", "--data", str(folder), "--model.levels", "3", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if line.startswith("triptych: ")]
    assert errors == said[-1:] and errors[0].startswith("triptych: levels=3") and "levels=2" in errors[0]
    assert main(["evaluate", str(tmp_path / "run"), "--draws", "0"]) == 2
    assert "--draws" in capsys.readouterr().err


def test_statistics_are_averaged_with_the_weights_they_belong_to(tmp_path):
    """Averaged weights with the newest weights' batch statistics are a model that nobody trained."""
    data = pixels()
    run = start(tmp_path / "run", tiny("realnvp", ema=0.5), data)

    def means(model):
        return [m.mean.clone() for m in model.modules() if isinstance(m, BatchNorm)]

    expected = means(run.averaged)
    for round_ in train.train(run, data):
        decay = min(0.5, round_.step / (9 + round_.step))  # (1 + t)/(10 + t) of the step before
        expected = [e * decay + m * (1 - decay) for e, m in zip(expected, means(run.model), strict=True)]
    for found, wanted in zip(means(run.averaged), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert any(not torch.equal(a, b) for a, b in zip(means(run.averaged), means(run.model), strict=True))
