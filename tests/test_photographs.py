"""Faces in photographs: geometry by its properties, finding on drawn faces in larger scenes, and the same over HTTP."""

import base64
import io

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from studio_runs import SIZE, save_run, vae

from triptych import edit
from triptych.cli import main
from triptych.data import faces
from triptych.edit import finding
from triptych.edit.alignment import DRAWN
from triptych.edit.placing import FEATHER, apart
from triptych.errors import TriptychError
from triptych.studio import Limits, Registry, create_app, images

ALIGNED = edit.Alignment((0.35, 0.45), (0.65, 0.45))
LOOK = {
    "smile": 0.0,
    "age": 0.0,
    "hair_length": 0.5,
    "hair_colour": 0.2,
    "skin_tone": 0.5,
    "background": 0.5,
} | dict.fromkeys(("head_turn", "light", "glasses", "beard", "earrings"), 0.0)


def drawn(size=160, **look):
    """A drawn face that the cascades take for one, (3, size, size)."""
    return faces.draw({name: np.array([value]) for name, value in (LOOK | look).items()}, size)[0]


def scene(*placed, sides=(360, 480)):
    """A photograph with faces at (middle, side, tilt in degrees) on a plain ground, and where their eyes are."""
    ground, eyes = Image.new("RGB", sides[::-1], (96, 110, 120)), []
    for (x, y), side, tilt in placed:
        face = Image.fromarray(drawn(side).permute(1, 2, 0).numpy()).convert("RGBA")
        turned = face.rotate(-tilt, Image.Resampling.BICUBIC, expand=True)
        ground.paste(turned, (x - turned.width // 2, y - turned.height // 2), turned)
        cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        beside = (np.array([DRAWN.left, DRAWN.right]) - 0.5) * side
        eyes.append(beside @ np.array([[cos, sin], [-sin, cos]]) + (x, y))
    return torch.from_numpy(np.asarray(ground).copy()).permute(2, 0, 1), eyes


def smooth(h, w, seed=0):
    """A picture without edges, (3, h, w) floats."""
    y, x = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
    phase = torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(seed)) * 6
    return 128 + 60 * torch.sin(4 * x + phase) * torch.cos(3 * y + phase)


def png(pixels, **options):
    target = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(target, "PNG", **options)
    return target.getvalue()


def read(content):
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(content))).copy()).permute(2, 0, 1)


eye = st.tuples(st.floats(20, 180), st.floats(20, 130))


@settings(max_examples=60, deadline=None)
@given(eye, eye, st.sampled_from([(16, 16), (64, 64), (28, 20)]))
def test_a_place_and_its_inverse_are_one_another(left, right, size):
    if np.hypot(*np.subtract(left, right)) < 1:
        return
    placed = edit.place(edit.Face(left, right), ALIGNED, size)
    points = np.random.default_rng(0).uniform(0, 200, (20, 2))
    assert np.abs(placed.to_photograph(placed.to_picture(points)) - points).max() < 1e-6
    wanted = np.array([ALIGNED.left, ALIGNED.right]) * size[::-1]
    assert np.allclose(placed.to_picture(np.array([left, right])), wanted, atol=1e-9)
    (a, b), (c, d) = placed.linear
    assert np.isclose(a, d) and np.isclose(b, -c)  # a similarity, never mirrored


@settings(max_examples=25, deadline=None)
@given(st.floats(-40, 40), st.floats(12, 60), st.sampled_from([(16, 16), (40, 28)]))
def test_aligning_samples_the_photograph_where_it_says(tilt, distance, size):
    """A smooth photograph at the places of the picture's pixels, whether it is enlarged or reduced."""
    h, w = 150, 200
    photograph = smooth(h, w)
    across = distance / 2 * np.array([np.cos(np.radians(tilt)), np.sin(np.radians(tilt))])
    placed = edit.place(edit.Face((100 - across[0], 70 - across[1]), (100 + across[0], 70 + across[1])), ALIGNED, size)
    found = edit.align(photograph.round().byte(), placed)[0].float()
    steps = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), -1).reshape(-1, 2) + 0.5
    at = placed.to_photograph(steps)
    grid = torch.from_numpy(2 * at / (w, h) - 1).float().reshape(1, *size, 2)
    wanted = torch.nn.functional.grid_sample(photograph[None], grid, padding_mode="border", align_corners=False)[0]
    inside = torch.from_numpy(((at > 4) & (at < (w - 4, h - 4))).all(1).reshape(size))
    assert ((found - wanted).abs() * inside).max() < 4


