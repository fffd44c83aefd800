"""Do samples of a Glow explode? Largest |x| of 32 samples at temperature 1 in training, by the two bounds that hold them.

    python benchmarks/stability.py                                celeba10k at 32×32, K=16, width 48, 200 steps a setting
    python benchmarks/stability.py --floors 0.05 --bounds inf     one setting: as published, but for the floor of the scale

A setting is (f, c): the smallest scale of every affine coupling, and the bound of what its network is given.
"""

from __future__ import annotations

import itertools
import math

import torch
from common import arguments, begin, write

import triptych
from triptych import families
from triptych.bijections import Affine, ConvNet
from triptych.data import Split


def made(data: Split, floor: float, bound: float, depth: int, width: int) -> triptych.Glow:
    torch.manual_seed(0)
    model = triptych.Glow(data.event_shape, depth=depth, width=width)
    for module in model.modules():
        if isinstance(module, Affine):
            module.floor = floor
        if isinstance(module, ConvNet):
            module.bound = bound
    model.initialize(model.codec.encode(families.first_batch(data)))
    return model


def trained(model: triptych.Glow, data: Split, steps: int, every: int, batch: int = 16) -> list[dict[str, float]]:
    """Adam at 1e-3 after 100 steps of warm-up, gradients clipped to 50; what samples do every so many steps."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    generator = torch.Generator().manual_seed(1)
    unit, losses, seen = math.prod(data.event_shape) * math.log(2), [], []
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, step / 100)
        stored = data[torch.randint(0, len(data), (batch,), generator=generator).numpy()]
        loss = model.codec.bits - model.log_prob(model.codec.encode(stored)).mean() / unit
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 50)
        optimizer.step()
        losses.append(loss.item())
        if step % every == 0:
            largest = model.eval().sample(32, generator=torch.Generator().manual_seed(0)).abs().max().item()
            model.train()
            seen.append({"step": step, "largest": largest, "bits_per_dim": sum(losses[-50:]) / len(losses[-50:])})
            print(seen[-1], flush=True)
    return seen


def main() -> None:
    parser = arguments(__doc__, "stability")
    parser.add_argument("--data", default="celeba10k")
    parser.add_argument("--floors", type=float, nargs="+", default=[0.05, 0.5, 0.7])
    parser.add_argument("--bounds", type=float, nargs="+", default=[math.inf, 5.0, 3.0])
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    out = begin(options)
    data = triptych.data.load(options.data, size=32).train
    results = {}
    for floor, bound in itertools.product(options.floors, options.bounds):
        model = made(data, floor, bound, options.depth, options.width)
        results[f"floor {floor} bound {bound}"] = trained(model, data, options.steps, every=100)
        write(out, "stability", results)


if __name__ == "__main__":
    main()
