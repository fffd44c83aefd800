"""A picture for each person: the perturbation of a seed picture as a linear function of that person's profile.

    Δz(p) = r · b(W p̃ + c),    b(u) = u min(1, 1 / |u|),    p̃ = (p − mean) / std
    W, c = argmax  E_p [ s(decode(z₀ + Δz(p)), p) ] − λ |W|²

Shapes: V people, P numbers in a profile, L latent_dim, k columns of the basis, E event_shape.
    profiles (V, P) · pictures (V, *E) model coordinates · scores (V,) · W (P, k) · c (k,)

Where scores can be differentiated, by Adam through the decoder. Where they cannot, since people give them or a tree does,
the gradient of the score smoothed by N(0, σ²I) takes its place, estimated by antithetic pairs (Nesterov & Spokoiny 2017;
Salimans et al. 2017, arXiv 1703.03864): (s(Δ + σε) − s(Δ − σε)) ε / 2σ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from triptych import storage
from triptych.capabilities import Encodes, require
from triptych.core import GenerativeModel, in_parts
from triptych.edit.optimising import basis_of, into_ball, reach
from triptych.errors import TriptychError, check_range, check_size
from triptych.evaluate.features import descend
from triptych.modes import evaluating, frozen

Scores: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # pictures (V, *E), profiles (V, P) -> (V,), higher is better
_SMOOTHING = 0.1  # σ, a share of the radius
_RATE = 0.02  # of Adam, for W and c in units of the radius
_FIELDS = ("weight", "bias", "mean", "std", "z", "within")


@dataclass(frozen=True)
class Perturbation:
    """Δz for a profile, and the code of the seed picture that it is added to.

    Attributes:
        weight, bias: of standardised profiles to Δz / r before it is drawn into the unit ball: (P, L) and (L,).
        mean, std: of the profiles that it was fitted to, (P,).
        z: z₀, (1, L).
        within: r.

    >>> two = Perturbation(torch.eye(2), torch.zeros(2), torch.zeros(2), torch.ones(2), torch.zeros(1, 2), within=0.5)
    >>> two(torch.tensor([[0.6, 0.0], [3.0, 4.0]]))
    tensor([[0.3000, 0.0000],
            [0.3000, 0.4000]])
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor
    z: Tensor
    within: float

    def __call__(self, profiles: Tensor) -> Tensor:
        """Δz of each profile, |Δz| ≤ r: (V, P) -> (V, L)."""
        if profiles.ndim != 2 or profiles.shape[1] != len(self.mean) or not profiles.isfinite().all():
            raise TriptychError(f"profiles should be (V, {len(self.mean)}) of finite numbers, got {tuple(profiles.shape)}")
        standardised = (profiles.to(self.mean) - self.mean) / self.std
        return self.within * into_ball(standardised @ self.weight + self.bias, 1.0)

    @torch.no_grad()
    def pictures(self, model: GenerativeModel, profiles: Tensor, *, context: Tensor | None = None) -> Tensor:
        """decode(z₀ + Δz(p)) for each profile: (V, P) -> (V, *E), model coordinates."""
        z = self.z + self(profiles)
        parts = in_parts(z, model.check_context(context, len(z)))
        with evaluating(model):
            return torch.cat([model.decode(*part) for part in parts])

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file."""
        tensors = {name: torch.as_tensor(getattr(self, name)) for name in _FIELDS}
        storage.write_tensors(Path(path), tensors)

    @classmethod
    def load(cls, path: str | Path) -> Perturbation:
        """What `save` wrote.

        Raises:
            TriptychError: for a file that holds something else.
        """
        tensors = storage.read_tensors(Path(path))
        if set(tensors) != set(_FIELDS) or not all(t.is_floating_point() and t.isfinite().all() for t in tensors.values()):
            raise TriptychError(f"{path} does not hold a perturbation of fit_perturbation: fit it again")
        sizes = (*tensors["weight"].shape, len(tensors["mean"]))
        shapes = {
            "weight": sizes[:2],
            "bias": sizes[1:2],
            "mean": sizes[:1],
            "std": sizes[:1],
            "z": (1, *sizes[1:2]),
            "within": (),
        }
        if any(tuple(tensors[name].shape) != shape for name, shape in shapes.items()):
            raise TriptychError(f"{path} holds a perturbation whose parts do not fit together: fit it again")
        return cls(**{name: tensors[name] for name in _FIELDS[:-1]}, within=float(tensors["within"]))


def fit_perturbation(
    model: GenerativeModel,
    x: Tensor,
    profiles: Tensor,
    scores: Scores,
    *,
    within: float | None = None,
    decay: float = 1e-3,
    steps: int = 400,
    batch: int = 64,
    along: Tensor | None = None,
    context: Tensor | None = None,
    seed: int = 0,
) -> Perturbation:
    """The linear map from a profile to the Δz that this person scores highest, so that new people need no search.

    Args:
        x: the seed picture, (1, *E), model coordinates.
        profiles: what is known of each person, (V, P).
        scores: s(pictures (V, *E), profiles (V, P)) -> (V,), higher is better, of people in any number and order.
        within: r of |Δz|; by default √L / 4.
        decay: λ, of W: what keeps few people with long profiles from being learned by heart.
        steps, batch: of Adam, and people in each.
        along: (k, L), directions that Δz may have; by default all. Scores without a gradient need few.
        context: of a conditional model, what the seed picture shows, (1, K).

    Raises:
        TriptychError: for shapes that do not fit, and scores that are not V finite numbers.

    >>> perturb = fit_perturbation(model, x, profiles, lambda x, p: -(smile(x) - p[:, 0]).square())  # doctest: +SKIP
    >>> theirs = perturb.pictures(model, new_profiles)  # doctest: +SKIP
    """
    check_size("steps", steps, 1_000_000)
    check_size("batch", batch)
    check_range("decay", decay, 0, 1e6)
    radius, profiles = reach(model, within), _checked(profiles).to(model.device)
    if len(model.check_event(x)) != 1:
        raise TriptychError(f"a perturbation starts from one seed picture (1, *E), got {len(x)}")
    context = model.check_context(context, 1)
    with evaluating(model), frozen(model):
        with torch.no_grad():
            z = require(model, Encodes).encode(x, context)
        merit = _Merit(model, scores, z, context, basis_of(along, z), radius, torch.Generator().manual_seed(seed))
        return _fitted(merit, profiles, decay, steps, batch)


def _fitted(merit: _Merit, profiles: Tensor, decay: float, steps: int, batch: int) -> Perturbation:
    """W and c by Adam, on people drawn at random."""
    mean, std = profiles.mean(0), profiles.std(0, correction=0).clamp(min=1e-6)
    weight = nn.Parameter(torch.zeros(profiles.shape[1], merit.dimensions, device=merit.z.device))
    bias = nn.Parameter(torch.zeros(merit.dimensions, device=merit.z.device))

    def loss() -> Tensor:
        people = profiles[torch.randint(len(profiles), (batch,), generator=merit.random)]
        u = merit.radius * into_ball(((people - mean) / std) @ weight + bias, 1.0)
        return decay * weight.square().sum() - merit(u, people)

    with torch.enable_grad():
        for _ in descend([weight, bias], loss, steps, _RATE, "fitting a perturbation"):
            pass
    return Perturbation(merit.spread(weight.detach()), merit.spread(bias.detach()), mean, std, merit.z, merit.radius)


@dataclass
class _Merit:
    """The mean score of people's pictures, with a gradient with respect to what moves them."""

    model: GenerativeModel
    scores: Scores
    z: Tensor
    context: Tensor | None
    basis: Tensor | None
    radius: float
    random: torch.Generator

    @property
    def dimensions(self) -> int:
        return self.z.shape[1] if self.basis is None else len(self.basis)

    def spread(self, u: Tensor) -> Tensor:
        """u in the basis: (…, k) -> (…, L)."""
        return u if self.basis is None else u @ self.basis

    def __call__(self, u: Tensor, people: Tensor) -> Tensor:
        """The mean score at u, (V, k); where that has no gradient, a number that has the gradient of the smoothed score."""
        found = self._scored(u, people)
        if found.requires_grad:
            return found.mean()
        sigma = _SMOOTHING * self.radius / self.dimensions**0.5
        with torch.no_grad():
            noise = torch.randn(u.shape, generator=self.random).to(u)
            high, low = (self._scored(u + side * sigma * noise, people) for side in (1, -1))
            gradient = (high - low)[:, None] / (2 * sigma) * noise
        return (gradient * u).sum(1).mean()

    def _scored(self, u: Tensor, people: Tensor) -> Tensor:
        context = None if self.context is None else self.context.expand(len(u), -1)
        x = self.model.decode(self.z + self.spread(u), context)
        return _scored(self.scores, x, people)


def _scored(scores: Scores, x: Tensor, people: Tensor) -> Tensor:
    found = scores(x, people)
    if not isinstance(found, Tensor) or found.shape != (len(x),) or not found.isfinite().all():
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise TriptychError(f"scores should be a tensor of {len(x)} finite numbers, one for each person, got {got}")
    return found.to(x)


def _checked(profiles: Tensor) -> Tensor:
    if not isinstance(profiles, Tensor) or profiles.ndim != 2 or min(profiles.shape) < 1 or not profiles.isfinite().all():
        got = tuple(profiles.shape) if isinstance(profiles, Tensor) else repr(profiles)[:60]
        raise TriptychError(f"profiles should be a tensor (V, P) of finite numbers, a row for each person, got {got}")
    return profiles.float()
