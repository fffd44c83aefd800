"""Files that are not what they seem: pictures, tables, arrays and archives that are cut, flipped, bombs or links."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from chaos_checkpoints import _template
from chaos_process import Case, Fault, command, faults_of, run
from PIL import Image, PngImagePlugin

Write = Callable[[Path], object]
_TRAIN = ["--steps", "1", "--model.latent-dim", "2", "--model.hidden", "4", "--model.width", "4", "--training.batch", "8",
          "--out", "new"]  # fmt: skip


def cases(root: Path, seed: int, quick: bool) -> list[Case]:
    """150: each file as a picture to edit or score, among others in a folder, or as a data set."""
    template, draw, found = _template(root, "vae"), random.Random(seed), []
    for name, suffix, write in [*_special(), *_pictures(draw), *_pickles(), *_tables(draw), *_archives(draw)]:
        picture = suffix in (".png", ".jpg", ".gif", ".tif", ".webp", ".bmp")
        ways = (draw.sample(["edit", "score", "folder"], 2)) if picture else ["train"]
        found += [Case(f"{name}{suffix}, {way}", partial(_opened, template, suffix, write, way)) for way in ways]
    return found[:: max(1, len(found) // 30)] if quick else found


def _opened(template: Path, suffix: str, write: Write, way: str, place: Path) -> list[Fault]:
    """The file among good ones; what is beside it is as it was afterwards."""
    shutil.rmtree(place)
    shutil.copytree(template, place)
    (place.parent / "precious.png").write_bytes((place / "face" / "000000.png").read_bytes())
    path = place / "data" / f"odd{suffix}"
    path.parent.mkdir()
    write(path)
    words = {
        "edit": ["edit", "run", str(path), "--set", "pc1=1", "--out", "e.png"],
        "score": ["score", "run", str(path), "--out", "s.csv"],
        "train": ["train", "vae", "--data", str(path), *_TRAIN],
        "folder": ["train", "vae", "--data", "data", "--size", "8", *_TRAIN],
    }[way]
    if way == "folder":
        for i in range(12):
            (place / "data" / f"{i:02}.png").write_bytes(_encoded("PNG", seed=i))
    ended = run(command(words), place)
    found = faults_of(ended, " ".join(words[:3]))
    if way == "folder" and ended.code and suffix == ".png" and "fifo" not in str(path):
        found += [Fault("lost", f"one odd file among 12 good ones: {ended.err.strip()[-200:]}")]
    if (place.parent / "precious.png").read_bytes() != (template / "face" / "000000.png").read_bytes():
        found.append(Fault("outside", "a file beside the folder was changed"))
    return found


def _special() -> Iterator[tuple[str, str, Write]]:
    """What is not a regular file, under the names of all kinds."""
    kinds: dict[str, Write] = {
        "fifo": os.mkfifo,
        "zero": lambda p: p.symlink_to("/dev/zero"),
        "dangling": lambda p: p.symlink_to("nowhere"),
        "loop": lambda p: p.symlink_to(p.name),
    }
    for suffix in (".png", ".npy", ".csv", ".zip", ".parquet"):
        for name, write in kinds.items():
            yield name, suffix, write
    yield "folder", ".png", Path.mkdir
    yield "null", ".npz", lambda p: p.symlink_to("/dev/null")
    yield "memory", ".npy", lambda p: p.symlink_to("/proc/self/mem")
    yield "huge sparse", ".npy", lambda p: (p.write_bytes(b"\x93NUMPY"), os.truncate(p, 2**34))
    yield "huge sparse", ".csv", lambda p: (p.write_bytes(b"a,b\n1,2\n"), os.truncate(p, 2**34))
    yield "huge sparse", ".png", lambda p: (p.write_bytes(_encoded("PNG")), os.truncate(p, 2**34))


def _encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 20), seed: int = 0, **options: Any) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise, "RGBA" if mode == "RGBA" else None).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _cut(blob: bytes, draw: random.Random) -> bytes:
    return blob[: draw.randrange(1, len(blob))]


def _flipped(blob: bytes, draw: random.Random) -> bytes:
    changed = bytearray(blob)
    for _ in range(draw.choice([1, 10, 100])):
        changed[draw.randrange(len(blob))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _bytes(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def _pictures(draw: random.Random) -> Iterator[tuple[str, str, Write]]:
    kinds = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp"}
    for kind, suffix in kinds.items():
        yield "cut", suffix, _bytes(_cut(_encoded(kind), draw))
        yield "flipped", suffix, _bytes(_flipped(_encoded(kind), draw))
    odd = {"grey 16 bit": "I;16", "palette": "P", "one bit": "1", "alpha": "RGBA", "grey and alpha": "LA",
           "grey": "L"}  # fmt: skip
    for name, mode in odd.items():
        yield name, ".png", _bytes(_encoded("PNG", mode))
    yield "CMYK", ".jpg", _bytes(_encoded("JPEG", "CMYK"))
    yield "floats with NaN", ".tif", lambda p: Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(p)
    yield "huge dimensions", ".png", _bytes(_png(2**31 - 1, 2**31 - 1, b"\0"))
    yield "bomb", ".png", lambda p: p.write_bytes(_png(30_000, 30_000, zlib.compress(bytes(2**28), 9)))
    yield "wide", ".png", _bytes(_encoded("PNG", size=(20_000, 1)))
    yield "dot", ".png", _bytes(_encoded("PNG", size=(1, 1)))
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "x" * 2**26, zip=True)
    yield "long text chunk", ".png", lambda p: p.write_bytes(_encoded("PNG", pnginfo=text))
    yield "EPS", ".png", _bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch precious) (w) file\n")
    yield "SVG", ".png", _bytes(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>')
    yield "text", ".png", _bytes(b"not a picture\n" * 10)
    yield "empty", ".png", _bytes(b"")
    frames = [Image.new("L", (8, 8), i % 256) for i in range(3000)]
    yield "3,000 frames", ".gif", lambda p: frames[0].save(p, save_all=True, append_images=frames[1:])
    yield "broken orientation", ".jpg", _bytes(_encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9))


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


class _Evil:
    """Would make a file if it were unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("unpickled",)


