"""The loop, the run directory, and what happens when things go wrong."""

import dataclasses
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from resuming import interrupted_and_resumed

import triptych
from triptych import families, pretrained, recipes, storage
from triptych.data import Split
from triptych.errors import TriptychError
from triptych.families import FAMILIES
from triptych.pretrained import read_recipe
from triptych.randomness import noise_seed
from triptych.recipes import Recipe, Training, VAEModel, VAEObjective
from triptych.training import Run, checkpoint, optimisers, precision
from triptych.training import loop as train
from triptych.training.average import MovingAverage
from triptych.training.health import LASTING, SETTLED, Health, first_broken_module, skip_if
from triptych.training.recovery import ROLLBACKS


def tiny(steps=12, data="digits", given="", **training):
    settings = {"batch": 8, "log_every": 4, "save_every": 5, **training}
    model = VAEModel(latent_dim=2, net="mlp", hidden=(8,))
    return Recipe(model=model, objective=VAEObjective(), data=data, given=given, steps=steps, training=Training(**settings))


def pixels(n=64, *event):
    g = torch.Generator().manual_seed(0)
    return Split(torch.randint(0, 256, (n, *(event or (1, 6, 6))), dtype=torch.uint8, generator=g).numpy())


def labelled():
    """Pictures with a class, brighter for the higher ones, and a continuous attribute of which a few values are unknown."""
    random, digit = np.random.default_rng(0), np.arange(64) % 3
    values = random.integers(0, 60, (64, 1, 6, 6)) + 90 * digit[:, None, None, None]
    size = np.where(np.arange(64) < 5, np.nan, random.normal(3, 2, 64))
    return Split(values.astype(np.uint8), {"digit": digit, "size": size}, {"digit": "class"})


def start(folder, recipe, data, **options):
    return Run.create(folder, recipe, families.build_for(recipe, data), **options)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "steps_per_s"} for line in lines]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adamax", "adagrad", "sgd"])
@pytest.mark.parametrize("stop", [1, 5, 7])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, optimizer, stop):
    data, recipe = pixels(), tiny(optimizer=optimizer, rate=1e-3)
    whole = start(tmp_path / "whole", recipe, data)
    train.fit(whole, data)
    broken = start(tmp_path / "broken", recipe, data)
    interrupted_and_resumed(broken, data, stop)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "broken")


def test_a_rule_that_remembers_nothing_resumes(tmp_path):
    data, recipe = pixels(), tiny(optimizer="sgd", momentum=0.0, rate=1e-3)
    train.fit(start(tmp_path / "whole", recipe, data), data)
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 7)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")


@pytest.mark.parametrize(("fast", "kept"), [(True, "bf16"), (False, "float32")])
def test_the_precision_that_a_machine_chose_is_the_runs_own(tmp_path, monkeypatch, fast, kept):
    data, recipe = pixels(), tiny()
    assert recipe.training.precision == "auto"
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: fast)
    run = start(tmp_path / "run", recipe, data)
    assert run.model.bf16 == fast and not run.averaged.bf16
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: not fast)  # on another machine
    resumed = Run.resume(tmp_path / "run")
    assert resumed.model.bf16 == fast and resumed.recipe.training.precision == kept
    assert read_recipe(tmp_path / "run").training.precision == kept


def test_a_precision_that_was_asked_for_is_kept():
    for asked in ("float32", "bf16"):
        assert precision.settled(tiny(precision=asked), torch.device("cpu")).training.precision == asked


@pytest.mark.parametrize("emulated", [True, False])
def test_who_asks_for_bf16_where_it_is_emulated_is_told(tmp_path, monkeypatch, emulated):
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not emulated)
    said: list[str] = []
    train.fit(start(tmp_path / "run", tiny(steps=2, precision="bf16"), pixels()), pixels(), notice=said.append)
    assert any("emulates bf16" in line for line in said) == emulated


