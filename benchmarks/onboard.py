"""The models that come with the package: trained, packed, given directions, measured, and put on board.

    python benchmarks/onboard.py                        all of it; what is done already is skipped, what was killed goes on
    python benchmarks/onboard.py --names faces-vae      one of them
    python benchmarks/onboard.py --train                the trainings alone
    python benchmarks/onboard.py --few 3500             in seconds: directions of so many faces at a given depth, no figures
    python benchmarks/onboard.py --table                the figures so far, as markdown

Each model is trained by a command of `triptych train`, on one thread. Packing keeps matrices in float16. The packed model is
measured as in hinge.py: samples and likelihood, which are measured before packing too, reconstruction, and the smile.
Everything lies in benchmarks/out/onboard, and the packed folder in triptych/onboard.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from common import arguments, begin
from hinge_measures import learned_features, of_codes, of_samples
from hinge_table import COLUMNS, cell
from judging import reader_of

import triptych
from triptych import edit, onboard, storage
from triptych.capabilities import Encodes
from triptych.compose import EncodedGAN
from triptych.core import GenerativeModel
from triptych.data import Splits, load
from triptych.edit.inversion import load_encoder, save_encoder
from triptych.gan import GAN
from triptych.pretrained import described, read_recipe
from triptych.training.checkpoint import progress_of

BOARD = Path(onboard.__file__).parent
ENCODER_WIDTH = 24
"""Of a GAN's encoder, which would else be the largest of its networks."""
MOST = 16 * 2**20
"""Bytes of all models together."""


@dataclass(frozen=True)
class Shipped:
    """A model on board.

    Attributes:
        said: one sentence of its card.
        size: side of its pictures.
        train: the words of `triptych train`.
        depth: where directions of few faces are learned; None: in z.
    """

    said: str
    size: int
    train: str
    depth: int | None = None


MODELS: dict[str, Shipped] = {
    "faces-vae": Shipped(
        "A VAE whose prior is a flow.", 32,
        "vae --data faces --steps 10000 --training.precision bf16",
    ),
    "faces-gan": Shipped(
        "A convolutional GAN, and an encoder that was learned after it.", 32,
        "dcgan --data faces --steps 16000 --training.precision bf16",
    ),
    "faces-glow": Shipped(
        "Glow after a whitening of the whole picture: exact.", 32,
        "glow --data faces --steps 4000 --model.rank 384 --training.batch 16 --training.precision bf16",
        depth=4,
    ),
    "faces64-vae": Shipped(
        "A VAE whose prior is a flow, at 64×64.", 64,
        "vae --data faces --size 64 --steps 8000 --model.width 16 --training.precision bf16",
    ),
    "faces-spectral": Shipped(
        "A flow over principal components, group after group: exact.", 32,
        "spectral --data faces --steps 2500 --model.rank 192 --model.groups 16 16 32 64 64 --model.width 128 "
        "--model.coupling-width 64 --training.precision bf16",
        depth=2,
    ),
}  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, "onboard")
    parser.add_argument("--names", default=",".join(MODELS), help="joined by commas")
    parser.add_argument("--train", action="store_true", help="train alone")
    parser.add_argument("--brief", action="store_true", help="measure no edits yet: they need a judge, which takes minutes")
    parser.add_argument("--few", type=int, help="learn directions of so many faces, and measure nothing")
    parser.add_argument("--steps", type=int, help="train so long, instead of as long as a model on board was")
    parser.add_argument("--board", type=Path, default=BOARD, help="where packed models are put, instead of the package")
    parser.add_argument("--table", action="store_true", help="print what was measured")
    options = parser.parse_args()
    options.threads = 1
    out, names = begin(options), options.names.split(",")
    if unknown := set(names) - set(MODELS):
        parser.error(f"unknown names {', '.join(sorted(unknown))}: there are {', '.join(MODELS)}")
    if options.steps is not None and options.board == BOARD:
        parser.error("--steps needs --board: the package's own models are trained by their commands alone")
    for name in () if options.table else names:
        trained(out / name, of_length(MODELS[name].train, options.steps))
        if not options.train:
            put_on_board(options, name)
    if options.table:
        print_table(out)


def of_length(train: str, steps: int | None) -> str:
    """The words of a training with other steps, where some are given."""
    return train if steps is None else train.replace(f"--steps {steps_of(train)}", f"--steps {steps}")


def trained(folder: Path, train: str) -> None:
    """Trains by the command, or goes on with what a kill left; the CPU seconds are kept beside the folder."""
    if noted(folder).get("train") != train:  # another recipe: what was measured is of no use
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".json").unlink(missing_ok=True)
        note(folder, "train", train)
    words, progress = train.split(), progress_of(folder)
    if progress is not None and progress.step >= steps_of(train):
        print(f"{folder.name}: trained before", flush=True)
        return
    how = ["--resume", str(folder)] if progress is not None else [*words, "--out", str(folder), "--overwrite"]
    run_triptych(folder, "train", *how)


