"""The studio over HTTP: what it answers, how it refuses, and that it gives what the command line gives."""

import base64
import io
import json
import struct
import threading
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from studio_runs import SIZE, flow, picture, save_all, save_run, vae

import triptych
from triptych import edit
from triptych.cli import main
from triptych.errors import TriptychError
from triptych.studio import Limits, Registry, create_app
from triptych.studio.problems import Busy, Gone
from triptych.studio.routes_models import described
from triptych.studio.security import hosts_of
from triptych.studio.serving import Address, listening
from triptych.studio.shelf import Shelf
from triptych.studio.worker import Worker

HOST = "http://127.0.0.1:7860"


def client_of(registry, **options):
    return TestClient(create_app(registry, **options), base_url=HOST, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return save_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def registry(runs):
    found = Registry([runs], Limits(upload=2**20, folder=2**21, pixels=2**20))
    yield found
    found.close()


@pytest.fixture(scope="module")
def client(registry):
    with client_of(registry) as found:
        yield found


def opened(client, model="vae", content=None):
    files = {"file": ("face.png", picture() if content is None else content, "image/png")}
    answer = client.post("/api/encode", data={"model": model}, files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()


def form(client, **fields):
    return client.post("/api/encode", files={name: (None, value) for name, value in fields.items()})


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def of_url(url):
    return pixels(base64.b64decode(url.partition(",")[2]))


def refused(answer, status, *parts):
    """An error is one sentence, without a traceback or a path of the machine's."""
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str) and detail and "\n" not in detail and "Traceback" not in detail and "/tmp" not in detail
    for part in parts:
        assert part in detail, detail


def test_models_are_listed_and_one_that_does_not_load_says_why(client):
    models = client.get("/api/models").json()["models"]
    assert [model["id"] for model in models] == ["given", "glow", "vae", "broken"]
    by_id = {model["id"]: model for model in models}
    assert by_id["vae"]["event_shape"] == [*SIZE] and by_id["vae"]["bound"] == "lower"
    assert [d["name"] for d in by_id["vae"]["directions"]] == ["pc1", "pc2", "pc3"]
    low, high = by_id["vae"]["directions"][0]["range"]
    assert low < high
    assert by_id["given"]["given"] == ["glasses"] and by_id["glow"]["bound"] == "exact"
    assert by_id["broken"]["problem"] and by_id["vae"]["problem"] is None
    refused(client.post("/api/sample", json={"model": "broken"}), 404, "did not load")
    refused(client.post("/api/sample", json={"model": "veae"}), 404, "did you mean vae")
    assert client.get("/api/health").json() == {"status": "ok", "models": 3, "waiting": 0}
    assert len(client.get("/api/directions", params={"model": "vae"}).json()["directions"]) == 3


@pytest.mark.parametrize("model", ["vae", "glow", "given"])
def test_a_picture_is_opened_edited_and_saved_as_the_command_line_does(client, runs, model, tmp_path):
    found = opened(client, model)
    assert set(found["projections"]) == {"pc1", "pc2", "pc3"}
    original, again = of_url(found["image"]).astype(float), of_url(found["reconstruction"]).astype(float)
    assert np.isclose(found["rms"], np.sqrt(((original - again) ** 2).mean()), atol=1e-3)
    asked = {"picture": found["picture"], "set": {"pc1": 1.5, "pc2": -0.5}, "hold": ["pc3"], "alone": True}
    edited = client.post("/api/edit", json=asked)
    assert edited.headers["content-type"] == "image/png" and "dur=" in edited.headers["server-timing"]
    (tmp_path / "face.png").write_bytes(picture())
    (tmp_path / "edit.json").write_text(json.dumps(client.post("/api/recipe", json=asked).json()))
    words = ["edit", str(runs / model), str(tmp_path / "face.png"), "--recipe", str(tmp_path / "edit.json")]
    assert main([*words, "--out", str(tmp_path / "edited.png")]) == 0
    assert (pixels(edited.content) == np.asarray(Image.open(tmp_path / "edited.png"))).all()
    nothing = client.post("/api/edit", json={"picture": found["picture"], "alone": True})
    assert (pixels(nothing.content) == of_url(found["reconstruction"])).all()


def test_a_recipe_of_other_weights_or_directions_is_refused(client, runs, tmp_path, capsys):
    found = opened(client, "vae")
    recipe = client.post("/api/recipe", json={"picture": found["picture"], "set": {"pc1": 1}}).json()
    (tmp_path / "face.png").write_bytes(picture())
    for change, part in (
        ({"weights": "0"}, "other weights"),
        ({"fingerprint": "0"}, "learned anew"),
        ({"set": {"pc1": "inf"}}, "not an edit's recipe"),
        ({"format": 9}, "not an edit's recipe"),
    ):
        (tmp_path / "edit.json").write_text(json.dumps({**recipe, **change}))
        words = ["edit", str(runs / "vae"), str(tmp_path / "face.png"), "--recipe", str(tmp_path / "edit.json")]
        assert main([*words, "--out", str(tmp_path / "out.png")]) == 2
        assert part in capsys.readouterr().err


@pytest.mark.parametrize(("by_itself", "most"), [(True, 0), (False, 1)])
def test_edits_that_come_together_are_those_that_come_alone(client, by_itself, most):
    """Sixteen threads, different pictures and names: to the bit outside of batches, in them to the rounding of a level."""
    found = [opened(client, "glow", picture(seed)) for seed in range(4)]
    asked = [
        {"picture": one["picture"], "set": values}
        for one in found
        for values in ({"pc1": 1.0}, {"pc2": -1.0}, {"pc1": 0.3, "pc3": 2.0}, {})
    ]
    alone = [pixels(client.post("/api/edit", json={**one, "alone": True}).content).astype(int) for one in asked]
    together = [None] * len(asked)

    def ask(i):
        answer = client.post("/api/edit", json={**asked[i], "alone": by_itself})
        together[i] = pixels(answer.content).astype(int)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(abs(a - b).max() for a, b in zip(alone, together, strict=True)) <= most
    assert len({a.tobytes() for a in alone}) == len(asked)


def test_samples_are_those_of_the_seed_and_can_be_edited(client, runs):
    asked = {"model": "vae", "n": 3, "temperature": 0.7, "seed": 5}
    one, two = (client.post("/api/sample", json=asked).json()["pictures"] for _ in range(2))
    assert [p["image"] for p in one] == [p["image"] for p in two] and one[0]["picture"] != two[0]["picture"]
    model = triptych.load(runs / "vae")
    drawn = model.codec.decode(model.sample(3, temperature=0.7, generator=torch.Generator().manual_seed(5)))
    assert (of_url(one[0]["image"]) == drawn[0].permute(1, 2, 0).numpy()).all()
    answer = form(client, model="vae", picture=one[0]["picture"], source="sample")
    assert answer.json()["source"] == "sample" and answer.json()["image"] == one[0]["image"]
    assert form(client, model="glow", picture=one[0]["picture"]).status_code == 200
    given = client.post("/api/sample", json={"model": "given", "given": "glasses=yes", "n": 1})
    assert given.status_code == 200
    refused(client.post("/api/sample", json={"model": "given", "given": "hat=yes"}), 422, "glasses")
    refused(client.post("/api/sample", json={"model": "vae", "given": "glasses=yes"}), 422, "without conditions")
    assert client.post("/api/random", json={"model": "vae", "seed": 1}).json()["source"] == "sample"


def test_mixes_sweeps_and_likelihoods(client):
    a, b = (opened(client, "vae", picture(seed)) for seed in (1, 2))
    ids = [a["picture"], b["picture"]]
    ends = [client.post("/api/mix", json={"pictures": ids, "weights": w}) for w in ([2, 0], [0, 0.5])]
    assert (pixels(ends[0].content) == of_url(a["reconstruction"])).all()
    assert (pixels(ends[1].content) == of_url(b["reconstruction"])).all()
    half = client.post("/api/mix", json={"pictures": ids, "weights": [1, 1]})
    assert half.headers["content-type"] == "image/png"
    refused(client.post("/api/mix", json={"pictures": ids, "weights": [0, 0]}), 422, "above 0")
    refused(client.post("/api/mix", json={"pictures": ids, "weights": [1]}), 422, "a weight for each")
    other = opened(client, "glow")["picture"]
    refused(client.post("/api/mix", json={"pictures": [ids[0], other], "weights": [1, 1]}), 422, "several models")
    sweep = {"picture": ids[0], "name": "pc1", "low": -2, "high": 2, "count": 5}
    film = Image.open(io.BytesIO(client.post("/api/sweep", json=sweep).content))
    assert film.format == "GIF" and film.n_frames == 8
    strip = client.post("/api/sweep", json={**sweep, "format": "png"})
    assert Image.open(io.BytesIO(strip.content)).format == "PNG"
    asked = {"picture": other, "set": {"pc1": 3}}
    measured = client.post("/api/likelihood", json=asked).json()
    assert measured == client.post("/api/likelihood", json=asked).json()
    assert measured["unit"] == "bits/dim" and measured["bound"] == "exact" and measured["before"] != measured["after"]


def test_two_piles_become_a_direction(client):
    bright, dark = ([opened(client, "vae", _shade(seed, level))["picture"] for seed in range(13)] for level in (200, 40))
    asked = {"model": "vae", "name": "bright", "shown": bright, "lacking": dark}
    found = client.post("/api/teach", json=asked).json()
    assert (
        found["n"] == 26
        and found["majority"] == 0.5
        and found["accuracy"] > 0.9
        and set(found["drags"]) == {"pc1", "pc2", "pc3"}
    )
    assert found["direction"]["name"] == "bright"
    taught = [found["taught"]]
    near = client.post("/api/project", json={"picture": bright[0], "taught": taught}).json()["projections"]
    assert set(near) == {"pc1", "pc2", "pc3", "bright"} and near["bright"] > 0
    asked = {"picture": dark[0], "set": {"bright": 1.0}, "taught": taught, "alone": True}
    edited = client.post("/api/edit", json=asked)
    assert edited.status_code == 200
    recipe = client.post("/api/recipe", json=asked).json()
    assert set(recipe["directions"]) == {"bright"} and recipe["fingerprint"] == ""
    refused(client.post("/api/edit", json={"picture": dark[0], "set": {"bright": 1.0}}), 422, "unknown direction")
    few = {"model": "vae", "name": "x", "shown": bright[:3], "lacking": dark}
    refused(client.post("/api/teach", json=few), 422, "has 3 pictures: 13 are needed")
    refused(client.post("/api/teach", json={**few, "name": "  "}), 422, "a name")
    refused(client.post("/api/teach", json={**few, "name": "pc1"}), 422, "a direction pc1 already")


def _shade(seed, level):
    values = np.random.default_rng(seed).integers(0, 30, (16, 16, 3)) + level
    target = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(target, "PNG")
    return target.getvalue()


def test_a_folder_is_scored_and_broken_files_are_named(client):
    files = [("files", (f"../../{i}.png", picture(i), "image/png")) for i in range(3)]
    files.append(("files", ("broken.png", picture()[:60], "image/png")))
    found = client.post("/api/score", data={"model": "glow"}, files=files).json()
    assert [row["score"] for row in found["scores"]] == sorted((row["score"] for row in found["scores"]), reverse=True)
    assert {row["name"] for row in found["scores"]} == {"0.png", "1.png", "2.png"} and set(found["refused"]) == {
        "broken.png"
    }
    assert found["by"] == "bits per dimension" and all(row["p"] is None for row in found["scores"])


def test_a_training_is_read_from_its_folder_alone(client):
    found = {run["id"]: run for run in client.get("/api/runs").json()["runs"]}
    assert set(found) == {"vae", "glow", "given", "broken"} and found["vae"]["step"] == 975
    run = client.get("/api/runs/vae").json()
    assert run["curves"]["loss"][-1] == [975, 100 / 1025] and "kl" not in run["curves"]
    assert run["samples"] == ["step-000000100.png", "step-000000200.png"] and run["verdicts"]
    assert client.get("/api/runs/vae/samples/step-000000100.png").content == picture(100)
    for name in ("secret.txt", "..%2Frecipe.json", "step-000000300.png"):
        refused(client.get(f"/api/runs/vae/samples/{name}"), 404)
    assert client.get("/api/runs/broken").json()["curves"] == {}
    refused(client.get("/api/runs/none"), 404, "no run")


def bomb(side=2000):
    """A small PNG of many pixels: its declared size is what counts."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(side * 3 + 1) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


@pytest.mark.parametrize(
    ("content", "part"),
    [(bomb(), "million pixels"), (SVG, "cannot be read as a picture"), (b"", "empty"), (b"\x00" * 500, "cannot be read"),
     (picture()[:200], "cannot be read"), (picture(kind="JPEG")[:30], "cannot be read")],
)  # fmt: skip
def test_what_is_not_a_picture_is_refused(client, content, part):
    answer = client.post("/api/encode", data={"model": "vae"}, files={"file": ("x.png", content, "image/png")})
    refused(answer, 422, part)


def exif(*entries, following=0):
    """Little-endian EXIF of entries (tag, type, count, value or offset)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)