@pytest.mark.parametrize("optimizer", ["adam", "adamax", "sgd"])
def test_resuming_keeps_the_moments_of_channels_last_weights_in_place(tmp_path, optimizer):
    """Fused optimisers pair weights and moments by their place in memory, whatever the strides say."""
    data = pixels(64, 3, 8, 8)
    model = VAEModel(latent_dim=2, net="conv", width=4, likelihood="logistic")
    recipe = dataclasses.replace(tiny(optimizer=optimizer, rate=1e-2), model=model)
    train.fit(start(tmp_path / "whole", recipe, data), data)
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 7)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_round_end(tmp_path, monkeypatch, number):
    """The signal comes between the update of the weights and that of the step."""
    data, recipe = pixels(), tiny()
    train.fit(start(tmp_path / "whole", recipe, data), data)
    run = start(tmp_path / "broken", recipe, data)
    update = run.update_average
    monkeypatch.setattr(run, "update_average", lambda: (run.step == 6 and signal.raise_signal(number), update()))
    with pytest.raises(KeyboardInterrupt):
        train.fit(run, data)
    resumed = Run.resume(tmp_path / "broken")
    assert resumed.step == 7
    train.fit(resumed, data)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")


def test_an_interrupt_inside_a_round_saves_nothing(tmp_path, monkeypatch):
    data, recipe = pixels(), tiny()
    train.fit(start(tmp_path / "whole", recipe, data), data)
    run = start(tmp_path / "broken", recipe, data)

    def interrupt():
        if run.step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "update_average", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.fit(run, data)
    resumed = Run.resume(tmp_path / "broken")
    assert resumed.step == 5
    train.fit(resumed, data)
    assert (tmp_path / "broken" / "state" / "000000012").exists()


def test_resuming_with_other_data_is_refused(tmp_path):
    data, recipe = pixels(), tiny()
    run = start(tmp_path / "run", recipe, data)
    train.fit(run, data)
    with pytest.raises(TriptychError, match="64 training examples, now there are 63"):
        train.fit(Run.resume(tmp_path / "run", steps=20), data.take(range(63)))


@pytest.mark.parametrize("event", [(5,), (2, 9), (3, 8, 8)])
def test_floats_of_every_rank_are_trained(tmp_path, event):
    data = Split(np.random.default_rng(0).normal(size=(32, *event)).astype(np.float32))
    train.fit(start(tmp_path / "run", tiny(), data), data)
    assert metrics(tmp_path / "run")[-1]["step"] == 12


@pytest.mark.parametrize("estimator", ["A", "B", "k", "score"])
def test_every_estimator_learns(tmp_path, estimator):
    g = torch.Generator().manual_seed(0)
    data = Split((torch.rand(256, 1, 4, 4, generator=g).round() * torch.eye(4) * 255).to(torch.uint8).numpy())
    recipe = tiny(steps=300, rate=5e-3, log_every=50, save_every=300)
    recipe = dataclasses.replace(recipe, objective=VAEObjective(estimator=estimator, draws=3))
    train.fit(start(tmp_path / "run", recipe, data), data)
    losses = [line["loss"] for line in metrics(tmp_path / "run")]
    assert losses[-1] < 0.7 * losses[0]


def test_callers_random_state_and_flush_setting_are_left_alone(tmp_path):
    data, recipe = pixels(), tiny()
    run = start(tmp_path / "run", recipe, data)
    state = torch.get_rng_state()
    torch.set_flush_denormal(False)  # a command that ran here before may have set it
    train.fit(run, data)
    assert torch.equal(state, torch.get_rng_state())
    assert (torch.tensor(1e-38) * 1e-3).item() != 0  # subnormal: this thread does not flush


def test_subnormals_are_flushed_inside_the_loop(tmp_path, monkeypatch):
    data, recipe, seen = pixels(), tiny(steps=1), []
    run = start(tmp_path / "run", recipe, data)
    update = run.update_average
    monkeypatch.setattr(run, "update_average", lambda: (seen.append((torch.tensor(1e-38) * 1e-3).item()), update())[1])
    list(train.train(run, data))
    assert seen == [0.0]


@given(
    a=st.tuples(*[st.integers(0, 10**6)] * 4),
    b=st.tuples(*[st.integers(0, 10**6)] * 4),
)
def test_noise_seeds_are_a_pure_function_that_tells_coordinates_apart(a, b):
    assert noise_seed(*a) == noise_seed(*a) < 2**63
    assert (noise_seed(*a) == noise_seed(*b)) == (a == b)


