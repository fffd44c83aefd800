"""Checkpoints that triptych did not write: a small run of each kind with one thing in it changed, and a verb that reads it.

What is changed is drawn: a value, a name or a type in recipe.json and state.json, a tensor's shape, type, name or values,
the bytes of a file, or what kind of thing lies under its name. A state whose checksum is wrong is refused at once; so the
checksum is made right.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from chaos_kills import TRAIN
from chaos_process import Case, Ended, Fault, command, faults_of, run
from safetensors.torch import load_file, save_file

_SHARED = ["--data", "digits", "--steps", "4", "--training.batch", "8", "--training.save-every", "2"]
_PRIOR = TRAIN.index("normal")
_TEMPLATES = {
    "vae": TRAIN,
    "prior": [*TRAIN[:_PRIOR], "flow", *TRAIN[_PRIOR + 1 :]],
    "given": [*TRAIN, "--given", "label"],
    "glow": ["train", "glow", *_SHARED, "--model.depth", "1", "--model.width", "4"],
    "nice": ["train", "nice", *_SHARED, "--model.hidden", "8", "--model.couplings", "2"],
    "dcgan": ["train", "dcgan", *_SHARED, "--model.width", "4", "--model.latent-dim", "4"],
    "progressive": ["train", "progressive", *_SHARED, "--model.width", "4", "--model.latent-dim", "4"],
}
_RESUME = ["train", "--resume", "run", "--steps", "6"]
_READERS = {
    "sample": ["sample", "run", "--n", "2", "--out", "s.npy"],
    "sheet": ["sample", "run", "--n", "2", "--out", "s.png"],
    "resume": _RESUME,
    "init": ["train", "--init", "run", "--data", "digits", "--steps", "1", "--out", "new"],
    "list": ["list", "."],
    "doctor": ["doctor", "run", "--samples", "8"],
    "edit": ["edit", "run", "face/000000.png", "--set", "pc1=1", "--out", "e.png"],
    "mix": ["mix", "run", "face/000000.png", "face/000001.png", "--steps", "2", "--out", "m.png"],
    "directions": ["directions", "run", "--unsupervised", "1"],
    "evaluate": ["evaluate", "run", "--k", "2", "--images", "4", "--hmc", "0"],
    "score": ["score", "run", "face/000000.png", "--out", "s.csv"],
}
_WITH_ENCODER = ("vae", "prior", "given", "glow", "nice")  # a GAN's would have to be learned, longer than a case may take
_HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 3, 2**31, 2**63, 10**30, 1e308, -0.5, float("nan"), float("inf"), "", "x" * 5000,
    "../../../etc/passwd", "__class__", "os.system", [], {}, [[[]]], [10**9] * 3, [-1], ["a"],
    {"type": "MLP", "arguments": {}}, {"own": "Mine"}, {"type": "Chain", "arguments": {"parts": []}},
)  # fmt: skip


class Change(NamedTuple):
    """What was changed, in words.

    Attributes:
        refused: whether exit 0 is wrong.
        same: whether exit 0 is right only with the result of the untouched run.
    """

    what: str
    refused: bool = False
    same: bool = False


def cases(root: Path, seed: int, quick: bool) -> list[Case]:
    """300: in turns the recipe, the weights, the optimisers' state and its numbers, and what else a run holds."""
    draw, found = random.Random(seed), []
    for i in range(40 if quick else 300):
        change = (_recipe, _weights, _tensors, _numbers, _records)[i % 5]
        name = draw.choice(list(_TEMPLATES))
        readers = list(_READERS) if name in _WITH_ENCODER else ["sample", "sheet", "resume", "init", "list", "doctor"]
        reader = draw.choice(["resume", *readers]) if change in (_recipe, _weights, _records) else "resume"
        what = f"{i} {change.__name__.strip('_')} of {name}, {reader}"
        found.append(Case(what, partial(_read, root, name, reader, change, f"{seed}.{i}")))
    return found


def preparations(root: Path) -> list[Callable[[], object]]:
    """What makes the runs that are changed, each once for all."""
    return [partial(_template, root, name) for name in _TEMPLATES]


