"""Torch's distributions where float32 is too little: log-densities in float64, draws that are finite and can be scored.

At a concentration of 10⁵ the terms of a Gamma's log-density are about 10⁶, which float32 knows to 0.06: their sum,
a few nats, is lost in it. Far tails and tiny draws leave the range of floats; what is drawn beyond its end lies at it.

Shapes: all parameters broadcast to the batch shape. Densities are in nats.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, distributions
from torch.distributions import Distribution


class Precise(Distribution):
    """A subclass of torch's distribution `plain`, which has its parameters, and its law.

    Attributes:
        plain: torch's.
        positive: whether draws are above 0.
    """

    plain: ClassVar[Any]
    positive: ClassVar[bool] = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample_shape, *batch_shape, *event_shape), differentiable in every parameter."""
        return finite(super().rsample(sample_shape), self.positive)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, computed in float64, and given in the dtype of the value."""
        if self._validate_args:
            self._validate_sample(value)
        parameters = {name: getattr(self, name).double() for name in self.arg_constraints}
        return self.plain(**parameters, validate_args=False).log_prob(value.double()).to(value.dtype)


def finite(x: Tensor, positive: bool) -> Tensor:
    """x moved to the nearest number of its dtype that is finite, and above 0 where it should be `positive`."""
    ends = torch.finfo(x.dtype)
    return x.clamp(ends.tiny if positive else -ends.max, ends.max)


class Gamma(Precise, distributions.Gamma):
    """p(x) = β^α x^(α−1) e^(−βx) / Γ(α), x > 0, α the concentration, β the rate.

    >>> Gamma(torch.tensor(1e5), torch.tensor(1.0)).log_prob(torch.tensor(1e5))  # −½ log 2πα at the mode
    tensor(-6.6754)
    """

    plain = distributions.Gamma


class Chi2(Precise, distributions.Chi2):
    """χ²_ν: Gamma(ν/2, ½).

    >>> Chi2(torch.tensor(2.0)).log_prob(torch.tensor(2.0))  # log ½ − 1
    tensor(-1.6931)
    """

    plain = distributions.Chi2


class Pareto(Precise, distributions.Pareto):
    """p(x) = α s^α / x^(α+1), x ≥ s, s the scale.

    >>> Pareto(torch.tensor(1.0), torch.tensor(2.0)).log_prob(torch.tensor(1.0))
    tensor(0.6931)
    """

    plain = distributions.Pareto


class Weibull(Precise, distributions.Weibull):
    """p(x) = k/s (x/s)^(k−1) e^(−(x/s)^k), x > 0, s the scale, k the concentration.

    >>> Weibull(torch.tensor(1.0), torch.tensor(1.0)).log_prob(torch.tensor(3.0))
    tensor(-3.)
    """

    plain = distributions.Weibull
