"""A person's own 300 photos: a GAN from them alone, and fine-tuned from one of other faces, with and without augmentation.

    TRIPTYCH_DATA=… python benchmarks/photos_gan.py --threads 1 --base RUN      RUN: a dcgan on celeba10k at 32×32

270 photos are learned from. Fréchet distance is to 1,000 faces of celeba10k's training split, photos of the same kind, by
features learned from their attributes; how much is remembered is the distance of samples to the photos over that to as many
of those faces. The pictures are of real people: what this writes stays under benchmarks/out, which is never committed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from common import altered, arguments, begin, lengths, trained, write

import triptych
from triptych import doctor, evaluate, families, figures
from triptych.capabilities import Encodes
from triptych.core import GenerativeModel
from triptych.data import Split, Splits, load
from triptych.data.splits import fixed_subset
from triptych.pretrained import initial_model, local_folder, read_recipe
from triptych.recipes import DCGANModel
from triptych.training.run import Run

SIDES = {
    "init, ada": (True, "flip,ada"),
    "init": (True, "flip"),
    "scratch, ada": (False, "flip,ada"),
    "scratch": (False, "flip"),
}


class Judge:
    """What samples are to the photos, and to other faces."""

    def __init__(self, photos: Split, others: Split, seen: evaluate.Features, n: int):
        self.photos, self.seen, self.n = photos, seen, n
        self.own, self.other = seen(photos[:]), seen(others[fixed_subset(len(others), 1000)])

    def __call__(self, model: GenerativeModel, path: Path) -> dict[str, Any]:
        """Of n samples; 64 of them drawn, and 12 over the nearest photo of each."""
        samples = model.codec.decode(model.sample(self.n, generator=torch.Generator().manual_seed(0)))
        fake = self.seen(samples)
        figures.save(samples[:64], path)
        _, nearest = evaluate.nearest_training(fake[:12], self.own)
        beside = torch.cat([samples[:12], self.photos[nearest[:, 0]]])
        figures.save(beside, path.with_stem(f"{path.stem}_nearest"), columns=12)
        measures = {"fid": evaluate.frechet_distance(self.other, fake), "kid": evaluate.kernel_distance(self.other, fake)}
        measures |= evaluate.precision_recall(self.other, fake)
        noise = torch.Generator().manual_seed(0)
        measures["nearest_ratio"] = evaluate.nearest_ratio(fake, self.own, self.other, generator=noise)
        return {name: estimate._asdict() for name, estimate in measures.items()}


def begun_from(base: str) -> tuple[GenerativeModel, int]:
    """The model to start from, and its networks' width: of a dcgan alone, as the photos are learned by such a recipe."""
    model, recipe = triptych.load(base), read_recipe(local_folder(base))
    if recipe is None or not isinstance(recipe.model, DCGANModel) or isinstance(model, Encodes):
        raise SystemExit(f"{base} is not the run of a dcgan without an encoder: give one for --base")
    return model, recipe.model.width


def side(name: str, options: argparse.Namespace, width: int, photos: Splits, judge: Judge, folder: Path) -> dict[str, Any]:
    """One way to learn the photos, trained (resumable) and judged."""
    fine_tuned, augment = SIDES[name]
    changes = [f"steps={options.steps}", "training.log_every=20", f"training.save_every={options.steps}"]
    recipe = families.preset("dcgan", "celeba")
    recipe = altered(recipe, ["data=photos", f"augment={augment}", f"model.width={width}", *changes])
    if fine_tuned and not folder.exists():
        Run.create(folder, recipe, initial_model(options.base, photos.train.event_shape)).save()
    run, seconds = trained(folder, recipe, photos.train)
    looked = doctor.examine(run.averaged.eval(), photos)
    verdicts = [verdict.name for verdict in doctor.diagnose(doctor.History.of(folder), looked)]
    return judge(run.averaged, folder.with_suffix(".png")) | {"seconds": seconds, "verdicts": verdicts}


def main() -> None:
    parser = arguments(__doc__, "photos_gan")
    parser.add_argument("--base", required=True, help="a run")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    lengths(parser, n=1000, feature_steps=1500)
    options = parser.parse_args()
    out = begin(options)
    base, width = begun_from(options.base)
    photos, others = load("photos", size=32), load("celeba10k", size=32).train
    judge = Judge(photos.train, others, evaluate.features("learned", others, steps=options.feature_steps), options.n)
    results: dict[str, Any] = {"features": judge.seen.name, "photos": len(photos.train)}
    results["before"] = judge(base, out / "before.png")
    for name in options.sides:
        folder = out / name.replace(", ", "_")
        kept = folder.with_suffix(".json")
        if not kept.exists():
            kept.write_text(json.dumps(side(name, options, width, photos, judge, folder)))
        results[name] = json.loads(kept.read_text())
        print(name, results[name], flush=True)
    write(out, "photos_gan", results)


if __name__ == "__main__":
    main()
