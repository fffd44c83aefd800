"""Edits in the latent space, one implementation for every family, since z ~ N(0, I) for all.

`learn_directions` finds them from labels or without, `apply` sets calibrated coordinates, `sweep` goes through values,
`interpolate` walks from one datum to another.
"""

from triptych.edit.directions import Direction, Directions
from triptych.edit.judging import judge
from triptych.edit.learning import learn_directions, unsupervised_directions
from triptych.edit.moving import apply, interpolate, move, sweep

__all__ = [
    "Direction",
    "Directions",
    "apply",
    "interpolate",
    "judge",
    "learn_directions",
    "move",
    "sweep",
    "unsupervised_directions",
]
