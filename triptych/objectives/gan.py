"""The adversarial game as two players: a discriminator that tells real examples from samples, a generator that deceives it.

Shapes: B batch, K context_dim, E event_shape; x (B, *E) · context (B, K) or None · logits (B,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn

from triptych.capabilities import Encodes, require
from triptych.errors import TriptychError
from triptych.gan import Adversarial
from triptych.gan.augment import TARGET
from triptych.gan.games import GAMES, Game
from triptych.gan.layers import MinibatchStddev, group_size
from triptych.gan.penalties import Penalty
from triptych.modes import frozen
from triptych.objectives.encoder import relative_error
from triptych.objectives.player import WHOLE, Loss, Player, Span

Codes = Callable[[Any, Tensor, Tensor | None], Tensor]


class Match:
    """What both players share: the model, the rules, and the samples of a round where one pass of G serves both.

    It is not a module: of the model's two networks a player owns one, and moves only that.

    Args:
        model: the pair.
        game: the losses of both sides.
        images: real pictures that a round shows, on all processes, by which a growing model grows.
        share: whether the discriminator's samples serve the generator too: faster, but it no longer draws its own z.
        codes: z (B, L) of the samples that are shown beside examples x (B, *E), (model, x, context) -> z; None: z ~ p(z).

    Attributes:
        shared: samples of the discriminator's last play, with their graph, and the context (B, K) that they were drawn for,
            until the generator takes them.
    """

    def __init__(self, model: Adversarial, game: Game, images: int, share: bool = False, codes: Codes | None = None):
        self.model, self.game, self.images, self.share = model, game, images, share
        self.codes = codes or (lambda model, x, context: model.sample_prior(len(x)))
        self.shared: tuple[Tensor, Tensor | None] | None = None

    def draw(self, x: Tensor, context: Tensor | None) -> Tensor:
        """As many samples (B, *E) of fresh z as there are examples x."""
        return self.model.draw(self.codes(self.model, x, context), context)


class Adversary(Player):
    """What both players have in common: a network of their own, the match that they play, and when."""

    def __init__(self, match: Match, own: nn.Module, span: Span = WHOLE, loop: object = None):
        super().__init__()
        self.own, self.augmentation, self.match = own, match.model.augmentation, match
        self.span, self.loop = span, loop

    def stage(self, step: int) -> int:
        return self.match.model.stage(step * self.match.images)

    def deceived(self, samples: Tensor, asked: Tensor | None, x: Tensor, context: Tensor | None) -> Tensor:
        """What a generator minimises, a scalar: D's verdict on samples asked for by their context; D is frozen meanwhile."""
        model, game = self.match.model, self.match.game
        with frozen(model.discriminator):
            fake = model.logits(self.augmentation(samples), asked)
            with torch.no_grad():
                real = model.logits(self.augmentation(model.reals(x)), context) if game.pairs else None
        return game.generator(real, fake).mean()


