"""What a checkpoint says is believed where a fresh run would have it so: hostile and damaged states are one line each."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train import metrics, pixels, start, tiny, weights

from triptych import storage
from triptych.errors import TriptychError
from triptych.training import Run
from triptych.training import loop as train

RULES = {"adam": "exp_avg_sq", "adamw": "exp_avg_sq", "adamax": "exp_inf", "adagrad": "sum", "sgd": "momentum_buffer"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    runs = {}
    for rule in RULES:
        folder, data = tmp_path_factory.mktemp(rule) / "run", pixels()
        train.fit(start(folder, tiny(optimizer=rule, sample_every=100), data), data)
        runs[rule] = folder
    return runs


def changed(run, folder, tensors=lambda t: None, numbers=lambda n: None):
    """A copy of a run whose newest checkpoint says something else, with the right digest."""
    shutil.copytree(run, folder)
    state = sorted((folder / "state").iterdir())[-1]
    found, said = load_file(state / "state.safetensors"), json.loads((state / "state.json").read_text())
    tensors(found)
    save_file({k: v.contiguous() for k, v in found.items()}, state / "state.safetensors")
    said["sha256"] = storage.digest(state / "state.safetensors")
    numbers(said)
    (state / "state.json").write_text(json.dumps(said))
    return folder


def content(run):
    return {p.relative_to(run): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}


def slot(tensors, name):
    return next(k for k in sorted(tensors) if k.startswith("optimizer.") and k.endswith(f".{name}"))


def replaced(name, make):
    def change(tensors):
        key = name if name in tensors else slot(tensors, name)
        tensors[key] = make(tensors[key])

    return change


def filled(value):
    return lambda t: torch.full_like(t, value)


TENSORS = {
    "a moment of one element": replaced("exp_avg", lambda t: t.flatten()[:1].clone()),
    "a moment of no element": replaced("exp_avg", lambda t: t.flatten()[:0].clone()),
    "a moment of whole numbers": replaced("exp_avg", lambda t: t.long()),
    "a moment of half the bytes": replaced("exp_avg", lambda t: t.half()),
    "a larger moment": replaced("exp_avg", lambda t: torch.cat([t, t])),
    "moments in another order": lambda t: t.update(
        {k: v.mT for k, v in t.items() if k.endswith(".exp_avg") and v.ndim == 2}
    ),
    "a step for each weight": replaced("step", lambda t: t.expand(3)),
    "a step of whole numbers": replaced("step", lambda t: t.long()),
    "a moment that is NaN": replaced("exp_avg", filled(math.nan)),
    "a negative square": replaced("exp_avg_sq", filled(-1.0)),
    "an infinite square": replaced("exp_avg_sq", filled(math.inf)),
    "a negative step": replaced("step", filled(-1.0)),
    "a huge step": replaced("step", filled(1e30)),
    "a step that is NaN": replaced("step", filled(math.nan)),
    "a slot that is missing": lambda t: t.pop(slot(t, "exp_avg")),
    "a slot of another rule": lambda t: t.update({"optimizer.vae.0.sum": torch.zeros(2)}),
    "a parameter too many": lambda t: t.update({"optimizer.vae.999.exp_avg": torch.zeros(2)}),
    "a negative parameter": lambda t: t.update({"optimizer.vae.-1.exp_avg": torch.zeros(2)}),
    "a parameter without a number": lambda t: t.update({"optimizer.vae.x.exp_avg": torch.zeros(2)}),
    "a player too many": lambda t: t.update({"optimizer.gan.0.exp_avg": torch.zeros(2)}),
    "a name of nothing": lambda t: t.update({"": torch.zeros(2)}),
    "a section too many": lambda t: t.update({"code.x": torch.zeros(2)}),
    "a weight of another shape": lambda t: t.update({min(k for k in t if k.startswith("weights.")): torch.zeros(1)}),
    "an average of another shape": lambda t: t.update({min(k for k in t if k.startswith("average.")): torch.zeros(1)}),
    "a weight that is NaN": lambda t: t[max(k for k in t if k.startswith("weights."))].fill_(math.nan),
    "an average that is infinite": lambda t: t[max(k for k in t if k.startswith("average."))].fill_(math.inf),
    "a missing average": lambda t: t.pop(min(k for k in t if k.startswith("average."))),
    "a health of another player": lambda t: t.update({"health.gan.norm": torch.zeros(1)}),
    "a health without a norm": lambda t: t.pop(next(k for k in t if k.endswith(".norm"))),
    "more kinds than there are": lambda t: t.update({next(k for k in t if k.endswith(".norm")): torch.zeros(9)}),
    "a norm that is NaN": lambda t: t[next(k for k in t if k.endswith(".norm"))].fill_(math.nan),
    "a negative norm": lambda t: t[next(k for k in t if k.endswith(".norm"))].fill_(-1),
    "a negative count": lambda t: t[next(k for k in t if k.endswith(".bad"))].fill_(-1),
    "a huge count": lambda t: t[next(k for k in t if k.endswith(".streak"))].fill_(2**62),
}


@pytest.mark.parametrize("what", TENSORS)
def test_a_foreign_tensor_is_named_and_nothing_is_changed(finished, tmp_path, what):
    run = changed(finished["adam"], tmp_path / "run", TENSORS[what])
    before = content(run)
    with pytest.raises(TriptychError, match=r"000000012.* (should be|holds NaN)") as caught:
        Run.resume(run)
    assert "\n" not in str(caught.value)
    assert before == content(run)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [lambda t: t.flatten()[:1].clone(), lambda t: t.long(), filled(math.nan)])
def test_every_rule_has_its_slots_checked(finished, tmp_path, rule, make):
    run = changed(finished[rule], tmp_path / "run", replaced(RULES[rule], make))
    with pytest.raises(TriptychError, match=r"should be|holds NaN"):
        Run.resume(run)


NUMBERS = [
    {"step": -1}, {"step": 11}, {"step": "12"}, {"step": 12.0}, {"step": 10**30}, {"step": True}, {"step": None},
    {"step": [[[12]]]}, {"rate_scale": "1"}, {"rate_scale": math.nan}, {"rate_scale": 1e9},
    {"rate_scale": -1}, {"rollbacks": -1}, {"rollbacks": 10**20}, {"rollbacks": {}}, {"data_size": "64"}, {"data_size": -5},
    {"data_digest": 5}, {"data_digest": "x" * 10_000}, {"begun": []}, {"begun": {"vae": -1}}, {"begun": {"vae": 13}},
    {"begun": {"vae": {"a": 1}}}, {"begun": "vae"}, {"sha256": None}, {"sha256": "0" * 64},
]  # fmt: skip


@pytest.mark.parametrize("said", NUMBERS, ids=str)
def test_a_foreign_number_is_named(finished, tmp_path, said):
    run = changed(finished["adam"], tmp_path / "run", numbers=lambda n: n.update(said))
    with pytest.raises(TriptychError, match="000000012 is damaged") as caught:
        Run.resume(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", "12", '"x"', "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, "\x00", ""]
)
def test_a_foreign_state_file_is_named(finished, tmp_path, text):
    run = changed(finished["adam"], tmp_path / "run")
    (run / "state" / "000000012" / "state.json").write_text(text)
    with pytest.raises(TriptychError, match="000000012 is damaged"):
        Run.resume(run)


def test_settings_are_the_recipes_alone(finished, tmp_path):
    """Earlier versions kept the optimiser's settings too: what a file says of them is not heard."""
    data, hostile = pixels(), {"lr": 1e9, "betas": [5, -1], "eps": 0, "weight_decay": 7, "fused": False, "maximize": True}
    groups = {"vae": [{**hostile, "params": [0]}]}
    for name, said in (("plain", {}), ("hostile", {"param_groups": groups})):
        run = Run.resume(changed(finished["adam"], tmp_path / name, numbers=lambda n, s=said: n.update(s)), steps=20)
        (group,) = run.optimizers["vae"].param_groups
        assert (group["fused"], group["maximize"], group["weight_decay"]) == (True, False, 0.0)
        train.fit(run, data)
    assert weights(tmp_path / "plain") == weights(tmp_path / "hostile")
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "hostile")