def _pickles() -> Iterator[tuple[str, str, Write]]:
    evil = np.array([_Evil()] * 4, dtype=object)
    yield "objects", ".npy", lambda p: np.save(p, evil, allow_pickle=True)
    yield "objects", ".npz", lambda p: np.savez(p, x=evil)
    yield "objects beside values", ".npz", lambda p: np.savez(p, x=np.ones((9, 3)), attributes=evil)
    for suffix in (".npy", ".pkl", ".pt", ".csv", ".png", ".mat", ".h5", ".parquet"):
        yield "pickle", suffix, _bytes(pickle.dumps(_Evil()))
    for name in ("data_batch_1", "data"):  # as CIFAR is distributed
        yield (
            f"pickle {name}",
            "",
            lambda p, name=name: (p.mkdir(), (p / name).write_bytes(pickle.dumps({b"data": _Evil()}))),
        )


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _tables(draw: random.Random) -> Iterator[tuple[str, str, Write]]:
    good, rows = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), ["a,b,c"] + ["1,2,3"] * 40
    arrays = {
        "NaN": np.full((40, 5), np.nan, np.float32), "infinite": np.full((40, 5), np.inf), "complex": good.astype(complex),
        "words": np.array(["a", "b"] * 9), "dates": np.array(["2020-01-01"] * 9, "M8[D]"), "nothing": np.zeros((0, 5)),
        "no columns": np.zeros((40, 0)), "a number": np.float32(3), "records": np.zeros(9, "f4,i4"),
        "huge numbers": good * 1e38, "bytes": np.zeros((9, 3), "V7"),
        "bools": np.zeros((40, 5), bool), "half": good.astype(np.float16),
        "long doubles": good.astype(np.longdouble), "seven axes": np.zeros((9, 1, 1, 1, 1, 1, 2)),
        "constant": np.ones((40, 5)),
        "whole numbers": np.full((40, 5), 2**62),
    }  # fmt: skip
    for name, values in arrays.items():
        yield name, ".npy", _bytes(_npy(np.asarray(values)))
    yield "cut", ".npy", _bytes(_cut(_npy(good), draw))
    for name, header in {"huge shape": _header("(10**12, 5)"), "large shape": _header(f"({10**12}, 5)"), "code": _header(
            "(__import__('os').mkdir('ran'),)"), "negative": _header("(-1, 5)"), "deep": _header("(" * 3000),
            "subarray": _header("(9,)", f"('<f4', ({2**31},))")}.items():  # fmt: skip
        yield name, ".npy", _bytes(header + bytes(64))
    for name, text in {
        "ragged": [*rows, "1", "1,2,3,4,5"], "NaN": [*rows, "nan,,inf"], "NUL": [*rows, "1,\0,3"],
        "one column": ["a", *"123"],
        "unclosed quote": [*rows, '1,"2,3'], "header alone": rows[:1], "empty": [], "binary": ["\x00\x01\x02" * 99],
        "long line": ["a", "9" * 10**7],
        "many columns": [",".join(f"c{i}" for i in range(50_000)), ",".join(["1"] * 50_000)],
        "huge integers": ["a,b", *["9" * 400 + ",1"] * 9], "same names": ["a,a,a", *rows[1:]], "formula": ["a,b", "=1+1,@x"],
    }.items():  # fmt: skip
        yield name, ".csv", _bytes("\n".join(text).encode())
    yield from _columnar(draw, good)


