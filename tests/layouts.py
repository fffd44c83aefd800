"""Data as people have them: how a set lies on the disk, and what must come of it; the guide's table is made of this one."""

from __future__ import annotations

import gzip
import json
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

N, H, W = 24, 10, 8


class Layout(NamedTuple):
    """A set on the disk.

    Attributes:
        shown: as the guide calls it.
        make: writes it below a folder, and returns what to load.
        event: shape of an example.
        sizes: of the splits that come with it; empty where a tenth of N is held out.
        attributes: kinds by name.
        said: words of the summary.
        means: what comes of it, for the guide.
    """

    shown: str
    make: Callable[[Path], Path]
    event: tuple[int, ...]
    sizes: dict[str, int]
    attributes: dict[str, str]
    said: tuple[str, ...] = ()
    means: str = ""


def pixels(i: int, channels: int = 3) -> np.ndarray:
    values = np.random.default_rng(i).integers(0, 256, (H, W, channels), dtype=np.uint8)
    return values if channels > 1 else values[..., 0]


def picture(path: Path, i: int, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(i)).save(path, **options)
    return path


def pictures(folder: Path, n: int = N, suffix: str = "png") -> Path:
    for i in range(n):
        picture(folder / f"{i:03}.{suffix}", i)
    return folder


def split_folders(**names: str) -> Callable[[Path], Path]:
    """Folders by these names, with two classes in each."""

    def make(path: Path) -> Path:
        for at, name in enumerate(names.values()):
            for i in range(N if at == 0 else 6):
                picture(path / name / ("ill" if i % 2 else "normal") / f"{at}{i:03}.png", 100 * at + i)
        return path

    return make


def table(name: str, text: Callable[[int], str], header: str, encoding: str = "utf-8", n: int = N) -> Callable[[Path], Path]:
    """Pictures beside a table of text."""

    def make(path: Path) -> Path:
        pictures(path)
        lines = [header, *(text(i) for i in range(n))] if header else [text(i) for i in range(n)]
        (path / name).write_text("\n".join(lines) + "\n", encoding=encoding)
        return path

    return make


def lists(suffix: str, text: Callable[[int], str], header: str = "") -> Callable[[Path], Path]:
    """Pictures beside two tables, train and test, that name them."""

    def make(path: Path) -> Path:
        pictures(path / "images")
        for name, rows in (("train", range(16)), ("test", range(16, N))):
            (path / f"{name}.{suffix}").write_text("\n".join([*([header] if header else []), *map(text, rows)]) + "\n")
        return path

    return make


def thousands(path: Path) -> Path:
    pictures(path)
    rows = [f"{i:03}.png;1.{i:03},5;{i},25" for i in range(N)]
    (path / "metadata.csv").write_text("\n".join(["file_name;price;age", *rows]) + "\n")
    return path


def plain_rows(path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(N, 3))
    (path / "yacht.txt").write_text("\n".join("  ".join(map(repr, map(float, row))) for row in values) + "\n")
    return path / "yacht.txt"


