"""What a few samples and data tell of a model, as numbers for the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triptych.errors import TriptychError

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.data import Splits

COMPARABLE = 30  # data of either kind below which their distances to samples say little
SPREAD = 10  # samples below which their standard deviation says little


def examine(model: GenerativeModel, splits: Splits, n: int = 200, seed: int = 0) -> dict[str, float]:
    """What a few samples and data tell, numbers by name, for `diagnose`.

        spread_ratio      mean standard deviation of samples over that of data, value by value; of 10 samples or more
        distinct_outputs  how many different ones would repeat as samples do (`evaluate.distinct_outputs`), of 30 or more
        copied            share of samples that copy a single training datum (`evaluate.copied`), by raw values
        nearest_ratio     distance of samples to training data over that to as many held-out data, by raw values; not finite
                          where every sample is itself a held-out datum
        active_units      latent dimensions that a VAE uses
        nll_gap           what held-out data cost above training data, in nats over the spread of the training data's
        side, full_side, alpha   how far a ProgressiveGAN has grown, and how much of the newest layer counts

    Args:
        n: samples, and data of either kind; fewer where there are fewer.

    Raises:
        TriptychError: for fewer than 2 samples.
    """
    import torch

    from triptych.core import HasDensity, evaluating
    from triptych.evaluate import active_units, importance_nll
    from triptych.evaluate.latent import codes
    from triptych.evaluate.measure import some
    from triptych.vae import VAE

    if n < 2:
        raise TriptychError(f"samples are compared with one another: give 2 or more, got {n}")
    train, test = (splits[name][some(len(splits[name]), n)] for name in ("train", "test"))
    noise = torch.Generator().manual_seed(seed)
    found = _growth(model)
    with evaluating(model):
        samples = model.codec.decode(model.sample(n, generator=noise)).cpu()
        found |= _distances(model, splits, (samples, train, test), noise)
        if isinstance(model, VAE):
            found["active_units"] = active_units(codes(model, train)).value
        if isinstance(model, HasDensity):
            known, new = (importance_nll(model, stored, k=1, generator=noise) for stored in (train, test))
            found["nll_gap"] = (new.value - known.value) / max(known.stderr * n**0.5, 1e-12)
    return found


def _growth(model: GenerativeModel) -> dict[str, float]:
    from triptych.gan.progressive import ProgressiveGAN

    if not isinstance(model, ProgressiveGAN):
        return {}
    level, alpha = model.stage_now
    return {"side": 2.0**level, "full_side": 2.0**model.last, "alpha": float(alpha)}


def _distances(
    model: GenerativeModel, splits: Splits, drawn: tuple[Tensor, Tensor, Tensor], noise: object
) -> dict[str, float]:
    """What raw values of samples, training data and held-out data tell."""
    from triptych.evaluate import Pixels, copied, distinct_outputs, nearest_ratio
    from triptych.evaluate.measure import some
    from triptych.evaluate.repeats import LOOKED_AMONG

    fake, real, held_out = (Pixels()(stored) for stored in drawn)
    found = {}
    if len(fake) >= SPREAD:
        spread, data_spread = (x.std(0, correction=0).mean() for x in (fake, real))
        found["spread_ratio"] = (spread / data_spread.clamp(min=1e-12)).item()
    if not fake.isfinite().all():
        return found
    repeated = len(real.unique(dim=0)) < len(real) / 2  # where data repeat, a sample that is one is no copy
    if min(len(real), len(held_out)) >= COMPARABLE and fake.shape[1] > 1 and not repeated:
        found["nearest_ratio"] = nearest_ratio(fake, real, held_out, generator=noise).value  # type: ignore[arg-type]
    # points of a curve are near to one another without being few
    if min(len(real), len(fake)) >= COMPARABLE and model.latent_dim > 1 and not repeated:
        found["distinct_outputs"] = distinct_outputs(fake, real).value
    if len(splits["train"]) > 2:
        among = Pixels()(splits["train"][some(len(splits["train"]), LOOKED_AMONG)])
        found["copied"] = copied(fake, held_out, among).value
    return found
