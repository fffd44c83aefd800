"""The picture of the README: samples of three models on board, and a smile through each.

python benchmarks/cover.py                                   writes docs/figures/triptych.png
python benchmarks/cover.py --path cover.png --seed 3         other samples
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import Tensor

import triptych
from triptych import edit, figures, storage
from triptych.core import GenerativeModel
from triptych.data import load

PANELS = {
    "faces-vae": "VAE, a flow as its prior",
    "faces-gan": "GAN, an encoder learned after it",
    "faces-spectral": "Flow over principal components",
}
COLUMNS, ROWS = 8, 4
SMILES = torch.linspace(-2, 2, COLUMNS).tolist()
_INK, _QUIET = "#1d2430", "#667085"
_TEMPERATURE = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--path", type=Path, default=Path("docs/figures/triptych.png"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    faces = plain_faces(2 * len(PANELS))
    matplotlib.use("Agg")
    plt.rcParams["font.family"] = "DejaVu Sans"
    figure, axes = plt.subplots(2, len(PANELS), figsize=(11.4, 3.75), height_ratios=(ROWS, 2), layout="tight")
    for column, (name, title) in enumerate(PANELS.items()):
        model = triptych.load(name)
        show(axes[0, column], samples(model, options.seed), title, f"samples at a temperature of {_TEMPERATURE:g}")
        strip = smiles(name, model, faces[2 * column : 2 * column + 2])
        show(axes[1, column], strip, "", "two held-out faces: the smile from −2 to 2")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150, facecolor="white")
    picture = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    storage.write_file(options.path, lambda path: picture.save(path, format="PNG", optimize=True))


def plain_faces(count: int) -> Tensor:
    """Held-out faces whose mouth one sees: without beard and glasses."""
    test = load("faces", size=32, n=2000).test
    plain = (test.attributes["beard"] < 0.1) & (test.attributes["glasses"] == 0)
    return test[np.flatnonzero(plain)[:count]]


def samples(model: GenerativeModel, seed: int) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return model.codec.decode(model.sample(COLUMNS * ROWS, temperature=_TEMPERATURE, generator=noise))


def smiles(name: str, model: GenerativeModel, stored: Tensor) -> Tensor:
    """A row for each face (faces · values, C, H, W)."""
    found = edit.Directions.load(name)
    part = edit.at_depth(model, found.depth)
    moved = edit.sweep(part, part.codec.centre(stored), "smile", SMILES, found)
    return part.codec.decode(moved.flatten(0, 1))


def show(axis: plt.Axes, pictures: Tensor, title: str, below: str) -> None:
    axis.imshow(np.asarray(figures.grid(pictures, COLUMNS)), interpolation="lanczos")
    axis.set_title(title, fontsize=12, color=_INK, loc="left", fontweight="bold")
    axis.set_xlabel(below, fontsize=9, color=_QUIET, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