@given(steps=st.integers(1, 500), warm=st.integers(0, 50), decay=st.sampled_from(["constant", "linear", "cosine"]))
def test_rates_stay_in_range_and_end_where_they_should(steps, warm, decay):
    training = Training(rate=2.0, rate_warmup=warm, decay=decay, rate_end=0.1)
    rates = [optimisers.rate_at(s, steps, training) for s in range(steps)]
    assert all(0 < r <= 2.0 for r in rates)
    if steps > max(warm, 1):
        assert rates[-1] == pytest.approx(2.0 if decay == "constant" else 0.2)


def test_the_average_forgets_its_start(tmp_path):
    """min(d, (1 + t)/(10 + t)): a short run's average follows the weights."""
    data, recipe = pixels(), tiny(steps=40, rate=0.05, decay="constant")
    run = start(tmp_path / "run", recipe, data)
    initial = [p.clone() for p in run.model.parameters()]
    train.fit(run, data)
    moved = sum((p - q).norm() for p, q in zip(run.model.parameters(), initial, strict=True))
    behind = sum((p - q).norm() for p, q in zip(run.model.parameters(), run.averaged.parameters(), strict=True))
    assert behind < 0.5 * moved


@pytest.mark.parametrize("declared", [(), ("scale",)])
def test_buffers_are_averaged_where_a_module_declares_it(declared):
    """Torch's own batch norm too: averaged weights with the newest statistics are a model that nobody trained."""

    class Scaled(torch.nn.Module):
        averaged_buffers = declared
        training_buffers = ("seen",)

        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.zeros(2))
            self.register_buffer("seen", torch.zeros(()))
            self.norm = torch.nn.BatchNorm1d(2)

        def mapping(self):
            return self

    model = Scaled()
    average = MovingAverage(model, decay=0.5)
    for name in ("scale", "seen", "norm.running_mean", "norm.num_batches_tracked"):
        model.get_buffer(name).add_(8)
    with torch.no_grad():
        model.norm.weight.add_(8)
    average.update(step=100)
    average.copy_unaveraged()
    found = {name: float(value.flatten()[0]) for name, value in average.model.state_dict().items()}
    assert found == {
        "scale": 4 if declared else 8, "seen": 0, "norm.weight": 5, "norm.bias": 0,
        "norm.running_mean": 4, "norm.running_var": 1, "norm.num_batches_tracked": 8,
    }  # fmt: skip


# --- conditions


def test_a_conditional_run_is_resumed_to_the_bit_and_learns_its_condition(tmp_path):
    data, recipe = labelled(), tiny(steps=120, given="digit,size", rate=1e-2, log_every=40, save_every=50)
    train.fit(start(tmp_path / "whole", recipe, data), data)
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 70)
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    model = triptych.load(tmp_path / "whole")
    assert model.conditions.names == ("digit", "size") and model.context_dim == 5
    shown = [model.decode(torch.zeros(1, 2), model.conditions.parse(f"digit={i}")).mean().item() for i in range(3)]
    assert shown == sorted(shown)


def test_attributes_are_hidden_at_random_and_only_in_training(tmp_path):
    data, recipe = labelled(), tiny(given="digit", hide=0.25)
    run = start(tmp_path / "run", recipe, data)
    batch = run.batches(data).at(0)
    assert batch.context.sum(1).tolist() == [1.0] * 8
    torch.manual_seed(0)
    hidden = sum(int((run.examples(batch)[1].sum(1) == 0).sum()) for _ in range(100))
    assert 150 < hidden < 250
    unconditional = start(tmp_path / "other", tiny(), data)
    assert len(unconditional.examples(unconditional.batches(data).at(0))) == 1


def test_a_missing_attribute_is_named(tmp_path):
    data, recipe = labelled(), tiny(given="digit")
    run = start(tmp_path / "run", recipe, data)
    with pytest.raises(TriptychError, match="unknown attribute 'digit'"):
        train.fit(run, pixels())


# --- bad steps


