"""A portrait in flat colours, drawn from eleven numbers with antialiased shapes.

Read it as a painter works: background, hair behind, clothes, neck, ears, head, marks of age, beard, features, hair in
front, glasses, earrings, and light over all. Shapes and coordinates are those of `shapes`: x to the right and y down
over a square of side 1.76, so that a pixel of a 32 × 32 picture is 0.055 wide; one attribute of all pictures is
(B, 1, 1). Attributes act through polynomials and square roots, so a picture changes smoothly with each of them.
"""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace

import torch
from torch import Tensor

from triptych.data.shapes import Canvas, arc, band, blob, disc, dot, egg, ellipse, fill, glow, power, ring, turned

RGB = tuple[float, float, float]

SKIN: tuple[RGB, RGB, RGB] = ((1.00, 0.85, 0.74), (0.82, 0.58, 0.43), (0.45, 0.28, 0.21))
HAIR: tuple[RGB, RGB, RGB] = ((0.12, 0.09, 0.11), (0.47, 0.18, 0.10), (0.95, 0.76, 0.38))
BACKGROUND: tuple[RGB, RGB, RGB] = ((0.30, 0.49, 0.64), (0.72, 0.73, 0.66), (0.90, 0.66, 0.43))
GREY: RGB = (0.78, 0.82, 0.83)
CLOTHES, COLLAR = (0.56, 0.22, 0.27), (0.97, 0.92, 0.84)
BLUSH, LIPS, MOUTH, TEETH = (0.93, 0.33, 0.30), (0.80, 0.23, 0.27), (0.30, 0.07, 0.10), (1.0, 0.98, 0.94)
EYE_WHITE, IRIS, INK = (1.0, 0.99, 0.96), (0.27, 0.42, 0.40), (0.13, 0.09, 0.10)
FRAME, LENS, WHITE = (0.16, 0.15, 0.25), (0.86, 0.95, 1.0), (1.0, 1.0, 1.0)
JADE, GOLD = (0.0, 0.62, 0.50), (0.98, 0.80, 0.30)
WARM: RGB = (0.24, 0.21, 0.15)  # how far light from one side raises red, green and blue there

VIEW = 0.88  # half the side of the picture
HEAD_Y, HEAD_RX, HEAD_TOP, HEAD_CHIN = -0.06, 0.47, 0.60, 0.58
STRANDS = (0.30, 0.38, 0.45)
EYE_X, EYE_Y, MOUTH_Y = 0.19, -0.06, 0.265


class Look(SimpleNamespace):
    """The attributes of B pictures by name, each (B, 1, 1), and what several parts of the drawing derive from them."""

    @cached_property
    def joy(self) -> Tensor:
        """A smooth max(0, smile), for what only a smile does (teeth, creases); it rises in a frown as well."""
        return (self.smile + (self.smile * self.smile + 0.25).sqrt()) / 2

    @cached_property
    def volume(self) -> Tensor:
        """How far the hair stands off the head."""
        return 0.13 * self.hair_length * (2 - self.hair_length)

    @cached_property
    def skin(self) -> Tensor:
        """The colour of the skin (B, 3, 1, 1)."""
        return ramp(SKIN, self.skin_tone)

    @cached_property
    def shade(self) -> Tensor:
        """Skin in shadow, and lines on it: darker and redder."""
        return self.skin * tint((0.74, 0.60, 0.58), self.skin)

    @cached_property
    def backdrop(self) -> Tensor:
        """The colour of the background (B, 3, 1, 1)."""
        return ramp(BACKGROUND, self.background)

    @cached_property
    def hair(self) -> Tensor:
        """Age takes hair half-way to grey, so its colour still shows."""
        colour = ramp(HAIR, self.hair_colour)
        return colour + (tint(GREY, colour) - colour) * (self.age * 0.55)[:, None]

    def place(self, x: float, depth: float) -> tuple[Tensor, Tensor]:
        """Where the turned head carries a point (x, depth), and how much narrower it looks there: both (B, 1, 1)."""
        sine = self.head_turn * 0.27
        cosine = (1 - sine * sine).sqrt()
        return x * cosine + depth * sine, cosine - sine * (x / depth)


