"""Data as people have them load as these would expect, and what was read is said."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import LAYOUTS, H, Layout, N, W, guide_table, picture, pictures, pixels, split_folders, twelve_bits
from PIL import Image

import triptych
from triptych.data import load
from triptych.data.delimited import read_delimited
from triptych.data.holding import held_out
from triptych.data.pictures import FORMATS, SUFFIXES
from triptych.errors import TriptychError

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_read_as_people_expect(layout: Layout, tmp_path: Path) -> None:
    splits = load(layout.make(tmp_path), notice=lambda line: None)
    sizes = {name: len(split) for name, split in splits.items()}
    if layout.sizes:
        assert sizes == layout.sizes
    total = sum(layout.sizes.values()) or N
    assert sum(sizes.values()) == total and min(sizes.values()) > 0
    assert splits.train.event_shape == layout.event
    assert dict(splits.train.kinds) == layout.attributes
    assert all(word in splits.summary for word in layout.said), splits.summary
    assert "\n" not in splits.summary and f"{len(splits.train):,} " in splits.summary


def test_the_guides_table_is_this_one() -> None:
    assert guide_table() in (ROOT / "docs/guide/data.md").read_text()


def test_attributes_belong_to_their_pictures(tmp_path: Path) -> None:
    for name in ("a spreadsheet", "labels.csv", "metadata.jsonl"):
        (tmp_path / name).mkdir()
        splits = load(LAYOUTS[name].make(tmp_path / name), notice=lambda line: None)
        for split in splits.values():
            for i in range(len(split)):
                row = next(k for k in range(N) if np.array_equal(split.data[i], pixels(k).transpose(2, 0, 1)))
                for attribute, values in split.attributes.items():
                    expected = {"smile": row % 2, "glad": row % 2, "age": row + 0.5 if name == "a spreadsheet" else row / 2}
                    assert values[i] == expected[attribute] or (row == 0 and np.isnan(values[i]))


def test_values_of_the_range_of_the_set(tmp_path: Path) -> None:
    splits = load(LAYOUTS["12 bits in 16"].make(tmp_path), notice=lambda line: None)
    found = np.concatenate([split.data for split in splits.values()])
    assert all(any(np.array_equal(one[0], pixels(i, 1)) for i in range(N)) for one in found)


def test_others_are_read_by_the_range_of_the_training_set(tmp_path: Path) -> None:
    """A dark 12-bit picture alone does not tell that it is one."""
    folder, run = twelve_bits(tmp_path / "set"), tmp_path / "run"
    values = (pixels(0, 1).astype(np.uint16) << 4) // 8
    Image.fromarray(values).save(tmp_path / "dark.png")
    model = triptych.train("vae", folder, out=run, steps=2, model={"latent_dim": 2, "width": 4})
    for judge in (model, triptych.load(run)):
        assert judge.codec.depth == (4,)
        stored = judge.codec.decode(triptych.read(tmp_path / "dark.png", judge))
        assert np.array_equal(stored[0, 0].numpy(), values >> 4)
    other = tmp_path / "other"
    other.mkdir()
    for i in range(3):
        Image.fromarray((pixels(i, 1).astype(np.uint16) << 4) // 8).save(other / f"{i}.png")
    for data in (other, np.stack([(pixels(i, 1).astype(np.uint16) << 4) // 8 for i in range(3)])):
        splits = load(data, depth=model.codec.depth)
        assert max(split[:].max() for split in splits.values()) < 32 and splits.train.depth == (4,)
    from triptych.cli import main

    assert main(["score", str(run), str(other), "--out", str(tmp_path / "s.csv"), "--by", "joint"]) == 0
    again = triptych.resume(run, steps=3)
    assert again.codec.depth == (4,)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_set_that_grows_keeps_its_parts(tmp_path: Path, seed: int) -> None:
    folder = pictures(tmp_path / "photos", 60)
    before = load(folder, seed=seed)
    for i in range(60, 90):
        picture(folder / f"new_{i}.png", i)
    shutil.copy(folder / "000.png", folder / "copy of the first.png")
    (folder / "055.png").unlink()
    after = load(folder, seed=seed)

    def rows(split: object) -> set[bytes]:
        return {bytes(row.tobytes()) for row in np.asarray(split.data)}  # type: ignore[attr-defined]

    assert not rows(after.test) & rows(before.train) and not rows(after.train) & rows(before.test)
    assert not rows(after.train) & rows(after.test)  # a copy lies where its original does


def test_about_a_tenth_is_held_out_whatever_the_seed() -> None:
    prints = np.random.default_rng(0).integers(0, 2**63, 5000).astype(np.uint64)
    shares = [held_out(prints, seed).mean() for seed in range(20)]
    assert min(shares) > 0.08 and max(shares) < 0.12 and 0.097 < np.mean(shares) < 0.103  # binomial: 0.1 ± 0.0042
    assert held_out(np.zeros(500, np.uint64), 0, copies=True).mean() == pytest.approx(0.1, abs=0.05)
    for count in range(2, 30):
        apart = held_out(prints[:count], 0)
        assert 0 < apart.sum() < count
        assert 0 < held_out(np.zeros(count, np.uint64), 0).sum() < count


def test_a_moved_set_has_the_same_digest(tmp_path: Path) -> None:
    here = pictures(tmp_path / "a")
    first = load(here).train.digest
    shutil.move(here, tmp_path / "b")
    assert load(tmp_path / "b").train.digest == first != ""
    picture(tmp_path / "b" / "zz.png", 999)
    assert load(tmp_path / "b", n=5).train.digest != first


def test_only_pictures_own_formats_are_opened(tmp_path: Path) -> None:
    """Encapsulated PostScript would start another program, whatever the file is called."""
    pictures(tmp_path)
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    splits = load(tmp_path, notice=lambda line: None)
    assert [one.name for split in splits.values() for one in split.skipped] == ["x.png"]
    from PIL import Image

    Image.init()
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    recent = {".avif", ".avifs"}  # from Pillow 11.3 on
    assert known | recent == SUFFIXES and "EPS" not in FORMATS


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_column_of_numbers_names_no_pictures_where_another_does(tmp_path: Path) -> None:
    for i in range(1, N + 1):
        picture(tmp_path / f"{i}.png", i)
    rows = [f"{N + 1 - i},{i}.png,{int(i > 10)}" for i in range(1, N + 1)]
    write(tmp_path / "metadata.csv", "\n".join(["age,file_name,smile", *rows]))
    for split in load(tmp_path).values():
        for one, smile, age in zip(split.names, split.attributes["smile"], split.attributes["age"], strict=True):
            number = int(Path(one).stem)
            assert smile == (number > 10) and age == N + 1 - number


def test_a_missing_picture_gives_its_labels_to_no_other(tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / "train" / f"{i}.png", i)
        picture(tmp_path / "test" / f"{i}.png", 50 + i)
    (tmp_path / "train" / "5.png").unlink()
    write(tmp_path / "metadata.csv", "\n".join(["file_name,smile", *(f"train/{i}.png,{i % 2}" for i in range(10))]))
    splits = load(tmp_path, notice=lambda line: None)
    assert np.isnan(splits.test.attributes["smile"]).all() and "1 row of metadata.csv without" in splits.summary


def test_columns_of_tables_are_matched_by_name(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "a,b\n" + "".join(f"{i},{100 + i}\n" for i in range(9)))
    write(tmp_path / "test.csv", "b,a\n" + "".join(f"{100 + i},{i}\n" for i in range(3)))
    splits = load(tmp_path)
    assert splits.test.columns == splits.train.columns == ("a", "b") and splits.test[0].tolist() == [0, 100]
    write(tmp_path / "test.csv", "b,c\n1,2\n")
    with pytest.raises(TriptychError, match="columns of the training data"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["split", "Data Split"])
@pytest.mark.parametrize("words", [("train", "test"), ("train_set", "test_set"), ("Training", "")])
def test_a_split_column_of_any_table_is_honoured(name: str, words: tuple[str, str], tmp_path: Path) -> None:
    said = [words[i >= 15] for i in range(20)]
    rows = "".join(f"{i},{2 * i % 7},{word}\n" for i, word in enumerate(said))
    splits = load(write(tmp_path / "table.csv", f"a,b,{name}\n{rows}"), notice=lambda line: None)
    if words[1]:
        assert (len(splits.train), len(splits.test)) == (15, 5)
    else:
        assert len(splits.train) + len(splits.test) == 15 and not splits.train.attributes
    import pandas as pd

    frame = pd.DataFrame({"Scan": [encoded(i) for i in range(20)], name: said})
    frame.to_parquet(tmp_path / "x.parquet")
    splits = load(tmp_path / "x.parquet", notice=lambda line: None)
    assert sum(map(len, splits.values())) == (20 if words[1] else 15)
    assert torch.equal(splits.train[0], torch.from_numpy(pixels(0)).permute(2, 0, 1)) or not words[1]


def encoded(i: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(i)).save(file, "PNG")
    return file.getvalue()


def test_columns_that_count_rows_or_name_pixels(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * i % 5},{i % 3}.5\n" for i in range(12))
    splits = load(write(tmp_path / "a.csv", "Id,a,b\n" + rows))
    assert splits.train.columns == ("a", "b") and "Id (counts the rows)" in splits.summary
    order = sorted(range(16), key=str)
    rows = "".join(",".join(map(str, order)) + "\n" for _ in range(12))
    splits = load(write(tmp_path / "b.csv", ",".join(f"pixel{i}" for i in order) + "\n" + rows))
    assert splits.train[0].flatten().tolist() == list(range(16))


@pytest.mark.parametrize("word", ["", "NA", "null", "?"])
def test_a_missing_number_is_named(word: str, tmp_path: Path) -> None:
    rows = "".join(f"{i},{word if i == 7 else i}\n" for i in range(3, 30, 2))
    with pytest.raises(TriptychError, match=r"a number in every row, got none in b \(1\)"):
        load(write(tmp_path / "a.csv", "a,b\n" + rows))


def test_a_first_picture_that_is_missing_is_skipped(tmp_path: Path) -> None:
    import pandas as pd

    files = [str(picture(tmp_path / f"{i}.png", i)) for i in range(10)]
    splits = load(pd.DataFrame({"path": [None, *files], "smile": [1] + [0, 1] * 5}), notice=lambda line: None)
    assert sum(map(len, splits.values())) == 10 and splits.train.is_image and "1 unreadable" in splits.summary


def test_the_same_values_in_another_dtype_are_held_out_alike(tmp_path: Path) -> None:
    values = np.stack([pixels(i, 1) for i in range(200)])
    floats = np.random.default_rng(0).normal(size=(200, 3))
    for ours, theirs in (
        (values, values.astype(np.int64)),
        (floats.astype(np.float32), floats.astype(np.float32).astype(float)),
    ):
        assert torch.equal(load(ours).test[:], load(theirs).test[:])


def test_a_refused_resume_leaves_the_recipe(tmp_path: Path) -> None:
    folder, run = pictures(tmp_path / "set", 30), tmp_path / "run"
    quick = {"model": {"latent_dim": 2, "width": 4}, "training": {"batch": 8}}
    triptych.train("vae", folder, out=run, steps=2, **quick)
    picture(folder / "zz.png", 999)
    before = (run / "recipe.json").read_text()
    with pytest.raises(TriptychError, match="the run began with"):
        for i in range(40):  # until one of them is trained on
            picture(folder / f"y{i}.png", 1000 + i)
            triptych.resume(run, steps=9 + i)
    assert (run / "recipe.json").read_text() == before
    with pytest.raises(TriptychError, match="whole number"):
        triptych.train("vae", folder, steps=2.5)


BAD = {
    "a longer row": ("file_name,smile\n000.png,1\n001.png,1,2\n", ["expected 2 values", "got 3", "row 2"]),
    "a column twice": ("file_name,a,a\n000.png,1,2\n", ["'a' twice"]),
    "two rows for one": ("file_name,a\n000.png,1\n000,2\n", ["two for 000"]),
    "nothing": ("", ["expected a header and rows"]),
    "no names": ("a,b\n1,2\n", ["column file_name", "a, b"]),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_bad_tables_are_one_line(text: str, words: list[str], tmp_path: Path) -> None:
    (pictures(tmp_path) / "metadata.csv").write_text(text)
    with pytest.raises(TriptychError) as caught:
        load(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    for name in ("batches.meta", "data_batch_1"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(TriptychError, match="binary version"):
        load(tmp_path)


def test_archives_stay_inside_their_folder(tmp_path: Path) -> None:
    import zipfile

    picture(tmp_path / "a.png", 0)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.write(tmp_path / "a.png", "../../escaped.png")
    with pytest.raises(TriptychError, match="outside"):
        load(tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", b"\0" * 1000)
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")  # as large as a zip may say
    (tmp_path / "bomb.zip").write_bytes(content)
    with pytest.raises(TriptychError):
        load(tmp_path / "bomb.zip")
    (tmp_path / "cut.zip").write_bytes(content[:20])
    with pytest.raises(TriptychError, match="complete zip"):
        load(tmp_path / "cut.zip")


NUMBERS = {
    'x;y;z\n1,5;a,b;"3"\n2;c;4,25\n': [["1.5", "a,b", "3"], ["2", "c", "4.25"]],
    'x,y\n"1,5",2\n"2,25",3\n': [["1.5", "2"], ["2.25", "3"]],
    'x,y\n"1,234.5",2\n"12,000",3\n': [["1234.5", "2"], ["12000", "3"]],
    'x,y\n"1,234",2\n"2,500",NA\n': [["1234", "2"], ["2500", "NA"]],  # between commas a comma parts thousands
    "x;y\n1.234,5;2\n12,5;3\n": [["1234.5", "2"], ["12.5", "3"]],
    "x;y\n1.234;2,5\n12.000;3,5\n": [["1234", "2.5"], ["12000", "3.5"]],  # as the other column has it
    "x;y\n1.234;2\n12.125;3\n": [["1.234", "2"], ["12.125", "3"]],  # nothing says that these are thousands
    "x;y\n1,234;2\n12,125;3\n": [["1.234", "2"], ["12.125", "3"]],
    "x\ty\n1,234\t2.5\n2,125\t3.5\n": [["1234", "2.5"], ["2125", "3.5"]],
    "x;y\n1 234,5;2\n12,5;?\n": [["1234.5", "2"], ["12.5", "?"]],
    "x;y\n1'234'567.5;2\n12.5;3\n": [["1234567.5", "2"], ["12.5", "3"]],
    "x;y\n0.123;01.02.2020\n0.125;02.02.2020\n": [["0.123", "01.02.2020"], ["0.125", "02.02.2020"]],
    "5.1,3.5\n4.9,1e-3\n": [["5.1", "3.5"], ["4.9", "1e-3"]],  # no header
    "0,1\n4.9,3\n": [["4.9", "3"]],  # a header
    " 0.1  18.0\n 0.2 0.00\n": [["0.1", "18.0"], ["0.2", "0.00"]],
}


@pytest.mark.parametrize(("text", "rows"), NUMBERS.items(), ids=range(len(NUMBERS)))
def test_numbers_as_people_write_them(text: str, rows: list[list[str]], tmp_path: Path) -> None:
    assert read_delimited(write(tmp_path / "a.csv", text)).rows == rows


SPLITS = {
    "train2017 val2017": ("train", "test"),
    "Train Test": ("train", "test"),
    "train_images test_images": ("train", "test"),
    "train eval test": ("train", "valid", "test"),
    "train holdout": ("train", "test"),
    "trainA testA trainB testB": ("train", "test", "train", "test"),
    "Training PublicTest PrivateTest": ("train", "valid", "test"),
    "train car bus": ("train", "train", "train"),  # vehicles
    "trainer tester": ("train", "train"),
    "seg_train seg_test seg_pred": ("train", "test", None),
}


@pytest.mark.parametrize(("names", "splits"), SPLITS.items(), ids=SPLITS)
def test_names_of_splits(names: str, splits: tuple[str | None, ...], tmp_path: Path) -> None:
    folders = names.split()
    for at, folder in enumerate(folders):
        for i in range(3):
            picture(tmp_path / folder / f"{at}{i}.png", 10 * at + i)
    alone = "test" not in splits and "valid" not in splits and None not in splits
    read = load(tmp_path, notice=lambda line: None)
    if alone:
        assert sum(map(len, read.values())) == 3 * len(folders) and read.origin
        return
    placed = {Path(name).parent.name: split for split, part in read.items() for name in part.names}
    wanted = ["test" if "test" not in splits and split == "valid" else split for split in splits]
    assert placed == {folder: split for folder, split in zip(folders, wanted, strict=True) if split}


COLUMNS = {
    "is_valid": ("0", "1"),
    "is_train": ("True", "False"),
    "mode": ("train", "eval"),
    "Usage": ("Training", "PrivateTest"),
}


@pytest.mark.parametrize(("name", "words"), COLUMNS.items(), ids=COLUMNS)
def test_columns_that_say_splits(name: str, words: tuple[str, str], tmp_path: Path) -> None:
    rows = "".join(f"{i:03}.png,{words[i >= 16]}\n" for i in range(N))
    write(pictures(tmp_path) / "labels.csv", f"file_name,{name}\n{rows}")
    splits = load(tmp_path)
    assert {n: len(s) for n, s in splits.items()} == {"train": 16, "test": 8} and not splits.train.attributes
    assert f"by column {name} of labels.csv" in splits.summary


def test_lists_of_what_is_not_trained_on(tmp_path: Path) -> None:
    write(pictures(tmp_path / "clips").parent / "testing_list.txt", "".join(f"clips/{i:03}.png\n" for i in range(4)))
    write(tmp_path / "validation_list.txt", "".join(f"clips/{i:03}.png\n" for i in range(4, 9)))
    assert {n: len(s) for n, s in load(tmp_path).items()} == {"train": N - 9, "valid": 5, "test": 4}
    write(tmp_path / "splits.json", json.dumps({"train": [f"{i:03}.png" for i in range(12)], "test": ["020.png"]}))
    assert {n: len(s) for n, s in load(tmp_path).items()} == {"train": 12, "test": 1}  # a column has the word


def test_annotations_of_other_kinds_name_no_pictures(tmp_path: Path) -> None:
    """Boxes of the class 0, a text for each picture, are not lists of a picture called 0."""
    for i in range(6):
        picture(tmp_path / "images" / "train" / f"{i}.png", i)
        picture(tmp_path / "images" / "val" / f"v{i}.png", 50 + i)
        (tmp_path / "labels" / "train").mkdir(parents=True, exist_ok=True)
        write(tmp_path / "labels" / "train" / f"{i}.txt", "0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1\n")
    splits = load(tmp_path)
    assert (len(splits.train), len(splits.test)) == (6, 6) and not splits.train.attributes
    assert "and 4 more (text)" in splits.summary


def test_what_splits_have_in_common_is_said(tmp_path: Path) -> None:
    split_folders(a="train", b="test")(tmp_path)
    assert "in train too" not in load(tmp_path).summary
    shutil.copy(tmp_path / "train/ill/0001.png", tmp_path / "test/ill/copy.png")
    assert "1 example of test in train too" in load(tmp_path).summary


def test_names_that_several_pictures_have(tmp_path: Path) -> None:
    for folder, capitals in (("a", "IMG"), ("b", "img")):
        for i in range(6):
            picture(tmp_path / folder / f"{capitals}_{i}.png", i + 10 * (folder == "b"))
            picture(tmp_path / folder / f"{i}.png", 30 + i + 10 * (folder == "b"))
    rows = [f"{capitals}_{i}.png,{value}" for i in range(6) for capitals, value in (("IMG", 0), ("img", 1))]
    write(tmp_path / "metadata.csv", "\n".join(["file_name,capital", *rows, "3.png,1"]))
    splits = load(tmp_path, notice=lambda line: None)
    for split in splits.values():
        for name, value in zip(split.names, split.attributes["capital"], strict=True):
            assert value == ("img" in name) if "_" in name else np.isnan(value)
    assert "1 row of metadata.csv whose name several pictures have" in splits.summary
    write(tmp_path / "metadata.csv", "file_name,capital\n3.png,1\n4.png,0\n")
    with pytest.raises(TriptychError, match=r"several are called 3\.png \(a/3\.png, b/3\.png\); write them with their fold"):
        load(tmp_path)


def test_decoded_pictures_are_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.data import stored

    monkeypatch.setattr(stored, "WORTH_KEEPING", 1)
    cache = tmp_path / "kept"
    monkeypatch.setenv("TRIPTYCH_CACHE", str(cache))
    folder = pictures(tmp_path / "photos")
    first = load(folder)
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr("triptych.data.pictures.decode", None)  # a second decoding would fail
        shutil.move(folder, tmp_path / "moved")
        assert torch.equal(load(tmp_path / "moved").train[:], first.train[:])
    load(tmp_path / "moved", size=4, cache=False)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setenv("TRIPTYCH_CACHE_BYTES", str(20 * N * H * W * 3))
    for size in (4, 5, 6):
        load(tmp_path / "moved", size=size)
    monkeypatch.setenv("TRIPTYCH_CACHE_BYTES", str(5 * N * 6 * 6 * 3))
    load(tmp_path / "moved", size=7)
    assert len(list(cache.iterdir())) < 5
    monkeypatch.delenv("TRIPTYCH_CACHE_BYTES")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "moved" / "000.png"))  # not a folder
    said: list[str] = []
    assert torch.equal(load(tmp_path / "moved", notice=said.append).train[:], first.train[:])
    assert any("not kept" in line for line in said)


def test_what_a_kill_leaves_in_the_cache_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.data import stored

    monkeypatch.setattr(stored, "WORTH_KEEPING", 1)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "kept"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    entry = tmp_path / "kept" / ("0" * 32)
    for place in (entry, tmp_path / "kept"):
        place.mkdir(parents=True, exist_ok=True)
        (place / f".rows.triptych-{ended.pid}-0123abcd").write_bytes(b"half")
    (entry / "rows").write_bytes(bytes(10**6))  # the kill came before about.json
    (tmp_path / "kept" / "mine").mkdir()
    monkeypatch.setenv("TRIPTYCH_CACHE_BYTES", "900000")
    load(pictures(tmp_path / "photos"))
    left = {path.name for path in (tmp_path / "kept").rglob("*")}
    assert entry.name not in left and "mine" in left and not any("triptych-" in name for name in left)


def test_a_run_says_where_its_data_have_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from triptych.cli import main

    folder, run = split_folders(a="one")(tmp_path / "set") / "one", tmp_path / "run"
    for i in range(40):
        picture(folder / "ill" / f"m{i}.png", 500 + i)
    quick = [
        "--steps",
        "2",
        "--training.batch",
        "8",
        "--model.latent-dim",
        "2",
        "--model.width",
        "4",
        "--training.save-every",
        "1",
    ]
    assert main(["train", "vae", "--data", str(folder), "--out", str(run), *quick]) == 0
    told = capsys.readouterr().err
    assert "held out; attribute ill (binary)" in told
    shutil.move(folder, tmp_path / "elsewhere")
    assert main(["train", "--resume", str(run), "--steps", "3"]) == 2
    assert main(["train", "--resume", str(run), "--steps", "3", "--data", str(tmp_path / "elsewhere")]) == 0
    assert json.loads((run / "recipe.json").read_text())["recipe"]["data"] == str(tmp_path / "elsewhere")
    for i in range(5):
        picture(tmp_path / "elsewhere" / "ill" / f"n{i}.png", 900 + i)
    capsys.readouterr()
    assert main(["evaluate", str(run), "--k", "1", "--images", "4"]) == 0
    assert "has changed since" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--steps", "4", "--data", str(tmp_path / "elsewhere")]) == 2
    assert "are others than" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "elsewhere")
    assert main(["doctor", str(run)]) == 0  # the records can be read without data
