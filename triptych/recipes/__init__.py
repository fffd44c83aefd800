"""Recipes: everything that a run was asked for, as frozen dataclasses; the only place where strings become parts.

`recipe` (what all families share), then a file for each kind: its configuration, how that becomes a model and a game, and
presets. Torch is imported only when something is built. The families themselves are rows of `triptych.families`.
"""

from triptych.recipes.flow import FlowObjective, GlowModel, NICEModel, RealNVPModel, SpectralModel
from triptych.recipes.gan import DCGANModel, GANModel, GANObjective, ProgressiveModel
from triptych.recipes.recipe import RANGES, Recipe, Training, to_json
from triptych.recipes.vae import VAEModel, VAEObjective

__all__ = [
    "RANGES",
    "DCGANModel",
    "FlowObjective",
    "GANModel",
    "GANObjective",
    "GlowModel",
    "NICEModel",
    "ProgressiveModel",
    "RealNVPModel",
    "Recipe",
    "SpectralModel",
    "Training",
    "VAEModel",
    "VAEObjective",
    "to_json",
]
