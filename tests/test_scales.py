"""Tables of any scale: one table of data × the families, checked against models of data standardised by hand."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy import stats

import triptych
from triptych import evaluate, families
from triptych.bijections import ActNorm
from triptych.codecs import Floats
from triptych.codecs.floats import moments
from triptych.data import Split, Splits
from triptych.doctor import as_numbers, compare_columns, diagnose, examine
from triptych.doctor.columns import from_numbers
from triptych.doctor.history import History
from triptych.flow import Flow
from triptych.modes import evaluating
from triptych.pretrained import load, save_model
from triptych.training.loop import fit
from triptych.training.run import Run

SMALL = {
    "vae": {"hidden": (16,), "latent_dim": 2, "prior": "normal"},
    "gan": {"hidden": (16,), "latent_dim": 3},
    "nice": {"hidden": (16,)},
    "realnvp": {"width": 4},
    "glow": {"width": 4, "depth": 1},
    "spectral": {"width": 8, "coupling_width": 8},
}


def drawn(n=200, *event, spread, centre, seed=0):
    spread, centre = (np.reshape(v, (-1, *[1] * (len(event) - 1))) for v in (spread, centre))
    return (centre + spread * np.random.default_rng(seed).standard_normal((n, *event))).astype(np.float32)


def tailed(n=200):
    values = stats.t(1.5).rvs((n, 3), random_state=0) * [1e-3, 1, 1e5]
    return values.astype(np.float32)


CASES = {
    "scales": drawn(200, 5, spread=[1e-3, 1, 10, 911, 0.97], centre=[0, -0.06, 5.4, 5112, -0.01]),
    "constant": drawn(200, 4, spread=[0, 3, 0, 1], centre=[3, 70, 1e6, 0]),
    "far": drawn(200, 3, spread=[1, 50, 2], centre=[1e6, -1e6, 0]),
    "tails": tailed(),
    "sequence": drawn(100, 2, 6, spread=[1e-3, 911], centre=[7, 5112]),
    "pictures": drawn(60, 3, 4, 4, spread=[1e-2, 30, 4], centre=[0, 200, -70]),
}
UNIT = drawn(200, 4, spread=[0.6, 1, 1.5, 1], centre=[0.3, -0.5, 0, 0])


def recipe(family, steps=3):
    start = families.preset(family)
    training = dataclasses.replace(start.training, batch=16)
    return dataclasses.replace(
        start, model=dataclasses.replace(start.model, **SMALL[family]), steps=steps, training=training
    )


def by_hand(stored):
    """(values standardised in float64, Σ log scale of an example), by NumPy alone."""
    axes = (0, *range(2, stored.ndim))
    wide = stored.astype(np.float64)
    mean, std = wide.mean(axes, keepdims=True), wide.std(axes, keepdims=True)
    scale = np.where(std > 0, std, 1)
    noise = (std == 0).sum() * np.log(2 * np.sqrt(3))  # of constant features, whose density is not data's
    return (wide - mean) / scale, (np.log(scale).sum() - noise) * np.prod(stored.shape[2:])


@pytest.mark.parametrize("case", CASES)
def test_each_feature_is_standardised_and_comes_back(case):
    stored, codec = torch.from_numpy(CASES[case]), Floats()
    codec.fit(stored.split(37))
    expected, log_scale = by_hand(CASES[case])
    x = codec.centre(stored)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert codec.log_scale(stored.shape[1:]) == pytest.approx(log_scale, rel=1e-9)
    torch.testing.assert_close(codec.decode(x), stored, rtol=2.5e-7, atol=1e-6 * float(stored.std()))
    again = Floats()
    again.restore(json.loads(json.dumps(codec.fitted())))
    assert torch.equal(again.centre(stored), x) and again.noisy == codec.noisy == (case == "constant")


def test_values_near_unit_scale_are_read_bit_by_bit():
    codec, stored = Floats(), torch.from_numpy(UNIT)
    codec.fit([stored])
    assert codec.fitted() == {} and codec.encode(stored) is stored and not codec.remarks((4,))


def test_a_constant_column_is_named_and_its_spread_is_exactly_0():
    codec = Floats()
    codec.fit([torch.from_numpy(CASES["constant"])])
    assert codec.constant == (0, 2)
    said = codec.remarks((4,), ("age", "rent", "id", "x"))["constant"]
    assert "age (3), id (1e+06)" in said and "samples keep it" in said
    assert moments([torch.full((10**5, 1), 0.1), torch.full((7, 1), 0.1)])[1].item() == 0


def test_a_constant_column_is_kept_and_left_out_of_likelihoods():
    """Its noise has mean 0 and variance 1; a density of exactly that noise leaves those of the other columns."""
    stored, codec = torch.from_numpy(np.tile(CASES["constant"], (50, 1))), Floats()
    codec.fit([stored])
    x = codec.encode(stored, torch.Generator().manual_seed(0))
    torch.testing.assert_close(codec.decode(x), stored)
    assert torch.equal(codec.decode(torch.randn(9, 4))[:, [0, 2]], torch.tensor([[3.0, 1e6]]).expand(9, 2))
    noise = x[:, [0, 2]]
    assert noise.abs().max() <= 3**0.5 and noise.mean().abs() < 0.03 and (noise.var() - 1).abs() < 0.03
    log_noise = stats.uniform(-(3**0.5), 2 * 3**0.5).logpdf(noise.numpy()).sum(1)
    others = Floats()
    others.fit([stored[:, [1, 3]]])
    np.testing.assert_allclose(log_noise - codec.log_scale((4,)), -others.log_scale((2,)), rtol=1e-6)
    near = torch.cat([torch.from_numpy(UNIT), torch.full((len(UNIT), 1), 7.0)], 1)
    codec = Floats()
    codec.fit([near])  # the others stay as they are, bit by bit
    assert torch.equal(codec.encode(near)[:, :4], near[:, :4]) and torch.equal(codec.decode(codec.encode(near)), near)


@pytest.mark.parametrize("family", SMALL)
def test_every_family_trains_with_a_constant_column(family):
    model = trained(recipe(family, 4), Split(CASES["constant"]))
    with evaluating(model):
        samples = model.codec.decode(model.sample(40))
        assert (samples[:, 0] == 3).all() and (samples[:, 2] == 1e6).all() and samples.isfinite().all()
        if family != "gan":
            assert evaluate.statistics(model, torch.from_numpy(CASES["constant"]))["log_prob"].isfinite().all()


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("case", ["scales", "far"])
def test_a_model_is_that_of_data_standardised_by_hand(case, family):
    stored = CASES[case]
    x, log_scale = by_hand(stored)
    inside, outside = (
        trained(recipe(family), Split(values)) for values in (stored, Floats().encode(torch.from_numpy(x).float()).numpy())
    )
    assert not outside.codec.fitted()
    noise = [torch.Generator().manual_seed(0) for _ in range(4)]
    with evaluating(inside), evaluating(outside):
        a, b = (
            m.codec.decode(m.sample(50, generator=g)).double().numpy()
            for m, g in zip((inside, outside), noise, strict=False)
        )
        wide = stored.astype(np.float64)
        rounding = np.spacing(np.abs(stored).max(0)) / wide.std(0)  # of stored float32 values, in standard deviations
        assert (np.abs((a - wide.mean(0)) / wide.std(0) - b) <= rounding + 1e-5 * (1 + np.abs(b))).all()
        if family != "gan":
            ours = -evaluate.likelihood.negative_log_prob(inside, torch.from_numpy(stored[:20]), k=2, generator=noise[2])
            theirs = -evaluate.likelihood.negative_log_prob(
                outside, torch.from_numpy(x[:20]).float(), k=2, generator=noise[3]
            )
            np.testing.assert_allclose(ours, theirs - log_scale, rtol=1e-5, atol=1e-4)


def trained(asked, data, folder=None):
    """The model after the recipe's few steps, without the files of a run where no folder is given."""
    model = families.build_for(asked, data).train()
    players = families.players(asked, model)
    generator = torch.Generator().manual_seed(0)
    for step in range(asked.steps):
        rows = torch.randint(len(data), (16,), generator=generator)
        for player in players.values():
            optimizer = torch.optim.SGD([p for p in player.parameters() if p.requires_grad], 1e-4)
            with triptych.randomness.seeded(step):
                loss = player(model.codec.encode(data[rows.numpy()]), step).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def test_a_gaussian_has_the_density_that_scipy_gives():
    stored = torch.from_numpy(CASES["scales"])
    model = Flow((5,), ActNorm(5), Floats())
    model.codec.fit([stored])
    model.initialize(model.codec.encode(stored))
    found = evaluate.statistics(model.eval(), stored)["log_prob"]
    wide = stored.double().numpy()
    expected = stats.norm(wide.mean(0), wide.std(0)).logpdf(wide).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", SMALL)