def test_bad_steps_are_skipped_without_touching_weights_or_moments():
    health, layer = Health(2), torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    for step in range(1, SETTLED + 4):
        for p in layer.parameters():
            p.grad = torch.ones_like(p)
        if step == SETTLED + 1:
            layer.bias.grad[0] = float("nan")
        if step == SETTLED + 2:
            layer.weight.grad.mul_(1e6)
        before = [p.clone() for p in layer.parameters()]
        gradients = [p.grad for p in layer.parameters()]
        bad, _ = health.judge(gradients, step)
        skip_if(bad, optimizer, gradients)
        optimizer.step()
        same = all(torch.equal(p, q) for p, q in zip(layer.parameters(), before, strict=True))
        assert same == (step in (SETTLED + 1, SETTLED + 2)) == bool(bad)
    assert (int(health.bad), int(health.streak), int(health.last_bad_step)) == (2, 0, SETTLED + 2)
    assert health.culprit() == 0


def _judged(health, norms, kind=lambda step: 0):
    return [bool(health.judge([torch.tensor([norm])], step, kind(step))[0]) for step, norm in enumerate(norms, 1)]


def test_leaps_that_last_are_a_new_level():
    health = Health(1)
    verdicts = _judged(health, [1.0] * SETTLED + [1e4] * (LASTING + 20) + [float("nan")] * 3)
    assert verdicts == [False] * SETTLED + [True] * LASTING + [False] * 20 + [True] * 3
    assert health.norm.item() == pytest.approx(1e4)


def test_leaps_now_and_then_are_never_accepted():
    norms = [1.0] * SETTLED + ([1e4] * LASTING + [1.0]) * 10
    assert sum(_judged(Health(1), norms)) == 10 * LASTING


@pytest.mark.parametrize("every", [2, 12])
def test_kinds_of_steps_are_judged_apart(every):
    """Lazily penalised steps have other gradients than the rest: large ones are no leap among themselves."""

    def kind(step):
        return int(step % every == 0)

    norms = [1e4 if kind(step) else 1.0 for step in range(1, every * (SETTLED + 20))]
    assert not any(_judged(Health(1, 2), norms, kind))
    norms[every * (SETTLED + 5) - 1] = 1e7
    assert sum(_judged(Health(1, 2), norms, kind)) == 1


def test_a_health_of_earlier_versions_is_taken_as_settled():
    health, earlier = Health(1, 2), Health(1).state_dict()
    earlier = {k: v for k, v in earlier.items() if k not in ("seen", "leaps")} | {"norm": torch.tensor(2.0)}
    health.restore(earlier)
    assert health.norm.tolist() == [2.0, 2.0] and health.seen.tolist() == [SETTLED, SETTLED]
    assert _judged(health, [1e4]) == [True]


@pytest.mark.parametrize("kind", [torch.optim.Adamax, torch.optim.SGD])
def test_other_optimisers_are_masked(kind):
    layer = torch.nn.Linear(3, 2)
    optimizer = kind(layer.parameters(), lr=0.1)
    for p in layer.parameters():
        p.grad = torch.full_like(p, float("nan"))
    before = [p.clone() for p in layer.parameters()]
    gradients = [p.grad for p in layer.parameters()]
    bad, _ = Health(2).judge(gradients, 1)
    skip_if(bad, optimizer, gradients)
    optimizer.step()
    for p, q in zip(layer.parameters(), before, strict=True):
        torch.testing.assert_close(p, q)


def test_the_first_broken_module_is_named():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = float("inf")
    assert first_broken_module(model, lambda: model(torch.ones(1, 2))) == "1"
    assert first_broken_module(torch.nn.Linear(1, 1), lambda: None) is None


def test_nan_in_training_is_named_rolled_back_and_given_up(tmp_path):
    data, recipe = pixels(), tiny(steps=400, log_every=20, save_every=20)
    run = start(tmp_path / "run", recipe, data)
    said = []

    def poison(step, _numbers):
        if step.step >= 30:
            with torch.no_grad():
                run.model.decoder[1].weight.fill_(float("nan"))

    with pytest.raises(TriptychError, match=r"does not recover .* layer .*decoder\.1"):
        train.fit(run, data, notice=said.append, watch=poison)
    assert any("bad step" in line and "decoder.1" in line for line in said)
    assert sum("rolled back" in line for line in said) == ROLLBACKS
    assert run.progress.rate_scale < 1
    good = triptych.load(tmp_path / "run")
    assert all(p.isfinite().all() for p in good.parameters())


