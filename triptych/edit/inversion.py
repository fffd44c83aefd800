"""z for given data where a model has no encoder: by optimisation with restarts, from a learned encoder where there is one.

Shapes: B batch, R restarts, L latent_dim, E event_shape; x (B, *E) model coordinates, z (B, L).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych import storage
from triptych.checkpoint import stamp
from triptych.core import Encodes, GenerativeModel, evaluating, frozen, standard_normal
from triptych.errors import TriptychError
from triptych.nets import MLP, ConvEncoder

FILE = "encoder.safetensors"


def invert(
    model: GenerativeModel,
    x: Tensor,
    *,
    steps: int = 300,
    restarts: int = 4,
    encoder: nn.Module | None = None,
    rate: float = 0.1,
    prior: float = 1e-4,
    generator: torch.Generator | None = None,
    watch: Callable[[int, Tensor], object] | None = None,
) -> Tensor:
    """z (B, L) whose decode(z) is nearest to x: argmin |x − decode(z)|² / D + prior · |z|² / L, by Adam from several starts.

    Starts are draws from the prior, and where there is an encoder its answer. All are optimised together for a while, then
    the better half of each datum's is kept, and so on until one is left (successive halving), which has half of the steps
    to itself. The prior's term keeps z where the model was trained (|z|² ≈ L).

    Args:
        model: in any mode; it is evaluated in eval mode, and keeps its own gradients.
        x: model coordinates, as `model.codec.centre(stored)` gives.
        restarts: R, starts for each datum; memory grows with B · R.
        encoder: x -> z, of `learn_encoder`.
        rate: of Adam, falling by a cosine.
        watch: called with each step (from 1) and the best mean square error so far of each datum, (B,).

    Raises:
        TriptychError: for data of another shape or not finite, and for numbers below 1.

    >>> z = invert(model, model.codec.centre(stored), encoder=encoder)  # doctest: +SKIP
    """
    if min(steps, restarts) < 1:
        raise TriptychError(f"invert wants at least 1 step and 1 restart, got {steps} and {restarts}")
    model.check_event(x)
    if not x.isfinite().all():
        raise TriptychError("the data to invert hold NaN or infinity: remove such data first")
    with evaluating(model), torch.enable_grad():
        starts = _starts(model, x, restarts, encoder, generator)
        best = _Best(x, starts)
        for step, z, optimizer in _halving(starts, steps, rate, best):
            error = _errors(model, z, x)  # (R', B)
            loss = (error + prior * z.square().mean(-1)).sum()
            (z.grad,) = torch.autograd.grad(loss, z)
            best.heed(z, error)
            optimizer.step()
            if watch:
                watch(step, best.lowest)
    return best.z


def _starts(
    model: GenerativeModel, x: Tensor, restarts: int, encoder: nn.Module | None, generator: torch.Generator | None
) -> Tensor:
    """(R, B, L): the encoder's answer first, then draws from the prior."""
    z = standard_normal(restarts, len(x), model.latent_dim, generator=generator, device=x.device)
    if encoder is not None:
        with torch.no_grad(), evaluating(encoder):
            z[0] = encoder(x)
    return z


class _Best:
    """The lowest error of each start and datum up to now, and where it was."""

    def __init__(self, x: Tensor, z: Tensor):
        self.all_z = z.clone()  # (R, B, L)
        self.errors = torch.full(z.shape[:2], math.inf, device=x.device)

    @torch.no_grad()
    def heed(self, z: Tensor, error: Tensor) -> None:
        better = error < self.errors
        self.errors = torch.where(better, error.detach(), self.errors)
        self.all_z = torch.where(better[..., None], z.detach(), self.all_z)

    def keep(self, count: int) -> Tensor:
        """Forgets all but the best `count` starts of each datum, and returns where those were: (count, B, L)."""
        self.errors, rows = self.errors.topk(count, dim=0, largest=False)
        self.all_z = self.all_z.gather(0, rows[..., None].expand(-1, -1, self.all_z.shape[-1]))
        return self.all_z.clone()

    @property
    def lowest(self) -> Tensor:
        return self.errors.amin(0)

    @property
    def z(self) -> Tensor:
        return self.keep(1)[0]


def _halving(z: Tensor, steps: int, rate: float, best: _Best):
    """Yields (step, z, optimiser): R starts share the first half of the steps in rounds of halving, one has the rest."""
    rounds = math.ceil(math.log2(len(z)))
    each = steps // 2 // max(1, rounds)
    halve_at = {each * (i + 1) for i in range(rounds)} if each else {1}  # none is dropped before it was tried
    z, optimizer = _fresh(z, rate)
    for step in range(steps):
        if step in halve_at and len(z) > 1:
            last = step == max(halve_at)
            z, optimizer = _fresh(best.keep(1 if last else math.ceil(len(z) / 2)), rate)
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        yield step + 1, z, optimizer


def _fresh(z: Tensor, rate: float) -> tuple[Tensor, torch.optim.Optimizer]:
    z = z.detach().requires_grad_()
    return z, torch.optim.Adam([z], lr=rate)