@pytest.mark.parametrize(("distance", "size"), [(60, (16, 16)), (7, (32, 32)), (25, (24, 16))])
def test_pasting_changes_the_face_alone(distance, size):
    photograph = smooth(150, 200).round().byte()
    placed = edit.place(edit.Face((100 - distance / 2, 60), (100 + distance / 2, 66)), ALIGNED, size)
    before = edit.align(photograph, placed)
    bright = (before.float() + 40).clamp(0, 255).byte()
    assert edit.paste_back(photograph, placed, before, before).equal(photograph)
    pasted = edit.paste_back(photograph, placed, before, bright)
    pixels = np.stack(np.meshgrid(np.arange(200), np.arange(150)), -1).reshape(-1, 2) + 0.5
    at = placed.to_picture(pixels) / size[::-1]
    outside = torch.from_numpy(((at < 0) | (at > 1)).any(1).reshape(150, 200))
    assert pasted[:, outside].equal(photograph[:, outside]) and not pasted.equal(photograph)
    deep = torch.from_numpy(((at > FEATHER) & (at < 1 - FEATHER)).all(1).reshape(150, 200))
    assert ((pasted.float() - photograph.float())[:, deep] - 40).abs().max() < 2
    again = edit.align(pasted, placed).float() - before.float()
    middle = [slice(round(0.35 * side), round(0.65 * side)) for side in size]
    assert (again[0][:, middle[0], middle[1]] - 40).abs().max() < 3
    grey = edit.paste_back(photograph, placed, before[:, :1], (before[:, :1].float() + 20).byte())
    change = grey[:, deep].float() - photograph[:, deep].float()
    assert (change[0] == change[1]).all()


def test_detail_of_the_photograph_survives_an_edit():
    """Grain that the model's picture cannot hold is there afterwards, under the change."""
    grain = torch.randint(-20, 21, (3, 150, 200), generator=torch.Generator().manual_seed(0))
    photograph = (smooth(150, 200) + grain).round().clamp(0, 255).byte()
    placed = edit.centred((150, 200), (16, 16))
    before = edit.align(photograph, placed)
    pasted = edit.paste_back(photograph, placed, before, (before.float() + 10).byte())
    assert (pasted.float() - photograph.float())[:, 60:90, 80:120].std() < 1


def test_the_centre_is_what_is_cropped_without_a_face():
    photograph = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = images.read(png(photograph), (3, 30, 30), 10**6)
    assert (edit.align(photograph, edit.centred((90, 120), (30, 30))).float() - whole.float()).abs().max() <= 40
    soft = smooth(90, 120).round().byte()
    whole = images.read(png(soft), (3, 30, 30), 10**6)
    assert (edit.align(soft, edit.centred((90, 120), (30, 30))).float() - whole.float()).abs().max() <= 2


@pytest.mark.parametrize("tilt", [0, -20, 20])
def test_a_face_is_found_small_and_tilted_with_its_eyes(tilt):
    photograph, (eyes,) = scene(((300, 150), 150, tilt))
    (face,) = edit.find_faces(photograph)
    apart_by = np.linalg.norm(eyes[1] - eyes[0])
    assert np.linalg.norm(np.array([face.left, face.right]) - eyes, axis=1).max() < 0.25 * apart_by
    placed = edit.place(face, DRAWN, (64, 64)).to_picture(eyes)
    assert np.abs(placed / 64 - np.array([DRAWN.left, DRAWN.right])).max() < 0.05


def test_of_several_faces_the_largest_is_first_and_one_is_chosen():
    photograph, eyes = scene(((110, 120), 130, 0), ((340, 190), 200, 0))
    found = edit.find_faces(photograph)
    assert len(found) == 2 and found[0].width > found[1].width and abs(found[0].left[0] - eyes[1][0][0]) < 20
    sides, size = (360, 480), (16, 16)
    assert edit.choose(found, "largest", DRAWN, sides, size).number == 1
    assert edit.choose(found, "auto", DRAWN, sides, size).number == 1
    second = edit.choose(found, 2, DRAWN, sides, size)
    assert second.placed == edit.place(found[1], DRAWN, size)
    assert edit.choose(found, "centre", DRAWN, sides, size) == (edit.centred(sides, size), None)
    with pytest.raises(TriptychError, match=r"2 faces are found .*, not 3"):
        edit.choose(found, 3, DRAWN, sides, size)
    assert edit.choose([], "auto", DRAWN, sides, size).number is None
    with pytest.raises(TriptychError, match=r"no face is found.*centre"):
        edit.choose([], 1, DRAWN, sides, size)
    already = edit.Face((0.405 * 160, 0.465 * 160), (0.6 * 160, 0.46 * 160))
    assert edit.choose([already], "auto", DRAWN, (160, 160), size).number is None  # aligned as it came
    assert apart(second.placed, second.placed) == 0


