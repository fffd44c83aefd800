"""Differentiable augmentation: D sees real and fake pictures through the same random changes, so few pictures last longer.

G learns the pictures, not the changes, as long as a change can be undone from its distribution: what D is shown of G must
match what it is shown of the data (Zhao et al. 2020, arXiv 2006.10738; Karras et al. 2020, arXiv 2006.06676).

Shapes: B batch, C channels, H × W picture.
    x (B, C, H, W) in [0, 1]; the changed pictures may leave that range a little · A (B, 2, 2) · rows, cols (B, H, W)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from triptych.errors import TriptychError, check_choice, check_range

Changes = Literal["none", "diffaug", "ada"]

TARGET = 0.6  # of the overfitting heuristic r_t = E sign D(x) (Karras et al. 2020, section 3)
IMAGES = 500_000  # real pictures seen while p goes from 0 to 1 (the same)
MOST = 0.8  # beyond this probability changes start to leak into the samples (the same, section 2.2)
_GREY = 0.5  # of uncovered pixels: 0 of the papers' [−1, 1]
_SHIFT = 1 / 8  # of a side, at most


class Augmentation(nn.Module):
    """Random changes of pictures, drawn afresh for each example from torch's random state.

        none      x itself
        diffaug   always: brightness, saturation (of three channels), contrast · translation · cutout (Zhao et al. 2020)
        ada       each with probability p: flip, quarter turns (of squares), translation, scale, rotation · brightness,
                  contrast, saturation (Karras et al. 2020, appendix B)

    Its ada differs from the paper's: no anisotropic scale, hue or filters; uncovered pixels are grey, not the picture's
    reflection; resampling is bilinear; p moves after every minibatch, not every fourth.

    Affine in x and twice differentiable, so that penalties may be taken through it; at p = 0 the identity to the bit.

    Args:
        event_shape: (C, H, W); other events take "none" only.
        kind: "none", "diffaug" or "ada".
        p: the probability to start with; None: 1 for diffaug, 0 for ada.
        pixels: whether examples are pictures in [0, 1]; others take "none" only.

    Attributes:
        p: the probability, a buffer, saved with the weights; `adapt` moves it.

    Raises:
        TriptychError: for another kind, a p outside [0, 1], and augmentation of anything but pictures.

    >>> augmentation = Augmentation((3, 32, 32), "diffaug")
    >>> augmentation(torch.rand(4, 3, 32, 32)).shape
    torch.Size([4, 3, 32, 32])
    """

    training_buffers: ClassVar[tuple[str, ...]] = ("p",)
    p: Tensor

    def __init__(self, event_shape: Sequence[int], kind: Changes = "none", p: float | None = None, pixels: bool = True):
        super().__init__()
        self.event_shape, self.pixels = tuple(event_shape), pixels
        self.register_buffer("p", torch.zeros(()))
        self.kind: Changes = "none"
        self.become(kind, p)

    def become(self, kind: Changes, p: float | None = None) -> None:
        """Switches to `kind`, starting from p; without a p, an unchanged kind keeps the one that it has."""
        check_choice("augment", kind, get_args(Changes))
        if kind != "none" and not (self.pixels and len(self.event_shape) == 3):
            what = f"{self.event_shape}" if self.pixels else "data read as floats"
            raise TriptychError(f"augmentation changes pictures (C, H, W) of pixels, got {what}: choose augment=none")
        if p is not None:
            check_range("p, the probability of a change,", p, 0, 1)
        if p is not None or kind != self.kind:
            self.p.fill_(float(kind == "diffaug") if p is None else p)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """The changed pictures, (B, C, H, W); to be called on real and fake ones alike."""
        if self.kind == "ada":
            x = self._moved(x)
        for change in _CHANGES[self.kind]:
            x = torch.where(self._chosen(x), change(x), x)
        return x

    @torch.no_grad()
    def adapt(self, confidence: Tensor, step: float, target: float = TARGET) -> None:
        """Moves ada's p by `step`: up where D's confidence is above the target, else down, within [0, 0.8].

        Nothing is synchronised: each of several processes should be given the confidence of all, or their p will differ.

        Args:
            confidence: a scalar, r of augmented real pictures: `Game.confidence`.
            step: see `ada_step`.
            target: what r should be, by the game's own measure: `Game.confident_as(TARGET)`.
        """
        if self.kind == "ada":
            r = confidence.nan_to_num(target)  # a step that is not finite teaches nothing
            self.p.add_((r - target).sign() * step).clamp_(0, MOST)

    def _chosen(self, x: Tensor) -> Tensor:
        """(B, 1, 1, 1): true with probability p."""
        return torch.rand(len(x), 1, 1, 1, device=x.device) < self.p

    def _moved(self, x: Tensor) -> Tensor:
        """All of ada's moves as one resampling: flip, quarter turn, translation, scale and rotation composed."""
        height, width = x.shape[2:]
        sides = x.new_tensor([[height], [width]])
        identity = torch.eye(2, dtype=x.dtype, device=x.device)

        def sometimes(drawn: Tensor, otherwise: Tensor) -> Tensor:
            return torch.where(self._chosen(x)[..., 0], drawn, otherwise)

        blit = sometimes(_flips(x), identity)
        if height == width:
            blit = blit @ sometimes(_quarter_turns(x), identity)
        shift = sometimes((_symmetric(x, 2, 1) * _SHIFT * sides).round(), torch.zeros_like(sides))
        scale = sometimes(torch.exp2(0.2 * _normal(x, 1, 1)), x.new_ones(1, 1))
        turn = sometimes(_rotations(math.pi * _symmetric(x)), identity)
        return _resampled(x, blit, turn / scale, shift)


