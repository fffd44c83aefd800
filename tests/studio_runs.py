"""Small untrained runs for tests of edits and of the studio: their pictures mean nothing, what is done to them is real."""

import io
import json

import numpy as np
import torch
from PIL import Image

import triptych
from triptych import edit
from triptych.codecs import Attribute, Conditions
from triptych.training import metrics

SIZE = (3, 16, 16)


def picture(seed=0, size=(40, 30), kind="PNG"):
    """A picture file's bytes."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(values).save(target, kind)
    return target.getvalue()


def vae():
    return triptych.VAE(SIZE, 4)


def conditional():
    model = triptych.VAE(SIZE, 4, context_dim=1)
    model.conditions = Conditions([Attribute("glasses", "binary")])
    return model


def flow():
    model = triptych.Glow(SIZE, levels=2, depth=1, width=8)
    model.initialize(torch.rand(32, *SIZE))
    return model


def save_run(make, out, count=3, editable=None):
    """A run with principal components as directions, of a flow after three layers.

    Args:
        editable: model, stored -> the model that encodes, where the saved one does not.
    """
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(out)
    stored = torch.randint(0, 256, (40, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    if editable:
        model = editable(model, stored)
    edit.unsupervised_directions(edit.AtDepth(model, 3) if make is flow else model, stored, count).save(out)
    return out


def save_records(out, steps=40):
    """What a training would have written beside a run's model."""
    for step in range(0, steps * 25, 25):
        metrics.append(out / "metrics.jsonl", metrics.line(step, {"loss": 100 / (step + 50), "kl": float("nan")}))
    (out / "samples").mkdir()
    for step in (100, 200):
        (out / "samples" / f"step-{step:09d}.png").write_bytes(picture(step))
    (out / "samples" / "secret.txt").write_text("not a sheet")


def save_all(root):
    """Three models, and a run that is damaged."""
    save_run(vae, root / "vae")
    save_records(root / "vae")
    save_run(flow, root / "glow")
    save_run(conditional, root / "given")
    (root / "broken").mkdir()
    (root / "broken" / "recipe.json").write_text(json.dumps({"format": 3}))
    (root / "broken" / "model.safetensors").write_bytes(b"not weights")
    return root
