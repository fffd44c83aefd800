"""`load`: one table of formats × what must hold of each, one table of bad input × the one line that is said of it."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import triptych
from triptych.data import Split, Splits, fixed_subset, load
from triptych.data.faces import Faces
from triptych.data.holding import by_position
from triptych.data.pictures import decode, resized
from triptych.errors import TriptychError
from triptych.figures import read_picture

N, H, W = 20, 12, 10
CLASSES = np.arange(N) % 3


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data folder, a cache and a working directory of the test's own."""
    monkeypatch.delenv("TRIPTYCH_DATA", raising=False)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(picture: np.ndarray, suffix: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return file.getvalue()


def write_folder(folder: Path, n: int = N, shape: tuple[int, ...] = (H, W, 3), suffix: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i:03}.{suffix}").write_bytes(encoded(pixels(*shape, seed=i), suffix))
    return folder


def write_csv(folder: Path, rows: list[dict[str, object]]) -> Path:
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_idx(path: Path, values: np.ndarray, kind: int = 8) -> Path:
    content = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_parquet(path: Path, column: str = "image", n: int = N, **columns: object) -> Path:
    cells = [{"bytes": encoded(pixels(H, W, 3, seed=i)), "path": f"{i}.png"} for i in range(max(n, 1))]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: cells, **columns}).slice(0, n), path)
    return path


def npy(path: Path, values: np.ndarray) -> Path:
    np.save(path / "x.npy", values)
    return path / "x.npy"


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path / "x.npz", **arrays)
    return path / "x.npz"


def mnist_like(path: Path, suffix: str) -> Path:
    for split, n in (("train", N), ("t10k", 4)):
        write_idx(path / f"{split}-images-idx3-ubyte{suffix}", pixels(n, H, W))
        write_idx(path / f"{split}-labels-idx1-ubyte{suffix}", CLASSES[:n].astype(np.uint8))
    return path


def with_metadata(path: Path) -> Path:
    rows = [{"file_name": f"{i:03}.png", "smile": i % 2, "age": i / 4, "mood": "sad" if i % 3 else "glad"} for i in range(N)]
    return write_csv(write_folder(path), rows)


def class_folders(path: Path) -> Path:
    for split, n in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            write_folder(path / split / name, n)
    return path