def _columnar(draw: random.Random, good: np.ndarray) -> Iterator[tuple[str, str, Write]]:
    import pyarrow
    import scipy.io
    from pyarrow import parquet

    def table(**columns: object) -> bytes:
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), buffer)
        return buffer.getvalue()

    plain = table(a=list(range(40)), b=[0.5] * 40)
    yield "cut", ".parquet", _bytes(_cut(plain, draw))
    yield "flipped", ".parquet", _bytes(_flipped(plain, draw))
    yield "nested", ".parquet", _bytes(table(a=[[[1], [2, 3]]] * 9, b=[{"x": 1}] * 9))
    yield "pictures that are not", ".parquet", _bytes(table(image=[{"bytes": b"x", "path": "/etc/passwd"}] * 9))
    yield "pictures by path", ".parquet", _bytes(table(image=[{"bytes": None, "path": "/etc/passwd"}] * 9))
    yield "no rows", ".parquet", _bytes(table(a=pyarrow.array([], pyarrow.float32())))
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"x": good, "s": {"deep": {"deeper": good}}, "cell": np.array([good, "a"], dtype=object)})
    yield "cells", ".mat", _bytes(buffer.getvalue())
    yield "cut", ".mat", _bytes(_cut(buffer.getvalue(), draw))
    hdf5 = b"\x89HDF\r\n\x1a\n"
    yield "superblock alone", ".h5", _bytes(hdf5)
    yield "junk after the superblock", ".h5", _bytes(hdf5 + draw.randbytes(4000))
    yield "junk in 7.3", ".mat", _bytes(b"MATLAB 7.3 MAT-file".ljust(512) + hdf5 + draw.randbytes(4000))
    yield "huge dimensions", ".idx3-ubyte", _bytes(struct.pack(">IIII", 0x803, 2**31 - 1, 2**31 - 1, 2**31 - 1))
    yield "five axes", ".idx", _bytes(struct.pack(">I5I", 0x805, *[2**16] * 5))


def _archives(draw: random.Random) -> Iterator[tuple[str, str, Write]]:
    picture = _encoded("PNG")

    def zipped(*members: tuple[str, bytes], mode: int = 0, say: int | None = None) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                item = zipfile.ZipInfo(name)
                item.compress_type, item.external_attr = zipfile.ZIP_DEFLATED, mode << 16
                archive.writestr(item, content)
        return buffer.getvalue()

    def tarred(kind: bytes, target: str = "", name: str = "a.png", form: str = "w") -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=form) as archive:  # type: ignore[call-overload]
            item = tarfile.TarInfo(name)
            item.type, item.linkname, item.size = kind, target, len(picture) if kind == tarfile.REGTYPE else 0
            archive.addfile(item, io.BytesIO(picture))
        return buffer.getvalue()

    for name in ("../precious.png", "/tmp/precious.png", "a/../../precious.png", "..\\precious.png", "C:\\a.png", "",
                 "a" * 300, "a/" * 2000 + "a.png", "\udcff.png"[1:], "con.png"):  # fmt: skip
        yield f"named {ascii(name)[:30]}", ".zip", _bytes(zipped((name, picture)))
    yield "link", ".zip", _bytes(zipped(("a.png", b"../../precious.png"), mode=0o120777))
    yield "bomb", ".zip", lambda p: p.write_bytes(zipped(*((f"{i}.png", bytes(2**27)) for i in range(8))))
    yield "many", ".zip", lambda p: p.write_bytes(zipped(*((f"{i}.png", b"") for i in range(20_000))))
    yield "cut", ".zip", _bytes(_cut(zipped(("a.png", picture)), draw))
    yield "flipped", ".zip", _bytes(_flipped(zipped(("a.png", picture)), draw))
    yield "itself inside", ".zip", _bytes(zipped(("a.zip", zipped(("a.zip", zipped(("a.png", picture)))))))
    yield "slip", ".npz", _bytes(zipped(("../x.npy", _npy(np.ones((9, 3))))))
    yield "bomb", ".npz", lambda p: p.write_bytes(zipped(("x.npy", _header(f"({2**28},)") + bytes(2**30))))
    yield "not arrays", ".npz", _bytes(zipped(("x.npy", b"x"), ("y.txt", b"y")))
    for name, kind, target in (("link", tarfile.SYMTYPE, "/etc/passwd"), ("hard link", tarfile.LNKTYPE, "../precious.png"),
                               ("device", tarfile.CHRTYPE, ""), ("fifo", tarfile.FIFOTYPE, "")):  # fmt: skip
        yield name, ".tar", _bytes(tarred(kind, target))
    yield "slip", ".tar", _bytes(tarred(tarfile.REGTYPE, name="../../precious.png"))
    yield "absolute", ".tar.gz", _bytes(tarred(tarfile.REGTYPE, name="/tmp/precious.png", form="w:gz"))
    yield "cut", ".tar.gz", _bytes(_cut(tarred(tarfile.REGTYPE, form="w:gz"), draw))
    labels = {"up": "../../precious.png", "absolute": "/etc/passwd", "device": "/dev/zero", "empty": "", "folder": "."}
    for name, place in labels.items():
        row = json.dumps({"file_name": place, "a": 1})
        yield (
            f"metadata {name}",
            ".folder",
            lambda p, row=row: (p.mkdir(), (p / "metadata.jsonl").write_text(row * 1 + "\n")),
        )
    yield "metadata deep", ".folder", lambda p: (p.mkdir(), (p / "metadata.jsonl").write_text("[" * 10**5))
