"""`load` of what is in memory: a table of kinds × the same data in a file, and one of bad input × the line that is said."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import triptych
from triptych.data import Split
from triptych.errors import TriptychError

load = partial(triptych.data.load, held_out="position")  # so that the same rows of each kind are held out
N, H, W = 20, 12, 10
PIXELS = np.random.default_rng(0).integers(0, 256, (N, H, W, 3), dtype=np.uint8)
CODES, SMILES = np.arange(N) % 3, np.arange(N) % 2


class Items(Dataset):
    """A map-style data set whose items a function makes."""

    classes = ("cat", "dog", "elk")

    def __init__(self, item: Any):
        self.item = item

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        if i >= N:
            raise IndexError(i)
        return self.item(i)


def opened(i: int) -> Image.Image:
    return Image.fromarray(PIXELS[i])


def encoded(i: int) -> bytes:
    file = io.BytesIO()
    opened(i).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for i in range(N):
        (root / f"{i:02}.png").write_bytes(encoded(i))
    return root


PICTURES: dict[str, Any] = {
    "array, channels last": lambda files: PIXELS,
    "array, channels first": lambda files: PIXELS.transpose(0, 3, 1, 2),
    "tensor": lambda files: torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "integers": lambda files: PIXELS.astype(np.int64),
    "another byte order": lambda files: PIXELS.astype(">i4"),
    "dictionary": lambda files: {"pixels": PIXELS, "label": CODES},
    "list of paths": lambda files: files,
    "tuple of names": lambda files: tuple(map(str, files)),
    "list of bytes": lambda files: [encoded(i) for i in range(N)],
    "list of Pillow pictures": lambda files: [opened(i) for i in range(N)],
    "list of arrays": lambda files: list(PIXELS),
    "table of files": lambda files: pd.DataFrame({"smile": SMILES, "file": list(map(str, files))}),
    "table of bytes": lambda files: pd.DataFrame({"image": [encoded(i) for i in range(N)], "mood": ["glad", "sad"] * 10}),
    "data set of Pillow pictures": lambda files: Items(opened),
    "data set, labels": lambda files: Items(lambda i: (opened(i), int(CODES[i]))),
    "data set, tensors": lambda files: Items(
        lambda i: (torch.from_numpy(PIXELS[i]).permute(2, 0, 1), torch.tensor(CODES[i]))
    ),
    "data set, attributes": lambda files: Items(lambda i: (PIXELS[i], {"smile": SMILES[i], "pose": PIXELS[i, 0, 0] / 255})),
    "data set of dictionaries": lambda files: Items(lambda i: {"image": opened(i), "smile": bool(SMILES[i])}),
    "labels in a list": lambda files: (PIXELS, CODES.tolist()),
    "TensorDataset": lambda files: TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(CODES)),
    "dictionary of splits": lambda files: {"train": PIXELS},
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("size", [None, (8, 8)])
def test_pictures_are_those_of_an_npy_file(name: str, size: Any, folder: Path, tmp_path: Path) -> None:
    """Also those of encoded pictures: they are stored without loss, and resized by the same function."""
    np.save(tmp_path / "x.npy", PIXELS)
    expected = load(tmp_path / "x.npy", size=size, seed=3)
    found = load(PICTURES[name](sorted(folder.iterdir())), size=size, seed=3)
    assert list(found) == ["train", "test"]
    for split, wanted in expected.items():
        assert torch.equal(found[split][:], wanted[:]) and found[split].in_memory


def test_what_is_given_is_copied_and_left_alone() -> None:
    given = PIXELS.copy()
    splits = load(given)
    before = splits.train[:].clone()
    given[:] = 0
    assert torch.equal(splits.train[:], before)


@pytest.mark.parametrize(
    "data, attributes, classes",
    [
        (PICTURES["dictionary"](None), {"label": CODES}, {}),
        (PICTURES["data set, labels"](None), {"label": CODES}, {"label": ("cat", "dog", "elk")}),
        (PICTURES["data set, tensors"](None), {"label": CODES}, {"label": ("cat", "dog", "elk")}),
        (PICTURES["data set, attributes"](None), {"smile": SMILES, "pose_1": PIXELS[:, 0, 0, 1] / np.float32(255)}, {}),
        (PICTURES["data set of dictionaries"](None), {"smile": SMILES}, {}),
        (PICTURES["table of bytes"](None), {"mood": SMILES}, {"mood": ("glad", "sad")}),
        (PICTURES["TensorDataset"](None), {"label": CODES}, {}),
        (Items(lambda i: (PIXELS[i], "abc"[CODES[i]], None if i else 1.0)), {"label": CODES}, {"label": ("a", "b", "c")}),
    ],
)
def test_labels_become_attributes(data: Any, attributes: dict[str, np.ndarray], classes: dict[str, tuple[str, ...]]) -> None:
    splits = load(data, seed=1)
    order = load(np.arange(N, dtype=np.float32)[:, None], seed=1)  # which example is where
    for name, split in splits.items():
        rows = order[name][:].flatten().long().numpy()
        assert split.classes == classes
        for attribute, values in attributes.items():
            np.testing.assert_allclose(split.attributes[attribute], values[rows], rtol=1e-6)


def test_a_table_of_numbers_has_named_columns() -> None:
    numbers = {"age": np.arange(N) / 2.0, "children": np.arange(N), "owner": np.arange(N) % 2 == 0}
    frame = pd.DataFrame({**numbers, "label": CODES, "city": pd.Categorical(["Rome", "Oslo"] * 10)})
    split = load({"train": frame, "test": frame}).train
    assert split.columns == ("age", "children", "owner") and split.event_shape == (3,)
    assert split.take([3]).columns == split.columns
    np.testing.assert_allclose(split[:].numpy(), np.stack([*numbers.values()], 1))
    assert split.kinds["label"] == "class" and split.classes["city"] == ("Oslo", "Rome")
    nullable = frame.convert_dtypes()  # pandas' own dtypes, which can say that a value is missing
    assert torch.equal(load({"train": nullable, "test": frame}).train[:], split[:])
    nullable.loc[2, "age"] = None
    with pytest.raises(TriptychError, match=r"the DataFrame: expected finite numbers, got 1 NaN"):
        load(nullable)


def test_floats_are_what_they_are_in_a_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(N, 3, 8, 8))
    np.save(tmp_path / "x.npy", values)
    expected = load(tmp_path / "x.npy")
    half = torch.from_numpy(values).bfloat16()
    for given in (values, torch.from_numpy(values), Items(lambda i: values[i]), list(values)):
        assert torch.equal(load(given).test[:], expected.test[:])
    assert torch.equal(load(half).train[0], half[load(np.arange(N)[:, None] * 1.0).train[0].long()][0].float())


def test_an_array_over_the_budget_is_used_as_it_is() -> None:
    given = PIXELS.transpose(0, 3, 1, 2).copy()
    splits = load({"train": given, "test": given[:2]}, budget=10)
    assert np.shares_memory(splits.train.data, given) and splits.train.in_memory
    lazily = load([encoded(i) for i in range(N)], budget=10, notice=lambda line: None)
    assert not lazily.train.in_memory and torch.equal(lazily.train[0], load(PIXELS).train[0])


def test_broken_pictures_are_skipped(folder: Path) -> None:
    said: list[str] = []
    splits = load([*sorted(folder.iterdir()), Path(__file__), b"GIF89a"], notice=said.append)
    assert len(splits.train) + len(splits.test) == N and len(said) == 1 and "test_memory.py" in said[0]


@pytest.mark.parametrize(
    "data, said",
    [
        (3, "expected a name, a path, an array.*got the int"),
        (None, "got the NoneType"),
        (iter([PIXELS]), r"got the list_iterator: an iterable becomes a list by list\(…\)"),
        ([], "the list: expected at least one example"),
        (np.float32(3), "got the float32"),
        (np.array(3.0), "got a single number"),
        (np.zeros(5), "the ndarray: expected rows of 1 to 3 dimensions"),
        (np.zeros((0, 3)), "the ndarray: expected at least one row"),
        (np.zeros((4, 2), object), "the ndarray: expected numbers .*dtype object"),
        (np.full((4, 2, 2), 70_000), "the ndarray: expected whole numbers in 0..255 or 0..65535, got 70000"),
        (torch.full((4, 2), torch.nan), "the Tensor: expected finite numbers, got 8 NaN"),
        (["a/none.png", "b/none.png"], "2 of 2 files are not there: a/none.png, b/none.png"),
        ([PIXELS[0], PIXELS[0, 1:]], r"items of one shape and dtype, got \(12, 10, 3\) uint8 and, at 1, \(11, 10, 3\)"),
        ({"a": PIXELS, "b": PIXELS}, "expected an array x, or one array .*save the data under the key x"),
        ({"x": PIXELS, "smile": [1, 2]}, r"expected 20 values of smile, .*got shape \(2,\)"),
        (
            pd.DataFrame({"city": ["Oslo", "Rome"]}),
            "expected a column of picture files or bytes, or columns of numbers, got city",
        ),
        (pd.DataFrame(np.ones((5, 2)), columns=["a", "a"]), "each column once, got 'a' twice"),
        (
            [opened(0), PIXELS[1], opened(2)],
            "the list: expected files, bytes or Pillow pictures throughout, got an array at 1",
        ),
        (Items(lambda i: {"jpg": opened(i)}), "expected items with a picture under image or img, got jpg"),
        (Items(lambda i: (PIXELS[i], [object()])), "expected numbers or text as label, got list"),
        ("in memory: ndarray of 20", "the data were given in memory: ndarray of 20: give them again in Python"),
    ],
)
def test_bad_input_is_one_line(data: Any, said: str) -> None:
    with pytest.raises(TriptychError, match=said) as error:
        load(data)
    assert "\n" not in str(error.value)


def test_a_data_set_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TriptychError, match="the Items: 20 items of 360 bytes are over the budget"):
        load(Items(lambda i: PIXELS[i]), budget=100)


def test_taking_a_number_draws_and_taking_indices_selects() -> None:
    split = Split(np.arange(50, dtype=np.float32)[:, None], {"a": np.arange(50)})
    few = split.take(10)
    assert torch.equal(few[:].flatten(), torch.from_numpy(few.attributes["a"])) and len(set(few.attributes["a"])) == 10
    assert torch.equal(split.take(10)[:], few[:]) and not torch.equal(split.take(10, seed=1)[:], few[:])
    assert torch.equal(split.take(20)[:10], few[:])  # more of them begin with the same
    assert few.attributes["a"].max() > 20  # of a sorted set it is not the first
    assert sorted(split.take(80).attributes["a"]) == list(range(50))
    assert split.take([3, 1]).attributes["a"].tolist() == [3, 1]
    assert len(split.take(np.arange(50) < 4)) == 4
    with pytest.raises(TriptychError, match="at least 1 example to draw, got 0"):
        split.take(0)