def _template(root: Path, name: str) -> Path:
    """A trained run with two directions and two pictures beside it, and what its resumption leads to."""
    place = root / "templates" / name / "place"
    if (place.parent / "resumed.json").exists():
        return place
    shutil.rmtree(place.parent, ignore_errors=True)
    made = [[*_TEMPLATES[name], "--out", "run"], ["sample", "run", "--n", "2", "--out", "face/"]]
    for words in [*made, *([["directions", "run", "--unsupervised", "2"]] if name in _WITH_ENCODER else [])]:
        _must(run(command(words), place), words)
    resumed = shutil.copytree(place, place.parent / "resumed")
    _must(run(command(_RESUME), resumed), _RESUME)
    (place.parent / "resumed.json").write_text(json.dumps(_digest(resumed / "run" / "model.safetensors")))
    return place


def _must(ended: Ended, words: Sequence[str]) -> None:
    if ended.code:
        raise RuntimeError(f"{' '.join(words)} should work, but exits {ended.code}: {ended.err[-2000:]}")


def _read(root: Path, name: str, reader: str, change: Callable[..., Change], seed: str, place: Path) -> list[Fault]:
    template = _template(root, name)
    shutil.rmtree(place)
    shutil.copytree(template, place)
    precious = place.parent / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    changed = change(random.Random(seed), place / "run")
    ended = run(command(_READERS[reader]), place)
    what = f"{changed.what}: {' '.join(_READERS[reader][:2])}"
    found = faults_of(ended, what)
    if [path.name for path in precious.iterdir()] != ["file"] or (precious / "file").read_text() != "kept":
        found.append(Fault("outside", f"{what}: a file that the run links to was changed"))
    if ended.code == 0:
        found += _unsound(changed, reader, ended, template, place, what)
    for mine in (place / "run").glob(".mine*"):
        mine.unlink()
    return found


def _unsound(change: Change, reader: str, ended: Ended, template: Path, place: Path, what: str) -> Iterator[Fault]:
    """What is wrong with exit 0: a state that cannot be right, weights that are not finite, or another result."""
    if change.refused and reader not in ("list", "doctor", *["resume"] * change.what.endswith("in model")):
        yield Fault("accepted", what)
    if reader == "resume":
        weights = place / "run" / "model.safetensors"
        if not all(v.isfinite().all() for v in load_file(weights).values()):
            yield Fault("accepted", f"{what}: weights that are not finite were written")
        elif change.same and _digest(weights) != json.loads((template.parent / "resumed.json").read_text()):
            yield Fault("unequal", f"{what}: another result")
    if change.what.endswith("a file of one's own") and not list((place / "run").glob(".mine*")):
        yield Fault("lost", f"{what}: it was removed")
    silent = "finite" not in ended.err + ended.out and "NaN" not in ended.err + ended.out
    if "NaN in model" in change.what and reader not in ("list", "resume") and silent:
        yield Fault("accepted", f"{what}: not said")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- recipe.json and state.json


def _recipe(draw: random.Random, folder: Path) -> Change:
    """recipe.json: a value, a key, the nesting, or the bytes."""
    if draw.random() < 0.2:
        return _bytes(draw, folder / "recipe.json")
    return _json(draw, folder / "recipe.json", lambda tree: tree)


def _numbers(draw: random.Random, folder: Path) -> Change:
    """state.json of the newest checkpoint: progress, and hyperparameters, which come from the recipe alone."""
    path = _newest(folder) / "state.json"
    if draw.random() < 0.15:
        return _bytes(draw, path)
    if draw.random() < 0.5:
        stored = json.loads(path.read_text())  # where earlier versions kept what the recipe says
        usual = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "params": [0, 1]}
        path.write_text(json.dumps({"param_groups": {"vae": [usual], "flow": [usual]}} | stored))
        return _json(draw, path, lambda tree: tree["param_groups"])._replace(same=True)
    return _json(draw, path, lambda tree: {k: v for k, v in tree.items() if k not in ("param_groups", "sha256")})


