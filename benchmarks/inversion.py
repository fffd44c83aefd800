"""z for held-out faces through a GAN: PSNR against steps and seconds, from draws alone and from a learned encoder, without
its pull and with it; and for several weights of that pull PSNR beside how clear attributes still are in z.

python benchmarks/inversion.py RUN              inversion.json, inversion.png (curves), faces.png (what comes back)
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, begin, write
from torch import Tensor, nn

import triptych
from triptych import edit, figures
from triptych.cli.sources import load_splits
from triptych.core import Estimate, GenerativeModel
from triptych.data import Splits

ATTRIBUTES = ("smile", "beard", "age")


class Watched:
    """PSNR of each datum's best, at some steps, with the seconds until then."""

    def __init__(self, at: set[int]):
        self.at, self.points, self.start = at, [], time.perf_counter()

    def __call__(self, step: int, error: Tensor) -> None:
        if step in self.at:
            now = Estimate.of(-10 * error.log10())
            self.points.append({"steps": step, "seconds": time.perf_counter() - self.start, "psnr": now._asdict()})


def weigh(model: GenerativeModel, encoder: nn.Module, splits: Splits, x: Tensor, pulls: list[float]) -> list[dict[str, Any]]:
    """PSNR and the correlation of coordinates with the truth: of the encoder, from draws, and by the weight of the pull."""
    train, true = splits.train, splits.test.attributes
    known = {name: a for name, a in train.attributes.items() if train.kinds[name] != "class"}
    names = [name for name in ATTRIBUTES if name in known]
    alone = edit.Inverting(model, encoder, steps=0)
    found = edit.learn_directions(alone, train[:20_000], {n: a[:20_000] for n, a in known.items()}, names=names)

    def row(label: str, z: Tensor) -> dict[str, Any]:
        c = found.coordinates(z)
        with torch.no_grad():
            psnr = Estimate.of(edit.psnr(x, model.decode(z)))._asdict()
        correlations = {n: float(np.corrcoef(c[n].numpy(), np.asarray(true[n][: len(x)]))[0, 1]) for n in names}
        return {"of": label, "psnr": psnr, "correlations": correlations}

    def search(**settings: Any) -> Tensor:
        return edit.invert(model, x, steps=200, generator=torch.Generator().manual_seed(0), **settings)

    rows = [row("encoder alone", alone.encode(x).detach()), row("draws", search())]
    return rows + [row(f"pull {p:g}", search(encoder=encoder, restarts=1, prior=p)) for p in pulls]


def main() -> None:
    parser = arguments(__doc__, "inversion")
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10, 30, 100, 300])
    parser.add_argument("--encoder-steps", type=int, default=2000)
    parser.add_argument("--pulls", type=float, nargs="+", default=[0.0, 1e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2])
    options = parser.parse_args()
    out = begin(options)
    model = triptych.load(options.run)
    splits = load_splits(str(options.run), model, None)
    x = model.codec.centre(splits.test[: options.n])
    start = time.perf_counter()
    encoder = edit.learn_encoder(model, data=splits.train[:20_000], steps=options.encoder_steps)
    results: dict[str, Any] = {"n": options.n, "encoder_seconds": time.perf_counter() - start, "of": str(options.run.name)}
    with torch.no_grad():
        results["encoder_alone"] = Estimate.of(edit.psnr(x, model.decode(encoder(x))))._asdict()
    sheet = [x[:10]]
    ways: dict[str, Any] = {"draws": {}, "encoder": {"encoder": encoder, "prior": 0.0}, "pull": {"encoder": encoder}}
    for name, settings in ways.items():
        watch = Watched(set(options.steps))
        z = edit.invert(
            model, x, steps=max(options.steps), generator=torch.Generator().manual_seed(0), watch=watch, **settings
        )
        results[name] = watch.points
        with torch.no_grad():
            sheet.append(model.decode(z[:10]))
    figures.save(model.codec.decode(torch.cat(sheet)), out / "faces.png", columns=10)
    lines = {
        f"from {name}": ([p["seconds"] for p in results[name]], [p["psnr"]["value"] for p in results[name]]) for name in ways
    }
    figures.curves(lines, out / "inversion.png", xlabel="seconds", ylabel="PSNR (dB)", xscale="log")
    results["weights"] = weigh(model, encoder, splits, x, options.pulls)
    write(out, "inversion", results)


if __name__ == "__main__":
    main()
