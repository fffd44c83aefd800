"""z for held-out faces through a GAN: PSNR against steps and seconds, from draws alone and from a learned encoder.

python benchmarks/inversion.py RUN              inversion.json, inversion.png (curves), faces.png (what comes back)
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from common import arguments, begin, write
from torch import Tensor

import triptych
from triptych import edit, report
from triptych.cli.sources import load_splits
from triptych.core import Estimate


class Watched:
    """PSNR of each datum's best, at some steps, with the seconds until then."""

    def __init__(self, at: set[int]):
        self.at, self.points, self.start = at, [], time.perf_counter()

    def __call__(self, step: int, error: Tensor) -> None:
        if step in self.at:
            now = Estimate.of(-10 * error.log10())
            self.points.append({"steps": step, "seconds": time.perf_counter() - self.start, "psnr": now._asdict()})


def main() -> None:
    parser = arguments(__doc__, "inversion")
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10, 30, 100, 300])
    parser.add_argument("--encoder-steps", type=int, default=2000)
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
    for name, settings in (("draws", {}), ("encoder", {"encoder": encoder})):
        watch = Watched(set(options.steps))
        z = edit.invert(
            model, x, steps=max(options.steps), generator=torch.Generator().manual_seed(0), watch=watch, **settings
        )
        results[name] = watch.points
        with torch.no_grad():
            sheet.append(model.decode(z[:10]))
    report.save(model.codec.decode(torch.cat(sheet)), out / "faces.png", columns=10)
    lines = {
        f"from {name}": ([p["seconds"] for p in results[name]], [p["psnr"]["value"] for p in results[name]])
        for name in ("draws", "encoder")
    }
    report.curves(lines, out / "inversion.png", xlabel="seconds", ylabel="PSNR (dB)", xscale="log")
    write(out, "inversion", results)


if __name__ == "__main__":
    main()