def shards(path: Path) -> Path:
    for i in range(2):
        write_parquet(
            path / "data" / f"train-0000{i}-of-00002.parquet",
            n=N // 2,
            label=CLASSES[: N // 2],
            happy=[True, False] * 5,
        )
    return path


class Case:
    """A set on disk and what must come of it."""

    def __init__(
        self,
        make: Callable[[Path], Path],
        train: int,
        test: int,
        event: tuple[int, ...],
        dtype: str = "uint8",
        kinds: dict[str, str] | None = None,
        **options: object,
    ):
        self.make, self.sizes, self.event, self.dtype = make, (train, test), event, dtype
        self.kinds, self.options = kinds or {}, options


CASES = {
    "npy grey": Case(lambda p: npy(p, pixels(N, H, W)), 18, 2, (1, H, W)),
    "npy channels first": Case(lambda p: npy(p, pixels(N, 5, H, W)), 18, 2, (5, H, W)),
    "npy channels last": Case(lambda p: npy(p, pixels(N, H, W, 3)), 18, 2, (3, H, W)),
    "npy resized, 5 channels": Case(lambda p: npy(p, pixels(N, 5, H, W)), 18, 2, (5, 8, 8), size=8),
    "npy fortran": Case(lambda p: npy(p, np.asfortranarray(pixels(N, H, W))), 18, 2, (1, H, W)),
    "npy flat bytes": Case(lambda p: npy(p, pixels(N, 30)), 18, 2, (30,)),
    "npy flat bytes folded": Case(lambda p: npy(p, pixels(N, H * W)), 18, 2, (1, H, W), size=(H, W)),
    "npy bool": Case(lambda p: npy(p, pixels(N, H, W) > 99), 18, 2, (1, H, W)),
    "npy int64": Case(lambda p: npy(p, pixels(N, H, W).astype(np.int64)), 18, 2, (1, H, W)),
    "npy float64 rows": Case(lambda p: npy(p, np.random.default_rng(0).normal(size=(N, 3))), 18, 2, (3,), "float32"),
    "npy big-endian sequences": Case(lambda p: npy(p, np.ones((N, 2, 9), ">f4")), 18, 2, (2, 9), "float32"),
    "npy float pictures": Case(lambda p: npy(p, np.zeros((N, 3, 4, 4), np.float16)), 18, 2, (3, 4, 4), "float32"),
    "npz": Case(
        lambda p: npz(
            p, x=pixels(N, H, W), y=CLASSES, age=np.linspace(0, 9, N), glad=CLASSES > 0, kind=np.array(list("ab") * 10)
        ),
        18,
        2,
        (1, H, W),
        kinds={"label": "class", "age": "continuous", "glad": "binary", "kind": "binary"},
    ),
    "npz only array": Case(lambda p: npz(p, data=np.zeros((N, 4))), 18, 2, (4,), "float32"),
    "idx gz": Case(lambda p: mnist_like(p, ".gz"), N, 4, (1, H, W), kinds={"label": "class"}),
    "idx plain": Case(lambda p: mnist_like(p, ""), N, 4, (1, H, W), kinds={"label": "class"}),
    "idx one file": Case(
        lambda p: mnist_like(p, ".gz") / "train-images-idx3-ubyte.gz", 18, 2, (1, H, W), kinds={"label": "class"}
    ),
    "parquet": Case(
        lambda p: write_parquet(p / "a.parquet", "img", smiling=[True, False] * 10),
        18,
        2,
        (3, H, W),
        kinds={"smiling": "binary"},
    ),
    "parquet shards": Case(shards, 18, 2, (3, H, W), kinds={"label": "class", "happy": "binary"}),
    "folder": Case(write_folder, 18, 2, (3, H, W)),
    "folder of jpg, resized": Case(lambda p: write_folder(p, suffix="jpg"), 18, 2, (3, 6, 8), size=(6, 8)),
    "folder of grey webp": Case(lambda p: write_folder(p, shape=(H, W), suffix="png"), 18, 2, (1, H, W)),
    "folder with metadata": Case(
        with_metadata, 18, 2, (3, H, W), kinds={"smile": "binary", "age": "continuous", "mood": "binary"}
    ),
    "folder of splits and classes": Case(class_folders, 12, 6, (3, H, W), kinds={"dog": "binary"}),
    "first n": Case(lambda p: npy(p, pixels(N, H, W)), 7, 2, (1, H, W), n=7),
    "first n of a folder": Case(write_folder, 7, 2, (3, H, W), n=7),
    "first n beside a test split": Case(lambda p: mnist_like(p, ".gz"), 7, 4, (1, H, W), kinds={"label": "class"}, n=7),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("budget", [2**30, 1], ids=["memory", "disk"])
def test_every_format_gives_splits(case: Case, budget: int, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    splits = load(path, budget=budget, held_out="position", notice=lambda line: None, **case.options)
    assert (len(splits.train), len(splits.test)) == case.sizes
    for split in splits.values():
        assert split.event_shape == case.event and str(split.data.dtype) == case.dtype
        assert split.in_memory == (budget > 1)
        assert split.kinds == case.kinds and set(split.attributes) == set(case.kinds)
        assert all(v.dtype == np.float32 and v.shape == (len(split),) for v in split.attributes.values())
        batch = split.__getitems__([len(split) - 1, 0, 0])
        assert batch.shape == (3, *case.event) and str(batch.dtype) == f"torch.{case.dtype}"
        assert torch.equal(batch[1], split[0]) and torch.equal(split[:][-1], batch[0])
        assert split.skipped == ()
    again = load(path, held_out="position", notice=lambda line: None, **case.options)
    for name, split in splits.items():  # the same from disk, from memory and a second time
        assert torch.equal(split[:], again[name][:])
        assert torch.equal(pickle.loads(pickle.dumps(split))[:], split[:])


def test_values_come_through(tmp_path: Path) -> None:
    values = pixels(N, H, W)
    train, test = (np.flatnonzero(by_position(N, 0) == held) for held in (False, True))
    load = partial(triptych.data.load, held_out="position")
    grey = load(npy(tmp_path, values))
    assert np.array_equal(grey.test.data[:, 0], values[test])
    drawing = load(npy(tmp_path, values > 99))
    assert set(np.unique(drawing.train.data)) == {0, 255}
    said: list[str] = []
    bits = load(npy(tmp_path, (values > 99).astype(np.uint8)), notice=said.append)
    assert np.array_equal(bits.train.data, drawing.train.data) and "0 and 255" in said[0]
    colour = load(npy(tmp_path, pixels(N, H, W, 3)))
    assert np.array_equal(colour.train.data, pixels(N, H, W, 3)[train].transpose(0, 3, 1, 2))
    folder = load(write_folder(tmp_path / "folder"))
    assert np.array_equal(folder.test.data[1], pixels(H, W, 3, seed=int(test[1])).transpose(2, 0, 1))


def test_attributes_follow_their_pictures(tmp_path: Path) -> None:
    splits = load(with_metadata(tmp_path), held_out="position")
    for split, held in ((splits.train, False), (splits.test, True)):
        rows = np.flatnonzero(by_position(N, 0) == held)
        assert split.attributes["age"].tolist() == [i / 4 for i in rows]
        assert split.classes["mood"] == ("glad", "sad")
        assert [split.classes["mood"][int(c)] for c in split.attributes["mood"]] == [
            "sad" if i % 3 else "glad" for i in rows
        ]


def test_class_folders_agree_between_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "train" / "ant", 3)
    splits = load(class_folders(tmp_path))
    assert splits.train.classes == splits.test.classes == {"label": ("ant", "cat", "dog")}
    assert splits.test.attributes["label"].tolist() == [1] * 3 + [2] * 3


def test_embedded_sets() -> None:
    digits = load("digits")
    assert (len(digits.train), len(digits.test), digits.train.event_shape) == (1607, 190, (1, 8, 8))
    assert digits.train.data.max() == 255 and digits.train.kinds == {"label": "class"}
    faces = load("faces", n=40, size=16, seed=3)
    assert (len(faces.train), len(faces.test), faces.train.event_shape) == (40, 4, (3, 16, 16))
    assert faces.train.kinds["glasses"] == "binary" and faces.train.kinds["smile"] == "continuous"
    lazy = load("faces", n=40, size=16, seed=3, budget=1)
    assert not lazy.train.in_memory and torch.equal(lazy.train[[5, 2]], faces.train[[5, 2]])
    assert torch.equal(lazy.train.take([7, 8])[:], faces.train[7:9])
    assert not np.isin(faces.test.attributes["smile"], faces.train.attributes["smile"]).any()


def test_held_out_tenth_is_a_function_of_the_seed(tmp_path: Path) -> None:
    path = npy(tmp_path, pixels(N, H, W))
    first, again = load(path), load(path)
    assert np.array_equal(first.test.data, again.test.data)
    assert not all(np.array_equal(first.test.data, load(path, seed=seed).test.data) for seed in range(1, 5))
    rows = np.concatenate([first.train.data, first.test.data]).reshape(N, -1)
    assert len(np.unique(rows, axis=0)) == N


def test_path_then_data_folder_then_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [Image.fromarray(pixels(H, W, seed=i)) for i in range(6)], "label": [0, 1] * 3}
    asked: list[str] = []

    def stub(name: str, *config: str) -> datasets.DatasetDict:
        asked.append("/".join((name, *config)))
        table = datasets.Dataset.from_dict(rows, features)
        return datasets.DatasetDict(train=table, test=table.select(range(2)))

    monkeypatch.setattr(datasets, "load_dataset", stub)
    for name in ("mnist", "hf:ylecun/mnist:small"):
        splits = load(name)
        assert (len(splits.train), len(splits.test), splits.train.event_shape) == (6, 2, (1, H, W))
        assert splits.train.classes == {"dog": ("cat", "dog")}
        assert np.array_equal(splits.train.data[4, 0], pixels(H, W, seed=4))
    assert asked == ["ylecun/mnist", "ylecun/mnist/small"]
    root = tmp_path / "root"
    (root / "mnist").mkdir(parents=True)
    mnist_like(root / "mnist", ".gz")
    monkeypatch.setenv("TRIPTYCH_DATA", str(root))
    assert len(load("mnist").train) == N
    write_folder(Path("mnist"))
    assert load("mnist").train.event_shape == (3, H, W)
    assert len(asked) == 2


def test_rows_of_bytes_are_pictures_of_a_given_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frey").mkdir()
    npy(tmp_path / "frey", pixels(N, 560))
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    assert load("frey").train.event_shape == (560,)
    assert torch.equal(load("frey", size="28,20").train[:].flatten(1), load("frey").train[:])
    assert load("frey", size=(28, 20)).train.event_shape == (1, 28, 20)


def test_a_name_says_how_faces_are_distributed() -> None:
    name = "faces?hair_length:beard=-0.9&smile=-2:2"
    train = load(name, n=5, size=16, seed=3).train
    faces = Faces(5, 16, seed=3, correlate={("hair_length", "beard"): -0.9}, ranges={"smile": (-2, 2)})
    assert np.array_equal(train.data, faces[:])
    assert all(np.array_equal(train.attributes[name], values) for name, values in faces.attributes.items())


def test_unreadable_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    folder = with_metadata(tmp_path)
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "007.png").write_bytes(b"not a picture")
    (folder / "008.png").write_bytes(b"")
    for budget in (2**30, 1, 1):  # decoded, decoded to disk, found on disk
        said: list[str] = []
        splits = load(folder, notice=said.append, budget=budget)
        skipped = splits.train.skipped + splits.test.skipped
        assert sorted(one.name for one in skipped) == ["003.png", "007.png", "008.png"]
        assert all(one.reason for one in skipped) and sum("3 of 20" in line for line in said) == 1
        ages = [age for split in splits.values() for age in split.attributes["age"]]
        assert sorted(ages) == [i / 4 for i in range(N) if i not in (3, 7, 8)]


