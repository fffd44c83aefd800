"""z for given data where a model has no encoder: by optimisation with restarts, from a learned encoder where there is one.

Shapes: B batch, R restarts, L latent_dim, K context_dim, E event_shape.
    x (B, *E) model coordinates · z (B, L) · context (B, K), or (1, K) for all, or None
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triptych import storage
from triptych.capabilities import Encodes
from triptych.core import GenerativeModel
from triptych.errors import TriptychError, check_range, check_size
from triptych.evaluate.features import descend
from triptych.modes import frozen, in_eval_mode
from triptych.nets import blank_encoder
from triptych.objectives.encoder import inversion_errors
from triptych.parts import call
from triptych.pretrained import save_model, stamp
from triptych.randomness import seeded

FILE = "encoder.safetensors"
PULL = 0.005  # of z towards the encoder's answer: most of the PSNR, and attributes nearly as clear (benchmarks/inversion.py)
_PRIOR = 1e-4
_AT_ONCE = 64  # examples that `Inverting` optimises together: memory stays bounded


@in_eval_mode
def invert(
    model: GenerativeModel,
    x: Tensor,
    *,
    context: Tensor | None = None,
    steps: int = 300,
    restarts: int = 4,
    encoder: nn.Module | None = None,
    rate: float = 0.1,
    prior: float | None = None,
    generator: torch.Generator | None = None,
    watch: Callable[[int, Tensor], object] | None = None,
) -> Tensor:
    """z (B, L) that gives x back: argmin |x − decode(z)|² / D + prior · |z − z₀|² / L, by Adam from several starts.

    Without an encoder z₀ = 0: z is the most probable one if x = decode(z) + N(0, prior · D / L). With an encoder z₀ is its
    answer, so that z stays where what was learned from such answers holds (in-domain inversion, Zhu et al. 2020, arXiv
    2004.00049, whose pull is towards encoder(decode(z)): this one needs no gradient through the encoder).

    Starts are draws from p(z), and where there is an encoder its answer. All are optimised together for a while, then
    the better half of each example's is kept, and so on until one is left (successive halving), which has half of the steps
    to itself. Of all z on the way the one with the lowest objective is returned.

    Args:
        model: in any mode; it is evaluated in eval mode, and keeps its own gradients.
        x: model coordinates, as `model.codec.centre(stored)` returns.
        context: of a conditional model; None: unknown.
        restarts: R, starts for each example; memory grows with B · R.
        encoder: x -> z, or x, context -> z of a conditional model, of `learn_encoder`.
        rate: of Adam, falling by a cosine.
        prior: 0 or more; by default 1e-4, and 0.005 with an encoder.
        watch: called after each step (from 1) with the mean square error of the best z so far of each example, (B,).

    Raises:
        TriptychError: for x of another shape or not finite, for numbers out of range, and where outputs of the model or the
            encoder are not finite.

    >>> z = invert(model, model.codec.centre(stored), encoder=encoder)  # doctest: +SKIP
    """
    prior = (_PRIOR if encoder is None else PULL) if prior is None else prior
    check_size("steps", steps, 2**31)
    check_size("restarts", restarts)
    check_range("rate", rate, 1e-9, 1e9)
    check_range("prior", prior, 0, 1e9)
    context = model.check_context(context, len(model.check_event(x)))
    if not x.isfinite().all():
        raise TriptychError("the examples to invert hold NaN or infinity: remove them first")
    starts = model.sample_prior(restarts * len(x), generator=generator).view(restarts, len(x), -1)
    centre = torch.zeros_like(starts[0])
    if encoder is not None:
        starts[0] = centre = _answer(encoder, x, context)
    with torch.enable_grad():
        return _search(_Best(model, x, context, centre, prior, starts), steps, rate, watch)


@in_eval_mode
def _answer(encoder: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
    with torch.no_grad():
        z = call(encoder, x, context)
    if not z.isfinite().all():
        raise TriptychError("the encoder's answer holds NaN or infinity: learn it again")
    return z


def _search(best: _Best, steps: int, rate: float, watch: Callable[[int, Tensor], object] | None) -> Tensor:
    step = 0
    for count, more in _rounds(len(best.z), steps):
        z = best.keep(count).requires_grad_()
        optimizer = torch.optim.Adam([z])
        objective = best.update(z)
        if lost := int((~best.objectives.amin(0).isfinite()).sum()):  # nothing leads on from there
            raise TriptychError(
                f"{lost} of {len(best.x)} examples have no z: what this {type(best.model).__name__} decodes is not finite: "
                "go back to an earlier checkpoint"
            )
        for _ in range(more):
            (z.grad,) = torch.autograd.grad(objective.sum(), z)
            optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.step()
            step += 1
            objective = best.update(z)
            if watch:
                watch(step, best.errors.gather(0, best.objectives.argmin(0, keepdim=True))[0])
    return best.keep(1)[0]


def _rounds(starts: int, steps: int) -> list[tuple[int, int]]:
    """(starts, steps) of each round: in the first half of all steps starts are halved, one has the rest to itself."""
    halvings = math.ceil(math.log2(starts))
    each = steps // 2 // max(1, halvings)
    if not each:
        return [(starts, 0), (1, steps)]  # none is dropped before it was tried
    counts = [math.ceil(starts / 2**i) for i in range(halvings)]
    return [*((count, each) for count in counts), (1, steps - each * halvings)]


@dataclass
class _Best:
    """The lowest objective of each start and example so far, the error there, and where it was.

    Attributes:
        z, objectives, errors: (R, B, L), (R, B) and (R, B), of the starts that are left.
    """

    model: GenerativeModel
    x: Tensor
    context: Tensor | None
    centre: Tensor
    prior: float
    z: Tensor

    def __post_init__(self) -> None:
        self.objectives = self.errors = torch.full(self.z.shape[:2], math.inf, device=self.x.device)

    def update(self, z: Tensor) -> Tensor:
        """The objective at z, (R, B), with its graph; every z that is better than before is kept."""
        context = None if self.context is None else self.context.repeat(len(z), 1)
        decoded = self.model.decode(z.flatten(0, 1), context).view(*z.shape[:2], *self.x.shape[1:])
        error = (decoded - self.x).square().flatten(2).mean(-1)
        objective = error + self.prior * (z - self.centre).square().mean(-1)
        with torch.no_grad():
            better = objective < self.objectives
            self.objectives = torch.where(better, objective, self.objectives)
            self.errors = torch.where(better, error, self.errors)
            self.z = torch.where(better[..., None], z, self.z)
        return objective

    def keep(self, count: int) -> Tensor:
        """Drops all but the best `count` starts of each example, and returns where those were: (count, B, L)."""
        self.objectives, rows = self.objectives.topk(count, dim=0, largest=False)
        self.errors = self.errors.gather(0, rows)
        self.z = self.z.gather(0, rows[..., None].expand(-1, -1, self.z.shape[-1]))
        return self.z.clone()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of pictures in [0, 1], −10 log₁₀ mean (x − y)², in dB: (B,)."""
    return -10 * (x - y).square().flatten(1).mean(1).log10()