@pytest.mark.parametrize("ema", [0.0, 0.999])
def test_broken_weights_are_never_saved(tmp_path, ema):
    data, recipe = pixels(), tiny(steps=60, log_every=20, save_every=20, ema=ema)
    run = start(tmp_path / "run", recipe, data)

    def poison(step, _numbers):
        if step.step == 30:
            with torch.no_grad():
                run.model.decoder[1].weight.fill_(float("nan"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(run, data, watch=poison)
    assert Run.resume(tmp_path / "run").step == 20
    assert all(p.isfinite().all() for p in triptych.load(tmp_path / "run").parameters())


def test_a_rollback_is_remembered_over_a_resume(tmp_path):
    data, recipe = pixels(), tiny(steps=400, log_every=20, save_every=20)
    run = start(tmp_path / "run", recipe, data)

    def poison(step, _numbers):
        if step.step >= 30:
            with torch.no_grad():
                run.model.decoder[1].weight.fill_(float("nan"))

    with pytest.raises(TriptychError):
        train.fit(run, data, notice=lambda _: None, watch=poison)
    resumed = Run.resume(tmp_path / "run")
    assert (resumed.progress.rollbacks, resumed.progress.rate_scale) == (ROLLBACKS, 0.5**ROLLBACKS)


def test_a_rollback_mends_a_passing_fault(tmp_path):
    data, recipe = pixels(), tiny(steps=100, log_every=20, save_every=20)
    run, once, said = start(tmp_path / "run", recipe, data), [], []

    def poison(step, _numbers):
        if step.step == 45 and not once:
            once.append(1)
            with torch.no_grad():
                run.model.decoder[1].weight.fill_(float("nan"))

    train.fit(run, data, notice=said.append, watch=poison)
    assert run.step == 100 and run.progress.rate_scale == 0.5
    assert [m["step"] for m in metrics(tmp_path / "run")] == [20, 40, 60, 80, 100]
    assert all(p.isfinite().all() for p in run.averaged.parameters())


def test_nan_data_are_refused_at_once(tmp_path):
    values = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
    data, recipe = Split(values), tiny()
    run = start(tmp_path / "run", recipe, data)
    data.data[3, 2] = np.nan
    with pytest.raises(TriptychError, match="NaN"):
        train.fit(run, data)


# --- the run directory


def test_a_checkpoint_is_read_and_hashed_once(finished, monkeypatch):
    calls, digest, read = [], storage.digest, checkpoint.newest
    monkeypatch.setattr(storage, "digest", lambda path: (calls.append(path.name), digest(path))[1])
    monkeypatch.setattr(checkpoint, "newest", lambda folder, **most: (calls.append("read"), read(folder, **most))[1])
    Run.resume(finished)
    assert calls == ["read", "state.safetensors"]


@pytest.fixture
def finished(tmp_path):
    data = pixels()
    train.fit(start(tmp_path / "run", tiny(), data), data)
    return tmp_path / "run"


def test_a_run_holds_no_pickle(finished):
    kinds = {p.suffix for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    assert kinds <= {".json", ".jsonl", ".safetensors", ".png", ".md"}
    assert [p.name for p in sorted((finished / "state").iterdir())] == ["000000010", "000000012"]
    for path in finished.rglob("*.safetensors"):
        assert b"\x80\x04" not in path.read_bytes()[:64]


def test_an_existing_folder_is_refused_then_replaced_on_request(finished, tmp_path):
    data = pixels()
    with pytest.raises(TriptychError, match="--resume"):
        start(finished, tiny(), data)
    start(finished, tiny(), data, overwrite=True)
    assert [p.name for p in (finished / "state").iterdir()] == ["000000000"]
    assert not list(finished.parent.glob(".*"))
    kept = weights(finished)
    with pytest.raises(TriptychError, match="needs its package"):
        start(finished, tiny(), data, overwrite=True, trackers=("no_such_tracker",))
    assert weights(finished) == kept
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(TriptychError, match="holds other things than a run"):
        start(other, tiny(), data, overwrite=True)
    assert (other / "thesis.txt").exists()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "state/000000012/state.safetensors").write_bytes(b"x" * 99), r"damaged .* delete .*000000012"),
        (lambda f: (f / "state/000000012/state.json").write_text("{"), "damaged"),
        (lambda f: (f / "state/000000012/state.json").unlink(), "damaged"),
        (lambda f: shutil.rmtree(f / "state"), "no checkpoint"),
        (lambda f: (f / "recipe.json").write_text('{"format": 99}'), "format"),
        (lambda f: (f / "recipe.json").write_text("[]"), "format"),
        (lambda f: (f / "recipe.json").unlink(), "no recipe.json"),
        (lambda f: (f / "recipe.json").write_text("x" * 2**25), "larger than 16 MiB"),
    ],
)
def test_damaged_and_foreign_checkpoints_are_named(finished, damage, message):
    damage(finished)
    with pytest.raises(TriptychError, match=message):
        Run.resume(finished)


