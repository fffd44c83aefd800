"""How a GAN's encoder is best learned, at equal CPU seconds of one core: after the game, beside it, or with a say in it.

    python benchmarks/encoders.py --data faces --seconds 300 --seeds 0 1 2

after     the game alone, then `edit.learn_encoder` for --share of the seconds, with a flow as prior of the codes in neither
joint     the encoder is a third player for all of them
tied      the same, and the generator is made to reproduce data from their codes
prior     joint, and a flow fitted to the codes of data in the last tenth of the steps

Each way: samples (Fréchet distance, precision, recall, accuracy of telling them from data), PSNR of held-out data by the
encoder alone, and the smile by the independent judge of benchmarks/hinge.py. A JSON for each run, and faces beside what
becomes of them; what is done is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from common import altered, arguments, begin, changes, lengths, trained, write
from hinge import Kind, affordable, lasting
from hinge_measures import FEATURE_STEPS, SAMPLES, learned_features
from judging import READER_STEPS, SMILE, reader_of, smile_of

from triptych import edit, families, figures
from triptych.capabilities import Encodes
from triptych.core import Estimate, GenerativeModel
from triptych.data import Splits, load
from triptych.evaluate import sample_quality

WAYS: dict[str, tuple[str, ...]] = {
    "after": (),
    "joint": ("model.encoder=true",),
    "tied": ("model.encoder=true", "objective.tie=0.1"),
    "prior": ("model.encoder=true", "model.code_prior=flow"),
}
_MEASURES = ("fid", "precision", "recall", "c2st_logistic", "c2st_1nn")


def learned_after(model: GenerativeModel, splits: Splits, seconds: float) -> GenerativeModel:
    """The model with an encoder that was learned for so long."""
    start = time.process_time()
    edit.learn_encoder(model, data=splits.train[:20_000], steps=20)
    each = (time.process_time() - start) / 20
    encoder = edit.learn_encoder(model, data=splits.train[:20_000], steps=round(seconds / each))
    return edit.Inverting(model, encoder, steps=0)


def measure(
    model: GenerativeModel, coder: GenerativeModel, splits: Splits, options: argparse.Namespace, sheet: Path
) -> dict[str, Any]:
    """Samples of the model; codes by its coder."""
    assert isinstance(coder, Encodes)
    out, data = options.out, options.data
    features = learned_features(out, data, splits.train, options.feature_steps)
    quality = sample_quality(model, splits.test, splits.train, features, n=options.n)
    results: dict[str, Any] = {name: quality.measures[name]._asdict() for name in _MEASURES}
    x = model.codec.centre(splits.test[:500])
    with torch.no_grad():
        again = model.decode(coder.encode(x))
    results["psnr"] = Estimate.of(edit.psnr(x, again))._asdict()
    reader = reader_of(out, data, splits, options.reader_steps)
    _, results["smile"] = smile_of(coder, data, splits.train, splits.test, reader)
    samples = model.sample(30, generator=torch.Generator().manual_seed(0))
    figures.save(model.codec.decode(torch.cat([x[:10], again[:10], samples])), sheet, columns=10)
    return results


def run_one(out: Path, way: str, seed: int, options: Any, splits: Splits) -> dict[str, Any]:
    """One way, trained for its seconds and measured."""
    name = f"{options.data}_{way}_{options.seconds}s_seed{seed}"
    recipe = families.preset("dcgan", data=options.data)
    recipe = dataclasses.replace(recipe, data=options.data, size=32, seed=seed)
    recipe, kind = altered(recipe, [*WAYS[way], *options.change]), Kind(way, "dcgan")
    later = options.share * options.seconds if way == "after" else 0.0
    steps, timed = affordable(out / f"{name}.probe", recipe, kind, splits.train, options.seconds - later)
    start = time.process_time()
    run, _ = trained(out / name, lasting(recipe, kind, steps), splits.train)
    model = run.averaged.eval()
    coder = learned_after(model, splits, later) if later else model
    spent = time.process_time() - start
    found = measure(model, coder, splits, options, out / f"{name}.png")
    return {"way": way, "seed": seed, "steps": steps, "cpu_seconds": spent, **timed, **found}


def main() -> None:
    parser = arguments(__doc__, "encoders")
    parser.add_argument("--data", choices=tuple(SMILE), default="faces")
    parser.add_argument("--seconds", type=int, default=300, help="of one core, for all of the training")
    parser.add_argument(
        "--share", type=float, default=0.25, help="of the seconds, for an encoder that is learned afterwards"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    changes(parser)
    lengths(parser, n=SAMPLES, feature_steps=FEATURE_STEPS, reader_steps=READER_STEPS)
    options = parser.parse_args()
    options.threads = 1
    out = begin(options)
    splits = load(options.data, size=32)
    rows = []
    for seed in options.seeds:
        for way in options.ways:
            kept = out / f"{options.data}_{way}_{options.seconds}s_seed{seed}.json"
            if not kept.exists():
                kept.write_text(json.dumps(run_one(out, way, seed, options, splits)))
            rows.append(json.loads(kept.read_text()))
    write(out, f"{options.data}_{options.seconds}s", {"rows": rows})


if __name__ == "__main__":
    main()
