"""What every model of the table is measured by: samples, likelihood, reconstruction, the smile, and what it all costs."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judging import SMILE, smile_of

from triptych import edit, figures, storage
from triptych.capabilities import Encodes, HasDensity, Layered
from triptych.core import GenerativeModel
from triptych.data import Split, Splits
from triptych.evaluate import evaluate, sample_quality
from triptych.evaluate.features import Features, Kept, Learned, learn_features
from triptych.evaluate.latent import reconstruction_error
from triptych.nets import encoder_network
from triptych.tour.place import cpu_seconds

VALUES = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
SAMPLES, FEATURE_STEPS = 1000, 600
_DRAWS, _SCORED = 50, 200  # importance-weighted draws, and the held-out examples that they are spent on


def learned_features(folder: Path, data: str, train: Split, steps: int = FEATURE_STEPS) -> Features:
    """The features of a data set, learned once and kept, as the command line's evaluate learns them."""
    path = folder / f"features_{data}_{train.event_shape[-1]}_{steps}"
    if path.with_suffix(".json").exists():
        said = storage.read_json(path.with_suffix(".json"))
        net = encoder_network(train.event_shape, 16, 128, (256, 256))
        storage.load_weights(net, storage.read_tensors(path.with_suffix(".safetensors")), path)
        return Learned(net, said["taught"], Kept(said["split"], np.array(said["rows"])))
    found = learn_features(train, steps=steps)
    assert found.kept is not None
    storage.write_tensors(path.with_suffix(".safetensors"), found.net.state_dict())
    kept = {"split": found.kept.split, "rows": found.kept.rows.tolist()}
    storage.write_json(path.with_suffix(".json"), {"taught": found.taught, **kept})
    return found


def of_samples(
    out: Path, name: str, run: Any, splits: Splits, whole: Split, features: Features, n: int = SAMPLES
) -> dict[str, Any]:
    """How good a trained run's samples are, how likely data are under it, what it costs; and a sheet of 64 samples.

    Args:
        splits: what it was trained on, and what was held out.
        whole: the whole training split, to which the features were fitted but for some.
    """
    model = run.averaged.eval()
    results: dict[str, Any] = {"quality": sample_quality(model, splits.test, whole, features, n=n).as_json()}
    drawn = model.sample(64, generator=torch.Generator().manual_seed(0))
    figures.save(model.codec.decode(drawn), out / f"{name}_samples.png", columns=8)
    results["likelihood"] = likelihoods(model, splits.test)
    results["sample_64_cpu_seconds"] = cpu_seconds(lambda: model.sample(64))
    results["megabytes"] = (run.folder / "model.safetensors").stat().st_size / 1e6
    results["parameters"] = sum(p.numel() for p in model.parameters())
    return results


def of_codes(out: Path, name: str, run: Any, splits: Splits, data: str, reader: edit.Reader) -> dict[str, Any]:
    """How a trained run encodes, reconstructs and edits; and strips of smiles."""
    model, results = run.averaged.eval(), {}
    coder, results["encoder"] = encoding(model, splits.train)
    few = splits.test[:64]
    results["encode_64_cpu_seconds"] = cpu_seconds(lambda: coder.encode(coder.codec.centre(few)))
    results["reconstruction_rmse"] = reconstruction_error(coder, few if coder is not model else splits.test[:500])._asdict()
    return results | smiles(out, name, coder, splits, data, reader)


def smiles(out: Path, name: str, model: GenerativeModel, splits: Splits, data: str, reader: edit.Reader) -> dict[str, Any]:
    """The smile in z, of a flow at other depths too, and strips of both."""
    if not isinstance(model, Layered):
        found, row = smile_of(model, data, splits.train, splits.test, reader)
        draw_strip(out / f"{name}_smile.png", model, data, splits.test, found)
        return {"smile": row}
    rows: dict[int, Any] = {}

    def learn(part: GenerativeModel) -> edit.Directions:
        found, row = smile_of(part, data, splits.train, splits.test, reader)
        assert found.depth is not None
        rows[found.depth] = row
        return found

    known = edit.learn_at_depths(model, learn)
    best, z = min(rows, key=lambda depth: rows[depth]["leakage"] / max(rows[depth]["share"], 1e-3)), max(known)
    for depth, called in ((z, "smile"), (best, f"smile_depth{best}")):
        draw_strip(out / f"{name}_{called}.png", model, data, splits.test, known[depth])
    return {"smile": rows[z], "smile_at_depth": {"best": best, "layers": z, "depths": rows}}


def likelihoods(model: GenerativeModel, test: Split) -> dict[str, Any]:
    """Bits per dimension, nats, and the bound's parts, by name; {} for a model without a density."""
    if not isinstance(model, HasDensity):
        return {}
    found = evaluate(model, test, k=_DRAWS, images=_SCORED, hmc=0)
    return {name: estimate._asdict() for name, estimate in found.items() if math.isfinite(estimate.value)}


def encoding(model: GenerativeModel, train: Split) -> tuple[GenerativeModel, dict[str, Any]]:
    """The model with its encoder, or with one that is learned now, whose seconds are said."""
    if isinstance(model, Encodes):
        return model, {"learned": "with the model"}
    start = time.process_time()
    encoder = edit.learn_encoder(model, data=train[:])
    return edit.Inverting(model, encoder), {"learned": "after it", "cpu_seconds": time.process_time() - start}


def draw_strip(path: Path, model: GenerativeModel, data: str, test: Split, found: edit.Directions) -> None:
    """Six held-out faces, the smile from −2 to 2."""
    strip = edit.sweep(model, model.codec.centre(test[:6]), SMILE[data], VALUES, found)
    figures.save(model.codec.decode(strip.flatten(0, 1)), path, columns=len(VALUES))