def test_a_flipped_bit_is_noticed(finished):
    path = finished / "state/000000012/state.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(TriptychError, match="not what was written"):
        Run.resume(finished)
    shutil.rmtree(finished / "state/000000012")
    assert Run.resume(finished).step == 10


def test_damaged_models_are_named(finished):
    (finished / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(TriptychError, match="damaged or no safetensors"):
        triptych.load(finished)
    with pytest.raises(TriptychError, match="no run folder"):
        triptych.load(finished.parent / "nowhere")


def test_a_file_that_was_only_made_long_is_not_read(finished, monkeypatch):
    """2 TiB that take no room on the disk would be hashed for hours."""
    monkeypatch.setattr(storage.hashlib, "file_digest", lambda *_: pytest.fail("it was read"))
    for path in (finished / "model.safetensors", finished / "state/000000012/state.safetensors"):
        os.truncate(path, 2**41)
    with pytest.raises(TriptychError, match=r"not fully covered|IncompleteBuffer"):
        pretrained.stamp(finished)
    with pytest.raises(TriptychError, match=r"not fully covered|IncompleteBuffer"):
        Run.resume(finished)


def test_a_file_that_is_larger_than_its_model_is_not_read(finished, monkeypatch):
    """8 GiB that its header promises, and that take no room on the disk."""
    for path in (finished / "model.safetensors", finished / "state/000000012/state.safetensors"):
        header = {"decoder.0.bias": {"dtype": "F32", "shape": [2**31], "data_offsets": [0, 2**33]}}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        os.truncate(path, 8 + len(text) + 2**33)
    for read in (storage.hashlib, "file_digest"), (storage, "load_file"):
        monkeypatch.setattr(*read, lambda *_: pytest.fail("it was read"))
    with pytest.raises(TriptychError, match="does not fit its recipe: decoder"):
        pretrained.stamp(finished)
    with pytest.raises(TriptychError, match="does not fit its recipe: decoder"):
        triptych.load(finished)
    with pytest.raises(TriptychError, match="larger than 16 MiB"):
        Run.resume(finished)


def test_a_recipe_cannot_ask_for_memory_or_another_class(finished):
    stored = json.loads((finished / "recipe.json").read_text())
    stored["model"]["arguments"]["encoder"]["arguments"]["hidden"] = [60_000]
    (finished / "recipe.json").write_text(json.dumps(stored))
    with pytest.raises(TriptychError, match="does not fit"):
        triptych.load(finished)
    stored["model"]["type"] = "os.system"
    (finished / "recipe.json").write_text(json.dumps(stored))
    with pytest.raises(TriptychError, match=r"os\.system"):
        triptych.load(finished)


def test_a_failing_write_keeps_what_was_there(tmp_path, monkeypatch):
    storage.write_json(tmp_path / "a.json", {"good": 1})

    def full(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TriptychError, match="No space left"):
        storage.write_file(tmp_path / "a.json", full)
    assert storage.read_json(tmp_path / "a.json") == {"good": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_longer_run_can_be_asked_for_on_resume(finished):
    run = Run.resume(finished, steps=20)
    train.fit(run, pixels())
    assert run.step == 20 and metrics(finished)[-1]["step"] == 20
    assert Run.resume(finished).recipe.steps == 20


def test_resuming_mends_what_a_kill_left(finished):
    whole = weights(finished)
    (finished / "model.safetensors").write_bytes(b"of an older step")
    (finished / "state" / ".000000012.triptych-99999999-00c0ffee").mkdir()
    (finished / ".recipe.json.triptych-99999999-00c0ffee").write_text("half")
    Run.resume(finished)
    assert weights(finished) == whole
    assert not list(finished.rglob(".*tmp*"))


# --- recipes


def test_recipes_survive_json():
    for name, family in FAMILIES.items():
        for recipe in family.presets.values():
            stored = json.loads(json.dumps(recipes.to_json(recipe)))
            assert stored["family"] == name
            assert families.from_json(stored) == recipe


@pytest.mark.parametrize("name", FAMILIES["vae"].presets)
def test_every_preset_builds(name):
    recipe = families.preset("vae", name)
    channels = 1 if name in ("mnist", "frey") else 3
    model = families.build(recipe, torch.zeros(2, channels, 28, 20, dtype=torch.uint8))
    assert model.decode(torch.zeros(1, model.latent_dim)).shape == (1, channels, 28, 20)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"seed": 10**20},
        {"training": {"batch": 0}},
        {"training": {"rate": float("inf")}},
        {"training": {"rate_warmup": -5}},
        {"training": {"momentum": 5}},
        {"training": {"optimizer": "adma"}},
        {"objective": {"draws": 0}},
        {"objective": {"beta": float("nan")}},
        {"objective": {"estimator": "A", "free_bits": 1.0}},
        {"model": {"hidden": None}},
        {"model": {"hidden": [0]}},
        {"model": {"blocks": 20_000}},
        {"model": ["a"]},
        {"model": {"hidden": 5}},
        {"model": {"hidden": [[8]]}},
        {"family": ["vae"]},
        {"family": {}},
        {"augment": ["flip"]},
        {"augment": math.inf},
        {"given": 5},
        {"data": None},
        {"held_out": []},
        {"size": "x"},
        {"size": 10**12},
        {"steps": 10**30},
        {"steps": True},
        {"steps": 1.5},
        {"correlate": 5},
        {"correlate": [5]},
        {"training": {"decay": []}},
        {"training": {"momentum_end": "x"}},
        {"objective": []},
    ],
)
def test_recipes_refuse_nonsense(change):
    stored = recipes.to_json(tiny())
    for key, value in change.items():
        stored[key] = {**stored[key], **value} if isinstance(value, dict) and value else value
    with pytest.raises(TriptychError) as caught:
        families.from_json(stored)
    assert "\n" not in str(caught.value)


