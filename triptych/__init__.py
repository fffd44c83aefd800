"""triptych: variational autoencoders, adversarial networks and normalizing flows as one map from z ~ N(0, I) to data.

Names are loaded when first used: importing this package imports no torch and changes no global state.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych import data, edit, evaluate
    from triptych.checkpoint import load
    from triptych.codec import bits_per_dim
    from triptych.errors import TriptychError
    from triptych.flow import NICE, Glow, RealNVP
    from triptych.gan import GAN, ProgressiveGAN
    from triptych.vae import VAE

__version__ = "0.1.0"

_HOME = {
    "GAN": "triptych.gan",
    "Glow": "triptych.flow",
    "NICE": "triptych.flow",
    "ProgressiveGAN": "triptych.gan",
    "RealNVP": "triptych.flow",
    "TriptychError": "triptych.errors",
    "VAE": "triptych.vae",
    "bits_per_dim": "triptych.codec",
    "load": "triptych.checkpoint",
}
_MODULES = ("data", "edit", "evaluate")

__all__ = [
    "GAN",
    "NICE",
    "VAE",
    "Glow",
    "ProgressiveGAN",
    "RealNVP",
    "TriptychError",
    "__version__",
    "bits_per_dim",
    "data",
    "edit",
    "evaluate",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"triptych.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