EXIF = {
    "many entries": exif(*((0x9000 + i % 4000, 4, 1, i) for i in range(5400))),
    "a loop": exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8), following=8),
    "endless values": exif(*[(0x010F, 2, 0xFFFFFFFF, 8)] * 20),
    "an endless orientation": exif((0x0112, 3, 0x7FFFFFFF, 8)),
    "an unknown orientation": exif((0x0112, 3, 1, 99)),
    "cut off": b"Exif\0\0II*\0",
    "another kind of TIFF": b"Exif\0\0II+\0" + bytes(40),
    "an orientation beside damage": exif((0x0112, 3, 1, 6), (0x0111, 2, 4, 0x41414141)),
    "an orientation beside a double": exif((0x0112, 3, 1, 6), (0x9000, 12, 1, 8)),
    "noise": b"Exif\0\0" + np.random.default_rng(0).bytes(60_000),
}


@pytest.mark.parametrize("content", EXIF.values(), ids=EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_hostile_exif_costs_nothing_and_hides_no_picture(client, content, kind):
    target = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(target, kind, exif=content, dpi=(72, 72))
    start = time.perf_counter()
    answer = client.post("/api/encode", data={"model": "vae"}, files={"file": ("x", target.getvalue(), "image/png")})
    assert answer.status_code == 200 and time.perf_counter() - start < 5


def test_strengths_are_finite_and_bounded_and_names_known(client):
    found = opened(client)["picture"]
    head = {"content-type": "application/json"}
    for value in ("NaN", "Infinity", "-Infinity", "1e400", "1e9", '"high"', "null", "[]"):
        body = f'{{"picture": "{found}", "set": {{"pc1": {value}}}}}'
        refused(client.post("/api/edit", content=body, headers=head), 422, "set.pc1")
    refused(client.post("/api/edit", json={"picture": found, "set": {"pc9": 1}}), 422, "did you mean pc3, pc2 or pc1")
    refused(client.post("/api/edit", json={"picture": found, "set": {"pc1": 1}, "hold": ["pc1"]}), 422, "both set and held")
    refused(client.post("/api/edit", json={"picture": "x" * 22, "set": {"pc1": 1}}), 404, "open it again")
    refused(client.post("/api/edit", json={"picture": found, "sett": {"pc1": 1}}), 422, "sett")
    refused(client.post("/api/edit", content=b"{", headers=head), 422)
    refused(client.post("/api/edit", content=b"\xff\xfe", headers=head), 422)
    refused(client.post("/api/encode", json={"model": "vae"}), 422, "multipart/form-data")
    refused(client.post("/api/encode", data={"model": "vae"}, files={"other": ("", b"")}), 422)
    assert client.post("/api/edit", json={"picture": found, "set": {"pc1": 1000}}).status_code in (200, 422)


def test_bodies_are_bounded_before_they_are_read(client):
    head = {"content-type": "multipart/form-data; boundary=x"}
    refused(client.post("/api/encode", content=b"x" * (2**20 + 1), headers=head), 413, "larger than 1 MiB")
    refused(client.post("/api/edit", content=b"x" * (2**16 + 1)), 413)

    def parts():
        for _ in range(2**9):
            yield b"x" * 2**13

    refused(client.post("/api/encode", content=parts(), headers=head), 413)
    refused(client.post("/api/edit", content=parts(), headers={"content-type": "application/json"}), 413)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, 200),
        ({"host": "[bad"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": HOST}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"content-length": "x"}, 400),
    ],
)
def test_host_and_origin_are_checked(client, headers, status):
    answer = client.get("/api/models", headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status != 200:
        refused(answer, status)


def test_a_token_is_asked_for(registry, capsys):
    asking = client_of(registry, token="secret-token", hosts=hosts_of("0.0.0.0", ["studio.example"]))
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic secret-token"},
        {"authorization": "Bearer"},
    ):
        answer = asking.get("/api/models", headers=headers)
        refused(answer, 401, "token")
        assert answer.headers["www-authenticate"] == "Bearer"
    for host in ("192.168.1.5:7860", "studio.example", "localhost"):
        assert asking.get("/api/models", headers={"authorization": "Bearer secret-token", "host": host}).status_code == 200
    assert asking.get("/", headers={"host": "evil.example"}).status_code == 421
    assert asking.get("/").status_code == 200 and asking.get("/api/health").status_code == 200
    assert main(["studio", "nowhere", "--host", "0.0.0.0"]) == 2
    assert "--token" in capsys.readouterr().err