def test_decoded_sets_are_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "kept"
    monkeypatch.setenv("TRIPTYCH_CACHE", str(cache))
    folder = write_folder(tmp_path / "folder")
    first = load(folder, budget=1, notice=lambda line: None)
    monkeypatch.setattr("triptych.data.pictures.decode", None)  # a second decoding would fail
    assert torch.equal(load(folder, budget=1).train[:], first.train[:])
    assert len(list(cache.iterdir())) == 1
    monkeypatch.undo()
    monkeypatch.setenv("TRIPTYCH_CACHE", str(cache))
    (folder / "000.png").write_bytes(encoded(pixels(H, W, 3, seed=99)))
    changed = load(folder, budget=1, notice=lambda line: None)
    assert not torch.equal(changed.train[:], first.train[:]) or not torch.equal(changed.test[:], first.test[:])


def test_large_files_are_mapped_where_they_lie(tmp_path: Path) -> None:
    for path in (npy(tmp_path, pixels(N, H, W)), write_idx(tmp_path / "a-images-idx3-ubyte", pixels(N, H, W))):
        data = load(path, budget=1).train.data
        assert str(data.source.filename) == str(path)  # type: ignore[attr-defined]


def test_size_covers_and_crops_the_centre() -> None:
    wide = np.zeros((40, 80), np.uint8)
    wide[:, 20:60] = 200  # the central square
    small = decode(encoded(wide), grey=True, size=(20, 20))
    half = np.asarray(Image.fromarray(wide).resize((40, 20), Image.Resampling.LANCZOS))
    assert np.array_equal(small[0], half[:, 10:30]) and (small[:, :, 4:-4] == 200).all()
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(decode(encoded(checks), True, (16, 16)).astype(int) - 127).max() < 20  # antialiased, not sampled
    assert np.array_equal(resized(checks[None, None], (64, 64))[0, 0], checks)


