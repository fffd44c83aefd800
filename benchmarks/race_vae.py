"""One epoch of the 784-500-20 Bernoulli VAE at batch 100 on MNIST: triptych against pythae 0.1.2, alternating rounds.

Each side runs in a process and a virtual environment of its own, on the same pictures; data handling is included. Ours
binarises afresh, averages weights and watches for bad steps; pythae trains on the grey values, as its examples do. A round
is one epoch after a warm-up epoch. Beside them the floor: the same networks and Adam on one batch held ready, nothing else.
The bfloat16 side runs the same networks with `precision=bf16`.

    python benchmarks/race_vae.py               five rounds, medians and their ratio
    python benchmarks/race_vae.py --side ours   one side alone (what the rounds call)
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent
PEER = ["pythae==0.1.2"]
PEER_NEEDS = [
    "torch==2.13.0",
    "numpy",
    "scipy",
    "scikit-learn",
    "tqdm",
    "pydantic",
    "imageio",
    "typing_extensions",
    "cloudpickle",
    "dataclasses-json",
]
BATCH, PICTURES = 100, 60_000


def mnist() -> tuple:
    """(pictures uint8 (60000, 28, 28), whether they are MNIST): without it, noise of the same shape, which times alike."""
    import gzip

    import numpy as np

    path = Path(os.environ.get("TRIPTYCH_DATA", ".")) / "mnist" / "train-images-idx3-ubyte.gz"
    if path.exists():
        return np.frombuffer(gzip.decompress(path.read_bytes())[16:], np.uint8).reshape(-1, 28, 28).copy(), True
    noise = np.random.default_rng(0).integers(0, 256, (PICTURES, 28, 28), dtype=np.uint8)
    return noise * (noise > 200), False


def ours(precision: str = "float32") -> float:
    """Seconds of one epoch through the library's own loop, set up as the command line does; tanh, as the peer's."""
    import dataclasses
    import tempfile

    import torch

    torch.set_flush_denormal(True)
    from triptych import families
    from triptych.data import Split
    from triptych.training.loop import train
    from triptych.training.run import Run

    data = Split(mnist()[0][:, None])
    epoch = len(data) // BATCH
    recipe = families.preset("vae", "mnist")
    model = dataclasses.replace(recipe.model, activation="tanh", prior="normal")
    training = dataclasses.replace(recipe.training, precision=precision)
    recipe = dataclasses.replace(recipe, steps=2 * epoch, model=model, training=training)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", recipe, families.build(recipe, data[:4]))
        for step in train(run, data):
            if step.step == epoch:
                start = time.perf_counter()
        return time.perf_counter() - start


def pythae() -> float:
    """Seconds of one epoch through pythae's own trainer."""
    import tempfile

    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback
    from torch import nn

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.mu, self.log_var = nn.Linear(784, 500), nn.Linear(500, 20), nn.Linear(500, 20)

        def forward(self, x):
            h = torch.tanh(self.hidden(x.flatten(1)))
            return ModelOutput(embedding=self.mu(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(20, 500), nn.Tanh(), nn.Linear(500, 784), nn.Sigmoid())

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z).view(-1, 1, 28, 28))

    class Clock(TrainingCallback):
        times: ClassVar[list[float]] = []

        def on_epoch_begin(self, *_: object, **__: object) -> None:
            self.times.append(time.perf_counter())

        def on_train_end(self, *_: object, **__: object) -> None:
            self.times.append(time.perf_counter())

    pictures = torch.from_numpy(mnist()[0][:, None]).float() / 255
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainerConfig(
            output_dir=folder, num_epochs=3, learning_rate=1e-3, per_device_train_batch_size=BATCH, no_cuda=True
        )
        pipeline = TrainingPipeline(model=VAE(config, Encoder(), Decoder()), training_config=trainer)
        pipeline(train_data=pictures, callbacks=[Clock()])
    return Clock.times[2] - Clock.times[1]


def floor() -> float:
    """Seconds of an epoch's steps of the bare networks: forward, backward, fused Adam, one batch held ready."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    encoder = nn.Sequential(nn.Linear(784, 500), nn.Tanh(), nn.Linear(500, 40))
    decoder = nn.Sequential(nn.Linear(20, 500), nn.Tanh(), nn.Linear(500, 784))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], fused=True)
    x = (torch.rand(BATCH, 784) < 0.13).float()

    def step() -> None:
        mu, log_sigma = encoder(x).chunk(2, 1)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        loss = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") / BATCH
        loss = loss + (0.5 * (mu.square() + (2 * log_sigma).exp() - 1) - log_sigma).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(100):
        step()
    start = time.perf_counter()
    for _ in range(PICTURES // BATCH):
        step()
    return time.perf_counter() - start


SIDES = {"ours": ours, "ours_bf16": lambda: ours("bf16"), "pythae": pythae, "floor": floor}


def peer_python(folder: Path) -> Path:
    """The interpreter of pythae's own environment, made once."""
    python = folder / "pythae" / "bin" / "python"
    if not (folder / "pythae" / ".installed").exists():
        venv.create(folder / "pythae", with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *PEER_NEEDS], check=True)
        subprocess.run([*pip, "--no-deps", *PEER], check=True)
        (folder / "pythae" / ".installed").touch()
    return python


def measure(python: Path | str, side: str) -> float:
    done = subprocess.run([str(python), __file__, "--side", side], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.strip().splitlines()[-1])


def race(rounds: int, out: Path) -> dict:
    interpreters = dict.fromkeys(SIDES, sys.executable) | {"pythae": peer_python(out / "peers")}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for i in range(rounds):
        for side in SIDES:
            times[side].append(measure(interpreters[side], side))
            print(f"round {i + 1} {side} {times[side][-1]:.2f} s", flush=True)
    medians = {side: statistics.median(t) for side, t in times.items()}
    return {
        "seconds_per_epoch": times,
        "median": medians,
        "pythae_over_ours": medians["pythae"] / medians["ours"],
        "pythae_over_ours_bf16": medians["pythae"] / medians["ours_bf16"],
        "ours_over_floor": medians["ours"] / medians["floor"],
        "real_mnist": mnist()[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "out" / "race_vae")
    options = parser.parse_args()
    if options.side:
        print(SIDES[options.side]())
        return
    options.out.mkdir(parents=True, exist_ok=True)
    from common import write

    write(options.out, "race_vae", race(options.rounds, options.out))


if __name__ == "__main__":
    main()
