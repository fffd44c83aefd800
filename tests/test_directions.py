"""`triptych directions` on data as people have them: classes, what cannot be learned, and what was stored before."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import triptych
from triptych import edit
from triptych.cli import main

SIZE = (3, 8, 8)
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A VAE that has not been trained: its codes still tell colours apart."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("run") / "run"
    triptych.VAE(SIZE, 6).save_pretrained(out)
    return out


@pytest.fixture(autouse=True)
def forgotten(run):
    for path in run.glob("directions.*"):
        path.unlink()


def picture(random, colour, light=0):
    noise = random.integers(0, 30, (8, 8, 3))
    return Image.fromarray((np.array(colour) + light + noise).clip(0, 255).astype(np.uint8))


def class_folders(root, colours, n=60):
    random = np.random.default_rng(0)
    for split, count in (("train", n), ("test", n // 2)):
        for colour in colours:
            (root / split / colour).mkdir(parents=True)
            for i in range(count):
                picture(random, COLOURS[colour]).save(root / split / colour / f"{i:02}.png")
    return root


def table(root, columns, n=240):
    """Pictures whose colour is `red` or not and whose lightness is `light`, with further columns."""
    random, rows = np.random.default_rng(0), []
    for split, count in (("train", n), ("test", n // 2)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            light = random.integers(0, 50)
            name = f"{split}/{i:03}.png"
            picture(random, COLOURS["red" if i % 2 else "blue"], light).save(root / name)
            rows.append([name, i % 2, light, *(column(split, i, random) for column in columns.values())])
    header = ["file_name", "red", "light", *columns]
    (root / "metadata.csv").write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]))
    return root


def learned(run, data, *words):
    told = run / "told.json"
    assert main(["directions", str(run), "--data", str(data), "--json", str(told), *words]) == 0
    return json.loads(told.read_text())


def test_classes_are_learned_one_against_the_rest(run, tmp_path, capsys):
    data = class_folders(tmp_path / "data", COLOURS)
    told = learned(run, data)
    assert set(told) == {"label=red", "label=green", "label=blue"}
    assert all(values["kind"] == "binary" and values["worthless"] is False for values in told.values())
    said = capsys.readouterr().out
    assert "majority 0.667" in said and "chance 0.5" in said
    assert set(learned(run, data, "--attributes", "label=red")) == {"label=red"}
    assert set(learned(run, data, "--attributes", "label")) == set(told)
    photo = str(data / "test" / "blue" / "00.png")
    assert main(["edit", str(run), photo, "--set", "label=red=1", "--out", str(tmp_path / "x.png")]) == 0
    capsys.readouterr()
    assert main(["directions", str(run), "--data", str(data), "--attributes", "label=rad"]) == 2
    assert "label=red" in capsys.readouterr().err


def test_two_classes_are_one_axis(run, tmp_path):
    (told,) = learned(run, class_folders(tmp_path / "data", ["red", "blue"])).values()
    assert told["kind"] == "binary" and told["accuracy"] == 1 and told["majority"] == 0.5


def test_of_many_classes_the_most_frequent_are_learned(run, tmp_path, capsys, monkeypatch):
    from triptych.cli import lessons

    monkeypatch.setattr(lessons, "_MOST_CLASSES", 2)
    data = class_folders(tmp_path / "data", COLOURS)
    for i in range(30):
        (data / "train" / "green" / f"{i:02}.png").unlink()
    assert set(learned(run, data)) == {"label=red", "label=blue"}
    assert "left aside: classes that are rarer than 2 others" in capsys.readouterr().err
    assert set(learned(run, data, "--attributes", "label=green")) == {"label=green"}


BAD = {
    "constant": lambda split, i, random: 1,
    "rare": lambda split, i, random: int(i < 3),
    "empty_there": lambda split, i, random: "" if split == "test" else i % 3,
    "absent_there": lambda split, i, random: int(split == "train" and i % 5 == 0),
    "luck": lambda split, i, random: random.integers(0, 2),
}


def test_what_cannot_be_learned_or_judged_is_named_and_the_others_are_learned(run, tmp_path, capsys):
    data = table(tmp_path / "data", BAD)
    told = learned(run, data)
    said = capsys.readouterr()
    assert set(told) == {"red", "light", "luck"}
    assert all(f"skipped: attribute {name} " in said.err for name in set(BAD) - {"luck"})
    assert {name: values["worthless"] for name, values in told.items()} == {"red": False, "light": False, "luck": True}
    assert "worthless" in said.out and "refuses without --force: luck" in " ".join(said.out.split())
    assert set(learned(run, data, "--attributes", "constant,light")) == {"light"}
    capsys.readouterr()
    assert main(["directions", str(run), "--data", str(data), "--attributes", "constant,rare"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("triptych: ") and "constant" in line and "rare" in line


def test_what_is_learned_is_added_to_what_is_stored(run, tmp_path, capsys):
    data = table(tmp_path / "data", {})
    learned(run, data)
    assert set(learned(run, data, "--unsupervised", "2")) == {"pc1", "pc2"}
    assert "stored before and kept: red, light" in capsys.readouterr().out
    before = edit.Directions.load(run)
    assert list(before) == ["red", "light", "pc1", "pc2"]
    learned(run, data, "--attributes", "light", "--method", "means")
    after = edit.Directions.load(run)
    assert list(after) == list(before)
    same = {name: torch.equal(after[name].step, before[name].step) for name in after}
    assert same == {"red": True, "light": False, "pc1": True, "pc2": True}
    photo, out = str(data / "test" / "000.png"), str(tmp_path / "x.png")
    assert main(["edit", str(run), photo, "--set", "pc1=1", "--set", "red=1", "--out", out]) == 0


@pytest.mark.parametrize("damage", [{"weights": "of others"}, {"vectors": "of others"}, {"directions": {"red": {}}}])
def test_what_belongs_to_other_weights_or_is_damaged_is_replaced_and_said(run, tmp_path, capsys, damage):
    data = table(tmp_path / "data", {}, n=40)
    learned(run, data)
    stored = json.loads((run / "directions.json").read_text())
    (run / "directions.json").write_text(json.dumps({**stored, **damage}))
    learned(run, data, "--unsupervised", "1")
    assert "what was stored is replaced" in capsys.readouterr().err
    assert list(edit.Directions.load(run)) == ["pc1"]