@in_eval_mode
def learn_encoder(
    model: GenerativeModel,
    *,
    data: Tensor | None = None,
    context: Tensor | None = None,
    steps: int = 2000,
    batch: int = 64,
    width: int = 32,
    rate: float = 1e-3,
    seed: int = 0,
) -> nn.Module:
    """A network x[, context] -> z that inverts a generator roughly: a start for `invert`, or enough where speed matters.

    It minimises |E(G(z)) − z|² / L + |G(E(x)) − x|² / (D · Var x) over drawn z, where x are samples, and, where given,
    real data too: they are what will be inverted (Zhu et al. 2020, in-domain inversion, without its discriminator).

    Args:
        data: stored values (n, *E).
        context: of a conditional model, contexts (n, K) to draw from, those of the data where they are given; None: unknown.
    """
    check_size("steps", steps, 2**31)
    check_size("batch", batch)
    if context is not None:
        context = model.check_context(context, len(context) if data is None else len(data))
    with seeded(seed, model.device), frozen(model):
        encoder = blank_encoder(model.event_shape, model.latent_dim, width, model.context_dim).to(model.device)
        loss = partial(_encoder_loss, model, encoder, batch, data, context)
        for _ in descend(encoder.parameters(), loss, steps, rate, "learning an encoder"):
            pass
    return encoder.eval()