def test_a_port_in_use_is_said():
    with listening(Address(port=0)) as bound, pytest.raises(TriptychError, match=r"in use.*--port"):
        listening(Address(port=bound.getsockname()[1]))


def test_the_page_asks_for_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "text/html" in page.headers["content-type"]
    described = client.get("/openapi.json").json()
    assert {"/api/models", "/api/encode", "/api/edit", "/api/mix", "/api/sample", "/api/health"} <= set(described["paths"])
    for name in ("studio.js", "style.css", "docs.js", "icon.svg"):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert "https://" not in answer.text and "http://" not in answer.text.replace("http://www.w3.org/", "")
    assert client.get("/docs").status_code == 200
    refused(client.get("/static/../app.py"), 404)
    refused(client.get("/static/%2e%2e/app.py"), 404)


def test_a_slider_is_told_where_edits_work_nowhere_and_where_nobody_looked():
    direction = edit.Direction("a", "continuous", torch.ones(2), 0.0, 1.0, torch.ones(2))
    for judged, safe, swept in (({}, None, False), ({"safe": None}, None, True), ({"safe": [0.0, 0.5]}, (0.0, 0.5), True)):
        found = described(replace(direction, judged=judged))
        assert (found.safe, found.swept) == (safe, swept)


def test_pictures_expire_and_are_bounded():
    now = [0.0]
    shelf = Shelf("picture", most=100, expiry=60.0, clock=lambda: now[0])
    keys = [shelf.put(i, 30) for i in range(3)]
    assert len(set(keys)) == 3 and all(len(key) >= 22 for key in keys)
    shelf.get(keys[0])
    shelf.put(3, 30)
    with pytest.raises(Gone):
        shelf.get(keys[1])  # used least recently
    shelf.touch(keys[1])  # which stays forgotten
    assert shelf.get(keys[0]) == 0 and shelf.bytes == 90
    now[0] = 61.0
    shelf.purge()
    assert not len(shelf) and shelf.bytes == 0
    with pytest.raises(Gone, match="open it again"):
        shelf.get(keys[0])