def tint(colour: RGB, like: Tensor) -> Tensor:
    """A colour as (3, 1, 1), of the dtype and on the device of another tensor."""
    return like.new_tensor(colour)[:, None, None]


def ramp(stops: tuple[RGB, RGB, RGB], t: Tensor) -> Tensor:
    """The parabola through three colours at t = 0, 1/2 and 1: (B, 1, 1) to (B, 3, 1, 1)."""
    low, middle, high = (tint(stop, t) for stop in stops)
    t = t[:, None]
    return low + t * ((4 * middle - 3 * low - high) + t * (2 * (low + high - 2 * middle)))


def portrait(look: Look, size: int) -> Tensor:
    """Paint uint8 (B, 3, size, size) on the look's device; the smallest are averages of finer ones."""
    fine = size < 32
    canvas = backdrop(look, 2 * size if fine else size)
    below = (hair_behind, clothes, ears, head, age_lines, beard, mouth, nose, eyes)
    for layer in (*below, hair_in_front, glasses, earrings, illuminate):
        layer(canvas, look)
    pixels = canvas.pixels.clamp_(0, 1)
    if fine:  # written out, because the order in which a pooling kernel adds may depend on the batch
        rows = pixels[..., 0::2, :] + pixels[..., 1::2, :]
        pixels = (rows[..., 0::2] + rows[..., 1::2]) * 0.25
    return pixels.mul_(255).add_(0.5).to(torch.uint8)


def backdrop(look: Look, size: int) -> Canvas:
    """The background colour everywhere, and a paler disc behind the head."""
    pitch = 2 * VIEW / size
    steps = torch.arange(size, device=look.smile.device, dtype=look.smile.dtype) * pitch
    left, top = pitch / 2 - VIEW, pitch / 2 - VIEW - 0.02
    pixels = look.backdrop.expand(-1, -1, size, size).clone()
    canvas = Canvas(pixels, (steps + left)[None, None, :], (steps + top)[None, :, None], pitch, left, top)
    canvas.paint(disc(canvas, 0.0, -0.05, 0.80, 0.80), look.backdrop + (1 - look.backdrop) * 0.30)
    return canvas


def half(canvas: Canvas, side: int, near: float, top: float, far: float, bottom: float) -> Canvas:
    """The window [near, far] × [top, bottom] on the right (side 1), or its mirror image on the left (side −1)."""
    return canvas.window(min(side * near, side * far), top, max(side * near, side * far), bottom)


def hair_outline(canvas: Canvas, look: Look) -> Tensor:
    """Signed distance to the hair as a whole: round above, and falling as far as it is long."""
    across = power(canvas.x - 0.03 * look.head_turn, HEAD_RX + look.volume)
    down = egg(canvas.y - HEAD_Y, HEAD_TOP + look.volume, 0.12 + 0.98 * look.hair_length, 4)
    return blob(canvas, across, down)


def hair_behind(canvas: Canvas, look: Look) -> None:
    """Inside the hair in front, and more so where it is long: two coverages of one edge would darken it."""
    inset = look.hair_length * (0.05 / canvas.pitch)
    canvas.paint(fill(hair_outline(canvas, look) - inset), look.hair * 0.66)


def clothes(canvas: Canvas, look: Look) -> None:
    """Neck, its shadow, a jumper and a collar."""
    part = canvas.window(-1, 0.3, 1, 1)
    half = (0.2 + 0.25 * (part.y - 0.4).clamp(min=0)).transpose(1, 2)
    neck = band(turned(part), -half, half).transpose(1, 2)
    part.paint(neck, look.skin)
    shadow = disc(part, 0.04 * look.head_turn - 0.05 * look.light, 0.22, 0.40, 0.42)
    part.paint(neck * shadow, look.shade)
    cloth = fill(blob(part, power(part.x, 0.86), egg(part.y - 1.05, 0.42, 1.0)))
    part.paint(cloth * (1 - disc(part, 0.0, 0.58, 0.31, 0.255)), tint(CLOTHES, look.smile))
    collar = disc(part, 0.0, 0.58, 0.34, 0.28) * (1 - disc(part, 0.0, 0.58, 0.27, 0.22))
    part.paint(cloth * collar, tint(COLLAR, look.smile))


