"""Attributes said in words, read by any scorer of pictures against texts, so that directions can be learned of them.

Shapes: n examples, stored (n, C, H, W) uint8; T texts; scores (n, T).

    a = (s(x, wanted) − s(x, against) − m) / d

is the attribute: how much better one text fits a picture than another, less its mean m over the examples that it is
calibrated on, in their standard deviations d. The difference takes away what a scorer likes of a picture whatever the text
says (as StyleCLIP's neutral text does: Patashnik et al. 2021, arXiv 2103.17249). It is an attribute like any other: learned
with several at once, held, judged on held-out pictures.

The scorer is the user's: a function of pictures (B, C, H, W) in [0, 1] and texts that gives (B, T) numbers, of which only
differences between texts count. CLIP's cosines are such numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from triptych.errors import TriptychError
from triptych.progress import tracked

Scorer: TypeAlias = Callable[[Tensor, Sequence[str]], Tensor]  # pictures (B, C, H, W) in [0, 1], T texts -> (B, T)
_AT_ONCE = 64


class Words:
    """Attributes by name, each the difference of two texts, read from stored pictures as a split gives attributes.

    Args:
        scorer: pictures (B, C, H, W) in [0, 1], texts -> scores (B, T).
        texts: the text wanted and the one against it, by the attribute's name.
        stored: pictures that the attributes' mean and spread are of, (n, C, H, W) uint8, such as the training split.

    Raises:
        TriptychError: for pictures that are not 8-bit, scores that are not (B, T) finite numbers, and where a pair of texts
            is scored the same on all pictures.

    Attributes:
        known: the attributes of `stored`, (n,) by name.

    >>> def scorer(pictures, texts):  # a toy that knows one word; a CLIP of one's own knows many
    ...     light = pictures.mean((1, 2, 3))
    ...     return torch.stack([light if "bright" in text else 0 * light for text in texts], 1)
    >>> stored = torch.tensor([0, 100, 200], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 8, 8)
    >>> words = Words(scorer, {"bright": ("a bright picture", "a picture")}, stored)
    >>> [round(value, 2) for value in words(stored)["bright"].tolist()]
    [-1.22, 0.0, 1.22]
    """

    def __init__(self, scorer: Scorer, texts: Mapping[str, tuple[str, str]], stored: Tensor):
        if not texts:
            raise TriptychError('expected texts by name, such as {"smiling": ("a smiling face", "a face")}, got none')
        for name, pair in texts.items():
            if len(pair) != 2 or not all(isinstance(text, str) and text.strip() for text in pair):
                raise TriptychError(f"{name}: expected two texts, the one wanted and the one against it, got {pair!r:.80}")
        self.scorer, self.texts = scorer, {name: (wanted, against) for name, (wanted, against) in texts.items()}
        found = self.differences(stored)
        self.mean, self.std = found.mean(0), found.std(0, correction=0)
        for name, std in zip(self.texts, self.std.tolist(), strict=True):
            if not std > _SAME * float(found.abs().max()):
                both = " and ".join(map(repr, self.texts[name]))
                raise TriptychError(f"the scorer finds no difference between {both} in these pictures: choose other texts")
        self.known = self._scaled(found)

    def __call__(self, stored: Tensor) -> dict[str, Tensor]:
        """The attributes of stored pictures, (n,) by name."""
        return self._scaled(self.differences(stored))

    def _scaled(self, differences: Tensor) -> dict[str, Tensor]:
        found = (differences - self.mean) / self.std
        return dict(zip(self.texts, found.float().unbind(1), strict=True))

    @torch.no_grad()
    def differences(self, stored: Tensor) -> Tensor:
        """s(x, wanted) − s(x, against) of stored pictures, (n, number of pairs), float64."""
        if stored.dtype != torch.uint8 or stored.ndim != 4:
            raise TriptychError(f"words are read from 8-bit pictures (n, C, H, W), got {stored.dtype} {tuple(stored.shape)}")
        texts = list(dict.fromkeys(text for pair in self.texts.values() for text in pair))
        columns = [[texts.index(text) for text in pair] for pair in self.texts.values()]
        parts = tracked(stored.split(_AT_ONCE), "scoring pictures against words", -(-len(stored) // _AT_ONCE))
        scores = torch.cat([self._scores(part, texts) for part in parts])
        return torch.stack([scores[:, wanted] - scores[:, against] for wanted, against in columns], 1)

    def _scores(self, stored: Tensor, texts: list[str]) -> Tensor:
        found = torch.as_tensor(self.scorer(stored.float() / 255, texts)).detach().cpu().double()
        if found.shape != (len(stored), len(texts)) or not found.isfinite().all():
            got = f"{tuple(found.shape)}" if found.isfinite().all() else "some that are not finite"
            raise TriptychError(
                f"a scorer gives a number for each of {len(stored)} pictures and {len(texts)} texts, "
                f"({len(stored)}, {len(texts)}), got {got}"
            )
        return found


_SAME = 1e-9  # of the largest difference, a spread below which is none