def test_a_full_queue_says_when_to_come_again(runs):
    registry = Registry([runs / "vae"], Limits(waiting=2))
    with client_of(registry) as client:
        found = opened(client)["picture"]
        free, worker = threading.Event(), registry.model("vae").worker
        worker.submit(lambda jobs: [free.wait() for _ in jobs], None, alone=True)
        while len(worker):
            pass
        waiting = [worker.submit(lambda jobs: jobs, i, alone=True) for i in range(2)]
        answer = client.post("/api/edit", json={"picture": found, "set": {"pc1": 1}})
        refused(answer, 503, "try again")
        assert int(answer.headers["retry-after"]) > 0
        waiting[0].cancel()  # its visitor left
        free.set()
        assert client.post("/api/edit", json={"picture": found, "set": {"pc1": 1}}).status_code == 200


def test_a_worker_does_alike_work_together_and_one_failure_is_not_the_others():
    worker, free, sizes = Worker("model", waiting=10, together=3), threading.Event(), []

    def halves(numbers):
        sizes.append(len(numbers))
        return [1 / n for n in numbers]

    worker.submit(lambda jobs: [free.wait() for _ in jobs], None)
    found = [worker.submit(halves, n) for n in (1, 2, 0, 4)]
    free.set()
    assert [f.exception() is None for f in found] == [True, True, False, True] and found[3].result() == 0.25
    assert sizes[0] == 3 and sizes[-1] == 1
    worker.close()
    with pytest.raises(Busy):
        worker.submit(halves, 1)


