"""Stacked MNIST, 1,000 modes: three digits in three colours. How many of the 1,000 numbers does a GAN draw, and how evenly?

    TRIPTYCH_DATA=… python benchmarks/stacked.py                the dcgan preset, some 30 minutes of one core (resumable)
    TRIPTYCH_DATA=… python benchmarks/stacked.py --set objective.gamma=1

A network that learned MNIST's digits reads each colour of 26,000 samples; a mode is found when one sample is read as it,
and the KL divergence is from the numbers' shares to uniform (Metz et al. 2017, arXiv 1611.02163; 26,000 as in Srivastava
et al. 2017 and Lin et al. 2018). Real triples, read the same way, are the floor.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import altered, arguments, begin, lengths, trained, write
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from triptych import families, figures, recipes
from triptych.core import GenerativeModel
from triptych.data import Split, load
from triptych.nets import ConvEncoder

SAMPLES = 26_000  # as the papers count
TRIPLES = 100_000
STEPS, READER_STEPS = 24_000, 3000


def stack(digits: Split, n: int, seed: int = 0) -> Split:
    """n triples of digits drawn at random, one in each colour: (n, 3, 28, 28), with the number that they show."""
    which = np.random.default_rng(seed).integers(len(digits), size=(3, n))
    pictures = np.concatenate([digits[rows].numpy() for rows in which], axis=1)
    numbers = digits.attributes["label"][which]
    return Split(pictures, {"number": 100 * numbers[0] + 10 * numbers[1] + numbers[2]}, {"number": "class"})


def reader(digits: Split, path: Path, steps: int = READER_STEPS) -> nn.Module:
    """A network that tells grey digits (B, 1, 28, 28) in [−1, 1] apart: logits (B, 10). Trained once, kept beside `path`."""
    path = path.with_stem(f"{path.stem}_{steps}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ConvEncoder((1, 28, 28), 16, 10)
        if path.exists():
            net.load_state_dict(load_file(path))
            return net.eval()
        labels = torch.as_tensor(digits.attributes["label"]).long()
        optimizer = torch.optim.Adam(net.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)
        for _ in range(steps):
            rows = torch.randint(len(digits), (128,))
            optimizer.zero_grad()
            F.cross_entropy(net(digits[rows].float() / 127.5 - 1), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
    return net.eval()


@torch.no_grad()
def read(net: nn.Module, stored: Tensor) -> Tensor:
    """The number in each of n stacked pictures, 0 … 999."""
    digits = torch.cat([net(part.flatten(0, 1)[:, None].float() / 127.5 - 1).argmax(1) for part in stored.split(500)])
    return digits.view(-1, 3) @ torch.tensor([100, 10, 1])


def counted(numbers: Tensor) -> dict[str, float]:
    """Modes that occur, and KL(shares ‖ uniform) in nats."""
    share = torch.bincount(numbers, minlength=1000).double() / len(numbers)
    found = share[share > 0]
    return {"modes": len(found), "kl": (found * (found * 1000).log()).sum().item()}


def modes(model: GenerativeModel, net: nn.Module, n: int = SAMPLES, seed: int = 0) -> dict[str, float]:
    """`counted` of n draws."""
    noise = torch.Generator().manual_seed(seed)
    parts = [model.codec.decode(model.sample(min(1000, n - i), generator=noise)) for i in range(0, n, 1000)]
    return counted(torch.cat([read(net, part) for part in parts]))


def main() -> None:
    parser = arguments(__doc__, "stacked")
    parser.add_argument("--set", nargs="*", default=[], metavar="PART.FIELD=VALUE", help="changes to the preset")
    parser.add_argument("--steps", type=int, default=STEPS)
    lengths(parser, n=SAMPLES, reader_steps=READER_STEPS)
    parser.add_argument("--run", default="run", help="the folder's name")
    options = parser.parse_args()
    out = begin(options)
    mnist = load("mnist")
    net = reader(mnist.train, out / "reader.safetensors", options.reader_steps)
    right = (read(net, mnist.test[:].repeat(1, 3, 1, 1)) // 111).numpy() == mnist.test.attributes["label"]
    recipe = altered(families.preset("dcgan", "mnist"), [f"steps={options.steps}", "size=28", *options.set])
    data = stack(mnist.train, TRIPLES)
    run, seconds = trained(out / options.run, recipe, data)
    model = run.averaged.eval()
    floor = counted(read(net, stack(mnist.test, options.n)[:]))
    found = modes(model, net, options.n)
    figures.save(
        model.codec.decode(model.sample(100, generator=torch.Generator().manual_seed(0))), out / f"{options.run}.png"
    )
    expected = 999 / (2 * options.n)  # of as many draws from the uniform itself, to first order
    write(out, options.run, {
        "recipe": recipes.to_json(recipe), "steps": run.step, "training_seconds": seconds, **found, "n": options.n,
        "real": floor, "kl_of_chance": expected, "reader_accuracy": float(right.mean()), "most": math.log(1000),
    })  # fmt: skip


if __name__ == "__main__":
    main()