def test_a_run_keeps_its_scale(family, tmp_path):
    data, said = Split(CASES["constant"], columns=("a", "b", "c", "d")), []
    run = Run.create(tmp_path / "run", recipe(family, 2), families.build_for(recipe(family, 2), data))
    fit(run, data, notice=said.append)
    assert any("standardised inside" in line for line in said) and any("a (3), c (1e+06)" in line for line in said)
    for loaded in (load(tmp_path / "run"), Run.resume(tmp_path / "run").model, run.averaged):
        assert loaded.codec.fitted() == run.model.codec.fitted() != {}
    found = load(tmp_path / "run")
    samples = found.codec.decode(found.sample(100, generator=torch.Generator().manual_seed(0)))
    assert (samples[:, 2] - 1e6).abs().max() < 1e3 and (samples[:, 1] - 70).abs().mean() < 20
    if family == "vae":
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert lines[-1]["elbo"] == pytest.approx(-lines[-1]["loss"], rel=1e-5)
        stored = torch.from_numpy(data.data)
        nll = evaluate.likelihood.importance_nll(found, stored, k=50, generator=torch.Generator().manual_seed(0))
        assert -120 < evaluate.elbo(found, stored)["elbo"].value + nll.value < 1


def test_a_damaged_scale_is_refused(tmp_path):
    model = families.build(recipe("nice"), torch.from_numpy(CASES["scales"]))
    save_model(model, tmp_path)
    stored = json.loads((tmp_path / "recipe.json").read_text())
    stored["fitted"]["scale"][0] = -1
    (tmp_path / "recipe.json").write_text(json.dumps(stored))
    with pytest.raises(triptych.errors.TriptychError, match="each scale above 0"):
        load(tmp_path)