def test_a_recipe_for_more_than_the_memory_is_refused_before_it_is_built():
    recipe = dataclasses.replace(tiny(), model=VAEModel(latent_dim=2, net="mlp", hidden=(65_536,) * 64))
    with pytest.raises(TriptychError, match=r"asks for 5\.4e\+11 weights, .* this machine has"):
        families.build_for(recipe, pixels())
    large = dataclasses.replace(tiny(), training=dataclasses.replace(tiny().training, batch=10**6))
    with pytest.raises(TriptychError, match=r"a minibatch of 1000000 examples takes .* lower --training.batch"):
        families.build_for(large, Split(np.zeros((4, 3, 128, 128), np.uint8)))


def test_unknown_names_are_reported():
    with pytest.raises(TriptychError, match="unknown family 'gan2': did you mean gan"):
        families.preset("gan2")
    with pytest.raises(TriptychError, match="unknown preset of vae 'huge'"):
        families.preset("vae", "huge")
    with pytest.raises(TriptychError, match="unknown VAEModel fields depth"):
        families.from_json({"family": "vae", "model": {"depth": 3}})
    with pytest.raises(TriptychError, match="floats"):
        recipe = dataclasses.replace(tiny(), model=VAEModel(likelihood="bernoulli", mean="sigmoid"))
        families.build(recipe, torch.zeros(2, 3))