def test_every_exif_orientation_shows_the_same_face():
    upright = Image.fromarray(scene(((200, 100), 120, 10), sides=(200, 300))[0].permute(1, 2, 0).numpy())
    undone, found = {6: 8, 8: 6}, []
    for orientation in range(1, 9):
        exif, target = Image.Exif(), io.BytesIO()
        exif[0x0112] = undone.get(orientation, orientation)
        upright.save(target, "PNG", exif=exif)
        stored, target = ImageOps.exif_transpose(Image.open(target)), io.BytesIO()
        exif[0x0112] = orientation
        stored.save(target, "PNG", exif=exif)
        found.append(edit.read_photograph(target.getvalue()).pixels)
    assert all(pixels.equal(found[0]) for pixels in found) and found[0].shape == (3, 200, 300)
    assert len(edit.find_faces(found[5])) == 1


def test_how_a_set_is_aligned_is_measured_kept_and_known(tmp_path):
    pictures = torch.stack([drawn(96, hair_colour=0.02 * i, smile=0.05 * i) for i in range(12)])
    found = edit.measure_alignment(pictures)
    assert np.abs(np.subtract([*found.left, *found.right], [*DRAWN.left, *DRAWN.right])).max() < 0.05
    with pytest.raises(TriptychError, match="10 are needed"):
        edit.measure_alignment(pictures[:2])
    found.save(tmp_path)
    assert edit.Alignment.load(tmp_path) == found and edit.Alignment.load(tmp_path / "none") is None
    for damaged in ('{"format": 1}', '{"format": 9}', '{"format": 1, "left": [0, 0], "right": ["a", 1]}', "[]", "{"):
        (tmp_path / "alignment.json").write_text(damaged)
        with pytest.raises(TriptychError, match=r"alignment\.json"):
            edit.Alignment.load(tmp_path)
    assert edit.known_alignment("faces?smile=-2:2", (32, 32)) == DRAWN and edit.known_alignment("digits", (8, 8)) is None
    assert edit.known_alignment("/home/me/faces", (32, 32)) is None  # photographs of one's own, however they are called
    square = edit.known_alignment("celeba10k", (64, 64))
    whole = edit.known_alignment("celeba10k", (218, 178))
    assert square.left[0] == whole.left[0]  # the sides are cut off above and below
    assert np.isclose((square.left[1] - 0.5) * 178, (whole.left[1] - 0.5) * 218)


def test_without_opencv_the_extra_is_named(monkeypatch):
    import sys

    finding.opencv.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(TriptychError, match=r"triptych\[faces\]"):
        edit.find_faces(torch.zeros(3, 20, 20, dtype=torch.uint8))
    monkeypatch.undo()
    finding.opencv.cache_clear()