def celeba(path: Path) -> Path:
    for i in range(N):
        picture(path / "img_align_celeba" / f"{i:06}.jpg", i, quality=95)
    rows = [f"{i:06}.jpg {'-1' if i % 3 else ' 1'} -1" if i % 2 else f"{i:06}.jpg  1  1" for i in range(N)]
    (path / "list_attr_celeba.txt").write_text("\n".join([str(N), "Smiling Young ", *rows]) + "\n")
    parts = [f"{i:06}.jpg {0 if i < 12 else 1 if i < 18 else 2}" for i in range(N)]
    (path / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return path


def split_column(path: Path) -> Path:
    pictures(path)
    rows = [f"{i:03}.png,{'train' if i < 16 else 'test'},{i}" for i in range(N)]
    (path / "metadata.csv").write_text("\n".join(["file_name,split,age", *rows]) + "\n")
    return path


def cub(path: Path) -> Path:
    names = [f"{i % 3:03}.bird/{i}.png" for i in range(N)]
    for i, name in enumerate(names):
        picture(path / "images" / name, i)
    (path / "images.txt").write_text("".join(f"{i + 1} {name}\n" for i, name in enumerate(names)))
    (path / "train_test_split.txt").write_text("".join(f"{i + 1} {int(i < 16)}\n" for i in range(N)))
    return path


def unicode_names(path: Path) -> Path:
    for i in range(N):
        picture(path / unicodedata.normalize("NFD", f"é{i:02}.png"), i)
    rows = [unicodedata.normalize("NFC", f"é{i:02}.png") + f",{i % 2}" for i in range(N)]
    (path / "metadata.csv").write_text("\n".join(["file_name,smile", *rows]) + "\n", encoding="utf-8")
    return path


def stray(path: Path) -> Path:
    split_folders(a="train", b="test")(path)
    picture(path / "preview.png", 999)
    return pictures(path / "unlabeled", 3).parent


def linked(path: Path) -> Path:
    split_folders(a="train", b="elsewhere")(path / "set")
    (path / "set" / "elsewhere").rename(path / "elsewhere")
    (path / "set" / "test").symlink_to("../elsewhere")
    (path / "set" / "train" / "loop").symlink_to("..")  # which must not be followed for ever
    return path / "set"


def archive(path: Path) -> Path:
    pictures(path / "photos")
    with zipfile.ZipFile(path / "photos.zip", "w") as file:
        for name in sorted((path / "photos").iterdir()):
            file.write(name, f"photos/{name.name}")
    return path / "photos.zip"


def tarball(path: Path) -> Path:
    split_folders(a="train", b="val")(path / "set")
    with tarfile.open(path / "set.tar.gz", "w:gz") as file:
        file.add(path / "set", "set")
    return path / "set.tar.gz"


def npz(**arrays: np.ndarray) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        np.savez(path / "x.npz", **arrays)
        return path / "x.npz"

    return make


def one_npy_each(path: Path) -> Path:
    for i in range(N):
        np.save(path / f"{i:03}.npy", pixels(i))
    return path


def npy_pair(path: Path) -> Path:
    for name, values in (("X", STACK), ("y", LABELS)):
        np.save(path / f"{name}.npy", values)
    return path


def pixels_as_text(path: Path) -> Path:
    rows = [
        f"{i % 7},{' '.join(map(str, pixels(i)[:8, :8, 0].flat))},{'Training' if i < 16 else 'PrivateTest'}"
        for i in range(N)
    ]
    (path / "faces.csv").write_text("\n".join(["label,pixels,Usage", *rows]) + "\n")
    return path / "faces.csv"


def lists_of_numbers(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = np.random.default_rng(0).normal(size=(N, 5)).tolist()
    pq.write_table(pa.table({"code": codes, "age": [i / 2 for i in range(N)]}), path / "x.parquet")
    return path / "x.parquet"


def saved_lists(path: Path) -> Path:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {"image": datasets.Array3D((3, H, W), "uint8"), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    rows = {"image": [pixels(i).transpose(2, 0, 1) for i in range(N)], "label": [i % 2 for i in range(N)]}
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(path / "set"))
    return path / "set"


def idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()) if path.suffix == ".gz" else header + values.tobytes())


def torchvision(path: Path) -> Path:
    for name, n in (("train", N), ("t10k", 6)):
        idx(path / "MNIST" / "raw" / f"{name}-images-idx3-ubyte", STACK[:n, ..., 0])
        idx(path / "MNIST" / "raw" / f"{name}-labels-idx1-ubyte", (np.arange(n) % 3).astype(np.uint8))
    return path


def cifar(path: Path) -> Path:
    for name, n in (("data_batch_1", 8), ("data_batch_2", 8), ("test_batch", 4)):
        rows = np.random.default_rng(n).integers(0, 256, (n, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(n) % 4
        (path / f"{name}.bin").write_bytes(rows.tobytes())
    return path


def matlab(path: Path) -> Path:
    from scipy.io import savemat

    values = np.random.default_rng(0).integers(0, 256, (560, N), dtype=np.uint8)
    savemat(path / "frey.mat", {"ff": values})
    return path / "frey.mat"


def saved_to_disk(path: Path) -> Path:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "age": datasets.Value("float32")})
    rows = {"image": [Image.fromarray(pixels(i)) for i in range(N)], "age": [i / 2 for i in range(N)]}
    datasets.disable_progress_bars()
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features)).save_to_disk(str(path / "set"))
    return path / "set"


