"""Each family's training game, as one or two players.

A player owns the parameters that it updates. `forward(x, step)` is its loss on a minibatch x (B, *E) in model
coordinates, a pure function of its arguments and of torch's random state, which the loop sets from (seed, step, rank).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn

from triptych.core import GenerativeModel, frozen
from triptych.errors import TriptychError
from triptych.flow import Flow, FlowSteps
from triptych.flow.watch import flow_health, most_extreme
from triptych.gan.adversarial import Adversarial
from triptych.gan.augment import IMAGES, TARGET
from triptych.gan.games import GAMES, Game
from triptych.gan.layers import MinibatchStddev, group_size
from triptych.gan.penalties import drift, gradient_penalty, zero_centred
from triptych.recipes import FlowObjective, GANObjective, Recipe, VAEObjective
from triptych.vae import VAE
from triptych.vae.estimators import Bound, bound_a, bound_b, bound_k, score_function
from triptych.vae.schedules import kl_weight


class Loss(NamedTuple):
    """What a player minimises (a scalar), and what the log shows (scalars, without gradient)."""

    total: Tensor
    terms: dict[str, Tensor]


class Findings(NamedTuple):
    """What a player noticed about its model: numbers for the log, and remarks for a person by what they are about."""

    numbers: dict[str, float]
    remarks: dict[str, str]


class Player(nn.Module, ABC):
    """One side of the game.

    Attributes:
        plays: minibatches it takes in a round (k in Goodfellow et al. 2014).
    """

    plays: int = 1

    @abstractmethod
    def forward(self, x: Tensor, step: int) -> Loss:
        """The loss on x (B, *E) at `step`."""

    def inspect(self) -> Findings:
        """A look at the model when the log is written: no gradient, and torch's random state stays as it is."""
        return Findings({}, {})

    def settle(self) -> None:
        """Follows the model's buffers after a saved state has been put in place."""

    def stage(self, step: int) -> int:
        """A number that changes when other weights are trained than before: the optimiser then begins anew."""
        return 0


class VAEPlayer(Player):
    """Minimises −L, the negative bound in nats per datum (AEVB, algorithm 1)."""

    def __init__(self, model: VAE, objective: VAEObjective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor, step: int) -> Loss:
        bound = self._bound(x, kl_weight(step, beta=self.objective.beta, warmup=self.objective.warmup))
        log_likelihood, kl = bound.log_likelihood.mean().detach(), bound.kl.mean().detach()
        return Loss(-bound.value.mean(), {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl})

    def _bound(self, x: Tensor, weight: float) -> Bound:
        draws = self.objective.draws
        if self.objective.estimator == "B":
            return bound_b(self.model, x, draws=draws, weight=weight, floor=self.objective.free_bits)
        others: dict[str, Callable[..., Bound]] = {"A": bound_a, "k": bound_k, "score": score_function}
        return others[self.objective.estimator](self.model, x, draws=draws, weight=weight)


class FlowPlayer(Player):
    """Minimises −log p(x) / (D ln 2): bits per dimension of pixels, once the bit depth is added.

    It looks at 8 data of the newest batch when it is asked to `inspect`.
    """

    def __init__(self, model: Flow, objective: FlowObjective):
        super().__init__()
        self.model, self.objective = model, objective
        self._seen: Tensor | None = None
        self.settle()

    def forward(self, x: Tensor, step: int) -> Loss:
        self._seen = x[:_LOOKED_AT].detach().clone()
        nll = -self.model.log_prob(x).mean()
        codec, per_dimension = self.model.codec, nll / (self.model.latent_dim * math.log(2))
        if codec.reading == "none":
            return Loss(per_dimension, {"nll": nll.detach()})
        bits = per_dimension + codec.bits
        return Loss(bits, {"bits_per_dim": bits.detach()})

    def inspect(self) -> Findings:
        if self._seen is None:
            return Findings({}, {})
        found = flow_health(self.model, self._seen)
        unit = max(1.0, self._seen.abs().max().item())
        remarks = self._remarks(found, unit)
        # Each process measures its own drift and may go over alone: gradients agree, so that modes may be mixed.
        if self.model.heed_drift(self.objective.drift_bound):
            remarks["drift"] = (
                f"the reversible inversion drifted by {found['drift']:.1g}, past {self.objective.drift_bound:g}: "
                "gradients are computed with checkpoints from now on"
            )
        numbers = {k: v for k, v in found.items() if isinstance(v, float)}
        return Findings(numbers | {"data_range": unit}, remarks)

    def _remarks(self, found: dict[str, float | str], unit: float) -> dict[str, str]:
        remarks = {}
        if not found["round_trip"] <= _ROUND_TRIP * unit:  # type: ignore[operator]
            remarks["round_trip"] = f"decode(encode(x)) is off by {found['round_trip']:.3g}: {most_extreme(found)}"
        if not found["sample_range"] <= self.objective.sample_bound * unit:  # type: ignore[operator]
            limit = f"past {self.objective.sample_bound * unit:.3g}"
            remarks["sample_range"] = f"samples reach {found['sample_range']:.3g}, {limit}: {most_extreme(found)}"
        return remarks

    def settle(self) -> None:
        for module in self.model.modules():
            if isinstance(module, FlowSteps):
                module.settle()


