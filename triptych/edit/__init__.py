"""Edits in the latent space, one implementation for every family, since all move in codes z.

`learn_directions` finds them from labels or without, `apply` sets calibrated coordinates, `sweep` goes through values,
`change_context` changes what a conditional model was given,
`interpolate` walks from one example to another, `manifold` spans a surface through four, `inpaint` fills in what is hidden.
`optimise` moves z to where any score is highest, `fit_perturbation` learns the move that each person's profile calls for.
`find_faces`, `choose` and `align` take a face from a photograph as the training set has them, `paste_back` returns its edit.
Edits need an encoder; for a model without one `invert` finds z, and `Inverting` makes all of them work.
"""

from triptych.checking import guard
from triptych.edit.alignment import Alignment, known_alignment, measure_alignment
from triptych.edit.axes import axes, class_names
from triptych.edit.choosing import Chosen, choose
from triptych.edit.depth import AtDepth, at_depth, learn_at_depths, straightest, straightness
from triptych.edit.directions import Direction, Directions
from triptych.edit.finding import Face, find_faces
from triptych.edit.inpainting import MASKS, inpaint, mask
from triptych.edit.inversion import Inverting, invert, learn_encoder, psnr
from triptych.edit.judging import judge
from triptych.edit.learning import learn_directions
from triptych.edit.moving import apply, change_context, interpolate, manifold, move, sweep
from triptych.edit.optimising import Optimised, optimise
from triptych.edit.perturbation import Perturbation, fit_perturbation
from triptych.edit.photographs import Photograph, read_photograph
from triptych.edit.piles import learn_from_piles
from triptych.edit.placing import Placed, align, centred, paste_back, place
from triptych.edit.reading import Reader, learn_reader
from triptych.edit.unsupervised import unsupervised_directions
from triptych.edit.words import Words
from triptych.edit.worth import far_out, refuse_worthless

__all__ = [
    "MASKS",
    "Alignment",
    "AtDepth",
    "Chosen",
    "Direction",
    "Directions",
    "Face",
    "Inverting",
    "Optimised",
    "Perturbation",
    "Photograph",
    "Placed",
    "Reader",
    "Words",
    "align",
    "apply",
    "at_depth",
    "axes",
    "centred",
    "change_context",
    "choose",
    "class_names",
    "far_out",
    "find_faces",
    "fit_perturbation",
    "inpaint",
    "interpolate",
    "invert",
    "judge",
    "known_alignment",
    "learn_at_depths",
    "learn_directions",
    "learn_encoder",
    "learn_from_piles",
    "learn_reader",
    "manifold",
    "mask",
    "measure_alignment",
    "move",
    "optimise",
    "paste_back",
    "place",
    "psnr",
    "read_photograph",
    "refuse_worthless",
    "straightest",
    "straightness",
    "sweep",
    "unsupervised_directions",
]

guard(__name__, unknown=("inpaint",))