def _encoder_loss(
    model: GenerativeModel, encoder: nn.Module, batch: int, data: Tensor | None, context: Tensor | None
) -> Tensor:
    z = model.sample_prior(batch)
    given = model.check_context(None if context is None else context[torch.randint(len(context), (batch,))], batch)
    real, told = None, None
    if data is not None:
        rows = torch.randint(len(data), (batch,))
        real = model.codec.centre(data[rows].to(model.device))
        told = model.check_context(None if context is None else context[rows], batch)
    codes, pictures = inversion_errors(model, partial(call, encoder), z, given, real, told)
    return codes + pictures


def save_encoder(encoder: nn.Module, folder: Path, weights: str | None = None) -> None:
    """Writes encoder.safetensors into a run.

    Args:
        weights: `pretrained.stamp` of the weights that it inverts, taken before it was learned, as training may go on
            meanwhile; by default of those that the run holds now.
    """
    storage.write_tensors(folder / FILE, encoder.state_dict(), stamp(folder) if weights is None else weights)


def is_outdated(folder: Path) -> bool:
    """Whether the run's encoder inverts other weights than it holds now: it was trained further since."""
    return (folder / FILE).is_file() and storage.read_stamp(folder / FILE) != stamp(folder)


def load_encoder(model: GenerativeModel, folder: Path, width: int = 32) -> nn.Module | None:
    """The run's learned encoder, or None where it has none, or one that inverts other weights than it holds now."""
    if not (folder / FILE).is_file() or is_outdated(folder):
        return None
    encoder = blank_encoder(model.event_shape, model.latent_dim, width, model.context_dim)
    storage.read_weights(encoder, folder / FILE)
    return encoder.to(model.device).eval()


class Inverting(GenerativeModel, Encodes):
    """A model without encoder together with how it is inverted, so that every edit works: `encode` is `invert`.

    Coordinates are learned, judged and read by the encoder where there is one (`coordinate_model`); what moves is the z of
    `invert`, which reproduces x better. Saved (`save_pretrained`) are the model, as `triptych.load` reads it, and beside it
    the encoder, as `load_encoder` does.

    Args:
        model: what decodes.
        encoder: of `learn_encoder`; without one, inversion starts from draws.
        steps, restarts: of `invert`; 0 steps trust the encoder alone. By default one start with an encoder, 4 without.

    >>> edited = edit.apply(Inverting(model, encoder), x, {"smile": 1.5}, directions)  # doctest: +SKIP
    """

    def __init__(
        self, model: GenerativeModel, encoder: nn.Module | None = None, *, steps: int = 200, restarts: int | None = None
    ):
        super().__init__(model.event_shape, model.latent_dim, model.codec, context_dim=model.context_dim)
        if steps < 1 and encoder is None:
            raise TriptychError("inversion without steps needs an encoder: give one, or steps")
        self.model, self.encoder, self.steps = model, encoder, steps
        self.conditions = model.conditions
        self.restarts = (4 if encoder is None else 1) if restarts is None else restarts

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.model.decode(z, context)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """z by `invert`, always from the same draws."""
        context = self.check_context(context, len(self.check_event(x)))
        if self.steps < 1:
            assert self.encoder is not None
            return _answer(self.encoder, x, context)
        noise = torch.Generator().manual_seed(0)
        found = partial(invert, self.model, steps=self.steps, restarts=self.restarts, encoder=self.encoder, generator=noise)
        parts = x.split(_AT_ONCE)
        contexts = [None] * len(parts) if context is None else context.split(_AT_ONCE)
        return torch.cat([found(x, context=c) for x, c in zip(parts, contexts, strict=True)])

    def sample(self, n: int, **settings: Any) -> Tensor:
        """The model's own."""
        return self.model.sample(n, **settings)

    def sample_prior(self, n: int, **settings: Any) -> Tensor:
        """The model's own."""
        return self.model.sample_prior(n, **settings)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.model, Path(save_directory))
        if self.encoder is not None:
            save_encoder(self.encoder, Path(save_directory))


def coordinate_model(model: GenerativeModel) -> GenerativeModel:
    """The model by which coordinates are read: itself, or the encoder alone of an `Inverting` one that has it.

    The attributes of an example are clearer in the encoder's answer than in a z that was optimised to reproduce its values.
    """
    if isinstance(model, Inverting) and model.encoder is not None and model.steps > 0:
        return Inverting(model.model, model.encoder, steps=0)
    return model