def test_colours_keep_their_profile_and_what_is_no_photograph_is_said(tmp_path):
    photograph, _ = scene(((200, 180), 150, 0))
    read_back = edit.read_photograph(png(photograph, icc_profile=b"a profile"))
    assert read_back.pixels.equal(photograph) and read_back.profile == b"a profile"
    read_back.save(photograph, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        assert written.info["icc_profile"] == b"a profile" and not written.getexif()
    for content, part in ((b"no picture", "cannot be read"), (png(photograph)[:80], "cannot be read")):
        with pytest.raises(TriptychError, match=part):
            edit.read_photograph(content)
    with pytest.raises(TriptychError, match="million pixels"):
        edit.read_photograph(png(photograph), most=1000)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = save_run(vae, tmp_path_factory.mktemp("runs") / "vae")
    DRAWN.save(out)
    return out


@pytest.fixture(scope="module")
def client(run):
    registry = Registry([run], Limits(pixels=2**20))
    with TestClient(create_app(registry), base_url="http://127.0.0.1:7860", raise_server_exceptions=False) as found:
        yield found
    registry.close()


def opened(client, content, **fields):
    files = {"file": ("photo.png", content, "image/png")} if content else {}
    texts = {name: (None, value) for name, value in {"model": "vae", **fields}.items()}
    return client.post("/api/encode", files=files | texts)


def test_the_command_and_the_studio_write_one_photograph(run, client, tmp_path, capsys):
    photograph, _ = scene(((110, 120), 130, 0), ((340, 190), 200, 0))
    (tmp_path / "photo.png").write_bytes(png(photograph))
    words = ["edit", str(run), str(tmp_path / "photo.png"), "--set", "pc1=2"]
    assert main([*words, "--face", "2", "--out", str(tmp_path / "out.png")]) == 0
    said = capsys.readouterr()
    assert "2 faces found, number 2 is edited" in said.err and "RMS" in said.out
    written = read((tmp_path / "out.png").read_bytes())
    changed = (written != photograph).any(0).nonzero()
    assert len(changed) and changed[:, 1].max() < 240  # the larger one, to the right, is as it was
    found = opened(client, png(photograph), face="2").json()
    shown = found["photograph"]
    assert (shown["width"], shown["height"], shown["face"], len(shown["faces"])) == (480, 360, 2, 2)
    assert all(0 <= v <= 1 for face in shown["faces"] for corner in face["corners"] for v in corner)
    asked = {"picture": found["picture"], "set": {"pc1": 2.0}, "alone": True}
    assert read(client.post("/api/paste", json=asked).content).equal(written)
    other = opened(client, None, picture=found["picture"], face="1").json()  # without sending the file again
    assert other["photograph"]["face"] == 1 and other["image"] != found["image"]
    again = opened(client, None, picture=found["picture"]).json()
    assert again["image"] == found["image"] and again["photograph"]["face"] == 2
    assert opened(client, None, picture=found["picture"], face="9").json()["detail"].startswith("2 faces are found")


def test_without_a_face_the_centre_is_taken_and_said(run, client, tmp_path, capsys):
    plain = png(smooth(120, 160).round().byte())
    found = opened(client, plain, face="auto").json()
    assert found["photograph"]["faces"] == [] and found["photograph"]["face"] is None
    centre = opened(client, plain, face="centre").json()
    assert centre["photograph"]["faces"] is None
    assert found["image"] == centre["image"] == opened(client, plain).json()["image"]
    assert opened(client, plain).json()["photograph"] is None
    assert client.post("/api/paste", json={"picture": centre["picture"], "set": {"pc1": 1}}).status_code == 200
    small = opened(client, png(drawn(16)), face="auto").json()  # of the model's size: taken as it is
    assert small["photograph"]["faces"] is None
    for fields, part in ({"face": "largest"}, "no face is found"), ({"face": "x"}, "expected a face"):
        answer = opened(client, plain, **fields)
        assert answer.status_code == 422 and part in answer.json()["detail"]
    sample = client.post("/api/sample", json={"model": "vae", "n": 1}).json()["pictures"][0]["picture"]
    assert opened(client, None, picture=sample, face="1").status_code == 422
    assert client.post("/api/paste", json={"picture": sample}).json()["detail"].startswith("this picture was not taken")
    (tmp_path / "plain.png").write_bytes(plain)
    words = ["edit", str(run), str(tmp_path / "plain.png"), "--set", "pc1=2", "--out", str(tmp_path / "out.png")]
    assert main([*words, "--face", "largest"]) == 2 and "no face is found" in capsys.readouterr().err
    assert main([*words, "--face", "auto"]) == 0 and "centre is edited" in capsys.readouterr().err
    for wrong in ("--sweep", "pc1=-1:1:3"), ("--triptych",):
        assert main([*words[:3], *wrong, "--face", "largest"]) == 2


def test_the_centre_needs_neither_opencv_nor_training_data(tmp_path, monkeypatch):
    """Of a run that keeps no alignment, and whose data are not here."""
    run = save_run(vae, tmp_path / "vae")
    monkeypatch.setattr(edit, "find_faces", None)
    monkeypatch.setattr("triptych.cli.facing.alignment_of", None)
    (tmp_path / "photo.png").write_bytes(png(smooth(60, 80).round().byte()))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "photo.png").write_bytes((tmp_path / "photo.png").read_bytes())
    words = ["--set", "pc1=2", "--face", "centre", "--out"]
    assert main(["edit", str(run), str(tmp_path / "photo.png"), *words, str(tmp_path / "out.png")]) == 0
    assert main(["edit", str(run), str(tmp_path / "in"), *words, str(tmp_path / "out")]) == 0
    assert read((tmp_path / "out.png").read_bytes()).equal(read((tmp_path / "out" / "photo.png").read_bytes()))
    assert edit.choose([], "centre", None, (60, 80), (16, 16)).number is None
    with pytest.raises(TriptychError, match="Alignment"):
        edit.choose([edit.Face((20.0, 20.0), (40.0, 20.0))], 1, None, (60, 80), (16, 16))


