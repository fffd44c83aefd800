"""Bijections, their conditioners and transforms: what flows are made of, for any family to use.

Each `Bijection` has forward(x, context) -> (z, ladj) and inverse(z, context) -> x; subclass it to add your own.
A coupling's network is any module, or a `Conditioner`. From Glow down, read steps.py, coupling.py, mixing.py and actnorm.py;
gradients.py holds the memory modes.
"""

from triptych.bijections.actnorm import ActNorm
from triptych.bijections.autoregressive import Autoregressive
from triptych.bijections.batchnorm import BatchNorm
from triptych.bijections.bijection import Bijection, Chain, NotInvertible
from triptych.bijections.conditioners import Conditioner, ConvNet, Dense, ResidualDense
from triptych.bijections.coupling import (
    Additive,
    Affine,
    CheckerboardCoupling,
    Coupling,
    StepTransform,
    TanhAffine,
    Transform,
)
from triptych.bijections.dequantise import VariationalDequantisation
from triptych.bijections.factorout import ContextAffine, FactorOut
from triptych.bijections.mixing import Invertible1x1, InvertibleLU, Mixing, Permutation
from triptych.bijections.multiscale import MultiScale
from triptych.bijections.pointwise import LogisticToNormal, Logit, Scale
from triptych.bijections.resnet import ResNet
from triptych.bijections.spline import Spline
from triptych.bijections.squeeze import Flatten, Squeeze, Unflatten
from triptych.bijections.steps import FlowStep, FlowSteps
from triptych.bijections.whiten import Whiten
from triptych.checking import guard

__all__ = [
    "ActNorm",
    "Additive",
    "Affine",
    "Autoregressive",
    "BatchNorm",
    "Bijection",
    "Chain",
    "CheckerboardCoupling",
    "Conditioner",
    "ContextAffine",
    "ConvNet",
    "Coupling",
    "Dense",
    "FactorOut",
    "Flatten",
    "FlowStep",
    "FlowSteps",
    "Invertible1x1",
    "InvertibleLU",
    "LogisticToNormal",
    "Logit",
    "Mixing",
    "MultiScale",
    "NotInvertible",
    "Permutation",
    "ResNet",
    "ResidualDense",
    "Scale",
    "Spline",
    "Squeeze",
    "StepTransform",
    "TanhAffine",
    "Transform",
    "Unflatten",
    "VariationalDequantisation",
    "Whiten",
]

guard(__name__)
