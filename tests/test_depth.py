"""Flows edited at every depth: exact codes, directions that know theirs, and a reader that judges them all alike."""

import functools
import json

import numpy as np
import pytest
import torch
from cases import MODELS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_flow_layers import EXACT, every_case, prepared

import triptych
from triptych import edit
from triptych.bijections import ActNorm, Chain, Flatten, InvertibleLU, Squeeze
from triptych.capabilities import Layered
from triptych.cli import main
from triptych.errors import NotSupported, TriptychError

FLOWS = [name for name, case in MODELS.items() if isinstance(case.model(), Layered)]


def flow_and_data(name):
    case, generator = MODELS[name], torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = case.model().eval()
    x = model.codec.centre(case.stored(4))
    return model, x, torch.randn(4, model.context_dim, generator=generator) if model.context_dim else None


@pytest.mark.parametrize("name", FLOWS)
def test_every_depth_gives_everything_back(name):
    model, x, context = flow_and_data(name)
    last = model.count_layers()
    within = 1 / 256 if "variational" in name else 1e-4  # noise near a level's end is moved, within its level
    with torch.no_grad():
        codes = [edit.AtDepth(model, k).encode(x, context) for k in range(last + 1)]
        for k, h in enumerate(codes):
            assert h.shape == (4, model.latent_dim)
            back = edit.AtDepth(model, k).decode(h, context)
            torch.testing.assert_close(back, x, atol=within, rtol=1e-4)
            assert torch.equal(model.codec.decode(back), model.codec.decode(x)) or not model.codec.is_picture
        assert torch.equal(codes[0], x.flatten(1))
        torch.testing.assert_close(codes[-1], model.encode(x, context))


@every_case
@settings(max_examples=1, derandomize=True, deadline=None)
@given(data=st.data(), batch=st.just(2), seed=st.integers(0, 99))
def test_a_bijection_is_its_layers_one_after_another(name, data, batch, seed):
    """Cut at every place, with the rest the whole again; the shape of what comes out is what the bijection says."""
    layer, x, shape, c = prepared(name, data, batch, seed)
    z, ladj = layer(x, *c)
    assert layer.image_shape(shape) == tuple(z.shape[1:])
    for k in range(layer.count_layers() + 1):
        first = layer.truncated(k, shape).eval()
        h, _ = first(x, *c)
        assert first.count_layers() == k and first.image_shape(shape) == tuple(h.shape[1:])
        torch.testing.assert_close(first.inverse(h, *c), x, **EXACT)
        assert {id(p) for p in first.parameters()} <= {id(p) for p in layer.parameters()}
    torch.testing.assert_close(first(x, *c), (z, ladj), **EXACT)


def test_a_chain_is_cut_where_shapes_change():
    chain = Chain([Squeeze(), Chain([ActNorm(4), InvertibleLU(4)]), Flatten((4, 2, 2))])
    chain.initialize(torch.randn(8, 1, 4, 4))
    assert chain.count_layers() == 4 and chain.image_shape((1, 4, 4)) == (16,)
    assert [chain.truncated(k, (1, 4, 4)).image_shape((1, 4, 4)) for k in range(5)] == [(1, 4, 4), *[(4, 2, 2)] * 3, (16,)]


def test_depths_that_are_not_there_are_refused():
    model, _, _ = flow_and_data("glow-colour")
    with pytest.raises(TriptychError, match="0 to 12"):
        edit.AtDepth(model, 13)
    with pytest.raises(NotSupported, match="leave the depth out"):
        edit.AtDepth(MODELS["vae-mlp-gaussian"].model(), 1)


def faces_flow(n=300):
    """A small flow of drawn faces, and directions of two attributes at depth 5."""
    splits = triptych.data.load("faces", size=16, n=2 * n)
    torch.manual_seed(0)
    model = triptych.Glow((3, 16, 16), levels=2, depth=3, width=8)
    model.initialize(model.codec.centre(splits.train[:64]))
    return model.eval(), splits.train, {name: splits.train.attributes[name] for name in ("smile", "age")}