def test_a_runs_alignment_is_not_written_over(run, capsys):
    kept = (run / "alignment.json").read_bytes()
    assert main(["list", str(run.parent), "--json", str(run / "alignment.json")]) == 2
    assert "own files" in capsys.readouterr().err and (run / "alignment.json").read_bytes() == kept


def test_the_studio_reads_all_pixels_only_where_a_face_is_searched_or_cut(run, client, monkeypatch):
    asked = []
    monkeypatch.setattr(edit, "read_photograph", lambda *a, found=edit.read_photograph: asked.append(1) or found(*a))
    target = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    shown = smooth(600, 900).round().byte()
    Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy()).save(target, "JPEG", exif=exif)
    found = opened(client, target.getvalue(), face="centre").json()["photograph"]
    assert not asked and (found["width"], found["height"]) == (600, 900)
    with Image.open(io.BytesIO(base64.b64decode(found["image"].partition(",")[2]))) as small:
        assert small.size == (320, 480)
        upright = edit.read_photograph(target.getvalue()).pixels.float()
        wanted = torch.nn.functional.interpolate(upright[None], (480, 320), mode="area")[0]
        found = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)
        assert (found - wanted).abs().mean() < 4
    asked.clear()
    sent = opened(client, png(scene(((110, 120), 130, 0), ((340, 190), 200, 0))[0]), face="1").json()
    assert len(asked) == 1
    opened(client, None, picture=sent["picture"], face="centre")
    assert len(asked) == 1


def test_a_folder_of_photographs_is_edited_and_gone_on_with(run, tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    (source / "one.png").write_bytes(png(scene(((200, 180), 150, 0))[0]))
    (source / "none.png").write_bytes(png(smooth(60, 80).round().byte()))
    words = ["edit", str(run), str(source), "--set", "pc1=2", "--face", "largest", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "1 photograph edited, 1 left aside" in said.out and "no face is found" in said.err
    assert read((tmp_path / "out" / "one.png").read_bytes()).shape == (3, 360, 480)
    assert not (tmp_path / "out" / "none.png").exists()
    assert main(words) == 0
    assert "0 photographs edited, 1 there before, 1 left aside" in capsys.readouterr().out


def test_a_huge_photograph_is_refused_before_it_is_searched(client):
    target = io.BytesIO()
    Image.new("L", (1500, 1500)).save(target, "PNG")
    answer = opened(client, target.getvalue(), face="auto")
    assert answer.status_code == 422 and "million pixels" in answer.json()["detail"]


def test_finding_takes_as_long_whatever_the_size():
    """What is looked through is bounded: as many pixels of forty megapixels as of one."""
    sizes = []
    for h, w in ((1000, 1000), (5000, 8000)):
        grey, pixels = finding._grey(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, h, w))
        views = [view.values.size for view, _ in finding._views(finding.opencv(), grey)]
        sizes.append(max(views))
        assert max(grey.shape) <= 2048 and np.allclose(pixels * grey.shape[::-1], (w, h))
    assert max(sizes) <= 4 * 480**2


def test_a_model_that_knows_no_faces_takes_the_centre(tmp_path, client):
    save_run(vae, tmp_path / "plain")
    registry = Registry([tmp_path / "plain"])
    with TestClient(create_app(registry), base_url="http://127.0.0.1:7860") as other:
        assert other.get("/api/models").json()["models"][0]["faces"] is False
        content = png(scene(((200, 180), 150, 0))[0])
        assert opened(other, content, model="plain", face="auto").json()["photograph"]["face"] is None
        answer = opened(other, content, model="plain", face="1")
        assert answer.status_code == 422 and "face=centre" in answer.json()["detail"]
    registry.close()
    assert client.get("/api/models").json()["models"][0]["faces"] is True
    assert base64.b64decode(opened(client, png(drawn(64)), face="centre").json()["image"].partition(",")[2])
    assert SIZE == (3, 16, 16)
