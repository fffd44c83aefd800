"""The smile on the embedded faces, read by an independent regressor: range, monotony, leakage, extrapolation.

The regressor (pixels -> all attributes) is trained on pictures of its own, smile in [-2, 2]; it never sees the model, and is
the judge of every family. Held-out faces are encoded, their smile set to values from -2 to 2, decoded, and read.

    python benchmarks/smile.py                      the independent faces, by a VAE
    python benchmarks/smile.py --family glow        by a Glow
    python benchmarks/smile.py --correlated         hair_length and beard at correlation -0.9, the lesson of i.i.d.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch
from common import altered, arguments, begin, changes, lengths, trained, write
from torch import Tensor, nn

from triptych import edit, families, figures, recipes, storage
from triptych.data import load
from triptych.data.faces import ATTRIBUTES, Faces, attributes, draw
from triptych.evaluate.latent import codes, reconstruction_error
from triptych.nets import ConvEncoder

NAMES = list(ATTRIBUTES)
VALUES = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
WIDE = {"smile": (-2.0, 2.0)}
REGRESSOR_STEPS = 4000
FIRST = 10_000_000  # index of the regressor's first face: none of the model's


def standardised(values: dict, names: list[str] = NAMES) -> Tensor:
    """Attributes in units of their range, (n, A)."""
    columns = [(torch.as_tensor(values[n]) - ATTRIBUTES[n].low) / (ATTRIBUTES[n].high - ATTRIBUTES[n].low) for n in names]
    return torch.stack(columns, dim=1)


def regressor(folder: Path, steps: int, batch: int = 64) -> nn.Module:
    """A small convolutional network from pixels to attributes in units of their range; trained once, then read."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = ConvEncoder((3, 32, 32), 16, len(NAMES))
    path = folder / f"regressor_{steps}.safetensors"
    if path.exists():
        storage.load_weights(net, storage.read_tensors(path), path)
        return net.eval()
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        values = attributes(FIRST + torch.arange(step * batch, (step + 1) * batch).numpy(), seed=1, ranges=WIDE)
        loss = (net(draw(values).float() / 255) - standardised(values)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"regressor {step}/{steps} rms {loss.item() ** 0.5:.4f}", flush=True)
    storage.write_tensors(path, net.state_dict())
    return net.eval()


@torch.no_grad()
def read(net: nn.Module, pictures: Tensor) -> Tensor:
    """Attributes of uint8 pictures in units of their range, (n, A)."""
    return torch.cat([net(p.float() / 255) for p in pictures.split(500)])


def reader_quality(net: nn.Module, n: int = 2000) -> dict[str, float]:
    """R² of each attribute on faces that the regressor has not seen."""
    faces = Faces(n, 32, seed=2, start=0, ranges=WIDE)
    truth = standardised(faces.attributes)
    residual = (read(net, torch.from_numpy(faces[:])) - truth).square().sum(0)
    return dict(zip(NAMES, (1 - residual / (truth - truth.mean(0)).square().sum(0)).tolist(), strict=True))


@torch.no_grad()
def moved(run, net: nn.Module, found: edit.Directions, name: str, values: list[float], stored: Tensor) -> Tensor:
    """Readings of held-out faces with `name` set to each value: (len(values), n, A), in units of the ranges."""
    model = run.averaged.eval()
    z = codes(model, stored)
    pictures = [model.codec.decode(model.decode(edit.move(z, {name: v}, found))) for v in values]
    return torch.stack([read(net, p) for p in pictures])


