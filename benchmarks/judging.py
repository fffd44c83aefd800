"""An independent judge of edits for each data set, learned once and kept: how far a smile moves, and what it drags.

Of drawn faces the judge has seen 20,000 of its own, smiles from -2 to 2; of photographs, those of the training split. It
never sees a model. On 256 held-out examples the smile is set from the low to the high end of its range (a drawn face's: the
1st and 99th percentile of the training codes; a photograph's: the means of the two classes).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from triptych import edit
from triptych.core import GenerativeModel
from triptych.data import Split, Splits
from triptych.tour.judging import judge_of_faces

SMILE = {"faces": "smile", "celeba10k": "Smiling"}
_PERSON = "Male Young Eyeglasses Bald Bangs Black_Hair Blond_Hair Brown_Hair Gray_Hair Straight_Hair Wavy_Hair Wearing_Hat"
_FACE = "Pale_Skin Big_Nose Pointy_Nose Mustache No_Beard Sideburns Goatee Wearing_Earrings Wearing_Lipstick Blurry"
# what a smile of a photograph has nothing to do with; that a mouth opens and cheeks rise is the smile itself
OTHERS = frozenset(f"{_PERSON} {_FACE}".split())
# by what drift is measured: what makes a person, and neither expression, pose, light nor background
IDENTITY = {
    "faces": ["age", "hair_length", "hair_colour", "beard", "skin_tone", "glasses", "earrings"],
    "celeba10k": f"{_PERSON} Big_Nose Pointy_Nose Mustache No_Beard Sideburns Goatee Pale_Skin".split(),
}
READER_STEPS = 4000
_LEARNED_FROM = 9_000  # training examples, as many as the photographs


def reader_of(folder: Path, data: str, splits: Splits, steps: int = READER_STEPS) -> edit.Reader:
    """The judge, kept in a folder."""
    size = splits.train.event_shape[-1]

    def learn() -> edit.Reader:
        if data == "faces":
            return judge_of_faces(size, steps)
        train = splits.train
        known = {name: a for name, a in train.attributes.items() if train.kinds[name] != "class"}
        return edit.learn_reader(train[:], known, steps=steps, seed=7)

    return kept_reader(folder / f"judge_{data}_{size}_{steps}", learn)


def kept_reader(path: Path, learn: Callable[[], edit.Reader]) -> edit.Reader:
    """A reader that is learned once and kept under that name."""
    if path.with_suffix(".json").exists():
        return edit.Reader.load(path)
    reader = learn()
    reader.save(path)
    return reader


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