def _json(draw: random.Random, path: Path, part: Callable[[Any], Any]) -> Change:
    """Replaces, removes, adds, renames or nests something in the part of a JSON file."""
    tree = json.loads(path.read_text())
    inner, where = part(tree), []
    node: Any = {"": inner}
    key: Any = ""
    while isinstance(node[key], dict | list) and node[key] and (not where or draw.random() < 0.85):
        node = node[key]
        key = draw.choice(list(node) if isinstance(node, dict) else list(range(len(node))))
        where.append(str(key))
    kind = draw.choice(["value"] * 5 + ["removed", "added", "nested"] + ["type"])
    if kind == "removed":
        node.pop(key)
    elif kind == "added" and isinstance(node, dict):
        node[draw.choice(["extra", "__init__", "forward", ""])] = draw.choice(_HOSTILE)
    elif kind == "nested":
        text = json.dumps(tree)[:-1] + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}"
        path.write_text(text)
        return Change(f"{path.name} with 100,000 brackets")
    else:
        value = {str: 7, int: "7", float: [], bool: "yes", type(None): {}}.get(type(node[key])) if kind == "type" else None
        node[key] = draw.choice(_HOSTILE) if kind == "value" else value
    if inner is not tree and isinstance(inner, dict):
        tree = {k: v for k, v in tree.items() if k in ("param_groups", "sha256")} | inner
    path.write_text(json.dumps(tree))
    now = json.dumps(node.get(key)) if isinstance(node, dict) else ""
    return Change(f"{path.name} {'.'.join(where)[-60:]} {kind} {now[:40]}")


# --- tensors


def _weights(draw: random.Random, folder: Path) -> Change:
    """model.safetensors: a tensor, the header, or the bytes."""
    path = folder / "model.safetensors"
    if draw.random() < 0.4:
        return _header(draw, path) if draw.random() < 0.6 else _bytes(draw, path)
    tensors = load_file(path)
    change = _tensor(draw, tensors, sorted(tensors))
    save_file(tensors, path)
    return Change(f"{change.what} in model", change.refused)


def _tensors(draw: random.Random, folder: Path) -> Change:
    """state.safetensors of the newest checkpoint, with its checksum made right."""
    path = _newest(folder) / "state.safetensors"
    if draw.random() < 0.1:
        change = _header(draw, path)
    else:
        tensors = load_file(path)
        section = draw.choice(["optimizer.", "optimizer.", "health.", "weights.", "average."])
        change = _tensor(draw, tensors, sorted(name for name in tensors if name.startswith(section)))
        save_file(tensors, path)
    numbers = path.with_name("state.json")
    numbers.write_text(json.dumps(json.loads(numbers.read_text()) | {"sha256": _digest(path)}))
    return change


def _newest(folder: Path) -> Path:
    return max(path for path in (folder / "state").iterdir())


def _tensor(draw: random.Random, tensors: dict[str, torch.Tensor], names: list[str]) -> Change:
    """One tensor of these names: gone, renamed, one too many, of another shape or type, or with values that cannot be."""
    name = draw.choice(names)
    old = tensors[name]
    kind = draw.choice(["gone", "renamed", "more", "element", "longer", "flat", "int64", "float64", "bool", "NaN", "inf",
                        "huge", "negative"])  # fmt: skip
    others: dict[str, Callable[[], torch.Tensor]] = {
        "element": lambda: torch.zeros(() if old.dim() else (1,), dtype=old.dtype),
        "longer": lambda: torch.zeros((*old.shape, 3), dtype=old.dtype),
        "flat": lambda: torch.zeros(0, dtype=old.dtype),
        "int64": lambda: old.to(torch.int32 if old.dtype == torch.int64 else torch.int64),
        "float64": lambda: old.double(),
        "bool": lambda: old != 0 if old.dtype != torch.bool else old.byte(),
        "NaN": lambda: torch.full_like(old, float("nan")) if old.is_floating_point() else torch.full_like(old, 2 ** 6),
        "inf": lambda: torch.full_like(old, float("inf")) if old.is_floating_point() else torch.full_like(old, -1),
        "huge": lambda: torch.full_like(old, 3e38 if old.is_floating_point() else torch.iinfo(old.dtype).max)
        if old.dtype != torch.bool else ~old,
        "negative": lambda: torch.full_like(old, -1) if old.dtype not in (torch.bool, torch.uint8) else old,
    }  # fmt: skip
    if kind in ("gone", "renamed"):
        del tensors[name]
    if kind in ("renamed", "more"):
        tensors["optimizer.nobody.0.exp_avg" if kind == "renamed" else f"{name}.more"] = old.clone()
    if kind in others:
        tensors[name] = others[kind]().contiguous()
    return Change(f"{name}: {kind}", refused=kind not in ("NaN", "inf", "huge", "negative"))