def steps_of(train: str) -> int:
    words = train.split()
    return int(words[words.index("--steps") + 1])


def run_triptych(folder: Path, *words: str) -> None:
    """A command in a process of its own, of one thread, whose CPU seconds are added to FOLDER.json."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [sys.executable, "-m", "triptych", *words]
    print("triptych", *words, flush=True)
    try:
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    finally:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        note(folder, f"{words[0]}_cpu_seconds", spent + noted(folder).get(f"{words[0]}_cpu_seconds", 0.0))


def noted(folder: Path) -> dict[str, Any]:
    path = folder.with_suffix(".json")
    return json.loads(path.read_text()) if path.exists() else {}


def note(folder: Path, name: str, value: Any) -> None:
    folder.with_suffix(".json").write_text(json.dumps({**noted(folder), name: value}, indent=2) + "\n")


def put_on_board(options: argparse.Namespace, name: str) -> None:
    """Packs a trained model, learns its directions, measures it, writes its card, and copies it into the package."""
    out, few = options.out, options.few
    packed = out / "packed" / name
    pack(out / name, packed)
    if few:
        learn_few(packed, MODELS[name], few)
    else:
        if noted(out / name).get("few") or not (packed / "directions.json").exists():
            run_triptych(out / name, "directions", str(packed))
        measure(out, name, packed, options.brief)
    note(out / name, "few", few)
    storage.write_file(packed / "README.md", lambda path: path.write_text(card(name, noted(out / name)), encoding="utf-8"))
    target = options.board / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(packed, target, ignore=shutil.ignore_patterns(".*"))
    total = sum(path.stat().st_size for path in options.board.rglob("*") if path.is_file())
    print(f"{name}: on board, {total / 2**20:.2f} MiB of {MOST >> 20} in all", flush=True)


def pack(run: Path, packed: Path) -> None:
    """recipe.json, and the weights with matrices in float16; what was learned of other weights is removed."""
    model = encoding(run)
    small, new = smaller(model.state_dict()), packed / "model.safetensors"
    if new.exists() and new.read_bytes() == storage.as_bytes(small):
        return
    shutil.rmtree(packed, ignore_errors=True)
    packed.mkdir(parents=True)
    storage.write_json(packed / "recipe.json", described(model, read_recipe(run)))
    storage.write_tensors(new, small)


def encoding(run: Path) -> GenerativeModel:
    """The model of a run; a GAN as one that encodes, by an encoder that is learned now, or was before."""
    model = triptych.load(run)
    if isinstance(model, Encodes) or not isinstance(model, GAN):
        return model
    encoder = load_encoder(model, run, ENCODER_WIDTH)
    if encoder is None:
        start = time.process_time()
        encoder = edit.learn_encoder(model, data=load("faces", size=model.event_shape[-1]).train[:], width=ENCODER_WIDTH)
        save_encoder(encoder, run)
        note(run, "encoder_cpu_seconds", time.process_time() - start)
    parts = {"generator": model.generator, "discriminator": model.discriminator, "encoder": encoder}
    return EncodedGAN(model.event_shape, model.latent_dim, **parts, codec=model.codec, prior=model.prior)


def smaller(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices in float16; vectors, such as scales and biases, are small and stay as they are."""
    return {name: t.half() if t.ndim > 1 and t.is_floating_point() else t for name, t in weights.items()}