def ear_place(look: Look, side: int) -> Tensor:
    """The ears lie behind the axis of the head: a turn shows one and hides the other."""
    return side * 0.465 - 0.055 * look.head_turn


def ears(canvas: Canvas, look: Look) -> None:
    """Each with its shaded inside."""
    for side in (-1, 1):
        part = half(canvas, side, 0.3, -0.2, 0.68, 0.26)
        x = ear_place(look, side)
        part.paint(disc(part, x, 0.02, 0.085, 0.135), look.skin)
        part.paint(disc(part, x + side * 0.01, 0.02, 0.045, 0.085), look.shade)


def head(canvas: Canvas, look: Look) -> None:
    """Skin, the shadow on the side away from the light, and cheeks that a smile lifts and reddens."""
    part = canvas.window(-0.54, -0.7, 0.54, 0.64)
    across = power(part.x - 0.02 * look.head_turn, HEAD_RX + 0.008 * look.smile)
    inside = fill(blob(part, across, egg(part.y - HEAD_Y, HEAD_TOP, HEAD_CHIN + 0.012 * look.joy)))
    part.paint(inside, look.skin)
    x, _ = look.place(0.0, 0.5)
    lit = glow(part, 0.3 * x + 0.24 * look.light, -0.10, 0.86, 1.05)
    part.paint(inside * (1 - lit) * 0.8, look.shade)
    blush = (0.34 + 0.14 * look.smile).clamp(min=0)
    for side in (-1, 1):
        x, narrow = look.place(side * 0.27, 0.42)
        spot = glow(part, x, 0.15 - 0.045 * look.smile, 0.17 * narrow, 0.12 + 0.01 * look.smile)
        part.paint(inside * spot * blush, tint(BLUSH, spot) * (0.45 + 0.55 * look.skin))


def age_lines(canvas: Canvas, look: Look) -> None:
    """Forehead, crow's feet, bags under the eyes; and the creases beside the mouth, which a smile deepens too."""
    forehead, (x, _) = canvas.window(-0.4, -0.54, 0.4, -0.26), look.place(0.0, 0.5)
    for row, width in ((-0.50, 0.20), (-0.425, 0.25), (-0.35, 0.22)):
        u = (forehead.x - x) / width
        forehead.paint(arc(forehead, u, row + 0.02 * u * u, 0.042) * (0.75 * look.age), look.shade * 0.85)
    for side in (-1, 1):
        around_eye(half(canvas, side, -0.1, -0.2, 0.54, 0.18), look, side)
        crease(half(canvas, side, -0.14, 0.0, 0.54, 0.42), look, side)


def around_eye(part: Canvas, look: Look, side: int) -> None:
    """The bag under an eye, and the crow's feet beside it."""
    x, narrow = look.place(side * EYE_X, 0.46)
    u = (part.x - x) / (0.13 * narrow)
    bag = arc(part, u, EYE_Y + 0.125 - 0.02 * look.smile - 0.035 * u * u, 0.040)
    part.paint(bag * (0.7 * look.age + 0.22 * look.joy).clamp(max=1), look.shade * 0.9)
    x, narrow = look.place(side * 0.35, 0.32)
    u = (part.x - x) / (0.075 * narrow)
    for slope in (-0.045, 0.045):
        part.paint(arc(part, u, EYE_Y + 0.01 + slope * (1 + side * u), 0.034) * (0.55 * look.age), look.shade * 0.85)


def crease(part: Canvas, look: Look, side: int) -> None:
    """The crease from the nose to the corner of the mouth."""
    x, narrow = look.place(side * (0.155), 0.45)
    sideways = turned(part)
    u = (sideways.x - 0.20 + 0.02 * look.smile) / 0.15
    path = x + side * narrow * (0.035 + (0.045 + 0.02 * look.smile) * u - 0.02 * u * u + 0.025 * look.smile)
    deep = (0.55 * look.age + 0.40 * look.joy).clamp(max=1)
    sideways.paint(arc(sideways, u, path, 0.034) * deep, look.shade * 0.9)