def judged(run, net: nn.Module, found: edit.Directions, stored: Tensor, spread: Tensor) -> dict:
    """What setting the smile does: read smile by set value, share of the range, monotony, leakage."""
    readings = moved(run, net, found, "smile", VALUES, stored)
    smile = readings[:, :, NAMES.index("smile")] * 2 - 1  # back to the attribute's own units
    low, high = VALUES.index(-1.0), VALUES.index(1.0)
    inside = smile[low : high + 1]
    change = (readings[high] - readings[low]) / spread
    others = [n for n in NAMES if n != "smile"]
    return {
        "n": len(stored),
        "read_smile": {str(v): round(s, 3) for v, s in zip(VALUES, smile.mean(1).tolist(), strict=True)},
        "read_smile_stderr": round(float(smile.std(1).max() / len(stored) ** 0.5), 4),
        "share_of_range": float((inside[-1] - inside[0]).mean() / 2),
        "share_stderr": float((inside[-1] - inside[0]).std() / 2 / len(stored) ** 0.5),
        "faces_monotone_share": float((inside.diff(dim=0) > 0).all(0).float().mean()),
        "leakage": {n: round(float(change[:, NAMES.index(n)].mean()), 4) for n in others},
        "leakage_each_face": {n: round(float(change[:, NAMES.index(n)].abs().mean()), 4) for n in others},
    }


def main() -> None:
    parser = arguments(__doc__, "smile")
    parser.add_argument("--family", choices=("vae", "glow"), default="vae")
    parser.add_argument("--correlated", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--regressor-steps", type=int, default=REGRESSOR_STEPS)
    changes(parser)
    lengths(parser, n=500)
    parser.add_argument("--name", default=None)
    options = parser.parse_args()
    out = begin(options)
    net = regressor(out, options.regressor_steps)
    recipe = families.preset(options.family, "faces")
    if options.correlated:
        recipe = dataclasses.replace(recipe, data="faces?hair_length:beard=-0.9")
    recipe = dataclasses.replace(recipe, steps=options.steps or recipe.steps)
    name = options.name or f"{options.family}_{'correlated' if options.correlated else 'independent'}"
    measure(out, name, altered(recipe, options.change), net, options.n)


def measure(out: Path, name: str, recipe: recipes.Recipe, net: nn.Module, n: int) -> None:
    """Trains (or resumes) a model, learns its directions by each method, and judges them."""
    splits = load(recipe.data, size=32)
    run, seconds = trained(out / name, recipe, splits.train)
    model = run.averaged.eval()
    held_out = load("faces", size=32, seed=3, n=5000).test[:n]  # independent faces, whatever the training set was
    spread = standardised(Faces(5000, 32, seed=4).attributes).std(0)
    start = time.perf_counter()
    results: dict = {"training_seconds": seconds, "steps": run.step, "reader_r2": reader_quality(net)}
    results["reconstruction_rmse"] = reconstruction_error(model, held_out)._asdict()
    for method in ("joint", "means", "regression"):
        found = edit.learn_directions(model, splits.train[:], splits.train.attributes, method=method)
        found = edit.judge(model, found, splits.test[:], splits.test.attributes)
        results[method] = judged(run, net, found, held_out, spread)
        results[method]["held_out"] = {n: round(d.judged.get("r2", d.judged.get("auc")), 4) for n, d in found.items()}
        results[method]["beard_moved"] = beard_leakage(run, net, found, held_out, spread)
        if method == "joint":
            found.save(run.folder)
            strip = edit.sweep(model, model.codec.centre(held_out[:6]), "smile", VALUES, found)
            figures.save(model.codec.decode(strip.flatten(0, 1)), out / f"{name}.png", columns=len(VALUES))
    results["judging_seconds"] = time.perf_counter() - start
    write(out, name, results)


def beard_leakage(run, net: nn.Module, found: edit.Directions, stored: Tensor, spread: Tensor) -> dict[str, float]:
    """Setting the beard from 0 to 1: how far hair length moves, in its spread, and the beard itself, in its range."""
    readings = moved(run, net, found, "beard", [0.0, 1.0], stored)
    change = (readings[1] - readings[0]).mean(0)
    return {
        "beard_share_of_range": float(change[NAMES.index("beard")]),
        "hair_length_in_its_spread": float(change[NAMES.index("hair_length")] / spread[NAMES.index("hair_length")]),
    }


if __name__ == "__main__":
    main()