def learn_few(packed: Path, model: Shipped, few: int) -> None:
    """Directions of a few faces, judged by the model itself on a hundredth of as many."""
    data = load("faces", size=model.size, n=few)
    part = edit.at_depth(triptych.load(packed), model.depth)
    found = edit.learn_directions(part, data.train[:], data.train.attributes)
    test = data.test.take(few // 100)
    edit.judge(part, found, test[:], test.attributes).save(packed)


def measure(out: Path, name: str, packed: Path, brief: bool) -> None:
    """The figures of hinge.py: samples and likelihood of the model, packed and before; of the packed one its edits too."""
    known, splits = noted(out / name), load("faces", size=MODELS[name].size)
    if "packed" not in known:
        features = learned_features(out, "faces", splits.train)
        for called, folder in (("whole", out / name), ("packed", packed)):
            run = SimpleNamespace(averaged=triptych.load(folder), folder=folder)
            note(out / name, called, of_samples(out, f"{name}_{called}", run, splits, splits.train, features))
        note(out / name, "round_trip", round_trip(run.averaged, splits))
    if "edits" not in known and not brief:
        run, reader = SimpleNamespace(averaged=triptych.load(packed)), reader_of(out, "faces", splits)
        note(out / name, "edits", of_codes(out, name, run, splits, "faces", reader))


@torch.no_grad()
def round_trip(model: Any, splits: Splits) -> float:
    """The largest error of decode(encode(x)) over 256 held-out examples, in model coordinates."""
    x = model.codec.centre(splits.test[:256])
    return (model.decode(model.encode(x)) - x).abs().max().item()


def card(name: str, found: dict[str, Any]) -> str:
    """README.md of a model on board."""
    model, family = MODELS[name], found["train"].split()[0]
    lines = [
        "---", "library_name: triptych", "license: apache-2.0", f"tags: [generative-model, {family}]", "---",
        f"# {name}", "", f"{model.said} It comes with triptych: `triptych.load(\"{name}\")`, or `{name}` wherever a command "
        "takes a run.", "",
        "Trained on drawn faces alone, which the package draws itself (`--data faces`): nobody's photographs. Weights and "
        "drawings are under the package's licence, Apache-2.0.", "", *figures(found),
        f"Made by `make models`, that is by (in {found['train_cpu_seconds']:,.0f} seconds of one core)", "", "```",
        f"triptych train {found['train']} --out RUN", "```", "", *encoder_line(found),
        "Matrices were put in float16 before directions were learned from the attributes of drawn faces, jointly.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def encoder_line(found: dict[str, Any]) -> list[str]:
    """Of a model whose encoder was learned after it."""
    if "encoder_cpu_seconds" not in found:
        return []
    seconds = f"{found['encoder_cpu_seconds']:,.0f} seconds"
    return [f"Its encoder was learned after it by `triptych.edit.learn_encoder`, in {seconds}.", ""]


def figures(found: dict[str, Any]) -> list[str]:
    """The card's table, as far as was measured."""
    if "packed" not in found:
        return []
    packed, whole, edits = found["packed"], found["whole"], found.get("edits")
    quality = packed["quality"]
    rows = [
        ("Fréchet distance of 1,000 samples by learned features (of as many real faces)",
         f"{quality['fid']['value']:.2f} ({quality['fid']['floor']:.2f})"),
        ("the same before matrices were rounded", f"{whole['quality']['fid']['value']:.2f}"),
        ("told from real faces by the nearest neighbour, by logistic regression (½ is best)",
         f"{quality['c2st_1nn']['value']:.3f}, {quality['c2st_logistic']['value']:.3f}"),
        ("precision, recall", f"{quality['precision']['value']:.3f}, {quality['recall']['value']:.3f}"),
        *likelihood_rows(packed, whole),
        ("largest error of decode(encode(x))", f"{found['round_trip']:.1g}"),
        *([] if edits is None else edit_rows(edits)),
        ("seconds of one core for 64 samples", f"{packed['sample_64_cpu_seconds']:.2f}"),
    ]  # fmt: skip
    told = "By `benchmarks/onboard.py`, on held-out faces; docs/record/composed.md of the repository says on which machine."
    return ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows), "", told, ""]


def likelihood_rows(packed: dict[str, Any], whole: dict[str, Any]) -> list[tuple[str, str]]:
    """Bits/dim of models that have a density."""
    has = "bits_per_dim" in packed["likelihood"]
    return [("bits/dim of held-out faces (before packing)", f"{bits(packed)} ({bits(whole)})")] if has else []


def smile(row: dict[str, Any]) -> str:
    return f"{row['share']:.0%}, {row['leakage']:.0%} ({row['leaks_to'].replace('_', ' ')})"


def edit_rows(edits: dict[str, Any]) -> list[tuple[str, str]]:
    """Reconstruction and the smile; a flow's also at the depth that leaks least for what it moves."""
    rows = [
        ("reconstruction, RMSE of [0, 1]", f"{edits['reconstruction_rmse']['value']:.2g}"),
        ("the smile, set over its range: moves, drags at most", smile(edits["smile"])),
    ]
    if known := edits.get("smile_at_depth"):
        deep = known["depths"][str(known["best"])]
        rows.append((f"… at depth {known['best']} of {known['layers']}", smile(deep)))
    return rows


def print_table(out: Path) -> None:
    """A row for each model that was measured: the columns of hinge.py, and what packing changed."""
    known = {title: column for title, column in COLUMNS.items() if title != "peak MB"}
    print("| | " + " | ".join([*known, *_OTHERS]) + " |")
    print("|" + "---|" * (len(known) + len(_OTHERS) + 1))
    for name in MODELS:
        if "packed" in (found := noted(out / name)):
            result = found["packed"] | found.get("edits", {}) | {"steps": steps_of(found["train"])}
            cells = [cell([result], *column) for column in known.values()]
            print(f"| {name} | " + " | ".join([*cells, *(read(found) for read in _OTHERS.values())]) + " |")


def bits(found: dict[str, Any]) -> str:
    known = found["likelihood"].get("bits_per_dim")
    return "–" if known is None else f"{known['value']:.3f}"


_OTHERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "largest error of a round trip": lambda found: f"{found['round_trip']:.1g}",
    "Fréchet before packing": lambda found: f"{found['whole']['quality']['fid']['value']:.3g}",
    "bits/dim before packing": lambda found: bits(found["whole"]),
    "training, s": lambda found: f"{found['train_cpu_seconds']:,.0f}",
}


if __name__ == "__main__":
    main()