def test_directions_move_at_the_depth_that_they_were_learned_at(tmp_path):
    model, train, attributes = faces_flow()
    found = edit.learn_directions(edit.AtDepth(model, 5), train[:], attributes)
    found.save(tmp_path)
    again = edit.Directions.load(tmp_path)
    assert found.depth == again.depth == 5
    x, values = model.codec.centre(train[:3]), {"smile": 1.5}
    expected = edit.apply(edit.AtDepth(model, 5), x, values, found)
    for whole in (model, edit.AtDepth(model, 5), edit.AtDepth(model, 2)):
        torch.testing.assert_close(edit.apply(whole, x, values, again), expected, atol=1e-6, rtol=0)
    read = found["smile"].coordinate(edit.AtDepth(model, 5).encode(expected))
    torch.testing.assert_close(read, torch.full((3,), 1.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(edit.apply(model, x, {"smile": "+0"}, again), x, atol=1e-5, rtol=0)
    assert edit.sweep(model, x, "smile", [0.0, 1.0], again).shape == (3, 2, 3, 16, 16)
    judged = edit.judge(model, again, train[:50], {name: a[:50] for name, a in attributes.items()})
    assert judged.depth == 5 and judged["smile"].judged["share"] == pytest.approx(1, abs=0.01)
    in_z = edit.learn_directions(model, train[:], attributes)
    assert in_z.depth is None and (in_z["smile"].normal - found["smile"].normal).abs().max() > 1e-4


def test_the_last_depth_is_z_and_the_first_is_the_picture():
    model, train, attributes = faces_flow()
    x, last = model.codec.centre(train[:3]), model.count_layers()
    by_z, by_last = (edit.learn_directions(m, train[:], attributes) for m in (model, edit.AtDepth(model, last)))
    moved = [edit.apply(model, x, {"age": 50.0}, found) for found in (by_z, by_last)]
    torch.testing.assert_close(*moved, atol=1e-5, rtol=0)
    pixels = edit.learn_directions(edit.AtDepth(model, 0), train[:], attributes)
    change = edit.apply(model, x, {"age": "+10"}, pixels) - x
    torch.testing.assert_close(change.flatten(1), 10 * pixels["age"].step.expand(3, -1), atol=1e-5, rtol=1e-4)


def test_directions_without_a_depth_are_of_z(tmp_path):
    """As those stored by earlier versions."""
    model, train, attributes = faces_flow()
    edit.learn_directions(model, train[:], attributes).save(tmp_path)
    stored = json.loads((tmp_path / "directions.json").read_text())
    for direction in stored["directions"].values():
        del direction["depth"]
    (tmp_path / "directions.json").write_text(json.dumps(stored))
    assert edit.Directions.load(tmp_path).depth is None
    (tmp_path / "directions.json").write_text(json.dumps({**stored, "depth": 5}))
    assert edit.Directions.load(tmp_path).depth == 5
    (tmp_path / "directions.json").write_text(json.dumps({**stored, "depth": "deep"}))
    with pytest.raises(TriptychError, match="learn them again"):
        edit.Directions.load(tmp_path)


def test_samples_and_files_at_a_depth_are_the_flows(tmp_path):
    model, _, _ = faces_flow()
    part = edit.AtDepth(model, 4)
    drawn = [m.sample(2, generator=torch.Generator().manual_seed(0)) for m in (model, part)]
    assert torch.equal(*drawn)
    part.save_pretrained(tmp_path / "saved")
    assert type(triptych.load(tmp_path / "saved")) is triptych.Glow


def blots(n, seed=0):
    """Pictures whose brightness is a number, and whose corner is lit or not, with both as attributes."""
    g = np.random.default_rng(seed)
    light, lit = g.uniform(0, 1, n), g.integers(0, 2, n)
    pictures = np.tile((light * 200)[:, None, None, None], (1, 1, 8, 8)) + g.normal(0, 5, (n, 1, 8, 8))
    pictures[:, :, :3, :3] += 50.0 * lit[:, None, None, None]
    stored = torch.from_numpy(pictures.clip(0, 255).astype(np.uint8))
    return stored, {"light": light, "lit": lit.astype(float), "luck": g.normal(size=n)}


def test_a_reader_reads_what_can_be_read():
    stored, attributes = blots(2000)
    attributes["light"][::7] = np.nan
    reader = edit.learn_reader(stored, attributes, steps=300)
    new, truth = blots(500, seed=1)
    read = reader(new)
    assert set(read) == {"light", "lit"}
    assert np.abs(read["light"].numpy() - truth["light"]).mean() < 0.05
    for value, centre in ((0, -1.0), (1, 1.0)):
        assert read["lit"][truth["lit"] == value].mean().item() == pytest.approx(centre, abs=0.25)
    with pytest.raises(TriptychError, match="more are needed"):
        edit.learn_reader(stored, {"luck": attributes["luck"]}, steps=50)


def test_a_reader_judges_shares_and_leakage():
    """At depth 0 a flow's edits are sums of pictures, which move exactly these attributes."""
    stored, attributes = blots(2000)
    known = {name: attributes[name] for name in ("light", "lit")}
    reader = edit.learn_reader(stored, known, steps=300)
    model = triptych.Glow((1, 8, 8), levels=1, depth=2, width=8)
    model.initialize(model.codec.centre(stored[:64]))
    held_out, truth = blots(200, seed=1)

    def learn(part):
        return edit.judge(part, edit.learn_directions(part, stored, known), held_out, truth, reader=reader)

    found = edit.learn_at_depths(model.eval(), learn, depths=[0, 1])
    assert list(found) == [0, 1]
    for depth, directions in found.items():
        assert directions.depth == depth
        assert directions["light"].judged["share"] == pytest.approx(1, abs=0.1)
        assert directions["lit"].judged["share"] == pytest.approx(1, abs=0.2)
        assert abs(directions["lit"].judged["leakage"]["light"]) < 0.2
    assert set(edit.learn_at_depths(model, lambda part: edit.Directions().at(part.depth))) == {1, 2, 4}


def judged_at(depth, **effects):
    """Directions with a share and a leakage each."""
    found = edit.Directions().at(depth)
    for name, (share, leakage) in effects.items():
        judged = {"leakage": {"other": leakage, "third": 0.0}} | ({} if share is None else {"share": share})
        vector = torch.ones(2)
        found[name] = edit.Direction(name, "continuous", vector, 0.0, 1.0, vector, judged=judged)
    return found


def test_the_straightest_depth_leaks_least_for_what_it_moves():
    found = {
        0: judged_at(0, smile=(0.1, 0.05), age=(0.2, -0.1)),  # leaks little, and moves less
        4: judged_at(4, smile=(0.8, -0.1), age=(1.0, 0.1), luck=(None, 9.0)),
        8: judged_at(8, smile=(0.9, 0.3), age=(1.0, 0.3)),
    }
    measured = edit.straightness(found[4])
    assert measured.share == pytest.approx(0.9) and measured.leakage == pytest.approx(0.1)
    assert measured.ratio == pytest.approx((0.11 / 0.8 + 0.11) / 2)
    assert edit.straightest(found) == 4
    assert edit.straightest({0: judged_at(0, smile=(0.0, 0.0)), 4: judged_at(4, smile=(0.9, 0.0))}) == 4  # both leak nothing
    with pytest.raises(TriptychError, match="judge them first"):
        edit.straightness(edit.Directions())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small Glow of a folder of blots."""
    root, out = tmp_path_factory.mktemp("blots"), tmp_path_factory.mktemp("runs") / "glow"
    stored, attributes = blots(300)
    for i, picture in enumerate(stored):
        Image.fromarray(picture[0].numpy()).save(root / f"{i:03}.png")
    columns = [attributes[name] for name in ("light", "lit", "luck")]
    rows = [",".join([f"{i:03}.png", *(str(column[i]) for column in columns)]) for i in range(len(stored))]
    (root / "metadata.csv").write_text("\n".join(["file_name,light,lit,luck", *rows]))
    words = ["--steps", "3", "--model.depth", "2", "--model.width", "8", "--out", str(out)]
    assert main(["train", "glow", "--data", str(root), *words]) == 0
    return out, str(root / "000.png")


def test_directions_at_a_depth_from_the_command_line(run, tmp_path, capsys, monkeypatch):
    folder, picture = run
    monkeypatch.setattr(edit, "learn_reader", functools.partial(edit.learn_reader, steps=200))
    for asked, known in (("2", {2}), ("auto", {2, 3, 6, 12})):
        told = tmp_path / "told.json"
        assert main(["directions", str(folder), "--depth", asked, "--json", str(told)]) == 0
        found = edit.Directions.load(folder)
        assert found.depth in known and f"at depth {found.depth}" in capsys.readouterr().out
        assert {"share", "leakage"} <= set(json.loads(told.read_text())["light"])
        assert main(["edit", str(folder), picture, "--set", "lit=1", "--out", str(tmp_path / "lit.png")]) == 0
    assert main(["directions", str(folder), "--depth", "3", "--unsupervised", "2"]) == 0
    both = edit.Directions.load(folder)
    assert list(both) == ["light", "lit", "luck", "pc1", "pc2"] and both["pc1"].depth == 3
    capsys.readouterr()
    assert main(["directions", str(folder), "--depth", "z"]) == 0
    assert edit.Directions.load(folder)["light"].depth is None and "kept: pc1, pc2" in capsys.readouterr().out
    words = ["edit", str(folder), picture, "--set", "lit=1", "--set", "pc1=1", "--out", str(tmp_path / "both.png")]
    assert main(words) == 0  # at two depths, one after the other
    assert main(["directions", str(folder)]) == 0
    assert edit.Directions.load(folder)["light"].depth is not None
    capsys.readouterr()
    assert main(["directions", str(folder), "--attributes", "luck"]) == 0  # nothing can read it: z, as for other models
    assert edit.Directions.load(folder)["luck"].depth is None and "more are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--depth", "99"], "0 to"),
        (["--depth", "deep"], "auto, z or a number"),
        (["--depth", "auto", "--unsupervised", "2"], "by attributes"),
    ],
)
def test_depths_that_make_no_sense_are_refused_in_one_line(run, words, said, capsys):
    capsys.readouterr()
    assert main(["directions", str(run[0]), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("triptych: ") and error.count("\n") == 1 and said in error