class Draws(Flow):
    """Samples that are given, in stored coordinates."""

    def __init__(self, rows):
        super().__init__(rows.shape[1:], ActNorm(rows.shape[1]), Floats())
        self.rows = torch.from_numpy(rows)

    def sample(self, n, **_):
        return self.rows[:n]


def test_the_doctor_names_columns_that_are_far_off():
    data, rows = Split(CASES["scales"], columns=tuple("abcde")), drawn(200, 5, spread=1, centre=3, seed=1)
    found = compare_columns(Draws(rows), data)
    assert len(found) == 3 and found[0].name == "a" and found[0].distance.value > 1000
    expected = stats.wasserstein_distance(rows[:, 3], data.data[:, 3]) / data.data[:, 3].std()
    assert {c.name: c for c in found}["d"].distance.value == pytest.approx(expected, rel=0.02)
    assert from_numbers(as_numbers(found)) == found
    (verdict,) = diagnose(History([{"step": 1}]), as_numbers(found))
    assert verdict.name == "columns far off" and "off in a by" in verdict.evidence
    assert f"data {data.data[:, 3].mean():.4g}" in verdict.evidence
    near = drawn(200, 5, spread=[1e-3, 1, 10, 911, 0.97], centre=[0, -0.06, 5.4, 5112, -0.01], seed=2)
    assert all(c.distance.value < 0.3 for c in compare_columns(Draws(near), data))
    assert compare_columns(Draws(rows), Split(np.zeros((4, 1, 2, 2), np.uint8))) == []


def test_distances_do_not_depend_on_the_units_of_columns():
    train, test, rows = (drawn(200, 5, spread=1, centre=0, seed=s) for s in range(3))
    plain, scaled = (measured(rows * u, test * u, train * u) for u in (1, UNITS))
    assert scaled["fid"].value == pytest.approx(plain["fid"].value, abs=0.05)
    assert scaled["precision"].value == pytest.approx(plain["precision"].value, abs=0.1)
    model = families.build(recipe("nice"), torch.from_numpy(train * UNITS)).eval()
    found = examine(model, Splits(train=Split(train * UNITS), test=Split(test * UNITS)), 60)
    assert 0.5 < found["spread_ratio"] < 3 and len(from_numbers(found)) == 3


UNITS = np.array([1e-3, 1, 1e4, 7, 1], np.float32)


def measured(rows, test, train):
    seen = evaluate.features("pixels", Split(train))
    return evaluate.sample_quality(Draws(rows), Split(test), Split(train), seen, n=100).measures