_LOOKED_AT = 8  # data that `inspect` encodes and decodes
_ROUND_TRIP = 1e-3  # beyond which it says so, in units of the largest datum: a quarter of an 8-bit pixel's bin


class Adversary(Player):
    """What both sides of a GAN's game share: the rules, samples, and how the discriminator is shown things.

    The model is held unregistered: of its two networks a player owns one, and moves only that.
    """

    def __init__(self, model: Adversarial, objective: GANObjective, own: nn.Module, images: int):
        super().__init__()
        self.own, self.augmentation = own, model.augmentation
        self.images = images  # real pictures that a round shows, on all processes
        self.objective, self.game = objective, GAMES[objective.game]
        self._held = (model,)

    @property
    def model(self) -> Adversarial:
        return self._held[0]

    def stage(self, step: int) -> int:
        return self.model.stage(step * self.images)

    def samples(self, n: int) -> Tensor:
        """G(z) of n fresh draws z ~ N(0, I)."""
        return self.model.draw(torch.randn(n, self.model.latent_dim, device=self.model.device))


class DiscriminatorPlayer(Adversary):
    """Tells data from samples; k minibatches a round (Goodfellow et al. 2014, algorithm 1)."""

    def __init__(self, model: Adversarial, objective: GANObjective, images: int, ada_step: float):
        super().__init__(model, objective, model.discriminator, images)
        self.ada_step = ada_step  # by which ada's p moves after a minibatch
        self.plays = objective.plays
        self.fake: Tensor | None = None  # of the last play, with its graph, for a generator that shares it

    def forward(self, x: Tensor, step: int) -> Loss:
        self.model.grow(step * self.images)
        x = self.model.reals(x)
        with torch.set_grad_enabled(self.objective.share and torch.is_grad_enabled()):
            self.fake = self.samples(len(x))
        shown, shown_fake = self.augmentation(x), self.augmentation(self.fake.detach())
        gamma, every = self.objective.penalising
        # the last of so many steps, so that the log's lines, at round numbers, show it. Without gradients, as when a bad
        # step is looked at again, there is nothing to penalise
        penalised = self.objective.penalty != "none" and (step + 1) % every == 0 and torch.is_grad_enabled()
        real, fake, penalty = self._judged(shown, shown_fake, penalised)
        game = self.game.discriminator(real, fake).mean()
        loss = self.objective.discriminator_weight * game
        terms = {"value": -game.detach()} | _seen(self.game, x, self.fake, real, fake) | self._adapted(real, fake)
        if penalised:
            terms["penalty"] = penalty.detach()
            loss = loss + gamma * every * penalty
        if self.objective.drift:
            loss = loss + self.objective.drift * drift(real).mean()
        return Loss(loss, terms)

    def _adapted(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Moves ada's p by how sure D is, on all processes alike; a step that is only looked at again moves nothing."""
        if self.augmentation.kind != "ada" or not torch.is_grad_enabled():
            return {}
        target = self.objective.ada_target
        confidence = _of_all_processes(self.game.confidence(real, fake))
        self.augmentation.adapt(confidence, self.ada_step, self.game.confident_as(TARGET) if target is None else target)
        return {"ada_confidence": confidence, "ada_p": self.augmentation.p.clone()}

    def _judged(self, x: Tensor, samples: Tensor, penalised: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of data and samples, and the penalty's mean."""
        kind = self.objective.penalty if penalised else "none"
        x.requires_grad_(kind in ("r1", "r1r2"))
        samples.requires_grad_(kind == "r1r2")
        real, fake = self.model.logits(x), self.model.logits(samples)
        penalty = real.new_zeros(())
        if kind == "gp":
            # slopes are half as steep in the papers' [−1, 1], where their target is 1
            unit = 1.0 if self.model.codec.reading == "none" else 2.0
            penalty = gradient_penalty(self.model.logits, x, samples, target=unit).mean() / unit**2
        if x.requires_grad:
            penalty = penalty + zero_centred(real, x).mean()
        if samples.requires_grad:
            penalty = penalty + zero_centred(fake, samples).mean()
        return real, fake, penalty


class GeneratorPlayer(Adversary):
    """Makes the discriminator take samples for data; D is frozen while it is asked."""

    def __init__(self, model: Adversarial, objective: GANObjective, opponent: DiscriminatorPlayer):
        super().__init__(model, objective, model.generator, opponent.images)
        self._opponent = (opponent,)

    def forward(self, x: Tensor, step: int) -> Loss:
        shared = self._opponent[0].fake if self.objective.share else None
        self._opponent[0].fake = None
        samples = self.samples(len(x)) if shared is None else shared
        with frozen(self.model.discriminator):
            fake = self.judged(samples)
            with torch.no_grad():
                real = self.judged(self.model.reals(x)) if self.game.pairs else None
        loss = self.game.generator(real, fake).mean()
        return Loss(loss, {})

    def judged(self, x: Tensor) -> Tensor:
        """D's logits of x as it is shown: augmented, where that is asked for."""
        return self.model.logits(self.augmentation(x))


@torch.no_grad()
def _seen(game: Game, x: Tensor, samples: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """How the game stands: D's mean verdicts, or its logits' mean difference where nothing else counts; the share of pairs
    that it ranks rightly (½ at the end); and how much samples differ from one another, in units of how much data do (a
    collapse brings it to 0; one alone says nothing)."""
    spread, data_spread = samples.std(0, correction=0).mean(), x.std(0, correction=0).mean()
    right = (real > fake).float() + 0.5 * (real == fake).float()
    verdicts = {"d_real": real.sigmoid().mean(), "d_fake": fake.sigmoid().mean()}
    return {
        **({"d_margin": (real - fake).mean()} if game.shift_free else verdicts),
        "d_accuracy": right.mean(),
        "spread_ratio": spread / data_spread.clamp(min=1e-12) if len(x) > 1 else spread * math.nan,
    }


def _of_all_processes(mean: Tensor) -> Tensor:
    """The mean over all processes, whose minibatches are of one size."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(mean)
        mean = mean / distributed.get_world_size()
    return mean


def _ada_step(recipe: Recipe, processes: int) -> float:
    """By how much ada's p moves after a minibatch: its real pictures, of those seen while p goes from 0 to 1.

    A run of few pictures would end before the paper's 500,000 of its 25 million: unless it says so, p takes a tenth of it.
    """
    objective, shown = recipe.objective, recipe.training.batch * processes
    return shown / (objective.ada_images or min(IMAGES, shown * objective.plays * recipe.steps / 10))


def _check_game(recipe: Recipe, model: Adversarial) -> None:
    """Refuses what would train without a word, and come to nothing."""
    objective, batch = recipe.objective, recipe.training.batch
    if objective.game == "wgan" and (objective.penalty == "none" or not objective.penalising.gamma):
        raise TriptychError(
            "Wasserstein's game needs a discriminator kept smooth, or its loss has no bound: choose --objective.penalty gp "
            "with its weight, 10"
        )
    for module in model.discriminator.modules():
        if isinstance(module, MinibatchStddev) and group_size(batch, module.group) == 1:
            most = module.group
            other = f"--training.batch {-(-batch // most) * most}" if most > 1 else "--model.stddev-group 4"
            raise TriptychError(
                f"a batch of {batch} on each process has no groups of 2 to {most} whose spread the discriminator could see: "
                f"choose {other}, or --model.stddev-group 0 to leave it out"
            )


def players(recipe: Recipe, model: GenerativeModel, processes: int = 1) -> dict[str, Player]:
    """The players of the recipe's game on so many processes, by name, in the order in which they play."""
    if isinstance(model, Flow):
        return {"flow": FlowPlayer(model, recipe.objective)}
    if isinstance(model, Adversarial):
        _check_game(recipe, model)
        model.augmentation.become(recipe.differentiable)
        shown = recipe.training.batch * recipe.objective.plays * processes
        discriminator = DiscriminatorPlayer(model, recipe.objective, shown, _ada_step(recipe, processes))
        return {"discriminator": discriminator, "generator": GeneratorPlayer(model, recipe.objective, discriminator)}
    assert isinstance(model, VAE)
    return {"vae": VAEPlayer(model, recipe.objective)}