def beard(canvas: Canvas, look: Look) -> None:
    """A jaw of hair that thickens and lengthens, and a moustache; the mouth is painted over it."""
    part = canvas.window(-0.56, -0.1, 0.56, 0.9)
    x, _ = look.place(0.0, 0.5)
    amount = look.beard * (2 - look.beard)
    across = power(part.x - 0.02 * look.head_turn, HEAD_RX - 0.005 + 0.03 * look.beard)
    jaw = fill(blob(part, across, egg(part.y - 0.03, 0.16, 0.47 + 0.32 * look.beard)))
    face = fill(blob(part, power(part.x - x, 0.36), egg(part.y - 0.06, 0.4, 0.21 + 0.01 * look.smile, 4)))
    u = (part.x - x) / (0.20 + 0.02 * look.smile)
    moustache = arc(part, u, MOUTH_Y - 0.085 + (0.075 - 0.06 * look.smile) * u * u, 0.095)
    colour = look.hair * tint((0.74, 0.64, 0.60), look.hair)
    part.paint(jaw * (1 - face) * amount, colour)
    part.paint(moustache * amount, colour)


def mouth(canvas: Canvas, look: Look) -> None:
    """Lips along a parabola whose ends a smile lifts; joy opens them over teeth."""
    part = canvas.window(-0.42, 0.08, 0.46, 0.58)
    x, narrow = look.place(0.0, 0.5)
    u = (part.x - x) / ((0.190 + 0.020 * look.smile) * narrow)
    taper = 1 - u * u
    upper = MOUTH_Y + 0.080 * look.smile * (0.36 - u * u)
    opening = (0.012 + 0.070 * look.joy) * taper
    lower = upper + opening
    part.paint(band(part, upper - 0.042 * taper, lower + 0.056 * taper), look.skin * 0.2 + tint(LIPS, u) * 0.8)
    part.paint(band(part, upper, lower), tint(MOUTH, u))
    part.paint(band(part, upper + 0.06 * opening, upper + 0.62 * opening), tint(TEETH, u))


def nose(canvas: Canvas, look: Look) -> None:
    """A soft bridge on the side away from the light, and the shadow under the tip."""
    part = canvas.window(-0.3, -0.12, 0.36, 0.22)
    x, narrow = look.place(0.0, 0.58)
    ridge = glow(part, x - 0.05 * look.light, 0.03, 0.055, 0.15)
    part.paint(ridge * (0.25 + 0.35 * look.light * look.light), look.shade)
    u = (part.x - x) / (0.085 * narrow)
    part.paint(arc(part, u, 0.135 - 0.03 * u * u, 0.05) * 0.85, look.shade * 0.88)


def eyes(canvas: Canvas, look: Look) -> None:
    """Both eyes with their brows."""
    for side in (-1, 1):
        eye(half(canvas, side, -0.08, -0.2, 0.48, 0.06), look, side)
        brow(half(canvas, side, -0.14, -0.42, 0.52, -0.1), look, side)


def eye(part: Canvas, look: Look, side: int) -> None:
    """A smile narrows it, mostly from below; the highlight sits towards the light."""
    x, narrow = look.place(side * EYE_X, 0.46)
    u = (part.x - x) / (0.115 * narrow)
    taper = 1 - u * u
    top = EYE_Y - (0.082 - 0.008 * look.smile) * taper
    bottom = EYE_Y + (0.052 - 0.020 * look.smile) * taper
    white = band(part, top, bottom)
    part.paint(white, tint(EYE_WHITE, u))
    gaze, level = x + 0.012 * look.head_turn, EYE_Y - 0.015
    part.paint(white * disc(part, gaze, level, 0.066, 0.068), tint(IRIS, u))
    part.paint(white * dot(part, gaze, level, 0.036, 0.038), tint(INK, u))
    part.paint(white * dot(part, gaze + 0.024 * look.light, level - 0.026, 0.024, 0.024), tint(WHITE, u))
    part.paint(band(part, top - 0.028 * taper, top + 0.008 * taper), tint(INK, u))


