"""`triptych edit` of a folder of pictures, and of pictures beside their reconstructions, for every family."""

import functools
import json
import os

import numpy as np
import pytest
import studio_runs
import torch
from PIL import Image
from studio_runs import SIZE, conditional, flow, vae

import triptych
from triptych import edit, gan
from triptych.cli import main
from triptych.edit import folder as folders
from triptych.edit import inversion
from triptych.errors import TriptychError
from triptych.figures import read_picture


def plain_gan():
    return triptych.GAN(SIZE, 4, generator=gan.MLPGenerator(4, SIZE, hidden=(8,)))


def save_run(make, out):
    """An untrained run with two principal components, and a GAN's encoder."""

    def inverting(model, stored):
        encoder = edit.learn_encoder(model, data=stored, steps=2, batch=4)
        inversion.save_encoder(encoder, out)
        return edit.Inverting(model, encoder)

    return studio_runs.save_run(make, out, 2, inverting if make is plain_gan else None)


@pytest.fixture
def run(tmp_path):
    return save_run(vae, tmp_path / "run")


@pytest.fixture
def photos(tmp_path):
    """Seven pictures of several formats and sizes, two of them in a subfolder, a broken one, and a note."""
    root, random = tmp_path / "photos", np.random.default_rng(0)
    (root / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "c.webp", "d.bmp", "e.png", "more/a.png", "more/f.gif")):
        Image.fromarray(random.integers(0, 256, (16 + i, 20, 3), dtype=np.uint8)).save(root / name)
    (root / "broken.png").write_bytes((root / "a.png").read_bytes()[:80])
    (root / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(folders, "_MOST", 3)
    monkeypatch.setattr(inversion, "invert", functools.partial(_limited, inversion.invert))


def _limited(invert, model, x, **options):
    return invert(model, x, **{**options, "steps": 4})


def edits(run, photos, out, *words):
    return main(["edit", str(run), str(photos), *(words or ("--set", "pc1=1.5")), "--out", str(out)])


def written(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def refused(capsys, *words):
    capsys.readouterr()
    assert main([*words]) == 2
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert last.startswith("triptych: ") and "Traceback" not in said
    return last


@pytest.mark.parametrize("make", [vae, flow, plain_gan])
def test_a_folder_is_edited_under_its_own_names(make, photos, tmp_path, capsys):
    run, out = save_run(make, tmp_path / "run"), tmp_path / "out"
    assert edits(run, photos, out) == 0
    said = capsys.readouterr()
    assert "7 pictures edited, 1 left aside" in said.out and "per second" in said.out and "broken.png" in said.err
    names = {"a.png", "b.jpg", "c.webp", "d.bmp", "e.png", "more/a.png", "more/f.gif"}
    assert set(written(out)) == names | {"edits.json"}
    assert main(["edit", str(run), str(photos / "a.png"), "--set", "pc1=1.5", "--out", str(tmp_path / "a.png")]) == 0
    alone, among = (read_picture(path, SIZE).int() for path in (tmp_path / "a.png", out / "a.png"))
    assert (alone - among).abs().max() <= 1  # sums of other batches round otherwise
    with Image.open(out / "b.jpg") as picture:
        assert picture.size == (16, 16) and picture.format == "JPEG"


def test_conditions_are_edits_too(photos, tmp_path):
    run = save_run(conditional, tmp_path / "run")
    outs = [tmp_path / value for value in ("yes", "no")]
    for out in outs:
        assert edits(run, photos, out, "--given", f"glasses={out.name}", "--known", "glasses=no") == 0
    yes, no = (written(out) for out in outs)
    assert yes.keys() == no.keys() and yes["a.png"] != no["a.png"]
    assert edits(run, photos, tmp_path / "set", "--set", "pc1=1", "--known", "glasses=no") == 0


@pytest.mark.parametrize("stopped_at", [1, 4])
def test_an_interrupted_edit_goes_on_to_the_same_bytes(run, photos, tmp_path, capsys, monkeypatch, stopped_at):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert edits(run, photos, whole) == 0
    calls, save = [], folders.save

    def stops(*args, **options):
        calls.append(args)
        if len(calls) > stopped_at:
            raise KeyboardInterrupt
        save(*args, **options)

    monkeypatch.setattr(folders, "save", stops)
    monkeypatch.setattr(folders, "_WRITERS", 1)
    assert edits(run, photos, out) == 130
    assert "the same command goes on" in capsys.readouterr().err
    there = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.name != "edits.json"}
    assert len(there) == stopped_at
    monkeypatch.setattr(folders, "save", save)
    assert edits(run, photos, out) == 0
    assert f"{7 - stopped_at} pictures edited, {stopped_at} there before" in capsys.readouterr().out
    assert written(out) == written(whole)
    assert {path: path.stat().st_mtime_ns for path in there} == there


def test_what_is_there_stays_and_what_has_changed_is_edited_again(run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert edits(run, photos, out) == 0
    before = written(out)
    assert edits(run, photos, out) == 0 and written(out) == before
    assert "0 pictures edited, 7 there before, 1 left aside" in capsys.readouterr().out
    Image.new("RGB", (16, 16), "red").save(photos / "e.png")
    later = (out / "e.png").stat().st_mtime + 5
    os.utime(photos / "e.png", (later, later))
    (out / ".a.png.triptych-99999999-00c0ffee").write_bytes(b"what a kill left half written")
    assert edits(run, photos, out) == 0
    assert {name for name, content in written(out).items() if content != before[name]} == {"e.png"}


OTHER = [
    ["--set", "pc1=1"],
    ["--set", "pc1=1.5", "--triptych"],
    ["--set", "pc1=1.5", "--hold", "pc2"],
    ["--sweep", "pc1=0:1:2"],
]


@pytest.mark.parametrize("other", OTHER)
def test_other_settings_are_refused_unless_overwritten(run, photos, tmp_path, capsys, other):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert edits(run, photos, out) == 0
    before = written(out)
    line = refused(capsys, "edit", str(run), str(photos), *other, "--out", str(out))
    assert "other settings" in line and "--overwrite" in line and written(out) == before
    assert edits(run, photos, out, *other, "--overwrite") == 0 and edits(run, photos, fresh, *other) == 0
    apart = {"edits.json", *(["more/f.gif"] if "--triptych" in other else [])}  # which says when the others were written
    assert {n: content for n, content in written(out).items() if n not in apart} == {
        n: content for n, content in written(fresh).items() if n != "edits.json"
    }


def test_what_is_overwritten_stays_until_its_successor_is_there(run, photos, tmp_path):
    """Cut short after it began, the call goes on with all that is of before; what it wrote itself is not written again."""
    out = tmp_path / "out"
    assert edits(run, photos, out) == 0
    before = written(out)
    files = folders.files_of([photos])
    targets = folders.targets_of(files, out, still=False)
    assert set(folders.begin(files, targets, out, {"set": "other"}, overwrite=True)) == set(files)
    assert {n: content for n, content in written(out).items() if n != "edits.json"} == {
        n: content for n, content in before.items() if n != "edits.json"
    }
    first = next(iter(files))
    later = targets[first].stat().st_mtime + 60
    os.utime(targets[first], (later, later))
    assert set(folders.begin(files, targets, out, {"set": "other"})) == set(files) - {first}


def test_directions_and_weights_are_settings(run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert edits(run, photos, out) == 0
    known = edit.Directions.load(run)
    edit.Directions({**known, "other": known["pc2"]}).save(run)  # more of them change nothing
    assert edits(run, photos, out) == 0
    edit.Directions({**known, "pc1": known["pc2"]}).save(run)
    assert "(directions was" in refused(capsys, "edit", str(run), str(photos), "--set", "pc1=1.5", "--out", str(out))


def test_what_others_wrote_is_not_replaced(run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    line = refused(capsys, "edit", str(run), str(photos), "--set", "pc1=1", "--out", str(out))
    assert "not an edit" in line and written(out) == {"a.png": b"mine"}


@pytest.mark.parametrize("where", ["photos", "photos/out", "photos/more", "link", "link/out", "photos/../photos"])
def test_a_folder_is_not_written_into_itself(run, photos, tmp_path, capsys, where):
    (tmp_path / "link").symlink_to(photos)
    before = written(photos)
    line = refused(capsys, "edit", str(run), str(photos), "--set", "pc1=1", "--out", str(tmp_path / where))
    assert "in it" in line and written(photos) == before


def test_what_makes_no_sense_is_refused_in_one_line(run, photos, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "broken.png").write_bytes(b"not a picture")
    words, out = ["edit", str(run)], ["--out", str(tmp_path / "out")]
    change = ["--set", "pc1=1"]
    assert "a folder's name" in refused(capsys, *words, str(photos), *change)
    assert "beside others" in refused(capsys, *words, str(photos), str(photos / "a.png"), *change, *out)
    assert "one name" in refused(capsys, *words, str(photos / "a.png"), str(photos / "more/a.png"), *change, *out)
    assert "none of 1" in refused(capsys, *words, str(empty), *change, *out)
    assert "no pictures" in refused(capsys, *words, str(run), *change, *out)
    assert "one picture" in refused(capsys, *words, str(photos), "--inpaint", "top", *out)
    assert "--out" in refused(capsys, *words, str(photos / "a.png"), *change, "--out", str(photos))
    assert "pc1" in refused(capsys, *words, str(photos), "--set", "pc3=1", *out)
    assert ".png" in refused(capsys, *words, str(photos / "a.png"), *change, "--triptych", "--out", str(tmp_path / "x.gif"))


def test_files_are_written_into_a_folder_each(run, photos, tmp_path):
    files = [str(photos / name) for name in ("a.png", "more/f.gif")]
    assert main(["edit", str(run), *files, "--set", "pc1=1", "--out", str(tmp_path / "out")]) == 0
    assert set(written(tmp_path / "out")) == {"a.png", "f.gif", "edits.json"}


def tiles(path, count):
    """The tiles of a strip, as stored pictures of the model's size."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    assert pixels.shape == (3, 64 + 4, count * 66 + 2)
    return [pixels[:, 2:66:4, 2 + i * 66 : 66 + i * 66 : 4] for i in range(count)]


def test_a_triptych_is_original_reconstruction_and_edit(run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert edits(run, photos, out, "--set", "pc1=1.5", "--triptych") == 0
    assert set(written(out)) >= {"a.png", "more/f.gif.png"}  # a GIF would play the three
    words = ["edit", str(run), str(photos / "a.png"), "--set", "pc1=1.5"]
    assert main([*words, "--out", str(tmp_path / "edit.png")]) == 0
    capsys.readouterr()
    assert main([*words, "--triptych", "--out", str(tmp_path / "strip.png")]) == 0
    said = capsys.readouterr().out
    model, stored = triptych.load(run), read_picture(photos / "a.png", SIZE)
    with torch.no_grad():
        again = model.codec.decode(model.decode(model.encode(model.codec.centre(stored))))
    original, reconstruction, edited = tiles(tmp_path / "strip.png", 3)
    assert torch.equal(original, stored[0]) and torch.equal(reconstruction, again[0])
    assert torch.equal(edited, read_picture(tmp_path / "edit.png", SIZE)[0])
    rms = np.sqrt(np.mean((stored.numpy().astype(float) - again.numpy().astype(float)) ** 2))
    assert f"off by {rms:.1f} of 255" in said and said.splitlines()[-1] == str(tmp_path / "strip.png")
    assert main([*words[:3], "--sweep", "pc1=-1:1:2", "--triptych", "--out", str(tmp_path / "sweep.png")]) == 0
    assert torch.equal(tiles(tmp_path / "sweep.png", 4)[0], stored[0])


def test_names_that_cannot_be_written_get_a_suffix(tmp_path):
    files = {name: tmp_path / name for name in ("a", "b.psd", "c.PNG")}
    found = folders.targets_of(files, tmp_path / "out")
    assert [path.name for path in found.values()] == ["a.png", "b.psd.png", "c.PNG"]
    with pytest.raises(TriptychError, match="rename one"):
        folders.targets_of({**files, "a.png": tmp_path / "a.png"}, tmp_path / "out")


def test_worthless_directions_and_far_strengths(run, photos, tmp_path, capsys):
    stored = json.loads((run / "directions.json").read_text())
    judged = {"worthless": True, "correlation": 0.01, "chance": 0.0, "chance_stderr": 0.1}
    stored["directions"]["pc1"]["judged"] = judged
    (run / "directions.json").write_text(json.dumps(stored))
    words = ["edit", str(run), str(photos / "a.png"), "--out", str(tmp_path / "x.png")]
    for change in (["--set", "pc1=1"], ["--sweep", "pc1=0:1:2"], ["--set", "pc2=1", "--set", "pc1=+1"]):
        assert "--force" in refused(capsys, *words, *change)
        assert main([*words, *change, "--force"]) == 0
    assert main([*words, "--set", "pc2=1"]) == 0 and "far outside" not in capsys.readouterr().err
    for change in (["--set", "pc2=500"], ["--set", "pc2=+500"], ["--sweep", "pc2=-500:0:2"]):
        assert main([*words, *change]) == 0 and "pc2=" in capsys.readouterr().err
