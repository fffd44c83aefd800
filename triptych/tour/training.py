"""The trainings of a tour: each is a run, goes on where it was stopped, and is done when it has its steps."""

from __future__ import annotations

import time
from typing import Any

import torch

import triptych
from triptych import edit, storage
from triptych.data import Split, load
from triptych.edit.inversion import load_encoder, save_encoder
from triptych.families import build_for, continued
from triptych.pretrained import initial_model
from triptych.tour.judging import judge_of_faces
from triptych.tour.place import Place
from triptych.training.loop import fit
from triptych.training.run import Run


def train(place: Place, name: str) -> None:
    """The model of that name, to its last step; its seconds are counted over interruptions."""
    trained, folder = place.settings.trained[name], place.folder / name
    clock = folder.with_name(f".{name}.seconds")
    before, start = float(clock.read_text()) if clock.exists() else 0.0, time.process_time()
    run = _begun(place, name)
    try:
        fit(run, _data(place, name), notice=lambda line: None)
    finally:
        storage.write_bytes(clock, str(before + time.process_time() - start).encode())
    said = {"title": trained.title, "steps": run.recipe.steps, "cpu_seconds": float(clock.read_text())}
    place.keep(name, said | {"parameters": sum(p.numel() for p in run.averaged.parameters())})


def _begun(place: Place, name: str) -> Run:
    """The run where it had come to, or at its beginning."""
    folder, data = place.folder / name, _data(place, name)
    if (folder / "recipe.json").exists():
        return Run.resume(folder)
    trained = place.settings.trained[name]
    recipe = trained.recipe(place.settings.seed).decided(len(data), pictures=True)
    if trained.init:
        return Run.create(folder, recipe, continued(recipe, _initial(place, trained.init, data)))
    return Run.create(folder, recipe, build_for(recipe, data))


def _data(place: Place, name: str) -> Split:
    """The training faces, or those that the model sees."""
    trained, settings = place.settings.trained[name], place.settings
    seen = load(trained.data, size=settings.size, n=settings.examples).train if trained.data else place.data.train
    return seen.take(trained.examples) if trained.examples else seen


def _initial(place: Place, name: str, data: Split) -> Any:
    return initial_model(place.folder / name, data.event_shape)


def learn_judge(place: Place) -> None:
    """The network that reads attributes."""
    settings = place.settings
    reader = judge_of_faces(settings.size, settings.judge_steps, settings.examples)
    (place.folder / "parts").mkdir(exist_ok=True)
    reader.save(place.folder / "parts" / "judge-network")
    test = place.data.test
    read = reader(test[:])
    truth = {name: torch.as_tensor(a, dtype=torch.float32) for name, a in test.attributes.items()}
    r2 = {name: _r2(read[name], 2 * truth[name] - 1 if test.kinds[name] == "binary" else truth[name]) for name in read}
    place.keep("judge", {"r2": r2, "n": len(test), "steps": settings.judge_steps})


def _r2(read: torch.Tensor, true: torch.Tensor) -> float:
    return 1 - float((read - true).square().mean() / true.var(correction=0))


def learn_features(place: Place) -> None:
    """The features by which samples are compared."""
    place.keep("features", {"name": place.features.name})


def learn_encoder(place: Place) -> None:
    """An encoder for the GAN, which has none: learned from its samples and the training faces."""
    folder, start = place.folder / "gan", time.process_time()
    gan = triptych.load(folder)
    if load_encoder(gan, folder) is None:
        save_encoder(edit.learn_encoder(gan, data=place.data.train[:], steps=place.settings.encoder_steps), folder)
    place.keep("encoder", {"cpu_seconds": time.process_time() - start})