def brow(part: Canvas, look: Look, side: int) -> None:
    """An arc that a smile raises."""
    x, narrow = look.place(side * 0.20, 0.46)
    u = (part.x - x) / (0.145 * narrow)
    middle = -0.262 - 0.018 * look.smile + (0.012 - 0.014 * look.smile) * side * u + 0.045 * u * u
    part.paint(arc(part, u, middle, 0.072), look.hair * 0.72)


def hair_in_front(canvas: Canvas, look: Look) -> None:
    """The outline of the hair without the arch that frees the face; its shadow on the forehead, and a gloss."""
    upper = canvas.window(-0.6, -0.8, 0.6, 0.1)
    fading = ((0.1 - upper.y) * 1.5).clamp(0, 0.6)
    upper.paint(fill(hair_outline(upper, look)) * (1 - parting(upper, look, 0.06)) * fading, look.shade)
    hair = fill(hair_outline(canvas, look)) * (1 - parting(canvas, look, 0.0))
    canvas.paint(hair, look.hair)
    canvas.paint(hair * strands(canvas, look), look.hair * 0.74)
    gloss = glow(canvas, 0.22 * look.light, -0.58, 0.46, 0.18)
    canvas.paint(hair * gloss * 0.42, look.hair + (1 - look.hair) * 0.45)


def strands(canvas: Canvas, look: Look) -> Tensor:
    """Lines that part at the crown and fall inside the outline."""
    x, _ = look.place(-0.03, 0.2)
    down = egg(canvas.y - HEAD_Y, HEAD_TOP - 0.03 + look.volume, 1.6)
    lines = [ring(blob(canvas, power(canvas.x - x, wide + look.volume), down), 0.010 / canvas.pitch) for wide in STRANDS]
    return torch.stack(lines).amax(0) * 0.6


def parting(canvas: Canvas, look: Look, drop: float) -> Tensor:
    """Two arches that cross where the hair is parted; on a bald head they are one, as large as the head."""
    bare = 1 - look.hair_length
    cover = 1 - bare * bare * bare
    x, _ = look.place(0.0, 0.36)
    down = egg(canvas.y - (0.02 + drop * cover), 0.78 - 0.25 * cover, 100.0)
    left = fill(blob(canvas, power(canvas.x - x + 0.20 * cover, 0.54 + 0.05 * cover), down))
    right = fill(blob(canvas, power(canvas.x - x - 0.14 * cover, 0.54 + 0.02 * cover), down))
    return left.mul_(right)


def glasses(canvas: Canvas, look: Look) -> None:
    """Square frames with a bridge and bluish lenses; values between 0 and 1 are translucent."""
    part = canvas.window(-0.56, -0.26, 0.56, 0.16)
    frame = tint(FRAME, look.smile)
    for side in (-1, 1):
        x, narrow = look.place(side * EYE_X, 0.48)
        lens = ellipse(part, x, EYE_Y, 0.165 * narrow, 0.15, 4)
        part.paint(fill(lens.clone()) * (0.14 * look.glasses), tint(LENS, lens))
        part.paint(ring(lens, 0.020 / part.pitch) * look.glasses, frame)
    x, _ = look.place(0.0, 0.52)
    u = (part.x - x) / 0.07
    part.paint(arc(part, u, EYE_Y - 0.05 + 0.03 * u * u, 0.05) * look.glasses, frame)


def earrings(canvas: Canvas, look: Look) -> None:
    """Drops of jade under a golden bead, over everything, so that long hair does not hide them."""
    for side in (-1, 1):
        part = half(canvas, side, 0.3, 0.1, 0.66, 0.46)
        x = ear_place(look, side) + side * 0.015
        part.paint(dot(part, x, 0.17, 0.04, 0.04) * look.earrings, tint(GOLD, x))
        part.paint(disc(part, x, 0.285, 0.068, 0.09) * look.earrings, tint(JADE, x))
        part.paint(dot(part, x + 0.02 * look.light, 0.26, 0.022, 0.03) * look.earrings, tint(WHITE, x))


def illuminate(canvas: Canvas, look: Look) -> None:
    """Light from one side: warmer and brighter there, darker on the other."""
    across = canvas.x / (0.25 + canvas.x * canvas.x).sqrt()
    canvas.pixels.mul_(1 + (look.light * across)[:, None] * tint(WARM, across))
