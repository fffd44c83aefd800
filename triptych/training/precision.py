"""Which precision a run's networks compute in, where its recipe leaves that to the machine."""

from __future__ import annotations

import dataclasses
import platform
from typing import Literal

import torch

from triptych.recipes import Recipe


def settled(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe with its precision decided: "auto" becomes bf16 where the device multiplies in it fast, else float32.

    A run keeps what was decided in its recipe.json, so that it goes on in the same precision on any machine.

    >>> from triptych.families import preset
    >>> settled(preset("vae"), torch.device("meta")).training.precision
    'float32'
    """
    if recipe.training.precision != "auto":
        return recipe
    precision: Literal["bf16", "float32"] = "bf16" if has_fast_bf16(device) else "float32"
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, precision=precision))


def slow_bf16(recipe: Recipe, device: torch.device) -> str:
    """What a person should know who asked for bf16 on a processor without instructions for it; or ""."""
    if recipe.training.precision != "bf16" or device.type != "cpu" or has_fast_bf16(device):
        return ""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ""
    return "this processor emulates bf16, which takes several times as long as float32: --training.precision float32"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster than in float32: by a processor's own instructions (AVX512-BF16, or AMX, which
    comes with them), or a GPU's units.

    A processor without them emulates bfloat16, which is slower than float32; an older GPU too.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
