"""Runs that earlier versions wrote (recipe.json of format 1, in tests/format1) load with the same outputs, and go on.

The files were written on another processor, and processors sum in different orders: equal is up to float32's rounding.
"""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import triptych
from triptych.capabilities import Encodes
from triptych.data import load
from triptych.families import FAMILIES, from_json
from triptych.pretrained import FORMAT, read_description, read_recipe
from triptych.training import fit
from triptych.training.run import Run

OLD = sorted((Path(__file__).parent / "format1").iterdir())


def close(x, y):
    return bool(are_close(x, y).all())


def are_close(x, y):
    return torch.isclose(x, y, rtol=1e-4, atol=1e-5 * max(1.0, float(y.abs().max())))


@pytest.mark.parametrize("folder", OLD, ids=lambda f: f.name)
def test_outputs_are_the_same(folder):
    model, expected = triptych.load(folder), load_file(folder / "expected.safetensors")
    held, stored = model.state_dict(), load_file(folder / "model.safetensors")
    assert held.keys() == stored.keys() and all(torch.equal(held[name], stored[name]) for name in held)
    x = model.sample(3, generator=torch.Generator().manual_seed(1))
    assert close(x, expected["sample"])
    if isinstance(model, Encodes):
        assert close(model.encode(x), expected["encode"])
    if "log_prob" in expected:
        assert close(model.log_prob(x), expected["log_prob"])
    if "logits" in expected:
        assert close(model.logits(x), expected["logits"])
    assert read_recipe(folder).family in FAMILIES and model.conditions is None


@pytest.mark.parametrize("folder", [f for f in OLD if (f / "state").exists()], ids=lambda f: f.name)
def test_training_goes_on_to_the_same_weights(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    resumed = Run.resume(run)
    assert resumed.step == 2 and read_description(run)["format"] == FORMAT
    recipe = resumed.recipe
    fit(
        resumed,
        load(recipe.data, size=recipe.size, seed=recipe.seed, held_out=recipe.held_out).train,
        notice=lambda line: None,
    )
    weights, expected = load_file(run / "model.safetensors"), load_file(folder / "model.safetensors")
    assert weights.keys() == expected.keys()
    near = torch.cat([are_close(weights[name], expected[name]).flatten() for name in weights])
    # Adam divides by a gradient's size: where that is rounding, which other processors do otherwise, a weight moves by some
    far = max(float((weights[name] - expected[name]).abs().max()) for name in weights)
    assert near.all() or (int((~near).sum()) <= 2 and far < 0.1 * recipe.training.rate)


def test_correlated_faces_are_a_name_of_the_data_now():
    stored = {"family": "nice", "data": "faces", "correlate": ["hair_length:beard:-0.9", "smile:age:0.5"]}
    assert from_json(stored).data == "faces?hair_length:beard=-0.9&smile:age=0.5"