def test_one_model_that_fails_in_any_way_does_not_stop_the_others(runs, monkeypatch):
    from triptych.studio import served

    load = served.load

    def failing(folder):
        if folder.name == "vae":
            raise RuntimeError("no such operator")
        return load(folder)

    monkeypatch.setattr(served, "load", failing)
    registry = Registry([runs / "vae", runs / "glow"])
    assert [one.id for one in registry.served] == ["glow"]
    assert registry.broken[0].problem == "RuntimeError: no such operator"
    registry.close()


def test_runs_are_found_and_loaded_again_when_they_change(runs, tmp_path, monkeypatch):
    from triptych.studio import registry as registries

    monkeypatch.setattr(registries, "_RESTED", 0.0)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "recipe.json").write_text(json.dumps({"format": 3}))
    registry = Registry([tmp_path])
    assert [b.problem for b in registry.broken] == [
        "it has no checkpoint yet: it appears here once its training has saved one"
    ]
    save_run(vae, tmp_path / "one")
    save_run(flow, tmp_path / "two" / "one")
    with client_of(registry) as client:
        assert [m["id"] for m in client.get("/api/models").json()["models"]] == ["one", "one-2"]
        found = opened(client, "one")["picture"]
        torch.manual_seed(7)
        model = triptych.VAE(SIZE, 4)
        model.save_pretrained(tmp_path / "one")
        note = client.get("/api/models").json()["models"][0]["note"]
        assert "other weights" in note and str(tmp_path) not in note
        nothing = client.post("/api/edit", json={"picture": found})
        assert nothing.status_code == 200  # encoded again by the weights that are there now
        refused(client.post("/api/edit", json={"picture": found, "set": {"pc1": 1}}), 422, "unknown direction")


def test_nothing_is_written(client, monkeypatch):
    """No upload, edit or score opens a file for writing, however large the picture is."""
    import builtins
    import tempfile

    def refuse(*args, **options):
        raise AssertionError(f"wrote {args}")

    true_open = builtins.open
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "_TemporaryFileWrapper", refuse)
    monkeypatch.setattr(
        builtins, "open", lambda f, mode="r", *a, **k: true_open(f, mode, *a, **k) if "r" in mode else refuse(f, mode)
    )
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(noise).save(target, "PNG", compress_level=0)
    found = opened(client, "vae", target.getvalue())
    assert client.post("/api/edit", json={"picture": found["picture"], "set": {"pc1": 1}}).status_code == 200
