"""Claims 8, 9, 12 and 13: codes of a GAN by search, exact log-determinants, temperatures, and codes for other tasks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych import edit, evaluate
from triptych.capabilities import Encodes
from triptych.core import Estimate, GenerativeModel
from triptych.edit.inversion import load_encoder
from triptych.flow import Flow
from triptych.tour.place import Place

TEMPERATURES = (0.25, 0.5, 0.7, 0.85, 1.0, 1.15)
LABELS = (10, 100, 1000)
TASKS = ("glasses", "earrings", "smile", "beard")
_REPEATED, _TESTED = 5, 500  # draws of the labelled faces, and faces that probes are judged on
_AT_ONCE = 128


def measure_inversion(place: Place) -> None:
    """z of held-out faces through the GAN: PSNR by steps and seconds, from draws; and of its learned encoder."""
    gan, settings = place.model("gan"), place.settings
    model = gan.model if isinstance(gan, edit.Inverting) else gan
    encoder = load_encoder(model, place.folder / "gan")
    assert encoder is not None
    x = model.codec.centre(place.data.test[: settings.searched])
    start, points = time.process_time(), []
    asked = {1, 3, 10, 30, 100, settings.search}

    def watch(step: int, error: Tensor) -> None:
        if step in asked:
            psnr = Estimate.of(-10 * error.log10())
            points.append({"steps": step, "cpu_seconds": time.process_time() - start, "psnr": psnr})

    z = edit.invert(model, x, steps=settings.search, generator=torch.Generator().manual_seed(0), watch=watch)
    with torch.no_grad():
        found, answered = model.decode(z), model.decode(encoder(x))
    numbers = {"n": len(x), "points": points, "encoder": Estimate.of(edit.psnr(x, answered))}
    decode = model.codec.decode
    place.keep("inversion", numbers, {"data": decode(x[:8]), "found": decode(found[:8]), "answered": decode(answered[:8])})


def measure_exactness(place: Place) -> None:
    """The flow's log-determinant against that of the whole Jacobian by automatic differentiation, in float64."""
    flow = place.model("spectral")
    assert isinstance(flow, Flow)
    x = flow.codec.encode(place.data.test[:1], torch.Generator().manual_seed(0)).double()
    flow.double()
    with torch.no_grad():
        _, ladj = flow.latent(x)
    jacobian = _jacobian(flow, x)
    exact = torch.linalg.slogdet(jacobian)[1].item()
    flow.float()
    place.keep("exactness", {"ladj": ladj.item(), "autograd": exact, "dimensions": jacobian.shape[0],
                             "error": abs(ladj.item() - exact)})  # fmt: skip


def _jacobian(flow: Flow, x: Tensor) -> Tensor:
    """∂z/∂x (D, D) at one example: a copy of it for each row, in parts."""
    rows = []
    for part in torch.arange(flow.latent_dim).split(_AT_ONCE):
        copies = x.expand(len(part), *x.shape[1:]).clone().requires_grad_()
        z, _ = flow.latent(copies)
        (gradient,) = torch.autograd.grad(z[torch.arange(len(part)), part].sum(), copies)
        rows.append(gradient.flatten(1))
    return torch.cat(rows)


def measure_temperatures(place: Place) -> None:
    """Fréchet distance, precision and recall by temperature, and samples from the same z."""
    n, numbers, pictures = place.settings.tempered, {"temperatures": TEMPERATURES, "n": place.settings.tempered}, {}
    real = place.features(place.data.test[:n])
    for name in ("vae", "gan", "spectral"):
        model, rows, shown = place.model(name), [], []
        for temperature in TEMPERATURES:
            drawn = model.sample(n, temperature=temperature, generator=torch.Generator().manual_seed(2))
            stored = model.codec.decode(drawn)
            fake = place.features(stored)
            shares = evaluate.precision_recall(real, fake)
            rows.append({"fid": evaluate.frechet_distance(real, fake)}
                        | {key: shares[key] for key in ("precision", "recall")})  # fmt: skip
            shown.append(stored[:6])
        numbers[name] = rows
        pictures[name] = torch.cat(shown)
    place.keep("temperatures", numbers, pictures)


def measure_probes(place: Place) -> None:
    """How well a linear probe tells attributes from codes, and from raw pixels, with few labels."""
    train, test = place.data.train, place.data.test
    counts = [labels for labels in LABELS if labels * _REPEATED <= len(train)]
    most = max(counts) * _REPEATED
    stored, held_out = train[:most], test[:_TESTED]
    codes = {"pixels": (stored.flatten(1).float() / 255, held_out.flatten(1).float() / 255)}
    for name in ("vae", "gan"):
        model = place.model(name)
        codes[name] = (_codes(model, stored), _codes(model, held_out))
    numbers: dict[str, Any] = {"labels": counts, "n": len(held_out), "tasks": TASKS, "repeated": _REPEATED}
    for name, (z, z_test) in codes.items():
        numbers[name] = [_probed(z, z_test, train, test, labels) for labels in counts]
    place.keep("probes", numbers)


@torch.no_grad()
def _codes(model: GenerativeModel, stored: Tensor) -> Tensor:
    assert isinstance(model, Encodes)
    return torch.cat([model.encode(model.codec.centre(part)) for part in stored.split(500)])


def _probed(z: Tensor, z_test: Tensor, train: Any, test: Any, labels: int) -> dict[str, float]:
    """The mean accuracy over tasks and draws of the labelled examples, and its standard error over draws."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for draw in range(_REPEATED):
        rows = slice(draw * labels, (draw + 1) * labels)
        scores = []
        for task in TASKS:
            middle = (float(np.min(train.attributes[task])) + float(np.max(train.attributes[task]))) / 2
            y, y_test = (
                np.asarray(a.attributes[task])[part] > middle for a, part in ((train, rows), (test, slice(len(z_test))))
            )
            if y.all() or not y.any():  # ten faces of one kind teach nothing
                continue
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=min(1.0, 3 / z.shape[1]), max_iter=300))
            scores.append(float(probe.fit(z[rows].numpy(), y).score(z_test.numpy(), y_test)))
        found.append(np.mean(scores))
    return {"accuracy": float(np.mean(found)), "stderr": float(np.std(found, ddof=1) / np.sqrt(len(found)))}
