"""Normalizing flows: `Flow`, which makes a model of any bijection, and the published NICE, RealNVP and Glow; SpectralFlow.

To follow Glow down, read glow.py, then triptych/bijections/steps.py and what that imports.
"""

from triptych.checking import guard
from triptych.flow.flow import Flow
from triptych.flow.glow import Glow
from triptych.flow.nice import NICE
from triptych.flow.realnvp import RealNVP
from triptych.flow.spectral import SpectralFlow
from triptych.flow.watch import flow_health, most_extreme

__all__ = ["NICE", "Flow", "Glow", "RealNVP", "SpectralFlow", "flow_health", "most_extreme"]

guard(__name__)