def ada_step(shown: int, total: int, images: int | None = None) -> float:
    """How far ada's p moves after a minibatch: its real pictures, as a share of those seen while p goes from 0 to 1.

    A short run would end before the paper's 500,000 of its 25 million: by default p takes a tenth of the run.

    Args:
        shown: real pictures in a minibatch, on all processes.
        total: real pictures in the whole run.
        images: seen while p goes from 0 to 1.

    >>> ada_step(64, 64_000), ada_step(64, 64_000, images=640)
    (0.01, 0.1)
    """
    return shown / (images or min(IMAGES, total / 10))


# --- DiffAugment's groups, in its order; its ranges are for [−1, 1], so offsets are halved ---------------------------


def _colour(x: Tensor) -> Tensor:
    x = x + 0.25 * _symmetric(x, 1, 1, 1)
    if x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = torch.lerp(grey, x, 1 + _symmetric(x, 1, 1, 1))
    mean = x.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, 1 + 0.5 * _symmetric(x, 1, 1, 1))


def _translation(x: Tensor) -> Tensor:
    """Whole pixels, up to an eighth of each side; uncovered pixels are grey."""
    batch, _, height, width = x.shape
    rows, cols = (
        torch.arange(side, device=x.device) - torch.randint(-reach, reach + 1, (batch, 1), device=x.device)
        for side, reach in ((s, int(s * _SHIFT + 0.5)) for s in (height, width))
    )
    return _picked(x, rows[:, :, None].expand(-1, -1, width), cols[:, None, :].expand(-1, height, -1))


def _cutout(x: Tensor) -> Tensor:
    """A rectangle of half the sides, its centre anywhere, becomes grey."""
    tall, wide = (_span(x, side) for side in x.shape[2:])
    hole = tall[:, None, :, None] & wide[:, None, None, :]
    return torch.where(hole, _GREY, x)


def _span(x: Tensor, side: int) -> Tensor:
    """(B, side): true on ⌊side / 2 + ½⌋ places round a random one, fewer where they would pass an end."""
    size = int(side / 2 + 0.5)
    first = torch.randint(side + 1 - size % 2, (len(x), 1), device=x.device) - size // 2
    place = torch.arange(side, device=x.device)
    return (place >= first) & (place < first + size)


# --- ADA's colours: spreads of its appendix B, brightness halved for [0, 1] --------------------------------------------


def _ada_brightness(x: Tensor) -> Tensor:
    return x + 0.1 * _normal(x, 1, 1, 1)


def _ada_contrast(x: Tensor) -> Tensor:
    return _GREY + (x - _GREY) * torch.exp2(0.5 * _normal(x, 1, 1, 1))


def _ada_saturation(x: Tensor) -> Tensor:
    factor = torch.exp2(_normal(x, 1, 1, 1))  # drawn for grey pictures too, though unused
    grey = x.mean(1, keepdim=True)
    return torch.lerp(grey, x, factor) if x.shape[1] == 3 else x


_CHANGES: dict[Changes, tuple[Callable[[Tensor], Tensor], ...]] = {
    "none": (),
    "diffaug": (_colour, _translation, _cutout),
    "ada": (_ada_brightness, _ada_contrast, _ada_saturation),
}


# --- moves --------------------------------------------------------------------------------------------------------------


def _symmetric(x: Tensor, *shape: int) -> Tensor:
    """U[−1, 1), (B, *shape)."""
    return 2 * torch.rand(len(x), *shape, device=x.device, dtype=x.dtype) - 1


def _normal(x: Tensor, *shape: int) -> Tensor:
    """N(0, 1), (B, *shape)."""
    return torch.randn(len(x), *shape, device=x.device, dtype=x.dtype)


def _flips(x: Tensor) -> Tensor:
    """(B, 2, 2): diag(1, ±1), either with probability ½: columns mirrored or not."""
    sign = 2 * torch.randint(2, (len(x),), device=x.device).to(x.dtype) - 1
    return torch.diag_embed(torch.stack([torch.ones_like(sign), sign], 1))


def _quarter_turns(x: Tensor) -> Tensor:
    """(B, 2, 2): a rotation by 0, 1, 2 or 3 right angles, of whole numbers."""
    angle = torch.randint(4, (len(x),), device=x.device).to(x.dtype) * (math.pi / 2)
    return _rotations(angle).round()


def _rotations(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 2, 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def _resampled(x: Tensor, blit: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
    """x at blit (turn · place + shift), places counted from the picture's centre, bilinear between pixels.

    Grid sampling of torch has no second derivative; four gathers have. Whole moves meet pixels exactly: weights 1 and 0.
    """
    height, width = x.shape[2:]
    centre = x.new_tensor([[(height - 1) / 2], [(width - 1) / 2]])
    places = torch.cartesian_prod(torch.arange(height, device=x.device), torch.arange(width, device=x.device))
    source = blit @ (turn @ (places.T.to(x.dtype) - centre) + shift) + centre  # (B, 2, H·W)
    corner = source.floor()
    below, right = (source - corner).view(-1, 2, height, width).unbind(1)
    rows, cols = corner.long().view(-1, 2, height, width).unbind(1)
    upper = torch.lerp(_picked(x, rows, cols), _picked(x, rows, cols + 1), right[:, None])
    lower = torch.lerp(_picked(x, rows + 1, cols), _picked(x, rows + 1, cols + 1), right[:, None])
    return torch.lerp(upper, lower, below[:, None])


def _picked(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """x[b, :, rows, cols], grey outside of the picture; rows, cols (B, H, W)."""
    batch, channels, height, width = x.shape
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    index = rows.clamp(0, height - 1) * width + cols.clamp(0, width - 1)
    found = x.flatten(2).gather(2, index.view(batch, 1, -1).expand(-1, channels, -1)).view_as(x)
    return torch.where(inside[:, None], found, _GREY)