def _header(draw: random.Random, path: Path) -> Change:
    """The JSON header of a safetensors file, with lengths, offsets or types that are not those of its data."""
    blob = path.read_bytes()
    size = int.from_bytes(blob[:8], "little")
    header, data = json.loads(blob[8 : 8 + size]), blob[8 + size :]
    name = draw.choice([name for name in header if name != "__metadata__"])
    kind = draw.choice(["length", "offsets", "overlap", "shape", "dtype", "nested", "metadata", "negative"])
    entry = header[name]
    if kind == "offsets":
        entry["data_offsets"] = [0, 2**62]
    elif kind == "overlap":
        entry["data_offsets"] = [0, entry["data_offsets"][1] - entry["data_offsets"][0] or 4]
    elif kind == "shape":
        entry["shape"] = [2**31, 2**31]
    elif kind == "negative":
        entry["shape"] = [-1, *entry["shape"]]
    elif kind == "dtype":
        entry["dtype"] = draw.choice(["F64", "U8", "BF16", "C64", "X"])
    elif kind == "metadata":
        header["__metadata__"] = {"weights": "x" * 10_000, "a": draw.choice(["", "1"])}
    text = json.dumps(header) if kind != "nested" else "[" * 100_000
    length = draw.choice([2**63, 2**32, 0, len(blob) * 2]) if kind == "length" else len(text)
    path.write_bytes(length.to_bytes(8, "little") + text.encode() + data)
    return Change(f"{path.name} header {kind} of {name}")


# --- bytes, kinds of files, records


def _bytes(draw: random.Random, path: Path) -> Change:
    """What lies under a file's name: cut, flipped bits, junk, nothing, too much, or another kind of thing."""
    blob, kind = path.read_bytes(), draw.choice(["cut", "flipped", "junk", "empty", "large", "fifo", "endless", "linked",
                                                 "dangling", "folder", "loop"])  # fmt: skip
    path.unlink()
    if kind == "cut":
        path.write_bytes(blob[: draw.randrange(len(blob))])
    elif kind == "flipped":
        changed = bytearray(blob)
        for _ in range(20):
            changed[draw.randrange(len(blob))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
    elif kind in ("junk", "empty"):
        path.write_bytes(draw.randbytes(5000) if kind == "junk" else b"")
    elif kind == "large":
        path.write_bytes(blob)
        os.truncate(path, 2**33)  # sparse
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        precious = path.parents[len(path.parts) - path.parts.index("place") - 1].parent / "precious" / "file"
        path.symlink_to({"endless": "/dev/zero", "linked": precious, "dangling": "nowhere", "loop": path.name}[kind])
    return Change(f"{path.name}: {kind}")


def _records(draw: random.Random, folder: Path) -> Change:
    """What else a run holds: records, card, pictures, directions, other checkpoints, files of one's own."""
    kind = draw.choice(["metrics", "metrics", "card", "samples", "directions", "vectors", "older", "names", "mine", "state"])
    if kind in ("metrics", "card"):
        path = folder / {"metrics": "metrics.jsonl", "card": "README.md"}[kind]
        if kind == "metrics" and draw.random() < 0.5:
            path.write_text(
                draw.choice(['{"step": 1}\n{"st', '{"step": "x"}\n', "[]\n7\nnull\n", '{"loss": 1}\n', "\0" * 5000])
            )
            return Change("metrics.jsonl with other lines")
        return _bytes(draw, path)
    if kind in ("directions", "vectors") and (folder / "directions.json").exists():
        if kind == "directions":
            return _json(draw, folder / "directions.json", lambda tree: tree)
        return _bytes(draw, next(folder.glob("directions*.safetensors")))
    if kind == "samples":
        shutil.rmtree(folder / "samples", ignore_errors=True)
        (folder / "samples").write_text("a file")
        return Change("samples is a file")
    if kind == "older":
        return _bytes(draw, min((folder / "state").iterdir()) / "state.json")
    if kind == "names":
        for name in ("9" * 30, "٣", "000000004 ", "-1"):
            (folder / "state" / name).mkdir()
        return Change("state with other names")
    if kind == "state":
        newest = _newest(folder)
        shutil.move(newest, folder.parent / "elsewhere")
        newest.symlink_to(folder.parent.parent / "precious")
        return Change("the newest checkpoint is a link")
    (folder / draw.choice([".mine.tmp", ".mine.tmpx", ".mine.tmp1.txt"])).write_text("mine")
    return Change("a run with a file of one's own")
