"""Antialiased flat shapes: signed distances, their coverage of pixels, and a canvas to paint on.

Shapes: B pictures, h rows, w columns (of a window), S the side of the picture in pixels. Coordinates run over [-1, 1],
x to the right and y downwards; columns are (1, 1, w), rows (1, h, 1), a parameter of each picture is (B, 1, 1), a
distance or a coverage (B, h, w), a colour (3, 1, 1) or (B, 3, 1, 1), and the paint (B, 3, h, w).

Per pixel there are only additions, products, quotients, square roots and comparisons. IEEE 754 rounds each of them
correctly, so vector units, their scalar tails, any batch size and any number of threads give the same bits; an
exponential or a fused `lerp` would not.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Number = Tensor | float


class Canvas(NamedTuple):
    """A rectangle of the pictures, and where its pixels lie."""

    pixels: Tensor  # (B, 3, h, w) in [0, 1], changed in place
    x: Tensor  # (1, 1, w) centres of the columns
    y: Tensor  # (1, h, 1) centres of the rows
    pitch: float  # side of a pixel
    left: float  # centre of the first column
    top: float  # centre of the first row

    def window(self, left: float, top: float, right: float, bottom: float) -> Canvas:
        """The part of the canvas that holds a rectangle; it shares the pixels; drawing only there is quick."""
        across, down = _span(left, right, self.left, self.pitch), _span(top, bottom, self.top, self.pitch)
        corner = self.left + across.start * self.pitch, self.top + down.start * self.pitch
        return Canvas(self.pixels[:, :, down, across], self.x[..., across], self.y[:, down], self.pitch, *corner)

    def paint(self, coverage: Tensor, colour: Tensor) -> None:
        """pixels ← pixels + coverage · (colour − pixels)."""
        change = colour - self.pixels
        change *= coverage[:, None]
        self.pixels.add_(change)


def _span(low: float, high: float, first: float, pitch: float) -> slice:
    """The pixels that [low, high] may touch, when the first pixel is centred on `first`."""
    return slice(max(0, int((low - first) / pitch - 0.5)), max(0, int((high - first) / pitch + 1.5)))


def blob(canvas: Canvas, across: tuple[Tensor, Tensor], down: tuple[Tensor, Tensor]) -> Tensor:
    """Signed distance, in pixels and positive inside, to the curve a(x) + b(y) = 1.

    It is f/|∇f| to first order, with f = 1 − a − b: exact enough within a pixel of the edge, where coverage needs it.
    Each argument is a term and its derivative, so only the sums and the quotient touch all h × w pixels.
    """
    (a, da), (b, db) = across, down
    inside = (1 - b) - a
    slope = (da * da + 1e-12) * canvas.pitch**2 + db * db * canvas.pitch**2
    return inside.div_(slope.sqrt_())


def power(offset: Tensor, radius: Number, degree: int = 2) -> tuple[Tensor, Tensor]:
    """The term (offset / radius)^degree of a superellipse (2: ellipse, 4: rounded box) and its derivative."""
    t = offset / radius
    t1 = t if degree == 2 else t * t * t
    return t1 * t, t1 * (degree / radius)


def egg(offset: Tensor, before: Number, after: Number, degree: int = 2) -> tuple[Tensor, Tensor]:
    """A term with one radius below zero (quadratic) and another, with its own degree, above it."""
    near, far = power(offset.clamp(max=0), before), power(offset.clamp(min=0), after, degree)
    return near[0] + far[0], near[1] + far[1]


def ellipse(canvas: Canvas, x: Number, y: Number, rx: Number, ry: Number, degree: int = 2) -> Tensor:
    """Signed distance (B, h, w), in pixels, to a superellipse centred on (x, y)."""
    return blob(canvas, power(canvas.x - x, rx, degree), power(canvas.y - y, ry, degree))


def fill(distance: Tensor) -> Tensor:
    """Coverage of a half plane by a pixel `distance` pixels inside it: a ramp one pixel wide. Changes its argument."""
    return distance.add_(0.5).clamp_(0, 1)


def ring(distance: Tensor, half_width: float) -> Tensor:
    """Coverage of the line of `half_width` pixels on each side of an edge; a line thinner than a pixel fades."""
    return (distance + (half_width + 0.5)).clamp_(0, 1) - (distance - (half_width - 0.5)).clamp_(0, 1)


def disc(canvas: Canvas, x: Number, y: Number, rx: Number, ry: Number, degree: int = 2) -> Tensor:
    """Coverage (B, h, w) of a filled superellipse."""
    return fill(ellipse(canvas, x, y, rx, ry, degree))


def dot(canvas: Canvas, x: Number, y: Number, rx: float, ry: float) -> Tensor:
    """A disc about as small as a pixel, faded so that it keeps its area.

    The ramp of `fill` integrates to π(ρ² + 1/12) for a disc of radius ρ pixels (ρ > 1/2), which is too much.
    """
    area = rx * ry / canvas.pitch**2
    return disc(canvas, x, y, rx, ry) * (area / (area + 1 / 12))


def glow(canvas: Canvas, x: Number, y: Number, rx: Number, ry: Number) -> Tensor:
    """A soft spot max(0, 1 − r²)² (B, h, w)."""
    across, down = (canvas.x - x) / rx, (canvas.y - y) / ry
    spot = ((1 - across * across) - down * down).clamp_(min=0)
    return spot.mul_(spot)


def band(canvas: Canvas, top: Tensor, bottom: Tensor) -> Tensor:
    """Coverage (B, h, w) between two curves y = top(x) and y = bottom(x), each (B, 1, w); nothing where they cross.

    The average over a pixel's height, so that a line thinner than a pixel fades and does not break.
    """
    y = canvas.y / canvas.pitch + 0.5
    upper = (y - top / canvas.pitch).clamp_(0, 1)
    return upper.sub_((y - bottom / canvas.pitch).clamp_(0, 1)).clamp_(min=0)


def arc(canvas: Canvas, u: Tensor, middle: Tensor, thickness: Number) -> Tensor:
    """Coverage of a stroke along y = middle(x), tapering as 1 − u² to its ends at u = ±1."""
    half = (1 - u * u) * (thickness / 2)
    return band(canvas, middle - half, middle + half)


def turned(canvas: Canvas) -> Canvas:
    """The canvas with x and y exchanged, to draw strokes that run downwards with `arc`; it shares the pixels."""
    x, y = canvas.y.transpose(1, 2), canvas.x.transpose(1, 2)
    return Canvas(canvas.pixels.transpose(2, 3), x, y, canvas.pitch, canvas.top, canvas.left)
