"""triptych: variational autoencoders, adversarial networks and normalizing flows as one map from codes z ~ p(z) to data.

Names are loaded when first used: importing this package imports no torch and changes no global state.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych import data, edit, evaluate, progress
    from triptych.compose import EncodedGAN, SharpenedVAE
    from triptych.errors import TriptychError
    from triptych.evaluate import bits_per_dim
    from triptych.examples import read, save, show
    from triptych.flow import NICE, Flow, Glow, RealNVP, SpectralFlow
    from triptych.gan import GAN, MaxoutGAN, ProgressiveGAN
    from triptych.pretrained import load
    from triptych.training.simple import resume, train
    from triptych.vae import VAE

from triptych.version import __version__

_HOME = {
    "EncodedGAN": "triptych.compose",
    "Flow": "triptych.flow",
    "GAN": "triptych.gan",
    "Glow": "triptych.flow",
    "MaxoutGAN": "triptych.gan",
    "NICE": "triptych.flow",
    "ProgressiveGAN": "triptych.gan",
    "RealNVP": "triptych.flow",
    "SpectralFlow": "triptych.flow",
    "SharpenedVAE": "triptych.compose",
    "TriptychError": "triptych.errors",
    "VAE": "triptych.vae",
    "bits_per_dim": "triptych.evaluate",
    "load": "triptych.pretrained",
    "read": "triptych.examples",
    "resume": "triptych.training.simple",
    "save": "triptych.examples",
    "show": "triptych.examples",
    "train": "triptych.training.simple",
}
_MODULES = ("data", "edit", "evaluate", "progress")

__all__ = [
    "GAN",
    "NICE",
    "VAE",
    "EncodedGAN",
    "Flow",
    "Glow",
    "MaxoutGAN",
    "ProgressiveGAN",
    "RealNVP",
    "SharpenedVAE",
    "SpectralFlow",
    "TriptychError",
    "__version__",
    "bits_per_dim",
    "data",
    "edit",
    "evaluate",
    "load",
    "progress",
    "read",
    "resume",
    "save",
    "show",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"triptych.{name}")
    if name in _HOME:
        from triptych.checking import checked

        found = getattr(importlib.import_module(_HOME[name]), name)
        if not isinstance(found, type) and not hasattr(found, "__wrapped__"):
            found = checked(found, name, fit=name in ("read", "save", "show"))
        globals()[name] = found
        return found
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
