"""Edits in the latent space, one implementation for every family, since z ~ N(0, I) for all.

`learn_directions` finds them from labels or without, `apply` sets calibrated coordinates, `sweep` goes through values,
`interpolate` walks from one datum to another, `manifold` spans a surface through four, `inpaint` fills in what is hidden.
"""

from triptych.edit.directions import Direction, Directions
from triptych.edit.inpainting import MASKS, inpaint, mask
from triptych.edit.judging import judge
from triptych.edit.learning import learn_directions, unsupervised_directions
from triptych.edit.moving import apply, interpolate, manifold, move, sweep

__all__ = [
    "MASKS",
    "Direction",
    "Directions",
    "apply",
    "inpaint",
    "interpolate",
    "judge",
    "learn_directions",
    "manifold",
    "mask",
    "move",
    "sweep",
    "unsupervised_directions",
]
