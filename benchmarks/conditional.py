"""Conditional models: do samples show what was asked for, and does the condition help the likelihood?

    TRIPTYCH_DATA=… python benchmarks/conditional.py                     MNIST given the digit: vae, dcgan, nice
    python benchmarks/conditional.py --data faces                        the drawn faces given all eleven attributes
    … --models vae --steps 8000 --set objective.beta=1                   one of them, otherwise than by default

MNIST: a network that learned the digits reads 1,000 samples, 100 asked for of each class; log p(x|y) and log p(x) of 1,000
test digits; of a flow also p(y|x) by Bayes' rule, as a classifier. Faces: a regressor that learned the attributes from
faces of its own reads 1,000 samples asked for with the attributes of test faces, R² for each. Both judges never see a model.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from common import altered, arguments, begin, trained, write
from smile import NAMES, REGRESSOR_STEPS, read, regressor, standardised
from stacked import READER_STEPS, reader
from torch import Tensor, nn

from triptych import families, figures
from triptych.capabilities import HasDensity
from triptych.core import GenerativeModel
from triptych.data import Split, load
from triptych.data.faces import ATTRIBUTES
from triptych.evaluate import importance_nll

SETTINGS: dict[str, dict[str, list[str]]] = {  # what differs from the data's preset
    "mnist": {
        # a short z leaves the class to the condition: with z of 20 and one hidden layer 68 % of the samples are right
        "vae": ["steps=10000", "model.latent_dim=8", "model.hidden=[500,500]", "objective.beta=1.5", "model.prior=normal"],
        "dcgan": ["steps=1500"],
        "nice": ["steps=8000"],
    },
    "faces": {
        "vae": ["steps=1500", "model.latent_dim=8", "model.prior=normal"],
        "dcgan": ["steps=1500"],
        "glow": ["steps=1500"],
    },
}
GIVEN = {"mnist": "label", "faces": ",".join(ATTRIBUTES)}
SAMPLES = 1000


def drawn(model: GenerativeModel, context: Tensor, temperature: float, seed: int = 0) -> Tensor:
    """Stored values of one sample for each row of the context."""
    noise = torch.Generator().manual_seed(seed)
    parts = [model.sample(len(c), context=c, temperature=temperature, generator=noise) for c in context.split(250)]
    return model.codec.decode(torch.cat(parts))


@torch.no_grad()
def classified(net: nn.Module, stored: Tensor) -> Tensor:
    """The digit that the judge reads, (n,)."""
    return torch.cat([net(part.float() / 127.5 - 1).argmax(1) for part in stored.split(500)])


def digits(model: GenerativeModel, splits: dict[str, Split], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What the judge reads of samples, and likelihoods with and without the class."""
    net, test = reader(splits["train"], out / "judge.safetensors", options.reader_steps or READER_STEPS), splits["test"]
    asked = torch.arange(10).repeat_interleave(SAMPLES // 10)
    pictures = drawn(model, model.conditions.encode({"label": asked}), options.temperature)
    right = (classified(net, pictures) == asked).double()
    labels = torch.as_tensor(test.attributes["label"])
    judge = (classified(net, test[:]) == labels).double().mean().item()
    accuracy, stderr = right.mean().item(), (right.std() / SAMPLES**0.5).item()
    by_class = right.view(10, -1).mean(1).tolist()
    sheet = pictures.view(10, -1, *pictures.shape[1:])[:, :10].flatten(0, 1)
    figures.grid(sheet, columns=10).save(out / f"{type(model).__name__}.png")
    return {"accuracy": accuracy, "stderr": stderr, "by_class": by_class, "judge": judge, **likelihoods(model, test, labels)}


def likelihoods(model: GenerativeModel, test: Split, labels: Tensor, n: int = 1000, few: int = 300) -> dict[str, Any]:
    """−log p(x|y) and −log p(x) in nats of n test digits, and for an exact density the accuracy of argmax_y p(x|y)."""
    if not isinstance(model, HasDensity):
        return {}
    noise, k = torch.Generator().manual_seed(0), 1 if model.bound == "exact" else 50
    given = model.conditions.encode({"label": labels[:n]})
    found: dict[str, Any] = {
        "nll_given": importance_nll(model, test[:n], context=given, k=k, generator=noise)._asdict(),
        "nll_unknown": importance_nll(model, test[:n], k=k, generator=noise)._asdict(),
    }
    if model.bound == "exact":
        x = model.codec.encode(test[:few], noise)
        with torch.no_grad():
            log_p = torch.stack([model.log_prob(x, model.conditions.encode({"label": [y]})) for y in range(10)], 1)
        right = (log_p.argmax(1) == labels[:few]).double()
        found["bayes_accuracy"] = {"value": right.mean().item(), "stderr": (right.std() / few**0.5).item(), "n": few}
    return found


def faces(model: GenerativeModel, splits: dict[str, Split], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """R² of each attribute, between what was asked for and what the regressor reads of samples."""
    net, test = regressor(out, options.reader_steps or REGRESSOR_STEPS), splits["test"]
    asked = {name: values[:SAMPLES] for name, values in test.attributes.items()}
    pictures = drawn(model, model.conditions.encode(asked), options.temperature)
    truth = standardised(asked)
    residual = (read(net, pictures) - truth).square().sum(0)
    r2 = 1 - residual / (truth - truth.mean(0)).square().sum(0)
    figures.grid(pictures[:64], columns=8).save(out / f"faces_{type(model).__name__}.png")
    return {"r2": dict(zip(NAMES, r2.tolist(), strict=True)), "n": SAMPLES}


def main() -> None:
    parser = arguments(__doc__, "conditional")
    parser.add_argument("--data", choices=SETTINGS, default="mnist")
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--reader-steps", type=int, help="of the judge; for the record 3,000 of digits, 4,000 of faces")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--name", default="")
    options = parser.parse_args()
    out = begin(options)
    splits = load(options.data, size=32 if options.data == "faces" else None)
    measure = {"mnist": digits, "faces": faces}[options.data]
    for name in options.models or SETTINGS[options.data]:
        recipe = dataclasses.replace(families.preset(name, data=options.data), given=GIVEN[options.data])
        recipe = altered(recipe, [*SETTINGS[options.data].get(name, []), *options.set])
        recipe = dataclasses.replace(recipe, steps=options.steps or recipe.steps)
        called = f"{options.data}_{name}{options.name}"
        run, seconds = trained(out / called, recipe, splits["train"])
        measured = measure(run.averaged.eval(), dict(splits), out, options)
        write(out, called, {"steps": run.step, "seconds": seconds, "temperature": options.temperature, **measured})


if __name__ == "__main__":
    main()
