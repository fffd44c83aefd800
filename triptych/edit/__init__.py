"""Edits in the latent space, one implementation for every family, since z ~ N(0, I) for all.

`learn_directions` finds them from labels or without, `apply` sets calibrated coordinates, `sweep` goes through values,
`interpolate` walks from one datum to another, `manifold` spans a surface through four, `inpaint` fills in what is hidden.
They want an encoder; for a model without one `invert` finds z, and `Inverting` makes all of them work.
"""

from triptych.edit.directions import Direction, Directions
from triptych.edit.inpainting import MASKS, inpaint, mask
from triptych.edit.inversion import Inverting, invert, learn_encoder, psnr
from triptych.edit.judging import judge
from triptych.edit.learning import learn_directions, unsupervised_directions
from triptych.edit.moving import apply, interpolate, manifold, move, sweep

__all__ = [
    "MASKS",
    "Direction",
    "Directions",
    "Inverting",
    "apply",
    "inpaint",
    "interpolate",
    "invert",
    "judge",
    "learn_directions",
    "learn_encoder",
    "manifold",
    "mask",
    "move",
    "psnr",
    "sweep",
    "unsupervised_directions",
]
