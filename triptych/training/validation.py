"""The best of the averaged weights, by examples that are not learned from.

A density that sees few examples often learns them by heart: its loss on others falls, and then rises without end. So each
player whose loss is a likelihood is judged now and then, and what it leaves behind are the weights by which these were
likeliest. Parts that learn one after another are judged one after another, each given the best of those before it.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from triptych.modes import evaluating
from triptych.objectives.player import Player
from triptych.randomness import seeded

Parts = Sequence[tuple[Tensor, ...]]
"""Of the held-out examples: x (B, *E), and where there is one a context (B, K)."""
_PARTS = 16  # whose losses' median counts, so that a few odd examples do not decide
_GRAIN = 2  # a training is looked at 2 ** _GRAIN times while its length doubles
_NOISE = 0  # seed of what the losses draw
_ENDED = 10**12  # a step after which weights that grow, such as the KL's, have grown


def part_size(examples: int) -> int:
    """Examples in each part of so many.

    >>> part_size(500), part_size(10)
    (32, 1)
    """
    return math.ceil(examples / _PARTS)


class Validation:
    """Which averaged weights are the best of those that were looked at.

    A loss is the median over parts of the held-out examples of their mean loss, with the same noise at every look.

    Args:
        players: of the averaged model, by name: those of the training, made for it.
        steps: of the run.
        device: where it computes.

    Attributes:
        losses: the least loss of each player that was judged, and the step of its span after which it was.
        numbers: the newest loss of those who play, for the log.
    """

    def __init__(self, players: Mapping[str, Player], steps: int, device: torch.device):
        self.players = {name: player for name, player in players.items() if player.validated}
        self.steps, self.device = steps, device
        self.losses: dict[str, tuple[float, int]] = {}
        self.numbers: dict[str, float] = {}
        self._best: dict[str, dict[str, Tensor]] = {}

    def judge(self, step: int, parts: Parts) -> None:
        """Looks at those who play, now and then, after so many steps of the run; keeps the weights that are the best so far.

        A loss that is not finite is of weights that are not: the loop names, and rolls back, such steps.
        """
        for name, player in self.players.items():
            played = player.span.played(step)
            if not player.span.holds(step - 1) or not _due(played, self._length(name)):
                continue
            loss = self.numbers[f"validation_{name}"] = self._loss(player, parts)
            if math.isfinite(loss) and (name not in self.losses or loss < self.losses[name][0]):
                self.losses[name] = loss, played
                self._best[name] = _copied(player)

    def _loss(self, player: Player, parts: Parts) -> float:
        with evaluating(player), torch.no_grad(), seeded(_NOISE, self.device):
            return statistics.median(float(player(x, _ENDED, *context).total) for x, *context in parts)

    def restore_best(self, name: str) -> dict[str, str]:
        """Puts a player's best weights in place; a remark where they are not its last."""
        if name not in self._best:
            return {}
        self.players[name].load_state_dict(self._best[name])
        step, length = self.losses[name][1], self._length(name)
        if step == length:
            return {}
        said = f"the {name} is best on held-out training examples after {step:,} of {length:,} steps: those weights are kept"
        return {f"validation {name}": said}

    @contextlib.contextmanager
    def at_best(self) -> Iterator[None]:
        """Inside the averaged model has the best weights, afterwards those that it had."""
        newest = {name: _copied(self.players[name]) for name in self._best}
        for name in newest:
            self.restore_best(name)
        try:
            yield
        finally:
            for name, state in newest.items():
                self.players[name].load_state_dict(state)

    def forget(self, names: Iterable[str]) -> None:
        """Of players that begin anew, or whose weights others move from now on."""
        for name in names:
            self._best.pop(name, None)
            self.losses.pop(name, None)
            self.numbers.pop(f"validation_{name}", None)

    def state(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """What a checkpoint keeps: of each judged player its best weights, their loss and step.

        Args:
            names: of players, to which a state that is read is compared; by default those that were judged.
        """
        found: dict[str, Tensor] = {}
        for name in self._best if names is None else names:
            weights = self._best.get(name) or self.players[name].state_dict()
            found |= {f"best.{name}.weights.{key}": value for key, value in weights.items()}
            loss, step = self.losses.get(name, (0.0, 0))
            found[f"best.{name}.loss"] = torch.tensor(loss, dtype=torch.float64)
            found[f"best.{name}.step"] = torch.tensor(step)
        return found

    def finite(self) -> set[str]:
        """The names in `state` of what must be finite."""
        weights = {f"best.{name}.weights.{key}" for name, p in self.players.items() for key, _ in p.named_parameters()}
        return weights | {f"best.{name}.loss" for name in self.players}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave, without "best." before the names."""
        self.losses, self.numbers, self._best = {}, {}, {}
        for name in self.players:
            if f"{name}.loss" in tensors:
                self.losses[name] = float(tensors[f"{name}.loss"]), int(tensors[f"{name}.step"])
                prefix = f"{name}.weights."
                self._best[name] = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def _length(self, name: str) -> int:
        return self.players[name].span.played(self.steps)


def _copied(player: Player) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in player.state_dict().items()}


def _due(played: int, length: int) -> bool:
    """Whether one looks after so many of the steps of a span: after its last, and 4 times while their number doubles.

    >>> [step for step in range(1, 41) if _due(step, 39)]
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 39, 40]
    """
    return played > 0 and (played == length or played % (1 << max(0, played.bit_length() - 1 - _GRAIN)) == 0)
