"""Recipes: everything a run was asked for, as frozen dataclasses; named presets; and `build`, recipe -> model.

The sentence under a field is also its `--help` text. Torch is not imported until something is built.
"""

from triptych.recipes.building import blank, build, first_batch
from triptych.recipes.models import (
    DCGANModel,
    FlowObjective,
    GANModel,
    GANObjective,
    GlowModel,
    NICEModel,
    ProgressiveModel,
    RealNVPModel,
    VAEModel,
    VAEObjective,
)
from triptych.recipes.presets import PRESETS, preset
from triptych.recipes.recipe import FAMILIES, RANGES, Recipe, Training, from_json, to_json

__all__ = [
    "FAMILIES",
    "PRESETS",
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
    "Training",
    "VAEModel",
    "VAEObjective",
    "blank",
    "build",
    "first_batch",
    "from_json",
    "preset",
    "to_json",
]