def exif_rotated(picture: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter to the right
    return encoded(picture, "jpg", exif=exif.tobytes(), quality=100)


def pil(image: Image.Image, suffix: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


MODES = {
    "exif": (exif_rotated(np.full((8, 4), 90, np.uint8)), (1, 4, 8), 90),
    "palette": (pil(Image.new("RGB", (4, 8), (9, 9, 9)).quantize(4)), (3, 8, 4), 9),
    "transparent is white": (pil(Image.new("RGBA", (4, 8), (0, 0, 0, 0))), (3, 8, 4), 255),
    "grey with alpha": (pil(Image.new("LA", (4, 8), (50, 255))), (1, 8, 4), 50),
    "16 bits": (pil(Image.fromarray(np.full((8, 4), 0x9234, np.uint16))), (1, 8, 4), 0x92),
    "1 bit": (pil(Image.new("1", (4, 8), 1)), (1, 8, 4), 255),
    "cmyk": (pil(Image.new("CMYK", (4, 8), (0, 0, 0, 255)), "JPEG", quality=100), (3, 8, 4), 0),
    "gif": (pil(Image.new("L", (4, 8), 77), "GIF"), (3, 8, 4), 77),
    "webp": (pil(Image.new("RGB", (4, 8), (5, 5, 5)), "WEBP", lossless=True), (3, 8, 4), 5),
    "tiff": (pil(Image.new("L", (4, 8), 66), "TIFF"), (1, 8, 4), 66),
}


@pytest.mark.parametrize(("content", "shape", "value"), MODES.values(), ids=MODES)
def test_every_mode_of_picture(content: bytes, shape: tuple[int, ...], value: int, tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(content)  # Pillow goes by the bytes, not by the suffix
    data = np.asarray(load(tmp_path).train.data)
    assert data.shape == (1, *shape) and np.abs(data.astype(int) - value).max() <= 2


def test_grey_among_colour_becomes_rgb(tmp_path: Path) -> None:
    write_folder(tmp_path, 4, (H, W))
    (tmp_path / "colour.png").write_bytes(encoded(pixels(H, W, 3)))
    assert load(tmp_path).train.event_shape == (3, H, W)


def test_one_picture_as_stored_values(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, 1)
    picture = read_picture(folder / "000.png", (3, H, W))
    assert torch.equal(picture, torch.from_numpy(pixels(H, W, 3)).permute(2, 0, 1)[None])
    assert read_picture(folder / "000.png", (1, 5, 5)).shape == (1, 1, 5, 5)
    broken = touched(tmp_path, "broken.png", b"not a picture")
    bad = ((folder / "none.png", (3, H, W)), (broken, (3, H, W)), (folder / "000.png", (4, H, W)), (broken, (9,)))
    for path, shape in bad:
        with pytest.raises(TriptychError):
            read_picture(path, shape)


def test_missing_values_are_nan_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    rows = [{"file_name": f"{i:03}.png", "smile": ["yes", "no", ""][i % 3], "note": f"picture {i}"} for i in range(N - 2)]
    train = load(write_csv(write_folder(tmp_path), rows), notice=said.append).train
    assert np.isnan(train.attributes["smile"]).any() and train.kinds == {"smile": "binary"}
    assert any("'note'" in line for line in said) and any("NaN" in line and "smile (8)" in line for line in said)


# Bad input: what makes it, and what its one line has to say.
def broken_parquet(path: Path) -> Path:
    content = write_parquet(path / "a.parquet").read_bytes()
    (path / "a.parquet").write_bytes(content[: len(content) // 2])
    return path / "a.parquet"


def truncated(path: Path, keep: int) -> Path:
    path.write_bytes(path.read_bytes()[:keep])
    return path


def with_nan(path: Path) -> Path:
    values = np.zeros((N, 3))
    values[4, 1], values[7:9] = np.inf, np.nan
    return npy(path, values)


def five_broken(path: Path) -> Path:
    for name in "abcde":
        touched(path, f"{name}.png", b"x")
    return path


def two_sizes(path: Path) -> Path:
    (write_folder(path) / "zz.png").write_bytes(encoded(pixels(7, 9, 3)))
    return path


def touched(path: Path, name: str, content: bytes = b"") -> Path:
    (path / name).write_bytes(content)
    return path / name


def parquet_of_words(path: Path) -> Path:
    pq.write_table(pa.table({"sound": ["a", "b"]}), path / "a.parquet")
    return path / "a.parquet"


BAD: dict[str, tuple[Callable[[Path], object], dict[str, object], list[str]]] = {
    "unknown name": (lambda p: "digitz", {}, ["did you mean digits", "TRIPTYCH_DATA"]),
    "no such path": (lambda p: p / "nothing.npy", {}, ["nothing.npy", "looked for"]),
    "frey, absent": (lambda p: "frey", {}, ["'frey'", "TRIPTYCH_DATA", "a folder"]),
    "empty folder": (lambda p: p, {}, ["expected pictures", "nothing"]),
    "folder of text": (lambda p: touched(p, "a.txt").parent, {}, ["expected pictures", "1 .txt"]),
    "pictures beside arrays": (lambda p: npy(write_folder(p), pixels(2, 2, 2)).parent, {}, ["both", "x.npy"]),
    "test split alone": (lambda p: write_folder(p / "test").parent, {}, ["train", "only test"]),
    "one picture": (lambda p: write_folder(p, 1), {}, ["at least 2", "got 1"]),
    "a picture for a set": (lambda p: write_folder(p) / "000.png", {}, ["single picture", "folder"]),
    "sizes differ": (two_sizes, {}, ["12×10", "7×9", "zz.png", "--size"]),
    "none readable": (five_broken, {}, ["5 of 5", "a.png (not a picture", "c.png", "…"]),
    "unknown suffix": (lambda p: touched(p, "a.doc", b"words"), {}, ["a.doc", ".npy", "got .doc"]),
    "metadata names missing files": (
        lambda p: write_csv(write_folder(p), [{"file_name": f"{c}.png", "a": 1} for c in "vwxyz"]),
        {},
        ["5 files", "v.png, w.png, x.png, …"],
    ),
    "metadata without file_name": (
        lambda p: write_csv(write_folder(p), [{"file": "a", "b": 1}]),
        {},
        ["file_name", "file, b"],
    ),
    "metadata twice": (
        lambda p: write_csv(write_folder(p), [{"file_name": "000.png", "b": b} for b in (1, 2)]),
        {},
        ["two for 000.png"],
    ),
    "metadata not text": (lambda p: touched(write_folder(p), "metadata.csv", b"\xff\xfe\x00").parent, {}, ["UTF-8"]),
    "npy of objects": (lambda p: npy(p, np.array([{}, []], dtype=object)), {}, ["x.npy", "complete npy file"]),
    "npy of words": (lambda p: npy(p, np.array([["a"], ["b"]])), {}, ["numbers", "<U1"]),
    "npy complex": (lambda p: npy(p, np.zeros((4, 2), complex)), {}, ["numbers", "complex128"]),
    "npy of rank 1": (lambda p: npy(p, np.zeros(9)), {}, ["1 to 3 dimensions", "(9,)"]),
    "npy of rank 5": (lambda p: npy(p, np.zeros((2, 1, 1, 1, 1))), {}, ["1 to 3 dimensions"]),
    "npy empty": (lambda p: npy(p, np.zeros((0, 3, 4))), {}, ["at least one row"]),
    "npy cut short": (lambda p: truncated(npy(p, pixels(N, H, W)), 500), {}, ["x.npy", "complete npy file"]),
    "npy not finite": (with_nan, {}, ["7 NaN or infinite", "(4, 1)"]),
    "npy too large for float32": (lambda p: npy(p, np.full((3, 2), 1e300)), {}, ["6 NaN or infinite", "(0, 0)"]),
    "npy ints out of range": (
        lambda p: npy(p, np.full((3, 2, 2), 70_000)),
        {},
        ["0..65535", "got 70000 in row 0"],
    ),
    "npy negative ints": (lambda p: npy(p, np.full((3, 2, 2), -1, np.int8)), {}, ["0..255", "got -1"]),
    "size of floats": (lambda p: npy(p, np.zeros((9, 3))), {"size": 8}, ["size applies to", "float64"]),
    "npz, two arrays": (lambda p: npz(p, a=np.zeros((2, 2)), b=np.zeros((2, 2))), {}, ["array x", "a (2, 2)"]),
    "npz, no array": (lambda p: npz(p, a=np.zeros(2)), {}, ["array x", "a (2,)"]),
    "npz of objects": (lambda p: npz(p, x=np.array([{}, []], dtype=object)), {}, ["numbers", "object"]),
    "npz cut short": (lambda p: truncated(npz(p, x=pixels(N, H, W)), 500), {}, ["x.npz", "complete npz"]),
    "idx cut short": (
        lambda p: truncated(write_idx(p / "a-idx3", pixels(N, H, W)), 1000),
        {},
        ["expected 2,400 bytes", "at most 984"],
    ),
    "idx gz cut short": (lambda p: truncated(write_idx(p / "a.gz", pixels(N, H, W)), 1000), {}, ["a.gz", "complete IDX"]),
    "idx of a bad magic": (lambda p: touched(p, "a.gz", gzip.compress(b"\1\2\3\4 words")), {}, ["[1, 2, 3, 4]", "IDX"]),
    "idx, not gz at all": (lambda p: touched(p, "a.gz", b"words"), {}, ["a.gz", "complete IDX"]),
    "idx that promises too much": (
        lambda p: touched(p, "a.gz", gzip.compress(b"\0\0\x08\3" + b"\x7f\xff\xff\xff" * 3)),
        {},
        ["cut short"],
    ),
    "idx labels of another set": (
        lambda p: write_idx(p / "t-labels-idx1", np.zeros(3, np.uint8)) and write_idx(p / "t-images-idx3", pixels(N, H, W)),
        {},
        ["expected 20 labels", "(3,)"],
    ),
    "idx labels for pictures": (lambda p: write_idx(p / "t-labels-idx1", np.zeros(3, np.uint8)), {}, ["(3,)"]),
    "parquet without pictures": (parquet_of_words, {}, ["image or img", "sound"]),
    "parquet cut short": (broken_parquet, {}, ["a.parquet", "complete parquet"]),
    "parquet without rows": (lambda p: write_parquet(p / "a.parquet", n=0), {}, ["at least"]),
    "too few": (lambda p: npy(p, pixels(N, H, W)), {"n": 19, "held_out": "position"}, ["at most 18", "got 19"]),
    "n of nothing": (lambda p: "digits", {"n": 0}, ["n of at least 1"]),
    "a strange size": (lambda p: "digits", {"size": (1, 2, 3)}, ["height,width"]),
    "a size of words": (lambda p: "digits", {"size": "large"}, ["height,width", "'large'"]),
    "half a size": (lambda p: "digits", {"size": 8.5}, ["8.5"]),
    "size of nothing": (lambda p: "digits", {"size": 0}, ["size"]),
    "a distribution of no faces": (lambda p: "digits?age:beard=1", {}, ["unknown data set", "digits"]),
    "a distribution that cannot be read": (lambda p: "faces?age=beard", {}, ["hair_length:beard=-0.9", "'age=beard'"]),
    "a distribution of unknown attributes": (lambda p: "faces?bread:age=0.5", {}, ["'bread'", "beard"]),
    "faces that are not square": (lambda p: "faces", {"size": (16, 24)}, ["square"]),
}


@pytest.mark.parametrize(("make", "options", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(make: Callable, options: dict, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(TriptychError) as caught:
        load(make(tmp_path), notice=lambda line: None, **options)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_broken_bytes_never_give_a_traceback(case: Case, tmp_path: Path) -> None:
    """Whatever bytes change, the set loads or a TriptychError says why not, on one line."""
    path = case.make(tmp_path)
    random = np.random.default_rng(0)
    file = sorted(file for file in tmp_path.rglob("*") if file.is_file())[0]
    whole = file.read_bytes()
    for reach in (8, 60, 200, len(whole)) * 3:
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, min(reach, len(whole)), 3)] = random.integers(0, 256, 3)
        file.write_bytes(content[: random.integers(len(whole) // 2, 2 * len(whole))].tobytes())
        try:
            load(path, notice=lambda line: None, **case.options)
        except TriptychError as error:
            assert "\n" not in str(error)


def test_huge_pictures_are_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write_folder(tmp_path) / "huge.png").write_bytes(encoded(pixels(40, 40, 3)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    splits = load(tmp_path, size=8, notice=lambda line: None)
    (huge,) = [one for split in splits.values() for one in split.skipped]
    assert huge.name == "huge.png" and "too large" in huge.reason and "1 unreadable" in splits.summary


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(touched(tmp_path, "file")))
    with pytest.raises(TriptychError, match="TRIPTYCH_CACHE"):
        load(write_folder(tmp_path / "folder"), budget=1)


def test_hub_errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def absent(name: str) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", absent)
    for name in ("celeba", "hf:some/where"):
        with pytest.raises(TriptychError, match="no route to host") as caught:
            load(name)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.Dataset.from_dict({"text": ["a", "b"]}))
    with pytest.raises(TriptychError, match=r"encoded pictures .* got columns text"):
        load("hf:some/where")


def test_split_indexing_and_checks() -> None:
    split = Split(np.arange(12, dtype=np.float32).reshape(6, 2), {"a": np.arange(6)})
    assert split[2].tolist() == [4, 5] and split[-1].tolist() == [10, 11]
    assert torch.equal(split[np.array([True, False] * 3)], split[[0, 2, 4]])
    assert split.take(torch.tensor([3, 1])).attributes["a"].tolist() == [3, 1]
    assert split.__getitems__([]).shape == (0, 2)
    for wrong in ([6], [-7], [0.5]):
        with pytest.raises(IndexError):
            split[wrong]
    with pytest.raises(TriptychError, match="expected 6 values"):
        Split(split.data, {"a": np.arange(5)})
    given = {"a": [0, 1] * 3}
    other = Split(split.data, given)  # type: ignore[arg-type]
    assert other.kinds == {"a": "binary"} and given == {"a": [0, 1] * 3}  # what was given is not changed
    with pytest.raises(AttributeError):
        other.skipped = ()  # type: ignore[misc]
    with pytest.raises(AttributeError, match="choose train"):
        _ = Splits(train=split).valid
    fixed = np.zeros((2, 3), np.uint8)
    fixed.flags.writeable = False
    assert Split(fixed)[0].tolist() == [0, 0, 0]  # no warning of torch's


def test_a_slice_of_a_memory_map_survives_pickling(tmp_path: Path) -> None:
    mapped = np.load(npy(tmp_path, pixels(N, H, W)), mmap_mode="r")
    split = Split(mapped[5:, None])
    assert torch.equal(pickle.loads(pickle.dumps(split))[:], split[:])


def test_a_fixed_subset_is_always_the_same() -> None:
    assert fixed_subset(10, 4).tolist() == np.random.default_rng(0).permutation(10)[:4].tolist()
    assert sorted(fixed_subset(3, 9)) == [0, 1, 2]


def test_importing_it_does_not_import_torch() -> None:
    import subprocess
    import sys

    heavy = ("torch", "datasets", "pyarrow", "sklearn")
    code = f"import sys, triptych.data; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PIXELS = np.random.default_rng(5).integers(0, 256, (40, 12, 10, 3), dtype=np.uint8)
CODES = np.arange(40) % 3
MEMORY = {
    "x_train": lambda: {"x_train": PIXELS, "y_train": CODES, "x_test": PIXELS[:6], "y_test": CODES[:6]},
    "(x, y)": lambda: (PIXELS, CODES),
    "((x, y), (x, y))": lambda: ((PIXELS, CODES), (PIXELS[:6], CODES[:6])),
    "tensors": lambda: (torch.from_numpy(PIXELS), torch.from_numpy(CODES)),
    "one of many": lambda: (PIXELS, np.eye(3)[CODES]),
    "[[picture, label]]": lambda: [[picture, int(code)] for picture, code in zip(PIXELS, CODES, strict=True)],
    "[[Pillow, label]]": lambda: [[Image.fromarray(picture), int(c)] for picture, c in zip(PIXELS, CODES, strict=True)],
    "TensorDataset": lambda: torch.utils.data.TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(CODES)),
    "arrays in a DataFrame": lambda: pandas_frame(list(PIXELS)),
    "Pillow in a DataFrame": lambda: pandas_frame([Image.fromarray(picture) for picture in PIXELS]),
    "flat and as pictures": lambda: {"data": PIXELS.reshape(40, -1), "images": PIXELS, "target": CODES},
    "floats in −1…1": lambda: (PIXELS.astype(np.float32) / 127.5 - 1, CODES),
}


def pandas_frame(pictures: list) -> object:
    import pandas as pd

    return pd.DataFrame({"image": pictures, "label": CODES})


@pytest.mark.parametrize("make", MEMORY.values(), ids=MEMORY)
def test_what_is_in_memory_is_read_as_people_mean_it(make: Callable) -> None:
    splits = load(make(), notice=lambda line: None)
    known = {picture.tobytes(): code for picture, code in zip(PIXELS.transpose(0, 3, 1, 2), CODES, strict=True)}
    assert list(splits.train.attributes) == ["label"]
    for split in splits.values():
        for picture, code in zip(split[:].numpy(), split.attributes["label"], strict=True):
            assert known[picture.tobytes()] == code