def numbers(path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(N, 3)) * (1, 100, 0.01) + (0, 5000, 0)
    rows = [",".join(map(repr, map(float, row))) + f",{'ab'[i % 2]}" for i, row in enumerate(values)]
    (path / "table.csv").write_text("\n".join(["length,mass,width,kind", *rows]) + "\n")
    return path / "table.csv"


def pixel_columns(path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (N, 64))
    header = ",".join(["label", *(f"pixel{i}" for i in range(64))])
    rows = [",".join(map(str, [i % 3, *row])) for i, row in enumerate(values)]
    (path / "digits.csv").write_text("\n".join([header, *rows]) + "\n")
    return path / "digits.csv"


def parquet_of_bytes(path: Path) -> Path:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    def png(i: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels(i)).save(file, "PNG")
        return file.getvalue()

    columns = {"Scan": [png(i) for i in range(N)], "age": [float(i) for i in range(N)]}
    pq.write_table(pa.table(columns), path / "x.parquet")
    return path / "x.parquet"


def stack(path: Path) -> Path:
    first, *others = (Image.fromarray(pixels(i, 1)) for i in range(N))
    first.save(path / "stack.tif", save_all=True, append_images=others)
    return path / "stack.tif"


def twelve_bits(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    for i in range(N):
        Image.fromarray((pixels(i, 1).astype(np.uint16) << 4) + 7).save(path / f"{i:03}.png")
    return path


def odd_suffixes(path: Path) -> Path:
    for i in range(N):
        name = f"{i:03}" + (".jfif", ".jpe", ".JPEG", "")[i % 4]
        Image.fromarray(pixels(i)).save(path / name, "JPEG", quality=95)
    return path


def two_folders(path: Path) -> Path:
    for i in range(N):
        picture(path / ("smiling" if i % 2 else "not_smiling") / f"{i:03}.png", i)
    return path


STACK = np.stack([pixels(i) for i in range(N)])
LABELS = np.arange(N) % 3
PICTURE, GREY = (3, H, W), (1, H, W)
TWO = {"ill": "binary"}

LAYOUTS = {
    "splits by other names": Layout(
        "folders `training/` + `testing/`, `training_set/`, `valid`, `val`, `dev`",
        split_folders(a="training_set", b="testing", c="dev"), PICTURE, {"train": N, "test": 6, "valid": 6}, TWO,
        means="splits; two class folders are a binary attribute"),
    "splits one level down": Layout(
        "splits a level or two down, `chest_xray/train/NORMAL`", split_folders(a="chest/train", b="chest/test"),
        PICTURE, {"train": N, "test": 6}, TWO, means="the same"),
    "splits that say something else too": Layout(
        "`train2017`, `seg_train/seg_train`, `cars_test`, `trainA` with `trainB`: alike but for the split",
        split_folders(a="seg_train/seg_train", b="seg_test/seg_test"), PICTURE, {"train": N, "test": 6}, TWO,
        ("6 test (by folders)",), "the same; of `trainA` and `trainB` also a class"),
    "train and valid alone": Layout(
        "`train` and `valid` without `test`", split_folders(a="train", b="valid"), PICTURE, {"train": N, "test": 6}, TWO,
        ("6 test (their valid, by folders)",), "`valid` is the test split: nothing else is held out"),
    "lists of names": Layout(
        "lists of names, `train.txt` and `test.txt`, with or without labels",
        lists("txt", lambda i: f"images/{i:03}.png {i % 2}"), PICTURE, {"train": 16, "test": 8}, {"label": "binary"},
        ("by test.txt, train.txt",), "splits"),
    "tables by split": Layout(
        "tables `train.csv` and `test.csv` of pictures", lists("csv", lambda i: f"{i:03},{i / 2}", "id,age"), PICTURE,
        {"train": 16, "test": 8}, {"age": "continuous"}, means="splits and attributes"),
    "files beside the splits": Layout(
        "other folders and stray files beside the splits", stray, PICTURE, {"train": N, "test": 6}, TWO,
        ("4 pictures beside the splits", "preview.png", "unlabeled/"), "left aside, and said"),
    "a linked split": Layout(
        "a split behind a link", linked, PICTURE, {"train": N, "test": 6}, TWO, means="followed; loops are not"),
    "a split column": Layout(
        "a column of `train`, `test`, …, or `is_train`, `is_valid`", split_column,
        PICTURE, {"train": 16, "test": 8}, {"age": "continuous"},
        means="splits"),
    "CelebA": Layout(
        "CelebA as distributed, `list_attr_celeba` and `list_eval_partition`, .txt or .csv", celeba, PICTURE,
        {"train": 12, "valid": 6, "test": 6}, {"Smiling": "binary", "Young": "binary"}, means="splits and attributes"),
    "CUB": Layout(
        "CUB as distributed, `images.txt` and `train_test_split.txt`", cub, PICTURE, {"train": 16, "test": 8},
        {"label": "class"}, means="splits and classes"),
    "two folders": Layout(
        "two folders, `smiling` and `not_smiling`", two_folders, PICTURE, {}, {"smiling": "binary"},
        means="a binary attribute, called by what is there at 1"),
    "labels.csv": Layout(
        "any table with a column of file names", table("labels.csv", lambda i: f"{i:03}.png,{i % 2}", "img,smile"),
        PICTURE, {}, {"smile": "binary"}, means="attributes"),
    "metadata.jsonl": Layout(
        "`metadata.jsonl`; .json with a list of objects, columns, or labels by name",
        table("metadata.jsonl", lambda i: json.dumps({"file_name": f"{i:03}.png", "age": i / 2}), ""),
        PICTURE, {}, {"age": "continuous"}, means="attributes"),
    "a spreadsheet": Layout(
        "semicolons, tabs, decimal commas, UTF-16, blank rows and columns",
        table("metadata.csv", lambda i: f"{i:03}.png;{i},5;{'J' if i % 2 else 'N'};" if i else ";;;",
              "file_name;age;glad;", "utf-16"),
        PICTURE, {}, {"age": "continuous", "glad": "binary"}, means="attributes"),
    "thousands": Layout(
        "`1.234,5`, `1,234.5`, `1 234,5`", thousands, PICTURE, {}, {"price": "continuous", "age": "continuous"},
        means="numbers, as the column and the others show"),
    "names without a suffix": Layout(
        "file names without suffix, in other capitals, composed or decomposed Unicode",
        table("metadata.csv", lambda i: f"{i:03},{i % 2}", "file_name,smile"), PICTURE, {}, {"smile": "binary"},
        means="found all the same"),
    "other Unicode": Layout("", unicode_names, PICTURE, {}, {"smile": "binary"}),
    "half a download": Layout(
        "rows without their picture", table("metadata.csv", lambda i: f"{i:03}.png,{i % 2}", "file_name,smile", n=60),
        PICTURE, {}, {"smile": "binary"}, ("36 rows of metadata.csv without their picture",), "left aside, and counted"),
    "a table of something else": Layout(
        "tables and texts about something else", table("log.csv", lambda i: f"{i},{i * i}", "epoch,loss"), PICTURE, {}, {},
        ("log.csv (no column of file names)",), "left aside, and said"),
    "zip": Layout("`.zip` and `.tar` archives", archive, PICTURE, {}, {}, means="unpacked into the cache, then as a folder"),
    "tar.gz": Layout("", tarball, PICTURE, {"train": N, "test": 6}, TWO),
    "MedMNIST": Layout(
        "npz of MedMNIST (`train_images`, …) and Keras (`x_train`, …)",
        npz(train_images=STACK, train_labels=LABELS[:, None], val_images=STACK[:5], val_labels=LABELS[:5, None],
            test_images=STACK[:6], test_labels=LABELS[:6, None]),
        PICTURE, {"train": N, "valid": 5, "test": 6}, {"label": "class"}, means="splits and labels"),
    "Keras": Layout(
        "", npz(x_train=STACK[..., 0], y_train=LABELS, x_test=STACK[:6, ..., 0], y_test=LABELS[:6]), GREY,
        {"train": N, "test": 6}, {"label": "class"}),
    "images and labels": Layout(
        "npz of `images` and `labels`", npz(images=STACK, labels=LABELS[:, None]), PICTURE, {}, {"label": "class"},
        means="pictures and labels"),
    "xtrain and ytrain": Layout(
        "", npz(xtrain=STACK, ytrain=LABELS, testX=STACK[:6], testy=LABELS[:6]), PICTURE, {"train": N, "test": 6},
        {"label": "class"}),
    "X.npy and y.npy": Layout(
        "`X.npy` and `y.npy`, `x_train.npy`, …, in one folder", npy_pair, PICTURE, {}, {"label": "class"}, means="the same"),
    "one npy each": Layout("a folder of `.npy`, an example each", one_npy_each, PICTURE, {}, {}, means="examples"),
    "torchvision": Layout(
        "torchvision's roots (`MNIST/raw`)", torchvision, GREY, {"train": N, "test": 6}, {"label": "class"},
        means="splits and labels"),
    "CIFAR": Layout(
        "CIFAR's binary version", cifar, (3, 32, 32), {"train": 16, "test": 4}, {"label": "class"},
        means="splits and labels; the pickles are refused"),
    "MATLAB": Layout("`.mat`, such as Frey's faces", matlab, (1, 28, 20), {}, {}, means="pictures"),
    "save_to_disk": Layout(
        "a set saved by `datasets`", saved_to_disk, PICTURE, {}, {"age": "continuous"}, means="its splits and columns"),
    "a table": Layout(
        "CSV or parquet of numbers", numbers, (3,), {}, {"kind": "binary"}, ("rows of 3 (length, mass, width)",),
        "rows whose columns keep their names; words are attributes"),
    "rows alone": Layout(
        "text of numbers without a header (.txt, .dat, .data, .csv)", plain_rows, (3,), {}, {},
        means="rows whose columns are counted"),
    "pixels in columns": Layout(
        "CSV of `label, pixel0, pixel1, …`", pixel_columns, (1, 8, 8), {}, {"label": "class"}, means="pictures"),
    "pixels as text": Layout(
        "a column whose cells hold many numbers each, as text or lists", pixels_as_text, (1, 8, 8), {"train": 16, "test": 8},
        {"label": "class"}, means="pictures, or rows; the other columns are attributes"),
    "lists of numbers": Layout("", lists_of_numbers, (5,), {}, {"age": "continuous"}),
    "save_to_disk of arrays": Layout("", saved_lists, PICTURE, {}, {"b": "binary"}),
    "encoded pictures": Layout(
        "parquet with encoded pictures in a column of any name", parquet_of_bytes, PICTURE, {}, {"age": "continuous"},
        means="pictures"),
    "a stack": Layout(
        "one GIF or TIFF of several frames", stack, GREY, {}, {},
        means="its frames; of several such files the first frames, which is said"),
    "12 bits in 16": Layout(
        "16-bit pictures, float pictures", twelve_bits, GREY, {}, {}, ("12-bit values",),
        "8-bit pixels by the range of the whole set"),
    "odd suffixes": Layout(
        "`.jfif`, `.jpe`, `.avif`, …, and pictures without suffix", odd_suffixes, PICTURE, {}, {}, means="pictures"),
    "floats": Layout(
        "float arrays in 0..1, channels first or last",
        lambda path: npz(x=STACK.astype(np.float32) / 255)(path), PICTURE, {}, {}, means="pictures"),
    "signed floats": Layout(
        "the same in −1..1", npz(x=STACK.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1), PICTURE, {}, {},
        ("floats from -1 to 1 read as 8-bit pixels",), "pictures, which is said"),
}  # fmt: skip


def guide_table() -> str:
    """The rows of the guide's table."""
    rows = [f"| {layout.shown} | {layout.means} |" for layout in LAYOUTS.values() if layout.shown]
    return "\n".join(["| what lies there | what comes of it |", "|---|---|", *rows]) + "\n"
