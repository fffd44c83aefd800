"""A second, blunter density of the same data: a Gaussian along their leading principal components.

Shapes: x (n, *E) model coordinates; D values in an event, R components.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from triptych.core import LOG_2PI
from triptych.errors import TriptychError

_LEAST = (1 / 256) ** 2 / 12  # of a variance: that of a value within its pixel's bin, so that constant pixels are safe
_RANK = 128


class Gaussian(NamedTuple):
    """N(m, U Λ Uᵀ + τ (I − U Uᵀ)): variances λ along R components, one variance τ of what is orthogonal to them.

    Probabilistic principal components (Tipping & Bishop 1999). Log-likelihood ratios with a density that knows the same
    background leave what the model knows beyond it (Ren et al. 2019).

    Attributes:
        mean: m (D,).
        components: Uᵀ (R, D).
        variances: λ (R,).
        rest: τ, ().
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    rest: Tensor

    @classmethod
    def of(cls, x: Tensor, rank: int | None = None) -> Gaussian:
        """Fitted to x (n, *E).

        Args:
            rank: R; by default 128, and at most a quarter of the examples and half of the dimensions.

        Raises:
            TriptychError: for fewer than 2 examples.
        """
        from sklearn.decomposition import PCA  # a second to import

        rows = x.detach().flatten(1).cpu()
        n, dims = rows.shape
        if n < 2:
            raise TriptychError(f"a Gaussian is fitted to 2 examples or more, got {n}")
        rank = min(_RANK, max(1, n // 4), max(1, dims // 2)) if rank is None else rank
        pca = PCA(rank, svd_solver="randomized", random_state=0).fit(rows.numpy())
        variances = torch.from_numpy(pca.explained_variance_).double()
        rest = (rows.double().var(0).sum() - variances.sum()) / max(1, dims - rank)
        mean, components = torch.from_numpy(pca.mean_).float(), torch.from_numpy(pca.components_).float()
        return cls(mean, components, variances.clamp_min(_LEAST), rest.clamp_min(_LEAST))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: (n, *E) -> (n,), float64.

        >>> x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
        >>> bool(Gaussian.of(x).log_prob(torch.zeros(1, 6)) > Gaussian.of(x).log_prob(torch.ones(1, 6)))
        True
        """
        y = x.detach().flatten(1).cpu() - self.mean
        along = (y @ self.components.T).double()
        across = (y.double().square().sum(1) - along.square().sum(1)).clamp_min(0)
        rest = len(self.mean) - len(self.variances)
        logs = self.variances.log().sum() + rest * self.rest.log() + len(self.mean) * LOG_2PI
        return -0.5 * ((along.square() / self.variances).sum(1) + across / self.rest + logs)
