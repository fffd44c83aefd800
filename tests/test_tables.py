"""Tables beside pictures, as spreadsheets, scripts and published sets write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from layouts import N, picture, pictures, pixels

from triptych.data import load
from triptych.errors import TriptychError

SMILE = [i % 2 for i in range(N)]


def csv(row: Callable[[int], str], header: str = "file,smile", before: str = "", end: str = "\n") -> str:
    return before + end.join([header, *map(row, range(N))]) + end


def plain(i: int) -> str:
    return f"{i:03}.png,{SMILE[i]}"


ROWS = [{"file_name": f"{i:03}.png", "smile": SMILE[i]} for i in range(N)]
TABLES = {
    "Excel's first line": ("labels.csv", csv(lambda i: plain(i).replace(",", ";"), "file;smile", "sep=;\n")),
    "a comment": ("labels.csv", csv(plain, before="# by a tool, in 2020\n")),
    "a header in a comment": ("labels.csv", csv(plain, "# file,smile")),
    "old line ends": ("labels.csv", csv(plain, end="\r")),
    "a column that counts": ("labels.csv", csv(lambda i: f"{i},{plain(i)}", ",file,smile")),
    "zeros that a spreadsheet took": ("labels.csv", csv(lambda i: f"{i},{SMILE[i]}", "id,smile")),
    "pictures that were converted": ("labels.csv", csv(lambda i: f"{i:03}.JPG,{SMILE[i]}")),
    "a list with a header": ("labels.txt", csv(lambda i: plain(i).replace(",", " "), "file smile")),
    "UTF-32": ("labels.csv", csv(plain).encode("utf-32")),
    "a quoted line break": ("labels.csv", csv(lambda i: f'"{i:03}.png",{SMILE[i]},"a\n""b"" {i}"', "file,smile,note")),
    "a JSON list": ("labels.json", json.dumps(ROWS)),
    "JSON by name": ("labels.json", json.dumps({row["file_name"]: {"smile": row["smile"]} for row in ROWS})),
    "JSON columns": ("x.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
    "nested JSON": ("metadata.jsonl", "\n".join(json.dumps({"file_name": f"{i:03}.png", "face": {"smile": SMILE[i]}})
                                                for i in range(N))),
    "a separator inside JSON": ("metadata.jsonl", "\n".join(json.dumps(row | {"a": f"\u2028b\x85 {i}"}, ensure_ascii=False)
                                                           for i, row in enumerate(ROWS))),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), TABLES.values(), ids=TABLES)
def test_tables_as_people_write_them(name: str, text: str | bytes, tmp_path: Path) -> None:
    (pictures(tmp_path) / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    splits = load(tmp_path, notice=lambda line: None)
    assert dict(splits.train.kinds) == {"smile": "binary"}
    for split in splits.values():
        assert split.attributes["smile"].tolist() == [SMILE[int(Path(one).stem)] for one in split.names]


def boxes(i: int) -> str:
    return f"{i:03}.png,{i},5\n{i:03}.png,{i + 1},9"


ASIDE = {
    "several rows for one": ("labels.csv", csv(boxes, "file,x,y"), "labels.csv (several rows for one picture)"),
    "lists by name": ("x.json", json.dumps({row["file_name"]: [1, 0] for row in ROWS}), "x.json (not a table"),
    "names alone": ("mine.txt", "".join(f"{i:03}.png\n" for i in range(N)), "mine.txt (names alone)"),
    "a column that counts": (
        "labels.csv",
        csv(lambda i: f"{i},{plain(i)}", ",file,smile"),
        "column 1 of labels.csv (counts",
    ),
}


@pytest.mark.parametrize(("name", "text", "words"), ASIDE.values(), ids=ASIDE)
def test_what_is_left_aside_is_said(name: str, text: str, words: str, tmp_path: Path) -> None:
    (pictures(tmp_path) / name).write_text(text)
    assert words in load(tmp_path).summary


@pytest.mark.parametrize(
    "names", [("trainlist01.txt", "testlist01.txt"), ("train_ids.txt", "test_ids.txt"), ("train.csv", "test.csv")]
)
def test_lists_say_splits_by_any_usual_name(names: Sequence[str], tmp_path: Path) -> None:
    pictures(tmp_path)
    for name, rows in zip(names, (range(16), range(16, N)), strict=True):
        several = ["file,x", *(f"{i:03}.png,{k}" for i in rows for k in (1, 2))]
        (tmp_path / name).write_text("\n".join(several if name.endswith("csv") else [f"{i:03}.png" for i in rows]))
    assert {name: len(split) for name, split in load(tmp_path).items()} == {"train": 16, "test": 8}


def test_a_table_that_says_train_alone_leaves_the_test_folder(tmp_path: Path) -> None:
    pictures(tmp_path / "train")
    for i in range(5):
        picture(tmp_path / "test" / f"t{i}.png", 100 + i)
    (tmp_path / "labels.csv").write_text(csv(lambda i: f"{i:03}.png,train", "file,split"))
    assert {name: len(split) for name, split in load(tmp_path).items()} == {"train": N, "test": 5}


CLASSES = {
    "one stray picture": (["cat/1", "dog/2"], ["cover"], {"dog": "binary"}, ("cat", "dog")),
    "Unicode of two systems": (["train/é/1", "train/o/2"], ["test/e\u0301/3"], {"é": "binary"}, ("o", "é")),
    "with and without": (["with_mask/1", "without_mask/2"], [], {"with_mask": "binary"}, ("without_mask", "with_mask")),
    "names in capitals": (["Glasses/1", "NoGlasses/2"], [], {"Glasses": "binary"}, ("NoGlasses", "Glasses")),
}


@pytest.mark.parametrize(("many", "once", "kinds", "classes"), CLASSES.values(), ids=CLASSES)
def test_classes_by_folders(
    many: list[str], once: list[str], kinds: dict[str, str], classes: tuple[str, ...], tmp_path: Path
) -> None:
    names = [f"{name}{k}" for name in many for k in range(8)] + once
    for i, name in enumerate(names):
        picture(tmp_path / f"{name}.png", i)
    train = load(tmp_path, notice=lambda line: None).train
    assert dict(train.kinds) == kinds and train.classes[next(iter(kinds))] == classes


def test_a_tenth_that_cannot_be_read_is_held_out_anew(tmp_path: Path) -> None:
    for broken in range(10):
        folder = pictures(tmp_path / str(broken), 10)
        (folder / f"{broken:03}.png").write_bytes(b"")
        splits = load(folder, notice=lambda line: None)
        assert len(splits.test) > 0 and len(splits.train) + len(splits.test) == 9 and "1 unreadable" in splits.summary


def test_numbers_beyond_float32_are_unknown(tmp_path: Path) -> None:
    (pictures(tmp_path) / "labels.csv").write_text(csv(lambda i: f"{i:03}.png,{i}{'e300' if i == 5 else '.5'}", "file,v"))
    values = np.concatenate([split.attributes["v"] for split in load(tmp_path, notice=lambda line: None).values()])
    assert np.isnan(values).sum() == 1 and not np.isinf(values).any()


def test_a_broken_example_is_left_aside(tmp_path: Path) -> None:
    for i in range(N):
        np.save(tmp_path / f"{i}.npy", np.full((4, 4), i, np.uint8))
    (tmp_path / "3.npy").write_bytes(b"no")
    splits = load(tmp_path)
    assert sum(map(len, splits.values())) == N - 1 and "1 broken file (3.npy)" in splits.summary


def refused_tables(path: Path) -> dict[str, tuple[Path, str]]:
    """Tables that say something other than their numbers do."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures(path)
    (path / "labels.csv").write_text(csv(plain))
    pq.write_table(pa.table({"a": [1.0, 2.0, 3.0], "b": [1, None, 3]}), path / "x.parquet")
    pq.write_table(pa.table({"a": [[1.0, 2.0], [3.0]]}), path / "ragged.parquet")
    pq.write_table(pa.table({"a": [[[1.0], [2.0, 3.0]], [[4.0], [5.0]]]}), path / "nested.parquet")
    np.savez(path / "x.npz", x=np.zeros((4, 3), np.float32), y=np.array(["a", "b", "a", "b"], object))
    (path / "t.csv.gz").write_bytes(b"\x1f\x8b")
    return {
        "names pictures": (path / "labels.csv", "give their folder"),
        "a missing number": (path / "x.parquet", r"none in b \(1\)"),
        "lists of lists": (path / "nested.parquet", "column"),
        "lists of several lengths": (path / "ragged.parquet", "as many numbers in each row of a"),
        "objects": (path / "x.npz", "y holds Python objects"),
        "packed": (path / "t.csv.gz", "gunzip"),
    }


def test_tables_that_mean_something_else_are_refused(tmp_path: Path) -> None:
    for path, words in refused_tables(tmp_path).values():
        with pytest.raises(TriptychError, match=words):
            load(path)


def test_a_saved_set_may_lack_a_picture(tmp_path: Path) -> None:
    import datasets
    from PIL import Image

    datasets.disable_progress_bars()
    rows = {"image": [None, *(Image.fromarray(pixels(i)) for i in range(9))], "age": [i / 2 for i in range(10)]}
    features = datasets.Features({"image": datasets.Image(), "age": datasets.Value("float32")})
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(tmp_path / "set"))
    assert "1 unreadable" in load(tmp_path / "set", notice=lambda line: None).summary
