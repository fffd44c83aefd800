"""An independent judge of edits for each data set, learned once and kept: how far a smile moves, and what it drags.

Of drawn faces the judge has seen 20,000 of its own, smiles from -2 to 2; of photographs, those of the training split. It
never sees a model. On 256 held-out examples the smile is set from the low to the high end of its range (a drawn face's: the
1st and 99th percentile of the training codes; a photograph's: the means of the two classes).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from triptych import edit, storage
from triptych.core import GenerativeModel
from triptych.data import Split, Splits
from triptych.data.faces import Faces
from triptych.nets import encoder_network

SMILE = {"faces": "smile", "celeba10k": "Smiling"}
_FIRST = 10_000_000  # index of the judge's first face: none of a model's
_PERSON = "Male Young Eyeglasses Bald Bangs Black_Hair Blond_Hair Brown_Hair Gray_Hair Straight_Hair Wavy_Hair Wearing_Hat"
_FACE = "Pale_Skin Big_Nose Pointy_Nose Mustache No_Beard Sideburns Goatee Wearing_Earrings Wearing_Lipstick Blurry"
# what a smile of a photograph has nothing to do with; that a mouth opens and cheeks rise is the smile itself
OTHERS = frozenset(f"{_PERSON} {_FACE}".split())
# by what drift is measured: what makes a person, and neither expression, pose, light nor background
IDENTITY = {
    "faces": ["age", "hair_length", "hair_colour", "beard", "skin_tone", "glasses", "earrings"],
    "celeba10k": f"{_PERSON} Big_Nose Pointy_Nose Mustache No_Beard Sideburns Goatee Pale_Skin".split(),
}
_WIDTH = 16
_LEARNED_FROM = 9_000  # training examples, as many as the photographs


def reader_of(folder: Path, data: str, splits: Splits, steps: int = 4000) -> edit.Reader:
    """The judge, kept in a folder."""
    size = splits.train.event_shape[-1]

    def learn() -> edit.Reader:
        stored, attributes = _lessons(data, splits, size)
        return edit.learn_reader(stored, attributes, steps=steps, width=_WIDTH, seed=7)

    return kept_reader(folder / f"judge_{data}_{size}", splits.train.event_shape, learn)


def kept_reader(path: Path, event_shape: tuple[int, ...], learn: Callable[[], edit.Reader]) -> edit.Reader:
    """A reader of the usual width, learned once and kept: its weights and lines in two files of that name."""
    if path.with_suffix(".json").exists():
        said = storage.read_json(path.with_suffix(".json"))
        net = encoder_network(event_shape, _WIDTH, said["outputs"], (256, 256))
        storage.load_weights(net, storage.read_tensors(path.with_suffix(".safetensors")), path)
        return edit.Reader(net, {name: tuple(line) for name, line in said["lines"].items()})
    reader = learn()
    storage.write_tensors(path.with_suffix(".safetensors"), reader.net.state_dict())
    outputs = reader.net(torch.zeros(1, *event_shape)).shape[1]
    storage.write_json(path.with_suffix(".json"), {"outputs": outputs, "lines": reader.lines})
    return reader


def _lessons(data: str, splits: Splits, size: int) -> tuple[Tensor, dict]:
    if data != "faces":
        train = splits.train
        return train[:], {name: a for name, a in train.attributes.items() if train.kinds[name] != "class"}
    faces = Faces(20_000, size, seed=1, start=_FIRST, ranges={"smile": (-2.0, 2.0)})
    return torch.from_numpy(faces[:]), faces.attributes


def smile_of(
    model: GenerativeModel, data: str, train: Split, test: Split, reader: edit.Reader
) -> tuple[edit.Directions, dict]:
    """The smile's direction, learned with the other attributes held, and what the judge says of it."""
    name, train = SMILE[data], train.take(_LEARNED_FROM)
    known = {n: a for n, a in train.attributes.items() if train.kinds[n] != "class"}
    found = edit.learn_directions(model, train[:], known, names=[name])
    found = edit.judge(model, found, test[:], test.attributes, reader=reader)
    return found, effect(found[name])


def effect(direction: edit.Direction) -> dict:
    """The share of its range, the worst leakage to what it has nothing to do with, and how well it is read, held out."""
    judged = direction.judged
    leaks = {o: v for o, v in judged["leakage"].items() if direction.kind != "binary" or o in OTHERS}
    worst = max(leaks, key=lambda o: abs(leaks[o]))
    reading = {k: judged[k] for k in ("r2", "accuracy", "auc") if judged.get(k) is not None}
    return {"share": judged["share"], "leakage": abs(leaks[worst]), "leaks_to": worst, **reading}