def _errors(model: GenerativeModel, z: Tensor, x: Tensor) -> Tensor:
    """Mean square error over values, (R, B)."""
    decoded = model.decode(z.flatten(0, 1)).view(*z.shape[:2], *x.shape[1:])
    return (decoded - x).square().flatten(2).mean(-1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of pictures in [0, 1], −10 log₁₀ mean (x − y)², in dB: (B,)."""
    return -10 * (x - y).square().flatten(1).mean(1).log10()


def learn_encoder(
    model: GenerativeModel,
    *,
    data: Tensor | None = None,
    steps: int = 2000,
    batch: int = 64,
    width: int = 32,
    rate: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int, float], object] | None = None,
) -> nn.Module:
    """A network x -> z that inverts a generator roughly: a start for `invert`, or enough where speed matters.

    It minimises |E(G(z)) − z|² / L + |G(E(x)) − x|² / (D · Var x) over drawn z, where x are samples, and, where given,
    real data too: they are what will be inverted (Zhu et al. 2020, in-domain inversion, without its discriminator).

    Args:
        data: stored values (n, *E).
        progress: called with each step and the loss every 100.
    """
    if min(steps, batch) < 1:
        raise TriptychError(f"learn_encoder wants at least 1 step and data in a batch, got {steps} and {batch}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = blank_encoder(model.event_shape, model.latent_dim, width).to(model.device)
        optimizer = torch.optim.Adam(encoder.parameters(), fused=model.device.type in ("cpu", "cuda"))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
        with evaluating(model), frozen(model):
            for step in range(steps):
                loss = _encoder_loss(model, encoder, batch, data)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                if progress and (step % 100 == 99 or step + 1 == steps):
                    progress(step + 1, loss.item())
    return encoder.eval()


def _encoder_loss(model: GenerativeModel, encoder: nn.Module, batch: int, data: Tensor | None) -> Tensor:
    z = torch.randn(batch, model.latent_dim, device=model.device)
    with torch.no_grad():
        x = model.decode(z)
    found = encoder(x)
    loss = F.mse_loss(found, z) + _relative_error(model.decode(found), x)
    if data is not None:
        real = model.codec.centre(data[torch.randint(len(data), (batch,))].to(model.device))
        loss = loss + _relative_error(model.decode(encoder(real)), real)
    return loss


def _relative_error(found: Tensor, x: Tensor) -> Tensor:
    return F.mse_loss(found, x) / x.var().clamp(min=1e-4)


def blank_encoder(event_shape: tuple[int, ...], latent_dim: int, width: int) -> nn.Module:
    """The encoder's network before it has learned: convolutions for pictures, a perceptron for the rest."""
    if len(event_shape) == 3 and min(event_shape[1:]) >= 4:
        return ConvEncoder(event_shape, width, latent_dim)
    return MLP(event_shape, (32 * width, 16 * width), latent_dim, "silu")


def save_encoder(encoder: nn.Module, folder: Path, weights: str | None = None) -> None:
    """Writes encoder.safetensors into a run.

    Args:
        weights: `checkpoint.stamp` of the weights that it inverts, taken before it was learned, for a training may go on
            meanwhile; by default of those that the run holds now.
    """
    storage.write_tensors(folder / FILE, encoder.state_dict(), stamp(folder) if weights is None else weights)


def is_outdated(folder: Path) -> bool:
    """Whether the run has an encoder of other weights than it holds now: it was trained further since."""
    return (folder / FILE).is_file() and storage.read_stamp(folder / FILE) != stamp(folder)


def load_encoder(model: GenerativeModel, folder: Path, width: int = 32) -> nn.Module | None:
    """The run's learned encoder, or None where it has none of the weights that it holds now."""
    if not (folder / FILE).is_file() or is_outdated(folder):
        return None
    encoder = blank_encoder(model.event_shape, model.latent_dim, width)
    storage.load_weights(encoder, storage.read_tensors(folder / FILE), folder / FILE)
    return encoder.to(model.device).eval()


class Inverting(GenerativeModel, Encodes):
    """A model without encoder together with how it is inverted, so that every edit works: `encode` is `invert`.

    Args:
        model: what decodes.
        encoder: of `learn_encoder`; without one, inversion starts from draws.
        steps, restarts: of `invert`; 0 steps trust the encoder alone.

    >>> edited = edit.apply(Inverting(model, encoder), x, {"smile": 1.5}, directions)  # doctest: +SKIP
    """

    def __init__(self, model: GenerativeModel, encoder: nn.Module | None = None, *, steps: int = 200, restarts: int = 4):
        super().__init__(model.event_shape, model.latent_dim, model.codec, model.arguments)
        if steps < 1 and encoder is None:
            raise TriptychError("inversion without steps wants an encoder: give one, or steps")
        self.model, self.encoder = model, encoder
        self.steps, self.restarts = steps, restarts

    def decode(self, z: Tensor) -> Tensor:
        return self.model.decode(z)

    def encode(self, x: Tensor) -> Tensor:
        """z by `invert`, always from the same draws."""
        if self.steps < 1:
            assert self.encoder is not None
            return self.encoder(self.check_event(x))
        noise = torch.Generator().manual_seed(0)
        return invert(self.model, x, steps=self.steps, restarts=self.restarts, encoder=self.encoder, generator=noise)