class DiscriminatorPlayer(Adversary):
    """Tells real examples from samples; k minibatches a round (Goodfellow et al. 2014, algorithm 1).

        L = weight · E D's loss in the game + penalty.weight · E penalty + drift_weight · E D(x)²

    With a context each sample is drawn for the context of a real example, and both are judged given it. The loss then has a
    second part, of a game in which real examples with the context of another one take the samples' place (the matching-aware
    discriminator of Reed et al. 2016, arXiv 1605.05396): samples soon look real, and only this keeps D looking at whether
    they are what was asked for.

    Args:
        match: shared with the generator.
        plays: k.
        weight: of the game's loss.
        penalty: on D's gradient, R1 and R2 at pictures before they are augmented; None for none.
        drift_weight: of D(x)², which keeps a critic's logits, of which only differences count, near 0 (Karras et al. 2018,
            appendix A.1).
        mismatch_weight: of real examples shown with the context of others, where that differs, which D learns to refuse as
            it does samples (Reed et al. 2016, arXiv 1605.05396); 0 leaves the optimum of the game alone.
        ada_step: by which ada's p moves after a minibatch (`triptych.gan.augment.ada_step`).
        ada_target: how sure of its data D should be, from −1 to 1; None: as sure as E sign D(x) = 0.6.
        span: when it plays.
        loop: the loop's numbers for D; None: the recipe's.
    """

    def __init__(
        self,
        match: Match,
        *,
        plays: int = 1,
        weight: float = 1.0,
        penalty: Penalty | None = None,
        drift_weight: float = 0.0,
        mismatch_weight: float = 1.0,
        ada_step: float = 0.0,
        ada_target: float | None = None,
        span: Span = WHOLE,
        loop: object = None,
    ):
        super().__init__(match, match.model.discriminator, span, loop)
        self.plays, self.weight, self.penalty, self.drift_weight = plays, weight, penalty or Penalty(), drift_weight
        self.kinds = 2 if self.penalty.every > 1 else 1
        self.mismatch_weight = mismatch_weight
        self.ada_step, self.ada_target = ada_step, match.game.confident_as(TARGET) if ada_target is None else ada_target

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        model, game = self.match.model, self.match.game
        model.grow(step * self.match.images)
        x = model.reals(x)
        with torch.set_grad_enabled(self.match.share and torch.is_grad_enabled()):
            samples = self.match.draw(x, context)
        self.match.shared = (samples, context) if self.match.share else None
        # without gradients, as when a bad step is replayed, nothing can be penalised
        penalty = self.penalty if self.penalty.due(step) and torch.is_grad_enabled() else Penalty()
        judge = partial(model.logits, context=context)
        real, fake, penalised, shown = penalty.judge(judge, x, samples.detach(), self.augmentation)
        played = game.discriminator(real, fake).mean()
        loss = self.weight * played + penalty.weight * penalty.every * penalised
        terms = {"value": -played.detach()} | _standing(game, x, samples, real, fake) | self._adapted(real, fake)
        if penalty.weight:
            terms["penalty"] = penalised.detach()
        if self.drift_weight:
            loss = loss + self.drift_weight * real.square().mean()
        if context is not None and self.mismatch_weight:
            other = context.roll(1, 0)
            # a context that agrees, or says less, matches too: nothing is to be refused
            differs = (other != context).any(1) if model.conditions is None else model.conditions.differ(other, context)
            mismatch = (game.discriminator(real, model.logits(shown.detach(), other)) * differs).mean()
            terms["mismatch"] = mismatch.detach()
            loss = loss + self.weight * self.mismatch_weight * mismatch
        return Loss(loss, terms)

    def kind(self, step: int) -> int:
        """1 with a lazy penalty, whose gradient has many times the weight of the rest."""
        return int(self.kinds > 1 and self.penalty.due(step))

    def _adapted(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Moves ada's p by how sure D is, on all processes alike; without gradients, as in a replay, nothing moves."""
        if self.augmentation.kind != "ada" or not torch.is_grad_enabled():
            return {}
        confidence = agreed(self.match.game.confidence(real, fake))
        self.augmentation.adapt(confidence, self.ada_step, self.ada_target)
        return {"ada_confidence": confidence, "ada_p": self.augmentation.p.clone()}


class GeneratorPlayer(Adversary):
    """Makes the discriminator take samples for real examples; D is frozen while it judges.

    Args:
        match: shared with the discriminator.
        tie: weight of the error of reconstructions of data, G(E(x)), where the model has an encoder: beside making samples
            that D takes for data, G then learns to make the data themselves of their codes. 0 leaves the game alone.
    """

    def __init__(self, match: Match, tie: float = 0.0):
        super().__init__(match, match.model.generator)
        self.tie = tie

    def forward(self, x: Tensor, step: int, context: Tensor | None = None) -> Loss:
        samples, asked = self.match.shared or (self.match.draw(x, context), context)
        self.match.shared = None
        loss = self.deceived(samples, asked, x, context)
        if self.tie:
            model = require(self.match.model, Encodes)
            with torch.no_grad():
                z = model.encode(x, context)
            loss = loss + self.tie * relative_error(self.match.model.decode(z, context), x)
        return Loss(loss, {})


def check_match(model: Adversarial, game: Game, penalty: Penalty | None, batch: int) -> None:
    """Refuses what would train without a word, and come to nothing.

    Args:
        batch: real examples in a minibatch, on each process.

    Raises:
        TriptychError: for Wasserstein's game without a penalty, and for a batch without groups for `MinibatchStddev`.
    """
    if game is GAMES["wgan"] and (penalty is None or not penalty.weight):
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


def agreed(value: Tensor) -> Tensor:
    """The mean of a number over all processes, whose minibatches have one size."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    distributed.all_reduce(value)
    return value / distributed.get_world_size()


@torch.no_grad()
def _standing(game: Game, x: Tensor, samples: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """How the game stands: D's mean verdicts, or the mean difference of its logits where nothing else counts; the share of
    pairs that it ranks rightly (½ at the end); and how much samples differ from one another, in units of how much real
    examples do (a collapse brings it to 0; of one example it is NaN)."""
    spread, real_spread = samples.std(0, correction=0).mean(), x.std(0, correction=0).mean()
    right = (real > fake).float() + 0.5 * (real == fake).float()
    verdicts = {"d_real": real.sigmoid().mean(), "d_fake": fake.sigmoid().mean()}
    return {
        **({"d_margin": (real - fake).mean()} if game.shift_free else verdicts),
        "d_accuracy": right.mean(),
        "spread_ratio": spread / real_spread.clamp(min=1e-12) if len(x) > 1 else spread * math.nan,
    }
