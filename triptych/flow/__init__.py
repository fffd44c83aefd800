"""Normalizing flows: NICE, RealNVP and Glow, and the layers they are made of.

A reader goes glow.py → steps.py → layers/; every layer is a `Bijection`: forward gives z and log |det|, inverse gives x.
"""

from triptych.flow.bijection import Bijection, Chain
from triptych.flow.conditioners import MLP, Conditioner, ConvNet
from triptych.flow.flow import Flow
from triptych.flow.glow import Glow
from triptych.flow.layers.actnorm import ActNorm
from triptych.flow.layers.batchnorm import BatchNorm
from triptych.flow.layers.coupling import Additive, Affine, CheckerboardCoupling, Coupling, TanhAffine
from triptych.flow.layers.dequantise import VariationalDequantisation
from triptych.flow.layers.mixing import Invertible1x1, InvertibleLU, Permutation
from triptych.flow.layers.pointwise import LogisticToNormal, Logit, Scale
from triptych.flow.layers.split import Split
from triptych.flow.layers.squeeze import Flatten, Squeeze
from triptych.flow.multiscale import MultiScale
from triptych.flow.nice import NICE
from triptych.flow.realnvp import RealNVP
from triptych.flow.resnet import ResNet
from triptych.flow.steps import FlowStep, FlowSteps

__all__ = [
    "MLP",
    "NICE",
    "ActNorm",
    "Additive",
    "Affine",
    "BatchNorm",
    "Bijection",
    "Chain",
    "CheckerboardCoupling",
    "Conditioner",
    "ConvNet",
    "Coupling",
    "Flatten",
    "Flow",
    "FlowStep",
    "FlowSteps",
    "Glow",
    "Invertible1x1",
    "InvertibleLU",
    "LogisticToNormal",
    "Logit",
    "MultiScale",
    "Permutation",
    "RealNVP",
    "ResNet",
    "Scale",
    "Split",
    "Squeeze",
    "TanhAffine",
    "VariationalDequantisation",
]
